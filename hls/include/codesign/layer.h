// A whole layer as a DATAFLOW pipeline, templated on the config that docs/hls.md describes:
//
//     weight image (AXI, 512-bit bursts, or a table on the chip) --> tiles of rows, double-buffered --+
//     input (AXI, FP16) --> smoothing, rotation, activation quantization --> multiply and scale <-----+
//                                                                            + branches, bias --> output stage --> AXI
//
// All tokens of a call stay on the chip while the weight passes once. While one tile of rows is multiplied the next one
// is filled: both are steps of a dataflow region inside the loop over tiles, so that the tile between them is a
// ping-pong buffer.
#ifndef CODESIGN_LAYER_H
#define CODESIGN_LAYER_H

#include "codesign/branches.h"
#include "codesign/layer_output.h"
#include "codesign/layer_part.h"

namespace codesign {

// The dense parts of a layer, in the order in which they are added.
template <class... PARTS>
struct parts {};

// --- all parts of a tile --------------------------------------------------------------------------------------------

template <class PARTS, int ROWS>
struct tiles;

template <int ROWS>
struct tiles<parts<>, ROWS> {};

template <class PART, class... REST, int ROWS>
struct tiles<parts<PART, REST...>, ROWS> {
  part_tile<PART, ROWS> tile;
  typename registers_of<typename PART::arithmetic>::type registers[ROWS / PART::outputs];
  tiles<parts<REST...>, ROWS> rest;
};

// What the columns of each part multiply, part after part.
template <class PARTS>
struct columns_of_parts;

template <>
struct columns_of_parts<parts<>> {};

template <class PART, class... REST>
struct columns_of_parts<parts<PART, REST...>> {
  part_columns<PART> from;
  columns_of_parts<parts<REST...>> rest;
};

template <class PART, class... REST, class IMAGE>
void read_columns(parts<PART, REST...>, const IMAGE& image, beat_stream& out) {
#pragma HLS INLINE
  read_field<typename PART::gather>(image, 0, PART::columns, out);
  read_field<typename PART::column_scale>(image, 0, PART::columns, out);
  if constexpr (sizeof...(REST) > 0) read_columns(parts<REST...>(), image, out);
}

template <class PART, class... REST>
void take_columns(beat_stream& in, columns_of_parts<parts<PART, REST...>>& out) {
#pragma HLS INLINE
  if constexpr (PART::gather::present) {
    ap_uint<PART::gather::bits> entries[PART::columns];
    take_field<typename PART::gather>(in, 0, PART::columns, entries);
  columns:
    for (int column = 0; column < PART::columns; ++column) {
      out.from.input[column] = static_cast<int>(entries[column].to_uint());
    }
  } else {
    out.from.input[0] = 0;
  }
  if constexpr (PART::column_scale::present) {
    ap_uint<PART::column_scale::bits> entries[PART::columns];
    take_field<typename PART::column_scale>(in, 0, PART::columns, entries);
  column_scales:
    for (int column = 0; column < PART::columns; ++column) {
      out.from.scale[column] = PART::column_scale::value::decode(entries[column]);
    }
  }
  if constexpr (sizeof...(REST) > 0) take_columns<REST...>(in, out.rest);
}

template <int ROWS, class PART, class... REST, class IMAGE>
void read_parts(parts<PART, REST...>, const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  read_part<PART, ROWS>(image, first, rows, out);
  if constexpr (sizeof...(REST) > 0) read_parts<ROWS>(parts<REST...>(), image, first, rows, out);
}

template <int ROWS, class PART, class... REST>
void take_parts(beat_stream& in, int first, int rows, tiles<parts<PART, REST...>, ROWS>& out) {
#pragma HLS INLINE
  take_part<PART, ROWS>(in, first, rows, out.tile);
  load_registers<PART, ROWS>(out.tile, first, rows, out.registers);
  if constexpr (sizeof...(REST) > 0) take_parts<ROWS, REST...>(in, first, rows, out.rest);
}

// What the parts from the second on give, each added in its turn: ((p0 + p1) + p2) + ...
template <int ROWS, class ACTIVATIONS, class PART, class... REST>
void add_parts(const tiles<parts<PART, REST...>, ROWS>& tile, const columns_of_parts<parts<PART, REST...>>& columns,
               int first, int rows, const ACTIVATIONS& x, int token, float (&total)[ROWS], float (&part)[ROWS]) {
#pragma HLS INLINE
  multiply_part<PART, ROWS>(tile.tile, first, rows, tile.registers, columns.from, x, token, part);
rows_added:
  for (int row = 0; row < ROWS; ++row) {
#pragma HLS UNROLL
    if (row < rows) total[row] = total[row] + part[row];
  }
  if constexpr (sizeof...(REST) > 0) add_parts<ROWS>(tile.rest, columns.rest, first, rows, x, token, total, part);
}

// Sum of all parts for one token.
template <int ROWS, class ACTIVATIONS, class PART, class... REST>
void multiply_parts(const tiles<parts<PART, REST...>, ROWS>& tile,
                    const columns_of_parts<parts<PART, REST...>>& columns, int first, int rows, const ACTIVATIONS& x,
                    int token, float (&total)[ROWS]) {
#pragma HLS INLINE
  multiply_part<PART, ROWS>(tile.tile, first, rows, tile.registers, columns.from, x, token, total);
  if constexpr (sizeof...(REST) > 0) {
    float more[ROWS];
    add_parts<ROWS>(tile.rest, columns.rest, first, rows, x, token, total, more);
  }
}

// --- processes ------------------------------------------------------------------------------------------------------

// Beats of one token at the ports.
template <class C>
constexpr int input_beats = beats_of(16LL * C::k);

// The whole image once, in the order in which the other processes take it.
template <class C, class IMAGE>
void read_weights(IMAGE image, beat_stream& to_input, beat_stream& to_multiply) {
#pragma HLS INLINE off
  read_field<typename C::input::smoothing>(image, 0, C::k, to_input);
  read_columns(typename C::parts(), image, to_multiply);
  if constexpr (C::outliers::columns_layout) {
    read_field<typename C::outliers::index>(image, 0, C::outliers::most, to_multiply);
  }
  read_factor<typename C::low_rank_a>(image, to_multiply);
  read_factor<typename C::low_rank_b>(image, to_multiply);
row_tiles:
  for (int first = 0; first < C::n; first += C::tile_rows) {
    const int rows = first + C::tile_rows < C::n ? C::tile_rows : C::n - first;
    read_parts<C::tile_rows>(typename C::parts(), image, first, rows, to_multiply);
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
  float x[C::tokens][C::k];
tokens_read:
  for (int token = 0; token < tokens; ++token) {
    beat_t beat = 0;
  columns:
    for (int column = 0; column < C::k; ++column) {
#pragma HLS PIPELINE II = 1
      const int half = column % halves;
      if (half == 0) beat = in.read();
      const float value = fp16_value::decode(lane_of<16>(beat, half));
      if constexpr (smoothing::present) x[token][column] = value / divisor[column];
      else x[token][column] = value;
    }
    if constexpr (C::input::hadamard > 1) rotate<C::input::hadamard>(x[token], C::input::hadamard_root);
  }
  quantize<typename C::input, C::tokens>(x, tokens, out);
}

template <class C>
struct row_tile {
  tiles<typename C::parts, C::tile_rows> parts_of;
  outlier_tile<typename C::outliers, C::tile_rows> outliers;
  float bias[C::tile_rows];
};

template <class C>
void fill_tile(beat_stream& weights, int first, int rows, row_tile<C>& tile) {
#pragma HLS INLINE off
  take_parts<C::tile_rows>(weights, first, rows, tile.parts_of);
  take_outliers<typename C::outliers, C::tile_rows>(weights, first, rows, tile.outliers);
  if constexpr (C::bias::present) {
    ap_uint<C::bias::bits> stored[C::tile_rows];
    take_field<typename C::bias>(weights, first, rows, stored);
  biases:
    for (int row = 0; row < rows; ++row) tile.bias[row] = C::bias::value::decode(stored[row]);
  }
}

// Everything that stays on the chip for a call beside the tiles.
template <class C>
struct layer_state {
  columns_of_parts<typename C::parts> columns;
  int outlier_columns[C::outliers::most];
  float branch[C::low_rank_b::present ? C::tokens : 1][C::low_rank_b::rows];
};

template <class C>
void multiply_tile(const row_tile<C>& tile, const layer_state<C>& state,
                   const activations<typename C::input, C::tokens>& x, int tokens, int first, int rows,
                   float_stream& out) {
#pragma HLS INLINE off
tokens_multiplied:
  for (int token = 0; token < tokens; ++token) {
    float total[C::tile_rows];
#pragma HLS ARRAY_PARTITION variable = total complete
    multiply_parts<C::tile_rows>(tile.parts_of, state.columns, first, rows, x, token, total);
  rows_out:
    for (int row = 0; row < rows; ++row) {
      float y = total[row];
      if constexpr (C::low_rank_b::present) y = y + state.branch[token][first + row];
      if constexpr (C::outliers::columns_layout || C::outliers::rows_layout) {
        y = y + outlier_sum<typename C::outliers, C::tile_rows>(tile.outliers, state.outlier_columns, x, token, row);
      }
      if constexpr (C::bias::present && !C::normalised) y = y + tile.bias[row];
      out.write(y);
    }
  }
  if constexpr (normalised_bias<C>) {
  biases_out:
    for (int row = 0; row < rows; ++row) out.write(tile.bias[row]);
  }
}

// Fill a tile, multiply the one before.
template <class C>
void one_tile(beat_stream& weights, const layer_state<C>& state, const activations<typename C::input, C::tokens>& x,
              int tokens, int first, int rows, float_stream& out) {
#pragma HLS DATAFLOW
  row_tile<C> tile;
  fill_tile<C>(weights, first, rows, tile);
  multiply_tile<C>(tile, state, x, tokens, first, rows, out);
}

template <class C>
void multiply(beat_stream& weights, const activations<typename C::input, C::tokens>& x, int tokens,
              float_stream& out) {
#pragma HLS INLINE off
  layer_state<C> state;
  take_columns(weights, state.columns);
  if constexpr (C::outliers::columns_layout) {
    using index = typename C::outliers::index;
    ap_uint<index::bits> stored[C::outliers::most];
    take_field<index>(weights, 0, C::outliers::most, stored);
  outlier_indices:
    for (int i = 0; i < C::outliers::most; ++i) state.outlier_columns[i] = static_cast<int>(stored[i].to_uint());
  }
  if constexpr (C::low_rank_b::present) {
    low_rank<typename C::low_rank_a, typename C::low_rank_b, typename C::low_rank_middle, typename C::low_rank_result,
             C::tokens>(weights, x, tokens, state.branch);
  }
row_tiles:
  for (int first = 0; first < C::n; first += C::tile_rows) {
    const int rows = first + C::tile_rows < C::n ? C::tile_rows : C::n - first;
    one_tile<C>(weights, state, x, tokens, first, rows, out);
  }
}

// --- the pipeline ---------------------------------------------------------------------------------------------------

// `tokens` (1 to C::tokens) rows of FP16 through the layer.
template <class C, class IMAGE>
void run_layer(IMAGE image, const beat_t* input, beat_t* output, int tokens) {
#pragma HLS DATAFLOW
  beat_stream to_input("to_input"), to_multiply("to_multiply"), rows("rows");
  float_stream results("results");
#pragma HLS STREAM variable = to_input depth = 16
#pragma HLS STREAM variable = to_multiply depth = 64
#pragma HLS STREAM variable = rows depth = 16
#pragma HLS STREAM variable = results depth = 64
  activations<typename C::input, C::tokens> x;
  read_weights<C>(image, to_input, to_multiply);
  read_input<C>(input, tokens, rows);
  quantize_input<C>(to_input, rows, tokens, x);
  multiply<C>(to_multiply, x, tokens, results);
  write_output<C>(results, tokens, output);
}

}  // namespace codesign

#endif
