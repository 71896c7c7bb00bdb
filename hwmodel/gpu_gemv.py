"""Time of a decode GEMV straight from packed codes (``kernels_gpu.gemv``): a law for each thing that it waits for.

The kernel's work is known: blocks of ``warps`` warps share tiles of 16 rows; a warp takes stages of ``runs`` times 128
inputs through a ring of ``depth`` stages and multiplies a run (16 rows x 128 inputs) on integer tensor cores. So

    launch      what programmatic overlap leaves of the start of a kernel; once more for tokens whose inputs do not fit
                into shared memory, which then reads the weight again
    inputs      every block turns all m x k inputs into digits before its first product
    memory      the weight's bytes at the measured copy rate
    chain       of an SM: a stage takes its instructions at the rate the SM issues them, and the latency of a run; or,
                where the ring is too short, the latency of memory over ``depth`` (Little's law); a tile ends with a
                barrier and a sum over warps; SMs take whole tiles, so the last round is partial
    seconds  =  launches x (launch + inputs + (memory**p + chain**p)**(1/p))

Instructions of a run come from the operation counts of ``kernels_gpu/gemv_decode.py`` and ``gemv.py`` (see
``instructions``), checked against the disassembly that NOTES.md states. Eleven constants are fitted
(``hwmodel.gpu_gemv_fit``). Weights are taken to be cold, as in decoding; small ones that stay in L2 are left out, and
so are encodings with no measured rows.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

from datatypes.format import IntFormat, LearnedFormat
from datatypes.layer_config import TensorConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_library import DATA
from hwmodel.units import BYTE_BITS, KIB, ceil_div

CONSTANTS = DATA / "gpu_gemv.csv"
TILE_ROWS, RUN, WARP = 16, 128, 32  # rows of mma.m16n8k32; four lanes of 32 inputs; lanes: kernels_gpu/gemv_plan.py
_LANE_WEIGHTS = TILE_ROWS * RUN // WARP  # of a run
_RESERVED_BYTES = KIB  # of shared memory for each block: CUDA C++ Programming Guide, compute capability 9.0
_THREAD_REGISTERS = 64  # 47 to 101 in the recorded rows at one token; their own counts, or 72, do not predict better
_SM_REGISTERS = 65536  # CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
_SCHEDULERS, _HALF_WIDE = 4, 2  # warp instructions an SM issues in a cycle; of them logical, shift, permute: the same
_LARGEST_BYTE = 126  # of a table of signed bytes: kernels_gpu/gemv_plan.py
_STAGE_NORM = 8.0  # a maximum with its corner rounded, so that the fit can follow it
# Logical, shift and permute instructions to decode a weight, by bits: kernels_gpu/gemv_decode.py, first lines
_TABLE_DECODE: Mapping[int, float] = {2: 11 / 16, 3: 17 / 16, 4: 7 / 8}
_SECOND_DIGIT: Mapping[int, float] = {
    2: 4 / 16,
    3: 4 / 16,
    4: 4 / 8,
}  # one more permute for each four weights and table
_NIBBLE_DECODE = 3 / 8  # the same: INT4


@dataclass(frozen=True)
class GemvEncoding:
    """What the kernel does for an encoding.

    Args:
        bits: of a code.
        decode: logical, shift and permute instructions for a weight.
        digits: signed bytes of a value; two where values are no small multiples of a step (NF4).
        tables: lookups behind a value: two for tables of sixteen entries, which take a difference of two.
        shared_table: the table of sixteen lies in shared memory, as it does where there is one and not several.
        group: inputs that share a scale; 0 for a row.
        zero_point, selector: whether groups have one.
    """

    bits: int
    decode: float
    digits: int
    tables: int
    shared_table: bool
    group: int
    zero_point: bool
    selector: bool

    @property
    def parts(self) -> int:
        """Parts of a run with sums of their own, so that groups of 64 and below have scales of their own."""
        return 1 if self.group % RUN == 0 else 2 if self.group % (RUN // 2) == 0 else 4

    @property
    def halves(self) -> int:
        """Sums of a block of 32 inputs."""
        return 2 if self.group == TILE_ROWS else 1

    def column_tiles(self, tokens: int) -> int:
        """Products of eight columns for a tile of weights."""
        return ceil_div(tokens, 4 // self.parts)


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


@dataclass(frozen=True)
class GemvConstants:
    """Fitted constants.

    Args:
        launch_s: of a kernel that may start before the one before it has ended.
        input_instructions: to turn eight inputs into digits.
        read_over_copy: rate of reading alone over that of a copy.
        issue_share: of an SM's issue slots that a kernel fills.
        run_cycles: of a run that nothing hides, whatever it decodes.
        product_cycles: of one tensor-core instruction in a run.
        tile_cycles: barrier and sum over warps at the end of a tile.
        shared_table_instructions: of a run that reads tables of sixteen entries from shared memory.
        memory_latency_s: of a stage's loads.
        partial_round: share of the last round of tiles that its idle SMs lose.
        overlap_norm: p above; large is perfect overlap.
    """

    launch_s: float
    input_instructions: float
    read_over_copy: float
    issue_share: float
    run_cycles: float
    product_cycles: float
    tile_cycles: float
    shared_table_instructions: float
    memory_latency_s: float
    partial_round: float
    overlap_norm: float


FITTED = tuple(f.name for f in fields(GemvConstants))


@dataclass(frozen=True)
class GemvTime:
    """Predicted time of one product, all launches together, and its parts; memory and chain overlap.

    ``bound`` names the largest part.
    """

    seconds: float
    launch_s: float
    inputs_s: float
    memory_s: float
    chain_s: float
    launches: int

    @property
    def bound(self) -> str:
        parts = {"launch": self.launch_s, "inputs": self.inputs_s, "memory": self.memory_s, "chain": self.chain_s}
        return max(parts, key=lambda name: parts[name])


def encoding_of(config: TensorConfig) -> GemvEncoding:
    """What the kernel does for a weight of ``config``.

    Raises:
        NotImplementedError: an encoding whose kernel was not measured: learned codebooks, 5 to 7 bits, 8-bit floats.
    """
    fmt, bits = config.formats[0], config.formats[0].bits
    group = config.granularity.tile((1 << 20, 1 << 20))[1]
    group = 0 if config.scale is None or group == 1 << 20 else group
    zero, selector = config.zero_point is not None, len(config.formats) > 1
    integer = isinstance(fmt, IntFormat)
    if isinstance(fmt, LearnedFormat) or bits not in (2, 3, 4, 8) or (bits == BYTE_BITS and not integer):
        raise NotImplementedError(
            f"the GEMV model must have measured rows of an encoding: 2 to 4 bits or 8-bit integers, not {fmt.name}"
        )
    if integer and bits in (4, 8):
        decode = _NIBBLE_DECODE if bits == 4 else 0.0
        return GemvEncoding(bits, decode, 1, 1, False, group, zero, selector)
    digits = 1 if all(_one_digit(np.asarray(f.code_values)) for f in config.formats) else 2
    decode = _TABLE_DECODE[bits] + (digits - 1) * _SECOND_DIGIT[bits]
    sixteen = bits == 4
    return GemvEncoding(bits, decode, digits, 2 if sixteen else 1, sixteen and not selector, group, zero, selector)


def _one_digit(values: np.ndarray) -> bool:
    """Whether all values are multiples, up to 126, of one power of two."""
    mantissas, exponents = np.frexp(np.abs(values[values != 0]))
    # a mantissa that is a fraction of 2**b becomes an integer after b doublings; those with more bits have no step
    places = [next((b for b in range(1, 12) if m * 2**b % 1 == 0), 99) for m in mantissas.tolist()]
    step = 2.0 ** int((exponents - places).min())
    return bool(np.abs(values).max() / step <= _LARGEST_BYTE)


@dataclass(frozen=True)
class RunWork:
    """Warp instructions of a run: all, those of the half-wide pipe among them, and tensor-core products."""

    instructions: float
    half_wide: float
    products: int


def instructions(encoding: GemvEncoding, tokens: int) -> RunWork:
    """Warp instructions of a run of 16 x 128 weights, counted in the kernel's text.

    For each lane two rows of 32 codes: decode; load codes, inputs and steps from shared memory; products; sums as two
    digits joined, converted, scaled; copies into the ring. Addresses are constants and cost nothing.
    """
    ends = encoding.column_tiles(tokens) * encoding.halves
    two_sided = encoding.tables > 1
    half = _LANE_WEIGHTS * encoding.decode
    half += 8 if encoding.selector else 0  # a special value permuted into the table, for two rows
    half += ends * encoding.digits * (4 + 4 * two_sided)  # digits joined and made floats; differences of tables
    # zero points taken out of shared memory, for two rows, multiplied and subtracted for each sum: 10 and 5 counted,
    # times 1.3, which fitted best when it was left free
    half += (13 * encoding.halves + 6.5 * ends) if encoding.zero_point else 0
    products = 4 * encoding.digits * encoding.tables * encoding.column_tiles(tokens)
    loads = 2 * (3 if encoding.bits == 3 else max(1, encoding.bits // 4))  # codes of two rows
    loads += 2 * encoding.column_tiles(tokens) + ends  # inputs; their scale
    loads += 1 if encoding.bits < 8 and encoding.decode > _NIBBLE_DECODE and not encoding.selector else 0  # a table
    scaling = 4 * encoding.halves if encoding.group else 2
    sums = ends * (4 + 2 * (encoding.digits - 1))  # steps multiplied, sums added
    copies = encoding.bits  # each with its place
    return RunWork(half + loads + products + scaling + sums + copies, half, products)


def shared_bytes(encoding: GemvEncoding, tokens: int, k: int, cut: GemvCut) -> int:
    """Shared memory of a block: digits of all inputs, the ring, sums of warps (kernels_gpu/gemv_spec.py, rounded)."""
    words = cut.runs * 4 * encoding.bits
    remainders = {2: (8, 24), 4: (16,)}.get(encoding.bits, (4, 12, 20, 28))  # rows apart in banks: gemv_spec.pitch
    pitch = next(p for p in range(words, words + 64, 4) if p % 32 in remainders)
    fields_of_row = 2  # words of scale, zero point and selector
    ring = cut.warps * cut.depth * TILE_ROWS * 4 * (pitch + fields_of_row)
    return ring + 2 * tokens * k + 2 * cut.warps * TILE_ROWS * 4 * tokens


def gemv_time(
    encoding: GemvEncoding,
    shape: tuple[int, int, int],
    cut: GemvCut,
    *,
    weight_bytes: float,
    gpu: Gpu,
    copy_bytes_per_s: float,
    constants: GemvConstants | None = None,
) -> GemvTime:
    """Predicted time of ``x[m, k] @ weight[n, k].T``.

    Args:
        encoding: of the weight.
        shape: m (1 to 16), n, k.
        cut: of the work.
        weight_bytes: codes, scales, zero points and selectors.
        gpu: data sheet: SMs, clock and shared memory are used.
        copy_bytes_per_s: measured, read plus written.
        constants: fitted; the recorded ones by default.

    Raises:
        ValueError: a size that is not above zero, or one token whose inputs do not fit into shared memory.
    """
    m, n, k = shape
    if min(m, n, k) < 1 or not weight_bytes > 0 or not copy_bytes_per_s > 0:
        raise ValueError(f"m, n, k, bytes and copy rate must be above 0, not {shape!r}, {weight_bytes!r}, "
                         f"{copy_bytes_per_s!r}")  # fmt: skip
    c = gemv_constants() if constants is None else constants
    most = gpu.shared_bytes - _RESERVED_BYTES
    launches = next((i for i in range(1, m + 1) if shared_bytes(encoding, ceil_div(m, i), k, cut) <= most), None)
    if launches is None:
        raise ValueError(f"k must be so small that one token's inputs fit into shared memory, not {k!r}")
    tokens = m / launches
    work = instructions(encoding, ceil_div(m, launches))
    tiles = ceil_div(n, TILE_ROWS)
    block_bytes = shared_bytes(encoding, ceil_div(m, launches), k, cut) + _RESERVED_BYTES
    blocks = min(gpu.shared_bytes // block_bytes, _SM_REGISTERS // (_THREAD_REGISTERS * WARP * cut.warps))
    blocks = max(1, min(blocks, ceil_div(tiles, gpu.multiprocessors), cut.blocks or blocks))
    inputs_s = blocks * tokens * k / 8 / WARP * c.input_instructions / _SCHEDULERS / gpu.frequency_hz
    issued = work.instructions + (c.shared_table_instructions if encoding.shared_table else 0.0)
    issue_cycles = max(issued / _SCHEDULERS, work.half_wide / _HALF_WIDE) / c.issue_share
    run_cycles = c.run_cycles + c.product_cycles * work.products + issue_cycles * cut.warps * blocks
    busy_s = cut.runs * run_cycles / gpu.frequency_hz
    stage_s = _norm(busy_s, (c.memory_latency_s + busy_s) / cut.depth, _STAGE_NORM)
    rounds = tiles / (gpu.multiprocessors * blocks)
    rounds += c.partial_round * (-(-rounds // 1) - rounds)
    slots = ceil_div(ceil_div(k, cut.runs * RUN), cut.warps)
    chain_s = rounds * (slots * stage_s + c.tile_cycles / gpu.frequency_hz / blocks)  # others go on at a block's end
    memory_s = weight_bytes / copy_bytes_per_s / c.read_over_copy
    seconds = c.launch_s + inputs_s + _norm(memory_s, chain_s, c.overlap_norm)
    return GemvTime(
        launches * seconds, launches * c.launch_s, launches * inputs_s, launches * memory_s, launches * chain_s,
        launches,
    )  # fmt: skip


def _norm(a: float, b: float, p: float) -> float:
    largest = max(a, b)
    return float(largest * ((a / largest) ** p + (b / largest) ** p) ** (1 / p))


@cache
def gemv_constants(path: Path = CONSTANTS) -> GemvConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    try:
        with path.open(newline="") as file:
            found = {row["constant"]: float(row["value"]) for row in csv.DictReader(file)}
        return GemvConstants(**{name: found[name] for name in FITTED})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"constants of the GEMV model must be a CSV table with {', '.join(FITTED)}, not {error!r}"
        ) from None
