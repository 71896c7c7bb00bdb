"""Encodings of a real weight that no recipe makes: a layer of each, as simply as its codes can be found."""

from __future__ import annotations

from dataclasses import replace

import torch

from datatypes.catalog import BINARY, FP16, INTS, INTS_SYMMETRIC
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import (
    CodebookConfig,
    LayerConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    SparsityConfig,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from datatypes.tensor import QuantizedTensor

INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
INT4 = TensorConfig((INTS[4],), PerGroup(64))


def _layer(config: LayerConfig, tensor: QuantizedTensor, shape: torch.Size, **more: object) -> QuantizedLayer:
    return QuantizedLayer(config, tensor, (shape[0], shape[1]), **more)


def rotated(weight: torch.Tensor) -> QuantizedLayer:
    """Inputs through Hadamard transforms of 64."""
    config = LayerConfig(weight=replace(INT4, hadamard=64), activation=INT8)
    return _layer(config, quantize_tensor(weight, config.weight), weight.shape)


def outlier_columns(weight: torch.Tensor) -> QuantizedLayer:
    """The eight largest columns in FP16, the others dense."""
    k = weight.shape[1]
    places = weight.square().sum(0).topk(8).indices.sort().values
    config = LayerConfig(
        weight=INT4, activation=INT8, outliers=OutlierConfig(OutlierLayout.COLUMNS, 8 / k, keep_dense_slot=False)
    )
    rest = weight[:, [column for column in range(k) if column not in places.tolist()]]
    values = Outliers(weight[:, places].to(torch.float16), places)
    return _layer(config, quantize_tensor(rest, INT4), weight.shape, outliers=values)


def two_of_four(weight: torch.Tensor) -> QuantizedLayer:
    """The larger two of every four weights."""
    tensor = quantize_tensor(weight, INT4)
    blocks = weight.abs().reshape(len(weight), -1, 4)
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter_(2, blocks.topk(2, dim=2).indices, True)
    config = replace(INT4, sparsity=SparsityConfig(2, 4))
    tensor = replace(tensor, config=config, mask=mask.reshape(weight.shape))
    return _layer(LayerConfig(weight=config, activation=INT8), tensor, weight.shape)


def learned_rows(weight: torch.Tensor) -> QuantizedLayer:
    """A table of sixteen quantiles for each row."""
    fmt = LearnedFormat("learned4", 4, "quantiles of a row")
    config = TensorConfig((fmt,), PerChannel(), None, codebook=CodebookConfig())
    book = torch.quantile(weight, torch.linspace(0, 1, 16), dim=1).T.contiguous().to(torch.float16)
    middles = (book[:, 1:] + book[:, :-1]).float() / 2
    codes = torch.searchsorted(middles, weight.contiguous()).to(torch.uint8)
    tensor = QuantizedTensor(config, (weight.shape[0], weight.shape[1]), codes, codebook=book[:, :, None])
    return _layer(LayerConfig(weight=config, activation=INT8), tensor, weight.shape)


def learned_vectors(weight: torch.Tensor) -> QuantizedLayer:
    """Vectors of two outputs, the nearest of 64 that occur (the form of VPTQ, Liu et al., arXiv 2409.17066)."""
    n, k = weight.shape
    fmt = LearnedFormat("vectors", 6, "sampled vectors", dimension=2)
    config = TensorConfig(
        (fmt,), PerTensor(), None, codebook=CodebookConfig(FP16, PerTensor()), vectors_along_output=True
    )
    vectors = weight.reshape(n // 2, 2, k).transpose(1, 2)  # [n / 2, k, 2]
    chosen = torch.randperm(n // 2 * k, generator=torch.Generator().manual_seed(0))[:64]
    book = vectors.reshape(-1, 2)[chosen].to(torch.float16)
    codes = torch.cdist(vectors, book.float()[None].expand(n // 2, -1, -1)).argmin(2).to(torch.uint8)
    tensor = QuantizedTensor(config, (n, k), codes, codebook=book[None])
    return _layer(LayerConfig(weight=config, activation=INT8), tensor, weight.shape)


def signs(weight: torch.Tensor) -> QuantizedLayer:
    """Signs between a row and a column of FP16 (the form of OneBit, Xu et al., arXiv 2402.11295)."""
    left, size, right = torch.linalg.svd(weight.abs())
    config = TensorConfig((BINARY,), PerTensor(), None, row_scale=FP16, column_scale=FP16)
    row = (left[:, 0].abs() * size[0].sqrt()).to(torch.float16)
    column = (right[0].abs() * size[0].sqrt()).to(torch.float16)
    tensor = QuantizedTensor(
        config, (weight.shape[0], weight.shape[1]), (weight < 0).to(torch.uint8), row_scale=row, column_scale=column
    )
    return _layer(LayerConfig(weight=config), tensor, weight.shape)


REAL_LAYERS = {
    "rotated inputs": rotated,
    "outlier columns": outlier_columns,
    "two of four weights": two_of_four,
    "learned tables of rows": learned_rows,
    "learned vectors": learned_vectors,
    "signs between rows and columns": signs,
}
