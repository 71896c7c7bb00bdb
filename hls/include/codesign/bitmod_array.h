// BitMoD's array of bit-serial PEs, and its arithmetics for layer.h (Chen et al., HPCA 2025, section IV): FP16 or INT8
// activations, group accumulation, bit-serial dequantization; bit for bit hwmodel.pe_functional's gemm and
// integer_gemm, in as many cycles.
#ifndef CODESIGN_BITMOD_ARRAY_H
#define CODESIGN_BITMOD_ARRAY_H

#include "codesign/arithmetic_traits.h"
#include "codesign/bitmod.h"
#include "codesign/bitmod_format.h"
#include "codesign/types.h"

namespace codesign {

// --- array -----------------------------------------------------------------------------------------------------------

// TOKENS x OUTPUTS PEs, output-stationary: terms are broadcast to all tokens, activations to all outputs, and a group's
// dequantization runs beside the next group's terms. One call is one tile of outputs over all of K.
template <class PE, class PRODUCT, class SCALE, int TOKENS, int OUTPUTS, int K, int GROUP, int LANES>
struct bitmod_tile {
  static constexpr int groups = ceil_div(K, GROUP);
  static constexpr int activation_bits = PE::activation_bits;
  using result_t = typename PRODUCT::result_t;

  static constexpr int columns(int group) { return group < groups - 1 ? GROUP : K - (groups - 1) * GROUP; }
  static constexpr int sets(int group) { return ceil_div(columns(group), LANES); }
  // A group waits while the dequantizer is busy with the one before; the last one's is hidden by the next tile.
  static constexpr int group_cycles(int group, int terms) {
    return larger(sets(group) * terms, SCALE::significant_bits);
  }
  static constexpr int cycles(int terms) {
    int total = 0;
    for (int group = 0; group < groups; ++group) total += group_cycles(group, terms);
    return total;
  }

  static constexpr int shortest_group = SCALE::significant_bits;
  static constexpr int longest_group = group_cycles(0, bitmod_max_terms);

  // Returns the cycles until the last group is handed over, as counted by the loops: cycles(format.terms()).
  static int run(const bitmod_format& format, const ap_uint<8> (&weight)[OUTPUTS][K],
                 const ap_uint<2> (&selector)[OUTPUTS][groups], const ap_uint<SCALE::bits> (&scale)[OUTPUTS][groups],
                 const ap_uint<activation_bits> (&activation)[TOKENS][K], result_t (&result)[TOKENS][OUTPUTS]) {
    typename PE::sum_t sum[TOKENS][OUTPUTS];
    typename PRODUCT::dequantizer dequantizer[TOKENS][OUTPUTS];
#pragma HLS ARRAY_PARTITION variable=sum complete dim=0
#pragma HLS ARRAY_PARTITION variable=dequantizer complete dim=0
#pragma HLS ARRAY_PARTITION variable=result complete dim=0
    int clock = 0;
  groups_of_k:
    for (int group = 0; group <= groups; ++group) {  // the last round only dequantizes
      const int work = group < groups ? sets(group) * format.terms().to_int() : 0;
      const int length = larger(work, SCALE::significant_bits);
      int set = 0;
      ap_uint<2> step = 0;
    cycles_of_group:
      for (int cycle = 0; cycle < length; ++cycle) {
#pragma HLS LOOP_TRIPCOUNT min=shortest_group max=longest_group
#pragma HLS PIPELINE II=1
        if (group > 0 && cycle < SCALE::significant_bits) {
          dequantize(format, scale, group - 1, cycle, sum, dequantizer, result);
        }
        if (cycle < work) {
          if (cycle == 0) clear(sum);
          add_terms(format, weight, selector, activation, group, set, step, sum);
          const bool last = step + 1 == format.terms();
          step = last ? ap_uint<2>(0) : ap_uint<2>(step + 1);
          set += last;
        }
        clock += group < groups;
      }
    }
    return clock;
  }

 private:
  static void clear(typename PE::sum_t (&sum)[TOKENS][OUTPUTS]) {
#pragma HLS INLINE
  tokens:
    for (int token = 0; token < TOKENS; ++token) {
#pragma HLS UNROLL
      for (int output = 0; output < OUTPUTS; ++output) {
#pragma HLS UNROLL
        sum[token][output] = typename PE::sum_t();
      }
    }
  }

