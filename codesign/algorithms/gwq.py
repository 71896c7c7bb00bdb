"""GWQ: the weights with the largest gradients stay in FP16, the rest is rounded in groups at low width.

Source: Shao et al., GWQ: Gradient-Aware Weight Quantization for Large Language Models, arXiv 2411.00850. **A
reconstruction**: of the paper only the abstract's statements could be checked (one calibration sample, the top 1 % of
weights by gradient kept in FP16, the rest quantized in groups); width, group size, rounding method, the scope over
which the 1 % is taken, and |g| against |g w| could not. They are switches here, and the defaults are our reading:

    * score: ``|g|``, the mean over samples of the gradient's magnitude (``GRADIENT_ABS``); also ``g^2`` (the diagonal
      Fisher information of SqueezeLLM) and ``|g w|``;
    * scope: the top share of each matrix, ``config.outliers.fraction``; or, with ``threshold``, every weight of the
      model whose score exceeds it (``model_threshold`` finds the value for a share of the whole model);
    * rounding: round-to-nearest, or GPTQ's column loop, in which kept weights take part with their full values;
    * kept weights are left out of their group's minimum and maximum; their dense slot decodes to exactly zero, and the
      FP16 value replaces it.

Ties in score are broken by position (the earlier weight is kept), so the same gradients give the same mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.algorithms.gptq import Gptq
from codesign.calibration import LayerCalibration, Statistic
from datatypes.block_formats import integer_asymmetric
from datatypes.format import FloatFormat, Format
from datatypes.layer_config import LayerConfig, OutlierConfig, OutlierLayout, TensorConfig
from datatypes.quantize import NO_CLIP
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.rounding import round_to
from datatypes.scale import store_one_level
from datatypes.tensor import TORCH_FLOATS, QuantizedTensor


class Score(Enum):
    """How sensitive a weight is."""

    GRADIENT = "gradient"  # |g|
    SQUARE = "square"  # g^2
    GRADIENT_TIMES_WEIGHT = "gradient_times_weight"  # |g w|


class Rounding(Enum):
    """How the other weights are rounded."""

    NEAREST = "nearest"
    GPTQ = "gptq"


def gwq_config(bits: int, group_size: int = 128, *, fraction: float = 0.01) -> LayerConfig:
    """Asymmetric groups with FP16 scales, and a share of weights in FP16 (compressed rows)."""
    weight = integer_asymmetric(bits, group_size)
    return LayerConfig(weight=weight, outliers=OutlierConfig(OutlierLayout.CSR, fraction))


@dataclass(frozen=True)
class Gwq:
    """Gradient-scored outliers beside low-width groups (a reconstruction; see the module docstring).

    Args:
        score: what ranks the weights.
        threshold: keep every weight with a score above it, instead of a share of each matrix.
        rounding: of the weights that are not kept.
        clip: range factors tried for each group.
    """

    score: Score = Score.GRADIENT
    threshold: float | None = None
    rounding: Rounding = Rounding.NEAREST
    clip: tuple[float, ...] = NO_CLIP

    @property
    def name(self) -> str:
        return "gwq"

    @property
    def source(self) -> str:
        return "Shao et al., GWQ, arXiv 2411.00850 (our reconstruction)"

    @property
    def needs(self) -> frozenset[Statistic]:
        gradient = Statistic.GRADIENT_SQUARE if self.score is Score.SQUARE else Statistic.GRADIENT_ABS
        return frozenset({gradient} | ({Statistic.HESSIAN} if self.rounding is Rounding.GPTQ else set()))

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the config keeps no outliers, or their column index is too narrow for ``k``.
        """
        encoding = tensor_config(config, self.name, supports=frozenset({"outliers"}))
        outliers = config.outliers
        if outliers is None:
            raise ValueError(f"config must hold outliers for {self.name}, not None")
        if outliers.layout is OutlierLayout.COLUMNS:
            raise NotImplementedError(f"{self.name} keeps single weights: layout must be csr or bitmap, not columns")
        if isinstance(encoding.zero_point, FloatFormat) or encoding.zero_point_level is not None:
            raise NotImplementedError(f"{self.name} needs dense slots that decode to zero: no real zero_point")
        x = checked_weight(weight, calibration.layer)
        if outliers.layout is OutlierLayout.CSR and x.shape[1] - 1 > outliers.index.maximum:
            raise ValueError(
                f"outlier index {outliers.index.name} must reach column {x.shape[1] - 1}, not {x.shape[1]}"
            )
        keep = self.mask(x, calibration, outliers.fraction)
        made, full = self._dense(x, keep, calibration, encoding)
        shape = (x.shape[0], x.shape[1])
        count = int(keep.sum())
        kept = replace(outliers, fraction=count / keep.numel())
        return QuantizedLayer(
            config=replace(config, outliers=kept),
            weight=made,
            shape=shape,
            outliers=Outliers(
                values=stored_values(full[keep], outliers.format),
                columns=keep.nonzero()[:, 1],
                row_pointers=torch.nn.functional.pad(keep.sum(1).cumsum(0), (1, 0)),
            ),
            notes={"kept": count},
        )

    def scores(self, weight: Tensor, calibration: LayerCalibration) -> Tensor:
        """Sensitivity of each weight, float32 ``[n, k]``."""
        shape = tuple(weight.shape)
        if self.score is Score.SQUARE:
            return calibration.checked(Statistic.GRADIENT_SQUARE, shape).to(weight.device)
        gradient = calibration.checked(Statistic.GRADIENT_ABS, shape).to(weight.device)
        return gradient if self.score is Score.GRADIENT else gradient * weight.abs()

    def mask(self, weight: Tensor, calibration: LayerCalibration, fraction: float) -> Tensor:
        """Which weights are kept, bool ``[n, k]``."""
        score = self.scores(weight, calibration)
        if self.threshold is not None:
            return score > self.threshold
        return top_mask(score, round(fraction * score.numel()))

    def _dense(
        self, x: Tensor, keep: Tensor, calibration: LayerCalibration, encoding: TensorConfig
    ) -> tuple[QuantizedTensor, Tensor]:
        """The dense codes, and the weights from which kept values are taken."""
        if self.rounding is Rounding.NEAREST:
            return quantize_with_clip(x.masked_fill(keep, 0.0), encoding, self.clip), x
        hessian = calibration.checked(Statistic.HESSIAN, (x.shape[1], x.shape[1])).to(x.device)
        swept = Gptq(clip=self.clip).sweep(x, hessian, encoding, calibration.layer, keep=keep)
        assert swept.kept is not None
        return swept.weight, swept.kept


