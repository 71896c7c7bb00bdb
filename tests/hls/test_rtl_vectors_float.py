"""The rounding that float MACs are compared with, against ``datatypes`` and NumPy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from datatypes.catalog import FP16, MINIFLOATS
from hls.rtl_vectors_float import accumulated, round_float


def integer_part(value: float, lowest: int) -> tuple[int, int]:
    """A float as numerator and exponent, counted from 2**lowest."""
    fraction = Fraction(value) / Fraction(2) ** lowest
    exponent = 1 - fraction.denominator.bit_length()
    return int(fraction * 2**-exponent), exponent


def test_every_midpoint_and_neighbour_of_fp16_rounds_as_its_table_says():
    values = FP16.code_values[:0x7C00].astype(np.float64)  # positive and finite
    rng = np.random.default_rng(1)
    low = rng.choice(len(values) - 1, 2000)
    middle = (values[low] + values[low + 1]) / 2
    for value in [*middle, *(middle * (1 + 2e-9)), *(middle * (1 - 2e-9)), 7e4, 2.0**-26]:
        assert round_float(*integer_part(float(value), -24), 5, 10) == FP16.encode_scalar(float(value))


def test_fp32_rounds_as_numpy_does():
    rng = np.random.default_rng(2)
    doubles = rng.normal(size=2000) * 2.0 ** rng.integers(-140, 100, 2000)
    for value in doubles.tolist():
        assert round_float(*integer_part(value, -149), 8, 23) == int(np.float32(value).view(np.uint32))


def test_without_a_reserved_top_field_the_largest_code_is_all_ones():
    e4m3 = MINIFLOATS["e4m3"]  # all codes finite: largest 480
    assert round_float(10**6, 0, 4, 3, reserved_top=False) == 0x7F == e4m3.encode_scalar(1e6)


@pytest.mark.parametrize("sign", [1, -1])
def test_accumulation_rounds_after_every_addition(sign):
    # FP16 steps of 2**-24: 2048 = 2**35 steps has a spacing of 2, so adding 1 (2**24 steps) twice changes nothing,
    # while adding 2 at once does.
    addends = np.array([[sign * 2**35], [sign * 2**24], [sign * 2**24], [sign * 2**25]], dtype=object)
    restart = np.array([[True], [False], [False], [False]])
    codes = accumulated(addends, np.zeros((4, 1), int), restart, (5, 10))[:, 0]
    values = [float(FP16.code_values[int(code)]) for code in codes]
    assert values == [sign * 2048.0, sign * 2048.0, sign * 2048.0, sign * 2050.0]
