"""SmoothQuant: part of the spread of the inputs moves into the weights, so that both survive 8 bits.

Source: Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models,
arXiv 2211.10438, section 4 (MIT). For each input channel

    s_j = max|x_j|^alpha / max|w_j|^(1 - alpha),

the input is divided by ``s`` and the weight multiplied by it before both are rounded to the nearest.

Where this differs: each layer has a vector of its own, stored with it (``LayerConfig.smoothing``); the paper takes the
largest weight over all layers that share an input and folds ``1/s`` into the norm before, and so leaves out the inputs
of the output and down projections.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from codesign.algorithms.awq import stored_smoothing
from codesign.algorithms.base import checked_weight, tensor_config
from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer

MIN_MAGNITUDE = 1e-5  # of weights and of the factors (authors' code)


@dataclass(frozen=True)
class SmoothQuant:
    """Smoothing, then round-to-nearest.

    Args:
        alpha: share of the spread that moves; 0.5 for OPT and BLOOM (paper), 0.85 for Llama-2 (authors' code).
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be 0 to 1, not {self.alpha!r}")

    @property
    def name(self) -> str:
        return "smoothquant"

    @property
    def source(self) -> str:
        return "Xiao et al., SmoothQuant, arXiv 2211.10438, section 4"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Statistic.ABS_MAX})

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the config does not store the factors (``smoothing``).
        """
        encoding = tensor_config(config, self.name, supports=frozenset({"smoothing"}))
        x = checked_weight(weight, calibration.layer)
        inputs = calibration.checked(Statistic.ABS_MAX, (x.shape[1],)).to(x.device).clamp_min(MIN_MAGNITUDE)
        weights = x.abs().amax(0).clamp_min(MIN_MAGNITUDE)
        factors = (inputs.pow(self.alpha) / weights.pow(1 - self.alpha)).clamp_min(MIN_MAGNITUDE)
        factors = stored_smoothing(factors, config, self.name)
        made = quantize_tensor(x * factors, encoding)
        return QuantizedLayer(config=config, weight=made, shape=(x.shape[0], x.shape[1]), smoothing=factors)
