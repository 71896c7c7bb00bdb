"""Number formats: a frozen map from codes to values, and exact rounding of reals to codes.

A ``Format`` knows only values. What it costs in hardware is ``hwmodel.pe``'s view, its C type ``hls.c_types``'s, its
layout in words ``datatypes.packing``'s. Every format of at most 16 bits has a complete code table; rounding is defined
once, by the table (``encode``), and a second time by exact rational arithmetic on one number (``encode_scalar``), so
that each can check the other. 32-bit floats are named here too (a scale may be FP32) but have no table.

Conventions, for every format:
    * rounding is to the nearest value; ``tie`` says where an exact midpoint goes;
    * overflow saturates to the largest finite value of that sign, infinities included;
    * zero keeps its sign where the format has a negative zero;
    * NaN becomes the NaN code where there is one, and is a ``ValueError`` where there is none.

Sources: IEEE 754-2019 (binary interchange), OCP 8-bit Floating Point Specification 1.0 (E4M3, E5M2), OCP Microscaling
Formats 1.0 (E2M1, E2M3, E3M2, INT8, E8M0), and the papers named by the instances in ``datatypes.catalog``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cached_property

import numpy as np

MAX_TABLE_BITS = 16


class Tie(Enum):
    """Where a value exactly between two neighbours goes."""

    EVEN = "even code"  # IEEE 754 roundTiesToEven: the neighbour whose code is even
    LOWER = "lower value"  # towards minus infinity
    UPPER = "upper value"  # towards plus infinity
    AWAY = "larger magnitude"  # roundTiesToAway
    ZERO = "smaller magnitude"


class FloatVariant(Enum):
    """What the top exponent and the negative zero of a minifloat mean."""

    IEEE = "ieee"  # top exponent: infinities and NaNs
    FN = "fn"  # finite, all ones is NaN (OCP E4M3)
    FNUZ = "fnuz"  # finite, no negative zero: that code is the only NaN
    FINITE = "finite"  # every code is a number (OCP E2M1, E2M3, E3M2)


@dataclass(frozen=True)
class Format:
    """Base of the closed family of element formats.

    Args:
        name: unique, lower case; the key in files and on the command line.
        bits: width of one code in bits.
        source: the paper or specification that defines the format.
        tie: where an exact midpoint goes.
    """

    name: str
    bits: int
    source: str = field(compare=False)
    tie: Tie = field(default=Tie.EVEN, kw_only=True)

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise ValueError(f"bits of format {self.name} must be 1 to 32, not {self.bits!r}")

    @property
    def dim(self) -> int:
        """Elements encoded by one code (1, except for vector formats)."""
        return 1

    @property
    def bits_per_element(self) -> float:
        """Code bits for each element."""
        return self.bits / self.dim

    def _value_of(self, code: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} has no code table")

    @cached_property
    def code_values(self) -> np.ndarray:
        """Value of every code, float64 ``[2**bits]``; NaN and infinity where the code means that.

        Raises:
            NotImplementedError: the format is wider than 16 bits.
        """
        if self.bits > MAX_TABLE_BITS:
            raise NotImplementedError(f"{self.name} has {self.bits} bits: no code table beyond {MAX_TABLE_BITS}")
        table = np.array([self._value_of(code) for code in range(1 << self.bits)], dtype=np.float64)
        table.setflags(write=False)
        return table

    @cached_property
    def levels(self) -> np.ndarray:
        """The distinct finite values, ascending, float64; zero once."""
        finite = self.code_values[np.isfinite(self.code_values)]
        levels = np.unique(finite + 0.0)  # + 0.0 turns -0.0 into 0.0
        levels.setflags(write=False)
        return levels

    @property
    def unused_codes(self) -> frozenset[int]:
        """Codes that have a value, for a decoder that meets them, but are never produced."""
        return frozenset()

    @cached_property
    def level_codes(self) -> np.ndarray:
        """The code of each of ``levels``, int64; the lowest used code where several share a value, +0 before -0."""
        table = self.code_values
        usable = np.isfinite(table) & ~((table == 0) & np.signbit(table))
        usable[sorted(self.unused_codes)] = False
        codes = np.flatnonzero(usable)[::-1]  # descending, so that the lowest code is written last
        level_codes = np.full(len(self.levels), -1, dtype=np.int64)
        level_codes[np.searchsorted(self.levels, table[codes])] = codes
        assert (level_codes >= 0).all(), f"every value of {self.name} needs a code that is used"
        level_codes.setflags(write=False)
        return level_codes

    @cached_property
    def thresholds(self) -> np.ndarray:
        """Decision bounds for float32 input, float32 ``[len(levels) - 1]``.

        ``x >= thresholds[i]`` says that ``x`` rounds to ``levels[i + 1]`` or above. Each is the smallest float32 for
        which that holds, so comparing float32 numbers with it is exact, ties included.
        """
        bounds = np.array(
            [
                _smallest_float32_above(low, high, self._upper_wins_tie(i))
                for i, (low, high) in enumerate(zip(self.levels[:-1], self.levels[1:], strict=True))
            ],
            dtype=np.float32,
        )
        bounds.setflags(write=False)
        return bounds

    def _upper_wins_tie(self, index: int) -> bool:
        """Whether the midpoint of ``levels[index]`` and ``levels[index + 1]`` goes up."""
        low, high = self.levels[index], self.levels[index + 1]
        if self.tie is Tie.LOWER:
            return False
        if self.tie is Tie.UPPER:
            return True
        if self.tie is Tie.AWAY or self.tie is Tie.ZERO:
            outward_is_up = low + high > 0 or (low + high == 0 and high > 0)
            return outward_is_up == (self.tie is Tie.AWAY)
        return self.level_codes[index + 1] % 2 == 0

    @property
    def maximum(self) -> float:
        """Largest finite value."""
        return float(self.levels[-1])

    @property
    def minimum(self) -> float:
        """Smallest (most negative) finite value."""
        return float(self.levels[0])

    @property
    def absmax(self) -> float:
        """Largest finite magnitude."""
        return max(self.maximum, -self.minimum)

    @property
    def signed(self) -> bool:
        """Whether any value is negative."""
        return self.minimum < 0

    @cached_property
    def nan_code(self) -> int | None:
        """The lowest NaN code, or ``None``."""
        codes = np.flatnonzero(np.isnan(self.code_values))
        return int(codes[0]) if len(codes) else None

    @cached_property
    def negative_zero_code(self) -> int | None:
        """The code of -0.0, or ``None``."""
        table = self.code_values
        minus_zero = (table == 0) & np.signbit(table)
        minus_zero[sorted(self.unused_codes)] = False
        codes = np.flatnonzero(minus_zero)
        return int(codes[0]) if len(codes) else None

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values of ``codes`` (any shape, integer), as float32.

        >>> from datatypes.catalog import FP4
        >>> FP4.decode(FP4.encode(np.array([2.4, -7.0, 0.25]))).tolist()
        [2.0, -6.0, 0.0]
        """
        return self.code_values.astype(np.float32)[np.asarray(codes)]

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Codes nearest to ``values`` (any shape; read as float32), as uint8, or uint16 above 8 bits.

        Raises:
            ValueError: a value is NaN and the format has no NaN.
        """
        x = np.asarray(values, dtype=np.float32)
        index = np.searchsorted(self.thresholds, x, side="right")
        codes = self.level_codes[index]
        if self.negative_zero_code is not None:
            codes = np.where((self.levels[index] == 0) & np.signbit(x), self.negative_zero_code, codes)
        nan = np.isnan(x)
        if nan.any():
            if self.nan_code is None:
                raise ValueError(f"values must hold no NaN for format {self.name}, which has no NaN code")
            codes = np.where(nan, self.nan_code, codes)
        return codes.astype(np.uint8 if self.bits <= 8 else np.uint16)

    def round(self, values: np.ndarray) -> np.ndarray:
        """``decode(encode(values))``: each value's nearest representable one, float32."""
        return self.decode(self.encode(values))

    def encode_scalar(self, value: float) -> int:
        """The code of one real number, by exact rational arithmetic.

        Independent of ``thresholds`` and of float32: the reference that the array code is compared with.
        """
        if math.isnan(value):
            if self.nan_code is None:
                raise ValueError(f"value must not be NaN for format {self.name}, which has no NaN code")
            return self.nan_code
        if math.isinf(value):
            value = self.maximum if value > 0 else self.minimum
        exact, levels = Fraction(value), self._exact_levels
        above = bisect_left(levels, exact)  # the first level at or above the value
        if above == len(levels):
            index = above - 1
        elif above == 0 or levels[above] == exact:
            index = above
        else:
            below_distance, above_distance = exact - levels[above - 1], levels[above] - exact
            tie_up = below_distance == above_distance and self._upper_wins_tie(above - 1)
            index = above if above_distance < below_distance or tie_up else above - 1
        zero = self.levels[index] == 0
        if zero and math.copysign(1.0, value) < 0 and self.negative_zero_code is not None:
            return self.negative_zero_code
        return int(self.level_codes[index])

    @cached_property
    def _exact_levels(self) -> list[Fraction]:
        return [Fraction(float(level)) for level in self.levels]


