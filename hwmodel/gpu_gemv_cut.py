"""How a launch of the decode GEMV is cut, and what it takes of shared memory: ``choose_cut``.

The choices are those of ``kernels_gpu.gemv_launch``, which measured best on an H100 (kernels_gpu/NOTES.md); a test
compares them, and the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from datatypes.planes import WORD_BITS, plane_widths
from hwmodel.gpu_gemv_encoding import BLOCK, RUN, TILE_ROWS, GemvEncoding
from hwmodel.units import BYTE_BITS, KIB, ceil_div

WORD_BYTES = 4
RESERVED_BYTES = KIB  # of shared memory for each block: CUDA C++ Programming Guide, compute capability 9.0
MOST_TOKENS = 16  # kernels_gpu/gemv_launch.py
TABLE_WORDS: Mapping[int, int] = {2: 1, 3: 2, 4: 4}  # of a digit: kernels_gpu/gemv_plan.py
_SMALL, _LARGE = 264, 1320  # tiles of rows: two, and ten, for each SM of an H100


@dataclass(frozen=True)
class GemvCut:
    """How a launch is cut: warps of a block, runs in a stage, stages of the ring, blocks on an SM (0: all that fit)."""

    warps: int
    runs: int
    depth: int
    blocks: int = 0

    def __post_init__(self) -> None:
        if min(self.warps, self.runs, self.depth) < 1 or self.blocks < 0:
            raise ValueError(f"warps, runs and depth of a cut must be at least 1 and blocks at least 0, not {self!r}")


# kernels_gpu/gemv_launch.py: cuts for few, more and many tiles of rows
_BYTES = (GemvCut(16, 2, 2, 1), GemvCut(16, 2, 2, 1), GemvCut(8, 4, 2))
_FEWER_BITS = (GemvCut(16, 2, 2, 1), GemvCut(8, 2, 3), GemvCut(16, 2, 2))
_LOOKED_UP = (GemvCut(16, 2, 2, 1), GemvCut(16, 2, 1), GemvCut(8, 4, 2))
_SIXTEEN_ENTRIES = (GemvCut(8, 2, 2, 1), GemvCut(8, 4, 1), GemvCut(16, 2, 2))
_ONE_TABLE = (GemvCut(8, 2, 2, 1), GemvCut(8, 2, 2), GemvCut(16, 2, 2))
_TWO_DIGITS = (GemvCut(8, 2, 1), GemvCut(8, 4, 1), GemvCut(8, 2, 2))
_FLOATS = (GemvCut(16, 2, 2, 1), GemvCut(16, 2, 2), GemvCut(16, 2, 2))
_SHIFTED_FLOATS = (GemvCut(16, 2, 2, 1), GemvCut(8, 2, 2), GemvCut(8, 2, 2))
_MANY_TOKENS = (
    GemvCut(16, 2, 2), GemvCut(16, 2, 1), GemvCut(8, 2, 2), GemvCut(8, 4, 1), GemvCut(8, 2, 1), GemvCut(4, 2, 1),
)  # fmt: skip
_LAST = GemvCut(2, 2, 1)


def _measured_cuts(encoding: GemvEncoding) -> tuple[GemvCut, GemvCut, GemvCut]:
    if encoding.digits == 2:
        return _TWO_DIGITS
    if encoding.floats:
        return _FLOATS if encoding.bits == BYTE_BITS else _SHIFTED_FLOATS
    if encoding.looked_up and encoding.bits == 4:
        return _SIXTEEN_ENTRIES if encoding.candidates > 1 else _ONE_TABLE
    if encoding.looked_up:
        return _LOOKED_UP
    return _BYTES if encoding.bits == BYTE_BITS else _FEWER_BITS


def choose_cut(encoding: GemvEncoding, shape: tuple[int, int, int], shared_limit: int) -> tuple[GemvCut, int] | None:
    """The launcher's cut of a product, and the launches it takes.

    Args:
        encoding: of the weight.
        shape: m (1 to 16), n, k.
        shared_limit: bytes of shared memory that a block may take.

    Returns:
        ``None`` where not even one token's inputs fit.
    """
    m, n, k = shape
    for launches in range(1, m + 1):
        tokens = ceil_div(m, launches)
        cut = _cut(encoding, (tokens, n, k), shared_limit)
        if shared_bytes(encoding, tokens, k, cut) <= shared_limit:
            return cut, launches
    return None


def _cut(encoding: GemvEncoding, shape: tuple[int, int, int], shared_limit: int) -> GemvCut:
    tokens, n, k = shape
    tiles = ceil_div(n, TILE_ROWS)
    best = _measured_cuts(encoding)[0 if tiles <= _SMALL else 1 if tiles < _LARGE else 2]
    # kernels of two digits, and of five tiles of columns, have too many registers for more than eight warps
    light = (encoding.digits == 1 or tokens <= 2) and ceil_div(tokens * encoding.parts, 4) <= 4
    for cut in (*((best,) if tokens <= 4 else ()), *_MANY_TOKENS, _LAST):
        enough_work = cut.warps <= ceil_div(k, cut.runs * RUN)
        fits = shared_bytes(encoding, tokens, k, cut) <= shared_limit
        if enough_work and fits and (light or cut.warps <= 8):
            return cut
    return GemvCut(1, 2, 1)


def shared_bytes(encoding: GemvEncoding, tokens: int, k: int, cut: GemvCut) -> int:
    """Shared memory of a block: zeros, tables, all inputs, the ring, sums of warps (``kernels_gpu.gemv_spec``)."""
    bits, whole = encoding.bits, cut.warps * cut.runs
    runs = ceil_div(ceil_div(k, RUN), whole) * whole  # of all slots of all warps
    tables = encoding.digits * TABLE_WORDS[bits] * encoding.candidates if encoding.looked_up else 0
    if encoding.learned:  # two buffers, each row with its step
        tables = 2 * TILE_ROWS * (encoding.digits * TABLE_WORDS[bits] + 4)
    block = BLOCK // 2 if encoding.floats else BLOCK // 4  # words of the inputs of a block
    planes = block + 4 if encoding.floats else 2 * block  # a plane for each of two digits; halves have gaps
    inputs = tokens * (runs * RUN // BLOCK * planes + (4 if encoding.floats else 8))
    sums = 0 if not encoding.zero_bits else 8 if encoding.group == TILE_ROWS else encoding.parts
    before_ring = _whole_vectors(block + _whole_vectors(tables) + inputs + tokens * runs * (1 + sums))
    ring = cut.warps * cut.depth * stage_words(encoding, k, cut.runs)
    return WORD_BYTES * (before_ring + ring + 2 * cut.warps * TILE_ROWS * tokens)


def stage_words(encoding: GemvEncoding, k: int, runs: int) -> int:
    """Words of a stage of one warp: codes of 16 rows apart in banks, and what goes with their groups."""
    pitch = row_pitch_words(encoding.bits, runs)
    planes = plane_widths(encoding.zero_bits) if encoding.zero_bits else ()
    fields = (encoding.scale_bits, *planes, encoding.selector_bits)
    return _whole_vectors(TILE_ROWS * (pitch + sum(_window_words(bits, encoding.group, k, runs) for bits in fields)))


def row_pitch_words(bits: int, runs: int) -> int:
    """Words between rows of codes in a stage: so many that the lanes of a load meet different banks.

    >>> row_pitch_words(8, 2), row_pitch_words(6, 2)  # 64 words and 4; 48 and 8, so that rows begin at 32 bytes
    (68, 56)
    """
    words = runs * 4 * bits
    remainders = {2: (8, 24), 4: (16,), 6: (8, 24)}.get(bits, (4, 12, 20, 28))  # gemv_spec.pitch
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


def _whole_vectors(words: int) -> int:
    """Rounded up to 16 bytes."""
    return ceil_div(words, 4) * 4
