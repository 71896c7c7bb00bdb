// The word layout of packed codes: that of datatypes/packing.py, files and GPU kernels.
//
// A row of codes is cut into blocks of 32; a block of BITS-bit codes takes BITS words of 32 bits, word 0 first. Each
// code is split into planes, high bits first, whose widths are the powers of two that make up BITS (7 = 4 + 2 + 1). The
// plane of width w takes w words of the block, and code j lies at bit j * w of it, counted over word borders. So a
// code at a constant place of a block is a concatenation of fields at constant places: wires.
#ifndef CODESIGN_WORDS_H
#define CODESIGN_WORDS_H

#include "codesign/types.h"

namespace codesign {

constexpr int word_bits = 32;
constexpr int block_codes = 32;

// 32-bit words of a row of `codes` codes.
constexpr int row_words(int codes, int bits) { return ceil_div(codes, block_codes) * bits; }

// Code `index` (0 to 31) of a block from its words: reads only those it lies in.
template <int BITS>
ap_uint<BITS> unpack_code(const ap_uint<word_bits> (&words)[BITS], int index) {
#pragma HLS INLINE
  static_assert(BITS >= 1 && BITS <= 16, "packed codes have 1 to 16 bits");
  ap_uint<BITS> code = 0;
  int below = BITS;  // bits of the code that are still to come
planes:
  for (int power = 4; power >= 0; --power) {
#pragma HLS UNROLL
    const int width = 1 << power;
    if (BITS >> power & 1) {
      const int place = index * width;
      const int bit = place % word_bits;
      const ap_uint<word_bits> word = words[BITS - below + place / word_bits];
      below -= width;
      code.range(below + width - 1, below) = word.range(bit + width - 1, bit);
    }
  }
  return code;
}

}  // namespace codesign

#endif
