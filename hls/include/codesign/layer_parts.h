// All dense parts of a layer, one behind another: their tiles, their inputs, the streams between their processes.
#ifndef CODESIGN_LAYER_PARTS_H
#define CODESIGN_LAYER_PARTS_H

#include "codesign/layer_part.h"
#include "codesign/part_scale.h"

namespace codesign {

// The dense parts of a layer, in the order in which they are added.
template <class... PARTS>
struct parts {};

// --- all parts of a tile --------------------------------------------------------------------------------------------

template <class PARTS, int ROWS, int PARALLEL>
struct tiles;

template <int ROWS, int PARALLEL>
struct tiles<parts<>, ROWS, PARALLEL> {};

template <class PART, class... REST, int ROWS, int PARALLEL>
struct tiles<parts<PART, REST...>, ROWS, PARALLEL> {
  part_tile<PART, ROWS, PARALLEL> tile;
  part_registers<PART, ROWS, PARALLEL> registers;
  tiles<parts<REST...>, ROWS, PARALLEL> rest;
};

// What the columns of each part multiply, part after part.
template <class PARTS, int TOKENS>
struct inputs_of_parts;

template <int TOKENS>
struct inputs_of_parts<parts<>, TOKENS> {};

template <class PART, class... REST, int TOKENS>
struct inputs_of_parts<parts<PART, REST...>, TOKENS> {
  part_inputs<PART, TOKENS> inputs;
  inputs_of_parts<parts<REST...>, TOKENS> rest;
};

template <class PART, class... REST, class IMAGE>
void read_columns(parts<PART, REST...>, const IMAGE& image, beat_stream& out) {
#pragma HLS INLINE
  read_field<typename PART::gather>(image, 0, PART::columns, out);
  read_field<typename PART::column_scale>(image, 0, PART::columns, out);
  if constexpr (sizeof...(REST) > 0) read_columns(parts<REST...>(), image, out);
}

// The inputs of a part picked and scaled, a column a cycle.
template <class PART, int TOKENS, class ACTIVATIONS>
void take_inputs(beat_stream& in, const ACTIVATIONS& x, int tokens, part_inputs<PART, TOKENS>& inputs) {
#pragma HLS INLINE off
  using gather = typename PART::gather;
  using scale = typename PART::column_scale;
  constexpr int elements = part_inputs<PART, TOKENS>::elements;
  if constexpr (part_inputs<PART, TOKENS>::present) {
    ap_uint<gather::bits> from[gather::present ? PART::columns : 1];
    ap_uint<scale::bits> scales[scale::present ? PART::columns : 1];
    take_field<gather>(in, 0, PART::columns, from);
    take_field<scale>(in, 0, PART::columns, scales);
  tokens_taken:
    for (int token = 0; token < tokens; ++token) {
    inputs_taken:
      for (int column = 0; column < PART::columns; column += elements) {
#pragma HLS PIPELINE II = 1
        int input = column;
        if constexpr (gather::present) {
          input = from[column].to_int();
          if (column % PART::group == 0) {
            inputs.scale[token][column / PART::group] = x.scale[token][ACTIVATIONS::tile_of(input)];
          }
        }
        ap_uint<ACTIVATIONS::bits> code = x.code[token][input / elements];
        if constexpr (scale::present) {
          static_assert(ACTIVATIONS::bits == 16 && !ACTIVATIONS::scaled, "column scales multiply FP16");
          code = fp16_quantizer::encode(fp16_value::decode(code) * scale::value::decode(scales[column]));
        }
        inputs.code[token][column / elements] = code;
      }
    }
  }
}

template <class PART, class... REST, int TOKENS, class ACTIVATIONS>
void take_columns(beat_stream& in, const ACTIVATIONS& x, int tokens,
                  inputs_of_parts<parts<PART, REST...>, TOKENS>& out) {
#pragma HLS INLINE
  take_inputs<PART, TOKENS>(in, x, tokens, out.inputs);
  if constexpr (sizeof...(REST) > 0) take_columns<REST...>(in, x, tokens, out.rest);
}

template <int ROWS, int PARALLEL, class PART, class... REST, class IMAGE>
void read_parts(parts<PART, REST...>, const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  read_part<PART, ROWS, PARALLEL>(image, first, rows, out);
  if constexpr (sizeof...(REST) > 0) read_parts<ROWS, PARALLEL>(parts<REST...>(), image, first, rows, out);
}

template <int ROWS, int PARALLEL, class PART, class... REST>
void take_parts(beat_stream& in, int first, int rows, tiles<parts<PART, REST...>, ROWS, PARALLEL>& out) {
#pragma HLS INLINE
  take_part<PART, ROWS, PARALLEL>(in, first, rows, out.tile);
  load_registers<PART, ROWS, PARALLEL>(out.tile, first, rows, out.registers);
  if constexpr (sizeof...(REST) > 0) take_parts<ROWS, PARALLEL, REST...>(in, first, rows, out.rest);
}

// Between the sums of each part, its scaling, and what is behind it.
template <class PARTS, int PARALLEL, int BLOCKS, int TOKENS>
struct part_streams;

template <int PARALLEL, int BLOCKS, int TOKENS>
struct part_streams<parts<>, PARALLEL, BLOCKS, TOKENS> {};

template <class PART, class... REST, int PARALLEL, int BLOCKS, int TOKENS>
struct part_streams<parts<PART, REST...>, PARALLEL, BLOCKS, TOKENS> {
  // All blocks finish a group at a time where they take turns. Totals wait until the parts behind are summed up, and
  // the outliers.
  static constexpr int groups_depth = BLOCKS + 2, totals_depth = TOKENS * BLOCKS + 2;
  hls::stream<group_sums<PART, PARALLEL>> groups;
  hls::stream<row_values<PARALLEL>> totals;
  part_streams<parts<REST...>, PARALLEL, BLOCKS, TOKENS> rest;

  part_streams() {
#pragma HLS STREAM variable = groups depth = groups_depth
#pragma HLS STREAM variable = totals depth = totals_depth
  }
};

// Groups of all parts, part after part.
template <int ROWS, int PARALLEL, class INPUT, int TOKENS, class PART, class... REST>
void sum_parts(const tiles<parts<PART, REST...>, ROWS, PARALLEL>& tile,
               const inputs_of_parts<parts<PART, REST...>, TOKENS>& inputs, const activations<INPUT, TOKENS>& x,
               int tokens, int first, int rows,
               part_streams<parts<PART, REST...>, PARALLEL, ROWS / PARALLEL, TOKENS>& out) {
#pragma HLS INLINE
  sum_groups<PART, ROWS, PARALLEL>(tile.tile, tile.registers, inputs.inputs, x, tokens, first, rows, out.groups);
  if constexpr (sizeof...(REST) > 0) {
    sum_parts<ROWS, PARALLEL>(tile.rest, inputs.rest, x, tokens, first, rows, out.rest);
  }
}

// A process for each part; each adds to the totals of the one before: ((p0 + p1) + p2) + ...
template <class INPUT, int PARALLEL, int BLOCKS, int TOKENS, class PART, class... REST, class... BEFORE>
void scale_parts(part_streams<parts<PART, REST...>, PARALLEL, BLOCKS, TOKENS>& streams, int tokens,
                 BEFORE&... before) {
#pragma HLS INLINE
  scale_groups<PART, PARALLEL, BLOCKS, INPUT>(streams.groups, tokens, streams.totals, before...);
  if constexpr (sizeof...(REST) > 0) scale_parts<INPUT>(streams.rest, tokens, streams.totals);
}

}  // namespace codesign

#endif
