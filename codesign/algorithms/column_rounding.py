"""Rounding one column at a time into any scalar ``TensorConfig``: what GPTQ and its relatives share.

Scales, zero points and the choice of format are fitted group by group when the column loop reaches them (or all before,
for static groups); codes are collected and become a ``QuantizedTensor`` at the end, the same as
``datatypes.quantize`` would have built for the updated weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datatypes.catalog import FP32
from datatypes.format import FloatFormat, Format
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import NO_CLIP, quantize_tensor
from datatypes.rounding import code_dtype, decode, encode
from datatypes.scale import store_one_level
from datatypes.tensor import QuantizedTensor, decode_stored, expand_tiles

_LEVEL_FIELDS = ("outer_scale", "outer_offset", "zero_point_scale", "zero_point_offset")


class ColumnRounding:
    """State of one column loop.

    Args:
        weight: float32 ``[n, k]`` before the loop, in the layer's column order.
        config: the encoding; scalar formats with a scale.
        clip: range factors tried when a group is fitted.
        static: fit every group to ``weight`` now.

    Raises:
        NotImplementedError: formats with several elements for each code, or no scale; or candidates chosen over tiles
            that are not those of the scale, or zero points with a second level over several groups, which need
            ``static``.
    """

    def __init__(
        self, weight: Tensor, config: TensorConfig, *, clip: tuple[float, ...] = NO_CLIP, static: bool = False
    ) -> None:
        if config.formats[0].dim != 1 or config.scale is None:
            raise NotImplementedError("column rounding supports formats of one element for each code with a scale only")
        self.config = config
        self.clip = clip
        self.shape = (weight.shape[0], weight.shape[1])
        self.group = min(config.granularity.tile(self.shape)[1], self.shape[1])
        whole = self.group == self.shape[1]
        if config.selector not in (None, config.granularity) and not (static or whole):
            raise NotImplementedError("a selector of its own tiles needs static_groups for column rounding")
        self._codes = torch.empty((self.shape[1], self.shape[0]), dtype=code_dtype(config.formats[0])).to(weight.device)
        self._group_of = torch.arange(self.shape[1]) // self.group
        self._fitted: QuantizedTensor | None = None
        self._static = static or whole
        self._parts: list[QuantizedTensor] = []
        tilings = [tiles for level in config.second_levels for tiles in level.tilings]
        self._whole_levels = all(tiles.tile(self.shape)[1] <= self.group for tiles in tilings)  # fitted with a group
        if config.zero_point_level is not None and not (self._static or self._whole_levels):
            raise NotImplementedError("zero_point_level over several groups needs static_groups for column rounding")
        if self._static or not self._whole_levels:
            self._fitted = quantize_tensor(weight, config, clip=clip)
        self._mixture = mixture_tables(config.formats, weight.device)
        self._scales: Tensor | None = None
        if self._static:
            self._spread_static()

    def _spread_static(self) -> None:
        """Scale, zero point and selector of every column ``[groups, n]``, from the fit to the whole weight."""
        assert self._fitted is not None
        made, first = self._fitted, slice(None, None, self.group)
        scale = made.effective_scale()
        assert scale is not None
        self._scales = expand_tiles(scale, self.config.granularity, self.shape)[:, first].T.contiguous()
        self._zeros = self._selectors = None
        zero = made.effective_zero_point()
        if zero is not None:
            self._zeros = expand_tiles(zero, self.config.granularity, self.shape)[:, first].T.contiguous()
        if made.selector is not None:
            selector = expand_tiles(made.selector, self.config.selector_granularity, self.shape)
            self._selectors = selector[:, first].T.contiguous()

    def reorder(self, order: Tensor) -> None:
        """Columns will come in this order; static groups follow their columns, others are formed anew."""
        if self._static:
            self._group_of = self._group_of[order.cpu()]

    def starts_group(self, column: int) -> bool:
        """Whether ``fit`` must be called before this column."""
        return not self._static and column % self.group == 0

    def fit(self, column: int, group: Tensor) -> None:
        """Fix scale, zero point and format of the group from ``column`` on, whose weights are ``group`` ``[n, g]``."""
        scale_config = self.config.scale
        assert scale_config is not None
        fixed = not self._whole_levels
        if fixed:  # choose with the real scale; it is stored under the outer scale fixed before the loop
            scale_config = ScaleConfig(FP32, scale_config.rule)
        part = quantize_tensor(group, replace(self.config, scale=scale_config), clip=self.clip)
        if fixed:
            part = self._under_outer(column, part)
        self._parts.append(part)
        rows = part.shape[0]
        one = (rows, 1)
        scale = part.effective_scale() if not fixed else decode_stored(part.scale, self.config.scale.format)  # type: ignore[union-attr, arg-type]
        assert scale is not None
        self._scale = expand_tiles(scale, self.config.granularity, one)[:, 0]
        if fixed:
            outer, offset = self._outer_of(column)
            self._scale = self._scale * outer if offset is None else self._scale * outer + offset
        self._zero = self._selector = None
        zero = part.effective_zero_point()
        if zero is not None:
            self._zero = expand_tiles(zero, self.config.granularity, one)[:, 0]
        if part.selector is not None:
            self._selector = expand_tiles(part.selector, self.config.granularity, one)[:, 0]

    def _outer_of(self, column: int) -> tuple[Tensor, Tensor | None]:
        """Outer scale and outer offset over the rows of a column, float32 ``[n]``."""
        assert self._fitted is not None and self._fitted.outer_scale is not None and self.config.scale is not None
        level = self.config.scale.second_level
        assert level is not None
        outer = decode_stored(self._fitted.outer_scale, level.scale)
        outer = expand_tiles(outer, level.granularity, self.shape)[:, column]
        if self._fitted.outer_offset is None:
            return outer, None
        offset = decode_stored(self._fitted.outer_offset, level.offset)
        return outer, expand_tiles(offset, level.offset_tiles, self.shape)[:, column]

    def _under_outer(self, column: int, part: QuantizedTensor) -> QuantizedTensor:
        assert part.scale is not None and self.config.scale is not None
        rows = self.config.granularity.tile(self.shape)[0]
        outer, offset = self._outer_of(column)
        outer = outer[::rows][:, None]
        rest = part.scale if offset is None else part.scale - offset[::rows][:, None]
        ratio = torch.where(outer == 0, torch.zeros_like(outer), rest / outer)
        return replace(part, scale=store_one_level(ratio, self.config.scale.format))

    def round(self, column: int, values: Tensor) -> Tensor:
        """Encode one column ``[n]`` of the (updated) weight; returns what it decodes to, float32 ``[n]``."""
        if self._static:
            assert self._scales is not None
            group = int(self._group_of[column])
            scale = self._scales[group]
            zero = None if self._zeros is None else self._zeros[group]
            selector = None if self._selectors is None else self._selectors[group]
        else:
            scale, zero, selector = self._scale, self._zero, self._selector
        real_offset = isinstance(self.config.zero_point, FloatFormat)
        x = values - zero if zero is not None and real_offset else values
        y = torch.where(scale == 0, torch.zeros_like(x), x / scale)
        if zero is not None and not real_offset:
            y = y.add_(zero) if self.config.zero_point_level is not None else y.round_().add_(zero)
        codes, level = self._nearest(y, selector)
        self._codes[column] = codes
        if zero is None:
            return level * scale
        return level * scale + zero if real_offset else (level - zero) * scale

    def _nearest(self, y: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor]:
        """Codes of ``y`` ``[n]`` and what they stand for, each row in its own candidate."""
        formats = self.config.formats
        if selector is None:
            codes = encode(y, formats[0])
            return codes, decode(codes, formats[0])
        if self._mixture is not None:  # one search in every row's own thresholds
            chosen = selector.to(torch.int64)
            index = torch.searchsorted(self._mixture.thresholds[chosen], y[:, None], right=True)
            return (
                self._mixture.codes[chosen].gather(1, index)[:, 0],
                self._mixture.levels[chosen].gather(1, index)[:, 0],
            )
        codes = encode(y, formats[0])
        level = decode(codes, formats[0])
        for i, fmt in enumerate(formats[1:], start=1):
            other = encode(y, fmt)
            codes = torch.where(selector == i, other, codes)
            level = torch.where(selector == i, decode(other, fmt), level)
        return codes, level

    def finish(self, order: Tensor | None) -> tuple[QuantizedTensor, Tensor | None]:
        """The encoded matrix, and the permutation of its columns where groups were formed in the loop's order."""
        if self._static:
            assert self._fitted is not None
            codes = self._codes
            if order is not None:
                codes = torch.empty_like(codes).index_copy_(0, order, codes)
            return replace(self._fitted, codes=codes.T.contiguous()), None
        made = QuantizedTensor(
            config=self.config,
            shape=self.shape,
            codes=self._codes.T.contiguous(),
            scale=_joined([p.scale for p in self._parts]),
            zero_point=_joined([p.zero_point for p in self._parts]),
            selector=_joined([p.selector for p in self._parts]),
            **self._second_levels(),
        )
        if order is None or self.group > 1:
            return made, order
        back = order.argsort()  # columns that share nothing along the row need no order of their own
        by_column = ["codes", "scale", "zero_point", "selector", *(_LEVEL_FIELDS if self._whole_levels else ())]
        restored: dict[str, Any] = {name: _taken(getattr(made, name), back) for name in by_column}
        return replace(made, **restored), None

    def _second_levels(self) -> dict[str, Any]:
        """Outer scales and the like: of every group, or fixed before the loop."""
        if self._whole_levels:
            return {name: _joined([getattr(part, name) for part in self._parts]) for name in _LEVEL_FIELDS}
        return {name: getattr(self._fitted, name) for name in _LEVEL_FIELDS}


