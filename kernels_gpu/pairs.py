"""Two 16-bit floats in a word, for the kernels between matrix products: unpacked, packed, eight at a time.

``PairFunctions`` are device functions of one type, float16 or bfloat16; the twins run in numba's simulator. A chunk is
eight numbers in four words, one 16-byte access where rows are whole chunks at multiples of 16 bytes, eight narrow
accesses elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numba import cuda, uint32
from torch import Tensor

from kernels_gpu import ptx, ptx_tile

CHUNK = 8  # numbers of one 16-byte access
WARP = 32
NAN_PAIR = 0x7FFF7FFF  # NaN in both halves of a word, as float16 and as bfloat16
TYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class PairFunctions:
    """Device functions: ``low(word)`` and ``high(word)`` to float32, ``pair(low, high)`` to a word."""

    low: Any
    high: Any
    pair: Any


@lru_cache(maxsize=2)
def pair_functions(bfloat: bool) -> PairFunctions:
    """Of bfloat16, or of float16."""

    @cuda.jit(device=True)
    def low(word):
        return ptx.bits_float(uint32(word << uint32(16))) if bfloat else ptx.from_half(word)

    @cuda.jit(device=True)
    def high(word):
        if bfloat:
            return ptx.bits_float(uint32(word & uint32(0xFFFF0000)))
        return ptx.from_half(uint32(word >> uint32(16)))

    @cuda.jit(device=True)
    def half(value):
        return ptx.to_bfloat(value) if bfloat else ptx.to_half(value)

    @cuda.jit(device=True)
    def pair(first, second):
        return uint32(half(first) | uint32(half(second) << uint32(16)))

    return PairFunctions(low, high, pair)


@dataclass(frozen=True)
class ChunkFunctions:
    """Device functions: ``load(address, row, chunk)`` gives four words, ``store(address, row, chunk, a, b, c, d)``."""

    load: Any
    store: Any


@lru_cache(maxsize=64)
def chunk_functions(width: int, vector: bool) -> ChunkFunctions:
    """Of rows of ``width`` numbers; zeros are read, and nothing is written, beyond a row's end.

    ``vector``: whether a chunk is one access.
    """

    @cuda.jit(device=True)
    def number(address, at, left, i):
        return ptx_tile.load_half(address, uint32(at + uint32(i))) if left > uint32(i) else uint32(0)

    @cuda.jit(device=True)
    def load(address, row, chunk):
        at = uint32(row * uint32(width) + chunk * uint32(CHUNK))
        if vector:
            return ptx_tile.load_words_4(address, uint32(at >> uint32(1)))
        left = uint32(uint32(width) - chunk * uint32(CHUNK))
        return (
            uint32(number(address, at, left, 0) | uint32(number(address, at, left, 1) << uint32(16))),
            uint32(number(address, at, left, 2) | uint32(number(address, at, left, 3) << uint32(16))),
            uint32(number(address, at, left, 4) | uint32(number(address, at, left, 5) << uint32(16))),
            uint32(number(address, at, left, 6) | uint32(number(address, at, left, 7) << uint32(16))),
        )

    @cuda.jit(device=True)
    def put(address, at, left, i, word):
        if left > uint32(i):
            ptx_tile.store_half(address, uint32(at + uint32(i)), uint32(word & uint32(0xFFFF)))
        if left > uint32(i + 1):
            ptx_tile.store_half(address, uint32(at + uint32(i + 1)), uint32(word >> uint32(16)))

    @cuda.jit(device=True)
    def store(address, row, chunk, a, b, c, d):
        at = uint32(row * uint32(width) + chunk * uint32(CHUNK))
        if vector:
            ptx_tile.store_words_4(address, uint32(at >> uint32(1)), a, b, c, d)
        else:
            left = uint32(uint32(width) - chunk * uint32(CHUNK))
            put(address, at, left, 0, a)
            put(address, at, left, 2, b)
            put(address, at, left, 4, c)
            put(address, at, left, 6, d)

    return ChunkFunctions(load, store)


def whole_chunks(*tensors: Tensor, numbers: int) -> bool:
    """Whether rows of ``numbers`` are whole chunks and all tensors begin at multiples of 16 bytes.

    In the simulator addresses do not matter: its memory is numpy's.
    """
    aligned = ptx.SIMULATED or all(t.data_ptr() % (2 * CHUNK) == 0 for t in tensors)
    return numbers % CHUNK == 0 and aligned


def check_types(*tensors: Tensor, what: str) -> bool:
    """Whether they are bfloat16 rather than float16.

    Raises:
        TypeError: another type, or different ones.
        ValueError: not contiguous.
    """
    kinds = {t.dtype for t in tensors}
    if len(kinds) != 1 or not kinds <= set(TYPES):
        raise TypeError(f"{what} must all be float16 or all bfloat16, not {', '.join(sorted(map(str, kinds)))}")
    if not all(t.is_contiguous() for t in tensors):
        raise ValueError(f"{what} must be contiguous, not strided")
    return kinds == {torch.bfloat16}
