// The loops that multiply one dense part of a layer: what a tile of its rows gives for one token.
#ifndef CODESIGN_LAYER_PART_H
#define CODESIGN_LAYER_PART_H

#include "codesign/activation.h"
#include "codesign/layer_tile.h"

namespace codesign {

// Bits of S * scale added over all groups, for integer scales: of S, of the scale and of the number of groups.
template <class PART, bool EXACT>
struct exact_width : std::integral_constant<int, 1> {};
template <class PART>
struct exact_width<PART, true>
    : std::integral_constant<int, integer_width<typename PART::arithmetic>::value + PART::scale::bits + 1 +
                                      clog2(ceil_div(PART::columns, PART::group))> {};

// Which input each column of a part multiplies, and its stored scale: the same for all rows.
template <class PART>
struct part_columns {
  int input[PART::gather::present ? PART::columns : 1];
  float scale[PART::column_scale::present ? PART::columns : 1];
};

// Input of a column.
template <class PART>
int input_of(const part_columns<PART>& from, int column) {
#pragma HLS INLINE
  if constexpr (PART::gather::present) return from.input[column];
  else return column;
}

// Activation code for a column, or for the columns of one code.
template <class PART, class ACTIVATIONS>
ap_uint<ACTIVATIONS::bits> activation_of(const ACTIVATIONS& x, int token, const part_columns<PART>& from, int column) {
#pragma HLS INLINE
  constexpr int elements = activation_elements_of<typename PART::arithmetic>::value;
  const ap_uint<ACTIVATIONS::bits> code = x.code[token][input_of<PART>(from, column) / elements];
  if constexpr (PART::column_scale::present) {
    static_assert(ACTIVATIONS::bits == 16 && !ACTIVATIONS::scaled, "column scales multiply FP16");
    return fp16_quantizer::encode(fp16_value::decode(code) * from.scale[column]);
  } else {
    return code;
  }
}

// The activations of a step times one, added to A, the sum that real zero points multiply; `count` are left in the group.
template <class PART, class X>
void add_ones(typename PART::arithmetic::sum_t& ones, const X& x, int count,
              const typename registers_of<typename PART::arithmetic>::type& registers) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  ap_uint<arithmetic::weight_bits> w[arithmetic::lanes];
one_lanes:
  for (int lane = 0; lane < arithmetic::lanes; ++lane) {
#pragma HLS UNROLL
    w[lane] = lane < count ? PART::one_code : PART::idle_weight;
  }
  accumulate_lanes<arithmetic>(ones, w, x, ap_uint<arithmetic::selector_bits ? arithmetic::selector_bits : 1>(0),
                               registers);
}

