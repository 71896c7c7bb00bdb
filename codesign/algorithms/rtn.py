"""Round-to-nearest: every weight to the nearest value of its format, with the scale its tile asks for.

The baseline of every paper, and the whole of the method for formats that need no calibration: integers, minifloats,
MX (Open Compute Project, Microscaling Formats 1.0, 2023: choose floor or ceiling by the config's ``ScaleRule``), NF4
and other codebooks. A clip grid may be searched for each tile by squared error, optionally weighted by the mean square
of each input (the diagonal of the layer's output error). A ``residual`` config encodes what the first leaves.

Leaves out learned codebooks, sparsity masks and rotations: they need an algorithm of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantize import NO_CLIP
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor

MIN_SHRINK = 0.5  # of the usual grid: AWQ's search goes down to half the range (Lin et al., arXiv 2306.00978, code)


def clip_grid(steps: int, lowest: float = MIN_SHRINK) -> tuple[float, ...]:
    """``steps`` factors from 1 downwards in equal steps, ``lowest`` left out.

    >>> clip_grid(5)
    (1.0, 0.9, 0.8, 0.7, 0.6)
    """
    return tuple(round(1 - i * (1 - lowest) / steps, 12) for i in range(steps))


@dataclass(frozen=True)
class RoundToNearest:
    """Round-to-nearest.

    Args:
        clip: range factors tried for each tile; ``(1.0,)`` for none.
        weighted: weigh squared errors by the mean square of their input (needs ``Statistic.SQUARE_MEAN``).
    """

    clip: tuple[float, ...] = NO_CLIP
    weighted: bool = False

    @property
    def name(self) -> str:
        return "rtn"

    @property
    def source(self) -> str:
        return "baseline of every paper; clip search by squared error as in Banner et al., arXiv 1810.05723"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Statistic.SQUARE_MEAN}) if self.weighted else frozenset()

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``."""
        encoding = tensor_config(config, self.name, supports=frozenset({"residual"}))
        x = checked_weight(weight, calibration.layer)
        importance = None
        if self.weighted:
            square = calibration.checked(Statistic.SQUARE_MEAN, (x.shape[1],))
            importance = square.to(x.device)[None, :]
        made = _with_residual(x, encoding, self.clip, importance)
        return QuantizedLayer(config=config, weight=made, shape=(x.shape[0], x.shape[1]))


def _with_residual(
    x: Tensor, config: TensorConfig, clip: tuple[float, ...], importance: Tensor | None
) -> QuantizedTensor:
    """Encode ``x``, then what is left of it, as deep as the config goes."""
    first = quantize_with_clip(x, replace(config, residual=None), clip, importance=importance)
    if config.residual is None:
        return first
    rest = _with_residual(x - first.dequantize(), config.residual, clip, importance)
    return replace(first, config=config, residual=rest)
