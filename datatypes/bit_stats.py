"""Statistics of the bits of an encoded matrix: what machines that skip zero bits or zero terms need to know of it.

``bit_stats`` counts, ``BitStats`` keeps the counts. All are histograms over weights, steps or groups, so that two
layers' counts add, and every mean follows from them:

    terms    of single weights, in each ``Recoding``: the work that is left when zero terms are skipped
    steps    most terms among ``rows x lanes`` weights that wait for one another (Pragmatic: lanes that leave a step
             together; several rows: PEs that share their inputs)
    columns  ones of each bit plane in groups along a row. Bitlet (Lu et al., MICRO 2021) gives every plane an adder
             that takes one weight a cycle, so a group takes as many cycles as its busiest plane has ones. BBS (Chen et
             al., MICRO 2024) adds the ones of a plane or subtracts its zeros from the sum of all inputs, whichever are
             fewer: never more than half. A plane without ones is skipped altogether (BitWave, Shi et al., HPCA 2024).

What a machine makes of them (its lanes, its group, its adders) is ``hwmodel``'s. Values are taken in fixed point
(``datatypes.recoding``); a zero point is no part of them. Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from datatypes import bit_kernels
from datatypes.format import Format
from datatypes.recoding import FixedPoint, Recoding, fixed_point, plane_masks, term_count
from datatypes.stored_matrix import StoredMatrix, codes_of, selector_of

LANES = (4, 8, 16)  # 4: BitMoD's PE (HPCA 2025, section IV); 8 and 16: BBS's and Stripes's
ROWS = (1, 32)  # 32: rows of BitMoD's array in prefill
GROUPS = (8, 16, 32, 64)
MAX_GROUP = 255  # planes are counted in bytes
PLANE_RECODINGS = (Recoding.TWOS_COMPLEMENT, Recoding.SIGN_MAGNITUDE)


def mean_of(histogram: tuple[int, ...], minimum: int = 0) -> float:
    """Mean of ``max(i, minimum)`` where ``histogram[i]`` things have ``i``; NaN for none.

    >>> mean_of((1, 2, 1)), mean_of((1, 2, 1), minimum=1)
    (1.0, 1.25)
    """
    total = sum(histogram)
    return sum(max(i, minimum) * count for i, count in enumerate(histogram)) / total if total else math.nan


@dataclass(frozen=True)
class TermCounts:
    """``histogram[i]`` weights have ``i`` terms in ``recoding``."""

    recoding: Recoding
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class StepCounts:
    """Of all tiles of ``rows x lanes`` weights, ``histogram[i]`` have a weight of ``i`` terms and none of more."""

    recoding: Recoding
    rows: int
    lanes: int
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class ColumnCounts:
    """Bit planes in groups of ``group`` weights along a row.

    Args:
        recoding: two's complement, or the bits of the magnitude (the sign's plane is then empty).
        group: weights of a group; the last of a row may be shorter.
        ones: of each plane, the lowest first.
        empty: groups without a one in that plane.
        busiest: ``busiest[i]`` groups have a plane of ``i`` ones and none of more.
        smaller: of all planes of all groups, ``smaller[i]`` have ``i`` ones or ``i`` zeros, whichever are fewer.
        busiest_smaller: ``busiest_smaller[i]`` groups have ``i`` of these in their worst plane.
    """

    recoding: Recoding
    group: int
    ones: tuple[int, ...]
    empty: tuple[int, ...]
    busiest: tuple[int, ...]
    smaller: tuple[int, ...]
    busiest_smaller: tuple[int, ...]


@dataclass(frozen=True)
class BitStats:
    """What was counted of one matrix, or of several of the same formats.

    Args:
        formats: names of the element formats.
        weights: how many were counted.
        planes: bits of two's complement that hold every value in fixed point.
        terms, steps, columns: the counts.
    """

    formats: tuple[str, ...]
    weights: int
    planes: int
    terms: tuple[TermCounts, ...]
    steps: tuple[StepCounts, ...]
    columns: tuple[ColumnCounts, ...]

    def mean_terms(self, recoding: Recoding) -> float:
        """Terms of a weight, on average: cycles of a machine that skips every zero and never waits."""
        return mean_of(next(counts.histogram for counts in self.terms if counts.recoding is recoding))

    def step_cycles(self, recoding: Recoding, lanes: int, *, rows: int = 1, minimum: int = 1) -> float:
        """Cycles of a step of ``rows x lanes`` weights that wait for the slowest, on average.

        Args:
            minimum: cycles of a step without any term; 1 unless the machine jumps over it.

        Raises:
            ValueError: such steps were not counted.
        """
        for counts in self.steps:
            if (counts.recoding, counts.rows, counts.lanes) == (recoding, rows, lanes):
                return mean_of(counts.histogram, minimum)
        have = ", ".join(f"{rows} x {lanes}" for rows, lanes in sorted({(c.rows, c.lanes) for c in self.steps}))
        raise ValueError(f"steps of these statistics must be one of {have}, not {rows} x {lanes}")

    def columns_of(self, recoding: Recoding, group: int) -> ColumnCounts:
        """The plane counts of groups of ``group``.

        Raises:
            ValueError: such groups were not counted.
        """
        for counts in self.columns:
            if (counts.recoding, counts.group) == (recoding, group):
                return counts
        have = ", ".join(str(size) for size in sorted({counts.group for counts in self.columns}))
        raise ValueError(f"group of these statistics must be one of {have} in bits, not {group} in {recoding.value}")

    def interleaved_cycles(
        self, group: int, *, recoding: Recoding = Recoding.SIGN_MAGNITUDE, minimum: int = 1
    ) -> float:
        """Cycles of a group under bit interleaving (Bitlet): ones of its busiest plane, on average."""
        return mean_of(self.columns_of(recoding, group).busiest, minimum)

    def smaller_share(self, group: int) -> float:
        """Additions left under bidirectional sparsity (BBS), over all bits of two's complement: at most a half."""
        counts = self.columns_of(Recoding.TWOS_COMPLEMENT, group)
        return sum(i * count for i, count in enumerate(counts.smaller)) / (self.weights * self.planes)

    def bidirectional_cycles(self, group: int, adders: int) -> float:
        """Cycles of a group under BBS, plane by plane, where ``adders`` inputs are added in a cycle (one at least)."""
        counts = self.columns_of(Recoding.TWOS_COMPLEMENT, group)
        groups = sum(counts.busiest)
        cycles = sum(max(1, -(-i // adders)) * count for i, count in enumerate(counts.smaller))
        return cycles / groups if groups else math.nan

    def empty_planes(self, group: int, *, recoding: Recoding = Recoding.SIGN_MAGNITUDE) -> float:
        """Planes of a group that hold no one and can be skipped (BitWave), on average; the sign's is among them."""
        counts = self.columns_of(recoding, group)
        groups = sum(counts.busiest)
        return sum(counts.empty) / groups if groups else math.nan

    def __add__(self, other: BitStats) -> BitStats:
        """Both together.

        Raises:
            ValueError: they are of other formats or were counted in other ways.
        """
        if (self.formats, _shape(self)) != (other.formats, _shape(other)):
            raise ValueError(
                "statistics to add must be of the same formats and tiles, "
                f"not of {self.formats!r} and {other.formats!r}"
            )
        return replace(
            self,
            weights=self.weights + other.weights,
            terms=tuple(_sum(a, b, "histogram") for a, b in zip(self.terms, other.terms, strict=True)),
            steps=tuple(_sum(a, b, "histogram") for a, b in zip(self.steps, other.steps, strict=True)),
            columns=tuple(_sum(a, b, *_COLUMN_SUMS) for a, b in zip(self.columns, other.columns, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` reads it."""
        made = asdict(self)
        for kind in ("terms", "steps", "columns"):
            made[kind] = [{**entry, "recoding": entry["recoding"].value} for entry in made[kind]]
        return made

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BitStats:
        """What ``to_dict`` wrote, also after a turn through JSON.

        Raises:
            ValueError: it is not that.
        """
        try:
            kinds: tuple[tuple[str, Any], ...] = (
                ("terms", TermCounts), ("steps", StepCounts), ("columns", ColumnCounts),
            )  # fmt: skip
            parts = {kind: tuple(_entry(made, entry) for entry in data[kind]) for kind, made in kinds}
            return cls(tuple(data["formats"]), int(data["weights"]), int(data["planes"]), **parts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"bit statistics must be a dictionary as BitStats.to_dict makes it: {error!r}") from None


_COLUMN_SUMS = ("ones", "empty", "busiest", "smaller", "busiest_smaller")


def _shape(stats: BitStats) -> tuple[object, ...]:
    return (
        stats.planes,
        tuple(c.recoding for c in stats.terms),
        tuple((c.recoding, c.rows, c.lanes) for c in stats.steps),
        tuple((c.recoding, c.group) for c in stats.columns),
    )


def _sum(a: Any, b: Any, *names: str) -> Any:
    return replace(a, **{n: tuple(x + y for x, y in zip(getattr(a, n), getattr(b, n), strict=True)) for n in names})


def _entry(made: Any, entry: Mapping[str, Any]) -> Any:
    plain = {key: tuple(value) if isinstance(value, list | tuple) else value for key, value in entry.items()}
    return made(**{**plain, "recoding": Recoding(plain["recoding"])})


def bit_stats(
    matrix: StoredMatrix, *, lanes: tuple[int, ...] = LANES, rows: tuple[int, ...] = ROWS,
    groups: tuple[int, ...] = GROUPS,
) -> BitStats:  # fmt: skip
    """Counts the bits of an encoded matrix.

    Args:
        matrix: a ``QuantizedTensor`` on the CPU, or anything with its fields.
        lanes, rows: tiles of ``StepCounts``: every pair of them.
        groups: of ``ColumnCounts``.

    Raises:
        NotImplementedError: the format has no fixed-point values, or the matrix is masked, residual or not in codes.
        ValueError: a tile is empty or a group too large.
    """
    codes = codes_of(matrix)
    selector, run = selector_of(matrix)
    return bit_stats_of_codes(
        codes, matrix.config.formats, selector=selector, run=run, lanes=lanes, rows=rows, groups=groups
    )


def bit_stats_of_codes(
    codes: np.ndarray, formats: tuple[Format, ...], *, selector: np.ndarray | None = None, run: int | None = None,
    lanes: tuple[int, ...] = LANES, rows: tuple[int, ...] = ROWS, groups: tuple[int, ...] = GROUPS,
) -> BitStats:  # fmt: skip
    """As ``bit_stats``, of bare codes.

    Args:
        codes: uint8 ``[n, k]``.
        formats: candidates of equal width.
        selector: uint8 ``[n, runs]``: which of them each run of ``run`` columns uses; all zeros by default.
    """
    if any(size < 1 for size in (*lanes, *rows, *groups)) or max(groups, default=0) > MAX_GROUP:
        raise ValueError(
            f"lanes, rows and groups must be at least 1, groups at most {MAX_GROUP}, not {lanes}, {rows}, {groups}"
        )
    n, k = codes.shape
    selector = np.zeros((n, 1), np.uint8) if selector is None else selector
    run = max(1, k) if run is None else run
    points = [fixed_point(fmt) for fmt in formats]
    planes = max(point.planes for point in points)
    counts = np.zeros((len(formats), len(points[0].integers)), np.int64)
    bit_kernels.code_histogram(codes, selector, run, counts)
    tables = {recoding: _term_table(points, planes, recoding) for recoding in Recoding}
    masks = {r: np.stack([plane_masks(point, planes, r) for point in points]) for r in PLANE_RECODINGS}
    terms = tuple(TermCounts(recoding, _weighted(tables[recoding], counts, planes)) for recoding in Recoding)
    return BitStats(
        formats=tuple(fmt.name for fmt in formats),
        weights=n * k,
        planes=planes,
        terms=terms,
        steps=_steps(codes, selector, run, tables, planes, lanes, rows),
        columns=tuple(
            _columns(codes, selector, run, masks[recoding], recoding, group, planes)
            for recoding in PLANE_RECODINGS
            for group in groups
        ),
    )  # fmt: skip


def _term_table(points: list[FixedPoint], planes: int, recoding: Recoding) -> np.ndarray:
    """Terms of each code, int64 ``[F, C]``."""
    return np.array([[term_count(v, planes, recoding) for v in point.integers] for point in points], dtype=np.int64)


def _weighted(table: np.ndarray, counts: np.ndarray, planes: int) -> tuple[int, ...]:
    summed = np.zeros(planes + 1, np.int64)
    np.add.at(summed, table, counts)
    return tuple(summed.tolist())


def _steps(
    codes: np.ndarray, selector: np.ndarray, run: int, tables: Mapping[Recoding, np.ndarray], planes: int,
    lanes: tuple[int, ...], rows: tuple[int, ...],
) -> tuple[StepCounts, ...]:  # fmt: skip
    """Maxima over the common divisor of all lanes first, then over runs of these."""
    if not lanes or not rows:
        return ()
    n, k = codes.shape
    base = math.gcd(*lanes)
    packed = sum(tables[recoding] << (8 * i) for i, recoding in enumerate(Recoding))
    maxima = np.zeros((len(Recoding), n, -(-k // base)), np.uint8)
    bit_kernels.step_maxima(codes, selector, run, np.asarray(packed, dtype=np.uint32), base, maxima)
    found = []
    for i, recoding in enumerate(Recoding):
        for lane in lanes:
            wide = _folded(maxima[i], lane // base, axis=1)
            for row in rows:
                counts = _histogram(_folded(wide, row, axis=0), planes)
                found.append(StepCounts(recoding, row, lane, tuple(counts.tolist())))
    return tuple(found)


def _folded(values: np.ndarray, factor: int, *, axis: int) -> np.ndarray:
    """Largest of each run of ``factor`` along ``axis``; the last run may be shorter."""
    if factor == 1 or not values.size:
        return values
    n, k = values.shape
    out = np.empty((-(-n // factor), k) if axis == 0 else (n, -(-k // factor)), values.dtype)
    (bit_kernels.fold_rows if axis == 0 else bit_kernels.fold_columns)(values, factor, out)
    return out


def _columns(
    codes: np.ndarray, selector: np.ndarray, run: int, masks: np.ndarray, recoding: Recoding, group: int, planes: int
) -> ColumnCounts:
    """Eight planes at a time, one to a byte of a word that is added up over the group."""
    n, k = codes.shape
    ones, empty, smaller = (np.zeros(size, np.int64) for size in (planes, planes, group + 1))
    busiest, worst = np.zeros((n, -(-k // group)), np.uint8), np.zeros((n, -(-k // group)), np.uint8)
    for first in range(0, planes, 8):
        spread = np.zeros_like(masks)
        for plane in range(first, min(first + 8, planes)):
            spread |= ((masks >> np.uint64(plane)) & np.uint64(1)) << np.uint64(8 * (plane - first))
        bit_kernels.column_counts(codes, selector, run, spread, group, first, ones, empty, busiest, smaller, worst)
    sums = (ones, empty, _histogram(busiest, group), smaller, _histogram(worst, group))
    return ColumnCounts(recoding, group, *(tuple(part.tolist()) for part in sums))


def _histogram(values: np.ndarray, largest: int) -> np.ndarray:
    counts = np.zeros(largest + 1, np.int64)
    bit_kernels.histogram(values.ravel(), counts)
    return counts
