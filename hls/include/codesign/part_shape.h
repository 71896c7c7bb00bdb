// How one dense part of a layer falls into steps, groups, blocks and passes, and what goes from its sums to its scaling.
//
// A float adder takes several cycles, and the additions of a row keep their order: between two groups of a row lie the
// groups of all other blocks of the tile, BLOCKS of them, so that the adder is done when it is needed again. Sums that
// round every product go from block to block in each step for the same reason. hls/part_shape.py says the same in Python.
#ifndef CODESIGN_PART_SHAPE_H
#define CODESIGN_PART_SHAPE_H

#include "codesign/activation.h"
#include "codesign/layer_tile.h"

namespace codesign {

constexpr int float_add_cycles = 8;  // a float32 adder of up to seven stages (hls/hls_operators.py), and its register

// --- the shape of a part --------------------------------------------------------------------------------------------

// How a part's columns fall into groups and steps, and its rows into passes of the scaling.
template <class PART, int PARALLEL, int BLOCKS>
struct part_shape {
  using arithmetic = typename PART::arithmetic;
  static constexpr int lanes = arithmetic::lanes, outputs = PART::outputs, code_rows = PARALLEL / outputs;
  static constexpr int weight_elements = weight_elements_of<arithmetic>::value;
  static constexpr int activation_elements = activation_elements_of<arithmetic>::value;
  static constexpr int step_codes = lanes / weight_elements, activation_codes = lanes / activation_elements;
  static constexpr bool with_ones = PART::zero == zero_kind::in_codes || PART::zero == zero_kind::real;
  // Of a sparse row, a step takes the inputs of whole blocks, out of which each of its lanes picks its own.
  static constexpr bool sparse = PART::mask::present;
  static constexpr int window_codes = sparse ? lanes / PART::kept * PART::block : activation_codes;
  static constexpr int ones_rows = sparse ? code_rows : 1;  // rows that multiply other inputs than their neighbours

  static constexpr int groups = ceil_div(PART::columns, PART::group);
  static constexpr int group_stored = groups > 1 ? stored_before<PART>(PART::group) : stored_columns<PART>;
  static constexpr int group_steps = ceil_div(group_stored, lanes);
  static constexpr int last_steps = ceil_div(stored_columns<PART> - (groups - 1) * group_stored, lanes);
  static constexpr int row_steps = (groups - 1) * group_steps + last_steps;
  static constexpr int cycles = cycles_of<arithmetic>(PART::registers);  // of a step
  // Whether steps start at whole windows, and at codes that are a multiple of `codes_aligned`.
  static constexpr bool aligned = groups == 1 || PART::group % (window_codes * activation_elements) == 0;
  static constexpr int codes_aligned =
      groups == 1 || group_stored % lanes == 0 ? step_codes : 1;

  // Sums that wait for a float adder in every lane take turns: each step goes from block to block.
  static constexpr bool in_turns = rounds_of<arithmetic>::value && BLOCKS > 1;
  static constexpr int sets = in_turns ? BLOCKS : 1;  // of sums at a time
  static constexpr int step_interval = rounds_of<arithmetic>::value ? ceil_div(lanes * (float_add_cycles - 1), sets) : 1;

  // The scaling takes `scalers` rows a cycle, in `passes` cycles a group: those that its steps take.
  static constexpr int group_cycles = group_steps * cycles * step_interval;
  static constexpr int scalers = ceil_div(PARALLEL, smaller(group_cycles, PARALLEL));
  static constexpr int passes = ceil_div(PARALLEL, scalers);
  static constexpr int scale_interval = PART::exact_scale ? 1 : ceil_div(float_add_cycles, passes * BLOCKS);

