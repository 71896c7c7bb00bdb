// Packed codes of a tile of rows: lines of whole blocks of 32 codes, as they came from memory, and codes out of them. A
// line is one word of a memory, filled in one cycle and read in one; rows that are multiplied side by side lie in
// memories of their own. Codes are as wide as a constant says, or as the word of BitMoD's format register
// (bitmod_format.h) that goes along with them.
#ifndef CODESIGN_CODE_TILES_H
#define CODESIGN_CODE_TILES_H

#include <type_traits>

#include "codesign/streams.h"

namespace codesign {

// Packed codes of ROWS rows of CODES: a line is as many whole blocks of 32 codes as a beat holds.
template <int BITS, int ROWS, int CODES, int PARALLEL>
struct code_tile {
  static constexpr int blocks = ceil_div(CODES, block_codes), row_words = blocks * BITS;
  static constexpr int line_blocks = smaller(larger(beat_words / BITS, 1), blocks), line_words = line_blocks * BITS;
  static constexpr int lines = ceil_div(blocks, line_blocks);
  ap_uint<word_bits> word[ROWS][lines][line_words];

  code_tile() {
#pragma HLS ARRAY_PARTITION variable = word cyclic factor = PARALLEL dim = 1
#pragma HLS ARRAY_RESHAPE variable = word complete dim = 3
  }

  // COUNT consecutive codes from `index` on, a multiple of ALIGNED: one line, where its blocks are of one line.
  template <int COUNT, int ALIGNED>
  void codes_at(int row, int index, ap_uint<BITS> (&codes)[COUNT]) const {
#pragma HLS INLINE
    constexpr bool whole = ALIGNED % COUNT == 0 && (block_codes % COUNT == 0 || COUNT % block_codes == 0);
    constexpr int met = whole ? ceil_div(COUNT, block_codes) : (COUNT + block_codes - 2) / block_codes + 1;
    ap_uint<word_bits> words[met][BITS];
#pragma HLS ARRAY_PARTITION variable = words complete dim = 0
    const int first = index / block_codes, start = index % block_codes;
  blocks_met:
    for (int block = 0; block < met; ++block) {
#pragma HLS UNROLL
      const int at = smaller(first + block, blocks - 1);  // codes past the row are not looked at
    words_of_block:
      for (int part = 0; part < BITS; ++part) {
#pragma HLS UNROLL
        const int line = lines == 1 ? 0 : at / line_blocks;
        words[block][part] = word[row][line][(at - line * line_blocks) * BITS + part];
      }
    }
  codes_met:
    for (int lane = 0; lane < COUNT; ++lane) {
#pragma HLS UNROLL
      codes[lane] = unpack_code<BITS>(words[(start + lane) / block_codes], (start + lane) % block_codes);
    }
  }
};

// --- a width that is chosen at run time ---------------------------------------------------------------------------------

// Whether a part's weight format is chosen at run time: a word of BitMoD's format register (bitmod_format.h).
template <class PART, class = void>
struct runtime_format_of : std::false_type {};
template <class PART>
struct runtime_format_of<PART, std::void_t<decltype(PART::runtime_format)>>
    : std::bool_constant<PART::runtime_format> {};

// Bits of a code in a format register's word.
inline int runtime_code_bits(std::uint32_t format) {
#pragma HLS INLINE
  return static_cast<int>(format >> 24 & 7) + 1;
}

// Packed codes of 3, 4, 6 or 8 bits, as a format register says: lines of as many blocks as a beat holds of 8 bits.
template <int ROWS, int CODES, int PARALLEL>
struct runtime_code_tile {
  static constexpr int most_bits = 8, blocks = ceil_div(CODES, block_codes);
  static constexpr int line_blocks = smaller(beat_words / most_bits, blocks), line_words = line_blocks * most_bits;
  static constexpr int lines = ceil_div(blocks, line_blocks);
  ap_uint<word_bits> word[ROWS][lines][line_words];
  std::uint32_t format;

