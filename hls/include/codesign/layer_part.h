// One dense part of a layer: its tile of the weight on the chip, and the loops that multiply it.
//
// A part is a struct as docs/hls.md has it (NAME_part_0). A tile is TILE_ROWS consecutive rows of it: packed codes as
// they came from memory, and the entries of every field that these rows need.
#ifndef CODESIGN_LAYER_PART_H
#define CODESIGN_LAYER_PART_H

#include <type_traits>
#include <utility>

#include "codesign/activation.h"
#include "codesign/streams.h"

namespace codesign {

// What a stored zero point means.
enum class zero_kind {
  none,
  before_product,  // an integer: code - zero is what is multiplied
  in_codes,        // a real number in units of codes: taken off the group's value before the scale
  real,            // a real offset of values: added after the scale
};

// --- what an arithmetic says about itself, and what holds where it says nothing ----------------------------------------

struct no_registers {};

template <class A, class = void>
struct weight_elements_of : std::integral_constant<int, 1> {};
template <class A>
struct weight_elements_of<A, std::void_t<decltype(A::weight_elements)>>
    : std::integral_constant<int, A::weight_elements> {};

template <class A, class = void>
struct activation_elements_of : std::integral_constant<int, 1> {};
template <class A>
struct activation_elements_of<A, std::void_t<decltype(A::activation_elements)>>
    : std::integral_constant<int, A::activation_elements> {};

template <class A, class = void>
struct dequantizes_of : std::false_type {};
template <class A>
struct dequantizes_of<A, std::void_t<decltype(A::dequantizes)>> : std::bool_constant<A::dequantizes> {};

template <class A, class = void>
struct registers_of {
  static constexpr bool present = false;
  static constexpr int entries = 0, entry_bits = 1;
  using type = no_registers;
};
template <class A>
struct registers_of<A, std::void_t<typename A::registers_t>> {
  static constexpr bool present = A::entries > 0;
  static constexpr int entries = A::entries, entry_bits = A::entry_bits > 0 ? A::entry_bits : 1;
  using type = typename A::registers_t;
};

template <class A, class = void>
struct takes_registers : std::false_type {};
template <class A>
struct takes_registers<A, std::void_t<typename A::registers_t>> : std::true_type {};

// The integer in a sum, for exact sums: the sum itself, or the only member of a sum of one output.
template <int BITS>
const ap_int<BITS>& integer_of(const ap_int<BITS>& sum) { return sum; }
template <class SUM>
auto integer_of(const SUM& sum) -> decltype((sum.of[0])) { return sum.of[0]; }

template <class SUM>
struct sum_width;
template <int BITS>
struct sum_width<ap_int<BITS>> : std::integral_constant<int, BITS> {};

// Bits of S * scale added over all groups, for integer scales: of S, of the scale and of the number of groups.
template <class PART, bool EXACT>
struct exact_width : std::integral_constant<int, 1> {};
template <class PART>
struct exact_width<PART, true>
    : std::integral_constant<int, sum_width<std::decay_t<decltype(integer_of(
                                      std::declval<const typename PART::arithmetic::sum_t&>()))>>::value +
                                      PART::scale::bits + 1 + clog2(ceil_div(PART::columns, PART::group))> {};

// --- a tile of the weight -------------------------------------------------------------------------------------------

template <class PART, int ROWS>
struct part_tile {
  static constexpr int codes = ceil_div(PART::columns, PART::code_dim);
  static constexpr bool packed = PART::code_bits < 16;
  static constexpr int words = packed ? row_words(codes, PART::code_bits) : 1;
  using flat = field<raw_value<PART::code_bits>, 1, PART::code_dim, 1, PART::codes_beat>;  // codes of 16 bits or more
  template <class FIELD>
  using place = field_rows<FIELD, ROWS, PART::columns>;

  ap_uint<word_bits> word[ROWS][words];
  ap_uint<PART::code_bits> code[packed ? 1 : ROWS * codes];
  ap_uint<PART::scale::bits> scale[place<typename PART::scale>::size];
  ap_uint<PART::outer_scale::bits> outer_scale[place<typename PART::outer_scale>::size];
  ap_uint<PART::outer_offset::bits> outer_offset[place<typename PART::outer_offset>::size];
  ap_uint<PART::zero_point::bits> zero_point[place<typename PART::zero_point>::size];
  ap_uint<PART::zero_point_scale::bits> zero_point_scale[place<typename PART::zero_point_scale>::size];
  ap_uint<PART::zero_point_offset::bits> zero_point_offset[place<typename PART::zero_point_offset>::size];
  ap_uint<PART::selector::bits> selector[place<typename PART::selector>::size];
  ap_uint<PART::codebook::bits> codebook[place<typename PART::codebook>::size];
  ap_uint<PART::row_scale::bits> row_scale[place<typename PART::row_scale>::size];

