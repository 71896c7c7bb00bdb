"""Fronts against the definition, written out as two loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.pareto import pareto_mask


def by_definition(costs):
    mask = []
    for a in costs:
        dominated = any(np.all(b <= a) and np.any(b < a) for b in costs if not np.isnan(b).any())
        mask.append(not dominated and not np.isnan(a).any())
    return np.array(mask, dtype=bool)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=40))
def test_equals_the_definition_on_small_integers_with_many_ties(objectives, rows):
    costs = np.array(rows, dtype=float)[:, :objectives]
    assert pareto_mask(costs).tolist() == by_definition(costs).tolist()


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
