// Minifloats ExMy: sign, E exponent bits, M mantissa bits, subnormals; every code is a number (FloatVariant.FINITE).
//
// A code's magnitude is significand * 2**(shift + 1 - bias - M) with significand < 2**(M+1) and shift = field - 1, or 0
// for field 0 (subnormal). So a product of two codes is an integer in units of 2**(2 - bias_w - M_w - bias_a - M_a),
// of 2**E_w + 2**E_a + M_w + M_a - 1 bits with its sign: what the Kulisch accumulator adds, exactly.
// Twins of hls/rtl/minifloat.sv.
#ifndef CODESIGN_MINIFLOAT_H
#define CODESIGN_MINIFLOAT_H

#include "codesign/integer.h"
#include "codesign/types.h"

namespace codesign {

// IEEE 754's exponent bias.
constexpr int float_bias(int exponent_bits) { return (1 << (exponent_bits - 1)) - 1; }

// Bits of an exact product in two's complement fixed point.
constexpr int fixed_product_bits(int weight_exponent_bits, int weight_mantissa_bits, int activation_exponent_bits,
                                 int activation_mantissa_bits) {
  return (1 << weight_exponent_bits) + (1 << activation_exponent_bits) + weight_mantissa_bits +
         activation_mantissa_bits - 1;
}

// --- PEs -------------------------------------------------------------------------------------------------------------

// Code to sign, significand and left shift.
template <int EXPONENT_BITS = 3, int MANTISSA_BITS = 2>
struct minifloat_decode {
  static void step(ap_uint<1 + EXPONENT_BITS + MANTISSA_BITS> code, ap_uint<1>& sign,
                   ap_uint<MANTISSA_BITS + 1>& significand, ap_uint<EXPONENT_BITS>& shift) {
#pragma HLS INLINE
    const ap_uint<EXPONENT_BITS> field = code.range(EXPONENT_BITS + MANTISSA_BITS - 1, MANTISSA_BITS);
    const bool normal = field != 0;
    sign = code[EXPONENT_BITS + MANTISSA_BITS];
    significand = code;  // the fraction, and above it the field's lowest bit, which is replaced
    significand[MANTISSA_BITS] = normal;
    shift = normal ? ap_uint<EXPONENT_BITS>(field - 1) : ap_uint<EXPONENT_BITS>(0);
  }
};

// Product as sign, significand product and shift sum: not normalised, exact.
template <int WEIGHT_EXPONENT_BITS = 3, int WEIGHT_MANTISSA_BITS = 2, int ACTIVATION_EXPONENT_BITS = 3,
          int ACTIVATION_MANTISSA_BITS = 2>
struct minifloat_multiplier {
  static constexpr int weight_bits = 1 + WEIGHT_EXPONENT_BITS + WEIGHT_MANTISSA_BITS;
  static constexpr int activation_bits = 1 + ACTIVATION_EXPONENT_BITS + ACTIVATION_MANTISSA_BITS;
  static constexpr int significand_bits = WEIGHT_MANTISSA_BITS + ACTIVATION_MANTISSA_BITS + 2;
  static constexpr int shift_bits = larger(WEIGHT_EXPONENT_BITS, ACTIVATION_EXPONENT_BITS) + 1;

