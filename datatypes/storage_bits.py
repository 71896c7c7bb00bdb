"""Stored bits of a layer, each kind in its own field: the bill that ``datatypes.layer_config`` makes out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import add, attrgetter

from datatypes.planes import WORD_BITS, flat_words


@dataclass(frozen=True)
class StorageBits:
    """Stored bits, each kind apart. Add two with ``+``; ``total`` is the bill."""

    codes: int = 0
    padding: int = 0  # of packed codes, to whole 32-bit words at the end of each row
    scales: int = 0
    outer_scales: int = 0  # second-level scales, of scales and of zero points
    outer_offsets: int = 0  # second-level offsets, likewise
    zero_points: int = 0
    selectors: int = 0
    codebooks: int = 0
    vectors: int = 0  # stored row and column scales, column maps, permutations
    masks: int = 0
    low_rank: int = 0
    outlier_values: int = 0
    outlier_indices: int = 0
    activation: int = 0  # of an input in channel groups: order, sizes, scales, biases

    @property
    def total(self) -> int:
        """All bits."""
        return sum(_bits_of(self))

    def __add__(self, other: StorageBits) -> StorageBits:
        return StorageBits(*map(add, _bits_of(self), _bits_of(other)))

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """``total`` over the number of *original* weights of ``[n, k]``."""
        return self.total / (shape[0] * shape[1])


_bits_of = attrgetter(*(f.name for f in fields(StorageBits)))  # in order; asked several times for each priced layer


def field_bits(count: int, bits: int) -> int:
    """Bits of ``count`` packed fields, whole words.

    >>> field_bits(5, 8)
    64
    """
    return flat_words(count, bits) * WORD_BITS
