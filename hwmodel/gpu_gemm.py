"""Closed form of a matrix product on a GPU: tiles, waves of thread blocks, DRAM, clocks, and the library's choice.

A product ``y[m, n] = x[m, k] @ w[n, k].T`` is cut into tiles, one thread block each. It takes as long as its busiest SM
computes (tensor cores, or their feed from L2), or as its bytes take from DRAM, which needs enough loads under way
(Little's law); the two overlap imperfectly. A partial last round of thread blocks costs a whole one, less what is
hidden because thread blocks drift apart. Every round fills the pipeline anew, and every tile is written. Splitting k
gives more thread blocks and an extra kernel that adds up. Work slows the clock once the power limit is reached. The
library picks tile and split by heuristics that miss the best: the answer is a soft minimum over the candidates.

Every candidate, and so the soft minimum, grows with m, n, the bits of an operand and the instructions to decode it, and
falls with SMs of a given rate: the laws of the cost model hold by construction. At k of 512 and of 1024 a further split
comes into reach, which may take a little time off.

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
_UNBIASED_OUTPUTS = 128 * 128  # the size of tile from which ``large_tile_bias`` counts
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
        weight_bytes, input_bytes: of one stored weight and input, on their way to the SM.
        decode_operations: thread instructions to decode one copy's weights, once.
        scale_operations: thread instructions to scale the partial sums of one copy.
    """

    m: Floats
    n: Floats
    k: Floats
    copies: Floats
    traffic_bytes: Floats
    rate: Floats
    weight_bytes: Floats
    input_bytes: Floats
    decode_operations: Floats
    scale_operations: Floats


def wide_work(m: npt.ArrayLike, n: npt.ArrayLike, k: npt.ArrayLike, copies: npt.ArrayLike = 1) -> GemmWork:
    """16-bit products of these shapes."""
    m, n, k, copies = (
        np.asarray(value, dtype=np.float64).reshape(-1, 1) for value in np.broadcast_arrays(m, n, k, copies)
    )
    traffic = copies * _WIDE_BYTES * (n * k + m * k + m * n)
    one, none, wide = np.ones_like(m), np.zeros_like(m), np.full_like(m, _WIDE_BYTES)
    return GemmWork(m, n, k, copies, traffic, one, wide, wide, none, none)


@cache
def _candidates(tiles: Tiles) -> tuple[Floats, Floats, Floats]:
    """Outputs, tokens and split of every candidate."""
    rows = np.array([(n, m, split) for n, m in tiles for split in SPLITS], dtype=np.float64)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def candidate_seconds(work: GemmWork, gpu: Gpu, library: GpuLibrary) -> Floats:
    """Seconds of every product with every candidate tile and split [rows, candidates]."""
    tile_n, tile_m, split = _candidates(library.tiles)
    sms, clock_hz = gpu.multiprocessors, gpu.frequency_hz
    macs_per_cycle = gpu.macs_per_cycle() / sms
    blocks = np.ceil(work.n / tile_n) * np.ceil(work.m / tile_m) * split * work.copies
    resident = np.clip(np.floor(_OUTPUTS_PER_SM / (tile_n * tile_m)), 1, _MOST_BLOCKS)
    tensor = tile_n * tile_m / (macs_per_cycle * work.rate)
    feed = (tile_n * work.weight_bytes + tile_m * work.input_bytes) / (library.feed_bytes_per_mac * macs_per_cycle)
    depth = np.ceil(work.k / split / _STEP_K) * _STEP_K
    block_s = np.maximum(tensor, feed) / library.tensor_share * depth / clock_hz
    # every row of tiles along the tokens decodes the weights anew
    operations = work.decode_operations * np.ceil(work.m / tile_m) + work.scale_operations
    decode_s = operations * work.copies / gpu.lane_operations_per_s
    busy_s = _rounds(blocks / sms, library.drift) * block_s + decode_s
    bytes_per_s = gpu.dram.bytes_per_s * library.dram_share
    ahead = gpu.shared_bytes / resident / (_WIDE_BYTES * (tile_n + tile_m))  # steps of k that fit into shared memory
    # Little's law: every ``ahead`` steps wait for one load of weights; further tiles along the tokens find them in L2
    loading = np.ceil(work.n / tile_n) * split * work.copies / (sms * resident)
    waiting_s = depth / ahead * np.maximum(loading, 1.0) * library.dram_latency_s
    memory_s = np.hypot(work.traffic_bytes / bytes_per_s, waiting_s)
    written = blocks / split * tile_n * tile_m * _WIDE_BYTES
    written_s = written / (gpu.dram.bytes_per_s * library.store_over_dram)
    filling_s = _rounds(blocks / sms / resident, library.drift) * library.wave_s
    parts_bytes = (split * _SUM_BYTES + _WIDE_BYTES) * work.m * work.n * work.copies
    added_s = np.where(split > 1, library.split_s + parts_bytes / (gpu.dram.bytes_per_s * _L2_OVER_DRAM), 0.0)
    seconds = _norm(busy_s, memory_s, library.overlap_norm) + written_s + filling_s + added_s + library.launch_s
    # slow-down in proportion to the share of the time that the tensor cores are busy
    peak_s = work.copies * work.m * work.n * work.k / (gpu.macs_per_cycle() * work.rate) / clock_hz
    throttled: Floats = seconds + library.throttle * peak_s * peak_s / (peak_s + library.throttle_s)
    return throttled


def _rounds(blocks: Floats, drift: float) -> Floats:
    """Rounds that ``blocks`` for each slot take: whole ones, and by ``drift`` only what is left of the last."""
    return (1 - drift) * np.ceil(blocks) + drift * np.maximum(blocks, 1.0)


def _norm(a: Floats, b: Floats, p: float) -> Floats:
    """(a**p + b**p)**(1/p), scaled against overflow."""
    most = np.maximum(a, b)
    most = np.where(most > 0, most, 1.0)
    return most * ((a / most) ** p + (b / most) ** p) ** (1 / p)


def gemm_seconds(work: GemmWork, gpu: Gpu, library: GpuLibrary | None = None) -> Floats:
    """Seconds of each product [rows], kernel launch included, host left out.

    The soft minimum is the log-sum-exp of the candidates' log-times, each with the library's bias, at the temperature
    ``choice_temperature``; never under the fastest candidate.
    """
    library = gpu.library if library is None else library
    tile_n, tile_m, split = _candidates(library.tiles)
    seconds = candidate_seconds(work, gpu, library)
    possible = (split == 1) | (work.k / split >= _LEAST_SPLIT_K)
    bias = library.split_bias * (split > 1) - library.large_tile_bias * np.log(tile_n * tile_m / _UNBIASED_OUTPUTS)
    score = np.where(possible, np.log(seconds) + bias, np.inf)
    least = score.min(axis=1)
    near = np.exp(-(score - least[:, None]) / library.choice_temperature).sum(axis=1)
    chosen = np.exp(least + library.choice_loss) * near**-library.choice_temperature
    answer: Floats = np.maximum(chosen, np.where(possible, seconds, np.inf).min(axis=1))
    return answer
