"""Device functions of the GEMV for learned codebooks: one table of FP16 for each row, to two digits of signed bytes.

For each tile of 16 rows, threads (row, entry) make the tables that ``gemv_plan`` makes on the host for fixed formats:
a row's largest magnitude becomes ``LARGEST_TWO_DIGITS`` units, every value ``254 * high + low`` units, and the sixteen
entries of a digit the tables t and u. Tables of the next tile are made when this one ends, into a second buffer; their
values were loaded a whole tile before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import DIGIT_BASE, LARGEST_TWO_DIGITS, TILE_ROWS
from kernels_gpu.gemv_spec import WARP, GemvSpec

MAGIC, MAGIC_BITS = 12582912.0, 0x4B400000  # 1.5 * 2**23 leaves integers in the low bits of a float32
OFFSET = 128 * DIGIT_BASE + (DIGIT_BASE // 2)  # makes units positive, and digits balanced
LANES = 8  # of a row


@dataclass(frozen=True)
class LearnedTables:
    """Device functions ``fetch(codebooks, row0, n, thread, held)`` and ``build(shared, buffer, thread, held)``.

    ``words``: of a thread's local array ``held``.
    """

    fetch: Any
    build: Any
    words: int


def make_learned_tables(spec: GemvSpec) -> LearnedTables:
    """The device functions of one kernel; they do nothing where no codebook is learned."""
    plan, threads = spec.plan, spec.team_warps * WARP
    sixteen, entries = plan.bits == 4, 1 << plan.bits
    rounds = ceil_div(TILE_ROWS * LANES, threads) if plan.learned else 0
    pitch, step_at = spec.learned_pitch, plan.learned_words

    @cuda.jit(device=True)
    def fetch(codebooks, row0, n, thread, held):
        for i in range(rounds):
            item = uint32(thread + uint32(i * threads))
            row = uint32(row0 + ((item >> uint32(3)) & uint32(TILE_ROWS - 1)))
            row = row if row < n else uint32(n - uint32(1))
            first = uint32(row * uint32(entries) + (item & uint32(LANES - 1)))
            held[2 * i] = ptx_tile.load_half(codebooks, first)
            held[2 * i + 1] = ptx_tile.load_half(codebooks, uint32(first + uint32(8))) if sixteen else uint32(0)

    @cuda.jit(device=True)
    def positive_units(value, to_units):
        bits = ptx.float_bits(ptx.fma(value, to_units, float32(MAGIC)))
        return uint32(uint32(bits - uint32(MAGIC_BITS)) + uint32(OFFSET))

    @cuda.jit(device=True)
    def store_pair(shared, first, j, low, high):
        """Entry j of t, which begins at ``first``, and of u for the digits of entries j and j + 8."""
        u = int32(high)
        t = int32(low + int32(1)) if u < int32(0) else low
        if t < int32(0):
            u = int32(u + int32(1))
            t = int32(low + int32(1)) if u < int32(0) else low
        ptx_tile.put_byte(shared, uint32(first + j), ptx.unsigned(t))
        ptx_tile.put_byte(shared, uint32(first + uint32(15) - j), ptx.unsigned(u))

    @cuda.jit(device=True)
    def build(shared, buffer, thread, held):
        for i in range(rounds):
            item = uint32(thread + uint32(i * threads))
            j = uint32(item & uint32(LANES - 1))
            first, second = ptx.from_half(held[2 * i]), ptx.from_half(held[2 * i + 1])
            largest = ptx.maximum_or_nan(ptx.absolute(first), ptx.absolute(second))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 1))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 2))
            largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 4))
            to_units = float32(0)
            if largest > float32(0):
                to_units = ptx.mul(float32(LARGEST_TWO_DIGITS), ptx.reciprocal(largest))
            a, b = positive_units(first, to_units), positive_units(second, to_units)
            a_high, b_high = uint32(a // uint32(DIGIT_BASE)), uint32(b // uint32(DIGIT_BASE))
            a_low = ptx.signed(uint32(a - a_high * uint32(DIGIT_BASE) - uint32(DIGIT_BASE // 2)))
            b_low = ptx.signed(uint32(b - b_high * uint32(DIGIT_BASE) - uint32(DIGIT_BASE // 2)))
            high_of_a = ptx.signed(uint32(a_high - uint32(128)))
            high_of_b = ptx.signed(uint32(b_high - uint32(128)))
            if item < uint32(TILE_ROWS * LANES):
                row_at = uint32(buffer + (item >> uint32(3)) * uint32(pitch))
                if sixteen:
                    byte = uint32(row_at * uint32(4))
                    store_pair(shared, byte, j, high_of_a, high_of_b)
                    store_pair(shared, uint32(byte + uint32(16)), j, a_low, b_low)
                else:
                    index = uint32((j >> uint32(1)) | ((j & uint32(1)) << uint32(2)))
                    byte = uint32(row_at * uint32(4) + index)
                    ptx_tile.put_byte(shared, byte, ptx.unsigned(high_of_a))
                    ptx_tile.put_byte(shared, uint32(byte + uint32(8)), ptx.unsigned(a_low))
                if j == uint32(0):
                    # infinity less infinity is NaN: a codebook that holds either makes its row NaN
                    step = ptx.mul(ptx.add(largest, ptx.sub(largest, largest)), float32(1.0 / LARGEST_TWO_DIGITS))
                    ptx_tile.put_1(shared, uint32(row_at + uint32(step_at)), ptx.float_bits(step))

    return LearnedTables(fetch, build, max(1, 2 * rounds))
