"""How a launch of the decode GEMV is cut, and what it takes of shared memory: ``choose_cut``.

The choices measured best on an H100, and with memory as fast as an H200's those that measured best there
(kernels_gpu/NOTES.md). ``kernels_gpu.gemv_launch`` takes them from here; a test compares what fits, and the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from datatypes.planes import WORD_BITS, plane_widths
from hwmodel.gpu import Gpu
from hwmodel.gpu_gemv_encoding import BLOCK, RUN, TILE_ROWS, GemvEncoding
from hwmodel.units import BYTE_BITS, KIB, ceil_div

WORD_BYTES = 4
RESERVED_BYTES = KIB  # of shared memory for each block: CUDA C++ Programming Guide, compute capability 9.0
MOST_TOKENS = 16  # kernels_gpu/gemv_launch.py
TABLE_WORDS: Mapping[int, int] = {2: 1, 3: 2, 4: 4}  # of a digit: kernels_gpu/gemv_plan.py
_GATHERED_RUNS = 4  # kernels_gpu/gemv_spec.py
_WIDE = _GATHERED_RUNS * RUN  # inputs of a stage
SECTOR_WORDS = 8  # that L2 delivers at once; across two such places shared memory fills half as fast (NOTES.md)
_FEW, _SMALL, _LARGE = 132, 264, 1320  # tiles of rows: one, two, and ten, for each SM of an H100
# tiles up to which INT4 and INT6 are cut apart at fast memory: with 768 INT4's decode step lost (NOTES.md)
_MEDIUM = 704
_LONG = 8192  # inputs: rows as long have work enough for many warps where there are few of them
# The choice follows the memory's peak by data sheet: the faster it is, the sooner tables are bound by instructions, and
# smaller blocks, more of which share an SM and overlap, pay. ASSUMPTION: only two GPUs were measured, of 3.35 and
# 4.8 TB/s and the same SMs; this lies between them (their geometric mean)
FAST_MEMORY_BYTES_PER_S = 4.0e12


class Ring(Enum):
    """Where rows of a stage begin in shared memory."""

    BANKS = "banks"  # so that lanes of a load meet different banks: kernels up to version 4 (kernels_gpu/NOTES.md)
    SECTORS = "sectors"  # at whole sectors of 32 bytes; with one token and four runs a lane has 128 codes in a row


LAUNCHED = Ring.SECTORS  # what ``kernels_gpu`` launches today


@dataclass(frozen=True)
class GemvCut:
    """How a launch is cut.

    Args:
        warps: of a block.
        runs: of 128 inputs in a stage.
        depth: stages of the ring.
        blocks: on an SM; 0 for all that fit.
        registers: of a thread at most; 0 for as many as the assembler likes.
        ring: where rows of a stage begin.
        ahead: blocks of 32 codes that a lane decodes before it waits for the inputs; the model counts their registers.
        teams: of warps, each with tiles of its own; 1 for a block that shares every tile.
    """

    warps: int
    runs: int
    depth: int
    blocks: int = 0
    registers: int = 0
    ring: Ring = LAUNCHED
    ahead: int = 0
    teams: int = 1

    def __post_init__(self) -> None:
        if min(self.warps, self.runs, self.depth, self.teams) < 1 or min(self.blocks, self.registers, self.ahead) < 0:
            raise ValueError(
                f"warps, runs and depth of a cut must be at least 1, blocks, registers and ahead at least 0, "
                f"not {self!r}"
            )
        if self.warps % self.teams:
            raise ValueError(f"teams of a cut must divide its {self.warps} warps, not {self.teams!r}")

    @property
    def team_warps(self) -> int:
        """Warps that share a tile."""
        return self.warps // self.teams

    def runs_of_inputs(self, k: int) -> int:
        """Runs of 128 inputs that a block stages: those of all stages, and as many of each thread.

        >>> GemvCut(16, 4, 2).runs_of_inputs(4096), GemvCut(12, 4, 3, teams=3).runs_of_inputs(4096)
        (64, 48)
        """
        stages = ceil_div(ceil_div(k, self.runs * RUN), self.team_warps) * self.team_warps
        return ceil_div(stages * self.runs, 2 * self.warps) * 2 * self.warps

    def __str__(self) -> str:
        cut = f"{self.warps}x{self.runs}x{self.depth}x{self.blocks}"
        cut = f"{cut} {self.registers} registers" if self.registers else cut
        cut = f"{cut} {self.ahead} ahead" if self.ahead else cut
        return f"{cut} {self.teams} teams" if self.teams > 1 else cut

    def gathers(self, encoding: GemvEncoding, tokens: int) -> bool:
        """Whether a lane takes four blocks of codes next to one another, so that their sums take one scale or two."""
        one = self.ring is Ring.SECTORS and tokens == 1 and self.runs == _GATHERED_RUNS
        return one and (encoding.parts <= 2 or encoding.candidates == 1) and encoding.bits < BYTE_BITS


class Decoded(Protocol):
    """What of an encoding decides how its work is cut; see ``GemvEncoding``."""

    @property
    def bits(self) -> int: ...
    @property
    def floats(self) -> bool: ...
    @property
    def looked_up(self) -> bool: ...
    @property
    def digits(self) -> int: ...
    @property
    def learned(self) -> bool: ...
    @property
    def candidates(self) -> int: ...
    @property
    def parts(self) -> int: ...
    @property
    def group(self) -> int: ...


# kernels_gpu/NOTES.md: what measured best for few, more and many tiles of rows, one token
_Cuts = tuple[GemvCut, GemvCut, GemvCut]
_BYTES: _Cuts = (GemvCut(8, 2, 2, 1), GemvCut(8, 2, 3), GemvCut(16, 2, 2))
_NIBBLES: _Cuts = (GemvCut(16, 2, 2, 1), GemvCut(8, 2, 3), GemvCut(16, 4, 2))
_PLANES: Mapping[int, _Cuts] = {
    5: (GemvCut(8, 4, 2, 1), GemvCut(8, 4, 1), GemvCut(16, 4, 2)),
    6: (GemvCut(8, 4, 2, 1), GemvCut(4, 4, 3), GemvCut(16, 4, 2)),
    7: (GemvCut(8, 4, 1), GemvCut(4, 4, 3), GemvCut(8, 4, 3)),
}
_SHIFTED_FLOATS: _Cuts = (GemvCut(8, 2, 2, 1), GemvCut(8, 2, 2), GemvCut(16, 2, 2))
_FOUR_ENTRIES: _Cuts = (GemvCut(16, 2, 2, 1), GemvCut(8, 4, 1), GemvCut(8, 4, 3))
_EIGHT_ENTRIES: _Cuts = (GemvCut(16, 2, 2, 1), GemvCut(8, 4, 1), GemvCut(12, 4, 3, teams=3))
# many tiles of short rows, by bits of a code and digits of a value
_MANY_SHORT_ROWS: Mapping[tuple[int, int], GemvCut] = {
    (3, 1): GemvCut(8, 4, 2, teams=4),
    (4, 2): GemvCut(8, 4, 2, teams=2),
}
_SIXTEEN_ENTRIES: _Cuts = (GemvCut(8, 4, 2, 1, ahead=4), GemvCut(8, 4, 1, ahead=4), GemvCut(16, 4, 2))
_SIXTEEN_ENTRIES_CHOSEN: _Cuts = (GemvCut(8, 4, 2, 1, ahead=4), GemvCut(8, 4, 1, ahead=4), GemvCut(8, 4, 2))
_GROUPS_OF_32: _Cuts = (GemvCut(8, 4, 2, 1, ahead=4), GemvCut(8, 4, 1, ahead=4), GemvCut(16, 4, 2))
_GROUPS_OF_16: _Cuts = (GemvCut(8, 4, 2, 1, ahead=2), GemvCut(8, 4, 1, ahead=2), GemvCut(16, 4, 2))
_SHORT_GROUPS_APART = GemvCut(8, 2, 2)  # where warps would have stages of four runs in some turns and none in others
_TWO_DIGITS: Mapping[int, _Cuts] = {
    3: (GemvCut(8, 4, 2, 1), GemvCut(8, 4, 1), GemvCut(12, 4, 3, teams=3)),
    4: (GemvCut(8, 4, 2, 1), GemvCut(8, 4, 1, registers=80), GemvCut(16, 4, 2, teams=2)),
}
_LEARNED: Mapping[int, _Cuts] = {
    3: (GemvCut(8, 4, 2, 1), GemvCut(4, 4, 2), GemvCut(8, 4, 2)),
    4: (GemvCut(8, 4, 2, 1, teams=2), GemvCut(8, 4, 1), GemvCut(8, 4, 2, teams=2)),
}
_WIDE_STAGES, _NARROW_STAGES, _SMALL_BLOCKS = GemvCut(8, 4, 2), GemvCut(8, 2, 2), GemvCut(4, 4, 3)
_THREE_TEAMS, _FOUR_TEAMS = GemvCut(12, 4, 2, teams=3), GemvCut(16, 4, 2, teams=4)
_LONG_ROWS = GemvCut(16, 2, 2)
_MANY_TOKENS = (
    GemvCut(16, 2, 2), GemvCut(16, 2, 1), GemvCut(8, 2, 2), GemvCut(8, 4, 1), GemvCut(8, 2, 1), GemvCut(4, 2, 1),
)  # fmt: skip
_TWO_WARPS = GemvCut(2, 2, 1)
LAST_CUT = GemvCut(1, 2, 1)  # where none of the wanted ones fits


def _measured_cuts(encoding: Decoded) -> _Cuts:
    bits, chosen = encoding.bits, encoding.candidates > 1
    if bits == BYTE_BITS:
        return _BYTES
    if encoding.floats:
        return _SHIFTED_FLOATS
    if not encoding.looked_up:
        return _NIBBLES if bits == 4 else _PLANES[bits]
    if encoding.digits == 2:
        return (_LEARNED if encoding.learned else _TWO_DIGITS).get(bits, _FOUR_ENTRIES)
    if bits == 2:
        return _FOUR_ENTRIES
    if bits == 3:
        return _EIGHT_ENTRIES
    if encoding.parts > 2:
        return _GROUPS_OF_16 if encoding.group == TILE_ROWS else _GROUPS_OF_32
    return _SIXTEEN_ENTRIES_CHOSEN if chosen else _SIXTEEN_ENTRIES


def _cut_at_fast_memory(encoding: Decoded, tiles: int, k: int) -> GemvCut | None:
    """What measured best on an H200 for one token, where that is not the H100's best.

    ASSUMPTION: UINT6 wants what INT6 wants, E2M3 what E3M2, INT8 in groups what INT8 by row, learned formats and 2 bits
    what they want on an H100; the others were measured (kernels_gpu/NOTES.md).
    """
    two_digits = encoding.looked_up and encoding.digits == 2 and not encoding.learned
    if _SMALL < tiles < _LARGE and two_digits and encoding.bits == 4:
        return GemvCut(8, 4, 1)  # as many registers as the assembler likes
    if _SMALL < tiles <= _MEDIUM:
        return _NARROW_STAGES if not (encoding.looked_up or encoding.floats) and encoding.bits in (4, 6) else None
    if tiles < _LARGE or k < _LONG:
        return None
    if encoding.bits == BYTE_BITS:
        return None if encoding.floats else _WIDE_STAGES
    if encoding.floats:
        return _THREE_TEAMS if encoding.parts <= 2 else _NARROW_STAGES
    if not encoding.looked_up or encoding.learned or encoding.bits == 2:
        return None
    if two_digits:
        return _SMALL_BLOCKS if encoding.bits < 4 else _FOUR_TEAMS
    teams = encoding.candidates == 1 if encoding.bits < 4 else encoding.group == TILE_ROWS
    return _THREE_TEAMS if teams else _WIDE_STAGES


def choose_cut(
    encoding: GemvEncoding, shape: tuple[int, int, int], shared_limit: int, memory_bytes_per_s: float | None = None
) -> tuple[GemvCut, int] | None:
    """The launcher's cut of a product, and the launches it takes.

    Args:
        encoding: of the weight.
        shape: m (1 to 16), n, k.
        shared_limit: bytes of shared memory that a block may take.
        memory_bytes_per_s: as in ``wanted_cuts``.

    Returns:
        ``None`` where not even one token's inputs fit.
    """
    m, n, k = shape
    for launches in range(1, m + 1):
        tokens = ceil_div(m, launches)
        wanted = wanted_cuts(encoding, tokens, n, k, memory_bytes_per_s, ahead=encoding.seven_bits)
        cut = next((c for c in wanted if shared_bytes(encoding, tokens, k, c) <= shared_limit), LAST_CUT)
        if shared_bytes(encoding, tokens, k, cut) <= shared_limit:
            return cut, launches
    return None


def cut_on(gpu: Gpu, encoding: GemvEncoding, shape: tuple[int, int, int]) -> tuple[GemvCut, int] | None:
    """``choose_cut`` for a GPU's shared memory and bandwidth, by its data sheet."""
    return choose_cut(encoding, shape, gpu.shared_bytes - RESERVED_BYTES, gpu.dram.bytes_per_s)


