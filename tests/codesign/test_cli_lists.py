"""The lists behind the commands: one row for each thing there is, with what can be checked by hand."""

import json

import pytest

from codesign import cli_lists
from codesign.algorithms.registry import ALGORITHMS
from codesign.package_models import PACKAGE_MODELS
from codesign.recipes import RECIPES
from codesign.text import TEXTS
from datatypes.catalog import FORMATS
from hwmodel.gpu_truth import shared_file
from hwmodel.presets import ACCELERATORS
from hwmodel.validation import details


def test_every_entry_has_its_row():
    lists = {
        cli_lists.algorithms: ALGORITHMS, cli_lists.recipes: RECIPES, cli_lists.models: PACKAGE_MODELS,
        cli_lists.texts: TEXTS,
    }  # fmt: skip
    for made, entries in lists.items():
        assert made()["name"].tolist() == list(entries), made.__name__
    assert set(ACCELERATORS) <= set(cli_lists.accelerators()["name"])
    assert sorted(cli_lists.formats()["name"]) == sorted(fmt.name for fmt in FORMATS.values())


def test_formats_show_the_columns_they_promise():
    table = cli_lists.formats().set_index("name")
    assert set(cli_lists.FORMAT_COLUMNS) - {"name"} <= set(table.columns)
    # OCP MX specification 1.0, table 1: E4M3 reaches 448, its smallest normal is 2**-6, subnormal 2**-9
    assert table.loc["e4m3_fn", ["maximum", "min_normal", "min_subnormal"]].tolist() == [448, 2**-6, 2**-9]


def test_bits_of_a_recipe_count_everything():
    bits = cli_lists.recipes().set_index("name")["bits_4096"]
    # 4 bits, and for each group of 128 an FP16 scale and 2 bits that select the special value
    assert bits["bitmod4_g128"] == pytest.approx(4 + (16 + 2) / 128, abs=1e-12)
    assert bits["fp16"] == 16


def test_an_algorithm_says_what_it_needs():
    needs = cli_lists.algorithms().set_index("name")["needs"]
    assert needs["rtn"] == "weights only"
    assert "hessian" in needs["gptq"] and "gradient" in needs["gwq"]


def test_effects_of_an_unknown_model_or_machine(capsys):
    with pytest.raises(ValueError, match="Llama-9-7B"):
        cli_lists.effects("Llama-9-7B", "bitmod", as_json=True)
    with pytest.raises(ValueError, match="nearest: bitmod"):
        cli_lists.effects("Llama-2-7B", "bitmood", as_json=True)
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def comparisons():
    """Every table of ``validate``: made once, for it takes a while."""
    return details(None)


def test_validation_is_one_table_of_ground_truths(capsys, monkeypatch, comparisons):
    monkeypatch.setattr(cli_lists, "details", lambda rows: comparisons)
    cli_lists.validate(None, every=False, as_json=True)
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
    monkeypatch.setattr(cli_lists, "details", lambda rows: comparisons)
    cli_lists.validate(None, every=True, as_json=False)
    shown = capsys.readouterr().out
    assert "Headlines of the paper" in shown and "Ours against ground truth" in shown
    assert "Cells that disagree" not in shown  # there are none


def test_every_code_of_a_format_has_its_value(capsys):
    cli_lists.format_codes("e2m1", as_json=True)
    codes = json.loads(capsys.readouterr().out)["codes"]
    # OCP Microscaling Formats 1.0, table 5: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives
    assert [row["value"] for row in codes] == [s * v for s in (1, -1) for v in (0, 0.5, 1, 1.5, 2, 3, 4, 6)]
    cli_lists.format_codes("olive4_int", as_json=True)
    assert len(json.loads(capsys.readouterr().out)["codes"][7]["value"]) == 2  # a pair
    with pytest.raises(ValueError, match="format fp32 must have a table of values to list"):
        cli_lists.format_codes("fp32", as_json=True)