  static_assert(weight_elements == PART::code_dim, "codes of part and arithmetic hold as many elements");
  static_assert(outputs_of<arithmetic>::value == outputs, "codes of part and arithmetic span as many outputs");
  static_assert(arithmetic::weight_bits >= PART::code_bits, "an arithmetic takes whole codes");
  static_assert(groups == 1 || PART::group % weight_elements == 0, "groups hold whole codes");
  static_assert(!sparse || (lanes % PART::kept == 0 && weight_elements == 1 && activation_elements == 1 && outputs == 1),
                "the lanes of a sparse row are whole blocks of single elements");
  static_assert(!sparse || groups == 1 || PART::group % PART::block == 0, "groups hold whole blocks");
  static_assert(!with_ones || outputs == 1, "zero points go with codes of one output");
};

// The sums of one group of PARALLEL rows, and the stored numbers that scale them.
template <class PART, int PARALLEL>
struct group_sums {
  using shape = part_shape<PART, PARALLEL, 1>;
  using sum_t = typename PART::arithmetic::sum_t;
  template <class FIELD>
  using entries = ap_uint<FIELD::bits>[FIELD::present ? PARALLEL : 1];
  using zero_point = std::conditional_t<shape::with_ones, typename PART::zero_point, no_field>;

  sum_t sum[shape::code_rows];
  sum_t ones[shape::with_ones ? shape::ones_rows : 1];
  entries<typename PART::scale> scale;
  entries<typename PART::outer_scale> outer_scale;
  entries<typename PART::outer_offset> outer_offset;
  entries<zero_point> zero;
  entries<typename PART::zero_point_scale> zero_scale;
  entries<typename PART::zero_point_offset> zero_offset;
  entries<typename PART::row_scale> row_scale;
  ap_uint<runtime_format_of<PART>::value ? 32 : 1> format;  // word of the format register, where that is loaded
  float activation_scale;

  group_sums() {  // a whole value is written and read in a cycle
#pragma HLS ARRAY_PARTITION variable = sum complete
#pragma HLS ARRAY_PARTITION variable = ones complete
#pragma HLS ARRAY_PARTITION variable = scale complete
#pragma HLS ARRAY_PARTITION variable = outer_scale complete
#pragma HLS ARRAY_PARTITION variable = outer_offset complete
#pragma HLS ARRAY_PARTITION variable = zero complete
#pragma HLS ARRAY_PARTITION variable = zero_scale complete
#pragma HLS ARRAY_PARTITION variable = zero_offset complete
#pragma HLS ARRAY_PARTITION variable = row_scale complete
  }
};

// Results of PARALLEL rows.
template <int PARALLEL>
struct row_values {
  float of[PARALLEL];
  row_values() {
#pragma HLS ARRAY_PARTITION variable = of complete
  }
};

// --- inputs ---------------------------------------------------------------------------------------------------------

// What the columns of a part multiply, where they are not simply the layer's inputs: picked and scaled before the tiles.
template <class PART, int TOKENS>
struct part_inputs {
  static constexpr bool present = PART::gather::present || PART::column_scale::present;
  static constexpr int elements = activation_elements_of<typename PART::arithmetic>::value;
  static constexpr int codes = ceil_div(PART::columns, elements), bits = PART::arithmetic::activation_bits;
  static constexpr int groups = ceil_div(PART::columns, PART::group);
  ap_uint<bits> code[present ? TOKENS : 1][present ? codes : 1];
  float scale[PART::gather::present ? TOKENS : 1][PART::gather::present ? groups : 1];
};

// Codes of a step's columns from `first` on to `end`; idle ones beyond it. `row` holds WINDOW codes in as many banks: a
// window that starts between two of their words is cut out of both.
template <class PART, int WINDOW, bool ALIGNED, int BITS, int CODES>
void window_of(const ap_uint<BITS> (&row)[CODES], int first, int end, ap_uint<BITS> (&window)[WINDOW]) {
#pragma HLS INLINE
  constexpr int elements = activation_elements_of<typename PART::arithmetic>::value;
  const int word = first / elements / WINDOW, skip = ALIGNED ? 0 : first / elements % WINDOW;
  ap_uint<BITS> codes[ALIGNED ? WINDOW : 2 * WINDOW];
#pragma HLS ARRAY_PARTITION variable = codes complete
codes_read:
  for (int lane = 0; lane < (ALIGNED ? WINDOW : 2 * WINDOW); ++lane) {
#pragma HLS UNROLL
    const int place = word * WINDOW + lane;
    codes[lane] = PART::idle_activation;
    if (place * elements < end) codes[lane] = row[place];
  }
activation_lanes:
  for (int lane = 0; lane < WINDOW; ++lane) {
#pragma HLS UNROLL
    window[lane] = codes[skip + lane];
  }
}

}  // namespace codesign

#endif
