// A tile of one dense part of a layer: consecutive rows of the weight on the chip, read from the image and decoded.
//
// A part is a struct as docs/hls.md has it (NAME_part_0). A tile holds ROWS rows, of which PARALLEL are multiplied side
// by side: row r belongs to block r / PARALLEL. It holds packed codes as they came from memory, and the entries of every
// field that its rows need, both in lines: a line is one word of a memory, filled in one cycle and read in one, and rows
// that are multiplied side by side lie in memories of their own. A code that spans several outputs is a row of codes
// for all of them; of a sparse weight, codes and their places in their blocks (`mask`) are stored for the elements that
// are kept alone.
#ifndef CODESIGN_LAYER_TILE_H
#define CODESIGN_LAYER_TILE_H

#include "codesign/arithmetic_traits.h"
#include "codesign/code_tiles.h"
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

// --- lines ----------------------------------------------------------------------------------------------------------

constexpr int entries_a_line = 8;  // of a field

// The entries of FIELD that ROWS consecutive rows need, in lines of EACH.
template <class FIELD, int ROWS, int COLUMNS, int PARALLEL, int EACH = entries_a_line>
struct field_tile {
  using field = FIELD;
  using place = field_rows<FIELD, ROWS, COLUMNS>;
  static constexpr int rows = FIELD::present ? place::tiles : 1, per_row = place::per_row;
  static constexpr int each = smaller(smaller(EACH, per_row), beat_bits / FIELD::bits);
  static constexpr int lines = ceil_div(per_row, each);
  static constexpr int banks = FIELD::tile_rows == 1 ? smaller(PARALLEL, rows) : rows;
  ap_uint<FIELD::bits> entry[rows][lines][each];

  field_tile() {
#pragma HLS ARRAY_PARTITION variable = entry cyclic factor = banks dim = 1
#pragma HLS ARRAY_RESHAPE variable = entry complete dim = 3
  }

  // Entry for row `row` of the tile, whose first row is `first`, and a column: without dividers where all of them are one
  // tile of the field, and a row's entries one line.
  ap_uint<FIELD::bits> at(int first, int row, int column, int of_tile = 0) const {
#pragma HLS INLINE
    constexpr bool single = rows == 1 || (FIELD::tile_rows > 1 && FIELD::count == per_row);  // row of tiles
    const int of_field = single ? 0 : (first + row) / FIELD::tile_rows - first / FIELD::tile_rows;
    const int index = (per_row == FIELD::per_tile ? 0 : column / FIELD::tile_columns * FIELD::per_tile) + of_tile;
    const int line = lines == 1 ? 0 : index / each;
    return entry[of_field][line][index - line * each];
  }
};

// Codes of 16 bits or more, which are not packed: a field of their own.
template <int BITS, int ROWS, int CODES, int PARALLEL, int EACH, int BEAT>
struct wide_code_tile {
  using kept = field_tile<field<raw_value<BITS>, 1, 1, 1, BEAT>, ROWS, CODES, PARALLEL, EACH>;
  kept kept_codes;

  template <int COUNT, int ALIGNED>
  void codes_at(int row, int index, ap_uint<BITS> (&codes)[COUNT]) const {
#pragma HLS INLINE
  codes_met:
    for (int lane = 0; lane < COUNT; ++lane) {
#pragma HLS UNROLL
      codes[lane] = kept_codes.at(0, row, smaller(index + lane, CODES - 1));
    }
  }
};

template <class PART, int ROWS, int PARALLEL>
struct part_tile {
  static_assert(PARALLEL % PART::outputs == 0 && ROWS % PARALLEL == 0, "a tile holds whole blocks of whole vectors");
  static constexpr int code_rows = ROWS / PART::outputs, parallel_codes = PARALLEL / PART::outputs;
  static constexpr int codes = ceil_div(stored_columns<PART>, PART::code_dim);
  static constexpr int step_codes = PART::arithmetic::lanes / weight_elements_of<typename PART::arithmetic>::value;
  static constexpr bool packed = PART::code_bits < 16;
  template <class FIELD>
  using entries_of = field_tile<FIELD, ROWS, PART::columns, PARALLEL>;

