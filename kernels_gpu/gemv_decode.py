"""Device functions of the GEMV: codes to registers of bytes, products of a block of 32, stored scales to float32.

Instructions a weight (logical, shift, permute) of each decoding, from the arithmetic below. Upper halves of words
are among them, though dot products on another pipe (``ptx.upper_half``): 1/8, with tables of 4 bits and one digit 1/4.
    bytes 0; nibbles 3/8; table of 2 bits 11/16, 3 bits 29/32, 4 bits 7/8 (one digit) and 11/8 (two digits);
    planes of 5 bits 15/16, 6 bits 15/16, 7 bits 37/32. Halves: ``kernels_gpu.gemv_halves``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.dequantize_scales import BYTE_SCALES, HALF_SCALES, make_scale_of_bits, make_stored_scale
from kernels_gpu.gemv_halves import make_half_products
from kernels_gpu.gemv_plan import DIGIT_BASE, Decoding, Plan, ScaleKind
from kernels_gpu.gemv_planes import (
    looked_up_2,
    looked_up_3,
    make_joined,
    make_load_words,
    make_looked_up_4,
    nibbles,
)

VERSION = 12  # of the GEMV and its decoding: NOTES.md; records that do not say are of those before


@dataclass(frozen=True)
class Decoders:
    """Device functions: words of a block, products added to sums, sums as numbers, table words, an outer scale."""

    load_block: Any
    accumulate: Any
    finish: Any
    no_sums: Any
    tables_of: Any
    outer_value: Any


def make_scale(kind: ScaleKind | None) -> Any:
    """Device function ``(shared, byte) -> float32`` for a stored scale."""
    scale_of_bits = make_scale_of_bits(kind or ScaleKind.FP32)  # without scales none is read
    if kind in HALF_SCALES:
        load = ptx_tile.shared_half
    elif kind in BYTE_SCALES:
        load = ptx_tile.shared_byte
    else:

        @cuda.jit(device=True)
        def load(shared, byte):
            return ptx_tile.shared_1(shared, uint32(byte >> uint32(2)))

    @cuda.jit(device=True)
    def scale_value(shared, byte):
        return scale_of_bits(load(shared, byte))

    return scale_value


@cuda.jit(device=True)
def _bytes(words, tables):
    return words


def make_registers(plan: Plan, index: int, *, shifts: bool = False, products: bool = False) -> Any:
    """Device function ``(words, tables) -> eight registers`` for one of the accumulated products.

    Args:
        plan: how codes become registers.
        index: of the product.
        shifts: upper halves of words of 4-bit codes by shifts, as with two digits.
        products: codes of two digits turned over by multiplications (``gemv_planes.make_looked_up_4``).
    """
    if plan.decoding is Decoding.BYTES:
        return _bytes
    if plan.decoding is Decoding.NIBBLES:
        return nibbles
    if plan.decoding is Decoding.PLANES:
        return make_joined(plan.bits)
    if plan.bits == 2:

        @cuda.jit(device=True)
        def registers(words, tables):
            return looked_up_2(words[0], tables[index]) + looked_up_2(words[1], tables[index])
    elif plan.bits == 3:
        at = 2 * index

        @cuda.jit(device=True)
        def registers(words, tables):
            return looked_up_3(words[0], words[1], words[2], tables[at], tables[at + 1])
    else:
        at = 2 * index
        two = plan.digits == 2
        looked_up = make_looked_up_4(turned=index % 2 == 1, by_shift=shifts or two, reverse=two, by_product=products)

        @cuda.jit(device=True)
        def registers(words, tables):
            return looked_up(words, tables[at], tables[at + 1])

    return registers


def _make_tables_of(plan: Plan, tables_at: int) -> Any:
    """Device function ``(shared, index) -> table words`` of a candidate.

    They come from shared memory; or are constants in which one byte is put in by a permutation, as for BitMoD's
    special values.
    """
    if plan.learned:
        return _make_learned_tables_of(plan.learned_words)
    count = len(plan.tables[0]) if plan.tables else 0
    if not plan.tables:

        @cuda.jit(device=True)
        def tables_of(shared, index):
            zero = uint32(0)
            return zero, zero, zero, zero

        return tables_of
    if len(plan.tables) == 1 and count == 8:

        @cuda.jit(device=True)
        def tables_of(shared, index):
            at = uint32(tables_at)
            return ptx_tile.shared_4(shared, at) + ptx_tile.shared_4(shared, uint32(at + uint32(4)))

        return tables_of
    if len(plan.tables) > 1 and plan.patched_bytes is not None and count <= 4:
        return make_patched_tables(plan)

    @cuda.jit(device=True)
    def tables_of(shared, index):
        at = uint32(uint32(tables_at) + index * uint32(count))
        if count == 1:
            word = ptx_tile.shared_1(shared, at)
            return word, word, word, word
        if count == 2:
            pair = ptx_tile.shared_2(shared, at)
            return pair + pair
        return ptx_tile.shared_4(shared, at)

    return tables_of


def make_patched_tables(plan: Plan) -> Any:
    """Device function ``(shared, index) -> table words`` of a candidate: constants, each with a byte put in.

    Tables of at most four words that differ in at most one byte of each.
    """
    patched = (*(plan.patched_bytes or ()), None, None, None, None)[:4]
    constants = (*plan.tables[0], 0, 0, 0)
    specials = [_bytes_at(plan, word, byte) for word, byte in enumerate(patched)]
    patches = [_make_patch(constants[word], specials[word], byte) for word, byte in enumerate(patched)]
    first, second, third, fourth = patches

    @cuda.jit(device=True)
    def tables_of(shared, index):
        return first(index), second(index), third(index), fourth(index)

    return tables_of


def _make_learned_tables_of(count: int) -> Any:
    """Device function ``(shared, word) -> table words`` of the row whose tables begin at ``word``."""

    @cuda.jit(device=True)
    def tables_of(shared, word):
        if count == 8:
            return ptx_tile.shared_4(shared, word) + ptx_tile.shared_4(shared, uint32(word + uint32(4)))
        return ptx_tile.shared_4(shared, word)

    return tables_of


def _bytes_at(plan: Plan, word: int, byte: int | None) -> int:
    """A byte of a table word for each candidate, as one word."""
    if byte is None:
        return 0
    return sum((words[word] >> 8 * byte & 0xFF) << 8 * i for i, words in enumerate(plan.tables))


def _make_patch(base: int, specials: int, byte: int | None) -> Any:
    """Device function ``index -> base`` with byte ``byte`` taken from ``specials[index]``."""
    if byte is None:

        @cuda.jit(device=True)
        def patch(index):
            return uint32(base)

        return patch
    others = 0x3210 & ~(0xF << 4 * byte) | 4 << 4 * byte  # byte 4 + index of the pair goes to place ``byte``
    shift = 4 * byte

    @cuda.jit(device=True)
    def patch(index):
        return ptx.pick_bytes(uint32(base), uint32(specials), uint32((index << uint32(shift)) | uint32(others)))

    return patch


def make_chain(product: Any, *, split: bool) -> Any:
    """Device function that adds a block's products to a total; of one half of its inputs only where they are split."""

    @cuda.jit(device=True)
    def chain(a, b, x, half, total):
        """Products of a block of 32 inputs, or of a half of it: (row g: high, low digit; row g + 8: high, low)."""
        if not split or half == 0:
            total = product(a[0], b[0], a[1], b[1], x[0], x[1], total)
            total = product(a[2], b[2], a[3], b[3], x[2], x[3], total)
        if not split or half == 1:
            total = product(a[4], b[4], a[5], b[5], x[4], x[5], total)
            total = product(a[6], b[6], a[7], b[7], x[6], x[7], total)
        return total

    return chain


