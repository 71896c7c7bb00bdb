"""Which C++ of ``hls/include`` stands for a format: types of values and elements, and the arithmetic of a pair.

``arithmetic_of`` is the one table from formats to the arithmetics of the headers (``docs/hls.md``). Widths of exact
sums follow from the largest products of the two formats and the length of a group, so that none ever wraps. Beside FP16
and BF16 activations every product is rounded once into FP32. A pair without an arithmetic is a ``NotImplementedError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

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
from hwmodel.unit_cost_design import Arithmetic

MAX_SUM_BITS = 128  # float_of in types.h
_FLINTS = ("flint3", "flint4", "flint5", "uflint4")
_LEARNED = FP16  # what learned codebooks are loaded as


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
        signed, unit = _flag(fmt.signed_codes), unit_exponent(fmt)
        return f"codesign::integer_value<{fmt.bits}, {signed}{f', {unit}' if unit else ''}>"
    if isinstance(fmt, ExponentFormat):
        return f"codesign::exponent_value<{fmt.bits}, {fmt.bias}>"
    if isinstance(fmt, FloatFormat) and fmt.bits <= MAX_TABLE_BITS:
        fields = f"{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}, {_flag(fmt.sign_bits > 0)}"
        return f"codesign::minifloat_value<{fields}, {fmt.bits}>"
    if isinstance(fmt, CodebookFormat) and fmt.bits <= 8:
        entries, _, unit = table_entries(fmt)
        return f"codesign::table_value<{fmt.bits}, {unit}, {', '.join(str(entry) for entry in entries)}>"
    raise NotImplementedError(f"no header decodes values stored as {fmt.name}")


_WIDE: Mapping[str, Format] = {"fp16": FP16, "bf16": BF16, "fp32": FP32}


def unit_exponent(fmt: Format) -> int:
    """The largest ``u`` for which every finite value of ``fmt`` is an integer multiple of ``2**u``.

    >>> from datatypes.catalog import E4M3, FP4, MX_INT8, NF4
    >>> unit_exponent(FP4), unit_exponent(E4M3), unit_exponent(MX_INT8), unit_exponent(NF4)
    (-1, -9, -6, -27)

    Raises:
        NotImplementedError: the format is too wide for a table.
    """
    mantissas, exponents = np.frexp(_values(fmt)[_values(fmt) != 0])
    if not len(mantissas):
        return 0
    whole = np.ldexp(mantissas, 53).astype(np.int64)  # a float64 has 53 significant bits
    lowest = whole & -whole
    return int((np.frexp(lowest.astype(np.float64))[1] - 1 + exponents - 53).min())


def _values(fmt: Format) -> np.ndarray:
    """Every finite value that used codes of ``fmt`` decode to, float64; of a learned one, of any FP16."""
    if isinstance(fmt, LearnedFormat):
        return _values(_LEARNED)
    if isinstance(fmt, OutlierVictimFormat | VectorFormat):
        return fmt.levels.astype(np.float32).astype(np.float64)
    used = fmt.code_values[[code for code in range(1 << fmt.bits) if code not in fmt.unused_codes]]
    finite: np.ndarray = used[np.isfinite(used)]
    return finite


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
        bits, unsigned = (_signed_bits(fmt), False) if weight else (fmt.bits, not fmt.signed_codes)
        return f"codesign::int_number<{bits}, {_flag(unsigned)}, {unit_exponent(fmt)}>"
    if isinstance(fmt, FloatFormat) and fmt.sign_bits + fmt.exponent_bits + fmt.mantissa_bits == fmt.bits:
        unsigned_text = "" if fmt.sign_bits else ", false"
        return (
            f"codesign::minifloat_number<{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}{unsigned_text}>"
        )
    if fmt.name in _FLINTS:
        return f"codesign::flint_number<{fmt.bits}, {_flag(not fmt.signed)}>"
    if isinstance(fmt, CodebookFormat) and fmt.bits <= 8:
        entries, bits, unit = table_entries(fmt)
        return f"codesign::table_number<{fmt.bits}, {bits}, {unit}, {_table_type(entries)}>"
    raise NotImplementedError(f"no header reads codes of {fmt.name} as numbers")


def table_entries(fmt: CodebookFormat | VectorFormat) -> tuple[tuple[int, ...], int, int]:
    """A fixed table as integers, in code order, one code's elements after another's; their width and their unit.

    Raises:
        NotImplementedError: they take more than 64 bits.
    """
    unit = unit_exponent(fmt)
    table = fmt.point_table.astype(np.float32).reshape(-1) if isinstance(fmt, VectorFormat) else fmt.code_values
    entries = tuple(int(Fraction(float(value)) / Fraction(2) ** unit) for value in table)
    bits = max(max(entries).bit_length(), (-min(entries) - 1).bit_length()) + 1
    if bits > 64:
        raise NotImplementedError(f"entries of {fmt.name} take {bits} bits as integers, more than the 64 of a table")
    return entries, bits, unit


def _table_type(entries: tuple[int, ...]) -> str:
    return f"codesign::fixed_table<{', '.join(str(entry) for entry in entries)}>"


def _signed_bits(fmt: IntFormat) -> int:
    return fmt.bits if fmt.signed_codes else fmt.bits + 1


def _flag(value: bool) -> str:
    return "true" if value else "false"


def is_float_input(activation: Format) -> bool:
    """Whether activations of this format meet weights in a float accumulator, one rounding a product."""
    return isinstance(activation, FloatFormat) and activation.bits > 8


# --- arithmetics -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """What is multiplied.

    Args:
        weight: element format.
        activation: element format; FP16 where a layer does not quantize its input.
        lanes: elements at once.
        group: products in one sum.
        accumulator: exponent and mantissa bits of the float that adds products of FP16 activations.
        along_outputs: codes of several elements run down the outputs.
    """

    weight: Format
    activation: Format
    lanes: int
    group: int
    accumulator: tuple[int, int] = (8, 23)
    along_outputs: bool = False

    def __post_init__(self) -> None:
        if self.lanes < 1 or self.group < 1:
            raise ValueError(
                f"lanes and group of an arithmetic must be at least 1, not {self.lanes!r} and {self.group!r}"
            )
        elements = 1 if self.along_outputs else self.weight.dim
        if self.lanes % elements:
            raise ValueError(f"lanes for {self.weight.name} must be whole codes of {elements}, not {self.lanes}")

    @property
    def rounded(self) -> bool:
        """Whether each product is rounded into a float."""
        return is_float_input(self.activation) or is_float_input(self.weight)

    @property
    def sum_bits(self) -> int:
        """Bits of an exact sum; 0 for a float."""
        return 0 if self.rounded else sum_bits(self.weight, self.activation, self.group)

    @property
    def unit_exponent(self) -> int:
        """Of an exact sum; 0 for a float."""
        return 0 if self.rounded else unit_exponent(self.weight) + unit_exponent(self.activation)

    def made(self, text: str, header: str, weight_bits: int | None = None) -> CArithmetic:
        """The arithmetic ``text`` for this pair."""
        weight_bits = self.weight.bits if weight_bits is None else weight_bits
        headers = tuple(sorted({header, *_number_headers(self.weight), *_number_headers(self.activation)}))
        return CArithmetic(text, headers, weight_bits, self.activation.bits, self.unit_exponent, self.sum_bits)

    def products(self, weight_number: str, activation_number: str) -> str:
        """How products of two numbers are added (``products.h``)."""
        if self.rounded:
            return f"codesign::rounded_products<{weight_number}, {activation_number}, {_widths(self.accumulator)}>"
        return f"codesign::exact_products<{weight_number}, {activation_number}, {self.sum_bits}>"


def _number_headers(fmt: Format) -> tuple[str, ...]:
    """Files that define how a code is read as a number, beside those of every arithmetic."""
    if isinstance(fmt, CodebookFormat):
        return ("shift_mac.h",) if fmt.name in _FLINTS else ("codebook.h",)
    return ()


def _widths(accumulator: tuple[int, int]) -> str:
    return f"{accumulator[0]}, {accumulator[1]}"


def arithmetic_of(pair: Pair, arithmetic: Arithmetic = Arithmetic.PARALLEL) -> CArithmetic:
    """The C++ arithmetic that multiplies a pair.

    Args:
        pair: formats and lanes.
        arithmetic: how they meet.

    Raises:
        NotImplementedError: no header multiplies them so.

    >>> from datatypes.catalog import INTS
    >>> arithmetic_of(Pair(INTS[4], INTS[8], lanes=16, group=64)).type
    'codesign::int_arithmetic<4, 8, false, 16, 18>'
    """
    if arithmetic in _SERIAL:
        return _serial(pair, *_SERIAL[arithmetic])
    if arithmetic not in (Arithmetic.PARALLEL, Arithmetic.BLOCK):
        raise NotImplementedError(f"no header computes layers as {arithmetic.value}")
    if isinstance(pair.weight, OutlierVictimFormat):
        return _olive(pair, pair.weight)
    if isinstance(pair.weight, LearnedFormat | VectorFormat):
        return _book(pair, pair.weight)
    return _numbers(pair)


def _plain_integers(pair: Pair) -> str | None:
    """Widths of two integers in units of 1, and whether the activation is unsigned; ``None`` for any other pair."""
    w, a = pair.weight, pair.activation
    if isinstance(w, IntFormat) and isinstance(a, IntFormat) and w.step == a.step == 1.0:
        return f"{_signed_bits(w)}, {a.bits}, {_flag(not a.signed_codes)}"
    return None


def _numbers(pair: Pair) -> CArithmetic:
    """One element for each code on both sides."""
    w, a = pair.weight, pair.activation
    weight_bits = _signed_bits(w) if isinstance(w, IntFormat) else w.bits
    plain = _plain_integers(pair)
    if plain is not None:
        return pair.made(f"codesign::int_arithmetic<{plain}, {pair.lanes}, {pair.sum_bits}>", "integer.h", weight_bits)
    numbers = f"{number_type(w, weight=True)}, {number_type(a)}, {pair.lanes}"
    if pair.rounded:
        text = f"codesign::float_arithmetic<{numbers}, {_widths(pair.accumulator)}>"
        return pair.made(text, "float_accumulate.h", weight_bits)
    return pair.made(f"codesign::minifloat_arithmetic<{numbers}, {pair.sum_bits}>", "minifloat.h", weight_bits)


def _olive(pair: Pair, weight: OutlierVictimFormat) -> CArithmetic:
    flint = _flag(weight.normal_name == "flint4")
    element = f"codesign::olive_number<{flint}>"
    activation = element if pair.activation == weight else number_type(pair.activation)
    text = f"codesign::olive_arithmetic<{flint}, {pair.products(element, activation)}, {pair.lanes}>"
    return pair.made(text, "shift_mac.h")


def _book(pair: Pair, weight: LearnedFormat | VectorFormat) -> CArithmetic:
    """Codes of several elements, and learned tables, which are loaded as FP16."""
    if isinstance(weight, LearnedFormat):
        element = number_type(_LEARNED)
        book = f"codesign::loaded_book<{weight.bits}, {element}, {weight.dim}>"
    else:
        entries, bits, unit = table_entries(weight)
        element = f"codesign::int_number<{bits}, false, {unit}>"
        book = f"codesign::fixed_book<{weight.bits}, {element}, {_table_type(entries)}, {weight.dim}>"
    products = pair.products(element, number_type(pair.activation))
    text = f"codesign::codebook_arithmetic<{book}, {products}, {_flag(pair.along_outputs)}, {pair.lanes}>"
    return pair.made(text, "codebook.h")


def _serial(pair: Pair, name: str, more: str) -> CArithmetic:
    plain = _plain_integers(pair)
    if plain is None or not isinstance(pair.weight, IntFormat):
        raise NotImplementedError(
            f"serial arithmetics take integers on both sides, not {pair.weight.name} and {pair.activation.name}"
        )
    text = f"codesign::{name}<{plain}, {more}{pair.lanes}, {pair.sum_bits}>"
    return pair.made(text, "serial.h", _signed_bits(pair.weight))


_SERIAL: Mapping[Arithmetic, tuple[str, str]] = {
    Arithmetic.WEIGHT_SERIAL: ("bit_serial_arithmetic", "true, "),
    Arithmetic.BOTH_SERIAL: ("bit_bit_arithmetic", ""),
    Arithmetic.TERM_SERIAL: ("term_serial_arithmetic", ""),
}


# --- BitMoD ----------------------------------------------------------------------------------------------------------

BITMOD_LANES = 4  # of one PE (Chen et al., HPCA 2025, figure 5)
_FLOATING = {3: (0.0, 1.0, 2.0, 4.0), 4: (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)}  # Table IV: magnitudes by code
_MOST_SPECIALS = 4


def bitmod_of(
    weight: tuple[Format, ...], activation: Format, *, scale: Format | None, lanes: int, group: int
) -> CArithmetic:
    """BitMoD's bit-serial arithmetic: FP16 activations with the scale in the PE, or INT8 with exact sums.

    Args:
        weight: BitMoD's formats among which a selector picks (four at most), FP3, FP4, or an integer of up to 8 bits.
        activation: FP16 or INT8.
        scale: how a group's scale is stored; ``None`` for none. Not used beside INT8.
        lanes: a multiple of the PE's four.
        group: weights in a group.

    Raises:
        ValueError: lanes that are no multiple of four.
        NotImplementedError: formats that the PE does not take.
    """
    if lanes < 1 or lanes % BITMOD_LANES:
        raise ValueError(f"lanes of BitMoD's PE must be a multiple of {BITMOD_LANES}, not {lanes!r}")
    word = bitmod_register(weight)
    if activation == FP16:
        text = f"codesign::bitmod_arithmetic<{_bitmod_scale(scale)}, {lanes}>"
        return CArithmetic(text, ("bitmod_array.h",), 8, 16, registers=(word,))
    if not (isinstance(activation, IntFormat) and activation.bits == 8 and activation.signed_codes):
        raise NotImplementedError(f"BitMoD's PE takes activations of FP16 or INT8, not {activation.name}")
    largest = max(largest_integer(fmt) << unit_exponent(fmt) + 1 for fmt in weight)  # in halves
    total = (group * largest * largest_integer(activation)).bit_length() + 1
    text = f"codesign::bitmod_int_arithmetic<{lanes}, {total}>"
    return CArithmetic(text, ("bitmod_array.h",), 8, 8, -1, total, (word,))


def bitmod_register(weight: tuple[Format, ...]) -> int:
    """The word that tells BitMoD's encoders what they decode: special values, width, whether it is a float.

    >>> from datatypes.catalog import BITMOD_FP3, INTS
    >>> hex(bitmod_register(BITMOD_FP3))  # +3, -3, +6, -6 in halves, sign on top: 06, 26, 0c, 2c
    '0xab0c986'
    >>> hex(bitmod_register((INTS[6],)))
    '0x5000000'

    Raises:
        NotImplementedError: formats that the encoders do not take.
    """
    refused = NotImplementedError(
        "BitMoD's PE takes its own formats, FP3, FP4 and integers of up to 8 bits, not "
        + ", ".join(fmt.name for fmt in weight)
    )
    bits = weight[0].bits
    if len(weight) == 1 and isinstance(weight[0], IntFormat):
        if bits > 8 or not weight[0].signed_codes or weight[0].step != 1.0:
            raise refused
        return bits - 1 << 24
    if len(weight) > _MOST_SPECIALS or bits not in _FLOATING:
        raise refused
    specials = 0
    for place, fmt in enumerate(weight):
        plain = _FLOATING[bits]
        if isinstance(fmt, OutlierVictimFormat | VectorFormat | LearnedFormat) or fmt.bits != bits:
            raise refused
        values = fmt.code_values
        special = float(values[len(plain)])
        halves = abs(2 * special)
        ordinary = (*plain, special, *(-value for value in plain[1:]))
        if not np.array_equal(values, ordinary) or halves != int(halves) or halves > 31:
            raise refused
        specials |= (int(special < 0) << 5 | int(halves)) << 6 * place
    return specials | bits - 1 << 24 | 1 << 27


def _bitmod_scale(scale: Format | None) -> str:
    if scale is None:
        return "codesign::bitmod_exponent_scale<1, 0>"
    if isinstance(scale, IntFormat) and not scale.signed_codes and scale.step == 1.0:
        return f"codesign::bitmod_integer_scale<{scale.bits}>"
    if isinstance(scale, ExponentFormat):
        return f"codesign::bitmod_exponent_scale<{scale.bits}, {scale.bias}>"
    if scale == FP16:
        return "codesign::bitmod_float_scale<5, 10>"
    raise NotImplementedError(f"BitMoD's dequantizer takes scales of integers, FP16 or powers of two, not {scale.name}")
