"""Exact Pareto fronts by sort and scan, in NumPy, for any number of designs and objectives.

Two objectives take one sort (O(N log N)). Three and more are filtered block by block against the running front after a
lexicographic sort, so that no design is ever dominated by a later one (Kung, Luccio and Preparata, J. ACM 22(4), 1975,
section 2, for the sorting argument); memory is bounded by the block times the front.

Equal designs do not dominate one another: all copies of a front point stay. NaN never enters a front.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 2048


def pareto_mask(costs: np.ndarray) -> np.ndarray:
    """Which rows are not dominated, smaller being better in every column.

    Args:
        costs: float ``[designs, objectives]``.

    Returns:
        bool ``[designs]``; false where a cost is NaN.

    Raises:
        ValueError: not a matrix with at least one objective.

    >>> pareto_mask(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, 1.0]])).tolist()
    [True, True, False, True]
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or costs.shape[1] < 1:
        raise ValueError(f"costs must be [designs, objectives], not shape {costs.shape!r}")
    mask = np.zeros(len(costs), dtype=bool)
    valid = np.flatnonzero(~np.isnan(costs).any(axis=1))
    if not len(valid):
        return mask
    unique, inverse = np.unique(costs[valid], axis=0, return_inverse=True)  # sorted lexicographically
    keep = _scan_two(unique) if unique.shape[1] == 2 else _scan_many(unique)
    mask[valid] = keep[inverse.reshape(-1)]
    return mask


def _scan_two(unique: np.ndarray) -> np.ndarray:
    """Rows sorted by the first objective, all different: a row stays if its second is below every earlier one."""
    best_before = np.concatenate(([np.inf], np.minimum.accumulate(unique[:, 1])[:-1]))
    keep: np.ndarray = unique[:, 1] < best_before
    keep[0] = True
    return keep


def _scan_many(unique: np.ndarray) -> np.ndarray:
    """Rows sorted lexicographically, all different: only an earlier row can dominate a later one."""
    keep = np.zeros(len(unique), dtype=bool)
    front = np.empty((0, unique.shape[1]))
    for start in range(0, len(unique), _BLOCK):
        block = unique[start : start + _BLOCK]
        alive = np.ones(len(block), dtype=bool)
        for chunk in range(0, len(front), _BLOCK):
            part = front[chunk : chunk + _BLOCK]
            rest = np.flatnonzero(alive)
            alive[rest] = ~_dominated(block[rest], part)
        rest = np.flatnonzero(alive)
        survivors = block[rest]
        inside = ~_dominated(survivors, survivors)
        keep[start + rest[inside]] = True
        front = np.concatenate([front, survivors[inside]])
    return keep


def _dominated(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Which of ``rows`` are dominated by a row of ``by`` (no worse everywhere, better somewhere)."""
    if not len(rows) or not len(by):
        return np.zeros(len(rows), dtype=bool)
    no_worse: np.ndarray = np.ones((len(rows), len(by)), dtype=bool)
    better: np.ndarray = np.zeros((len(rows), len(by)), dtype=bool)
    for j in range(rows.shape[1]):
        np.logical_and(no_worse, by[None, :, j] <= rows[:, None, j], out=no_worse)
        np.logical_or(better, by[None, :, j] < rows[:, None, j], out=better)
    dominated: np.ndarray = (no_worse & better).any(axis=1)
    return dominated
