"""Scales: from the values of a tile to the stored scale, by rule, in float32.

Every scale is first computed as a real number (float32), then stored in its format, and codes are always derived from
the *stored* scale. A stored scale is never zero: what would round to zero is stored as the smallest positive value, and
a tile of zeros gets the scale 1 (the smallest scale where there are two levels), so nothing is divided by zero.

All sums follow one order (``sum_tiles``) and all arithmetic is single float32 operations, so that every device, and the
compiled kernels of ``datatypes.quantize_cpu``, get the same bits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datatypes.format import ExponentFormat, FloatFormat, Format, IntFormat
from datatypes.granularity import Granularity
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.rounding import encode
from datatypes.tensor import TORCH_FLOATS, decode_stored

MOMENT_RULES = frozenset({ScaleRule.NORM, ScaleRule.MEAN_ABS})  # these need sums over the tile
OLIVE_SIGMAS = 3.0  # initial outlier threshold in standard deviations (Guo et al., OliVe, ISCA 2023, section 3.3)


def reduce_tiles(x: Tensor, granularity: Granularity, how: str) -> Tensor:
    """``amax``, ``amin`` or ``sum`` of each tile of ``[n, k]``, as ``[gn, gk]``; ragged tiles see only their own."""
    if how == "sum":
        return sum_tiles(x, granularity)
    tiles = _tiles(x, granularity, {"amax": -torch.inf, "amin": torch.inf}[how])
    return tiles.amax(dim=(1, 3)) if how == "amax" else tiles.amin(dim=(1, 3))


def sum_tiles(x: Tensor, granularity: Granularity) -> Tensor:
    """Sum of each tile of ``[n, k]``, as ``[gn, gk]``, in one fixed order.

    The columns of a tile are padded with zeros to a power of two and the upper half is added to the lower half until
    one is left; then the rows likewise. Fixed, so that a choice by summed error is the same everywhere.
    """
    return _halve(_halve(_tiles(x, granularity, 0.0), 3), 1)[:, 0, :, 0]


def _tiles(x: Tensor, granularity: Granularity, fill: float) -> Tensor:
    """``[n, k]`` as ``[gn, rows, gk, columns]``, ragged tiles filled up."""
    n, k = x.shape
    rows, columns = granularity.tile((n, k))
    rows, columns = max(1, min(rows, n)), max(1, min(columns, k))
    if k % columns or n % rows:
        x = torch.nn.functional.pad(x, (0, -k % columns, 0, -n % rows), value=fill)
    return x.reshape(x.shape[0] // rows, rows, x.shape[1] // columns, columns)


def _halve(tiles: Tensor, dim: int) -> Tensor:
    size = tiles.shape[dim]
    width = 1 << (size - 1).bit_length()
    while width > 1:
        width //= 2
        if size > width:
            low, high = tiles.narrow(dim, 0, width), tiles.narrow(dim, width, size - width)
            if size < 2 * width:  # the missing part of the upper half is zeros
                summed = torch.cat(
                    [low.narrow(dim, 0, size - width) + high, low.narrow(dim, size - width, 2 * width - size)], dim
                )
            else:
                summed = low + high
            tiles, size = summed, width
    return tiles


def ideal_scale(x: Tensor, fmt: Format, config: TensorConfig, clip: float = 1.0) -> tuple[Tensor, Tensor | None]:
    """Scale of each tile as a real number, and the zero point of each tile where the rule has one.

    Args:
        x: float32 ``[n, k]``.
        fmt: the element format.
        config: granularity and rule.
        clip: factor on the covered range (clip search).

    Returns:
        (scale float32 ``[gn, gk]``, zero float32 ``[gn, gk]`` or ``None``). An integer zero point is already rounded
        and in range. The scale of a tile of zeros is 1, or 0 where a second level is to be computed from it (so that an
        empty tile does not raise the scale of its neighbours).
    """
    assert config.scale is not None
    rule = config.scale.rule
    if rule is ScaleRule.RANGE:
        return _range_scale(x, fmt, config, clip)
    if rule in MOMENT_RULES or isinstance(fmt, OutlierVictimFormat):
        return _not_zero(_moment_scale(x, fmt, config, clip), config), None
    return scale_of_absmax(reduce_tiles(x.abs(), config.granularity, "amax"), fmt, config, clip), None


def scale_of_absmax(absmax: Tensor, fmt: Format, config: TensorConfig, clip: float = 1.0) -> Tensor:
    """Scale of each tile from its largest magnitude float32 ``[gn, gk]``: rules ABSMAX, POW2 and LQER_CEIL."""
    assert config.scale is not None
    if clip != 1.0:
        absmax = absmax * clip
    if config.scale.rule is ScaleRule.ABSMAX:
        return _not_zero(absmax / scalar(fmt.absmax, absmax), config)
    return _power_of_two(absmax, fmt, config)


def _moment_scale(x: Tensor, fmt: Format, config: TensorConfig, clip: float) -> Tensor:
    """Scales that follow from sums over the tile: root mean square, mean magnitude, OliVe's three sigmas."""
    assert config.scale is not None
    count = sum_tiles(torch.ones_like(x), config.granularity)
    if config.scale.rule is ScaleRule.MEAN_ABS:
        return sum_tiles(x.abs(), config.granularity) / count * clip
    mean_square = sum_tiles(x.square(), config.granularity) / count
    if config.scale.rule is ScaleRule.NORM:
        return mean_square.sqrt() * clip
    assert isinstance(fmt, OutlierVictimFormat)
    mean = sum_tiles(x, config.granularity) / count
    return (mean_square - mean.square()).clamp_min(0).sqrt() * (OLIVE_SIGMAS * clip / fmt.threshold)


