"""Sums over neighbouring lanes of a warp, the same in every launch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numba import cuda

from kernels_gpu import ptx


@lru_cache(maxsize=6)
def lane_sum(lanes: int) -> Any:
    """Device function ``value -> sum`` over ``lanes`` lanes, a power of two up to 32; all lanes of a warp take part."""

    @cuda.jit(device=True)
    def summed(value):
        if lanes > 1:
            value = ptx.add(value, ptx.shuffle_xor(value, 1))
        if lanes > 2:
            value = ptx.add(value, ptx.shuffle_xor(value, 2))
        if lanes > 4:
            value = ptx.add(value, ptx.shuffle_xor(value, 4))
        if lanes > 8:
            value = ptx.add(value, ptx.shuffle_xor(value, 8))
        if lanes > 16:
            value = ptx.add(value, ptx.shuffle_xor(value, 16))
        return value

    return summed
