// Attention of one token over a quantized KV cache in memory, positions before it and its own.
//
// B is the block's config (docs/hls.md): heads, kv_heads, head_dim, positions, scaling, and the stages `key` and
// `value` that encode a head as it is written. The newest position is taken from the chip, so that nothing is read
// that was written in the same call of this process; the others come from memory, each record once.
//
// Positions follow one another in two pipelines, first over keys, then over values: while one record is multiplied the
// next one is unpacked and the one after it read; of keys, the sums of the one before are added up meanwhile. All heads
// multiply side by side, an element a cycle.
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
  for (int i = 0; i < half; ++i) {
#pragma HLS PIPELINE II = 1
    cosine[i] = fp32_value::decode(stored[i]);
  }
  take_field<typename B::sine>(tables, 0, half, stored);
sines:
  for (int i = 0; i < half; ++i) {
#pragma HLS PIPELINE II = 1
    sine[i] = fp32_value::decode(stored[i]);
  }
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

// The record of position t, FIRST beats behind where the position starts: from memory, or the newest one, which is not
// there yet.
template <class B, int FIRST, class RECORD>
void read_record(const beat_t* cache, const RECORD& newest, int t, int position, RECORD& record) {
#pragma HLS INLINE off
  if (t == position) record.copy(newest);
  else record.read(cache, t * position_beats<B> + FIRST);
}

// Sums of the products of query and key code of every head over one tile of scales, and what scales them.
template <class B>
struct tile_sums {
  interleaved_sum sum[B::heads];
  float scale[B::kv_heads];
  tile_sums() {
#pragma HLS ARRAY_PARTITION variable = sum complete
#pragma HLS ARRAY_PARTITION variable = scale complete
  }
};

template <class B>
void score_tiles(const float (&query)[B::heads][B::head_dim], const typename key_record<B>::made& key,
                 hls::stream<tile_sums<B>>& out) {
#pragma HLS INLINE off
  [[maybe_unused]] constexpr int banks = key_record<B>::code_banks;
#pragma HLS ARRAY_PARTITION variable = query complete dim = 1
#pragma HLS ARRAY_PARTITION variable = key.code complete dim = 1
#pragma HLS ARRAY_PARTITION variable = key.code cyclic factor = banks dim = 2
#pragma HLS ARRAY_PARTITION variable = key.scale complete dim = 1
  using made = typename key_record<B>::made;
tiles_scored:
  for (int tile = 0; tile < made::tiles; ++tile) {
    const int first = tile * made::tile_columns;
    const int end = first + made::tile_columns < B::head_dim ? first + made::tile_columns : B::head_dim;
    tile_sums<B> sums;
  sums_cleared:
    for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
      sums.sum[head].clear();
    }
  elements_scored:
    for (int i = first; i < end; ++i) {
#pragma HLS PIPELINE II = 1
    heads_scored:
      for (int head = 0; head < B::heads; ++head) {
#pragma HLS UNROLL
        sums.sum[head].add(query[head][i] * made::value(key.code[head / (B::heads / B::kv_heads)][i]));
      }
    }
  scales_taken:
    for (int head = 0; head < B::kv_heads; ++head) {
#pragma HLS UNROLL
      sums.scale[head] = key.scale[head][tile];
    }
    out.write(sums);
  }
}

// Scores of position t: the sum of a tile times its scale, tiles in order, then times `scaling`. And the largest score of
// each head so far.
template <class B>
void total_scores(hls::stream<tile_sums<B>>& in, int t, float (&score)[B::positions][B::heads],
                  float (&largest)[B::heads]) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = score complete dim = 2
#pragma HLS ARRAY_PARTITION variable = largest complete
  using made = typename key_record<B>::made;
  float total[B::heads];  // as `largest`, of the head at hand first
#pragma HLS ARRAY_PARTITION variable = total complete
tiles_totalled:
  for (int tile = 0; tile < made::tiles; ++tile) {
    const tile_sums<B> sums = in.read();
  heads_totalled:
    for (int head = 0; head < B::heads; ++head) {
#pragma HLS PIPELINE II = 1
      float part = sums.sum[head].total();
      if constexpr (made::scaled) part = part * sums.scale[head / (B::heads / B::kv_heads)];
      part = (tile == 0 ? 0.0F : total[0]) + part;
      total[0] = part;
      if (tile == made::tiles - 1) {
        const float scaled = part * B::scaling;
        score[t][head] = scaled;
        if (t == 0 || scaled > largest[0]) largest[0] = scaled;
      }
      next_turn(total);
      next_turn(largest);
    }
  }
}

