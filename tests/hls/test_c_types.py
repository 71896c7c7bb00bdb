"""C++ types of formats: units and widths by hand, stored values compiled and decoded on every code."""

import subprocess
from fractions import Fraction

import numpy as np
import pytest

from datatypes.catalog import (
    BF16,
    E4M3,
    E5M2,
    E8M0,
    FORMATS,
    FP4,
    FP16,
    FP32,
    INTS,
    INTS_SYMMETRIC,
    MINIFLOATS,
    MX_INT8,
    OLIVE4_INT,
    POT4,
    TERNARY,
    UE4M3,
    UINTS,
)
from datatypes.format import LearnedFormat
from hls.ap_types import compile_program
from hls.c_types import largest_integer, number_type, sum_bits, unit_exponent, value_type

INT8 = INTS[8]
LEARNED = LearnedFormat("learned3", 3, "a table of this test")


@pytest.mark.parametrize(
    ("fmt", "unit", "largest"),
    [
        (INTS[4], 0, 8),  # -8
        (INTS_SYMMETRIC[4], 0, 7),  # -8 is never stored
        (UINTS[4], 0, 15),
        (FP4, -1, 12),  # 0.5 to 6
        (E4M3, -9, 448 << 9),  # OFP8: smallest subnormal 2**-9, largest 448
        (E5M2, -16, 57344 << 16),  # OFP8: 2**-16 and 57344
        (MX_INT8, -6, 127),  # OCP MX 1.0, section 5.3.4
        (FP16, -24, 65504 << 24),  # IEEE 754 binary16
        (POT4, 0, 64),
        (OLIVE4_INT, 0, 96),  # abfloat (2 + 1) << (3 + 2)
    ],
)
def test_units_and_largest_integers(fmt, unit, largest):
    assert (unit_exponent(fmt), largest_integer(fmt)) == (unit, largest)


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS.values() if fmt.bits <= 8], ids=lambda fmt: fmt.name)
def test_every_value_is_a_whole_number_of_units(fmt):
    values = fmt.levels if fmt.dim > 1 else fmt.code_values[np.isfinite(fmt.code_values)]
    unit = Fraction(2) ** unit_exponent(fmt)
    wholes = [Fraction(float(value)) / unit for value in values]
    assert all(whole.denominator == 1 for whole in wholes)
    assert any(whole.numerator % 2 for whole in wholes)  # no larger unit would do


@pytest.mark.parametrize(
    ("weight", "activation", "group", "bits"),
    [
        (INTS[8], INTS[8], 1, 16),  # 2**14, positive
        (INTS_SYMMETRIC[8], INTS_SYMMETRIC[8], 1, 15),  # 127 * 127 = 16129 < 2**14
        (INTS[2], UINTS[8], 3, 12),  # 3 * 2 * 255 = 1530 < 2**11
        (FP4, FP4, 32, 14),  # 32 * 12 * 12 = 4608 < 2**13
    ],
)
def test_sums_are_as_wide_as_the_largest_one_needs(weight, activation, group, bits):
    assert sum_bits(weight, activation, group) == bits


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (FP32, "fp32_value"),
        (BF16, "bf16_value"),
        (UINTS[8], "integer_value<8, false>"),
        (INTS[4], "integer_value<4, true>"),
        (MX_INT8, "integer_value<8, true, -6>"),
        (E8M0, "exponent_value<8, 127>"),
        (UE4M3, "minifloat_value<4, 3, 7, false, 8>"),
        (E5M2, "minifloat_value<5, 2, 15, true, 8>"),
        (TERNARY, "table_value<2, 0, 0, 1, 0, -1>"),
    ],
)
def test_types_of_stored_values(fmt, text):
    assert value_type(fmt) == f"codesign::{text}"


def test_what_no_header_holds_is_one_sentence():
    with pytest.raises(NotImplementedError, match="no header decodes values stored as olive4_int"):
        value_type(OLIVE4_INT)
    with pytest.raises(NotImplementedError, match="no header reads codes of e8m0 as numbers"):
        number_type(E8M0)
    with pytest.raises(
        NotImplementedError, match="exact sums of 65536 products of learned3 and e7m0 take .* bits, more than"
    ):
        sum_bits(LEARNED, MINIFLOATS["e7m0"], 1 << 16)
    with pytest.raises(ValueError, match="group of a sum must be at least 1, not 0"):
        sum_bits(INTS[4], INT8, 0)


@pytest.mark.slow
def test_stored_values_decode_as_their_formats_on_every_code(needs_compiler, tmp_path):
    chosen = [fmt for fmt in FORMATS.values() if fmt.bits <= 16 and fmt.dim == 1]
    calls = "".join(f"  run<{value_type(fmt)}>();\n" for fmt in chosen)
    source = tmp_path / "values.cpp"
    source.write_text(
        '#include <cstdio>\n#include "codesign/fields.h"\ntemplate <class V> void run() {\n'
        "  for (int code = 0; code < 1 << V::bits; ++code) {\n"
        "    const float value = V::decode(code);\n    std::fwrite(&value, 4, 1, stdout);\n  }\n}\n"
        f"int main() {{\n{calls}}}\n"
    )
    compile_program([source], tmp_path / "values", flags=("-O0",))
    found, place = (
        np.frombuffer(subprocess.run([tmp_path / "values"], capture_output=True, check=True).stdout, "<f4"),
        0,
    )
    for fmt in chosen:
        got, place = found[place : place + (1 << fmt.bits)], place + (1 << fmt.bits)
        wanted = fmt.code_values.astype(np.float32)
        usable = np.isfinite(wanted) & ~np.isin(np.arange(len(wanted)), list(fmt.unused_codes))
        assert np.array_equal(got[usable], wanted[usable]), fmt.name
    assert place == found.size
