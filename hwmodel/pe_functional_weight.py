"""A weight as a bit-serial array holds it: codes, the format of each group, and scales as significand and exponent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from datatypes.format import ExponentFormat, FloatFormat, Format, IntFormat
from datatypes.granularity import PerChannel, PerTensor
from datatypes.stored_matrix import StoredMatrix, along_rows, codes_of, selector_of
from hwmodel.pe import scale_cycles


@dataclass(frozen=True, eq=False)
class SerialWeight:
    """A weight ``[n, k]`` for ``hwmodel.pe_functional``.

    Args:
        formats: candidate element formats of equal width.
        codes: uint8 ``[n, k]``.
        group_size: columns that share a scale and a format; the last group of a row may be shorter.
        scale_format: of the group scales; ``None`` where there are none.
        scales: ``[n, groups]``: codes of ``scale_format``, or floats that are its values (FP16, BF16, FP32).
        choice: uint8 ``[n, groups]``: which of ``formats``; ``None`` for the first.
        outer: float32 ``[n]``: scale of each row on top; ``None`` where there is none.
    """

    formats: tuple[Format, ...]
    codes: np.ndarray
    group_size: int
    scale_format: Format | None = None
    scales: np.ndarray | None = None
    choice: np.ndarray | None = None
    outer: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.codes.dtype != np.uint8 or self.codes.ndim != 2:
            raise TypeError(f"codes must be uint8 of two dimensions, not {self.codes.dtype} of {self.codes.ndim}")
        if self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, not {self.group_size!r}")
        if (self.scale_format is None) != (self.scales is None):
            raise ValueError("scales must be given exactly where scale_format is")
        for name, array in (("scales", self.scales), ("choice", self.choice)):
            if array is not None and array.shape != (self.shape[0], self.groups):
                raise ValueError(f"{name} must have the shape {[self.shape[0], self.groups]}, not {list(array.shape)}")
        if self.codes.size and int(self.codes.max()) >= 1 << self.formats[0].bits:
            raise ValueError(f"codes must fit {self.formats[0].bits} bits, not reach {int(self.codes.max())}")
        if self.choice is not None and self.choice.size and int(self.choice.max()) >= len(self.formats):
            raise ValueError(f"choice must be below {len(self.formats)}, not {int(self.choice.max())}")
        if self.outer is not None and self.outer.shape != (self.shape[0],):
            raise ValueError(f"outer must have the shape {[self.shape[0]]}, not {list(self.outer.shape)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return -(-self.shape[1] // self.group_size)

    @cached_property
    def selector(self) -> np.ndarray:
        """The format of each group, uint8 ``[n, groups]``."""
        if self.choice is None:
            return np.zeros((self.shape[0], self.groups), np.uint8)
        return np.ascontiguousarray(self.choice.astype(np.uint8))

    @property
    def scale_name(self) -> str:
        """Name of the scale's format."""
        return "none" if self.scale_format is None else self.scale_format.name

    @property
    def scale_bits(self) -> int:
        """Significant bits of a scale; 0 without scales."""
        return 0 if self.scale_format is None else scale_cycles(self.scale_format)

    @property
    def scale_cycles(self) -> int:
        """Cycles of a group's dequantization: one for each of ``scale_bits``."""
        return self.scale_bits

    @property
    def scale_significands(self) -> np.ndarray:
        """Scales as integers, int64 ``[n, groups]``; 1 without scales."""
        return self._scale_parts[0]

    @property
    def scale_exponents(self) -> np.ndarray:
        """Powers of two of these integers, int64 ``[n, groups]``."""
        return self._scale_parts[1]

    @cached_property
    def _scale_parts(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.shape[0], self.groups)
        if self.scale_format is None or self.scales is None:
            return np.ones(shape, np.int64), np.zeros(shape, np.int64)
        return split_scale(self.scales, self.scale_format)

    def values(self) -> np.ndarray:
        """What the weight stands for, outer scale included, float64 ``[n, k]``; exact for scales of up to 24 bits."""
        columns = np.arange(self.shape[1]) // self.group_size
        tables = np.stack([fmt.code_values for fmt in self.formats])
        elements = tables[self.selector[:, columns], self.codes]
        scale = np.ldexp(self.scale_significands.astype(np.float64), self.scale_exponents)
        outer = 1.0 if self.outer is None else self.outer.astype(np.float64)[:, None]
        return np.asarray(elements * scale[:, columns] * outer)


