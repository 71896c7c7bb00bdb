"""SmoothQuant: the factor by formula, and what it does to W8A8."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.algorithms.smoothquant import SmoothQuant
from codesign.calibration import Statistic
from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import FP32, INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantize import quantize_tensor

CONFIG = LayerConfig(weight=BLOCK_FORMATS["int8_channel_fp16"], smoothing=FP32)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85, 1.0])
def test_factor_is_the_papers(alpha: float, layer) -> None:
    made = SmoothQuant(alpha).quantize(layer.weight, layer.calibration, CONFIG)
    x, w = layer.inputs.double().abs().amax(0), layer.weight.double().abs().amax(0)
    torch.testing.assert_close(made.smoothing.double(), x**alpha / w ** (1 - alpha), rtol=1e-5, atol=0)


def test_half_evens_out_inputs_and_weights(layer) -> None:
    """Section 4: at alpha = 0.5 the maxima of x/s and w s are equal in every channel."""
    made = SmoothQuant().quantize(layer.weight, layer.calibration, CONFIG)
    x = (layer.inputs / made.smoothing).abs().amax(0)
    w = (layer.weight * made.smoothing).abs().amax(0)
    torch.testing.assert_close(x, w, rtol=1e-4, atol=0)


def test_eight_bit_products_gain(layer) -> None:
    """Inputs with loud channels, a scale for each token: the product's error falls."""
    tokens = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=False)
    exact = layer.inputs @ layer.weight.T

    def error(weight: torch.Tensor, inputs: torch.Tensor) -> float:
        return float((quantize_tensor(inputs, tokens).dequantize() @ weight.T - exact).square().sum())

    made = SmoothQuant().quantize(layer.weight, layer.calibration, CONFIG)
    plain = quantize_tensor(layer.weight, CONFIG.weight).dequantize()
    assert error(made.weight.dequantize(), layer.inputs / made.smoothing) < error(plain, layer.inputs)


def test_needs_a_place_and_a_share(layer) -> None:
    assert SmoothQuant().needs == {Statistic.ABS_MAX}
    with pytest.raises(ValueError, match="config must hold smoothing for smoothquant, not None"):
        SmoothQuant().quantize(layer.weight, layer.calibration, replace(CONFIG, smoothing=None))
    with pytest.raises(ValueError, match=r"alpha must be 0 to 1, not 1\.5"):
        SmoothQuant(1.5)
