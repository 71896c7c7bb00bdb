// PEs of hls/rtl whose C++ is a mapping or an arithmetic of the headers, with the ports of the RTL: int_pair.sv,
// mixture.sv, vector_codebook.sv. They hold nothing of their own to compute with. For simulation on the host.
#pragma once

#include "codesign/codebook.h"
#include "codesign/float_accumulate.h"
#include "codesign/integer.h"
#include "codesign/mixture.h"

namespace codesign {

// int_dot whose products share multipliers in pairs.
template <int WEIGHT_BITS = 4, int ACTIVATION_BITS = 8, bool ACTIVATION_UNSIGNED = false, int LANES = 2,
          int ACCUMULATOR_BITS = WEIGHT_BITS + ACTIVATION_BITS + 10>
struct int_pair_dot : int_dot<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, LANES, ACCUMULATOR_BITS,
                              int_mapping::dsp_pair> {};

// An arithmetic whose lanes are ports, and its sum.
template <class ARITHMETIC>
struct selected_lanes {
  static constexpr int lanes = ARITHMETIC::lanes;
  static constexpr int weight_bits = ARITHMETIC::weight_bits, activation_bits = ARITHMETIC::activation_bits;
  typename ARITHMETIC::sum_t sum = 0;

  void step(ap_uint<1> clear, ap_uint<ARITHMETIC::selector_bits> selector, ap_uint<lanes * weight_bits> weight,
            ap_uint<lanes * activation_bits> activation, typename ARITHMETIC::sum_t& accumulator) {
    ap_uint<weight_bits> w[lanes];
    ap_uint<activation_bits> a[lanes];
    lanes_of<weight_bits, lanes>(weight, w);
    lanes_of<activation_bits, lanes>(activation, a);
    if (clear) ARITHMETIC::clear(sum);
    ARITHMETIC::accumulate(sum, w, a, selector);
    accumulator = sum;
  }
};

// The table in the RTL is padded to whole selectors; nothing reads what is behind the last candidate.
template <int CODE_BITS = 4, int SELECTOR_BITS = 2, int ENTRY_BITS = 6, int ACTIVATION_BITS = 8, int LANES = 1,
          class TABLE = no_table, int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10>
struct mixture_dot
    : selected_lanes<mixture_arithmetic<exact_products<mixture_number<CODE_BITS, ENTRY_BITS, 0, TABLE>,
                                                       int_number<ACTIVATION_BITS>, ACCUMULATOR_BITS>,
                                        SELECTOR_BITS, LANES>> {};

template <int CODE_BITS = 4, int SELECTOR_BITS = 2, int ENTRY_BITS = 6, class TABLE = no_table, int UNIT_EXPONENT = -1,
          int ACCUMULATOR_EXPONENT_BITS = 8, int ACCUMULATOR_MANTISSA_BITS = 23>
struct mixture_float_mac
    : selected_lanes<mixture_arithmetic<
          rounded_products<mixture_number<CODE_BITS, ENTRY_BITS, UNIT_EXPONENT, TABLE>, minifloat_number<5, 10>,
                           ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS>,
          SELECTOR_BITS, 1>> {};

// A book whose rows come in: the code of a place is its elements, layer after layer.
template <int ENTRY_BITS, int DIMENSION, int LAYERS>
struct port_book {
  static constexpr int code_bits = LAYERS * DIMENSION * ENTRY_BITS, dimension = DIMENSION, layers = LAYERS;
  static constexpr int entries = 0, entry_bits = 1;
  using element_t = int_number<ENTRY_BITS>;
  struct registers_t {};
  static void write(registers_t&, int, ap_uint<entry_bits>) {}

  static element_t element(ap_uint<code_bits> code, int component, int layer, const registers_t&) {
    return element_t(lane_of<ENTRY_BITS>(code, layer * DIMENSION + component));
  }
};

// A book's codes and activations as ports, and the sum of each output.
template <class BOOK, int CODES, int ACTIVATION_BITS, bool ALONG_OUTPUTS, int ACCUMULATOR_BITS>
struct book_lanes {
  static constexpr int inputs = CODES * (ALONG_OUTPUTS ? 1 : BOOK::dimension);
  using arithmetic =
      codebook_arithmetic<BOOK, exact_products<typename BOOK::element_t, int_number<ACTIVATION_BITS>, ACCUMULATOR_BITS>,
                          ALONG_OUTPUTS, inputs>;
  static constexpr int outputs = arithmetic::outputs;
  typename arithmetic::sum_t sum;
  typename arithmetic::registers_t registers;
  book_lanes() { arithmetic::clear(sum); }

