"""Round-to-nearest quantization of a matrix into any ``TensorConfig``, with choice of format and clip by squared error.

``quantize_tensor`` is the one entry: it takes the fast path (``datatypes.quantize_cpu``) where there is one, and this
file's plain torch code elsewhere; both give the same codes. ``encode_with_scale`` is its second half, for algorithms
that fix scales first (GPTQ, OWQ).

Choice among candidate formats follows BitMoD (HPCA 2025, algorithm 1): every candidate is tried with its own scale,
and the smallest squared error over the tile of ``selector`` wins; on equal errors the earlier candidate. Errors are
computed in float32 (the published FP16 choice loses up to 2 % in MSE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from datatypes import quantize_cpu
from datatypes.format import FloatFormat, Format, LearnedFormat
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.quantize_cpu import Trial
from datatypes.rounding import encode, nearest_value
from datatypes.row_threads import in_threads, row_chunks
from datatypes.scale import (
    MOMENT_RULES,
    ideal_scale,
    reduce_tiles,
    scale_of_absmax,
    scale_of_range,
    store_one_level,
    stored_value,
    sum_tiles,
)
from datatypes.second_level import StoredLevels, store_scale, store_second_level
from datatypes.tensor import (
    TORCH_FLOATS,
    QuantizedTensor,
    decode_stored,
    expand_tiles,
    spread_tiles,
    tiles_in_tile,
)

NO_CLIP: tuple[float, ...] = (1.0,)


def check_finite(x: Tensor, what: str) -> None:
    """One clear sentence for NaN and infinity.

    Raises:
        ValueError: ``x`` holds one.
    """
    if not quantize_cpu.all_finite(x):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{what} must be finite, not hold {bad} NaN or infinite values")


def quantize_tensor(
    x: Tensor, config: TensorConfig, *, clip: Sequence[float] = NO_CLIP, importance: Tensor | None = None
) -> QuantizedTensor:
    """Encode ``x`` by round-to-nearest.

    Args:
        x: float ``[n, k]``, finite.
        config: the encoding.
        clip: range factors tried for each tile; the one with the smallest squared error stays.
        importance: non-negative weights of the squared error, broadcastable to ``[n, k]``.

    Returns:
        The encoded matrix on the device of ``x``.

    Raises:
        ValueError: not a matrix, or NaN or infinity in ``x``.
        NotImplementedError: learned codebooks and sparsity masks, which need an algorithm.
    """
    if x.dim() != 2:
        raise ValueError(f"x must be a matrix [n, k], not {tuple(x.shape)!r}")
    check_finite(x, "x")
    if any(isinstance(f, LearnedFormat) for f in config.formats) or config.sparsity is not None:
        raise NotImplementedError("quantize_tensor fits no codebook and no mask: use an algorithm that does")
    x = x.detach().to(torch.float32).contiguous()
    if config.scale is None:
        return _unscaled(x, config)
    ranges = row_chunks(x.shape[0], x.shape[1])
    if len(ranges) > 1 and importance is None and _is_fast(x, config) and _rows_stand_alone(config, x.shape[1]):
        # a chunk of rows passes through all steps while it lies in one core's cache
        parts = in_threads(lambda a, b: _quantize_rows(x[a:b], config, clip, None), ranges)
        return _stacked(parts)
    return _quantize_rows(x, config, clip, importance)


def _rows_stand_alone(config: TensorConfig, columns: int) -> bool:
    """Whether every row is encoded without looking at another."""
    return all(granularity.tile((2, columns))[0] == 1 for granularity in config.tilings)


def _stacked(parts: Sequence[QuantizedTensor]) -> QuantizedTensor:
    """Encodings of consecutive rows as one."""

    def joined(name: str) -> Tensor | None:
        pieces: list[Tensor] = [getattr(part, name) for part in parts]
        if pieces[0] is None:
            return None
        if pieces[0].dtype == torch.bfloat16:
            return torch.cat(pieces)
        # numpy: torch.cat of bytes was seen to take 70 times as long (torch 2.13, x86-64)
        return torch.from_numpy(np.concatenate([piece.numpy() for piece in pieces]))

    codes = joined("codes")
    assert codes is not None
    return QuantizedTensor(
        config=parts[0].config,
        shape=(sum(part.shape[0] for part in parts), parts[0].shape[1]),
        codes=codes,
        scale=joined("scale"),
        outer_scale=joined("outer_scale"),
        zero_point=joined("zero_point"),
        selector=joined("selector"),
        outer_offset=joined("outer_offset"),
    )


def _quantize_rows(
    x: Tensor, config: TensorConfig, clip: Sequence[float], importance: Tensor | None
) -> QuantizedTensor:
    """``quantize_tensor`` of checked float32 rows with a scale."""
    shape = (x.shape[0], x.shape[1])
    found = [_Best() for _ in config.formats]
    if len(config.formats) == 1 and len(clip) == 1:
        found[0].scale, found[0].zero = _scales(x, config.formats[0], config, _extremes(x, config), clip[0])
    else:
        _search(x, config, clip, importance, found)
    if len(config.formats) == 1:
        return encode_with_scale(x, config, found[0].scale, found[0].zero)
    selector = _earliest_least([_to_selector(best.error, config, shape) for best in found])
    chosen = spread_tiles(selector, config.selector_granularity, config.granularity, shape).to(torch.int64)
    scale = torch.stack([best.scale for best in found]).gather(0, chosen[None])[0]
    zeros = [best.zero for best in found if best.zero is not None]
    zero = torch.stack(zeros).gather(0, chosen[None])[0] if zeros else None
    return encode_with_scale(x, config, scale, zero, selector)


def _earliest_least(errors: Sequence[Tensor]) -> Tensor:
    """Index of the least error of each tile, uint8; of equal ones the first (``argmin`` takes ten times as long)."""
    least, index = errors[0], torch.zeros(errors[0].shape, dtype=torch.uint8, device=errors[0].device)
    for i, error in enumerate(errors[1:], start=1):
        better = error < least
        least = torch.where(better, error, least)
        index = index.masked_fill(better, i)
    return index


@dataclass(eq=False)
class _Best:
    """The best clip factor of one candidate so far, for each tile."""

    scale: Tensor = field(default_factory=lambda: torch.empty(0))
    zero: Tensor | None = None
    error: Tensor = field(default_factory=lambda: torch.empty(0))


def _search(
    x: Tensor, config: TensorConfig, clip: Sequence[float], importance: Tensor | None, found: list[_Best]
) -> None:
    """Try every candidate with every clip factor; ``found`` keeps the earliest of the least errors."""
    extremes = _extremes(x, config)
    fast = importance is None and _is_fast(x, config)
    for factor in clip:
        scales: dict[float, tuple[Tensor, Tensor | None, Tensor]] = {}  # formats of one maximum share their scales
        trials: list[Trial] = []
        unstored: list[tuple[Tensor, Tensor | None]] = []
        for fmt in config.formats:
            key = fmt.absmax if extremes is not None else float(len(trials))
            if key not in scales or config.zero_point is not None:
                scale, zero = _scales(x, fmt, config, extremes, factor)
                scales[key] = scale, zero, _as_stored(scale, config)
            scale, zero, used = scales[key]
            unstored.append((scale, zero))
            trials.append(Trial(fmt, used, _zero_as_stored(zero, config)))
        if fast:
            errors = quantize_cpu.tile_errors(x, trials, config)
        else:
            errors = [_tile_error(x, trial, config, importance) for trial in trials]
        for best, (scale, zero), error in zip(found, unstored, errors, strict=True):
            if not best.error.numel():
                best.scale, best.zero, best.error = scale, zero, error
                continue
            better = error < best.error
            best.scale = torch.where(better, scale, best.scale)
            best.zero = None if zero is None or best.zero is None else torch.where(better, zero, best.zero)
            best.error = torch.where(better, error, best.error)


def _is_fast(x: Tensor, config: TensorConfig) -> bool:
    """Whether the compiled kernels take this."""
    plain = x.device.type == "cpu" and x.is_contiguous() and not x.requires_grad
    return plain and x.numel() > 0 and quantize_cpu.supports(config)


def _extremes(x: Tensor, config: TensorConfig) -> tuple[Tensor, ...] | None:
    """What scales follow from: (absmax,) or (min, max) of each tile; ``None`` where the rule needs more."""
    assert config.scale is not None
    fast = _is_fast(x, config)
    if config.scale.rule is ScaleRule.RANGE:
        if fast:
            return quantize_cpu.tile_range(x, config)
        return reduce_tiles(x, config.granularity, "amin"), reduce_tiles(x, config.granularity, "amax")
    if config.scale.rule in MOMENT_RULES or any(isinstance(f, OutlierVictimFormat) for f in config.formats):
        return None
    return (quantize_cpu.tile_absmax(x, config) if fast else reduce_tiles(x.abs(), config.granularity, "amax"),)


def _scales(
    x: Tensor, fmt: Format, config: TensorConfig, extremes: tuple[Tensor, ...] | None, factor: float
) -> tuple[Tensor, Tensor | None]:
    """``ideal_scale`` with the extremes already at hand."""
    if extremes is None:
        return ideal_scale(x, fmt, config, factor)
    if len(extremes) == 2:
        return scale_of_range(extremes[0], extremes[1], fmt, config, factor)
    return scale_of_absmax(extremes[0], fmt, config, factor), None


def encode_with_scale(
    x: Tensor, config: TensorConfig, scale: Tensor, zero: Tensor | None = None, selector: Tensor | None = None
) -> QuantizedTensor:
    """Encode ``x`` float32 ``[n, k]`` with given real scales ``[gn, gk]`` (stored as the config says, then used).

    Args:
        zero: integer (already rounded) or real zero points ``[gn, gk]``; real ones where they have a second level.
        selector: uint8 index into ``config.formats`` for each selector tile, where there are candidates.
    """
    assert config.scale is not None
    shape = (x.shape[0], x.shape[1])
    stored = store_scale(scale, config.scale, config.granularity, shape)
    stored_zero = _store_zero(zero, config, shape)
    made = QuantizedTensor(
        config=config,
        shape=shape,
        codes=torch.empty(0),
        scale=stored.values,
        outer_scale=stored.scale,
        outer_offset=stored.offset,
        zero_point=stored_zero.values,
        zero_point_scale=stored_zero.scale,
        zero_point_offset=stored_zero.offset,
        selector=selector,
    )
    used, used_zero = made.effective_scale(), made.effective_zero_point()
    assert used is not None
    if x.dtype == torch.float32 and _is_fast(x, config):
        return replace(made, codes=quantize_cpu.encode_tiles(x, config, used, used_zero, selector))
    y = _normalised(x, used, used_zero, config, shape)
    codes = _encode(y, config.formats[0], config)
    if selector is not None:
        step = config.formats[0].dim
        pick = expand_tiles(selector, config.selector_granularity, shape)
        pick = pick[::step] if config.vectors_along_output else pick[:, ::step]
        for index, fmt in enumerate(config.formats[1:], start=1):
            codes = torch.where(pick == index, _encode(y, fmt, config), codes)
    return replace(made, codes=codes)


def _encode(y: Tensor, fmt: Format, config: TensorConfig) -> Tensor:
    """Codes of elements in code units, vectors running as the config says."""
    return encode(y.T.contiguous(), fmt).T.contiguous() if config.vectors_along_output else encode(y, fmt)


def _normalised(x: Tensor, scale: Tensor, zero: Tensor | None, config: TensorConfig, shape: tuple[int, int]) -> Tensor:
    """Elements in code units: ``x / scale`` (+ zero); a stored scale is never zero."""
    per_element = expand_tiles(scale, config.granularity, shape)
    if zero is not None and isinstance(config.zero_point, FloatFormat):
        x = x - expand_tiles(zero, config.granularity, shape).to(torch.float32)
    y = x / per_element
    if zero is not None and not isinstance(config.zero_point, FloatFormat):
        whole = y if config.zero_point_level is not None else torch.round(y)  # the zero point is no whole number, or is
        y = whole + expand_tiles(zero, config.granularity, shape).to(torch.float32)
    return y


def _store_zero(zero: Tensor | None, config: TensorConfig, shape: tuple[int, int]) -> StoredLevels:
    if zero is None or config.zero_point is None:
        return StoredLevels(None)
    if config.zero_point_level is not None:
        return store_second_level(zero, config.zero_point, config.zero_point_level, config.granularity, shape)
    if isinstance(config.zero_point, FloatFormat):
        return StoredLevels(store_one_level(zero, config.zero_point))
    return StoredLevels(zero.to(torch.int32))


def _zero_as_stored(zero: Tensor | None, config: TensorConfig) -> Tensor | None:
    """The zero point that decoding will use, for one-level storage; the real one while a second level is open."""
    if zero is None or config.zero_point is None or config.zero_point_level is not None:
        return zero
    if isinstance(config.zero_point, FloatFormat):
        return decode_stored(store_one_level(zero, config.zero_point), config.zero_point)
    return zero


def _tile_error(x: Tensor, trial: Trial, config: TensorConfig, importance: Tensor | None) -> Tensor:
    """Squared error of each tile, summed in the order of ``sum_tiles``."""
    shape = (x.shape[0], x.shape[1])
    y = _normalised(x, trial.scale, trial.zero, config, shape)
    if config.vectors_along_output:
        y = nearest_value(y.T.contiguous(), trial.format).T
    else:
        y = nearest_value(y, trial.format)
    per_element = expand_tiles(trial.scale, config.granularity, shape)
    if trial.zero is None:
        y = y * per_element
    else:
        z = expand_tiles(trial.zero, config.granularity, shape).to(torch.float32)
        y = y * per_element + z if isinstance(config.zero_point, FloatFormat) else (y - z) * per_element
    squared = (y - x).square()
    if importance is not None:
        squared = squared * importance
    return sum_tiles(squared, config.granularity)


def _as_stored(scale: Tensor, config: TensorConfig) -> Tensor:
    """The scale that decoding will use, for one-level storage; the real scale while a second level is still open."""
    assert config.scale is not None
    if config.scale.outer is not None:
        return torch.where(scale > 0, scale, torch.ones_like(scale))
    if config.scale.rule is ScaleRule.RANGE:
        return scale
    return stored_value(scale, config.scale.format)


def _to_selector(error: Tensor, config: TensorConfig, shape: tuple[int, int]) -> Tensor:
    """Errors of scale tiles summed over selector tiles."""
    if config.selector is None:
        return error
    return sum_tiles(error, tiles_in_tile(config.granularity, config.selector, shape))


def _unscaled(x: Tensor, config: TensorConfig) -> QuantizedTensor:
    """A plain float tensor (FP16), or codes without a scale."""
    fmt = config.formats[0]
    shape = (x.shape[0], x.shape[1])
    if fmt.name in TORCH_FLOATS:
        return QuantizedTensor(config=config, shape=shape, codes=store_one_level(x, fmt))
    return QuantizedTensor(config=config, shape=shape, codes=_encode(x, fmt, config))
