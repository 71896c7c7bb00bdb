// Attention of one token over a quantized KV cache in memory, positions before it and its own.
//
// B is the block's config (docs/hls.md): heads, kv_heads, head_dim, positions, scaling, and the stages `key` and
// `value` that encode a head as it is written. The newest position is taken from the chip, so that nothing is read
// that was written in the same call of this process; the others come from memory, each record once.
#ifndef CODESIGN_ATTENTION_H
#define CODESIGN_ATTENTION_H

#include "codesign/elementwise.h"
#include "codesign/kv_cache.h"
#include "codesign/norm.h"

namespace codesign {

template <class B>
using key_record = cache_record<typename B::key, B::kv_heads>;
template <class B>
using value_record = cache_record<typename B::value, B::kv_heads>;

// Beats of one position in the cache: keys, then values.
template <class B>
constexpr int position_beats = key_record<B>::beats + value_record<B>::beats;

template <int HEADS, int HEAD_DIM>
void take_heads(float_stream& in, float (&x)[HEADS][HEAD_DIM]) {
#pragma HLS INLINE off
heads_in:
  for (int head = 0; head < HEADS; ++head) {
  elements_in:
    for (int i = 0; i < HEAD_DIM; ++i) {
#pragma HLS PIPELINE II = 1
      x[head][i] = in.read();
    }
  }
}

// Queries and keys turned by their position, one head after another.
template <class B>
void rotate_heads(beat_stream& tables, float_stream& queries, float_stream& keys, float_stream& turned_queries,
                  float_stream& turned_keys) {
#pragma HLS INLINE off
  constexpr int half = B::head_dim / 2;
  ap_uint<32> stored[half];
  float cosine[half], sine[half];
  take_field<typename B::cosine>(tables, 0, half, stored);
cosines:
  for (int i = 0; i < half; ++i) cosine[i] = fp32_value::decode(stored[i]);
  take_field<typename B::sine>(tables, 0, half, stored);
sines:
  for (int i = 0; i < half; ++i) sine[i] = fp32_value::decode(stored[i]);
heads_turned:
  for (int head = 0; head < B::heads + B::kv_heads; ++head) {
    const bool query = head < B::heads;
    float x[B::head_dim];
  elements_in:
    for (int i = 0; i < B::head_dim; ++i) {
#pragma HLS PIPELINE II = 1
      x[i] = query ? queries.read() : keys.read();
    }
    rotate_head<B::head_dim>(x, cosine, sine);
  elements_out:
    for (int i = 0; i < B::head_dim; ++i) {
#pragma HLS PIPELINE II = 1
      if (query) turned_queries.write(x[i]);
      else turned_keys.write(x[i]);
    }
  }
}

// Scores of one position: products of query and key code in interleaved partial sums, tile by tile; the sum of a tile
// times its scale; tiles in order; then times `scaling`.
template <class B>
void score_position(const float (&query)[B::heads][B::head_dim], const typename key_record<B>::made& key,
                    float (&score)[B::heads]) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = query complete dim = 1
#pragma HLS ARRAY_PARTITION variable = key.code complete dim = 1
  using made = typename key_record<B>::made;
  interleaved_sum sum[B::heads];
#pragma HLS ARRAY_PARTITION variable = sum complete
  float total[B::heads];
#pragma HLS ARRAY_PARTITION variable = total complete
totals_cleared:
  for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
    total[head] = 0.0F;
  }
tiles_scored:
  for (int tile = 0; tile < made::tiles; ++tile) {
    const int first = tile * made::tile_columns;
    const int end = first + made::tile_columns < B::head_dim ? first + made::tile_columns : B::head_dim;
  sums_cleared:
    for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
      sum[head].clear();
    }
  elements_scored:
    for (int i = first; i < end; ++i) {
#pragma HLS PIPELINE II = 1
    heads_scored:
      for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
        sum[head].add(i - first, query[head][i] * made::value(key.code[head / (B::heads / B::kv_heads)][i]));
      }
    }
  tiles_scaled:
    for (int head = 0; head < B::heads; ++head) {
      float part = sum[head].total();
      if constexpr (made::scaled) part = part * key.scale[head / (B::heads / B::kv_heads)][tile];
      total[head] = total[head] + part;
    }
  }
