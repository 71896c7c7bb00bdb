// Testbench of $name: runs it on input.bin from position 0 on, all tokens in one call and then one token in a call;
// compares every output with output.bin and every word of the KV cache with cache.bin, all in this folder.
// Words of the cache count as rows $hidden and up of the token whose position they hold.
// Prints one line for each of the first differences (their number is the argument, 10 by default) and a summary;
// ends with 0 if all are equal, 1 if some differ, 2 if a file is not as it should be.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "codesign/beat_file.h"
#include "config.h"

using beat_t = ap_uint<512>;
using codesign::read_beats;

extern "C" void $name($parameters);

namespace {

constexpr int tokens = $tokens;
constexpr int hidden = $hidden;
constexpr int row_beats = $row_beats;        // of one token, at both ports
constexpr int cache_beats = $cache_beats;    // of one position
constexpr int positions = $positions;
constexpr int words = 16;                    // of a beat

unsigned word_of(const std::vector<beat_t>& beats, std::size_t first, int word) {
  const beat_t& beat = beats[first + word / words];
  const int bit = word % words * 32;
  return ap_uint<32>(beat.range(bit + 31, bit)).to_uint();
}

struct comparison {
  long most, compared = 0, mismatches = 0;
  void words_equal(const std::vector<beat_t>& wanted, const std::vector<beat_t>& found, std::size_t first, int count,
                   int token, int row) {
    for (int word = 0; word < count; ++word) {
      const unsigned a = word_of(wanted, first, word), b = word_of(found, first, word);
      ++compared;
      if (a != b && mismatches++ < most) {
        std::printf("mismatch token=%d row=%d expected=%x found=%x", token, row + word, a, b);
        if (row == 0) std::printf(" (%.9g, not %.9g)", codesign::float_of_bits(a), codesign::float_of_bits(b));
        std::printf("\n");
      }
    }
  }
};

}  // namespace

int main(int count, char** arguments) {
  comparison equal{count > 1 ? std::atol(arguments[1]) : 10};
  std::vector<beat_t> $declared;
  if (!read_beats("input.bin", std::size_t(tokens) * row_beats, input) ||
      !read_beats("output.bin", std::size_t(tokens) * row_beats, expected) ||
      !read_beats("cache.bin", std::size_t(tokens) * cache_beats, records)$read_weights) {
    return 2;
  }
  for (int step : {tokens, 1}) {
    std::vector<beat_t> output(std::size_t(tokens) * row_beats, beat_t(0));
    std::vector<beat_t> cache(std::size_t(positions) * cache_beats, ~beat_t(0));  // what was there before must not matter
    for (int first = 0; first < tokens; first += step) {
      const beat_t* in = input.data() + first * row_beats;
      beat_t* out = output.data() + first * row_beats;
      $name($arguments);
    }
    for (int token = 0; token < tokens; ++token) {
      equal.words_equal(expected, output, std::size_t(token) * row_beats, hidden, token, 0);
      equal.words_equal(records, cache, std::size_t(token) * cache_beats, cache_beats * words, token, hidden);
    }
    if (tokens == 1) break;
  }
  std::printf("compared %ld mismatches %ld\n", equal.compared, equal.mismatches);
  return equal.mismatches != 0;
}
