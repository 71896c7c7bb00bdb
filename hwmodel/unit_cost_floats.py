"""Parts of PEs that multiply floats: significand products, the shift into fixed point, float accumulators."""

from __future__ import annotations

import math
from functools import cache

from hwmodel.unit_cost_books import constant_luts
from hwmodel.unit_cost_design import PeDesign, design, float_range
from hwmodel.unit_cost_integers import Parts, Pricer, table_parts, tree_bits, unsigned_product


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


def multiplier_parts(one: PeDesign, price: Pricer) -> Parts:
    """Significand product, sum of the shifts, sign.

    Exponents of one bit shift nothing, so that a wider one beside them is only decoded; two wider ones are added.
    """
    we, wm, ae, am = float_fields(one)
    lanes, wider = one.lanes, [e for e in (we, ae) if e > 1]
    added = len(wider) == 2
    return {
        "product": lanes * price(unsigned_product(wm + 1, am + 1)),
        "exponents": float(lanes * len(wider)),
        "wide_exponents": float(lanes * sum(e > 2 for e in wider)),
        "exponent_bits": float(lanes * sum(max(e - 3, 0) for e in wider)),
        "exponent_sum": float(lanes * added * max(we, ae)),
        "sign": float(lanes),
    }


def fixed_point_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """The product in fixed point, and its exact accumulation."""
    we, wm, ae, am = float_fields(one)
    largest = float_range(we) + float_range(ae)
    signed = wm + am + (3 if min(wm, am) else 2)  # significand product and sign; by a power of two a bit less
    width = wm + am + 3 + largest
    lanes = one.lanes
    parts = multiplier_parts(one, price)
    parts["hidden_bits"] = float(lanes * sum(e > 1 and m > 0 for e, m in ((we, wm), (ae, am))))
    parts["negation"] = float(lanes * signed)
    if wm + am == 0:  # signed powers of two: each bit is a function of the shift and the sign
        parts["one_hot"] = float(lanes * width)
    elif lut:
        sites, last = shift_luts(signed, largest)
        if one.family == "minifloat_product" and max(wm, am) == 1:
            # at most six magnitudes: a bit of the product is a function of them and the shift, no stage stands alone
            del parts["negation"]
            lone = max(largest - 6, 0) * (min(we, ae) < 2)
            return parts | {"few_bits": float(width), "few_shift": sites + last, "few_lone": float(lone)}
        parts["shift"], parts["last_shift"] = lanes * sites, lanes * last
        # a lone exponent of four bits or more is folded into the shifter, which ends up larger than with two
        parts["lone_exponent"] = float(lanes * max(largest - 6, 0) * (min(we, ae) < 2))
        if one.family == "minifloat_product":
            # flows that make the shifter into gates share it with what stands before: no whole stages are left.
            # Tried and lost before an accumulator (Kulisch MACs: worst 17 % instead of 14 %)
            parts["spread"] = signed * math.log2(1 + largest)
            parts["reach"] = float(signed * largest)
    else:
        parts["shift"] = float(lanes * shift_muxes(signed, largest))
        parts["range"] = float(lanes * width * largest.bit_length())
    if one.family == "minifloat_dot":
        # tried and lost in cells: the gates that clear an accumulator, as for integers (SG13G2: 2.8 % instead of 1.6 %)
        adders = float(tree_bits(width, lanes) + one.get("ACCUMULATOR_BITS"))
        parts["accumulator" if lut else "adder_bits"] = adders
    return parts


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
        parts["constant" if lut else "table"] = one.get("ENTRY_BITS") * (constant_luts(inputs) if lut else 1 << inputs)
    if family == "codebook_float_mac":
        parts |= table_parts(one.get("CODE_BITS", 4), 16, 1, written=bool(one.get("PROGRAMMABLE")), lut=lut)
    return parts
