"""``codesign report``: the recipes of a finished study in order of loss, each where it runs fastest, and its page."""

import json
from pathlib import Path

import pandas as pd
import pytest

from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult
from codesign.study_folder import write_study

# recipe, accelerator, loss, seconds of prompt and answer, can run, on the front
TRIALS = (
    ("int4", "bitmod", 2.5, 0.75, True, True),
    ("fp16", "bitmod", 2.25, 3.5, True, False),
    ("fp16", "stripes", 2.25, 2.0, True, True),
    ("fp16", "ant", 2.25, 0.25, False, False),
    ("int3", "ant", 3.5, 0.5, False, False),
)


@pytest.fixture
def folder(tmp_path):
    words = {"algorithm": "rtn", "reason": "", "source": "made up", "bound": "compute", "kind": "linear",
             "layer": "model.layers.0.q_proj"}  # fmt: skip
    trials = pd.DataFrame(
        [
            {key: words.get(key, 1.0) for key in TRIAL_COLUMNS}
            | {"recipe": recipe, "accelerator": name, "loss": loss, "perplexity": 2**loss, "total_s": seconds,
               "prefill_s": seconds / 4, "supported": supported, "on_front": on_front}
            for recipe, name, loss, seconds, supported, on_front in TRIALS
        ]
    )  # fmt: skip
    layers = pd.DataFrame(
        [
            {key: words.get(key, 1.0) for key in LAYER_COLUMNS}
            | {"recipe": row[0], "accelerator": row[1], "phase": phase}
            for row in TRIALS
            for phase in ("prefill", "decode")
        ]
    )
    machines = pd.DataFrame(
        [{key: words.get(key, 1.0) for key in MACHINE_COLUMNS} | {"accelerator": name}
         for name in ("bitmod", "stripes", "ant")]
    )  # fmt: skip
    result = StudyResult("tiny", trials, layers, machines, ("loss", "total_s"), {"model": {"name": "m"}})
    write_study(result, tmp_path / "out")
    return tmp_path / "out"


def test_a_recipe_stands_once_where_it_runs_fastest(run, folder):
    status, out, err = run("report", folder)
    assert status == 0
    lines = [line for line in out.splitlines() if "bitmod" in line or "stripes" in line or "ant" in line]
    # by loss; FP16's prompt takes 0.5 of the 2 seconds on the faster machine; what cannot run is not shown
    assert [line.split()[1:4:2] for line in lines] == [["fp16", "stripes"], ["int4", "bitmod"]]
    assert "0.5" in lines[0].split() and "0.1875" in lines[1].split()
    assert "the front of loss, total_s" in " ".join(out.split())
    said = " ".join(err.split())
    assert "5 pairs of recipe and accelerator, all on the page; 2 cannot run, and it says why" in said


def test_the_page_is_drawn_again_and_said(run, folder, monkeypatch):
    page = folder / "index.html"
    page.write_text("an earlier page")
    monkeypatch.chdir(folder.parent)
    status, out, _ = run("report", folder.name, "--json")
    shown = json.loads(out)
    assert status == 0 and shown["name"] == "tiny"
    assert Path(shown["page"]) == page.resolve() and "plotly" in page.read_text(encoding="utf-8").lower()
    # programs get every pair, in the order of the table, with all columns
    assert [(row["recipe"], row["accelerator"]) for row in shown["trials"]] == [trial[:2] for trial in TRIALS]
    assert all(row.keys() == TRIAL_COLUMNS.keys() for row in shown["trials"])
