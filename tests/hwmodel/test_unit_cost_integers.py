"""Closed forms of integers on LUTs: against netlists, against other RTL, by hand."""

import csv

import pytest

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import design_of_row
from hwmodel.unit_cost_integers import (
    dot_cells,
    int_dot_luts,
    multiplier_cells,
    multiplier_luts,
    sum_bits,
    tree_bits,
)
from hwmodel.unit_cost_prices import known_prices, part_prices, samples, solve
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


def test_cells_of_a_multiplier_alone_by_hand():
    # 3 x 4 signed: an array of two adders of three bits, the last row subtracted
    assert multiplier_cells(3, 4, signs=2) == {"array": 6, "array_sign": 3}
    # an unsigned narrow operand subtracts nothing; a product of seven bits is not recoded
    assert multiplier_cells(3, 2, signs=1) == {"array": 2, "array_sign": 0}
    assert multiplier_cells(4, 3, signs=1) == {"array": 6, "array_sign": 0}
    # 8 x 8: four digits of nine bits, three adders of nine; the array of 7 x 7 adders counts as well
    assert multiplier_cells(8, 8, signs=2) == {"rows": 4 * 9, "row_adders": 3 * 9, "large_array": 49, "last_row": 0}
    # 8 bits by an unsigned 4: two digits of eight bits, and the zero above makes a third: a row of seven adders
    assert multiplier_cells(8, 4, signs=1)["last_row"] == 7
    # none where the unsigned operand is wider, or of odd width, whose top digit holds the zero
    assert multiplier_cells(4, 8, signs=1)["last_row"] == 0
    assert multiplier_cells(8, 5, signs=1)["last_row"] == 0


def test_cells_of_recoded_products_by_hand():
    # 4 x 4 signed: two digits, rows of five bits, one adder of five; the last adder is all that a single lane adds
    alone = {"rows": 2 * 5, "row_adders": 5, "padded": 0, "adder_bits": 18, "clear_bits": 18}
    assert dot_cells(4, 4, 1, 18, unsigned=0) == alone
    # 4 x 8: four digits of five bits; the four bits have two digits, widened by four copies of their sign
    two = dot_cells(4, 8, 2, 22, unsigned=0)
    assert (two["rows"], two["row_adders"], two["padded"]) == (2 * 4 * 5, 2 * 3 * 5, 2 * 4 * 2)
    # an unsigned activation of eight bits is not widened, and has a fifth digit that is 0 or 1
    eight = dot_cells(8, 8, 1, 26, unsigned=1)
    assert eight == {"rows": 4 * 8, "row_adders": 4 * 9, "adder_bits": 26, "clear_bits": 26}
    # two lanes of 4 x 3 unsigned bits are recoded, as a product of 4 x 4; one of seven bits is not
    assert "rows" in dot_cells(4, 3, 2, 17, unsigned=1)
    assert "rows" not in dot_cells(4, 3, 1, 17, unsigned=1)


def test_cells_of_narrow_products_by_hand():
    # two rows of two bits and the accumulator: full adders in the columns of 2 and 4, in which three bits meet twice...
    one = dot_cells(2, 2, 1, 14, unsigned=0)
    assert (one["gates"], one["clear_bits"]) == (4, 14)
    # ... and what is above the product adds its sign to the accumulator: the last adder alone
    wider = dot_cells(2, 2, 1, 32, unsigned=0)
    assert wider["adder_bits"] - one["adder_bits"] == 32 - 14
    # a product without an accumulator has no register
    assert dot_cells(2, 2, 1, 0, unsigned=0)["clear_bits"] == 0


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
def test_an_adder_of_a_sum_costs_a_full_adder_and_little_more(target, adder):
    """The last adder cannot wait for its carries as those of the tree do, and mapping makes it faster."""
    assert adder <= part_prices("integer", target).prices["adder_bits"] <= 1.35 * adder


@pytest.mark.parametrize("target", ["sky130hd", "sg13g2", "osu018"])
def test_macs_left_out_do_not_move_the_price_of_an_adder(target):
    """One lane and many are the same sum, so dot products alone say what an adder and a gate of a MAC cost."""
    every = samples("integer", target)
    whole, dots = (solve(chosen, known_prices("integer", target))
                   for chosen in (every, [s for s in every if s.row.lanes > 1]))  # fmt: skip
    assert dots["adder_bits"] == pytest.approx(whole["adder_bits"], rel=0.1)
    assert dots["gates"] == pytest.approx(whole["gates"], rel=0.3)