  // One term of a set of lanes in every PE.
  static void add_terms(const bitmod_format& format, const ap_uint<8> (&weight)[OUTPUTS][K],
                        const ap_uint<2> (&selector)[OUTPUTS][groups],
                        const ap_uint<activation_bits> (&activation)[TOKENS][K], int group, int set, ap_uint<2> step,
                        typename PE::sum_t (&sum)[TOKENS][OUTPUTS]) {
#pragma HLS INLINE
    ap_uint<activation_bits> lanes[TOKENS][LANES];
    bitmod_term terms[OUTPUTS][LANES];
  encoders:
    for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
      const int within = set * LANES + lane;
      const bool there = within < columns(group);
      const int column = there ? group * GROUP + within : 0;
      for (int output = 0; output < OUTPUTS; ++output) {
#pragma HLS UNROLL
        terms[output][lane] = {false, false, 0};
        if (there) terms[output][lane] = format.encode(weight[output][column], step, selector[output][group]);
      }
      for (int token = 0; token < TOKENS; ++token) {
#pragma HLS UNROLL
        lanes[token][lane] = there ? activation[token][column] : ap_uint<activation_bits>(0);
      }
    }
  pes:
    for (int token = 0; token < TOKENS; ++token) {
#pragma HLS UNROLL
      for (int output = 0; output < OUTPUTS; ++output) {
#pragma HLS UNROLL
        PE::add(sum[token][output], lanes[token], terms[output], format.significance(step));
      }
    }
  }

  // One bit of the scales; with the last one the column accumulators add the group.
  static void dequantize(const bitmod_format& format, const ap_uint<SCALE::bits> (&scale)[OUTPUTS][groups], int group,
                         int bit, const typename PE::sum_t (&sum)[TOKENS][OUTPUTS],
                         typename PRODUCT::dequantizer (&dequantizer)[TOKENS][OUTPUTS],
                         result_t (&result)[TOKENS][OUTPUTS]) {
#pragma HLS INLINE
  outputs:
    for (int output = 0; output < OUTPUTS; ++output) {
#pragma HLS UNROLL
      const SCALE factor(scale[output][group]);
      for (int token = 0; token < TOKENS; ++token) {
#pragma HLS UNROLL
        ap_int<PRODUCT::product_bits> product;
        ap_uint<6> exponent;
        dequantizer[token][output].step(bit == 0, ap_uint<1>(factor.significand[bit]), sum[token][output].mantissa,
                                        sum[token][output].exponent, product, exponent);
        if (bit == SCALE::significant_bits - 1) {
          const result_t value = PRODUCT::value(product, exponent, factor.exponent, format.unit_exponent());
          result[token][output] = (group == 0 ? result_t(0) : result[token][output]) + value;
        }
      }
    }
  }
};

// With FP16 activations; results float32. An outer scale is the caller's: one float32 product a result.
template <class SCALE, int TOKENS, int OUTPUTS, int K, int GROUP, int LANES = 4>
using bitmod_array = bitmod_tile<bitmod_group_accumulator<LANES>, bitmod_fp16_product<SCALE>, SCALE, TOKENS, OUTPUTS, K,
                                 GROUP, LANES>;

// With INT8 activations and integer scales; results exact, in units of 2**format.unit_exponent().
constexpr int bitmod_int_sum_bits(int group) { return 16 + clog2(group) + 1; }
template <int SCALE_BITS, int TOKENS, int OUTPUTS, int K, int GROUP, int LANES = 4>
using bitmod_int_array =
    bitmod_tile<bitmod_int_accumulator<LANES, 8, bitmod_int_sum_bits(GROUP)>,
                bitmod_int_product<bitmod_integer_scale<SCALE_BITS>, bitmod_int_sum_bits(GROUP)>,
                bitmod_integer_scale<SCALE_BITS>, TOKENS, OUTPUTS, K, GROUP, LANES>;

// --- arithmetics -----------------------------------------------------------------------------------------------------

// Cycles of LANES weights, PE_LANES at a time, each term by term.
template <class PE, int LANES, int PE_LANES>
struct bitmod_sets {
  static_assert(LANES % PE_LANES == 0, "lanes are whole sets of a PE's lanes");

  // Of a format register's word.
  static constexpr int cycles(std::uint32_t word) {
    const int bits = static_cast<int>(word >> 24 & 7) + 1;
    return LANES / PE_LANES * (word >> 27 & 1 ? 2 : ceil_div(bits, 2));
  }

  static void add_cycle(typename PE::sum_t& sum, const ap_uint<8> (&w)[LANES],
                        const ap_uint<PE::activation_bits> (&a)[LANES], ap_uint<2> selector,
                        const bitmod_format& format, int cycle) {
#pragma HLS INLINE
    const int terms = format.terms().to_int(), set = cycle / terms, step = cycle % terms;
    ap_uint<PE::activation_bits> activation[PE_LANES];
    bitmod_term term[PE_LANES];
  lanes:
    for (int lane = 0; lane < PE_LANES; ++lane) {
#pragma HLS UNROLL
      activation[lane] = a[set * PE_LANES + lane];
      term[lane] = format.encode(w[set * PE_LANES + lane], step, selector);
    }
    PE::add(sum, activation, term, format.significance(step));
  }
};

