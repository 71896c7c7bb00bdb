"""Parts of PEs that multiply floats: significand products, the shift into fixed point, float accumulators."""

from __future__ import annotations

import math
from functools import cache

from hwmodel.unit_cost_books import LUT_INPUTS, constant_luts
from hwmodel.unit_cost_design import PeDesign, design, float_range
from hwmodel.unit_cost_integers import Parts, Pricer, sum_bits, table_parts, tree_bits, unsigned_product


@cache
def shift_luts(width: int, largest: int) -> tuple[float, float]:
    """LUT6s of a left shift of a signed number of ``width`` bits by 0 to ``largest``, in four-way muxes.

    Low stages come first. A bit that reads at most five signals (few sources near the ends) takes half a LUT.

    Args:
        width: of the number.
        largest: shift; the result has ``width + largest`` bits.

    Returns:
        Those of the four-way stages, and of a last two-way stage, part of which an accumulator's LUTs absorb.
    """
    stages, reach = largest.bit_length(), width
    sites, last = 0.0, 0.0
    for stage in range(0, stages, 2):
        selects = min(2, stages - stage)
        shifts = [step << stage for step in range(1 << selects)]
        wide = min(width + largest, reach + shifts[-1])
        for bit in range(wide):
            sources = {min(bit - shift, reach - 1) for shift in shifts if bit >= shift}
            site = 1.0 if len(sources) + selects > 5 else 0.5
            if selects == 1:
                last += site
            else:
                sites += site
        reach = wide
    return sites, last


def shift_muxes(width: int, largest: int) -> int:
    """Two-way muxes of the same shift, low stages first.

    >>> shift_muxes(5, 3)
    14
    """
    return sum(width + min(largest, (2 << stage) - 1) for stage in range(largest.bit_length()))


def float_fields(one: PeDesign) -> tuple[int, int, int, int]:
    """Exponent and mantissa bits of the weight, then of the activation."""
    if one.family == "mx_block_dot":
        e, m = one.get("EXPONENT_BITS"), one.get("MANTISSA_BITS")
        return e, m, e, m
    if one.family == "nvfp4_block_dot":
        return 2, 1, 2, 1
    if one.family == "codebook_float_mac":
        return 5, 10, 5, 10
    if one.family == "float_int_mac":
        return 0, one.get("WEIGHT_BITS") - 1, 5, 10
    if one.family == "mixture_float_mac":
        return 0, one.get("ENTRY_BITS") - 1, 5, 10
    sides = [f"{side}_{part}_BITS" for side in ("WEIGHT", "ACTIVATION") for part in ("EXPONENT", "MANTISSA")]
    return one.get(sides[0]), one.get(sides[1]), one.get(sides[2]), one.get(sides[3])


def multiplier_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """Significand product, sum of the shifts, sign.

    Exponents of one bit shift nothing, so that a wider one beside them is only decoded; two wider ones are added. In
    cells the product of significands costs part of what it does alone and part by its adders.
    """
    we, wm, ae, am = float_fields(one)
    lanes, wider = one.lanes, [e for e in (we, ae) if e > 1]
    added = len(wider) == 2
    parts = {
        "product": lanes * price(unsigned_product(wm + 1, am + 1)),
        "wide_exponents": float(lanes * sum(e > 2 for e in wider)),
    }
    if not lut:
        return parts | {
            "product_adders": float(lanes * wm * am),
            "product_row": float(lanes * (min(wm, am) + 1)),
            "exponent_sum": float(lanes * added * (we + ae)),
            "exponent_bits": float(lanes * sum(max(e - 2, 0) for e in wider)),
        }
    return parts | {
        "exponents": float(lanes * len(wider)),
        "exponent_bits": float(lanes * sum(max(e - 3, 0) for e in wider)),
        "exponent_sum": float(lanes * added * max(we, ae)),
        "sign": float(lanes),
    }


