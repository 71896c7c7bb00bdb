"""Time of a decode GEMV straight from packed codes (``kernels_gpu.gemv``): a law for each thing that it waits for.

The kernel's work is known: blocks of ``warps`` warps share tiles of 16 rows; a warp takes stages of ``runs`` times 128
inputs through a ring of ``depth`` stages and multiplies a run (16 rows x 128 inputs) on integer tensor cores. So

    launch      what programmatic overlap leaves of the start of a kernel, until its first inputs are there; once more
                for tokens whose inputs do not fit into shared memory, which then reads the weight again
    between     for which memory brings nothing to the place of a block that has ended, where it had its SM to itself:
                the copies of other blocks take that time otherwise
    inputs      every block turns all m x k inputs into digits before its first product; where rows of inputs are no
                whole 16 bytes (k is no multiple of 8) a thread's eights are fetched one after another (``gpu_turns``)
    memory      the weight's bytes at the measured copy rate; but no more than 16 bytes a cycle into an SM where rows
                of the ring begin at odd multiples of 16 bytes (rings up to version 4)
    chain       of an SM: a stage takes what its warps occupy the SM with, or, where that is longer, what one warp takes
                from its first code to its last sum, which waits for itself; and where the ring is too short, the
                latency of memory over ``depth`` (Little's law). A tile ends with a barrier and a sum over warps. One SM
                at least has as many tiles as all of them over all SMs, rounded up
    last stage  of one of an SM's blocks is computed when memory has nothing left to bring
    seconds  =  launches x ((between + memory + last stage)**p + (launch + inputs + chain)**p)**(1/p)

Where blocks of the next kernel fit on an SM beside this one's, their ring fills during launch and inputs: that much is
taken off the memory. So it is where kernels that leave the memory idle run just before, as in a decode step. Where
kernels do not overlap, each launch takes more (``gpu_launch``).

Instructions, products and sums of a run are counted (``hwmodel.gpu_gemv_encoding``). Twelve constants are fitted
(``hwmodel.gpu_gemv_fit``). Weights are taken to be cold, as in decoding; small ones that stay in L2 are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from hwmodel.gpu import Gpu
from hwmodel.gpu_constants import read_constants
from hwmodel.gpu_gemv_cut import RESERVED_BYTES, WORD_BYTES, GemvCut, row_pitch_words, shared_bytes
from hwmodel.gpu_gemv_encoding import RUN, TILE_ROWS, WARP, GemvEncoding, RunWork, instructions, registers
from hwmodel.gpu_launch import alone_s
from hwmodel.gpu_library import DATA
from hwmodel.gpu_turns import turn_constants
from hwmodel.units import BYTE_BITS, ceil_div

CONSTANTS = DATA / "gpu_gemv.csv"
_SM_REGISTERS = 65536  # CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
_SCHEDULERS, _HALF_WIDE = 4, 2  # warp instructions an SM issues in a cycle; of them logical, shift, permute: the same
# L2 delivers 32 bytes at once: CUDA C++ Programming Guide, Device Memory Accesses, 32-byte transactions. One that does
# not fit into 32 aligned bytes of shared memory takes two cycles of an SM: found in the H200's rows of 8 bits, and
# measured since: the tile kernel is fed 16.5 bytes a cycle across sectors and 32.8 at whole ones (docs/gpu_kernels.md)
_SECTOR_BYTES, _UNALIGNED_BYTES_PER_CYCLE = 32, 16
# Instructions that the SM issues for each counted one, addresses and moves among them: 1.4 to 2.1 in the disassembly
# (kernels_gpu/NOTES.md) for kernels of many sums, whose warps fill its slots; a warp alone waits for what is counted
_EXECUTED = 1.8
# Of a run's sums a warp waits for four, and for half of those beyond, which overlap. ASSUMPTION: the form was chosen
# with MXFP4's rows of 8 and 16 tokens in view, which no fit has seen (docs/gpu_kernels.md)
_SUMS_IN_A_ROW, _SUMS_HIDDEN = 4, 0.5
_UNIT, _BATCHES = 8, (4, 3, 2, 1)  # inputs that a thread fetches at once, and how often: kernels_gpu/gemv_inputs.py
_ROUND_NORM = 8.0  # a maximum with its corner rounded, so that the fit can follow it


@dataclass(frozen=True)
class GemvConstants:
    """Fitted constants.

    Args:
        launch_s: from the end of a kernel until the next one, which may have started before, has its first inputs.
        input_instructions: to turn eight inputs into digits.
        read_over_copy: rate of reading alone over that of a copy.
        stage_cycles: of a warp's stage, whatever it decodes: waiting, places of scales, the first code.
        product_cycles: of a warp for one tensor-core instruction.
        sum_cycles: of a warp from the last product of a sum until it is added.
        tensor_cycles: of an SM's tensor cores for one such instruction.
        between_s: for which memory brings nothing to the place of a block that has ended, if it was alone on its SM.
        tile_cycles: barrier and sum over warps at the end of a tile.
        memory_latency_s: of a stage's loads.
        overlap_norm: p above; large is perfect overlap.
        float_instructions: of a weight that becomes a half-precision number, beyond those counted.
    """

    launch_s: float
    input_instructions: float
    read_over_copy: float
    stage_cycles: float
    product_cycles: float
    sum_cycles: float
    tensor_cycles: float
    between_s: float
    tile_cycles: float
    memory_latency_s: float
    overlap_norm: float
    float_instructions: float = 0.0


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


def gemv_time(
    encoding: GemvEncoding,
    shape: tuple[int, int, int],
    cut: GemvCut,
    *,
    weight_bytes: float,
    gpu: Gpu,
    copy_bytes_per_s: float,
    constants: GemvConstants | None = None,
    ahead_s: float = 0.0,
    turn_s: float | None = None,
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
        ahead_s: for which the weight may be read before the inputs are there, and nothing else is; none where kernels
            do not overlap.
        turn_s: of a load that waits for the one before it (``gpu_turns``); the recorded one by default.

    Raises:
        ValueError: a size that is not above zero, or one token whose inputs do not fit into shared memory.
    """
    m, n, k = shape
    if min(m, n, k) < 1 or not weight_bytes > 0 or not copy_bytes_per_s > 0:
        raise ValueError(f"m, n, k, bytes and copy rate must be above 0, not {shape!r}, {weight_bytes!r}, "
                         f"{copy_bytes_per_s!r}")  # fmt: skip
    c = gemv_constants() if constants is None else constants
    most = gpu.shared_bytes - RESERVED_BYTES
    launches = next((i for i in range(1, m + 1) if shared_bytes(encoding, ceil_div(m, i), k, cut) <= most), None)
    if launches is None:
        raise ValueError(f"k must be so small that one token's inputs fit into shared memory, not {k!r}")
    tokens = m / launches
    gathered = cut.gathers(encoding, ceil_div(m, launches))
    work = instructions(encoding, ceil_div(m, launches), gathered=gathered)
    tiles = ceil_div(n, TILE_ROWS)
    block_bytes = shared_bytes(encoding, ceil_div(m, launches), k, cut) + RESERVED_BYTES
    of_thread = registers(
        encoding, ceil_div(m, launches), most=cut.registers, gathered=gathered, ahead=cut.ahead
    )  # fmt: skip
    blocks = min(gpu.shared_bytes // block_bytes, _SM_REGISTERS // (of_thread * WARP * cut.warps))
    room = blocks
    blocks = max(1, min(blocks, ceil_div(tiles, gpu.multiprocessors), cut.blocks or blocks))
    inputs_s = blocks * tokens * k / _UNIT / WARP * c.input_instructions / _SCHEDULERS / gpu.frequency_hz
    if k % _UNIT:
        inputs_s += _waits(ceil_div(m, launches), k, cut) * (turn_constants().turn_s if turn_s is None else turn_s)
    stage_s = _stage_s(work, encoding, cut, blocks=blocks, c=c, frequency_hz=gpu.frequency_hz)
    at_once = blocks * cut.teams  # tiles of an SM
    rounds = max(ceil_div(tiles, gpu.multiprocessors) / at_once, 1.0)
    slots = ceil_div(ceil_div(k, cut.runs * RUN), cut.team_warps)
    chain_s = rounds * (slots * stage_s + c.tile_cycles / gpu.frequency_hz / blocks)  # others go on at a block's end
    read_s_per_byte = 1 / copy_bytes_per_s / c.read_over_copy
    if row_pitch_words(encoding.bits, cut.runs, ring=cut.ring, gathered=gathered) * WORD_BYTES % _SECTOR_BYTES:
        filled_bytes_per_s = _UNALIGNED_BYTES_PER_CYCLE * gpu.multiprocessors * gpu.frequency_hz
        read_s_per_byte = rounded_maximum(read_s_per_byte, 1 / filled_bytes_per_s, _ROUND_NORM)
    memory_s = weight_bytes * read_s_per_byte
    ring_bytes = (
        min(tiles, at_once * gpu.multiprocessors) * min(cut.depth, slots) * stage_bytes(encoding, cut) / cut.teams
    )
    ring_s = ring_bytes * read_s_per_byte
    more_s = alone_s(gpu)
    if more_s:
        ahead_s = 0.0
    if room >= 2 * blocks:
        ahead_s += c.launch_s + inputs_s
    memory_s -= max(0.0, min(ahead_s, ring_s, memory_s))
    between_s = c.between_s if blocks == 1 else 0.0
    last_s = stage_s / (at_once if rounds > 1 else blocks)  # teams begin in step
    seconds = rounded_maximum(between_s + memory_s + last_s, c.launch_s + inputs_s + chain_s, c.overlap_norm)
    return GemvTime(
        launches * seconds + launches * more_s, launches * c.launch_s, launches * inputs_s, launches * memory_s,
        launches * chain_s, launches,
    )  # fmt: skip


def _waits(tokens: int, k: int, cut: GemvCut) -> int:
    """Eights of inputs that a thread fetches one after another, beyond one for each of its batches.

    >>> _waits(4, 4055, GemvCut(16, 2, 2)), _waits(1, 4055, GemvCut(16, 2, 2))  # four of a batch; one
    (3, 0)
    """
    eights = max(1, tokens * cut.runs_of_inputs(k) * RUN // _UNIT // (cut.warps * WARP))
    return eights - eights // next(size for size in _BATCHES if eights % size == 0)


def stage_bytes(encoding: GemvEncoding, cut: GemvCut) -> float:
    """Codes of a stage of all warps of a block."""
    return cut.warps * cut.runs * RUN * TILE_ROWS * encoding.bits / BYTE_BITS


def _stage_s(
    work: RunWork, encoding: GemvEncoding, cut: GemvCut, *, blocks: int, c: GemvConstants, frequency_hz: float
) -> float:
    """Seconds in which each warp of an SM's blocks computes a stage."""
    more = RUN * TILE_ROWS / WARP * c.float_instructions if encoding.floats else 0.0
    issued = work.instructions + more
    issue = max(_EXECUTED * issued / _SCHEDULERS, (work.half_wide + more) / _HALF_WIDE)
    sm_cycles = rounded_maximum(issue, c.tensor_cycles * work.products, _ROUND_NORM)
    waits = work.sums - _SUMS_HIDDEN * max(0.0, work.sums - _SUMS_IN_A_ROW)
    warp_cycles = issued + c.product_cycles * work.products + c.sum_cycles * waits
    warp_s = (cut.runs * warp_cycles + c.stage_cycles) / frequency_hz
    one_s = rounded_maximum(warp_s, (c.memory_latency_s + warp_s) / cut.depth, _ROUND_NORM)
    return rounded_maximum(cut.runs * sm_cycles * cut.warps * blocks / frequency_hz, one_s, _ROUND_NORM)


def rounded_maximum(a: float, b: float, p: float) -> float:
    """The larger of two times above zero, with its corner rounded: ``(a**p + b**p)**(1/p)``."""
    largest = max(a, b)
    return float(largest * ((a / largest) ** p + (b / largest) ** p) ** (1 / p))


@cache
def gemv_constants(path: Path = CONSTANTS) -> GemvConstants:
    """The recorded constants.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    return read_constants(path, GemvConstants, FITTED, "GEMV")
