// Serial PEs: one operand arrives bit by bit or term by term, so that its width is a number of cycles, not of wires.
// All of them are exact. Twins of hls/rtl/serial.sv; BitMoD's are in bitmod.h.
#ifndef CODESIGN_SERIAL_H
#define CODESIGN_SERIAL_H

#include "codesign/arithmetic_traits.h"
#include "codesign/integer.h"
#include "codesign/types.h"

namespace codesign {

// --- PEs -------------------------------------------------------------------------------------------------------------

// Bit-serial dot product (Stripes, Judd et al., MICRO 2016; BISMO, Umuroglu et al., FPL 2018): each cycle brings one
// bit of each of LANES serial operands, most significant first, and the AND with the parallel operands is summed and
// shifted in. `first` marks the first bit (two's complement: subtracted if SERIAL_SIGNED), `last` the last. The
// finished dot product is added to the accumulator, or replaces it if `clear`, in the last cycle.
// ACCUMULATE = false leaves that second adder out: `accumulator` is then the running dot product of LANES products.
template <int PARALLEL_BITS = 8, int SERIAL_BITS = 8, bool SERIAL_SIGNED = true, int LANES = 16,
          int ACCUMULATOR_BITS = PARALLEL_BITS + SERIAL_BITS + 10, bool ACCUMULATE = true>
struct bit_serial_dot {
  static constexpr int sum_bits = PARALLEL_BITS + clog2(LANES);
  static constexpr int partial_bits = ACCUMULATE ? sum_bits + SERIAL_BITS : ACCUMULATOR_BITS;
  ap_int<partial_bits> partial = 0;
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> first, ap_uint<1> last, ap_uint<LANES> serial,
            ap_uint<LANES * PARALLEL_BITS> parallel_, ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_int<sum_bits> sum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_int<PARALLEL_BITS> value = lane_of<PARALLEL_BITS>(parallel_, lane);
      if (serial[lane]) sum += value;
    }
    add_plane(partial, sum, first);
    if (ACCUMULATE) {
      if (last) held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + partial;
      accumulator = held;
    } else {
      accumulator = partial;
    }
  }

  // Horner's rule over bit planes, most significant first; that one counts negative in two's complement.
  static void add_plane(ap_int<partial_bits>& partial, ap_int<sum_bits> sum, bool first) {
#pragma HLS INLINE
    const ap_int<partial_bits> shifted = first ? ap_int<partial_bits>(0) : ap_int<partial_bits>(partial << 1);
    partial = first && SERIAL_SIGNED ? shifted - sum : shifted + sum;
  }
};

// Both operands serial (Loom, Sharify et al., DAC 2018; BISMO): AND, popcount, shift by the bits' weight, accumulate.
// `shift` is the sum of the two bit positions, `negate` says that exactly one of the two planes is a sign plane.
template <int LANES = 16, int SHIFT_BITS = 4, int ACCUMULATOR_BITS = 32>
struct bit_bit_dot {
  static constexpr int count_bits = clog2(LANES + 1);
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<1> negate, ap_uint<SHIFT_BITS> shift, ap_uint<LANES> weight,
            ap_uint<LANES> activation, ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    if (clear) held = 0;
    const ap_uint<count_bits + (1 << SHIFT_BITS) - 1> placed = ones(weight & activation);
    held = negate ? held - (placed << shift) : held + (placed << shift);
    accumulator = held;
  }

  static ap_uint<count_bits> ones(ap_uint<LANES> bits) {
#pragma HLS INLINE
    ap_uint<count_bits> count = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      count += ap_uint<1>(bits[lane]);
    }
    return count;
  }
};

// Term-serial dot product (Pragmatic, Bitlet, BBS): each cycle brings one signed power of two of each of LANES weights
// (valid, sign, shift); the activation is shifted and added. Integer activations, exact.
template <int ACTIVATION_BITS = 8, int SHIFT_BITS = 3, int LANES = 4,
          int ACCUMULATOR_BITS = ACTIVATION_BITS + (1 << SHIFT_BITS) + 10>
struct term_serial_dot {
  static constexpr int term_bits = ACTIVATION_BITS + (1 << SHIFT_BITS);
  ap_int<ACCUMULATOR_BITS> held = 0;

