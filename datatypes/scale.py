"""Scales: from the values of a tile to the stored scale, by rule, in float32.

Every scale is first computed as a real number (float32), then stored in its format, and codes are always derived from
the *stored* scale. A tile of zeros gets the scale 1 (the smallest scale where 1 is not representable), so nothing is
ever divided by zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datatypes.format import ExponentFormat, FloatFormat, Format, IntFormat
from datatypes.granularity import Granularity
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.rounding import encode
from datatypes.tensor import TORCH_FLOATS, decode_stored, expand_tiles

OLIVE_SIGMAS = 3.0  # initial outlier threshold in standard deviations (Guo et al., OliVe, ISCA 2023, section 3.3)


def reduce_tiles(x: Tensor, granularity: Granularity, how: str) -> Tensor:
    """``amax``, ``amin`` or ``sum`` of each tile of ``[n, k]``, as ``[gn, gk]``; ragged tiles see only their own."""
    n, k = x.shape
    rows, columns = granularity.tile((n, k))
    rows, columns = min(rows, n), min(columns, k)
    fill = {"amax": -torch.inf, "amin": torch.inf, "sum": 0.0}[how]
    if k % columns or n % rows:
        x = torch.nn.functional.pad(x, (0, -k % columns, 0, -n % rows), value=fill)
    x = x.reshape(x.shape[0] // rows, rows, x.shape[1] // columns, columns)
    if how == "sum":
        return x.sum(dim=(1, 3))
    return x.amax(dim=(1, 3)) if how == "amax" else x.amin(dim=(1, 3))


def ideal_scale(x: Tensor, fmt: Format, config: TensorConfig, clip: float = 1.0) -> tuple[Tensor, Tensor | None]:
    """Scale of each tile as a real number, and the zero point of each tile where the rule has one.

    Args:
        x: float32 ``[n, k]``.
        fmt: the element format.
        config: granularity and rule.
        clip: factor on the covered range (clip search).

    Returns:
        (scale float32 ``[gn, gk]``, zero float32 ``[gn, gk]`` or ``None``). An integer zero point is already rounded
        and in range.
    """
    assert config.scale is not None
    rule = config.scale.rule
    if rule is ScaleRule.RANGE:
        return _range_scale(x, fmt, config, clip)
    if rule is ScaleRule.NORM:
        count = reduce_tiles(torch.ones_like(x), config.granularity, "sum")
        mean_square = reduce_tiles(x.square(), config.granularity, "sum") / count
        return _not_zero(mean_square.sqrt() * clip), None
    if isinstance(fmt, OutlierVictimFormat):
        count = reduce_tiles(torch.ones_like(x), config.granularity, "sum")
        mean = reduce_tiles(x, config.granularity, "sum") / count
        square = reduce_tiles(x.square(), config.granularity, "sum") / count
        sigma = (square - mean.square()).clamp_min(0).sqrt()
        return _not_zero(sigma * (OLIVE_SIGMAS * clip / fmt.threshold)), None
    absmax = reduce_tiles(x.abs(), config.granularity, "amax") * clip
    if rule is ScaleRule.ABSMAX:
        return _not_zero(absmax / fmt.absmax), None
    return _power_of_two(absmax, fmt, rule), None


def _range_scale(x: Tensor, fmt: Format, config: TensorConfig, clip: float) -> tuple[Tensor, Tensor]:
    """(max - min) / (levels - 1) and the zero point, the range made to include zero for integer zero points."""
    if config.zero_point is None:
        raise ValueError("zero_point must be given for scale rule range, not None")
    high = reduce_tiles(x, config.granularity, "amax") * clip
    low = reduce_tiles(x, config.granularity, "amin") * clip
    real_offset = isinstance(config.zero_point, FloatFormat)
    if not real_offset:
        high, low = high.clamp_min(0), low.clamp_max(0)
    span = fmt.maximum - fmt.minimum
    scale = _not_zero((high - low) / span)
    if config.scale is not None and config.scale.outer is None:
        scale = decode_stored(store_one_level(scale, config.scale.format), config.scale.format)
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    if real_offset:
        return scale, low - scale * fmt.minimum
    zero = torch.round(fmt.minimum - low / scale).clamp(fmt.minimum, fmt.maximum)
    assert isinstance(config.zero_point, IntFormat)
    return scale, zero.clamp(config.zero_point.minimum, config.zero_point.maximum)


def _power_of_two(absmax: Tensor, fmt: Format, rule: ScaleRule) -> Tensor:
    """MX scales as exact powers of two; frexp, never a logarithm."""
    mantissa, exponent = torch.frexp(absmax)  # absmax = mantissa * 2**exponent, mantissa in [0.5, 1)
    floor_log2 = exponent - 1
    if rule is ScaleRule.POW2_FLOOR:
        emax = int(torch.frexp(torch.tensor(fmt.absmax)).exponent) - 1
        power = floor_log2 - emax
    elif rule is ScaleRule.POW2_CEIL:
        limit = torch.tensor(fmt.absmax, dtype=torch.float32)
        ratio_mantissa, ratio_exponent = torch.frexp(absmax / limit)
        power = torch.where(ratio_mantissa == 0.5, ratio_exponent - 1, ratio_exponent)
        # the division may round down to a power of two: one more where the maximum would still saturate
        power = torch.where(torch.ldexp(limit.expand_as(absmax), power) < absmax, power + 1, power)
    elif rule is ScaleRule.LQER_CEIL:
        power = torch.where(mantissa == 0.5, floor_log2, exponent) - (fmt.bits - 1)
    else:
        raise NotImplementedError(f"scale rule {rule.value} has no power of two")
    scale = torch.ldexp(torch.ones_like(absmax), power.clamp(-126, 127))
    return torch.where(absmax == 0, torch.ones_like(scale), scale)


def _not_zero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def store_one_level(scale: Tensor, fmt: Format) -> Tensor:
    """Scales in their storage format: a float tensor for FP16/BF16/FP32, else uint8 codes. Overflow saturates."""
    if fmt.name in TORCH_FLOATS:
        dtype = TORCH_FLOATS[fmt.name]
        limit = torch.finfo(dtype).max
        return scale.clamp(-limit, limit).to(dtype)
    if isinstance(fmt, ExponentFormat):
        _, exponent = torch.frexp(scale)
        return (exponent - 1 + fmt.bias).clamp(0, (1 << fmt.bits) - 2).to(torch.uint8)
    return encode(scale, fmt)


def store_scale(
    scale: Tensor, config: ScaleConfig, granularity: Granularity, shape: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Stored scales and, for two levels, stored outer scales.

    The outer scale of its tile is ``max(scale) / maximum(scale format)``: BitMoD's channel step (maximum 255) and
    NVFP4's tensor scale (maximum 448) alike.
    """
    if config.outer is None:
        return store_one_level(scale, config.format), None
    per_element = expand_tiles(scale, granularity, shape)
    outer = reduce_tiles(per_element, config.outer_granularity, "amax") / config.format.maximum
    stored_outer = store_one_level(_not_zero(outer), config.outer)
    outer_value = decode_stored(stored_outer, config.outer)
    outer_value = torch.where(outer_value == 0, torch.ones_like(outer_value), outer_value)
    rows, columns = granularity.tile(shape)
    per_tile = expand_tiles(outer_value, config.outer_granularity, shape)[::rows, ::columns]
    return store_one_level(scale / per_tile, config.format), stored_outer