def shift_parts(width: int, largest: int, lanes: int) -> Parts:
    """Of ``lanes`` shifts of a signed number by up to ``largest``: levels of its bits, muxes of these, and its reach.

    A shifter of ``n`` places is log2 n levels of muxes or, where synthesis flattens it, a gate for each bit and place;
    netlists are between. With two-way muxes alone long shifts come out too dear: ends of the levels are constant.
    """
    return {
        "levels": lanes * width * math.log2(1 + largest),
        "shift_muxes": float(lanes * shift_muxes(width, largest)),
        "reach": float(lanes * width * largest),
    }


def fixed_point_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """The product in fixed point, and its exact accumulation.

    Tried and lost on LUTs: four-way muxes with the constant ones among their ends counted, the last stage apart, and
    powers of two by themselves (dot products 6.4 instead of 4 %, with twelve prices instead of nine).
    """
    we, wm, ae, am = float_fields(one)
    largest = float_range(we) + float_range(ae)
    signed = wm + am + (3 if min(wm, am) else 2)  # significand product and sign; by a power of two a bit less
    width = wm + am + 3 + largest
    lanes, bits = one.lanes, one.get("ACCUMULATOR_BITS")
    narrow, wide = sorted((wm, am))
    if not lut:
        parts = {
            "product": lanes * price(unsigned_product(wm + 1, am + 1)),
            "product_adders": float(lanes * wm * am),
            "hidden_rows": float(lanes * ((we > 1) * am + (ae > 1) * wm)),  # of a hidden bit that is decoded first
            "exponent_sum": float(lanes * (min(we, ae) > 1) * (we + ae)),
            "levels": lanes * signed * math.log2(1 + largest),
            "width": float(lanes * width),
            "long_width": float(lanes * width * (max(we, ae) > 2)),
        }
        if one.family == "minifloat_product":
            return parts | {"narrow_mantissa": float(narrow), "negation": float(signed)}
        # an accumulator of its own price: OSU's is cleared by gates, as with integers, the others' are not
        sums = {"sum_bits": sum_bits(width, lanes, bits), "accumulator_bits": float(bits)}
        return parts | {"product_row": float(lanes * (narrow + 1))} | sums
    if one.family == "minifloat_product":
        return _product_alone(one, signed, largest)
    return {
        **_significand_luts(one, price),
        "wide_significand": float(lanes * wide),
        **shift_parts(signed, largest, lanes),
        "accumulator": float(tree_bits(width, lanes) + bits),
    }


