"""The plain twins of PTX instructions, against exact rational arithmetic (they run in the simulator only)."""

from fractions import Fraction

import numpy as np
import pytest

from kernels_gpu import ptx

pytestmark = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")


def random_floats(seed, count=300):
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(count) * 2.0 ** generator.integers(-8, 8, count)).astype(np.float32)


def nearest(exact):
    """float32 nearest to a fraction, ties to even, by the definition."""
    guess = np.float32(float(exact))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    best = min(abs(Fraction(float(x)) - exact) for x in around)
    tied = [x for x in around if abs(Fraction(float(x)) - exact) == best]
    return min(tied, key=lambda x: int(x.view(np.uint32)) & 1)


def test_fma_rounds_once():
    for a, b, c in zip(random_floats(0), random_floats(1), random_floats(2), strict=True):
        assert ptx.fma(a, b, c) == nearest(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def test_add_up_is_the_smallest_float_not_below_the_sum():
    for a, b in zip(random_floats(3), random_floats(4), strict=True):
        exact, made = Fraction(float(a)) + Fraction(float(b)), ptx.add_up(a, b)
        assert Fraction(float(made)) >= exact > Fraction(float(np.nextafter(made, np.float32(-np.inf))))


def test_saturation():
    assert [float(ptx.add_saturated(a, 0.25)) for a in (-1.0, 0.5, 3.0, float("nan"))] == [0.0, 0.75, 1.0, 0.0]
    assert [float(ptx.tent(np.float32(u), np.float32(5))) for u in (4.0, 4.75, 5.0, 5.5, 9.0)] == [0, 0.25, 0.5, 0, 0]


@pytest.mark.parametrize(("significand", "mantissa_bits"), [(2.0**22, 1), (2.0**23, 0)], ids=["e2m1", "e2m0"])
def test_distance_to_level_is_that_of_the_grid(significand, mantissa_bits):
    grid = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12]) if mantissa_bits else np.array([0.0, 1, 2, 4, 8, 16])
    values = np.linspace(0, 8, 4097).astype(np.float32)
    edges = np.array([1, 2, 4, 8], np.float32)
    for u in np.concatenate([values, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(9))]):
        assert abs(ptx.distance_to_level(u, np.float32(significand))) == np.abs(u - grid).min()


def test_bytes_are_picked_as_prmt_does():
    assert ptx.pick_bytes(0x33221100, 0x77665544, 0x7650) == 0x77665500
    assert ptx.pick_bytes(0x33221100, 0x77665544, 0x7652) == 0x77665522


def test_bit_3_of_a_nibble_asks_for_copies_of_the_top_bit():
    # PTX ISA 8.0, section 9.7.8.7 (prmt, default mode): byte 2 is 0x92, byte 5 is 0x15
    assert ptx.pick_bytes(0x00920000, 0x00001500, 0x00A2) == 0x0000FF92
    assert ptx.pick_bytes(0x00920000, 0x00001500, 0x00D5) == 0x00000015


def test_bits_are_selected_by_a_mask():
    assert ptx.select_bits(0b1100, 0b1010, 0b0110) == 0b1100


def test_bfloat_rounds_to_even():
    # 1 + 2**-8 lies halfway between 1 (0x3F80) and 1 + 2**-7 (0x3F81); 1 + 3 * 2**-8 between 0x3F81 and 0x3F82
    assert [int(ptx.to_bfloat(np.float32(x))) for x in (1 + 2.0**-8, 1 + 3 * 2.0**-8)] == [0x3F80, 0x3F82]


def test_maxima_of_pairs_and_nan():
    one, two, nan = 0x3C00, 0x4000, 0x7E00  # binary16
    assert ptx.maximum_or_nan_halves(one | two << 16, two | one << 16) == two | two << 16
    assert np.isnan(ptx.from_half(ptx.maximum_or_nan_halves(nan, one)))
    assert ptx.maximum_or_nan_bfloats(0x3F80 | 0x4000 << 16, 0x4000 | 0x3F80 << 16) == 0x4000 | 0x4000 << 16
    assert np.isnan(ptx.maximum_or_nan(np.float32("nan"), np.float32(1)))
    assert ptx.maximum(np.float32("nan"), np.float32(1)) == 1


def test_the_reciprocal_root_is_within_its_step():
    for a in np.abs(random_floats(5)):
        exact = 1 / np.sqrt(np.float64(a))
        assert abs(float(ptx.reciprocal_root(a)) - exact) <= exact * 2.0**-24
    assert ptx.reciprocal_root(np.float32(0)) == np.inf and np.isnan(ptx.reciprocal_root(np.float32("nan")))
