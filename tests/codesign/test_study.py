"""The nouns of a study: tables with every column they promise, and the front over them."""

import pandas as pd
import pytest

from codesign.study import DEFAULT_OBJECTIVES, LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult, mark_front

TABLES = {"trials": TRIAL_COLUMNS, "layers": LAYER_COLUMNS, "machines": MACHINE_COLUMNS}


def tables(**without):
    return {
        name: pd.DataFrame(columns=[c for c in columns if c != without.get(name)]) for name, columns in TABLES.items()
    }


def test_objectives_by_default_are_columns():
    assert set(DEFAULT_OBJECTIVES) <= set(TRIAL_COLUMNS)
    assert StudyResult("empty", **tables()).objectives == DEFAULT_OBJECTIVES


@pytest.mark.parametrize(
    ("table", "column"), [("trials", "loss_delta"), ("layers", "energy_dram_pj"), ("machines", "clock_hz")]
)
def test_a_table_without_a_column_is_refused(table, column):
    with pytest.raises(ValueError, match=f"table {table} must have the columns {column}, not only its others"):
        StudyResult("broken", **tables(**{table: column}))


def test_the_front_is_what_nothing_supported_beats():
    trials = pd.DataFrame(
        {
            "loss": [1.0, 2.0, 2.0, 0.1, 3.0],
            "total_s": [3.0, 1.0, 2.0, 0.1, 0.5],
            "supported": [True, True, True, False, True],
        },
        index=[10, 11, 12, 13, 14],
    )
    # 12 is beaten by 11 (as good in loss, better in time); 13 would beat all, but nothing runs it
    front = mark_front(trials, ("loss", "total_s"))
    assert front.name == "on_front" and front.index.tolist() == [10, 11, 12, 13, 14]
    assert front.tolist() == [True, True, False, False, True]
    assert mark_front(trials, ("loss", "-total_s")).tolist() == [True, False, False, False, False]


def test_a_front_of_nothing_is_refused():
    trials = pd.DataFrame({"loss": [1.0], "supported": [True]})
    with pytest.raises(ValueError, match="objectives must be columns of the trials table, not empty"):
        mark_front(trials, ())


def test_the_result_s_front_is_its_marked_rows():
    table = pd.DataFrame({column: [0, 1] for column in TRIAL_COLUMNS}).assign(on_front=[False, True])
    found = StudyResult("two", **{**tables(), "trials": table}).front()
    assert found["loss"].tolist() == [1]