  static constexpr bool runtime = runtime_format_of<PART>::value;
  using packed_codes =
      std::conditional_t<runtime, runtime_code_tile<code_rows, codes, parallel_codes>,
                         code_tile<packed ? PART::code_bits : 1, code_rows, codes, parallel_codes>>;
  static_assert(!runtime || PART::code_bits == 8, "codes of a format that is chosen at run time have up to 8 bits");

  std::conditional_t<packed, packed_codes,
                     wide_code_tile<PART::code_bits, code_rows, codes, parallel_codes, step_codes, PART::codes_beat>>
      code;
  field_tile<typename PART::mask, ROWS, stored_columns<PART>, PARALLEL, PART::arithmetic::lanes> mask;
  entries_of<typename PART::scale> scale;
  entries_of<typename PART::outer_scale> outer_scale;
  entries_of<typename PART::outer_offset> outer_offset;
  entries_of<typename PART::zero_point> zero_point;
  entries_of<typename PART::zero_point_scale> zero_point_scale;
  entries_of<typename PART::zero_point_offset> zero_point_offset;
  entries_of<typename PART::selector> selector;
  entries_of<typename PART::codebook> codebook;
  entries_of<typename PART::row_scale> row_scale;
};

// --- out of the image, and into a tile: the same arrays in the same order -----------------------------------------------

template <class FIELD, int ROWS, int COLUMNS, class IMAGE>
void read_rows_of(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  using place = field_rows<FIELD, ROWS, COLUMNS>;
  if constexpr (FIELD::present) read_field<FIELD>(image, place::first(first), place::count(first, rows), out);
}

// Rows [first, first + rows) of a part; `first` is a multiple of ROWS.
template <class PART, int ROWS, int PARALLEL, class IMAGE>
void read_part(const IMAGE& image, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  using tile = part_tile<PART, ROWS, PARALLEL>;
  const int begin = first / PART::outputs, code_rows = ceil_div(rows, PART::outputs);
  if constexpr (tile::runtime) {  // the format goes along with the codes, a beat in front of them
    const long long row_bits = static_cast<long long>(decltype(tile::code)::blocks) *
                               runtime_code_bits(image.format) * word_bits;
    out.write(beat_t(image.format));
    read_bits(image, PART::codes_beat, begin * row_bits, code_rows * row_bits, out);
  } else if constexpr (tile::packed) {
    read_rows<row_words(tile::codes, PART::code_bits)>(image, PART::codes_beat, begin, code_rows, out);
  } else {
    using flat = typename decltype(tile::code)::kept::field;
    read_field<flat>(image, begin * tile::codes, code_rows * tile::codes, out);
  }
  read_rows_of<typename PART::mask, ROWS, stored_columns<PART>>(image, first, rows, out);
  read_rows_of<typename PART::scale, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::outer_scale, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::outer_offset, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::zero_point, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::zero_point_scale, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::zero_point_offset, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::selector, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::codebook, ROWS, PART::columns>(image, first, rows, out);
  read_rows_of<typename PART::row_scale, ROWS, PART::columns>(image, first, rows, out);
}

// The plane of WIDTH bits of a field's entries for the rows [first, first + rows), a line a cycle; planes above come
// before it.
template <int WIDTH, class TILE>
void take_plane(beat_stream& in, int first, int rows, TILE& tile) {
#pragma HLS INLINE
  using field = typename TILE::field;
  using place = typename TILE::place;
  if constexpr ((field::bits & WIDTH) != 0) {
    constexpr bool highest = field::bits < 2 * WIDTH;
    const int count = place::count(first, rows) / TILE::per_row;
    beat_window window;
    constexpr long long start = plane_start(field::bits, field::count, WIDTH);
    window.open(in, start + static_cast<long long>(place::first(first)) * WIDTH);
    int row = 0, line = 0;
  entry_lines:
    for (int i = 0; i < count * TILE::lines; ++i) {
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = tile.entry inter false
      const int entries = smaller(TILE::each, TILE::per_row - line * TILE::each);
      ap_uint<WIDTH> taken[TILE::each];
#pragma HLS ARRAY_PARTITION variable = taken complete
      window.take<WIDTH>(in, entries, taken);
    entries_of_line:
      for (int entry = 0; entry < TILE::each; ++entry) {
#pragma HLS UNROLL
        ap_uint<64> above = 0;
        if constexpr (!highest) above = tile.entry[row][line][entry];
        tile.entry[row][line][entry] = ap_uint<64>(above << WIDTH) | taken[entry];
      }
      if (++line == TILE::lines) {
        line = 0;
        ++row;
      }
    }
  }
}

