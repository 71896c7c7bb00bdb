"""Time of a product of more than 16 tokens straight from packed codes on tensor cores (``kernels_gpu.gemm``).

A block makes ``row_warps`` times 16 rows of up to 128 tokens; a stage brings it two runs of 128 inputs a warp, and the
weights of these. So

    feed        a stage's inputs and weights, from L2 or memory into an SM's shared memory; and where a thread copies
                sixteen pieces or more, the compiler keeps a loop whose addresses are made anew for each
    work        of a warp: two runs, each decoded once, and multiplied with every tile of eight tokens; the warps of a
                block run beside each other, and take as long as one. An instruction of the half-wide pipe takes two
                slots
    stage     = (feed**p + work**p)**(1/p)
    block     = start + a part for each tile of tokens (results through shared memory) + stages; and the lesser of feed
                and work once more, since the first stage is only fed and the last one only computed
    seconds   = launch + norm(turns x block, memory); SMs take whole blocks, so turns = ceil(blocks / SMs), but where
                the next launch crowds on idle SMs (``turns_of``)

Instructions of a run are counted (``decode_slots``), launch, memory's rate and its norm are those of ``gpu_gemv``; nine
constants are fitted (``hwmodel.gpu_tiles_fit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from hwmodel.gpu import Gpu
from hwmodel.gpu_constants import read_constants
from hwmodel.gpu_gemv import gemv_constants, rounded_maximum
from hwmodel.gpu_gemv_cut import LAUNCHED, RESERVED_BYTES, TABLE_WORDS, WORD_BYTES, Ring, stage_words
from hwmodel.gpu_gemv_encoding import BLOCK, RUN, TILE_ROWS, WARP, GemvEncoding
from hwmodel.gpu_library import DATA
from hwmodel.units import BYTE_BITS, ceil_div

CONSTANTS = DATA / "gpu_tiles.csv"
TILE_TOKENS, RUNS = 8, 2  # tokens of mma.m16n8k16; runs of a warp's part of a stage: kernels_gpu/gemm_spec.py
_WIDE_BYTES = 2  # FP16
_PIECE_BYTES = 16  # of cp.async: kernels_gpu/gemm.py
_LOOPED_PIECES = 16  # of a thread: twelve are written out, sixteen left as a loop (disassembly, NOTES.md)
# Instructions of a weight, by digits and tables, after its bytes are there: a permutation and a logical one for two
# weights and set of bytes, then fused products of two weights: kernels_gpu/gemm_decode.py, ``make_values``
_FUSED: Mapping[tuple[int, int], float] = {(1, 1): 1 / 2, (1, 2): 2 / 2, (2, 1): 3 / 2, (2, 2): 4 / 2}
_ORDERED_FLOAT, _SCALED = 1 / 2, 1 / 2  # a permutation, and a product, for two weights
_BYTES_TO_HALVES = 1.0
# Of a run beside those, in the disassembly of 8 x 8 x 1 x 2 less 12 for each tile of tokens: loads of codes and one
# scale for each of two rows; selectors; E8M0 scales as two factors; a second scale for the other half of a block
_RUN_LOADS, _SELECTORS, _TWO_FACTORS, _TWO_GROUPS = 38, 26, 36, 67
_HALF_WIDE_SELECTORS = 20  # of those: 204 of BitMoD-4's loop are on the half-wide pipe (NOTES.md), 184 of its decoding
# Words of a block of 32 inputs, between blocks, between tokens beyond these, between tokens of results: gemm_spec.py
_BLOCK_WORDS, _BLOCK_GAP, _TOKEN_GAP, _RESULT_WORDS, _SECTOR_WORDS = BLOCK // 2, 4, 16, TILE_ROWS + 4, 8


@dataclass(frozen=True)
class TileCut:
    """How a launch is cut: tiles of eight tokens, row warps, warps that share rows, stages under way; the ring."""

    token_tiles: int
    row_warps: int
    k_warps: int
    depth: int
    ring: Ring = LAUNCHED

    def __post_init__(self) -> None:
        if min(self.token_tiles, self.row_warps, self.k_warps) < 1 or self.depth < 2:
            raise ValueError(f"tiles and warps of a cut must be at least 1 and depth at least 2, not {self!r}")


@dataclass(frozen=True)
class TileConstants:
    """Fitted constants.

    Args:
        block_s: of a block, before its first stage and after its last.
        token_tile_s: of a block, for each tile of tokens.
        fed_bytes_per_cycle: that reach an SM's shared memory.
        instruction_cycles: of each slot of a run's counted instructions.
        token_cycles: of a run, for each tile of tokens: eight products and their inputs.
        looped_copy_cycles: of a piece that a thread copies in a loop.
        table_cycles: of a run, for each digit of a table of sixteen entries in shared memory.
        group_cycles: of a run, for each of its groups of inputs beyond the first.
        stage_norm: p above; 1 is one after the other.
    """

    block_s: float
    token_tile_s: float
    fed_bytes_per_cycle: float
    instruction_cycles: float
    token_cycles: float
    looped_copy_cycles: float
    table_cycles: float
    group_cycles: float
    stage_norm: float


FITTED = tuple(f.name for f in fields(TileConstants))


@dataclass(frozen=True)
class TileTime:
    """Predicted time of one product and its parts; feed and work overlap, and both with memory."""

    seconds: float
    launch_s: float
    blocks_s: float
    feed_s: float
    work_s: float
    memory_s: float

    @property
    def bound(self) -> str:
        """The largest part."""
        ends_s = max(0.0, self.blocks_s - max(self.feed_s, self.work_s))
        parts = {"memory": self.memory_s, "feed": self.feed_s, "work": self.work_s, "ends of blocks": ends_s}
        return max(parts, key=lambda name: parts[name])


def decode_instructions(encoding: GemvEncoding) -> float:
    """Instructions of a run of 16 x 128 weights, a lane's, to make them scaled halves.

    >>> from datatypes.catalog import FP16, INTS_SYMMETRIC
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.layer_config import ScaleConfig, TensorConfig
    >>> from hwmodel.gpu_gemv_encoding import encoding_of
    >>> decode_instructions(encoding_of(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))))
    190.0
    """
    own = encoding.decode + _SCALED
    if encoding.floats:
        own += 0.0 if encoding.bits == BYTE_BITS else _ORDERED_FLOAT
    else:
        own += encoding.digits * encoding.tables * _BYTES_TO_HALVES + _FUSED[encoding.digits, encoding.tables]
    own += _SCALED if encoding.power_scales else 0.0
    beside = _RUN_LOADS + (_SELECTORS if encoding.selector_bits else 0) + (_TWO_FACTORS if encoding.power_scales else 0)
    return TILE_ROWS * RUN / WARP * own + beside + (_TWO_GROUPS if encoding.group == TILE_ROWS else 0)


def decode_slots(encoding: GemvEncoding) -> float:
    """The same instructions with those of the half-wide pipe counted twice: logical ones, shifts, permutations."""
    permuted = 0.0 if encoding.floats and encoding.bits == BYTE_BITS else _BYTES_TO_HALVES
    permuted = _ORDERED_FLOAT if encoding.floats and permuted else permuted * encoding.digits * encoding.tables
    half = TILE_ROWS * RUN / WARP * (encoding.decode + permuted)
    return decode_instructions(encoding) + half + (_HALF_WIDE_SELECTORS if encoding.selector_bits else 0)


def shared_bytes(encoding: GemvEncoding, k: int, cut: TileCut) -> int:
    """Shared memory of a block: tables, then stages of inputs and weights, or in the end results."""
    warps, tokens = cut.row_warps * cut.k_warps, cut.token_tiles * TILE_TOKENS
    tables = encoding.digits * TABLE_WORDS[encoding.bits] * encoding.candidates if encoding.looked_up else 0
    gaps = cut.ring is Ring.BANKS  # otherwise inputs change places within their blocks
    token_words = cut.k_warps * RUNS * RUN // BLOCK * (_BLOCK_WORDS + (_BLOCK_GAP if gaps else 0))
    token_words += _TOKEN_GAP if gaps else 0
    stage = tokens * token_words + warps * stage_words(encoding, k, RUNS, ring=cut.ring)
    aligned = 4 if gaps else _SECTOR_WORDS
    return WORD_BYTES * (ceil_div(tables, aligned) * aligned + max(cut.depth * stage, warps * tokens * _RESULT_WORDS))


def turns_of(blocks: int, resident: int, multiprocessors: int) -> float:
    """Blocks that follow one another on the fullest SM.

    Where every SM holds ``resident`` blocks and one launch leaves many idle, all blocks of the next one, which comes
    early, are put on those, several on each, and take as long as one after another (measured where blocks are more
    than SMs). It leaves the others idle in turn, so that every second launch finds room: the mean of both is returned.

    >>> turns_of(133, 1, 132), turns_of(86, 1, 132), turns_of(86, 2, 132)
    (2.0, 1.0, 1.5)
    """
    idle = multiprocessors - blocks
    if idle < 0:
        return float(ceil_div(blocks, multiprocessors))
    if idle >= blocks or idle * resident < blocks:
        return 1.0
    return (1 + ceil_div(blocks, idle)) / 2


def tile_time(
    encoding: GemvEncoding,
    shape: tuple[int, int, int],
    cut: TileCut,
    *,
    weight_bytes: float,
    gpu: Gpu,
    copy_bytes_per_s: float,
    constants: TileConstants | None = None,
) -> TileTime:
    """Predicted time of ``x[m, k] @ weight[n, k].T``.

    Args:
        encoding: of the weight.
        shape: m, n, k.
        cut: of the work.
        weight_bytes: codes, scales, zero points and selectors.
        gpu: data sheet: SMs and clock are used.
        copy_bytes_per_s: measured, read plus written.
        constants: fitted; the recorded ones by default.

    Raises:
        ValueError: a size that is not above zero.
        NotImplementedError: a learned codebook, which has no tile kernel.
    """
    m, n, k = shape
    if min(m, n, k) < 1 or not weight_bytes > 0 or not copy_bytes_per_s > 0:
        raise ValueError(f"m, n, k, bytes and copy rate must be above 0, not {shape!r}, {weight_bytes!r}, "
                         f"{copy_bytes_per_s!r}")  # fmt: skip
    if encoding.learned:
        raise NotImplementedError("weights of the tile kernel must be of a fixed format, not learned codebooks")
    c, gemv = tile_constants() if constants is None else constants, gemv_constants()
    warps, tokens = cut.row_warps * cut.k_warps, cut.token_tiles * TILE_TOKENS
    inputs_bytes = tokens * cut.k_warps * RUNS * RUN * _WIDE_BYTES
    pieces = inputs_bytes / _PIECE_BYTES / (warps * WARP)
    feed = (inputs_bytes + warps * TILE_ROWS * RUNS * RUN * encoding.bits / BYTE_BITS) / c.fed_bytes_per_cycle
    feed += pieces * c.looped_copy_cycles if pieces >= _LOOPED_PIECES else 0.0
    run = c.instruction_cycles * decode_slots(encoding) + c.token_cycles * cut.token_tiles
    run += c.table_cycles * encoding.digits if encoding.shared_table else 0.0
    run += c.group_cycles * (ceil_div(RUN, encoding.group) - 1 if encoding.group else 0)
    work, stages = RUNS * run, ceil_div(k, cut.k_warps * RUNS * RUN)
    stage_s = rounded_maximum(feed, work, c.stage_norm) / gpu.frequency_hz
    blocks = ceil_div(n, cut.row_warps * TILE_ROWS) * ceil_div(m, tokens)
    resident = gpu.shared_bytes // (shared_bytes(encoding, k, cut) + RESERVED_BYTES)
    turns = turns_of(blocks, resident, gpu.multiprocessors)
    ends_s = c.block_s + c.token_tile_s * cut.token_tiles + min(feed, work) / gpu.frequency_hz
    blocks_s = turns * (ends_s + stages * stage_s)
    memory_s = weight_bytes / copy_bytes_per_s / gemv.read_over_copy
    each = turns * stages / gpu.frequency_hz
    seconds = gemv.launch_s + rounded_maximum(blocks_s, memory_s, gemv.overlap_norm)
    return TileTime(seconds, gemv.launch_s, blocks_s, each * feed, each * work, memory_s)


@cache
def tile_constants(path: Path = CONSTANTS) -> TileConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    return read_constants(path, TileConstants, FITTED, "tile")
