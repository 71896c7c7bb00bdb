// What leaves a layer: float32, FP16, or codes and scales of an output format, packed into beats.
#ifndef CODESIGN_LAYER_OUTPUT_H
#define CODESIGN_LAYER_OUTPUT_H

#include "codesign/activation.h"
#include "codesign/streams.h"

namespace codesign {

using float_stream = hls::stream<float>;

struct fp32_output {
  static constexpr bool codes = false;
  static constexpr int bits = 32;
  static ap_uint<32> encode(float y) { return bits_of_float(y); }
};

struct fp16_output {
  static constexpr bool codes = false;
  static constexpr int bits = 16;
  static ap_uint<16> encode(float y) { return fp16_quantizer::encode(y); }
};

// Codes and scales of an output stage: each token's packed row of codes, then, from the next beat on, the float32
// scales of its tiles.
template <class STAGE>
struct stage_output {
  static constexpr bool codes = true;
  static constexpr int bits = STAGE::quantizer::bits;
  using stage = STAGE;
};

template <class C>
void write_output(float_stream& in, int tokens, beat_t* output) {
#pragma HLS INLINE off
  using out = typename C::output;
  float y[C::tokens][C::n];
row_tiles:
  for (int first = 0; first < C::n; first += C::tile_rows) {
    const int rows = first + C::tile_rows < C::n ? C::tile_rows : C::n - first;
  tokens_in:
    for (int token = 0; token < tokens; ++token) {
    rows_in:
      for (int row = 0; row < rows; ++row) {
#pragma HLS PIPELINE II = 1
        y[token][first + row] = in.read();
      }
    }
  }
  if constexpr (out::codes) {
    using made = activations<typename out::stage, C::tokens>;
    static_assert(!made::asymmetric, "codes of an output have no zero point");
    constexpr int words = row_words(C::n, out::bits);
    constexpr int code_beats = beats_of(words * word_bits), scale_beats = beats_of(made::tiles * 32LL);
    made coded;
    quantize<typename out::stage, C::tokens>(y, tokens, coded);
  tokens_coded:
    for (int token = 0; token < tokens; ++token) {
      ap_uint<word_bits> row[code_beats * beat_words];
    words_cleared:
      for (int word = 0; word < code_beats * beat_words; ++word) row[word] = 0;
    columns_packed:
      for (int column = 0; column < C::n; ++column) {
#pragma HLS PIPELINE II = 1
        pack_code<out::bits>(coded.code[token][column], column, row);
      }
      const int start = token * (code_beats + scale_beats);
    code_beats_out:
      for (int beat = 0; beat < code_beats; ++beat) {
#pragma HLS PIPELINE II = 1
        beat_t made_beat = 0;
        for (int word = 0; word < beat_words; ++word) {
#pragma HLS UNROLL
          made_beat.range(word * word_bits + word_bits - 1, word * word_bits) = row[beat * beat_words + word];
        }
        output[start + beat] = made_beat;
      }
    scale_beats_out:
      for (int beat = 0; beat < scale_beats; ++beat) {
#pragma HLS PIPELINE II = 1
        beat_t made_beat = 0;
        for (int word = 0; word < beat_words; ++word) {
#pragma HLS UNROLL
          const int tile = beat * beat_words + word;
          if (tile < made::tiles) {
            made_beat.range(word * word_bits + word_bits - 1, word * word_bits) =
                bits_of_float(coded.scale[token][tile]);
          }
        }
        output[start + code_beats + beat] = made_beat;
      }
    }
  } else {
    constexpr int places = beat_bits / out::bits, beats = ceil_div(C::n, places);
  tokens_out:
    for (int token = 0; token < tokens; ++token) {
    beats_out:
      for (int beat = 0; beat < beats; ++beat) {
#pragma HLS PIPELINE II = 1
        beat_t made = 0;
      places_out:
        for (int place = 0; place < places; ++place) {
#pragma HLS UNROLL
          const int row = beat * places + place;
          if (row < C::n) made.range(place * out::bits + out::bits - 1, place * out::bits) = out::encode(y[token][row]);
        }
        output[token * beats + beat] = made;
      }
    }
  }
}

}  // namespace codesign

#endif
