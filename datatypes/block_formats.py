"""Block formats and other complete encodings of one matrix, ready to use: element format, granularity and scale.

A name says element, granularity and scale in that order. What an algorithm must fit (codebooks, masks, residuals)
is not here. Sources are those of the element formats in ``datatypes.catalog`` and, for the blocks, beside each.
"""

from __future__ import annotations

from collections.abc import Mapping

from datatypes.catalog import (
    AF4,
    ANT4_WEIGHT,
    BINARY,
    BITMOD_FP3,
    BITMOD_FP4,
    BNB_FP4,
    DYNAMIC8,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FP4,
    FP16,
    FP32,
    INTS_SYMMETRIC,
    MINIFLOATS,
    MX_INT8,
    NF3,
    NF4,
    OLIVE4_FLINT,
    OLIVE4_INT,
    TERNARY,
    UE4M3,
    UINT8,
    UINTS,
)
from datatypes.format import Format
from datatypes.granularity import PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import ScaleConfig, ScaleRule, SecondLevel, TensorConfig

# OCP Microscaling Formats (MX) 1.0, section 5.2: 32 elements share one E8M0 scale; section 6.3: floor of log2
MX_BLOCK = 32
# NVIDIA NVFP4: 16 elements share a UE4M3 scale, the tensor an FP32 scale
NVFP4_BLOCK = 16


def mx(fmt: Format, *, rule: ScaleRule = ScaleRule.POW2_FLOOR) -> TensorConfig:
    """An MX block of ``fmt``. ``POW2_FLOOR`` is the specification's rule; ``POW2_CEIL`` never saturates.

    With the floor rule the largest element of a block is clipped by up to 25 % (E2M1), 12.5 % (E3M2, E4M3, E5M2),
    6.25 % (E2M3) or 0.8 % (INT8); a NaN scale makes the block NaN.
    """
    return TensorConfig((fmt,), PerGroup(MX_BLOCK), ScaleConfig(E8M0, rule))


def integer_asymmetric(bits: int, group_size: int) -> TensorConfig:
    """Unsigned codes with an FP16 scale and a zero point of ``bits`` bits (GPTQ, AWQ)."""
    return TensorConfig(
        (UINTS[bits],), PerGroup(group_size), ScaleConfig(FP16, ScaleRule.RANGE), zero_point=UINTS[bits]
    )


def bitmod_config(formats: tuple[Format, ...], group_size: int = 128) -> TensorConfig:
    """BitMoD: candidates for each group, 8-bit scales under one FP16 scale for each channel (HPCA 2025, III-C)."""
    return TensorConfig(formats, PerGroup(group_size), ScaleConfig(UINT8, outer=FP16, outer_granularity=PerChannel()))


def double_quantized(formats: tuple[Format, ...], group_size: int = 64, scales: int = 256) -> TensorConfig:
    """QLoRA's double quantization (Dettmers et al., arXiv 2305.14314, section 3): the FP32 mean of all scales is taken
    off, the rest stored in 8 bits under one FP32 scale for each 256 of them.

    The 8-bit type is bitsandbytes' (0.50.2, ``quantize_4bit`` with ``compress_statistics``). Its 256 scales follow one
    another in memory, here they lie in 256 rows below one another, which no width of a matrix cuts short; where a
    number of rows holds 256 groups, ``PerBlock(256 * 64 // in_features, in_features)`` gives bitsandbytes' own tiles.
    Elements are rounded with the scales as stored; bitsandbytes rounds them with the scales before their compression.
    """
    tiles = PerBlock(scales, group_size)
    scale = ScaleConfig(
        DYNAMIC8, outer=FP32, outer_granularity=tiles, outer_offset=FP32, outer_offset_granularity=PerTensor()
    )
    return TensorConfig(formats, PerGroup(group_size), scale)


def bilevel(bits: int, group_size: int = 16, rows: int = 16, statistics_bits: int = 3) -> TensorConfig:
    """SpQR's dense part (Dettmers et al., arXiv 2306.03078): scales and zero points of ``statistics_bits`` bits, each
    kind under an FP16 scale and offset for ``rows`` consecutive rows of a group of columns.
    """
    tiles, codes = PerBlock(rows, group_size), UINTS[statistics_bits]
    level = SecondLevel(FP16, tiles, FP16, rule=ScaleRule.RANGE)
    scale = ScaleConfig(codes, ScaleRule.RANGE, FP16, tiles, outer_offset=FP16, outer_rule=ScaleRule.RANGE)
    return TensorConfig((UINTS[bits],), PerGroup(group_size), scale, zero_point=codes, zero_point_level=level)


