"""Closed forms of integers on LUTs: against netlists, against other RTL, by hand."""

import csv

import pytest

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import design_of_row
from hwmodel.unit_cost_integers import (
    int_dot_luts,
    merged_cells,
    multiplier_luts,
    product_cells,
    sum_bits,
    tree_bits,
)
from hwmodel.unit_cost_prices import part_prices
from hwmodel.unit_cost_truth import LUTS


def reference_rows(module):
    with LUTS.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["module"] == module and row["flow"] == "rowpair"]
    return [(int(row["weight"][3:]), int(row["activation"][3:]), int(row["luts"])) for row in rows]


def test_closed_forms_are_within_two_luts_of_other_rtl():
    multipliers, macs = reference_rows("int_mult"), reference_rows("int_mac")
    assert len(multipliers) == len(macs) == 36
    assert all(abs(multiplier_luts(w, a) - luts) <= 2 for w, a, luts in multipliers)
    assert all(abs(int_dot_luts(w, a, 1, w + a + 10) - luts) <= 2 for w, a, luts in macs)


def test_unsigned_activations_are_within_two_luts_of_the_netlists():
    rows = [row for row in best_rows("lut6").values() if row.family == "int_multiplier"]
    assert len(rows) >= 77
    for row in rows:
        one = design_of_row(row)
        unsigned = bool(one.get("ACTIVATION_UNSIGNED"))
        ours = multiplier_luts(one.get("WEIGHT_BITS"), one.get("ACTIVATION_BITS"), unsigned=unsigned)
        assert abs(ours - row.luts) <= 2, row.design


def test_tree_by_hand():
    # 16 terms of 8 bits: 8 adders of 9 bits, 4 of 10, 2 of 11, one of 12
    assert tree_bits(8, 16) == 8 * 9 + 4 * 10 + 2 * 11 + 12
    # 3 terms: 2 + 1: one adder of 9 bits, one of 10
    assert tree_bits(8, 3) == 9 + 10


@pytest.mark.parametrize(
    ("w", "a", "luts"),
    # packed LUT6s of synthesised netlists, best of three flows (Yosys 0.70): the closed form is within two
    [(2, 2, 4), (2, 8, 10), (3, 4, 11), (4, 4, 14), (4, 8, 29), (5, 5, 26), (6, 6, 37), (6, 8, 48), (8, 8, 64)],
)
def test_multiplier_luts(w: int, a: int, luts: int) -> None:
    assert abs(multiplier_luts(w, a) - luts) <= 2
    assert multiplier_luts(w, a) == multiplier_luts(a, w)


def test_dot_luts_by_hand() -> None:
    # two 4 x 4 multipliers of 2 x 5 + 1 x 6 = 16 LUTs, one adder of 9 bits, an accumulator of 18
    assert int_dot_luts(4, 4, 2, 18) == 2 * 16 + 9 + 18


def test_cells_of_a_product_by_hand():
    # 3 x 4 signed: an array of two adders of three bits, the last row subtracted
    assert product_cells(3, 4, 1, signs=2) == {"array": 6, "array_sign": 3}
    # an unsigned narrow operand subtracts nothing
    assert product_cells(3, 2, 2, signs=1) == {"array": 4, "array_sign": 0}
    # 4 x 4 signed are recoded: two digits, rows of five bits, one adder of five; a product of seven bits is not
    assert product_cells(4, 4, 1, signs=2) == {"rows": 2 * 5, "row_adders": 5, "padded": 0}
    # 4 x 8: four digits of five bits, each widened by four copies of the sign; an unsigned operand is not widened
    assert product_cells(4, 8, 2, signs=2) == {"rows": 2 * 4 * 5, "row_adders": 2 * 3 * 5, "padded": 2 * 4 * 4}
    assert "padded" not in product_cells(4, 8, 2, signs=1)
    assert product_cells(4, 3, 2, signs=1) == {"array": 12, "array_sign": 0}
    # 8 x 8 signed: four radix-4 digits, rows of nine bits, three adders of nine
    assert product_cells(8, 8, 1, signs=2) == {"rows": 4 * 9, "row_adders": 3 * 9, "padded": 0}
    # unsigned activation of eight bits: a fifth digit that is 0 or 1
    assert product_cells(8, 8, 1, signs=1) == {"rows": 4 * 8, "row_adders": 4 * 9}


def test_cells_of_a_product_alone_by_hand():
    # the array of 7 x 7 adders counts as well, where that flow is smaller
    alone = {"rows": 4 * 9, "row_adders": 3 * 9, "large_array": 49, "last_row": 0}
    assert product_cells(8, 8, 1, signs=2, alone=True) == alone
    # 8 bits by an unsigned 4: two digits of eight bits, and the zero above makes a third: a row of seven adders
    assert product_cells(8, 4, 1, signs=1, alone=True)["last_row"] == 7
    # none where the unsigned operand is wider, or of odd width, whose top digit holds the zero
    assert product_cells(4, 8, 1, signs=1, alone=True)["last_row"] == 0
    assert product_cells(8, 5, 1, signs=1, alone=True)["last_row"] == 0


def test_bits_of_a_compressor_by_hand():
    # three rows of ten bits; above them 22 bits of the accumulator, two doublings of the lanes
    assert sum_bits(10, 4, 32) == 3 * 10 + 22 * 2
    # one lane is added by the accumulator alone, and no bit is above a term as wide as that
    assert sum_bits(10, 1, 32) == 0
    assert sum_bits(10, 2, 8) == 10


@pytest.mark.parametrize(
    ("target", "adder"),
    # a full adder: sky130_fd_sc_hd__fa_1 (um2), OSU's FAX1 (its own unit), from the liberty files of docs/synthesis.md
    [("sky130hd", 20.02), ("osu018", 120.0)],
)
def test_a_bit_of_a_compressor_of_products_is_fitted_to_a_full_adder_or_less(target, adder):
    """Mapping shares what neighbouring columns have in common: down to four fifths of a full adder."""
    assert 0.75 * adder <= part_prices("integer", target).prices["sum_rows"] <= 1.05 * adder


def test_cells_of_a_narrow_dot_product_by_hand():
    # 2 x 8, four lanes, 20 bits: 4 x 16 gates; 4 x 2 rows, each extended over eight bits above the product; two bits
    # above these add copies of signs for three doublings of the rows
    assert merged_cells(2, 8, 4, 20) == {
        "merged": 64,
        "extension": 64,
        "far_extension": 6,
        "adder_bits": 20,
        "clear_bits": 20,
    }
    # an accumulator no wider than the product extends nothing
    assert merged_cells(2, 2, 4, 4)["extension"] == 0
