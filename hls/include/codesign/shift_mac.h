// Formats that decode to a small integer and a shift, and the MACs that multiply the integers and add the shifts:
// flint (ANT, Guo et al., MICRO 2022, section 4), outlier-victim pairs (OliVe, Guo et al., ISCA 2023, sections 3.1 to
// 3.3), and Tender's accumulator with its one-bit shift (Lee et al., ISCA 2024, section IV). All of them are exact.
// Twins of hls/rtl/shift_mac.sv. ANT's powers of two are a table of codebook.h.
#ifndef CODESIGN_SHIFT_MAC_H
#define CODESIGN_SHIFT_MAC_H

#include <type_traits>

#include "codesign/integer.h"
#include "codesign/minifloat.h"
#include "codesign/products.h"
#include "codesign/types.h"

namespace codesign {

// --- PEs -------------------------------------------------------------------------------------------------------------

// Unsigned flint of BITS bits: a leading zero says integer; after a leading one, the number of zeros that follow is
// the exponent and what lies below the next one the mantissa. The number is value << shift with value < 2**(BITS-1).
template <int BITS = 3>
struct flint_decode {
  static constexpr int shift_bits = clog2(BITS + 1);

  static void step(ap_uint<BITS> code, ap_uint<BITS - 1>& value, ap_uint<shift_bits>& shift) {
#pragma HLS INLINE
    const ap_uint<BITS - 1> rest = code.range(BITS - 2, 0);
    if (!code[BITS - 1]) {
      value = rest;
      shift = 0;
    } else {
      // The number is (1 + fraction) * 2**(BITS - 1 + zeros). rest, shifted up by zeros, is the fraction with its
      // leading one at BITS - 2: that one is worth 2**(BITS - 1 + zeros), so the integer counts in 2**(zeros + 1).
      const int zeros = leading_zeros<BITS - 1>(rest);
      value = rest == 0 ? ap_uint<BITS - 1>(1 << (BITS - 2)) : ap_uint<BITS - 1>(rest << zeros);
      shift = zeros + 1;
    }
  }
};

// A flint as a number: a sign above BITS - 1 bits of unsigned flint, or UNSIGNED and no sign.
template <int BITS, bool UNSIGNED = false>
struct flint_number {
  static constexpr int bits = BITS;
  static constexpr int magnitude_bits = UNSIGNED ? BITS : BITS - 1;
  static constexpr int factor_bits = magnitude_bits;  // the decoder's value has one bit less
  static constexpr int max_shift = magnitude_bits;
  static constexpr int unit_exponent = 0;
  ap_int<factor_bits> factor;
  ap_uint<clog2(magnitude_bits + 1)> shift;

  explicit flint_number(ap_uint<BITS> code) {
#pragma HLS INLINE
    ap_uint<magnitude_bits - 1> value;
    flint_decode<magnitude_bits>::step(code.range(magnitude_bits - 1, 0), value, shift);
    const bool negative = !UNSIGNED && code[BITS - 1];
    factor = negative ? ap_int<factor_bits>(-value) : ap_int<factor_bits>(value);
  }
};

// Dot product of LANES numbers (products.h) on both sides: integers multiplied, shifts added, integer accumulator.
template <class WEIGHT, class ACTIVATION, int LANES, int ACCUMULATOR_BITS>
struct number_dot {
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<LANES * WEIGHT::bits> weight, ap_uint<LANES * ACTIVATION::bits> activation,
            ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_int<ACCUMULATOR_BITS> sum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const WEIGHT w(lane_of<WEIGHT::bits>(weight, lane));
      const ACTIVATION a(lane_of<ACTIVATION::bits>(activation, lane));
      exact_products<WEIGHT, ACTIVATION, ACCUMULATOR_BITS>::add(sum, w, a);
    }
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + sum;
    accumulator = held;
  }
};

