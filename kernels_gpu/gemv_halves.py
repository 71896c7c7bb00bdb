"""Device functions of the GEMV for floats of 5 to 8 bits: codes to pairs of half-precision numbers, and their products.

A code in the upper bits of a byte is, eight bits further up, a half but for the place of its exponent: bits below the
sign move down by ``5 - exponent_bits``. Subnormals come out right, and all values carry one factor 2**(bias - 15).
A pair takes a permutation and three instructions more; E5M2 the permutation alone; E4M3 of OFP8, whose code of ones is
NaN, one conversion (``cvt.rn.f16x2.e4m3x2``).

Inputs become halves too, each run of 128 divided by a power of two, so that neither float16 nor bfloat16 inputs lose
anything but what is 2**-36 of their run's largest magnitude. A lane computes two columns for each token, which are
equal: so the rest of the kernel need not know.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import HALF_EXPONENT_BITS, Plan
from kernels_gpu.gemv_planes import make_joined

SIGNS = 0x80008000
LOWER_BYTES, UPPER_BYTES = 0x1404, 0x3424  # bytes 0 and 1 (2 and 3) of a word, each above a byte of zeros


def make_pairs(plan: Plan) -> Any:
    """Device function ``(words) -> sixteen words`` of two halves, for a block of 32 codes.

    Eight codes make four words: of codes 0 and 2, 4 and 6, 1 and 3, 5 and 7; in order for 8 bits.
    """
    shift = HALF_EXPONENT_BITS - plan.exponent_bits
    below_sign = (0x7FFF >> shift) * 0x00010001

    if plan.one_nan:

        @cuda.jit(device=True)
        def two(register):
            return ptx_tile.halves_of_e4m3(register), ptx_tile.halves_of_e4m3(uint32(register >> uint32(16)))
    elif shift == 0:

        @cuda.jit(device=True)
        def two(register):
            zero = uint32(0)
            return (
                ptx.pick_bytes(register, zero, uint32(LOWER_BYTES)),
                ptx.pick_bytes(register, zero, uint32(UPPER_BYTES)),
            )
    else:

        @cuda.jit(device=True)
        def moved(pair):
            return ptx.and_or(pair, uint32(SIGNS), uint32((pair >> uint32(shift)) & uint32(below_sign)))

        @cuda.jit(device=True)
        def two(register):
            zero = uint32(0)
            return (
                moved(ptx.pick_bytes(register, zero, uint32(LOWER_BYTES))),
                moved(ptx.pick_bytes(register, zero, uint32(UPPER_BYTES))),
            )

    joined = None if plan.bits == 8 else make_joined(plan.bits)
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
