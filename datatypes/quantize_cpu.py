"""Round-to-nearest on the CPU for matrices whose groups run along rows: configs mapped onto ``datatypes.kernels_cpu``.

Three families of element formats have kernels: integers, minifloats with a mantissa (rounded to even), and tables of up
to 16 levels, among them BitMoD's, whose candidates share one grid and are scored together. Scales, clip factors and the
choice among candidates are ``datatypes.quantize``'s own code; only the three loops over all elements are here.

The result equals the torch code bit for bit, choices between equal errors included: every element goes through the same
single-precision operations (one division, one multiplication, one subtraction, one square), and the squares of a tile
are summed in the one order that ``datatypes.scale.sum_tiles`` defines, so errors are equal as bits and the earlier
candidate wins on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from datatypes import kernels_cpu
from datatypes.format import CodebookFormat, FloatFormat, FloatVariant, Format, IntFormat, Tie, VectorFormat
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.outlier_victim import OutlierVictimFormat
from datatypes.row_threads import over_rows
from datatypes.tensor import spread_tiles

_RULES = frozenset({ScaleRule.ABSMAX, ScaleRule.RANGE, ScaleRule.POW2_FLOOR, ScaleRule.POW2_CEIL, ScaleRule.LQER_CEIL})
_MAX_LEVELS = kernels_cpu.MAX_THRESHOLDS + 1


@dataclass(frozen=True)
class Trial:
    """One candidate encoding of every tile: element format, used scale and zero points ``[n, g]``."""

    format: Format
    scale: Tensor
    zero: Tensor | None = None


def all_finite(x: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; one pass without a mask where the kernels can do it."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() and x.dim() == 2
    if not plain or x.numel() == 0:
        return bool(torch.isfinite(x).all())
    found = np.zeros(x.shape[0], np.uint8)
    over_rows(kernels_cpu.row_not_finite, x.shape[0], x.shape[1], x.detach().numpy(), found)
    return not found.any()


def supports(config: TensorConfig) -> bool:
    """Whether the kernels of this file can encode ``config``."""
    if config.scale is None or config.scale.rule not in _RULES or config.hadamard:
        return False
    if config.granularity.tile((2, 2))[0] != 1 or config.zero_point_level is not None:  # groups run along rows, and
        return False  # zero points are whole
    if len(config.formats) > 1:
        return config.zero_point is None and all(map(_is_table, config.formats))
    fmt = config.formats[0]
    if config.zero_point is not None:
        return _is_integer(fmt)
    return _is_integer(fmt) or _is_float(fmt) or _is_table(fmt)


def group_size(config: TensorConfig, columns: int) -> int:
    """Elements of a group of a row of ``columns``."""
    return max(1, min(config.granularity.tile((1, columns))[1], columns))


def tile_absmax(x: Tensor, config: TensorConfig) -> Tensor:
    """Largest magnitude of each tile, float32 ``[n, g]``."""
    made = torch.empty(config.granularity.scale_shape((x.shape[0], x.shape[1])))
    group = group_size(config, x.shape[1])
    over_rows(kernels_cpu.row_absmax, x.shape[0], x.shape[1], x.numpy(), group, made.numpy())
    return made


def tile_range(x: Tensor, config: TensorConfig) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each tile, float32 ``[n, g]`` each."""
    low = torch.empty(config.granularity.scale_shape((x.shape[0], x.shape[1])))
    high = torch.empty_like(low)
    group = group_size(config, x.shape[1])
    over_rows(kernels_cpu.row_range, x.shape[0], x.shape[1], x.numpy(), group, low.numpy(), high.numpy())
    return low, high


def tile_errors(x: Tensor, trials: Sequence[Trial], config: TensorConfig) -> list[Tensor]:
    """Squared error of each tile for each trial, float32 ``[n, g]``."""
    formats = tuple(trial.format for trial in trials)
    group = group_size(config, x.shape[1])
    fmt = formats[0]
    shared = _shared_grid(formats)
    if shared is not None:
        return _special_errors(x, trials, shared, group)
    scale = torch.stack([trial.scale for trial in trials]).numpy()
    error = np.empty_like(scale)
    source, rows, columns = x.numpy(), x.shape[0], x.shape[1]
    if len(set(formats)) == 1 and isinstance(fmt, IntFormat) and _is_integer(fmt):
        offsets = [_zero_and_offset(trial.zero, trial.scale, config) for trial in trials]
        zero = np.stack([z for z, _ in offsets])
        offset = np.stack([o for _, o in offsets])
        over_rows(
            kernels_cpu.integer_error,
            rows,
            columns,
            source,
            group,
            scale,
            zero,
            offset,
            *_integer_limits(fmt),
            np.float32(fmt.step),
            np.float32(1 / fmt.step),
            error,
        )
    elif len(set(formats)) == 1 and isinstance(fmt, FloatFormat) and _is_float(fmt):
        over_rows(kernels_cpu.float_error, rows, columns, source, group, scale, *_float_constants(fmt), error)
    else:
        tables = _tables(formats)
        which = np.arange(len(formats))
        over_rows(
            kernels_cpu.table_error,
            rows,
            columns,
            source,
            group,
            scale,
            which,
            tables.thresholds,
            tables.levels,
            error,
        )
    return list(torch.from_numpy(error))