def split_scale(scales: np.ndarray, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Stored scales as integers of ``scale_cycles(fmt)`` bits and powers of two, int64; no rounding.

    Args:
        scales: codes of ``fmt`` (integers), or values of a float format.

    Raises:
        ValueError: a scale is NaN or infinite.
        NotImplementedError: scales of another family.

    >>> from datatypes.catalog import FP16, UINT8
    >>> [part.tolist() for part in split_scale(np.array([1.5], np.float16), FP16)]
    [[1536], [-10]]
    >>> [part.tolist() for part in split_scale(np.array([200], np.uint8), UINT8)]
    [[200], [0]]
    """
    if isinstance(fmt, ExponentFormat):
        codes = scales.astype(np.int64)
        if (codes == (1 << fmt.bits) - 1).any():
            raise ValueError(f"scales must be finite, not a NaN of {fmt.name}")
        return np.ones_like(codes), codes - fmt.bias
    if isinstance(fmt, IntFormat):
        unit = math.frexp(fmt.step)[1] - 1
        codes = np.rint(np.ldexp(fmt.code_values[scales.astype(np.int64)], -unit)).astype(np.int64)
        return codes, np.full_like(codes, unit)
    if not isinstance(fmt, FloatFormat):
        raise NotImplementedError(f"scales must be integers, floats or powers of two, not {fmt.name}")
    floats = np.issubdtype(scales.dtype, np.floating)
    values = scales.astype(np.float64) if floats else fmt.code_values[scales.astype(np.int64)]
    if not np.isfinite(values).all():
        raise ValueError(f"scales must be finite, not hold {int((~np.isfinite(values)).sum())} NaN or infinite values")
    smallest = 1 - fmt.exponent_bias - fmt.mantissa_bits  # power of two of the lowest bit of subnormals
    exponents = np.maximum(np.frexp(values)[1].astype(np.int64) - 1 - fmt.mantissa_bits, smallest)
    return np.rint(np.ldexp(values, -exponents)).astype(np.int64), exponents


def serial_weight(matrix: StoredMatrix) -> SerialWeight:
    """A ``QuantizedTensor`` on the CPU as a bit-serial array holds it.

    Raises:
        NotImplementedError: groups do not run along rows, there is a zero point, or anything else a PE does not hold.
    """
    config, shape = matrix.config, matrix.shape
    codes = codes_of(matrix)
    _, columns = config.granularity.tile(shape)
    group = max(1, min(columns, shape[1]))
    if matrix.zero_point is not None:
        raise NotImplementedError("the PE holds no zero points: their share is the vector unit's")
    if config.row_scale is not None or config.column_scale is not None or config.hadamard:
        raise NotImplementedError("the PE holds no row scales, column scales or rotations")
    selector, run = selector_of(matrix)
    if run < shape[1] and run % group:
        raise NotImplementedError(f"formats must change with groups of {group}, not after {run} columns")
    groups = -(-shape[1] // group)
    choice = selector[:, np.minimum(np.arange(groups) * group // run, selector.shape[1] - 1)]
    if config.scale is None or matrix.scale is None:
        return SerialWeight(config.formats, codes, group, choice=choice)
    outer = None
    if config.scale.outer is not None:
        if not isinstance(config.scale.outer_granularity, PerChannel | PerTensor):
            raise NotImplementedError("an outer scale must belong to a row or to all of them")
        if not isinstance(config.scale.outer, FloatFormat):
            raise NotImplementedError(f"an outer scale must be a float, not {config.scale.outer.name}")
        if config.scale.outer_offset is not None:
            raise NotImplementedError("the PE holds no offsets of outer scales: they are put together before it")
        spread, _ = along_rows(_array(matrix.outer_scale), config.scale.outer_granularity, shape)
        outer = spread[:, 0].astype(np.float32)
    scales, _ = along_rows(_array(matrix.scale), config.granularity, shape)
    return SerialWeight(config.formats, codes, group, config.scale.format, scales, choice, outer)


def _array(stored: object) -> np.ndarray:
    """A tensor or array as numpy; floats widened first, since numpy has no BF16."""
    widen = getattr(stored, "double", None)
    if widen is not None and getattr(getattr(stored, "dtype", None), "is_floating_point", False):
        return np.asarray(widen())
    return np.asarray(stored)
