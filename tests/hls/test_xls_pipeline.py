"""Pipelines that Google XLS schedules: the source it is given, what a shorter clock costs."""

from __future__ import annotations

import pytest

from hls.synthesis_yosys import yosys_version
from hls.xls_pipeline import dot_source, main, pipeline_luts, require_xls, schedule_dot


@pytest.fixture
def xls() -> None:
    try:
        require_xls()
    except ValueError as missing:
        pytest.skip(str(missing))


def test_the_source_is_a_tree_over_the_lanes():
    # three lanes: the first two are added, then the third; 4 + 8 bits and two more for three terms
    terms = [f"(weight[u32:{i}] as s14) * (activation[u32:{i}] as s14)" for i in range(3)]
    assert dot_source(4, 8, 3) == (
        "pub fn dot(weight: s4[3], activation: s8[3]) -> s14 "
        f"{{ (({terms[0]} + {terms[1]}) + ({terms[2]})) }}\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": 0}, "widths, lanes and clock_ps must be positive, not"),
        ({"delay_model": "xcup"}, "delay_model must be one of asap7, sky130, not 'xcup'"),
    ],
)
def test_mistakes_are_one_sentence(change, message):
    arguments = {"weight_bits": 4, "activation_bits": 8, "lanes": 4, "clock_ps": 1000} | change
    with pytest.raises(ValueError, match=message):
        schedule_dot(**arguments)


@pytest.mark.usefixtures("xls")
def test_a_shorter_clock_takes_more_stages_until_none_reach_it():
    stages = [schedule_dot(4, 8, 16, clock_ps=clock).stages for clock in (10_000, 2000, 1000)]
    assert stages[0] == 1
    assert stages == sorted(stages)
    assert stages[-1] > 1
    with pytest.raises(ValueError, match="clock_ps must be a period that asap7 reaches, not 10"):
        schedule_dot(4, 8, 16, clock_ps=10)


@pytest.mark.synth
@pytest.mark.usefixtures("xls")
def test_a_pipeline_adds_up_and_its_registers_are_all_that_a_cut_costs():
    if yosys_version() is None:
        pytest.skip("pyosys must be installed: pip install 'codesign[synth]'")
    whole, cut = (pipeline_luts(schedule_dot(3, 4, 4, clock_ps=clock)) for clock in (10_000, 500))
    assert whole["flip_flops"] == 0
    assert cut["flip_flops"] > 0
    assert whole["checked"] == cut["checked"] == 512
    assert abs(cut["luts"] - whole["luts"]) <= 0.1 * whole["luts"]


@pytest.mark.usefixtures("xls")
def test_a_mistake_at_the_command_line_is_status_2(capsys, monkeypatch):
    monkeypatch.setattr("hls.xls_pipeline.require_yosys", lambda: "0.70")
    assert main(["--weight-bits", "4", "--activation-bits", "8", "--lanes", "4", "--clock-ps", "1"]) == 2
    assert "clock_ps must be a period that asap7 reaches, not 1" in capsys.readouterr().err
