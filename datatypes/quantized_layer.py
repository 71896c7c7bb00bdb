"""A quantized layer: the encoded weight and everything an algorithm put beside it.

``dequantize_weight`` is the matrix that the layer multiplies by, all branches folded in: what weight-only evaluation
uses. The forward pass that keeps branches apart (activation quantization between the factors, as LQER has it) is
``codesign.apply``'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from datatypes.channel_groups import ChannelGroups
from datatypes.layer_config import LayerConfig, OutlierLayout
from datatypes.tensor import QuantizedTensor


@dataclass(frozen=True, eq=False)
class Outliers:
    """Weights kept at higher precision: they **replace** the dense code at their place (its value is not added).

    Args:
        values: float tensor: ``[count]`` element-wise in row-major order, or ``[n, count]`` for columns.
        columns: int64: column of each element ``[count]``, or of each outlier column ``[count]``.
        row_pointers: int64 ``[n + 1]`` element-wise; ``None`` for columns.
    """

    values: Tensor
    columns: Tensor
    row_pointers: Tensor | None = None


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """What an algorithm returns for one layer.

    Args:
        config: the encoding really used (an algorithm may choose, as FineQuant does).
        weight: the dense part; one tensor, or one for each part of a ``PartitionedConfig``.
        shape: (out_features, in_features) of the layer.
        part_of_column: int64 ``[k]`` for partitioned weights: which part a column belongs to. Within a part columns
            keep their order.
        low_rank_a: ``a`` transposed, encoded ``[rank, k]``.
        low_rank_b: ``b`` transposed, encoded ``[n, rank]``.
        outliers: weights that replace dense ones.
        permutation: int64 ``[k]``: stored column ``j`` is input column ``permutation[j]``.
        smoothing: float32 ``[k]``: the input is divided by it before anything else (SmoothQuant, AWQ) and the encoded
            weight was multiplied by it; ``None`` where it was folded into the layer before, or is not used.
        channel_groups: what an input in channel groups stores; ``None`` for other inputs.
        notes: what the algorithm has to say about this layer (error, iterations, chosen group), JSON-able.
    """

    config: LayerConfig
    weight: QuantizedTensor | tuple[QuantizedTensor, ...]
    shape: tuple[int, int]
    part_of_column: Tensor | None = None
    low_rank_a: QuantizedTensor | None = None
    low_rank_b: QuantizedTensor | None = None
    outliers: Outliers | None = None
    permutation: Tensor | None = None
    smoothing: Tensor | None = None
    channel_groups: ChannelGroups | None = None
    notes: dict[str, float | int | str] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> QuantizedLayer:
        """The same on another device."""
        moved: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor | QuantizedTensor | ChannelGroups):
                moved[f.name] = value.to(device)
            elif isinstance(value, tuple) and value and isinstance(value[0], QuantizedTensor):
                moved[f.name] = tuple(part.to(device) for part in value)
            elif isinstance(value, Outliers):
                pointers = None if value.row_pointers is None else value.row_pointers.to(device)
                moved[f.name] = Outliers(value.values.to(device), value.columns.to(device), pointers)
        return replace(self, **moved)  # type: ignore[arg-type]

    def dense_weight(self) -> Tensor:
        """The dense codes alone decoded, in the layer's column order, float32 ``[n, k]``; outliers put in place.

        No low-rank branch, and smoothing still in.
        """
        if isinstance(self.weight, tuple):
            assert self.part_of_column is not None
            weight = torch.empty(self.shape, dtype=torch.float32, device=self.part_of_column.device)
            for index, part in enumerate(self.weight):
                weight[:, self.part_of_column == index] = part.dequantize()
        else:
            weight = self.weight.dequantize()
            if self.outliers is not None and weight.shape[1] < self.shape[1]:  # dense slots were dropped
                keep = torch.ones(self.shape[1], dtype=torch.bool, device=weight.device)
                keep[self.outliers.columns] = False
                full = torch.zeros(self.shape, dtype=torch.float32, device=weight.device)
                full[:, keep] = weight
                weight = full
        if self.permutation is not None:
            restored = torch.empty_like(weight)
            restored[:, self.permutation] = weight
            weight = restored
        if self.outliers is not None:
            weight = weight.clone()
            values = self.outliers.values.to(torch.float32)
            if self.outliers.row_pointers is None:
                weight[:, self.outliers.columns] = values
            else:
                counts = self.outliers.row_pointers.diff()
                rows = torch.repeat_interleave(torch.arange(self.shape[0], device=weight.device), counts)
                weight[rows, self.outliers.columns] = values
        return weight

    def low_rank_weight(self) -> Tensor | None:
        """``(a @ b).T`` of the decoded factors, float32 ``[n, k]``; ``None`` without a branch."""
        if self.low_rank_a is None or self.low_rank_b is None:
            return None
        return self.low_rank_b.dequantize() @ self.low_rank_a.dequantize()

    def dequantize_weight(self) -> Tensor:
        """The effective weight, float32 ``[n, k]``: dense, outliers and branch added, smoothing divided out."""
        weight = self.dense_weight()
        branch = self.low_rank_weight()
        if branch is not None:
            weight = weight + branch
        if self.smoothing is not None:
            weight = weight / self.smoothing
        return weight

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over original weights, everything counted."""
        return self.config.storage_bits(self.shape).bits_per_weight(self.shape)


def column_outliers(layer: QuantizedLayer) -> bool:
    """Whether the layer's outliers are whole columns."""
    return layer.config.outliers is not None and layer.config.outliers.layout is OutlierLayout.COLUMNS
