"""Compiled scans against dominance by definition, on rows as ``codesign.pareto`` gives them."""

import numpy as np
import pytest

from codesign.pareto_kernels import _LEAF, count_dominated, filter_rows, scan_four, scan_three


def sorted_rows(count, objectives, levels, seed):
    """Different rows in lexicographic order; the last column as ranks."""
    rows = np.random.default_rng(seed).integers(0, levels, (count, objectives)).astype(float)
    return np.unique(rows, axis=0)


def not_dominated(rows):
    """Rows that no other is at most in every column: the definition, pair by pair."""
    return [not any(j != i and (rows[j] <= rows[i]).all() for j in range(len(rows))) for i in range(len(rows))]


@pytest.mark.parametrize("count", [1, 2, _LEAF, _LEAF + 1, 5 * _LEAF + 3, 300])
@pytest.mark.parametrize("levels", [2, 7, 1000])
@pytest.mark.parametrize(("scan", "objectives"), [(scan_three, 3), (scan_four, 4)], ids=["three", "four"])
def test_scans_keep_what_nothing_dominates(scan, objectives, count, levels):
    rows = sorted_rows(count, objectives, levels, seed=count + levels)
    distinct, places = np.unique(rows[:, objectives - 2], return_inverse=True)
    keep = np.zeros(len(rows), dtype=bool)
    scan(rows, places.astype(np.int64), len(distinct), keep)
    assert keep.tolist() == not_dominated(rows)


def test_three_by_hand():
    rows = np.array([[0, 2, 2], [1, 1, 3], [1, 3, 3], [2, 2, 2], [3, 0, 9]], dtype=float)
    keep = np.zeros(5, dtype=bool)
    scan_three(rows, np.array([2, 1, 3, 2, 0]), 4, keep)
    # (1, 3, 3) is nowhere better than (0, 2, 2) or (1, 1, 3); (2, 2, 2) than (0, 2, 2)
    assert keep.tolist() == [True, True, False, False, True]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_columns_but_the_last(value):
    rows = np.array([[0, 0, value, 1], [0, 1, value, 0], [1, 1, value, 1]], dtype=float)
    keep = np.zeros(3, dtype=bool)
    scan_four(rows, np.zeros(3, np.int64), 1, keep)
    assert keep.tolist() == [True, True, False]


def test_a_pivot_filters_what_it_is_better_than_but_not_its_equal():
    rows = np.array([[1.0, 1.0], [1.0, 2.0], [0.0, 5.0], [np.inf, np.inf]])
    keep = np.zeros(4, dtype=bool)
    filter_rows(rows, np.array([[1.0, 1.0]]), keep)
    assert keep.tolist() == [True, False, True, False]
    filter_rows(rows, np.zeros((0, 2)), keep)
    assert keep.all(), "without pivots nothing goes"


def test_counts_include_a_pivot_itself():
    counts = np.zeros(2, np.int64)
    count_dominated(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0]]), counts)
    assert counts.tolist() == [3, 2]
