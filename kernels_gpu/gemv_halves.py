"""Device functions of the GEMV for floats of 5 to 8 bits: codes to pairs of half-precision numbers, and their products.

A code in the upper bits of a byte is, eight bits further up, a half but for the place of its exponent: bits below the
sign move down by ``5 - exponent_bits``. Subnormals come out right, and all values carry one factor 2**(bias - 15).
Bits move while four codes are bytes of a word; two permutations then put each above its lower byte, which is zero but
for bits that were moved out. E5M2 takes the permutations alone; E4M3 of OFP8, whose code of ones is NaN, one
conversion a pair (``cvt.rn.f16x2.e4m3x2``).

Inputs become halves too, each run of 128 divided by a power of two, so that neither float16 nor bfloat16 inputs lose
anything but what is 2**-36 of their run's largest magnitude. A lane computes two columns for each token, which are
equal: so the rest of the kernel need not know.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint32

from hwmodel.units import BYTE_BITS
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import HALF_EXPONENT_BITS, Plan, word_of
from kernels_gpu.gemv_planes import bytes_in_turn, looked_up_2, make_joined

BYTE_SIGNS = 0x80808080


def make_pairs(plan: Plan) -> Any:
    """Device function ``(words) -> sixteen words`` of two halves, for a block of 32 codes.

    Eight codes make four words: of codes 0 and 2, 4 and 6, 1 and 3, 5 and 7; in order for 8 bits.
    """
    shift = HALF_EXPONENT_BITS - plan.exponent_bits
    if plan.bits == 6:
        return _make_pairs_of_six(shift)
    if plan.one_nan:

        @cuda.jit(device=True)
        def two(register):
            return ptx_tile.halves_of_e4m3(register), ptx_tile.halves_of_e4m3(uint32(register >> uint32(16)))
    elif shift == 0:

        @cuda.jit(device=True)
        def two(register):
            return bytes_in_turn(uint32(0), register)
    else:
        out = max(0, shift - (BYTE_BITS - plan.bits))  # bits of a code that fall below its half's upper byte
        below, moved_out = word_of([0x7F >> shift] * 4), word_of([0xFF << (BYTE_BITS - out)] * 4)

        @cuda.jit(device=True)
        def two(register):
            upper = ptx.and_or(register, uint32(BYTE_SIGNS), uint32((register >> uint32(shift)) & uint32(below)))
            lower = uint32(0)
            if out > 0:
                lower = uint32((register << uint32(BYTE_BITS - shift)) & uint32(moved_out))
            return bytes_in_turn(lower, upper)

    joined = None if plan.bits == BYTE_BITS else make_joined(plan.bits)
    if joined is None:

        @cuda.jit(device=True)
        def registers(words):
            return words
    else:

        @cuda.jit(device=True)
        def registers(words):
            return joined(words, words)

    @cuda.jit(device=True)
    def pairs(words):
        r = registers(words)
        return two(r[0]) + two(r[1]) + two(r[2]) + two(r[3]) + two(r[4]) + two(r[5]) + two(r[6]) + two(r[7])

    return pairs


def _make_pairs_of_six(shift: int) -> Any:
    """``make_pairs`` for 6 bits, of which the upper four and the lower two are in planes of their own.

    Upper bytes are made of both planes at once: sign, three bits moved by ``shift``, and what the lower two give.
    """
    # by the lower two bits of a code: what of a half's upper and lower byte they make
    moved = [code << 2 + BYTE_BITS >> shift for code in range(4)]
    of_upper, of_lower = word_of([bits >> BYTE_BITS for bits in moved]), word_of(moved)
    below = word_of([0x70 >> shift] * 4)

    @cuda.jit(device=True)
    def eight(word, even_upper, odd_upper, even_lower, odd_lower):
        """Eight words of halves: of codes 0 and 2, 4 and 6, 1 and 3, 5 and 7 of a word of nibbles."""
        shifted = uint32(word << uint32(4))
        even = ptx.and_or(uint32(word << uint32(4 - shift)), uint32(below), even_upper)
        odd = ptx.and_or(uint32(word >> uint32(shift)), uint32(below), odd_upper)
        even, odd = ptx.and_or(shifted, uint32(BYTE_SIGNS), even), ptx.and_or(word, uint32(BYTE_SIGNS), odd)
        return bytes_in_turn(even_lower, even) + bytes_in_turn(odd_lower, odd)

    @cuda.jit(device=True)
    def sixteen(first, second, low):
        """Of two words of nibbles and one of pairs."""
        upper, lower = looked_up_2(low, uint32(of_upper)), looked_up_2(low, uint32(of_lower))
        if of_lower == 0:
            zero = uint32(0)
            lower = zero, zero, zero, zero
        return eight(first, upper[0], upper[1], lower[0], lower[1]) + eight(
            second, upper[2], upper[3], lower[2], lower[3]
        )

    @cuda.jit(device=True)
    def pairs(words):
        return sixteen(words[0], words[1], words[4]) + sixteen(words[2], words[3], words[5])

    return pairs


def make_half_products(plan: Plan) -> tuple[Any, Any, Any]:
    """Device functions like ``accumulate``, ``finish`` and ``no_sums`` of ``gemv_decode.Decoders``.

    There are no tables and no zero points.
    """
    split = plan.group == 16
    pairs, product = make_pairs(plan), ptx_tile.product_half

    @cuda.jit(device=True)
    def no_sums():
        zero = float32(0)
        return zero, zero, zero, zero

    @cuda.jit(device=True)
    def accumulate(upper, lower, upper_tables, lower_tables, x, half, sums):
        a, b = pairs(upper), pairs(lower)
        total = sums
        if not split or half == 0:
            total = product(a[0], b[0], a[1], b[1], x[0], x[1], total)
            total = product(a[2], b[2], a[3], b[3], x[2], x[3], total)
            total = product(a[4], b[4], a[5], b[5], x[4], x[5], total)
            total = product(a[6], b[6], a[7], b[7], x[6], x[7], total)
        if not split or half == 1:
            total = product(a[8], b[8], a[9], b[9], x[8], x[9], total)
            total = product(a[10], b[10], a[11], b[11], x[10], x[11], total)
            total = product(a[12], b[12], a[13], b[13], x[12], x[13], total)
            total = product(a[14], b[14], a[15], b[15], x[14], x[15], total)
        return total

    @cuda.jit(device=True)
    def finish(sums, upper_zero, lower_zero):
        return sums[0], sums[2]

    return accumulate, finish, no_sums