  ap_uint<outputs * ACCUMULATOR_BITS> add(bool clear, ap_uint<CODES * BOOK::code_bits> weight,
                                          ap_uint<inputs * ACTIVATION_BITS> activation) {
    ap_uint<BOOK::code_bits> w[CODES];
    ap_uint<ACTIVATION_BITS> a[inputs];
    lanes_of<BOOK::code_bits, CODES>(weight, w);
    lanes_of<ACTIVATION_BITS, inputs>(activation, a);
    if (clear) arithmetic::clear(sum);
    arithmetic::accumulate(sum, w, a, 0, registers);
    ap_uint<outputs * ACCUMULATOR_BITS> all = 0;
    for (int output = 0; output < outputs; ++output) put_lane<ACCUMULATOR_BITS>(all, output, sum.of[output]);
    return all;
  }
};

template <int DIMENSION = 2, int CODES = 2, int LAYERS = 1, int ENTRY_BITS = 8, int ACTIVATION_BITS = 8,
          bool ALONG_OUTPUTS = false, int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10>
struct vector_dot {
  using lanes_t =
      book_lanes<port_book<ENTRY_BITS, DIMENSION, LAYERS>, CODES, ACTIVATION_BITS, ALONG_OUTPUTS, ACCUMULATOR_BITS>;
  lanes_t held;

  void step(ap_uint<1> clear, ap_uint<CODES * LAYERS * DIMENSION * ENTRY_BITS> elements,
            ap_uint<lanes_t::inputs * ACTIVATION_BITS> activation,
            ap_uint<lanes_t::outputs * ACCUMULATOR_BITS>& accumulator) {
    accumulator = held.add(clear, elements, activation);
  }
};

// Entries of a table from the FIRST on.
template <class TABLE, int FIRST, int COUNT>
struct table_from {
  struct copied {
    std::int64_t values[COUNT];
    constexpr copied() : values() {
      for (int i = 0; i < COUNT; ++i) values[i] = TABLE::entries[FIRST + i];
    }
    constexpr std::int64_t operator[](int i) const { return values[i]; }
  };
  static constexpr copied entries{};
};

template <int CODE_BITS, int ENTRY_BITS, int DIMENSION, bool PROGRAMMABLE, class TABLE, int FIRST>
struct book_of {
  using type = fixed_book<CODE_BITS, int_number<ENTRY_BITS>, table_from<TABLE, FIRST, (DIMENSION << CODE_BITS)>, DIMENSION>;
};
template <int CODE_BITS, int ENTRY_BITS, int DIMENSION, class TABLE, int FIRST>
struct book_of<CODE_BITS, ENTRY_BITS, DIMENSION, true, TABLE, FIRST> {
  using type = loaded_book<CODE_BITS, int_number<ENTRY_BITS>, DIMENSION>;
};

template <class FIRST, int RESIDUAL_BITS, int ENTRY_BITS, bool PROGRAMMABLE, class TABLE>
struct books_of {
  using second = typename book_of<RESIDUAL_BITS, ENTRY_BITS, FIRST::dimension, PROGRAMMABLE, TABLE,
                                  (FIRST::dimension << FIRST::code_bits)>::type;
  using type = residual_book<FIRST, second>;
};
template <class FIRST, int ENTRY_BITS, bool PROGRAMMABLE, class TABLE>
struct books_of<FIRST, 0, ENTRY_BITS, PROGRAMMABLE, TABLE> {
  using type = FIRST;
};

template <int CODE_BITS = 4, int RESIDUAL_BITS = 0, int DIMENSION = 2, int CODES = 2, int ENTRY_BITS = 8,
          int ACTIVATION_BITS = 8, bool ALONG_OUTPUTS = false, bool PROGRAMMABLE = false,
          int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10, class TABLE = no_table>
struct vector_codebook_dot {
  using first_book = typename book_of<CODE_BITS, ENTRY_BITS, DIMENSION, PROGRAMMABLE, TABLE, 0>::type;
  using book = typename books_of<first_book, RESIDUAL_BITS, ENTRY_BITS, PROGRAMMABLE, TABLE>::type;
  using lanes_t = book_lanes<book, CODES, ACTIVATION_BITS, ALONG_OUTPUTS, ACCUMULATOR_BITS>;
  static constexpr int entries = (DIMENSION << CODE_BITS) + (RESIDUAL_BITS ? DIMENSION << RESIDUAL_BITS : 0);
  lanes_t held;

  void step(ap_uint<1> clear, ap_uint<1> write, ap_uint<clog2(entries)> write_place, ap_uint<ENTRY_BITS> write_entry,
            ap_uint<CODES * book::code_bits> weight, ap_uint<lanes_t::inputs * ACTIVATION_BITS> activation,
            ap_uint<lanes_t::outputs * ACCUMULATOR_BITS>& accumulator) {
    accumulator = held.add(clear, weight, activation);
    if (PROGRAMMABLE && write) {  // at the clock edge: seen by the next cycle
      lanes_t::arithmetic::write(held.registers, write_place.to_int(), write_entry);
    }
  }
};

}  // namespace codesign
