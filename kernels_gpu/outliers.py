"""Element-wise outliers: ``y[t, row] += sum of value * x[t, column]`` over compressed rows (CSR), for few tokens.

The layout is that of ``datatypes.layer_packing``: values in float16 (or float32), columns of 16 or 32 bits, row
pointers of 32. Rows of real layers hold between none and thousands of outliers, so work is cut by elements, not by rows
(CSR-Stream and CSR-Adaptive: Greathouse and Daga, Efficient Sparse Matrix-Vector Multiplication on GPUs Using the CSR
Storage Format, SC 2014): the launcher gives a block whole rows that together hold about as many as any other's, or one
long row, and a block takes them in rounds of ``elements``.

A block's threads load values and columns of a round without gaps, those of the first one before they wait for the
kernel that writes x and y; products go to shared memory as float32; then teams of ``lanes`` lanes add up rows, in an
order that is the same in every launch. Left out: more than 16 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import cuda, float32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.lanes import lane_sum
from kernels_gpu.pairs import pair_functions

ARGUMENTS = "pppppp" + "i"


@dataclass(frozen=True)
class CsrSpec:
    """One compiled kernel.

    Args:
        k: inputs.
        tokens: m, 1 to 16.
        elements: of a round.
        rows: of a block, at most.
        lanes: that add up a row, a power of two up to 32.
        threads: of a block; ``elements`` is a multiple of them.
        wide_value: values are float32 rather than float16.
        wide_index: columns are stored in 32 bits rather than 16.
        bfloat: x and y are bfloat16 rather than float16.
    """

    k: int
    tokens: int
    elements: int
    rows: int
    lanes: int
    threads: int
    wide_value: bool = False
    wide_index: bool = False
    bfloat: bool = False

    def __post_init__(self) -> None:
        if self.elements % self.threads or self.threads % self.lanes:
            raise ValueError(
                f"elements must be a multiple of threads and these of lanes, not "
                f"{self.elements!r}, {self.threads!r} and {self.lanes!r}"
            )

    @property
    def products_at(self) -> int:
        """Word of the products of a round, by token; after the row pointers and the rows' sums."""
        return self.rows + 1 + self.rows * self.tokens

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return 4 * (self.products_at + self.tokens * self.elements)


def row_blocks(pointers: np.ndarray, elements: int, rows: int) -> np.ndarray:
    """First row of each block, and the number of rows at the end, int32.

    A block has at most ``rows`` rows, and at most ``elements`` outliers unless it is one row.

    >>> row_blocks(np.array([0, 3, 5, 5, 25, 26]), elements=8, rows=64)
    array([0, 3, 4, 5], dtype=int32)
    """
    starts, last = [0], len(pointers) - 1
    while starts[-1] < last:
        first = starts[-1]
        fits = int(np.searchsorted(pointers, pointers[first] + elements, side="right")) - 1
        starts.append(min(max(fits, first + 1), first + rows, last))
    return np.array(starts, np.int32)