// Nothing but the loop, its bound an argument: what AMD UG1399 ("Canonical Forms") asks of a loop whose iterations
// overlap. A function with DATAFLOW in it, called in a loop, would wait for its end before the next call.
template <class B>
void score_positions(const beat_t* cache, const key_record<B>& newest, int position, int count,
                     const float (&query)[B::heads][B::head_dim], float (&score)[B::positions][B::heads],
                     float (&largest)[B::heads]) {
#pragma HLS INLINE off
positions_scored:
  for (int t = 0; t < count; ++t) {
#pragma HLS DATAFLOW
    key_record<B> record;
    typename key_record<B>::made key;
    hls::stream<tile_sums<B>> sums;
    read_record<B, 0>(cache, newest, t, position, record);
    record.decode(key);
    score_tiles<B>(query, key, sums);
    total_scores<B>(sums, t, score, largest);
  }
}

// result += power * value of position t: (power * scale of the tile) * code, positions in order.
template <class B>
void weigh_position(const float (&score)[B::positions][B::heads], const typename value_record<B>::made& value, int t,
                    float (&result)[B::heads][B::head_dim]) {
#pragma HLS INLINE off
  [[maybe_unused]] constexpr int banks = value_record<B>::code_banks;
#pragma HLS ARRAY_PARTITION variable = score complete dim = 2
#pragma HLS ARRAY_PARTITION variable = result complete dim = 1
#pragma HLS ARRAY_PARTITION variable = value.code complete dim = 1
#pragma HLS ARRAY_PARTITION variable = value.code cyclic factor = banks dim = 2
#pragma HLS ARRAY_PARTITION variable = value.scale complete dim = 1
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
        weight[head] = score[t][head];
        if constexpr (made::scaled) weight[head] = weight[head] * value.scale[from][i / made::tile_columns];
      }
      const float before = t == 0 ? 0.0F : result[head][i];
      result[head][i] = before + weight[head] * made::value(value.code[from][i]);
    }
  }
}

template <class B>
void weigh_positions(const beat_t* cache, const value_record<B>& newest, int position, int count,
                     const float (&score)[B::positions][B::heads], float (&result)[B::heads][B::head_dim]) {
#pragma HLS INLINE off
positions_weighed:
  for (int t = 0; t < count; ++t) {
#pragma HLS DATAFLOW
    value_record<B> record;
    typename value_record<B>::made value;
    read_record<B, key_record<B>::beats>(cache, newest, t, position, record);
    record.decode(value);
    weigh_position<B>(score, value, t, result);
  }
}

// Softmax of `count` scores of each head: powers exp(score - largest), and their sum of interleaved parts.
template <class B>
void softmax_powers(float (&score)[B::positions][B::heads], const float (&largest)[B::heads], int count,
                    float (&sum)[B::heads]) {
#pragma HLS INLINE off
#pragma HLS ARRAY_PARTITION variable = score complete dim = 2
heads_summed:
  for (int head = 0; head < B::heads; ++head) {
    interleaved_sum powers;
    powers.clear();
  powers_added:
    for (int t = 0; t < count; ++t) {
#pragma HLS PIPELINE II = 1
      const float power = exp_of_negative(score[t][head] - largest[head]);
      score[t][head] = power;
      powers.add(power);
    }
    sum[head] = powers.total();
  }
}

template <class B>
void attend(float_stream& queries, float_stream& keys, float_stream& values, beat_t* cache, int position,
            beat_stream& out) {
#pragma HLS INLINE off
  float query[B::heads][B::head_dim], key[B::kv_heads][B::head_dim], value[B::kv_heads][B::head_dim];
  take_heads(queries, query);
  take_heads(keys, key);
  take_heads(values, value);
  typename key_record<B>::made key_codes;
  typename value_record<B>::made value_codes;
  quantize<typename B::key, B::kv_heads>(key, B::kv_heads, key_codes);
  quantize<typename B::value, B::kv_heads>(value, B::kv_heads, value_codes);
  key_record<B> newest_key;
  value_record<B> newest_value;
  newest_key.encode(key, key_codes);
  newest_value.encode(value, value_codes);

  float score[B::positions][B::heads], largest[B::heads], sum[B::heads], result[B::heads][B::head_dim];
  score_positions<B>(cache, newest_key, position, position + 1, query, score, largest);
  softmax_powers<B>(score, largest, position + 1, sum);
  weigh_positions<B>(cache, newest_value, position, position + 1, score, result);

  half_row<B::heads * B::head_dim> row;
heads_out:
  for (int head = 0; head < B::heads; ++head) {
  results_out:
    for (int i = 0; i < B::head_dim; ++i) {
#pragma HLS PIPELINE II = 1
      row.write(result[head][i] / sum[head], head * B::head_dim + i, out);
    }
  }
  newest_key.write(cache, position * position_beats<B>);
  newest_value.write(cache, position * position_beats<B> + key_record<B>::beats);
}

}  // namespace codesign

#endif
