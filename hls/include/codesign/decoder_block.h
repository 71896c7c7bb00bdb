// A whole Llama-style decoder block, one token at a time, as a DATAFLOW pipeline: processes that hand on every value
// in a stream, each started as soon as its first value is there.
//
//   weight image --> read_block_weights, in the order of use, a stream for each process below
//   x --> read_block_input --> norm --> q, k, v --> rotate --> attend <--> cache --> o --> + x --> norm
//                                                                --> gate, up --> silu * --> down --> + --> output
//
// One process reads the whole image, since an AXI port belongs to one process: the layers so work one after another,
// each at the pace of the memory. No stream can block the reader for good: what is small (norms, angles) comes first
// and is taken by its process before anything else, a layer's input is whole in its stream before its weights arrive,
// and both residual streams hold a whole row.
#ifndef CODESIGN_DECODER_BLOCK_H
#define CODESIGN_DECODER_BLOCK_H

#include "codesign/attention.h"
#include "codesign/layer.h"

namespace codesign {

// What a layer takes out of the image: its activation stage, and its tiles.
struct layer_weights {
  beat_stream to_input, to_multiply;
};

// One token through a layer, from FP16 beats to float32 values, the way run_layer goes.
template <class C>
void stream_layer(layer_weights& weights, beat_stream& in, float_stream& out) {
#pragma HLS INLINE off
#pragma HLS DATAFLOW
  activations<typename C::input, C::tokens> x;
  quantize_input<C>(weights.to_input, in, 1, x);
  multiply<C>(weights.to_multiply, x, 1, out);
}

template <class B, class HOME>
void read_block_weights(HOME home, int position, beat_stream& norm, beat_stream& mlp_norm, beat_stream& angles,
                        layer_weights& q, layer_weights& k, layer_weights& v, layer_weights& o, layer_weights& gate,
                        layer_weights& up, layer_weights& down) {
#pragma HLS INLINE off
  const image_view<HOME> image{home, 0, 0};
  constexpr int half = B::head_dim / 2;
  read_field<typename B::attention_norm>(image, 0, B::hidden, norm);
  read_field<typename B::mlp_norm>(image, 0, B::hidden, mlp_norm);
  // cosines and sines of a position are a row of their own, from a beat on
  constexpr int row_beats = beats_of(32LL * half);
  read_bits(image, B::cosine::beat + position * row_beats, 0, 32LL * half, angles);
  read_bits(image, B::sine::beat + position * row_beats, 0, 32LL * half, angles);
  read_weights<typename B::q>(home, B::q_beat, 0, q.to_input, q.to_multiply);
  read_weights<typename B::k>(home, B::k_beat, 0, k.to_input, k.to_multiply);
  read_weights<typename B::v>(home, B::v_beat, 0, v.to_input, v.to_multiply);
  read_weights<typename B::o>(home, B::o_beat, 0, o.to_input, o.to_multiply);
  read_weights<typename B::gate>(home, B::gate_beat, 0, gate.to_input, gate.to_multiply);
  read_weights<typename B::up>(home, B::up_beat, 0, up.to_input, up.to_multiply);
  read_weights<typename B::down>(home, B::down_beat, 0, down.to_input, down.to_multiply);
}

constexpr int beat_floats = beat_bits / 32;

template <class B>
void read_block_input(const beat_t* input, int token, float_stream& to_norm, float_stream& to_residual) {
#pragma HLS INLINE off
  constexpr int beats = ceil_div(B::hidden, beat_floats);
  beat_t beat = 0;
columns_in:
  for (int column = 0; column < B::hidden; ++column) {
#pragma HLS PIPELINE II = 1
    const int place = column % beat_floats;
    if (place == 0) beat = input[token * beats + column / beat_floats];
    const float value = float_of_bits(lane_of<32>(beat, place));
    to_norm.write(value);
    to_residual.write(value);
  }
}

template <class B>
void write_block_output(float_stream& in, int token, beat_t* output) {
#pragma HLS INLINE off
  constexpr int beats = ceil_div(B::hidden, beat_floats);
  beat_t beat = 0;
columns_out:
  for (int column = 0; column < B::hidden; ++column) {
#pragma HLS PIPELINE II = 1
    const int place = column % beat_floats;
    if (place == 0) beat = 0;
    put_lane<32>(beat, place, bits_of_float(in.read()));
    if (place == beat_floats - 1 || column == B::hidden - 1) output[token * beats + column / beat_floats] = beat;
  }
}

// A row of COLUMNS halves, for each layer that takes it.
template <int COLUMNS, class... STREAMS>
void copy_row(beat_stream& in, STREAMS&... out) {
#pragma HLS INLINE off
beats_copied:
  for (int beat = 0; beat < beats_of(16LL * COLUMNS); ++beat) {
#pragma HLS PIPELINE II = 1
    const beat_t taken = in.read();
    (out.write(taken), ...);
  }
}

// residual + layer, to whoever takes it: the next norm and the next residual, or the output.
template <int COLUMNS, class... STREAMS>
void add_residual(float_stream& residual, float_stream& layer, STREAMS&... out) {
#pragma HLS INLINE off
columns_added:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    const float sum = residual.read() + layer.read();
    (out.write(sum), ...);
  }
}

