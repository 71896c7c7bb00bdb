"""Whole design spaces priced at once: the figures of ``hwmodel.evaluate`` for every design of a grid.

    space = DesignSpace(paper_scenarios("Llama-2-7B"), {"bitmod4": config}, DesignAxes((BITMOD,), drams=(32e9, 64e9)))
    result = batch_evaluate(space)
    result.total.seconds, result.total.energy_pj, result.area_mm2     # one entry for each design
    result.design(5).accelerator                                       # the object that evaluate takes

Integers (cycles, bits, multiply-accumulates) are those of ``evaluate`` to the last bit; energies differ by the order of
additions alone (1e-12). Formats that an accelerator cannot run are marked (``runnable``), with the sentence of
``evaluate`` (``reason``). Left out: GPUs, which have no axes here, and per-layer figures (ask ``evaluate``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodel.batch_axes import DesignSpace
from hwmodel.batch_columns import BRIEF_ENERGIES, BRIEF_INTEGERS, ENERGIES, FORM_COLUMNS, INTEGERS
from hwmodel.batch_kernels import price_rows
from hwmodel.batch_machines import MachineTables
from hwmodel.batch_result import BatchResult as BatchResult
from hwmodel.batch_schedule import price_schedules
from hwmodel.batch_tables import FormTable
from hwmodel.options import HONEST, ModelOptions
from hwmodel.term_skipping import CountedBits

CHUNK = 1 << 20  # designs of a chunk unless the caller says otherwise: 50 MB of brief figures
_JOB = 1 << 15  # designs that a thread prices between two looks at the keyboard and the progress
_EXACT = 1 << 53  # whole numbers below are exact as floats

Progress = Callable[[int, int], None]


class BatchPricer:
    """Prices a space, whole or chunk by chunk; works its tables out once.

    Args:
        space: the designs.
        options: which effects count.
        bit_stats: as in ``hwmodel.evaluate.evaluate``.

    Raises:
        TypeError, ValueError: as ``evaluate``, for every config at once.
        NotImplementedError: an accelerator of the axes is a GPU.
    """

    def __init__(
        self,
        space: DesignSpace,
        options: ModelOptions = HONEST,
        *,
        bit_stats: Mapping[str, CountedBits] | None = None,
    ) -> None:
        self.space, self.options = space, options
        self.forms = FormTable(space, options, dict(bit_stats or {}))
        self.tables = MachineTables(space, options, self.forms)
        machine = self.tables
        items = np.concatenate(self.forms.items) if self.forms.items else np.zeros((0, 4), np.int64)
        self._arguments = (
            items,
            _matrix(self.forms.forms, FORM_COLUMNS, np.int64),
            _matrix(self.forms.form_floats, 3, np.float64),
            _matrix(self.forms.tables, 5, np.int64),
            machine.arrays,
            machine.sizes,
            machine.array_costs,
            machine.vector_pj,
            machine.port_ids,
            machine.ports,
            machine.srams(weight=True),
            machine.srams(weight=False),
            machine.rooms(weight=True),
            machine.rooms(weight=False),
            *machine.memories,
        )

    def chunks(
        self, size: int = CHUNK, *, detail: bool = False, threads: int | None = None, progress: Progress | None = None
    ) -> Iterator[BatchResult]:
        """The whole space in order, about ``size`` designs at a time (at least all memories and clocks of one pair of
        buffers); arguments as in ``batch_evaluate``."""
        if size < 1:
            raise ValueError(f"size of a chunk must be at least 1, not {size!r}")
        rows, (weights, *rest) = self._rows
        row_designs = weights * int(np.prod(rest))
        done, whole = 0, len(self.space)
        with ThreadPoolExecutor(_threads(threads)) as pool:
            for piece in _pieces(rows, weights, row_designs, size):
                result = self._piece(piece, detail, pool, _threads(threads))
                done += len(result)
                if progress is not None:
                    progress(done, whole)
                yield result

    @property
    def _rows(self) -> tuple[int, tuple[int, ...]]:
        """Rows of the grid, and the lengths of the axes within a row."""
        return int(np.prod(self.space.shape[:4])), self.space.shape[4:]

    def _ranges(self, s: np.ndarray, c: np.ndarray, a: np.ndarray, layout: np.ndarray) -> np.ndarray:
        """Items of scenarios, configs and accelerators by phase and layout [rows, 2], one column (1) or more (0)."""
        ranges = [self.forms.ranges[s, c, a, phase, layout[:, phase]] for phase in (0, 1)]
        return np.ascontiguousarray(np.stack(ranges, 1))

    def _piece(self, piece: _Piece, detail: bool, pool: ThreadPoolExecutor, workers: int) -> BatchResult:
        _, inner = self._rows
        count = piece.stop - piece.start
        shape = (count, piece.weights_stop - piece.weights_start, inner[1], inner[2] * inner[3])
        integers = np.empty((len(INTEGERS) if detail else BRIEF_INTEGERS, 2, *shape), np.int64)
        energies = np.empty((len(ENERGIES) if detail else BRIEF_ENERGIES, 2, *shape))
        runnable = np.empty(shape, bool)
        s, c, a, i = np.unravel_index(np.arange(piece.start, piece.stop), self.space.shape[:4])
        columns = self.tables.arrays[a, i][:, 1::2] == 1
        ranges = self._ranges(s, c, a, columns.astype(np.int64))
        options = self.options
        settings = np.array(
            [options.column_gating, options.dram_efficiency, detail, options.whole_tiles, options.fill_and_drain],
            np.int64,
        )
        fixed: tuple[Any, ...] = (np.stack([a, i], 1), ranges, *self._arguments, settings)
        price: Callable[..., None] = price_rows
        if options.scheduled:
            narrow = self._ranges(s, c, a, np.ones_like(columns, np.int64))
            tiles, slack = (*self.tables.tiles, self.tables.lanes), float(options.tile_slack)
            fixed = (fixed[0], ranges, narrow, *self._arguments, *tiles, slack, settings)
            price = price_schedules
        jobs = _pieces(count, shape[1], int(np.prod(shape[1:])), max(1, min(_JOB, -(-integers[0, 0].size // workers))))
        futures = [
            pool.submit(
                price, *fixed, integers, energies, runnable, job.start, job.stop,
                piece.weights_start + job.weights_start, piece.weights_start + job.weights_stop, piece.weights_start,
            )
            for job in jobs
        ]  # fmt: skip
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # an interrupt too: what has not begun shall not begin
            for future in futures:
                future.cancel()
            raise
        if integers[0].max(initial=0) >= _EXACT or integers.min(initial=0) < 0:
            raise ValueError(f"a design must take fewer than 2**53 cycles, not {integers[0].max()}")
        rest = int(np.prod(inner[1:]))
        start = piece.start * inner[0] * rest + piece.weights_start * rest
        return BatchResult(
            self.space,
            start,
            integers.reshape(*integers.shape[:2], -1),
            energies.reshape(*energies.shape[:2], -1),
            runnable.reshape(-1),
            self.forms.reasons,
            self.tables,
        )


def batch_evaluate(
    space: DesignSpace,
    options: ModelOptions = HONEST,
    *,
    detail: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    bit_stats: Mapping[str, CountedBits] | None = None,
) -> BatchResult:
    """Price every design of a space; 50 bytes each (300 with details). For more than fits, ``BatchPricer.chunks``.

    Args:
        space: the designs.
        options: which effects count; ``HONEST`` all of them, ``PAPER`` those of the published simulator.
        detail: keep all fields of a ``Price``, not only cycles, DRAM bits and energy.
        threads: that price; ``None`` for as many as the process may use.
        progress: called with designs done and in all after each ``CHUNK`` of them; it may raise to stop.
        bit_stats: as in ``hwmodel.evaluate.evaluate``.

    Raises:
        TypeError, ValueError, NotImplementedError: as ``BatchPricer``.
    """
    pricer = BatchPricer(space, options, bit_stats=bit_stats)
    parts = list(pricer.chunks(CHUNK, detail=detail, threads=threads, progress=progress))
    if len(parts) == 1:
        return parts[0]
    return BatchResult(
        space,
        0,
        np.concatenate([part.integers for part in parts], axis=2),
        np.concatenate([part.energies for part in parts], axis=2),
        np.concatenate([part.runnable for part in parts]),
        pricer.forms.reasons,
        pricer.tables,
    )


@dataclass(frozen=True)
class _Piece:
    """Rows ``start`` to ``stop``, or some weight buffers of a single row."""

    start: int
    stop: int
    weights_start: int
    weights_stop: int


def _pieces(rows: int, weights: int, row_designs: int, size: int) -> Iterator[_Piece]:
    """All rows in pieces of about ``size`` designs."""
    if row_designs <= size:
        step = size // row_designs
        for start in range(0, rows, step):
            yield _Piece(start, min(start + step, rows), 0, weights)
        return
    step = max(1, size * weights // row_designs)
    for row in range(rows):
        for start in range(0, weights, step):
            yield _Piece(row, row + 1, start, min(start + step, weights))


def _matrix(rows: Sequence[Sequence[float]], columns: int, dtype: type) -> np.ndarray:
    return np.array(rows, dtype).reshape(-1, columns)


def _threads(threads: int | None) -> int:
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads!r}")
    return threads
