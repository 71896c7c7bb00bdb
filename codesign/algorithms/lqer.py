"""Low-rank reconstruction of the quantization error: LQER, L2QER, QERA, LoRC are one method with different scalings.

Sources:
    * LQER and L2QER: Zhang et al., LQER: Low-Rank Quantization Error Reconstruction for LLMs, arXiv 2402.02446.
    * QERA: Zhang et al., QERA: an Analytical Framework for Quantization Error Reconstruction, arXiv 2410.06040.
    * LoRC: Yao et al., ZeroQuant-V2, arXiv 2303.08302 (unscaled, singular values shared between the factors).

With ``E = W - Q(W)`` ``[n, k]`` and an invertible ``S`` ``[k, k]`` made from the layer's inputs,

    U diag(s) V^T = SVD_rank(E S),      b = U diag(s)  [n, rank],      a = V^T S^-1  [rank, k],

so that ``b a`` approximates ``E``, best where inputs are large. ``S`` is the identity (LQER, LoRC), the mean magnitude
of each input (L2QER), its root mean square (QERA, approximate) or a root of ``E[x x^T]`` (QERA, exact). Any root gives
the same factors; the Cholesky factor is used, which is far cheaper than the symmetric one.

L2QER's scale vector is clamped from below at 1e-4 and divided by the root of its extremes' product, as in the authors'
code: a constant, which moves only the rounding of the factors. Errata kept in mind: the published average of 4.3 bits
divides by stored instead of original weights and counts 4-bit exponents; ``LayerConfig.storage_bits`` counts 8-bit ones
over original weights: 4.63 for attention and 4.59 for the MLP of Llama-2-7B.

The forward pass of the paper rounds ``x a`` and ``(x a) b`` to the activation format: that is ``codesign.apply``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.clip_search import quantize_with_clip
from codesign.algorithms.truncated_svd import truncated_svd
from codesign.calibration import LayerCalibration, Statistic
from datatypes.catalog import E8M0, FP16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, LowRankConfig, ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import NO_CLIP, quantize_tensor
from datatypes.quantized_layer import QuantizedLayer

MIN_MAGNITUDE = 1e-4  # L2QER's clamp of the scale vector (authors' code)
JITTER = 1e-6  # of the mean square of the inputs, added only where their second moments are singular
JITTER_TRIES = 5  # each ten times the last


class Scaling(Enum):
    """What weighs the error before its decomposition."""

    IDENTITY = "identity"
    MAGNITUDE = "magnitude"  # max over batches of mean |x_i|
    ROOT_MEAN_SQUARE = "root_mean_square"
    SECOND_MOMENT = "second_moment"  # a root of E[x x^T]


_NAMES = {
    Scaling.IDENTITY: "lqer",
    Scaling.MAGNITUDE: "l2qer",
    Scaling.ROOT_MEAN_SQUARE: "qera_approximate",
    Scaling.SECOND_MOMENT: "qera_exact",
}
_SOURCES = {
    Scaling.IDENTITY: "Zhang et al., LQER, arXiv 2402.02446, section 3.1; Yao et al., ZeroQuant-V2, arXiv 2303.08302",
    Scaling.MAGNITUDE: "Zhang et al., LQER, arXiv 2402.02446, section 3.2",
    Scaling.ROOT_MEAN_SQUARE: "Zhang et al., QERA, arXiv 2410.06040, approximate solution",
    Scaling.SECOND_MOMENT: "Zhang et al., QERA, arXiv 2410.06040, exact solution",
}
_NEEDS = {
    Scaling.IDENTITY: frozenset[Statistic](),
    Scaling.MAGNITUDE: frozenset({Statistic.BATCH_ABS_MEAN_MAX}),
    Scaling.ROOT_MEAN_SQUARE: frozenset({Statistic.SQUARE_MEAN}),
    Scaling.SECOND_MOMENT: frozenset({Statistic.HESSIAN}),
}


def mxint_config(bits: int, block: int = 16, *, dynamic: bool = False) -> TensorConfig:
    """LQER's MXINT: sign and magnitude, a shared 8-bit exponent for each block.

    >>> mxint_config(4).storage_bits((4096, 4096)).bits_per_weight((4096, 4096))
    4.5
    """
    scale = ScaleConfig(E8M0, ScaleRule.LQER_CEIL)
    return TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(block), scale, dynamic=dynamic)


def l2qer_mxint_config(rank: int = 32, *, weight_bits: int = 4, activation_bits: int = 8) -> LayerConfig:
    """The paper's MXINT setting: W4 (or fewer), A8 or A6, 8-bit factors, blocks of 16."""
    factor = mxint_config(8)
    return LayerConfig(
        weight=mxint_config(weight_bits),
        activation=mxint_config(activation_bits, dynamic=True),
        low_rank=LowRankConfig(rank, factor, factor),
    )


