// Lookup-table (codebook) weights: code -> table entry -> multiply-accumulate.
//
// PEs, twins of hls/rtl/codebook.sv, have one table of integers or FP16 numbers: a constant (NF4 and other fixed
// codebooks), or a register file written one entry a cycle. Arithmetics take a number or a book, which says what a code
// means; both say what kind of number an entry is, an integer or a float.
//
//   table_number   constants, one element a code: NF4, ANT's powers of two, and activations of such formats
//   fixed_book     constants, several elements: HIGGS' grids
//   loaded_book    loaded at run time: SqueezeLLM (a table of 8 or 16 values a row), VPTQ, AQLM
//   residual_book  two books, whose entries are added: VPTQ's residual codebook
#ifndef CODESIGN_CODEBOOK_H
#define CODESIGN_CODEBOOK_H

#include <type_traits>

#include "codesign/float_accumulate.h"
#include "codesign/minifloat.h"
#include "codesign/products.h"
#include "codesign/types.h"

namespace codesign {

// A constant table: entry of code c at place c; of vectors, element e of code c at c * dimension + e. Any other type
// with such an array will do.
template <std::int64_t... ENTRIES>
struct fixed_table {
  static constexpr std::int64_t entries[sizeof...(ENTRIES)] = {ENTRIES...};
};

struct no_table {};  // of a table that is loaded

// --- PEs -------------------------------------------------------------------------------------------------------------

// entry[lane] = table[code[lane]] for each lane.
template <int CODE_BITS = 4, int ENTRY_BITS = 8, int LANES = 1, bool PROGRAMMABLE = false, class TABLE = no_table>
struct codebook_table {
  ap_uint<ENTRY_BITS> rows[1 << CODE_BITS];

  codebook_table() {
#pragma HLS ARRAY_PARTITION variable = rows complete
    for (int code = 0; code < 1 << CODE_BITS; ++code) {
#pragma HLS UNROLL
      if constexpr (PROGRAMMABLE) {
        rows[code] = 0;
      } else {
        rows[code] = TABLE::entries[code];
      }
    }
  }

  void step(ap_uint<1> write, ap_uint<CODE_BITS> write_code, ap_uint<ENTRY_BITS> write_entry,
            ap_uint<LANES * CODE_BITS> code, ap_uint<LANES * ENTRY_BITS>& entry) {
#pragma HLS INLINE
    write_row(write, write_code, write_entry);
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      put_lane<ENTRY_BITS>(entry, lane, look_up(lane_of<CODE_BITS>(code, lane)));
    }
  }

  ap_uint<ENTRY_BITS> look_up(ap_uint<CODE_BITS> code) const {
#pragma HLS INLINE
    return rows[code.to_uint()];
  }

  void write_row(ap_uint<1> write, ap_uint<CODE_BITS> code, ap_uint<ENTRY_BITS> entry) {
#pragma HLS INLINE
    if (PROGRAMMABLE && write) rows[code.to_uint()] = entry;
  }
};

// Integer entries and activations: dot product of LANES into one integer accumulator, as int_dot.
template <int CODE_BITS = 4, int ENTRY_BITS = 8, int ACTIVATION_BITS = 8, int LANES = 1, bool PROGRAMMABLE = false,
          class TABLE = no_table, int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10>
struct codebook_dot {
  codebook_table<CODE_BITS, ENTRY_BITS, LANES, PROGRAMMABLE, TABLE> table;
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> write, ap_uint<CODE_BITS> write_code, ap_uint<ENTRY_BITS> write_entry,
            ap_uint<LANES * CODE_BITS> weight, ap_uint<LANES * ACTIVATION_BITS> activation,
            ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_int<ENTRY_BITS + ACTIVATION_BITS + clog2(LANES)> sum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_int<ENTRY_BITS> entry = table.look_up(lane_of<CODE_BITS>(weight, lane));
      const ap_int<ACTIVATION_BITS> a = lane_of<ACTIVATION_BITS>(activation, lane);
      sum += entry * a;
    }
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + sum;
    accumulator = held;
    table.write_row(write, write_code, write_entry);  // at the clock edge: seen by the next cycle
  }
};

// FP16 entries and activations, one lane into an FP32-like accumulator: NF4 as the papers run it.
template <int CODE_BITS = 4, bool PROGRAMMABLE = false, class TABLE = no_table, int ACCUMULATOR_EXPONENT_BITS = 8,
          int ACCUMULATOR_MANTISSA_BITS = 23>
