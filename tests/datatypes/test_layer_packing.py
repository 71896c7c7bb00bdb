"""Layers with everything an algorithm may put beside a weight: bytes counted, and back as they were."""

from dataclasses import replace

import pytest
import torch

from datatypes.block_formats import BITMOD4_G128, BLOCK_FORMATS, MXFP4
from datatypes.catalog import FP16, INT16, INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import (
    LayerConfig,
    LowRankConfig,
    OutlierConfig,
    OutlierLayout,
    Part,
    PartitionedConfig,
    TensorConfig,
)
from datatypes.layer_packing import pack_layer, unpack_layer
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import Outliers, QuantizedLayer

SHAPES = pytest.mark.parametrize("shape", [(6, 256), (5, 101)], ids=str)


def weight_of(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def plain_layer(shape: tuple[int, int]) -> QuantizedLayer:
    return QuantizedLayer(LayerConfig(BITMOD4_G128), quantize_tensor(weight_of(shape), BITMOD4_G128), shape)


def check_bytes_and_return(layer: QuantizedLayer) -> None:
    arrays = pack_layer(layer)
    stored = sum(a.numel() * a.element_size() for a in arrays.values())
    assert stored * 8 == layer.config.storage_bits(layer.shape).total
    back = unpack_layer(arrays, layer.config, layer.shape, notes={"error": 0.5})
    assert torch.equal(back.dequantize_weight(), layer.dequantize_weight())
    assert back.notes == {"error": 0.5}


@SHAPES
def test_a_plain_layer(shape):
    check_bytes_and_return(plain_layer(shape))


@SHAPES
def test_smoothing_and_permutation(shape):
    layer, k = plain_layer(shape), shape[1]
    smoothing = (torch.rand(k, generator=torch.Generator().manual_seed(1)) + 0.5).half().float()
    config = replace(layer.config, smoothing=FP16, permuted=True)
    check_bytes_and_return(replace(layer, config=config, smoothing=smoothing, permutation=torch.randperm(k)))


@SHAPES
@pytest.mark.parametrize("rank", [3, 500])
def test_low_rank_branch(shape, rank):
    factor = TensorConfig((INTS_SYMMETRIC[8],), PerGroup(16))
    n, k = shape
    used = min(rank, n, k)
    config = replace(plain_layer(shape).config, low_rank=LowRankConfig(rank, factor, factor))
    a, b = quantize_tensor(weight_of((used, k)), factor), quantize_tensor(weight_of((n, used)), factor)
    check_bytes_and_return(replace(plain_layer(shape), config=config, low_rank_a=a, low_rank_b=b))


def elementwise(shape: tuple[int, int], count: int) -> Outliers:
    flat = torch.randperm(shape[0] * shape[1], generator=torch.Generator().manual_seed(2))[:count].sort().values
    rows, columns = flat // shape[1], flat % shape[1]
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=shape[0]).cumsum(0)])
    return Outliers(weight_of(shape).reshape(-1)[flat].half(), columns, pointers)


@SHAPES
@pytest.mark.parametrize("layout", [OutlierLayout.CSR, OutlierLayout.BITMAP], ids=lambda layout: layout.value)
def test_elementwise_outliers(shape, layout):
    outliers = OutlierConfig(layout, 0.03)
    layer = replace(plain_layer(shape), config=LayerConfig(BITMOD4_G128, outliers=outliers))
    check_bytes_and_return(replace(layer, outliers=elementwise(shape, outliers.count(shape))))


@SHAPES
@pytest.mark.parametrize("keep_dense_slot", [True, False])
def test_outlier_columns(shape, keep_dense_slot):
    outliers = OutlierConfig(OutlierLayout.COLUMNS, 0.05, keep_dense_slot=keep_dense_slot)
    k = shape[1]
    weight, count = weight_of(shape), outliers.count(shape)
    columns = torch.randperm(k, generator=torch.Generator().manual_seed(3))[:count].sort().values
    keep = torch.ones(k, dtype=torch.bool)
    keep[columns] = keep_dense_slot
    layer = QuantizedLayer(
        LayerConfig(MXFP4, outliers=outliers),
        quantize_tensor(weight[:, keep].contiguous(), MXFP4),
        shape,
        outliers=Outliers(weight[:, columns].half(), columns),
    )
    check_bytes_and_return(layer)
    assert torch.equal(layer.dequantize_weight()[:, columns], weight[:, columns].half().float())


@pytest.mark.parametrize("slab", [1, 32])
def test_a_weight_in_parts(slab):
    shape, k = (6, 256), 256
    part_of_column = torch.arange(k) // 32 % 3
    configs = [BLOCK_FORMATS[name] for name in ("int2_g128_fp16", "int3_g128_fp16", "int4_g128_fp16")]
    counts = [int((part_of_column == i).sum()) for i in range(3)]
    partitioned = PartitionedConfig(tuple(map(Part, counts, configs)), slab)
    weight = weight_of(shape)
    parts = tuple(quantize_tensor(weight[:, part_of_column == i].contiguous(), c) for i, c in enumerate(configs))
    layer = QuantizedLayer(LayerConfig(partitioned), parts, shape, part_of_column=part_of_column)
    check_bytes_and_return(layer)
    if slab > 1:
        with pytest.raises(ValueError, match="constant over slabs of 32 columns"):
            pack_layer(replace(layer, part_of_column=torch.arange(k) % 3))


def test_what_config_and_layer_do_not_share_is_refused():
    layer = plain_layer((6, 256))
    with pytest.raises(ValueError, match="smoothing of a layer must be there exactly when its config says so"):
        pack_layer(replace(layer, smoothing=torch.ones(256)))
    with pytest.raises(ValueError, match="permutation of a layer .* not only in the config"):
        pack_layer(replace(layer, config=replace(layer.config, permuted=True)))
    outliers = OutlierConfig(fraction=0.01)
    with pytest.raises(ValueError, match=r"outliers must be 15, as fraction 0.01 says, not 4"):
        pack_layer(replace(layer, config=replace(layer.config, outliers=outliers), outliers=elementwise((6, 256), 4)))
    with pytest.raises(ValueError, match="arrays of a layer must hold permutation, not only"):
        unpack_layer(pack_layer(layer), replace(layer.config, permuted=True), (6, 256))
    wide = OutlierConfig(fraction=0.0, index=INT16)
    shape = (1, 70000)
    wide_layer = QuantizedLayer(
        LayerConfig(MXFP4, outliers=wide),
        quantize_tensor(weight_of(shape), MXFP4),
        shape,
        outliers=elementwise(shape, 0),
    )
    with pytest.raises(ValueError, match="index of outliers must hold columns up to 69999, not be int16"):
        pack_layer(wide_layer)