def top_mask(score: Tensor, count: int) -> Tensor:
    """True at the ``count`` largest scores, bool; of equal ones the earlier in row-major order."""
    flat = score.flatten()
    if not 0 < count < len(flat):
        return torch.full_like(score, count > 0, dtype=torch.bool)
    cut = flat.topk(count, sorted=False).values.min()
    mask = flat > cut
    equal = torch.nonzero(flat == cut).flatten()
    mask[equal[: count - int(mask.sum())]] = True
    return mask.reshape(score.shape)


def model_threshold(scores: Iterable[Tensor], fraction: float) -> float:
    """The score that ``fraction`` of all weights of a model exceed: ``Gwq.threshold`` for a model-wide mask.

    Raises:
        ValueError: ``fraction`` is not between 0 and 1, or there are no scores.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be above 0 and below 1, not {fraction!r}")
    seen, tops = 0, []
    for score in scores:
        seen += score.numel()
        tops.append(score.flatten().to(torch.float32))
    if not seen:
        raise ValueError("scores must hold at least one layer, not none")
    ranked = torch.cat(tops).sort(descending=True).values
    return float(ranked[round(fraction * seen)])


def stored_values(values: Tensor, fmt: Format) -> Tensor:
    """Kept weights in their storage precision, as a float tensor."""
    return store_one_level(values, fmt) if fmt.name in TORCH_FLOATS else round_to(values, fmt)