def wanted_cuts(
    encoding: Decoded, tokens: int, n: int, k: int, memory_bytes_per_s: float | None = None, *, ahead: bool = False
) -> tuple[GemvCut, ...]:
    """Cuts to try, the best first; each has work for all warps of a team, and registers for all its threads.

    Args:
        encoding: of the weight.
        tokens: m.
        n, k: the weight's shape.
        memory_bytes_per_s: the GPU's DRAM bandwidth by its data sheet; ``None`` for an H100's choice. Whatever it is,
            the cuts but for the first one, which is one token's, are the same, and so is how many tokens fit.
        ahead: codes can be decoded ahead (``kernels_gpu.gemv_ahead_spec``); else the same cuts are taken without.
    """
    tiles = ceil_div(n, TILE_ROWS)
    size = 0 if tiles <= _SMALL else 1 if tiles < _LARGE else 2
    short = size == 2 and k < _LONG and encoding.looked_up  # measured at 22016 x 4096
    size = 1 if short else size
    best = _LONG_ROWS if size == 0 and k > _LONG else _measured_cuts(encoding)[size]
    if short:
        best = _MANY_SHORT_ROWS.get((encoding.bits, encoding.digits), best)
    if size == 1 and encoding.looked_up and encoding.bits == 4 and encoding.parts > 2 and k % (best.warps * _WIDE):
        best = _SHORT_GROUPS_APART
    # of mixtures only where a block has one tile: with two, decoding the second behind the wait is what counts
    best = best if ahead and (encoding.candidates == 1 or size or tiles <= _FEW) else replace(best, ahead=0)
    best = best if tiles > _FEW else replace(best, teams=1)  # an SM has one tile at most
    if memory_bytes_per_s is not None and memory_bytes_per_s >= FAST_MEMORY_BYTES_PER_S:
        best = _cut_at_fast_memory(encoding, tiles, k) or best
    # two-digit tables take up to 174 registers with many tokens: no more than eight warps
    # and so do five tiles of columns, each with sums of its own
    light = (encoding.digits == 1 or tokens <= 2) and ceil_div(tokens * encoding.parts, 4) <= 4
    return tuple(
        cut
        for cut in (*((best,) if tokens == 1 else ()), *_MANY_TOKENS, _TWO_WARPS)
        if cut.team_warps <= ceil_div(k, cut.runs * RUN) and (light or cut.warps <= 8)
    )


