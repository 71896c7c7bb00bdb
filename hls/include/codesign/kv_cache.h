// Keys or values of one position in memory: codes and scales of all heads, a record of whole beats.
//
// A record is, in words of 32 bits: the packed codes of head 0, of head 1, ... (rows of blocks, words.h); then an entry
// for each tile of each head: the stored scale from bit 0 on, and from the next bit (or the next word, where both do
// not fit into one) the zero point. A format without scales has no entries.
#ifndef CODESIGN_KV_CACHE_H
#define CODESIGN_KV_CACHE_H

#include "codesign/activation.h"
#include "codesign/streams.h"

namespace codesign {

template <class STAGE, int HEADS>
struct cache_record {
  using made = activations<STAGE, HEADS>;
  using quantizer = typename STAGE::quantizer;
  static_assert(!made::scaled || std::is_same_v<typename STAGE::outer_scale, no_value>, "scales have one level");
  static_assert(STAGE::per_token, "every head of every position has scales of its own");
  static constexpr int code_bits = quantizer::bits;
  static constexpr int code_words = row_words(STAGE::columns, code_bits);  // of one head
  static constexpr int scale_bits = made::scaled ? STAGE::scale::bits : 0;
  static constexpr int zero_bits = made::asymmetric ? code_bits : 0;
  static constexpr bool apart = scale_bits + zero_bits > word_bits;
  static constexpr int entry_words = made::scaled ? (apart ? 2 : 1) : 0;
  static constexpr int entries = HEADS * code_words;  // where they start
  static constexpr int words = entries + HEADS * made::tiles * entry_words;
  static constexpr int beats = ceil_div(words, beat_words);

  static constexpr int blocks = code_words / code_bits;  // of a head, 32 codes each
  static constexpr int code_banks = smaller(block_codes, STAGE::columns);  // codes of a head that are met at once

  ap_uint<word_bits> word[beats * beat_words];

  // Codes and scales that `quantize` made of x.
  void encode(const float (&x)[HEADS][STAGE::columns], const made& coded) {
#pragma HLS INLINE off
  words_cleared:
    for (int i = 0; i < beats * beat_words; ++i) {
#pragma HLS PIPELINE II = 1
      word[i] = 0;
    }
    ap_uint<quantizer::bits> zero[HEADS][made::tiles];
    zero_points(x, coded, zero);
  heads_packed:
    for (int head = 0; head < HEADS; ++head) {
      ap_uint<word_bits> row[code_words];  // registers: a word takes one code after another
#pragma HLS ARRAY_PARTITION variable = row complete
    row_cleared:
      for (int i = 0; i < code_words; ++i) {
#pragma HLS UNROLL
        row[i] = 0;
      }
    codes_packed:
      for (int column = 0; column < STAGE::columns; ++column) {
#pragma HLS PIPELINE II = 1
        ap_uint<code_bits> code = coded.code[head][column];
        if constexpr (made::asymmetric) code = code + zero[head][column / STAGE::tile_columns];
        pack_code<code_bits>(code, column, row);
      }
    row_copied:
      for (int i = 0; i < code_words; ++i) {
#pragma HLS PIPELINE II = 1
        word[head * code_words + i] = row[i];
      }
      if constexpr (made::scaled) {
      entries_packed:
        for (int tile = 0; tile < made::tiles; ++tile) {
#pragma HLS PIPELINE II = 1
          const int place = entries + (head * made::tiles + tile) * entry_words;
          ap_uint<word_bits> entry = stored_scale<typename STAGE::scale>::encode(coded.scale[head][tile]);
          if constexpr (made::asymmetric) {
            if constexpr (apart) word[place + 1] = zero[head][tile];
            else entry.range(scale_bits + zero_bits - 1, scale_bits) = zero[head][tile];
          }
          word[place] = entry;
        }
      }
    }
  }

