// Integer multiplier, and dot product of LANES integer pairs into one accumulator (LANES = 1 is the MAC).
// Weights are two's complement; activations two's complement, or unsigned (after a ReLU, or with a zero point).
// Twins of hls/rtl/integer.sv.
#ifndef CODESIGN_INTEGER_H
#define CODESIGN_INTEGER_H

#include "codesign/types.h"

namespace codesign {

// Where products are made: as the tool likes, in LUTs, in one DSP each, or two products of a dot product in one DSP.
enum class int_mapping { automatic, lut, dsp, dsp_pair };

// --- products --------------------------------------------------------------------------------------------------------

// An integer code as a number: factor * 2**UNIT_EXPONENT. `shift` is for the codes of other headers that have one.
template <int BITS, bool UNSIGNED = false, int UNIT_EXPONENT = 0>
struct int_number {
  static constexpr int bits = BITS;
  static constexpr int factor_bits = BITS + (UNSIGNED ? 1 : 0);
  static constexpr int max_shift = 0;
  static constexpr int unit_exponent = UNIT_EXPONENT;
  ap_int<factor_bits> factor;
  static constexpr int shift = 0;

  explicit int_number(ap_uint<BITS> code) {
#pragma HLS INLINE
    if constexpr (UNSIGNED) {
      factor = code;
    } else {
      factor = ap_int<BITS>(code);
    }
  }
};

// weight * activation, exact.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int_mapping MAPPING = int_mapping::automatic>
ap_int<WEIGHT_BITS + ACTIVATION_BITS> int_product(ap_int<WEIGHT_BITS> weight, ap_uint<ACTIVATION_BITS> activation) {
#pragma HLS INLINE
  const int_number<ACTIVATION_BITS, ACTIVATION_UNSIGNED> a(activation);
  if constexpr (MAPPING == int_mapping::lut) {
    const ap_int<WEIGHT_BITS + ACTIVATION_BITS> product = weight * a.factor;
#pragma HLS BIND_OP variable=product op=mul impl=fabric
    return product;
  } else if constexpr (MAPPING == int_mapping::dsp) {
    const ap_int<WEIGHT_BITS + ACTIVATION_BITS> product = weight * a.factor;
#pragma HLS BIND_OP variable=product op=mul impl=dsp
    return product;
  } else {
    return weight * a.factor;
  }
}

// Two products of a dot product in one multiplier: with S bits between them,
//   (w0 + w1 * 2**S) * (a1 + a0 * 2**S) = w0 * a1 + (w0 * a0 + w1 * a1) * 2**S + w1 * a0 * 2**2S.
// The middle field is the dot product. It borrows one where the lowest field is negative, which is given back.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED>
struct int_pair {
  static constexpr int activation_factor_bits = ACTIVATION_BITS + (ACTIVATION_UNSIGNED ? 1 : 0);
  static constexpr int sum_bits = WEIGHT_BITS + ACTIVATION_BITS + 1;  // of two products, and of each field: S
  static constexpr int weight_port_bits = WEIGHT_BITS + sum_bits + 1;  // the low factor may borrow from the high one
  static constexpr int activation_port_bits = activation_factor_bits + sum_bits + 1;
  // A DSP48E2 multiplies 27 by 18 bits (AMD UG579), a DSP48E1 25 by 18 (UG479).
  static constexpr int wide_port_bits = larger(weight_port_bits, activation_port_bits);
  static constexpr int narrow_port_bits = weight_port_bits + activation_port_bits - wide_port_bits;
  static constexpr bool fits_one_dsp = wide_port_bits <= 27 && narrow_port_bits <= 18;

