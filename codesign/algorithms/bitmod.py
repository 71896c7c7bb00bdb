"""BitMoD: each group of weights picks the special value that replaces the negative zero of its FP3 or FP4 code.

Source: Chen et al., BitMoD: Bit-serial Mixture-of-Datatype LLM Acceleration, HPCA 2025, sections III-B and III-C,
algorithm 1, Table IV. Four candidates (two "extra resolution", two "extra asymmetry" special values), each tried with a
scale of its own; the least squared error over the group wins and is kept in a 2-bit selector. Scales are FP16, or
8-bit integers under an FP16 step for each channel (section III-C): ``BITMOD4_G128`` and its like in
``datatypes.block_formats``.

Errors are compared in float32: the published code compares in FP16 and loses up to 2 % in squared error.
Leaves out the combination with AWQ, OmniQuant and SmoothQuant (Table XI of the paper).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.calibration import LayerCalibration, Statistic
from datatypes.catalog import BITMOD_FP3, BITMOD_FP4
from datatypes.layer_config import LayerConfig
from datatypes.quantize import NO_CLIP
from datatypes.quantized_layer import QuantizedLayer

_FAMILY = frozenset(BITMOD_FP3 + BITMOD_FP4)


@dataclass(frozen=True)
class BitMoD:
    """BitMoD's choice of datatype for each group.

    Args:
        clip: range factors tried beside the types; the paper tries none.
    """

    clip: tuple[float, ...] = NO_CLIP

    @property
    def name(self) -> str:
        return "bitmod"

    @property
    def source(self) -> str:
        return "Chen et al., BitMoD, HPCA 2025, algorithm 1"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset()

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the formats are not BitMoD's.
        """
        encoding = tensor_config(config, self.name)
        foreign = [f.name for f in encoding.formats if f not in _FAMILY]
        if foreign:
            raise ValueError(f"formats of a BitMoD config must be special-value FP3 or FP4, not {', '.join(foreign)}")
        x = checked_weight(weight, calibration.layer)
        made = quantize_with_clip(x, encoding, self.clip)
        notes: dict[str, float | int | str] = {}
        if made.selector is not None:
            counts = made.selector.flatten().bincount(minlength=len(encoding.formats)).tolist()
            notes = {f"groups_{f.name}": int(c) for f, c in zip(encoding.formats, counts, strict=True)}
        return QuantizedLayer(
            config=replace(config, weight=encoding), weight=made, shape=(x.shape[0], x.shape[1]), notes=notes
        )
