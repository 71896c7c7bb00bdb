"""Scales and zero points as they are stored, the scales and offsets of a second level included.

Two published rules are here: an outer scale alone (BitMoD, NVFP4) or around a mean (QLoRA's double quantization,
Dettmers et al., arXiv 2305.14314, section 3), and from minimum to maximum (SpQR, Dettmers et al., arXiv 2306.03078).
Codes always follow from the stored second level, each by single float32 operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datatypes.format import Format
from datatypes.granularity import Granularity
from datatypes.layer_config import ScaleConfig, ScaleRule, SecondLevel
from datatypes.scale import reduce_tiles, scalar, smallest_positive, store_one_level, store_positive, sum_tiles
from datatypes.tensor import TORCH_FLOATS, decode_second_level, decode_stored, spread_tiles, tiles_in_tile


@dataclass(frozen=True, eq=False)
class StoredLevels:
    """Scales or zero points as stored: codes or floats ``[gn, gk]``, and what a second level adds."""

    values: Tensor | None
    scale: Tensor | None = None
    offset: Tensor | None = None


def store_scale(scale: Tensor, config: ScaleConfig, granularity: Granularity, shape: tuple[int, int]) -> StoredLevels:
    """Scales ``[gn, gk]`` (zero or more) in their storage, second level included; none of them decodes to zero.

    Without an offset the outer scale of its tile is ``max(scale) / maximum(scale format)``: BitMoD's channel step
    (maximum 255) and NVFP4's tensor scale (maximum 448) alike; 1 where all scales are zero. With one, see
    ``store_second_level``; a scale that would decode to zero or less gets the next code that does not.
    """
    level = config.second_level
    if level is None:
        return StoredLevels(store_positive(scale, config.format))
    if level.offset is None:
        stored_outer = _stored_outer(scale, config.format, level, granularity, shape)
        per_tile = spread_tiles(decode_stored(stored_outer, level.scale), level.granularity, granularity, shape)
        return StoredLevels(store_positive(scale / per_tile, config.format), stored_outer)
    made = store_second_level(scale, config.format, level, granularity, shape)
    codes, outer, offset = made.values, made.scale, made.offset
    assert codes is not None and outer is not None

    def decoded(codes: Tensor) -> Tensor:
        values = decode_stored(codes, config.format)
        return decode_second_level(values, level, outer, offset, tiles=granularity, shape=shape)

    return StoredLevels(_raised(codes, config.format, decoded), outer, offset)


def store_second_level(
    values: Tensor, fmt: Format, level: SecondLevel, granularity: Granularity, shape: tuple[int, int]
) -> StoredLevels:
    """Real numbers, one for each tile ``[gn, gk]``, as codes of ``fmt`` under a second level.

    Rule ABSMAX: the offset is the mean of its tile (nothing where the level has no offset), the second-level scale is
    the largest magnitude of the rest over the maximum of ``fmt``. Rule RANGE: the extremes of the tile lie on those of
    ``fmt``. Offset and scale are stored first and codes follow from what is stored; a scale is 1 where the rest of its
    tile is all zero.
    """
    stored_offset: Tensor | None
    if level.rule is ScaleRule.RANGE:
        assert level.offset is not None
        tiles = tiles_in_tile(granularity, level.granularity, shape)
        low = reduce_tiles(values, tiles, "amin")
        outer = (reduce_tiles(values, tiles, "amax") - low) / scalar(fmt.maximum - fmt.minimum, low)
        stored_outer = store_positive(torch.where(outer > 0, outer, torch.ones_like(outer)), level.scale)
        offset = low - decode_stored(stored_outer, level.scale) * fmt.minimum
        stored_offset = store_one_level(offset, level.offset)
        rest = values - spread_tiles(decode_stored(stored_offset, level.offset), level.granularity, granularity, shape)
    else:
        stored_offset, rest = _without_mean(values, level, granularity, shape)
        stored_outer = _stored_outer(rest, fmt, level, granularity, shape)
    per_tile = spread_tiles(decode_stored(stored_outer, level.scale), level.granularity, granularity, shape)
    return StoredLevels(store_one_level(rest / per_tile, fmt), stored_outer, stored_offset)


def _without_mean(
    values: Tensor, level: SecondLevel, granularity: Granularity, shape: tuple[int, int]
) -> tuple[Tensor | None, Tensor]:
    """The stored mean of each offset tile, and what its subtraction leaves."""
    if level.offset is None:
        return None, values
    tiles = tiles_in_tile(granularity, level.offset_tiles, shape)
    mean = sum_tiles(values, tiles) / sum_tiles(torch.ones_like(values), tiles)
    stored = store_one_level(mean, level.offset)
    return stored, values - spread_tiles(decode_stored(stored, level.offset), level.offset_tiles, granularity, shape)


def _stored_outer(
    values: Tensor, fmt: Format, level: SecondLevel, granularity: Granularity, shape: tuple[int, int]
) -> Tensor:
    """The stored scale that brings the largest magnitude of each tile to the maximum of ``fmt``; 1 for zeros."""
    outer = reduce_tiles(values.abs(), tiles_in_tile(granularity, level.granularity, shape), "amax")
    outer = torch.where(outer > 0, outer / scalar(fmt.maximum, outer), torch.ones_like(outer))
    return store_positive(outer, level.scale)


def _raised(codes: Tensor, fmt: Format, decoded: Callable[[Tensor], Tensor]) -> Tensor:
    """``codes``, those that decode to zero or less moved up to the next level that does not."""
    wrong = decoded(codes) <= 0
    if fmt.name in TORCH_FLOATS:
        return torch.where(wrong, smallest_positive(fmt), codes)
    values = decode_stored(codes, fmt)
    for value, code in zip(fmt.levels.astype(np.float32).tolist(), fmt.level_codes.tolist(), strict=True):
        if not wrong.any():
            break
        codes = torch.where(wrong & (values < value), torch.full_like(codes, code), codes)
        wrong = decoded(codes) <= 0
    return codes
