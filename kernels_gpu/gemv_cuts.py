"""How the work of a decode GEMV is cut: what measured best on an H100 (NOTES.md), for few, more and many rows.

``hwmodel.gpu_gemv_cut`` has the same choices, so that the cost model can price what the launcher would launch; a test
compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.units import ceil_div
from kernels_gpu.gemv_plan import RUN, TILE_ROWS, Decoding, Plan


@dataclass(frozen=True)
class Shape:
    """How a launch is cut: warps of a block, runs of 128 inputs in a stage, stages of the ring, blocks, registers."""

    warps: int
    runs: int
    depth: int
    blocks_per_multiprocessor: int = 0  # 0: as many as fit
    registers: int = 0  # the most of a thread; 0: as many as the assembler likes

    def __str__(self) -> str:
        cut = f"{self.warps}x{self.runs}x{self.depth}x{self.blocks_per_multiprocessor}"
        return f"{cut} {self.registers} registers" if self.registers else cut


SMALL, LARGE = 264, 1320  # tiles of rows: two, and ten, for each multiprocessor of an H100
LONG = 8192  # inputs: rows as long have work enough for many warps where there are few of them
Cuts = tuple[Shape, Shape, Shape]
_BYTES: Cuts = (Shape(16, 2, 2, 1), Shape(16, 2, 2, 1), Shape(16, 2, 2))
_NIBBLES: Cuts = (Shape(16, 2, 2, 1), Shape(8, 2, 3), Shape(16, 2, 2))
_PLANES: dict[int, Cuts] = {
    5: (Shape(4, 4, 3), Shape(8, 4, 1), Shape(16, 4, 2)),
    6: (Shape(8, 4, 1), Shape(4, 4, 3), Shape(16, 4, 2)),
    7: (Shape(8, 4, 2), Shape(4, 4, 2), Shape(8, 4, 3)),
}
_SHIFTED_HALVES: Cuts = (Shape(16, 2, 2, 1), Shape(16, 2, 1), Shape(8, 2, 2))
_FOUR_ENTRIES: Cuts = (Shape(8, 4, 1), Shape(8, 4, 1), Shape(8, 4, 3))
_EIGHT_ENTRIES: Cuts = (Shape(16, 2, 2, 1), Shape(8, 4, 1), Shape(16, 4, 2))
_EIGHT_ENTRIES_CHOSEN: Cuts = (Shape(16, 2, 2, 1), Shape(8, 4, 1), Shape(8, 4, 2))
_SIXTEEN_ENTRIES: Cuts = (Shape(8, 4, 2, 1), Shape(8, 4, 1), Shape(16, 4, 2))
_SIXTEEN_ENTRIES_CHOSEN: Cuts = (Shape(8, 4, 2, 1), Shape(8, 4, 1), Shape(16, 2, 2))
_SHORT_GROUPS: Cuts = (Shape(8, 2, 2, 1), Shape(8, 2, 2), Shape(16, 2, 2))
_TWO_DIGITS: dict[int, Cuts] = {
    3: (Shape(8, 4, 3), Shape(16, 2, 1), Shape(16, 4, 1)),
    4: (Shape(8, 2, 1), Shape(8, 4, 1), Shape(16, 4, 1)),
}
_LEARNED: dict[int, Cuts] = {
    3: (Shape(8, 4, 3), Shape(8, 2, 2), Shape(8, 4, 2)),
    4: (Shape(8, 2, 1), Shape(8, 4, 1), Shape(4, 4, 3)),
}
_LONG_ROWS = Shape(16, 2, 2)
_MANY_TOKENS = (Shape(16, 2, 2), Shape(16, 2, 1), Shape(8, 2, 2), Shape(8, 4, 1), Shape(8, 2, 1), Shape(4, 2, 1))
_LAST = Shape(2, 2, 1)


def measured_cuts(plan: Plan) -> Cuts:
    """What measured best for one token."""
    if plan.decoding is Decoding.NIBBLES:
        return _NIBBLES
    if plan.decoding is Decoding.PLANES:
        return _PLANES[plan.bits]
    if plan.bits == 8:
        return _BYTES
    if plan.halves:
        return _SHIFTED_HALVES
    if plan.digits == 2:
        return (_LEARNED if plan.learned else _TWO_DIGITS).get(plan.bits, _FOUR_ENTRIES)
    chosen = len(plan.tables) > 1
    if plan.bits == 2:
        return _FOUR_ENTRIES
    if plan.bits == 3:
        return _EIGHT_ENTRIES_CHOSEN if chosen else _EIGHT_ENTRIES
    if plan.parts > 2:
        return _SHORT_GROUPS
    return _SIXTEEN_ENTRIES_CHOSEN if chosen else _SIXTEEN_ENTRIES


def wanted_cuts(plan: Plan, tokens: int, n: int, k: int) -> tuple[Shape, ...]:
    """Cuts to try, the best first; each has work for all its warps, and registers for all its threads.

    Args:
        plan: the encoding.
        tokens: m.
        n, k: the weight's shape.
    """
    tiles = ceil_div(n, TILE_ROWS)
    size = 0 if tiles <= SMALL else 1 if tiles < LARGE else 2
    if size == 2 and k < LONG and plan.decoding is Decoding.TABLE:
        size = 1  # measured at 22016 x 4096
    best = _LONG_ROWS if size == 0 and k > LONG else measured_cuts(plan)[size]
    # two-digit tables take up to 174 registers with many tokens: no more than eight warps
    # and so do five tiles of columns, each with sums of its own
    light = (plan.digits == 1 or tokens <= 2) and ceil_div(tokens * plan.parts, 4) <= 4
    return tuple(
        cut
        for cut in (*((best,) if tokens == 1 else ()), *_MANY_TOKENS, _LAST)
        if cut.warps <= ceil_div(k, cut.runs * RUN) and (light or cut.warps <= 8)
    )