def _smallest_float32_above(low: float, high: float, tie_goes_up: bool) -> np.float32:
    """Smallest float32 that rounds to ``high`` rather than ``low``."""
    middle = (Fraction(float(low)) + Fraction(float(high))) / 2
    bound = np.float32(float(middle))
    while Fraction(float(bound)) > middle:
        bound = np.nextafter(bound, np.float32(-np.inf))
    while Fraction(float(bound)) < middle or (Fraction(float(bound)) == middle and not tie_goes_up):
        bound = np.nextafter(bound, np.float32(np.inf))
    return bound


@dataclass(frozen=True)
class IntFormat(Format):
    """Integers in two's complement, or unsigned.

    Args:
        signed_codes: two's complement if true, else 0 to 2**bits - 1.
        symmetric: leave out the most negative value; its code then means ``-(2**(bits-1) - 1)`` as well.
        step: value of one unit (OCP MXINT8 elements count in 1/64).
    """

    signed_codes: bool = field(default=True, kw_only=True)
    symmetric: bool = field(default=False, kw_only=True)
    step: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symmetric and (not self.signed_codes or self.bits < 2):
            raise ValueError(f"format {self.name} must have signed codes of 2 bits or more to be symmetric")
        if not (self.step > 0 and math.frexp(self.step)[0] == 0.5):
            raise ValueError(f"step of format {self.name} must be a power of two, not {self.step!r}")

    @property
    def unused_codes(self) -> frozenset[int]:
        return frozenset({1 << (self.bits - 1)}) if self.symmetric else frozenset()

    def _value_of(self, code: int) -> float:
        if not self.signed_codes:
            return code * self.step
        value = code - (1 << self.bits) if code >> (self.bits - 1) else code
        if self.symmetric:
            value = max(value, 1 - (1 << (self.bits - 1)))
        return value * self.step


