"""Rounding tensors to a format's codes: the tensor twin of ``Format.encode``, on any torch device.

Same rule, same bits: integers by ``round`` (ties to even) and ``clamp``, everything else by comparing with the
format's exact float32 thresholds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from datatypes.format import Format, IntFormat, Tie, VectorFormat
from datatypes.outlier_victim import OutlierVictimFormat


@lru_cache(maxsize=512)
def _tables(fmt: Format, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds float32, level codes int32 and levels float32 on a device."""
    return (
        torch.tensor(fmt.thresholds, device=device),
        torch.tensor(fmt.level_codes, device=device, dtype=torch.int32),
        torch.tensor(fmt.levels, device=device, dtype=torch.float32),
    )


def code_dtype(fmt: Format) -> torch.dtype:
    """Torch type that holds the codes of ``fmt``."""
    return torch.uint8 if fmt.bits <= 8 else torch.int32


def encode(x: Tensor, fmt: Format) -> Tensor:
    """Codes nearest to ``x`` (float32, any shape; pair and vector formats shorten the last axis by ``dim``).

    NaN is the caller's to exclude: formats without a NaN code give an arbitrary code for it here.
    """
    if isinstance(fmt, OutlierVictimFormat):
        return _encode_pairs(x, fmt)
    if isinstance(fmt, VectorFormat):
        return _encode_vectors(x, fmt)
    if isinstance(fmt, IntFormat) and fmt.tie is Tie.EVEN:
        steps = torch.round(x if fmt.step == 1.0 else x / fmt.step)
        whole = steps.clamp_(fmt.minimum / fmt.step, fmt.maximum / fmt.step).to(torch.int32)
        return (whole & ((1 << fmt.bits) - 1)).to(code_dtype(fmt))
    thresholds, codes, levels = _tables(fmt, str(x.device))
    index = torch.bucketize(x, thresholds, right=True, out_int32=True)
    picked = codes[index]
    if fmt.negative_zero_code is not None:
        minus_zero = (levels[index] == 0) & torch.signbit(x)
        picked = torch.where(
            minus_zero, torch.tensor(fmt.negative_zero_code, dtype=torch.int32, device=x.device), picked
        )
    if fmt.nan_code is not None:
        picked = torch.where(torch.isnan(x), torch.tensor(fmt.nan_code, dtype=torch.int32, device=x.device), picked)
    return picked.to(code_dtype(fmt))


def _encode_pairs(x: Tensor, fmt: OutlierVictimFormat) -> Tensor:
    """OliVe's pairs (see ``OutlierVictimFormat.encode``); an odd last axis is padded with zero."""
    if x.shape[-1] % 2:
        x = torch.nn.functional.pad(x, (0, 1))
    pair = x.reshape(*x.shape[:-1], -1, 2)
    magnitude = pair.abs()
    smallest = min(abs(float(v)) for v in fmt.outlier.levels)
    outlier = magnitude > (fmt.normal.absmax + smallest) / 2
    first = outlier[..., 0] & (~outlier[..., 1] | (magnitude[..., 0] >= magnitude[..., 1]))
    second = outlier[..., 1] & ~first
    normal, abfloat = encode(pair, fmt.normal).to(torch.int32), encode(pair, fmt.outlier).to(torch.int32)
    identifier = torch.tensor(0b1000, dtype=torch.int32, device=x.device)
    low = torch.where(first, abfloat[..., 0], torch.where(second, identifier, normal[..., 0]))
    high = torch.where(second, abfloat[..., 1], torch.where(first, identifier, normal[..., 1]))
    return (low | (high << 4)).to(torch.uint8)


def _encode_vectors(x: Tensor, fmt: VectorFormat) -> Tensor:
    """Nearest point in Euclidean distance; a ragged last axis is padded with zeros."""
    spare = -x.shape[-1] % fmt.dim
    if spare:
        x = torch.nn.functional.pad(x, (0, spare))
    table = torch.tensor(fmt.point_table, dtype=torch.float64, device=x.device)
    vectors = x.reshape(-1, fmt.dim).to(torch.float64)
    codes = torch.empty(len(vectors), dtype=torch.int64, device=x.device)
    squared = table.square().sum(1)
    for start in range(0, len(vectors), 1 << 14):
        part = vectors[start : start + (1 << 14)]
        codes[start : start + len(part)] = (squared - 2 * part @ table.T).argmin(1)
    return codes.reshape(*x.shape[:-1], -1).to(code_dtype(fmt))


@lru_cache(maxsize=512)
def _decode_table(fmt: Format, device: str) -> Tensor:
    if fmt.dim > 1:
        return torch.tensor(fmt.decode(np.arange(1 << fmt.bits)[:, None]), device=device)
    return torch.tensor(fmt.code_values, dtype=torch.float32, device=device)


def decode(codes: Tensor, fmt: Format) -> Tensor:
    """Values of ``codes``, float32; pair and vector formats lengthen the last axis by ``dim``."""
    values = _decode_table(fmt, str(codes.device))[codes.to(torch.int64)]
    return values if fmt.dim == 1 else values.reshape(*codes.shape[:-1], -1)


def nearest_value(x: Tensor, fmt: Format) -> Tensor:
    """``round_to`` without going through codes: the same numbers, except that zero has no sign.

    What error searches use: fewer passes over memory. NaN is the caller's to exclude.
    """
    if fmt.dim > 1:
        return round_to(x, fmt)
    if isinstance(fmt, IntFormat) and fmt.tie is Tie.EVEN:
        steps = torch.round(x if fmt.step == 1.0 else x / fmt.step)
        steps = steps.clamp_(fmt.minimum / fmt.step, fmt.maximum / fmt.step)
        return steps if fmt.step == 1.0 else steps.mul_(fmt.step)
    thresholds, _, levels = _tables(fmt, str(x.device))
    return levels[torch.bucketize(x, thresholds, right=True, out_int32=True)]


def round_to(x: Tensor, fmt: Format) -> Tensor:
    """``decode(encode(x))`` cut to the shape of ``x``."""
    return decode(encode(x, fmt), fmt)[..., : x.shape[-1]]
