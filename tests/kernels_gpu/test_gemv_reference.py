"""The inputs' fixed point and the tolerance, by their definitions."""

import numpy as np
import torch

from datatypes.quantize import quantize_tensor
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.gemv_reference import LEVELS, fixed_point, reference, tolerance


def test_inputs_are_off_by_half_a_unit_of_their_run_at_most():
    x = np.random.default_rng(0).standard_normal((3, 300)).astype(np.float16).astype(np.float32)
    for start in (0, 128, 256):
        run = x[:, start : start + 128]
        unit = np.abs(run).max(1, keepdims=True) / LEVELS
        # 2**-22 of a value: the roundings of the unit and of its reciprocal
        assert (np.abs(fixed_point(x)[:, start : start + 128] - run) <= unit / 2 + np.abs(run) * 2.0**-22).all()


def test_the_largest_input_of_a_run_is_kept():
    x = np.zeros((1, 256), np.float32)
    x[0, 5], x[0, 200] = 3.0, -0.125
    assert np.allclose(fixed_point(x), x, rtol=2.0**-22)


def test_zeros_stay_zeros_and_a_nan_or_infinity_spoils_its_run_alone():
    x = np.ones((3, 256), np.float32)
    x[0, 3], x[1, 200] = np.nan, np.inf
    x[2] = 0
    made = fixed_point(x)
    assert np.isnan(made[0, :128]).all() and np.allclose(made[0, 128:], 1, rtol=2.0**-22)
    assert np.isnan(made[1, 128:]).all() and (made[2] == 0).all()


def test_the_reference_is_within_the_tolerance_and_not_far_below():
    torch.manual_seed(0)
    weight = quantize_tensor(torch.randn(64, 512), RECIPES["int4_g128"]).dequantize()
    x = torch.randn(2, 512).half()
    expected = x.double() @ weight.double().T
    allowed = tolerance(x, weight, plan_of(RECIPES["int4_g128"]), expected)
    error = np.abs(reference(x.float().numpy(), weight.numpy()) - expected.numpy())
    assert (error <= allowed.numpy()).all()
    assert (allowed < 0.01 * expected.abs().mean()).all()  # a wrong code, scale or input would be seen
