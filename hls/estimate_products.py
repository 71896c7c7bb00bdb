"""PEs of products of two numbers: the module of ``hls/rtl`` for sums that are exact, and for those that are rounded."""

from __future__ import annotations

from dataclasses import dataclass

from hls.cpp_types import CppType
from hls.estimate_tables import table_figure
from hls.layer_options import IntMapping
from hwmodel.unit_cost import Figure
from hwmodel.unit_cost_design import PeDesign, design


@dataclass(frozen=True)
class PricedPe:
    """What computes a row of a tile.

    Args:
        design: the module of ``hls/rtl`` that is priced.
        count: of it.
        outputs: rows that these serve together.
        tables: LUTs of tables in front of all of them; ``None`` for none.
        stored_bits: flip-flops of one of them that are counted elsewhere, with the arrays.
        mapping: where its products are made.
        note: what the design is not; empty if it is the arithmetic itself.
    """

    design: PeDesign
    count: int = 1
    outputs: int = 1
    tables: Figure | None = None
    stored_bits: int = 0
    mapping: IntMapping = IntMapping.AUTO
    note: str = ""


def number_fields(made: CppType) -> tuple[int, int]:
    """Exponent and mantissa bits of a number, as ``hwmodel.unit_cost_design.operand`` has them.

    Raises:
        NotImplementedError: no PE takes it.
    """
    if made.name == "minifloat_number":
        return made.number(0), made.number(1)
    if made.name == "int_number":
        return 0, max(made.number(0) - 2 + made.number(1, 0), 0)
    if made.name in ("table_number", "mixture_number"):
        return 0, max(made.number(1) - 2, 0)
    if made.name == "olive_number":
        return 3, 2  # ASSUMPTION: four bits of significand, shifts of up to six
    raise NotImplementedError(f"no PE takes the number {made.name}")


def _tables(lanes: int, *numbers: CppType) -> Figure | None:
    """Constant tables in front of lanes whose numbers are looked up."""
    looked_up = [(one.number(0), one.number(1)) for one in numbers if one.name in ("table_number", "mixture_number")]
    return table_figure(lanes, looked_up) if looked_up else None


def _ordered(weight: tuple[int, int], activation: tuple[int, int]) -> dict[str, int]:
    pair = sorted((weight, activation), key=lambda one: (sum(one), one[0]))
    return {
        "WEIGHT_EXPONENT_BITS": pair[0][0], "WEIGHT_MANTISSA_BITS": pair[0][1],
        "ACTIVATION_EXPONENT_BITS": pair[1][0], "ACTIVATION_MANTISSA_BITS": pair[1][1],
    }  # fmt: skip


def float_pe(weight: CppType, activation: CppType, exponent: int, mantissa: int, lanes: int) -> PricedPe:
    """Lanes one behind another: each rounds once, so each is a MAC of its own."""
    fields = _ordered(number_fields(weight), number_fields(activation))
    one = design(
        "float_mac", **fields, ACCUMULATOR_EXPONENT_BITS=exponent, ACCUMULATOR_MANTISSA_BITS=mantissa,
        ACCUMULATOR_BITS=1 + exponent + mantissa,
    )  # fmt: skip
    return PricedPe(one, lanes, tables=_tables(lanes, weight))


def exact_pe(weight: CppType, activation: CppType, bits: int, lanes: int) -> PricedPe:
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
    fields = _ordered(number_fields(weight), number_fields(activation))
    one = design("minifloat_dot", **fields, LANES=lanes, ACCUMULATOR_BITS=bits)
    return PricedPe(one, tables=_tables(lanes, weight, activation))


def products_pe(products: CppType, lanes: int) -> PricedPe:
    """The PE of ``exact_products`` or ``rounded_products``."""
    weight, activation = products.type(0), products.type(1)
    if products.name == "rounded_products":
        return float_pe(weight, activation, products.number(2), products.number(3), lanes)
    return exact_pe(weight, activation, products.number(2), lanes)
