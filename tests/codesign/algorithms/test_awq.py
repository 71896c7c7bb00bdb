"""AWQ: the search for the exponent and for the cut-off, each against a direct computation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.algorithms.awq import Awq, output_error
from codesign.algorithms.rtn import RoundToNearest
from codesign.calibration import LayerCalibration, Statistic
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import FP16, FP32, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor

CONFIG = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[3],), PerGroup(16), ScaleConfig(FP32)), smoothing=FP32)


def test_exponent_has_the_least_output_error(layer) -> None:
    """All 20 exponents by the paper's formula in float64, on all inputs that the algorithm sees."""
    made = Awq(clip_steps=0, tokens=1000).quantize(layer.weight, layer.calibration, CONFIG)
    inputs = layer.calibration[Statistic.INPUTS].double()
    mean = layer.inputs.double().abs().mean(0)
    errors = []
    for i in range(20):
        s = mean.pow(i / 20).clamp_min(1e-4)
        s = (s / (s.max() * s.min()).sqrt()).float()
        decoded = quantize_tensor(layer.weight * s, CONFIG.weight).dequantize() / s
        errors.append(float((inputs @ (decoded - layer.weight).double().T).square().sum()))
    assert made.notes["alpha"] == errors.index(min(errors)) / 20 > 0


def test_exponent_zero_is_round_to_nearest(layer) -> None:
    made = Awq(alphas=1, clip_steps=0).quantize(layer.weight, layer.calibration, CONFIG)
    nearest = RoundToNearest().quantize(layer.weight, layer.calibration, replace(CONFIG, smoothing=None))
    assert torch.equal(made.smoothing, torch.ones(80))
    assert torch.equal(made.dequantize_weight(), nearest.dequantize_weight())


def test_cut_off_lowers_the_error_of_each_group(layer) -> None:
    plain = Awq(clip_steps=0, tokens=1000).quantize(layer.weight, layer.calibration, CONFIG)
    cut = Awq(tokens=1000).quantize(layer.weight, layer.calibration, CONFIG)
    assert torch.equal(plain.smoothing, cut.smoothing)
    scaled, inputs = layer.weight * cut.smoothing, layer.calibration[Statistic.INPUTS] / cut.smoothing
    before = output_error(plain.weight.dequantize() - scaled, inputs, 16)
    after = output_error(cut.weight.dequantize() - scaled, inputs, 16)
    assert (after <= before * (1 + 1e-5)).all() and after.sum() < before.sum()


def test_output_error_of_groups_by_hand() -> None:
    """One row, groups of 2, inputs (1, 2, 3) and (0, 1, 1); difference (1, -1, 2): (-1)^2 + (-1)^2 and 6^2 + 2^2."""
    inputs = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]])
    assert output_error(torch.tensor([[1.0, -1.0, 2.0]]), inputs, 2).tolist() == [[2.0, 40.0]]


def test_factors_are_stored_and_undone(layer) -> None:
    config = replace(CONFIG, smoothing=FP16)
    made = Awq().quantize(layer.weight, layer.calibration, config)
    assert torch.equal(made.smoothing, made.smoothing.half().float())
    assert torch.equal(made.dequantize_weight(), made.weight.dequantize() / made.smoothing)
    assert made.config.storage_bits((24, 80)).vectors == 16 * 80


def test_two_level_scales_are_not_cut_off(layer) -> None:
    config = LayerConfig(weight=BLOCK_FORMATS["bitmod4_g128_uint8"], smoothing=FP16)
    made = Awq().quantize(layer.weight, layer.calibration, config)
    without = Awq(clip_steps=0).quantize(layer.weight, layer.calibration, config)
    assert torch.equal(made.dequantize_weight(), without.dequantize_weight())


def test_dead_inputs_are_harmless(layer) -> None:
    statistics = dict(layer.calibration.statistics)
    statistics[Statistic.ABS_MEAN] = torch.zeros(80)
    made = Awq().quantize(layer.weight, LayerCalibration("layer", 1, statistics), CONFIG)
    assert torch.isfinite(made.dequantize_weight()).all()


def test_factors_need_a_place(layer) -> None:
    with pytest.raises(ValueError, match="config must hold smoothing for awq, not None"):
        Awq().quantize(layer.weight, layer.calibration, replace(CONFIG, smoothing=None))
    with pytest.raises(ValueError, match="smoothing must be one of fp16, bf16, fp32, not .int8_sym."):
        Awq().quantize(layer.weight, layer.calibration, replace(CONFIG, smoothing=BLOCK_INT8))


BLOCK_INT8 = BLOCK_FORMATS["int8_tensor_fp16"].formats[0]


def test_bad_hyper_parameters() -> None:
    with pytest.raises(ValueError, match="alphas and tokens must be at least 1 and clip_steps at least 0, not 0, 128"):
        Awq(alphas=0)