def _taken(values: Tensor | None, columns: Tensor) -> Tensor | None:
    return None if values is None else values[:, columns]


@dataclass(frozen=True, eq=False)
class MixtureTables:
    """Tables of candidates side by side: thresholds ``[f, l - 1]``, level codes and levels ``[f, l]``."""

    thresholds: Tensor
    codes: Tensor
    levels: Tensor


def mixture_tables(formats: tuple[Format, ...], device: torch.device) -> MixtureTables | None:
    """The tables of several formats with equally many levels; ``None`` where zero has a sign or NaN a code."""
    plain = all(f.negative_zero_code is None and f.nan_code is None for f in formats)
    if len(formats) == 1 or not plain or len({len(f.levels) for f in formats}) > 1:
        return None

    def table(arrays: list[np.ndarray], dtype: torch.dtype) -> Tensor:
        return torch.tensor(np.stack(arrays), dtype=dtype, device=device)

    return MixtureTables(
        table([f.thresholds for f in formats], torch.float32),
        table([f.level_codes for f in formats], code_dtype(formats[0])),
        table([f.levels for f in formats], torch.float32),
    )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [p for p in parts if p is not None]
    return torch.cat(present, 1) if present else None


def block_bounds(columns: int, group: int, block: int) -> Iterator[tuple[int, int]]:
    """Blocks of at most ``block`` columns (at least a group, where groups are shorter) that split no group unevenly.

    >>> list(block_bounds(10, 3, 7))
    [(0, 6), (6, 10)]
    >>> list(block_bounds(10, 5, 3))
    [(0, 3), (3, 5), (5, 8), (8, 10)]
    """
    if group <= block:
        step = block // group * group
        for start in range(0, columns, step):
            yield start, min(start + step, columns)
        return
    for first in range(0, columns, group):
        last = min(first + group, columns)
        for start in range(first, last, block):
            yield start, min(start + block, last)