  // What attention multiplies: codes less their zero points, a block of 32 at once, and scales.
  void decode(made& coded) const {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = word cyclic factor = code_bits
#pragma HLS ARRAY_PARTITION variable = coded.code complete dim = 1
#pragma HLS ARRAY_PARTITION variable = coded.code cyclic factor = code_banks dim = 2
#pragma HLS ARRAY_PARTITION variable = coded.scale complete dim = 1
    ap_uint<zero_bits ? zero_bits : 1> zero[HEADS][made::tiles];
#pragma HLS ARRAY_PARTITION variable = zero complete dim = 0
  entries_unpacked:
    for (int i = 0; i < HEADS * made::tiles; ++i) {
#pragma HLS PIPELINE II = 1
      const int head = i / made::tiles, tile = i % made::tiles;
      if constexpr (made::scaled) {
        const ap_uint<word_bits> entry = word[entries + i * entry_words];
        coded.scale[head][tile] = STAGE::scale::decode(ap_uint<STAGE::scale::bits>(entry));
        if constexpr (made::asymmetric) {
          if constexpr (apart) zero[head][tile] = word[entries + i * entry_words + 1];
          else zero[head][tile] = entry.range(scale_bits + zero_bits - 1, scale_bits);
        }
      } else {
        coded.scale[head][tile] = 1.0F;
      }
    }
  blocks_unpacked:
    for (int i = 0; i < HEADS * blocks; ++i) {
#pragma HLS PIPELINE II = 1
      const int head = i / blocks, first = i % blocks * block_codes;
      ap_uint<word_bits> block[code_bits];
#pragma HLS ARRAY_PARTITION variable = block complete
    words_of_block:
      for (int at = 0; at < code_bits; ++at) {
#pragma HLS UNROLL
        block[at] = word[i * code_bits + at];
      }
    codes_of_block:
      for (int at = 0; at < block_codes; ++at) {
#pragma HLS UNROLL
        const int column = first + at;
        if (column < STAGE::columns) {
          const ap_uint<code_bits> code = unpack_code<code_bits>(block, at);
          if constexpr (made::asymmetric) {
            const ap_int<made::bits + 1> less = zero[head][column / STAGE::tile_columns];
            coded.code[head][column] = ap_int<made::bits>(ap_int<made::bits + 1>(code) - less);
          } else {
            coded.code[head][column] = code;
          }
        }
      }
    }
  }

  void write(beat_t* memory, int start) const {
#pragma HLS INLINE off
  record_beats_out:
    for (int beat = 0; beat < beats; ++beat) {
#pragma HLS PIPELINE II = 1
      memory[start + beat] = beat_of_words(word, beat);
    }
  }

  void read(const beat_t* memory, int start) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = word cyclic factor = code_bits
  record_beats_in:
    for (int beat = 0; beat < beats; ++beat) {
#pragma HLS PIPELINE II = 1
      const beat_t taken = memory[start + beat];
    words_in:
      for (int i = 0; i < beat_words; ++i) {
#pragma HLS UNROLL
        word[beat * beat_words + i] = lane_of<word_bits>(taken, i);
      }
    }
  }

  void copy(const cache_record& from) {
#pragma HLS INLINE off
  words_copied:
    for (int i = 0; i < beats * beat_words; ++i) {
#pragma HLS PIPELINE II = 1
      word[i] = from.word[i];
    }
  }

 private:
  // The zero point of each tile once more, as `quantize` takes it from the smallest value and the stored scale.
  static void zero_points(const float (&x)[HEADS][STAGE::columns], const made& coded,
                          ap_uint<quantizer::bits> (&zero)[HEADS][made::tiles]) {
#pragma HLS INLINE
    if constexpr (made::asymmetric) {
    zero_heads:
      for (int head = 0; head < HEADS; ++head) {
      zero_tiles:
        for (int tile = 0; tile < made::tiles; ++tile) {
          float down = 0.0F;
        zero_columns:
          for (int i = 0; i < STAGE::tile_columns; ++i) {
#pragma HLS PIPELINE II = 1
            const int column = tile * STAGE::tile_columns + i;
            if (column < STAGE::columns && x[head][column] < down) down = x[head][column];
          }
          const float place = round_even(quantizer::minimum - down / coded.scale[head][tile]);
          zero[head][tile] = quantizer::encode(place);  // saturates as the stage does
        }
      }
    } else {
    no_zeros:
      for (int i = 0; i < HEADS * made::tiles; ++i) {
#pragma HLS UNROLL
        zero[i / made::tiles][i % made::tiles] = 0;
      }
    }
  }
};

}  // namespace codesign

#endif