  static ap_int<sum_bits> sum(ap_int<WEIGHT_BITS> w0, ap_int<WEIGHT_BITS> w1, ap_uint<ACTIVATION_BITS> a0,
                              ap_uint<ACTIVATION_BITS> a1) {
#pragma HLS INLINE
    const int_number<ACTIVATION_BITS, ACTIVATION_UNSIGNED> first(a0), second(a1);
    const ap_int<weight_port_bits> weights = (ap_int<weight_port_bits>(w1) << sum_bits) + w0;
    const ap_int<activation_port_bits> activations =
        (ap_int<activation_port_bits>(first.factor) << sum_bits) + second.factor;
    const ap_int<weight_port_bits + activation_port_bits> product = weights * activations;
#pragma HLS BIND_OP variable=product op=mul impl=dsp
    const ap_int<sum_bits> middle = product.range(2 * sum_bits - 1, sum_bits);
    const ap_uint<1> borrowed = product[sum_bits - 1];
    return middle + borrowed;
  }
};

// Sum of LANES products.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int LANES, int_mapping MAPPING>
ap_int<WEIGHT_BITS + ACTIVATION_BITS + clog2(LANES)> int_lane_sum(const ap_uint<WEIGHT_BITS> (&weight)[LANES],
                                                                  const ap_uint<ACTIVATION_BITS> (&activation)[LANES]) {
#pragma HLS INLINE
  ap_int<WEIGHT_BITS + ACTIVATION_BITS + clog2(LANES)> sum = 0;
  if constexpr (MAPPING == int_mapping::dsp_pair) {
    using pair = int_pair<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED>;
    static_assert(pair::fits_one_dsp, "two products of these widths must fit the 27 x 18 bits of one DSP48E2");
  pairs:
    for (int lane = 0; lane + 1 < LANES; lane += 2) {
#pragma HLS UNROLL
      sum += pair::sum(weight[lane], weight[lane + 1], activation[lane], activation[lane + 1]);
    }
    if constexpr (LANES % 2 == 1) {
      sum += int_product<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, int_mapping::dsp>(weight[LANES - 1],
                                                                                             activation[LANES - 1]);
    }
  } else {
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      sum += int_product<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, MAPPING>(weight[lane], activation[lane]);
    }
  }
  return sum;
}

// --- PEs -------------------------------------------------------------------------------------------------------------

// product = weight * activation, exact.
template <int WEIGHT_BITS = 4, int ACTIVATION_BITS = 4, bool ACTIVATION_UNSIGNED = false>
struct int_multiplier {
  static void step(ap_int<WEIGHT_BITS> weight, ap_uint<ACTIVATION_BITS> activation,
                   ap_int<WEIGHT_BITS + ACTIVATION_BITS>& product) {
#pragma HLS INLINE
    product = int_product<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED>(weight, activation);
  }
};

// accumulator <= (clear ? 0 : accumulator) + sum of LANES products, modulo 2**ACCUMULATOR_BITS.
template <int WEIGHT_BITS = 4, int ACTIVATION_BITS = 4, bool ACTIVATION_UNSIGNED = false, int LANES = 1,
          int ACCUMULATOR_BITS = WEIGHT_BITS + ACTIVATION_BITS + 10, int_mapping MAPPING = int_mapping::automatic>
struct int_dot {
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<LANES * WEIGHT_BITS> weight, ap_uint<LANES * ACTIVATION_BITS> activation,
            ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + lane_sum(weight, activation);
    accumulator = held;
  }

  // Sum of one set of lanes.
  static ap_int<WEIGHT_BITS + ACTIVATION_BITS + clog2(LANES)> lane_sum(ap_uint<LANES * WEIGHT_BITS> weight,
                                                                       ap_uint<LANES * ACTIVATION_BITS> activation) {
#pragma HLS INLINE
    ap_uint<WEIGHT_BITS> w[LANES];
    ap_uint<ACTIVATION_BITS> a[LANES];
#pragma HLS ARRAY_PARTITION variable=w complete
#pragma HLS ARRAY_PARTITION variable=a complete
    lanes_of<WEIGHT_BITS, LANES>(weight, w);
    lanes_of<ACTIVATION_BITS, LANES>(activation, a);
    return int_lane_sum<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, LANES, MAPPING>(w, a);
  }
};

// --- arithmetic ------------------------------------------------------------------------------------------------------

// Exact sums of integer products. SUM_BITS must hold the largest sum of a group: WEIGHT_BITS + ACTIVATION_BITS +
// clog2(products); the default is for 65,536 of them.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int LANES,
          int SUM_BITS = WEIGHT_BITS + ACTIVATION_BITS + 16, int_mapping MAPPING = int_mapping::automatic>
struct int_arithmetic {
  static constexpr int lanes = LANES, weight_bits = WEIGHT_BITS, activation_bits = ACTIVATION_BITS, selector_bits = 0;
  static constexpr int unit_exponent = 0;
  using sum_t = ap_int<SUM_BITS>;

  static void clear(sum_t& sum) { sum = 0; }

  static void accumulate(sum_t& sum, const ap_uint<WEIGHT_BITS> (&w)[LANES], const ap_uint<ACTIVATION_BITS> (&a)[LANES],
                         ap_uint<1>) {
#pragma HLS INLINE
    sum += int_lane_sum<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, LANES, MAPPING>(w, a);
  }

  static float value(const sum_t& sum) { return float_of<SUM_BITS>(sum); }
};

}  // namespace codesign

#endif
