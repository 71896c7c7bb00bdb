"""What people and programs read: rounded tables, whole JSON."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from codesign.console import number, plain, records, show_json, show_table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""), (math.nan, ""), (True, "yes"), (False, "no"), (12345, "12,345"), (0.0, "0"), (0.125, "0.125"),
        (3.14159, "3.142"), (1234.56, "1,234.6"), (1e6, "1.000e+06"), (9.99e-5, "9.990e-05"), (1e-4, "0.0001"),
        (math.inf, "inf"), (-math.inf, "-inf"), ("bitmod", "bitmod"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, shown):
    assert number(value) == shown


def test_records_are_plain_python():
    frame = pd.DataFrame({"a": np.array([1, 2]), "b": np.array([0.5, np.nan]), "c": ["x", "y"]})
    made = records(frame)
    assert made[0] == {"a": 1, "b": 0.5, "c": "x"}
    assert type(made[0]["a"]) is int and type(made[0]["b"]) is float
    assert plain(np.bool_(True)) is True and plain("text") == "text"


def test_json_is_whole_and_says_null_for_what_is_no_number(capsys):
    show_json({"third": 1 / 3, "nan": math.nan, "many": (1, math.inf)})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"third": 1 / 3, "nan": None, "many": [1, None]} and err == ""


def test_a_table_shows_chosen_columns_and_json_all(capsys):
    frame = pd.DataFrame({"name": ["[bold]a[/bold]", "b"], "seconds": [0.123456, 2.0], "hidden": [1, 2]})
    show_table(frame, title="Some [things]", as_json=False, columns=["name", "seconds"], headings={"seconds": "time"})
    out = capsys.readouterr().out
    assert "Some [things]" in out and "[bold]a[/bold]" in out, "the user's brackets are no markup"
    assert "time" in out and "0.1235" in out
    assert "hidden" not in out and "seconds" not in out
    show_table(frame, title="Some", as_json=True, columns=["name"])
    assert json.loads(capsys.readouterr().out) == records(frame)


def test_numbers_stand_right_and_words_left(capsys):
    frame = pd.DataFrame({"word": ["a", "longer"], "n": [1, 1000], "flag": [True, False]})
    show_table(frame, title="t", as_json=False)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "longer" not in line and " a " in line)
    assert row.index("a") < row.index("1") and "    1 " in row and "yes" in row
