"""FineQuant: the group size of each matrix follows from its weights alone.

Source: Kim et al., FineQuant: Unlocking Efficiency with Fine-Grained Weight-Only Quantization for LLMs,
arXiv 2308.09723. **A reconstruction**: the paper states a heuristic on the weights' range that halves the group size
adaptively to avoid the collapse of per-column INT4 on some matrices; its exact rule could not be checked. Ours: start
with one group for each row, halve while the mean range ``max - min`` of a group shrinks by more than ``alpha`` against
the level before, stop at 64 (the block of the paper's kernels). ``alpha`` is exposed; do not attribute results to the
paper.

The chosen group is in the result's ``config`` and ``notes``; it replaces whatever granularity was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.calibration import LayerCalibration, Statistic
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig
from datatypes.quantize import NO_CLIP
from datatypes.quantized_layer import QuantizedLayer
from datatypes.scale import reduce_tiles


@dataclass(frozen=True)
class FineQuant:
    """Adaptive group size (a reconstruction; see the module docstring).

    Args:
        alpha: least relative shrinkage of the mean range that pays for halving the group.
        smallest: group size at which halving stops.
        clip: range factors tried for each group.
    """

    alpha: float = 0.1
    smallest: int = 64
    clip: tuple[float, ...] = NO_CLIP

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or self.smallest < 1:
            raise ValueError(
                f"alpha must lie between 0 and 1 and smallest be at least 1, not {self.alpha!r} and {self.smallest!r}"
            )

    @property
    def name(self) -> str:
        return "finequant"

    @property
    def source(self) -> str:
        return "Kim et al., FineQuant, arXiv 2308.09723 (our reconstruction of its heuristic)"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset()

    def group_size(self, weight: Tensor) -> int:
        """The group size chosen for float32 ``[n, k]``; ``k`` for one group in each row."""
        group = weight.shape[1]
        spread = mean_range(weight, group)
        while -(-group // 2) >= self.smallest:
            finer = -(-group // 2)
            finer_spread = mean_range(weight, finer)
            if not spread - finer_spread > self.alpha * spread:
                break
            group, spread = finer, finer_spread
        return group

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``."""
        encoding = tensor_config(config, self.name)
        x = checked_weight(weight, calibration.layer)
        group = self.group_size(x)
        chosen = replace(encoding, granularity=PerChannel() if group == x.shape[1] else PerGroup(group))
        made = quantize_with_clip(x, chosen, self.clip)
        return QuantizedLayer(
            config=replace(config, weight=chosen),
            weight=made,
            shape=(x.shape[0], x.shape[1]),
            notes={"group_size": group},
        )


def mean_range(weight: Tensor, group: int) -> float:
    """Mean over all groups of ``max - min``."""
    tiles = PerGroup(group)
    return float((reduce_tiles(weight, tiles, "amax") - reduce_tiles(weight, tiles, "amin")).mean())