// Sign and unsigned flint of BITS - 1 bits, times a two's complement activation.
template <int BITS = 4, int ACTIVATION_BITS = 8, int LANES = 1, int ACCUMULATOR_BITS = 2 * BITS + ACTIVATION_BITS + 7>
struct flint_int_dot : number_dot<flint_number<BITS>, int_number<ACTIVATION_BITS>, LANES, ACCUMULATOR_BITS> {};

// Two signed flints of BITS bits: the integers are multiplied and the shifts added (ANT's PE).
template <int BITS = 4, int LANES = 1, int ACCUMULATOR_BITS = 4 * BITS + 8>
struct flint_flint_dot : number_dot<flint_number<BITS>, flint_number<BITS>, LANES, ACCUMULATOR_BITS> {};

// One OliVe pair (low nibble first element) to two signed 4-bit integers and shifts. The identifier nibble 1000 is a
// victim (zero) and says that the other nibble is an abfloat: sign, 2-bit e, 1-bit m: (2 + m) << (e + bias).
// FLINT: normal nibbles are signed flint4 (bias 3), else int4 (bias 2).
template <bool FLINT = false>
struct olive_decode {
  static constexpr int bias = FLINT ? 3 : 2;
  static constexpr int max_shift = bias + 3;

  static void step(ap_uint<8> pair, ap_int<4>& first, ap_uint<3>& first_shift, ap_int<4>& second,
                   ap_uint<3>& second_shift) {
#pragma HLS INLINE
    const ap_uint<4> low = pair.range(3, 0), high = pair.range(7, 4);
    element(low, high, first, first_shift);
    element(high, low, second, second_shift);
  }

 private:
  static void element(ap_uint<4> nibble, ap_uint<4> neighbour, ap_int<4>& value, ap_uint<3>& shift) {
#pragma HLS INLINE
    constexpr int identifier = 0b1000;
    if (neighbour == identifier) {
      // The code e = m = 0 is never produced; every decoder reads it as e = 0, m = 1.
      const ap_uint<1> mantissa = nibble[0] | (nibble.range(2, 0) == 0);
      const ap_int<4> magnitude = 2 + mantissa;
      value = nibble[3] ? ap_int<4>(-magnitude) : magnitude;
      shift = bias + nibble.range(2, 1);
    } else if (FLINT) {
      const flint_number<4> number(nibble);
      value = number.factor;
      shift = number.shift;
    } else {
      value = nibble;
      shift = 0;
    }
    if (nibble == identifier) value = 0;
  }
};

// An element of a pair as a number, and the two of a pair.
template <bool FLINT>
struct olive_number {
  static constexpr int bits = 8;  // of the pair
  static constexpr int factor_bits = 4, max_shift = olive_decode<FLINT>::max_shift, unit_exponent = 0;
  ap_int<4> factor;
  ap_uint<3> shift;
};

template <bool FLINT>
struct olive_pair {
  olive_number<FLINT> first, second;

  explicit olive_pair(ap_uint<8> pair) {
#pragma HLS INLINE
    olive_decode<FLINT>::step(pair, first.factor, first.shift, second.factor, second.shift);
  }
};

// Dot product of LANES (even) OliVe elements on both sides: integers multiplied, shifts added, integer accumulator.
template <bool FLINT = false, int LANES = 2, int ACCUMULATOR_BITS = 32>
struct olive_dot {
  static_assert(LANES % 2 == 0, "OliVe's elements come in pairs");
  using products = exact_products<olive_number<FLINT>, olive_number<FLINT>, ACCUMULATOR_BITS>;
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<LANES * 4> weight, ap_uint<LANES * 4> activation,
            ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_int<ACCUMULATOR_BITS> sum = 0;
  pairs:
    for (int pair = 0; pair < LANES / 2; ++pair) {
#pragma HLS UNROLL
      const olive_pair<FLINT> w(lane_of<8>(weight, pair)), a(lane_of<8>(activation, pair));
      products::add(sum, w.first, a.first);
      products::add(sum, w.second, a.second);
    }
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + sum;
    accumulator = held;
  }
};

