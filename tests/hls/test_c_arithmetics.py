"""C++ arithmetics of pairs of formats, compiled and compared with the formats' own values."""

import subprocess

import numpy as np
import pytest

from datatypes.catalog import (
    BITMOD_FP3,
    BITMOD_FP4,
    E2M3,
    E4M3,
    FLINT4,
    FORMATS,
    FP4,
    FP16,
    FP32,
    INTS,
    MX_INT8,
    NF4,
    OLIVE4_FLINT,
    OLIVE4_INT,
    POT4,
    UINTS,
)
from datatypes.format import CodebookFormat, FloatFormat, IntFormat, LearnedFormat, VectorFormat
from datatypes.outlier_victim import OutlierVictimFormat
from hls.ap_types import compile_program
from hls.bitmod_arithmetic import bitmod_of, bitmod_register
from hls.c_arithmetics import Pair, arithmetic_of, mapped, pair_ports
from hls.c_types import is_float_input
from hls.layer_options import IntMapping
from hwmodel.unit_cost_design import Arithmetic

INT8 = INTS[8]
SMALL = [
    fmt for fmt in FORMATS.values() if fmt.bits <= 8 and fmt.dim == 1 and not fmt.name.startswith(("e8m0", "ue4m3"))
]
LEARNED = LearnedFormat("learned3", 3, "a table of this test")
VECTOR = VectorFormat("pairs2", 2, "of this test", dimension=2, points=((0, 1), (0.5, -2), (-3, 0.25), (1, 1)))


def test_what_no_header_multiplies_is_one_sentence():
    with pytest.raises(NotImplementedError, match="serial arithmetics take integers on both sides, not nf4 and int8"):
        arithmetic_of(Pair(NF4, INT8, 4, 8), Arithmetic.BOTH_SERIAL)
    with pytest.raises(NotImplementedError, match="no header computes layers as bitmod"):
        arithmetic_of(Pair(INTS[4], INT8, 4, 8), Arithmetic.BITMOD)


def test_pairs_are_checked():
    with pytest.raises(ValueError, match="lanes and group of an arithmetic must be at least 1, not 0 and 8"):
        Pair(INTS[4], INT8, 0, 8)
    with pytest.raises(ValueError, match="lanes for olive4_int must be whole codes of 2, not 3"):
        Pair(OLIVE4_INT, INT8, 3, 8)


def test_bitmod_takes_its_formats_and_says_what_else():
    # sign and I3 I2 I1 I0 F0 of +5, -5, +8, -8: 01010, 101010, 10000, 110000; 4 bits; floating
    specials = 0b001010 | 0b101010 << 6 | 0b010000 << 12 | 0b110000 << 18
    assert bitmod_register(BITMOD_FP4) == specials | 3 << 24 | 1 << 27
    assert bitmod_register((FP4,)) == 3 << 24 | 1 << 27
    assert bitmod_register((INTS[8],)) == 7 << 24
    for formats in ((E2M3,), (UINTS[4],), (NF4,), (OLIVE4_INT,), (MX_INT8,), (*BITMOD_FP4, FP4), (BITMOD_FP3[0], FP4)):
        with pytest.raises(NotImplementedError, match="BitMoD's PE takes its own formats"):
            bitmod_register(formats)
    with pytest.raises(ValueError, match="lanes of BitMoD's PE must be a multiple of 4, not 6"):
        bitmod_of(BITMOD_FP4, FP16, scale=FP16, lanes=6, group=8)
    with pytest.raises(NotImplementedError, match="takes activations of FP16 or INT8, not int4"):
        bitmod_of(BITMOD_FP4, INTS[4], scale=FP16, lanes=4, group=8)
    with pytest.raises(NotImplementedError, match="takes scales of integers, FP16 or powers of two, not fp32"):
        bitmod_of(BITMOD_FP4, FP16, scale=FP32, lanes=4, group=8)


def test_two_products_share_a_dsp_where_they_fit():
    narrow = arithmetic_of(Pair(INTS[4], INT8, 4, 8))
    assert mapped(narrow, IntMapping.DSP_PAIR).type == f"{narrow.type[:-1]}, codesign::int_mapping::dsp_pair>"
    assert mapped(narrow, IntMapping.AUTO) is narrow
    with pytest.raises(
        NotImplementedError, match="two products of 8 x 8 bits must fit the 27 x 18 .* take 26 x 26: use"
    ):
        mapped(arithmetic_of(Pair(INTS[8], INT8, 4, 8)), IntMapping.DSP_PAIR)
    with pytest.raises(NotImplementedError, match=r"mapping must be auto for products that are not of plain integers"):
        mapped(arithmetic_of(Pair(NF4, INT8, 4, 8)), IntMapping.LUT)


