// Block dot products with shared scales: OCP MX (E8M0 scales, 32 elements) and NVFP4 (UE4M3 scales, 16 elements).
//
// LANES element pairs a cycle are summed exactly as integers; in the last cycle of a block the block's sum times the
// two scales is added, with one rounding, to a floating-point accumulator. A block takes BLOCK / LANES cycles: `first`
// marks its first cycle, `last` its last (both in one cycle if LANES = BLOCK); `clear` with `last` starts a new total.
// Scales are read in the last cycle and must be finite (E8M0 not 255). Twins of hls/rtl/block_dot.sv.
#ifndef CODESIGN_BLOCK_DOT_H
#define CODESIGN_BLOCK_DOT_H

#include <type_traits>

#include "codesign/float_accumulate.h"
#include "codesign/integer.h"
#include "codesign/minifloat.h"
#include "codesign/types.h"

namespace codesign {

// --- PEs -------------------------------------------------------------------------------------------------------------

// Sum over one block of MX minifloat elements, in units as in minifloat.h.
template <int EXPONENT_BITS = 2, int MANTISSA_BITS = 1, int LANES = 4, int BLOCK = 32>
struct minifloat_block_sum {
  using dot = minifloat_dot<EXPONENT_BITS, MANTISSA_BITS, EXPONENT_BITS, MANTISSA_BITS, LANES>;
  static constexpr int element_bits = 1 + EXPONENT_BITS + MANTISSA_BITS;
  static constexpr int sum_bits = 2 * ((1 << EXPONENT_BITS) + MANTISSA_BITS) - 1 + clog2(BLOCK);
  ap_int<sum_bits> partial = 0;

  void step(ap_uint<1> first, ap_uint<LANES * element_bits> weight, ap_uint<LANES * element_bits> activation,
            ap_int<sum_bits>& sum) {
#pragma HLS INLINE
    partial = (first ? ap_int<sum_bits>(0) : partial) + dot::lane_sum(weight, activation);
    sum = partial;
  }
};

// Sum over one block of integer elements (MXINT8: two's complement in units of 1/64).
template <int ELEMENT_BITS = 8, int LANES = 4, int BLOCK = 32>
struct int_block_sum {
  static constexpr int sum_bits = 2 * ELEMENT_BITS + clog2(BLOCK);
  int_dot<ELEMENT_BITS, ELEMENT_BITS, false, LANES, sum_bits> dot;

  void step(ap_uint<1> first, ap_uint<LANES * ELEMENT_BITS> weight, ap_uint<LANES * ELEMENT_BITS> activation,
            ap_int<sum_bits>& sum) {
#pragma HLS INLINE
    dot.step(first, weight, activation, sum);
  }
};

// MX block dot product into an FP32-like accumulator. EXPONENT_BITS = 0 means integer elements of 1 + MANTISSA_BITS
// bits in units of 2**(1 - MANTISSA_BITS) (MXINT8: MANTISSA_BITS = 7, units of 1/64).
template <int EXPONENT_BITS = 2, int MANTISSA_BITS = 1, int LANES = 4, int BLOCK = 32,
          int ACCUMULATOR_EXPONENT_BITS = 8, int ACCUMULATOR_MANTISSA_BITS = 23>
struct mx_block_dot {
  static constexpr bool integer = EXPONENT_BITS == 0;
  static constexpr int element_bits = 1 + EXPONENT_BITS + MANTISSA_BITS;
  using block_sum = std::conditional_t<integer, int_block_sum<element_bits, LANES, BLOCK>,
                                       minifloat_block_sum<larger(EXPONENT_BITS, 1), MANTISSA_BITS, LANES, BLOCK>>;
  static constexpr int sum_bits = block_sum::sum_bits;
  static constexpr int code_bits = 1 + ACCUMULATOR_EXPONENT_BITS + ACCUMULATOR_MANTISSA_BITS;
  // Exponent of two elements' units, of the E8M0 bias twice, and of the accumulator's smallest subnormal.
  static constexpr int unit = integer ? 1 - MANTISSA_BITS : lowest_place(larger(EXPONENT_BITS, 1), MANTISSA_BITS);
  static constexpr int offset = 2 * unit - 2 * 127 - lowest_place(ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS);
  static constexpr int shift_bits = larger(ACCUMULATOR_EXPONENT_BITS, 9) + 2;
  using adder = float_accumulate<sum_bits, shift_bits, ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS>;
  block_sum block;
  ap_uint<code_bits> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> first, ap_uint<1> last, ap_uint<LANES * element_bits> weight,
            ap_uint<LANES * element_bits> activation, ap_uint<8> weight_scale, ap_uint<8> activation_scale,
            ap_uint<code_bits>& accumulator) {
#pragma HLS INLINE
    ap_int<sum_bits> sum;
    block.step(first, weight, activation, sum);
    if (last) {
      adder::step(clear ? ap_uint<code_bits>(0) : held, ap_uint<1>(sum < 0), magnitude_of(sum),
                  weight_scale + activation_scale + offset, held);
    }
    accumulator = held;
  }
};