  // Code `index` of a row of the tile.
  ap_uint<PART::code_bits> code_at(int row, int index) const {
#pragma HLS INLINE
    if constexpr (packed) return code_of_row<PART::code_bits>(word[row], index);
    else return code[row * codes + index];
  }
};

template <class PART, int ROWS, class FIELD, class IMAGE>
void read_rows_of(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  using place = field_rows<FIELD, ROWS, PART::columns>;
  if constexpr (FIELD::present) read_field<FIELD>(image, place::first(first), place::count(first, rows), out);
}

template <class PART, int ROWS, class FIELD, int SIZE>
void take_rows_of(beat_stream& in, int first, int rows, ap_uint<FIELD::bits> (&entries)[SIZE]) {
#pragma HLS INLINE
  using place = field_rows<FIELD, ROWS, PART::columns>;
  if constexpr (FIELD::present) take_field<FIELD>(in, place::first(first), place::count(first, rows), entries);
}

// Rows [first, first + rows) of a part out of the image, and into a tile: the same arrays in the same order.
template <class PART, int ROWS, class IMAGE>
void read_part(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE off
  using tile = part_tile<PART, ROWS>;
  if constexpr (tile::packed) {
    read_rows<tile::words>(image, PART::codes_beat, first, rows, out);
  } else {
    read_field<typename tile::flat>(image, first * tile::codes, rows * tile::codes, out);
  }
  read_rows_of<PART, ROWS, typename PART::scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::outer_scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::outer_offset>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point_scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point_offset>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::selector>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::codebook>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::row_scale>(image, first, rows, out);
}

template <class PART, int ROWS>
void take_part(beat_stream& in, int first, int rows, part_tile<PART, ROWS>& tile) {
#pragma HLS INLINE off
  using made = part_tile<PART, ROWS>;
  if constexpr (made::packed) {
    take_rows<made::words, ROWS>(in, first, rows, tile.word);
  } else {
    take_field<typename made::flat>(in, first * made::codes, rows * made::codes, tile.code);
  }
  take_rows_of<PART, ROWS, typename PART::scale>(in, first, rows, tile.scale);
  take_rows_of<PART, ROWS, typename PART::outer_scale>(in, first, rows, tile.outer_scale);
  take_rows_of<PART, ROWS, typename PART::outer_offset>(in, first, rows, tile.outer_offset);
  take_rows_of<PART, ROWS, typename PART::zero_point>(in, first, rows, tile.zero_point);
  take_rows_of<PART, ROWS, typename PART::zero_point_scale>(in, first, rows, tile.zero_point_scale);
  take_rows_of<PART, ROWS, typename PART::zero_point_offset>(in, first, rows, tile.zero_point_offset);
  take_rows_of<PART, ROWS, typename PART::selector>(in, first, rows, tile.selector);
  take_rows_of<PART, ROWS, typename PART::codebook>(in, first, rows, tile.codebook);
  take_rows_of<PART, ROWS, typename PART::row_scale>(in, first, rows, tile.row_scale);
}

// --- values of fields -----------------------------------------------------------------------------------------------

// The entry of FIELD for a row of the tile and a column, decoded; the second level on top of it.
template <class PART, int ROWS, class FIELD, int SIZE>
float field_value(const ap_uint<FIELD::bits> (&entries)[SIZE], int first, int row, int column) {
#pragma HLS INLINE
  return FIELD::value::decode(entries[field_rows<FIELD, ROWS, PART::columns>::place(first, row, column)]);
}

template <class PART, int ROWS>
float scale_of(const part_tile<PART, ROWS>& tile, int first, int row, int column) {
#pragma HLS INLINE
  float scale = field_value<PART, ROWS, typename PART::scale>(tile.scale, first, row, column);
  if constexpr (PART::outer_scale::present && !PART::outer_last) {
    scale = scale * field_value<PART, ROWS, typename PART::outer_scale>(tile.outer_scale, first, row, column);
    if constexpr (PART::outer_offset::present) {
      scale = scale + field_value<PART, ROWS, typename PART::outer_offset>(tile.outer_offset, first, row, column);
    }
  }
  return scale;
}

template <class PART, int ROWS>
float zero_of(const part_tile<PART, ROWS>& tile, int first, int row, int column) {
#pragma HLS INLINE
  float zero = field_value<PART, ROWS, typename PART::zero_point>(tile.zero_point, first, row, column);
  if constexpr (PART::zero_point_scale::present) {
    zero = zero * field_value<PART, ROWS, typename PART::zero_point_scale>(tile.zero_point_scale, first, row, column);
  }
  if constexpr (PART::zero_point_offset::present) {
    zero = zero + field_value<PART, ROWS, typename PART::zero_point_offset>(tile.zero_point_offset, first, row, column);
  }
  return zero;
}

// --- the multiplication ---------------------------------------------------------------------------------------------

// float32 of a sum, in value units.
template <class PART>
float value_of(const typename PART::arithmetic::sum_t& sum,
               const typename registers_of<typename PART::arithmetic>::type& registers) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  if constexpr (takes_registers<arithmetic>::value) return arithmetic::value(sum, registers);
  else return arithmetic::value(sum);
}

