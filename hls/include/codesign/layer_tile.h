// A tile of one dense part of a layer: consecutive rows of the weight on the chip, read from the image and decoded.
//
// A part is a struct as docs/hls.md has it (NAME_part_0). A tile holds packed codes as they came from memory, and the
// entries of every field that its rows need. A code that spans several outputs is a row of codes for all of them; of
// a sparse weight, codes and their places in their blocks (`mask`) are stored for the elements that are kept alone.
#ifndef CODESIGN_LAYER_TILE_H
#define CODESIGN_LAYER_TILE_H

#include "codesign/arithmetic_traits.h"
#include "codesign/streams.h"

namespace codesign {

// What a stored zero point means.
enum class zero_kind {
  none,
  before_product,  // an integer: code - zero is what is multiplied
  in_codes,        // a real number in units of codes: taken off the group's value before the scale
  real,            // a real offset of values: added after the scale
};

// Stored elements of a row before `column`, which starts a block or ends the row.
template <class PART>
constexpr int stored_before(int column) {
  const int rest = column % PART::block;
  return column / PART::block * PART::kept + (rest < PART::kept ? rest : PART::kept);
}

template <class PART>
constexpr int stored_columns = stored_before<PART>(PART::columns);

template <class PART, int ROWS>
struct part_tile {
  static_assert(ROWS % PART::outputs == 0, "a tile holds whole vectors of outputs");
  static constexpr int code_rows = ROWS / PART::outputs;
  static constexpr int codes = ceil_div(stored_columns<PART>, PART::code_dim);
  static constexpr bool packed = PART::code_bits < 16;
  static constexpr int words = packed ? row_words(codes, PART::code_bits) : 1;
  using flat = field<raw_value<PART::code_bits>, 1, PART::code_dim, 1, PART::codes_beat>;  // codes of 16 bits or more
  template <class FIELD>
  using place = field_rows<FIELD, ROWS, PART::columns>;
  using mask_place = field_rows<typename PART::mask, ROWS, stored_columns<PART>>;

  ap_uint<word_bits> word[code_rows][words];
  ap_uint<PART::code_bits> code[packed ? 1 : code_rows * codes];
  ap_uint<PART::mask::bits> mask[mask_place::size];
  ap_uint<PART::scale::bits> scale[place<typename PART::scale>::size];
  ap_uint<PART::outer_scale::bits> outer_scale[place<typename PART::outer_scale>::size];
  ap_uint<PART::outer_offset::bits> outer_offset[place<typename PART::outer_offset>::size];
  ap_uint<PART::zero_point::bits> zero_point[place<typename PART::zero_point>::size];
  ap_uint<PART::zero_point_scale::bits> zero_point_scale[place<typename PART::zero_point_scale>::size];
  ap_uint<PART::zero_point_offset::bits> zero_point_offset[place<typename PART::zero_point_offset>::size];
  ap_uint<PART::selector::bits> selector[place<typename PART::selector>::size];
  ap_uint<PART::codebook::bits> codebook[place<typename PART::codebook>::size];
  ap_uint<PART::row_scale::bits> row_scale[place<typename PART::row_scale>::size];

