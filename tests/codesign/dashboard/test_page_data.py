import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from codesign.dashboard.page_data import clean, page_data, reference_recipe, significant, to_json
from codesign.study import StudyResult


def test_a_full_study_stays_small(full_result: StudyResult) -> None:
    assert len(full_result.layers) > 60_000
    assert len(to_json(page_data(full_result))) < 500_000


def test_numbers_of_trials_survive_exactly_and_nan_is_null(full_result: StudyResult) -> None:
    trials = json.loads(to_json(page_data(full_result)))["trials"]
    losses = full_result.trials["loss"].to_numpy()
    assert trials["loss"] == losses.tolist()
    expected = [None if np.isnan(value) else value for value in full_result.trials["decode_s"]]
    assert trials["decode_s"] == expected
    assert None in expected


def test_layer_rows_come_back_from_runs(full_result: StudyResult) -> None:
    data = page_data(full_result)
    row = 7
    trial = full_result.trials.iloc[row]
    sequence, runs = data["runs"][row][0]
    costs = np.repeat(runs[::2], runs[1::2])
    layers = full_result.layers
    mine = layers[
        (layers["recipe"] == trial["recipe"])
        & (layers["accelerator"] == trial["accelerator"])
        & (layers["phase"] == "prefill")
    ]
    assert len(costs) == len(mine) == len(data["sequences"][sequence])
    got = sorted(data["costs"]["cycles"][cost] for cost in costs)
    np.testing.assert_allclose(got, sorted(mine["cycles"]), rtol=5e-7)  # seven significant digits


def test_unsupported_trials_have_no_runs(small_result: StudyResult) -> None:
    data = page_data(small_result)
    assert data["runs"][3] == [None, None]
    assert data["trials"]["supported"] == [True, True, True, False, True]


def test_a_study_without_layers_is_drawn_all_the_same(small_result: StudyResult) -> None:
    data = page_data(replace(small_result, layers=small_result.layers.iloc[:0]))
    assert data["runs"] == [[None, None]] * 5
    assert data["sequences"] == []


@pytest.mark.parametrize("text", ["</script>", "<!--", "a & b", "\u2028", "\U0001f600"])
def test_json_inside_a_script_element_holds_no_markup(text: str) -> None:
    encoded = to_json({"name": text})
    assert not set("<>&\u2028") & set(encoded)
    assert json.loads(encoded) == {"name": text}


def test_manifests_lose_nan_and_foreign_types() -> None:
    value = {"a": np.float64(1.5), "b": [np.nan, np.inf, np.int32(3)], "c": (None, True), "d": {"x"}, "e": np.arange(2)}
    assert clean(value) == {"a": 1.5, "b": [None, None, 3], "c": [None, True], "d": ["x"], "e": [0, 1]}
    assert clean(pd.Timedelta(0)) == "0 days 00:00:00"


def test_significant_digits_of_large_small_and_special_values() -> None:
    values = np.array([1234567.0, -0.00123449, 9.9996, 0.0, 1e-320, 6.02214076e23])
    assert significant(values, 4).tolist()[:4] == [1235000.0, -0.001234, 10.0, 0.0]
    assert significant(values, 4)[5] == 6.022e23
    assert np.isnan(significant(np.array([np.nan])))[0]
    assert np.isfinite(significant(values)).all()


def test_the_reference_is_named_or_has_no_loss_above_itself_or_has_the_lowest(small_result: StudyResult) -> None:
    assert reference_recipe(small_result) == "ref"
    assert reference_recipe(replace(small_result, manifest={"reference": "worse"})) == "worse"
    lost = small_result.trials.assign(loss_delta=np.nan)
    assert reference_recipe(replace(small_result, trials=lost)) == "ref"  # 3.0, first of two
    assert reference_recipe(replace(small_result, trials=lost.assign(loss=np.nan))) == "a"


def test_no_trials_are_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="trials of study small must have at least one row, not 0"):
        page_data(replace(small_result, trials=small_result.trials.iloc[:0]))


def test_a_trial_given_twice_is_refused(small_result: StudyResult) -> None:
    twice = pd.concat([small_result.trials, small_result.trials.iloc[:1]])
    with pytest.raises(ValueError, match="must hold each recipe once for an accelerator, not twice a on m"):
        page_data(replace(small_result, trials=twice))


def test_a_trial_on_an_unknown_machine_is_refused(small_result: StudyResult) -> None:
    with pytest.raises(ValueError, match="accelerator in study small must be one of nothing, not 'm'"):
        page_data(replace(small_result, machines=small_result.machines.iloc[:0]))


@pytest.mark.parametrize("column", ["phase", "kind"])
def test_an_unknown_phase_or_kind_is_refused(small_result: StudyResult, column: str) -> None:
    with pytest.raises(ValueError, match=f"{column} in study small must be one of .*, not 'tea'"):
        page_data(replace(small_result, layers=small_result.layers.assign(**{column: "tea"})))
