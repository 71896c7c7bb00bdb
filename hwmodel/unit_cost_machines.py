"""Parts of the PEs that single machines brought: serial ones, those that decode to integers first, BitMoD's."""

from __future__ import annotations

from hwmodel.unit_cost_design import PeDesign, design
from hwmodel.unit_cost_floats import shift_luts, shift_muxes
from hwmodel.unit_cost_integers import Parts, Pricer, tree_bits


def serial_parts(one: PeDesign, lut: bool) -> Parts:
    """Parts of a PE that takes one or both operands bit by bit, or term by term."""
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


def decoded_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
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


def bitmod_parts(one: PeDesign) -> Parts:
    """Parts of BitMoD's PE and its accumulators: lanes, and the rest."""
    return {"lanes": float(one.lanes), "one": 1.0}
