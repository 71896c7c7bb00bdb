// What leaves a layer: float32, FP16, or codes and scales of an output format, packed into beats; normalised before,
// where the layer asks for it.
#ifndef CODESIGN_LAYER_OUTPUT_H
#define CODESIGN_LAYER_OUTPUT_H

#include <cmath>

#include "codesign/branches.h"

namespace codesign {

// Rows of the tile that starts at row `first`.
template <class C>
int rows_from(int first) {
#pragma HLS INLINE
  return smaller(C::tile_rows, C::n - first);
}

// Whether a bias waits for the norm: it then follows the outputs of its rows.
template <class C>
constexpr bool normalised_bias = C::normalised && C::bias::present;

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

// (y - mean) / sqrt(mean of squares of that + epsilon) for a row of outputs, without parameters (Xu et al., OneBit, arXiv
// 2402.11295); sums interleaved, each operation rounded by itself. 1e-5: torch.nn.functional.layer_norm.
template <int COLUMNS>
void normalise(float (&y)[COLUMNS]) {
#pragma HLS INLINE off
  interleaved_sum sum, squares;
  sum.clear();
  squares.clear();
columns_summed:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    sum.add(y[column]);
  }
  const float mean = sum.total() / static_cast<float>(COLUMNS);
columns_centred:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    y[column] = y[column] - mean;
    squares.add(y[column] * y[column]);
  }
  const float inverse = 1.0F / std::sqrt(squares.total() / static_cast<float>(COLUMNS) + 1e-5F);
columns_normalised:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    y[column] = y[column] * inverse;
  }
}

// Outputs of a beat: as many memories hold them, so that a beat is one read of each.
template <class C>
constexpr int output_places = C::output::codes ? 1 : beat_bits / C::output::bits;

template <class C>
void write_output(float_stream& in, int tokens, beat_t* output) {
#pragma HLS INLINE off
  using out = typename C::output;
  [[maybe_unused]] constexpr int places = output_places<C>;  // of the pragma alone, where codes leave
  float y[C::tokens][C::n], bias[normalised_bias<C> ? C::n : 1];
#pragma HLS ARRAY_PARTITION variable = y cyclic factor = places dim = 2
row_tiles:
  for (int first = 0; first < C::n; first += C::tile_rows) {
    const int rows = rows_from<C>(first);
  tokens_in:
    for (int token = 0; token < tokens; ++token) {
    rows_in:
      for (int row = 0; row < rows; ++row) {
#pragma HLS PIPELINE II = 1
        y[token][first + row] = in.read();
      }
    }
    if constexpr (normalised_bias<C>) {
    biases_in:
      for (int row = 0; row < rows; ++row) {
#pragma HLS PIPELINE II = 1
        bias[first + row] = in.read();
      }
    }
  }
  if constexpr (C::normalised) {
  tokens_normalised:
    for (int token = 0; token < tokens; ++token) {
      normalise<C::n>(y[token]);
      if constexpr (normalised_bias<C>) {
      biases_added:
        for (int row = 0; row < C::n; ++row) {
#pragma HLS PIPELINE II = 1
          y[token][row] = y[token][row] + bias[row];
        }
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
        output[start + beat] = beat_of_words(row, beat);
      }
    scale_beats_out:
      for (int beat = 0; beat < scale_beats; ++beat) {
#pragma HLS PIPELINE II = 1
        beat_t made_beat = 0;
        for (int word = 0; word < beat_words; ++word) {
#pragma HLS UNROLL
          const int tile = beat * beat_words + word;
          if (tile < made::tiles) put_lane<word_bits>(made_beat, word, bits_of_float(coded.scale[token][tile]));
        }
        output[start + code_beats + beat] = made_beat;
      }
    }
  } else {
    constexpr int beats = ceil_div(C::n, places);
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
          if (row < C::n) put_lane<out::bits>(made, place, out::encode(y[token][row]));
        }
        output[token * beats + beat] = made;
      }
    }
  }
}

}  // namespace codesign

#endif
