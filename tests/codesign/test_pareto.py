"""Fronts against the definition, written out as two loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.pareto import RunningFront, pareto_mask


def by_definition(costs):
    mask = []
    for a in costs:
        dominated = any(np.all(b <= a) and np.any(b < a) for b in costs if not np.isnan(b).any())
        mask.append(not dominated and not np.isnan(a).any())
    return np.array(mask, dtype=bool)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=40))
def test_equals_the_definition_on_small_integers_with_many_ties(objectives, rows):
    costs = np.array(rows, dtype=float)[:, :objectives]
    assert pareto_mask(costs).tolist() == by_definition(costs).tolist()


@pytest.mark.parametrize("levels", [3, 8, 10**6])
@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_equals_the_definition_across_halves_and_with_the_filter(objectives, levels, monkeypatch):
    monkeypatch.setattr("codesign.pareto._FILTERED", 300)
    monkeypatch.setattr("codesign.pareto._SAMPLE", 20)
    for count in (150, 400):  # without the filter and with it
        costs = np.random.default_rng(count).integers(0, levels, (count, objectives)).astype(float)
        costs[::17] = np.inf
        costs[5::19, 0] = np.nan
        costs[3::23, -1] = -np.inf
        assert pareto_mask(costs).tolist() == by_definition(costs).tolist()


@pytest.mark.parametrize("objectives", [3, 4])
def test_a_front_that_holds_everything(objectives):
    points = np.random.default_rng(3).normal(size=(20000, objectives))
    points = -np.abs(points) / np.linalg.norm(points, axis=1, keepdims=True)  # on a sphere: none dominates
    assert pareto_mask(points).all()
    assert pareto_mask(np.concatenate([points, points + 0.5])).sum() == len(points)


def test_minus_zero_equals_zero():
    assert pareto_mask(np.array([[0.0, 1.0, -0.0], [-0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])).tolist() == [True, True, False]


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_running_front_is_the_front_of_all(objectives):
    costs = np.random.default_rng(1).integers(0, 30, (5000, objectives)).astype(float)
    costs[::50] = np.nan
    running = RunningFront()
    for start in range(0, len(costs), 700):
        running.add(costs[start : start + 700], np.arange(start, min(start + 700, len(costs))))
    assert sorted(running.labels) == list(np.flatnonzero(pareto_mask(costs)))
    assert np.array_equal(running.costs, costs[running.labels])


def test_a_running_front_refuses_other_objectives():
    running = RunningFront()
    running.add(np.ones((2, 3)), np.arange(2))
    with pytest.raises(ValueError, match=r"a label each and 3 objectives, not \(1, 2\) and 1 labels"):
        running.add(np.ones((1, 2)), np.arange(1))


@pytest.mark.parametrize("objectives", [2, 3])
def test_equals_the_definition_across_block_borders(objectives, monkeypatch):
    monkeypatch.setattr("codesign.pareto._BLOCK", 16)
    costs = np.random.default_rng(7).normal(size=(300, objectives))
    assert pareto_mask(costs).tolist() == by_definition(costs).tolist()


def test_nan_never_enters_a_front():
    costs = np.array([[np.nan, 0.0], [1.0, 1.0], [0.5, np.nan]])
    assert pareto_mask(costs).tolist() == [False, True, False]


def test_equal_designs_all_stay():
    assert pareto_mask(np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])).tolist() == [True, True, False]


def test_infinite_costs_are_ordered_like_any_other():
    assert pareto_mask(np.array([[np.inf, 0.0], [0.0, np.inf], [np.inf, np.inf]])).tolist() == [True, True, False]


def test_refuses_what_is_not_a_matrix():
    with pytest.raises(ValueError, match=r"costs must be \[designs, objectives\], not shape \(3,\)"):
        pareto_mask(np.zeros(3))
