"""GPTQ: columns are rounded one after another, and each error is made good by the columns still to come.

Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
arXiv 2210.17323, algorithm 1; damping, activation order, static groups and dead inputs as in the authors' code
(Apache-2.0). With ``H = 2/tokens sum x x^T`` and ``H^-1 = U^T U`` (``U`` upper triangular):

    err_j = (w_j - q_j) / U_jj,      w_i -= err_j U_ji  for all i > j,

lazily: within a block of 128 columns at once, the rest of the row after each block. The sum of ``err^2`` is exactly the
damped layer output error ``tr(D H D^T)`` of ``D = W - Q`` and is reported in ``notes``.

Any scalar format of the catalogue is rounded to through its own code table; a mixture (BitMoD) chooses its member for
each group when the group is reached. Where this differs from the published code: a group's scale is fitted to weights
that all errors so far have already updated, also when several groups share a block.

Leaves out "true sequential" order, which is the model walk's business, and formats with several elements for each code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.algorithms.column_rounding import ColumnRounding, block_bounds
from codesign.calibration import LayerCalibration, Statistic
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantize import NO_CLIP
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor

DAMPING_TRIES = 4  # damping is raised tenfold up to three times before giving up


@dataclass(frozen=True)
class Gptq:
    """GPTQ as its authors recommend it: by activation order.

    Algorithm 1 of the paper as it stands is ``Gptq(act_order=False, static_groups=False)``. It can lose to
    round-to-nearest: 7.15 against 6.29 in perplexity on LLaMA-7B at 4 bits, where the order gives 6.09 (authors' code).

    Args:
        damping: added to the Hessian's diagonal, as a share of its mean.
        block: columns whose errors are spread at once before the rest of the row is updated.
        act_order: take columns by descending diagonal of the Hessian.
        static_groups: fit all groups before the sweep, so that ``act_order`` needs no permutation at run time.
        clip: range factors tried for each group; ``(1.0,)`` for none.
    """

    damping: float = 0.01
    block: int = 128
    act_order: bool = True
    static_groups: bool = True
    clip: tuple[float, ...] = NO_CLIP

    def __post_init__(self) -> None:
        if self.damping < 0 or self.block < 1:
            raise ValueError(f"damping must be >= 0 and block >= 1, not {self.damping!r} and {self.block!r}")

    @property
    def name(self) -> str:
        return "gptq"

    @property
    def source(self) -> str:
        return "Frantar et al., GPTQ, arXiv 2210.17323, algorithm 1"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Statistic.HESSIAN})

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        Raises:
            ValueError: also where the Hessian is not positive definite even with strong damping.
        """
        encoding = tensor_config(config, self.name, supports=frozenset({"permuted"}))
        x = checked_weight(weight, calibration.layer)
        hessian = calibration.checked(Statistic.HESSIAN, (x.shape[1], x.shape[1])).to(x.device)
        made = self.sweep(x, hessian, encoding, calibration.layer)
        stored_permuted = made.permutation is not None
        notes: dict[str, float | int | str] = {"output_error": made.error, "damping": made.damping}
        return QuantizedLayer(
            config=replace(config, permuted=stored_permuted),
            weight=made.weight,
            shape=(x.shape[0], x.shape[1]),
            permutation=made.permutation,
            notes=notes,
        )

    def sweep(
        self, x: Tensor, hessian: Tensor, config: TensorConfig, layer: str, *, keep: Tensor | None = None
    ) -> Swept:
        """The column loop; ``keep`` (bool ``[n, k]``) marks weights stored elsewhere, which make no error.

        Their dense slots get the code nearest to zero; what their values have become by then is in ``Swept.kept``.
        """
        shape = (x.shape[0], x.shape[1])
        dead = hessian.diagonal() == 0
        w = torch.where(dead, torch.zeros_like(x), x)
        rounding = ColumnRounding(w, config, clip=self.clip, static=self.static_groups)
        order = None
        if self.act_order:
            order = hessian.diagonal().argsort(descending=True, stable=True)
            w, hessian = w[:, order], hessian[order][:, order]
            keep = None if keep is None else keep[:, order]
            rounding.reorder(order)
        factor, damping = inverse_factor(hessian, self.damping, layer)
        w = w.clone()
        error = 0.0
        for start, end in block_bounds(shape[1], rounding.group, self.block):
            errors = self._block(w, factor, rounding, (start, end), keep)
            w[:, end:] -= errors @ factor[start:end, end:]
            error += float(errors.square().sum(dtype=torch.float64))
        made, permutation = rounding.finish(order)
        kept = None
        if keep is not None:
            kept = w if order is None else torch.empty_like(w).index_copy_(1, order, w)
        return Swept(made, permutation, error, damping, kept)

    def _block(
        self, w: Tensor, factor: Tensor, rounding: ColumnRounding, bounds: tuple[int, int], keep: Tensor | None
    ) -> Tensor:
        """Round columns ``start`` to ``end`` of ``w`` in place of their updates; returns their scaled errors."""
        start, end = bounds
        part, triangle = w[:, start:end], factor[start:end, start:end]
        columns = part.T.contiguous()  # one column is one contiguous row here
        errors = torch.empty_like(columns)
        for i in range(end - start):
            if rounding.starts_group(start + i):
                rounding.fit(start + i, torch.cat([columns[i:].T, w[:, end:]], 1)[:, : rounding.group])
            column = columns[i]
            skip = None if keep is None else keep[:, start + i]
            value = rounding.round(start + i, column if skip is None else column.masked_fill(skip, 0.0))
            difference = column - value
            if skip is not None:
                difference.masked_fill_(skip, 0.0)
            torch.div(difference, triangle[i, i], out=errors[i])
            columns[i + 1 :].addr_(triangle[i, i + 1 :], errors[i], alpha=-1.0)
        part.copy_(columns.T)
        return errors.T


@dataclass(frozen=True, eq=False)
class Swept:
    """What a sweep made: the encoding, its column order, its output error, the damping used, the weights as updated."""

    weight: QuantizedTensor
    permutation: Tensor | None
    error: float
    damping: float
    kept: Tensor | None


def inverse_factor(hessian: Tensor, damping: float, layer: str) -> tuple[Tensor, float]:
    """Upper triangular ``U`` with ``U^T U`` the inverse of the damped Hessian, float32, and the damping used.

    The Hessian is factored from its last column backwards (``H = R R^T`` with ``R`` upper), so ``U = R^-1`` needs one
    triangular inverse and never the inverse itself. Inputs that are always zero count as uncorrelated and of weight 1.

    Raises:
        ValueError: not positive definite even with the damping raised a thousandfold.
    """
    h = hessian.to(torch.float64)
    diagonal = h.diagonal().clone()
    diagonal[diagonal == 0] = 1.0
    identity = torch.eye(len(h), dtype=h.dtype, device=h.device)
    for attempt in range(DAMPING_TRIES):
        used = damping * 10.0**attempt
        damped = torch.diagonal_scatter(h, diagonal + used * diagonal.mean())
        lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not failed:
            upper = lower.flip(0, 1)
            return torch.linalg.solve_triangular(upper, identity, upper=True).to(torch.float32), used
    raise ValueError(f"Hessian of {layer} must be positive definite with damping up to {used:g}, not indefinite")
