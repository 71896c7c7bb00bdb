"""Compiled counting of terms: histograms over codes, most terms of a step, ones of each bit plane in a group.

Codes are looked up in tables ``[F, C]`` for ``F`` candidate formats of ``C`` codes; ``selector`` uint8 ``[n, runs]``
says which format a run of ``run`` columns uses. Groups and steps run along a row and the last may be shorter.
"""

from __future__ import annotations

import numpy as np
from numba import njit

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def code_histogram(codes, selector, run, counts):  # type: ignore[no-untyped-def]
    """Adds how often each code occurs to ``counts`` int64 ``[F, C]``."""
    n, k = codes.shape
    for row in range(n):
        for g in range(selector.shape[1]):
            into = counts[selector[row, g]]
            for code in codes[row, g * run : min((g + 1) * run, k)]:
                into[code] += 1


@jit
def step_maxima(codes, selector, run, terms, lanes, maxima):  # type: ignore[no-untyped-def]
    """Most terms among the lanes of each step.

    Args:
        terms: uint32 ``[F, C]``: four counts of eight bits, one for each recoding.
        lanes: weights of a step.
        maxima: uint8 ``[4, n, steps]`` out.
    """
    n, k = codes.shape
    row_terms = np.empty(k, np.uint32)
    for row in range(n):
        for g in range(selector.shape[1]):
            table = terms[selector[row, g]]
            for column in range(g * run, min((g + 1) * run, k)):
                row_terms[column] = table[codes[row, column]]
        for step in range(maxima.shape[2]):
            a = b = c = d = 0
            for packed in row_terms[step * lanes : min((step + 1) * lanes, k)]:
                a = max(a, packed & 255)
                b = max(b, (packed >> 8) & 255)
                c = max(c, (packed >> 16) & 255)
                d = max(d, packed >> 24)
            maxima[0, row, step] = a
            maxima[1, row, step] = b
            maxima[2, row, step] = c
            maxima[3, row, step] = d


@jit
def histogram(values, counts):  # type: ignore[no-untyped-def]
    """Adds how often each value of the flat ``values`` occurs to ``counts`` int64."""
    for value in values:
        counts[value] += 1


@jit
def fold_columns(values, factor, out):  # type: ignore[no-untyped-def]
    """Largest of each run of ``factor`` along a row: ``[n, k]`` into ``[n, ceil(k / factor)]``."""
    n, k = values.shape
    for row in range(n):
        for i in range(out.shape[1]):
            most = values[row, i * factor]
            for j in range(i * factor + 1, min((i + 1) * factor, k)):
                most = max(most, values[row, j])
            out[row, i] = most


@jit
def fold_rows(values, factor, out):  # type: ignore[no-untyped-def]
    """Largest of each run of ``factor`` down a column: ``[n, k]`` into ``[ceil(n / factor), k]``."""
    for i in range(out.shape[0]):
        best = out[i]
        best[:] = values[i * factor]
        for row in range(i * factor + 1, min((i + 1) * factor, len(values))):
            other = values[row]
            for j in range(len(best)):
                best[j] = max(best[j], other[j])


@jit
def column_counts(codes, selector, run, spread, group, first_plane, ones, empty, busiest, smaller, worst):  # type: ignore[no-untyped-def]
    """Ones of each bit plane in each group of weights; up to eight planes at once.

    Args:
        spread: uint64 ``[F, C]``: eight planes of each code, one to a byte.
        group: weights of a group, at most 255.
        first_plane: of these eight.
        ones, empty: int64 ``[planes]``, added to: ones in all, and groups without any.
        busiest: uint8 ``[n, groups]``, raised to the most ones of any plane.
        smaller: int64 ``[group + 1]``, added to: planes of groups by the smaller of their ones and zeros.
        worst: uint8 ``[n, groups]``, raised to the most of that.
    """
    n, k = codes.shape
    planes = min(8, len(ones) - first_plane)
    words = np.empty(k, np.uint64)
    byte = np.uint64(255)
    for row in range(n):
        for g in range(selector.shape[1]):
            table = spread[selector[row, g]]
            for column in range(g * run, min((g + 1) * run, k)):
                words[column] = table[codes[row, column]]
        for g in range(busiest.shape[1]):
            size = min(group, k - g * group)
            total = np.uint64(0)
            for word in words[g * group : g * group + size]:
                total += word
            most, most_smaller = busiest[row, g], worst[row, g]
            for plane in range(planes):
                count = np.uint8(total & byte)
                total >>= np.uint64(8)
                ones[first_plane + plane] += count
                empty[first_plane + plane] += count == 0
                fewer = min(count, np.uint8(size - count))
                smaller[fewer] += 1
                most = max(most, count)
                most_smaller = max(most_smaller, fewer)
            busiest[row, g] = most
            worst[row, g] = most_smaller