// Tender: channel groups run from the largest scale to the smallest; between groups one bubble cycle with `rescale`
// doubles the accumulator and adds nothing, otherwise as int_dot.
template <int WEIGHT_BITS = 4, int ACTIVATION_BITS = 4, bool ACTIVATION_UNSIGNED = false, int LANES = 1,
          int ACCUMULATOR_BITS = 32>
struct tender_dot {
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> rescale, ap_uint<LANES * WEIGHT_BITS> weight,
            ap_uint<LANES * ACTIVATION_BITS> activation, ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    const ap_int<ACCUMULATOR_BITS> sum =
        int_dot<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, LANES>::lane_sum(weight, activation);
    // The same adder does both: accumulator + sum, or accumulator + accumulator.
    const ap_int<ACCUMULATOR_BITS> addend = rescale ? held : sum;
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + addend;
    accumulator = held;
  }
};

// --- arithmetics -----------------------------------------------------------------------------------------------------

// Flint weights; ACTIVATION: flint_number (ANT), int_number or minifloat_number.
template <int BITS, class ACTIVATION, int LANES,
          int SUM_BITS = number_product<flint_number<BITS>, ACTIVATION>::fixed_bits + 16>
using flint_arithmetic = minifloat_arithmetic<flint_number<BITS>, ACTIVATION, LANES, SUM_BITS>;

// OliVe pairs. PRODUCTS (products.h) is of olive_number<FLINT> and an activation: olive_number too, for pairs on both
// sides, or a number of one code each.
template <bool FLINT, class PRODUCTS, int LANES>
struct olive_arithmetic {
  static_assert(LANES % 2 == 0, "OliVe's elements come in pairs");
  using activation_t = typename PRODUCTS::activation_t;
  static constexpr bool pairs = std::is_same<activation_t, olive_number<FLINT>>::value;
  static constexpr int lanes = LANES, weight_bits = 8, activation_bits = activation_t::bits;
  static constexpr int selector_bits = 0, weight_elements = 2, activation_elements = pairs ? 2 : 1;
  static constexpr int unit_exponent = PRODUCTS::unit_exponent;
  static constexpr bool rounds = PRODUCTS::rounds;
  using sum_t = typename PRODUCTS::sum_t;

  static void clear(sum_t& sum) { sum = 0; }

  static void accumulate(sum_t& sum, const ap_uint<8> (&w)[LANES / 2],
                         const ap_uint<activation_bits> (&a)[LANES / activation_elements], ap_uint<1>) {
#pragma HLS INLINE
  pairs_added:
    for (int pair = 0; pair < LANES / 2; ++pair) {
#pragma HLS UNROLL
      const olive_pair<FLINT> weight(w[pair]);
      if constexpr (pairs) {
        const olive_pair<FLINT> activation(a[pair]);
        PRODUCTS::add(sum, weight.first, activation.first);
        PRODUCTS::add(sum, weight.second, activation.second);
      } else {
        PRODUCTS::add(sum, weight.first, activation_t(a[2 * pair]));
        PRODUCTS::add(sum, weight.second, activation_t(a[2 * pair + 1]));
      }
    }
  }

  static float value(const sum_t& sum) { return PRODUCTS::value(sum); }
};

// Tender: slabs of channels, largest scale first; `rescale` between two slabs. SUM_BITS must hold the largest sum of
// a row, in the unit of the last slab.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int LANES, int SUM_BITS = 32,
          int_mapping MAPPING = int_mapping::automatic>
struct tender_arithmetic
    : int_arithmetic<WEIGHT_BITS, ACTIVATION_BITS, ACTIVATION_UNSIGNED, LANES, SUM_BITS, MAPPING> {
  static constexpr bool rescales = true;
  static void rescale(ap_int<SUM_BITS>& sum) { sum = sum << 1; }
};

}  // namespace codesign

#endif