struct codebook_float_mac {
  static constexpr int accumulator_bits = 1 + ACCUMULATOR_EXPONENT_BITS + ACCUMULATOR_MANTISSA_BITS;
  codebook_table<CODE_BITS, 16, 1, PROGRAMMABLE, TABLE> table;
  float_mac<5, 10, 5, 10, ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS> mac;

  void step(ap_uint<1> clear, ap_uint<1> write, ap_uint<CODE_BITS> write_code, ap_uint<16> write_entry,
            ap_uint<CODE_BITS> weight, ap_uint<16> activation, ap_uint<accumulator_bits>& accumulator) {
#pragma HLS INLINE
    mac.step(clear, table.look_up(weight), activation, accumulator);
    table.write_row(write, write_code, write_entry);
  }
};

// --- numbers and books -----------------------------------------------------------------------------------------------

// A code of a constant table as a number (products.h): the entry, in units of 2**UNIT_EXPONENT. For either side.
template <int BITS, int ENTRY_BITS, int UNIT_EXPONENT, class TABLE>
struct table_number {
  static constexpr int bits = BITS, factor_bits = ENTRY_BITS, max_shift = 0, unit_exponent = UNIT_EXPONENT;
  static constexpr int shift = 0;
  ap_int<ENTRY_BITS> factor;

  explicit table_number(ap_uint<BITS> code) : factor(TABLE::entries[code.to_uint()]) {
#pragma HLS INLINE
  }
};

// A book has code_bits; dimension, elements of a code; layers, how many elements a code adds up at each place;
// element_t, the number that an element is; what is loaded, `entries` words of entry_bits by write(); and element().
template <int CODE_BITS, class ELEMENT, class TABLE, int DIMENSION = 1>
struct fixed_book {
  static constexpr int code_bits = CODE_BITS, dimension = DIMENSION, layers = 1;
  static constexpr int entries = 0, entry_bits = 1;
  using element_t = ELEMENT;
  struct registers_t {};
  static void write(registers_t&, int, ap_uint<entry_bits>) {}

  static ELEMENT element(ap_uint<CODE_BITS> code, int component, int, const registers_t&) {
#pragma HLS INLINE
    return ELEMENT(ap_uint<ELEMENT::bits>(TABLE::entries[code.to_uint() * DIMENSION + component]));
  }
};

// Rows of a loaded table, which all lanes read at once: registers, or memories of one writer and as many copies as two
// readers each need.
template <int WIDTH, int ROWS, bool REGISTERS>
struct book_rows {
  ap_uint<WIDTH> of[ROWS];
  book_rows() {
#pragma HLS ARRAY_PARTITION variable = of complete
  }
};
template <int WIDTH, int ROWS>
struct book_rows<WIDTH, ROWS, false> {
  ap_uint<WIDTH> of[ROWS];
  book_rows() {
#pragma HLS BIND_STORAGE variable = of type = ram_1wnr
  }
};

// Loaded at run time, element by element: element e of code c is word c * DIMENSION + e. A row of the table holds a
// code's elements, so that one read brings them all: registers for 4 bits (SqueezeLLM), block or ultra RAM for more
// (VPTQ, AQLM), with a copy for every two lanes.
template <int CODE_BITS, class ELEMENT, int DIMENSION = 1>
struct loaded_book {
  static constexpr int code_bits = CODE_BITS, dimension = DIMENSION, layers = 1;
  static constexpr int entries = DIMENSION << CODE_BITS, entry_bits = ELEMENT::bits;
  using element_t = ELEMENT;
  struct registers_t {
    book_rows<DIMENSION * entry_bits, 1 << CODE_BITS, (CODE_BITS <= 4)> rows;
  };

  static void write(registers_t& registers, int index, ap_uint<entry_bits> entry) {
#pragma HLS INLINE
    put_lane<entry_bits>(registers.rows.of[index / DIMENSION], index % DIMENSION, entry);
  }

  static ELEMENT element(ap_uint<CODE_BITS> code, int component, int, const registers_t& registers) {
#pragma HLS INLINE
    return ELEMENT(lane_of<entry_bits>(registers.rows.of[code.to_uint()], component));
  }
};

