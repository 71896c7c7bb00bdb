"""The encodings that the GEMV is measured with, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from datatypes.catalog import (
    BITMOD_FP3,
    BITMOD_FP4,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FP3,
    FP4,
    FP16,
    FP32,
    INTS_SYMMETRIC,
    NF3,
    NF4,
    UE4M3,
    UINT8,
    UINTS,
)
from datatypes.format import LearnedFormat
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import CodebookConfig, ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.tensor import QuantizedTensor

_SQUEEZELLM = "Kim et al., SqueezeLLM, arXiv 2306.07629: one codebook for each row"
LEARNED = {bits: LearnedFormat(f"learned{bits}", bits, _SQUEEZELLM) for bits in (3, 4)}

_ONE = ScaleConfig(FP16)
_TWO = ScaleConfig(UINT8, outer=FP16)
_RANGE = ScaleConfig(FP16, rule=ScaleRule.RANGE)
_G128 = PerGroup(128)

RECIPES = {
    "int4_g128": TensorConfig((INTS_SYMMETRIC[4],), _G128, _ONE),
    "uint4_g128": TensorConfig((UINTS[4],), _G128, _RANGE, zero_point=UINTS[4]),
    "bitmod4_g128": TensorConfig(BITMOD_FP4, _G128, _TWO),
    "bitmod3_g128": TensorConfig(BITMOD_FP3, _G128, _TWO),
    "nf4_g64": TensorConfig((NF4,), PerGroup(64), _ONE),
    "int8": TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), _ONE),
    "int8_g128": TensorConfig((INTS_SYMMETRIC[8],), _G128, _ONE),
    "uint8_g128": TensorConfig((UINTS[8],), _G128, _RANGE, zero_point=UINTS[8]),
    "int3_g128": TensorConfig((INTS_SYMMETRIC[3],), _G128, _ONE),
    "int2_g64": TensorConfig((INTS_SYMMETRIC[2],), PerGroup(64), _ONE),
    "uint2_g64": TensorConfig((UINTS[2],), PerGroup(64), _RANGE, zero_point=UINTS[2]),
    "fp4_g128": TensorConfig((FP4,), _G128, _ONE),
    "fp3_g128": TensorConfig((FP3,), _G128, _ONE),
    "nf3_g64": TensorConfig((NF3,), PerGroup(64), _ONE),
    "mxfp4": TensorConfig((FP4,), PerGroup(32), ScaleConfig(E8M0, rule=ScaleRule.POW2_FLOOR)),
    "nvfp4": TensorConfig((FP4,), PerGroup(16), ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor())),
    "bitmod4_g128_fp16": TensorConfig(BITMOD_FP4, _G128, _ONE),
    "int5_g128": TensorConfig((INTS_SYMMETRIC[5],), _G128, _ONE),
    "uint5_g128": TensorConfig((UINTS[5],), _G128, _RANGE, zero_point=UINTS[5]),
    "int6_g128": TensorConfig((INTS_SYMMETRIC[6],), _G128, _ONE),
    "uint6_g128": TensorConfig((UINTS[6],), _G128, _RANGE, zero_point=UINTS[6]),
    "int7_g128": TensorConfig((INTS_SYMMETRIC[7],), _G128, _ONE),
    "uint7_g128": TensorConfig((UINTS[7],), _G128, _RANGE, zero_point=UINTS[7]),
    "e2m3_g128": TensorConfig((E2M3,), _G128, _ONE),
    "e3m2_g128": TensorConfig((E3M2,), _G128, _ONE),
    "mxfp6": TensorConfig((E2M3,), PerGroup(32), ScaleConfig(E8M0, rule=ScaleRule.POW2_FLOOR)),
    "e4m3": TensorConfig((E4M3,), PerChannel(), _ONE),
    "e4m3_g128": TensorConfig((E4M3,), _G128, _ONE),
    "e5m2_g128": TensorConfig((E5M2,), _G128, _ONE),
    "mxfp8": TensorConfig((E4M3,), PerGroup(32), ScaleConfig(E8M0, rule=ScaleRule.POW2_FLOOR)),
    "learned4": TensorConfig((LEARNED[4],), PerChannel(), None, codebook=CodebookConfig()),
    "learned3": TensorConfig((LEARNED[3],), PerChannel(), None, codebook=CodebookConfig()),
}


def quantize_randomly(weight: Tensor, config: TensorConfig) -> QuantizedTensor:
    """A quantized matrix for a measurement: rounded to its format, or to quantiles of each row for a learned one."""
    fmt = config.formats[0]
    if not isinstance(fmt, LearnedFormat):
        return quantize_tensor(weight, config)
    levels = torch.linspace(0, 1, 1 << fmt.bits, device=weight.device, dtype=weight.dtype)
    codebook = torch.quantile(weight, levels, dim=1).T.contiguous().half()
    middles = (codebook[:, 1:] + codebook[:, :-1]).float() / 2
    codes = torch.searchsorted(middles, weight.float().contiguous()).to(torch.uint8)
    return QuantizedTensor(config, (weight.shape[0], weight.shape[1]), codes, codebook=codebook[:, :, None])
