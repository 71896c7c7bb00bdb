"""RMSNorm of each token, the addition of a layer's result to the residual stream fused into it.

Versions
    one_block_a_token   this file: a row in registers, read once; gains are fetched before the kernel waits

    sum = residual + delta                    rounded to the type, and stored: the residual stream
    out = gain * sum / sqrt(mean(sum**2) + epsilon)

Source: Zhang and Sennrich, Root mean square layer normalization, arXiv 1910.07467, eq. (4). The mean is taken of the
rounded sums, as in Llama (Touvron et al., arXiv 2302.13971, section 2.2); the product is rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numba import cuda, float32, uint32
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_reference import FLOAT_STEP, HALF_STEP, SMALLEST
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.pairs import CHUNK, WARP, check_types, chunk_functions, pair_functions, whole_chunks
from kernels_gpu.ptx import SIMULATED

ARGUMENTS = "ppppp"
MAX_THREADS = 64 if SIMULATED else 1024  # the simulator starts a Python thread for each
MAX_ROUNDS = 8  # chunks of a thread, kept in registers
ROOT_STEP = 2.0**-22  # rsqrt.approx.f32, relative: 2**-22.9 in PTX ISA 8.0, section 9.7.3.17


@dataclass(frozen=True)
class NormSpec:
    """One compiled kernel.

    Args:
        width: numbers of a row.
        threads: of a block, a multiple of 32.
        epsilon: added to the mean square.
        adds: whether there is a delta.
        vector: rows are whole chunks of 16 bytes.
        bfloat: numbers are bfloat16 rather than float16.
    """

    width: int
    threads: int
    epsilon: float
    adds: bool
    vector: bool
    bfloat: bool = False

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return ceil_div(self.width, CHUNK)

    @property
    def rounds(self) -> int:
        """Chunks of a thread."""
        return ceil_div(self.chunks, self.threads)

    @property
    def depth(self) -> int:
        """Most additions that a square goes through: in its thread, its warp, its block."""
        return self.rounds * CHUNK + 5 + self.threads // WARP


def add_and_normalise(
    residual: Tensor, delta: Tensor | None, gain: Tensor, epsilon: float
) -> tuple[Tensor, np.ndarray]:
    """Reference: the sum as stored ``[m, n]``, and the float64 result before its rounding ``[m, n]``.

    >>> add_and_normalise(torch.tensor([[3.0, 4.0]]).half(), None, torch.tensor([1.0, 2.0]).half(), 0.0)[1].round(4)
    array([[0.8485, 2.2627]])
    """
    total = residual if delta is None else (residual.float() + delta.float()).to(residual.dtype)
    wide = total.double().numpy(force=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = 1 / np.sqrt((wide**2).mean(1, keepdims=True) + epsilon)
        return total, wide * root * gain.double().numpy(force=True)


def tolerance(expected: np.ndarray, spec: NormSpec) -> np.ndarray:
    """Largest allowed distance from the reference: half of what sums of squares lose, root, products, rounding."""
    relative = spec.depth * FLOAT_STEP / 2 + ROOT_STEP + 6 * FLOAT_STEP
    dtype = torch.bfloat16 if spec.bfloat else torch.float16
    return np.abs(expected) * (relative + HALF_STEP[dtype] * (1 + relative)) + SMALLEST[dtype]


def make_body(spec: NormSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: a block for each row."""
    chunks, rounds, threads, adds = spec.chunks, spec.rounds, spec.threads, spec.adds
    one_each = chunks == rounds * threads
    pairs = pair_functions(spec.bfloat)
    low, high, pair = pairs.low, pairs.high, pairs.pair
    rows = chunk_functions(spec.width, spec.vector)
    load_chunk, store_chunk = rows.load, rows.store
    warps, held_words = threads // WARP, 4 * rounds
    mean_of, epsilon = 1.0 / spec.width, spec.epsilon

    @cuda.jit(device=True)
    def added(word, delta):
        return pair(ptx.add(low(word), low(delta)), ptx.add(high(word), high(delta)))

    @cuda.jit(device=True)
    def squares(word, total):
        total = ptx.fma(low(word), low(word), total)
        return ptx.fma(high(word), high(word), total)

    @cuda.jit(device=True)
    def scaled(word, gain, root):
        first = ptx.mul(ptx.mul(low(word), root), low(gain))
        return pair(first, ptx.mul(ptx.mul(high(word), root), high(gain)))

    def kernel(residual, delta, gain, total, out):
        shared = ptx_tile.shared_words()
        thread, row = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        ptx_tile.start()
        gains = cuda.local.array(held_words, uint32)
        held = cuda.local.array(held_words, uint32)
        for i in range(rounds):
            chunk = uint32(thread + uint32(i * threads))
            if one_each or chunk < uint32(chunks):
                found = load_chunk(gain, uint32(0), chunk)
                gains[4 * i], gains[4 * i + 1], gains[4 * i + 2], gains[4 * i + 3] = found
        ptx_tile.wait_for_previous()
        square = float32(0)
        for i in range(rounds):
            chunk = uint32(thread + uint32(i * threads))
            if one_each or chunk < uint32(chunks):
                a, b, c, d = load_chunk(residual, row, chunk)
                if adds:
                    e, f, g, h = load_chunk(delta, row, chunk)
                    a, b, c, d = added(a, e), added(b, f), added(c, g), added(d, h)
                    store_chunk(total, row, chunk, a, b, c, d)
                square = squares(d, squares(c, squares(b, squares(a, square))))
                held[4 * i], held[4 * i + 1], held[4 * i + 2], held[4 * i + 3] = a, b, c, d
        square = ptx.add(square, ptx.shuffle_xor(square, 16))
        square = ptx.add(square, ptx.shuffle_xor(square, 8))
        square = ptx.add(square, ptx.shuffle_xor(square, 4))
        square = ptx.add(square, ptx.shuffle_xor(square, 2))
        square = ptx.add(square, ptx.shuffle_xor(square, 1))
        if (thread & uint32(31)) == uint32(0):
            ptx_tile.put_1(shared, uint32(thread >> uint32(5)), ptx.float_bits(square))
        cuda.syncthreads()
        square = float32(0)
        for w in range(warps):
            square = ptx.add(square, ptx.bits_float(ptx_tile.shared_1(shared, uint32(w))))
        root = ptx.reciprocal_root(ptx.fma(square, float32(mean_of), float32(epsilon)))
        for i in range(rounds):
            chunk = uint32(thread + uint32(i * threads))
            if one_each or chunk < uint32(chunks):
                a, b = scaled(held[4 * i], gains[4 * i], root), scaled(held[4 * i + 1], gains[4 * i + 1], root)
                c, d = scaled(held[4 * i + 2], gains[4 * i + 2], root), scaled(held[4 * i + 3], gains[4 * i + 3], root)
                store_chunk(out, row, chunk, a, b, c, d)

    return kernel


