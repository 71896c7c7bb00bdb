"""OliVe's outlier-victim pairs: two adjacent elements in two nibbles, one of which may be an outlier.

An outlier is an adaptive-biased float ("abfloat", E2M1 with an exponent bias) in its own nibble; its neighbour, the
victim, becomes the identifier nibble ``1000`` and decodes to zero. Values within the normal range use the normal type
without its identifier code (int4 without -8, or signed flint4 without its second zero).

Source: Guo et al., OliVe, ISCA 2023, sections 3.1-3.3. Of two outliers in a pair the larger stays (paper); the
published code always keeps the left one, which is not followed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from datatypes.format import CodebookFormat, Format, Tie

IDENTIFIER = 0b1000
_FLINT4 = (0.0, 1.0, 2.0, 3.0, 16.0, 8.0, 4.0, 6.0)  # in code order (ANT, section 4: leading zeros are exponent)


@dataclass(frozen=True)
class OutlierVictimFormat(Format):
    """8 bits for two elements: low nibble first element, high nibble second.

    Args:
        normal_name: ``int4`` or ``flint4``.
        abfloat_bias: exponent bias of the outlier nibble; 2 beside int4 gives 12 to 96, 3 beside flint4 24 to 192.
    """

    normal_name: str = field(kw_only=True)
    abfloat_bias: int = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normal_name not in ("int4", "flint4"):
            raise ValueError(f"normal_name of format {self.name} must be int4 or flint4, not {self.normal_name!r}")

    @property
    def dim(self) -> int:
        return 2

    @cached_property
    def normal(self) -> CodebookFormat:
        """The normal type, 15 values; its identifier code repeats zero and is never produced."""
        if self.normal_name == "int4":
            values = tuple(float(v) for v in (*range(8), 0, *range(-7, 0)))
            return CodebookFormat("olive_int4", 4, self.source, tie=Tie.EVEN, values=values, unused=(IDENTIFIER,))
        values = _FLINT4 + tuple(-v for v in _FLINT4)
        return CodebookFormat("olive_flint4", 4, self.source, tie=Tie.LOWER, values=values, unused=(IDENTIFIER,))

    @cached_property
    def outlier(self) -> CodebookFormat:
        """The abfloat: sign, 2-bit exponent e, 1-bit mantissa m: (2 + m) << (e + bias); e = m = 0 is not used."""
        magnitudes = [float((2 + (c & 1)) << ((c >> 1) + self.abfloat_bias)) for c in range(8)]
        magnitudes[0] = magnitudes[1]  # the unused code repeats its neighbour's value and is never produced
        values = tuple(magnitudes) + tuple(-v for v in magnitudes)
        return CodebookFormat("olive_abfloat", 4, self.source, tie=Tie.EVEN, values=values, unused=(0, IDENTIFIER))

    @property
    def threshold(self) -> float:
        """Largest normal magnitude; beyond it an element is an outlier if the abfloat is nearer."""
        return self.normal.absmax

    @property
    def levels(self) -> np.ndarray:  # type: ignore[override]
        """Distinct values of one element, ascending, float64."""
        return np.union1d(self.normal.levels, self.outlier.levels)

    @cached_property
    def pair_table(self) -> np.ndarray:
        """Values of every pair code, float32 ``[256, 2]``; both nibbles the identifier decodes to zeros."""
        table = np.zeros((256, 2), dtype=np.float32)
        for code in range(256):
            low, high = code & 15, code >> 4
            if low == IDENTIFIER or high == IDENTIFIER:
                table[code, 0] = 0.0 if low == IDENTIFIER else self.outlier.code_values[low]
                table[code, 1] = 0.0 if high == IDENTIFIER else self.outlier.code_values[high]
            else:
                table[code] = self.normal.code_values[low], self.normal.code_values[high]
        table.setflags(write=False)
        return table

    @property
    def code_values(self) -> np.ndarray:  # type: ignore[override]
        raise NotImplementedError(f"{self.name} encodes pairs: see pair_table")

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values of ``codes`` ``[..., c]`` as float32 ``[..., 2c]``."""
        codes = np.asarray(codes)
        return self.pair_table[codes].reshape(*codes.shape[:-1], -1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Pair codes of ``values`` ``[..., 2c]`` as uint8 ``[..., c]``.

        An element is an outlier when its magnitude lies beyond the midpoint between the normal maximum and the
        smallest abfloat; in a pair of two outliers the larger magnitude stays (the first on a tie).

        Raises:
            ValueError: the last axis is odd, or a value is NaN.
        """
        x = np.asarray(values, dtype=np.float32)
        if x.shape[-1] % 2:
            raise ValueError(f"last axis must be even for {self.name}, not {x.shape[-1]}")
        if np.isnan(x).any():
            raise ValueError(f"values must hold no NaN for format {self.name}, which has no NaN code")
        pair = x.reshape(*x.shape[:-1], -1, 2)
        magnitude = np.abs(pair)
        smallest = float(np.abs(self.outlier.levels).min())
        is_outlier = magnitude > (self.normal.absmax + smallest) / 2
        first = is_outlier[..., 0] & (~is_outlier[..., 1] | (magnitude[..., 0] >= magnitude[..., 1]))
        second = is_outlier[..., 1] & ~first
        low, high = self.normal.encode(pair[..., 0]), self.normal.encode(pair[..., 1])
        low = np.where(first, self.outlier.encode(pair[..., 0]), np.where(second, IDENTIFIER, low))
        high = np.where(second, self.outlier.encode(pair[..., 1]), np.where(first, IDENTIFIER, high))
        return (low | (high << 4)).astype(np.uint8)

    def encode_scalar(self, value: float) -> int:
        raise NotImplementedError(f"{self.name} encodes two elements at once")
