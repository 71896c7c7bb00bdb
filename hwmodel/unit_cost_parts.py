"""Physical parts of a PE: what its LUTs and cells are proportional to. Counted from the architecture, never measured.

For each design a handful of amounts: sites of the significand product, muxes of the shift into fixed point, bits of
adders, window of a float accumulator. Fits (``hwmodel.unit_cost_fit``) put one non-negative price on each, so a wider
operand never costs less and a design outside the table stays positive.

On LUTs, a carry chain takes a LUT6 a bit, a four-way mux one, a three-input function half; the last two-way mux of a
shifter is absorbed by the LUT in front of the accumulator's carry chain (``docs/unit_costs.md``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

from hwmodel.unit_cost_design import PeDesign, design, float_range

Parts = dict[str, float]


# --- integers --------------------------------------------------------------------------------------------------------


def multiplier_luts(w: int, a: int, *, unsigned: bool = False) -> int:
    """LUT6s of an integer multiplier on carry chains: pairs of rows of the narrower operand, added one after another.

    Within 2 LUTs of netlists of 2 to 8 bits. Products of at most six signals are a plain LUT a bit, and one more for
    3 x 3 (synthesis finds seven); one-bit operands are AND gates, two to a LUT.

    Args:
        w, a: widths.
        unsigned: whether ``a`` has no sign: as the wider operand its rows need no sign extension, a bit a pair.

    >>> multiplier_luts(4, 8), multiplier_luts(8, 8), multiplier_luts(8, 8, unsigned=True), multiplier_luts(3, 3)
    (28, 66, 62, 7)
    """
    narrow, wide = min(w, a), max(w, a)
    if narrow == 1:
        return -(-wide // 2)
    if w + a <= 6:
        return w + a + (narrow > 2)
    pairs = -(-narrow // 2)
    saved = pairs if unsigned and w <= a and narrow > 2 else 0
    return narrow // 2 * (wide + 1) + (pairs - 1) * (wide + 2) - saved


def tree_bits(width: int, lanes: int) -> int:
    """Adder bits of an exact tree over ``lanes`` terms of ``width`` bits, each level one bit wider.

    >>> tree_bits(8, 4)
    28
    """
    if lanes == 1:
        return 0
    left, right = -(-lanes // 2), lanes // 2
    return tree_bits(width, left) + tree_bits(width, right) + width + (lanes - 1).bit_length()


def int_dot_luts(w: int, a: int, lanes: int, accumulator_bits: int, *, unsigned: bool = False) -> int:
    """LUT6s of a dot product: multipliers, adder tree, accumulator.

    >>> int_dot_luts(8, 8, 1, 26), int_dot_luts(4, 4, 16, 18)
    (92, 420)
    """
    return lanes * multiplier_luts(w, a, unsigned=unsigned) + tree_bits(w + a, lanes) + accumulator_bits


def _array_parts(p: int, q: int, lanes: int, *, unsigned: bool) -> Parts:
    """Cells of an integer product: an array of adders, or radix-4 rows over the wider operand (``synth -booth``).

    Rows need four bits on both sides and, signed, five on one; the array's adders are one fewer than rows and columns.
    """
    narrow, wide = min(p, q), max(p, q)
    array = float(lanes * (narrow - 1) * (wide - 1))
    if narrow < 4 or (wide < 5 and not unsigned):
        return {"array": array, "gates": float(lanes * narrow * wide)}
    rows = wide // 2 + 1 if unsigned else -(-wide // 2)
    return {
        "rows": float(lanes * rows * (narrow + 1)),
        "large_array": array,  # where the library's flow does not recode
    }


def _integer_cells(one: PeDesign) -> Parts:
    w, a, lanes = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), one.lanes
    # tried and lost: prices of their own for narrow unsigned activations (worst MAC 19 % instead of 12 %)
    parts = _array_parts(w, a + one.get("ACTIVATION_UNSIGNED") if min(w, a) > 3 else a, lanes, unsigned=False)
    if one.family == "int_dot":
        # one price for both: where no dot products are recorded, a tree's could not be told
        parts["adder_bits"] = float(tree_bits(w + a, lanes) + one.get("ACCUMULATOR_BITS"))
        parts["product"] = float(lanes * (w + a))
    return parts


# --- floats ----------------------------------------------------------------------------------------------------------


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


def _fields(one: PeDesign) -> tuple[int, int, int, int]:
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


def _multiplier(one: PeDesign, lut: bool) -> Parts:
    we, wm, ae, am = _fields(one)
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
    return {**_array_parts(p, q, lanes, unsigned=True), **parts}


def _fixed(one: PeDesign, lut: bool) -> Parts:
    we, wm, ae, am = _fields(one)
    largest = float_range(we) + float_range(ae)
    signed = wm + am + (3 if min(wm, am) else 2)  # significand product and sign; by a power of two a bit less
    width = wm + am + 3 + largest
    lanes = one.lanes
    parts = _multiplier(one, lut)
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
    we, wm, ae, am = _fields(one)
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


def _float_accumulated(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    we, wm, ae, am = _fields(one)
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


# --- serial, code books, shifts, BitMoD ------------------------------------------------------------------------------


def _serial(one: PeDesign, lut: bool) -> Parts:
    lanes, accumulator = one.lanes, float(one.get("ACCUMULATOR_BITS"))
    if one.family == "bit_bit_dot":
        count = (lanes + 1).bit_length()
        return {"lanes": float(lanes), "shift": float(shift_muxes(count, 15)), "accumulator": accumulator}
    if one.family == "term_serial_dot":
        signed, largest = one.get("ACTIVATION_BITS") + 1, (1 << one.get("SHIFT_BITS")) - 1
        shift = sum(shift_luts(signed, largest)) if lut else float(shift_muxes(signed, largest))
        tree = float(tree_bits(signed + largest, lanes))
        return {"terms": float(lanes * signed), "shift": lanes * shift, "tree": tree, "accumulator": accumulator}
    parallel, serial = one.get("PARALLEL_BITS"), one.get("SERIAL_BITS")
    total = parallel + (lanes - 1).bit_length()
    running = total + serial if one.get("ACCUMULATE", 1) else accumulator
    return {
        "gates": float(lanes * parallel) if not lut else (parallel / 2 if lanes == 1 else 0.0),
        "tree": float(tree_bits(parallel, lanes)),
        "running": float(running),
        "accumulator": accumulator if one.get("ACCUMULATE", 1) else 0.0,
    }


def _decoded(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """What decodes to integers and multiplies them: the integer dot product, and what stands before it."""
    lanes, accumulator = one.lanes, one.get("ACCUMULATOR_BITS")
    if one.family == "codebook_dot":
        w, a, code = one.get("ENTRY_BITS"), one.get("ACTIVATION_BITS"), one.get("CODE_BITS")
        written = one.get("PROGRAMMABLE")
        extra = {
            # a constant table of up to 16 entries is a LUT for each two bits; a written one muxes its registers
            "constant": 0.0 if written else lanes * w / 2,
            "muxes": float(lanes * w * ((1 << code) - 1)) if written else 0.0,
            "write": float(w << code) if written else 0.0,
        }
        shift = 0
    elif one.family in ("flint_int_dot", "flint_flint_dot"):
        bits = one.get("BITS")
        both = one.family == "flint_flint_dot"
        w, a = bits - 1, bits - 1 if both else one.get("ACTIVATION_BITS")
        shift = (bits - 1) * (2 if both else 1)
        extra = {"decoders": float(lanes * bits * (2 if both else 1))}
    elif one.family == "olive_dot":
        w = a = 4
        shift = 14 if one.get("FLINT") else 12
        extra = {"decoders": float(lanes * 8)}
    else:  # tender_dot: a shift by one before the accumulator
        w, a, shift = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), 0
        extra = {"rescaling": float(accumulator)}
    signed = w + a
    extra["shift"] = lanes * (sum(shift_luts(signed, shift)) if lut else float(shift_muxes(signed, shift)))
    extra["tree"] = float(tree_bits(signed + shift, lanes) - tree_bits(signed, lanes))
    dot = design(
        "int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=one.get("ACTIVATION_UNSIGNED"), LANES=lanes,
        ACCUMULATOR_BITS=accumulator,
    )  # fmt: skip
    return {"dot": price(dot), **extra}


def _bitmod(one: PeDesign) -> Parts:
    return {"lanes": float(one.lanes), "one": 1.0}


# --- dispatch --------------------------------------------------------------------------------------------------------

Pricer = Callable[[PeDesign], float]  # LUTs, or combinational area, of a part that has a price of its own

# Families that share their prices; those of a group are fitted together
GROUPS: Mapping[str, tuple[str, ...]] = {
    "integer multiplier": ("int_multiplier",),
    "integer": ("int_dot",),
    "minifloat multiplier": ("minifloat_multiplier",),
    "minifloat product": ("minifloat_product",),
    "Kulisch": ("minifloat_dot",),
    "float accumulator": ("float_mac", "float_int_mac", "codebook_float_mac", "mx_block_dot", "nvfp4_block_dot"),
    "bit-serial": ("bit_serial_dot",),
    "both serial": ("bit_bit_dot",),
    "term-serial": ("term_serial_dot",),
    "code book": ("codebook_dot",),
    "flint": ("flint_int_dot", "flint_flint_dot"),
    "OliVe": ("olive_dot",),
    "Tender": ("tender_dot",),
    "BitMoD group accumulator": ("bitmod_group_accumulator",),
    "BitMoD integer accumulator": ("bitmod_int_accumulator",),
    "BitMoD": ("bitmod_pe",),
}
_GROUP_OF = {family: group for group, families in GROUPS.items() for family in families}


def group_of(family: str) -> str:
    """The group whose prices a family takes.

    Raises:
        ValueError: no parts are known for it: a recorded row is its only price.
    """
    if family not in _GROUP_OF:
        raise ValueError(f"family must be one of {', '.join(_GROUP_OF)} to be priced outside the table, not {family!r}")
    return _GROUP_OF[family]


def parts_of(one: PeDesign, *, lut: bool, price: Pricer) -> Parts:
    """Amounts of the physical parts of ``one``.

    Args:
        one: the design.
        lut: whether in LUT6s rather than cells.
        price: of the parts that are priced by another group.
    """
    group = group_of(one.family)
    if group.startswith("integer"):
        return {"closed_form": _closed_form(one)} if lut else _integer_cells(one)
    if group == "minifloat multiplier":
        return _multiplier(one, lut)
    if group in ("minifloat product", "Kulisch"):
        return _fixed(one, lut)
    if group == "float accumulator":
        return _float_accumulated(one, lut, price)
    if group.endswith("serial"):
        return _serial(one, lut)
    if group.startswith("BitMoD"):
        return _bitmod(one)
    return _decoded(one, lut, price)


def _closed_form(one: PeDesign) -> float:
    w, a, unsigned = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), bool(one.get("ACTIVATION_UNSIGNED"))
    if one.family == "int_multiplier":
        return float(multiplier_luts(w, a, unsigned=unsigned))
    return float(int_dot_luts(w, a, one.lanes, one.get("ACCUMULATOR_BITS"), unsigned=unsigned))


def registers(one: PeDesign) -> int | None:
    """Flip-flops by architecture; ``None`` where only a netlist says."""
    bits, lanes, family = one.get("ACCUMULATOR_BITS"), one.lanes, one.family
    if family in ("int_multiplier", "minifloat_multiplier", "minifloat_product"):
        return 0
    if family in ("int_dot", "minifloat_dot"):
        we, wm, ae, am = _fields(one)
        if family == "int_dot":
            operands = one.get("WEIGHT_BITS") + one.get("ACTIVATION_BITS")
            product = operands
        else:
            operands, product = we + wm + ae + am + 2, wm + am + 3 + float_range(we) + float_range(ae)
        stage = (lanes * operands + 1) * one.get("INPUT_REGISTER")
        return bits + stage + (lanes * product + 1) * one.get("PRODUCT_REGISTER")
    if family == "bit_serial_dot":
        total = one.get("PARALLEL_BITS") + (lanes - 1).bit_length()
        # the running sum's top bit is shifted out before it is read
        return bits + total + one.get("SERIAL_BITS") - 1 if one.get("ACCUMULATE", 1) else bits
    if family in ("codebook_dot", "codebook_float_mac"):
        entry = one.get("ENTRY_BITS", 16)
        return bits + one.get("PROGRAMMABLE") * (entry << one.get("CODE_BITS", 4))
    if family in ("mx_block_dot", "nvfp4_block_dot"):
        we, wm, _, _ = _fields(one)
        block = one.get("BLOCK", 16)
        integer = family == "mx_block_dot" and we == 0
        product = 2 * (wm + 1) if integer else 2 * wm + 3 + 2 * float_range(we)
        return bits + (product + (block - 1).bit_length() if block > lanes else 0)
    if family == "term_serial_dot":
        operands = 1 + lanes * (2 + one.get("SHIFT_BITS") + one.get("ACTIVATION_BITS"))
        return bits + operands * one.get("INPUT_REGISTER")
    if family in ("float_mac", "float_int_mac", "bit_bit_dot", "tender_dot", "flint_int_dot", "flint_flint_dot",
                  "olive_dot", "bitmod_int_accumulator", "bitmod_group_accumulator"):  # fmt: skip
        return bits
    return None
