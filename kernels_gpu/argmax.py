"""The token with the largest logit: the end of a greedy decode step.

Versions
    one_block_a_token   this file: a block reads a row once, eight logits at a time

Logits are compared by integers that have their order: the bits of a 16-bit float, turned over where it is negative.
NaN is above everything, both zeros are one, and of equal logits the first one wins, as numpy's ``argmax`` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from numba import cuda, uint32
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.pairs import CHUNK, WARP, check_types, chunk_functions, whole_chunks
from kernels_gpu.ptx import SIMULATED

ARGUMENTS = "pp"
MAX_THREADS = 64 if SIMULATED else 1024
_INFINITY = {True: 0x7F80, False: 0x7C00}  # bfloat16, binary16 of IEEE 754-2019


@dataclass(frozen=True)
class ArgmaxSpec:
    """One compiled kernel: rows of ``width`` logits, threads of a block, float16 or bfloat16."""

    width: int
    threads: int
    vector: bool
    bfloat: bool = False

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return ceil_div(self.width, CHUNK)


def make_body(spec: ArgmaxSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: a block for each row."""
    width, chunks, threads = spec.width, spec.chunks, spec.threads
    infinity = _INFINITY[spec.bfloat]
    load_chunk = chunk_functions(width, spec.vector).load
    ragged = width % CHUNK != 0
    rounds, warps = ceil_div(chunks, threads), threads // WARP

    @cuda.jit(device=True)
    def order(bits):
        """An integer of at least 1 with the order of a 16-bit float."""
        magnitude = uint32(bits & uint32(0x7FFF))
        made = uint32(uint32(0x8000) + magnitude) if bits == magnitude else uint32(uint32(0x8000) - magnitude)
        return uint32(0x10000) if magnitude > uint32(infinity) else made

    @cuda.jit(device=True)
    def better(key, place, best, best_place):
        """Whether a logit comes before the best one so far."""
        return key > best or (key == best and place < best_place)

    @cuda.jit(device=True)
    def with_word(word, place, best, best_place):
        """The best one after two more logits, of rising places."""
        key = order(uint32(word & uint32(0xFFFF)))
        if key > best and (not ragged or place < uint32(width)):
            best, best_place = key, place
        key = order(uint32(word >> uint32(16)))
        if key > best and (not ragged or uint32(place + uint32(1)) < uint32(width)):
            best, best_place = key, uint32(place + uint32(1))
        return best, best_place

    @cuda.jit(device=True)
    def with_lane(best, best_place, mask):
        key = ptx.unsigned(ptx.shuffle_xor(ptx.signed(best), mask))
        place = ptx.unsigned(ptx.shuffle_xor(ptx.signed(best_place), mask))
        if better(key, place, best, best_place):
            best, best_place = key, place
        return best, best_place

    def kernel(logits, tokens):
        shared = ptx_tile.shared_words()
        thread, row = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        ptx_tile.start()
        ptx_tile.wait_for_previous()
        best, place = uint32(0), uint32(0)
        for i in range(rounds):
            chunk = uint32(thread + uint32(i * threads))
            if chunk < uint32(chunks):
                a, b, c, d = load_chunk(logits, row, chunk)
                first = uint32(chunk * uint32(CHUNK))
                best, place = with_word(a, first, best, place)
                best, place = with_word(b, uint32(first + uint32(2)), best, place)
                best, place = with_word(c, uint32(first + uint32(4)), best, place)
                best, place = with_word(d, uint32(first + uint32(6)), best, place)
        best, place = with_lane(best, place, 16)
        best, place = with_lane(best, place, 8)
        best, place = with_lane(best, place, 4)
        best, place = with_lane(best, place, 2)
        best, place = with_lane(best, place, 1)
        if (thread & uint32(31)) == uint32(0):
            ptx_tile.put_2(shared, uint32((thread >> uint32(5)) * uint32(2)), best, place)
        cuda.syncthreads()
        if thread == uint32(0):
            for w in range(1, warps):
                key, found = ptx_tile.shared_2(shared, uint32(2 * w))
                if better(key, found, best, place):
                    best, place = key, found
            ptx_tile.store_word(tokens, row, place)

    return kernel


def spec_of(width: int, *, vector: bool = True, bfloat: bool = False) -> ArgmaxSpec:
    """The kernel of rows of ``width``, with a chunk or more for each thread."""
    threads = min(MAX_THREADS, ceil_div(ceil_div(width, CHUNK), WARP) * WARP)
    return ArgmaxSpec(width, threads, vector, bfloat)


@lru_cache(maxsize=64)
def _kernel(spec: ArgmaxSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def prepare(logits: Tensor, tokens: Tensor, *, overlapped: bool = True) -> BoundLaunch:
    """Bind a launch.

    Args:
        logits: ``[m, vocabulary]`` float16 or bfloat16.
        tokens: int32 ``[m]``: the place of each row's largest logit.
        overlapped: may start while the kernel before it in the stream still runs; it then waits before it reads.

    Raises:
        TypeError: types without a kernel.
        ValueError: shapes that do not belong together.
    """
    bfloat = check_types(logits, what="logits")
    m, width = logits.shape
    if tokens.dtype != torch.int32:
        raise TypeError(f"tokens must be int32, not {tokens.dtype}")
    if tokens.shape != (m,) or width == 0:
        raise ValueError(f"tokens must be [{m}] for logits {list(logits.shape)!r}, not {list(tokens.shape)!r}")
    spec = spec_of(width, vector=whole_chunks(logits, numbers=width), bfloat=bfloat)
    return BoundLaunch(
        _kernel(spec, logits.device), m, spec.threads, (logits, tokens), shared_bytes=8 * WARP, overlapped=overlapped
    )
