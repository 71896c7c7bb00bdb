"""ANT: one numerical type for each tensor out of int, power of two and flint, by squared error.

Source: Guo et al., ANT: Exploiting Adaptive Numerical Data Type for Low-bit Deep Neural Network Quantization,
MICRO 2022, sections 4 and 5. Weights: a scale for each output channel, a type for each tensor; for each type the clip
ratio is searched in steps of 1 % of the maximum. The search's lower end is not stated as a constant in the paper; it is
a parameter here. At 7 bits and more only integers are tried.

Leaves out fine-tuning with the straight-through estimator and the ANT4-8 fallback of the worst layers to int8 (an
``Allocator`` over this algorithm's errors).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.calibration import LayerCalibration, Statistic
from datatypes.format import IntFormat
from datatypes.layer_config import LayerConfig
from datatypes.quantized_layer import QuantizedLayer

INTEGER_ONLY_BITS = 7  # and above: int alone (ANT's published code)


@dataclass(frozen=True)
class Ant:
    """ANT's choice of type, with clip search.

    Args:
        lowest_clip: where the search of the clip ratio starts.
        step: of the clip ratio, as a share of the maximum.
    """

    lowest_clip: float = 0.5
    step: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1 or not 0 < self.lowest_clip <= 1:
            raise ValueError(
                f"lowest_clip and step must be above 0 and at most 1, not {self.lowest_clip!r} and {self.step!r}"
            )

    @property
    def name(self) -> str:
        return "ant"

    @property
    def source(self) -> str:
        return "Guo et al., ANT, MICRO 2022, sections 4 and 5"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset()

    @property
    def clip(self) -> tuple[float, ...]:
        """The ratios tried, from no clipping downwards."""
        steps = int((1 - self.lowest_clip) / self.step + 0.5)
        return tuple(1 - i * self.step for i in range(steps + 1))

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``."""
        encoding = tensor_config(config, self.name)
        x = checked_weight(weight, calibration.layer)
        if encoding.formats[0].bits >= INTEGER_ONLY_BITS:
            integers = tuple(f for f in encoding.formats if isinstance(f, IntFormat))
            if not integers:
                raise ValueError(f"formats of ANT must hold an integer type from {INTEGER_ONLY_BITS} bits, not none")
            encoding = replace(encoding, formats=integers)
        made = quantize_with_clip(x, encoding, self.clip)
        notes: dict[str, float | int | str] = {}
        if made.selector is not None and made.selector.numel() == 1:
            notes["type"] = encoding.formats[int(made.selector.item())].name
        return QuantizedLayer(
            config=replace(config, weight=encoding), weight=made, shape=(x.shape[0], x.shape[1]), notes=notes
        )