def _range_scale(x: Tensor, fmt: Format, config: TensorConfig, clip: float) -> tuple[Tensor, Tensor]:
    high, low = reduce_tiles(x, config.granularity, "amax"), reduce_tiles(x, config.granularity, "amin")
    return scale_of_range(low, high, fmt, config, clip)


def scale_of_range(
    low: Tensor, high: Tensor, fmt: Format, config: TensorConfig, clip: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(max - min) / (levels - 1) and the zero point, the range made to include zero for integer zero points.

    Where zero points have a second level they stay real numbers here, and only a tile of equal values is made to
    include zero.
    """
    assert config.scale is not None
    if config.zero_point is None:
        raise ValueError("zero_point must be given for scale rule range, not None")
    if clip != 1.0:
        high, low = high * clip, low * clip
    real_offset = isinstance(config.zero_point, FloatFormat)
    quantized_zero = config.zero_point_level is not None
    if not real_offset:
        wide_high, wide_low = high.clamp_min(0), low.clamp_max(0)
        if quantized_zero:
            equal = high == low
            wide_high, wide_low = torch.where(equal, wide_high, high), torch.where(equal, wide_low, low)
        high, low = wide_high, wide_low
    scale = _not_zero((high - low) / scalar(fmt.maximum - fmt.minimum, low), config)
    if config.scale.outer is None:
        scale = stored_value(scale, config.scale.format)
    if real_offset:
        return scale, low - scale * fmt.minimum + 0.0  # + 0.0 turns -0.0 into 0.0
    ratio = torch.where(scale > 0, low / scale, torch.zeros_like(low))
    if quantized_zero:
        return scale, scalar(fmt.minimum, low) - ratio
    zero = (scalar(fmt.minimum, low) - ratio).round().clamp(fmt.minimum, fmt.maximum)
    assert isinstance(config.zero_point, IntFormat)
    return scale, zero.clamp(config.zero_point.minimum, config.zero_point.maximum)


def _power_of_two(absmax: Tensor, fmt: Format, config: TensorConfig) -> Tensor:
    """MX scales as exact powers of two, 2**-127 to 2**127; frexp, never a logarithm."""
    assert config.scale is not None
    rule = config.scale.rule
    mantissa, exponent = torch.frexp(absmax)  # absmax = mantissa * 2**exponent, mantissa in [0.5, 1)
    floor_log2 = exponent - 1
    if rule is ScaleRule.POW2_FLOOR:
        power = floor_log2 - (math.frexp(fmt.absmax)[1] - 1)
    elif rule is ScaleRule.POW2_CEIL:
        limit_mantissa, limit_exponent = math.frexp(fmt.absmax)
        # mantissa and limit_mantissa lie in [0.5, 1): one power more exactly where the maximum would saturate
        power = exponent - limit_exponent + (mantissa > scalar(limit_mantissa, absmax)).to(exponent.dtype)
    elif rule is ScaleRule.LQER_CEIL:
        power = torch.where(mantissa == 0.5, floor_log2, exponent) - (fmt.bits - 1)
    else:
        raise NotImplementedError(f"scale rule {rule.value} has no power of two")
    return torch.where(absmax == 0, torch.zeros_like(absmax) + (config.scale.outer is None), power_of_two(power))


def power_of_two(power: Tensor) -> Tensor:
    """2**power as float32, exactly, for int32 powers; clamped to those of E8M0, -127 to 127."""
    power = power.clamp(-127, 127)
    bits = torch.where(power == -127, torch.full_like(power, 1 << 22), (power + 127) << 23)  # 2**-127 is subnormal
    return bits.to(torch.int32).view(torch.float32)


def scalar(value: float, like: Tensor) -> Tensor:
    """A zero-dimensional tensor: dividing by a Python number is a multiplication by its reciprocal on GPUs."""
    return torch.full((), value, dtype=torch.float32, device=like.device)


def _not_zero(scale: Tensor, config: TensorConfig) -> Tensor:
    """1 for a tile of zeros where one level is stored; 0 stays where a second level follows."""
    if config.scale is not None and config.scale.outer is not None:
        return scale
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


def smallest_positive(fmt: Format) -> float:
    """The smallest positive value of a scale format."""
    if fmt.name in TORCH_FLOATS:
        info = torch.finfo(TORCH_FLOATS[fmt.name])
        return info.smallest_normal * info.eps
    positive = fmt.levels[fmt.levels > 0]
    if not len(positive):
        raise ValueError(f"format of a scale must have a positive value, not {fmt.name!r}")
    return float(positive[0])


def store_positive(scale: Tensor, fmt: Format) -> Tensor:
    """Scales (zero or more) in their storage format, none of them zero."""
    return store_one_level(scale.clamp_min(smallest_positive(fmt)), fmt)


def stored_value(scale: Tensor, fmt: Format) -> Tensor:
    """What ``store_positive`` decodes to, float32."""
    return decode_stored(store_positive(scale, fmt), fmt)