def test_pairs_of_codes_of_up_to_nine_bits_that_fit_a_dsp48e2_fit_a_dsp48e1():
    for weight in range(1, 10):
        for activation in range(1, 10):
            for unsigned in (False, True):
                wide, narrow = pair_ports(weight, activation, unsigned=unsigned)
                assert narrow > 18 or wide <= 25  # AMD UG479: 25 x 18


# --- compiled --------------------------------------------------------------------------------------------------------

PROGRAM = """
#include <cstdio>
#include <type_traits>
#include <vector>
#include "codesign/bitmod_array.h"
#include "codesign/codebook.h"
#include "codesign/serial.h"
#include "codesign/shift_mac.h"

template <class A, class = void> struct registers { struct type {}; };
template <class A> struct registers<A, std::void_t<typename A::registers_t>> { using type = typename A::registers_t; };
template <class A, class = void> constexpr bool loads = false;
template <class A> constexpr bool loads<A, std::void_t<typename A::registers_t>> = true;
template <class A, class = void> constexpr int elements = 1;
template <class A> constexpr int elements<A, std::void_t<decltype(A::weight_elements)>> = A::weight_elements;
template <class A, class = void> constexpr int partners = 1;
template <class A> constexpr int partners<A, std::void_t<decltype(A::activation_elements)>> = A::activation_elements;
using codes = std::vector<unsigned>;

// The same weight code in all lanes; the activations that meet its first code are equal, the others zero.
template <class A> void run(int weights, const codes& activations, const codes& loaded) {
  typename registers<A>::type state;
  if constexpr (loads<A>) for (unsigned i = 0; i < loaded.size(); ++i) A::write(state, i, loaded[i]);
  for (int weight = 0; weight < weights; ++weight) {
    for (unsigned activation : activations) {
      ap_uint<A::weight_bits> w[A::lanes / elements<A>];
      ap_uint<A::activation_bits> a[A::lanes / partners<A>];
      for (auto& code : w) code = weight;
      for (unsigned i = 0; i < sizeof a / sizeof a[0]; ++i) a[i] = int(i) < elements<A> ? activation : 0;
      typename A::sum_t sum;
      A::clear(sum);
      float value;
      if constexpr (loads<A>) { A::accumulate(sum, w, a, 0, state); value = A::value(sum, state); }
      else { A::accumulate(sum, w, a, 0); value = A::value(sum); }
      std::fwrite(&value, 4, 1, stdout);
    }
  }
}
"""


def activation_codes(fmt):
    """Codes that are sent: all finite ones of a byte, 64 of FP16 (zero, subnormals, one, the largest, random ones)."""
    if fmt.bits <= 8:
        finite = np.ones(256, bool)[: 1 << fmt.bits] if fmt.dim > 1 else np.isfinite(fmt.code_values)
        return [code for code in np.flatnonzero(finite).tolist() if code not in fmt.unused_codes]
    rng = np.random.default_rng(3)
    chosen = [0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x8001, 0xFBFF, *rng.integers(0, 0x7C00, 56)]
    return [int(code) for code in chosen]


def weight_codes(fmt):
    return [code for code in range(1 << fmt.bits) if code not in fmt.unused_codes]


def elements_of(fmt, codes, table):
    """Values of codes, float64 ``[codes, dim]``."""
    if isinstance(fmt, LearnedFormat):
        return table.astype(np.float64).reshape(-1, fmt.dim)[codes]
    if isinstance(fmt, OutlierVictimFormat):
        return fmt.pair_table.astype(np.float64)[codes]
    if isinstance(fmt, VectorFormat):
        return fmt.point_table[codes]
    return fmt.code_values[codes][:, None]


def expected(weight, activation, codes, table):
    """float32 ``[weights, activations]``: one product, exact, then one rounding; of pairs both products."""
    w = elements_of(weight, weight_codes(weight), table)
    a = elements_of(activation, codes, table)
    if activation.dim == 1:
        a = np.repeat(a, w.shape[1], axis=1)
    assert w.shape[1] == a.shape[1]
    return (w[:, None] * a[None]).sum(2).astype(np.float32)  # exact in float64: 24 bits times 11, and two of them