def make_body(spec: CsrSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: starts, pointers, columns, values, x, y, n."""
    k, tokens, elements, most_rows = spec.k, spec.tokens, spec.elements, spec.rows
    lanes, threads, bfloat = spec.lanes, spec.threads, spec.bfloat
    wide_value, wide_index = spec.wide_value, spec.wide_index
    own, teams = elements // threads, threads // lanes
    sums_at, products_at = most_rows + 1, spec.products_at
    items, held_words = most_rows * tokens, 2 * own
    element, summed = pair_functions(bfloat).low, lane_sum(lanes)

    @cuda.jit(device=True)
    def fetch(columns, values, first, end, thread, held):
        """This thread's elements of a round: value and column of each."""
        for i in range(own):
            at = uint32(first + thread + uint32(i * threads))
            held[2 * i], held[2 * i + 1] = uint32(0), uint32(0)
            if at < end:
                held[2 * i] = ptx_tile.load_word(values, at) if wide_value else ptx_tile.load_half(values, at)
                held[2 * i + 1] = ptx_tile.load_word(columns, at) if wide_index else ptx_tile.load_half(columns, at)

    @cuda.jit(device=True)
    def multiply(shared, x, first, end, thread, held):
        for i in range(own):
            within = uint32(thread + uint32(i * threads))
            if uint32(first + within) < end:
                value = ptx.bits_float(held[2 * i]) if wide_value else ptx.from_half(held[2 * i])
                for t in range(tokens):
                    found = element(ptx_tile.load_half(x, uint32(held[2 * i + 1] + uint32(t * k))))
                    at = uint32(uint32(products_at + t * elements) + within)
                    ptx_tile.put_1(shared, at, ptx.float_bits(ptx.mul(value, found)))

    @cuda.jit(device=True)
    def add_rows(shared, first, count, thread):
        """Add a round's products to the sums of their rows."""
        team, lane = uint32(thread // uint32(lanes)), uint32(thread & uint32(lanes - 1))
        item = uint32(team)
        # every thread takes every turn: lanes of other rows of a warp take part in the shuffles
        for _ in range(uint32(uint32(count * uint32(tokens) + uint32(teams - 1)) // uint32(teams))):
            row = uint32(item // uint32(tokens))
            start, stop = uint32(0), uint32(0)
            if row < count:
                start = ptx_tile.shared_1(shared, row)
                stop = ptx_tile.shared_1(shared, uint32(row + uint32(1)))
            # of this round: positions before it and after it are cut off
            start = uint32(start - first) if start > first else uint32(0)
            stop = uint32(stop - first) if stop > first else uint32(0)
            stop = stop if stop < uint32(elements) else uint32(elements)
            base = uint32(uint32(products_at) + (item - row * uint32(tokens)) * uint32(elements))
            total = float32(0)
            at = uint32(start + lane)
            while at < stop:
                total = ptx.add(total, ptx.bits_float(ptx_tile.shared_1(shared, uint32(base + at))))
                at = uint32(at + uint32(lanes))
            total = summed(total)
            if lane == uint32(0) and row < count:
                place = uint32(uint32(sums_at) + item)
                total = ptx.add(total, ptx.bits_float(ptx_tile.shared_1(shared, place)))
                ptx_tile.put_1(shared, place, ptx.float_bits(total))
            item = uint32(item + uint32(teams))

    def kernel(starts, pointers, columns, values, x, out, n):
        shared = ptx_tile.shared_words()
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        ptx_tile.start()
        row0, row1 = ptx_tile.load_word(starts, block), ptx_tile.load_word(starts, uint32(block + uint32(1)))
        count = uint32(row1 - row0)
        for i in range((most_rows + threads) // threads):
            row = uint32(thread + uint32(i * threads))
            if row <= count:
                ptx_tile.put_1(shared, row, ptx_tile.load_word(pointers, uint32(row0 + row)))
        for i in range((items + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            if item < uint32(items):
                ptx_tile.put_1(shared, uint32(uint32(sums_at) + item), uint32(0))
        first, end = ptx_tile.load_word(pointers, row0), ptx_tile.load_word(pointers, row1)
        held = cuda.local.array(held_words, uint32)
        fetch(columns, values, first, end, thread, held)
        ptx_tile.wait_for_previous()
        here = uint32(first)
        while here < end:
            multiply(shared, x, here, end, thread, held)
            fetch(columns, values, uint32(here + uint32(elements)), end, thread, held)
            cuda.syncthreads()
            add_rows(shared, here, count, thread)
            here = uint32(here + uint32(elements))
            cuda.syncthreads()
        cuda.syncthreads()
        for i in range((items + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            token = uint32(item // uint32(most_rows))
            row = uint32(item - token * uint32(most_rows))
            if item < uint32(items) and row < count:
                found = ptx_tile.shared_1(shared, uint32(uint32(sums_at) + row * uint32(tokens) + token))
                at = uint32(token * uint32(n) + row0 + row)
                total = ptx.add(element(ptx_tile.load_half(out, at)), ptx.bits_float(found))
                ptx_tile.store_half(out, at, ptx.to_bfloat(total) if bfloat else ptx.to_half(total))

    return kernel
