"""PEs of an exported layer: the module of ``hls/rtl`` that stands for the C++ type of an arithmetic, and its tables.

A PE is read out of the type that the plan picked, so that what is priced is what is compiled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hls.bitmod_arithmetic import BITMOD_LANES
from hls.cpp_types import CppType, parse_type
from hls.estimate_buffers import REGISTER_TABLE_BITS
from hls.layer_options import IntMapping
from hwmodel.unit_cost import Figure, Origin, UnitCost, price_pe
from hwmodel.unit_cost_design import PeDesign, design
from hwmodel.unit_cost_integers import tree_bits

_ENTRY_INPUTS = 6  # of a LUT6


@dataclass(frozen=True)
class PricedPe:
    """What computes one row of a tile.

    Args:
        design: the module of ``hls/rtl`` that is priced.
        count: of it for a row.
        table_luts: LUTs of constant tables in front of it; 0 for none.
        mapping: where its products are made.
        note: what the design is not; empty if it is the arithmetic itself.
    """

    design: PeDesign
    count: int = 1
    table_luts: float = 0.0
    note: str = ""
    mapping: IntMapping = IntMapping.AUTO


def _number(made: CppType) -> tuple[int, int]:
    """Exponent and mantissa bits of a number, as ``hwmodel.unit_cost_design.operand`` has them."""
    if made.name == "minifloat_number":
        return made.number(0), made.number(1)
    if made.name == "int_number":
        return 0, max(made.number(0) - 2 + made.number(1, 0), 0)
    if made.name in ("table_number", "mixture_number"):
        return 0, max(made.number(1) - 2, 0)
    if made.name == "olive_number":
        return 3, 2  # ASSUMPTION: four bits of significand, shifts of up to six
    raise NotImplementedError(f"no PE takes the number {made.name}")


def _table_luts(made: CppType) -> float:
    """Constant entries in front of a lane: a LUT6 a bit up to six inputs, twice as many for each bit more."""
    if made.name not in ("table_number", "mixture_number"):
        return 0.0
    return float(made.number(1) << max(made.number(0) - _ENTRY_INPUTS, 0))


def _ordered(weight: tuple[int, int], activation: tuple[int, int]) -> dict[str, int]:
    pair = sorted((weight, activation), key=lambda one: (sum(one), one[0]))
    return {
        "WEIGHT_EXPONENT_BITS": pair[0][0], "WEIGHT_MANTISSA_BITS": pair[0][1],
        "ACTIVATION_EXPONENT_BITS": pair[1][0], "ACTIVATION_MANTISSA_BITS": pair[1][1],
    }  # fmt: skip


def _float_pe(weight: CppType, activation: CppType, exponent: int, mantissa: int, lanes: int) -> PricedPe:
    """Lanes one behind another: each rounds once, so each is a MAC of its own."""
    fields = _ordered(_number(weight), _number(activation))
    one = design(
        "float_mac", **fields, ACCUMULATOR_EXPONENT_BITS=exponent, ACCUMULATOR_MANTISSA_BITS=mantissa,
        ACCUMULATOR_BITS=1 + exponent + mantissa,
    )  # fmt: skip
    return PricedPe(one, lanes, _table_luts(weight) * lanes)


def _exact_pe(weight: CppType, activation: CppType, bits: int, lanes: int) -> PricedPe:
    """Numbers added exactly: the Kulisch unit, behind tables where codes are looked up."""
    if weight.name == "flint_number":
        if activation.name == "flint_number":
            return PricedPe(design("flint_flint_dot", BITS=weight.number(0), LANES=lanes, ACCUMULATOR_BITS=bits))
        if activation.name == "int_number":
            one = design(
                "flint_int_dot", BITS=weight.number(0), ACTIVATION_BITS=activation.number(0), LANES=lanes,
                ACCUMULATOR_BITS=bits,
            )  # fmt: skip
            return PricedPe(one)
    if weight.name == "table_number" and activation.name == "int_number":
        one = design(
            "codebook_dot", CODE_BITS=weight.number(0), ENTRY_BITS=weight.number(1),
            ACTIVATION_BITS=activation.number(0), LANES=lanes, PROGRAMMABLE=0, ACCUMULATOR_BITS=bits,
        )  # fmt: skip
        return PricedPe(one)
    fields = _ordered(_number(weight), _number(activation))
    tables = _table_luts(weight) + _table_luts(activation)
    note = "tables in front of a Kulisch unit" if tables else ""
    return PricedPe(design("minifloat_dot", **fields, LANES=lanes, ACCUMULATOR_BITS=bits), 1, tables * lanes, note)


def _products_pe(products: CppType, lanes: int) -> PricedPe:
    weight, activation = products.type(0), products.type(1)
    if products.name == "rounded_products":
        return _float_pe(weight, activation, products.number(2), products.number(3), lanes)
    return _exact_pe(weight, activation, products.number(2), lanes)


def pe_of(arithmetic: str) -> PricedPe:
    """The PE of a row, from the C++ type of its arithmetic.

    >>> pe_of("codesign::int_arithmetic<4, 8, false, 16, 18>").design.name
    'int_dot(accumulator_bits=18, activation_bits=8, lanes=16, weight_bits=4)'

    Raises:
        NotImplementedError: no module computes it.
    """
    made = parse_type(arithmetic)
    number = made.number
    if made.name == "int_arithmetic":
        w, a = number(0), number(1)
        narrow, wide = (w, a) if number(2) else (min(w, a), max(w, a))
        one = design(
            "int_dot", WEIGHT_BITS=narrow, ACTIVATION_BITS=wide, ACTIVATION_UNSIGNED=number(2), LANES=number(3),
            ACCUMULATOR_BITS=number(4),
        )  # fmt: skip
        return PricedPe(one, mapping=_mapping(made))
    if made.name == "tender_arithmetic":
        one = design(
            "tender_dot", WEIGHT_BITS=number(0), ACTIVATION_BITS=number(1), ACTIVATION_UNSIGNED=number(2),
            LANES=number(3), ACCUMULATOR_BITS=number(4),
        )  # fmt: skip
        return PricedPe(one, mapping=_mapping(made))
    if made.name == "minifloat_arithmetic":
        return _exact_pe(made.type(0), made.type(1), number(3), number(2))
    if made.name == "float_arithmetic":
        return _float_pe(made.type(0), made.type(1), number(3), number(4), number(2))
    if made.name == "bit_serial_arithmetic":
        serial, parallel = (number(0), number(1) + number(2)) if number(3) else (number(1), number(0))
        one = design(
            "bit_serial_dot", PARALLEL_BITS=parallel, SERIAL_BITS=serial, LANES=number(4), ACCUMULATE=1,
            ACCUMULATOR_BITS=number(5),
        )  # fmt: skip
        return PricedPe(one)
    if made.name == "bit_bit_arithmetic":
        return PricedPe(design("bit_bit_dot", LANES=number(3), ACCUMULATOR_BITS=number(4)))
    if made.name == "term_serial_arithmetic":
        shift = max((number(0) - 1).bit_length(), 1)
        one = design(
            "term_serial_dot", ACTIVATION_BITS=number(1), SHIFT_BITS=shift, LANES=number(3), ACCUMULATOR_BITS=number(4)
        )
        return PricedPe(one)
    if made.name == "bitmod_arithmetic":
        return PricedPe(design("bitmod_pe", LANES=BITMOD_LANES, ACCUMULATOR_BITS=27))
    if made.name == "bitmod_int_arithmetic":
        return PricedPe(design("bitmod_int_accumulator", LANES=BITMOD_LANES, ACCUMULATOR_BITS=24))
    if made.name == "codebook_arithmetic":
        return _book_pe(made)
    if made.name == "mixture_arithmetic":
        return _mixture_pe(made.type(0), number(1), number(2))
    if made.name in ("olive_arithmetic", "olive_mixture_arithmetic"):
        mixture = made.name == "olive_mixture_arithmetic"
        flint, products, lanes = (1, made.type(0), number(1)) if mixture else (number(0), made.type(1), number(2))
        if products.name == "exact_products" and products.type(1).name == "int_number":
            note = "one of OliVe's two decoders" if mixture else ""
            return PricedPe(design("olive_dot", FLINT=flint, LANES=lanes, ACCUMULATOR_BITS=32), note=note)
        return replace(_products_pe(products, lanes), note="OliVe's decoders not counted")
    raise NotImplementedError(f"no PE is known for {made.name}")


def _mixture_pe(products: CppType, selector_bits: int, lanes: int) -> PricedPe:
    """Weights of several formats behind a selector: the RTL of exactly that where there is one."""
    weight, activation = products.type(0), products.type(1)
    widths = {"CODE_BITS": weight.number(0), "SELECTOR_BITS": selector_bits, "ENTRY_BITS": weight.number(1)}
    if products.name == "rounded_products":
        fp16 = activation.name == "minifloat_number" and _number(activation) == (5, 10)
        if fp16 and (products.number(2), products.number(3)) == (8, 23):
            return PricedPe(design("mixture_float_mac", **widths, ACCUMULATOR_BITS=32), lanes)
    elif activation.name == "int_number" and not activation.number(1, 0):
        one = design(
            "mixture_dot", **widths, ACTIVATION_BITS=activation.number(0), LANES=lanes,
            ACCUMULATOR_BITS=products.number(2),
        )  # fmt: skip
        return PricedPe(one)
    return _products_pe(products, lanes)


def _mapping(made: CppType) -> IntMapping:
    """The last argument of an integer arithmetic; ``AUTO`` where it is left out."""
    return IntMapping(made.type(5).name) if len(made.arguments) > 5 else IntMapping.AUTO


def pe_cost(pe: PricedPe) -> UnitCost:
    """LUTs, flip-flops and DSPs of a PE.

    Products in DSPs are counted by ``price_pe``: one in each DSP, or two. What adds them up stays in LUTs, as no pragma
    puts it elsewhere: carry chains of the tree and the accumulator, and for two products in a DSP also what puts both
    factors into one port and what gives back the borrowed bit. A tool that adds in the DSPs' cascade saves them.

    >>> cost = pe_cost(pe_of("codesign::int_arithmetic<4, 8, false, 16, 18, codesign::int_mapping::dsp>"))
    >>> cost.dsps.value, cost.luts.value == tree_bits(12, 16) + 18
    (16.0, True)
    """
    if pe.mapping not in (IntMapping.DSP, IntMapping.DSP_PAIR):
        return price_pe(pe.design)
    one, bits = pe.design, pe.design.get("ACCUMULATOR_BITS")
    w, a, lanes = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), one.lanes
    plain = design("int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=one.get("ACTIVATION_UNSIGNED"),
                   LANES=lanes, ACCUMULATOR_BITS=w + a)  # fmt: skip
    counted = price_pe(plain, dsp=True).dsps
    assert counted is not None
    source, adders = "carry chains of tree and accumulator", tree_bits(w + a, lanes) + bits
    dsps = counted.value
    if pe.mapping is IntMapping.DSP_PAIR:
        pairs, left = lanes // 2, lanes % 2
        dsps = float(pairs + left)
        # both ports' upper factors less what the lower ones borrow, and the borrowed bit of each middle field
        packing = pairs * (w + 1 + a + 1 + w + a + 1)
        adders = tree_bits(w + a + 1, pairs + left) + bits + packing
        source += ", packing of two products"

    def figure(value: float, said: str) -> Figure:
        return Figure(value, Origin.CLOSED_FORM, None, None, said)

    held = figure(float(bits), "the accumulator")
    return UnitCost(one, "lut6", figure(float(adders), source), held, figure(dsps, counted.source), None)


def _book_pe(made: CppType) -> PricedPe:
    """Vector and learned books: a table in front of the products of its elements, for one output.

    A code along the outputs feeds as many sums as it has elements: so many of these for each row of codes.
    """
    book, products, lanes = made.type(0), made.type(1), made.number(3)
    if book.name == "loaded_book":
        element, bits, dim = book.type(1), book.number(0), book.number(2)
        held = "registers" if bits <= REGISTER_TABLE_BITS else "memory, counted with the arrays,"
        note = f"a table of {held} in front of the products"
    else:
        element, bits, dim = book.type(1), book.number(0), book.number(3)
        note = "a table in front of the products"
    width = element.number(0) if element.name == "int_number" else 1 + element.number(0) + element.number(1)
    each: float = width * (1 << max(bits - _ENTRY_INPUTS, 0))
    if book.name == "loaded_book":
        each = width * (1 << bits) / 4 if bits <= REGISTER_TABLE_BITS else 0.0  # larger ones are memories
    inner = _products_pe(replace_weight(products, element), lanes)
    return replace(inner, table_luts=inner.table_luts + each * lanes, note=f"{note}, {dim} elements a code")


def replace_weight(products: CppType, element: CppType) -> CppType:
    """The same products with ``element`` as the weight."""
    return replace(products, arguments=(element, *products.arguments[1:]))
