"""The gate of a Llama feed-forward layer: ``silu(gate) * up``, from one product that holds both.

Versions
    one_chunk_a_thread   this file: eight results of each thread

``silu(x) = x / (1 + exp(-x))``. Source: Shazeer, GLU variants improve transformer, arXiv 2002.05202, eq. (6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numba import cuda, float32, uint32
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.attention_reference import EXP2_STEP
from kernels_gpu.gemv_reference import FLOAT_STEP, HALF_STEP, SMALLEST
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.pairs import CHUNK, check_types, chunk_functions, pair_functions, whole_chunks
from kernels_gpu.ptx import SIMULATED

ARGUMENTS = "ppi"
THREADS = 32 if SIMULATED else 128
LOG2_E = math.log2(math.e)
RECIPROCAL_STEP = 2.0**-23  # rcp.approx.f32, relative: PTX ISA 8.0, section 9.7.3.13
SMALLEST_FACTOR = 2.0**-126  # below it 1 / (1 + exp(-x)) is subnormal, or its denominator infinite


@dataclass(frozen=True)
class GateSpec:
    """One compiled kernel: ``width`` results of a row, in whole chunks of 16 bytes or not, float16 or bfloat16."""

    width: int
    vector: bool
    bfloat: bool = False

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return ceil_div(self.width, CHUNK)


def gated(both: np.ndarray) -> np.ndarray:
    """Reference, float64 ``[m, n]``, of gate and up side by side ``[m, 2 n]``.

    >>> gated(np.array([[0.0, 1.0, 5.0, 2.0]])).round(4)
    array([[0.    , 1.4621]])
    """
    gate, up = np.split(both.astype(np.float64), 2, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        return gate / (1 + np.exp(-gate)) * up


def tolerance(both: np.ndarray, expected: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Largest allowed distance from the reference.

    The exponent is off by two roundings of x log2 e (by 1 at most: nothing is left of a result so far below zero), the
    power of two and the reciprocal by their steps; the power counts for its share of the denominator.
    """
    gate, up = np.split(both.astype(np.float64), 2, axis=1)
    size = np.abs(gate)
    of_power = np.expm1(np.minimum(size * 3 * FLOAT_STEP, 1)) + EXP2_STEP
    with np.errstate(over="ignore"):
        share = 1 / (1 + np.exp(gate))
    relative = of_power * share + RECIPROCAL_STEP + 5 * FLOAT_STEP
    lost = np.minimum(size, 128) * np.abs(up) * SMALLEST_FACTOR  # beyond 128 it is zero, and so is the reference
    return np.abs(expected) * (relative + HALF_STEP[dtype] * (1 + relative)) + lost + SMALLEST[dtype]


def make_body(spec: GateSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: a thread for each chunk of all rows."""
    chunks = spec.chunks
    pairs = pair_functions(spec.bfloat)
    low, high, pair = pairs.low, pairs.high, pairs.pair
    rows_of_chunks = chunk_functions(spec.width, spec.vector)
    load_chunk, store_chunk = rows_of_chunks.load, rows_of_chunks.store

    @cuda.jit(device=True)
    def one(gate, up):
        power = ptx.exp2(ptx.mul(gate, float32(-LOG2_E)))
        return ptx.mul(ptx.mul(gate, ptx.reciprocal(ptx.add(float32(1), power))), up)

    @cuda.jit(device=True)
    def two(gates, up):
        return pair(one(low(gates), low(up)), one(high(gates), high(up)))

    def kernel(both, out, rows):
        ptx_tile.start()
        item = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        row = uint32(item // uint32(chunks))
        chunk = uint32(item - row * uint32(chunks))
        ptx_tile.wait_for_previous()
        if row < uint32(rows):
            a, b, c, d = load_chunk(both, uint32(row * uint32(2)), chunk)
            e, f, g, h = load_chunk(both, uint32(row * uint32(2) + uint32(1)), chunk)
            store_chunk(out, row, chunk, two(a, e), two(b, f), two(c, g), two(d, h))

    return kernel


@lru_cache(maxsize=64)
def _kernel(spec: GateSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def prepare(both: Tensor, out: Tensor, *, overlapped: bool = True) -> BoundLaunch:
    """Bind a launch.

    Args:
        both: ``[m, 2 n]`` float16 or bfloat16: gate, then up.
        out: ``[m, n]``.
        overlapped: may start while the kernel before it in the stream still runs; it then waits before it reads.

    Raises:
        TypeError: types that differ.
        ValueError: shapes that do not belong together.
    """
    bfloat = check_types(both, out, what="gate with up and out")
    m, width = out.shape
    if both.shape != (m, 2 * width):
        raise ValueError(
            f"gate with up must be [{m}, {2 * width}] for a result [{m}, {width}], not {list(both.shape)!r}"
        )
    spec = GateSpec(width, whole_chunks(both, out, numbers=width), bfloat)
    grid = ceil_div(m * spec.chunks, THREADS)
    return BoundLaunch(_kernel(spec, out.device), grid, THREADS, (both, out, m), shared_bytes=0, overlapped=overlapped)
