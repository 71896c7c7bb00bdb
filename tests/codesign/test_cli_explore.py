"""What people see of fronts and what files hold; the command as a whole is in ``test_explore``."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from codesign.cli_explore import _file, _short, _show, _size, explore_space
from codesign.explore import COLUMNS, Explored, ExploreSpec

SPEC = ExploreSpec(objectives=("total_s", "area_mm2"))


def front(count, **changed):
    row = dict.fromkeys(COLUMNS, 1.0) | {
        "batch": 1, "prompt": 16, "tokens": 3, "recipe": "fp16", "accelerator": "bitmod", "prefill_array": "32x32",
        "decode_array": "64x16", "weight_buffer_kib": 64.0, "activation_buffer_kib": 0.5, "memory": "ddr4",
    }  # fmt: skip
    return pd.DataFrame([{"index": i, **row, "total_s": float(i), **changed} for i in range(count)])


@pytest.mark.parametrize(
    ("kib", "shown"), [(None, "-"), (np.nan, "-"), (64.0, "64"), (0.5, "0.5"), (1e6, "1e+06"), (0.0, "0")]
)
def test_sizes(kib, shown):
    assert _size(kib) == shown


def test_people_see_the_design_and_what_was_asked_for():
    table = _short(front(2), SPEC)
    assert table.iloc[1].to_dict() == {
        "recipe": "fp16", "accelerator": "bitmod", "array": "32x32 / 64x16", "buffers_kib": "64 / 0.5",
        "memory": "ddr4", "bandwidth_gb_s": 1.0, "frequency_ghz": 1.0, "total_s": 1.0, "area_mm2": 1.0,
    }  # fmt: skip
    gpu = _short(front(1, prefill_array=None, decode_array=None, weight_buffer_kib=None), SPEC).iloc[0]
    assert (gpu["array"], gpu["buffers_kib"]) == ("- / -", "- / 0.5")


def test_files_hold_every_number_whole():
    table = front(3, area_mm2=1 / 3)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(_file(table, ".parquet"))), table)
    csv = pd.read_csv(io.BytesIO(_file(table, ".csv")), dtype=str)
    assert [float(text) for text in csv["area_mm2"]] == [1 / 3] * 3 and list(csv.columns) == list(table.columns)


def test_people_see_part_of_a_long_front_and_programs_all(capsys):
    found = Explored("tiny", 1000, 900, front(65), ("fp32: cannot run",))
    _show(found, SPEC, as_json=False)
    out, err = capsys.readouterr()
    title = " ".join(out.split("┏")[0].split())
    assert title == (
        "tiny, batch 1, 16 + 3 tokens: front of 65 designs in total_s, area_mm2, of 1,000 in all workloads; "
        "one of every 3 shown"
    )
    assert out.count("bitmod") == 22  # rows 0, 3, ..., 63
    assert err.strip() == "not run: fp32: cannot run"
    _show(found, SPEC, as_json=True)
    made = json.loads(capsys.readouterr().out)
    assert len(made["front"]) == 65 and made["not_runnable"] == ["fp32: cannot run"]


def test_each_workload_has_its_table(capsys):
    both = pd.concat([front(1), front(1, prompt=32)])
    _show(Explored("tiny", 2, 2, both, ()), SPEC, as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "16 + 3 tokens" in out and "32 + 3 tokens" in out and "shown" not in out


def test_a_front_without_designs_says_why(capsys):
    _show(Explored("tiny", 4, 0, front(1).iloc[:0], ("fp32: cannot run",)), SPEC, as_json=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["not run: fp32: cannot run", "none of the 4 designs can run, so there is no front"]


NOTHING = dict.fromkeys(("recipes", "losses", "objectives"))


@pytest.mark.parametrize(
    ("given", "file", "objectives"),
    [
        ({"losses": "t.csv"}, None, ("loss", *ExploreSpec().objectives)),
        ({"losses": "t.csv", "objectives": "loss,total_s"}, None, ("loss", "total_s")),
        ({"objectives": "total_s"}, "objectives: [area_mm2]", ("total_s",)),
        ({}, "objectives: [area_mm2]", ("area_mm2",)),
    ],
    ids=["losses add loss", "chosen ones stay", "options go first", "the file's own"],
)
def test_which_objectives(monkeypatch, tmp_path, given, file, objectives):
    asked = []
    empty = Explored("tiny", 0, 0, front(0), ())
    monkeypatch.setattr("codesign.cli_explore.explore", lambda model, spec, **_: asked.append(spec) or empty)
    path = None
    if file is not None:
        path = tmp_path / "space.yaml"
        path.write_text(file)
    explore_space("tiny", path, NOTHING | given, out=None, threads=None, as_json=True)
    assert asked[0].objectives == objectives
