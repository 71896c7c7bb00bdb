"""Which C++ of ``hls/include`` stands for a format: types of stored values, units of exact sums, codes as numbers.

``hls.c_arithmetics`` puts them together into what multiplies a pair of formats. Widths of exact sums follow from the
largest products of the two formats and the length of a group, so that none ever wraps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from datatypes.catalog import BF16, FP16, FP32
from datatypes.format import (
    MAX_TABLE_BITS,
    CodebookFormat,
    ExponentFormat,
    FloatFormat,
    Format,
    IntFormat,
    LearnedFormat,
    VectorFormat,
)
from datatypes.outlier_victim import OutlierVictimFormat
from hls.exact_numbers import lowest_unit

MAX_SUM_BITS = 128  # float_of in types.h
FLINTS = ("flint3", "flint4", "flint5", "uflint4")
LEARNED = FP16  # what learned codebooks are loaded as


@dataclass(frozen=True)
class CArithmetic:
    """An arithmetic of the headers, for a pair of formats.

    Args:
        type: C++ type, names of the namespace ``codesign`` written in full.
        headers: files of ``include/codesign`` that define it and its numbers.
        weight_bits, activation_bits: of the codes that it takes; wider than the format's where codes are extended.
        unit_exponent: of its sums.
        sum_bits: of one sum; 0 where it is a float.
        registers: words loaded into it before a layer; none where it loads nothing or the layer's own tables.
    """

    type: str
    headers: tuple[str, ...]
    weight_bits: int
    activation_bits: int
    unit_exponent: int = 0
    sum_bits: int = 0
    registers: tuple[int, ...] = ()


# --- values ----------------------------------------------------------------------------------------------------------


def value_type(fmt: Format) -> str:
    """C++ type that decodes a stored scale, zero point or factor (``fields.h``).

    >>> from datatypes.catalog import E8M0, UE4M3
    >>> value_type(FP16), value_type(E8M0), value_type(UE4M3)
    ('codesign::fp16_value', 'codesign::exponent_value<8, 127>', 'codesign::minifloat_value<4, 3, 7, false, 8>')

    Raises:
        NotImplementedError: no header decodes it.
    """
    if fmt.name in _WIDE and fmt == _WIDE[fmt.name]:
        return f"codesign::{fmt.name}_value"
    if isinstance(fmt, IntFormat):
        signed, unit = flag(fmt.signed_codes), unit_exponent(fmt)
        return f"codesign::integer_value<{fmt.bits}, {signed}{f', {unit}' if unit else ''}>"
    if isinstance(fmt, ExponentFormat):
        return f"codesign::exponent_value<{fmt.bits}, {fmt.bias}>"
    if isinstance(fmt, FloatFormat) and fmt.bits <= MAX_TABLE_BITS:
        fields = f"{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}, {flag(fmt.sign_bits > 0)}"
        return f"codesign::minifloat_value<{fields}, {fmt.bits}>"
    if isinstance(fmt, CodebookFormat) and fmt.bits <= 8:
        entries, _, unit = table_entries(fmt)
        return f"codesign::table_value<{fmt.bits}, {unit}, {', '.join(str(entry) for entry in entries)}>"
    raise NotImplementedError(f"no header decodes values stored as {fmt.name}")


_WIDE: Mapping[str, Format] = {"fp16": FP16, "bf16": BF16, "fp32": FP32}


@cache
def unit_exponent(fmt: Format) -> int:
    """The largest ``u`` for which every finite value of ``fmt`` is an integer multiple of ``2**u``.

    >>> from datatypes.catalog import E4M3, FP4, MX_INT8, NF4
    >>> unit_exponent(FP4), unit_exponent(E4M3), unit_exponent(MX_INT8), unit_exponent(NF4)
    (-1, -9, -6, -27)

    Raises:
        NotImplementedError: the format is too wide for a table.
    """
    return lowest_unit(_values(fmt))


def _values(fmt: Format) -> np.ndarray:
    """Every finite value that used codes of ``fmt`` decode to, float64; of a learned one, of any FP16."""
    if isinstance(fmt, LearnedFormat):
        return _values(LEARNED)
    if isinstance(fmt, OutlierVictimFormat | VectorFormat):
        return fmt.levels.astype(np.float32).astype(np.float64)
    used = fmt.code_values[[code for code in range(1 << fmt.bits) if code not in fmt.unused_codes]]
    finite: np.ndarray = used[np.isfinite(used)]
    return finite


@cache
def largest_integer(fmt: Format) -> int:
    """Largest magnitude of ``fmt`` in units of ``2**unit_exponent``.

    >>> from datatypes.catalog import FP4, INTS
    >>> largest_integer(FP4), largest_integer(INTS[8])
    (12, 128)
    """
    return int(Fraction(float(np.abs(_values(fmt)).max())) / Fraction(2) ** unit_exponent(fmt))


def sum_bits(weight: Format, activation: Format, group: int) -> int:
    """Bits of the exact sum of ``group`` products, in two's complement.

    >>> from datatypes.catalog import INTS
    >>> sum_bits(INTS[4], INTS[8], 64)  # 64 * 8 * 128 = 2**16, positive
    18

    Raises:
        ValueError: the group is empty.
        NotImplementedError: more than 128 bits.
    """
    if group < 1:
        raise ValueError(f"group of a sum must be at least 1, not {group!r}")
    bits = (group * largest_integer(weight) * largest_integer(activation)).bit_length() + 1
    if bits > MAX_SUM_BITS:
        raise NotImplementedError(
            f"exact sums of {group} products of {weight.name} and {activation.name} take {bits} bits, "
            f"more than the {MAX_SUM_BITS} that headers hold"
        )
    return bits


# --- numbers ---------------------------------------------------------------------------------------------------------


def number_type(fmt: Format, *, weight: bool = False) -> str:
    """C++ type that reads one code as a number (``products.h``).

    Args:
        fmt: a format of one element for each code.
        weight: unsigned integers become signed ones of one bit more: a zero point may be taken off them.

    >>> from datatypes.catalog import E4M3, FLINT4, MX_INT8, TERNARY, UINTS
    >>> number_type(E4M3), number_type(MX_INT8), number_type(FLINT4)
    ('codesign::minifloat_number<4, 3, 7>', 'codesign::int_number<8, false, -6>', 'codesign::flint_number<4, false>')
    >>> number_type(UINTS[4]), number_type(UINTS[4], weight=True)
    ('codesign::int_number<4, true, 0>', 'codesign::int_number<5, false, 0>')
    >>> number_type(TERNARY)
    'codesign::table_number<2, 2, 0, codesign::fixed_table<0, 1, 0, -1>>'

    Raises:
        NotImplementedError: no header reads it.
    """
    if isinstance(fmt, IntFormat):
        bits, unsigned = (signed_bits(fmt), False) if weight else (fmt.bits, not fmt.signed_codes)
        return f"codesign::int_number<{bits}, {flag(unsigned)}, {unit_exponent(fmt)}>"
    if isinstance(fmt, FloatFormat) and fmt.sign_bits + fmt.exponent_bits + fmt.mantissa_bits == fmt.bits:
        unsigned_text = "" if fmt.sign_bits else ", false"
        return (
            f"codesign::minifloat_number<{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}{unsigned_text}>"
        )
    if fmt.name in FLINTS:
        return f"codesign::flint_number<{fmt.bits}, {flag(not fmt.signed)}>"
    if isinstance(fmt, CodebookFormat) and fmt.bits <= 8:
        entries, bits, unit = table_entries(fmt)
        return f"codesign::table_number<{fmt.bits}, {bits}, {unit}, {table_type(entries)}>"
    raise NotImplementedError(f"no header reads codes of {fmt.name} as numbers")


@cache
def table_entries(fmt: CodebookFormat | VectorFormat) -> tuple[tuple[int, ...], int, int]:
    """A fixed table as integers, in code order, one code's elements after another's; their width and their unit.

    Raises:
        NotImplementedError: they take more than 64 bits.
    """
    unit = unit_exponent(fmt)
    table = fmt.point_table.astype(np.float32).reshape(-1) if isinstance(fmt, VectorFormat) else fmt.code_values
    entries, bits = integer_entries(table, unit, fmt.name)
    return entries, bits, unit


def integer_entries(values: np.ndarray, unit: int, name: str) -> tuple[tuple[int, ...], int]:
    """Values as integers in units of ``2**unit``, and the width that holds each of them.

    Args:
        values: float64, multiples of the unit.
        unit: exponent.
        name: of the formats, for the message.

    Raises:
        NotImplementedError: they take more than 64 bits.
    """
    entries = tuple(int(Fraction(float(value)) / Fraction(2) ** unit) for value in values)
    bits = max(max(entries).bit_length(), (-min(entries) - 1).bit_length()) + 1
    if bits > 64:
        raise NotImplementedError(f"entries of {name} take {bits} bits as integers, more than the 64 of a table")
    return entries, bits


def table_type(entries: tuple[int, ...]) -> str:
    """C++ type of a constant table (``codebook.h``)."""
    return f"codesign::fixed_table<{', '.join(str(entry) for entry in entries)}>"


def signed_bits(fmt: IntFormat) -> int:
    """Width of an integer weight in two's complement: unsigned codes are extended by a zero."""
    return fmt.bits if fmt.signed_codes else fmt.bits + 1


def flag(value: bool) -> str:
    """As C++ writes it."""
    return "true" if value else "false"


def is_float_input(activation: Format) -> bool:
    """Whether activations of this format meet weights in a float accumulator, one rounding a product."""
    return isinstance(activation, FloatFormat) and activation.bits > 8