  static void step(ap_uint<weight_bits> weight, ap_uint<activation_bits> activation, ap_uint<1>& sign,
                   ap_uint<significand_bits>& significand, ap_uint<shift_bits>& shift) {
#pragma HLS INLINE
    ap_uint<1> weight_sign, activation_sign;
    ap_uint<WEIGHT_MANTISSA_BITS + 1> weight_significand;
    ap_uint<ACTIVATION_MANTISSA_BITS + 1> activation_significand;
    ap_uint<WEIGHT_EXPONENT_BITS> weight_shift;
    ap_uint<ACTIVATION_EXPONENT_BITS> activation_shift;
    minifloat_decode<WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS>::step(weight, weight_sign, weight_significand,
                                                                      weight_shift);
    minifloat_decode<ACTIVATION_EXPONENT_BITS, ACTIVATION_MANTISSA_BITS>::step(activation, activation_sign,
                                                                              activation_significand, activation_shift);
    sign = weight_sign ^ activation_sign;
    significand = weight_significand * activation_significand;
    shift = weight_shift + activation_shift;
  }
};

// Product as a two's complement integer.
template <int WEIGHT_EXPONENT_BITS = 3, int WEIGHT_MANTISSA_BITS = 2, int ACTIVATION_EXPONENT_BITS = 3,
          int ACTIVATION_MANTISSA_BITS = 2>
struct minifloat_product {
  using multiplier = minifloat_multiplier<WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS, ACTIVATION_EXPONENT_BITS,
                                          ACTIVATION_MANTISSA_BITS>;
  static constexpr int weight_bits = multiplier::weight_bits, activation_bits = multiplier::activation_bits;
  static constexpr int fixed_bits = fixed_product_bits(WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS,
                                                       ACTIVATION_EXPONENT_BITS, ACTIVATION_MANTISSA_BITS);

  static void step(ap_uint<weight_bits> weight, ap_uint<activation_bits> activation, ap_int<fixed_bits>& product) {
#pragma HLS INLINE
    ap_uint<1> sign;
    ap_uint<multiplier::significand_bits> significand;
    ap_uint<multiplier::shift_bits> shift;
    multiplier::step(weight, activation, sign, significand, shift);
    // Negate before shifting: the negation is as wide as the significand instead of the product.
    const ap_int<multiplier::significand_bits + 1> factor =
        sign ? ap_int<multiplier::significand_bits + 1>(-significand) : ap_int<multiplier::significand_bits + 1>(significand);
    product = ap_int<fixed_bits>(factor) << shift;
  }
};

// Kulisch dot product: accumulator <= (clear ? 0 : accumulator) + sum of LANES exact products.
template <int WEIGHT_EXPONENT_BITS = 3, int WEIGHT_MANTISSA_BITS = 2, int ACTIVATION_EXPONENT_BITS = 3,
          int ACTIVATION_MANTISSA_BITS = 2, int LANES = 1,
          int ACCUMULATOR_BITS = fixed_product_bits(WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS,
                                                    ACTIVATION_EXPONENT_BITS, ACTIVATION_MANTISSA_BITS) + 10>
struct minifloat_dot {
  using multiplier = minifloat_product<WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS, ACTIVATION_EXPONENT_BITS,
                                       ACTIVATION_MANTISSA_BITS>;
  static constexpr int weight_bits = multiplier::weight_bits, activation_bits = multiplier::activation_bits;
  using sum_t = ap_int<multiplier::fixed_bits + clog2(LANES)>;
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<LANES * weight_bits> weight, ap_uint<LANES * activation_bits> activation,
            ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + lane_sum(weight, activation);
    accumulator = held;
  }

  // Sum of one set of lanes.
  static sum_t lane_sum(ap_uint<LANES * weight_bits> weight, ap_uint<LANES * activation_bits> activation) {
#pragma HLS INLINE
    sum_t sum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      ap_int<multiplier::fixed_bits> product;
      multiplier::step(lane_of<weight_bits>(weight, lane), lane_of<activation_bits>(activation, lane), product);
      sum += product;
    }
    return sum;
  }
};

// --- arithmetic ------------------------------------------------------------------------------------------------------

// A minifloat code as a number: factor * 2**(shift + unit_exponent). Like int_number, with which it mixes.
template <int EXPONENT_BITS, int MANTISSA_BITS, int BIAS = float_bias(EXPONENT_BITS), bool SIGNED = true>
struct minifloat_number {
  static constexpr int bits = (SIGNED ? 1 : 0) + EXPONENT_BITS + MANTISSA_BITS;
  static constexpr int factor_bits = MANTISSA_BITS + 2;
  static constexpr int max_shift = (1 << EXPONENT_BITS) - 2;
  static constexpr int unit_exponent = 1 - BIAS - MANTISSA_BITS;
  ap_int<factor_bits> factor;
  ap_uint<EXPONENT_BITS> shift;

