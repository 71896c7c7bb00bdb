// Testbench of $name: runs it on input.bin and compares every output with the golden ones, all in this folder.
// Prints one line for each of the first differences (their number is the argument, 10 by default) and a summary;
// ends with 0 if all outputs are equal, 1 if some differ, 2 if a file is not as it should be.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "codesign/beat_file.h"
#include "codesign/fields.h"
#include "config.h"

using beat_t = ap_uint<512>;
using codesign::read_beats;

extern "C" void $name($parameters);

namespace {

constexpr int tokens = $tokens;
constexpr int input_beats = $input_beats;    // of one token
constexpr int output_beats = $output_beats;  // of one token
constexpr int rows = $rows;                  // values of one token that are compared
constexpr int row_bits = $row_bits;

struct golden_run {
  const char* format;   // of the weight, where it is chosen at run time, and its word in the format register
  unsigned word;
  const char* weights;  // the weight image and its beats; none where it is part of the kernel
  std::size_t beats;
  const char* output;
};
const golden_run runs[] = {
$runs
};

unsigned row_of(const std::vector<beat_t>& beats, int token, int row) {
  constexpr int in_beat = 512 / row_bits;
  const beat_t& beat = beats[static_cast<std::size_t>(token) * output_beats + row / in_beat];
  const int first = row % in_beat * row_bits;
  return ap_uint<row_bits>(beat.range(first + row_bits - 1, first)).to_uint();
}

// Of bits of float32 or FP16; codes are what they are.
double value_of(unsigned bits) {
  return row_bits == 32 ? codesign::float_of_bits(bits) : codesign::fp16_value::decode(bits);
}

}  // namespace

int main(int count, char** arguments) {
  const long most = count > 1 ? std::atol(arguments[1]) : 10;
  std::vector<beat_t> input;
  if (!read_beats("input.bin", std::size_t(tokens) * input_beats, input)) return 2;
  long compared = 0, mismatches = 0;
  for (const golden_run& run : runs) {
    std::vector<beat_t> weights, expected;
    if (!read_beats(run.output, std::size_t(tokens) * output_beats, expected) ||
        (run.beats && !read_beats(run.weights, run.beats, weights))) {
      return 2;
    }
    const int calls[] = {$calls};  // tokens of each call: nothing may be left over from the call before
    for (int call : calls) {
      std::vector<beat_t> output(std::size_t(tokens) * output_beats, beat_t(0));
      $name($arguments);
      for (int token = 0; token < call; ++token) {
        for (int row = 0; row < rows; ++row) {
          const unsigned wanted = row_of(expected, token, row), found = row_of(output, token, row);
          ++compared;
          if (wanted != found && mismatches++ < most) {
            std::printf("mismatch token=%d row=%d expected=%x found=%x format=%s", token, row, wanted, found,
                        run.format);
            if (row_bits >= 16) std::printf(" (%.9g, not %.9g)", value_of(wanted), value_of(found));
            std::printf("\n");
          }
        }
      }
    }
  }
  std::printf("compared %ld mismatches %ld\n", compared, mismatches);
  return mismatches != 0;
}
