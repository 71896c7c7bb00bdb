// Integers of any width, streams, and the few functions on them that every other header needs.
//
// ap_int.h and hls_stream.h are Vitis HLS's own; their open copies (Apache License 2.0, in the hls4ml package) serve C
// simulation. Nothing here needs what those copies lack: ap_axi_sdata.h, hls_vector.h, hls_task.h.
#ifndef CODESIGN_TYPES_H
#define CODESIGN_TYPES_H

#include <cstdint>

#include <ap_int.h>
#include <hls_stream.h>

namespace codesign {

// ceil(log2(value)), as $clog2 in SystemVerilog: 0 for 1.
constexpr int clog2(int value) {
  int bits = 0;
  while ((1LL << bits) < value) ++bits;
  return bits;
}

constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// 2.0F**exponent for -149 to 127, exact. For constants (constexpr): anywhere else a tool makes a loop of it.
constexpr float power_of_two(int exponent) {
  float power = 1.0F;
  for (; exponent > 0; --exponent) power *= 2.0F;
  for (; exponent < 0; ++exponent) power *= 0.5F;
  return power;
}

// --- float32 and its bits -------------------------------------------------------------------------------------------

union float_bits {  // the way that Vitis HLS (AMD UG1399) reads a float's bits
  std::uint32_t bits;
  float value;
};

inline ap_uint<32> bits_of_float(float value) {
#pragma HLS INLINE
  float_bits both;
  both.value = value;
  return both.bits;
}

inline float float_of_bits(ap_uint<32> bits) {
#pragma HLS INLINE
  float_bits both;
  both.bits = bits.to_uint();
  return both.value;
}

// 2.0F**exponent for -126 to 127: wires, where power_of_two is for constants.
inline float normal_power(int exponent) {
#pragma HLS INLINE
  return float_of_bits(ap_uint<32>(exponent + 127) << 23);
}

// --- packed ports ---------------------------------------------------------------------------------------------------

// Element `lane` of a port that holds LANES elements of BITS bits, lane 0 lowest.
template <int BITS, int WIDTH>
ap_uint<BITS> lane_of(const ap_uint<WIDTH>& port, int lane) {
#pragma HLS INLINE
  return port.range(lane * BITS + BITS - 1, lane * BITS);
}

template <int BITS, int WIDTH>
void put_lane(ap_uint<WIDTH>& port, int lane, ap_uint<BITS> element) {
#pragma HLS INLINE
  port.range(lane * BITS + BITS - 1, lane * BITS) = element;
}

template <int BITS, int LANES>
void lanes_of(const ap_uint<LANES * BITS>& port, ap_uint<BITS> (&elements)[LANES]) {
#pragma HLS INLINE
lanes:
  for (int lane = 0; lane < LANES; ++lane) {
#pragma HLS UNROLL
    elements[lane] = lane_of<BITS>(port, lane);
  }
}

// --- registers that take turns ------------------------------------------------------------------------------------------

// Moves registers on by a turn: the first is last. A loop that works on place 0 alone adds to one of them every PLACES
// iterations, which a tool sees; with an index that turns instead it has to assume that each addition waits for the one
// before, whatever a pragma says, since registers are no memory.
template <class T, int PLACES>
void next_turn(T (&of)[PLACES]) {
#pragma HLS INLINE
  const T first = of[0];
places_turned:
  for (int place = 1; place < PLACES; ++place) {
#pragma HLS UNROLL
    of[place - 1] = of[place];
  }
  of[PLACES - 1] = first;
}

// The same of ROWS in each place.
template <class T, int PLACES, int ROWS>
void next_turn(T (&of)[PLACES][ROWS]) {
#pragma HLS INLINE
rows_turned:
  for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
    const T first = of[0][row];
  places_turned:
    for (int place = 1; place < PLACES; ++place) {
#pragma HLS UNROLL
      of[place - 1][row] = of[place][row];
    }
    of[PLACES - 1][row] = first;
  }
}

// --- signs ----------------------------------------------------------------------------------------------------------

// |value|: the bit of the sign holds that of -2**(BITS - 1).
template <int BITS>
ap_uint<BITS> magnitude_of(const ap_int<BITS>& value) {
#pragma HLS INLINE
  return value[BITS - 1] ? ap_uint<BITS>(-value) : ap_uint<BITS>(value);
}

// --- integers to float32 --------------------------------------------------------------------------------------------

// How many zeros stand above the highest one; WIDTH if there is none. Halves, so log2 WIDTH levels.
template <int WIDTH>
int leading_zeros(const ap_uint<WIDTH>& value) {
#pragma HLS INLINE
  constexpr int levels = clog2(WIDTH + 1);
  constexpr int padded = 1 << levels;  // more than WIDTH; the ones below the value end the search
  ap_uint<padded> rest = (ap_uint<padded>(value) << (padded - WIDTH)) | ((ap_uint<padded>(1) << (padded - WIDTH)) - 1);
  int zeros = 0;
halves:
  for (int level = levels - 1; level >= 0; --level) {
#pragma HLS UNROLL
    const int half = 1 << level;
    if ((rest >> (padded - half)) == 0) {
      zeros += half;
      rest <<= half;
    }
  }
  return zeros;
}

// The float32 nearest to `value`, ties to even; BITS up to 128, so that no value is too large.
template <int BITS>
float float_of(const ap_int<BITS>& value) {
#pragma HLS INLINE
  static_assert(BITS <= 128, "an integer of more than 128 bits may be beyond float32");
  if constexpr (BITS <= 64) {
    return static_cast<float>(value.to_int64());
  } else {
    // The upper 64 bits of the magnitude, normalised, with what lies below as a sticky bit: 24 bits are kept, so the
    // sticky bit, far below the rounding position, tells a tie from anything above it.
    const bool negative = value[BITS - 1];
    const ap_uint<BITS> magnitude = magnitude_of(value);
    const int zeros = leading_zeros<BITS>(magnitude);
    const ap_uint<BITS> normalised = magnitude << zeros;
    ap_uint<64> upper = normalised.range(BITS - 1, BITS - 64);
    const ap_uint<BITS - 64> rest = normalised.range(BITS - 65, 0);
    if (rest != 0) upper[0] = 1;
    const int exponent = BITS - 64 - zeros;  // value = upper * 2**exponent; 64 - BITS > -64 at zeros = BITS
    const float scale = normal_power(exponent);
    const float rounded = static_cast<float>(upper.to_uint64()) * scale;
    return negative ? -rounded : rounded;
  }
}

}  // namespace codesign

#endif
