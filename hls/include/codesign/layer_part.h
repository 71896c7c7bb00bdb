// The loop that multiplies one dense part of a layer: `sum_groups` adds up the products of groups, a step of lanes a cycle
// for PARALLEL rows, and hands each finished group on together with the entries that scale it (part_scale.h).
#ifndef CODESIGN_LAYER_PART_H
#define CODESIGN_LAYER_PART_H

#include "codesign/part_shape.h"

namespace codesign {

// A cycle of a step added to A, the sum of activations that real zero points multiply; `count` are left in the group.
template <class PART, class X>
void add_ones(typename PART::arithmetic::sum_t& ones,
              typename cycle_state_of<typename PART::arithmetic>::type& state, const X& x, int count, int cycle,
              const typename registers_of<typename PART::arithmetic>::type& registers) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  ap_uint<arithmetic::weight_bits> w[arithmetic::lanes];
one_lanes:
  for (int lane = 0; lane < arithmetic::lanes; ++lane) {
#pragma HLS UNROLL
    w[lane] = lane < count ? PART::one_code : PART::idle_weight;
  }
  add_cycle<arithmetic>(ones, state, w, x, 0, registers, cycle);
}

// The weight codes of a step's lanes for one row of a tile; idle ones from `end` on.
template <class PART, class SHAPE, class TILE>
void weights_of(const TILE& tile, int first, int row, int begin, int place, int end,
                ap_uint<PART::arithmetic::weight_bits> (&w)[SHAPE::step_codes]) {
#pragma HLS INLINE
  using arithmetic = typename PART::arithmetic;
  ap_uint<PART::code_bits> codes[SHAPE::step_codes];
#pragma HLS ARRAY_PARTITION variable = codes complete
  tile.code.template codes_at<SHAPE::step_codes, SHAPE::codes_aligned>(row, place / SHAPE::weight_elements, codes);
  ap_int<PART::zero_point::bits + 1> zero = 0;
  if constexpr (PART::zero == zero_kind::before_product) zero = tile.zero_point.at(first, row, begin);
weight_lanes:
  for (int lane = 0; lane < SHAPE::step_codes; ++lane) {
#pragma HLS UNROLL
    w[lane] = PART::idle_weight;
    if (place + lane * SHAPE::weight_elements < end) {
      if constexpr (PART::zero == zero_kind::before_product) {
        w[lane] = ap_uint<arithmetic::weight_bits>(ap_int<arithmetic::weight_bits + 1>(codes[lane]) - zero);
      } else {
        w[lane] = codes[lane];
      }
    }
  }
}

// The entry of a field for each row of a block, as a finished group takes it along.
template <int PARALLEL, class TILE, int SIZE>
void entries_of_rows(const TILE& field, int first, int block, int column,
                     ap_uint<TILE::field::bits> (&entries)[SIZE]) {
#pragma HLS INLINE
  if constexpr (TILE::field::present) {
  entries_taken:
    for (int row = 0; row < PARALLEL; ++row) {
#pragma HLS UNROLL
      entries[row] = field.at(first, block * PARALLEL + row, column);
    }
  }
}

// Whether a step is the first of a slab of channels, before which the sums of the slabs before it are rescaled (Tender).
template <class PART, class = void>
struct starts_slab {
  static bool at(int) { return false; }
};
template <class PART>
struct starts_slab<PART, std::void_t<decltype(PART::slabs)>> {
  static bool at(int step) {
#pragma HLS INLINE
    bool starts = false;
  slabs_compared:
    for (unsigned slab = 1; slab < sizeof(PART::slabs) / sizeof(PART::slabs[0]); ++slab) {
#pragma HLS UNROLL
      starts = starts || step == PART::slabs[slab];
    }
    return starts;
  }
};

