// How products of two numbers are added: exactly, or with one rounding a product. A number is a code as
// factor * 2**(shift + unit_exponent): int_number, minifloat_number, table_number, flint_number, olive_number.
#ifndef CODESIGN_PRODUCTS_H
#define CODESIGN_PRODUCTS_H

#include "codesign/float_accumulate.h"
#include "codesign/integer.h"
#include "codesign/minifloat.h"
#include "codesign/types.h"

namespace codesign {

// Exactly (Kulisch): the sum is an integer in units of 2**unit_exponent, and SUM_BITS hold the largest sum of a group;
// the default is for 65,536 products.
template <class WEIGHT, class ACTIVATION, int SUM_BITS = number_product<WEIGHT, ACTIVATION>::fixed_bits + 16>
struct exact_products {
  using weight_t = WEIGHT;
  using activation_t = ACTIVATION;
  using product = number_product<WEIGHT, ACTIVATION>;
  static constexpr int unit_exponent = product::unit_exponent;
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

// With one rounding a product, in order, into a float of the stated widths; overflow saturates. The sum is its code.
template <class WEIGHT, class ACTIVATION, int EXPONENT_BITS = 8, int MANTISSA_BITS = 23>
struct rounded_products {
  using weight_t = WEIGHT;
  using activation_t = ACTIVATION;
  using product = number_product<WEIGHT, ACTIVATION>;
  static constexpr int unit_exponent = 0;
  static constexpr int offset = product::unit_exponent - lowest_place(EXPONENT_BITS, MANTISSA_BITS);
  static constexpr int shift_bits = larger(EXPONENT_BITS, clog2(WEIGHT::max_shift + ACTIVATION::max_shift + 1)) + 3;
  using adder = float_accumulate<product::factor_bits, shift_bits, EXPONENT_BITS, MANTISSA_BITS>;
  using sum_t = ap_uint<1 + EXPONENT_BITS + MANTISSA_BITS>;

  static void add(sum_t& sum, const WEIGHT& weight, const ACTIVATION& activation) {
#pragma HLS INLINE
    const ap_int<product::factor_bits> factor = weight.factor * activation.factor;
    const bool negative = factor < 0;
    const ap_uint<product::factor_bits> magnitude =
        negative ? ap_uint<product::factor_bits>(-factor) : ap_uint<product::factor_bits>(factor);
    adder::step(sum, ap_uint<1>(negative), magnitude, weight.shift + activation.shift + offset, sum);
  }

  static float value(const sum_t& sum) { return float_of_code<EXPONENT_BITS, MANTISSA_BITS>(sum); }
};

}  // namespace codesign

#endif
