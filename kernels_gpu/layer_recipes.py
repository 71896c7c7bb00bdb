"""Layers with branches and outliers that are measured, by name: random weights, encoded as published methods do it.

What matters for time and for errors is there: encodings, ranks, shares of outliers, rows with different numbers of
them. The weights are random, so that nothing is said about accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datatypes.block_formats import integer_asymmetric
from datatypes.catalog import E8M0, FP16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    ScaleConfig,
    ScaleRule,
    TensorConfig,
)
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer
from kernels_gpu.gemv_recipes import RECIPES

RANK = 32  # of LQER's tables: Zhang et al., arXiv 2402.02446, section 4
SHARE = 0.01  # of outlier columns or weights: Shao et al., GWQ, arXiv 2411.00850, abstract
FACTORS = {
    "fp16": TensorConfig((FP16,), scale=None),
    "int8": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(FP16)),
    "mxint8": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(16), ScaleConfig(E8M0, ScaleRule.LQER_CEIL)),
}
_DENSE = RECIPES["int4_g128"]


def random(shape: tuple[int, int], seed: int, device: torch.device | str) -> Tensor:
    """Normal numbers, float32."""
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def with_branch(shape: tuple[int, int], factor: TensorConfig, device: torch.device | str) -> QuantizedLayer:
    """A symmetric 4-bit weight and a branch about as large (LQER)."""
    n, k = shape
    rank = min(RANK, n, k)
    a = quantize_tensor(random((rank, k), 1, device), factor)
    b = quantize_tensor(random((n, rank), 2, device) / rank**0.5, factor)
    config = LayerConfig(weight=_DENSE, low_rank=LowRankConfig(rank, factor, factor))
    dense = quantize_tensor(random(shape, 0, device), _DENSE)
    return QuantizedLayer(config, dense, shape, low_rank_a=a, low_rank_b=b)


def with_columns(shape: tuple[int, int], device: torch.device | str) -> QuantizedLayer:
    """A share of the columns in FP16, their dense slots left out (OWQ)."""
    k = shape[1]
    weight, count = random(shape, 0, device), round(SHARE * k)
    generator = torch.Generator(device).manual_seed(3)
    columns = torch.randperm(k, generator=generator, device=device)[:count].sort().values
    left = torch.ones(k, dtype=torch.bool, device=device)
    left[columns] = False
    outliers = OutlierConfig(OutlierLayout.COLUMNS, SHARE, FP16, keep_dense_slot=False)
    values = (3 * weight[:, columns]).half()
    dense = quantize_tensor(weight[:, left], _DENSE)
    return QuantizedLayer(
        LayerConfig(weight=_DENSE, outliers=outliers), dense, shape, outliers=Outliers(values, columns)
    )


def with_rows(shape: tuple[int, int], device: torch.device | str) -> QuantizedLayer:
    """A share of single weights in FP16, up to twice as many in some rows as in others, over zeros (GWQ)."""
    n, k = shape
    weight = random(shape, 0, device)
    generator = torch.Generator(device).manual_seed(4)
    uneven = 2 * torch.rand((n, 1), generator=generator, device=device)
    mask = torch.rand(shape, generator=generator, device=device) < SHARE * uneven
    encoding = integer_asymmetric(4, 128)
    dense = quantize_tensor(torch.where(mask, torch.zeros((), device=device), weight), encoding)
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64, device=device), mask.sum(1).cumsum(0)])
    kept = OutlierConfig(OutlierLayout.CSR, int(mask.sum()) / (n * k))
    outliers = Outliers((3 * weight)[mask].half(), mask.nonzero()[:, 1], pointers)
    return QuantizedLayer(LayerConfig(weight=encoding, outliers=kept), dense, shape, outliers=outliers)


def plain(shape: tuple[int, int], device: torch.device | str) -> QuantizedLayer:
    """The dense weight alone, to compare with."""
    return QuantizedLayer(LayerConfig(weight=_DENSE), quantize_tensor(random(shape, 0, device), _DENSE), shape)


Builder = Callable[[tuple[int, int], torch.device | str], QuantizedLayer]
LAYERS: dict[str, Builder] = {
    "int4_g128": plain,
    "lqer32_fp16": lambda shape, device: with_branch(shape, FACTORS["fp16"], device),
    "lqer32_int8": lambda shape, device: with_branch(shape, FACTORS["int8"], device),
    "lqer32_mxint8": lambda shape, device: with_branch(shape, FACTORS["mxint8"], device),
    "columns1": with_columns,
    "rows1": with_rows,
}
