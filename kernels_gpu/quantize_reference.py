"""What the GPU quantizers take and give: encodings covered, constants of the grids, code table, plain numpy reference.

The reference tries every candidate with ``Format.round`` and sums errors in float64; the kernels of
``kernels_gpu.quantize_bitmod`` and ``quantize_integer`` are compared with it and with
``datatypes.quantize.quantize_tensor``.
Levels and candidate order: Chen et al., BitMoD, HPCA 2025, Table IV and algorithm 1. No kernels here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.format import CodebookFormat, Format
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig

TABLE_ROW = 256  # entries for each candidate
TABLE_ZERO = 64  # entry of quotient 0: quotients of -64 to 191 steps, of which 33 is the largest that can occur
HALF_MIN, HALF_MAX = 2.0**-24, 65504.0  # IEEE 754 binary16: smallest subnormal, largest finite value
GROUP_SIZES = (32, 64, 128)


class Element(Enum):
    """Type of the weights on the device."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class KernelSpec:
    """What one compiled kernel does.

    Args:
        config: formats, group and scale.
        element: type of the weights.
        by_row: a block works on (part of) one row: two scale levels, or k not a multiple of the group.
        vector: k is a multiple of 8, so that chunks are whole and 16-byte loads aligned.
        threads: of a block.
    """

    config: TensorConfig
    element: Element
    by_row: bool
    vector: bool
    threads: int

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        assert isinstance(self.config.granularity, PerGroup)
        return self.config.granularity.group_size

    @property
    def two_levels(self) -> bool:
        """Whether scales are 8-bit codes with an FP16 scale for each row."""
        return self.config.scale is not None and self.config.scale.outer is not None

    @property
    def largest_input(self) -> float:
        """Magnitude up to which scales fit their storage."""
        smallest_absmax = min(fmt.absmax for fmt in self.config.formats)
        return HALF_MAX * smallest_absmax * (UINT8.maximum if self.two_levels else 1.0)


@dataclass(frozen=True)
class Grid:
    """Constants of a BitMoD mixture in the kernel (module docstring).

    Args:
        significand: 2**23 / 2**mantissa_bits of the basic float.
        largest: its largest level.
        centre: magnitude of the ER special value.
        edge: the EA special value starts to win here.
        penalty: the unclamped grid meets the EA special value (8 follows 6), so the wrong sign pays instead.
        step: all thresholds are multiples of it.
    """

    significand: float
    largest: float
    centre: float
    edge: float
    penalty: bool
    step: float


# Levels from BitMoD (HPCA 2025), Table IV: FP4 +-{0.5 1 1.5 2 3 4 6}, ER +-5, EA +-8; FP3 +-{1 2 4}, ER +-3, EA +-6.
GRIDS = {
    4: Grid(significand=2.0**22, largest=6.0, centre=5.0, edge=7.0, penalty=True, step=0.25),
    3: Grid(significand=2.0**23, largest=4.0, centre=3.0, edge=5.0, penalty=False, step=0.5),
}


# the formats of kernels_gpu.quantize_bitmod, by a table of codes; the others are kernels_gpu.quantize_integer's
_TABLED = (BITMOD_FP3, BITMOD_FP4, (INTS_SYMMETRIC[3],), (INTS_SYMMETRIC[4],))
_SYMMETRIC = tuple((INTS_SYMMETRIC[bits],) for bits in range(2, 9))
_UNSIGNED = tuple((UINTS[bits],) for bits in range(2, 9))


def has_code_table(formats: tuple[Format, ...]) -> bool:
    """Whether these are formats of ``kernels_gpu.quantize_bitmod``."""
    return formats in _TABLED


def check_config(config: TensorConfig) -> None:
    """One clear sentence for an encoding that this file has no kernel for.

    Raises:
        NotImplementedError: formats, granularity, scale or extras not covered.
    """
    if config.formats not in (*_TABLED, *_SYMMETRIC, *_UNSIGNED):
        names = ", ".join(fmt.name for fmt in config.formats)
        raise NotImplementedError(
            "formats must be a BitMoD mixture or a symmetric or unsigned integer of 2 to 8 bits on the GPU, "
            f"not {names}"
        )
    if not isinstance(config.granularity, PerGroup) or config.granularity.along_output:
        raise NotImplementedError(f"granularity must be groups along a row on the GPU, not {config.granularity!r}")
    if config.granularity.group_size not in GROUP_SIZES:
        raise NotImplementedError(f"group_size must be one of {GROUP_SIZES} on the GPU, not {config.granularity!r}")
    one = ScaleConfig(FP16, ScaleRule.ABSMAX)
    two = ScaleConfig(UINT8, ScaleRule.ABSMAX, outer=FP16, outer_granularity=PerChannel())
    zero_point = None
    if config.formats in _UNSIGNED:
        zero_point = config.formats[0]
        if config.scale != ScaleConfig(FP16, ScaleRule.RANGE):
            raise NotImplementedError(
                f"scale must be fp16 by range for unsigned integers on the GPU, not {config.scale!r}"
            )
        if config.zero_point != zero_point:
            raise NotImplementedError(
                f"zero_point must be {zero_point.name}, as the codes, on the GPU, not {config.zero_point!r}"
            )
    elif has_code_table(config.formats):
        if config.scale not in (one, two):
            raise NotImplementedError(
                f"scale must be fp16, or uint8 with fp16 for each row, on the GPU, not {config.scale!r}"
            )
    elif config.scale != one:
        raise NotImplementedError(f"scale must be fp16 for {config.formats[0].name} on the GPU, not {config.scale!r}")
    plain = TensorConfig(config.formats, config.granularity, config.scale, zero_point=zero_point)
    if config != plain:
        raise NotImplementedError(
            "zero points of other formats, selectors of their own, masks, vectors and residuals have no GPU kernel"
        )


