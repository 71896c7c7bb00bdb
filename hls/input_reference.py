"""Inputs as an exported layer's multipliers see them, bit for bit: smoothed, rotated, encoded by ``datatypes``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datatypes.catalog import FP16, FP32
from datatypes.channel_groups import ChannelGroups, EncodedChannels
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.format import IntFormat
from datatypes.granularity import PerInputChannel
from datatypes.layer_config import ActivationConfig, ScaleConfig, TensorConfig
from datatypes.quantize import encode_with_scale, quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.rounding import code_dtype
from datatypes.tensor import QuantizedTensor
from hls.c_types import unit_exponent
from hls.channel_slabs import channel_weights, groups_of, last_scale
from hls.layer_parts import per_column
from hwmodel.channel_groups import plain_activation

INPUT_SCALE_NOTE = "input_scale"  # the static activation scale among a layer's notes


@dataclass(frozen=True, eq=False)
class StagedInput:
    """An input as the multipliers see it.

    Args:
        values: float64 ``[m, k]``, exact: elements in code units less their zero points, or the FP16 numbers; of
            channel groups in units of the last group's codes.
        unit_exponent: every value is a multiple of ``2**unit_exponent``.
        scale: float32 ``[m, k]`` of each element; ``None`` where there is none.
        tensor: the encoding; ``None`` for FP16.
        plain: float16 ``[m, k]`` where it is not encoded.
    """

    values: np.ndarray
    unit_exponent: int
    scale: np.ndarray | None
    tensor: QuantizedTensor | None
    plain: np.ndarray | None

    @property
    def numbers(self) -> np.ndarray:
        """What side branches multiply, float32 ``[m, k]``."""
        values = self.values.astype(np.float32)
        return values if self.scale is None else values * self.scale


def stage_input(layer: QuantizedLayer, x: np.ndarray) -> StagedInput:
    """Smoothing, rotation, quantization of float16 ``[m, k]``.

    Raises:
        ValueError: a value is not finite, before or after smoothing; no static scale among the notes.
        NotImplementedError: an activation format that no stage makes.
    """
    y: np.ndarray = x.astype(np.float32)
    if layer.smoothing is not None:
        y = y / layer.smoothing.to(torch.float32).numpy()
    weights = layer.weight if isinstance(layer.weight, tuple) else (layer.weight,)
    block = next((tensor.config.hadamard for tensor in weights if tensor.shape[1]), 0)  # one for all parts
    if block:
        y = hadamard_rows(y, block)
    if not np.isfinite(y).all():
        raise ValueError("activations must be finite, not hold NaN or infinity")
    groups = groups_of(layer)
    if groups is not None:
        return encode_channels(y, layer.config.activation, groups)
    config = plain_activation(layer.config.activation)
    if config is None:
        plain = half_rounded(y)
        return StagedInput(plain.astype(np.float64), -24, None, None, plain)
    return encode_rows(y, config, _static_scale(layer, config))


def encode_channels(y: np.ndarray, config: ActivationConfig | None, groups: ChannelGroups) -> StagedInput:
    """float32 ``[m, k]`` in one chunk of channel groups, in units of the last group's scale."""
    assert isinstance(config, ChannelGroupsConfig)
    codes = EncodedChannels(config, groups).codes(torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32)))
    stored = (codes.to(torch.int32) & ((1 << config.format.bits) - 1)).to(code_dtype(config.format))
    encoding = TensorConfig(config.formats, PerInputChannel(), ScaleConfig(FP32))
    tensor = QuantizedTensor(encoding, (y.shape[0], y.shape[1]), stored, groups.channel_scales())
    scale = np.full(y.shape, np.float32(last_scale(groups)))
    return StagedInput(codes.to(torch.float64).numpy() * channel_weights(groups), 0, scale, tensor, None)


def half_rounded(x: np.ndarray) -> np.ndarray:
    """float32 as FP16, saturating."""
    limit = np.float32(np.finfo(np.float16).max)
    with np.errstate(over="ignore"):
        rounded: np.ndarray = np.clip(x, -limit, limit).astype(np.float16)
    return rounded


def _static_scale(layer: QuantizedLayer, config: TensorConfig) -> float | None:
    if config.scale is None or config.dynamic:
        return None
    if INPUT_SCALE_NOTE not in layer.notes:
        raise ValueError(f"a static activation scale must be in the layer's notes as {INPUT_SCALE_NOTE}, not absent")
    return float(layer.notes[INPUT_SCALE_NOTE])


def encode_rows(y: np.ndarray, config: TensorConfig, static: float | None = None) -> StagedInput:
    """float32 ``[m, k]`` in an activation format, as ``datatypes.quantize`` encodes it."""
    fmt = config.formats[0]
    real_zero = config.zero_point is not None and (
        not isinstance(config.zero_point, IntFormat) or config.zero_point_level is not None
    )
    if len(config.formats) > 1 or fmt.dim > 1 or real_zero or config.residual is not None or config.hadamard:
        raise NotImplementedError(f"no activation stage makes candidates, pairs or real zero points: {config!r}")
    if config.scale is None and fmt.bits >= 16 and fmt != FP16:
        raise NotImplementedError(f"activations without a scale must be fp16 or of less than 16 bits, not {fmt.name}")
    values = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32))
    shape = (values.shape[0], values.shape[1])
    if static is None:
        tensor = quantize_tensor(values, config)
    else:
        tensor = encode_with_scale(values, config, torch.full(config.granularity.scale_shape(shape), static))
    if tensor.codes.dtype.is_floating_point:
        return StagedInput(
            tensor.codes.to(torch.float64).numpy(), unit_exponent(fmt), None, tensor, tensor.codes.numpy()
        )
    whole = fmt.code_values[tensor.codes.numpy()]
    zero, scale = tensor.effective_zero_point(), tensor.effective_scale()
    if zero is not None:
        whole = whole - per_column(zero, config.granularity, shape)
    spread = None if scale is None else per_column(scale, config.granularity, shape)
    return StagedInput(whole, unit_exponent(fmt), spread, tensor, None)


def hadamard_rows(x: np.ndarray, block: int) -> np.ndarray:
    """float32 ``[m, k]`` rotated in blocks: butterflies in Sylvester's order, one division by the root at the end.

    >>> hadamard_rows(np.array([[1, 0, 0, 0]], np.float32), 4).tolist()
    [[0.5, 0.5, 0.5, 0.5]]

    Raises:
        ValueError: the block does not divide ``k``.
    """
    m, k = x.shape
    if k % block:
        raise ValueError(f"hadamard must divide in_features {k}, not {block!r}")
    y = x.astype(np.float32).reshape(m, -1, block)
    half = 1
    while half < block:
        pairs = y.reshape(m, -1, block // (2 * half), 2, half)
        low, high = pairs[:, :, :, 0], pairs[:, :, :, 1]
        y = np.stack((low + high, low - high), axis=3).reshape(m, -1, block)
        half *= 2
    rotated: np.ndarray = (y / np.float32(block**0.5)).reshape(m, k)
    return rotated