@cuda.jit(device=True)
def joined(t):
    """Both digits of the inputs as one integer, for both rows."""
    return int32(int32(t[0] << 8) + t[1]), int32(int32(t[2] << 8) + t[3])


def make_decoders(plan: Plan, tables_at: int, *, merged: bool = False, products: bool = False) -> Decoders:
    """The device functions of one encoding.

    Args:
        plan: the encoding.
        tables_at: word of its tables in shared memory.
        merged: products of the tables t and u (``gemv_plan``) have one sum; else sums of their own, so that each waits
            for half as many before it, which are added up once for a group.
        products: as in ``make_registers``.
    """
    load_block, tables_of = make_load_words(plan.bits), _make_tables_of(plan, tables_at)
    outer_value = make_stored_scale(plan.outer)
    if plan.halves:
        accumulate, finish, no_sums = make_half_products(plan)
        return Decoders(load_block, accumulate, finish, no_sums, tables_of, outer_value)
    product = ptx_tile.product_s8 if plan.signed else ptx_tile.product_u8
    sets, split = plan.sets, plan.group == 16
    two_sided, two_digits = sets > plan.digits, plan.digits == 2
    merged = merged and two_sided
    low_at = 1 if merged or not two_sided else 2  # of the sums: the low digit's
    registers = [make_registers(plan, index, products=products) for index in range(sets)]
    chain = make_chain(product, split=split)
    first, second = registers[0], registers[min(1, sets - 1)]
    third, fourth = registers[min(2, sets - 1)], registers[min(3, sets - 1)]

    @cuda.jit(device=True)
    def both(t, u):
        return int32(t[0] + u[0]), int32(t[1] + u[1]), int32(t[2] + u[2]), int32(t[3] + u[3])

    @cuda.jit(device=True)
    def no_sums():
        zero = int32(0)
        none = (zero, zero, zero, zero)
        return none, none, none, none

    @cuda.jit(device=True)
    def accumulate(upper, lower, upper_tables, lower_tables, x, half, sums):
        """``sums`` with the products of a block for rows g and g + 8, one for each set of registers or each digit."""
        made, more, third_made, fourth_made = sums
        made = chain(first(upper, upper_tables), first(lower, lower_tables), x, half, made)
        if merged:
            made = chain(second(upper, upper_tables), second(lower, lower_tables), x, half, made)
            if two_digits:
                more = chain(third(upper, upper_tables), third(lower, lower_tables), x, half, more)
                more = chain(fourth(upper, upper_tables), fourth(lower, lower_tables), x, half, more)
            return made, more, third_made, fourth_made
        if sets > 1:
            more = chain(second(upper, upper_tables), second(lower, lower_tables), x, half, more)
        if sets > 2:
            third_made = chain(third(upper, upper_tables), third(lower, lower_tables), x, half, third_made)
            fourth_made = chain(fourth(upper, upper_tables), fourth(lower, lower_tables), x, half, fourth_made)
        return made, more, third_made, fourth_made

    @cuda.jit(device=True)
    def finish(sums, upper_zero, lower_zero):
        """Sums for rows g and g + 8, float32, in units of both steps."""
        added = two_sided and not merged
        upper_sum, lower_sum = joined(both(sums[0], sums[1]) if added else sums[0])
        if two_digits:
            upper_low, lower_low = joined(both(sums[low_at], sums[3]) if added else sums[low_at])
            return (
                ptx.fma(float32(upper_sum), float32(DIGIT_BASE), float32(upper_low)),
                ptx.fma(float32(lower_sum), float32(DIGIT_BASE), float32(lower_low)),
            )
        return float32(int32(upper_sum - upper_zero)), float32(int32(lower_sum - lower_zero))

    return Decoders(load_block, accumulate, finish, no_sums, tables_of, outer_value)
