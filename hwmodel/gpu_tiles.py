"""Time of a product of more than 16 tokens straight from packed codes on tensor cores (``kernels_gpu.gemm``).

A block makes ``row_warps`` times 16 rows of up to 128 tokens; a stage brings it two runs of 128 inputs a warp, and the
weights of these. So

    feed        a stage's inputs and weights, from L2 or memory into an SM's shared memory: one rate for all blocks of
                an SM, and half of it where rows begin across sectors of 32 bytes (``Ring.BANKS``)
    work        of a warp: two runs, each decoded once, and multiplied with every tile of eight tokens; an instruction
                of the half-wide pipe takes two slots. The warps of an SM run beside each other
    SM          what all its warps take together: four slots a cycle, a tile of tokens 16 cycles of tensor cores and of
                shared memory alike
    stage     = (feed**p + work**p + SM**p)**(1/p)
    block     = start + a part for each tile of tokens (results through shared memory) + stages; and the lesser of feed
                and work once more, since the first stage is only fed and the last one only computed
    seconds   = launch + norm(blocks of the fullest SM, as many at a time as fit; memory), but where the next launch
                crowds on idle SMs (``_blocks_s``)

Instructions of a run are counted (``decode_slots``), launch, memory's rate and its norm are those of ``gpu_gemv``;
seven constants are fitted (``hwmodel.gpu_tiles_fit``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
# Of an SM: schedulers, registers, warps: CUDA C++ Programming Guide, compute capabilities 8.0 and 9.0
_SCHEDULERS, _SM_REGISTERS, _SM_WARPS = 4, 65536, 64
# Of a warp's run and tile of tokens: instructions (disassembly, NOTES.md), and cycles of an SM for its 16 x 8 x 128
# products at 1024 a cycle, or its 2 KiB of inputs at 128 bytes a cycle (NOTES.md, floor of the tile kernel)
_TILE_INSTRUCTIONS, _TILE_CYCLES = 12, 16
# Roughly those of the records, of warps that share no rows and that do: least, for a tile of tokens, for tables
_OWN_ROWS, _SHARED_ROWS, _GROUP_REGISTERS = (48, 12, 8), (96, 5, 16), 16
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
        fed_bytes_per_cycle: that reach an SM's shared memory where rows begin at whole sectors.
        instruction_cycles: of a warp, for each slot of a run's counted instructions.
        token_cycles: of a warp's run, for each tile of tokens: eight products and their inputs.
        group_cycles: of a warp's run whose groups are 16 inputs.
        stage_norm: p above; 1 is one after the other.
    """

    block_s: float
    token_tile_s: float
    fed_bytes_per_cycle: float
    instruction_cycles: float
    token_cycles: float
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


def resident_blocks(encoding: GemvEncoding, k: int, cut: TileCut, gpu: Gpu) -> int:
    """Blocks that an SM holds: by shared memory, threads, and registers, roughly those of the records."""
    warps = cut.row_warps * cut.k_warps
    least, each, tables = _OWN_ROWS if cut.k_warps == 1 else _SHARED_ROWS
    made = least + each * cut.token_tiles + (tables if encoding.looked_up else 0)
    made += _GROUP_REGISTERS if encoding.group == TILE_ROWS else 0
    by_registers = _SM_REGISTERS // (ceil_div(made, 8) * 8 * WARP * warps)
    by_memory = gpu.shared_bytes // (shared_bytes(encoding, k, cut) + RESERVED_BYTES)
    return max(1, min(by_memory, by_registers, _SM_WARPS // warps))


def _blocks_s(blocks: int, resident: int, multiprocessors: int, at_once_s: Callable[[int], float]) -> float:
    """Seconds of all blocks on the fullest SM, ``at_once_s`` being those of so many side by side.

    Where one launch leaves SMs idle and several blocks fit on each, the next one, which comes early, puts two on some
    of these; it leaves others idle in turn, so that every second launch finds room: the mean of both is returned.
    """
    idle = multiprocessors - blocks
    if idle >= 0:
        crowded = resident > 1 and 0 < idle < blocks
        return (at_once_s(1) + at_once_s(2)) / 2 if crowded else at_once_s(1)
    full, rest = divmod(ceil_div(blocks, multiprocessors), resident)
    return full * at_once_s(resident) + (at_once_s(rest) if rest else 0.0)


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
    stage_bytes = float(tokens * cut.k_warps * RUNS * RUN * _WIDE_BYTES)
    stage_bytes += warps * TILE_ROWS * RUNS * RUN * encoding.bits / BYTE_BITS
    feed = stage_bytes / c.fed_bytes_per_cycle * (2 if cut.ring is Ring.BANKS else 1)
    slots = decode_slots(encoding)
    work = RUNS * (c.instruction_cycles * slots + c.token_cycles * cut.token_tiles)
    work += RUNS * c.group_cycles if encoding.group == TILE_ROWS else 0.0
    issued = slots / _SCHEDULERS + _TILE_INSTRUCTIONS / _SCHEDULERS * cut.token_tiles
    shared = warps * RUNS * max(_TILE_CYCLES * cut.token_tiles, issued)
    stages = ceil_div(k, cut.k_warps * RUNS * RUN)

    def at_once_s(many: int) -> float:
        norm = c.stage_norm
        stage = rounded_maximum(rounded_maximum(many * feed, work, norm), many * shared, norm)
        cycles = stages * stage + min(many * feed, work)
        return c.block_s + c.token_tile_s * cut.token_tiles + cycles / gpu.frequency_hz

    blocks = ceil_div(n, cut.row_warps * TILE_ROWS) * ceil_div(m, tokens)
    blocks_s = _blocks_s(blocks, resident_blocks(encoding, k, cut, gpu), gpu.multiprocessors, at_once_s)
    memory_s = weight_bytes / copy_bytes_per_s / gemv.read_over_copy
    each = ceil_div(blocks, gpu.multiprocessors) * stages / gpu.frequency_hz
    seconds = gemv.launch_s + rounded_maximum(blocks_s, memory_s, gemv.overlap_norm)
    return TileTime(seconds, gemv.launch_s, blocks_s, each * feed, each * max(work, shared), memory_s)


@cache
def tile_constants(path: Path = CONSTANTS) -> TileConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    return read_constants(path, TileConstants, FITTED, "tile")
