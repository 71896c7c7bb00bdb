"""Rows of validation tables: one figure, or the errors of several."""

import math

import pandas as pd
import pytest

from hwmodel.check import Check, Standing, checks_frame
from hwmodel.validation import one_table

ONE = Check("x", "area", 4.0, 5.0, Standing.REBUILT, "here")
SEVERAL = Check("x", "areas", 1.0, 1.02, Standing.REBUILT, "here", cases=3, worst=0.05)


def test_a_row_of_several_figures_has_a_worst_of_its_own() -> None:
    table = checks_frame([ONE, SEVERAL])
    assert table["cases"].tolist() == [1, 3]
    assert table["error"].tolist() == pytest.approx([0.25, 0.02])
    assert math.isnan(table["worst"][0]) and table["worst"][1] == 0.05


def test_the_whole_table_tells_mean_from_worst() -> None:
    empty = pd.DataFrame(columns=["version", "cycles_error", "energy_error"])
    titles = {
        "Reference rows": empty,
        "Figures 7 and 8": pd.DataFrame({"cycles_error": [0.0], "energy_error": [0.0]}),
        "Headlines of the paper": pd.DataFrame(),
        "Machines, methods and unit costs": checks_frame([ONE, SEVERAL]),
        "GPUs against measured kernels: relative errors": pd.DataFrame(),
        "Links between GPUs against measured collectives: relative errors": pd.DataFrame(),
        "Closed form against event simulator, Llama-2-7B: differences in cycles": pd.DataFrame(),
    }
    rows = one_table(titles)
    one, several = (rows[rows["quantity"] == name].iloc[0] for name in ("area", "areas"))
    assert (one["cases"], one["truth"], one["ours"]) == (1, 4.0, 5.0)
    assert (one["mean_error"], one["worst_error"]) == (0.25, 0.25)
    assert several["cases"] == 3 and pd.isna(several["truth"])
    assert (several["mean_error"], several["worst_error"]) == (pytest.approx(0.02), 0.05)


def test_several_cases_must_have_a_worst_error() -> None:
    with pytest.raises(ValueError, match="a check of several cases must have a worst error, not 3 and None"):
        Check("x", "areas", 1.0, 1.02, Standing.REBUILT, "here", cases=3)
