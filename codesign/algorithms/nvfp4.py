"""NVFP4 with a sweep of the block scale: of the E4M3 scales near the usual one, the block keeps the best.

Format: E2M1 elements in blocks of 16, an unsigned E4M3 scale for each block, an FP32 scale for the tensor
(NVIDIA, NVFP4; Transformer Engine documentation). The tensor scale is ``max|x| / (6 * 448)``. The usual block scale
maps the block's maximum to 6, rounded to E4M3; with the sweep each block tries the E4M3 neighbours of that scale and
keeps the least squared error. Eight codes of E4M3 are a factor of two: the default window reaches from some clipping
to the maximum landing on 3; on normal and Student-t weights no block of a full sweep ever left it.

Without the sweep this is ``RoundToNearest`` on the same config.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.calibration import LayerCalibration, Statistic
from datatypes import quantize_cpu
from datatypes.catalog import UE4M3
from datatypes.layer_config import LayerConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.rounding import decode, encode
from datatypes.scale import reduce_tiles
from datatypes.tensor import QuantizedTensor, expand_tiles

LAST_SCALE_CODE = 126  # of UE4M3: 448; code 127 is NaN (OCP OFP8 1.0, E4M3)


@dataclass(frozen=True)
class Nvfp4:
    """NVFP4 with the block scale chosen by squared error.

    Args:
        codes_below, codes_above: E4M3 codes tried on each side of the usual scale; 126 on both sides tries them all.
    """

    codes_below: int = 3
    codes_above: int = 8

    @property
    def name(self) -> str:
        return "nvfp4"

    @property
    def source(self) -> str:
        return "NVIDIA NVFP4, two-level scaling; block scale swept by squared error"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset()

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where block scales are not E4M3 under a second-level scale.
        """
        encoding = tensor_config(config, self.name)
        scale = encoding.scale
        if scale is None or scale.format != UE4M3 or scale.outer is None or len(encoding.formats) != 1:
            raise ValueError("config of nvfp4 must have one format and ue4m3 scales with an outer scale, not others")
        x = checked_weight(weight, calibration.layer)
        made = self._sweep(x, quantize_tensor(x, encoding))
        return QuantizedLayer(config=config, weight=made, shape=(x.shape[0], x.shape[1]))

    def _sweep(self, x: Tensor, usual: QuantizedTensor) -> QuantizedTensor:
        """The encoding with the best scale code for each block; on equal errors the usual code."""
        assert usual.scale is not None
        start = usual.scale.to(torch.int32)
        best, best_error = start, _errors(x, usual)
        for offset in range(-self.codes_below, self.codes_above + 1):
            code = (start + offset).clamp(1, LAST_SCALE_CODE)
            error = _errors(x, replace(usual, scale=code.to(torch.uint8)))
            better = error < best_error
            best, best_error = torch.where(better, code, best), torch.where(better, error, best_error)
        chosen = replace(usual, scale=best.to(torch.uint8))
        return replace(chosen, codes=encode(_in_code_units(x, chosen), usual.config.formats[0]))


def _in_code_units(x: Tensor, made: QuantizedTensor) -> Tensor:
    scale = made.effective_scale()
    assert scale is not None
    per_element = expand_tiles(scale, made.config.granularity, made.shape)
    return torch.where(per_element == 0, torch.zeros_like(x), x / per_element)


def _errors(x: Tensor, made: QuantizedTensor) -> Tensor:
    """Squared error of each block when encoded anew with the scales of ``made``."""
    scale, config = made.effective_scale(), made.config
    assert scale is not None
    fmt = config.formats[0]
    if x.device.type == "cpu" and quantize_cpu.supports(config):
        return quantize_cpu.tile_errors(x, [quantize_cpu.Trial(fmt, scale, None)], config)[0]
    y = decode(encode(_in_code_units(x, made), fmt), fmt) * expand_tiles(scale, config.granularity, made.shape)
    return reduce_tiles((y - x).square(), config.granularity, "sum")
