"""Exact Pareto fronts by sort and scan, for any number of designs and objectives.

Two objectives take one sort, three O(N log N), four O(N log**2 N) (``codesign.pareto_kernels``). Five and more are
filtered block by block against the running front after a lexicographic sort, so that no design is ever dominated by a
later one (Kung, Luccio and Preparata, J. ACM 22(4), 1975, section 2); memory is bounded by the block times the front.
Of many designs, those that a few good ones dominate are thrown out first, in one pass without a sort.

Equal designs do not dominate one another: all copies of a front point stay. NaN never enters a front. Infinities are
ordered like any other number, and minus zero equals zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codesign.pareto_kernels import count_dominated, filter_rows, scan_four, scan_three

_BLOCK = 2048
_FILTERED = 8192  # designs from which on a filter pays
_SAMPLE = 4096  # designs that the filter's are chosen from
_PIVOTS = 128  # designs of the filter


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
    left = np.flatnonzero(~np.isnan(costs).any(axis=1))
    if len(left) >= _FILTERED:
        left = left[_not_dominated_by_few(costs[left])]
    if len(left):
        mask[left[_front(costs[left])]] = True
    return mask


@dataclass(eq=False)
class RunningFront:
    """The front of designs that come chunk by chunk; holds what is on it, and nothing else.

    Args:
        costs: float ``[front, objectives]``.
        labels: int64 ``[front]``, as they were given.
    """

    costs: np.ndarray | None = None
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, costs: np.ndarray, labels: np.ndarray) -> None:
        """Take in more designs.

        Raises:
            ValueError: not one label for each design, or other objectives than before.
        """
        if len(costs) != len(labels) or (self.costs is not None and costs.shape[1:] != self.costs.shape[1:]):
            wanted = "any" if self.costs is None else str(self.costs.shape[1])
            raise ValueError(
                f"designs must have a label each and {wanted} objectives, not {costs.shape!r} and {len(labels)} labels"
            )
        own = pareto_mask(costs)
        costs, labels = costs[own], labels[own]
        if self.costs is not None:
            costs, labels = np.concatenate([self.costs, costs]), np.concatenate([self.labels, labels])
            both = pareto_mask(costs)
            costs, labels = costs[both], labels[both]
        self.costs, self.labels = costs, labels


def _not_dominated_by_few(costs: np.ndarray) -> np.ndarray:
    """Places of the rows that some good rows of a sample do not dominate."""
    sample = costs[np.linspace(0, len(costs) - 1, _SAMPLE).astype(np.int64)]
    pivots = sample[_front(sample)]
    counts = np.empty(len(pivots), np.int64)
    count_dominated(pivots, sample, counts)
    pivots = pivots[np.argsort(-counts, kind="stable")[:_PIVOTS]]
    keep = np.empty(len(costs), dtype=bool)
    filter_rows(np.ascontiguousarray(costs), np.ascontiguousarray(pivots), keep)
    places: np.ndarray = np.flatnonzero(keep)
    return places


def _front(costs: np.ndarray) -> np.ndarray:
    """``pareto_mask`` of rows without NaN."""
    order = np.lexsort(costs.T[::-1])
    ordered = costs[order]
    first = np.ones(len(costs), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    unique = ordered[first]
    keep = _scan(unique)
    mask = np.empty(len(costs), dtype=bool)
    mask[order] = keep[np.cumsum(first) - 1]
    return mask


def _scan(unique: np.ndarray) -> np.ndarray:
    """Rows sorted lexicographically, all different: which ones no earlier one dominates."""
    objectives = unique.shape[1]
    if objectives == 2:
        return _scan_two(unique)
    if objectives not in (3, 4):
        return _scan_many(unique)
    along = objectives - 2
    distinct, places = np.unique(unique[:, along], return_inverse=True)
    keep = np.empty(len(unique), dtype=bool)
    ranked = unique.copy()
    ranked[:, -1] = np.unique(unique[:, -1], return_inverse=True)[1]  # ranks are finite where costs are not
    scan = scan_three if objectives == 3 else scan_four
    scan(ranked, places.astype(np.int64), len(distinct), keep)
    return keep


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
