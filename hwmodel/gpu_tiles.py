"""Time of a product of more than 16 tokens straight from packed codes on tensor cores (``kernels_gpu.gemm``).

A block makes ``row_warps`` times 16 rows of up to 128 tokens; a stage brings it two runs of 128 inputs a warp, and the
weights of these. A barrier a stage keeps the block's warps in step, so that they do one thing after another:

    issue       instructions of a stage, copies and decoding, of the warps that share a scheduler, one a cycle;
                those of the half-wide pipe take two slots
    products    of every tile of eight tokens with the decoded weights, at the rate of the tensor cores; a warp alone on
                its scheduler waits for its own sums
    feed        a stage's inputs and weights, at the 64 bytes a cycle that an SM takes from L2, and half of it where
                rows begin across sectors of 32 bytes (``Ring.BANKS``); codes that two lanes read from a bank
    stage     = issue + products + feed, for a block alone on its SM
              = (that**p + issue**p + (products + feed)**p)**(1/p) for several, the latter of all of them together
    seconds   = launch + the larger of stages of the blocks of the fullest SM, as many at a time as fit, and memory;
                but the next launch crowds on idle SMs (``_blocks_s``)

All is counted but three constants (``hwmodel.gpu_tiles_fit``); launch and memory's rate are those of ``gpu_gemv``. Left
out: how far the compiler mixes decoding with products, which would overlap them (docs/gpu_kernels.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from hwmodel.gpu import Gpu
from hwmodel.gpu_constants import read_constants
from hwmodel.gpu_gemv import gemv_constants, rounded_maximum
from hwmodel.gpu_gemv_cut import LAUNCHED, RESERVED_BYTES, TABLE_WORDS, WORD_BYTES, Ring, stage_words
from hwmodel.gpu_gemv_encoding import BLOCK, RUN, TILE_ROWS, WARP, GemvEncoding
from hwmodel.gpu_launch import alone_s
from hwmodel.gpu_library import DATA
from hwmodel.gpu_tiles_decode import LOOKED_UP, Lookup, decode_slots, in_halves
from hwmodel.units import BYTE_BITS, ceil_div

CONSTANTS = DATA / "gpu_tiles.csv"
TILE_TOKENS, RUNS = 8, 2  # tokens of mma.m16n8k16; runs of a warp's part of a stage: kernels_gpu/gemm_spec.py
_WIDE_BYTES = 2  # FP16
# Of an SM: schedulers, registers, warps: CUDA C++ Programming Guide, compute capabilities 8.0 and 9.0
SCHEDULERS, _SM_REGISTERS, _SM_WARPS = 4, 65536, 64
# Clock of the records' SMs (clocks.sm, MHz) over the one of an H100's data sheet (``gpu_presets.H100``), which its peak
# rates stand for. ASSUMPTION: so on other GPUs
CLOCK_OVER_SHEET = 1980 / 1830
# Bytes a cycle that an SM takes from L2 (NOTES.md, prefill); a fit that leaves it free gives 69
_FED_BYTES = 64
# Of a warp's run and tile of tokens: cycles of its scheduler's tensor core for 16 x 8 x 128 products at 256 a cycle
# (NOTES.md, floor of the tile kernel), in which shared memory delivers the inputs of four warps
_TILE_CYCLES = 64
_TILE_INSTRUCTIONS = 12  # of a warp's run and tile of tokens (disassembly, NOTES.md)
# Instructions of a copy of 16 bytes for each thread; of inputs, those beyond eight a stage are left in a loop, which
# makes their addresses anew (disassembly of seven cuts, sm_90: 13 of 174, 153 for four)
_COPY_INSTRUCTIONS, _LOOPED_INSTRUCTIONS, _WRITTEN_OUT = 13, 38, 8
_COPY_BYTES = 16
# Roughly those of the records, of warps that share no rows and that do: least, for a tile of tokens, for tables
_OWN_ROWS, _SHARED_ROWS, _GROUP_REGISTERS = (48, 12, 8), (96, 5, 16), 16
MAXIMUM_NORM = 8.0  # a maximum with its corner rounded; a norm that is fitted comes out there
# Words of a block of 32 inputs, between blocks, between tokens beyond these, between tokens of results: gemm_spec.py
_BLOCK_WORDS, _BLOCK_GAP, _TOKEN_GAP, _RESULT_WORDS, _SECTOR_WORDS = BLOCK // 2, 4, 16, TILE_ROWS + 4, 8


@dataclass(frozen=True)
class TileCut:
    """How a launch is cut.

    Args:
        token_tiles: of eight tokens, of a block.
        row_warps, k_warps: warps of 16 rows, and warps that share rows.
        depth: stages under way.
        ring: how stages lie in shared memory.
        registers: of a thread, where the compiled kernel is known; else a rough count.
        lookup: how floats of four bits are decoded.
    """

    token_tiles: int
    row_warps: int
    k_warps: int
    depth: int
    ring: Ring = LAUNCHED
    registers: int = 0
    lookup: Lookup = LOOKED_UP

    def __post_init__(self) -> None:
        if min(self.token_tiles, self.row_warps, self.k_warps) < 1 or self.depth < 2 or self.registers < 0:
            raise ValueError(
                f"tiles and warps of a cut must be at least 1, depth at least 2 and registers at least 0, not {self!r}"
            )


@dataclass(frozen=True)
class TileConstants:
    """Fitted constants.

    Args:
        lone_tile_cycles: of a warp's run and tile of tokens, of a warp alone on its scheduler.
        group_slots: of a run whose groups are 16 inputs, beyond the counted ones. ASSUMPTION: none where signs and
            magnitudes are decoded: they come from two branches for each row, which are no more.
        sharing_norm: p above.
    """

    lone_tile_cycles: float
    group_slots: float
    sharing_norm: float


FITTED = tuple(f.name for f in fields(TileConstants))


@dataclass(frozen=True)
class TileTime:
    """Predicted time of one product; issue, products and feed are parts of ``blocks_s``, which overlaps with memory."""

    seconds: float
    launch_s: float
    blocks_s: float
    issue_s: float
    products_s: float
    feed_s: float
    memory_s: float

    @property
    def bound(self) -> str:
        """The largest part."""
        parts = {"memory": self.memory_s, "feed": self.feed_s, "issue": self.issue_s, "products": self.products_s}
        return max(parts, key=lambda name: parts[name])


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


def copy_instructions(encoding: GemvEncoding, cut: TileCut) -> float:
    """Instructions with which a lane copies its pieces of a stage.

    >>> from datatypes.catalog import FP16, INTS_SYMMETRIC
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.layer_config import ScaleConfig, TensorConfig
    >>> from hwmodel.gpu_gemv_encoding import encoding_of
    >>> int4 = encoding_of(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16)))
    >>> copy_instructions(int4, TileCut(8, 8, 1, 2)), copy_instructions(int4, TileCut(3, 2, 4, 2))  # 8 of inputs, 12
    (156, 508)
    """
    input_bytes = cut.token_tiles * TILE_TOKENS * cut.k_warps * RUNS * RUN * _WIDE_BYTES
    inputs = ceil_div(input_bytes, _COPY_BYTES * WARP * cut.row_warps * cut.k_warps)
    weights = TILE_ROWS * RUNS * RUN * encoding.bits // (BYTE_BITS * _COPY_BYTES * WARP)
    each = _COPY_INSTRUCTIONS if inputs <= _WRITTEN_OUT else _LOOPED_INSTRUCTIONS
    return inputs * each + weights * _COPY_INSTRUCTIONS


def resident_blocks(encoding: GemvEncoding, k: int, cut: TileCut, gpu: Gpu) -> int:
    """Blocks that an SM holds: by shared memory, threads, and registers, the recorded ones or roughly so."""
    warps = cut.row_warps * cut.k_warps
    least, each, tables = _OWN_ROWS if cut.k_warps == 1 else _SHARED_ROWS
    made = least + each * cut.token_tiles + (tables if encoding.looked_up else 0)
    made += _GROUP_REGISTERS if encoding.group == TILE_ROWS and not in_halves(encoding, cut.lookup) else 0
    by_registers = _SM_REGISTERS // (ceil_div(cut.registers or made, 8) * 8 * WARP * warps)
    by_memory = gpu.shared_bytes // (shared_bytes(encoding, k, cut) + RESERVED_BYTES)
    return max(1, min(by_memory, by_registers, _SM_WARPS // warps))


def _blocks_s(blocks: int, resident: int, multiprocessors: int, at_once_s: Callable[[int], float]) -> float:
    """Seconds of all blocks on the fullest SM, ``at_once_s`` being those of so many side by side.

    Where one launch leaves SMs idle and several blocks fit on each, the next ones, which come early, put two on some of
    these, and that SM ends last. None does while four launches fit side by side (32 blocks of 132: 0 in the mean of
    what was measured), nearly each where one leaves hardly an SM (128: 0.94). Between lies a straight line (64, 86 and
    96 blocks: 0.36, 0.61, 0.88 for 0.31, 0.54, 0.64); a single row lies anywhere between both, and so it was measured.
    """
    idle = multiprocessors - blocks
    if idle >= 0:
        crowded = max(0.0, (4 * blocks / multiprocessors - 1) / 3) if resident > 1 and idle else 0.0
        return at_once_s(1) + crowded * (at_once_s(2) - at_once_s(1)) if crowded else at_once_s(1)
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
    across = 2 if cut.ring is Ring.BANKS else 1
    feed = across * stage_bytes / _FED_BYTES + warps * RUNS * _bank_cycles(encoding, cut)
    waits = encoding.group == TILE_ROWS and not in_halves(encoding, cut.lookup)
    slots = RUNS * (decode_slots(encoding, cut.lookup) + (c.group_slots if waits else 0.0))
    slots += copy_instructions(encoding, cut)
    stages, hz = ceil_div(k, cut.k_warps * RUNS * RUN), gpu.frequency_hz * CLOCK_OVER_SHEET

    def parts(many: int) -> tuple[float, float, float]:
        """Instructions, products and products' instructions of so many blocks on an SM, in cycles of a scheduler."""
        sharing = max(1.0, many * warps / SCHEDULERS)
        products = RUNS * cut.token_tiles * max(_TILE_CYCLES * sharing, c.lone_tile_cycles)
        return sharing * slots, products, sharing * RUNS * _TILE_INSTRUCTIONS * cut.token_tiles

    def at_once_s(many: int) -> float:
        issue, products, _ = parts(1)
        stage = issue + products + feed
        if many > 1:
            issue, products, beside = parts(many)
            stage = rounded_maximum(stage, issue + beside, c.sharing_norm)
            stage = rounded_maximum(stage, products + many * feed, c.sharing_norm)
        return stages * stage / hz

    blocks = ceil_div(n, cut.row_warps * TILE_ROWS) * ceil_div(m, tokens)
    blocks_s = _blocks_s(blocks, resident_blocks(encoding, k, cut, gpu), gpu.multiprocessors, at_once_s)
    memory_s = weight_bytes / copy_bytes_per_s / gemv.read_over_copy
    each = ceil_div(blocks, gpu.multiprocessors) * stages / hz
    seconds = gemv.launch_s + rounded_maximum(blocks_s, memory_s, MAXIMUM_NORM) + alone_s(gpu)
    issue, products, _ = parts(1)
    return TileTime(seconds, gemv.launch_s, blocks_s, each * issue, each * products, each * feed, memory_s)


def _bank_cycles(encoding: GemvEncoding, cut: TileCut) -> int:
    """Cycles of shared memory for a run of a warp, in which lanes read codes from a bank that others read from.

    Codes of an odd number of bits are read word by word; rows of the ring begin at odd multiples of eight words
    (``row_pitch_words``), so that each word of a row meets that of four rows further.

    >>> from datatypes.catalog import FP16, INTS_SYMMETRIC
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.layer_config import ScaleConfig, TensorConfig
    >>> from hwmodel.gpu_gemv_encoding import encoding_of
    >>> [_bank_cycles(encoding_of(TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ScaleConfig(FP16))),
    ...               TileCut(8, 8, 1, 2)) for bits in (3, 4, 5)]  # three words of each of two rows; five
    [6, 0, 10]
    """
    return 2 * encoding.bits if encoding.bits % 2 and cut.ring is not Ring.BANKS else 0


@cache
def tile_constants(path: Path = CONSTANTS) -> TileConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    return read_constants(path, TileConstants, FITTED, "tile")
