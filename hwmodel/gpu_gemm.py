"""Closed form of a matrix product on a GPU: tiles, waves of thread blocks, DRAM, clocks, and the library's choice.

A product ``y[m, n] = x[m, k] @ w[n, k].T`` is cut into tiles, one thread block each. Thread blocks run in waves: as
many at once as the SMs hold. A wave takes as long as its busiest SM computes (tensor cores, or their feed from L2), or
as its bytes take from DRAM, which needs enough loads under way (Little's law); the two overlap imperfectly. The last
wave is partial. Long products are slowed by the power limit. Splitting k gives more thread blocks and an extra kernel
that adds up. The library picks tile and split by heuristics that miss the best: the answer is the geometric mean over
the candidates, weighted by how near they come to the best for 16-bit operands.

All functions take and return arrays: rows are products, columns candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from hwmodel.gpu import Gpu
from hwmodel.gpu_library import SPLITS, GpuLibrary, Tiles

Floats = npt.NDArray[np.float64]
_WIDE_BYTES = 2  # FP16
# An SM has 65,536 registers of 32 bits (CUDA C++ Programming Guide, table of compute capabilities); half of them for
# accumulators of 32 bits: 128 x 256 outputs fill it.
_OUTPUTS_PER_SM = 32768
_MOST_BLOCKS = 4  # ASSUMPTION: kernels of small tiles are built for at most four thread blocks on an SM
_STEP_K = 32  # k is padded to the depth of two tensor-core steps of 16
_LEAST_SPLIT_K = 256  # ASSUMPTION: libraries do not split k into shorter parts
_SUM_BYTES = 4  # parts of a split k are added in FP32
_L2_OVER_DRAM = 2.0  # ASSUMPTION: parts of a split k move through L2 at twice the DRAM's rate


@dataclass(frozen=True)
class GemmWork:
    """Matrix products of any formats, one for each row.

    Args:
        m, n, k: shape of one copy [rows, 1].
        copies: independent products in one launch.
        traffic_bytes: of all copies, each operand once.
        rate: tensor-core peak over that of FP16.
        weight_bytes: of one stored weight, on its way to the SM.
        decode_operations: thread instructions to decode one copy's weights, once.
    """

    m: Floats
    n: Floats
    k: Floats
    copies: Floats
    traffic_bytes: Floats
    rate: Floats
    weight_bytes: Floats
    decode_operations: Floats


def wide_work(m: npt.ArrayLike, n: npt.ArrayLike, k: npt.ArrayLike, copies: npt.ArrayLike = 1) -> GemmWork:
    """16-bit products of these shapes."""
    m, n, k, copies = (
        np.asarray(value, dtype=np.float64).reshape(-1, 1) for value in np.broadcast_arrays(m, n, k, copies)
    )
    traffic = copies * _WIDE_BYTES * (n * k + m * k + m * n)
    return GemmWork(m, n, k, copies, traffic, np.ones_like(m), np.full_like(m, _WIDE_BYTES), np.zeros_like(m))


@cache
def _candidates(tiles: Tiles) -> tuple[Floats, Floats, Floats]:
    """Outputs, tokens and split of every candidate."""
    rows = np.array([(n, m, split) for n, m in tiles for split in SPLITS], dtype=np.float64)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def candidate_seconds(work: GemmWork, gpu: Gpu, library: GpuLibrary) -> Floats:
    """Seconds of every product with every candidate tile and split [rows, candidates]."""
    tile_n, tile_m, split = _candidates(library.tiles)
    sms, clock_hz = gpu.multiprocessors, gpu.frequency_hz
    blocks = np.ceil(work.n / tile_n) * np.ceil(work.m / tile_m) * split * work.copies
    depth = np.ceil(work.k / split / _STEP_K) * _STEP_K
    resident = np.clip(np.floor(_OUTPUTS_PER_SM / (tile_n * tile_m)), 1, _MOST_BLOCKS)
    macs_per_cycle = gpu.macs_per_cycle() / sms
    tensor = tile_n * tile_m / (macs_per_cycle * work.rate)
    feed = (tile_n * work.weight_bytes + tile_m * _WIDE_BYTES) / (library.feed_bytes_per_mac * macs_per_cycle)
    block_s = _norm(tensor, feed, library.feed_norm) / library.tensor_share * depth / clock_hz
    at_peak_s = work.copies * work.m * work.n * work.k / gpu.macs_per_cycle() / clock_hz
    block_s = block_s * (1 + library.throttle * at_peak_s / (at_peak_s + library.throttle_s))
    # every row of tiles along the tokens decodes the weights anew
    decode_s = work.decode_operations * np.ceil(work.m / tile_m) * work.copies / gpu.lane_operations_per_s
    bytes_per_s = gpu.dram.bytes_per_s * library.dram_share
    ahead = np.minimum(library.prefetch_depth, gpu.shared_bytes / resident / (_WIDE_BYTES * (tile_n + tile_m)))
    block_bytes = ahead * _WIDE_BYTES * tile_n  # loads of weights that one thread block has under way
    needed_bytes = bytes_per_s * library.dram_latency_s

    def wave_s(count: Floats) -> Floats:
        per_sm = np.ceil(count / sms)
        compute = per_sm * block_s / np.where(per_sm < 2, library.lone_share, 1.0)
        under_way = np.maximum(count, 1.0) * block_bytes
        share = count / blocks
        memory = work.traffic_bytes * share / bytes_per_s * np.hypot(1.0, needed_bytes / under_way)
        busy = _norm(compute + decode_s * share, memory, library.overlap_norm)
        return np.where(count > 0, busy + library.wave_s, 0.0)

    slots = sms * resident
    full = np.floor(blocks / slots)
    seconds = np.where(full > 0, full * wave_s(np.minimum(slots, blocks)), 0.0) + wave_s(blocks - full * slots)
    parts_bytes = (split * _SUM_BYTES + _WIDE_BYTES) * work.m * work.n * work.copies
    added = library.split_s + parts_bytes / (gpu.dram.bytes_per_s * _L2_OVER_DRAM)
    return seconds + library.launch_s + np.where(split > 1, added, 0.0)


def _norm(a: Floats, b: Floats, p: float) -> Floats:
    """(a**p + b**p)**(1/p), scaled against overflow."""
    most = np.maximum(a, b)
    most = np.where(most > 0, most, 1.0)
    return most * ((a / most) ** p + (b / most) ** p) ** (1 / p)


def choice_weights(seconds: Floats, work: GemmWork, library: GpuLibrary) -> Floats:
    """How likely the library takes each candidate, from its 16-bit times [rows, candidates]."""
    tile_n, tile_m, split = _candidates(library.tiles)
    score = np.log(seconds) - library.large_tile_bias * np.log(tile_n * tile_m) + library.split_bias * (split > 1)
    score = np.where((split > 1) & (work.k / split < _LEAST_SPLIT_K), np.inf, score)
    weights: Floats = np.exp(-(score - score.min(axis=1, keepdims=True)) / library.choice_temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def gemm_seconds(work: GemmWork, gpu: Gpu, library: GpuLibrary | None = None) -> Floats:
    """Seconds of each product [rows], kernel launch included, host left out.

    Tile and split are those for 16-bit operands of the same shape, so that fewer bits never take longer.
    """
    library = gpu.library if library is None else library
    wide = wide_work(work.m[:, 0], work.n[:, 0], work.k[:, 0], work.copies[:, 0])
    wide_s = candidate_seconds(wide, gpu, library)
    weights = choice_weights(wide_s, wide, library)
    narrow = not (
        np.array_equal(work.traffic_bytes, wide.traffic_bytes)
        and np.all(work.rate == 1)
        and np.all(work.weight_bytes == _WIDE_BYTES)
        and np.all(work.decode_operations == 0)
    )
    seconds = candidate_seconds(work, gpu, library) if narrow else wide_s
    answer: Floats = np.exp((weights * np.log(seconds)).sum(axis=1))
    return answer