  void step(ap_uint<1> clear, ap_uint<LANES> valid, ap_uint<LANES> sign, ap_uint<LANES * SHIFT_BITS> shift,
            ap_uint<LANES * ACTIVATION_BITS> activation, ap_int<ACCUMULATOR_BITS>& accumulator) {
#pragma HLS INLINE
    ap_int<term_bits + clog2(LANES)> sum = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const ap_int<ACTIVATION_BITS> a = lane_of<ACTIVATION_BITS>(activation, lane);
      sum += term(a, valid[lane], sign[lane], lane_of<SHIFT_BITS>(shift, lane));
    }
    held = (clear ? ap_int<ACCUMULATOR_BITS>(0) : held) + sum;
    accumulator = held;
  }

  // (-1)**sign * 2**shift times an activation, whose bit above its own is for unsigned ones; one more for its negation.
  static ap_int<term_bits + 1> term(ap_int<ACTIVATION_BITS + 1> activation, bool valid, bool sign,
                                    ap_uint<SHIFT_BITS> shift) {
#pragma HLS INLINE
    const ap_int<term_bits + 1> chosen = !valid ? ap_int<ACTIVATION_BITS + 2>(0)
                                         : sign ? ap_int<ACTIVATION_BITS + 2>(-activation)
                                                : ap_int<ACTIVATION_BITS + 2>(activation);
    return chosen << shift;
  }
};

// --- arithmetics -----------------------------------------------------------------------------------------------------

// All take `cycles()` cycles for a step. A kernel whose steps are pipelined calls add_cycle in each of them: a loop over
// cycles inside a step, as in accumulate, would be unrolled there.

// Integers, one side bit by bit: the weight (SERIAL_WEIGHT) or the activation (as Stripes). SUM_BITS holds the largest
// sum of a group.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, bool SERIAL_WEIGHT, int LANES, int SUM_BITS>
struct bit_serial_arithmetic {
  static constexpr int lanes = LANES, weight_bits = WEIGHT_BITS, activation_bits = ACTIVATION_BITS, selector_bits = 0;
  static constexpr int unit_exponent = 0;
  using sum_t = ap_int<SUM_BITS>;
  // The parallel side is signed: one bit more for unsigned activations.
  static constexpr int parallel_bits = SERIAL_WEIGHT ? ACTIVATION_BITS + ACTIVATION_UNSIGNED : WEIGHT_BITS;
  static constexpr int serial_bits = SERIAL_WEIGHT ? WEIGHT_BITS : ACTIVATION_BITS;
  using pe = bit_serial_dot<parallel_bits, serial_bits, SERIAL_WEIGHT || !ACTIVATION_UNSIGNED, LANES>;

  static void clear(sum_t& sum) { sum = 0; }
  static constexpr int cycles() { return serial_bits; }

  // Cycle `cycle` of a step, the most significant bit in the first; the last one adds the lanes' dot product to the sum.
  using cycle_t = ap_int<pe::partial_bits>;
  static void add_cycle(sum_t& sum, cycle_t& partial, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                        const ap_uint<ACTIVATION_BITS> (&a)[LANES], int cycle) {
#pragma HLS INLINE
    const int bit = cycles() - 1 - cycle;
    ap_int<pe::sum_bits> plane = 0;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      if constexpr (SERIAL_WEIGHT) {
        if (w[lane][bit]) plane += int_number<ACTIVATION_BITS, ACTIVATION_UNSIGNED>(a[lane]).factor;
      } else {
        if (a[lane][bit]) plane += ap_int<WEIGHT_BITS>(w[lane]);
      }
    }
    pe::add_plane(partial, plane, cycle == 0);
    if (bit == 0) sum += partial;
  }

  static void accumulate(sum_t& sum, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                         const ap_uint<ACTIVATION_BITS> (&a)[LANES], ap_uint<1>) {
#pragma HLS INLINE
    add_cycles<bit_serial_arithmetic>(sum, w, a, 0, no_registers(), cycles());
  }

  static float value(const sum_t& sum) { return float_of<SUM_BITS>(sum); }
};

