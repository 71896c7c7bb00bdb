"""What a format's table should say about it: range, smallest values, special codes, tie rule, source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datatypes.format import (
    MAX_TABLE_BITS,
    ExponentFormat,
    FloatFormat,
    FloatVariant,
    Format,
    LearnedFormat,
    VectorFormat,
)
from datatypes.outlier_victim import OutlierVictimFormat


@dataclass(frozen=True)
class FormatFacts:
    """One row of the catalogue.

    Args:
        name, bits, source: as in the format; ``bits`` of one code.
        dim: elements for each code.
        levels: number of distinct finite values; ``None`` where there is no table.
        maximum, minimum: largest and smallest finite value; ``None`` where the values belong to the tensor.
        min_normal: smallest positive normal value of a float; ``None`` for other families and where there is none.
        min_subnormal: smallest positive subnormal value; ``None`` where there are none.
        min_positive: smallest positive value of any kind; ``None`` where there is none.
        nan_codes, infinity_codes: how many codes mean that.
        nan_code: the NaN code that is written; ``None`` for formats without (NaN input is then an error).
        negative_zero_code: code of -0.0, kept on rounding; ``None`` where zero has no sign.
        unused_codes: codes that decode to a value but are never written.
        tie: where a value exactly between two others goes.
        overflow: what happens beyond the range; the same for every format.
    """

    name: str
    bits: int
    source: str
    dim: int
    levels: int | None
    maximum: float | None
    minimum: float | None
    min_normal: float | None
    min_subnormal: float | None
    min_positive: float | None
    nan_codes: int
    infinity_codes: int
    nan_code: int | None
    negative_zero_code: int | None
    unused_codes: tuple[int, ...]
    tie: str
    overflow: str = "saturates"


def describe(fmt: Format) -> FormatFacts:
    """The facts of ``fmt``, read off its code table wherever it has one.

    >>> from datatypes.catalog import E4M3
    >>> facts = describe(E4M3)
    >>> facts.maximum, facts.min_normal, facts.min_subnormal, facts.nan_codes, facts.tie
    (448.0, 0.015625, 0.001953125, 2, 'even code')
    """
    if isinstance(fmt, LearnedFormat):
        return _facts(fmt, tie="nearest point")
    if isinstance(fmt, OutlierVictimFormat | VectorFormat):
        levels = fmt.levels
        nearest = "nearest point, lowest code" if isinstance(fmt, VectorFormat) else fmt.normal.tie.value
        return _facts(fmt, levels=levels, tie=nearest)
    if fmt.bits > MAX_TABLE_BITS:
        return _wide(fmt)
    table = fmt.code_values
    return _facts(
        fmt,
        levels=fmt.levels,
        nan_codes=int(np.isnan(table).sum()),
        infinity_codes=int(np.isinf(table).sum()),
        nan_code=fmt.nan_code,
        negative_zero_code=fmt.negative_zero_code,
    )


def _facts(
    fmt: Format,
    *,
    levels: np.ndarray | None = None,
    nan_codes: int = 0,
    infinity_codes: int = 0,
    nan_code: int | None = None,
    negative_zero_code: int | None = None,
    tie: str | None = None,
) -> FormatFacts:
    normal, subnormal = _smallest_floats(fmt)
    positive = None if levels is None else levels[levels > 0]
    return FormatFacts(
        name=fmt.name,
        bits=fmt.bits,
        source=fmt.source,
        dim=fmt.dim,
        levels=None if levels is None else len(levels),
        maximum=None if levels is None else float(levels[-1]),
        minimum=None if levels is None else float(levels[0]),
        min_normal=normal,
        min_subnormal=subnormal,
        min_positive=None if positive is None or not len(positive) else float(positive[0]),
        nan_codes=nan_codes,
        infinity_codes=infinity_codes,
        nan_code=nan_code,
        negative_zero_code=negative_zero_code,
        unused_codes=tuple(sorted(fmt.unused_codes)),
        tie=fmt.tie.value if tie is None else tie,
    )


def _smallest_floats(fmt: Format) -> tuple[float | None, float | None]:
    """Smallest positive normal and subnormal value of a float format."""
    if isinstance(fmt, ExponentFormat):
        return 2.0**-fmt.bias, None
    if not isinstance(fmt, FloatFormat):
        return None, None
    normal = 2.0 ** (1 - fmt.exponent_bias)
    subnormal = 2.0 ** (1 - fmt.exponent_bias - fmt.mantissa_bits) if fmt.mantissa_bits else None
    if fmt.bits <= MAX_TABLE_BITS and normal > fmt.maximum:
        return None, subnormal  # one exponent bit, taken by the special codes
    return normal, subnormal


def _wide(fmt: Format) -> FormatFacts:
    """FP32 and INT32, which have no table."""
    if isinstance(fmt, FloatFormat):
        if fmt.variant is not FloatVariant.IEEE:
            raise NotImplementedError(f"{fmt.name} has {fmt.bits} bits and no table to describe")
        top = (1 << fmt.exponent_bits) - 2 - fmt.exponent_bias
        highest = 2.0**top * (2 - 2.0**-fmt.mantissa_bits)
        normal, subnormal = _smallest_floats(fmt)
        fractions = 1 << fmt.mantissa_bits
        return FormatFacts(
            name=fmt.name,
            bits=fmt.bits,
            source=fmt.source,
            dim=1,
            levels=2 * ((1 << fmt.exponent_bits) - 1) * fractions - 1,
            maximum=highest,
            minimum=-highest,
            min_normal=normal,
            min_subnormal=subnormal,
            min_positive=subnormal,
            nan_codes=2 * (fractions - 1),
            infinity_codes=2,
            nan_code=((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits | 1,
            negative_zero_code=1 << (fmt.bits - 1),
            unused_codes=(),
            tie=fmt.tie.value,
        )
    half = 1 << (fmt.bits - 1)
    return FormatFacts(
        name=fmt.name,
        bits=fmt.bits,
        source=fmt.source,
        dim=1,
        levels=1 << fmt.bits,
        maximum=float(half - 1),
        minimum=float(-half),
        min_normal=None,
        min_subnormal=None,
        min_positive=1.0,
        nan_codes=0,
        infinity_codes=0,
        nan_code=None,
        negative_zero_code=None,
        unused_codes=(),
        tie=fmt.tie.value,
    )
