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

import torch
from torch import Tensor

from datatypes.format import FloatFormat, Format, LearnedFormat
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.rounding import decode, encode
from datatypes.scale import ideal_scale, store_one_level, store_scale, stored_value, sum_tiles
from datatypes.tensor import TORCH_FLOATS, QuantizedTensor, expand_tiles, spread_tiles, tiles_in_tile

NO_CLIP: tuple[float, ...] = (1.0,)


def check_finite(x: Tensor, what: str) -> None:
    """One clear sentence for NaN and infinity.

    Raises:
        ValueError: ``x`` holds one.
    """
    if not torch.isfinite(x).all():
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
    x = x.to(torch.float32)
    shape = (x.shape[0], x.shape[1])
    if config.scale is None:
        return _unscaled(x, config)
    best_scale: list[Tensor] = []
    best_zero: list[Tensor | None] = []
    errors: list[Tensor] = []
    for fmt in config.formats:
        scale, zero, error = _best_clip(x, fmt, config, clip, importance)
        best_scale.append(scale)
        best_zero.append(zero)
        errors.append(error)
    if len(config.formats) == 1:
        return encode_with_scale(x, config, best_scale[0], best_zero[0])
    per_selector = torch.stack([_to_selector(error, config, shape) for error in errors])
    selector = per_selector.argmin(0).to(torch.uint8)  # argmin gives the first of equal errors
    chosen = spread_tiles(selector, config.selector_granularity, config.granularity, shape).to(torch.int64)
    scale = torch.stack(best_scale).gather(0, chosen[None])[0]
    zeros = [z for z in best_zero if z is not None]
    zero = torch.stack(zeros).gather(0, chosen[None])[0] if zeros else None
    return encode_with_scale(x, config, scale, zero, selector)


def encode_with_scale(
    x: Tensor, config: TensorConfig, scale: Tensor, zero: Tensor | None = None, selector: Tensor | None = None
) -> QuantizedTensor:
    """Encode ``x`` float32 ``[n, k]`` with given real scales ``[gn, gk]`` (stored as the config says, then used).

    Args:
        zero: integer (already rounded) or real zero points ``[gn, gk]``.
        selector: uint8 index into ``config.formats`` for each selector tile, where there are candidates.
    """
    assert config.scale is not None
    shape = (x.shape[0], x.shape[1])
    stored, outer = store_scale(scale, config.scale, config.granularity, shape)
    stored_zero = _store_zero(zero, config)
    made = QuantizedTensor(
        config=config,
        shape=shape,
        codes=torch.empty(0),
        scale=stored,
        outer_scale=outer,
        zero_point=stored_zero,
        selector=selector,
    )
    y = _normalised(x, made.effective_scale(), stored_zero, config, shape)
    if selector is None:
        codes = encode(y, config.formats[0])
    else:
        pick = expand_tiles(selector, config.selector_granularity, shape)
        dim = config.formats[0].dim
        pick = pick[:, ::dim]
        codes = encode(y, config.formats[0])
        for index, fmt in enumerate(config.formats[1:], start=1):
            codes = torch.where(pick == index, encode(y, fmt), codes)
    return QuantizedTensor(
        config=config,
        shape=shape,
        codes=codes,
        scale=stored,
        outer_scale=outer,
        zero_point=stored_zero,
        selector=selector,
        residual=None,
    )


def _normalised(
    x: Tensor, scale: Tensor | None, zero: Tensor | None, config: TensorConfig, shape: tuple[int, int]
) -> Tensor:
    """Elements in code units: ``x / scale`` (+ zero); a stored scale is never zero."""
    assert scale is not None
    per_element = expand_tiles(scale, config.granularity, shape)
    if zero is not None and isinstance(config.zero_point, FloatFormat):
        x = x - expand_tiles(zero, config.granularity, shape).to(torch.float32)
    y = x / per_element
    if zero is not None and not isinstance(config.zero_point, FloatFormat):
        y = torch.round(y) + expand_tiles(zero, config.granularity, shape).to(torch.float32)
    return y


def _store_zero(zero: Tensor | None, config: TensorConfig) -> Tensor | None:
    if zero is None or config.zero_point is None:
        return None
    if isinstance(config.zero_point, FloatFormat):
        return store_one_level(zero, config.zero_point)
    return zero.to(torch.int32)


def _best_clip(
    x: Tensor, fmt: Format, config: TensorConfig, clip: Sequence[float], importance: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """For each tile the scale (and zero point) of the best clip factor, and its squared error ``[gn, gk]``."""
    shape = (x.shape[0], x.shape[1])
    best: tuple[Tensor, Tensor | None, Tensor] | None = None
    if len(clip) == 1 and len(config.formats) == 1:
        scale, zero = ideal_scale(x, fmt, config, clip[0])
        return scale, zero, torch.zeros_like(scale)
    for factor in clip:
        scale, zero = ideal_scale(x, fmt, config, factor)
        used = _as_stored(scale, config)
        stored_zero = _store_zero(zero, config)
        y = decode(encode(_normalised(x, used, stored_zero, config, shape), fmt), fmt)[:, : shape[1]]
        per_element = expand_tiles(used, config.granularity, shape)
        if stored_zero is None:
            y = y * per_element
        else:
            z = expand_tiles(stored_zero, config.granularity, shape).to(torch.float32)
            y = y * per_element + z if isinstance(config.zero_point, FloatFormat) else (y - z) * per_element
        squared = (y - x).square()
        if importance is not None:
            squared = squared * importance
        error = sum_tiles(squared, config.granularity)
        if best is None:
            best = scale, zero, error
            continue
        better = error < best[2]
        kept_zero = best[1] if zero is None or best[1] is None else torch.where(better, zero, best[1])
        best = torch.where(better, scale, best[0]), kept_zero, torch.where(better, error, best[2])
    assert best is not None
    return best


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
    return QuantizedTensor(config=config, shape=shape, codes=encode(x, fmt))
