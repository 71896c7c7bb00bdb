"""Decoder blocks of odd sizes with random weights, in several encodings: what tests of blocks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from codesign.algorithms.tender import Tender
from codesign.calibration import InputStatistics, Statistic
from codesign.recipes import recipe
from datatypes.block_formats import MXFP4
from datatypes.catalog import BITMOD_FP4, E4M3, FP16, FP32, INTS, INTS_SYMMETRIC, UINTS
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, ScaleRule, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from hls.decoder_block import LAYERS, DecoderBlock
from hls.layer_options import LayerOptions
from hwmodel.unit_cost_design import Arithmetic

TOKEN_INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)


def made_block(
    weight: LayerConfig, key: TensorConfig | None, value: TensorConfig | None, *, heads: int = 3, kv_heads: int = 1,
    head_dim: int = 10, hidden: int = 40, mlp: int = 50, biased: bool = False, positions: int = 5,
) -> DecoderBlock:  # fmt: skip
    """A block of odd sizes with random weights."""
    generator = torch.Generator().manual_seed(5)
    q, kv = heads * head_dim, kv_heads * head_dim
    shapes = ((q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (mlp, hidden), (mlp, hidden), (hidden, mlp))
    layers = {}
    for name, shape in zip(LAYERS, shapes, strict=True):
        plain = torch.randn(shape, generator=generator) * shape[1] ** -0.5
        smoothing = None
        if weight.smoothing is not None:
            smoothing = (torch.rand(shape[1], generator=generator) + 0.5).to(torch.float16)
        assert isinstance(weight.weight, TensorConfig)
        if isinstance(weight.activation, ChannelGroupsConfig):
            layers[name] = _in_channel_groups(plain, weight, generator)
            continue
        layers[name] = QuantizedLayer(weight, quantize_tensor(plain, weight.weight), shape, smoothing=smoothing)
    rng = np.random.default_rng(6)
    biases = {
        name: rng.normal(size=shape[0]).astype(np.float32) for name, shape in zip(LAYERS, shapes, strict=True) if biased
    }
    norms = rng.uniform(0.5, 1.5, (2, hidden)).astype(np.float32)
    angle = np.arange(positions)[:, None] * 100.0 ** (-2 * np.arange(head_dim // 2) / head_dim)
    return DecoderBlock(
        "block", layers, biases, norms[0], norms[1], 1e-6, heads, kv_heads, np.cos(angle).astype(np.float32),
        np.sin(angle).astype(np.float32), head_dim**-0.5, key, value,
    )  # fmt: skip


def _in_channel_groups(weight: torch.Tensor, config: LayerConfig, generator: torch.Generator) -> QuantizedLayer:
    """A layer whose inputs were calibrated on channels of sizes about e**3 apart."""
    k = weight.shape[1]
    statistics = InputStatistics(k, frozenset({Statistic.CHUNK_RANGE}))
    drawn = torch.randn(30, k, generator=generator) + torch.randn(k, generator=generator)
    statistics.update(drawn * torch.exp(torch.randn(k, generator=generator)))
    return Tender().quantize(weight, statistics.finish("layer"), config)


def asymmetric(bits: int, scale: object = FP16, tile: int | None = None) -> TensorConfig:
    granularity = PerChannel() if tile is None else PerGroup(tile)
    return TensorConfig((UINTS[bits],), granularity, ScaleConfig(scale, ScaleRule.RANGE), zero_point=UINTS[bits])


BLOCKS: dict[str, Callable[[], tuple[DecoderBlock, LayerOptions]]] = {
    "int8_fp16_cache_fp16": lambda: (
        made_block(LayerConfig(weight=TensorConfig((INTS[8],), PerChannel())), None, None), LayerOptions(1, 7, 3)
    ),
    "biases_groups_in_the_cache": lambda: (
        made_block(
            LayerConfig(weight=TensorConfig((INTS[5],), PerGroup(16)), activation=TOKEN_INT8),
            replace(TOKEN_INT8, granularity=PerGroup(4)), asymmetric(3, FP32, 6), biased=True, heads=2, kv_heads=2,
        ),
        LayerOptions(1, 8, 5),
    ),
    "bitmod_smoothed_fp8_cache": lambda: (
        made_block(
            LayerConfig(weight=TensorConfig(BITMOD_FP4, PerGroup(20), ScaleConfig(FP16)), smoothing=FP16),
            TensorConfig((E4M3,), PerChannel(), ScaleConfig(FP16), dynamic=True), asymmetric(2), heads=4, kv_heads=2,
            positions=4,
        ),
        LayerOptions(1, 4, 2, Arithmetic.BITMOD),
    ),
    "channel_groups_int8_cache": lambda: (
        made_block(recipe("tender8_tensor").linear, TOKEN_INT8, TOKEN_INT8, biased=True), LayerOptions(1, 6, 4)
    ),
    "mxfp4_int8_cache_without_scale": lambda: (
        made_block(
            LayerConfig(weight=MXFP4, activation=replace(MXFP4, dynamic=True)),
            TensorConfig((E4M3,), scale=None), None, hidden=64, mlp=64, head_dim=32, heads=2,
        ),
        LayerOptions(1, 8, 8),
    ),
}  # fmt: skip
