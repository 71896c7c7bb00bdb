"""What the working commands are made of: devices, bars, groups of layers. Whole commands stand in test_cli.py."""

import io

import pandas as pd
import pytest
from rich.console import Console
from rich.progress import Progress

from codesign import cli_work
from codesign.recipe_accuracy import RecipeResult
from codesign.recipes import recipe


def test_a_device_that_torch_has_and_those_it_has_not():
    assert cli_work.checked_device("cpu") == "cpu"
    for device in ("abacus", "cuda:99"):
        with pytest.raises(ValueError, match=f"device must be one that torch can use here, not '{device}'") as caught:
            cli_work.checked_device(device)
        assert "\n" not in str(caught.value)


@pytest.fixture
def drawn():
    seen = io.StringIO()
    return seen, Progress(console=Console(file=seen, width=120, force_terminal=False))


def test_bars_follow_steps_and_results(drawn):
    seen, bars = drawn
    shown = cli_work._Bars(bars, "study", 3)
    shown.step("evaluate", 2, 30)
    shown.done(recipe("fp16"), RecipeResult("fp16", "none", {}, {"loss_delta": 0.0}, {}), True)
    shown.done(recipe("int4_g128_fp16"), RecipeResult("int4", "rtn", {}, {"loss_delta": 0.25}, {}), False)
    whole, now = bars.tasks
    assert (whole.description, whole.completed, whole.total) == ("study", 2, 3)
    assert (now.description, now.completed, now.total) == ("evaluate", 2, 30)
    assert seen.getvalue().splitlines() == [
        "fp16: measured before, loss 0 nats over the original",
        "int4_g128_fp16: measured, loss 0.25 nats over the original",
    ]


def test_without_a_terminal_a_line_says_when_calibration_is_through(drawn, capsys):
    shown = cli_work._Bars(drawn[1], "study", 1)
    shown.step("calibrate", 29, 30)
    assert capsys.readouterr().err == ""
    shown.step("calibrate", 30, 30)
    assert capsys.readouterr().err == "calibrate: 30 of 30 blocks\n"


def test_layers_alike_but_for_their_block_are_one_row():
    same = {"phase": "decode", "kind": "linear", "m": 1, "k": 64, "n": 64, "copies": 1, "weight_bits": 4.25,
            "cycles": 10, "dram_bits": 5, "energy_pj": 0.5, "macs": 4096}  # fmt: skip
    table = pd.DataFrame(
        [
            {**same, "layer": "model.layers.0.q_proj", "bound": "dram"},
            {**same, "layer": "model.layers.1.q_proj", "bound": "dram"},
            {**same, "layer": "model.layers.2.q_proj", "bound": "compute"},  # another bound: a row of its own
            {**same, "layer": "model.layers.3.q_proj", "bound": "dram", "weight_bits": float("nan")},
            {**same, "layer": "lm_head", "bound": "dram"},
        ]
    )
    made = cli_work._grouped(table)
    assert made["layer"].tolist() == ["model.layers.*.q_proj"] * 3 + ["lm_head"]
    assert made["count"].tolist() == [2, 1, 1, 1]
    assert made["cycles"].sum() == table["cycles"].sum() and made["energy_pj"].tolist() == [1.0, 0.5, 0.5, 0.5]