def encode_tiles(
    x: Tensor, config: TensorConfig, scale: Tensor, zero: Tensor | None, selector: Tensor | None
) -> Tensor:
    """Codes uint8 ``[n, k]`` with the decoded stored scales ``[n, g]``, stored zero points and selectors."""
    fmt = config.formats[0]
    group = group_size(config, x.shape[1])
    codes = torch.empty(x.shape, dtype=torch.uint8)
    source, steps, out = x.numpy(), scale.contiguous().numpy(), codes.numpy()
    rows, columns = x.shape[0], x.shape[1]
    if len(config.formats) == 1 and isinstance(fmt, IntFormat) and _is_integer(fmt):
        zeros, offsets = _zero_and_offset(zero, scale, config)
        mask = np.int32((1 << fmt.bits) - 1)
        over_rows(
            kernels_cpu.integer_encode,
            rows,
            columns,
            source,
            group,
            steps,
            zeros,
            offsets,
            *_integer_limits(fmt),
            np.float32(1 / fmt.step),
            mask,
            out,
        )
    elif len(config.formats) == 1 and isinstance(fmt, FloatFormat) and _is_float(fmt):
        signed_zero = fmt.negative_zero_code is not None
        over_rows(
            kernels_cpu.float_encode,
            rows,
            columns,
            source,
            group,
            steps,
            *_float_constants(fmt),
            np.int32(fmt.mantissa_bits),
            np.int32(fmt.bits),
            np.float32(2.0 ** (fmt.exponent_bias + fmt.mantissa_bits - 1)),
            signed_zero,
            out,
        )
    else:
        tables = _tables(config.formats)
        choice = np.zeros(steps.shape, np.uint8)
        if selector is not None:
            tiles = spread_tiles(selector, config.selector_granularity, config.granularity, (rows, columns))
            choice = tiles.contiguous().numpy()
        over_rows(
            kernels_cpu.table_encode,
            rows,
            columns,
            source,
            group,
            steps,
            choice,
            tables.thresholds,
            tables.codes,
            tables.negative_zero,
            out,
        )
    return codes


def _is_integer(fmt: Format) -> bool:
    return isinstance(fmt, IntFormat) and fmt.tie is Tie.EVEN and fmt.bits <= 8


def _is_float(fmt: Format) -> bool:
    """A minifloat with sign and mantissa whose arithmetic stays within normal float32 numbers."""
    if not isinstance(fmt, FloatFormat) or fmt.tie is not Tie.EVEN or fmt.bits > 8:
        return False
    if fmt.sign_bits != 1 or fmt.mantissa_bits < 1 or fmt.bits != 1 + fmt.exponent_bits + fmt.mantissa_bits:
        return False
    if fmt.exponent_bits == 1 and fmt.variant is not FloatVariant.FINITE:
        return False  # the only normal exponent may be missing
    return 1 - fmt.exponent_bias - fmt.mantissa_bits >= -100 and fmt.maximum <= 2.0**100


def _is_table(fmt: Format) -> bool:
    if isinstance(fmt, OutlierVictimFormat | VectorFormat) or fmt.dim != 1 or fmt.bits > 8:
        return False
    return isinstance(fmt, CodebookFormat | IntFormat | FloatFormat) and len(fmt.levels) <= _MAX_LEVELS


def _zero_and_offset(zero: Tensor | None, scale: Tensor, config: TensorConfig) -> tuple[np.ndarray, np.ndarray]:
    """Integer zero points and real offsets as float32 ``[n, g]``, zeros where there are none."""
    nothing = np.zeros(tuple(scale.shape), np.float32)
    if zero is None:
        return nothing, nothing
    values = zero.to(torch.float32).contiguous().numpy()
    return (nothing, values) if isinstance(config.zero_point, FloatFormat) else (values, nothing)


def _integer_limits(fmt: IntFormat) -> tuple[np.float32, np.float32]:
    return np.float32(fmt.minimum / fmt.step), np.float32(fmt.maximum / fmt.step)


def _float_constants(fmt: FloatFormat) -> tuple[np.float32, np.int32, np.int32]:
    lowest = (1 - fmt.exponent_bias + 127) << 23  # 127 and 23: bias and mantissa bits of float32
    return np.float32(fmt.maximum), np.int32(lowest), np.int32(((23 - fmt.mantissa_bits) << 23) | (1 << 22))


