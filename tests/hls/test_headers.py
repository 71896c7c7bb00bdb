"""The C++ headers: each compiles alone without a warning; the word layout and the conversions equal Python's."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from datatypes.packing import pack
from hls.ap_types import INCLUDE, STANDARD, WARNINGS, ap_types_folder, compile_program, compiler

pytestmark = pytest.mark.usefixtures("needs_compiler")
HEADERS = sorted((INCLUDE / "codesign").glob("*.h"))
BITS = range(1, 9)
ROWS = 3

PROGRAM = r"""
#include <cstdio>
#include "codesign/words.h"
using namespace codesign;

static ap_uint<32> read_word() {
  unsigned char b[4];
  if (std::fread(b, 1, 4, stdin) != 4) std::exit(3);
  return b[0] | b[1] << 8 | b[2] << 16 | static_cast<unsigned>(b[3]) << 24;
}

template <int BITS>
void show_blocks(int blocks) {
  for (int i = 0; i < blocks; ++i) {
    ap_uint<32> words[BITS];
    for (int w = 0; w < BITS; ++w) words[w] = read_word();
    for (int j = 0; j < 32; ++j) std::printf("%d ", unpack_code<BITS>(words, j).to_int());
  }
  std::printf("\n");
}

template <int BITS>
void show_floats(int count) {
  for (int i = 0; i < count; ++i) {
    ap_int<BITS> value = 0;
    for (int w = 0; w < 4; ++w) {
      const ap_uint<32> word = read_word();
      for (int b = 0; b < 32; ++b) if (w * 32 + b < BITS) value[w * 32 + b] = word[b];
    }
    std::printf("%u ", bits_of_float(float_of<BITS>(value)).to_uint());
  }
  std::printf("\n");
}

int main(int, char** argv) {
  const int blocks = std::atoi(argv[1]);
  show_blocks<1>(blocks); show_blocks<2>(blocks); show_blocks<3>(blocks); show_blocks<4>(blocks);
  show_blocks<5>(blocks); show_blocks<6>(blocks); show_blocks<7>(blocks); show_blocks<8>(blocks);
  show_floats<40>(std::atoi(argv[2])); show_floats<64>(std::atoi(argv[3]));
  show_floats<77>(std::atoi(argv[4])); show_floats<128>(std::atoi(argv[5]));
  std::printf("%d %d %d\n", clog2(1), clog2(32), clog2(33));
}
"""
FLOAT_BITS = (40, 64, 77, 128)


def integers(bits: int) -> list[int]:
    """Integers whose float32 is at a border: ties, ties and a bit far below, carries into the next power, extremes."""
    rng = np.random.default_rng(bits)
    found = [0, 1, -1, (1 << (bits - 1)) - 1, -(1 << (bits - 1)), (1 << 24) + 1, (1 << 24) + 3, (1 << 25) - 1]
    for place in range(26, bits - 1, 5):
        for kept in (1 << 23, (1 << 23) + 1, (1 << 24) - 1):
            tie = (2 * kept + 1) << (place - 25)
            found += [tie, tie + 1, tie - 1, -tie]
    found += [
        int.from_bytes(rng.bytes(16), "little") >> (129 - bits + int(rng.integers(0, bits - 2))) for _ in range(40)
    ]
    assert all(-(1 << (bits - 1)) <= value < 1 << (bits - 1) for value in found)
    return found


def nearest_float(value: int) -> int:
    """Bits of the float32 nearest to an integer, ties to even, by integer arithmetic (IEEE 754-2019, section 4.3.1)."""
    magnitude, sign = abs(value), int(value < 0)
    if magnitude == 0:
        return 0
    drop = magnitude.bit_length() - 24
    if drop > 0:
        kept, rest = magnitude >> drop, magnitude & ((1 << drop) - 1)
        kept += int(2 * rest > 1 << drop or (2 * rest == 1 << drop and kept & 1))
    else:
        kept = magnitude << -drop
    return (sign << 31) | ((drop + 23 + 127 - 1 << 23) + kept)  # the hidden bit adds one to the exponent field


@pytest.fixture(scope="module")
def printed(needs_compiler, tmp_path_factory) -> tuple[dict[int, np.ndarray], list[list[int]]]:
    """Codes that were packed, by width, and the lines that the program prints."""
    folder = tmp_path_factory.mktemp("headers")
    source = folder / "headers.cpp"
    source.write_text(PROGRAM)
    compile_program([source], folder / "headers", flags=("-O0", *WARNINGS))
    rng = np.random.default_rng(0)
    codes = {bits: rng.integers(0, 1 << bits, (ROWS, 64)) for bits in BITS}
    stimulus = b"".join(pack(codes[bits], bits).astype("<u4").tobytes() for bits in BITS)
    values = {bits: integers(bits) for bits in FLOAT_BITS}
    stimulus += b"".join(v.to_bytes(16, "little", signed=True) for bits in FLOAT_BITS for v in values[bits])
    counts = [str(len(values[bits])) for bits in FLOAT_BITS]
    done = subprocess.run([folder / "headers", str(2 * ROWS), *counts], input=stimulus, capture_output=True, check=True)
    return codes, [[int(word) for word in line.split()] for line in done.stdout.decode().splitlines()]


@pytest.mark.parametrize("bits", BITS)
def test_codes_of_blocks_are_those_of_packing(printed, bits):
    codes, lines = printed
    assert lines[bits - 1] == codes[bits].reshape(-1).tolist()


@pytest.mark.parametrize("bits", FLOAT_BITS)
def test_integers_round_to_the_nearest_float(printed, bits):
    _, lines = printed
    assert lines[len(BITS) + FLOAT_BITS.index(bits)] == [nearest_float(value) for value in integers(bits)]


def test_clog2_is_that_of_systemverilog(printed):
    assert printed[1][-1] == [0, 5, 6]  # IEEE 1800-2017, section 20.8.1


def syntax(text: str, folder: Path) -> str:
    """What the compiler says about a program that only includes headers."""
    source = folder / "include.cpp"
    source.write_text(text)
    command = [compiler(), STANDARD, *WARNINGS, "-fsyntax-only", "-I", str(INCLUDE)]
    done = subprocess.run(
        [*command, "-isystem", str(ap_types_folder()), str(source)], capture_output=True, text=True, check=False
    )
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_a_header_compiles_alone(header, tmp_path):
    assert syntax(f"#include <codesign/{header.name}>\n", tmp_path) == ""


def test_all_headers_compile_together_twice(tmp_path):
    lines = [f"#include <codesign/{header.name}>\n" for header in HEADERS]
    assert syntax("".join(lines * 2), tmp_path) == ""


def test_numbers_of_python_agree_with_struct():
    """The reference of this file, on numbers that a C float holds or rounds by itself."""
    for value in (0, 1, -3, (1 << 24) + 1, (1 << 24) + 3, (1 << 62) - 1):
        assert nearest_float(value) == struct.unpack("<I", struct.pack("<f", value))[0]
