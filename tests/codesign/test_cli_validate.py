"""``codesign validate``: one table of ground truths, and the tables behind it."""

import json

import pytest

from codesign import cli_validate
from hwmodel.gpu_truth import shared_file
from hwmodel.validation import details


@pytest.fixture(scope="module")
def comparisons():
    """Every table of ``validate``: made once, for it takes a while."""
    return details(None)


def test_validation_is_one_table_of_ground_truths(capsys, monkeypatch, comparisons):
    monkeypatch.setattr(cli_validate, "details", lambda rows: comparisons)
    cli_validate.validate(None, every=False, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["summary"]
    rows = {(row["ground_truth"], row["quantity"]): row for row in found["summary"]}
    cycles = rows["BitMoD simulator, v2", "cycles"]
    assert (cycles["cases"], cycles["worst_error"]) == (90, 0)  # rows of the published results
    fused = rows["BitFusion", "area of a 4x4 array of 8/2 units, um2"]
    assert fused["truth"] == 27753.0  # synthesis table in BitFusion's repository
    assert fused["worst_error"] == pytest.approx(fused["ours"] / 27753.0 - 1)
    truths = {truth for truth, _ in rows}
    assert {"own, CUDA 13, h100", "own event simulator"} <= truths
    if shared_file("vidur_gemm.csv") is not None and shared_file("vidur_network.csv") is not None:
        assert {"Vidur, a100", "Vidur, nvlink3"} <= truths
    # figures that ours were made from have no error
    assert all((row["mean_error"] is None) == (row["standing"] == "input") for row in found["summary"])
    assert all(row["standing"] for row in found["summary"])


def test_validation_with_details_has_the_tables_behind(capsys, monkeypatch, comparisons):
    monkeypatch.setattr(cli_validate, "details", lambda rows: comparisons)
    cli_validate.validate(None, every=True, as_json=False)
    shown = capsys.readouterr().out
    assert "Headlines of the paper" in shown and "Ours against ground truth" in shown
    assert "Cells that disagree" not in shown  # there are none
