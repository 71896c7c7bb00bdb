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
_FLINTS = ("flint3", "flint4", "flint5")
_LEARNED = FP16  # what learned codebooks are loaded as


@dataclass(frozen=True)
class CArithmetic:
    """An arithmetic of the headers, for a pair of formats.

    Args:
        type: C++ type, names of the namespace ``codesign`` written in full.
        header: file of ``include/codesign`` that defines it.
        weight_bits, activation_bits: of the codes that it takes; wider than the format's where codes are extended.
        unit_exponent: of its sums.
        sum_bits: of one sum; 0 where it is a float.
        registers: words loaded into it before a layer; none where it loads nothing or the layer's own tables.
    """

    type: str
    header: str
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
        return fmt.levels
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
    """C++ type that reads a code of an integer or a float as a number.

    Args:
        fmt: its format.
        weight: unsigned integers become signed ones of one bit more: a zero point may be taken off them.

    >>> from datatypes.catalog import E4M3, MX_INT8, UINTS
    >>> number_type(E4M3), number_type(MX_INT8)
    ('codesign::minifloat_number<4, 3, 7>', 'codesign::int_number<8, false, -6>')
    >>> number_type(UINTS[4]), number_type(UINTS[4], weight=True)
    ('codesign::int_number<4, true, 0>', 'codesign::int_number<5, false, 0>')

    Raises:
        NotImplementedError: neither, or a float in a container with bits to spare.
    """
    if isinstance(fmt, IntFormat):
        bits, unsigned = (_signed_bits(fmt), False) if weight else (fmt.bits, not fmt.signed_codes)
        return f"codesign::int_number<{bits}, {_flag(unsigned)}, {unit_exponent(fmt)}>"
    if isinstance(fmt, FloatFormat) and fmt.sign_bits + fmt.exponent_bits + fmt.mantissa_bits == fmt.bits:
        unsigned = "" if fmt.sign_bits else ", false"
        return f"codesign::minifloat_number<{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}{unsigned}>"
    raise NotImplementedError(f"headers read integers and floats as numbers, not {fmt.name}")