// All groups of a tile's rows for all tokens, in the order token, group, block. Rows of the tile beyond `rows` sum up
// nothing.
template <class PART, int ROWS, int PARALLEL, class INPUT, int TOKENS>
void sum_groups(const part_tile<PART, ROWS, PARALLEL>& tile, const part_registers<PART, ROWS, PARALLEL>& registers,
                const part_inputs<PART, TOKENS>& inputs, const activations<INPUT, TOKENS>& x, int tokens, int first,
                int rows, hls::stream<group_sums<PART, PARALLEL>>& out) {
#pragma HLS INLINE off
  constexpr int blocks = ROWS / PARALLEL;
  using arithmetic = typename PART::arithmetic;
  using shape = part_shape<PART, PARALLEL, blocks>;
  using made = group_sums<PART, PARALLEL>;
  using sum_t = typename arithmetic::sum_t;
  constexpr int lanes = arithmetic::lanes;
  // no more banks than elements
  [[maybe_unused]] constexpr int x_banks = smaller(lanes, INPUT::columns);
  [[maybe_unused]] constexpr int input_banks = part_inputs<PART, TOKENS>::present ? smaller(lanes, PART::columns) : 1;
  static_assert(arithmetic::activation_bits == activations<INPUT, TOKENS>::bits, "codes are as wide as the stage's");
  static_assert(!PART::column_scale::present || (arithmetic::activation_bits == 16 && !activations<INPUT, TOKENS>::scaled),
                "column scales multiply FP16");
// every lane of the activation is read at once
#pragma HLS ARRAY_PARTITION variable = x.code cyclic factor = x_banks dim = 2
#pragma HLS ARRAY_PARTITION variable = inputs.code cyclic factor = input_banks dim = 2

  // Of the block at hand; where blocks take turns, those of the others behind it, in the order of turns.
  sum_t sum[shape::sets][shape::code_rows], ones[shape::sets][shape::ones_rows];
#pragma HLS ARRAY_PARTITION variable = sum complete dim = 0
#pragma HLS ARRAY_PARTITION variable = ones complete dim = 0
  typename cycle_state_of<arithmetic>::type sum_state[shape::code_rows], ones_state[shape::ones_rows];
#pragma HLS ARRAY_PARTITION variable = sum_state complete
#pragma HLS ARRAY_PARTITION variable = ones_state complete
  int step_cycles = shape::cycles;
  if constexpr (runtime_format_of<PART>::value) step_cycles = arithmetic::cycles(registers.at(0, 0));
  int token = 0, group = 0, block = 0, step = 0, cycle = 0;
steps:
  for (int i = 0; i < tokens * blocks * shape::row_steps * step_cycles; ++i) {
#pragma HLS PIPELINE II = shape::step_interval
    const int begin = group * PART::group;
    const int end = group + 1 < shape::groups ? begin + PART::group : PART::columns;
    const int stored_end = group + 1 < shape::groups ? (group + 1) * shape::group_stored : stored_columns<PART>;
    const int place = group * shape::group_stored + step * lanes;

    ap_uint<arithmetic::activation_bits> window[shape::window_codes];
#pragma HLS ARRAY_PARTITION variable = window complete
    const int column = begin + step * shape::window_codes * shape::activation_elements;
    if constexpr (part_inputs<PART, TOKENS>::present) {
      window_of<PART, shape::window_codes, shape::aligned>(inputs.code[token], column, end, window);
    } else {
      window_of<PART, shape::window_codes, shape::aligned>(x.code[token], column, end, window);
    }
  parallel_rows:
    for (int row = 0; row < shape::code_rows; ++row) {
#pragma HLS UNROLL
      const int of_tile = block * shape::code_rows + row;  // row of codes
      const typename registers_of<arithmetic>::type& table = registers.at(block, row);
      if (step == 0 && cycle == 0) {
        arithmetic::clear(sum[0][row]);
        if (row < shape::ones_rows) arithmetic::clear(ones[0][row]);
      }
      if constexpr (rescales_of<arithmetic>::value) {
        if (cycle == 0 && starts_slab<PART>::at(step)) arithmetic::rescale(sum[0][row]);
      }
      if (of_tile * PART::outputs < rows) {
        ap_uint<arithmetic::weight_bits> w[shape::step_codes];
#pragma HLS ARRAY_PARTITION variable = w complete
        weights_of<PART, shape>(tile, first, of_tile, begin, place, stored_end, w);
        selector_of<arithmetic> selector = 0;
        if constexpr (PART::selector::present) selector = tile.selector.at(first, of_tile * PART::outputs, begin);
        if constexpr (shape::sparse) {
          ap_uint<arithmetic::activation_bits> picked[lanes];
#pragma HLS ARRAY_PARTITION variable = picked complete
        picked_lanes:
          for (int lane = 0; lane < lanes; ++lane) {
#pragma HLS UNROLL
            picked[lane] = PART::idle_activation;
            if (place + lane < stored_end) {
              const int within = tile.mask.at(first, of_tile, place + lane).to_int();
              picked[lane] = window[lane / PART::kept * PART::block + within];
            }
          }
          add_cycle<arithmetic>(sum[0][row], sum_state[row], w, picked, selector, table, cycle);
          if constexpr (shape::with_ones) {
            add_ones<PART>(ones[0][row], ones_state[row], picked, stored_end - place, cycle, table);
          }
        } else {
          add_cycle<arithmetic>(sum[0][row], sum_state[row], w, window, selector, table, cycle);
        }
      }
    }
    if constexpr (shape::with_ones && !shape::sparse) {
      add_ones<PART>(ones[0][0], ones_state[0], window, stored_end - place, cycle, registers.at(block, 0));
    }

    const bool last_cycle = cycle + 1 == step_cycles;
    const bool last_step = step + 1 == (group + 1 < shape::groups ? shape::group_steps : shape::last_steps);
    const bool last_block = block + 1 == blocks;
    if (last_cycle && last_step) {
      made finished;
    sums_finished:
      for (int row = 0; row < shape::code_rows; ++row) {
#pragma HLS UNROLL
        finished.sum[row] = sum[0][row];
        if (shape::with_ones && row < shape::ones_rows) finished.ones[row] = ones[0][row];
      }
      entries_of_rows<PARALLEL>(tile.scale, first, block, begin, finished.scale);
      entries_of_rows<PARALLEL>(tile.outer_scale, first, block, begin, finished.outer_scale);
      entries_of_rows<PARALLEL>(tile.outer_offset, first, block, begin, finished.outer_offset);
      if constexpr (shape::with_ones) {
        entries_of_rows<PARALLEL>(tile.zero_point, first, block, begin, finished.zero);
        entries_of_rows<PARALLEL>(tile.zero_point_scale, first, block, begin, finished.zero_scale);
        entries_of_rows<PARALLEL>(tile.zero_point_offset, first, block, begin, finished.zero_offset);
      }
      entries_of_rows<PARALLEL>(tile.row_scale, first, block, 0, finished.row_scale);
      if constexpr (runtime_format_of<PART>::value) finished.format = tile.code.format;
      if constexpr (PART::gather::present) finished.activation_scale = inputs.scale[token][group];
      else finished.activation_scale = x.scale[token][activations<INPUT, TOKENS>::tile_of(begin)];
      out.write(finished);
    }
    if constexpr (shape::in_turns) {
      next_turn(sum);
      if constexpr (shape::with_ones) next_turn(ones);
    }
    // on to the next cycle, step, block, group and token; in turns, a step of all blocks before the next one
    cycle = last_cycle ? 0 : cycle + 1;
    const bool next_step = last_cycle && (!shape::in_turns || last_block);
    const bool next_block = last_cycle && (shape::in_turns || last_step);
    const bool next_group = last_cycle && last_step && last_block;
    if (next_block) block = last_block ? 0 : block + 1;
    if (next_step) step = last_step ? 0 : step + 1;
    if (next_group) {
      const bool last_group = group + 1 == shape::groups;
      group = last_group ? 0 : group + 1;
      token += last_group;
    }
  }
}

}  // namespace codesign

#endif
