"""The kernel that merges the parts of a context split over blocks, and how the decode attention stores a result."""

from __future__ import annotations

import math
from collections.abc import Callable

from numba import cuda, float32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.attention_spec import AttentionSpec

MERGE_ARGUMENTS = "pp" + "i"
MERGE_TEAMS = 2 if ptx.SIMULATED else 4  # the simulator starts a Python thread for each of their threads
MERGE_BATCH = 4
INFINITY = float32(math.inf)


@cuda.jit(device=True)
def factor_of(largest, of_all):
    """What a part's sums count for where the maximum of all is ``of_all``; 0 for a part without tokens."""
    return float32(0) if largest == -INFINITY else ptx.exp2(ptx.sub(largest, of_all))


@cuda.jit(device=True)
def store_result(out, index, summed, weights, bfloat):
    """Store a weighted mean; zero where there were no tokens."""
    mean = float32(0) if weights == float32(0) else ptx.div(summed, weights)
    ptx_tile.store_half(out, index, ptx.to_bfloat(mean) if bfloat else ptx.to_half(mean))


def make_merge(spec: AttentionSpec) -> Callable[..., None]:
    """The kernel that merges the parts of a query, to be compiled with ``MERGE_ARGUMENTS``.

    ``MERGE_TEAMS`` threads for each element take every so-manieth part, ``MERGE_BATCH`` loads at a time, since each
    waits for L2; then the first of them adds up what the others found.
    """
    head_dim, result_words, bfloat = spec.head_dim, spec.result_words, spec.bfloat

    @cuda.jit(device=True)
    def word_of(partial, at):
        return ptx.bits_float(ptx_tile.load_word(partial, at))

    @cuda.jit(device=True)
    def merged(top, weights, summed, largest, more_weights, more):
        new_top = ptx.maximum_or_nan(top, largest)
        kept, share = factor_of(top, new_top), factor_of(largest, new_top)
        weights = ptx.fma(weights, kept, ptx.mul(more_weights, share))
        return new_top, weights, ptx.fma(summed, kept, ptx.mul(more, share))

    def kernel(partial, out, splits):
        shared = ptx_tile.shared_words()
        row, thread = uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x)
        team = uint32(thread // uint32(head_dim))
        d, parts = uint32(thread - team * uint32(head_dim)), uint32(splits)
        ptx_tile.start()
        ptx_tile.wait_for_previous()
        first = uint32(row * parts * uint32(result_words))
        top, weights, summed = -INFINITY, float32(0), float32(0)
        tops = cuda.local.array(MERGE_BATCH, float32)
        all_weights = cuda.local.array(MERGE_BATCH, float32)
        sums = cuda.local.array(MERGE_BATCH, float32)
        part = uint32(team)
        while part < parts:
            for i in range(MERGE_BATCH):
                own = uint32(part + uint32(i * MERGE_TEAMS))
                at = uint32(first + (own if own < parts else part) * uint32(result_words))
                tops[i] = word_of(partial, uint32(at + uint32(head_dim)))
                all_weights[i] = word_of(partial, uint32(at + uint32(head_dim + 1)))
                sums[i] = word_of(partial, uint32(at + d))
            for i in range(MERGE_BATCH):
                if uint32(part + uint32(i * MERGE_TEAMS)) < parts:
                    top, weights, summed = merged(top, weights, summed, tops[i], all_weights[i], sums[i])
            part = uint32(part + uint32(MERGE_BATCH * MERGE_TEAMS))
        place = uint32(thread * uint32(3))
        ptx_tile.put_1(shared, place, ptx.float_bits(top))
        ptx_tile.put_1(shared, uint32(place + uint32(1)), ptx.float_bits(weights))
        ptx_tile.put_1(shared, uint32(place + uint32(2)), ptx.float_bits(summed))
        cuda.syncthreads()
        if team == uint32(0):
            for i in range(1, MERGE_TEAMS):
                place = uint32((thread + uint32(i * head_dim)) * uint32(3))
                found = ptx.bits_float(ptx_tile.shared_1(shared, place))
                more_weights = ptx.bits_float(ptx_tile.shared_1(shared, uint32(place + uint32(1))))
                more = ptx.bits_float(ptx_tile.shared_1(shared, uint32(place + uint32(2))))
                top, weights, summed = merged(top, weights, summed, found, more_weights, more)
            store_result(out, uint32(row * uint32(head_dim) + d), summed, weights, bfloat)

    return kernel
