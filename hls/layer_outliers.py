"""Outliers as an exported kernel takes them: they replace the dense codes under them.

Where every code under an outlier can be made one of value zero, it is, and outliers are multiplied as they are stored.
Where a code has no such neighbour (real zero points, learned tables, vectors, binary codes), the codes stay and each
outlier is stored as its difference from the dense weight, FP32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from datatypes.format import IntFormat, LearnedFormat
from datatypes.layer_config import OutlierLayout
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor, expand_tiles


def is_csr(layer: QuantizedLayer) -> bool:
    """Whether outliers are single weights."""
    return layer.config.outliers is not None and layer.config.outliers.layout is not OutlierLayout.COLUMNS


def zero_codes(tensor: QuantizedTensor) -> torch.Tensor | None:
    """The code of value zero for every element, int64 ``[n, k]``: what adds nothing; ``None`` where there is none."""
    config, shape = tensor.config, tensor.shape
    fmt = config.formats[0]
    if fmt.dim > 1 or isinstance(fmt, LearnedFormat):
        return None
    if config.zero_point is not None:
        if config.zero_point_level is not None or not isinstance(config.zero_point, IntFormat):
            return None
        assert tensor.zero_point is not None
        return expand_tiles(tensor.zero_point, config.granularity, shape).to(torch.int64)
    if tensor.codes.dtype.is_floating_point:
        return torch.zeros(shape, dtype=torch.int64)
    found = [np.flatnonzero(candidate.code_values == 0) for candidate in config.formats]
    if any(not len(codes) for codes in found):
        return None
    table = torch.tensor([int(codes[0]) for codes in found])
    if tensor.selector is None:
        return table[0].expand(shape)
    return table[expand_tiles(tensor.selector, config.selector_granularity, shape).to(torch.int64)]


def codes_are_cleared(layer: QuantizedLayer) -> bool:
    """Whether every code under an outlier becomes one of value zero."""
    return all(zero_codes(tensor) is not None for tensor in _tensors(layer)) or _slots_are_dropped(layer)


def _tensors(layer: QuantizedLayer) -> Iterator[QuantizedTensor]:
    for tensor in layer.weight if isinstance(layer.weight, tuple) else (layer.weight,):
        rest: QuantizedTensor | None = tensor
        while rest is not None:
            yield rest
            rest = rest.residual


def _slots_are_dropped(layer: QuantizedLayer) -> bool:
    return not isinstance(layer.weight, tuple) and layer.weight.shape[1] < layer.shape[1]


def without_outliers(tensor: QuantizedTensor, inputs: np.ndarray, layer: QuantizedLayer) -> QuantizedTensor:
    """A part of the weight, its codes under outliers replaced by those that add nothing, where there are such.

    Args:
        tensor: ``[n, columns]``.
        inputs: int64 ``[columns]``: the layer's input that each column multiplies.
        layer: its owner.
    """
    outliers = layer.outliers
    if outliers is None or outliers.columns.numel() == 0 or _slots_are_dropped(layer) or not codes_are_cleared(layer):
        return tensor
    column_of = np.full(layer.shape[1], -1)
    column_of[inputs] = np.arange(len(inputs))
    columns = torch.from_numpy(column_of[outliers.columns.numpy()])
    here = columns >= 0  # the others are in other parts
    codes, zeros = tensor.codes.clone(), zero_codes(tensor)
    assert zeros is not None
    if outliers.row_pointers is None:
        codes[:, columns[here]] = zeros[:, columns[here]].to(codes.dtype)
    else:
        rows = _rows(outliers.row_pointers)[here]
        codes[rows, columns[here]] = zeros[rows, columns[here]].to(codes.dtype)
    return replace(tensor, codes=codes)


def outlier_values(layer: QuantizedLayer) -> torch.Tensor:
    """What outliers multiply their inputs by, float32 in the shape of ``Outliers.values``."""
    outliers = layer.outliers
    assert outliers is not None
    values = outliers.values.to(torch.float32)
    if codes_are_cleared(layer):
        return values
    dense = replace(layer, outliers=None, config=replace(layer.config, outliers=None)).dense_weight()
    if outliers.row_pointers is None:
        return values - dense[:, outliers.columns]
    return values - dense[_rows(outliers.row_pointers), outliers.columns]


def _rows(pointers: torch.Tensor) -> torch.Tensor:
    """Row of each single outlier."""
    return torch.repeat_interleave(torch.arange(len(pointers) - 1), pointers.diff())
