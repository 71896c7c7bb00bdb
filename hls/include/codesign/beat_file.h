// Files of 64-byte beats, for testbenches: what a host would put into memory. Not for synthesis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "codesign/types.h"

namespace codesign {

// Reads a file of exactly `count` beats, byte 0 lowest; says on stderr what is wrong with it and returns false.
inline bool read_beats(const char* name, std::size_t count, std::vector<ap_uint<512>>& beats) {
  std::FILE* file = std::fopen(name, "rb");
  if (file == nullptr) {
    std::fprintf(stderr, "%s must be in the folder that the testbench runs in\n", name);
    return false;
  }
  beats.resize(count);
  bool whole = true;
  for (ap_uint<512>& beat : beats) {
    unsigned char bytes[64];
    whole = whole && std::fread(bytes, 1, sizeof bytes, file) == sizeof bytes;
    for (int word = 0; word < 8 && whole; ++word) {
      std::uint64_t value = 0;
      for (int byte = 7; byte >= 0; --byte) value = value << 8 | bytes[8 * word + byte];
      put_lane<64>(beat, word, value);
    }
  }
  whole = whole && std::fgetc(file) == EOF;
  std::fclose(file);
  if (!whole) std::fprintf(stderr, "%s must hold %zu beats of 64 bytes\n", name, count);
  return whole;
}

}  // namespace codesign
