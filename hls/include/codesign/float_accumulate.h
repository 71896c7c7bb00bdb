// Floating-point accumulation with one rounding for each addition, and the MACs built on it.
//
// The accumulator is a float of EXPONENT_BITS and MANTISSA_BITS with subnormals: FP32 is 8 and 23, FP16 5 and 10,
// anything else a narrower "FP32-like" register. Rounding is to nearest, ties to even. There are no infinities or NaNs:
// overflow saturates to the largest finite value, and RESERVED_TOP keeps the top exponent field free as IEEE 754 does.
// Inputs must be finite; the accumulator needs at least one mantissa bit. Twins of hls/rtl/float_accumulate.sv.
#ifndef CODESIGN_FLOAT_ACCUMULATE_H
#define CODESIGN_FLOAT_ACCUMULATE_H

#include "codesign/fields.h"
#include "codesign/minifloat.h"
#include "codesign/types.h"

namespace codesign {

// Power of two of a float's smallest subnormal.
constexpr int lowest_place(int exponent_bits, int mantissa_bits) { return 1 - float_bias(exponent_bits) - mantissa_bits; }

// --- PEs -------------------------------------------------------------------------------------------------------------

// next = round(accumulator + (-1)**sign * magnitude * 2**shift), where shift counts from the accumulator's smallest
// subnormal. A window holds the addend, fixed, with room above for an accumulator that is larger and MANTISSA_BITS + 3
// bits below; what leaves the window at the bottom survives as a sticky bit.
template <int MAGNITUDE_BITS = 8, int SHIFT_BITS = 6, int EXPONENT_BITS = 8, int MANTISSA_BITS = 23,
          bool RESERVED_TOP = true>
struct float_accumulate {
  static constexpr int code_bits = 1 + EXPONENT_BITS + MANTISSA_BITS;
  static constexpr int low = MANTISSA_BITS + 3;    // window bits below the addend
  static constexpr int lift = MAGNITUDE_BITS + 2;  // highest place of the accumulator's last bit, from the addend's
  static constexpr int window = low + lift + MANTISSA_BITS + 2;  // the last one for the carry
  static constexpr int place_bits = larger(larger(SHIFT_BITS, EXPONENT_BITS + 1), clog2(window + 2) + 1) + 2;
  static constexpr int top_field = (1 << EXPONENT_BITS) - (RESERVED_TOP ? 2 : 1);
  using place_t = ap_int<place_bits>;

  static void step(ap_uint<code_bits> accumulator, ap_uint<1> sign, ap_uint<MAGNITUDE_BITS> magnitude,
                   ap_int<SHIFT_BITS> shift, ap_uint<code_bits>& next) {
#pragma HLS INLINE
    ap_uint<1> held_sign;
    ap_uint<MANTISSA_BITS + 1> held;
    ap_uint<EXPONENT_BITS> held_shift;
    minifloat_decode<EXPONENT_BITS, MANTISSA_BITS>::step(accumulator, held_sign, held, held_shift);

    // How far the accumulator stands above the addend; beyond `lift` the addend is only a sticky bit, as when zero.
    const place_t rise = place_t(held_shift) - place_t(shift);
    const bool lifted = rise > lift || magnitude == 0;
    const bool sunk = rise < -(low + MANTISSA_BITS + 1);
    const int right = lifted ? 0 : sunk ? window - 1 : lift - rise.to_int();
    // Placed below the carry, then shifted right; the bits that leave the window are collected.
    const ap_uint<window + MANTISSA_BITS> spread = (ap_uint<window + MANTISSA_BITS>(held) << (window - 1)) >> right;
    const ap_uint<window - 1> aligned = spread.range(window + MANTISSA_BITS - 1, MANTISSA_BITS + 1);
    const bool sticky = spread.range(MANTISSA_BITS, 0) != 0;

    const ap_int<window + 2> addend = ap_int<window + 2>(magnitude) << (low + 1);
    const ap_int<window + 2> other = (ap_int<window + 2>(aligned) << 1) + sticky;
    const bool subtract = sign != held_sign;
    const ap_int<window + 2> total = subtract ? ap_int<window + 2>(addend - other) : ap_int<window + 2>(addend + other);
    const bool negative = total < 0;
    const ap_uint<window + 1> absolute = magnitude_of(total);
    // The place of the window's lowest bit, and how far the leading one may rise before the result turns subnormal.
    const place_t lowest = lifted ? place_t(place_t(held_shift) - (low + lift)) : place_t(shift - low);
    const place_t room = lowest + (window - 1 - MANTISSA_BITS);
    next = rounded(sign ^ ap_uint<1>(negative), absolute, room);
  }