scores_scaled:
  for (int head = 0; head < B::heads; ++head) score[head] = total[head] * B::scaling;
}

// result += power * value of one position: (power * scale of the tile) * code, positions in order.
template <class B>
void weigh_position(const float (&power)[B::heads], const typename value_record<B>::made& value,
                    float (&result)[B::heads][B::head_dim]) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = result complete dim = 1
#pragma HLS ARRAY_PARTITION variable = value.code complete dim = 1
  using made = typename value_record<B>::made;
  float weight[B::heads];
#pragma HLS ARRAY_PARTITION variable = weight complete
elements_weighed:
  for (int i = 0; i < B::head_dim; ++i) {
#pragma HLS PIPELINE II = 1
  heads_weighed:
    for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
      const int from = head / (B::heads / B::kv_heads);
      if (i % made::tile_columns == 0) {
        weight[head] = power[head];
        if constexpr (made::scaled) weight[head] = weight[head] * value.scale[from][i / made::tile_columns];
      }
      result[head][i] = result[head][i] + weight[head] * made::value(value.code[from][i]);
    }
  }
}

// Softmax of the scores of positions 0 to `position`: powers exp(score - largest), and their sum of interleaved parts.
template <class B>
void softmax_powers(float (&score)[B::positions][B::heads], int position, float (&sum)[B::heads]) {
#pragma HLS INLINE off
heads_compared:
  for (int head = 0; head < B::heads; ++head) {
    float largest = score[0][head];
  positions_compared:
    for (int t = 1; t <= position; ++t) {
#pragma HLS PIPELINE II = 1
      if (score[t][head] > largest) largest = score[t][head];
    }
    interleaved_sum powers;
    powers.clear();
  powers_added:
    for (int t = 0; t <= position; ++t) {
#pragma HLS PIPELINE II = 1
      const float power = exp_of_negative(score[t][head] - largest);
      score[t][head] = power;
      powers.add(t, power);
    }
    sum[head] = powers.total();
  }
}

template <class B>
void attend(float_stream& queries, float_stream& keys, float_stream& values, beat_t* cache, int position,
            beat_stream& out) {
#pragma HLS INLINE off
  using key_made = typename key_record<B>::made;
  using value_made = typename value_record<B>::made;
  float query[B::heads][B::head_dim], key[B::kv_heads][B::head_dim], value[B::kv_heads][B::head_dim];
  take_heads(queries, query);
  take_heads(keys, key);
  take_heads(values, value);
  key_made newest_key;
  value_made newest_value;
  quantize<typename B::key, B::kv_heads>(key, B::kv_heads, newest_key);
  quantize<typename B::value, B::kv_heads>(value, B::kv_heads, newest_value);

  float score[B::positions][B::heads], sum[B::heads], result[B::heads][B::head_dim];
positions_scored:
  for (int t = 0; t < position; ++t) {
    key_record<B> record;
    key_made old_key;
    record.read(cache, t * position_beats<B>);
    record.decode(old_key);
    score_position<B>(query, old_key, score[t]);
  }
  score_position<B>(query, newest_key, score[position]);
  softmax_powers<B>(score, position, sum);
results_cleared:
  for (int head = 0; head < B::heads; ++head) {
    for (int i = 0; i < B::head_dim; ++i) result[head][i] = 0.0F;
  }
positions_weighed:
  for (int t = 0; t < position; ++t) {
    value_record<B> record;
    value_made old_value;
    record.read(cache, t * position_beats<B> + key_record<B>::beats);
    record.decode(old_value);
    weigh_position<B>(score[t], old_value, result);
  }
  weigh_position<B>(score[position], newest_value, result);

  half_row<B::heads * B::head_dim> row;
heads_out:
  for (int head = 0; head < B::heads; ++head) {
  elements_out:
    for (int i = 0; i < B::head_dim; ++i) {
#pragma HLS PIPELINE II = 1
      row.write(result[head][i] / sum[head], head * B::head_dim + i, out);
    }
  }
  key_record<B> key_written;
  value_record<B> value_written;
  key_written.encode(key, newest_key);
  value_written.encode(value, newest_value);
  key_written.write(cache, position * position_beats<B>);
  value_written.write(cache, position * position_beats<B> + key_record<B>::beats);
}

}  // namespace codesign

#endif
