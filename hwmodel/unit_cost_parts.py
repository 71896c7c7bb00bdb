"""Physical parts of a PE: what its LUTs and cells are proportional to. Counted from the architecture, never measured.

For each design a handful of amounts: sites of the significand product, muxes of the shift into fixed point, bits of
adders, window of a float accumulator. Fits (``hwmodel.unit_cost_fit``) put one non-negative price on each, so a wider
operand never costs less and a design outside the table stays positive.

On LUTs, a carry chain takes a LUT6 a bit, a four-way mux one, a three-input function half; the last two-way mux of a
shifter is absorbed by the LUT in front of the accumulator's carry chain (``docs/unit_costs.md``).

What the parts of each kind are: ``hwmodel.unit_cost_integers``, ``hwmodel.unit_cost_floats``,
``hwmodel.unit_cost_machines``, ``hwmodel.unit_cost_books``.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwmodel.unit_cost_books import book_parts
from hwmodel.unit_cost_design import PeDesign
from hwmodel.unit_cost_floats import fixed_point_parts, float_accumulated_parts, multiplier_parts
from hwmodel.unit_cost_integers import Parts, Pricer, integer_parts
from hwmodel.unit_cost_machines import bitmod_parts, decoded_parts, serial_parts

# Families that share their prices; those of a group are fitted together
GROUPS: Mapping[str, tuple[str, ...]] = {
    "integer multiplier": ("int_multiplier",),
    "integer": ("int_dot",),
    "minifloat multiplier": ("minifloat_multiplier",),
    "minifloat product": ("minifloat_product",),
    "Kulisch": ("minifloat_dot",),
    "float accumulator": (
        "float_mac",
        "float_int_mac",
        "codebook_float_mac",
        "mixture_float_mac",
        "mx_block_dot",
        "nvfp4_block_dot",
    ),
    "bit-serial": ("bit_serial_dot",),
    "both serial": ("bit_bit_dot",),
    "term-serial": ("term_serial_dot",),
    "code book": ("codebook_dot",),
    "mixture": ("mixture_dot",),
    "vector book": ("vector_dot", "vector_codebook_dot"),
    "flint": ("flint_int_dot",),
    "flint pair": ("flint_flint_dot",),
    "OliVe": ("olive_dot",),
    "Tender": ("tender_dot",),
    "BitMoD group accumulator": ("bitmod_group_accumulator",),
    "BitMoD integer accumulator": ("bitmod_int_accumulator",),
    "BitMoD": ("bitmod_pe",),
}
DSP_FAMILIES = frozenset({"int_pair_dot"})  # of DSP slices alone: hwmodel.unit_cost_dsp
# Modules of one size, or of a few that are all recorded: decoders and BitMoD's parts beside its accumulator
RECORDED_ONLY = frozenset({"flint_decode", "olive_decode", "bitmod_term_encoder", "bitmod_dequantizer"})
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
        return integer_parts(one, lut)
    if group == "minifloat multiplier":
        return multiplier_parts(one, lut, price)
    if group in ("minifloat product", "Kulisch"):
        return fixed_point_parts(one, lut, price)
    if group == "float accumulator":
        return float_accumulated_parts(one, lut, price)
    if group.endswith("serial"):
        return serial_parts(one, lut)
    if group in ("mixture", "vector book"):
        return book_parts(one, lut, price)
    if group.startswith("BitMoD"):
        return bitmod_parts(one, lut, price)
    return decoded_parts(one, lut, price)
