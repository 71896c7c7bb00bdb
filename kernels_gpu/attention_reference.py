"""Numpy reference of the decode attention, and how far a kernel may be from it.

All in float64, from decoded keys and values: ``softmax(scale * q K^T) V`` for each sequence and query head.
"""

from __future__ import annotations

import numpy as np

from kernels_gpu.attention_spec import STEP_TOKENS
from kernels_gpu.gemv_reference import FLOAT_STEP, LEVELS

EXP2_STEP = 2.0**-22  # ex2.approx.f32, relative: PTX ISA 8.0, section 9.7.3.21


def attend(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, *, lengths: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Results and the softmax's weights.

    Args:
        query: ``[b, query heads, d]``.
        keys, values: decoded ``[b, key heads, capacity, d]``; query heads are a multiple of key heads.
        lengths: ``[b]`` tokens that count; 0 gives zeros.
        scale: of the scores.

    Returns:
        ``[b, query heads, d]`` and ``[b, query heads, capacity]``, float64.
    """
    group = query.shape[1] // keys.shape[1]
    keys = np.repeat(keys.astype(np.float64), group, axis=1)
    values = np.repeat(values.astype(np.float64), group, axis=1)
    weights = np.zeros(keys.shape[:3])
    for b, length in enumerate(lengths):
        if length:
            with np.errstate(invalid="ignore"):
                scores = np.einsum("hd,htd->ht", query[b].astype(np.float64), keys[b, :, :length]) * scale
                powers = np.exp(scores - scores.max(1, keepdims=True))
            weights[b, :, :length] = powers / powers.sum(1, keepdims=True)
            values[b, :, length:] = 0
        else:
            values[b] = 0
    return np.einsum("bht,bhtd->bhd", weights, values), weights


def tolerance(
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    value_scales: np.ndarray,
    *,
    lengths: np.ndarray,
    scale: float,
    parts: int,
    half_step: float,
) -> np.ndarray:
    """Largest allowed distance from ``attend``, ``[b, query heads, d]``.

    The sum of: scores off by the queries' fixed point and float32 rounding, which moves every weight by a factor; the
    approximate power of two, for a weight and each time that a sum is rescaled; weights rounded to a unit of the
    largest one, times its value's scale, among the 32 tokens of a step; float32 sums; the result rounded to its type.

    Args:
        value_scales: ``[b, key heads, capacity]``.
        parts: pieces that a context is cut into, warps times blocks, each with sums of its own.
        half_step: relative rounding of the result's type.
    """
    exact, weights = attend(query, keys, values, lengths=lengths, scale=scale)
    group = query.shape[1] // keys.shape[1]
    keys, values = (np.abs(np.repeat(a.astype(np.float64), group, axis=1)) for a in (keys, values))
    value_scales = np.repeat(value_scales.astype(np.float64), group, axis=1)
    capacity = keys.shape[2]
    counted = np.arange(capacity)[None, None, :] < np.asarray(lengths)[:, None, None]
    keys, values = (np.where(counted[..., None], a, 0) for a in (keys, values))
    largest_query = np.abs(query.astype(np.float64)).max(2, keepdims=True)
    products = np.einsum("bhd,bhtd->bht", np.abs(query.astype(np.float64)), keys)
    # half a unit of each element; five roundings on the way to a score in units of the softmax, and of its differences
    off = scale * (largest_query * keys.sum(3) * (0.5 / LEVELS) + products * (16 * FLOAT_STEP))
    off = off.max(2, keepdims=True)
    spread = np.einsum("bht,bhtd->bhd", weights, values)
    steps = -(-capacity // STEP_TOKENS)
    from_scores = np.expm1(2 * off) * spread
    from_powers = 2 * (steps + parts + 2) * EXP2_STEP * spread
    padding = ((0, 0), (0, 0), (0, steps * STEP_TOKENS - capacity))
    scaled = np.pad(np.where(counted, weights * value_scales, 0), padding).reshape(*weights.shape[:2], steps, -1)
    codes = np.where(counted[..., None], values / value_scales[..., None], 0)
    codes = np.pad(codes, (*padding, (0, 0))).reshape(*weights.shape[:2], steps, STEP_TOKENS, -1)
    # half a unit of the step's largest, in units of the codes' values
    from_weights = np.einsum("bhs,bhstd->bhd", scaled.max(3), codes) * (0.5 / LEVELS)
    from_sums = (steps + parts + 8) * FLOAT_STEP * spread * 2
    return from_scores + from_powers + from_weights + from_sums + np.abs(exact) * half_step + 2.0**-25
