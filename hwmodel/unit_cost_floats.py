"""Parts of PEs that multiply floats: significand products, the shift into fixed point, float accumulators."""

from __future__ import annotations

import math
from functools import cache

from hwmodel.unit_cost_design import PeDesign, design, float_range
from hwmodel.unit_cost_integers import Parts, Pricer, array_parts, multiplier_luts, tree_bits


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


def _small_product_luts(p: int, q: int) -> float:
    """Unsigned; products of at most six signals are plain LUTs, about one for each bit of the product."""
    if min(p, q) == 1:
        return max(p, q) / 2
    return float(p + q - 1 + (p + q > 5) if p + q <= 6 else multiplier_luts(p, q, unsigned=True))


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
    sides = [f"{side}_{part}_BITS" for side in ("WEIGHT", "ACTIVATION") for part in ("EXPONENT", "MANTISSA")]
    return one.get(sides[0]), one.get(sides[1]), one.get(sides[2]), one.get(sides[3])


def multiplier_parts(one: PeDesign, lut: bool) -> Parts:
    """Parts of a significand product with its exponents and sign."""
    we, wm, ae, am = float_fields(one)
    p, q = wm + 1, am + 1
    lanes = one.lanes
    parts: Parts = {
        "exponents": float(lanes * sum(e > 1 for e in (we, ae))),
        "wide_exponents": float(lanes * sum(e > 2 for e in (we, ae))),
        "exponent_bits": float(lanes * sum(max(e - 3, 0) for e in (we, ae))),
        "sign": float(lanes),
    }
    if lut:
        return {"product": lanes * _small_product_luts(p, q), **parts}
    return {**array_parts(p, q, lanes, unsigned=True), **parts}


def fixed_point_parts(one: PeDesign, lut: bool) -> Parts:
    """Parts of a product shifted into fixed point, and of the tree and exact accumulator that follow."""
    we, wm, ae, am = float_fields(one)
    largest = float_range(we) + float_range(ae)
    signed = wm + am + (3 if min(wm, am) else 2)  # significand product and sign; by a power of two a bit less
    width = wm + am + 3 + largest
    lanes = one.lanes
    parts = multiplier_parts(one, lut)
    parts["hidden_bits"] = float(lanes * sum(e > 1 and m > 0 for e, m in ((we, wm), (ae, am))))
    parts["negation"] = float(lanes * signed)
    if wm + am == 0:  # signed powers of two: each bit is a function of the shift and the sign
        parts["one_hot"] = float(lanes * width)
    elif lut:
        sites, last = shift_luts(signed, largest)
        parts["shift"], parts["last_shift"] = lanes * sites, lanes * last
    else:
        parts["shift"] = float(lanes * shift_muxes(signed, largest))
        parts["range"] = float(lanes * width * largest.bit_length())
    if one.family == "minifloat_dot":
        adders = float(tree_bits(width, lanes) + one.get("ACCUMULATOR_BITS"))
        parts["accumulator" if lut else "adder_bits"] = adders
    return parts


def _window(one: PeDesign) -> Parts:
    """A float accumulator's window: addend, guard bits, room above; both shifters; the leading-zero count.

    Sums: ``hls/rtl/float_accumulate.sv``.
    """
    we, wm, ae, am = float_fields(one)
    exponent_bits = one.get("ACCUMULATOR_EXPONENT_BITS", 8)
    mantissa_bits = one.get("ACCUMULATOR_MANTISSA_BITS", 23)
    signed = wm + am + 3
    lanes = one.lanes
    if one.family in ("mx_block_dot", "nvfp4_block_dot") or lanes > 1:
        block = one.get("BLOCK", 16 if one.family == "nvfp4_block_dot" else lanes)
        largest = float_range(we) + float_range(ae)
        magnitude = signed + largest + (block - 1).bit_length()
        adders = tree_bits(signed + largest, lanes) + (magnitude if block > lanes else 0) + magnitude
        if one.family == "nvfp4_block_dot":
            adders += magnitude + 4 * 4  # the product of two scales' significands of four bits
            magnitude += 8
    else:
        magnitude, adders = wm + am + 2, 0
    window = 2 * mantissa_bits + magnitude + 7
    return {
        "window": float(window),
        "window_muxes": window * math.log2(window),
        "exponent": float(exponent_bits),
        "adders": float(adders),
    }


def float_accumulated_parts(one: PeDesign, price: Pricer) -> Parts:
    """Parts of products that are added in a float accumulator."""
    we, wm, ae, am = float_fields(one)
    block = one.family in ("mx_block_dot", "nvfp4_block_dot") or one.lanes > 1
    sides = (("WEIGHT_EXPONENT", we), ("WEIGHT_MANTISSA", wm), ("ACTIVATION_EXPONENT", ae), ("ACTIVATION_MANTISSA", am))
    fields = {f"{side}_BITS": bits for side, bits in sides} | {"ACCUMULATOR_BITS": 0}
    product = design("minifloat_product" if block else "minifloat_multiplier", **fields)
    if one.family == "mx_block_dot" and we == 0:
        product = design("int_multiplier", WEIGHT_BITS=wm + 1, ACTIVATION_BITS=am + 1, ACCUMULATOR_BITS=0)
    parts = {"products": one.lanes * price(product), **_window(one)}
    if one.family == "codebook_float_mac":
        parts["table"] = 16.0 * (1 << one.get("CODE_BITS", 4)) * (1 if one.get("PROGRAMMABLE") else 0)
    return parts