def _signed_bits(fmt: IntFormat) -> int:
    return fmt.bits if fmt.signed_codes else fmt.bits + 1


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
        along_outputs: codes of several elements run down the outputs.
    """

    weight: Format
    activation: Format
    lanes: int
    group: int
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
    def sum_bits(self) -> int:
        """Bits of an exact sum."""
        return sum_bits(self.weight, self.activation, self.group)

    @property
    def fields(self) -> str:
        """Width of an integer activation, and whether it is unsigned.

        Raises:
            NotImplementedError: it is no integer.
        """
        activation = self.activation
        if not isinstance(activation, IntFormat) or activation.step != 1.0:
            raise self.refused()
        return f"{activation.bits}, {_flag(not activation.signed_codes)}"

    def refused(self) -> NotImplementedError:
        """What is said about a pair that no header multiplies."""
        return NotImplementedError(f"no header multiplies weights of {self.weight.name} by {self.activation.name}")


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
    if arithmetic is not Arithmetic.PARALLEL:
        raise NotImplementedError(f"no header computes layers as {arithmetic.value}")
    if isinstance(pair.weight, OutlierVictimFormat):
        return _olive(pair)
    if pair.weight.name in _FLINTS and not is_float_input(pair.activation):
        return _flint(pair)
    if isinstance(pair.weight, CodebookFormat | LearnedFormat | VectorFormat):
        return _codebook(pair)
    return _numbers(pair)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _numbers(pair: Pair) -> CArithmetic:
    """Integers and floats on both sides."""
    w, a = pair.weight, pair.activation
    if isinstance(w, IntFormat) and isinstance(a, IntFormat) and w.step == a.step == 1.0:
        bits = _signed_bits(w)
        text = f"codesign::int_arithmetic<{bits}, {pair.fields}, {pair.lanes}, {pair.sum_bits}>"
        return CArithmetic(text, "integer.h", bits, a.bits, 0, pair.sum_bits)
    numbers = f"{number_type(w, weight=True)}, {number_type(a)}, {pair.lanes}"
    weight_bits, activation_bits = _signed_bits(w) if isinstance(w, IntFormat) else w.bits, a.bits
    if is_float_input(w) or is_float_input(a):
        text = f"codesign::float_arithmetic<{numbers}>"
        return CArithmetic(text, "float_accumulate.h", weight_bits, activation_bits)
    text = f"codesign::minifloat_arithmetic<{numbers}, {pair.sum_bits}>"
    return CArithmetic(text, "minifloat.h", weight_bits, activation_bits, _unit(pair), pair.sum_bits)


def _unit(pair: Pair) -> int:
    """Exponent of the unit of exact sums."""
    return unit_exponent(pair.weight) + unit_exponent(pair.activation)


def _flint(pair: Pair) -> CArithmetic:
    w, a = pair.weight, pair.activation
    flint = a.name in (*_FLINTS, "uflint4")
    fields = f"{a.bits}, {_flag(flint)}, {_flag(not a.signed)}" if flint else pair.fields.replace(",", ", false,")
    text = f"codesign::flint_arithmetic<{w.bits}, {fields}, {pair.lanes}, {pair.sum_bits}>"
    return CArithmetic(text, "shift_mac.h", w.bits, a.bits, 0, pair.sum_bits)


def _olive(pair: Pair) -> CArithmetic:
    w, a = pair.weight, pair.activation
    assert isinstance(w, OutlierVictimFormat)
    if a != w and (not isinstance(a, IntFormat) or not a.signed_codes or a.step != 1.0):
        raise pair.refused()
    fields = f"{_flag(w.normal_name == 'flint4')}, {_flag(a == w)}, {a.bits}"
    text = f"codesign::olive_arithmetic<{fields}, {pair.lanes}, {pair.sum_bits}>"
    return CArithmetic(text, "shift_mac.h", w.bits, a.bits, 0, pair.sum_bits)


def _codebook(pair: Pair) -> CArithmetic:
    """Tables; beside integers their entries count exactly, beside FP16 they are rounded to FP16."""
    w, a = pair.weight, pair.activation
    unit = 0
    if is_float_input(a):
        if a != FP16:
            raise pair.refused()
        element, entries = "codesign::float_element<5, 10>", _table(w).astype(np.float16).view(np.uint16).tolist()
    elif isinstance(w, LearnedFormat):
        unit = unit_exponent(w)
        element, entries = "codesign::float_element<5, 10>", []
    else:
        unit = unit_exponent(w)
        entries = [int(Fraction(float(value)) / Fraction(2) ** unit) for value in _table(w)]
        bits = max(max(entries).bit_length(), (-min(entries) - 1).bit_length()) + 1
        if bits > 64:
            raise NotImplementedError(f"entries of {w.name} take {bits} bits as integers, more than the 64 of a table")
        element = f"codesign::integer_element<{bits}, {unit}>"
    if isinstance(w, LearnedFormat):
        book = f"codesign::loaded_book<{w.bits}, {element}, {w.dim}>"
    else:
        table = f"codesign::fixed_table<{', '.join(str(entry) for entry in entries)}>"
        book = f"codesign::fixed_book<{w.bits}, {element}, {table}, {w.dim}>"
    if is_float_input(a):
        products, total = f"codesign::rounded_products<{book}>", 0
    else:
        products, total = f"codesign::exact_products<{book}, {pair.fields}, {pair.sum_bits}>", pair.sum_bits
    text = f"codesign::codebook_arithmetic<{book}, {products}, {_flag(pair.along_outputs)}, {pair.lanes}>"
    return CArithmetic(text, "codebook.h", w.bits, a.bits, unit, total)


def _table(fmt: Format) -> np.ndarray:
    """Values in code order, one code's elements after another's; none of a learned format."""
    if isinstance(fmt, LearnedFormat):
        return np.empty(0)
    if isinstance(fmt, VectorFormat):
        return fmt.point_table.astype(np.float32).reshape(-1)
    return fmt.code_values


def _serial(pair: Pair, name: str, more: str) -> CArithmetic:
    w = pair.weight
    if not isinstance(w, IntFormat) or w.step != 1.0:
        raise NotImplementedError(f"serial arithmetics take integer weights, not {w.name}")
    bits = _signed_bits(w)
    text = f"codesign::{name}<{bits}, {pair.fields}, {more}{pair.lanes}, {pair.sum_bits}>"
    return CArithmetic(text, "serial.h", bits, pair.activation.bits, 0, pair.sum_bits)


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
        return CArithmetic(text, "bitmod.h", 8, 16, registers=(word,))
    if not (isinstance(activation, IntFormat) and activation.bits == 8 and activation.signed_codes):
        raise NotImplementedError(f"BitMoD's PE takes activations of FP16 or INT8, not {activation.name}")
    largest = max(largest_integer(fmt) << unit_exponent(fmt) + 1 for fmt in weight)  # in halves
    total = (group * largest * largest_integer(activation)).bit_length() + 1
    text = f"codesign::bitmod_int_arithmetic<{lanes}, {total}>"
    return CArithmetic(text, "bitmod.h", 8, 8, -1, total, (word,))


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