@dataclass(frozen=True)
class FloatFormat(Format):
    """Sign, exponent, mantissa; subnormals always; ``bias`` may be anything.

    Args:
        exponent_bits: at least 1 unless the format is unsigned without mantissa.
        mantissa_bits: 0 and up.
        bias: exponent bias; ``None`` for 2**(exponent_bits - 1) - 1 (one more for FNUZ).
        variant: meaning of the special codes.
        sign_bits: 1, or 0 for an unsigned float (NVFP4's block scale uses the positive half of E4M3).
    """

    exponent_bits: int = field(kw_only=True)
    mantissa_bits: int = field(kw_only=True)
    bias: int | None = field(default=None, kw_only=True)
    variant: FloatVariant = field(default=FloatVariant.FINITE, kw_only=True)
    sign_bits: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exponent_bits < 1 or self.mantissa_bits < 0 or self.sign_bits not in (0, 1):
            raise ValueError(
                f"format {self.name} must have exponent_bits >= 1, mantissa_bits >= 0 and sign_bits 0 or 1, "
                f"not {self.exponent_bits!r}, {self.mantissa_bits!r}, {self.sign_bits!r}"
            )
        if self.sign_bits + self.exponent_bits + self.mantissa_bits > self.bits:
            raise ValueError(
                f"bits of format {self.name} must hold sign, exponent and mantissa "
                f"({self.sign_bits} + {self.exponent_bits} + {self.mantissa_bits}), not {self.bits!r}"
            )
        lowest, highest = 1 - self.exponent_bias - self.mantissa_bits, (1 << self.exponent_bits) - self.exponent_bias
        if lowest < -149 or highest > 129:  # float32 holds 2**-149 to 2**128; the top exponent may be unused
            raise ValueError(
                f"bias of format {self.name} must keep its values within those of float32, not {self.bias!r}"
            )

    @property
    def exponent_bias(self) -> int:
        """The bias in force."""
        if self.bias is not None:
            return self.bias
        return (1 << (self.exponent_bits - 1)) - (0 if self.variant is FloatVariant.FNUZ else 1)

    def _value_of(self, code: int) -> float:
        mantissa = code & ((1 << self.mantissa_bits) - 1)
        exponent = (code >> self.mantissa_bits) & ((1 << self.exponent_bits) - 1)
        rest = code >> (self.mantissa_bits + self.exponent_bits)
        if rest >= 1 << self.sign_bits:
            return math.nan  # a container bit that is always zero (NVFP4's scale byte)
        sign = -1.0 if rest else 1.0
        top = (1 << self.exponent_bits) - 1
        if self.variant is FloatVariant.IEEE and exponent == top:
            return math.nan if mantissa else sign * math.inf
        if self.variant is FloatVariant.FN and exponent == top and mantissa == (1 << self.mantissa_bits) - 1:
            return math.nan
        if self.variant is FloatVariant.FNUZ and sign < 0 and exponent == 0 and mantissa == 0:
            return math.nan
        if exponent == 0:
            return sign * math.ldexp(mantissa, 1 - self.exponent_bias - self.mantissa_bits)
        return sign * math.ldexp(
            mantissa + (1 << self.mantissa_bits), exponent - self.exponent_bias - self.mantissa_bits
        )