// Entries of a field that the rows [first, first + rows) need.
template <class TILE>
void take_entries(beat_stream& in, int first, int rows, TILE& tile) {
#pragma HLS INLINE off
  if constexpr (TILE::field::present) {
    take_plane<32>(in, first, rows, tile);
    take_plane<16>(in, first, rows, tile);
    take_plane<8>(in, first, rows, tile);
    take_plane<4>(in, first, rows, tile);
    take_plane<2>(in, first, rows, tile);
    take_plane<1>(in, first, rows, tile);
  }
}

template <class PART, int ROWS, int PARALLEL>
void take_part(beat_stream& in, int first, int rows, part_tile<PART, ROWS, PARALLEL>& tile) {
#pragma HLS INLINE off
  const int begin = first / PART::outputs, code_rows = ceil_div(rows, PART::outputs);
  if constexpr (part_tile<PART, ROWS, PARALLEL>::runtime) take_runtime_codes(in, begin, code_rows, tile.code);
  else if constexpr (part_tile<PART, ROWS, PARALLEL>::packed) take_codes(in, begin, code_rows, tile.code);
  else take_entries(in, begin, code_rows, tile.code.kept_codes);
  take_entries(in, first, rows, tile.mask);
  take_entries(in, first, rows, tile.scale);
  take_entries(in, first, rows, tile.outer_scale);
  take_entries(in, first, rows, tile.outer_offset);
  take_entries(in, first, rows, tile.zero_point);
  take_entries(in, first, rows, tile.zero_point_scale);
  take_entries(in, first, rows, tile.zero_point_offset);
  take_entries(in, first, rows, tile.selector);
  take_entries(in, first, rows, tile.codebook);
  take_entries(in, first, rows, tile.row_scale);
}

// --- tables ---------------------------------------------------------------------------------------------------------

// Tables of a part, one for each row of codes that is multiplied side by side: constants, or those that the image has;
// for each block where the rows of a tile do not share theirs.
template <class PART, int ROWS, int PARALLEL>
struct part_registers {
  using loaded = registers_of<typename PART::arithmetic>;
  using codebook = typename PART::codebook;
  static constexpr bool shared =
      !codebook::present || codebook::count == codebook::per_tile || codebook::tile_rows % ROWS == 0;
  static constexpr int blocks = shared ? 1 : ROWS / PARALLEL, rows = PARALLEL / PART::outputs;
  typename loaded::type of[blocks][rows];

  part_registers() {
#pragma HLS ARRAY_PARTITION variable = of complete dim = 2
  }
  const typename loaded::type& at(int block, int row) const {
#pragma HLS INLINE
    return of[shared ? 0 : block][row];
  }
};

template <class PART, int ROWS, int PARALLEL>
void load_registers(const part_tile<PART, ROWS, PARALLEL>& tile, int first, int rows,
                    part_registers<PART, ROWS, PARALLEL>& registers) {
#pragma HLS INLINE off
  using made = part_registers<PART, ROWS, PARALLEL>;
  using loaded = typename made::loaded;
  if constexpr (loaded::present) {
  rows_loaded:
    for (int row = 0; row < made::blocks * made::rows; ++row) {
      const int of_tile = smaller(row * PART::outputs, rows - 1);  // rows past the last one repeat its table
    entries_loaded:
      for (int i = 0; i < loaded::entries; ++i) {
#pragma HLS PIPELINE II = 1
        ap_uint<loaded::entry_bits> entry;
        if constexpr (runtime_format_of<PART>::value) entry = tile.code.format;
        else if constexpr (PART::codebook::present) entry = tile.codebook.at(first, of_tile, 0, i);
        else entry = PART::registers[i];
        PART::arithmetic::write(registers.of[row / made::rows][row % made::rows], i, entry);
      }
    }
  }
}

}  // namespace codesign

#endif
