"""The script's arithmetic against the package's own, run under Node."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.dashboard.axes import X_AXES, Y_AXES
from codesign.dashboard.breakdown import breakdown
from codesign.dashboard.energy_split import energy_split
from codesign.dashboard.kind_cycles import kind_cycles
from codesign.dashboard.layer_costs import PHASES, TrialKey
from codesign.dashboard.memory_compute import memory_compute
from codesign.dashboard.page_data import page_data, to_json
from codesign.dashboard.roofline import roof, roofline
from codesign.dashboard.trade_off import trade_off
from codesign.pareto import pareto_mask
from codesign.study import StudyResult

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node to run the page's script")

# Layer figures on the page carry seven significant digits: half a unit of the last is at most 5e-7 of the value.
ROUNDED = 5e-7

# Reads {data, calls: [[function, ...arguments]]}; the argument "$data" stands for the unpacked data.
DRIVER = """
const numbers = require(process.argv[1]);
const { data, calls } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const open = data && numbers.unpack(data);
const value = (argument) => argument === "$data" ? open
  : argument !== null && argument.set !== undefined ? new Set(argument.set) : argument;
console.log(JSON.stringify(calls.map(([name, ...rest]) => numbers[name](...rest.map(value)))));
"""

Call = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def call(package_file: Callable[[str], Path]) -> Call:
    def run(calls: list[list[Any]], result: StudyResult | None = None) -> list[Any]:
        data = None if result is None else json.loads(to_json(page_data(result)))
        done = subprocess.run(
            [str(NODE), "-e", DRIVER, str(package_file("numbers.js"))],
            input=json.dumps({"data": data, "calls": calls}),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return run


def test_the_front_is_that_of_the_package(call: Call) -> None:
    rng = np.random.default_rng(5)
    clouds = [
        rng.integers(0, high, size=(count, 2)).astype(float) for count in (0, 1, 2, 9, 60) for high in (1, 3, 9, 200)
    ]
    clouds += [rng.normal(size=(300, 2)), np.array([[1.0, np.nan], [np.nan, 0.0], [2.0, 2.0], [2.0, 2.0], [3.0, -0.0]])]
    lists = [[[None if np.isnan(v) else v for v in column] for column in cloud.T] for cloud in clouds]
    answers = call([["paretoMask", x, y] for x, y in lists])
    assert answers == [pareto_mask(cloud).tolist() for cloud in clouds]


@pytest.mark.parametrize("shown", [None, ["bitmod", "edge_npu"]], ids=["all accelerators", "two accelerators"])
def test_every_trade_off_is_that_of_the_package(call: Call, full_result: StudyResult, shown: list[str] | None) -> None:
    pairs = [(x.column, y.column) for x in X_AXES for y in Y_AXES]
    chosen = None if shown is None else {"set": shown}
    answers = call([["tradeOff", "$data", x, y, chosen] for x, y in pairs], full_result)
    for (x, y), answer in zip(pairs, answers, strict=True):
        info = trade_off(full_result, x=x, y=y, accelerators=shown)
        assert answer["trials"] == info.trials.tolist()
        assert answer["x"] == info.x_values.tolist()
        assert answer["y"] == info.y_values.tolist()
        assert answer["front"] == info.front.tolist()
        assert answer["error"] == (None if info.y_error is None else info.y_error.tolist())


def _trials(result: StudyResult, rows: list[int]) -> list[TrialKey]:
    trials = result.trials
    return [TrialKey(trials["recipe"].iloc[row], trials["accelerator"].iloc[row]) for row in rows]


ROWS = [0, 6, 22, 66, 114]


@pytest.mark.parametrize("every_layer", [False, True], ids=["by role", "every layer"])
@pytest.mark.parametrize("phase", PHASES)
def test_breakdowns_and_bars_are_those_of_the_package(
    call: Call, full_result: StudyResult, phase: str, every_layer: bool
) -> None:
    names = ("breakdown", "memoryCompute")
    answers = call([[name, "$data", row, phase, every_layer] for row in ROWS for name in names], full_result)
    for i, trial in enumerate(_trials(full_result, ROWS)):
        bars = breakdown(full_result, trial, phase, every_layer=every_layer)
        pairs = memory_compute(full_result, trial, phase, every_layer=every_layer)
        got_bars, got_pairs = answers[2 * i : 2 * i + 2]
        assert got_bars["names"] == got_pairs["names"] == list(bars.names)
        assert got_bars["kinds"] == list(bars.kinds)
        assert got_bars["members"] == bars.members.tolist()
        np.testing.assert_allclose(got_bars["cycles"], bars.cycles, rtol=ROUNDED)
        np.testing.assert_allclose(got_bars["shares"], bars.shares, rtol=2 * ROUNDED)
        np.testing.assert_allclose(got_pairs["compute"], pairs.compute_cycles, rtol=ROUNDED)
        np.testing.assert_allclose(got_pairs["dram"], pairs.dram_cycles, rtol=ROUNDED)


def test_kinds_energy_and_roofline_are_those_of_the_package(call: Call, full_result: StudyResult) -> None:
    names = ("kindCycles", "energySplit", "roofline")
    answers = call([[name, "$data", row] for row in ROWS for name in names], full_result)
    for i, trial in enumerate(_trials(full_result, ROWS)):
        got_kinds, got_energy, got_roof = answers[3 * i : 3 * i + 3]
        kinds, energy, line = (f(full_result, trial) for f in (kind_cycles, energy_split, roofline))
        assert got_kinds["kinds"] == list(kinds.kinds)
        np.testing.assert_allclose(got_kinds["cycles"], kinds.cycles, rtol=ROUNDED)
        np.testing.assert_allclose(got_kinds["shares"], kinds.shares, rtol=2 * ROUNDED)
        assert got_energy["parts"] == list(energy.parts)
        # "Other" is a difference of sums, so its error is that of the whole.
        whole = energy.energy_pj.sum(axis=1).max(initial=0.0)
        np.testing.assert_allclose(got_energy["energy_pj"], energy.energy_pj, rtol=ROUNDED, atol=2 * ROUNDED * whole)
        points = got_roof["points"]
        assert [(p["name"], p["kind"], p["phase"]) for p in points] == list(
            zip(line.names, line.kinds, line.phases, strict=True)
        )
        np.testing.assert_allclose([p["intensity"] for p in points], line.intensity_macs_per_byte, rtol=2 * ROUNDED)
        np.testing.assert_allclose([p["rate"] for p in points], line.macs_per_s, rtol=2 * ROUNDED)
        np.testing.assert_allclose([p["share"] for p in points], line.shares, rtol=2 * ROUNDED)
        assert got_roof["leftOut"] == line.left_out
        assert (got_roof["peak"], got_roof["bandwidth"]) == (line.peak_macs_per_s, line.dram_bytes_per_s)
        peak = np.nan if got_roof["trialPeak"] is None else got_roof["trialPeak"]
        np.testing.assert_allclose(peak, line.trial_macs_per_s, rtol=2 * ROUNDED)


def test_the_roof_is_that_of_the_package(call: Call, small_result: StudyResult) -> None:
    line = roofline(small_result, TrialKey("a", "m"))
    info = {"bandwidth": 1e9, "points": [{"intensity": value} for value in line.intensity_macs_per_byte]}
    drawn, empty = call([["roof", info, 8e9], ["roof", info, None]])
    x, y = roof(line, 8e9)
    assert (drawn["x"], drawn["y"]) == (x.tolist(), y.tolist())
    assert empty == {"x": [], "y": []}


def test_headlines_by_hand(call: Call, small_result: StudyResult) -> None:
    goals = ["bits_per_weight", "decode_s"]
    close, far, nowhere = call(
        [
            ["headlines", "$data", goals, tolerance, shown]
            for tolerance, shown in ((0.05, None), (0.1, None), (1.0, {"set": []}))
        ],
        small_result,
    )
    # Trials a (4 bits, +0.1, 1 ms), ref (16, 0, 2 ms), worse (+0.2), one unsupported, one without a loss.
    assert close == [{"column": goal, "trial": 1, "reference": 1} for goal in goals]
    assert far == [{"column": goal, "trial": 0, "reference": 1} for goal in goals]
    assert nowhere == [{"column": goal, "trial": None, "reference": 1} for goal in goals]


def test_texts_of_numbers_and_names(call: Call) -> None:
    cases = [
        (["si", 0.00123456, "s"], "1.23 ms"),
        (["si", 999.9, "B"], "1.00 kB"),
        (["si", 0, "J"], "0 J"),
        (["si", None, "J"], "–"),
        (["si", 2.5e18, "B"], "2500 PB"),
        (["shortSi", 0.002, "s"], "2 ms"),
        (["shortSi", 1.5e9, "B"], "1.5 GB"),
        (["shortSi", 500, "J"], "500 J"),
        (["shortSi", 0.02, ""], "0.02"),
        (["shortSi", 100, ""], "100"),
        (["shortSi", 2e11, ""], "200 G"),
        (["logTickValues", [3, None, -1, 0, 40], 20], [1, 2, 5, 10, 20, 50, 100, 200, 500]),
        (["logTickValues", [3, 9], 20], [1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80]),
        (["logTickValues", [3, 60], 20], [1, 10, 100]),
        (["logTickValues", [0, -2], 20], []),
        (["fixed", -1.25, 1], "−1.3"),  # JavaScript's toFixed rounds this exact tie away from zero (ECMA-262, 21.1.3.3)
        (["fixed", None, 2], "–"),
        (["signed", 0.5, 2], "+0.50"),
        (["plain", "<b>&</b>"], "&lt;b&gt;&amp;&lt;/b&gt;"),
        (["shorten", "abcdefghij", 5], "ab…ij"),
        (["shorten", "abc", 5], "abc"),
        (["upperFence", [1, 2, 3, 4, 100], []], 4),  # quartiles 2 and 4, fence 4 + 1.5 * 2 = 7
        (["upperFence", [1, 2, 3, 4, 100], [100]], None),
        (["upperFence", [1, 2, 3, 4, 5], []], None),
        (["upperFence", [1, 100], []], None),
    ]
    assert call([case for case, _ in cases]) == [expected for _, expected in cases]
