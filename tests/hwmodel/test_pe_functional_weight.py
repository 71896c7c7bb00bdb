"""Scales taken apart, and quantized tensors taken over without loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import BF16, BITMOD_FP4, E8M0, FP16, FP32, INTS, NF4, UE4M3, UINT8
from datatypes.format import Format
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from hwmodel.pe import scale_cycles
from hwmodel.pe_functional_weight import SerialWeight, serial_weight, split_scale


@pytest.mark.parametrize("fmt", [UINT8, UE4M3, E8M0, FP16, BF16], ids=lambda fmt: fmt.name)
def test_every_scale_is_split_exactly(fmt: Format) -> None:
    codes = np.flatnonzero(np.isfinite(fmt.code_values))
    significands, exponents = split_scale(codes, fmt)
    assert np.array_equal(np.ldexp(significands.astype(np.float64), exponents), fmt.code_values[codes] + 0.0)
    assert np.abs(significands).max() < 1 << scale_cycles(fmt)


def test_fp32_scales() -> None:
    values = np.array([[1e-40, 3.14159, 1e30, 0.0]], np.float32)
    significands, exponents = split_scale(values, FP32)
    assert np.array_equal(np.ldexp(significands.astype(np.float64), exponents), values.astype(np.float64))
    assert significands.max() < 1 << 24


CONFIGS = {
    **{n: BLOCK_FORMATS[n] for n in ("bitmod3_g128_uint8", "bitmod4_g128_fp16", "int6_g128_fp16", "mxfp4", "mxint8",
                                     "nvfp4", "int8_channel_fp16", "int8_tensor_fp16")},
    "bf16": TensorConfig((INTS[4],), PerGroup(32), ScaleConfig(BF16)),
    "one selector": TensorConfig(BITMOD_FP4, PerGroup(32), selector=PerTensor()),
    "selector per row": TensorConfig(BITMOD_FP4, PerGroup(32), selector=PerChannel()),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("k", [256, 200])
def test_quantized_tensors_keep_their_values(name: str, k: int) -> None:
    tensor = quantize_tensor(torch.randn(6, k, generator=torch.Generator().manual_seed(3)) * 0.02, CONFIGS[name])
    weight = serial_weight(tensor)
    # dequantize rounds scale * outer once, to float32, and the product once more
    assert np.allclose(weight.values(), tensor.dequantize().numpy(), rtol=2**-23, atol=0)
    assert weight.shape == (6, k)


def test_tensors_that_a_pe_does_not_hold() -> None:
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(3))
    with pytest.raises(NotImplementedError, match="the PE holds no zero points"):
        serial_weight(quantize_tensor(x, BLOCK_FORMATS["int4_asym_g128_fp16"]))
    config = TensorConfig(BITMOD_FP4, PerGroup(32), selector=PerGroup(16))
    tensor = quantize_tensor(x, TensorConfig(BITMOD_FP4, PerGroup(32)))
    with pytest.raises(NotImplementedError, match="formats must change with groups of 32, not after 16 columns"):
        serial_weight(replace(tensor, config=config, selector=torch.zeros(4, 4, dtype=torch.uint8)))
    outer = TensorConfig((INTS[4],), PerGroup(16), ScaleConfig(UINT8, outer=FP16, outer_granularity=PerGroup(32)))
    with pytest.raises(NotImplementedError, match="an outer scale must belong to a row or to all of them"):
        serial_weight(quantize_tensor(x, outer))
    shifted = TensorConfig((INTS[4],), PerGroup(16), ScaleConfig(UINT8, outer=FP16, outer_offset=FP16))
    with pytest.raises(NotImplementedError, match="the PE holds no offsets of outer scales"):
        serial_weight(quantize_tensor(x, shifted))
    scaled = TensorConfig((INTS[4],), PerGroup(16), row_scale=FP16)
    with pytest.raises(NotImplementedError, match="holds no row scales, column scales or rotations"):
        serial_weight(replace(tensor, config=scaled))


def test_mistakes() -> None:
    codes = np.zeros((2, 8), np.uint8)
    with pytest.raises(TypeError, match="codes must be uint8 of two dimensions, not int64 of 2"):
        SerialWeight((INTS[4],), codes.astype(np.int64), 4)
    with pytest.raises(ValueError, match="group_size must be at least 1, not 0"):
        SerialWeight((INTS[4],), codes, 0)
    with pytest.raises(ValueError, match="scales must be given exactly where scale_format is"):
        SerialWeight((INTS[4],), codes, 4, UINT8)
    with pytest.raises(ValueError, match=r"scales must have the shape \[2, 2\], not \[2, 3\]"):
        SerialWeight((INTS[4],), codes, 4, UINT8, np.ones((2, 3), np.uint8))
    with pytest.raises(ValueError, match="codes must fit 4 bits, not reach 16"):
        SerialWeight((INTS[4],), codes + np.uint8(16), 4)
    with pytest.raises(ValueError, match="choice must be below 4, not 4"):
        SerialWeight(BITMOD_FP4, codes, 4, choice=np.full((2, 2), 4, np.uint8))
    with pytest.raises(ValueError, match=r"outer must have the shape \[2\], not \[3\]"):
        SerialWeight((INTS[4],), codes, 4, outer=np.ones(3, np.float32))
    with pytest.raises(ValueError, match="scales must be finite, not a NaN of e8m0"):
        split_scale(np.array([255]), E8M0)
    with pytest.raises(ValueError, match="scales must be finite, not hold 1 NaN"):
        split_scale(np.array([np.nan], np.float16), FP16)
    with pytest.raises(NotImplementedError, match="scales must be integers, floats or powers of two, not nf4"):
        split_scale(np.array([0]), NF4)
