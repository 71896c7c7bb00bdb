"""The lists behind the commands: one row for each thing there is, with what can be checked by hand."""

import json

import pytest

from codesign import cli_lists
from codesign.package_models import PACKAGE_MODELS
from codesign.text import TEXTS
from datatypes.catalog import FORMATS
from hwmodel.presets import ACCELERATORS


def test_every_entry_has_its_row():
    assert cli_lists.models()["name"].tolist() == list(PACKAGE_MODELS)
    assert cli_lists.texts()["name"].tolist() == list(TEXTS)
    assert set(ACCELERATORS) <= set(cli_lists.accelerators()["name"])
    assert sorted(cli_lists.formats()["name"]) == sorted(fmt.name for fmt in FORMATS.values())


def test_formats_show_the_columns_they_promise():
    table = cli_lists.formats().set_index("name")
    assert set(cli_lists.FORMAT_COLUMNS) - {"name"} <= set(table.columns)
    # OCP MX specification 1.0, table 1: E4M3 reaches 448, its smallest normal is 2**-6, subnormal 2**-9
    assert table.loc["e4m3_fn", ["maximum", "min_normal", "min_subnormal"]].tolist() == [448, 2**-6, 2**-9]


def test_every_code_of_a_format_has_its_value(capsys):
    cli_lists.format_codes("e2m1", as_json=True)
    codes = json.loads(capsys.readouterr().out)["codes"]
    # OCP Microscaling Formats 1.0, table 5: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives
    assert [row["value"] for row in codes] == [s * v for s in (1, -1) for v in (0, 0.5, 1, 1.5, 2, 3, 4, 6)]
    cli_lists.format_codes("olive4_int", as_json=True)
    assert len(json.loads(capsys.readouterr().out)["codes"][7]["value"]) == 2  # a pair
    with pytest.raises(ValueError, match="format fp32 must have a table of values to list"):
        cli_lists.format_codes("fp32", as_json=True)
