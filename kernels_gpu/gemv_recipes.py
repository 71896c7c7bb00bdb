"""The encodings that the GEMV is measured with, by name."""

from __future__ import annotations

from datatypes.catalog import (
    BITMOD_FP3,
    BITMOD_FP4,
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
from datatypes.granularity import PerChannel, PerGroup, PerTensor
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig

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
}