def l2qer_int_config(rank: int = 32, *, bits: int = 4, group_size: int = 128) -> LayerConfig:
    """The paper's integer setting: groups of 128 with FP16 scales; factors INT8 in the same groups."""
    factor = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(group_size), ScaleConfig(FP16))
    weight = TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(group_size), ScaleConfig(FP16))
    return LayerConfig(weight=weight, low_rank=LowRankConfig(rank, factor, factor))


@dataclass(frozen=True)
class LowRankReconstruction:
    """A low-rank branch that corrects round-to-nearest.

    Args:
        scaling: what weighs the error; L2QER's by default.
        split_root: share the singular values between the factors (LoRC) instead of leaving them to ``b``.
        exact: full singular value decomposition instead of the truncated one.
        seed: of the truncated decomposition.
        clip: range factors tried for the dense part; the papers try none.
    """

    scaling: Scaling = Scaling.MAGNITUDE
    split_root: bool = False
    exact: bool = False
    seed: int = 0
    clip: tuple[float, ...] = NO_CLIP

    @property
    def name(self) -> str:
        return _NAMES[self.scaling]

    @property
    def source(self) -> str:
        return _SOURCES[self.scaling]

    @property
    def needs(self) -> frozenset[Statistic]:
        return _NEEDS[self.scaling]

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the config has no low-rank branch.
        """
        encoding = tensor_config(config, self.name, supports=frozenset({"low_rank"}))
        branch = config.low_rank
        if branch is None:
            raise ValueError(f"config must hold low_rank for {self.name}, not None")
        x = checked_weight(weight, calibration.layer)
        dense = quantize_with_clip(x, encoding, self.clip)
        error = x - dense.dequantize()
        a, b = self.factors(error, branch.rank, calibration)
        encoded_a, encoded_b = quantize_tensor(a, branch.a), quantize_tensor(b, branch.b)
        left = error - encoded_b.dequantize() @ encoded_a.dequantize()
        total = float(error.square().sum())
        return QuantizedLayer(
            config=config,
            weight=dense,
            shape=(x.shape[0], x.shape[1]),
            low_rank_a=encoded_a,
            low_rank_b=encoded_b,
            notes={"captured_energy": 1 - float(left.square().sum()) / total if total > 0 else 0.0},
        )

    def factors(self, error: Tensor, rank: int, calibration: LayerCalibration) -> tuple[Tensor, Tensor]:
        """``a`` ``[rank, k]`` and ``b`` ``[n, rank]``, float32, before they are encoded."""
        k = error.shape[1]
        diagonal = root = None
        if self.scaling is Scaling.MAGNITUDE:
            mean = calibration.checked(Statistic.BATCH_ABS_MEAN_MAX, (k,)).clamp_min(MIN_MAGNITUDE)
            diagonal = (mean / (mean.min() * mean.max()).sqrt()).to(error.device)
        elif self.scaling is Scaling.ROOT_MEAN_SQUARE:
            square = calibration.checked(Statistic.SQUARE_MEAN, (k,)).clamp_min(0).to(error.device)
            diagonal = square.sqrt().clamp_min(torch.finfo(torch.float32).eps)
        elif self.scaling is Scaling.SECOND_MOMENT:
            # the Hessian proxy is twice the second moment; a constant factor in S cancels
            root = second_moment_root(calibration.checked(Statistic.HESSIAN, (k, k)), calibration.layer)
            root = root.to(error.device)
        scaled = error if diagonal is None else error * diagonal
        if root is not None:
            scaled = error @ root
        u, s, v = self._decompose(scaled, rank)
        b, a = (u * s.sqrt(), v.T * s.sqrt()[:, None]) if self.split_root else (u * s, v.T)
        if diagonal is not None:
            a = a / diagonal
        if root is not None:  # a root = V^T, root lower triangular
            a = torch.linalg.solve_triangular(root, a, upper=False, left=False)
        return a.contiguous(), b.contiguous()

    def _decompose(self, x: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        if not self.exact:
            return truncated_svd(x, rank, seed=self.seed)
        rank = min(rank, *x.shape)
        u, s, vt = torch.linalg.svd(x, full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank].T


def second_moment_root(moment: Tensor, layer: str) -> Tensor:
    """Lower triangular ``L`` with ``L L^T`` the second moments ``[k, k]``, float32; disturbed only where singular.

    Raises:
        ValueError: not positive semi-definite.
    """
    h = moment.to(torch.float64)
    mean = h.diagonal().mean()
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    for attempt in range(JITTER_TRIES + 1):
        jitter = 0.0 if attempt == 0 else JITTER * 10.0 ** (attempt - 1)
        lower, failed = torch.linalg.cholesky_ex(h + jitter * mean * torch.eye(len(h), dtype=h.dtype, device=h.device))
        if not failed:
            return lower.to(torch.float32)
    raise ValueError(f"second moments of {layer} must be positive semi-definite, not indefinite")
