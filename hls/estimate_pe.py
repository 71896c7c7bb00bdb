"""PEs of an exported layer: the module of ``hls/rtl`` that stands for the C++ type of an arithmetic, and its tables.

A PE is read out of the type that the plan picked, so that what is priced is what is compiled. Products of two numbers
are ``hls.estimate_products``'s, books ``hls.estimate_book``'s.
"""

from __future__ import annotations

from dataclasses import replace

from hls.bitmod_arithmetic import BITMOD_LANES
from hls.cpp_types import CppType, parse_type
from hls.estimate_book import book_pe
from hls.estimate_products import PricedPe, exact_pe, float_pe, number_fields, products_pe
from hls.layer_options import IntMapping
from hwmodel.unit_cost import Figure, Origin, UnitCost, price_pe
from hwmodel.unit_cost_design import design
from hwmodel.unit_cost_integers import tree_bits


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
        return exact_pe(made.type(0), made.type(1), number(3), number(2))
    if made.name == "float_arithmetic":
        return float_pe(made.type(0), made.type(1), number(3), number(4), number(2))
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
        return book_pe(made)
    if made.name == "mixture_arithmetic":
        return _mixture_pe(made.type(0), number(1), number(2))
    if made.name in ("olive_arithmetic", "olive_mixture_arithmetic"):
        mixture = made.name == "olive_mixture_arithmetic"
        flint, products, lanes = (1, made.type(0), number(1)) if mixture else (number(0), made.type(1), number(2))
        if products.name == "exact_products" and products.type(1).name == "int_number":
            note = "one of OliVe's two decoders" if mixture else ""
            return PricedPe(design("olive_dot", FLINT=flint, LANES=lanes, ACCUMULATOR_BITS=32), note=note)
        return replace(products_pe(products, lanes), note="OliVe's decoders not counted")
    raise NotImplementedError(f"no PE is known for {made.name}")


def _mixture_pe(products: CppType, selector_bits: int, lanes: int) -> PricedPe:
    """Weights of several formats behind a selector: the RTL of exactly that where there is one."""
    weight, activation = products.type(0), products.type(1)
    widths = {"CODE_BITS": weight.number(0), "SELECTOR_BITS": selector_bits, "ENTRY_BITS": weight.number(1)}
    if products.name == "rounded_products":
        fp16 = activation.name == "minifloat_number" and number_fields(activation) == (5, 10)
        if fp16 and (products.number(2), products.number(3)) == (8, 23):
            return PricedPe(design("mixture_float_mac", **widths, ACCUMULATOR_BITS=32), lanes)
    elif activation.name == "int_number" and not activation.number(1, 0):
        one = design(
            "mixture_dot", **widths, ACTIVATION_BITS=activation.number(0), LANES=lanes,
            ACCUMULATOR_BITS=products.number(2),
        )  # fmt: skip
        return PricedPe(one)
    return products_pe(products, lanes)


def _mapping(made: CppType) -> IntMapping:
    """The last argument of an integer arithmetic; ``AUTO`` where it is left out."""
    return IntMapping(made.type(5).name) if len(made.arguments) > 5 else IntMapping.AUTO


def _with_tables(pe: PricedPe, cost: UnitCost) -> UnitCost:
    """A PE with its share of the tables, and without what is counted elsewhere.

    Errors of a sum are at most the sum of both; a note says that something is not what was priced: no error is known.
    """
    luts, held = cost.luts, cost.flip_flops
    if luts is not None and cost.outside:
        luts = replace(luts, source=f"{luts.source}, a part larger than in any of them")
    if held is not None and pe.stored_bits:
        held = replace(held, value=held.value - pe.stored_bits, source=f"{held.source}, its table with the arrays")
    if luts is None or not (pe.tables or pe.note):
        return replace(cost, luts=luts, flip_flops=held)
    value, mean, worst, source = luts.value, luts.mean_error, luts.worst_error, luts.source
    if pe.tables is not None:
        value += pe.tables.value / pe.count
        source += f"; {pe.tables.source}"
        if mean is not None and worst is not None:
            mean, worst = mean + (pe.tables.mean_error or 0.0), worst + (pe.tables.worst_error or 0.0)
    if pe.note:
        mean, worst, source = None, None, f"{source}; {pe.note}"
    return replace(cost, flip_flops=held, luts=Figure(value, Origin.COMPOSED, mean, worst, source))


def pe_cost(pe: PricedPe) -> UnitCost:
    """LUTs, flip-flops and DSPs of one PE, tables in front of it included.

    Products in DSPs are counted by ``price_pe``: one in each DSP, or two. What adds them up stays in LUTs, as no pragma
    puts it elsewhere: carry chains of the tree and the accumulator, and for two products in a DSP also what puts both
    factors into one port and what gives back the borrowed bit. A tool that adds in the DSPs' cascade saves them.

    >>> cost = pe_cost(pe_of("codesign::int_arithmetic<4, 8, false, 16, 18, codesign::int_mapping::dsp>"))
    >>> cost.dsps.value, cost.luts.value == tree_bits(12, 16) + 18
    (16.0, True)
    """
    if pe.mapping not in (IntMapping.DSP, IntMapping.DSP_PAIR):
        return _with_tables(pe, price_pe(pe.design))
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
