"""OliVe: an outlier takes its neighbour's place, and the neighbour (the victim) becomes zero.

Source: Guo et al., OliVe: Accelerating Large Language Models via Hardware-friendly Outlier-Victim Pair Quantization,
ISCA 2023, sections 3.1 to 3.4. The outlier threshold starts at three standard deviations of the channel; factors of it
from 0.75 to 2.5 are tried in steps of 0.02, the least squared error stays, and int4 or flint4 is chosen for the tensor
by the same error. No retraining.

Of two outliers in a pair the larger stays (paper); the published code keeps the left one, which is not followed.
A row of odd length pairs its last weight with a zero, so no pair crosses rows. Leaves out the 8-bit variant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.quantized_layer import QuantizedLayer


@dataclass(frozen=True)
class Olive:
    """OliVe's outlier-victim pairs with the search of the threshold.

    Args:
        lowest, highest: factors on the three-sigma threshold.
        step: of the factor.
    """

    lowest: float = 0.75
    highest: float = 2.5
    step: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest or not self.step > 0:
            raise ValueError(
                "lowest, highest and step must be positive with lowest <= highest, "
                f"not {self.lowest!r}, {self.highest!r} and {self.step!r}"
            )

    @property
    def name(self) -> str:
        return "olive"

    @property
    def source(self) -> str:
        return "Guo et al., OliVe, ISCA 2023, sections 3.1 to 3.4"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset()

    @property
    def factors(self) -> tuple[float, ...]:
        """The factors tried."""
        steps = int((self.highest - self.lowest) / self.step + 1e-6)
        return tuple(self.lowest + i * self.step for i in range(steps + 1))

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the formats are not outlier-victim pairs.
        """
        encoding = tensor_config(config, self.name)
        foreign = [f.name for f in encoding.formats if not isinstance(f, OutlierVictimFormat)]
        if foreign:
            raise ValueError(f"formats of an OliVe config must be outlier-victim pairs, not {', '.join(foreign)}")
        x = checked_weight(weight, calibration.layer)
        made = quantize_with_clip(x, encoding, self.factors)
        notes: dict[str, float | int | str] = {}
        if made.selector is not None and made.selector.numel() == 1:
            notes["type"] = encoding.formats[int(made.selector.item())].name
        return QuantizedLayer(
            config=replace(config, weight=encoding), weight=made, shape=(x.shape[0], x.shape[1]), notes=notes
        )