def compare(tmp_path, cases):
    """Compile the arithmetics of ``(weight, activation, arithmetic)`` and compare every pair of codes."""
    rng = np.random.default_rng(5)
    table = rng.standard_normal(8).astype(np.float16)
    calls = ""
    for weight, activation, arithmetic in cases:
        made = arithmetic_of(Pair(weight, activation, 2, 2), arithmetic)
        words = table.view(np.uint16).tolist() if isinstance(weight, LearnedFormat) else []
        lists = [", ".join(str(code) for code in codes) for codes in (activation_codes(activation), words)]
        calls += f"  run<{made.type}>({1 << weight.bits}, {{{lists[0]}}}, {{{lists[1]}}});\n"
    source = tmp_path / "pairs.cpp"
    source.write_text(f"{PROGRAM}int main() {{\n{calls}}}\n")
    compile_program([source], tmp_path / "pairs", flags=("-O0",))
    done = subprocess.run([tmp_path / "pairs"], capture_output=True, check=True).stdout
    found, place = np.frombuffer(done, np.float32), 0
    compared = 0
    for weight, activation, _ in cases:
        codes = activation_codes(activation)
        block = found[place : place + (len(codes) << weight.bits)].reshape(-1, len(codes))
        place += block.size
        wanted = expected(weight, activation, codes, table)
        got = block[weight_codes(weight)]
        usable = np.isfinite(wanted)  # not the codes of NaN and infinity, which are never stored
        assert np.array_equal(got[usable], wanted[usable]), (weight.name, activation.name)
        compared += int(usable.sum())
    assert place == found.size
    return compared


QUICK = [
    (INTS[4], INT8, Arithmetic.PARALLEL),
    (UINTS[4], UINTS[4], Arithmetic.PARALLEL),
    (E2M3, INTS[6], Arithmetic.PARALLEL),
    (FP4, FP4, Arithmetic.BLOCK),
    (E4M3, FP16, Arithmetic.PARALLEL),
    (NF4, INTS[4], Arithmetic.PARALLEL),
    (NF4, FP16, Arithmetic.PARALLEL),
    (FLINT4, POT4, Arithmetic.PARALLEL),
    (OLIVE4_INT, INTS[4], Arithmetic.PARALLEL),
    (OLIVE4_FLINT, OLIVE4_FLINT, Arithmetic.PARALLEL),
    (LEARNED, INTS[4], Arithmetic.PARALLEL),
    (VECTOR, FP16, Arithmetic.PARALLEL),
    (INTS[3], INTS[4], Arithmetic.WEIGHT_SERIAL),
    (INTS[4], INTS[3], Arithmetic.ACTIVATION_SERIAL),
    (UINTS[3], UINTS[4], Arithmetic.ACTIVATION_SERIAL),
    (INTS[3], UINTS[4], Arithmetic.BOTH_SERIAL),
    (INTS[4], INTS[4], Arithmetic.TERM_SERIAL),
]


def test_every_kind_of_arithmetic_equals_the_values_of_its_formats(needs_compiler, tmp_path):
    assert compare(tmp_path, QUICK) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("activation", [INT8, E4M3, FP16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("kind", [IntFormat, FloatFormat, CodebookFormat])
def test_every_format_of_the_catalogue_on_every_code(needs_compiler, tmp_path, kind, activation):
    chosen = [fmt for fmt in SMALL if isinstance(fmt, kind)]
    if not is_float_input(activation):  # values of e7m0 reach over 127 binary places: no exact sum within 128 bits
        wide = [fmt for fmt in chosen if fmt.name.startswith("e7m0")]
        chosen = [fmt for fmt in chosen if fmt not in wide]
        for fmt in wide:
            with pytest.raises(
                NotImplementedError, match=f"exact sums of 2 products of {fmt.name} .* more than the 128"
            ):
                arithmetic_of(Pair(fmt, activation, 2, 2))
    for first in range(0, len(chosen), 24):  # more in one program need more memory
        cases = [(fmt, activation, Arithmetic.PARALLEL) for fmt in chosen[first : first + 24]]
        assert compare(tmp_path, cases)
