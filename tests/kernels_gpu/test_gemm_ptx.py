"""Pairs of half-precision numbers: the plain twins against exact rational arithmetic, the constants by definition."""

from fractions import Fraction

import numpy as np
import pytest

from kernels_gpu import gemm_ptx, ptx

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")
LARGEST, SMALLEST = Fraction(65504), Fraction(1, 1 << 24)  # of binary16: IEEE 754-2019


def nearest_half(exact):
    """Bits of the half nearest to a fraction, ties to even; infinity beyond 65504 and half a step."""
    if abs(exact) >= LARGEST + 16:
        return 0x7C00 if exact > 0 else 0xFC00
    step = SMALLEST
    while abs(exact) >= 2048 * step:  # eleven bits of significand
        step *= 2
    made = round(exact / step) * step  # Fraction rounds halves to even
    return int(np.float16(float(made)).view(np.uint16)) & (0x7FFF if made == 0 else 0xFFFF)


def random_halves(seed, count, widest):
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(count) * 2.0 ** generator.integers(-widest, widest + 1, count)
    return values.astype(np.float16)


def same(made, wanted):
    """Whether bits are equal; a fraction does not know the sign of zero."""
    return made == wanted or made & 0x7FFF == 0 == wanted


def pair(low, high):
    return np.uint32(int(low.view(np.uint16)) | int(high.view(np.uint16)) << 16)


@simulated
@pytest.mark.parametrize("widest", [2, 14])  # sums that cancel; products from below the smallest to infinity
def test_products_and_sums_round_once(widest):
    a, b, c = (random_halves(seed, 400, widest) for seed in range(3))
    c[::3] = -(a[::3] * b[::3])  # what is left is the rounding of the product
    for i in range(0, len(a), 2):
        words = [pair(x[i], x[i + 1]) for x in (a, b, c)]
        product, total = gemm_ptx.multiply_halves(*words[:2]), gemm_ptx.fma_halves(*words)
        for j in range(2):
            exact = Fraction(float(a[i + j])) * Fraction(float(b[i + j]))
            assert same(int(product) >> 16 * j & 0xFFFF, nearest_half(exact))
            if np.isfinite(c[i + j]):
                assert same(int(total) >> 16 * j & 0xFFFF, nearest_half(exact + Fraction(float(c[i + j]))))


@simulated
def test_a_float_is_rounded_to_both_halves():
    values = np.random.default_rng(5).standard_normal(400).astype(np.float32) * np.float32(2.0) ** np.arange(
        -30, 20, 0.125
    )
    for value in [*values.astype(np.float32), np.float32(65520), np.float32(2**-25)]:
        made = int(gemm_ptx.rounded_pair(value))
        assert made >> 16 == made & 0xFFFF and same(made & 0xFFFF, nearest_half(Fraction(float(value))))


@simulated
def test_logic_is_that_of_the_table_of_lop3():
    # PTX ISA 8.0, section 9.7.7.6: the table is what the operation makes of 0xF0, 0xCC and 0xAA; 0x6A in the kernel
    assert int(gemm_ptx.and_xor(0xF0, 0xCC, 0xAA)) & 0xFF == 0x6A
    assert gemm_ptx.and_xor(0xFFFF0000, 0x12345678, 0xFFFFFFFF) == 0x1234FFFF ^ 0xFFFF0000 ^ 0x0000FFFF ^ 0xFFFF


@simulated
def test_one_value_in_both_halves():
    both = gemm_ptx.both_halves.fn
    assert both(np.float32(1.5)) == 0x3E003E00 and both(np.float32(-2.0)) == 0xC000C000


def test_constants_must_be_halves():
    assert gemm_ptx.pair_of(-0.5) == 0xB800B800
    with pytest.raises(ValueError, match="a constant of half precision must be exact, not 0.1"):
        gemm_ptx.pair_of(0.1)
