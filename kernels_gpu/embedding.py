"""The start of a decode step: rows of the embedding table, one token more in each sequence, and its rotary turns.

Versions
    one_block_a_token   this file

Turns (cosine and sine at a token's position) are copied out of their table here once a step, so that the rotary
kernel of each layer need not wait for the position before it can load them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from numba import cuda, uint32
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu import ptx_tile
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.pairs import CHUNK, NAN_PAIR, WARP, check_types, chunk_functions, whole_chunks
from kernels_gpu.ptx import SIMULATED

ARGUMENTS = "pppppp" + "iii"
MAX_THREADS = 32 if SIMULATED else 512


@dataclass(frozen=True)
class EmbeddingSpec:
    """One compiled kernel: rows of ``width`` numbers, ``head_dim`` words of turns a position, threads of a block."""

    width: int
    head_dim: int
    threads: int
    vector: bool

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return ceil_div(self.width, CHUNK)


def make_body(spec: EmbeddingSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: a block for each sequence."""
    chunks, head_dim, threads = spec.chunks, spec.head_dim, spec.threads
    rounds, turn_rounds = ceil_div(chunks, threads), ceil_div(head_dim, threads)
    rows = chunk_functions(spec.width, spec.vector)
    load_chunk, store_chunk = rows.load, rows.store

    def kernel(tokens, table, lengths, all_turns, out, turns, vocabulary, capacity, advance):
        thread, sequence = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        ptx_tile.start()
        ptx_tile.wait_for_previous()
        token = ptx_tile.load_word(tokens, sequence)
        length = uint32(ptx_tile.load_word(lengths, sequence) + uint32(advance))
        length = length if length < uint32(capacity) else uint32(capacity)
        position = uint32(length - uint32(1)) if length > uint32(0) else uint32(0)
        known = token < uint32(vocabulary)
        row = token if known else uint32(0)
        for i in range(rounds):
            chunk = uint32(thread + uint32(i * threads))
            if chunk < uint32(chunks):
                a, b, c, d = load_chunk(table, row, chunk)
                if not known:
                    a, b, c, d = uint32(NAN_PAIR), uint32(NAN_PAIR), uint32(NAN_PAIR), uint32(NAN_PAIR)
                store_chunk(out, sequence, chunk, a, b, c, d)
        for i in range(turn_rounds):
            word = uint32(thread + uint32(i * threads))
            if word < uint32(head_dim):
                found = ptx_tile.load_word(all_turns, uint32(position * uint32(head_dim) + word))
                ptx_tile.store_word(turns, uint32(sequence * uint32(head_dim) + word), found)
        cuda.syncthreads()  # every thread has read the length
        if thread == uint32(0):
            ptx_tile.store_word(lengths, sequence, length)

    return kernel


def spec_of(width: int, head_dim: int, *, vector: bool = True) -> EmbeddingSpec:
    """The kernel of a table with rows of ``width``, with a chunk or more for each thread."""
    threads = min(MAX_THREADS, ceil_div(ceil_div(width, CHUNK), WARP) * WARP)
    return EmbeddingSpec(width, head_dim, threads, vector)


@lru_cache(maxsize=64)
def _kernel(spec: EmbeddingSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def prepare(
    tokens: Tensor,
    table: Tensor,
    lengths: Tensor,
    all_turns: Tensor,
    out: Tensor,
    turns: Tensor,
    *,
    advance: bool = True,
    overlapped: bool = True,
) -> BoundLaunch:
    """Bind a launch.

    Args:
        tokens: int32 ``[m]``: what each sequence goes on with. The row of a token beyond the table is NaN.
        table: ``[vocabulary, n]`` float16 or bfloat16.
        lengths: int32 ``[m]``: tokens of each sequence; one is added, up to the number of positions.
        all_turns: float32 ``[positions, head_dim / 2, 2]``.
        out: ``[m, n]``: the tokens' rows.
        turns: float32 ``[m, head_dim / 2, 2]``: those at position ``lengths - 1``.
        advance: whether lengths grow; a step that is only timed leaves them.
        overlapped: may start while the kernel before it in the stream still runs; it then waits before it reads.

    Raises:
        TypeError: types that differ.
        ValueError: shapes that do not belong together.
    """
    check_types(table, out, what="table and out")
    if tokens.dtype != torch.int32 or lengths.dtype != torch.int32:
        raise TypeError(f"tokens and lengths must be int32, not {tokens.dtype} and {lengths.dtype}")
    vocabulary, width = table.shape
    capacity, pairs, _ = all_turns.shape
    m = len(tokens)
    if out.shape != (m, width) or turns.shape != (m, pairs, 2) or lengths.shape != (m,):
        raise ValueError(
            f"out, turns and lengths of {m} tokens must be [{m}, {width}], [{m}, {pairs}, 2] and [{m}], not "
            f"{list(out.shape)!r}, {list(turns.shape)!r} and {list(lengths.shape)!r}"
        )
    spec = spec_of(width, 2 * pairs, vector=whole_chunks(table, out, numbers=width))
    given = (tokens, table, lengths, all_turns, out, turns, vocabulary, capacity, int(advance))
    return BoundLaunch(_kernel(spec, table.device), m, spec.threads, given, shared_bytes=0, overlapped=overlapped)