 private:
  // The code nearest to a window whose leading one may be shifted up by `room`, and is then normal.
  static ap_uint<code_bits> rounded(ap_uint<1> sign, ap_uint<window + 1> absolute, place_t room) {
#pragma HLS INLINE
    const int zeros = leading_zeros<window + 1>(absolute);
    const int left = zeros > room ? room.to_int() : zeros;
    const ap_uint<window + 1> normalised = absolute << left;
    const bool guard = normalised[window - MANTISSA_BITS - 1];
    const bool rest = normalised.range(window - MANTISSA_BITS - 2, 0) != 0;
    const bool up = guard && (rest || normalised[window - MANTISSA_BITS]);
    const place_t field = normalised[window] ? place_t(room - left + 1) : place_t(0);
    // Field and fraction as one number: a carry out of the fraction raises the field.
    const ap_uint<MANTISSA_BITS> fraction = normalised.range(window - 1, window - MANTISSA_BITS);
    const ap_int<place_bits + MANTISSA_BITS> code =
        (ap_int<place_bits + MANTISSA_BITS>(field) << MANTISSA_BITS) + fraction + up;
    constexpr int fraction_mask = (1 << MANTISSA_BITS) - 1;
    const ap_uint<code_bits - 1> largest = (ap_uint<code_bits - 1>(top_field) << MANTISSA_BITS) | fraction_mask;
    ap_uint<code_bits> result = code > ap_int<code_bits>(largest) ? largest : ap_uint<code_bits - 1>(code);
    result[code_bits - 1] = sign && absolute != 0;
    return result;
  }
};

// MAC of two floats: accumulator <= round((clear ? 0 : accumulator) + weight * activation). Biases are those of IEEE
// 754. FP16: E5M10 x E5M10 (finite inputs).
template <int WEIGHT_EXPONENT_BITS = 5, int WEIGHT_MANTISSA_BITS = 10, int ACTIVATION_EXPONENT_BITS = 5,
          int ACTIVATION_MANTISSA_BITS = 10, int ACCUMULATOR_EXPONENT_BITS = 8, int ACCUMULATOR_MANTISSA_BITS = 23,
          bool RESERVED_TOP = true>
struct float_mac {
  using multiplier = minifloat_multiplier<WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS, ACTIVATION_EXPONENT_BITS,
                                          ACTIVATION_MANTISSA_BITS>;
  static constexpr int weight_bits = multiplier::weight_bits, activation_bits = multiplier::activation_bits;
  static constexpr int code_bits = 1 + ACCUMULATOR_EXPONENT_BITS + ACCUMULATOR_MANTISSA_BITS;
  // Exponent of the product's unit minus that of the accumulator's.
  static constexpr int offset = lowest_place(WEIGHT_EXPONENT_BITS, WEIGHT_MANTISSA_BITS) +
                                lowest_place(ACTIVATION_EXPONENT_BITS, ACTIVATION_MANTISSA_BITS) -
                                lowest_place(ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS);
  static constexpr int shift_bits = larger(ACCUMULATOR_EXPONENT_BITS, multiplier::shift_bits) + 3;
  using adder = float_accumulate<multiplier::significand_bits, shift_bits, ACCUMULATOR_EXPONENT_BITS,
                                 ACCUMULATOR_MANTISSA_BITS, RESERVED_TOP>;
  ap_uint<code_bits> held = 0;