  // Code `index` of a row of codes.
  ap_uint<PART::code_bits> code_at(int row, int index) const {
#pragma HLS INLINE
    if constexpr (packed) return code_of_row<PART::code_bits>(word[row], index);
    else return code[row * codes + index];
  }
};

// --- out of the image, and into a tile: the same arrays in the same order -----------------------------------------------

template <class PART, int ROWS, class FIELD, int COLUMNS = PART::columns, class IMAGE>
void read_rows_of(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  using place = field_rows<FIELD, ROWS, COLUMNS>;
  if constexpr (FIELD::present) read_field<FIELD>(image, place::first(first), place::count(first, rows), out);
}

template <class PART, int ROWS, class FIELD, int COLUMNS = PART::columns, int SIZE>
void take_rows_of(beat_stream& in, int first, int rows, ap_uint<FIELD::bits> (&entries)[SIZE]) {
#pragma HLS INLINE
  using place = field_rows<FIELD, ROWS, COLUMNS>;
  if constexpr (FIELD::present) take_field<FIELD>(in, place::first(first), place::count(first, rows), entries);
}

// Rows [first, first + rows) of a part; `first` is a multiple of ROWS.
template <class PART, int ROWS, class IMAGE>
void read_part(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE off
  using tile = part_tile<PART, ROWS>;
  const int begin = first / PART::outputs, code_rows = ceil_div(rows, PART::outputs);
  if constexpr (tile::packed) {
    read_rows<tile::words>(image, PART::codes_beat, begin, code_rows, out);
  } else {
    read_field<typename tile::flat>(image, begin * tile::codes, code_rows * tile::codes, out);
  }
  read_rows_of<PART, ROWS, typename PART::mask, stored_columns<PART>>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::outer_scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::outer_offset>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point_scale>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::zero_point_offset>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::selector>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::codebook>(image, first, rows, out);
  read_rows_of<PART, ROWS, typename PART::row_scale>(image, first, rows, out);
}

template <class PART, int ROWS>
void take_part(beat_stream& in, int first, int rows, part_tile<PART, ROWS>& tile) {
#pragma HLS INLINE off
  using made = part_tile<PART, ROWS>;
  const int begin = first / PART::outputs, code_rows = ceil_div(rows, PART::outputs);
  if constexpr (made::packed) {
    take_rows<made::words, made::code_rows>(in, begin, code_rows, tile.word);
  } else {
    take_field<typename made::flat>(in, begin * made::codes, code_rows * made::codes, tile.code);
  }
  take_rows_of<PART, ROWS, typename PART::mask, stored_columns<PART>>(in, first, rows, tile.mask);
  take_rows_of<PART, ROWS, typename PART::scale>(in, first, rows, tile.scale);
  take_rows_of<PART, ROWS, typename PART::outer_scale>(in, first, rows, tile.outer_scale);
  take_rows_of<PART, ROWS, typename PART::outer_offset>(in, first, rows, tile.outer_offset);
  take_rows_of<PART, ROWS, typename PART::zero_point>(in, first, rows, tile.zero_point);
  take_rows_of<PART, ROWS, typename PART::zero_point_scale>(in, first, rows, tile.zero_point_scale);
  take_rows_of<PART, ROWS, typename PART::zero_point_offset>(in, first, rows, tile.zero_point_offset);
  take_rows_of<PART, ROWS, typename PART::selector>(in, first, rows, tile.selector);
  take_rows_of<PART, ROWS, typename PART::codebook>(in, first, rows, tile.codebook);
  take_rows_of<PART, ROWS, typename PART::row_scale>(in, first, rows, tile.row_scale);
}

// Tables of a part, one for each row of codes: constants loaded once, or those that the image has for the row.
template <class PART, int ROWS>
void load_registers(const part_tile<PART, ROWS>& tile, int first, int rows,
                    typename registers_of<typename PART::arithmetic>::type (&registers)[ROWS / PART::outputs]) {
#pragma HLS INLINE off
  using loaded = registers_of<typename PART::arithmetic>;
  using place = field_rows<typename PART::codebook, ROWS, PART::columns>;
  if constexpr (loaded::present) {
  rows_loaded:
    for (int row = 0; row < rows; row += PART::outputs) {
    entries_loaded:
      for (int i = 0; i < loaded::entries; ++i) {
#pragma HLS PIPELINE II = 1
        ap_uint<loaded::entry_bits> entry;
        if constexpr (PART::codebook::present) entry = tile.codebook[place::place(first, row, 0) + i];
        else entry = PART::registers[i];
        PART::arithmetic::write(registers[row / PART::outputs], i, entry);
      }
    }
  }
}

// --- values of fields -----------------------------------------------------------------------------------------------

// The entry of FIELD for a row of the tile and a column, decoded; the second level on top of it.
template <class PART, int ROWS, class FIELD, int SIZE>
float field_value(const ap_uint<FIELD::bits> (&entries)[SIZE], int first, int row, int column) {
#pragma HLS INLINE
  return FIELD::value::decode(entries[field_rows<FIELD, ROWS, PART::columns>::place(first, row, column)]);
}

template <class PART, int ROWS>
float scale_of(const part_tile<PART, ROWS>& tile, int first, int row, int column) {
#pragma HLS INLINE
  float scale = field_value<PART, ROWS, typename PART::scale>(tile.scale, first, row, column);
  if constexpr (PART::outer_scale::present && !PART::outer_last) {
    scale = scale * field_value<PART, ROWS, typename PART::outer_scale>(tile.outer_scale, first, row, column);
    if constexpr (PART::outer_offset::present) {
      scale = scale + field_value<PART, ROWS, typename PART::outer_offset>(tile.outer_offset, first, row, column);
    }
  }
  return scale;
}

template <class PART, int ROWS>
float zero_of(const part_tile<PART, ROWS>& tile, int first, int row, int column) {
#pragma HLS INLINE
  float zero = field_value<PART, ROWS, typename PART::zero_point>(tile.zero_point, first, row, column);
  if constexpr (PART::zero_point_scale::present) {
    zero = zero * field_value<PART, ROWS, typename PART::zero_point_scale>(tile.zero_point_scale, first, row, column);
  }
  if constexpr (PART::zero_point_offset::present) {
    zero = zero + field_value<PART, ROWS, typename PART::zero_point_offset>(tile.zero_point_offset, first, row, column);
  }
  return zero;
}

}  // namespace codesign

#endif