// What one part gives for one token and the rows of a tile: total[row], scaled, in float32.
template <class PART, int ROWS, class ACTIVATIONS>
void multiply_part(const part_tile<PART, ROWS>& tile, int first, int rows,
                   const typename registers_of<typename PART::arithmetic>::type (&registers)[ROWS / PART::outputs],
                   const part_columns<PART>& from, const ACTIVATIONS& x, int token, float (&total)[ROWS]) {
#pragma HLS INLINE off
// every row of the tile and every lane of the activation is read at once
#pragma HLS ARRAY_PARTITION variable = tile.word complete dim = 1
#pragma HLS ARRAY_PARTITION variable = tile.word cyclic factor = PART::code_bits dim = 2
#pragma HLS ARRAY_PARTITION variable = tile.mask block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = tile.scale block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = tile.zero_point block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = tile.selector block factor = ROWS
#pragma HLS ARRAY_PARTITION variable = registers complete
#pragma HLS ARRAY_PARTITION variable = x.code cyclic factor = PART::arithmetic::lanes dim = 2
  using arithmetic = typename PART::arithmetic;
  using sum_t = typename arithmetic::sum_t;
  constexpr int lanes = arithmetic::lanes, outputs = PART::outputs, code_rows = ROWS / outputs;
  constexpr int weight_elements = weight_elements_of<arithmetic>::value;
  constexpr int activation_elements = activation_elements_of<arithmetic>::value;
  constexpr int weight_codes = lanes / weight_elements, activation_codes = lanes / activation_elements;
  constexpr int selector_bits = arithmetic::selector_bits > 0 ? arithmetic::selector_bits : 1;
  constexpr bool with_ones = PART::zero == zero_kind::in_codes || PART::zero == zero_kind::real;
  constexpr int groups = ceil_div(PART::columns, PART::group);
  // Of a sparse row, a step takes the inputs of whole blocks, out of which each of its lanes picks its own.
  constexpr bool sparse = PART::mask::present;
  constexpr int window_codes = sparse ? lanes / PART::kept * PART::block : activation_codes;
  constexpr int ones_rows = sparse ? code_rows : 1;  // rows that multiply other inputs than their neighbours
  static_assert(weight_elements == PART::code_dim, "codes of part and arithmetic hold as many elements");
  static_assert(outputs_of<arithmetic>::value == outputs, "codes of part and arithmetic span as many outputs");
  static_assert(arithmetic::weight_bits >= PART::code_bits, "an arithmetic takes whole codes");
  static_assert(arithmetic::activation_bits == ACTIVATIONS::bits, "activation codes are as wide as the stage makes them");
  static_assert(groups == 1 || PART::group % weight_elements == 0, "groups hold whole codes");
  static_assert(!sparse || (lanes % PART::kept == 0 && weight_elements == 1 && activation_elements == 1 && outputs == 1),
                "the lanes of a sparse row are whole blocks of single elements");
  static_assert(!sparse || groups == 1 || PART::group % PART::block == 0, "groups hold whole blocks");
  static_assert(!with_ones || outputs == 1, "zero points go with codes of one output");

  constexpr int exact_bits = exact_width<PART, PART::exact_scale>::value;
  ap_int<exact_bits> exact[ROWS];
  sum_t sum[code_rows], ones[ones_rows];
#pragma HLS ARRAY_PARTITION variable = exact complete
#pragma HLS ARRAY_PARTITION variable = sum complete
#pragma HLS ARRAY_PARTITION variable = ones complete
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
    const int stored_end = stored_before<PART>(end);
  sums_cleared:
    for (int row = 0; row < code_rows; ++row) {
#pragma HLS UNROLL
      arithmetic::clear(sum[row]);
      if (row < ones_rows) arithmetic::clear(ones[row]);
    }
  steps:
    for (int step = stored_before<PART>(begin); step < stored_end; step += lanes) {
#pragma HLS PIPELINE II = 1
      ap_uint<arithmetic::activation_bits> window[window_codes];
#pragma HLS ARRAY_PARTITION variable = window complete
    activation_lanes:
      for (int lane = 0; lane < window_codes; ++lane) {
#pragma HLS UNROLL
        const int column = step / PART::kept * PART::block + lane * activation_elements;
        window[lane] = PART::idle_activation;
        if (column < end) window[lane] = activation_of<PART>(x, token, from, column);
      }
    parallel_rows:
      for (int row = 0; row < code_rows; ++row) {
#pragma HLS UNROLL
        if (row * outputs < rows) {
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
            selector = tile.selector[place::place(first, row * outputs, begin)];
          }
        weight_lanes:
          for (int lane = 0; lane < weight_codes; ++lane) {
#pragma HLS UNROLL
            const int element = step + lane * weight_elements;
            w[lane] = PART::idle_weight;
            if (element < stored_end) {
              const ap_uint<PART::code_bits> code = tile.code_at(row, element / weight_elements);
              if constexpr (PART::zero == zero_kind::before_product) {
                w[lane] = ap_uint<arithmetic::weight_bits>(ap_int<arithmetic::weight_bits + 1>(code) - zero);
              } else {
                w[lane] = code;
              }
            }
          }
          if constexpr (sparse) {
            using place = typename part_tile<PART, ROWS>::mask_place;
            ap_uint<arithmetic::activation_bits> picked[activation_codes];
#pragma HLS ARRAY_PARTITION variable = picked complete
          picked_lanes:
            for (int lane = 0; lane < activation_codes; ++lane) {
#pragma HLS UNROLL
              picked[lane] = PART::idle_activation;
              if (step + lane < stored_end) {
                const ap_uint<PART::mask::bits> within = tile.mask[place::place(first, row, step + lane)];
                picked[lane] = window[lane / PART::kept * PART::block + static_cast<int>(within.to_uint())];
              }
            }
            accumulate_lanes<arithmetic>(sum[row], w, picked, selector, registers[row]);
            if constexpr (with_ones) add_ones<PART>(ones[row], picked, stored_end - step, registers[row]);
          } else {
            accumulate_lanes<arithmetic>(sum[row], w, window, selector, registers[row]);
          }
        }
      }
      if constexpr (with_ones && !sparse) add_ones<PART>(ones[0], window, stored_end - step, registers[0]);
    }
    const float activation_scale = x.scale[token][input_of<PART>(from, begin) / ACTIVATIONS::tile_columns];
  rows_scaled:
    for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
      if (row < rows) {
        const int vector = row / outputs, output = row % outputs;
        if constexpr (dequantizes_of<arithmetic>::value) {
          using place = field_rows<typename PART::scale, ROWS, PART::columns>;
          total[row] = total[row] +
                       arithmetic::scaled(sum[vector], tile.scale[place::place(first, row, begin)], registers[vector]);
        } else if constexpr (PART::exact_scale) {
          using place = field_rows<typename PART::scale, ROWS, PART::columns>;
          const ap_int<PART::scale::bits + 1> scale = tile.scale[place::place(first, row, begin)];
          exact[row] += integer_of(sum[vector], output) * scale;
        } else {
          float value = value_of<arithmetic>(sum[vector], output, registers[vector]);
          float activation_sum = 0.0F;
          if constexpr (with_ones) {
            const int of = sparse ? row : 0;
            activation_sum = value_of<arithmetic>(ones[of], 0, registers[of]) * power_of_two(-PART::one_exponent);
          }
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
