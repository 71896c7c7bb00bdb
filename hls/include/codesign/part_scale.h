// Behind the sums of one dense part of a layer: `scale_groups` takes finished groups out of a stream, scales and adds them
// up, as many rows a cycle as keep pace with the steps. It reads no array.
#ifndef CODESIGN_PART_SCALE_H
#define CODESIGN_PART_SCALE_H

#include "codesign/part_shape.h"

namespace codesign {

template <class PART, int PARALLEL>
float scale_of(const group_sums<PART, PARALLEL>& from, int row) {
#pragma HLS INLINE
  float scale = PART::scale::value::decode(from.scale[row]);
  if constexpr (PART::outer_scale::present && !PART::outer_last) {
    scale = scale * PART::outer_scale::value::decode(from.outer_scale[row]);
    if constexpr (PART::outer_offset::present) scale = scale + PART::outer_offset::value::decode(from.outer_offset[row]);
  }
  return scale;
}

template <class PART, int PARALLEL>
float zero_of(const group_sums<PART, PARALLEL>& from, int row) {
#pragma HLS INLINE
  float zero = PART::zero_point::value::decode(from.zero[row]);
  if constexpr (PART::zero_point_scale::present) {
    zero = zero * PART::zero_point_scale::value::decode(from.zero_scale[row]);
  }
  if constexpr (PART::zero_point_offset::present) {
    zero = zero + PART::zero_point_offset::value::decode(from.zero_offset[row]);
  }
  return zero;
}

// What a group adds to its row, float32.
template <class PART, class INPUT, int PARALLEL>
float group_value(const group_sums<PART, PARALLEL>& from, int row,
                  const typename registers_of<typename PART::arithmetic>::type& registers) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  using shape = part_shape<PART, PARALLEL, 1>;
  const int vector = row / PART::outputs, output = row % PART::outputs;
  if constexpr (dequantizes_of<arithmetic>::value) {
    return arithmetic::scaled(from.sum[vector], from.scale[row], registers);
  } else {
    float value = value_of<arithmetic>(from.sum[vector], output, registers);
    float activation_sum = 0.0F;
    if constexpr (shape::with_ones) {
      constexpr float unit = power_of_two(-PART::one_exponent);
      activation_sum = value_of<arithmetic>(from.ones[shape::sparse ? row : 0], 0, registers) * unit;
    }
    if constexpr (PART::zero == zero_kind::in_codes) value = value - zero_of<PART, PARALLEL>(from, row) * activation_sum;
    if constexpr (PART::scale::present) value = value * scale_of<PART, PARALLEL>(from, row);
    if constexpr (PART::zero == zero_kind::real) value = value + zero_of<PART, PARALLEL>(from, row) * activation_sum;
    if constexpr (INPUT::quantizer::scaled && INPUT::rule != scale_rule::none) value = value * from.activation_scale;
    return value;
  }
}

// Bits of S * scale added over all groups, for integer scales: of S, of the scale and of the number of groups.
template <class PART, bool EXACT>
struct exact_width : std::integral_constant<int, 1> {};
template <class PART>
struct exact_width<PART, true>
    : std::integral_constant<int, integer_width<typename PART::arithmetic>::value + PART::scale::bits + 1 +
                                      clog2(ceil_div(PART::columns, PART::group))> {};

// Groups to totals: float32 of the rows of each token and block of a tile, added to those of the parts before this one.
template <class PART, int PARALLEL, int BLOCKS, class INPUT, class... BEFORE>
void scale_groups(hls::stream<group_sums<PART, PARALLEL>>& in, int tokens, hls::stream<row_values<PARALLEL>>& out,
                  BEFORE&... before) {
#pragma HLS INLINE off
  using arithmetic = typename PART::arithmetic;
  using shape = part_shape<PART, PARALLEL, BLOCKS>;
  constexpr int exact_bits = exact_width<PART, PART::exact_scale>::value;
  constexpr int distance = BLOCKS * shape::passes;
  constexpr bool scaled = INPUT::quantizer::scaled && INPUT::rule != scale_rule::none;
  // Totals of the rows that are scaled at a time; those of the iterations to come behind them, in the order of iterations.
  float total[distance][shape::scalers];
  ap_int<exact_bits> exact[distance][shape::scalers];
#pragma HLS ARRAY_PARTITION variable = total complete dim = 0
#pragma HLS ARRAY_PARTITION variable = exact complete dim = 0
  typename registers_of<arithmetic>::type registers{};  // constants; tables do not look at them here
  if constexpr (registers_of<arithmetic>::present && !PART::codebook::present) {
    for (int i = 0; i < registers_of<arithmetic>::entries; ++i) {
#pragma HLS UNROLL
      arithmetic::write(registers, i, PART::registers[i]);
    }
  }
  group_sums<PART, PARALLEL> group_of;
  row_values<PARALLEL> added, made;
  int group = 0, block = 0, pass = 0;
rows_scaled:
  for (int i = 0; i < tokens * shape::groups * distance; ++i) {
#pragma HLS PIPELINE II = shape::scale_interval
    const bool last_group = group + 1 == shape::groups;
    if (pass == 0) {
      group_of = in.read();
      if constexpr (runtime_format_of<PART>::value) arithmetic::write(registers, 0, group_of.format);
      if constexpr (sizeof...(BEFORE) > 0) {
        if (last_group) added = (before.read(), ...);
      }
    }
  scalers:
    for (int scaler = 0; scaler < shape::scalers; ++scaler) {
#pragma HLS UNROLL
      const int row = pass * shape::scalers + scaler;
      if (row < PARALLEL) {
        float sum;
        if constexpr (PART::exact_scale) {
          const ap_int<PART::scale::bits + 1> scale = group_of.scale[row];
          const ap_int<exact_bits> product = integer_of(group_of.sum[row / PART::outputs], row % PART::outputs) * scale;
          const ap_int<exact_bits> whole = product + (group == 0 ? ap_int<exact_bits>(0) : exact[0][scaler]);
          exact[0][scaler] = whole;
          constexpr float unit = power_of_two(arithmetic::unit_exponent);
          sum = float_of<exact_bits>(whole) * unit;
          if constexpr (scaled) sum = sum * group_of.activation_scale;
        } else {
          sum = (group == 0 ? 0.0F : total[0][scaler]) + group_value<PART, INPUT, PARALLEL>(group_of, row, registers);
          total[0][scaler] = sum;
        }
        if constexpr (PART::outer_last) sum = sum * PART::outer_scale::value::decode(group_of.outer_scale[row]);
        if constexpr (PART::row_scale::present) sum = sum * PART::row_scale::value::decode(group_of.row_scale[row]);
        if constexpr (sizeof...(BEFORE) > 0) sum = added.of[row] + sum;
        made.of[row] = sum;
      }
    }
    if constexpr (PART::exact_scale) next_turn(exact);
    else next_turn(total);
    if (++pass == shape::passes) {
      pass = 0;
      if (last_group) out.write(made);
      if (++block == BLOCKS) {
        block = 0;
        group = last_group ? 0 : group + 1;
      }
    }
  }
}

}  // namespace codesign

#endif
