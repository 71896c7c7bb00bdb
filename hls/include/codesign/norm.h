// RMSNorm in float32 (Zhang and Sennrich, arXiv 1910.07467), and rows of FP16 as beats: what layers take in.
#ifndef CODESIGN_NORM_H
#define CODESIGN_NORM_H

#include <cmath>

#include "codesign/branches.h"

namespace codesign {

// Beats of a row of COLUMNS values of FP16, made of one value after another, saturating.
template <int COLUMNS>
struct half_row {
  static constexpr int halves = beat_bits / 16;
  beat_t beat = 0;
  void write(float value, int column, beat_stream& out) {
#pragma HLS INLINE
    const int place = column % halves;
    if (place == 0) beat = 0;
    put_lane<16>(beat, place, fp16_quantizer::encode(value));
    if (place == halves - 1 || column == COLUMNS - 1) out.write(beat);
  }
};

// A row x, float32: y = (x * (1 / sqrt(mean(x * x) + epsilon))) * weight, as FP16. The squares are added in interleaved
// partial sums; their sum is divided by COLUMNS. The weights are taken before x.
template <int COLUMNS, class WEIGHT>
void rms_norm(beat_stream& weights, float_stream& in, float epsilon, beat_stream& out) {
#pragma HLS INLINE off
  float x[COLUMNS];
  ap_uint<WEIGHT::bits> weight[COLUMNS];
  take_field<WEIGHT>(weights, 0, COLUMNS, weight);
  interleaved_sum squares;
  squares.clear();
columns_in:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    x[column] = in.read();
    squares.add(x[column] * x[column]);
  }
  const float mean = squares.total() / static_cast<float>(COLUMNS);
  const float inverse = 1.0F / std::sqrt(mean + epsilon);
  half_row<COLUMNS> row;
columns_out:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    row.write((x[column] * inverse) * WEIGHT::value::decode(weight[column]), column, out);
  }
}

}  // namespace codesign

#endif
