"""Digits add up to their value, are as few as can be where that is claimed, and have the published densities."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from datatypes.catalog import (
    BITMOD_FP3,
    BITMOD_FP4,
    E4M3,
    E5M2,
    FORMATS,
    FP4,
    INTS,
    MX_INT8,
    NF4,
    OLIVE4_INT,
    UINTS,
)
from datatypes.format import LearnedFormat
from datatypes.recoding import (
    Recoding,
    booth_digits,
    fixed_point,
    naf_digits,
    plane_masks,
    term_count,
    twos_complement_bits,
)

BYTES = range(-128, 128)


@pytest.mark.parametrize("count", range(1, 6))
def test_booth_digits_add_up(count: int) -> None:
    half = 1 << (2 * count - 1)
    for value in range(-half, half):
        digits = booth_digits(value, count)
        assert len(digits) == count and all(-2 <= digit <= 2 for digit in digits)
        assert sum(digit * 4**i for i, digit in enumerate(digits)) == value


@pytest.mark.parametrize(
    ("triplet", "digit"),
    # Booth's table as the BitMoD paper gives it (HPCA 2025, section IV-A): bits 2i+1, 2i, 2i-1
    [("000", 0), ("001", 1), ("010", 1), ("011", 2), ("100", -2), ("101", -1), ("110", -1), ("111", 0)],
)
def test_booth_triplets(triplet: str, digit: int) -> None:
    value = int(triplet + "0", 2)  # digit 1 sees the triplet
    value -= 16 * (value >> 3)
    assert booth_digits(value, 2)[1] == digit


def test_booth_value_too_wide() -> None:
    with pytest.raises(ValueError, match="value must fit 4 bits of two's complement, not 8"):
        booth_digits(8, 2)


def fewest_terms(limit: int) -> dict[int, int]:
    """Fewest powers of two, added or subtracted, that make each number: breadth first, without any recoding."""
    powers = [1 << i for i in range(limit.bit_length() + 2)]
    found, frontier = {0: 0}, {0}
    while frontier:
        frontier = {n + s * p for n in frontier for p in powers for s in (1, -1) if abs(n + s * p) <= 4 * limit}
        frontier -= set(found)
        found |= dict.fromkeys(frontier, max(found.values()) + 1)
    return found


def test_naf_is_non_adjacent_and_shortest() -> None:
    shortest = fewest_terms(128)
    for value in BYTES:
        digits = naf_digits(value)
        assert sum(digit << i for i, digit in enumerate(digits)) == value
        assert all(a * b == 0 for a, b in itertools.pairwise(digits))
        assert sum(digit != 0 for digit in digits) == shortest[value]


@pytest.mark.parametrize("bits", range(1, 13))
def test_mean_naf_weight(bits: int) -> None:
    mean = Fraction(sum(term_count(v, bits + 1, Recoding.NAF) for v in range(1 << bits)), 1 << bits)
    # n/3 + 4/9 + O(2**-n): Arno and Wheeler, Signed digit representations of minimal Hamming weight, IEEE ToC 1993
    assert abs(mean - Fraction(bits, 3) - Fraction(4, 9)) < Fraction(1, 1 << bits)


@pytest.mark.parametrize("bits", range(2, 13))
def test_mean_booth_digits(bits: int) -> None:
    values = range(-(1 << (bits - 1)), 1 << (bits - 1))
    mean = Fraction(sum(term_count(v, bits, Recoding.BOOTH) for v in values), 1 << bits)
    # a triplet of free bits is 000 or 111 a quarter of the time; an odd width repeats the sign in its top triplet,
    # which is then 000 or 111 half of the time
    assert mean == Fraction(3, 4) * (bits // 2) + Fraction(bits % 2, 2)


def test_terms_by_hand() -> None:
    # 7 = 0111, 8 - 1; -8 = 1000; 5 = 0101; -5 = 1011 = -8 + 3 = -4 - 1
    counts = {v: tuple(term_count(v, 4, recoding) for recoding in Recoding) for v in (7, -8, 5, -5, 0)}
    assert counts == {7: (3, 3, 2, 2), -8: (1, 1, 1, 1), 5: (2, 2, 2, 2), -5: (3, 2, 2, 2), 0: (0, 0, 0, 0)}


def counted_formats() -> list[str]:
    names = []
    for name, fmt in FORMATS.items():
        try:
            fixed_point(fmt)
        except NotImplementedError:
            continue
        names.append(name)
    return names


@pytest.mark.parametrize("name", counted_formats())
def test_fixed_point_of_every_code(name: str) -> None:
    fmt = FORMATS[name]
    point = fixed_point(fmt)
    finite = np.isfinite(fmt.code_values)
    values = np.array(point.integers, dtype=np.float64) * 2.0**point.unit_exponent
    assert np.array_equal(values[finite], fmt.code_values[finite] + 0.0)
    assert max(map(twos_complement_bits, point.integers)) == point.planes
    assert any(value % 2 for value in point.integers)  # no coarser unit would do


def test_widths() -> None:
    assert [fixed_point(INTS[b]).planes for b in range(2, 9)] == list(range(2, 9))
    assert fixed_point(UINTS[4]).planes == 5
    assert fixed_point(MX_INT8).unit_exponent == -6  # OCP MX 1.0, section 5.3.4: a unit is 1/64
    assert fixed_point(FP4).planes == 5  # +-6 in halves: +-12
    assert max(fixed_point(fmt).planes for fmt in BITMOD_FP4) == 6  # 8 in halves is 16
    assert fixed_point(E4M3).planes == 19  # 448 = 7 * 2**6 over 2**-9: below 2**18
    assert {"bitmod_fp3_p6", "e2m1", "int8", "e4m3_fn"} <= set(counted_formats())


def test_bitmod_magnitudes_have_two_terms() -> None:
    # HPCA 2025, section IV-A: every magnitude has at most two one bits
    for fmt in (*BITMOD_FP3, *BITMOD_FP4):
        assert max(term_count(v, 6, Recoding.SIGN_MAGNITUDE) for v in fixed_point(fmt).integers) == 2


def test_masks() -> None:
    point = fixed_point(INTS[4])
    assert plane_masks(point, 4, Recoding.TWOS_COMPLEMENT).tolist() == list(range(16))
    assert plane_masks(point, 4, Recoding.SIGN_MAGNITUDE).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="recoding must be one with bits, not <Recoding.NAF"):
        plane_masks(point, 4, Recoding.NAF)


@pytest.mark.parametrize(
    ("fmt", "reason"),
    [
        (E5M2, "fixed-point values of up to 24 bits, and e5m2_ieee needs 33"),
        (NF4, "and nf4 needs"),
        (OLIVE4_INT, "one value for each code, which olive4_int is not"),
        (LearnedFormat("learned", 4, "here"), "one value for each code, which learned is not"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_formats_without_fixed_point(fmt: object, reason: str) -> None:
    with pytest.raises(NotImplementedError, match=reason):
        fixed_point(fmt)  # type: ignore[arg-type]