template <class PART, class W, class A, class SELECTOR>
void accumulate_lanes(typename PART::arithmetic::sum_t& sum, const W& w, const A& a, SELECTOR selector,
                      const typename registers_of<typename PART::arithmetic>::type& registers) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  if constexpr (takes_registers<arithmetic>::value) arithmetic::accumulate(sum, w, a, selector, registers);
  else arithmetic::accumulate(sum, w, a, selector);
}

// Tables of a part: constants loaded once, or those of each row of the tile.
template <class PART, int ROWS>
void load_registers(const part_tile<PART, ROWS>& tile, int first, int rows,
                    typename registers_of<typename PART::arithmetic>::type (&registers)[ROWS]) {
#pragma HLS INLINE off
  using loaded = registers_of<typename PART::arithmetic>;
  if constexpr (loaded::present) {
  rows_loaded:
    for (int row = 0; row < rows; ++row) {
    entries_loaded:
      for (int i = 0; i < loaded::entries; ++i) {
#pragma HLS PIPELINE II = 1
        ap_uint<loaded::entry_bits> entry;
        if constexpr (PART::codebook::present) {
          entry = tile.codebook[field_rows<typename PART::codebook, ROWS, PART::columns>::place(first, row, 0) + i];
        } else {
          entry = PART::registers[i];
        }
        PART::arithmetic::write(registers[row], i, entry);
      }
    }
  }
}

// What one part gives for one token and the rows of a tile: total[row], scaled, in float32.
template <class PART, int ROWS, class ACTIVATIONS>
void multiply_part(const part_tile<PART, ROWS>& tile, int first, int rows,
                   const typename registers_of<typename PART::arithmetic>::type (&registers)[ROWS],
                   const int (&gather)[PART::gather::present ? PART::columns : 1], const ACTIVATIONS& x, int token,
                   float (&total)[ROWS]) {
#pragma HLS INLINE off
// every row of the tile and every lane of the activation is read at once
#pragma HLS ARRAY_PARTITION variable = tile.word complete dim = 1
#pragma HLS ARRAY_PARTITION variable = tile.word cyclic factor = PART::code_bits dim = 2
#pragma HLS ARRAY_PARTITION variable = tile.scale block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = tile.zero_point block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = tile.selector block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = registers complete
#pragma HLS ARRAY_PARTITION variable = x.code cyclic factor = PART::arithmetic::lanes dim = 2
  using arithmetic = typename PART::arithmetic;
  using sum_t = typename arithmetic::sum_t;
  constexpr int lanes = arithmetic::lanes;
  constexpr int weight_elements = weight_elements_of<arithmetic>::value;
  constexpr int activation_elements = activation_elements_of<arithmetic>::value;
  constexpr int weight_codes = lanes / weight_elements, activation_codes = lanes / activation_elements;
  constexpr int selector_bits = arithmetic::selector_bits > 0 ? arithmetic::selector_bits : 1;
  constexpr bool with_ones = PART::zero == zero_kind::in_codes || PART::zero == zero_kind::real;
  constexpr int groups = ceil_div(PART::columns, PART::group);
  static_assert(weight_elements == PART::code_dim, "codes of part and arithmetic hold as many elements");
  static_assert(arithmetic::weight_bits >= PART::code_bits, "an arithmetic takes whole codes");
  static_assert(arithmetic::activation_bits == ACTIVATIONS::bits, "activation codes are as wide as the stage makes them");
  static_assert(groups == 1 || PART::group % weight_elements == 0, "groups hold whole codes");

  constexpr int exact_bits = exact_width<PART, PART::exact_scale>::value;
  ap_int<exact_bits> exact[ROWS];
  sum_t sum[ROWS], ones;
#pragma HLS ARRAY_PARTITION variable = exact complete
#pragma HLS ARRAY_PARTITION variable = sum complete
rows_cleared:
  for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
    total[row] = 0.0F;
    exact[row] = 0;
  }
