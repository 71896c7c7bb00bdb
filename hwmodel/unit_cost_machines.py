"""Physical parts of serial PEs, code books, shift-MACs and BitMoD's.

Widths are those of the modules in ``hls/rtl`` (``serial.sv``, ``codebook.sv``, ``shift_mac.sv``, ``bitmod.sv``).
"""

from __future__ import annotations

from hwmodel.unit_cost_compressor import word_adders
from hwmodel.unit_cost_design import PeDesign, design
from hwmodel.unit_cost_floats import shift_luts, shift_muxes, shift_parts
from hwmodel.unit_cost_integers import (
    Parts,
    Pricer,
    entry_products,
    table_parts,
    tree_bits,
    unsigned_product,
)

LUT_INPUTS = 6


def _shifts(width: int, largest: int, lanes: int) -> Parts:
    """LUTs of ``lanes`` shifters; the last two-way stage apart, part of which the adders behind it absorb."""
    sites, last = shift_luts(width, largest)
    return {"shift": lanes * sites, "last_shift": lanes * last}


# --- serial ----------------------------------------------------------------------------------------------------------


def _adders(tree: float, registered: float, lut: bool) -> Parts:
    """Adder bits of a tree and of what adds to a register; in cells clearing the register has a price of its own."""
    if lut:
        return {"tree": tree, "accumulator": registered}
    return {"adder_bits": tree + registered, "clear_bits": registered}


def _summed_terms(width: int, lanes: int, accumulator: int, lut: bool) -> Parts:
    """Adders of terms that were shifted, and the accumulator.

    In cells terms and accumulator are one compressor, which the accumulator enters first (as the netlists of Yosys say
    of flint, pairs of flints, OliVe and terms): its adders cost what those of integers do, and nothing is fitted. A
    price of their own is within 1 % of that (flint 44.4 instead of 44.7 um2 in SG13G2, 25.4 instead of 25.6 in sky130).
    """
    if lut:
        return _adders(float(tree_bits(width, lanes)), float(accumulator), lut)
    adders = word_adders(width, lanes, accumulator, accumulator_first=True)
    return {"adder_bits": adders, "clear_bits": float(accumulator)}


def serial_parts(one: PeDesign, lut: bool) -> Parts:
    """Bit-serial, both operands serial, or term-serial."""
    lanes, accumulator = one.lanes, float(one.get("ACCUMULATOR_BITS"))
    if one.family == "bit_bit_dot":
        count = (lanes + 1).bit_length()
        return {"lanes": float(lanes), "shift": float(shift_muxes(count, 15)), **_adders(0.0, accumulator, lut)}
    if one.family == "term_serial_dot":
        signed, largest = one.get("ACTIVATION_BITS") + 1, (1 << one.get("SHIFT_BITS")) - 1
        adders = _summed_terms(signed + largest, lanes, one.get("ACCUMULATOR_BITS"), lut)
        terms = {"terms": float(lanes * signed)}
        if not lut:
            return {**terms, "reach": float(lanes * signed * largest), **adders}
        # a bit of the negated activation reads those below it, valid and sign: from the fifth on more than a LUT
        long = float(lanes * max(signed - LUT_INPUTS + 2, 0)) if signed + 1 > LUT_INPUTS else 0.0
        return {**terms, "long_terms": long, **_shifts(signed, largest, lanes), **adders}
    parallel, serial = one.get("PARALLEL_BITS"), one.get("SERIAL_BITS")
    total, tree = parallel + (lanes - 1).bit_length(), float(tree_bits(parallel, lanes))
    accumulated = bool(one.get("ACCUMULATE", 1))
    running = float(total + serial if accumulated else accumulator)
    held = accumulator if accumulated else 0.0
    if lut:  # the gates are inside the tree's first level, whose sites they lengthen by one for each adder
        return {"gates": lanes / 2, "negation": float(total), **_adders(tree, running + held, lut)}
    return {
        "gates": float(lanes * parallel),
        "negation": float(total),  # the last bit of a two's complement operand is subtracted
        "enabled": held,  # until the last bit
        **_adders(tree, running + held, lut),
    }


# --- decoded integers ------------------------------------------------------------------------------------------------


