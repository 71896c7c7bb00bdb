"""Coverage of the declared sweeps: what counts as recorded, what a target is for, and the command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hls.rtl_designs import SWEEPS, designs
from hls.synthesis_coverage import coverage, declared, main, total
from hls.synthesis_store import add_rows, row_of

MULTIPLIERS = designs("int_wide")


def record(folder, chosen, *, target="lut6", flow="rowpair"):
    add_rows([replace(row_of(one, target=target, flow=flow, tool="hand"), luts=1) for one in chosen], folder)


def test_a_design_is_recorded_once_whatever_its_flows(tmp_path):
    record(tmp_path, MULTIPLIERS[:3])
    record(tmp_path, MULTIPLIERS[:2], flow="booth")
    (found,) = coverage(["int_wide"], ["lut6"], tmp_path)
    assert (found.recorded, found.declared) == (3, len(MULTIPLIERS))
    assert found.flows == (("booth", 2), ("rowpair", 3))
    assert found.absent == tuple(one.name for one in MULTIPLIERS[3:])


def test_a_row_of_other_rtl_does_not_count(tmp_path):
    record(tmp_path, [replace(MULTIPLIERS[0], label="other")])
    add_rows(
        [replace(row_of(MULTIPLIERS[1], target="lut6", flow="rowpair", tool="hand"), luts=1, rtl="0" * 12)], tmp_path
    )
    (found,) = coverage(["int_wide"], ["lut6"], tmp_path)
    assert found.recorded == 0


def test_packed_pairs_are_for_fabrics_with_dsps_and_frequencies_for_registered_designs():
    assert declared("int_pairs", "lut6") and not declared("int_pairs", "sg13g2")
    assert [sweep for sweep in SWEEPS if declared(sweep, "ecp5")] == ["registered"]


def test_a_design_of_two_sweeps_is_counted_once(tmp_path):
    shared = {one.name for one in designs("more_formats")} & {one.name for one in designs("term_widths")}
    chosen = [one for one in designs("more_formats") if one.name in shared]
    assert chosen
    record(tmp_path, chosen)
    assert total("lut6", tmp_path) == (len(chosen), len(designs("all")))


def test_the_command_names_what_is_absent(tmp_path, capsys):
    record(tmp_path, MULTIPLIERS[:-1])
    assert main(["--sweep", "int_wide", "--target", "lut6", "--out", str(tmp_path), "--absent"]) == 0
    said = capsys.readouterr().out
    assert f"{len(MULTIPLIERS) - 1}/{len(MULTIPLIERS)}" in said
    assert f"  {MULTIPLIERS[-1].name}\n" in said and f"  {MULTIPLIERS[0].name}\n" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--sweep", "none"], "sweep must be all or one of"), (["--target", "lut4"], "target must be one of")],
)
def test_mistakes_are_one_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
