// BitMoD's bit-serial PE (Chen et al., HPCA 2025, section IV and figure 5); bit for bit what
// hwmodel.pe_functional computes with its default datapath (lanes aligned to their own maximum, truncation, no
// rounding), in as many cycles. Twins of hls/rtl/bitmod.sv.
//
// A term is (-1)**sign * 2**(exponent + significance): sign, 2-bit exponent and `valid` of each lane's own, the
// significance shared by the lanes of a cycle. Encoders sit at the array's edge, one a lane and column.
// bitmod_format.h: the register that says what they decode, and scales; bitmod_array.h: the array, and arithmetics.
#ifndef CODESIGN_BITMOD_H
#define CODESIGN_BITMOD_H

#include "codesign/serial.h"
#include "codesign/types.h"

namespace codesign {

// --- term encoder ----------------------------------------------------------------------------------------------------

// One term of one weight in one cycle.
struct bitmod_term {
  bool valid, sign;
  ap_uint<2> exponent;
};

// Terms of one weight. FLOAT: FP4 (E2M1) or, with `three_bits`, FP3 in the low bits of `code`; the code of -0 means the
// special value that `selector` picks out of four (6 bits each: sign, then I3 I2 I1 I0 F0; number 0 lowest). Otherwise
// a two's complement integer, sign-extended to 8 bits, in radix-4 Booth digits. `step` counts the cycles: 0 and 1 for
// FP3, FP4 and INT4, to 2 for INT6, to 3 for INT8.
struct bitmod_term_encoder {
  static void step(ap_uint<1> floating, ap_uint<1> three_bits, ap_uint<8> code, ap_uint<2> step, ap_uint<2> selector,
                   ap_uint<24> specials, ap_uint<1>& valid, ap_uint<1>& sign, ap_uint<2>& exponent,
                   ap_uint<3>& significance) {
#pragma HLS INLINE
    const bitmod_term term = encode(floating, three_bits, code, step, selector, specials);
    valid = term.valid;
    sign = term.sign;
    exponent = term.exponent;
    significance = significance_of(floating, step);
  }

  static ap_uint<3> significance_of(bool floating, ap_uint<2> step) {
#pragma HLS INLINE
    return floating ? ap_uint<3>(step) : ap_uint<3>(2 * step);
  }

  static bitmod_term encode(bool floating, bool three_bits, ap_uint<8> code, ap_uint<2> step, ap_uint<2> selector,
                            ap_uint<24> specials) {
#pragma HLS INLINE
    if (!floating) {
      const booth_digit<8> digit(ap_int<8>(code), step);
      return {digit.valid, digit.sign, digit.two};
    }
    bool sign = three_bits ? code[2] : code[3];
    const ap_uint<3> index = three_bits ? ap_uint<3>(code.range(1, 0)) : ap_uint<3>(code.range(2, 0));
    ap_uint<5> fixed = three_bits ? magnitude3(index) : magnitude4(index);
    if (sign && index == 0) {
      const ap_uint<6> special = lane_of<6>(specials, selector.to_uint());
      sign = special[5];
      fixed = special.range(4, 0);
    }
    // The leading one of I3..I0 is the term of significance 1; what is left of it, in I2..F0, that of significance 0.
    const ap_uint<4> high = fixed.range(4, 1);
    const int high_zeros = leading_zeros<4>(high);
    if (high != 0) fixed[4 - high_zeros] = 0;
    const ap_uint<4> window = step == 0 ? ap_uint<4>(fixed.range(3, 0)) : high;
    const bool valid = step < 2 && window != 0;
    const int zeros = step == 0 ? leading_zeros<4>(window) : high_zeros;
    return {valid, sign, valid ? ap_uint<2>(3 - zeros) : ap_uint<2>(0)};
  }

 private:
  // Magnitudes in halves, I3 I2 I1 I0 F0.
  static ap_uint<5> magnitude3(ap_uint<3> index) {  // 0 1 2 4
#pragma HLS INLINE
    return index == 0 ? ap_uint<5>(0) : ap_uint<5>(ap_uint<5>(1) << index);
  }
  static ap_uint<5> magnitude4(ap_uint<3> index) {  // 0 0.5 1 1.5 2 3 4 6
#pragma HLS INLINE
    return index < 5 ? ap_uint<5>(index) : index == 5 ? ap_uint<5>(6) : index == 6 ? ap_uint<5>(8) : ap_uint<5>(12);
  }
};

// --- PEs -------------------------------------------------------------------------------------------------------------

// The largest of LANES unsigned values.
template <int LANES = 4, int WIDTH = 6>
struct maximum_tree {
  static void step(ap_uint<LANES * WIDTH> values, ap_uint<WIDTH>& maximum) {
#pragma HLS INLINE
    maximum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_uint<WIDTH> value = lane_of<WIDTH>(values, lane);
      if (value > maximum) maximum = value;
    }
  }
};