def decoded_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """What decodes to integers and multiplies them: the integer dot product, and what stands before it."""
    if one.family == "flint_flint_dot":
        return _flint_pair(one, lut, price)
    lanes, accumulator = one.lanes, one.get("ACCUMULATOR_BITS")
    extra: Parts
    if one.family == "codebook_dot":
        w, a, code, shift = one.get("ENTRY_BITS"), one.get("ACTIVATION_BITS"), one.get("CODE_BITS"), 0
        extra = table_parts(code, w, lanes, written=bool(one.get("PROGRAMMABLE")), lut=lut)
    elif one.family == "flint_int_dot":
        w, a = one.get("BITS") - 1, one.get("ACTIVATION_BITS")
        shift = w
        extra = {"decoders": lanes * price(_flint_decoder(w))}
        if not lut:  # on LUTs the sign is one more input of the decoder
            extra["negation"] = float(lanes * w)
        elif w == 2:  # magnitudes of 0 or 1, shifted: each bit is 0, a bit of the activation or of its negative
            terms = w + a + shift
            return {"plain": float(lanes * terms), **_summed_terms(terms, lanes, accumulator, lut)}
    elif one.family == "olive_dot":
        w = a = 4
        shift = 12 if one.get("FLINT") else 10  # two of six, or of five places (FIXED_BITS)
        pair = design("olive_decode", FLINT=one.get("FLINT"), ACCUMULATOR_BITS=0)  # two elements, on both sides
        extra = {"decoders": lanes * price(pair)}
    else:  # tender_dot: a shift by one before the accumulator
        w, a, shift = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), 0
        extra = {"rescaling": float(accumulator)}
    dot = design("int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=one.get("ACTIVATION_UNSIGNED"),
                 LANES=lanes, ACCUMULATOR_BITS=accumulator)  # fmt: skip
    if not lut and one.family == "tender_dot":
        # its multiplexer stands between tree and accumulator, which are not compressed together then
        alone = {"dot": lanes * price(dot.replaced(LANES=1, ACCUMULATOR_BITS=0)), **extra}
        return {**alone, "tree_rows": float((lanes - 1) * (w + a)), **_adders(0.0, float(accumulator), lut)}
    if not lut and one.family == "codebook_dot":
        return {**entry_products(w, a, lanes), **extra, **_adders(0.0, float(accumulator), lut)}
    if not shift:
        return {"dot": price(dot), **extra}
    # products that are shifted before they are added are priced each alone: no compressor can merge them
    product = dot.replaced(LANES=1, ACCUMULATOR_BITS=0)
    if not lut and one.family == "olive_dot":
        # flints and outliers have magnitudes of 3 at most: cells of three bits; decoders, tried as recorded alone, are
        # part of what is shifted (sky130hd 8 instead of 3 %)
        if one.get("FLINT"):
            product = product.replaced(WEIGHT_BITS=w - 1, ACTIVATION_BITS=a - 1)
        extra = {"reach": float(lanes * (w + a) * shift)}
    elif not lut:  # flint's, of a netlist that holds nothing else
        product = design("int_multiplier", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACCUMULATOR_BITS=0,
                         ACTIVATION_UNSIGNED=one.get("ACTIVATION_UNSIGNED"))  # fmt: skip
    products = {"dot" if lut else "product": lanes * price(product), **extra}
    adders = _summed_terms(w + a + shift, lanes, accumulator, lut)
    return {**products, **(_shifts(w + a, shift, lanes) if lut else {}), **adders}


def _flint_decoder(magnitude_bits: int) -> PeDesign:
    """A recorded netlist: decoders jump where their code outgrows a LUT's inputs."""
    return design("flint_decode", BITS=magnitude_bits, ACCUMULATOR_BITS=0)


def _flint_pair(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """ANT's PE: magnitudes multiplied, the product negated, shifted by the sum of two shifts and added.

    On LUTs, what reads six signals or fewer is a LUT a bit: of three-bit flints the whole product in fixed point, of
    four-bit ones the product of magnitudes and the sum of shifts, decoders inside.
    """
    lanes, magnitude = one.lanes, one.get("BITS") - 1
    value = magnitude - 1
    signed, shift = 2 * value + 1, 2 * magnitude
    adders = _summed_terms(signed + shift, lanes, one.get("ACCUMULATOR_BITS"), lut)
    if not lut:
        return {"reach": float(lanes * signed * shift), "negation": float(lanes * signed), **adders}
    shared = shift_parts(signed, shift, lanes)
    summed = magnitude.bit_length() + 1
    if 2 * (magnitude + 1) <= LUT_INPUTS:
        return {"plain": float(lanes * (signed + shift)), **adders}
    if 2 * magnitude <= LUT_INPUTS:
        return {"plain": float(lanes * (2 * value + summed)), **shared, **adders}
    return {
        "product": lanes * price(unsigned_product(value, value)),
        "decoders": 2 * lanes * price(_flint_decoder(magnitude)),
        "plain": float(lanes * summed),
        **shared,
        **adders,
    }


# --- BitMoD ----------------------------------------------------------------------------------------------------------

_ALIGNED_BITS, _MANTISSA_BITS = 14, 15  # FP16 significand and three guard bits; group accumulator (hls/rtl/bitmod.sv)
_SIGNIFICANCE_SHIFT = 7  # largest shift by a term's significance, three bits; sums are widened by six


def bitmod_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """The group accumulator, the whole PE around it, or the integer accumulator.

    A single lane is its own maximum: nothing is compared or aligned.
    """
    lanes = one.lanes
    if one.family == "bitmod_pe":
        group = design("bitmod_group_accumulator", LANES=lanes, ACCUMULATOR_BITS=21)
        return {"group": price(group), "dequantizer": 1.0}
    growth = (lanes - 1).bit_length()
    if one.family == "bitmod_int_accumulator":
        term = one.get("ACTIVATION_BITS", 8) + 4  # one more for -(-128), three for the exponent
        return {
            "terms": float(lanes),  # gate, negation and shift by the exponent
            "total": float(term + growth + _SIGNIFICANCE_SHIFT),
            **_adders(float(tree_bits(term, lanes)), float(one.get("ACCUMULATOR_BITS", 24)), lut),
        }
    return {
        "terms": float(lanes),  # exponent adder, gate and negation
        "aligners": float(lanes if lanes > 1 else 0),  # maximum, distance and shift of a lane
        "total": float(_ALIGNED_BITS + 1 + growth + _SIGNIFICANCE_SHIFT),
        **_adders(float(tree_bits(_ALIGNED_BITS + 1, lanes)), 0.0, lut),
    }
