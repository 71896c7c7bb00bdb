// float32 functions between the layers of a decoder block: exp, SiLU, rotary embedding. Every operation is rounded by
// itself, in the order written here, so that numpy with the same order gives the same bits.
#ifndef CODESIGN_ELEMENTWISE_H
#define CODESIGN_ELEMENTWISE_H

#include "codesign/quantizers.h"

namespace codesign {

// exp(x) for x <= 0; 0 from -87 on down (exp(-87) = 1.6e-38 is the last that is no subnormal).
//
// x = whole * ln 2 + rest (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 6: ln 2 in two
// parts, the upper one of 15 bits, so that its product with `whole` is exact); exp(rest) by its Taylor polynomial of
// degree 7, whose remainder is below 2**-27 for |rest| <= ln(2) / 2; then times 2**whole, exact.
inline float exp_of_negative(float x) {
#pragma HLS INLINE
  if (!(x > -87.0F)) return 0.0F;
  const float whole = round_even(x * 0x1.715476p+0F);                              // 1 / ln 2
  const float rest = (x - whole * 0x1.62e4p-1F) - whole * 0x1.7f7d1cp-20F;         // ln 2
  float sum = 0x1.a01a02p-13F;                                                     // 1 / 7!
  sum = sum * rest + 0x1.6c16c2p-10F;                                              // 1 / 6!
  sum = sum * rest + 0x1.111112p-7F;
  sum = sum * rest + 0x1.555556p-5F;
  sum = sum * rest + 0x1.555556p-3F;
  sum = sum * rest + 0.5F;
  sum = sum * rest + 1.0F;
  sum = sum * rest + 1.0F;
  return sum * normal_power(static_cast<int>(whole));
}

// x * sigmoid(x): x / (1 + exp(-x)), for negative x as (x * exp(x)) / (1 + exp(x)).
inline float silu(float x) {
#pragma HLS INLINE
  const bool negative = x < 0.0F;
  const float power = exp_of_negative(negative ? x : -x);
  const float upper = negative ? x * power : x;
  return upper / (1.0F + power);
}

// A head turned by its position, in place: the pair of elements i and i + half by the angle whose cosine and sine are
// given (Su et al., RoFormer, arXiv 2104.09864, with pairs in two halves as in Llama).
template <int HEAD_DIM>
void rotate_head(float (&x)[HEAD_DIM], const float (&cosine)[HEAD_DIM / 2], const float (&sine)[HEAD_DIM / 2]) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = x block factor = 2
  static_assert(HEAD_DIM % 2 == 0, "elements of a head are turned in pairs");
  constexpr int half = HEAD_DIM / 2;
pairs:
  for (int i = 0; i < half; ++i) {
#pragma HLS PIPELINE II = 1
    const float low = x[i], high = x[i + half];
    x[i] = low * cosine[i] - high * sine[i];
    x[i + half] = high * cosine[i] + low * sine[i];
  }
}

}  // namespace codesign

#endif
