// What a BitMoD array is told about a layer: the format its encoders decode, a register (FP3 and FP4 with special
// values, or integers of 2 to 8 bits), and the format of its scales; and what a group's product with its scale means.
#ifndef CODESIGN_BITMOD_FORMAT_H
#define CODESIGN_BITMOD_FORMAT_H

#include "codesign/bitmod.h"
#include "codesign/minifloat.h"
#include "codesign/types.h"

namespace codesign {

// --- format register -------------------------------------------------------------------------------------------------

// What the encoders decode: word 0 of an arithmetic's registers. Bits 23..0 special values, 26..24 code bits - 1, 27
// floating. It is written once a layer, so that one array runs layers of different formats.
struct bitmod_format {
  ap_uint<28> word = 0;

  bool floating() const { return word[27]; }
  ap_uint<4> code_bits() const { return ap_uint<4>(word.range(26, 24)) + 1; }
  ap_uint<24> specials() const { return word.range(23, 0); }

  // Terms of a weight: two of a float, ceil(bits / 2) Booth digits of an integer. None is skipped.
  ap_uint<3> terms() const {
#pragma HLS INLINE
    return floating() ? ap_uint<3>(2) : ap_uint<3>((code_bits() + 1) >> 1);
  }

  // Power of two of significance 0: FP3 and FP4 count in halves.
  int unit_exponent() const { return floating() ? -1 : 0; }

  ap_uint<3> significance(ap_uint<2> step) const { return bitmod_term_encoder::significance_of(floating(), step); }

  bitmod_term encode(ap_uint<8> code, ap_uint<2> step, ap_uint<2> selector) const {
#pragma HLS INLINE
    const ap_uint<4> missing = ap_uint<4>(8) - code_bits();
    const ap_int<8> raised = code << missing;  // sign-extends an integer; a float's upper bits are not read
    const ap_uint<8> extended = floating() ? code : ap_uint<8>(raised >> missing);
    return bitmod_term_encoder::encode(floating(), code_bits() == 3, extended, step, selector, specials());
  }
};

constexpr int bitmod_max_terms = 4;  // of INT8

// --- scales ----------------------------------------------------------------------------------------------------------

// A stored group scale as significand * 2**exponent: the significand goes through the dequantizer bit by bit. Scales
// are at least 0: a float's sign bit is not read.
template <int BITS = 8>
struct bitmod_integer_scale {
  static constexpr int bits = BITS, significant_bits = BITS, lowest_exponent = 0, highest_exponent = 0;
  ap_uint<BITS> significand;
  int exponent = 0;
  explicit bitmod_integer_scale(ap_uint<BITS> code) : significand(code) {}
};

template <int EXPONENT_BITS = 5, int MANTISSA_BITS = 10>
struct bitmod_float_scale {
  static constexpr int bits = 1 + EXPONENT_BITS + MANTISSA_BITS, significant_bits = MANTISSA_BITS + 1;
  static constexpr int lowest_exponent = 2 - (1 << (EXPONENT_BITS - 1)) - MANTISSA_BITS;
  static constexpr int highest_exponent = lowest_exponent + (1 << EXPONENT_BITS) - 2;
  ap_uint<MANTISSA_BITS + 1> significand;
  int exponent;
  explicit bitmod_float_scale(ap_uint<bits> code) {
#pragma HLS INLINE
    ap_uint<1> sign;
    ap_uint<EXPONENT_BITS> shift;
    minifloat_decode<EXPONENT_BITS, MANTISSA_BITS>::step(code, sign, significand, shift);
    exponent = lowest_exponent + shift.to_int();
  }
};

// 2**(code - BIAS): E8M0 with BIAS 127.
template <int BITS = 8, int BIAS = 127>
struct bitmod_exponent_scale {
  static constexpr int bits = BITS, significant_bits = 1, lowest_exponent = -BIAS;
  static constexpr int highest_exponent = (1 << BITS) - 1 - BIAS;
  ap_uint<1> significand = 1;
  int exponent;
  explicit bitmod_exponent_scale(ap_uint<BITS> code) : exponent(code.to_int() - BIAS) {}
};

// --- dequantization --------------------------------------------------------------------------------------------------

// Of an FP16 accumulator: widths of the dequantizer, and its product as float32 (exact: 21 bits).
template <class SCALE>
struct bitmod_fp16_product {
  static constexpr int mantissa_bits = 15;
  static constexpr int low_bits = SCALE::significant_bits < 6 ? SCALE::significant_bits : 6;  // 21 - 15
  static constexpr int product_bits = mantissa_bits + low_bits;
  static constexpr int dropped_bits = SCALE::significant_bits - low_bits;
  static constexpr int lowest_bit = -15 - 10 - 3;  // of a sum with exponent 0: FP16's bias, mantissa and guard bits
  using dequantizer = bitmod_dequantizer<mantissa_bits, SCALE::significant_bits, product_bits>;
  using result_t = float;

  static float value(ap_int<product_bits> product, ap_uint<6> exponent, int scale_exponent, int unit_exponent) {
#pragma HLS INLINE
    return times_power(product, exponent.to_int() + lowest_bit + dropped_bits + unit_exponent + scale_exponent);
  }

  // product * 2**power: an adder on the exponent field, or, where a scale may lead to subnormals, two products.
  static float times_power(ap_int<product_bits> product, int power) {
#pragma HLS INLINE
    const float whole = float_of<product_bits>(product);
    constexpr bool always_normal = lowest_bit - 1 + SCALE::lowest_exponent >= -126 &&
                                   lowest_bit + 63 + dropped_bits + SCALE::highest_exponent + product_bits <= 127;
    if constexpr (always_normal) {
      return product == 0 ? 0.0F : float_of_bits(bits_of_float(whole) + (ap_uint<32>(power) << 23));
    } else {
      const int half = power >> 1;
      return whole * normal_power(half) * normal_power(power - half);
    }
  }
};

// Of an integer accumulator: the exact product.
template <class SCALE, int ACCUMULATOR_BITS>
struct bitmod_int_product {
  static_assert(SCALE::lowest_exponent == 0 && SCALE::highest_exponent == 0, "integer sums need integer scales");
  static constexpr int product_bits = ACCUMULATOR_BITS + SCALE::significant_bits;
  using dequantizer = bitmod_dequantizer<ACCUMULATOR_BITS, SCALE::significant_bits, product_bits>;
  using result_t = ap_int<64>;

  static result_t value(ap_int<product_bits> product, ap_uint<6>, int, int) { return product; }
};

}  // namespace codesign

#endif
