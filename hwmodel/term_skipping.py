"""Cycles of PEs that skip the zero bits of weights: from the counted bits of real weights, or from fair coins.

A step of ``lanes`` weights of ``b`` bits in two's complement waits, over all rows that share their control,
    * ``COLUMN`` (Lu et al., Bitlet, MICRO 2021): for the bit position with the most ones;
    * ``LANE`` (Albericio et al., Pragmatic, MICRO 2017): for the weight with the most ones;
    * ``BIDIRECTIONAL`` (Chen et al., BBS, MICRO 2024): for nothing: ones or zeros, whichever are fewer, are at most
      half of a column, so that half as many adders take one cycle for each position.

With ``BitStats`` of the weights the published histograms of one row's groups are used, rows being independent; steps of
Pragmatic are counted over the rows themselves. Without statistics every bit is a one with probability one half,
independently (fair coins), which is what low bits of real weights look like. Against published cycles of two vision
transformers the fair coins are 1 % too slow for Bitlet and 12 to 15 % for Pragmatic (``hwmodel.validate_machines``).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cache
from typing import Protocol

import numpy as np

from datatypes.recoding import Recoding
from hwmodel.pe import PE, Skipping


class BusiestPlanes(Protocol):
    """What is used of ``datatypes.bit_stats.ColumnCounts``."""

    @property
    def busiest(self) -> tuple[int, ...]: ...


class CountedBits(Hashable, Protocol):
    """What is used of ``datatypes.bit_stats.BitStats`` (which loads the compiled counters)."""

    @property
    def planes(self) -> int: ...

    def columns_of(self, recoding: Recoding, group: int) -> BusiestPlanes: ...

    def step_cycles(self, recoding: Recoding, lanes: int, *, rows: int = 1, minimum: int = 1) -> float: ...

    def bidirectional_cycles(self, group: int, adders: int) -> float: ...


@cache
def skipping_cycles(bits: int, pe: PE, stats: CountedBits | None = None) -> float:
    """Mean cycles of a step of ``pe.lanes`` weights; at least 1.

    Args:
        bits: of a weight.
        pe: a term-skipping PE.
        stats: of the weights; ``None`` for fair coins.

    >>> from hwmodel.presets_serial import BITLET_PE
    >>> round(skipping_cycles(8, BITLET_PE), 2)
    23.83

    Raises:
        ValueError: statistics of another width, or without groups or steps of the PE's size.
    """
    if stats is not None and stats.planes != bits:
        raise ValueError(f"bit statistics must be of weights of {bits} bits, not {stats.planes}")
    if pe.skipping is Skipping.BIDIRECTIONAL:
        return float(bits) if stats is None else stats.bidirectional_cycles(pe.lanes, pe.lanes // 2)
    if stats is None:
        if pe.skipping is Skipping.COLUMN:
            return _largest(np.cumsum(_coins(pe.lanes)), bits * pe.skip_rows)
        return _largest(np.cumsum(_coins(bits)), pe.lanes * pe.skip_rows)
    if pe.skipping is Skipping.COLUMN:
        busiest = np.array(stats.columns_of(Recoding.TWOS_COMPLEMENT, pe.lanes).busiest, dtype=float)
        return _largest(np.cumsum(busiest) / busiest.sum(), pe.skip_rows)
    return stats.step_cycles(Recoding.TWOS_COMPLEMENT, pe.lanes, rows=pe.skip_rows)


def _coins(count: int) -> np.ndarray:
    """Probability of each number of ones among ``count`` fair coins."""
    return np.array([math.comb(count, ones) for ones in range(count + 1)]) / 2.0**count


def _largest(at_most: np.ndarray, count: int) -> float:
    """Expected largest of ``count`` independent numbers with that distribution function, at least 1."""
    above = 1 - np.minimum(at_most[:-1], 1.0) ** count
    return float(max(above[0], 1.0) + above[1:].sum())  # E[max] = sum over t of P(max > t)
