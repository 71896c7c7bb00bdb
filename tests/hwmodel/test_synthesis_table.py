"""The recorded synthesis tables: schema, round trip, and laws that hold whatever the tool's version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwmodel.synthesis_table import (
    COLUMNS,
    SynthesisRow,
    best_rows,
    read_rows,
    recorded_targets,
    rows_text,
    synthesis_rows,
    table_path,
)

ROW = SynthesisRow(
    "int_dot.w2a2.x1", "int_dot", "WEIGHT_BITS=2", "int2", "int2", "integer", 14, 1, False, 1, 1, False, "lut6",
    "rowpair", luts=18, delay_ps=1234.5, tool="yosys 0.70", rtl="0123456789ab",
)  # fmt: skip


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = (ROW, replace(ROW, flow="default", luts=0, serial=True, area_um2=1.25, delay_ps=None))
    path = tmp_path / "synthesis_lut6.csv"
    path.write_text(rows_text(rows), encoding="utf-8")
    assert set(read_rows(path)) == set(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("luts", "lut"), "columns of synthesis_lut6.csv must be design, family"),
        (lambda text: text.replace(",18,", ",eighteen,"), "line 2 of synthesis_lut6.csv must be a row of the table"),
        (lambda text: text.replace("integer,14,1,0", "integer,14,1,no"), "a flag must be 0 or 1, not 'no'"),
        (lambda text: text + text.splitlines()[1] + "\n", "must differ in design, target or flow"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, change, message):
    path = tmp_path / "synthesis_lut6.csv"
    path.write_text(change(rows_text([ROW])), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_rows(path)


def test_text_that_would_break_the_table_is_refused():
    with pytest.raises(ValueError, match="free of commas"):
        rows_text([replace(ROW, tool="yosys, 0.70")])


def test_an_unknown_target_names_the_recorded_ones(tmp_path):
    with pytest.raises(ValueError, match=r"target must be one of .*lut6.*, not 'lut4'"):
        synthesis_rows("lut4")
    with pytest.raises(ValueError, match="target must be one of none, not 'lut6'"):
        synthesis_rows("lut6", tmp_path)


def test_the_best_row_has_fewest_luts_and_no_dsp(tmp_path):
    rows = [ROW, replace(ROW, flow="booth", luts=17), replace(ROW, flow="dsp", luts=3, dsps=1)]
    table_path("lut6", tmp_path).write_text(rows_text(rows), encoding="utf-8")
    assert best_rows("lut6", tmp_path)[ROW.design].flow == "booth"


@pytest.mark.parametrize("target", recorded_targets())
def test_recorded_rows_are_whole(target):
    rows = synthesis_rows(target)
    assert rows and len(COLUMNS) == 31
    for row in rows:
        assert row.target == target
        assert row.tool.startswith("yosys 0.") and len(row.rtl) == 12
        assert (row.accumulator_bits > 0) == (row.accumulator_kind != "none")
        assert (row.area_um2 is not None) != (row.luts is not None)  # a fabric or cells
        if target == "lut6" and not row.dsps:
            assert row.checked is not None and row.checked > 0, row.key
        if row.area_um2 is not None:
            assert 0 <= (row.area_sequential_um2 or 0.0) <= row.area_um2
            assert row.area_um2 > 0


@pytest.mark.parametrize("target", recorded_targets())
def test_an_accumulator_has_at_least_its_flip_flops(target):
    for row in synthesis_rows(target):
        if row.accumulator_kind in ("integer", "kulisch", "float") and row.flip_flops is not None:
            assert row.flip_flops >= row.accumulator_bits, row.key


def multiplier_luts(weight_bits: int, activation_bits: int) -> int:
    """Row pairs on carry chains: floor(m/2) (n + 1) + (ceil(m/2) - 1) (n + 2), counted on the structure itself.

    m rows of n + 1 bits make floor(m/2) adders of n + 1 carry bits; adding the pairs up takes n + 2 bits each.
    """
    m, n = sorted((weight_bits, activation_bits))
    return m // 2 * (n + 1) + (-(-m // 2) - 1) * (n + 2)


def test_integer_macs_follow_the_row_pair_law():
    """Within 2 LUTs for widths of 2 to 6 and 8, as its source says; 7 rows are one odd pair more: within 3."""
    rows = {row.design: row for row in synthesis_rows("lut6") if row.flow == "rowpair"}
    for w in range(2, 9):
        for a in range(w, 9):
            row = rows[f"int_dot.w{w}a{a}.x1"]
            assert row.luts is not None
            assert abs(row.luts - multiplier_luts(w, a) - row.accumulator_bits) <= (3 if 7 in (w, a) else 2), row


def test_wider_operands_never_cost_less():
    best = best_rows("lut6")
    size = {(w, a): best[f"int_dot.w{w}a{a}.x1"].luts or 0 for w in range(2, 9) for a in range(w, 9)}
    for (w, a), luts in size.items():
        assert luts <= size.get((w, a + 1), luts)
        assert luts <= size.get((w + 1, a), luts)
