// From float32 to codes of an activation format, and to scales as they are stored: datatypes.rounding and
// datatypes.scale, bit for bit. Rounding is to nearest, ties to the even code; overflow saturates; no NaN comes in.
#ifndef CODESIGN_QUANTIZERS_H
#define CODESIGN_QUANTIZERS_H

#include "codesign/fields.h"

namespace codesign {

// --- rounding -------------------------------------------------------------------------------------------------------

// The integer nearest to `y`, ties to even, as float32.
inline float round_even(float y) {
#pragma HLS INLINE
  const float magnitude = y < 0.0F ? -y : y;
  if (!(magnitude < 8388608.0F)) return y;  // 2**23: a float32 without fraction bits
  const int below = static_cast<int>(magnitude);
  const float rest = magnitude - static_cast<float>(below);
  const bool up = rest > 0.5F || (rest == 0.5F && (below & 1));
  const float whole = static_cast<float>(below + (up ? 1 : 0));
  return y < 0.0F ? -whole : whole;
}

// `value >> drop`, rounded to nearest, ties to even.
inline ap_uint<40> shifted_even(ap_uint<40> value, int drop) {
#pragma HLS INLINE
  if (drop <= 0) return value;
  if (drop > 39) return 0;
  const ap_uint<40> kept = value >> drop;
  const bool half = value[drop - 1];
  const bool rest = (value & ((ap_uint<40>(1) << (drop - 1)) - 1)) != 0;
  return kept + ((half && (rest || kept[0])) ? 1 : 0);
}

// Magnitude code of the minifloat nearest to |y|, at most TOP.
template <int EXPONENT_BITS, int MANTISSA_BITS, int BIAS, int TOP>
int minifloat_magnitude(float y) {
#pragma HLS INLINE
  static_assert(MANTISSA_BITS < 23 && EXPONENT_BITS <= 8, "a minifloat is shorter than float32");
  const ap_uint<32> bits = bits_of_float(y);
  const int exponent = static_cast<int>(ap_uint<8>(bits.range(30, 23)).to_uint());
  const ap_uint<23> fraction = bits.range(22, 0);
  const int field = exponent - 127 + BIAS;  // of the code, were it normal
  ap_uint<40> code;
  if (exponent == 0) {
    code = 0;  // a subnormal float32 is below half of every minifloat's smallest step
  } else if (field >= 1) {
    code = shifted_even((ap_uint<40>(field) << 23) | fraction, 23 - MANTISSA_BITS);
  } else {
    code = shifted_even((ap_uint<40>(1) << 23) | fraction, 23 - MANTISSA_BITS + 1 - field);
  }
  return code > TOP ? TOP : static_cast<int>(code.to_uint64());
}

// --- element formats ------------------------------------------------------------------------------------------------

// Integers MIN to MAX in units of 2**UNIT_EXPONENT; codes in two's complement, or unsigned where MIN is 0.
template <int BITS, int MIN, int MAX, int UNIT_EXPONENT = 0>
struct integer_quantizer {
  static constexpr int bits = BITS;
  static constexpr bool scaled = true;
  static constexpr float minimum = MIN * power_of_two(UNIT_EXPONENT), maximum = MAX * power_of_two(UNIT_EXPONENT);
  static constexpr float absmax = -minimum > maximum ? -minimum : maximum;
  static ap_uint<BITS> encode(float y) {
#pragma HLS INLINE
    constexpr float units = power_of_two(-UNIT_EXPONENT);
    float whole = round_even(y * units);
    whole = whole < MIN ? static_cast<float>(MIN) : whole > MAX ? static_cast<float>(MAX) : whole;
    return ap_uint<BITS>(ap_int<BITS + 1>(static_cast<int>(whole)));
  }
  static float value(ap_uint<BITS> code) {
#pragma HLS INLINE
    constexpr float unit = power_of_two(UNIT_EXPONENT);
    const int whole = MIN < 0 ? ap_int<BITS>(code).to_int() : static_cast<int>(code.to_uint());
    return static_cast<float>(whole < MIN ? MIN : whole) * unit;
  }
};

// ExMy with sign; TOP: code of the largest finite magnitude; NEGATIVE_ZERO: whether zero keeps its sign.
template <int EXPONENT_BITS, int MANTISSA_BITS, int BIAS, int TOP, bool NEGATIVE_ZERO = true, bool SCALED = true>
struct minifloat_quantizer {
  using value_t = minifloat_value<EXPONENT_BITS, MANTISSA_BITS, BIAS>;
  static constexpr int bits = 1 + EXPONENT_BITS + MANTISSA_BITS;
  static constexpr bool scaled = SCALED;
  static constexpr int top_field = TOP >> MANTISSA_BITS, top_fraction = TOP & ((1 << MANTISSA_BITS) - 1);
  static constexpr float maximum = (top_field ? top_fraction + (1 << MANTISSA_BITS) : top_fraction) *
                                   power_of_two((top_field ? top_field : 1) - BIAS - MANTISSA_BITS);
  static constexpr float minimum = -maximum, absmax = maximum;
  static ap_uint<bits> encode(float y) {
#pragma HLS INLINE
    const int magnitude = minifloat_magnitude<EXPONENT_BITS, MANTISSA_BITS, BIAS, TOP>(y);
    const bool negative = bits_of_float(y)[31] && (NEGATIVE_ZERO || magnitude != 0);
    return magnitude | (negative ? 1 << (bits - 1) : 0);
  }
  static float value(ap_uint<bits> code) { return value_t::decode(code); }
};

// FP16 as it is: activations that the layer does not quantize. Overflow saturates.
using fp16_quantizer = minifloat_quantizer<5, 10, 15, 0x7BFF, true, false>;

// Any other table: TABLE holds `bits`, `levels` (count), `threshold(i)` for i < levels - 1: what is at or above it goes
// to level i + 1 or higher, `code(i)` of level i, `decode(code)`, `absmax`, `minimum` and `maximum`.
template <class TABLE>
struct table_quantizer {
  static constexpr int bits = TABLE::bits;
  static constexpr bool scaled = true;
  static constexpr float absmax = TABLE::absmax, minimum = TABLE::minimum, maximum = TABLE::maximum;
  static ap_uint<bits> encode(float y) {
#pragma HLS INLINE
    int level = 0;
  thresholds:
    for (int i = 0; i < TABLE::levels - 1; ++i) {
#pragma HLS UNROLL
      if (y >= TABLE::threshold(i)) level = i + 1;
    }
    return TABLE::code(level);
  }
  static float value(ap_uint<bits> code) { return TABLE::decode(static_cast<int>(code.to_uint())); }
};

// --- scales as they are stored --------------------------------------------------------------------------------------

// datatypes.scale.store_positive: a scale, zero or more, in its format; none of them zero.
template <class VALUE>
struct stored_scale;

template <>
struct stored_scale<fp32_value> {
  static ap_uint<32> encode(float scale) {
    const ap_uint<32> bits = bits_of_float(scale);
    if (bits == 0) return 1;                     // the smallest subnormal
    return bits > 0x7F7FFFFF ? ap_uint<32>(0x7F7FFFFF) : bits;  // the largest finite value
  }
};

template <>
struct stored_scale<bf16_value> {
  static ap_uint<16> encode(float scale) {
    const ap_uint<40> code = shifted_even(ap_uint<40>(bits_of_float(scale)), 16);
    return code == 0 ? ap_uint<16>(1) : code > 0x7F7F ? ap_uint<16>(0x7F7F) : ap_uint<16>(code);
  }
};

template <int EXPONENT_BITS, int MANTISSA_BITS, int BIAS, bool SIGNED, int BITS>
struct stored_scale<minifloat_value<EXPONENT_BITS, MANTISSA_BITS, BIAS, SIGNED, BITS>> {
  // FP16 keeps its top exponent free (IEEE 754); an 8-bit scale's code of all ones is NaN (OFP8's E4M3)
  static constexpr int top =
      BITS == 16 ? (((1 << EXPONENT_BITS) - 1) << MANTISSA_BITS) - 1 : (1 << (EXPONENT_BITS + MANTISSA_BITS)) - 2;
  static ap_uint<BITS> encode(float scale) {
    const int code = minifloat_magnitude<EXPONENT_BITS, MANTISSA_BITS, BIAS, top>(scale);
    return code == 0 ? 1 : code;
  }
};

template <int BITS, int UNIT_EXPONENT>
struct stored_scale<integer_value<BITS, false, UNIT_EXPONENT>> {
  static ap_uint<BITS> encode(float scale) {
    constexpr float units = power_of_two(-UNIT_EXPONENT), top = static_cast<float>((1 << BITS) - 1);
    const float whole = round_even(scale * units);
    return whole < 1.0F ? 1 : whole > top ? (1 << BITS) - 1 : static_cast<int>(whole);
  }
};

template <int BITS, int BIAS>
struct stored_scale<exponent_value<BITS, BIAS>> {
  // the power of two at or below the scale, code 0 to the one below NaN
  static ap_uint<BITS> encode(float scale) {
    const ap_uint<32> bits = bits_of_float(scale);
    int exponent = static_cast<int>(ap_uint<8>(bits.range(30, 23)).to_uint());
    if (exponent == 0) {
      const ap_uint<23> fraction = bits.range(22, 0);
      exponent = -149 + 22 - leading_zeros<23>(fraction);
    } else {
      exponent -= 127;
    }
    const int code = exponent + BIAS, top = (1 << BITS) - 2;
    return code < 0 ? 0 : code > top ? top : code;
  }
};

}  // namespace codesign

#endif