// FIRST's code in the low bits, SECOND's above; both of the same elements. FIRST's words are loaded first.
template <class FIRST, class SECOND>
struct residual_book {
  using element_t = typename FIRST::element_t;
  static_assert(std::is_same<element_t, typename SECOND::element_t>::value && FIRST::dimension == SECOND::dimension,
                "a residual codebook has entries as those of the first");
  static_assert(FIRST::layers == 1 && SECOND::layers == 1, "a residual has no residual");
  static constexpr int code_bits = FIRST::code_bits + SECOND::code_bits, dimension = FIRST::dimension, layers = 2;
  static constexpr int entries = FIRST::entries + SECOND::entries;
  static constexpr int entry_bits = larger(FIRST::entry_bits, SECOND::entry_bits);
  struct registers_t {
    typename FIRST::registers_t first;
    typename SECOND::registers_t second;
  };

  static void write(registers_t& registers, int index, ap_uint<entry_bits> entry) {
#pragma HLS INLINE
    if (index < FIRST::entries) {
      FIRST::write(registers.first, index, entry);
    } else {
      SECOND::write(registers.second, index - FIRST::entries, entry);
    }
  }

  static element_t element(ap_uint<code_bits> code, int component, int layer, const registers_t& registers) {
#pragma HLS INLINE
    return layer == 0 ? FIRST::element(code.range(FIRST::code_bits - 1, 0), component, 0, registers.first)
                      : SECOND::element(code.range(code_bits - 1, FIRST::code_bits), component, 0, registers.second);
  }
};

// --- arithmetics -----------------------------------------------------------------------------------------------------

// A constant table: NF4 and any other format of up to 8 bits. ACTIVATION is any number.
template <class TABLE_NUMBER, class ACTIVATION, int LANES,
          int SUM_BITS = number_product<TABLE_NUMBER, ACTIVATION>::fixed_bits + 16>
using table_arithmetic = minifloat_arithmetic<TABLE_NUMBER, ACTIVATION, LANES, SUM_BITS>;

// Codes of BOOK, whose elements belong to as many consecutive inputs or, ALONG_OUTPUTS, to as many outputs, which
// share the activation. PRODUCTS (products.h) is of the book's elements and an activation; a code of several layers
// makes a product for each, in order.
template <class BOOK, class PRODUCTS, bool ALONG_OUTPUTS, int LANES>
struct codebook_arithmetic {
  static_assert(std::is_same<typename PRODUCTS::weight_t, typename BOOK::element_t>::value,
                "products are of the book's elements");
  using activation_t = typename PRODUCTS::activation_t;
  static constexpr int lanes = LANES, weight_bits = BOOK::code_bits, activation_bits = activation_t::bits;
  static constexpr int selector_bits = 0, unit_exponent = PRODUCTS::unit_exponent;
  static constexpr bool rounds = PRODUCTS::rounds;
  static constexpr int weight_elements = ALONG_OUTPUTS ? 1 : BOOK::dimension;
  static constexpr int outputs = ALONG_OUTPUTS ? BOOK::dimension : 1;
  static_assert(LANES % weight_elements == 0, "lanes hold whole codes");

  static constexpr int entries = BOOK::entries, entry_bits = BOOK::entry_bits;
  using registers_t = typename BOOK::registers_t;
  static void write(registers_t& registers, int index, ap_uint<entry_bits> entry) {
#pragma HLS INLINE
    BOOK::write(registers, index, entry);
  }

  struct sum_t {
    typename PRODUCTS::sum_t of[outputs];
  };
  static void clear(sum_t& sum) {
#pragma HLS INLINE
  outputs_cleared:
    for (int output = 0; output < outputs; ++output) {
#pragma HLS UNROLL
      sum.of[output] = 0;
    }
  }

  static void accumulate(sum_t& sum, const ap_uint<weight_bits> (&w)[LANES / weight_elements],
                         const ap_uint<activation_bits> (&a)[LANES], ap_uint<1>, const registers_t& registers) {
#pragma HLS INLINE
  lanes_added:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const activation_t activation(a[lane]);
    outputs_added:
      for (int output = 0; output < outputs; ++output) {
#pragma HLS UNROLL
        const int component = ALONG_OUTPUTS ? output : lane % weight_elements;
      layers_added:
        for (int layer = 0; layer < BOOK::layers; ++layer) {
#pragma HLS UNROLL
          const auto weight = BOOK::element(w[lane / weight_elements], component, layer, registers);
          PRODUCTS::add(sum.of[output], weight, activation);
        }
      }
    }
  }

  static float value(const sum_t& sum, int output, const registers_t&) { return PRODUCTS::value(sum.of[output]); }
  static float value(const sum_t& sum, const registers_t& registers) {
    static_assert(outputs == 1, "which of several outputs must be said");
    return value(sum, 0, registers);
  }
};

}  // namespace codesign

#endif