def spec_of(width: int, *, epsilon: float, adds: bool, vector: bool = True, bfloat: bool = False) -> NormSpec:
    """The kernel of rows of ``width``, with as few chunks a thread as a block allows.

    Raises:
        NotImplementedError: rows too long to stay in registers.
    """
    chunks = ceil_div(width, CHUNK)
    threads = min(MAX_THREADS, ceil_div(chunks, WARP) * WARP)
    if chunks > threads * MAX_ROUNDS:
        raise NotImplementedError(f"width of a norm must be at most {MAX_THREADS * MAX_ROUNDS * CHUNK}, not {width!r}")
    return NormSpec(width, threads, epsilon, adds, vector, bfloat)


@lru_cache(maxsize=64)
def _kernel(spec: NormSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def prepare(
    residual: Tensor, delta: Tensor | None, gain: Tensor, out: Tensor, *, epsilon: float, overlapped: bool = True
) -> BoundLaunch:
    """Bind a launch.

    Args:
        residual: ``[m, n]`` float16 or bfloat16; ``delta`` is added to it, in its own memory.
        delta: ``[m, n]``, or ``None`` to leave the residual stream as it is.
        gain: ``[n]``, written before any kernel in flight was launched.
        out: ``[m, n]``: the normalised sum. NaN or infinity in a row makes the row NaN; where squares add up beyond
            float32 (numbers of 1e19) it is zeros.
        epsilon: added to the mean square.
        overlapped: may start while the kernel before it in the stream still runs; it then waits before it reads.

    Raises:
        TypeError: types that differ.
        ValueError: shapes that do not belong together.
    """
    given = (residual, gain, out, *(() if delta is None else (delta,)))
    bfloat = check_types(*given, what="residual, delta, gain and out")
    m, width = residual.shape
    if gain.shape != (width,) or any(t.shape != residual.shape for t in given if t is not gain):
        raise ValueError(f"delta and out must be of the shape [{m}, {width}], gain [{width}], not "
                         f"{[list(t.shape) for t in given]!r}")  # fmt: skip
    vector = whole_chunks(*given, numbers=width)
    spec = spec_of(width, epsilon=epsilon, adds=delta is not None, vector=vector, bfloat=bfloat)
    return BoundLaunch(
        _kernel(spec, residual.device),
        m,
        spec.threads,
        (residual, residual if delta is None else delta, gain, residual, out),
        shared_bytes=4 * WARP,
        overlapped=overlapped,
    )
