"""Fitted constants of kernels that wait for themselves: loads one after another, and gathers (``gpu_branches``).

A kernel of few bytes takes as long as its longest row of loads of which each is issued when the one before it has
arrived. The compiler makes such rows: a load in a branch is not moved before another branch, and results that are
added to memory are loaded and stored token by token (disassembly: docs/gpu_kernels.md). Each is a *turn*.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from hwmodel.gpu_constants import read_constants
from hwmodel.gpu_library import DATA

CONSTANTS = DATA / "gpu_branches.csv"


@dataclass(frozen=True)
class TurnConstants:
    """Fitted constants (``hwmodel.gpu_branches_fit``).

    Args:
        launch_s: of a kernel beside a product, which overlaps with its neighbours.
        turn_s: of a load from L2 that waits for the one before it, with what is done to it.
        cold_s: by which a turn is longer whose line lies in memory.
        gather_cycles: of an SM for an input that a thread picks for itself, times its weight, into shared memory and
            out of it into a sum.
        missed_cycles: more, where the inputs do not fit into the SM's level-1 cache.
        joined_s: of a low-rank branch inside the dense product's launch, whose blocks hand each other sums.
        joined_token_s: more, for each token of the launch.
        joined_tile_s: more, for each token of a tile of rows of an SM.
    """

    launch_s: float
    turn_s: float
    cold_s: float
    gather_cycles: float
    missed_cycles: float
    joined_s: float
    joined_token_s: float
    joined_tile_s: float


FITTED = tuple(f.name for f in fields(TurnConstants))


@cache
def turn_constants(path: Path = CONSTANTS) -> TurnConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    return read_constants(path, TurnConstants, FITTED, "branches")
