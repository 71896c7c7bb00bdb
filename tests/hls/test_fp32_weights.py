"""Weights of FP32 beside FP16 inputs, as the exporter multiplies them: 2**32 by 2**16 codes are too many to compare.

So every code of each side meets a few of the other: the headers decode each side by itself, and round the product of
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
from tests.hls.pair_sweep import HERE, NATIVE, NATIVE_FLAGS, edge_codes

PROGRAM = """#include <cstdlib>
#include <cstring>
#include "pair_sweep.h"

// Standard input: activation codes and values, then weight codes; or two arguments, the first weight code and how many.
int main(int count, char** arguments) {
  unsigned long long sizes[2];
  if (!read_words(sizes, 2)) return 2;
  std::vector<double> activations(2 * sizes[0]);
  std::vector<unsigned> weights(sizes[1]);
  if (std::fread(activations.data(), 8, activations.size(), stdin) != activations.size()) return 2;
  if (std::fread(weights.data(), 4, weights.size(), stdin) != weights.size()) return 2;
  const bool listed = count == 1;
  const unsigned long long first = listed ? 0 : std::strtoull(arguments[1], nullptr, 10);
  const unsigned long long last = first + (listed ? weights.size() : std::strtoull(arguments[2], nullptr, 10));
  long compared = 0, wrong = 0;
  for (unsigned long long place = first; place < last; ++place) {
    const unsigned weight = listed ? weights[place] : unsigned(place);
    if ((weight >> 23 & 255) == 255) continue;  // infinities and NaNs
    float value;
    std::memcpy(&value, &weight, 4);
    for (std::size_t i = 0; i < activations.size(); i += 2) {
      const double exact = double(value) * activations[i + 1];  // of 24 and 11 bits
      const float wanted = static_cast<float>(exact > FLT_MAX ? FLT_MAX : exact < -FLT_MAX ? -FLT_MAX : exact);
      ++compared;
      if (!(product<TYPE>(weight, unsigned(activations[i])) == wanted) && wrong++ == 0) {
        std::fprintf(stderr, "first wrong: weight 0x%08x, input 0x%04x\\n", weight, unsigned(activations[i]));
      }
    }
  }
  std::printf("%ld %ld\\n", compared, wrong);
  return 0;
}
"""
PARTS = 16


@pytest.fixture(scope="module")
def program(needs_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("fp32") / "program"
    source = path.with_suffix(".cpp")
    source.write_text(PROGRAM.replace("TYPE", arithmetic_of(Pair(FP32, FP16, 1, 1)).type))
    compile_program([source], path, flags=NATIVE_FLAGS, includes=(NATIVE, HERE, INCLUDE))
    return path


def finite(fmt: np.dtype, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes that are numbers, and their values, float64."""
    values = codes.view(fmt)
    numbers = np.isfinite(values)
    return codes[numbers], values[numbers].astype(np.float64)


def inputs() -> tuple[np.ndarray, np.ndarray]:
    return finite(np.dtype(np.float16), np.arange(1 << 16, dtype=np.uint16))


def edge_weights(drawn: int) -> np.ndarray:
    """Powers of two, zeros, the largest, their neighbours; and drawn codes of all exponents."""
    near = np.arange(-2, 3)
    powers = np.concatenate([np.arange(255) << 23, 1 << np.arange(23), [255 << 23]])
    codes = np.unique(np.clip(powers[:, None] + near, 0, None))
    more = np.random.default_rng(5).integers(0, 1 << 32, drawn)
    return finite(np.dtype(np.float32), np.concatenate([codes, codes + (1 << 31), more]).astype(np.uint32))[0]


def compare(program: Path, codes: np.ndarray, values: np.ndarray, weights: np.ndarray, *range_: int) -> int:
    """How many products were compared; none may be wrong."""
    table = np.column_stack([codes, values]).astype("<f8").tobytes()
    sent = np.array([len(codes), len(weights)], "<u8").tobytes() + table + weights.astype("<u4").tobytes()
    command = [str(program), *(str(number) for number in range_)]
    done = subprocess.run(command, input=sent, capture_output=True, check=True)
    compared, wrong = (int(word) for word in done.stdout.split())
    assert wrong == 0, done.stderr.decode()
    return compared


def test_edges_of_both_sides(program: Path) -> None:
    codes, values = inputs()
    edges = np.isin(codes, edge_codes(codes, values))
    weights = edge_weights(500)
    assert 1 in weights and 0x7F7FFFFF in weights and 0x80800000 in weights and 0x7F800000 not in weights
    assert compare(program, codes[edges], values[edges], weights) == len(weights) * edges.sum() > 5e5


@pytest.mark.slow
def test_every_input_beside_edges_and_drawn_weights(program: Path) -> None:
    codes, values = inputs()
    weights = edge_weights(4096)
    assert len(codes) == 2 * 31 * 1024 and compare(program, codes, values, weights) == len(weights) * len(codes)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_weight_beside_one(program: Path, part: int) -> None:
    """A product with 1 is the weight itself: every code of FP32 decodes and rounds to its value."""
    size = (1 << 32) // PARTS
    one = np.array([0x3C00], np.uint16)
    compared = compare(program, one, one.view(np.float16).astype(np.float64), np.array([]), part * size, size)
    assert compared == size - (1 << 23) * ((part + 1) * 2 % PARTS == 0)  # the top exponent ends each half