// silu(gate) * up as FP16. The whole gate comes before the first value of up.
template <int COLUMNS>
void silu_times(float_stream& gate, float_stream& up, beat_stream& out) {
#pragma HLS INLINE off
  float activated[COLUMNS];
columns_activated:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    activated[column] = silu(gate.read());
  }
  half_row<COLUMNS> row;
columns_multiplied:
  for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
    row.write(activated[column] * up.read(), column, out);
  }
}

template <class B, class HOME>
void block_token(HOME home, beat_t* cache, const beat_t* input, beat_t* output, int position, int token) {
#pragma HLS INLINE off
#pragma HLS DATAFLOW
  constexpr int hidden = B::hidden;
  [[maybe_unused]] constexpr int row = beats_of(16LL * hidden);  // of depths only
  beat_stream norm("norm"), mlp_norm("mlp_norm"), angles("angles");
#pragma HLS STREAM variable = norm depth = 16
#pragma HLS STREAM variable = mlp_norm depth = 16
#pragma HLS STREAM variable = angles depth = 16
  layer_weights q, k, v, o, gate, up, down;
#pragma HLS DISAGGREGATE variable = q
#pragma HLS DISAGGREGATE variable = k
#pragma HLS DISAGGREGATE variable = v
#pragma HLS DISAGGREGATE variable = o
#pragma HLS DISAGGREGATE variable = gate
#pragma HLS DISAGGREGATE variable = up
#pragma HLS DISAGGREGATE variable = down
#pragma HLS STREAM variable = q.to_multiply depth = 64
#pragma HLS STREAM variable = k.to_multiply depth = 64
#pragma HLS STREAM variable = v.to_multiply depth = 64
#pragma HLS STREAM variable = o.to_multiply depth = 64
#pragma HLS STREAM variable = gate.to_multiply depth = 64
#pragma HLS STREAM variable = up.to_multiply depth = 64
#pragma HLS STREAM variable = down.to_multiply depth = 64
  float_stream x("x"), residual("residual"), h("h"), mlp_residual("mlp_residual"), y("y");
#pragma HLS STREAM variable = residual depth = hidden
#pragma HLS STREAM variable = mlp_residual depth = hidden
  beat_stream normed("normed"), q_in("q_in"), k_in("k_in"), v_in("v_in"), o_in("o_in");
#pragma HLS STREAM variable = q_in depth = row
#pragma HLS STREAM variable = k_in depth = row
#pragma HLS STREAM variable = v_in depth = row
  beat_stream mlp_normed("mlp_normed"), gate_in("gate_in"), up_in("up_in"), down_in("down_in");
#pragma HLS STREAM variable = gate_in depth = row
#pragma HLS STREAM variable = up_in depth = row
  float_stream q_out("q_out"), k_out("k_out"), v_out("v_out"), turned_q("turned_q"), turned_k("turned_k");
  float_stream o_out("o_out"), gate_out("gate_out"), up_out("up_out"), down_out("down_out");

  read_block_weights<B>(home, position, norm, mlp_norm, angles, q, k, v, o, gate, up, down);
  read_block_input<B>(input, token, x, residual);
  rms_norm<hidden, typename B::attention_norm>(norm, x, B::epsilon, normed);
  copy_row<hidden>(normed, q_in, k_in, v_in);
  stream_layer<typename B::q>(q, q_in, q_out);
  stream_layer<typename B::k>(k, k_in, k_out);
  stream_layer<typename B::v>(v, v_in, v_out);
  rotate_heads<B>(angles, q_out, k_out, turned_q, turned_k);
  attend<B>(turned_q, turned_k, v_out, cache, position, o_in);
  stream_layer<typename B::o>(o, o_in, o_out);
  add_residual<hidden>(residual, o_out, h, mlp_residual);
  rms_norm<hidden, typename B::mlp_norm>(mlp_norm, h, B::epsilon, mlp_normed);
  copy_row<hidden>(mlp_normed, gate_in, up_in);
  stream_layer<typename B::gate>(gate, gate_in, gate_out);
  stream_layer<typename B::up>(up, up_in, up_out);
  silu_times<B::intermediate>(gate_out, up_out, down_in);
  stream_layer<typename B::down>(down, down_in, down_out);
  add_residual<hidden>(mlp_residual, down_out, y);
  write_block_output<B>(y, token, output);
}

// Tokens at positions `position`, `position + 1`, ... (below B::positions in all): each through the whole block, one after
// another, since a token reads what the one before it put into the cache.
template <class B, class HOME>
void run_block(HOME home, beat_t* cache, const beat_t* input, beat_t* output, int position, int tokens) {
tokens_run:
  for (int token = 0; token < tokens; ++token) {
    block_token<B>(home, cache, input, output, position + token, token);
  }
}

}  // namespace codesign

#endif
