"""Signed-digit forms of integers: what a bit-serial machine calls the terms of a weight.

Every form writes an integer as a sum of ``digit * 2**position``; a term is a digit that is not zero:

    two's complement   bits 0 and 1, the top one negative
    sign-magnitude     one sign for all bits of the magnitude
    Booth, radix 4     digits -2..2 at even positions, from overlapping triplets (MacSorley, Proc. IRE 1961)
    non-adjacent form  digits -1..1, no two neighbours both non-zero: the fewest terms (Reitwiesner, 1960)

Fixed-point values (minifloats, BitMoD's types, MXINT8) are integers in units of a power of two: ``fixed_point``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from datatypes.format import Format, LearnedFormat, VectorFormat

MAX_PLANES = 24  # widest fixed point that is counted: E4M3 needs 19 bits, INT16 16; E5M2 would need 33, NF4 29


class Recoding(Enum):
    """A form in which terms are counted."""

    TWOS_COMPLEMENT = "twos_complement"
    SIGN_MAGNITUDE = "sign_magnitude"
    BOOTH = "booth"
    NAF = "naf"


def twos_complement_bits(value: int) -> int:
    """Fewest bits that hold ``value`` in two's complement.

    >>> [twos_complement_bits(v) for v in (0, -1, 1, 7, -8, 8)]
    [1, 1, 2, 4, 4, 5]
    """
    return (value if value >= 0 else ~value).bit_length() + 1


def booth_digits(value: int, count: int) -> tuple[int, ...]:
    """Radix-4 Booth digits of ``value``, the lowest first: ``value = sum(d * 4**i)``.

    Args:
        value: fits ``2 * count`` bits of two's complement.
        count: number of digits.

    Raises:
        ValueError: it does not fit.

    >>> booth_digits(7, 2), booth_digits(-128, 4)
    ((-1, 2), (0, 0, 0, -2))
    """
    if twos_complement_bits(value) > 2 * count:
        raise ValueError(f"value must fit {2 * count} bits of two's complement, not {value!r}")
    padded = (value & ((1 << (2 * count)) - 1)) << 1  # a zero to the right of the lowest bit
    digits = []
    for i in range(count):
        high, middle, low = (padded >> (2 * i + 2)) & 1, (padded >> (2 * i + 1)) & 1, (padded >> (2 * i)) & 1
        digits.append(middle + low - 2 * high)
    return tuple(digits)


def naf_digits(value: int) -> tuple[int, ...]:
    """Non-adjacent form of ``value``, the lowest digit first.

    >>> naf_digits(7), naf_digits(-3), naf_digits(0)
    ((-1, 0, 0, 1), (1, 0, -1), ())
    """
    digits = []
    while value:
        digit = 2 - value % 4 if value % 2 else 0
        digits.append(digit)
        value = (value - digit) // 2
    return tuple(digits)


def term_count(value: int, planes: int, recoding: Recoding) -> int:
    """Terms of ``value``, held in ``planes`` bits of two's complement.

    >>> [term_count(-3, 4, recoding) for recoding in Recoding]
    [3, 2, 2, 2]
    """
    if recoding is Recoding.TWOS_COMPLEMENT:
        return (value & ((1 << planes) - 1)).bit_count()
    if recoding is Recoding.SIGN_MAGNITUDE:
        return abs(value).bit_count()
    digits = booth_digits(value, (planes + 1) // 2) if recoding is Recoding.BOOTH else naf_digits(value)
    return sum(digit != 0 for digit in digits)


@dataclass(frozen=True)
class FixedPoint:
    """The values of a format's codes as integers in units of ``2**unit_exponent``.

    Args:
        integers: one for each code.
        unit_exponent: power of two of the unit.
        planes: bits of two's complement that hold every one of them; an unsigned format's leading zero counts.
    """

    integers: tuple[int, ...]
    unit_exponent: int
    planes: int


def fixed_point(fmt: Format) -> FixedPoint:
    """``fmt`` as fixed point, in the coarsest unit that holds every value.

    Codes without a finite value count as zero; they are not stored. Signed integer formats keep all their bits, so
    that an int8 has 8 planes even without its most negative value.

    Raises:
        NotImplementedError: the values belong to the tensor, a code holds several elements, or more than ``MAX_PLANES``
            bits were needed.

    >>> from datatypes.catalog import FP4
    >>> point = fixed_point(FP4)
    >>> point.unit_exponent, point.planes, point.integers[:8]
    (-1, 5, (0, 1, 2, 3, 4, 6, 8, 12))
    """
    if isinstance(fmt, LearnedFormat | VectorFormat) or fmt.dim != 1:
        raise NotImplementedError(
            f"terms can be counted of formats with one value for each code, which {fmt.name} is not"
        )
    exact = [float(value) if math.isfinite(value) else 0.0 for value in fmt.code_values]
    ratios = [value.as_integer_ratio() for value in exact]
    unit = -max(denominator.bit_length() - 1 for _, denominator in ratios)
    integers = [numerator * ((1 << -unit) // denominator) for numerator, denominator in ratios]
    common = math.gcd(*integers)
    shift = (common & -common).bit_length() - 1 if common else 0
    integers = [value >> shift for value in integers]
    planes = max(twos_complement_bits(value) for value in integers)
    if planes > MAX_PLANES:
        raise NotImplementedError(
            f"terms can be counted of fixed-point values of up to {MAX_PLANES} bits, and {fmt.name} needs {planes}"
        )
    return FixedPoint(tuple(integers), unit + shift, planes)


def plane_masks(point: FixedPoint, planes: int, recoding: Recoding) -> np.ndarray:
    """Which bit planes each code has a one in, uint64 ``[codes]``: of two's complement, or of the magnitude.

    Raises:
        ValueError: ``recoding`` has digits other than bits.
    """
    if recoding is Recoding.TWOS_COMPLEMENT:
        return np.array([value & ((1 << planes) - 1) for value in point.integers], dtype=np.uint64)
    if recoding is Recoding.SIGN_MAGNITUDE:
        return np.array([abs(value) for value in point.integers], dtype=np.uint64)
    raise ValueError(f"recoding must be one with bits, not {recoding!r}")