def _significand_luts(one: PeDesign, price: Pricer) -> Parts:
    """LUTs before the shifter: two counts of the product, as it costs alone and by its row pairs, and the exponents."""
    we, wm, ae, am = float_fields(one)
    lanes, (narrow, wide) = one.lanes, sorted((wm, am))
    return {
        "product": lanes * price(unsigned_product(wm + 1, am + 1)),
        "row_pairs": float(lanes * ((wide + 2) // 2) * (narrow + 1)),
        "hidden_bits": float(lanes * sum(e > 1 and m > 0 for e, m in ((we, wm), (ae, am)))),
        "wide_exponents": float(lanes * sum(e > 2 for e in (we, ae))),
        "exponent_bits": float(lanes * sum(max(e - 3, 0) for e in (we, ae))),
    }


def _product_alone(one: PeDesign, signed: int, largest: int) -> Parts:
    """LUTs of a product in fixed point that nothing adds up: three kinds with prices of their own.

    Up to six signals each bit is one function. A power of two only shifts the other significand: places of the shift,
    mantissa bits for each exponent bit that moves them, and the sum of exponents where both have one. The others are
    multiplied as well: a price for each adder of the mantissas, two-way muxes of the signed significand, and levels of
    mantissa bits, log2 of the places and one more: where nothing is shifted, a level for the sign.

    Tried and lost: mantissas of one bit at most apart, with a price for each bit of the product (16 prices, four of a
    power of two being levels and muxes of the signed significand: worst 20 instead of 15 %); the product as it costs
    alone, or row pairs, instead of adders (worst 20 %); one form for powers of two and the others (worst 17 %).
    """
    we, wm, ae, am = float_fields(one)
    if we + wm + ae + am + 2 <= LUT_INPUTS:
        return {"plain": float(wm + am + 3 + largest)}
    exponent_sum = float((we + ae) * (min(we, ae) > 1))
    if min(wm, am) == 0:
        return {
            "power_range": float(largest),
            "power_shift": float(max(wm, am) * max(we, ae)),
            "power_exponent_sum": exponent_sum,
        }
    return {
        "adders": float(wm * am),
        "exponent_sum": exponent_sum,
        "range": float(largest),
        "shift_muxes": float(shift_muxes(signed, largest)),
        "mantissa_levels": (wm + am) * math.log2(2 + largest),
    }


_SCALE_BITS = 4  # significand of a UE4M3 scale


def _float_fields(we: int, wm: int, ae: int, am: int) -> dict[str, int]:
    sides = (("WEIGHT_EXPONENT", we), ("WEIGHT_MANTISSA", wm), ("ACTIVATION_EXPONENT", ae), ("ACTIVATION_MANTISSA", am))
    return {f"{side}_BITS": bits for side, bits in sides}


def _float_product(we: int, wm: int, ae: int, am: int) -> PeDesign:
    return design("minifloat_multiplier", **_float_fields(we, wm, ae, am), ACCUMULATOR_BITS=0)


def _block_dot(one: PeDesign) -> tuple[PeDesign, int]:
    """Products of a block and their tree, without an accumulator, and the width of a product.

    Minifloats are those of a Kulisch MAC: adders behind a shifter absorb part of it (products alone and a tree were
    tried and lost: on LUTs E5M2 of 16 lanes 14 instead of 7 %).
    """
    we, wm, ae, am = float_fields(one)
    lanes = one.lanes
    if one.family == "mx_block_dot" and we == 0:  # two's complement elements
        integers = {"WEIGHT_BITS": wm + 1, "ACTIVATION_BITS": am + 1}
        return design("int_dot", **integers, LANES=lanes, ACCUMULATOR_BITS=0), wm + am + 2
    dot = design("minifloat_dot", **_float_fields(we, wm, ae, am), LANES=lanes, ACCUMULATOR_BITS=0)
    return dot, wm + am + 3 + float_range(we) + float_range(ae)


def float_accumulated_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """Products, exact sums of a block, and the window of the float accumulator (``hls/rtl/float_accumulate.sv``).

    The window holds addend, guard bits, and room above; both shifters and the leading-zero count follow its width.
    """
    we, wm, ae, am = float_fields(one)
    lanes, family = one.lanes, one.family
    mantissa_bits = one.get("ACCUMULATOR_MANTISSA_BITS", 23)
    adders = 0
    if family in ("mx_block_dot", "nvfp4_block_dot") or lanes > 1:
        block = one.get("BLOCK", 16 if family == "nvfp4_block_dot" else lanes)
        dot, term = _block_dot(one)
        magnitude = term + (block - 1).bit_length()
        adders = (magnitude if block > lanes else 0) + magnitude  # the last one for the sign
        products = price(dot)
        if family == "nvfp4_block_dot":  # the product of both scales is multiplied into the sum
            products += price(unsigned_product(magnitude, 2 * _SCALE_BITS)) + price(_float_product(4, 3, 4, 3))
            magnitude += 2 * _SCALE_BITS
    else:
        magnitude = wm + am + 2
        products = price(_float_product(we, wm, ae, am))
    window = 2 * mantissa_bits + magnitude + 7
    parts = {
        "products": products,
        "window": float(window),
        "window_muxes": window * math.log2(window),
        "accumulator" if lut else "adder_bits": float(adders),
    }
    if family == "mixture_float_mac":
        inputs = one.get("CODE_BITS") + one.get("SELECTOR_BITS")
        entry = one.get("ENTRY_BITS")
        parts |= {"constant": entry * constant_luts(inputs)} if lut else {"constant": float(entry << inputs)}
    if family == "codebook_float_mac":
        parts |= table_parts(one.get("CODE_BITS", 4), 16, 1, written=bool(one.get("PROGRAMMABLE")), lut=lut)
    return parts