def shared_bytes(encoding: GemvEncoding, tokens: int, k: int, cut: GemvCut) -> int:
    """Shared memory of a block: zeros, tables, all inputs, the ring, sums of warps (``kernels_gpu.gemv_spec``)."""
    bits, runs = encoding.bits, cut.runs_of_inputs(k)
    tables = encoding.digits * TABLE_WORDS[bits] * encoding.candidates if encoding.looked_up else 0
    if encoding.learned:  # two buffers, each row with its step
        tables = cut.teams * 2 * TILE_ROWS * (encoding.digits * TABLE_WORDS[bits] + 4)
    block = BLOCK // 2 if encoding.floats else BLOCK // 4  # words of the inputs of a block
    planes = block + 4 if encoding.floats else 2 * block  # a plane for each of two digits; halves have gaps
    inputs = tokens * (runs * RUN // BLOCK * planes + (4 if encoding.floats else 8))
    sums = 0 if not encoding.zero_bits else 8 if encoding.group == TILE_ROWS else encoding.parts
    before_ring = block + _whole_vectors(tables) + inputs + tokens * runs * (1 + sums)
    before_ring = ceil_div(before_ring, _alignment(cut.ring)) * _alignment(cut.ring)
    gathered = cut.gathers(encoding, tokens)
    ring = cut.warps * cut.depth * stage_words(encoding, k, cut.runs, ring=cut.ring, gathered=gathered)
    return WORD_BYTES * (before_ring + ring + 2 * cut.warps * TILE_ROWS * tokens)


def stage_words(encoding: GemvEncoding, k: int, runs: int, *, ring: Ring = LAUNCHED, gathered: bool = False) -> int:
    """Words of a stage of one warp: codes of 16 rows apart in banks, and what goes with their groups."""
    pitch = row_pitch_words(encoding.bits, runs, ring=ring, gathered=gathered)
    planes = plane_widths(encoding.zero_bits) if encoding.zero_bits else ()
    fields = (encoding.scale_bits, *planes, encoding.selector_bits)
    words = TILE_ROWS * (pitch + sum(_window_words(bits, encoding.group, k, runs) for bits in fields))
    return ceil_div(words, _alignment(ring)) * _alignment(ring)


def row_pitch_words(bits: int, runs: int, *, ring: Ring = LAUNCHED, gathered: bool = False) -> int:
    """Words between rows of codes in a stage: so many that the lanes of a load meet different banks.

    >>> row_pitch_words(8, 2, ring=Ring.BANKS), row_pitch_words(6, 2)  # 64 words and 4; 48 and 8, at 32 bytes
    (68, 56)
    >>> row_pitch_words(8, 2, ring=Ring.SECTORS)  # halves of sectors change places instead
    64
    """
    words = runs * 4 * bits
    if ring is Ring.BANKS:
        remainders: tuple[int, ...] = {2: (8, 24), 4: (16,), 6: (8, 24)}.get(bits, (4, 12, 20, 28))
    elif bits == BYTE_BITS:
        remainders = (0,)
    elif gathered:
        remainders = {2: (0,), 4: (8, 24), 6: (0,)}.get(bits, (16,))
    else:
        remainders = (16,) if bits == 4 else (8, 24)
    return next(p for p in range(words, words + 64, 4) if p % WORD_BITS in remainders)


def _window_words(bits: int, group: int, k: int, runs: int) -> int:
    """Words that hold a row's fields of a stage, wherever the first one lies in its word."""
    if bits == 0:
        return 0
    width = runs * RUN
    count, alignment = 1, bits
    if group and group % width:
        count = ceil_div(width, group) + (width % group > 0)
        if width % group == 0:
            alignment = math.gcd(ceil_div(k, group) * bits, count * bits, WORD_BITS)
    return ceil_div(WORD_BITS - alignment + count * bits, WORD_BITS)


def _alignment(ring: Ring) -> int:
    """Words at whose multiples stages begin."""
    return 4 if ring is Ring.BANKS else SECTOR_WORDS


def _whole_vectors(words: int) -> int:
    """Rounded up to 16 bytes."""
    return ceil_div(words, 4) * 4
