// Burst reads of the weight image in beats of 512 bits, and the way back from beats to the entries of its arrays.
//
// The image is the arrays of datatypes/layer_packing.py, each on a beat of its own (docs/hls.md, "The weight image").
// A reader walks a range of an array beat by beat, which Vitis HLS turns into one AXI burst, into a stream; whoever
// owns the other end of the stream takes the same range apart. Reader and taker name the range in the same way.
#ifndef CODESIGN_STREAMS_H
#define CODESIGN_STREAMS_H

#include "codesign/fields.h"
#include "codesign/words.h"

namespace codesign {

constexpr int beat_bits = 512;
constexpr int beat_words = beat_bits / word_bits;
constexpr int rom_words = beat_bits / 64;  // 64-bit words of a beat in a table on the chip
using beat_t = ap_uint<beat_bits>;
using beat_stream = hls::stream<beat_t>;
using float_stream = hls::stream<float>;

// Beats that `bits` take.
constexpr int beats_of(long long bits) { return static_cast<int>((bits + beat_bits - 1) / beat_bits); }

// --- the two homes of a weight image --------------------------------------------------------------------------------

// What goes from process to process is a plain pointer or an empty struct: Vitis HLS refuses functions of their own that take
// a struct with a pointer in it ("pointer to pointer").

// In memory: behind an AXI master.
using memory_image = const beat_t*;

inline beat_t beat_of_image(memory_image image, int beat) {
#pragma HLS INLINE
  return image[beat];
}

// On the chip: TABLE::word(i) is word i of a table of 64-bit words, little-endian, that is part of the source.
template <class TABLE>
struct rom_image {};

template <class TABLE>
beat_t beat_of_image(rom_image<TABLE>, int beat) {
#pragma HLS INLINE
  beat_t made = 0;
words_of_beat:
  for (int word = 0; word < rom_words; ++word) {
#pragma HLS UNROLL
    put_lane<64>(made, word, TABLE::word(beat * rom_words + word));
  }
  return made;
}

// An image as its reader sees it, a process in which everything that takes one is inlined: from beat `first` on, beside the
// word of a format register for parts whose weight format is chosen at run time.
template <class IMAGE>
struct image_view {
  IMAGE image;
  int first;
  std::uint32_t format;
  beat_t read(int beat) const {
#pragma HLS INLINE
    return beat_of_image(image, first + beat);
  }
};

// Bits [first, first + bits) of an array that starts at beat `start`, as the beats that hold them.
template <class IMAGE>
void read_bits(const IMAGE& image, int start, long long first, long long bits, beat_stream& out) {
#pragma HLS INLINE
  const int begin = static_cast<int>(first / beat_bits);
  const int end = bits == 0 ? begin : static_cast<int>((first + bits - 1) / beat_bits) + 1;
burst:
  for (int beat = begin; beat < end; ++beat) {
#pragma HLS PIPELINE II = 1
    out.write(image.read(start + beat));
  }
}

// --- words of 32 bits -----------------------------------------------------------------------------------------------

// Beat `beat` of an array of whole beats.
template <int WORDS>
beat_t beat_of_words(const ap_uint<word_bits> (&words)[WORDS], int beat) {
#pragma HLS INLINE
  beat_t made = 0;
words_of_beat:
  for (int word = 0; word < beat_words; ++word) {
#pragma HLS UNROLL
    put_lane<word_bits>(made, word, words[beat * beat_words + word]);
  }
  return made;
}

// Consecutive bits of a stream of beats, at most a beat of them at a time.
struct beat_window {
  beat_t held;
  int at;  // bits of `held` that are taken

  // From bit `first` of the array on, whose beat is the next one of the stream.
  void open(beat_stream& in, long long first) {
#pragma HLS INLINE
    held = in.read();
    at = static_cast<int>(first % beat_bits);
  }