// The terms of LANES weights, as the ports of a PE bring them.
template <int LANES>
void bitmod_terms_of(ap_uint<LANES> valid, ap_uint<LANES> sign, ap_uint<LANES * 2> exponent,
                     bitmod_term (&terms)[LANES]) {
#pragma HLS INLINE
lanes:
  for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
    terms[lane] = {valid[lane], sign[lane], lane_of<2>(exponent, lane)};
  }
}

// What a group accumulator holds: mantissa * 2**exponent in its unit.
template <int MANTISSA_BITS>
struct bitmod_sum {
  ap_int<MANTISSA_BITS> mantissa = 0;
  ap_uint<6> exponent = 0;
};

// Steps 1 to 3 with FP16 activations (finite): exponent match, multiply, group accumulate. `clear` with the first term
// of a group. The group's sum is mantissa * 2**(exponent - 15 - 10 - GUARD_BITS) in the unit of significance 0.
template <int LANES = 4, int GUARD_BITS = 3, int MANTISSA_BITS = 15>
struct bitmod_group_accumulator {
  static constexpr int activation_bits = 16;
  static constexpr int aligned_bits = 11 + GUARD_BITS;
  static constexpr int dot_bits = aligned_bits + 1 + clog2(LANES);
  static constexpr int shifted_bits = dot_bits + 6;
  static constexpr int total_bits = larger(shifted_bits, MANTISSA_BITS) + 1;
  using sum_t = bitmod_sum<MANTISSA_BITS>;
  sum_t held;

  void step(ap_uint<1> clear, ap_uint<LANES * 16> activation, ap_uint<LANES> valid, ap_uint<LANES> sign,
            ap_uint<LANES * 2> term_exponent, ap_uint<3> significance, ap_int<MANTISSA_BITS>& mantissa,
            ap_uint<6>& exponent) {
#pragma HLS INLINE
    ap_uint<16> activations[LANES];
    bitmod_term terms[LANES];
    lanes_of<16, LANES>(activation, activations);
    bitmod_terms_of<LANES>(valid, sign, term_exponent, terms);
    if (clear) held = sum_t();
    add(held, activations, terms, significance);
    mantissa = held.mantissa;
    exponent = held.exponent;
  }

  static void add(sum_t& sum, const ap_uint<16> (&activation)[LANES], const bitmod_term (&term)[LANES],
                  ap_uint<3> significance) {
#pragma HLS INLINE
    // 1: exponents of the lanes, biased, 1 for subnormals; lanes without a term take part in the maximum.
    ap_uint<LANES * 6> exponents;
  exponent_match:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_uint<5> field = activation[lane].range(14, 10);
      exponents.range(6 * lane + 5, 6 * lane) = (field == 0 ? ap_uint<6>(1) : ap_uint<6>(field)) + term[lane].exponent;
    }
    ap_uint<6> top;
    maximum_tree<LANES, 6>::step(exponents, top);

    // 2: significands shifted down to that maximum, signed and summed.
    ap_int<dot_bits> dot = 0;
  multiply:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_uint<16> x = activation[lane];
      ap_uint<aligned_bits> significand = 0;
      if (term[lane].valid) {
        significand.range(aligned_bits - 2, GUARD_BITS) = x.range(9, 0);
        significand[aligned_bits - 1] = x.range(14, 10) != 0;
      }
      const ap_uint<6> distance = top - lane_of<6>(exponents, lane);
      const ap_uint<aligned_bits> aligned = significand >> distance;
      dot = x[15] != term[lane].sign ? ap_int<dot_bits>(dot - aligned) : ap_int<dot_bits>(dot + aligned);
    }
    const ap_int<shifted_bits> shifted = ap_int<shifted_bits>(dot) << significance;

    // 3: whichever of sum and accumulator has the lower exponent is shifted down; gone entirely, it is 0, not -1.
    const bool ahead = sum.exponent > top;
    const ap_uint<6> gap = ahead ? ap_uint<6>(sum.exponent - top) : ap_uint<6>(top - sum.exponent);
    const ap_int<total_bits> moved = ahead ? ap_int<total_bits>(shifted) : ap_int<total_bits>(sum.mantissa);
    const ap_int<total_bits> kept = ahead ? ap_int<total_bits>(sum.mantissa) : ap_int<total_bits>(shifted);
    const bool lost = gap > (ahead ? shifted_bits - 2 : MANTISSA_BITS - 2);
    const ap_int<total_bits> down = lost ? ap_int<total_bits>(0) : ap_int<total_bits>(moved >> gap);
    const ap_int<total_bits> total = kept + down;

    // Shifted right by as many magnitude bits as lie beyond the mantissa; never left.
    constexpr int beyond_bits = total_bits - MANTISSA_BITS + 1;
    const ap_uint<beyond_bits> beyond = magnitude_of(total).range(total_bits - 1, MANTISSA_BITS - 1);
    const int length = beyond_bits - leading_zeros<beyond_bits>(beyond);
    sum.mantissa = total >> length;
    sum.exponent = (ahead ? sum.exponent : top) + length;
  }
};

