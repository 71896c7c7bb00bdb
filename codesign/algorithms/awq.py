"""AWQ: inputs that matter get larger weights before rounding, and are divided by the same factor at run time.

Source: Lin et al., AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration, arXiv 2306.00978,
section 3.2 and the authors' code (MIT). Per input channel ``s = mean|x|^alpha``, with ``alpha`` from 20 points in
[0, 1) and ``s`` divided by the root of its extremes' product; the ``alpha`` with the least squared error of the layer's
output wins. Then the magnitude at which each group is cut off is searched from its maximum down to half of it, again by
output error.

Where this differs: the error is that of the layer's own output on a sample of its inputs (the code takes a whole block
for attention and MLP together), and each layer has a factor of its own, stored with it (``LayerConfig.smoothing``)
instead of being folded into the layer before. The code does not cut off query and key projections: give those layers an
instance with ``clip_steps=0``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.scale import reduce_tiles, store_one_level
from datatypes.tensor import TORCH_FLOATS, QuantizedTensor, expand_tiles

MIN_FACTOR = 1e-4  # floor of mean|x|^alpha (authors' code)
LOWEST_CLIP = 0.5  # of a group's largest magnitude (authors' code: max_shrink)


@dataclass(frozen=True)
class Awq:
    """Activation-aware scaling with cut-off search.

    Args:
        alphas: points of the search for the exponent, from 0 on in steps of ``1 / alphas``.
        clip_steps: cut-off magnitudes tried for each group; 0 for no cut-off.
        tokens: inputs used to measure the output error, at most.
    """

    alphas: int = 20
    clip_steps: int = 20
    tokens: int = 128

    def __post_init__(self) -> None:
        if self.alphas < 1 or self.clip_steps < 0 or self.tokens < 1:
            raise ValueError(
                "alphas and tokens must be at least 1 and clip_steps at least 0, "
                f"not {self.alphas!r}, {self.tokens!r} and {self.clip_steps!r}"
            )

    @property
    def name(self) -> str:
        return "awq"

    @property
    def source(self) -> str:
        return "Lin et al., AWQ, arXiv 2306.00978, section 3.2"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Statistic.ABS_MEAN, Statistic.INPUTS})

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the config does not store the factors (``smoothing``).
        """
        encoding = tensor_config(config, self.name, supports=frozenset({"smoothing"}))
        x = checked_weight(weight, calibration.layer)
        mean = calibration.checked(Statistic.ABS_MEAN, (x.shape[1],)).to(x.device)
        inputs = calibration.checked(Statistic.INPUTS, (-1, x.shape[1])).to(x.device)
        inputs = inputs[:: max(1, len(inputs) // self.tokens)][: self.tokens]
        best_alpha, best_error, best = 0.0, torch.inf, torch.ones_like(mean)
        for i in range(self.alphas):
            alpha = i / self.alphas
            factors = stored_smoothing(_balanced(mean.pow(alpha).clamp_min(MIN_FACTOR)), config, self.name)
            made = quantize_tensor(x * factors, encoding)
            error = float((inputs @ (made.dequantize() / factors - x).T).square().sum(dtype=torch.float64))
            if error < best_error:
                best_alpha, best_error, best = alpha, error, factors
        scaled, scaled_inputs = x * best, inputs / best
        cut = self._cut_off(scaled, scaled_inputs, encoding)
        return QuantizedLayer(
            config=config,
            weight=cut,
            shape=(x.shape[0], x.shape[1]),
            smoothing=best,
            notes={"alpha": best_alpha},
        )

    def _cut_off(self, w: Tensor, inputs: Tensor, config: TensorConfig) -> QuantizedTensor:
        """Encode ``w`` with each group cut off where its part of the output is least in error."""
        plain = quantize_tensor(w, config)
        rows, columns = config.granularity.tile(plain.shape)
        if not self.clip_steps or rows > 1 or config.scale is None or config.scale.outer is not None:
            return plain  # tiles over several rows, and two-level scales, are not cut off
        largest = reduce_tiles(w.abs(), config.granularity, "amax")
        best_limit, best_error = largest, output_error(plain.dequantize() - w, inputs, columns)
        for i in range(1, self.clip_steps):
            limit = largest * (1 - i * (1 - LOWEST_CLIP) / self.clip_steps)
            bound = expand_tiles(limit, config.granularity, plain.shape)
            made = quantize_tensor(torch.clamp(w, -bound, bound), config)
            error = output_error(made.dequantize() - w, inputs, columns)
            better = error < best_error
            best_limit, best_error = torch.where(better, limit, best_limit), torch.where(better, error, best_error)
        bound = expand_tiles(best_limit, config.granularity, plain.shape)
        return quantize_tensor(torch.clamp(w, -bound, bound), config)


def output_error(difference: Tensor, inputs: Tensor, columns: int) -> Tensor:
    """Squared error that each group of ``columns`` adds to the outputs by itself, ``[n, groups]``."""
    parts = [
        (inputs[:, start : start + columns] @ difference[:, start : start + columns].T).square().sum(0)
        for start in range(0, difference.shape[1], columns)
    ]
    return torch.stack(parts, 1)


def stored_smoothing(factors: Tensor, config: LayerConfig, algorithm: str) -> Tensor:
    """Factors as they are after storage, float32.

    Raises:
        ValueError: the config does not say how they are stored, or not as floats.
    """
    if config.smoothing is None:
        raise ValueError(f"config must hold smoothing for {algorithm}, not None")
    if config.smoothing.name not in TORCH_FLOATS:
        raise ValueError(f"smoothing must be one of {', '.join(TORCH_FLOATS)}, not {config.smoothing.name!r}")
    return store_one_level(factors, config.smoothing).to(torch.float32)


def _balanced(factors: Tensor) -> Tensor:
    return factors / (factors.max() * factors.min()).sqrt()