  explicit minifloat_number(ap_uint<bits> code) {
#pragma HLS INLINE
    ap_uint<1> sign;
    ap_uint<MANTISSA_BITS + 1> significand;
    minifloat_decode<EXPONENT_BITS, MANTISSA_BITS>::step(code, sign, significand, shift);
    factor = sign ? ap_int<factor_bits>(-significand) : ap_int<factor_bits>(significand);
  }
};

// Widths and unit of a product of two numbers: of int_number, minifloat_number, and others that look like them.
template <class WEIGHT, class ACTIVATION>
struct number_product {
  static constexpr int factor_bits = WEIGHT::factor_bits + ACTIVATION::factor_bits;
  static constexpr int fixed_bits = factor_bits + WEIGHT::max_shift + ACTIVATION::max_shift;
  static constexpr int unit_exponent = WEIGHT::unit_exponent + ACTIVATION::unit_exponent;
};

// How products are added: exactly (Kulisch). The sum is an integer in units of 2**unit_exponent, and SUM_BITS hold the
// largest sum of a group; the default is for 65,536 products.
template <class WEIGHT, class ACTIVATION, int SUM_BITS = number_product<WEIGHT, ACTIVATION>::fixed_bits + 16>
struct exact_products {
  using weight_t = WEIGHT;
  using activation_t = ACTIVATION;
  using product = number_product<WEIGHT, ACTIVATION>;
  static constexpr int unit_exponent = product::unit_exponent;
  static constexpr bool rounds = false;
  using sum_t = ap_int<SUM_BITS>;

  static void add(sum_t& sum, const WEIGHT& weight, const ACTIVATION& activation) {
#pragma HLS INLINE
    const ap_int<product::factor_bits> factor = weight.factor * activation.factor;
    sum += ap_int<product::fixed_bits>(factor) << (weight.shift + activation.shift);
  }

  static float value(const sum_t& sum) {
#pragma HLS INLINE
    constexpr float unit = power_of_two(unit_exponent);
    return float_of<SUM_BITS>(sum) * unit;
  }
};

// Codes of one element on both sides; PRODUCTS is exact_products, or rounded_products of float_accumulate.h.
template <class PRODUCTS, int LANES>
struct number_arithmetic {
  using weight_t = typename PRODUCTS::weight_t;
  using activation_t = typename PRODUCTS::activation_t;
  static constexpr int lanes = LANES, weight_bits = weight_t::bits, activation_bits = activation_t::bits;
  static constexpr int selector_bits = 0;
  static constexpr int unit_exponent = PRODUCTS::unit_exponent;
  static constexpr bool rounds = PRODUCTS::rounds;
  using sum_t = typename PRODUCTS::sum_t;

  static void clear(sum_t& sum) { sum = 0; }

  static void accumulate(sum_t& sum, const ap_uint<weight_bits> (&w)[LANES], const ap_uint<activation_bits> (&a)[LANES],
                         ap_uint<1>) {
#pragma HLS INLINE
  lanes_in_order:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      PRODUCTS::add(sum, weight_t(w[lane]), activation_t(a[lane]));
    }
  }

  static float value(const sum_t& sum) { return PRODUCTS::value(sum); }
};

// Exact sums of products of any two kinds of numbers, minifloats or integers.
template <class WEIGHT, class ACTIVATION, int LANES, int SUM_BITS = number_product<WEIGHT, ACTIVATION>::fixed_bits + 16>
using minifloat_arithmetic = number_arithmetic<exact_products<WEIGHT, ACTIVATION, SUM_BITS>, LANES>;

}  // namespace codesign

#endif