@dataclass(frozen=True)
class ExponentFormat(Format):
    """Powers of two only, unsigned: value 2**(code - bias); the top code is NaN (OCP E8M0).

    ``encode`` rounds in the value domain like any format; MX scales are instead *computed* as codes by
    ``datatypes.scale`` (floor or ceiling of log2), which never rounds.
    """

    bias: int = field(default=127, kw_only=True)

    def _value_of(self, code: int) -> float:
        if code == (1 << self.bits) - 1:
            return math.nan
        return math.ldexp(1.0, code - self.bias)


@dataclass(frozen=True)
class CodebookFormat(Format):
    """Any values, in code order.

    Args:
        values: one value per code, ``2**bits`` of them, rounded to float32; the same value may stand twice.
        special: where a BitMoD-type format keeps its special value: the code that would be negative zero.
        unused: codes that are never produced; their values must be those of other codes.
    """

    values: tuple[float, ...] = field(kw_only=True)
    special: int | None = field(default=None, kw_only=True)
    unused: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits > MAX_TABLE_BITS or len(self.values) != 1 << self.bits:
            raise ValueError(f"values of format {self.name} must be 2**{self.bits}, not {len(self.values)}")
        if not all(math.isfinite(v) for v in self.values):
            raise ValueError(f"values of format {self.name} must be finite, not {self.values!r}")
        if any(not 0 <= code < len(self.values) for code in self.unused):
            raise ValueError(f"unused codes of format {self.name} must be codes, not {self.unused!r}")

    @property
    def unused_codes(self) -> frozenset[int]:
        return frozenset(self.unused)

    def _value_of(self, code: int) -> float:
        return float(np.float32(self.values[code]))


@dataclass(frozen=True)
class VectorFormat(Format):
    """One code for several consecutive elements: a table of ``2**bits`` points in ``dimension`` dimensions.

    Encoding is to the nearest point in Euclidean distance, the lowest code on ties. OliVe's outlier-victim pairs are
    such a table too (two nibbles decoded together), with their own encoder in ``datatypes.outlier_victim``.

    Args:
        dimension: elements per code.
        points: the table, ``2**bits`` tuples of ``dimension`` values.
    """

    dimension: int = field(kw_only=True)
    points: tuple[tuple[float, ...], ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.points) != 1 << self.bits or any(len(p) != self.dimension for p in self.points):
            raise ValueError(
                f"points of format {self.name} must be {1 << self.bits} of {self.dimension} values each, "
                f"not {len(self.points)}"
            )

    @property
    def dim(self) -> int:
        return self.dimension

    @cached_property
    def point_table(self) -> np.ndarray:
        """The points, float64 ``[2**bits, dimension]``."""
        table = np.array(self.points, dtype=np.float64)
        table.setflags(write=False)
        return table

    @property
    def levels(self) -> np.ndarray:  # type: ignore[override]
        """The distinct coordinates, ascending, float64."""
        return np.unique(self.point_table + 0.0)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values of ``codes`` ``[..., c]`` as float32 ``[..., c * dimension]``."""
        codes = np.asarray(codes)
        return self.point_table.astype(np.float32)[codes].reshape(*codes.shape[:-1], -1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Codes of the nearest points to ``values`` ``[..., c * dimension]``, as ``[..., c]``.

        Raises:
            ValueError: the last axis is not a multiple of ``dimension``, or a value is NaN.
        """
        x = np.asarray(values, dtype=np.float32)
        if x.shape[-1] % self.dimension:
            raise ValueError(f"last axis must be a multiple of {self.dimension} for {self.name}, not {x.shape[-1]}")
        if np.isnan(x).any():
            raise ValueError(f"values must hold no NaN for format {self.name}, which has no NaN code")
        vectors = x.reshape(-1, self.dimension).astype(np.float64)
        squared = (self.point_table**2).sum(1)
        codes = np.empty(len(vectors), dtype=np.int64)
        for start in range(0, len(vectors), 1 << 14):  # bounds the distance matrix
            part = vectors[start : start + (1 << 14)]
            codes[start : start + len(part)] = np.argmin(squared - 2 * part @ self.point_table.T, axis=1)
        return codes.reshape(*x.shape[:-1], -1).astype(np.uint8 if self.bits <= 8 else np.uint16)

    def encode_scalar(self, value: float) -> int:
        raise NotImplementedError(f"{self.name} encodes {self.dimension} elements at once")


@dataclass(frozen=True)
class LearnedFormat(Format):
    """A codebook whose values belong to the tensor, not to the format (SqueezeLLM, VPTQ, k-means).

    The values live in ``QuantizedTensor.codebook``; the config's ``CodebookConfig`` says how many there are and in
    which precision they are stored.

    Args:
        dimension: elements per code.
    """

    dimension: int = field(default=1, kw_only=True)

    @property
    def dim(self) -> int:
        return self.dimension
