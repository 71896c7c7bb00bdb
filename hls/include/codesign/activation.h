// The activation stage: FP16 or float32 rows to codes and scales, bit for bit as datatypes.quantize encodes them; and
// the same for outputs, for intermediates of the low-rank branch and for keys and values as they are written.
//
// A stage is a struct as docs/hls.md has it (NAME_input): columns, quantizer, scale, rule, tiles. Scales follow from
// the values at hand (dynamic) or are one constant. An asymmetric stage hands on code minus zero point, two's
// complement of one bit more, so that nothing behind it knows of zero points.
#ifndef CODESIGN_ACTIVATION_H
#define CODESIGN_ACTIVATION_H

#include <type_traits>

#include "codesign/quantizers.h"

namespace codesign {

// How a scale follows from the values it covers (datatypes.layer_config.ScaleRule).
enum class scale_rule { none, absmax, range, pow2_floor, pow2_ceil, lqer_ceil };

// What an activation looks like where it is quantized: codes, the scale of each tile, and what both mean.
template <class STAGE, int TOKENS>
struct activations {
  static constexpr bool asymmetric = STAGE::rule == scale_rule::range;
  static constexpr int bits = STAGE::quantizer::bits + (asymmetric ? 1 : 0);
  static constexpr bool scaled = STAGE::quantizer::scaled && STAGE::rule != scale_rule::none;
  static constexpr int tile_columns = STAGE::tile_columns;
  static constexpr int tiles = ceil_div(STAGE::columns, tile_columns);
  ap_uint<bits> code[TOKENS][STAGE::columns];
  float scale[TOKENS][tiles];  // 1 where the format has none

  // Tile of a column: no divider where a token has one alone.
  static int tile_of(int column) {
#pragma HLS INLINE
    return tiles == 1 ? 0 : column / tile_columns;
  }
  // The number in code units: exact.
  static float value(ap_uint<bits> code) {
#pragma HLS INLINE
    if constexpr (asymmetric) return static_cast<float>(ap_int<bits>(code).to_int());
    else return STAGE::quantizer::value(code);
  }
  // The number itself, float32: what side branches multiply.
  float number(int token, int column) const {
#pragma HLS INLINE
    const float plain = value(code[token][column]);
    if constexpr (scaled) return plain * scale[token][tile_of(column)];
    else return plain;
  }
};

struct no_stage {  // float32 stays as it is
  static constexpr bool present = false;
};

// --- the online Hadamard rotation -----------------------------------------------------------------------------------

// A row times the orthonormal Hadamard matrix, in blocks (Sylvester's order), in place: float32 butterflies, then one
// division by the square root of BLOCK (a power of two; the float32 next to its root).
template <int BLOCK, int COLUMNS>
void rotate(float (&x)[COLUMNS], float root) {
#pragma HLS INLINE off
  static_assert(COLUMNS % BLOCK == 0 && (BLOCK & (BLOCK - 1)) == 0, "blocks are a power of two that divides the row");
blocks:
  for (int first = 0; first < COLUMNS; first += BLOCK) {
  stages:
    for (int half = 1; half < BLOCK; half *= 2) {
    butterflies:
      for (int pair = 0; pair < BLOCK / 2; ++pair) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = x inter false
        const int low = first + (pair / half) * 2 * half + pair % half;
        const float a = x[low], b = x[low + half];
        x[low] = a + b;
        x[low + half] = a - b;
      }
    }
  scaled:
    for (int i = first; i < first + BLOCK; ++i) {
#pragma HLS PIPELINE II = 1
      x[i] = x[i] / root;
    }
  }
}

// --- scales ---------------------------------------------------------------------------------------------------------

// Mantissa in [0.5, 1) and exponent of a positive float32, as C's frexp.
inline void split_float(float value, float& mantissa, int& exponent) {
#pragma HLS INLINE
  const ap_uint<32> bits = bits_of_float(value);
  const int field = static_cast<int>(ap_uint<8>(bits.range(30, 23)).to_uint());
  const ap_uint<23> fraction = bits.range(22, 0);
  if (field != 0) {
    exponent = field - 126;
    mantissa = float_of_bits((ap_uint<32>(126) << 23) | fraction);
  } else if (fraction == 0) {
    exponent = 0;
    mantissa = 0.0F;
  } else {
    const int zeros = leading_zeros<23>(fraction);
    exponent = -126 - zeros;
    mantissa = float_of_bits((ap_uint<32>(126) << 23) | ap_uint<23>(fraction << (zeros + 1)));
  }
}