  runtime_code_tile() {
#pragma HLS ARRAY_PARTITION variable = word cyclic factor = PARALLEL dim = 1
#pragma HLS ARRAY_RESHAPE variable = word complete dim = 3
  }
  int bits() const {
#pragma HLS INLINE
    return runtime_code_bits(format);
  }

  template <int COUNT, int ALIGNED>
  void codes_at(int row, int index, ap_uint<most_bits> (&codes)[COUNT]) const {
#pragma HLS INLINE
    constexpr bool whole = ALIGNED % COUNT == 0 && (block_codes % COUNT == 0 || COUNT % block_codes == 0);
    constexpr int met = whole ? ceil_div(COUNT, block_codes) : (COUNT + block_codes - 2) / block_codes + 1;
    ap_uint<word_bits> words[met][most_bits];
#pragma HLS ARRAY_PARTITION variable = words complete dim = 0
    const int first = index / block_codes, start = index % block_codes, width = bits();
  blocks_met:
    for (int block = 0; block < met; ++block) {
#pragma HLS UNROLL
      const int at = smaller(first + block, blocks - 1);  // codes past the row are not looked at
    words_of_block:
      for (int part = 0; part < most_bits; ++part) {
#pragma HLS UNROLL
        words[block][part] = word[row][at / line_blocks][smaller(at % line_blocks * width + part, line_words - 1)];
      }
    }
  codes_met:
    for (int lane = 0; lane < COUNT; ++lane) {
#pragma HLS UNROLL
      const ap_uint<word_bits>(&block)[most_bits] = words[(start + lane) / block_codes];
      const int place = (start + lane) % block_codes;
      codes[lane] = width == 3   ? code_of<3>(block, place)
                    : width == 4 ? code_of<4>(block, place)
                    : width == 6 ? code_of<6>(block, place)
                                 : code_of<8>(block, place);
    }
  }

 private:
  template <int BITS>
  static ap_uint<most_bits> code_of(const ap_uint<word_bits> (&block)[most_bits], int place) {
#pragma HLS INLINE
    ap_uint<word_bits> own[BITS];
#pragma HLS ARRAY_PARTITION variable = own complete
  own_words:
    for (int part = 0; part < BITS; ++part) {
#pragma HLS UNROLL
      own[part] = block[part];
    }
    return unpack_code<BITS>(own, place);
  }
};

// --- out of the stream --------------------------------------------------------------------------------------------------

// Rows [first, first + rows) of packed codes, a line a cycle.
template <class TILE>
void take_codes(beat_stream& in, int first, int rows, TILE& tile) {
#pragma HLS INLINE off
  beat_window window;
  window.open(in, static_cast<long long>(first) * TILE::row_words * word_bits);
  int row = 0, line = 0;
code_lines:
  for (int i = 0; i < rows * TILE::lines; ++i) {
#pragma HLS PIPELINE II = 1
    const int words = smaller(TILE::line_words, TILE::row_words - line * TILE::line_words);
    window.take<word_bits>(in, words, tile.word[row][line]);
    if (++line == TILE::lines) {
      line = 0;
      ++row;
    }
  }
}

// The same where their width comes in front of them.
template <class TILE>
void take_runtime_codes(beat_stream& in, int first, int rows, TILE& tile) {
#pragma HLS INLINE off
  tile.format = static_cast<std::uint32_t>(ap_uint<word_bits>(in.read().range(word_bits - 1, 0)).to_uint());
  const int bits = tile.bits(), row_words = TILE::blocks * bits, line_words = TILE::line_blocks * bits;
  beat_window window;
  window.open(in, static_cast<long long>(first) * row_words * word_bits);
  int row = 0, line = 0;
code_lines:
  for (int i = 0; i < rows * TILE::lines; ++i) {
#pragma HLS PIPELINE II = 1
    const int words = smaller(line_words, row_words - line * line_words);
    window.take<word_bits>(in, words, tile.word[row][line]);
    if (++line == TILE::lines) {
      line = 0;
      ++row;
    }
  }
}

}  // namespace codesign

#endif