// Integers, both sides bit by bit: a cycle for every pair of bit planes.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int LANES, int SUM_BITS>
struct bit_bit_arithmetic {
  static constexpr int lanes = LANES, weight_bits = WEIGHT_BITS, activation_bits = ACTIVATION_BITS, selector_bits = 0;
  static constexpr int unit_exponent = 0;
  using sum_t = ap_int<SUM_BITS>;

  static void clear(sum_t& sum) { sum = 0; }
  static constexpr int cycles() { return WEIGHT_BITS * ACTIVATION_BITS; }

  using cycle_t = no_cycle;
  static void add_cycle(sum_t& sum, cycle_t&, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                        const ap_uint<ACTIVATION_BITS> (&a)[LANES], int cycle) {
#pragma HLS INLINE
    const int weight_bit = cycle / ACTIVATION_BITS, activation_bit = cycle % ACTIVATION_BITS;
    ap_uint<LANES> both;
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      both[lane] = w[lane][weight_bit] & a[lane][activation_bit];
    }
    const sum_t placed = sum_t(bit_bit_dot<LANES>::ones(both)) << (weight_bit + activation_bit);
    const bool activation_sign = !ACTIVATION_UNSIGNED && activation_bit == ACTIVATION_BITS - 1;
    const bool negate = (weight_bit == WEIGHT_BITS - 1) != activation_sign;
    sum = negate ? sum - placed : sum + placed;
  }

  static void accumulate(sum_t& sum, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                         const ap_uint<ACTIVATION_BITS> (&a)[LANES], ap_uint<1>) {
#pragma HLS INLINE
    add_cycles<bit_bit_arithmetic>(sum, w, a, 0, no_registers(), cycles());
  }

  static float value(const sum_t& sum) { return float_of<SUM_BITS>(sum); }
};

// Radix-4 Booth digit `step` of a two's complement integer: its bits 2 step + 1, 2 step and 2 step - 1 (0 below bit 0).
// The digits 0, +-1 and +-2 as a signed power of two; `two` is its exponent.
template <int BITS>
struct booth_digit {
  bool valid, sign, two;

  booth_digit(ap_int<BITS> code, int step) {
#pragma HLS INLINE
    const ap_int<BITS + 2> extended = code;  // sign-extended for an odd number of bits
    const ap_uint<BITS + 3> padded = ap_uint<BITS + 3>(extended) << 1;
    const ap_uint<3> triplet = padded >> (2 * step);
    valid = triplet != 0 && triplet != 7;
    sign = triplet[2];
    two = triplet == 3 || triplet == 4;
  }
};

// Integer weights as radix-4 Booth digits, one a cycle, none skipped; integer activations.
template <int WEIGHT_BITS, int ACTIVATION_BITS, bool ACTIVATION_UNSIGNED, int LANES, int SUM_BITS>
struct term_serial_arithmetic {
  static constexpr int lanes = LANES, weight_bits = WEIGHT_BITS, activation_bits = ACTIVATION_BITS, selector_bits = 0;
  static constexpr int unit_exponent = 0;
  using sum_t = ap_int<SUM_BITS>;
  using pe = term_serial_dot<ACTIVATION_BITS, clog2(WEIGHT_BITS + 1), LANES>;

  static void clear(sum_t& sum) { sum = 0; }
  static constexpr int cycles() { return ceil_div(WEIGHT_BITS, 2); }

  using cycle_t = no_cycle;
  static void add_cycle(sum_t& sum, cycle_t&, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                        const ap_uint<ACTIVATION_BITS> (&a)[LANES], int cycle) {
#pragma HLS INLINE
  lanes:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const booth_digit<WEIGHT_BITS> digit(ap_int<WEIGHT_BITS>(w[lane]), cycle);
      const int_number<ACTIVATION_BITS, ACTIVATION_UNSIGNED> activation(a[lane]);
      sum += pe::term(activation.factor, digit.valid, digit.sign, 2 * cycle + digit.two);
    }
  }

  static void accumulate(sum_t& sum, const ap_uint<WEIGHT_BITS> (&w)[LANES],
                         const ap_uint<ACTIVATION_BITS> (&a)[LANES], ap_uint<1>) {
#pragma HLS INLINE
    add_cycles<term_serial_arithmetic>(sum, w, a, 0, no_registers(), cycles());
  }

  static float value(const sum_t& sum) { return float_of<SUM_BITS>(sum); }
};

}  // namespace codesign

#endif
