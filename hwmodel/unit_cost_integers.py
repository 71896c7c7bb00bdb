"""Parts of integer multipliers and dot products: closed forms on LUTs, arrays of adders in cells."""

from __future__ import annotations

from collections.abc import Callable

from hwmodel.unit_cost_design import PeDesign

Parts = dict[str, float]  # amounts of physical parts by name
Pricer = Callable[[PeDesign], float]  # LUTs, or combinational area, of a part that has a price of its own


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


def array_parts(p: int, q: int, lanes: int, *, unsigned: bool) -> Parts:
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
    parts = array_parts(w, a + one.get("ACTIVATION_UNSIGNED") if min(w, a) > 3 else a, lanes, unsigned=False)
    if one.family == "int_dot":
        # one price for both: where no dot products are recorded, a tree's could not be told
        parts["adder_bits"] = float(tree_bits(w + a, lanes) + one.get("ACCUMULATOR_BITS"))
        parts["product"] = float(lanes * (w + a))
    return parts


def integer_parts(one: PeDesign, lut: bool) -> Parts:
    """Parts of a multiplier or dot product of integers; a closed form on LUTs."""
    if not lut:
        return _integer_cells(one)
    w, a, unsigned = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), bool(one.get("ACTIVATION_UNSIGNED"))
    if one.family == "int_multiplier":
        return {"closed_form": float(multiplier_luts(w, a, unsigned=unsigned))}
    luts = int_dot_luts(w, a, one.lanes, one.get("ACCUMULATOR_BITS"), unsigned=unsigned)
    return {"closed_form": float(luts)}
