"""Physical parts: closed forms against other RTL, hand counts, laws."""

import csv

import pytest

from datatypes.catalog import INTS, MINIFLOATS
from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import Arithmetic, design, design_of_row, pe_design
from hwmodel.unit_cost_parts import (
    GROUPS,
    group_of,
    int_dot_luts,
    multiplier_luts,
    parts_of,
    registers,
    shift_luts,
    shift_muxes,
    tree_bits,
)
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


def test_shift_by_hand():
    # 4 bits shifted by 0 to 3: one stage of four-way muxes; bits 0..6 read 1, 2, 3, 4, 3, 2, 1 sources and two selects
    assert shift_luts(4, 3) == (6 * 0.5 + 1, 0)
    assert shift_muxes(4, 3) == (4 + 1) + (4 + 3)
    # by 0 or 1: a two-way stage of 5 bits, at most two sources and a select each
    assert shift_luts(4, 1) == (0, 5 * 0.5)
    assert shift_luts(4, 0) == (0, 0)
    assert shift_muxes(4, 0) == 0


@pytest.mark.parametrize("lut", [True, False], ids=["luts", "cells"])
def test_more_mantissa_or_lanes_never_has_less_of_a_part(lut):
    def parts(exponent_bits, mantissa_bits, lanes):
        fmt = MINIFLOATS[f"e{exponent_bits}m{mantissa_bits}"]
        return parts_of(pe_design(fmt, fmt, lanes=lanes), lut=lut, price=lambda _: 1.0)

    for exponent_bits in (1, 2, 3, 4):
        for mantissa_bits in range(1, 6 - exponent_bits):
            narrow, wide = (parts(exponent_bits, mantissa_bits + more, 4) for more in (0, 1))
            total = {name for name in narrow if name not in ("array", "gates")}
            assert all(wide[name] >= narrow[name] for name in total)
        one, four = parts(exponent_bits, 2, 4), parts(exponent_bits, 2, 16)
        assert all(four[name] >= one[name] for name in one)


@pytest.mark.parametrize("target", ["lut6", "sky130hd", "sg13g2"])
def test_registers_by_architecture_are_those_of_the_netlists(target):
    checked = 0
    for row in best_rows(target).values():
        count = registers(design_of_row(row)) if row.flip_flops is not None else None
        if count is not None:
            assert count == row.flip_flops, row.design
            checked += 1
    assert checked > 100


def test_every_group_has_parts_for_its_families():
    for group, families in GROUPS.items():
        assert all(group_of(family) == group for family in families)


def test_a_decoder_has_no_parts():
    with pytest.raises(ValueError, match="family must be one of int_multiplier, .* not 'flint_decode'"):
        group_of("flint_decode")


def test_powers_of_two_need_no_product():
    e3m0 = MINIFLOATS["e3m0"]
    parts = parts_of(pe_design(e3m0, e3m0, arithmetic=Arithmetic.FIXED_PRODUCT), lut=True, price=lambda _: 0.0)
    assert "shift" not in parts
    # 15 bits of product
    assert parts["one_hot"] == 15


def test_integer_parts_grow_with_lanes():
    def dot(lanes):
        return design("int_dot", WEIGHT_BITS=4, ACTIVATION_BITS=8, LANES=lanes, ACCUMULATOR_BITS=22)

    one, four = (parts_of(dot(n), lut=False, price=lambda _: 0.0) for n in (1, 4))
    assert four["rows"] == 4 * one["rows"]
    # three adders: two of 13 bits, one of 14
    assert four["adder_bits"] == one["adder_bits"] + 2 * 13 + 14
    assert parts_of(pe_design(INTS[2], INTS[2]), lut=True, price=lambda _: 0.0) == {"closed_form": 4 + 14}