@dataclass(frozen=True, eq=False)
class _Tables:
    """Levels of several formats side by side; thresholds beyond the last are NaN, which no number reaches."""

    thresholds: np.ndarray  # float32 [F, 15]
    levels: np.ndarray  # float32 [F, 16]
    codes: np.ndarray  # uint8 [F, 16]
    negative_zero: np.ndarray  # int32 [F]


@lru_cache(maxsize=64)
def _tables(formats: tuple[Format, ...]) -> _Tables:
    thresholds = np.full((len(formats), kernels_cpu.MAX_THRESHOLDS), np.nan, np.float32)
    levels = np.zeros((len(formats), _MAX_LEVELS), np.float32)
    codes = np.zeros((len(formats), _MAX_LEVELS), np.uint8)
    negative_zero = np.full(len(formats), -1, np.int32)
    for i, fmt in enumerate(formats):
        count = len(fmt.levels)
        thresholds[i, : count - 1], levels[i, :count], codes[i, :count] = fmt.thresholds, fmt.levels, fmt.level_codes
        if fmt.negative_zero_code is not None:
            negative_zero[i] = fmt.negative_zero_code
    return _Tables(thresholds, levels, codes, negative_zero)


@dataclass(frozen=True, eq=False)
class _SharedGrid:
    """Formats that are one symmetric grid and one special value each, as ``special_error`` wants them."""

    bounds: np.ndarray  # float32 [7]
    levels: np.ndarray  # float32 [8]
    sign_step: np.int32
    intervals: tuple[tuple[float, float, float], ...]  # low, high, special of each format


@lru_cache(maxsize=64)
def _shared_grid(formats: tuple[Format, ...]) -> _SharedGrid | None:
    """The common grid of ``formats``, or ``None`` where they have none."""
    if not all(isinstance(f, CodebookFormat) and f.special is not None for f in formats):
        return None
    special = [
        float(f.code_values[f.special]) for f in formats if isinstance(f, CodebookFormat) and f.special is not None
    ]
    bases = [tuple(v for v in f.levels if v != s) for f, s in zip(formats, special, strict=True)]
    base = bases[0]
    magnitudes = [v for v in base if v >= 0]
    symmetric = sorted({-v for v in magnitudes} | set(magnitudes)) == list(base)
    if any(b != base for b in bases) or not symmetric or len(magnitudes) > 8:
        return None
    grid = CodebookFormat(
        "grid",
        formats[0].bits,
        "common levels",
        tie=formats[0].tie,
        values=base + (0.0,) * ((1 << formats[0].bits) - len(base)),
    )
    above = grid.thresholds[len(magnitudes) - 1 :]  # bounds of positive numbers
    below = -grid.thresholds[: len(magnitudes) - 1][::-1]  # a negative number goes inward below this magnitude ...
    outward = np.nextafter(below, np.float32(np.inf))  # ... and outward from this one on
    steps = {int(a) - int(b) for a, b in zip(above.view(np.int32), outward.view(np.int32), strict=True)}
    if len(steps) != 1:
        return None
    bounds, levels = np.full(7, np.nan, np.float32), np.zeros(8, np.float32)
    bounds[: len(above)], levels[: len(magnitudes)] = above, magnitudes
    return _SharedGrid(bounds, levels, np.int32(steps.pop()), tuple(map(_interval, formats, special)))


def _interval(fmt: Format, special: float) -> tuple[float, float, float]:
    """Numbers from low to below high round to ``special``."""
    index = int(np.searchsorted(fmt.levels, special))
    low = float(fmt.thresholds[index - 1]) if index else -np.inf
    high = float(fmt.thresholds[index]) if index < len(fmt.thresholds) else np.nan
    return low, high, special


def _special_errors(x: Tensor, trials: Sequence[Trial], shared: _SharedGrid, group: int) -> list[Tensor]:
    """Trials with one and the same scale are scored two at a time."""
    pairs: list[list[int]] = []
    for i, trial in enumerate(trials):
        open_pair = [p for p in pairs if len(p) == 1 and trials[p[0]].scale is trial.scale]
        if open_pair:
            open_pair[0].append(i)
        else:
            pairs.append([i])
    slots = [(p[0], p[-1]) for p in pairs]
    intervals = np.array([shared.intervals[i] for pair in slots for i in pair], dtype=np.float32)
    scale = torch.stack([trials[first].scale for first, _ in slots]).numpy()
    error = np.empty((2 * len(slots), *scale.shape[1:]), np.float32)
    over_rows(
        kernels_cpu.special_error,
        x.shape[0],
        x.shape[1],
        x.numpy(),
        group,
        scale,
        shared.bounds,
        shared.levels,
        shared.sign_step,
        *np.ascontiguousarray(intervals.T),
        error,
    )
    place = {i: 2 * slot + side for slot, pair in enumerate(slots) for side, i in enumerate(pair)}
    return [torch.from_numpy(error[place[i]]) for i in range(len(trials))]
