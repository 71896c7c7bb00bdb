"""What BitMoD's term encoder puts out for each code of a format.

A term is ``sign * 2**(exponent + significance)``: a sign and a 2-bit exponent of each lane's own, a significance that
all lanes of a cycle share (Chen et al., HPCA 2025, eq. 4 and figure 4). Two encoders:

    integers   radix-4 Booth digits 0, +-1, +-2: exponent 0 or 1, significance 0, 2, 4, 6
    FP3, FP4   the value as sign and fixed point I3 I2 I1 I0 . F0, the special value in place of -0; one leading-one
               detector over I2..F0 (significance 0), one over I3..I0 (significance 1)

The paper does not say which detector a value with one or two ones uses, nor in which order significances come.
ASSUMPTION: the higher one goes to I3..I0, the lower one to I2..F0 without it (two detectors on overlapping bits would
otherwise count a bit twice), and significances rise, as Booth digits do in the paper's table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from datatypes.format import Format, IntFormat
from datatypes.recoding import booth_digits
from hwmodel.pe import PE, cycles_of_bits, integer_bits, two_term

MAX_EXPONENT = 3  # HPCA 2025, eq. 4: two bits
MAX_SIGNIFICANCE = 6  # HPCA 2025, section IV-A: the fourth Booth digit of an INT8
FRACTION_BITS = 1  # HPCA 2025, section IV-A: I3..I0 . F0
WINDOW_BITS = 4  # bits that a leading-one detector sees


@dataclass(frozen=True, eq=False)
class TermTable:
    """Terms of every code of a format, a row of them for each code.

    Args:
        signs: -1, 0 or 1, int8 ``[codes, cycles]``; 0 where there is no term.
        exponents: uint8 ``[codes, cycles]``; 0 where there is no term.
        significances: of each cycle.
        unit_exponent: power of two of the value 1 of a term with exponent and significance 0.
    """

    signs: np.ndarray
    exponents: np.ndarray
    significances: tuple[int, ...]
    unit_exponent: int

    @property
    def cycles(self) -> int:
        """Terms of each code, those that are zero included: none is skipped."""
        return len(self.significances)

    def values(self) -> np.ndarray:
        """What the terms of each code add up to, float64 ``[codes]``; exact."""
        powers = self.exponents.astype(np.int64) + np.array(self.significances) + self.unit_exponent
        return (self.signs * 2.0**powers).sum(axis=1)


@cache
def term_table(fmt: Format, pe: PE) -> TermTable:
    """The terms of ``fmt`` in a bit-serial ``pe``.

    Raises:
        NotImplementedError: the encoder cannot take ``fmt``.
        ValueError: ``pe`` takes no terms.

    >>> from datatypes.catalog import FP4
    >>> from hwmodel.presets import BITMOD_PE
    >>> table = term_table(FP4, BITMOD_PE)
    >>> table.signs[7].tolist(), table.exponents[7].tolist(), table.significances  # 6 = 4 + 2
    ([1, 1], [2, 2], (0, 1))
    """
    if not pe.bit_serial:
        raise ValueError(f"pe must take terms bit by bit, not {pe.name!r}")
    width = integer_bits(fmt)
    if width is None and not two_term(fmt):
        raise NotImplementedError(
            f"the term encoder decodes integers and FP3/FP4 with one special value, not {fmt.name}"
        )
    if width is not None and width > pe.max_integer_bits:
        raise NotImplementedError(
            f"the term encoder takes integers of up to {pe.max_integer_bits} bits, not {fmt.name}"
        )
    values = [0.0 if math.isnan(value) else float(value) for value in fmt.code_values]
    if width is not None:
        unit = math.frexp(fmt.step)[1] - 1 if isinstance(fmt, IntFormat) else 0
        count = cycles_of_bits(width, pe)
        rows = [_booth_terms(int(math.ldexp(value, -unit)), count) for value in values]
        return _table(rows, tuple(range(0, 2 * count, 2)), unit)
    rows = [_two_terms(int(math.ldexp(value, FRACTION_BITS))) for value in values]
    return _table(rows, (0, 1), -FRACTION_BITS)


def _booth_terms(value: int, count: int) -> list[tuple[int, int]]:
    """(sign, exponent) of each Booth digit."""
    return [((d > 0) - (d < 0), int(abs(d) == 2)) for d in booth_digits(value, count)]


def _two_terms(value: int) -> list[tuple[int, int]]:
    """(sign, exponent) from the detector over I2..F0, then from the one over I3..I0; ``value`` in units of F0."""
    sign, magnitude = (-1 if value < 0 else 1), abs(value)
    high = magnitude.bit_length() - 1
    if high < 1:  # 0, or F0 alone, which the higher detector does not see
        return [(sign * magnitude, 0), (0, 0)]
    rest = magnitude - (1 << high)
    low = rest.bit_length() - 1
    assert rest in (0, 1 << max(low, 0)) and high <= WINDOW_BITS and low < WINDOW_BITS
    return [(sign, low) if rest else (0, 0), (sign, high - 1)]


def _table(rows: list[list[tuple[int, int]]], significances: tuple[int, ...], unit: int) -> TermTable:
    pairs = np.array(rows, dtype=np.int64)
    assert pairs[:, :, 1].max() <= MAX_EXPONENT and max(significances) <= MAX_SIGNIFICANCE
    signs, exponents = pairs[:, :, 0].astype(np.int8), pairs[:, :, 1].astype(np.uint8)
    signs.setflags(write=False)
    exponents.setflags(write=False)
    return TermTable(signs, exponents, significances, unit)