  void step(ap_uint<1> clear, ap_uint<weight_bits> weight, ap_uint<activation_bits> activation,
            ap_uint<code_bits>& accumulator) {
#pragma HLS INLINE
    ap_uint<1> sign;
    ap_uint<multiplier::significand_bits> significand;
    ap_uint<multiplier::shift_bits> shift;
    multiplier::step(weight, activation, sign, significand, shift);
    adder::step(clear ? ap_uint<code_bits>(0) : held, sign, significand, shift + offset, held);
    accumulator = held;
  }
};

// MAC of a two's complement weight and an FP16 activation (finite), as FIGNA, HPCA 2024, multiplies: no conversion
// of the weight, the integer significand product is exact; one rounding into the floating-point accumulator.
template <int WEIGHT_BITS = 4, int ACCUMULATOR_EXPONENT_BITS = 8, int ACCUMULATOR_MANTISSA_BITS = 23>
struct float_int_mac {
  static constexpr int code_bits = 1 + ACCUMULATOR_EXPONENT_BITS + ACCUMULATOR_MANTISSA_BITS;
  static constexpr int magnitude_bits = WEIGHT_BITS + 11;
  static constexpr int offset = lowest_place(5, 10) - lowest_place(ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS);
  static constexpr int shift_bits = larger(ACCUMULATOR_EXPONENT_BITS, 5) + 3;
  using adder = float_accumulate<magnitude_bits, shift_bits, ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS>;
  ap_uint<code_bits> held = 0;

  void step(ap_uint<1> clear, ap_int<WEIGHT_BITS> weight, ap_uint<16> activation, ap_uint<code_bits>& accumulator) {
#pragma HLS INLINE
    ap_uint<1> activation_sign;
    ap_uint<11> significand;
    ap_uint<5> activation_shift;
    minifloat_decode<5, 10>::step(activation, activation_sign, significand, activation_shift);
    const ap_uint<1> weight_sign = weight[WEIGHT_BITS - 1];
    const ap_uint<magnitude_bits> magnitude = magnitude_of(weight) * significand;
    adder::step(clear ? ap_uint<code_bits>(0) : held, weight_sign ^ activation_sign, magnitude,
                activation_shift + offset, held);
    accumulator = held;
  }
};

// --- arithmetic ------------------------------------------------------------------------------------------------------

// A float's code as float32, exactly: bias of IEEE 754, no infinities.
template <int EXPONENT_BITS, int MANTISSA_BITS>
float float_of_code(ap_uint<1 + EXPONENT_BITS + MANTISSA_BITS> code) {
#pragma HLS INLINE
  static_assert(EXPONENT_BITS <= 8 && MANTISSA_BITS <= 23, "the float must fit float32");
  if constexpr (EXPONENT_BITS == 8) {  // float32's own fields
    return float_of_bits(ap_uint<32>(code) << (23 - MANTISSA_BITS));
  } else {
    // zero keeps its sign: a small sum may have been rounded to -0
    return minifloat_value<EXPONENT_BITS, MANTISSA_BITS, float_bias(EXPONENT_BITS)>::decode(code);
  }
}

// How products are added: one rounding each, in order, into a float of the stated widths; overflow saturates. The sum
// is its code. FP16 is minifloat_number<5, 10>, BF16 <8, 7>.
template <class WEIGHT, class ACTIVATION, int EXPONENT_BITS = 8, int MANTISSA_BITS = 23>
struct rounded_products {
  using weight_t = WEIGHT;
  using activation_t = ACTIVATION;
  using product = number_product<WEIGHT, ACTIVATION>;
  static constexpr int unit_exponent = 0;
  static constexpr bool rounds = true;
  static constexpr int offset = product::unit_exponent - lowest_place(EXPONENT_BITS, MANTISSA_BITS);
  static constexpr int shift_bits = larger(EXPONENT_BITS, clog2(WEIGHT::max_shift + ACTIVATION::max_shift + 1)) + 3;
  using adder = float_accumulate<product::factor_bits, shift_bits, EXPONENT_BITS, MANTISSA_BITS>;
  using sum_t = ap_uint<1 + EXPONENT_BITS + MANTISSA_BITS>;

  static void add(sum_t& sum, const WEIGHT& weight, const ACTIVATION& activation) {
#pragma HLS INLINE
    const ap_int<product::factor_bits> factor = weight.factor * activation.factor;
    adder::step(sum, ap_uint<1>(factor < 0), magnitude_of(factor), weight.shift + activation.shift + offset, sum);
  }

  static float value(const sum_t& sum) { return float_of_code<EXPONENT_BITS, MANTISSA_BITS>(sum); }
};

// Products of any two kinds of numbers, one lane after the other, each rounded once.
template <class WEIGHT, class ACTIVATION, int LANES, int EXPONENT_BITS = 8, int MANTISSA_BITS = 23>
using float_arithmetic =
    number_arithmetic<rounded_products<WEIGHT, ACTIVATION, EXPONENT_BITS, MANTISSA_BITS>, LANES>;

}  // namespace codesign

#endif
