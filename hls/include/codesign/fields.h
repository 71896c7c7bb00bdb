// Values of stored scales, zero points and factors as float32, and where their arrays lie in the weight image.
//
// The value structs are datatypes.tensor.decode_stored: exact, but for nothing: every format's values are float32
// values. A field is an array beside the codes (docs/hls.md, "The config of a layer").
#ifndef CODESIGN_FIELDS_H
#define CODESIGN_FIELDS_H

#include "codesign/types.h"

namespace codesign {

// --- values ---------------------------------------------------------------------------------------------------------

struct fp32_value {
  static constexpr int bits = 32;
  static float decode(ap_uint<32> stored) {
#pragma HLS INLINE
    return float_of_bits(stored);
  }
};

struct bf16_value {
  static constexpr int bits = 16;
  static float decode(ap_uint<16> stored) {
#pragma HLS INLINE
    return float_of_bits(ap_uint<32>(stored) << 16);
  }
};

template <int BITS, bool SIGNED, int UNIT_EXPONENT = 0>
struct integer_value {
  static constexpr int bits = BITS;
  static float decode(ap_uint<BITS> stored) {
#pragma HLS INLINE
    const float whole = SIGNED ? static_cast<float>(ap_int<BITS>(stored).to_int()) : static_cast<float>(stored.to_uint());
    constexpr float unit = power_of_two(UNIT_EXPONENT);
    return whole * unit;
  }
};

// 2**(code - BIAS): E8M0 (OCP Microscaling Formats 1.0, section 5.4.1) with BIAS 127.
template <int BITS, int BIAS>
struct exponent_value {
  static constexpr int bits = BITS;
  static float decode(ap_uint<BITS> stored) {
#pragma HLS INLINE
    const int exponent = static_cast<int>(stored.to_uint()) - BIAS;
    if (exponent >= -126) return normal_power(exponent);
    return float_of_bits(ap_uint<32>(1) << (exponent + 149));  // subnormal float32
  }
};

// A minifloat with subnormals; the sign, where there is one, above the exponent; bits above that are zero.
template <int EXPONENT_BITS, int MANTISSA_BITS, int BIAS, bool SIGNED = true,
          int BITS = EXPONENT_BITS + MANTISSA_BITS + (SIGNED ? 1 : 0)>
struct minifloat_value {
  static constexpr int bits = BITS;
  static float decode(ap_uint<BITS> stored) {
#pragma HLS INLINE
    const int code = static_cast<int>(stored.to_uint());
    const int fraction = code & ((1 << MANTISSA_BITS) - 1);
    const int field = (code >> MANTISSA_BITS) & ((1 << EXPONENT_BITS) - 1);
    const int significand = field > 0 ? fraction + (1 << MANTISSA_BITS) : fraction;
    // significand * 2**shift steps: a product with a power of two, exact
    const int shift = field > 0 ? field - 1 : 0;
    const float power = normal_power(shift + 1 - BIAS - MANTISSA_BITS);
    const bool negative = SIGNED && (code >> (EXPONENT_BITS + MANTISSA_BITS) & 1);
    return negative ? -(significand * power) : significand * power;
  }
  static_assert(1 - BIAS - MANTISSA_BITS >= -126, "the smallest step must be a normal float32");
  static_assert((1 << EXPONENT_BITS) - 1 - BIAS - MANTISSA_BITS <= 127, "the largest power must be a float32");
};

using fp16_value = minifloat_value<5, 10, 15>;

// Any other table (bitsandbytes' dynamic type): ENTRIES in code order, in units of 2**UNIT_EXPONENT; each is a float32.
template <int BITS, int UNIT_EXPONENT, std::int64_t... ENTRIES>
struct table_value {
  static_assert(sizeof...(ENTRIES) == 1 << BITS, "a table has an entry for each code");
  static constexpr int bits = BITS;
  static float decode(ap_uint<BITS> stored) {
#pragma HLS INLINE
    constexpr std::int64_t entries[] = {ENTRIES...};
    constexpr float unit = power_of_two(UNIT_EXPONENT);
    return static_cast<float>(entries[stored.to_uint()]) * unit;
  }
};

// Bits that are not decoded: entries of a table that an arithmetic loads.
template <int BITS>
struct raw_value {
  static constexpr int bits = BITS;
};

using no_value = raw_value<1>;

// --- fields ---------------------------------------------------------------------------------------------------------

// Bits of one plane of `count` entries: whole 32-bit words (datatypes/packing.py, pack_flat).
constexpr long long plane_bits(long long count, int width) { return (count * width + 31) / 32 * 32; }

// Where the plane of `width` bits starts: behind the wider ones.
constexpr long long plane_start(int bits, long long count, int width) {
  long long start = 0;
  for (int wider = 32; wider > width; wider /= 2) {
    if (bits & wider) start += plane_bits(count, wider);
  }
  return start;
}

// An array of COUNT entries from beat BEAT on; PER_TILE of them for each tile of TILE_ROWS x TILE_COLUMNS elements.
template <class VALUE, int TILE_ROWS, int TILE_COLUMNS, int COUNT, int BEAT, int PER_TILE = 1>
struct field {
  static constexpr bool present = true;
  using value = VALUE;
  static constexpr int bits = VALUE::bits;
  static constexpr int tile_rows = TILE_ROWS, tile_columns = TILE_COLUMNS;
  static constexpr int count = COUNT, beat = BEAT, per_tile = PER_TILE;
};

struct no_field {
  static constexpr bool present = false;
  using value = no_value;
  static constexpr int bits = 1, tile_rows = 1, tile_columns = 1, count = 0, beat = 0, per_tile = 1;
};

// How the entries of a field that ROWS consecutive rows need lie in a buffer on the chip.
template <class FIELD, int ROWS, int COLUMNS>
struct field_rows {
  static constexpr int per_row = FIELD::present ? ceil_div(COLUMNS, FIELD::tile_columns) * FIELD::per_tile : 1;
  // consecutive rows meet at most this many rows of tiles
  static constexpr int most = FIELD::tile_rows == 1 ? ROWS : (ROWS - 2 + FIELD::tile_rows) / FIELD::tile_rows + 1;
  static constexpr int tiles = most < ROWS ? (most > 0 ? most : 1) : ROWS;
  static constexpr int size = FIELD::present ? tiles * per_row : 1;
  static int first(int row) { return row / FIELD::tile_rows * per_row; }
  static int count(int row, int rows) {
    return ((row + rows - 1) / FIELD::tile_rows - row / FIELD::tile_rows + 1) * per_row;
  }
  // place in the buffer of the entry for row `row` + `within` (buffer filled from `row`) and a column
  static int place(int row, int within, int column) {
#pragma HLS INLINE
    return ((row + within) / FIELD::tile_rows - row / FIELD::tile_rows) * per_row +
           column / FIELD::tile_columns * FIELD::per_tile;
  }
};

}  // namespace codesign

#endif
