"""The best of many clip factors for each tile, from sorted values and prefix sums.

Trying 50 clip factors by rounding the whole matrix 50 times costs 50 passes. Sorted once, the squared error of
rounding a tile with any scale follows from the ``levels - 1`` decision bounds: between two bounds all values go to one
level ``v``, so their error is ``sum x^2 - 2 v sum x + count v^2``, differences of prefix sums in float64. This is the
error itself, not an approximation over a histogram.

OliVe (ISCA 2023, 0.02 steps of the outlier threshold) searches this way, thirty times faster than pair by pair, and so
does a search weighted by importance. Every other config goes to ``datatypes.quantize``, whose compiled kernels try each
factor in turn faster than values can be sorted (measured: ANT's 51 factors and three types take a third of the time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datatypes.format import VectorFormat
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.quantize import encode_with_scale, quantize_tensor
from datatypes.scale import ideal_scale, store_one_level
from datatypes.tensor import QuantizedTensor, decode_stored, expand_tiles

MIN_TILE = 192  # values in a tile; below, rounding it once for each factor is faster (measured on two cores)
MAX_BOUNDS = 1 << 18  # decision bounds held at once: stays in the cache, and larger is slower (measured)


def quantize_with_clip(
    x: Tensor, config: TensorConfig, clip: Sequence[float], *, importance: Tensor | None = None
) -> QuantizedTensor:
    """Encode ``x`` float32 ``[n, k]`` with, for each tile, the factor of ``clip`` that has the least squared error.

    Formats are chosen among candidates by the same error, summed over a tile of ``selector``; on equal errors the
    earlier factor and the earlier format.

    Args:
        importance: non-negative weights of the squared error, broadcastable to ``[n, k]``.

    Raises:
        ValueError: no factor, or one that is not positive.
    """
    if not len(clip) or min(clip) <= 0:
        raise ValueError(f"clip factors must be positive and at least one, not {tuple(clip)!r}")
    pairs = any(isinstance(f, OutlierVictimFormat) for f in config.formats)
    worthwhile = len(clip) > 1 and (pairs or importance is not None)
    if not worthwhile or not _in_reach(config, (x.shape[0], x.shape[1])):
        return quantize_tensor(x, config, clip=clip, importance=importance)
    shape = (x.shape[0], x.shape[1])
    scales, errors = _best_scales(x, config, clip, importance)
    if len(config.formats) == 1:
        return encode_with_scale(x, config, scales[0])
    selector = _choose(errors, config, shape)
    rows, columns = config.granularity.tile(shape)
    chosen = expand_tiles(selector, config.selector_granularity, shape)[::rows, ::columns].to(torch.int64)
    scale = scales.gather(0, chosen[None])[0]
    return encode_with_scale(x, config, scale, None, selector)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rows in ascending order with what prefix sums make of them.

    Args:
        values: float32 ``[r, t]``, ascending.
        weights, moments: float64 ``[r, t + 1]``: prefix sums of the importance, and of importance times value.
        squares: float64 ``[r, 1]``: sum of importance times value squared.
    """

    values: Tensor
    weights: Tensor
    moments: Tensor
    squares: Tensor


def rank(rows: Tensor, importance: Tensor | None = None) -> Ranked:
    """Sort rows ``[r, t]``; ``importance`` ``[r, t]`` weighs the squares, ``None`` for one."""
    values, order = rows.to(torch.float32).sort(dim=1)
    x = values.to(torch.float64)
    weight = torch.ones_like(x) if importance is None else importance.to(torch.float64).gather(1, order)
    weights, moments = (torch.nn.functional.pad(s.cumsum(1), (1, 0)) for s in (weight, weight * x))
    return Ranked(values, weights, moments, (weight * x.square()).sum(1, keepdim=True))


def clip_errors(ranked: Ranked, levels: Tensor, scales: Tensor) -> Tensor:
    """Squared error of rounding each row to the nearest of ``levels * scale``, for each of its candidate scales.

    Args:
        ranked: the rows.
        levels: ascending, float64.
        scales: positive, ``[r, c]``.

    Returns:
        float64 ``[r, c]``.
    """
    middle = (levels[:-1] + levels[1:]) / 2
    r, c = scales.shape
    scale = scales.to(torch.float64)
    bounds = (scale[:, :, None] * middle).reshape(r, -1).to(torch.float32)
    position = torch.searchsorted(ranked.values, bounds).reshape(r, c, -1)
    ends = torch.nn.functional.pad(position, (0, 1), value=ranked.values.shape[1])
    count, first = (_differences(p, ends) for p in (ranked.weights, ranked.moments))
    level = levels * scale[:, :, None]
    return ranked.squares + (level * (level * count - 2 * first)).sum(2)


def _differences(prefix: Tensor, ends: Tensor) -> Tensor:
    """Sums between neighbouring ends, ``[r, c, levels]``."""
    at = prefix.gather(1, ends.flatten(1)).reshape(ends.shape)
    return torch.diff(at, dim=2, prepend=torch.zeros_like(at[:, :, :1]))