// 2**power for -127 to 127, clamped (datatypes.scale.power_of_two).
inline float scale_power(int power) {
#pragma HLS INLINE
  const int clamped = power < -127 ? -127 : power > 127 ? 127 : power;
  return exponent_value<8, 127>::decode(clamped + 127);
}

// Scale of a tile as a real number, from its largest magnitude; `of_zeros` for a tile of zeros.
template <class QUANTIZER, scale_rule RULE>
float real_scale(float absmax, float of_zeros) {
#pragma HLS INLINE
  if (absmax == 0.0F) return of_zeros;
  if constexpr (RULE == scale_rule::absmax) {
    const float scale = absmax / QUANTIZER::absmax;
    return scale > 0.0F ? scale : of_zeros;
  } else {
    float mantissa, limit_mantissa;
    int exponent, limit_exponent;
    split_float(absmax, mantissa, exponent);
    split_float(QUANTIZER::absmax, limit_mantissa, limit_exponent);
    if constexpr (RULE == scale_rule::pow2_floor) return scale_power(exponent - limit_exponent);
    if constexpr (RULE == scale_rule::pow2_ceil) {
      return scale_power(exponent - limit_exponent + (mantissa > limit_mantissa ? 1 : 0));
    }
    return scale_power((mantissa == 0.5F ? exponent - 1 : exponent) - (QUANTIZER::bits - 1));  // lqer_ceil
  }
}

// --- the stage ------------------------------------------------------------------------------------------------------

// A finite float32 as an integer of the same order, which is compared in one cycle.
inline ap_int<32> float_order(float value) {
#pragma HLS INLINE
  const ap_uint<32> bits = bits_of_float(value);
  const ap_int<32> magnitude = ap_uint<31>(bits);
  return bits[31] ? ap_int<32>(-magnitude) : magnitude;
}

// Largest and smallest value of each tile of each token; over all tokens where they share a tile.
template <class STAGE, int TOKENS>
void tile_extremes(const float (&x)[TOKENS][STAGE::columns], int tokens,
                   float (&high)[TOKENS][activations<STAGE, TOKENS>::tiles],
                   float (&low)[TOKENS][activations<STAGE, TOKENS>::tiles]) {
#pragma HLS INLINE off
tokens_seen:
  for (int token = 0; token < tokens; ++token) {
    const int to = STAGE::per_token ? token : 0;
    float most = 0.0F, least = 0.0F;  // of the tile so far
  columns_seen:
    for (int column = 0; column < STAGE::columns; ++column) {
#pragma HLS PIPELINE II = 1
      const int tile = activations<STAGE, TOKENS>::tile_of(column), within = column - tile * STAGE::tile_columns;
      const float value = x[token][column];
      if (within == 0 || float_order(value) > float_order(most)) most = value;
      if (within == 0 || float_order(value) < float_order(least)) least = value;
      if (within == STAGE::tile_columns - 1 || column == STAGE::columns - 1) {
        const bool alone = STAGE::per_token || token == 0;
        if (alone || float_order(most) > float_order(high[to][tile])) high[to][tile] = most;
        if (alone || float_order(least) < float_order(low[to][tile])) low[to][tile] = least;
      }
    }
  }
}