// NVFP4 block dot product: E2M1 elements, 16 a block; the scales' significands are multiplied into the block's sum.
template <int LANES = 4, int BLOCK = 16, int ACCUMULATOR_EXPONENT_BITS = 8, int ACCUMULATOR_MANTISSA_BITS = 23>
struct nvfp4_block_dot {
  using block_sum = minifloat_block_sum<2, 1, LANES, BLOCK>;
  using scales = minifloat_multiplier<4, 3, 4, 3>;
  static constexpr int sum_bits = block_sum::sum_bits;
  static constexpr int magnitude_bits = sum_bits + scales::significand_bits;
  static constexpr int code_bits = 1 + ACCUMULATOR_EXPONENT_BITS + ACCUMULATOR_MANTISSA_BITS;
  static constexpr int offset = 2 * lowest_place(2, 1) + 2 * lowest_place(4, 3) -
                                lowest_place(ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS);
  static constexpr int shift_bits = larger(ACCUMULATOR_EXPONENT_BITS, 5) + 2;
  using adder = float_accumulate<magnitude_bits, shift_bits, ACCUMULATOR_EXPONENT_BITS, ACCUMULATOR_MANTISSA_BITS>;
  block_sum block;
  ap_uint<code_bits> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> first, ap_uint<1> last, ap_uint<LANES * 4> weight,
            ap_uint<LANES * 4> activation, ap_uint<7> weight_scale, ap_uint<7> activation_scale,
            ap_uint<code_bits>& accumulator) {
#pragma HLS INLINE
    ap_int<sum_bits> sum;
    block.step(first, weight, activation, sum);
    if (last) {
      ap_uint<1> positive;
      ap_uint<scales::significand_bits> scale;
      ap_uint<scales::shift_bits> scale_shift;
      scales::step(weight_scale, activation_scale, positive, scale, scale_shift);
      const ap_uint<magnitude_bits> magnitude = magnitude_of(sum) * scale;
      adder::step(clear ? ap_uint<code_bits>(0) : held, ap_uint<1>(sum < 0), magnitude, scale_shift + offset, held);
    }
    accumulator = held;
  }
};

// --- arithmetics -----------------------------------------------------------------------------------------------------

// One block is one group: elements add exactly, the scales come from outside (E8M0 and UE4M3 are exact in float32).
// EXPONENT_BITS = 0: integer elements as in mx_block_dot.
template <int EXPONENT_BITS, int MANTISSA_BITS>
using mx_number =
    std::conditional_t<EXPONENT_BITS == 0, int_number<1 + MANTISSA_BITS, false, 1 - MANTISSA_BITS>,
                       minifloat_number<larger(EXPONENT_BITS, 1), MANTISSA_BITS>>;

template <int EXPONENT_BITS, int MANTISSA_BITS, int LANES, int BLOCK = 32>
using mx_arithmetic =
    minifloat_arithmetic<mx_number<EXPONENT_BITS, MANTISSA_BITS>, mx_number<EXPONENT_BITS, MANTISSA_BITS>, LANES,
                         number_product<mx_number<EXPONENT_BITS, MANTISSA_BITS>,
                                        mx_number<EXPONENT_BITS, MANTISSA_BITS>>::fixed_bits + clog2(BLOCK)>;

template <int LANES>
using nvfp4_arithmetic = mx_arithmetic<2, 1, LANES, 16>;

}  // namespace codesign

#endif