def _in_reach(config: TensorConfig, shape: tuple[int, int]) -> bool:
    """Whether tiles are pieces of rows with a plain symmetric scale, long enough, in formats with a nearest level."""
    rows, columns = config.granularity.tile(shape)
    columns = min(columns, shape[1])
    scale = config.scale
    plain = scale is not None and scale.rule is ScaleRule.ABSMAX and scale.outer is None and config.zero_point is None
    pieces = rows == 1 and columns >= MIN_TILE and shape[1] % columns == 0
    pairs = any(isinstance(f, OutlierVictimFormat) for f in config.formats)
    vectors = any(isinstance(f, VectorFormat) for f in config.formats)
    return plain and pieces and not vectors and not (pairs and columns % 2)


def _best_scales(
    x: Tensor, config: TensorConfig, clip: Sequence[float], importance: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Best scale of each tile for each candidate format, and its error, ``[formats, gn, gk]`` each."""
    assert config.scale is not None
    grid = torch.tensor(clip, dtype=torch.float32, device=x.device)
    units = [ideal_scale(x, fmt, config, 1.0)[0] for fmt in config.formats]
    candidates = [unit.reshape(-1, 1) * grid for unit in units]
    tiles = x.reshape(units[0].numel(), -1)
    weights = None if importance is None else importance.expand(x.shape).reshape(tiles.shape)
    levels = [torch.tensor(fmt.levels, dtype=torch.float64, device=x.device) for fmt in config.formats]
    mirrored = all(torch.equal(level, -level.flip(0)) for level in levels)  # then magnitudes do
    if mirrored:
        levels = [level[level >= 0] for level in levels]
    step = max(1, MAX_BOUNDS // (len(clip) * max(map(len, levels))))
    best: list[list[Tensor]] = [[] for _ in config.formats]
    errors: list[list[Tensor]] = [[] for _ in config.formats]
    for start in range(0, len(tiles), step):
        piece = slice(start, start + step)
        rows, weight = tiles[piece], None if weights is None else weights[piece]
        ranked = rank(rows.abs() if mirrored else rows, weight)
        for i, fmt in enumerate(config.formats):
            stored = decode_stored(store_one_level(candidates[i][piece], config.scale.format), config.scale.format)
            usable = torch.where(stored > 0, stored, torch.ones_like(stored))
            error = clip_errors(ranked, levels[i], usable)
            if isinstance(fmt, OutlierVictimFormat):
                error = error + _victim_errors(rows, fmt, usable, weight)
            error = torch.where(stored > 0, error, torch.inf)
            index = error.argmin(1, keepdim=True)
            best[i].append(candidates[i][piece].gather(1, index))
            errors[i].append(error.gather(1, index))
    shape = (len(units), *units[0].shape)
    return torch.cat([torch.cat(b) for b in best]).reshape(shape), torch.cat([torch.cat(e) for e in errors]).reshape(
        shape
    )


def _victim_errors(rows: Tensor, fmt: OutlierVictimFormat, scales: Tensor, importance: Tensor | None) -> Tensor:
    """What victims add to ``clip_errors``: the smaller of a pair counts as zero where the larger is an outlier."""
    pair = rows.to(torch.float64).reshape(rows.shape[0], -1, 2)
    magnitude = pair.abs()
    second_is_victim = magnitude[..., 0] >= magnitude[..., 1]
    victim = torch.where(second_is_victim, pair[..., 1], pair[..., 0])
    larger = magnitude.amax(2)
    limit = (fmt.normal.absmax + float(fmt.outlier.levels[fmt.outlier.levels > 0].min())) / 2
    scale = scales.to(torch.float64)
    row, column = torch.nonzero(larger > limit * scale.amin(1, keepdim=True), as_tuple=True)
    x, s = victim[row, column][:, None], scale[row]
    levels = torch.tensor(fmt.levels, dtype=torch.float64, device=rows.device)
    nearest = levels[torch.searchsorted((levels[:-1] + levels[1:]) / 2, x / s)]
    extra = x.square() - (nearest * s - x).square()
    if importance is not None:
        weight = importance.to(torch.float64).reshape(rows.shape[0], -1, 2)
        extra = extra * torch.where(second_is_victim, weight[..., 1], weight[..., 0])[row, column][:, None]
    extra = torch.where(larger[row, column][:, None] > limit * s, extra, torch.zeros_like(extra))
    return torch.zeros_like(scale).index_add_(0, row, extra)


def _choose(errors: Tensor, config: TensorConfig, shape: tuple[int, int]) -> Tensor:
    """Index of the candidate with the least error over each selector tile, uint8 ``[sn, sk]``."""
    rows, columns = config.granularity.tile(shape)
    sel_rows, sel_columns = config.selector_granularity.tile(shape)
    step_rows, step_columns = max(1, sel_rows // rows), max(1, sel_columns // columns)
    _, n, k = errors.shape
    padded = torch.nn.functional.pad(errors, (0, -k % step_columns, 0, -n % step_rows))
    tiles = padded.unflatten(2, (-1, step_columns)).unflatten(1, (-1, step_rows))
    return tiles.sum(dim=(2, 4)).argmin(0).to(torch.uint8)
