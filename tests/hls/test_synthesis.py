"""The sweep: what it skips, keeps and reports; no tool runs here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hls.rtl_constructors import int_dot, int_pair_dot
from hls.synthesis import main, measure_of, suited, sweep
from hls.synthesis_store import add_rows, missing, row_of
from hls.synthesis_yosys import SynthesisError
from hwmodel.synthesis_table import read_rows, table_path

DESIGNS = [int_dot(w, 4) for w in (2, 3, 4, 5)]


def measured(design, flow, luts=7):
    return replace(row_of(design, target="lut6", flow=flow, tool="hand"), luts=luts)


def test_each_batch_is_recorded_before_the_next(tmp_path):
    calls = []

    def measure(chosen, flow, folder):
        assert folder.is_dir()
        known = read_rows(table_path("lut6", tmp_path)) if calls else ()
        assert len(known) == sum(calls)
        calls.append(len(chosen))
        return [measured(design, flow) for design in chosen]

    steps = list(sweep(DESIGNS, target="lut6", flow="rowpair", measure=measure, folder=tmp_path, batch=3))
    assert steps == [(3, 4, ""), (4, 4, "")]
    assert calls == [3, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["synthesis_lut6.csv"]  # no lock, no part left


def test_a_second_run_measures_nothing(tmp_path):
    add_rows([measured(design, "rowpair") for design in DESIGNS], tmp_path)
    assert missing(DESIGNS, target="lut6", flow="rowpair", folder=tmp_path) == []
    assert missing(DESIGNS, target="lut6", flow="default", folder=tmp_path) == DESIGNS


def test_rows_of_other_rtl_are_measured_again(tmp_path):
    add_rows([replace(measured(DESIGNS[0], "rowpair"), rtl="0" * 12), measured(DESIGNS[1], "rowpair")], tmp_path)
    assert missing(DESIGNS[:2], target="lut6", flow="rowpair", folder=tmp_path) == DESIGNS[:1]


def test_designs_for_dsp_slices_go_through_no_other_flow():
    chosen = [DESIGNS[0], int_pair_dot(4, 8)]
    assert suited(chosen, "dsp") == suited(chosen, "dsp_chains") == chosen
    assert suited(chosen, "rowpair") == chosen[:1]


def test_a_design_that_fails_costs_only_itself(tmp_path):
    def measure(chosen, flow, folder):
        if DESIGNS[1] in chosen:
            raise SynthesisError("no such cell")
        return [measured(design, flow) for design in chosen]

    steps = list(sweep(DESIGNS, target="lut6", flow="rowpair", measure=measure, folder=tmp_path, batch=4))
    assert [message for *_, message in steps if message] == [f"{DESIGNS[1].name}: no such cell"]
    assert len(read_rows(table_path("lut6", tmp_path))) == 3


def test_what_was_measured_survives_an_interruption(tmp_path):
    def measure(chosen, flow, folder):
        if DESIGNS[2] in chosen:
            raise KeyboardInterrupt
        return [measured(design, flow) for design in chosen]

    with pytest.raises(KeyboardInterrupt):
        list(sweep(DESIGNS, target="lut6", flow="rowpair", measure=measure, folder=tmp_path, batch=1))
    assert missing(DESIGNS, target="lut6", flow="rowpair", folder=tmp_path) == DESIGNS[2:]


@pytest.mark.parametrize(
    ("target", "message"),
    [("sky130hd", "a cell library given with --liberty"), ("Lut6", "must be lut6, ecp5, or a cell library")],
)
def test_a_cell_library_needs_its_file(target, message):
    with pytest.raises(ValueError, match=message):
        measure_of(target, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "lut6", "--sweep", "everything"], "sweep must be all or one of"),
        (["--target", "osu018"], "target must be lut6, ecp5, or a cell library given with --liberty, not 'osu018'"),
        (["--target", "osu018", "--liberty", "nowhere.lib"], "liberty must be files, not 'nowhere.lib'"),
        (["--target", "lut6", "--only", "int_dot.w9*"], "only must match a design of all, not 'int_dot.w9*'"),
        (
            ["--target", "lut6", "--flow", "fast"],
            "flow of lut6 must be of rowpair, default, booth, rowpair_gates, gates, gates_nomux, gates_rounds, "
            "gates_twice, rowpair_gates_nomux, not fast",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hls.synthesis.require_yosys", lambda: "0.70")
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_yosys_the_sentence_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hls.synthesis_yosys.yosys_version", lambda: None)
    assert main(["--target", "lut6", "--out", str(tmp_path)]) == 2
    assert "pyosys must be installed, 0.70 or newer" in capsys.readouterr().err