# --- reference ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """Codes ``[n, k]``, stored scales, selectors ``[n, gk]``, outer scales ``[n]``, errors ``[candidates, n, gk]``.

    With zero points ``[n, gk]`` there are no errors: nothing is chosen.
    """

    codes: np.ndarray
    scales: np.ndarray
    outer_scales: np.ndarray | None
    selectors: np.ndarray
    errors: np.ndarray
    zero_points: np.ndarray | None = None


def quantize_reference(weights: np.ndarray, config: TensorConfig) -> Reference:
    """Plain numpy: every candidate tried with ``Format.round``, errors summed in float64.

    Args:
        weights: float32 ``[n, k]``.
        config: as ``check_config`` allows.
    """
    assert isinstance(config.granularity, PerGroup) and config.scale is not None
    n, k = weights.shape
    size = config.granularity.group_size
    groups = np.pad(weights.astype(np.float32), ((0, 0), (0, -k % size))).reshape(n, -1, size)
    if config.zero_point is not None:
        return _with_zero_points(groups, k, config.formats[0])
    absmax = np.abs(groups).max(2)
    two_levels = config.scale.outer is not None
    ideal, errors = [], []
    for fmt in config.formats:
        scale = absmax / np.float32(fmt.absmax)
        used = scale if two_levels else _to_half(np.where(scale > 0, scale, np.float32(1))).astype(np.float32)
        errors.append(_squared_error(groups, used, fmt))
        ideal.append(scale)
    selectors = np.argmin(errors, axis=0)
    scale = np.take_along_axis(np.stack(ideal), selectors[None], 0)[0]
    outer = None
    if two_levels:
        step = scale.max(1, keepdims=True) / np.float32(UINT8.maximum)
        outer = _to_half(np.where(step > 0, step, np.float32(1)))
        ratio = scale / outer.astype(np.float32)
        stored = np.clip(np.rint(ratio), 1, UINT8.maximum).astype(np.uint8)
        effective = stored.astype(np.float32) * outer.astype(np.float32)
    else:
        stored = _to_half(np.where(scale > 0, scale, np.float32(1)))
        effective = stored.astype(np.float32)
    quotient = groups / effective[..., None]
    codes = np.zeros(groups.shape, np.uint8)
    for index, fmt in enumerate(config.formats):
        codes[selectors == index] = fmt.encode(quotient[selectors == index])
    return Reference(
        codes.reshape(n, -1)[:, :k],
        stored,
        None if outer is None else outer[:, 0],
        selectors.astype(np.uint8),
        np.stack(errors),
    )


def _with_zero_points(groups: np.ndarray, k: int, fmt: Format) -> Reference:
    """Unsigned integers over the range of each group of ``[n, gk, size]``, which includes zero (as the padding is)."""
    low, high = groups.min(2).clip(max=0), groups.max(2).clip(min=0)
    ideal = (high - low) / np.float32(fmt.maximum)
    stored = _to_half(np.where(ideal > 0, ideal, np.float32(1)))
    scale = stored.astype(np.float32)
    zero = np.rint(-low / scale).clip(0, fmt.maximum)
    codes = (np.rint(groups / scale[..., None]) + zero[..., None]).clip(0, fmt.maximum).astype(np.uint8)
    none = np.zeros(scale.shape, np.uint8)
    n = len(groups)
    return Reference(codes.reshape(n, -1)[:, :k], stored, None, none, np.zeros((0, *none.shape)), zero.astype(np.int32))


def _to_half(scale: np.ndarray) -> np.ndarray:
    return np.clip(scale, np.float32(HALF_MIN), np.float32(HALF_MAX)).astype(np.float16)


def _squared_error(groups: np.ndarray, scale: np.ndarray, fmt: Format) -> np.ndarray:
    scale = scale[..., None]
    quotient = np.divide(groups, scale, out=np.zeros_like(groups), where=scale != 0)
    return np.square((fmt.round(quotient) * scale - groups).astype(np.float64)).sum(2)


def code_table(config: TensorConfig) -> np.ndarray:
    """Code of every quotient that is a whole number of steps, ``TABLE_ROW`` entries for each candidate.

    Formats whose ties go to the lower value have their thresholds on the steps: an entry stands for all quotients above
    the previous one up to its own. For integers, whose step is 1, an entry is the rounded quotient itself.
    """
    fmt = config.formats[0]
    step = GRIDS[fmt.bits].step if isinstance(fmt, CodebookFormat) else 1.0
    quotients = (np.arange(TABLE_ROW) - TABLE_ZERO) * step
    return np.concatenate([f.encode(quotients) for f in config.formats]).astype(np.uint8)
