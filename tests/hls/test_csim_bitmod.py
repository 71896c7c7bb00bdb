"""C++ BitMoD: its PEs equal their RTL twins' references; its array equals ``hwmodel.pe_functional``, values and cycles.

Every array is run with every format that the encoders take, chosen by the format register at run time: FP3 and FP4
plain and with all special values, integers of 2 to 8 bits.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from datatypes.catalog import BF16, BITMOD_FP3, BITMOD_FP4, E8M0, FP3, FP4, FP16, FP32, INTS, UINT8
from datatypes.format import Format
from hls import rtl_constructors as make
from hls.ap_types import WARNINGS, compile_program
from hls.pe_program import Unit
from hls.rtl_designs import designs
from hls.rtl_simulation import lanes_of
from hls.rtl_vectors import Vectors
from hwmodel.pe_functional import SerialResult, gemm, integer_gemm
from hwmodel.pe_functional_weight import SerialWeight

QUICK = (
    make.bitmod_part("bitmod_term_encoder"),
    make.bitmod_part("bitmod_dequantizer"),
    make.bitmod_part("bitmod_int_accumulator"),
    make.bitmod_part("bitmod_pe"),
)
WEIGHTS: dict[str, tuple[Format, ...]] = {
    **{f"int{bits}": (INTS[bits],) for bits in range(2, 9)},
    "fp3": (FP3,),
    "fp4": (FP4,),
    "bitmod_fp3": BITMOD_FP3,
    "bitmod_fp4": BITMOD_FP4,
}
SCALES = {
    UINT8: "codesign::bitmod_integer_scale<8>",
    FP16: "codesign::bitmod_float_scale<5, 10>",
    BF16: "codesign::bitmod_float_scale<8, 7>",
    FP32: "codesign::bitmod_float_scale<8, 23>",
    E8M0: "codesign::bitmod_exponent_scale<8, 127>",
}


# --- PEs -------------------------------------------------------------------------------------------------------------


def maximum_tree(lanes: int) -> tuple[Unit, Vectors]:
    """It is part of the group accumulator and in no sweep alone."""
    values = np.random.default_rng(43).integers(0, 64, (1, 512, lanes))
    unit = Unit("maximum_tree", f"codesign::maximum_tree<{lanes}, 6>", "codesign/bitmod.h", ("values",), ("maximum",))
    return unit, Vectors({"values": lanes_of(values, 6)}, {"maximum": values.max(axis=2)}, signed=False)


def quick(bench):
    """Units of the session's common program."""
    return [*bench.twins(QUICK), maximum_tree(5)]


def test_quick_twins_equal_the_functional_model(quick_check):
    assert quick_check(sys.modules[__name__]) > 16_000


@pytest.mark.slow
def test_every_twin_of_the_sweep_equals_the_functional_model(arithmetic_bench):
    work = [*arithmetic_bench.twins(designs("bitmod")), maximum_tree(1), maximum_tree(8)]
    assert arithmetic_bench.check(work) > 70_000


# --- array: data -----------------------------------------------------------------------------------------------------


def format_word(formats: tuple[Format, ...]) -> int:
    """The format register: special values in bits 23..0 (sign and I3..F0 each), code bits - 1, floating."""
    bits, floating = formats[0].bits, not formats[0].name.startswith("int")
    word = (bits - 1) << 24 | int(floating) << 27
    for i, fmt in enumerate(formats if floating else ()):
        special = float(fmt.code_values[1 << (bits - 1)])  # in place of -0; 0 where the format has none
        word |= (int(special < 0) << 5 | int(abs(special) * 2)) << (6 * i)
    return word


def some_codes(rng: np.random.Generator, bits: int, shape: tuple[int, int]) -> np.ndarray:
    """Every code as often as it fits, in random order."""
    count = shape[0] * shape[1]
    return rng.permutation(np.arange(count) % (1 << bits)).reshape(shape).astype(np.uint8)