  // The next `count` units of UNIT bits, of at most a beat; those beyond have no meaning.
  template <int UNIT, int COUNT>
  void take(beat_stream& in, int count, ap_uint<UNIT> (&units)[COUNT]) {
#pragma HLS INLINE
    constexpr int places = beat_bits / UNIT;
    static_assert(COUNT <= places, "units of a line fill a beat at most");
    const beat_t before = held;
    const int from = at / UNIT;
    at += count * UNIT;
    if (at > beat_bits) {
      at -= beat_bits;
      held = in.read();
    }
  units_cut:
    for (int unit = 0; unit < COUNT; ++unit) {
#pragma HLS UNROLL
      const int place = from + unit;
      units[unit] = place < places ? lane_of<UNIT>(before, place) : lane_of<UNIT>(held, place - places);
    }
  }
};

// --- packed rows of codes -------------------------------------------------------------------------------------------

// Rows [first, first + rows) of codes, ROW_WORDS words each.
template <int ROW_WORDS, class IMAGE>
void read_rows(const IMAGE& image, int start, int first, int rows, beat_stream& out) {
#pragma HLS INLINE
  const long long row_bits = static_cast<long long>(ROW_WORDS) * word_bits;
  read_bits(image, start, first * row_bits, rows * row_bits, out);
}

// A single one of them.
template <int ROW_WORDS>
void take_row(beat_stream& in, int row, ap_uint<word_bits> (&words)[ROW_WORDS]) {
#pragma HLS INLINE off
  const long long begin = static_cast<long long>(row) * ROW_WORDS;
  int skip = static_cast<int>(begin % beat_words);  // words of the first beat that belong to the rows before
  int word = 0;
  const int beats = beats_of((skip + static_cast<long long>(ROW_WORDS)) * word_bits);
beats:
  for (int beat = 0; beat < beats; ++beat) {
#pragma HLS PIPELINE II = 1
    const beat_t taken = in.read();
  words_of_beat:
    for (int place = 0; place < beat_words; ++place) {
#pragma HLS UNROLL
      if (place >= skip && word < ROW_WORDS) words[word++] = lane_of<word_bits>(taken, place);
    }
    skip = 0;
  }
}

// Code `index` of a row of packed codes.
template <int BITS, int ROW_WORDS>
ap_uint<BITS> code_of_row(const ap_uint<word_bits> (&row)[ROW_WORDS], int index) {
#pragma HLS INLINE
  ap_uint<word_bits> block[BITS];
#pragma HLS ARRAY_PARTITION variable = block complete
  const int first = index / block_codes * BITS;
words_of_block:
  for (int word = 0; word < BITS; ++word) {
#pragma HLS UNROLL
    block[word] = row[first + word];
  }
  return unpack_code<BITS>(block, index % block_codes);
}

// Code `index` of a row that is being packed (words start at zero): its planes at their places.
template <int BITS, int ROW_WORDS>
void pack_code(ap_uint<BITS> code, int index, ap_uint<word_bits> (&row)[ROW_WORDS]) {
#pragma HLS INLINE
  int below = BITS, word = index / block_codes * BITS;
planes:
  for (int power = 4; power >= 0; --power) {
    const int width = 1 << power;
    if (BITS >> power & 1) {
      const int bit = index % block_codes * width;
      below -= width;
      row[word + bit / word_bits].range(bit % word_bits + width - 1, bit % word_bits) =
          code.range(below + width - 1, below);
      word += width;
    }
  }
}

// --- flat fields ----------------------------------------------------------------------------------------------------

// Entries [first, first + count) of a field: the range of each of its planes, high bits first.
template <class FIELD, class IMAGE>
void read_field(const IMAGE& image, int first, int count, beat_stream& out) {
#pragma HLS INLINE
  if constexpr (FIELD::present) {
    long long plane = 0;  // where the plane starts, in bits
  planes:
    for (int power = 5; power >= 0; --power) {
      const int width = 1 << power;
      if (FIELD::bits >> power & 1) {
        read_bits(image, FIELD::beat, plane + static_cast<long long>(first) * width,
                  static_cast<long long>(count) * width, out);
        plane += plane_bits(FIELD::count, width);
      }
    }
  }
}

// A single entry, straight from the image.
template <class FIELD, class IMAGE>
ap_uint<FIELD::bits> read_entry(const IMAGE& image, int index) {
#pragma HLS INLINE
  ap_uint<64> entry = 0;
  long long plane = 0;
planes:
  for (int power = 5; power >= 0; --power) {
    const int width = 1 << power;
    if (FIELD::bits >> power & 1) {
      const long long bit = plane + static_cast<long long>(index) * width;
      const beat_t beat = image.read(FIELD::beat + static_cast<int>(bit / beat_bits));
      const int place = static_cast<int>(bit % beat_bits);
      entry = (entry << width) | ap_uint<64>(beat.range(place + width - 1, place));
      plane += plane_bits(FIELD::count, width);
    }
  }
  return entry;
}

// The same entries out of the stream, one each clock cycle.
template <class FIELD, int SIZE>
void take_field(beat_stream& in, int first, int count, ap_uint<FIELD::bits> (&entries)[SIZE]) {
#pragma HLS INLINE off
  if constexpr (FIELD::present) {
    long long plane = 0;
    bool fresh = true;  // nothing of the entries is there yet
  planes:
    for (int power = 5; power >= 0; --power) {
      const int width = 1 << power;
      if (FIELD::bits >> power & 1) {
        int bit = static_cast<int>((plane + static_cast<long long>(first) * width) % beat_bits);
        beat_t beat = 0;
      entries_of_plane:
        for (int entry = 0; entry < count; ++entry) {
#pragma HLS PIPELINE II = 1
          if (entry == 0 || bit == 0) beat = in.read();
          const ap_uint<32> above = fresh ? ap_uint<32>(0) : ap_uint<32>(entries[entry]);
          const ap_uint<32> part = beat.range(bit + width - 1, bit);
          entries[entry] = ap_uint<64>(ap_uint<64>(above) << width) | part;
          bit = (bit + width) % beat_bits;
        }
        fresh = false;
        plane += plane_bits(FIELD::count, width);
      }
    }
  }
}

}  // namespace codesign

#endif
