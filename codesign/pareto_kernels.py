"""Compiled scans behind ``codesign.pareto``: dominance in three and four objectives, and a filter before them.

Rows come sorted lexicographically and all different, so that only an earlier row can dominate a later one, and no worse
in the other objectives means dominated. Three objectives: a Fenwick tree over the second keeps the least third so far,
O(N log N) (Kung, Luccio and Preparata, J. ACM 22(4), 1975, section 2). Four: halves are merged bottom up, and the left
half goes into such a tree in the order of the second objective, O(N log**2 N) (the same, section 4). The last
objective must be finite (ranks are); NaN must not come here.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LEAF = 32  # rows that are compared pair by pair

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def _lower(tree, place, value):  # type: ignore[no-untyped-def]
    """Put ``value`` at ``place``."""
    i = place + 1
    while i < len(tree):
        if value < tree[i]:
            tree[i] = value
        i += i & -i


@jit
def _least(tree, place):  # type: ignore[no-untyped-def]
    """The least value at ``place`` and before."""
    i, least = place + 1, np.inf
    while i > 0:
        if tree[i] < least:
            least = tree[i]
        i -= i & -i
    return least


@jit
def scan_three(rows, places, distinct, keep):  # type: ignore[no-untyped-def]
    """``keep[i]``: no earlier row is at most row ``i`` in columns 1 and 2.

    Args:
        rows: float64 [n, 3], finite in column 2.
        places: of column 1 among its ``distinct`` values, ascending, int64 [n].
        keep: out, bool [n].
    """
    tree = np.full(distinct + 1, np.inf)
    for i in range(len(rows)):
        keep[i] = _least(tree, places[i]) > rows[i, 2]
        if keep[i]:
            _lower(tree, places[i], rows[i, 2])


@jit
def scan_four(rows, places, distinct, keep):  # type: ignore[no-untyped-def]
    """``keep[i]``: no earlier row is at most row ``i`` in columns 1 to 3.

    Args:
        rows: float64 [n, 4], finite in column 3.
        places: of column 2 among its ``distinct`` values, ascending, int64 [n].
        keep: out, bool [n].
    """
    n = len(rows)
    order, merged = np.arange(n), np.empty(n, np.int64)
    left_of = np.zeros(-(-n // _LEAF), np.int64)  # rows that are left of each block, at its start in ``order``
    tree = np.full(distinct + 1, np.inf)
    for block in range(len(left_of)):
        low, high = block * _LEAF, min((block + 1) * _LEAF, n)
        count = 0
        for i in range(low, high):
            keep[i] = True
            for j in range(low, i):
                if keep[j] and rows[j, 1] <= rows[i, 1] and rows[j, 2] <= rows[i, 2] and rows[j, 3] <= rows[i, 3]:
                    keep[i] = False
                    break
            if keep[i]:
                at = low + count
                while at > low and rows[order[at - 1], 1] > rows[i, 1]:
                    order[at] = order[at - 1]
                    at -= 1
                order[at] = i
                count += 1
        left_of[block] = count
    size = 1  # blocks in a half
    while size < len(left_of):
        for block in range(0, len(left_of) - size, 2 * size):
            left, right = block * _LEAF, (block + size) * _LEAF
            left_end, right_end = left + left_of[block], right + left_of[block + size]
            i = left
            for j in range(right, right_end):
                row = order[j]
                while i < left_end and rows[order[i], 1] <= rows[row, 1]:
                    _lower(tree, places[order[i]], rows[order[i], 3])
                    i += 1
                if _least(tree, places[row]) <= rows[row, 3]:
                    keep[row] = False
            for k in range(left, i):  # the tree is emptied for the next halves
                place = places[order[k]] + 1
                while place < len(tree) and tree[place] != np.inf:
                    tree[place] = np.inf
                    place += place & -place
            count, i, j = 0, left, right
            while i < left_end or j < right_end:
                if j == right_end or (i < left_end and rows[order[i], 1] <= rows[order[j], 1]):
                    merged[count] = order[i]
                    count += 1
                    i += 1
                else:
                    if keep[order[j]]:
                        merged[count] = order[j]
                        count += 1
                    j += 1
            order[left : left + count] = merged[:count]
            left_of[block] = count
        size *= 2


@jit
def filter_rows(rows, pivots, keep):  # type: ignore[no-untyped-def]
    """``keep[i]``: no pivot dominates row ``i``. Pivots should come in the order of what they dominate."""
    for i in range(len(rows)):
        keep[i] = True
        for p in range(len(pivots)):
            no_worse, better = True, False
            for j in range(rows.shape[1]):
                if pivots[p, j] > rows[i, j]:
                    no_worse = False
                    break
                if pivots[p, j] < rows[i, j]:
                    better = True
            if no_worse and better:
                keep[i] = False
                break


@jit
def count_dominated(pivots, rows, counts):  # type: ignore[no-untyped-def]
    """How many of ``rows`` are nowhere better than each pivot."""
    for p in range(len(pivots)):
        counts[p] = 0
        for i in range(len(rows)):
            no_worse = True
            for j in range(rows.shape[1]):
                if pivots[p, j] > rows[i, j]:
                    no_worse = False
                    break
            counts[p] += no_worse