// The same terms with INT8 activations: shifts instead of alignment, an exact integer group sum. ACCUMULATOR_BITS:
// INT8 x INT8 over a group of 128 has 23 bits, and the sign of -128 * -128.
template <int LANES = 4, int ACTIVATION_BITS = 8, int ACCUMULATOR_BITS = 24>
struct bitmod_int_accumulator {
  static constexpr int activation_bits = ACTIVATION_BITS;
  static constexpr int term_bits = ACTIVATION_BITS + 4;  // one more for -(-128), three for the exponent
  using sum_t = bitmod_sum<ACCUMULATOR_BITS>;            // whose exponent stays 0
  sum_t held;

  void step(ap_uint<1> clear, ap_uint<LANES * ACTIVATION_BITS> activation, ap_uint<LANES> valid, ap_uint<LANES> sign,
            ap_uint<LANES * 2> term_exponent, ap_uint<3> significance, ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_uint<ACTIVATION_BITS> activations[LANES];
    bitmod_term terms[LANES];
    lanes_of<ACTIVATION_BITS, LANES>(activation, activations);
    bitmod_terms_of<LANES>(valid, sign, term_exponent, terms);
    if (clear) held = sum_t();
    add(held, activations, terms, significance);
    accumulator = held.mantissa;
  }

  static void add(sum_t& sum, const ap_uint<ACTIVATION_BITS> (&activation)[LANES], const bitmod_term (&term)[LANES],
                  ap_uint<3> significance) {
#pragma HLS INLINE
    ap_int<term_bits + clog2(LANES)> dot = 0;
  lanes_added:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_int<ACTIVATION_BITS> a = activation[lane];
      const ap_int<term_bits> wide = a;
      const ap_int<term_bits> placed = wide << term[lane].exponent;
      if (term[lane].valid) dot = term[lane].sign ? dot - placed : dot + placed;
    }
    sum.mantissa += ap_int<ACCUMULATOR_BITS>(dot) << significance;
  }
};

// Step 4: mantissa * scale, one bit of the scale a cycle, lowest first; the upper PRODUCT_BITS of the product, rounded
// down. `start` comes with the first bit and the mantissa; the product is there after SCALE_BITS edges. Bits that leave
// at the bottom are final, so dropping them early is rounding down.
template <int MANTISSA_BITS = 15, int SCALE_BITS = 8, int PRODUCT_BITS = 21>
struct bitmod_dequantizer {
  static constexpr int low_bits = PRODUCT_BITS - MANTISSA_BITS;
  static_assert(low_bits >= 1 && low_bits <= SCALE_BITS, "a bit of the product leaves at the bottom in each cycle");
  ap_int<MANTISSA_BITS> held = 0, high = 0;
  ap_uint<low_bits> low = 0;
  ap_uint<6> held_exponent = 0;

  void step(ap_uint<1> start, ap_uint<1> scale_bit, ap_int<MANTISSA_BITS> mantissa, ap_uint<6> exponent,
            ap_int<PRODUCT_BITS>& product, ap_uint<6>& product_exponent) {
#pragma HLS INLINE
    if (start) {
      held = mantissa;
      held_exponent = exponent;
      high = 0;
    }
    const ap_int<MANTISSA_BITS + 1> sum = high + (scale_bit ? held : ap_int<MANTISSA_BITS>(0));
    high = sum >> 1;
    low = low >> 1;
    low[low_bits - 1] = sum[0];
    product = (ap_int<PRODUCT_BITS>(high) << low_bits) | low;
    product_exponent = held_exponent;
  }
};

// The whole PE: group accumulator and dequantizer, which takes over a finished group with `hand_over` (in the cycle
// after the group's last term) while the next group runs.
template <int LANES = 4>
struct bitmod_pe {
  bitmod_group_accumulator<LANES> accumulator;
  bitmod_dequantizer<> dequantizer;

  void step(ap_uint<1> clear, ap_uint<LANES * 16> activation, ap_uint<LANES> valid, ap_uint<LANES> sign,
            ap_uint<LANES * 2> term_exponent, ap_uint<3> significance, ap_uint<1> hand_over, ap_uint<1> scale_bit,
            ap_int<21>& product, ap_uint<6>& product_exponent) {
#pragma HLS INLINE
    // What the accumulator held before this clock edge is what is handed over.
    dequantizer.step(hand_over, scale_bit, accumulator.held.mantissa, accumulator.held.exponent, product,
                     product_exponent);
    ap_int<15> mantissa;
    ap_uint<6> exponent;
    accumulator.step(clear, activation, valid, sign, term_exponent, significance, mantissa, exponent);
  }
};

}  // namespace codesign

#endif
