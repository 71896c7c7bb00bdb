// A whole layer as a DATAFLOW pipeline, templated on the config that docs/hls.md describes:
//
//     weight image (AXI, 512-bit bursts, or a table on the chip) --> tiles of rows, double-buffered --+
//     input (AXI, FP16) --> smoothing, rotation, activation quantization --> multiply and scale <-----+
//                                                                            + branches, bias --> output stage --> AXI
//
// All tokens of a call stay on the chip while the weight passes once. While the groups of one tile of rows are summed up,
// the next one is filled, and finished groups are scaled and leave: four processes of a dataflow region inside the loop
// over tiles. The tile between the first two is a ping-pong buffer; all else between them goes through streams.
#ifndef CODESIGN_LAYER_H
#define CODESIGN_LAYER_H

#include "codesign/branches.h"
#include "codesign/layer_output.h"
#include "codesign/layer_parts.h"

namespace codesign {

// --- processes ------------------------------------------------------------------------------------------------------

// What a stage takes off each input before all else (the biases of channel groups): none, where it names nothing.
template <class INPUT, class = void>
struct offset_of {
  using type = no_field;
};
template <class INPUT>
struct offset_of<INPUT, std::void_t<typename INPUT::offset>> {
  using type = typename INPUT::offset;
};

// Beats of one token at the ports.
template <class C>
constexpr int input_beats = beats_of(16LL * C::k);

// The whole image once, from beat `start` of HOME on, in the order in which the other processes take it; `format` is the
// word of the format register, for weights whose format is chosen at run time.
template <class C, class HOME>
void read_weights(HOME home, int start, std::uint32_t format, beat_stream& to_input, beat_stream& to_multiply) {
#pragma HLS INLINE off
  const image_view<HOME> image{home, start, format};
  read_field<typename C::input::smoothing>(image, 0, C::k, to_input);
  read_field<typename offset_of<typename C::input>::type>(image, 0, C::k, to_input);
  read_columns(typename C::parts(), image, to_multiply);
  if constexpr (C::outliers::columns_layout) {
    read_field<typename C::outliers::index>(image, 0, C::outliers::most, to_multiply);
  }
  read_factor<typename C::low_rank_a>(image, to_multiply);
  read_factor<typename C::low_rank_b>(image, to_multiply);
row_tiles:
  for (int first = 0; first < C::n; first += C::tile_rows) {
    const int rows = rows_from<C>(first);
    read_parts<C::tile_rows, C::parallel_rows>(typename C::parts(), image, first, rows, to_multiply);
    read_outliers<typename C::outliers>(image, first, rows, to_multiply);
    read_field<typename C::bias>(image, first, rows, to_multiply);
  }
}

template <class C>
void read_input(const beat_t* input, int tokens, beat_stream& out) {
#pragma HLS INLINE off
beats:
  for (int beat = 0; beat < tokens * input_beats<C>; ++beat) {
#pragma HLS PIPELINE II = 1
    out.write(input[beat]);
  }
}

template <class C>
void quantize_input(beat_stream& weights, beat_stream& in, int tokens, activations<typename C::input, C::tokens>& out) {
#pragma HLS INLINE off
  using smoothing = typename C::input::smoothing;
  constexpr int halves = beat_bits / 16;
  float divisor[smoothing::present ? C::k : 1];
  ap_uint<smoothing::bits> stored[smoothing::present ? C::k : 1];
  take_field<smoothing>(weights, 0, C::k, stored);
  if constexpr (smoothing::present) {
  divisors:
    for (int column = 0; column < C::k; ++column) divisor[column] = smoothing::value::decode(stored[column]);
  }
  using offset = typename offset_of<typename C::input>::type;
  float taken_off[offset::present ? C::k : 1];
  ap_uint<offset::bits> stored_offset[offset::present ? C::k : 1];
  take_field<offset>(weights, 0, C::k, stored_offset);
  if constexpr (offset::present) {
  offsets:
    for (int column = 0; column < C::k; ++column) taken_off[column] = offset::value::decode(stored_offset[column]);
  }
  float x[C::tokens][C::k];
tokens_read:
  for (int token = 0; token < tokens; ++token) {
    beat_t beat = 0;
  columns:
    for (int column = 0; column < C::k; ++column) {
#pragma HLS PIPELINE II = 1
      const int half = column % halves;
      if (half == 0) beat = in.read();
      float value = fp16_value::decode(lane_of<16>(beat, half));
      if constexpr (offset::present) value = value - taken_off[column];
      if constexpr (smoothing::present) x[token][column] = value / divisor[column];
      else x[token][column] = value;
    }
    if constexpr (C::input::hadamard > 1) rotate<C::input::hadamard>(x[token], C::input::hadamard_root);
  }
  quantize<typename C::input, C::tokens>(x, tokens, out);
}

template <class C>
struct row_tile {
  tiles<typename C::parts, C::tile_rows, C::parallel_rows> parts_of;
  outlier_tile<typename C::outliers, C::tile_rows> outliers;
};

// Tile `index` of rows.
template <class C>
void fill_tile(beat_stream& weights, int index, row_tile<C>& tile, float_stream& biases) {
#pragma HLS INLINE off
  const int first = index * C::tile_rows, rows = rows_from<C>(first);
  take_parts<C::tile_rows, C::parallel_rows>(weights, first, rows, tile.parts_of);
  take_outliers<typename C::outliers, C::tile_rows>(weights, first, rows, tile.outliers);
  if constexpr (C::bias::present) {
    ap_uint<C::bias::bits> stored[C::tile_rows];
    take_field<typename C::bias>(weights, first, rows, stored);
  biases:
    for (int row = 0; row < rows; ++row) {
#pragma HLS PIPELINE II = 1
      biases.write(C::bias::value::decode(stored[row]));
    }
  }
}

// Everything that the sums of tiles need on the chip for a call beside the tiles.
template <class C>
struct layer_state {
  inputs_of_parts<typename C::parts, C::tokens> inputs;
  int outlier_columns[C::outliers::most];
};

template <class C>
using layer_streams =
    part_streams<typename C::parts, C::parallel_rows, C::tile_rows / C::parallel_rows, C::tokens>;

// All that reads the activations: groups of the parts, then outliers.
template <class C>
void sum_tile(const row_tile<C>& tile, const layer_state<C>& state, const activations<typename C::input, C::tokens>& x,
              int tokens, int index, layer_streams<C>& out, float_stream& outliers) {
#pragma HLS INLINE off
  const int first = index * C::tile_rows, rows = rows_from<C>(first);
  sum_parts<C::tile_rows, C::parallel_rows>(tile.parts_of, state.inputs, x, tokens, first, rows, out);
  outlier_sums<typename C::outliers, C::tile_rows>(tile.outliers, state.outlier_columns, x, tokens, rows, outliers);
}

// Low-rank branch (of all tokens and rows, `branch`), outliers and bias onto the totals, row after row.
template <class C>
void finish_tile(hls::stream<row_values<C::parallel_rows>>& totals, float_stream& outliers, float_stream& biases,
                 const float (&branch)[C::low_rank_b::present ? C::tokens : 1][C::low_rank_b::rows], int tokens,
                 int index, float_stream& out) {
#pragma HLS INLINE off
  const int first = index * C::tile_rows, rows = rows_from<C>(first);
  float bias[C::tile_rows];
  row_values<C::parallel_rows> block;
  int token = 0, row = 0, of_block = 0;
rows_out:
  for (int i = 0; i < tokens * C::tile_rows; ++i) {
#pragma HLS PIPELINE II = 1
    if (of_block == 0) block = totals.read();
    if (row < rows) {
      float y = block.of[of_block];
      if constexpr (C::low_rank_b::present) y = y + branch[token][first + row];
      if constexpr (C::outliers::columns_layout || C::outliers::rows_layout) y = y + outliers.read();
      if constexpr (C::bias::present) {
        if (token == 0) bias[row] = biases.read();
        if constexpr (!C::normalised) y = y + bias[row];
      }
      out.write(y);
    }
    if (++of_block == C::parallel_rows) of_block = 0;
    if (++row == C::tile_rows) {
      row = 0;
      ++token;
    }
  }
  if constexpr (normalised_bias<C>) {
  biases_out:
    for (int at = 0; at < rows; ++at) {
#pragma HLS PIPELINE II = 1
      out.write(bias[at]);
    }
  }
}

// The same with the totals of the last part: those of all.
template <class C, int PARALLEL, int BLOCKS, int TOKENS, class PART, class... REST>
void finish_parts(part_streams<parts<PART, REST...>, PARALLEL, BLOCKS, TOKENS>& streams, float_stream& outliers,
                  float_stream& biases,
                  const float (&branch)[C::low_rank_b::present ? C::tokens : 1][C::low_rank_b::rows], int tokens,
                  int index, float_stream& out) {
#pragma HLS INLINE
  if constexpr (sizeof...(REST) > 0) finish_parts<C>(streams.rest, outliers, biases, branch, tokens, index, out);
  else finish_tile<C>(streams.totals, outliers, biases, branch, tokens, index, out);
}

// Fill a tile, sum up the one before, scale its groups and finish its rows while that goes on. Nothing but the loop, with
// the pragma in it, from 0 in steps of 1: a function with DATAFLOW in it, called in a loop, would wait for its end before
// the next call (AMD UG1399, "Canonical Forms").
template <class C>
void multiply_tiles(beat_stream& weights, const layer_state<C>& state,
                    const activations<typename C::input, C::tokens>& x,
                    const float (&branch)[C::low_rank_b::present ? C::tokens : 1][C::low_rank_b::rows], int tokens,
                    float_stream& out) {
#pragma HLS INLINE off
  [[maybe_unused]] constexpr int biases_depth = 4 * C::tile_rows;  // the first process may be three tiles ahead of the last
row_tiles:
  for (int index = 0; index < ceil_div(C::n, C::tile_rows); ++index) {
#pragma HLS DATAFLOW
    row_tile<C> tile;
    layer_streams<C> streams;
    float_stream outliers("outliers"), biases("biases");
#pragma HLS STREAM variable = outliers depth = 16
#pragma HLS STREAM variable = biases depth = biases_depth
    fill_tile<C>(weights, index, tile, biases);
    sum_tile<C>(tile, state, x, tokens, index, streams, outliers);
    scale_parts<typename C::input>(streams, tokens);
    finish_parts<C>(streams, outliers, biases, branch, tokens, index, out);
  }
}

template <class C>
void multiply(beat_stream& weights, const activations<typename C::input, C::tokens>& x, int tokens,
              float_stream& out) {
#pragma HLS INLINE off
  layer_state<C> state;
  float branch[C::low_rank_b::present ? C::tokens : 1][C::low_rank_b::rows];
  take_columns(weights, x, tokens, state.inputs);
  if constexpr (C::outliers::columns_layout) {
    using index = typename C::outliers::index;
    ap_uint<index::bits> stored[C::outliers::most];
    take_field<index>(weights, 0, C::outliers::most, stored);
  outlier_indices:
    for (int i = 0; i < C::outliers::most; ++i) state.outlier_columns[i] = static_cast<int>(stored[i].to_uint());
  }
  if constexpr (C::low_rank_b::present) {
    low_rank<typename C::low_rank_a, typename C::low_rank_b, typename C::low_rank_middle, typename C::low_rank_result,
             C::tokens>(weights, x, tokens, branch);
  }
  multiply_tiles<C>(weights, state, x, branch, tokens, out);
}

// --- the pipeline ---------------------------------------------------------------------------------------------------

// `tokens` (1 to C::tokens) rows of FP16 through the layer, whose weights are at HOME: a memory_image or a rom_image.
template <class C, class HOME>
void run_layer(HOME home, const beat_t* input, beat_t* output, int tokens, std::uint32_t format = 0) {
#pragma HLS DATAFLOW
  beat_stream to_input("to_input"), to_multiply("to_multiply"), rows("rows");
  float_stream results("results");
#pragma HLS STREAM variable = to_input depth = 16
#pragma HLS STREAM variable = to_multiply depth = 64
#pragma HLS STREAM variable = rows depth = 16
#pragma HLS STREAM variable = results depth = 64
  activations<typename C::input, C::tokens> x;
  read_weights<C>(home, 0, format, to_input, to_multiply);
  read_input<C>(input, tokens, rows);
  quantize_input<C>(to_input, rows, tokens, x);
  multiply<C>(to_multiply, x, tokens, results);
  write_output<C>(results, tokens, output);
}

}  // namespace codesign

#endif
