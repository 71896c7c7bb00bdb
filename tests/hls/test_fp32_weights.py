"""Weights of FP32, as the exporter multiplies them: 2**32 codes by those of 151 inputs are too many to compare.

So every code of a weight meets 1, which shows that it is decoded and rounded to its value, and every code of every
input meets the edges of FP32 and drawn codes, 8,192. The headers decode each side by itself, and round the product of
the two numbers once. Values are IEEE 754's, which the processor reads from the codes' bits. Integers are native
(``test_native_integers.py``). Needs ``ap_int.h`` (extra ``hls``) and g++.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from datatypes.catalog import FP16, FP32
from hls.ap_types import INCLUDE, compile_program
from hls.c_arithmetics import Pair, arithmetic_of
from tests.hls.pair_sweep import HERE, NATIVE, NATIVE_FLAGS, activations, codes_of, sweep

PROGRAM = """#include <cstdlib>
#include <cstring>
#include "pair_sweep.h"

// Weight codes from the first argument on, as many as the second says, by the FP16 input 1.
int main(int, char** arguments) {
  const unsigned long long first = std::strtoull(arguments[1], nullptr, 10);
  const unsigned long long last = first + std::strtoull(arguments[2], nullptr, 10);
  long compared = 0, wrong = 0;
  for (unsigned long long code = first; code < last; ++code) {
    const unsigned weight = unsigned(code);
    if ((weight >> 23 & 255) == 255) continue;  // infinities and NaNs
    float value;
    std::memcpy(&value, &weight, 4);
    ++compared;
    if (product<TYPE>(weight, 0x3C00) == value) continue;
    if (wrong++ == 0) std::fprintf(stderr, "first wrong: 0x%08x\\n", weight);
  }
  std::printf("%ld %ld\\n", compared, wrong);
  return 0;
}
"""
PARTS = 16


def test_the_codes_that_inputs_meet() -> None:
    codes = codes_of(FP32, as_activation=False, most=4096)
    # zero, smallest and largest subnormal, smallest normal, one and its neighbours, largest: IEEE 754, binary32
    edges = {0, 1, 0x7FFFFF, 0x800000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x7F7FFFFF}
    assert edges | {code | 1 << 31 for code in edges} <= set(codes[:, 0]) and len(codes) == 4096
    assert np.isfinite(codes).all() and codes[codes[:, 0] == 0xC0000000, 1] == -2.0
    assert codes[codes[:, 0] == 1, 1] == 2.0**-149


def test_edges_of_both_sides(needs_compiler: None, tmp_path: Path) -> None:
    (swept,) = sweep([(FP32, FP16)], tmp_path, most=0, native=True)
    expected = len(codes_of(FP32, as_activation=False, most=0)) * len(codes_of(FP16, as_activation=True, most=0))
    assert swept.wrong == 0, swept
    assert swept.compared == expected > 300_000


@pytest.mark.slow
@pytest.mark.parametrize("bits", sorted({fmt.bits for fmt in activations()}))
def test_every_input_beside_edges_and_drawn_weights(needs_compiler: None, tmp_path: Path, bits: int) -> None:
    pairs = [(FP32, fmt) for fmt in activations() if fmt.bits == bits]
    swept = list(sweep(pairs, tmp_path, flags=NATIVE_FLAGS, native=True))
    assert [one for one in swept if one.wrong] == [] and len(swept) == len(pairs)
    assert len(codes_of(FP32, as_activation=False)) == 8192
    print(f"{len(pairs)} pairs of formats, {sum(one.compared for one in swept)} pairs of codes")


@pytest.fixture(scope="module")
def program(needs_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("fp32") / "program"
    source = path.with_suffix(".cpp")
    source.write_text(PROGRAM.replace("TYPE", arithmetic_of(Pair(FP32, FP16, 1, 1)).type))
    compile_program([source], path, flags=NATIVE_FLAGS, includes=(NATIVE, HERE, INCLUDE))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_weight_beside_one(program: Path, part: int) -> None:
    size = (1 << 32) // PARTS
    done = subprocess.run([str(program), str(part * size), str(size)], capture_output=True, check=True)
    compared, wrong = (int(word) for word in done.stdout.split())
    assert wrong == 0, done.stderr.decode()
    assert compared == size - (1 << 23) * ((part + 1) * 2 % PARTS == 0)  # the top exponent ends each half
