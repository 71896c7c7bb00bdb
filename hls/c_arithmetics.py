"""The one table from pairs of formats to the C++ arithmetics that multiply them (``docs/hls.md``).

``arithmetic_of``: integers, floats, tables and pairs of codes in parallel or bit by bit; beside FP16 and BF16 every
product is rounded once into a float, beside anything else sums are exact. BitMoD's bit-serial PE is
``hls.bitmod_arithmetic``'s, weights whose format a selector picks ``hls.mixture``'s. A pair without an arithmetic is a
``NotImplementedError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from datatypes.format import CodebookFormat, Format, IntFormat, LearnedFormat, VectorFormat
from datatypes.outlier_victim import OutlierVictimFormat
from hls.c_types import (
    FLINTS,
    LEARNED,
    MAX_SUM_BITS,
    CArithmetic,
    flag,
    is_float_input,
    number_type,
    signed_bits,
    sum_bits,
    table_entries,
    table_type,
    unit_exponent,
)
from hls.cpp_types import parse_type
from hls.layer_options import IntMapping
from hwmodel.unit_cost import DSP_NARROW_BITS, DSP_WIDE_BITS
from hwmodel.unit_cost_design import Arithmetic


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
        return ("shift_mac.h",) if fmt.name in FLINTS else ("codebook.h",)
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


def tender_of(pair: Pair, sum_bits: int) -> CArithmetic:
    """Integers whose sums are shifted by one between groups of channels.

    Args:
        pair: both integers.
        sum_bits: of the largest sum of a row.

    Raises:
        NotImplementedError: other formats, or sums beyond 128 bits.
    """
    plain = _plain_integers(pair)
    if plain is None or sum_bits > MAX_SUM_BITS:
        raise NotImplementedError(
            f"channel groups are summed up as integers in at most {MAX_SUM_BITS} bits, "
            f"not {pair.weight.name} and {pair.activation.name} in {sum_bits}"
        )
    assert isinstance(pair.weight, IntFormat)
    text = f"codesign::tender_arithmetic<{plain}, {pair.lanes}, {sum_bits}>"
    return CArithmetic(text, ("shift_mac.h",), signed_bits(pair.weight), pair.activation.bits, 0, sum_bits)


def mapped(made: CArithmetic, mapping: IntMapping) -> CArithmetic:
    """An arithmetic whose products of integers are made where ``mapping`` says.

    Raises:
        NotImplementedError: its products are not those of plain integers, or two of them do not fit one DSP.

    >>> from datatypes.catalog import INTS
    >>> pair = Pair(INTS[4], INTS[8], lanes=16, group=64)
    >>> mapped(arithmetic_of(pair), IntMapping.DSP).type
    'codesign::int_arithmetic<4, 8, false, 16, 18, codesign::int_mapping::dsp>'
    """
    if mapping is IntMapping.AUTO:
        return made
    parsed = parse_type(made.type)
    if parsed.name not in _MAPPED:
        raise NotImplementedError(
            f"mapping must be auto for products that are not of plain integers ({parsed.name}), not {mapping.value}"
        )
    w, a = parsed.number(0), parsed.number(1)
    if mapping is IntMapping.DSP_PAIR:
        wide, narrow = pair_ports(w, a, unsigned=bool(parsed.number(2)))
        if wide > DSP_WIDE_BITS or narrow > DSP_NARROW_BITS:
            raise NotImplementedError(
                f"two products of {w} x {a} bits must fit the {DSP_WIDE_BITS} x {DSP_NARROW_BITS} bits of one DSP to "
                f"be mapped as dsp_pair, but take {wide} x {narrow}: use dsp"
            )
    return replace(made, type=f"{made.type[:-1]}, codesign::int_mapping::{mapping.value}>")


_MAPPED = ("int_arithmetic", "tender_arithmetic")


def pair_ports(weight_bits: int, activation_bits: int, *, unsigned: bool) -> tuple[int, int]:
    """Bits of both ports of a multiplier that makes two products of a sum, the wider one first (``int_pair``).

    Fields of a sum's bits lie one above the other, and the lower factor may borrow from the upper one.

    >>> pair_ports(4, 8, unsigned=False)
    (22, 18)
    """
    field = weight_bits + activation_bits + 1
    ports = (weight_bits + field + 1, activation_bits + int(unsigned) + field + 1)
    return max(ports), min(ports)


def _plain_integers(pair: Pair) -> str | None:
    """Widths of two integers in units of 1, and whether the activation is unsigned; ``None`` for any other pair."""
    w, a = pair.weight, pair.activation
    if isinstance(w, IntFormat) and isinstance(a, IntFormat) and w.step == a.step == 1.0:
        return f"{signed_bits(w)}, {a.bits}, {flag(not a.signed_codes)}"
    return None


def _numbers(pair: Pair) -> CArithmetic:
    """One element for each code on both sides."""
    w, a = pair.weight, pair.activation
    weight_bits = signed_bits(w) if isinstance(w, IntFormat) else w.bits
    plain = _plain_integers(pair)
    if plain is not None:
        return pair.made(f"codesign::int_arithmetic<{plain}, {pair.lanes}, {pair.sum_bits}>", "integer.h", weight_bits)
    numbers = f"{number_type(w, weight=True)}, {number_type(a)}, {pair.lanes}"
    if pair.rounded:
        text = f"codesign::float_arithmetic<{numbers}, {_widths(pair.accumulator)}>"
        return pair.made(text, "float_accumulate.h", weight_bits)
    return pair.made(f"codesign::minifloat_arithmetic<{numbers}, {pair.sum_bits}>", "minifloat.h", weight_bits)


def _olive(pair: Pair, weight: OutlierVictimFormat) -> CArithmetic:
    flint = flag(weight.normal_name == "flint4")
    element = f"codesign::olive_number<{flint}>"
    activation = element if pair.activation == weight else number_type(pair.activation)
    text = f"codesign::olive_arithmetic<{flint}, {pair.products(element, activation)}, {pair.lanes}>"
    return pair.made(text, "shift_mac.h")


def _book(pair: Pair, weight: LearnedFormat | VectorFormat) -> CArithmetic:
    """Codes of several elements, and learned tables, which are loaded as FP16."""
    if isinstance(weight, LearnedFormat):
        element = number_type(LEARNED)
        book = f"codesign::loaded_book<{weight.bits}, {element}, {weight.dim}>"
    else:
        entries, bits, unit = table_entries(weight)
        element = f"codesign::int_number<{bits}, false, {unit}>"
        book = f"codesign::fixed_book<{weight.bits}, {element}, {table_type(entries)}, {weight.dim}>"
    products = pair.products(element, number_type(pair.activation))
    text = f"codesign::codebook_arithmetic<{book}, {products}, {flag(pair.along_outputs)}, {pair.lanes}>"
    return pair.made(text, "codebook.h")


def _serial(pair: Pair, name: str, more: str) -> CArithmetic:
    plain = _plain_integers(pair)
    if plain is None or not isinstance(pair.weight, IntFormat):
        raise NotImplementedError(
            f"serial arithmetics take integers on both sides, not {pair.weight.name} and {pair.activation.name}"
        )
    text = f"codesign::{name}<{plain}, {more}{pair.lanes}, {pair.sum_bits}>"
    return pair.made(text, "serial.h", signed_bits(pair.weight))


_SERIAL: Mapping[Arithmetic, tuple[str, str]] = {
    Arithmetic.WEIGHT_SERIAL: ("bit_serial_arithmetic", "true, "),
    Arithmetic.ACTIVATION_SERIAL: ("bit_serial_arithmetic", "false, "),
    Arithmetic.BOTH_SERIAL: ("bit_bit_arithmetic", ""),
    Arithmetic.TERM_SERIAL: ("term_serial_arithmetic", ""),
}