// FP16 activations, and bit-serial dequantization by SCALE. Codes of fewer than 8 bits are extended by zeros.
template <class SCALE, int LANES = 4, int PE_LANES = 4>
struct bitmod_arithmetic {
  static constexpr int lanes = LANES, weight_bits = 8, activation_bits = 16, selector_bits = 2;
  static constexpr int unit_exponent = 0;
  static constexpr bool dequantizes = true;
  static constexpr int scale_bits = SCALE::bits;
  static constexpr int entries = 1, entry_bits = 28;
  using registers_t = bitmod_format;
  using pe = bitmod_group_accumulator<PE_LANES>;
  using product = bitmod_fp16_product<SCALE>;
  using sum_t = typename pe::sum_t;

  static void write(registers_t& registers, int, ap_uint<entry_bits> word) { registers.word = word; }
  static void clear(sum_t& sum) { sum = sum_t(); }
  static constexpr int cycles(std::uint32_t word) { return bitmod_sets<pe, LANES, PE_LANES>::cycles(word); }
  static int cycles(const registers_t& registers) { return cycles(registers.word.to_uint()); }

  using cycle_t = no_cycle;
  static void add_cycle(sum_t& sum, cycle_t&, const ap_uint<8> (&w)[LANES], const ap_uint<16> (&a)[LANES],
                        ap_uint<2> selector, const registers_t& registers, int cycle) {
#pragma HLS INLINE
    bitmod_sets<pe, LANES, PE_LANES>::add_cycle(sum, w, a, selector, registers, cycle);
  }

  static void accumulate(sum_t& sum, const ap_uint<8> (&w)[LANES], const ap_uint<16> (&a)[LANES],
                         ap_uint<2> selector, const registers_t& registers) {
#pragma HLS INLINE
    add_cycles<bitmod_arithmetic>(sum, w, a, selector, registers, cycles(registers));
  }

  // One stage of a pipeline for each bit of the scale: rows follow one another, a row a cycle.
  static float scaled(const sum_t& sum, ap_uint<scale_bits> scale, const registers_t& registers) {
#pragma HLS INLINE
    const SCALE factor(scale);
    typename product::dequantizer dequantizer;
    ap_int<product::product_bits> product_;
    ap_uint<6> exponent;
  scale_bits_:
    for (int bit = 0; bit < SCALE::significant_bits; ++bit) {
#pragma HLS UNROLL
      dequantizer.step(bit == 0, ap_uint<1>(factor.significand[bit]), sum.mantissa, sum.exponent, product_, exponent);
    }
    return product::value(product_, exponent, factor.exponent, registers.unit_exponent());
  }

  // Without a scale.
  static float value(const sum_t& sum, const registers_t& registers) {
#pragma HLS INLINE
    using plain = bitmod_fp16_product<bitmod_exponent_scale<1, 0>>;
    return plain::times_power(sum.mantissa, sum.exponent.to_int() + plain::lowest_bit + registers.unit_exponent());
  }
};

// INT8 activations, exact sums in halves, so that the unit is the same for all formats.
template <int LANES = 4, int SUM_BITS = 25, int PE_LANES = 4>
struct bitmod_int_arithmetic {
  static constexpr int lanes = LANES, weight_bits = 8, activation_bits = 8, selector_bits = 2;
  static constexpr int unit_exponent = -1;
  static constexpr int entries = 1, entry_bits = 28;
  using registers_t = bitmod_format;
  using pe = bitmod_int_accumulator<PE_LANES, 8, SUM_BITS>;
  using sum_t = ap_int<SUM_BITS>;

  static void write(registers_t& registers, int, ap_uint<entry_bits> word) { registers.word = word; }
  static void clear(sum_t& sum) { sum = 0; }
  static constexpr int cycles(std::uint32_t word) { return bitmod_sets<pe, LANES, PE_LANES>::cycles(word); }
  static int cycles(const registers_t& registers) { return cycles(registers.word.to_uint()); }

  using cycle_t = no_cycle;
  static void add_cycle(sum_t& sum, cycle_t&, const ap_uint<8> (&w)[LANES], const ap_uint<8> (&a)[LANES],
                        ap_uint<2> selector, const registers_t& registers, int cycle) {
#pragma HLS INLINE
    typename pe::sum_t added;
    bitmod_sets<pe, LANES, PE_LANES>::add_cycle(added, w, a, selector, registers, cycle);
    sum += registers.floating() ? added.mantissa : ap_int<SUM_BITS>(added.mantissa << 1);
  }

  static void accumulate(sum_t& sum, const ap_uint<8> (&w)[LANES], const ap_uint<8> (&a)[LANES],
                         ap_uint<2> selector, const registers_t& registers) {
#pragma HLS INLINE
    add_cycles<bitmod_int_arithmetic>(sum, w, a, selector, registers, cycles(registers));
  }

  static float value(const sum_t& sum, const registers_t&) { return float_of<SUM_BITS>(sum) * 0.5F; }
};

}  // namespace codesign

#endif
