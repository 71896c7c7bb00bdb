"""Granularity: which elements share a scale.

Every granularity is a tiling of a ``[n, k]`` matrix by rectangles, ragged at the right and bottom edges, so that one
rule gives the shape of the scale array: ``ceil(n / rows) x ceil(k / columns)``. For a weight ``n`` is out_features and
``k`` in_features; for an activation ``n`` counts tokens, so ``PerChannel`` reads "per token" there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Granularity:
    """Base of the closed family. ``tile(shape)`` is all that a member defines."""

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of one tile of a ``[n, k]`` matrix."""
        raise NotImplementedError

    def scale_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of the array with one entry for each tile."""
        rows, columns = self.tile(shape)
        return -(-shape[0] // rows), -(-shape[1] // columns)

    def count(self, shape: tuple[int, int]) -> int:
        """Number of tiles.

        >>> PerGroup(128).count((4, 300))
        12
        """
        rows, columns = self.scale_shape(shape)
        return rows * columns


@dataclass(frozen=True)
class PerTensor(Granularity):
    """One scale for the whole matrix."""

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        return max(shape[0], 1), max(shape[1], 1)


@dataclass(frozen=True)
class PerChannel(Granularity):
    """One scale for each output channel (each row); per token for an activation."""

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        return 1, max(shape[1], 1)


@dataclass(frozen=True)
class PerInputChannel(Granularity):
    """One scale for each input channel (each column)."""

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        return max(shape[0], 1), 1


@dataclass(frozen=True)
class PerGroup(Granularity):
    """One scale for each run of ``group_size`` consecutive elements.

    Args:
        group_size: elements in a group; the last group of a row may be shorter.
        along_output: groups run down a column instead of along a row (AdaDim's per-IC, VPTQ).
    """

    group_size: int
    along_output: bool = False

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, not {self.group_size!r}")

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        return (self.group_size, 1) if self.along_output else (1, self.group_size)


@dataclass(frozen=True)
class PerBlock(Granularity):
    """One scale for each ``rows x columns`` rectangle."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"rows and columns must be at least 1, not {self.rows!r} and {self.columns!r}")

    def tile(self, shape: tuple[int, int]) -> tuple[int, int]:
        return self.rows, self.columns
