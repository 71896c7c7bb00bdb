// Side branches of a layer, all in float32: the low-rank product, outlier columns, element-wise outliers.
//
// Sums of products run in eight interleaved partial sums (term i belongs to sum i mod 8; at the end they are added in
// order), so that a float adder of up to eight cycles takes a new product in every cycle.
#ifndef CODESIGN_BRANCHES_H
#define CODESIGN_BRANCHES_H

#include "codesign/activation.h"
#include "codesign/streams.h"

namespace codesign {

constexpr int partial_sums = 8;

// Registers that move on by one place with every term: the next term always joins place 0, which was written eight terms
// ago. With an index that turns instead, a tool has to assume that each term waits for the one before.
struct interleaved_sum {
  float part[partial_sums];
  int first;  // place of the sum that term 0 joined
  interleaved_sum() {
#pragma HLS ARRAY_PARTITION variable = part complete
  }
  void clear() {
#pragma HLS INLINE
    first = 0;
  parts:
    for (int i = 0; i < partial_sums; ++i) {
#pragma HLS UNROLL
      part[i] = 0.0F;
    }
  }
  void add(float product) {
#pragma HLS INLINE
    const float sum = part[0] + product;
  parts:
    for (int i = 1; i < partial_sums; ++i) {
#pragma HLS UNROLL
      part[i - 1] = part[i];
    }
    part[partial_sums - 1] = sum;
    first = first == 0 ? partial_sums - 1 : first - 1;
  }
  float total() const {
#pragma HLS INLINE
    float sum = part[first];
  parts:
    for (int i = 1; i < partial_sums; ++i) {
#pragma HLS UNROLL
      sum = sum + part[(first + i) % partial_sums];
    }
    return sum;
  }
};

// --- low rank -------------------------------------------------------------------------------------------------------

// A factor [ROWS, COLUMNS] in the image: codes of VALUE (rows of packed codes below 16 bits, flat from there on), the
// scale of each tile, and a second level of it.
template <class VALUE, int ROWS, int COLUMNS, int BEAT, class SCALE = no_field, class OUTER_SCALE = no_field>
struct factor {
  static constexpr bool present = true;
  static constexpr int rows = ROWS, columns = COLUMNS, beat = BEAT;
  static constexpr bool packed = VALUE::bits < 16;
  static constexpr int words = packed ? row_words(COLUMNS, VALUE::bits) : 1;
  using value = VALUE;
  using flat = field<VALUE, 1, 1, packed ? 0 : ROWS * COLUMNS, BEAT>;
  using scale = SCALE;
  using outer_scale = OUTER_SCALE;
};

struct no_factor {
  static constexpr bool present = false;
  static constexpr int rows = 1, columns = 1;
};

template <class FACTOR, class IMAGE>
void read_factor(const IMAGE& image, beat_stream& out) {
#pragma HLS INLINE
  if constexpr (FACTOR::present) {
  rows:
    for (int row = 0; row < FACTOR::rows; ++row) {
      if constexpr (FACTOR::packed) read_rows<FACTOR::words>(image, FACTOR::beat, row, 1, out);
      else read_field<typename FACTOR::flat>(image, row * FACTOR::columns, FACTOR::columns, out);
      using scales = field_rows<typename FACTOR::scale, 1, FACTOR::columns>;
      using outers = field_rows<typename FACTOR::outer_scale, 1, FACTOR::columns>;
      read_field<typename FACTOR::scale>(image, scales::first(row), scales::count(row, 1), out);
      read_field<typename FACTOR::outer_scale>(image, outers::first(row), outers::count(row, 1), out);
    }
  }
}

// One row of a factor, decoded.
template <class FACTOR>
void take_factor_row(beat_stream& in, int row, float (&values)[FACTOR::columns]) {
#pragma HLS INLINE off
  using value = typename FACTOR::value;
  using scale = typename FACTOR::scale;
  using outer = typename FACTOR::outer_scale;
  using scales = field_rows<scale, 1, FACTOR::columns>;
  using outers = field_rows<outer, 1, FACTOR::columns>;
  ap_uint<word_bits> words[FACTOR::words];
  ap_uint<value::bits> codes[FACTOR::columns];
  if constexpr (FACTOR::packed) take_row(in, row, words);
  else take_field<typename FACTOR::flat>(in, row * FACTOR::columns, FACTOR::columns, codes);
  ap_uint<scale::bits> scale_codes[scales::size];
  ap_uint<outer::bits> outer_codes[outers::size];
  take_field<scale>(in, scales::first(row), scales::count(row, 1), scale_codes);
  take_field<outer>(in, outers::first(row), outers::count(row, 1), outer_codes);
columns:
  for (int column = 0; column < FACTOR::columns; ++column) {
#pragma HLS PIPELINE II = 1
    if constexpr (FACTOR::packed) codes[column] = code_of_row<value::bits>(words, column);
    float decoded = value::decode(codes[column]);
    if constexpr (scale::present) {
      float step = scale::value::decode(scale_codes[scales::place(row, 0, column)]);
      if constexpr (outer::present) step = step * outer::value::decode(outer_codes[outers::place(row, 0, column)]);
      decoded = decoded * step;
    }
    values[column] = decoded;
  }
}

// The intermediate or result of the branch in its own format; float32 as it is for no_stage.
template <class STAGE, int TOKENS, int COLUMNS>
void requantize(float (&x)[TOKENS][COLUMNS], int tokens) {
#pragma HLS INLINE off
  if constexpr (!std::is_same_v<STAGE, no_stage>) {
    activations<STAGE, TOKENS> made;
    quantize<STAGE, TOKENS>(x, tokens, made);
  tokens_back:
    for (int token = 0; token < tokens; ++token) {
    columns_back:
      for (int column = 0; column < COLUMNS; ++column) {
#pragma HLS PIPELINE II = 1
        x[token][column] = made.number(token, column);
      }
    }
  }
}

// Q(Q(x A) B) for all rows, Q being the stages MIDDLE and RESULT: what is added to each output.
template <class A, class B, class MIDDLE, class RESULT, int TOKENS, class ACTIVATIONS>
void low_rank(beat_stream& in, const ACTIVATIONS& x, int tokens, float (&result)[TOKENS][B::rows]) {
#pragma HLS INLINE off
  float middle[TOKENS][A::rows], row_of_a[A::columns], row_of_b[B::columns];
ranks:
  for (int rank = 0; rank < A::rows; ++rank) {
    take_factor_row<A>(in, rank, row_of_a);
  tokens_in:
    for (int token = 0; token < tokens; ++token) {
      interleaved_sum sum;
      sum.clear();
    columns_in:
      for (int column = 0; column < A::columns; ++column) {
#pragma HLS PIPELINE II = 1
        sum.add(row_of_a[column] * x.number(token, column));
      }
      middle[token][rank] = sum.total();
    }
  }
  requantize<MIDDLE, TOKENS, A::rows>(middle, tokens);
outputs:
  for (int row = 0; row < B::rows; ++row) {
    take_factor_row<B>(in, row, row_of_b);
  tokens_out:
    for (int token = 0; token < tokens; ++token) {
      interleaved_sum sum;
      sum.clear();
    ranks_in:
      for (int rank = 0; rank < B::columns; ++rank) {
#pragma HLS PIPELINE II = 1
        sum.add(row_of_b[rank] * middle[token][rank]);
      }
      result[token][row] = sum.total();
    }
  }
  requantize<RESULT, TOKENS, B::rows>(result, tokens);
}

// --- outliers -------------------------------------------------------------------------------------------------------

struct no_outliers {
  static constexpr bool columns_layout = false, rows_layout = false;
  static constexpr int most = 1;
  using index = no_field;
};

// Whole columns: VALUES [n, COUNT] with tiles of one element, INDEX the column of each.
template <class VALUES, class INDEX, int COUNT>
struct outlier_columns {
  static constexpr bool columns_layout = true, rows_layout = false;
  static constexpr int most = COUNT;
  using values = VALUES;
  using index = INDEX;
};

// Single weights, row after row: VALUES and INDEX with one entry for each, POINTERS [n + 1] where rows start; no TILE_ROWS
// consecutive rows from a multiple of that have more than MOST.
template <class VALUES, class INDEX, class POINTERS, int MOST>
struct outlier_rows {
  static constexpr bool columns_layout = false, rows_layout = true;
  static constexpr int most = MOST;
  using values = VALUES;
  using index = INDEX;
  using pointers = POINTERS;
};

// What the rows [first, first + rows) need.
template <class OUTLIERS, class IMAGE>
void read_outliers(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  if constexpr (OUTLIERS::columns_layout) {
    read_field<typename OUTLIERS::values>(image, first * OUTLIERS::most, rows * OUTLIERS::most, out);
  }
  if constexpr (OUTLIERS::rows_layout) {
    using pointers = typename OUTLIERS::pointers;
    const int begin = static_cast<int>(read_entry<pointers>(image, first).to_uint());
    const int end = static_cast<int>(read_entry<pointers>(image, first + rows).to_uint());
    read_field<pointers>(image, first, rows + 1, out);
    read_field<typename OUTLIERS::values>(image, begin, end - begin, out);
    read_field<typename OUTLIERS::index>(image, begin, end - begin, out);
  }
}

template <class OUTLIERS, int ROWS>
struct outlier_tile {
  static constexpr int size = OUTLIERS::columns_layout ? ROWS * OUTLIERS::most : OUTLIERS::most;
  float value[size];
  int column[size];  // of element-wise outliers
  int start[ROWS + 1];
};

template <class OUTLIERS, int ROWS>
void take_outliers(beat_stream& in, int first, int rows, outlier_tile<OUTLIERS, ROWS>& tile) {
#pragma HLS INLINE off
  constexpr int size = outlier_tile<OUTLIERS, ROWS>::size;
  if constexpr (OUTLIERS::columns_layout) {
    using values = typename OUTLIERS::values;
    ap_uint<values::bits> codes[size];
    take_field<values>(in, first * OUTLIERS::most, rows * OUTLIERS::most, codes);
  column_values:
    for (int i = 0; i < rows * OUTLIERS::most; ++i) tile.value[i] = values::value::decode(codes[i]);
  }
  if constexpr (OUTLIERS::rows_layout) {
    using values = typename OUTLIERS::values;
    using index = typename OUTLIERS::index;
    using pointers = typename OUTLIERS::pointers;
    ap_uint<pointers::bits> starts[ROWS + 1];
    take_field<pointers>(in, first, rows + 1, starts);
    const int begin = static_cast<int>(starts[0].to_uint());
  row_starts:
    for (int row = 0; row <= rows; ++row) tile.start[row] = static_cast<int>(starts[row].to_uint()) - begin;
    ap_uint<values::bits> codes[size];
    ap_uint<index::bits> columns[size];
    take_field<values>(in, begin, tile.start[rows], codes);
    take_field<index>(in, begin, tile.start[rows], columns);
  element_values:
    for (int i = 0; i < tile.start[rows]; ++i) {
      tile.value[i] = values::value::decode(codes[i]);
      tile.column[i] = static_cast<int>(columns[i].to_uint());
    }
  }
}

template <class OUTLIERS, int ROWS>
int outliers_of_row(const outlier_tile<OUTLIERS, ROWS>& tile, int row) {
#pragma HLS INLINE
  if constexpr (OUTLIERS::columns_layout) return OUTLIERS::most;
  else return row < ROWS ? tile.start[row + 1] - tile.start[row] : 0;
}

// What the outliers of a tile add to each of its rows, for each token; `columns` of outlier columns. Products of all rows
// follow one another into eight partial sums a row; then the eight are added, row after row.
template <class OUTLIERS, int ROWS, class ACTIVATIONS>
void outlier_sums(const outlier_tile<OUTLIERS, ROWS>& tile, const int (&columns)[OUTLIERS::most], const ACTIVATIONS& x,
                  int tokens, int rows, float_stream& out) {
#pragma HLS INLINE off
  if constexpr (OUTLIERS::columns_layout || OUTLIERS::rows_layout) {
    float part[ROWS][partial_sums];
#pragma HLS ARRAY_PARTITION variable = part complete dim = 2
  outlier_tokens:
    for (int token = 0; token < tokens; ++token) {
      int row = 0, term = 0, element = 0;  // `term` of a row is `element` of the tile
      // an iteration for each outlier, and one for the end of each row of single ones
      const int products = OUTLIERS::columns_layout ? rows * OUTLIERS::most : tile.start[rows] + rows;
    outlier_products:
      for (int i = 0; i < products; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = part inter RAW distance = partial_sums true
        const int terms = outliers_of_row<OUTLIERS>(tile, row);
        if (term < terms) {
          const int column = OUTLIERS::columns_layout ? columns[term] : tile.column[element];
          const float product = tile.value[element] * x.number(token, column);
          const int sum = term % partial_sums;
          part[row][sum] = (term < partial_sums ? 0.0F : part[row][sum]) + product;
          ++element;
        }
        ++term;
        if (term == (OUTLIERS::columns_layout ? terms : terms + 1)) {
          term = 0;
          ++row;
        }
      }
    outlier_totals:
      for (int at = 0; at < rows; ++at) {
#pragma HLS PIPELINE II = 1
        const int terms = outliers_of_row<OUTLIERS>(tile, at);
        float sum = 0.0F;
      parts_added:
        for (int i = 0; i < partial_sums; ++i) {
#pragma HLS UNROLL
          if (i < terms) sum = sum + part[at][i];
        }
        out.write(sum);
      }
    }
  }
}

}  // namespace codesign

#endif