groups_added:
  for (int group = 0; group < groups; ++group) {
    const int begin = group * PART::group;
    const int end = begin + PART::group < PART::columns ? begin + PART::group : PART::columns;
    arithmetic::clear(ones);
  sums_cleared:
    for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
      arithmetic::clear(sum[row]);
    }
  steps:
    for (int step = begin; step < end; step += lanes) {
#pragma HLS PIPELINE II = 1
      ap_uint<arithmetic::activation_bits> a[activation_codes];
#pragma HLS ARRAY_PARTITION variable = a complete
    activation_lanes:
      for (int lane = 0; lane < activation_codes; ++lane) {
#pragma HLS UNROLL
        const int column = step + lane * activation_elements;
        a[lane] = 0;
        if (column < end) {
          if constexpr (PART::gather::present) a[lane] = x.code[token][gather[column]];
          else a[lane] = x.code[token][column / activation_elements];
        }
      }
    parallel_rows:
      for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
        if (row < rows) {
          ap_uint<arithmetic::weight_bits> w[weight_codes];
#pragma HLS ARRAY_PARTITION variable = w complete
          ap_int<PART::zero_point::bits + 1> zero = 0;
          if constexpr (PART::zero == zero_kind::before_product) {
            using place = field_rows<typename PART::zero_point, ROWS, PART::columns>;
            zero = tile.zero_point[place::place(first, row, begin)];
          }
          ap_uint<selector_bits> selector = 0;
          if constexpr (PART::selector::present) {
            using place = field_rows<typename PART::selector, ROWS, PART::columns>;
            selector = tile.selector[place::place(first, row, begin)];
          }
        weight_lanes:
          for (int lane = 0; lane < weight_codes; ++lane) {
#pragma HLS UNROLL
            const int column = step + lane * weight_elements;
            w[lane] = 0;
            if (column < end) {
              const ap_uint<PART::code_bits> code = tile.code_at(row, column / weight_elements);
              if constexpr (PART::zero == zero_kind::before_product) {
                w[lane] = ap_uint<arithmetic::weight_bits>(ap_int<arithmetic::weight_bits + 1>(code) - zero);
              } else {
                w[lane] = code;
              }
            }
          }
          accumulate_lanes<PART>(sum[row], w, a, selector, registers[row]);
        }
      }
      if constexpr (with_ones) {
        ap_uint<arithmetic::weight_bits> w[weight_codes];
      one_lanes:
        for (int lane = 0; lane < weight_codes; ++lane) {
#pragma HLS UNROLL
          w[lane] = PART::one_code;
        }
        accumulate_lanes<PART>(ones, w, a, ap_uint<selector_bits>(0), registers[0]);
      }
    }
    const int input = PART::gather::present ? gather[PART::gather::present ? begin : 0] : begin;
    const float activation_scale = x.scale[token][input / ACTIVATIONS::tile_columns];
    float activation_sum = 0.0F;
    if constexpr (with_ones) activation_sum = value_of<PART>(ones, registers[0]) * power_of_two(-PART::one_exponent);
  rows_scaled:
    for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
      if (row < rows) {
        if constexpr (dequantizes_of<arithmetic>::value) {
          using place = field_rows<typename PART::scale, ROWS, PART::columns>;
          total[row] = total[row] +
                       arithmetic::scaled(sum[row], tile.scale[place::place(first, row, begin)], registers[row]);
        } else if constexpr (PART::exact_scale) {
          using place = field_rows<typename PART::scale, ROWS, PART::columns>;
          const ap_int<PART::scale::bits + 1> scale = tile.scale[place::place(first, row, begin)];
          exact[row] += integer_of(sum[row]) * scale;
        } else {
          float value = value_of<PART>(sum[row], registers[row]);
          if constexpr (PART::zero == zero_kind::in_codes) {
            value = value - zero_of<PART, ROWS>(tile, first, row, begin) * activation_sum;
          }
          if constexpr (PART::scale::present) value = value * scale_of<PART, ROWS>(tile, first, row, begin);
          if constexpr (PART::zero == zero_kind::real) {
            value = value + zero_of<PART, ROWS>(tile, first, row, begin) * activation_sum;
          }
          if constexpr (ACTIVATIONS::scaled) value = value * activation_scale;
          total[row] = total[row] + value;
        }
      }
    }
  }
rows_finished:
  for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
    if (row < rows) {
      if constexpr (PART::exact_scale) {
        total[row] = float_of<exact_bits>(exact[row]) * power_of_two(arithmetic::unit_exponent);
        if constexpr (ACTIVATIONS::scaled) total[row] = total[row] * x.scale[token][0];
      }
      if constexpr (PART::outer_last) {
        total[row] =
            total[row] * field_value<PART, ROWS, typename PART::outer_scale>(tile.outer_scale, first, row, 0);
      }
      if constexpr (PART::row_scale::present) {
        total[row] = total[row] * field_value<PART, ROWS, typename PART::row_scale>(tile.row_scale, first, row, 0);
      }
    }
  }
}

}  // namespace codesign

#endif
