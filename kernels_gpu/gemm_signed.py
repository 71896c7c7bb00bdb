"""Device functions of the GEMM: blocks of 32 floats of four bits (E2M1: FP4, MXFP4, NVFP4) to scaled halves.

A half whose significand has at most three bits has nothing in its low byte, so eight magnitudes are eight bytes: two
registers, in which a byte permutation looks four codes up. Eight codes to four words, in order:

    magnitudes    codes without their sign; those of the upper four; two lookups            4
    signs         the even codes' above the odd ones'; bytes in order; merged               1 + 2 + 2
    halves        each byte above one of zeros                                              4
    scaled        a product for two weights                                                 4

Values are exact, and a product with the group's scale rounds once; with E4M3 scales (NVFP4) it does not round: four
significant bits by two, 2**-10 to 2688. What halves do not hold of scales is moved to the magnitudes, by powers of two:

    E4M3          the scale's bits in a half are 2**-8 times the scale; a code of ones becomes NaN, not 480
    E8M0          one factor of 2**-24 to 2**15, and magnitudes of two sizes, so that it reaches every product that a
                  half holds: larger ones are infinite, smaller ones zero
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, uint32

from kernels_gpu import ptx
from kernels_gpu.gemm_halves import table_values
from kernels_gpu.gemm_ptx import fma_halves, multiply_halves, pair_of, rounded_pair
from kernels_gpu.gemv_halves import BYTE_SIGNS
from kernels_gpu.gemv_plan import Decoding, Plan, ScaleKind, word_of
from kernels_gpu.gemv_planes import bytes_in_turn

CODE_SIGNS = 0x88888888
E4M3_POWER = 8  # the bias of halves over that of E4M3
LARGEST_POWER, SMALLEST_POWER = 15, -24  # of two, that are halves
E8M0_BIAS, E8M0_NAN = 127, 255
_NAN_PAIR = 0x7FFF7FFF


def magnitudes(plan: Plan) -> tuple[float, ...] | None:
    """Values of codes 0 to 7 where codes 8 to 15 are their negatives, and all are bytes of halves; else ``None``.

    >>> from kernels_gpu.gemv_plan import plan_of
    >>> from kernels_gpu.gemv_recipes import RECIPES
    >>> magnitudes(plan_of(RECIPES["mxfp4"]))
    (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    >>> magnitudes(plan_of(RECIPES["nf4_g64"])), magnitudes(plan_of(RECIPES["bitmod4_g128"]))
    (None, None)
    """
    if plan.decoding is not Decoding.TABLE or plan.bits != 4 or plan.digits != 1 or len(plan.tables) != 1:
        return None
    if plan.zero_bits or plan.learned:
        return None
    values = [unit * plan.step for unit in table_values(plan)]
    lower, upper = values[:8], values[8:]
    if any(a < 0 or b != -a for a, b in zip(lower, upper, strict=True)):
        return None
    return tuple(lower) if _bytes_of(lower, 0) is not None else None


def _bytes_of(values: list[float] | tuple[float, ...], power: int) -> tuple[int, int] | None:
    """Two words of the high bytes of ``2**power`` times each value as a half; ``None`` where these are not all."""
    scaled = np.array(values) * 2.0**power
    bits = scaled.astype(np.float16).view(np.uint16).tolist()
    if (scaled.astype(np.float16) != scaled).any() or any(b & 0xFF for b in bits):
        return None
    return word_of([b >> 8 for b in bits[:4]]), word_of([b >> 8 for b in bits[4:]])


def magnitude_words(values: tuple[float, ...], power: int) -> tuple[int, int]:
    """Two words of eight magnitudes, times a power of two.

    Raises:
        ValueError: they are not bytes of halves.
    """
    made = _bytes_of(values, power)
    if made is None:
        raise ValueError(f"magnitudes must be bytes of halves, not {values!r} times 2**{power}")
    return made


@cuda.jit(device=True)
def _spread(ordered, factor):
    """Four bytes to two words of scaled halves."""
    first, second = bytes_in_turn(uint32(0), ordered)
    return multiply_halves(first, factor), multiply_halves(second, factor)


@cuda.jit(device=True)
def _eight(word, t0, t1, factor):
    """Four words of eight codes, in order."""
    plain, even = uint32(word & uint32(~CODE_SIGNS & 0xFFFFFFFF)), uint32(word << uint32(4))
    lower, upper = ptx.pick_bytes(t0, t1, plain), ptx.pick_bytes(t0, t1, uint32(plain >> uint32(16)))
    lower_signs, upper_signs = bytes_in_turn(even, word)
    lower = ptx.and_or(lower_signs, uint32(BYTE_SIGNS), lower)
    upper = ptx.and_or(upper_signs, uint32(BYTE_SIGNS), upper)
    return _spread(lower, factor) + _spread(upper, factor)


@cuda.jit(device=True)
def signed_block(codes, factor, t, more, u):
    """Sixteen words of 32 codes; a factor and two words of magnitudes for each half."""
    return (
        _eight(codes[0], t[0], t[1], factor) + _eight(codes[1], t[0], t[1], factor)
        + _eight(codes[2], u[0], u[1], more) + _eight(codes[3], u[0], u[1], more)
    )  # fmt: skip


def signed_words(plan: Plan) -> tuple[int, int, int, int]:
    """Words of magnitudes: for E8M0 those for large scales, then those for small ones."""
    values = magnitudes(plan)
    assert values is not None  # as the caller has found
    large = small = E4M3_POWER if plan.scale is ScaleKind.UE4M3 else 0
    if plan.scale is ScaleKind.E8M0:
        large, small = powers_of(values)
    return magnitude_words(values, large) + magnitude_words(values, small)


def make_factors(plan: Plan) -> Any:
    """Device function of a block's stored scales: a factor in both halves of a word, and whether it is a small one.

    For each half of the block; the latter are those of E8M0 that take the last two of ``signed_words``.
    ``(bits, more)``: stored scales as ``gemm.make_stored`` gives them; ``more`` is the second one of two halves.
    """
    values = magnitudes(plan)
    if values is not None and plan.scale is ScaleKind.UE4M3:
        return _make_e4m3_factors(plan)
    if values is not None and plan.scale is ScaleKind.E8M0:
        one = _make_e8m0_factor(values)
    else:
        unit, minus_1024, is_half = pair_of(1.0), pair_of(-1024.0), plan.scale is ScaleKind.FP16

        @cuda.jit(device=True)
        def one(bits):
            pair = ptx.pick_bytes(bits, bits, uint32(0x1010))
            if not is_half:  # an integer of eight bits in the last places of 1024
                pair = fma_halves(uint32(pair | uint32(0x64006400)), uint32(unit), uint32(minus_1024))
            return pair, False

    if plan.group != 16:

        @cuda.jit(device=True)
        def factors(bits, more):
            made = one(bits)
            return made, made
    elif plan.scale is not ScaleKind.FP16:  # two bytes

        @cuda.jit(device=True)
        def factors(bits, more):
            return one(uint32(bits & uint32(0xFF))), one(uint32(bits >> uint32(8)))
    else:

        @cuda.jit(device=True)
        def factors(bits, more):
            return one(bits), one(more)

    return factors


def _make_e4m3_factors(plan: Plan) -> Any:
    two = plan.group == 16

    @cuda.jit(device=True)
    def halves(pair):
        """Halves of 2**-8 times E4M3 codes, from one in each half of a word."""
        code = uint32(pair & uint32(0x007F007F))
        # all ones carry into the next bit, which makes their exponent one of NaN
        marked = ptx.and_or(uint32(code + uint32(0x00010001)), uint32(0x00800080), code)
        return uint32(marked << uint32(7))

    @cuda.jit(device=True)
    def factors(bits, more):
        if not two:
            pair = halves(ptx.pick_bytes(bits, uint32(0), uint32(0x4040)))
            return (pair, False), (pair, False)
        pair = halves(ptx.pick_bytes(bits, uint32(0), uint32(0x4140)))
        first, second = ptx.pick_bytes(pair, pair, uint32(0x1010)), ptx.pick_bytes(pair, pair, uint32(0x3232))
        return (first, False), (second, False)

    return factors


def powers_of(values: tuple[float, ...]) -> tuple[int, int]:
    """Powers of two by which magnitudes are multiplied for large and for small scales of E8M0.

    With the first the smallest magnitude is at least 2, so that the largest factor makes all of them infinite and
    larger ones may be cut to it; with the second the largest is at most 1/2, so that the smallest makes them zero.

    >>> powers_of((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))
    (2, -4)
    """
    smallest = min(value for value in values if value > 0)
    return 2 - math.frexp(smallest)[1], min(0, -1 - math.ceil(math.log2(max(values))))


def _make_e8m0_factor(values: tuple[float, ...]) -> Any:
    """Device function ``bits -> (factor, whether the scale is small)``."""
    large, small = powers_of(values)
    from_large = E8M0_BIAS + SMALLEST_POWER + large  # the first code whose factor is a half
    last = E8M0_BIAS + LARGEST_POWER + large

    @cuda.jit(device=True)
    def one(bits):
        code = uint32(last) if bits > uint32(last) else uint32(bits)
        is_small = bits < uint32(from_large)
        exponent = uint32(code + uint32(-small)) if is_small else uint32(code - uint32(large))
        pair = rounded_pair(ptx.bits_float(uint32(exponent << uint32(23))))
        if bits == uint32(E8M0_NAN):
            pair = uint32(_NAN_PAIR)
        return pair, is_small

    return one
