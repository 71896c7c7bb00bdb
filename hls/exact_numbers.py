"""Exact sums and single roundings on arrays: what golden references are made of.

Integers of any size as int64 or Python integers, whichever is exact; float32 and narrower floats reached by one
rounding to nearest, ties to even.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

EXACT_DOUBLE_BITS = 53  # IEEE 754-2019, binary64
EXACT_LONG_BITS = 62


def lowest_unit(values: np.ndarray) -> int:
    """The largest power of two (as exponent) of which all values are multiples; 0 for zeros.

    >>> lowest_unit(np.array([1.5, -0.25, 0.0])), lowest_unit(np.array([12.0]))
    (-2, 2)
    """
    magnitude = np.abs(values[values != 0])
    if not magnitude.size:
        return 0
    mantissa, exponent = np.frexp(magnitude)
    whole = np.ldexp(mantissa, EXACT_DOUBLE_BITS).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((exponent - EXACT_DOUBLE_BITS + trailing).min())


def in_units(values: np.ndarray, unit_exponent: int) -> np.ndarray:
    """``values / 2**unit_exponent`` as integers: int64, or Python integers where these are too small.

    >>> in_units(np.array([1.5, -0.25]), -2).tolist()
    [6, -1]

    Raises:
        ValueError: a value is not a multiple of the unit.
    """
    scaled = np.ldexp(np.asarray(values, np.float64), -unit_exponent)
    if not (np.isfinite(scaled) & (scaled == np.rint(scaled))).all():
        raise ValueError(f"values must be finite multiples of 2**{unit_exponent}")
    if scaled.size == 0 or np.abs(scaled).max() < 2.0**EXACT_LONG_BITS:
        return scaled.astype(np.int64)
    return np.vectorize(int, otypes=[object])(scaled)


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a @ b.T`` of integers ``[m, k]`` and ``[n, k]``, exactly: int64 ``[m, n]``, or Python integers if need be."""
    reach = a.shape[1] * _largest(a) * _largest(b)
    if reach < 1 << EXACT_DOUBLE_BITS:
        made = a.astype(np.float64) @ b.T.astype(np.float64)  # every partial sum is an integer below 2**53
        return made.astype(np.int64)
    if reach < 1 << EXACT_LONG_BITS:
        return a.astype(np.int64) @ b.T.astype(np.int64)
    return np.asarray(a.astype(object) @ b.T.astype(object))


def _largest(values: np.ndarray) -> int:
    return max((abs(int(v)) for v in (values.max(), values.min())), default=0) if values.size else 0


def widened(values: np.ndarray) -> np.ndarray:
    """Integers that may grow without limit: Python integers."""
    return values.astype(object)


def float32_of(integers: np.ndarray) -> np.ndarray:
    """The float32 nearest to each integer.

    >>> float32_of(np.array([2**24 + 1, 2**24 + 3])).tolist()  # ties, to even
    [16777216.0, 16777220.0]
    """
    if _largest(integers) < 1 << EXACT_DOUBLE_BITS:
        return integers.astype(np.float64).astype(np.float32)
    return np.vectorize(_nearest_float32, otypes=[np.float32])(integers)


def _nearest_float32(value: int) -> np.float32:
    drop = max(0, abs(value).bit_length() - 24)
    kept = round(Fraction(value, 1 << drop))  # Python rounds halves to even
    return np.float32(np.ldexp(float(kept), drop))


def times_power(values: np.ndarray, exponent: int) -> np.ndarray:
    """float32 values times a power of two, one rounding."""
    return np.ldexp(values.astype(np.float64), exponent).astype(np.float32)


def rounded_sum(held: np.ndarray, addend: np.ndarray, widths: tuple[int, int]) -> np.ndarray:
    """``held + addend`` rounded once to a float of ``widths`` (exponent and mantissa bits), saturating.

    Args:
        held, addend: float64, exact.
        widths: exponent bits (bias and subnormals of IEEE 754, the top exponent unused) and mantissa bits, at most 23.

    >>> rounded_sum(np.array([2048.0]), np.array([1.0 + 2.0**-30]), (5, 10)).tolist()  # spacing 2, above the tie
    [2050.0]
    """
    total = held + addend
    # What the float64 addition lost (Knuth's TwoSum, exact), folded in as a sticky bit: rounding to odd.
    part = total - held
    lost = (held - (total - part)) + (addend - part)
    odd = total.view(np.int64) & 1 == 1
    towards = np.where(lost > 0, np.inf, -np.inf)
    inexact = (lost != 0) & ~odd
    total = np.where(inexact, np.nextafter(total, towards), total)
    exponent_bits, mantissa_bits = widths
    bias = (1 << (exponent_bits - 1)) - 1
    lead = np.frexp(total)[1] - 1
    last = np.maximum(lead, 1 - bias) - mantissa_bits
    made = np.ldexp(np.rint(np.ldexp(total, -last)), last)
    largest = (2.0 - 2.0**-mantissa_bits) * 2.0**bias
    return np.clip(made, -largest, largest) + 0.0  # + 0.0: zero has no sign
