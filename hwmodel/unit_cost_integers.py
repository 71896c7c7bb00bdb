"""Parts of integer multipliers and dot products: closed forms on LUTs, arrays of adders and radix-4 rows in cells."""

from __future__ import annotations

import math
from collections.abc import Callable

from hwmodel.unit_cost_compressor import product_adders, word_adders
from hwmodel.unit_cost_design import PeDesign, design

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


def small_product_luts(p: int, q: int) -> float:
    """LUT6s of a product of two unsigned significands.

    Of at most six signals as ``multiplier_luts``. Larger ones are its row pairs without signs; in the netlists of
    minifloat multipliers an even narrower operand takes one LUT more than that, an odd one, whose last row is alone,
    one less.

    >>> small_product_luts(2, 2), small_product_luts(3, 3), small_product_luts(4, 4), small_product_luts(3, 4)
    (4.0, 7.0, 15.0, 8.0)
    """
    luts = multiplier_luts(p, q, unsigned=True)
    if min(p, q) == 1:
        return max(p, q) / 2
    return float(luts if p + q <= 6 else luts + (1 if min(p, q) % 2 == 0 else -1))


def tree_bits(width: int, lanes: int) -> int:
    """Adder bits of an exact tree over ``lanes`` terms of ``width`` bits, each level one bit wider.

    >>> tree_bits(8, 4)
    28
    """
    if lanes == 1:
        return 0
    left, right = -(-lanes // 2), lanes // 2
    return tree_bits(width, left) + tree_bits(width, right) + width + (lanes - 1).bit_length()


def sum_bits(width: int, lanes: int, accumulator_bits: int) -> float:
    """Adders of cells that sum ``lanes`` terms before the accumulator, which adds the sum: bits of a compressor.

    A row as wide as a term for each lane but one. Above the terms rows hold copies of their signs, the same in every
    column, so that equal sums are shared: there the accumulator's bits take a row for each doubling of the lanes.
    Against netlists of shifted terms of 2, 4 and 16 lanes (flint, powers of two, minifloats); a tree of adders and one
    final adder as wide as the accumulator, tried before, is too dear for two lanes and for sixteen.

    >>> sum_bits(10, 1, 32), sum_bits(10, 4, 32), sum_bits(10, 4, 0)
    (0.0, 74.0, 30.0)
    """
    return (lanes - 1) * width + max(accumulator_bits - width, 0) * math.log2(lanes)


def int_dot_luts(w: int, a: int, lanes: int, accumulator_bits: int, *, unsigned: bool = False) -> int:
    """LUT6s of a dot product: multipliers, adder tree, accumulator.

    >>> int_dot_luts(8, 8, 1, 26), int_dot_luts(4, 4, 16, 18)
    (92, 420)
    """
    return lanes * multiplier_luts(w, a, unsigned=unsigned) + tree_bits(w + a, lanes) + accumulator_bits


PLAIN_ROWS = (
    9  # beyond so many, recoding is always smaller (12 x 12 bits of SG13G2, in no table, 1 instead of 19 % off)
)


def radix_rows(rows: int, columns: int, lanes: int, *, signs: int, alone: bool = False) -> Parts:
    """Cells of ``lanes`` products in radix-4 rows (``synth -booth``).

    The last digit of a signed operand of odd width is -1, 0 or 1: half a row, since it selects no double.

    Args:
        rows, columns: bits of the operand that is recoded, and of the other one.
        lanes: how many.
        signs: of the operands that are signed: 2, 1 (the one that is not recoded) or 0.
        alone: multipliers that nothing adds up: smallest of two flows, whose rows are fitted as whole ones (half a row
            was tried and lost: worst 16 instead of 12 % in OSU). The digit above an unsigned operand of even width that
            is the narrower one is a row of its own; a wider one is not recoded (plain arrays are smaller).
    """
    digits = rows // 2 + 1 if signs < 2 else -(-rows // 2)
    half = columns / 2 + 1 if signs == 2 and rows % 2 and not alone else 0.0
    parts = {
        "rows": float(lanes * (-(-rows // 2) * (columns + (signs != 1)) - half)),
        "row_adders": float(lanes * (digits - 1) * (columns + 1)),
    }
    if signs == 2 and not alone:
        # `booth` widens the narrower operand to the other's width: what mapping leaves of the copies of its sign, a bit
        # for each digit that it has. Without it MACs in OSU 4.6 instead of 3.7 %, in SG13G2 3.9 instead of 3.1 %. A bit
        # for each digit of the wider one, tried before: 4 x 16 bits 17 instead of 11 % off in sky130. An unsigned
        # operand of another width is not recoded: plain arrays are smaller.
        parts["padded"] = float(lanes * abs(rows - columns) * (min(rows, columns) // 2))
    if alone:
        # where the library's flow does not recode: arrays of up to so many rows
        narrow, wide = sorted((rows, columns))
        parts["large_array"] = float(lanes * (min(narrow, PLAIN_ROWS) - 1) * (wide - 1))
        parts["last_row"] = float(lanes * (columns - 1) * (signs == 1 and rows % 2 == 0 and rows < columns))
    return parts


def multiplier_cells(weight_bits: int, activation_bits: int, *, signs: int) -> Parts:
    """Cells of a multiplier that nothing adds up: radix-4 rows over the activation (``synth -booth``), else an array.

    Yosys recodes operands of four bits and more whose product has eight. An unsigned activation is recoded with a zero
    above it: with an even width its last digit is 0 or 1, a row of AND gates. In the array a signed narrow operand
    subtracts its last row.

    Args:
        weight_bits, activation_bits: widths; of two unsigned operands the wider one is recoded.
        signs: of the operands that are signed: 2, 1 (the weight) or 0.
    """
    rows, columns = (activation_bits, weight_bits) if signs else sorted((weight_bits, activation_bits), reverse=True)
    if columns >= 4 and rows + (signs == 1) >= 4 and rows + columns >= 8:
        return radix_rows(rows, columns, 1, signs=signs, alone=True)
    narrow, wide = min(rows, columns), max(rows, columns)
    subtracted = signs == 2 or (signs == 1 and columns < rows)
    return {"array": float((narrow - 1) * (wide - 1)), "array_sign": float((wide - 1) * subtracted)}


def unsigned_product(p: int, q: int) -> PeDesign:
    """The product of two significands or magnitudes, to be priced as a multiplier of its own."""
    return design("int_multiplier", WEIGHT_BITS=p, ACTIVATION_BITS=q, ACTIVATION_UNSIGNED=1, WEIGHT_UNSIGNED=1,
                  ACCUMULATOR_BITS=0)  # fmt: skip


def _recoded(weight_bits: int, activation_bits: int, lanes: int, *, unsigned: int) -> bool:
    """Whether Yosys makes radix-4 rows of products that are added: of 4 x 4 bits and more, alone of eight together."""
    together = lanes > 1 or weight_bits + activation_bits >= 8
    return together and weight_bits >= 4 and activation_bits + unsigned >= 4


def dot_cells(weight_bits: int, activation_bits: int, lanes: int, accumulator_bits: int, *, unsigned: int,
              accumulator_first: bool | None = None) -> Parts:  # fmt: skip
    """Cells of products and their sum: one compressor, of one lane as of many.

    Of recoded products it adds these, else the rows of all of them, of which each bit is a gate. Its adders are counted
    by ``hwmodel.unit_cost_compressor``: one price for those that save carries and for the last one, which carries them.
    Prices of their own for arrays, rows of a sum and the bits above a product, tried before, are not those of one lane
    (MACs priced by dot products alone 11 % off in SG13G2, worst 44 %).

    Args:
        weight_bits, activation_bits, lanes: widths, and products.
        accumulator_bits: of the register that they are added to; 0 without one.
        unsigned: 1 of an activation without a sign.
        accumulator_first: whether it is added before recoded products; as Yosys does in a module of its own by default.

    >>> dot_cells(2, 2, 1, 14, unsigned=0)
    {'gates': 4.0, 'adder_bits': 16.75, 'clear_bits': 14.0}
    """
    w, a, bits = weight_bits, activation_bits, accumulator_bits
    if _recoded(w, a, lanes, unsigned=unsigned):
        parts = radix_rows(a, w, lanes, signs=2 - unsigned)
        # Yosys orders a sum by the names of its signals: a product that is all of a recoded one, as of squares of even
        # widths alone, comes after the accumulator, a product that is cut from it before (netlists of 4 x 4, 5 x 5,
        # 4 x 8 and 8 x 8 bits; areas of 4 x 4 and 8 x 8 with other accumulators)
        whole = w == a and w % 2 == 0 and not unsigned
        first = whole if accumulator_first is None else accumulator_first
        adders = word_adders(w + a, lanes, bits, accumulator_first=first) if bits or lanes > 1 else 0.0
    else:
        parts = {"gates": float(lanes * w * a)}
        if unsigned:  # a product is cut from a wider one, and so is a sum of its own; the accumulator is added first
            adders = lanes * product_adders(w, a, 1, 0, unsigned=True)
            adders += word_adders(w + a, lanes, bits, accumulator_first=True) if bits or lanes > 1 else 0.0
        else:
            adders = product_adders(w, a, lanes, bits)
    return parts | {"adder_bits": adders, "clear_bits": float(bits)}


def _integer_cells(one: PeDesign) -> Parts:
    """Cells of a multiplier, MAC or dot product of integers."""
    w, a, unsigned = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), one.get("ACTIVATION_UNSIGNED")
    if one.family == "int_dot":
        inside = one.get("INSIDE")  # another module: its names come later, the accumulator's with them
        first = False if inside else None
        return dot_cells(w, a, one.lanes, one.get("ACCUMULATOR_BITS"), unsigned=unsigned, accumulator_first=first)
    return multiplier_cells(w, a, signs=2 - unsigned - one.get("WEIGHT_UNSIGNED"))


def table_parts(code_bits: int, entry_bits: int, lanes: int, *, written: bool, lut: bool) -> Parts:
    """A code book: constants are a LUT for each two bits up to 16 entries; written ones mux their registers.

    An entry is written by the enable of its registers: on LUTs a decoder of its own, however wide it is; in cells a
    mux before each bit. In cells what looks up constants is part of the product behind it (a gate for each bit of code
    and entry, tried and lost, has no price beside ``padded``).
    """
    if not written:
        return {"constant": lanes * entry_bits / 2} if lut else {}
    return {
        "muxes": float(lanes * entry_bits * ((1 << code_bits) - 1)),
        "write": float((1 if lut else entry_bits) << code_bits),
    }


def entry_products(entry_bits: int, activation_bits: int, lanes: int) -> Parts:
    """Cells of ``lanes`` products of an entry that is looked up, and of the rows that add them.

    A product of few values is no multiplier's: a gate for each bit of both sides. Yosys' ``booth`` widens the narrower
    operand to the other one's width (4 x 8, 8 x 4 and 8 x 8 bits are the same cells then); what mapping leaves of the
    copies of its sign grows with the difference.

    >>> entry_products(4, 8, 2)
    {'entry_products': 64.0, 'padded': 8.0, 'tree_rows': 12.0}
    """
    return {
        "entry_products": float(lanes * entry_bits * activation_bits),
        "padded": float(lanes * abs(entry_bits - activation_bits)),
        "tree_rows": float((lanes - 1) * (entry_bits + activation_bits)),
    }


def integer_parts(one: PeDesign, lut: bool) -> Parts:
    """Parts of a multiplier or dot product of integers; a closed form on LUTs."""
    if not lut:
        return _integer_cells(one)
    w, a, unsigned = one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), bool(one.get("ACTIVATION_UNSIGNED"))
    if one.get("WEIGHT_UNSIGNED"):
        return {"closed_form": small_product_luts(w, a)}
    if one.family == "int_multiplier":
        return {"closed_form": float(multiplier_luts(w, a, unsigned=unsigned))}
    luts = int_dot_luts(w, a, one.lanes, one.get("ACCUMULATOR_BITS"), unsigned=unsigned)
    return {"closed_form": float(luts)}