def activations_of(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """FP16 activations, float16 ``[m, k]``."""
    if kind == "normal":
        return rng.normal(size=shape).astype(np.float16)
    if kind == "any bits":
        bits = rng.integers(0, 1 << 16, shape)
        return np.where((bits >> 10) & 31 == 31, bits & ~(1 << 14), bits).astype(np.uint16).view(np.float16)
    if kind == "subnormal":  # with a normal number of the lowest exponents here and there
        bits = rng.integers(0, 1 << 11, shape) | rng.integers(0, 2, shape) << 15
        return bits.astype(np.uint16).view(np.float16)
    if kind == "far apart":  # largest and smallest magnitudes side by side
        magnitudes = rng.choice(np.array([65504, 2.0**-24, 2.0**-14, 1, 0], np.float16), shape)
        return np.where(rng.random(shape) < 0.5, -magnitudes, magnitudes)
    if kind == "cancelling":  # sums that fall to nothing under a high accumulator
        x = (rng.normal(size=shape) * 2.0 ** rng.integers(-10, 11, shape)).astype(np.float16)
        x[:, 1::2] = -x[:, : shape[1] // 2 * 2 : 2]
        return x
    assert kind == "full"  # accumulators as full as they get
    return np.full(shape, 65504, np.float16)


KINDS = ("normal", "any bits", "subnormal", "far apart", "cancelling", "full")


def scales_of(rng: np.random.Generator, fmt: Format, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scales as ``SerialWeight`` takes them, and their bits."""
    if fmt is UINT8:
        codes = rng.integers(0, 256, shape).astype(np.uint8)
        return codes, codes
    if fmt is E8M0:
        codes = rng.integers(90, 150, shape).astype(np.uint8)  # far from float32's ends
        return codes, codes
    values = np.abs(rng.normal(size=shape) * 2.0 ** rng.integers(-16, 8, shape)).astype(np.float32)
    if fmt is FP16:
        return values.astype(np.float16), values.astype(np.float16).view(np.uint16)
    if fmt is BF16:
        bits = values.view(np.uint32) >> 16
        return (bits << 16).view(np.float32), bits
    values[0, 0] = 2.0**-120  # sums that may be subnormal
    return values, values.view(np.uint32)


@dataclass(frozen=True)
class Array:
    """One instance of the array."""

    k: int
    group: int
    scale: Format = UINT8
    lanes: int = 4
    integer: bool = False
    tokens: int = 2
    outputs: int = 4

    @property
    def cpp(self) -> str:
        shape = f"{self.tokens}, {self.outputs}, {self.k}, {self.group}, {self.lanes}"
        if self.integer:
            return f"codesign::bitmod_int_array<{self.scale.bits}, {shape}>"
        return f"codesign::bitmod_array<{SCALES[self.scale]}, {shape}>"

    @property
    def arithmetic(self) -> str:
        """The arithmetic that must give the same: two sets of lanes at a time."""
        lanes = f"{2 * self.lanes}"
        if self.integer:
            return f"codesign::bitmod_int_arithmetic<{lanes}, 28, {self.lanes}>"
        return f"codesign::bitmod_arithmetic<{SCALES[self.scale]}, {lanes}, {self.lanes}>"

    @property
    def groups(self) -> int:
        return -(-self.k // self.group)


@dataclass(frozen=True)
class Run:
    """What goes into an array once, and what must come out."""

    array: Array
    words: np.ndarray  # uint32
    expected: SerialResult
    halves: bool  # whether integer results count in halves


def runs_of(array: Array, formats: dict[str, tuple[Format, ...]], kinds: tuple[str, ...]) -> Iterator[Run]:
    """Every format with every kind of data."""
    rng = np.random.default_rng(47)
    for candidates in formats.values():
        for kind in kinds:
            codes = some_codes(rng, candidates[0].bits, (array.outputs, array.k))
            choice = rng.integers(0, len(candidates), (array.outputs, array.groups)).astype(np.uint8)
            scales, scale_bits = scales_of(rng, array.scale, choice.shape)
            weight = SerialWeight(candidates, codes, array.group, array.scale, scales, choice)
            shape = (array.tokens, array.k)
            if array.integer:
                x = np.full(shape, -128) if kind == "full" else rng.integers(-128, 128, shape)
                expected, bits = integer_gemm(x, weight), x & 255
            else:
                x = activations_of(rng, kind, shape)
                expected, bits = gemm(x, weight), x.view(np.uint16)
            parts = [np.array([format_word(candidates)]), codes, choice, scale_bits, bits]
            words = np.concatenate([part.ravel().astype(np.uint32) for part in parts])
            yield Run(array, words, expected, candidates[0].name[:3] != "int")


# --- array: program --------------------------------------------------------------------------------------------------

PROGRAM = r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "codesign/bitmod_array.h"

using namespace codesign;

static std::uint32_t read_word() {
  std::uint32_t word;
  if (std::fread(&word, sizeof word, 1, stdin) != 1) std::exit(3);
  return word;
}
template <class T>
void read_all(T* values, int count) {
  for (int i = 0; i < count; ++i) values[i] = read_word();
}
static void write_word(std::uint32_t word) { std::fwrite(&word, sizeof word, 1, stdout); }
static void write_result(float value) { write_word(bits_of_float(value).to_uint()); }
static void write_result(ap_int<64> value) {
  write_word(value.range(31, 0).to_uint());
  write_word(value.range(63, 32).to_uint());
}

// A group's value by the arithmetic of layer.h; without a scale it is as with the scale 1.
template <class A, class SCALE_BITS>
auto group_value(const typename A::sum_t& sum, SCALE_BITS scale, const bitmod_format& format) {
  if constexpr (A::activation_bits == 16) {
    using by_powers = bitmod_arithmetic<bitmod_exponent_scale<8, 127>>;
    if (A::value(sum, format) != by_powers::scaled(sum, 127, format)) std::exit(6);
    return A::scaled(sum, scale, format);
  } else {
    return ap_int<64>(sum * scale);
  }
}

template <class ARRAY, class ARITHMETIC, class SCALE_BITS, int TOKENS, int OUTPUTS, int K, int GROUP>
void run() {
  constexpr int groups = ARRAY::groups, bits = ARRAY::activation_bits, lanes = ARITHMETIC::lanes;
  static bitmod_format format;
  static ap_uint<8> weight[OUTPUTS][K];
  static ap_uint<2> selector[OUTPUTS][groups];
  static SCALE_BITS scale[OUTPUTS][groups];
  static ap_uint<bits> activation[TOKENS][K];
  ARITHMETIC::write(format, 0, read_word());
  read_all(&weight[0][0], OUTPUTS * K);
  read_all(&selector[0][0], OUTPUTS * groups);
  read_all(&scale[0][0], OUTPUTS * groups);
  read_all(&activation[0][0], TOKENS * K);
  typename ARRAY::result_t result[TOKENS][OUTPUTS];
  write_word(ARRAY::run(format, weight, selector, scale, activation, result));
  write_word(ARRAY::cycles(format.terms().to_int()));
  int clock = 0;  // of the arithmetic, for one output
  for (int group = 0; group < groups; ++group) {
    clock += ceil_div(ARRAY::columns(group), lanes) * ARITHMETIC::cycles(format);
  }
  write_word(clock);
  for (int token = 0; token < TOKENS; ++token) {
    for (int output = 0; output < OUTPUTS; ++output) {
      write_result(result[token][output]);
      typename ARRAY::result_t total = 0;
      for (int group = 0; group < groups; ++group) {
        typename ARITHMETIC::sum_t sum;
        ARITHMETIC::clear(sum);
        const int end = (group + 1) * GROUP < K ? (group + 1) * GROUP : K;
        for (int first = group * GROUP; first < end; first += lanes) {
          ap_uint<8> w[lanes];
          ap_uint<bits> a[lanes];
          for (int lane = 0; lane < lanes; ++lane) {
            const bool there = first + lane < end;
            w[lane] = there ? weight[output][first + lane] : ap_uint<8>(0);
            a[lane] = there ? activation[token][first + lane] : ap_uint<bits>(0);
          }
          ARITHMETIC::accumulate(sum, w, a, selector[output][group], format);
        }
        total = total + group_value<ARITHMETIC>(sum, scale[output][group], format);
      }
      write_result(total);
    }
  }
}

$asserts
int main() {
  const int runs = read_word();
  for (int i = 0; i < runs; ++i) {
    switch (read_word()) {
$cases
      default: std::exit(5);
    }
  }
}
"""


def stated_cycles(array: Array, formats: tuple[Format, ...]) -> int:
    """Cycles of one output in the functional model."""
    shape = (1, array.groups)
    one = np.ones(shape, np.uint8) if array.scale in (UINT8, E8M0) else np.ones(shape, np.float32)
    weight = SerialWeight(formats, np.zeros((1, array.k), np.uint8), array.group, array.scale, one)
    if array.integer:
        return integer_gemm(np.zeros((1, array.k), np.int64), weight).cycles
    return gemm(np.zeros((1, array.k), np.float16), weight).cycles


def program_text(arrays: list[Array]) -> str:
    """A program of all arrays; the compiler compares the cycles that they state with the functional model's."""
    asserts, cases = [], []
    for i, array in enumerate(arrays):
        asserts.append(f"using array_{i} = {array.cpp};")
        for terms, formats in ((2, BITMOD_FP4), (2, (INTS[4],)), (3, (INTS[6],)), (4, (INTS[8],))):
            if array.lanes == 4:
                asserts.append(f"static_assert(array_{i}::cycles({terms}) == {stated_cycles(array, formats)});")
        shape = f"{array.tokens}, {array.outputs}, {array.k}, {array.group}"
        cases.append(
            f"      case {i}: run<array_{i}, {array.arithmetic}, ap_uint<{array.scale.bits}>, {shape}>(); break;"
        )
    return PROGRAM.replace("$asserts", "\n".join(asserts)).replace("$cases", "\n".join(cases))


def check_arrays(runs: list[Run], folder) -> int:
    """Runs all, and counts the results that were compared (of the array, and of the arithmetic)."""
    arrays = list(dict.fromkeys(run.array for run in runs))
    source, program = folder / "arrays.cpp", folder / "arrays"
    source.write_text(program_text(arrays))
    compile_program([source], program, flags=("-Og", *WARNINGS))
    words = [np.array([len(runs)], np.uint32)]
    words += [np.concatenate([[np.uint32(arrays.index(run.array))], run.words]) for run in runs]
    done = subprocess.run(
        [str(program)], input=np.concatenate(words).astype("<u4").tobytes(), capture_output=True, check=True
    )
    out, compared = np.frombuffer(done.stdout, "<u4"), 0
    for run in runs:
        array, kind = run.array, np.dtype("<i8" if run.array.integer else "<f4")
        count = 2 * array.tokens * array.outputs
        size = 3 + count * kind.itemsize // 4
        head, results, out = out[:3], out[3:size].view(kind).reshape(array.tokens, array.outputs, 2), out[size:]
        assert head[:2].tolist() == [run.expected.cycles] * 2
        if (
            array.group % (2 * array.lanes) == 0 == array.k % array.group and array.group >= 64
        ):  # no set without columns,
            assert head[2] == run.expected.cycles  # and no waiting for the dequantizer
        integers = "<i8" if array.integer else "<i4"  # compared as bits: +0 is not -0
        values = np.stack([run.expected.values] * 2, axis=2)
        if array.integer and not run.halves:
            values[..., 1] *= 2  # the arithmetic counts in halves, whatever the format
        np.testing.assert_array_equal(results.view(integers), values.view(integers))
        compared += results.size
    assert len(out) == 0
    return compared


# --- array: tests ----------------------------------------------------------------------------------------------------


def test_arrays_equal_the_functional_model_in_values_and_cycles(arithmetic_bench, tmp_path):
    formats = {name: WEIGHTS[name] for name in ("bitmod_fp3", "bitmod_fp4", "int4", "int6", "int8")}
    runs = list(runs_of(Array(150, 64), formats, KINDS))
    runs += runs_of(Array(70, 32, integer=True), formats, ("normal", "full"))
    assert check_arrays(runs, tmp_path) == (5 * len(KINDS) + 5 * 2) * 2 * 2 * 4  # results of arrays and arithmetics


ARRAYS = (
    *(Array(20, 8, scale) for scale in (UINT8, FP16, BF16, FP32, E8M0)),  # groups that wait for the dequantizer
    *(Array(148, 64, scale) for scale in (UINT8, FP16)),
    Array(256, 128),
    Array(515, 515, FP16),  # one group to a row
    Array(7, 1, E8M0),
    Array(256, 128, integer=True),
    Array(20, 8, integer=True),
    Array(515, 515, integer=True),
)


@pytest.mark.slow
def test_arrays_of_many_shapes_and_scales_equal_the_functional_model(arithmetic_bench, tmp_path):
    runs = [run for array in ARRAYS for run in runs_of(array, WEIGHTS, KINDS)]
    assert check_arrays(runs, tmp_path) == len(ARRAYS) * len(WEIGHTS) * len(KINDS) * 16