// x to codes and scales.
template <class STAGE, int TOKENS>
void quantize(const float (&x)[TOKENS][STAGE::columns], int tokens, activations<STAGE, TOKENS>& out) {
#pragma HLS INLINE off
  using made = activations<STAGE, TOKENS>;
  using quantizer = typename STAGE::quantizer;
  if constexpr (!made::scaled) {
  plain_tokens:
    for (int token = 0; token < tokens; ++token) {
    plain_tiles:
      for (int tile = 0; tile < made::tiles; ++tile) out.scale[token][tile] = 1.0F;
    plain_columns:
      for (int column = 0; column < STAGE::columns; ++column) {
#pragma HLS PIPELINE II = 1
        out.code[token][column] = quantizer::encode(x[token][column]);
      }
    }
  } else {
    using stored = stored_scale<typename STAGE::scale>;
    float high[TOKENS][made::tiles], low[TOKENS][made::tiles], zero[TOKENS][made::tiles];
    if constexpr (STAGE::dynamic) tile_extremes<STAGE, TOKENS>(x, tokens, high, low);
    const int rows = STAGE::per_token ? tokens : 1;
    constexpr bool two_levels = !std::is_same_v<typename STAGE::outer_scale, no_value>;
  scale_tokens:
    for (int token = 0; token < rows; ++token) {
    scale_tiles:
      for (int tile = 0; tile < made::tiles; ++tile) {
        float scale = STAGE::static_scale;
        zero[token][tile] = 0.0F;
        if constexpr (STAGE::dynamic && !made::asymmetric) {
          const float up = high[token][tile], down = -low[token][tile];
          scale = real_scale<quantizer, STAGE::rule>(up > down ? up : down, two_levels ? 0.0F : 1.0F);
        }
        if constexpr (made::asymmetric) {
          const float up = high[token][tile] > 0.0F ? high[token][tile] : 0.0F;
          const float down = low[token][tile] < 0.0F ? low[token][tile] : 0.0F;
          const float span = (up - down) / (quantizer::maximum - quantizer::minimum);
          scale = STAGE::scale::decode(stored::encode(span > 0.0F ? span : 1.0F));
          const float place = round_even(quantizer::minimum - down / scale);
          const float above = place < quantizer::minimum ? quantizer::minimum : place;
          zero[token][tile] = above > quantizer::maximum ? quantizer::maximum : above;
        }
        out.scale[token][tile] = scale;
      }
    }
    if constexpr (two_levels) {
      using outer_stored = stored_scale<typename STAGE::outer_scale>;
      float largest[TOKENS];
    outer_tokens:
      for (int token = 0; token < rows; ++token) {
        const int to = STAGE::outer_per_token ? token : 0;
      outer_tiles:
        for (int tile = 0; tile < made::tiles; ++tile) {
          const bool first = tile == 0 && (STAGE::outer_per_token || token == 0);
          const float scale = out.scale[token][tile];
          if (first || scale > largest[to]) largest[to] = scale;
        }
      }
    stored_tokens:
      for (int token = 0; token < rows; ++token) {
        const float most = largest[STAGE::outer_per_token ? token : 0];
        const float ratio = most > 0.0F ? most / STAGE::scale_maximum : 1.0F;
        const float outer = STAGE::outer_scale::decode(outer_stored::encode(ratio));
      stored_tiles:
        for (int tile = 0; tile < made::tiles; ++tile) {
          const float inner = STAGE::scale::decode(stored::encode(out.scale[token][tile] / outer));
          out.scale[token][tile] = inner * outer;
        }
      }
    } else {
    one_level_tokens:
      for (int token = 0; token < rows; ++token) {
      one_level_tiles:
        for (int tile = 0; tile < made::tiles; ++tile) {
          out.scale[token][tile] = STAGE::scale::decode(stored::encode(out.scale[token][tile]));
        }
      }
    }
  encoded_tokens:
    for (int token = 0; token < tokens; ++token) {
      const int from = STAGE::per_token ? token : 0;
    encoded_columns:
      for (int column = 0; column < STAGE::columns; ++column) {
#pragma HLS PIPELINE II = 1
        const int tile = made::tile_of(column);
        const float y = x[token][column] / out.scale[from][tile];
        if constexpr (made::asymmetric) {
          const ap_uint<quantizer::bits> code = quantizer::encode(round_even(y) + zero[from][tile]);
          const int whole = static_cast<int>(quantizer::value(code)) - static_cast<int>(zero[from][tile]);
          out.code[token][column] = ap_uint<made::bits>(ap_int<made::bits>(whole));
        } else {
          out.code[token][column] = quantizer::encode(y);
        }
      }
    }
  shared_tokens:
    for (int token = 1; token < (STAGE::per_token ? 0 : tokens); ++token) {
    shared_tiles:
      for (int tile = 0; tile < made::tiles; ++tile) out.scale[token][tile] = out.scale[0][tile];
    }
  }
}

}  // namespace codesign

#endif