MXFP4, MXFP6_E2M3, MXFP6_E3M2 = mx(FP4), mx(E2M3), mx(E3M2)
MXFP8_E4M3, MXFP8_E5M2, MXINT8 = mx(E4M3), mx(E5M2), mx(MX_INT8)
MXFP4_CEIL = mx(FP4, rule=ScaleRule.POW2_CEIL)
NVFP4 = TensorConfig((FP4,), PerGroup(NVFP4_BLOCK), ScaleConfig(UE4M3, outer=FP32, outer_granularity=PerTensor()))
BITMOD3_G128, BITMOD4_G128 = bitmod_config(BITMOD_FP3), bitmod_config(BITMOD_FP4)

BLOCK_FORMATS: Mapping[str, TensorConfig] = {
    "mxfp4": MXFP4,
    "mxfp4_ceil": MXFP4_CEIL,
    "mxfp6_e2m3": MXFP6_E2M3,
    "mxfp6_e3m2": MXFP6_E3M2,
    "mxfp8_e4m3": MXFP8_E4M3,
    "mxfp8_e5m2": MXFP8_E5M2,
    "mxint8": MXINT8,
    "nvfp4": NVFP4,
    "bitmod3_g128_uint8": BITMOD3_G128,
    "bitmod4_g128_uint8": BITMOD4_G128,
    "bitmod3_g128_fp16": TensorConfig(BITMOD_FP3, PerGroup(128)),
    "bitmod4_g128_fp16": TensorConfig(BITMOD_FP4, PerGroup(128)),
    **{f"int{bits}_g128_fp16": TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128)) for bits in range(2, 9)},
    **{f"int{bits}_asym_g128_fp16": integer_asymmetric(bits, 128) for bits in range(2, 9)},
    "int8_channel_fp16": TensorConfig((INTS_SYMMETRIC[8],), PerChannel()),
    "int8_tensor_fp16": TensorConfig((INTS_SYMMETRIC[8],), PerTensor()),
    "int8_input_channel_fp16": TensorConfig((INTS_SYMMETRIC[8],), PerInputChannel()),
    "fp8_e4m3_tensor_fp32": TensorConfig((E4M3,), PerTensor(), ScaleConfig(FP32)),
    # QLoRA and bitsandbytes: blocks of 64 with an FP32 absmax (Dettmers et al., arXiv 2305.14314, section 3)
    "nf4_g64_fp32": TensorConfig((NF4,), PerGroup(64), ScaleConfig(FP32)),
    "nf4_g64_dq": double_quantized((NF4,)),
    "nf3_g64_fp32": TensorConfig((NF3,), PerGroup(64), ScaleConfig(FP32)),
    "af4_g64_fp32": TensorConfig((AF4,), PerGroup(64), ScaleConfig(FP32)),
    "bnb_fp4_g64_fp32": TensorConfig((BNB_FP4,), PerGroup(64), ScaleConfig(FP32)),
    "e3m0_g32_e8m0": mx(MINIFLOATS["e3m0"]),
    # ANT: one type for each tensor, one scale for each output channel (Guo et al., MICRO 2022, section 5)
    "ant4_channel_fp16": TensorConfig(ANT4_WEIGHT, PerChannel(), selector=PerTensor()),
    # OliVe: as ANT, int4 or flint4 beside the abfloat (Guo et al., ISCA 2023, section 3.4)
    "olive4_channel_fp16": TensorConfig((OLIVE4_INT, OLIVE4_FLINT), PerChannel(), selector=PerTensor()),
    # XNOR-Net eq. 6 and BitNet b1.58 eq. 3: the scale is the mean magnitude
    "binary_channel_fp16": TensorConfig((BINARY,), PerChannel(), ScaleConfig(FP16, ScaleRule.MEAN_ABS)),
    "ternary_tensor_fp16": TensorConfig((TERNARY,), PerTensor(), ScaleConfig(FP16, ScaleRule.MEAN_ABS)),
}
