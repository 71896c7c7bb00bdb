"""``codesign validate --gpu``: in short, in full, as a page; and options that do not belong together."""

import json

import pytest

from codesign import cli_validate_gpu
from codesign.cli import main


def test_validation_shows_errors_in_short_and_in_full(capsys, tmp_path):
    cli_validate_gpu.validate_gpu((), every=False, page=None, as_json=True)
    short = json.loads(capsys.readouterr().out)
    assert list(short) == ["summary"] and sum(row["rows"] for row in short["summary"]) >= 200
    cli_validate_gpu.validate_gpu((), every=True, page=tmp_path / "page.html", as_json=True)
    full = json.loads(capsys.readouterr().out)
    assert sum(row["rows"] for row in full["shapes"]) == len(full["rows"])
    assert len(full["rows"]) == sum(row["rows"] for row in short["summary"])
    assert (tmp_path / "page.html").stat().st_size > 1e6
    cli_validate_gpu.validate_gpu((), every=True, page=None, as_json=False)
    shown = capsys.readouterr().out
    assert "By shape and tokens" in shown and "Predicted and measured" in shown and "roofline" in shown


def test_options_of_the_two_validations_do_not_mix(capsys, tmp_path):
    for arguments, sentence in {
        ("--gpu", "--rows", "x.csv"): "rows must be left out with --gpu",
        ("x.json",): "measured files and --page must come with --gpu",
        ("--gpu", str(tmp_path / "absent.json")): "could not be used: No such file",
        ("--gpu", "--sheet", "a100"): "--sheet must come with --gpu and the measured files of that GPU",
        ("--sheet", "a100"): "--sheet must come with --gpu",
        ("--gpu", "x.json", "--sheet", "bitmod"): "--sheet must be a GPU, one of a100",
        ("--gpu", "x.json", "--sheet", "none.yaml"): "none.yaml must be a readable YAML file",
    }.items():
        with pytest.raises(SystemExit) as ended:
            main(["validate", *arguments])
        assert ended.value.code == 2 and sentence in " ".join(capsys.readouterr().err.split())
