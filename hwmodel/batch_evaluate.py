"""Whole design spaces priced at once: the figures of ``hwmodel.evaluate`` for every design of a grid.

    space = DesignSpace(paper_scenarios("Llama-2-7B"), {"bitmod4": config}, DesignAxes((BITMOD,), drams=(32e9, 64e9)))
    result = batch_evaluate(space)
    result.total.seconds, result.total.energy_pj, result.area_mm2     # one entry for each design
    BatchPricer(space).points([5, 70000])                              # some designs of a space of any size
    result.design(5).accelerator                                       # the object that evaluate takes

Integers (cycles, bits, multiply-accumulates) are those of ``evaluate`` to the last bit; energies differ by the order of
additions alone (1e-12). Formats that an accelerator cannot run are marked (``runnable``), with the sentence of
``evaluate`` (``reason``). GPUs are priced beside the kernels (``hwmodel.batch_gpus``): the same figures, more slowly.
Left out: per-layer figures (ask ``evaluate``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodel.batch_axes import DesignSpace
from hwmodel.batch_columns import BRIEF_ENERGIES, BRIEF_INTEGERS, ENERGIES, FORM_COLUMNS, INTEGERS
from hwmodel.batch_gpus import GpuPricer
from hwmodel.batch_kernels import price_rows
from hwmodel.batch_machines import MachineTables
from hwmodel.batch_result import BatchResult as BatchResult
from hwmodel.batch_schedule import price_schedules
from hwmodel.batch_tables import FormTable
from hwmodel.options import HONEST, ModelOptions
from hwmodel.term_skipping import CountedBits

CHUNK = 1 << 20  # designs of a chunk unless the caller says otherwise: 50 MB of brief figures
_JOB = 1 << 15  # designs that a thread prices between two looks at the keyboard and the progress
_POINTS = 1 << 12  # scattered designs that a thread prices at once: 5 MB of tables
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
        self._gpus = GpuPricer(space, options, self.forms)
        machine = self.tables
        items = np.concatenate(self.forms.items) if self.forms.items else np.zeros((0, 4), np.int64)
        self._forms = (
            items,
            _matrix(self.forms.forms, FORM_COLUMNS, np.int64),
            _matrix(self.forms.form_floats, 3, np.float64),
            _matrix(self.forms.tables, 5, np.int64),
        )
        self._machines = (
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

    def _kernel(
        self,
        places: tuple[np.ndarray, ...],
        rows: np.ndarray,
        machines: tuple[Any, ...],
        lanes: np.ndarray,
        detail: bool,
    ) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The kernel, and its arguments up to the results.

        Args:
            places: of scenario, config, accelerator and array, of each row.
            rows: of accelerator and array in ``machines``, [rows, 2].
            machines, lanes: tables of machines.
            detail: as in ``batch_evaluate``.
        """
        s, c, a, i = places
        options = self.options
        settings = np.array(
            [options.column_gating, options.dram_efficiency, detail, options.whole_tiles, options.fill_and_drain],
            np.int64,
        )
        layout = (self.tables.arrays[a, i][:, 1::2] == 1).astype(np.int64)
        ranges = self._ranges(s, c, a, layout)
        if not options.scheduled:
            return price_rows, (rows, ranges, *self._forms, *machines, settings)
        narrow = self._ranges(s, c, a, np.ones_like(layout))
        tiles = (*self.tables.tiles, lanes, float(options.tile_slack))
        return price_schedules, (rows, ranges, narrow, *self._forms, *machines, *tiles, settings)

    def points(
        self, indices: np.ndarray | Sequence[int], *, detail: bool = False, threads: int | None = None
    ) -> BatchResult:
        """Designs scattered over the space, of which nothing else is priced.

        Args:
            indices: of the designs, in any order, some twice if need be.
            detail, threads: as in ``batch_evaluate``.

        Returns:
            Their figures, in this order.

        Raises:
            IndexError: no such design.
        """
        chosen = np.asarray(indices, np.int64).reshape(-1)
        whole = len(self.space)
        wrong = chosen[(chosen < 0) | (chosen >= whole)]
        if wrong.size:
            raise IndexError(f"index of a design must be 0 to {whole - 1}, not {int(wrong[0])}")
        integers = np.empty((len(INTEGERS) if detail else BRIEF_INTEGERS, 2, len(chosen), 1, 1, 1), np.int64)
        energies = np.empty((len(ENERGIES) if detail else BRIEF_ENERGIES, *integers.shape[1:]))
        runnable = np.empty(integers.shape[2:], bool)
        size = max(1, min(_POINTS, -(-len(chosen) // _threads(threads))))
        order = np.argsort(
            chosen // math.prod(self.space.shape[4:]), kind="stable"
        )  # what shares work one after another
        back = np.argsort(order)
        with ThreadPoolExecutor(_threads(threads)) as pool:
            _wait(
                pool.submit(
                    self._points, chosen[order[at : at + size]], detail, integers[:, :, at : at + size],
                    energies[:, :, at : at + size], runnable[at : at + size],
                )
                for at in range(0, len(chosen), size)
            )  # fmt: skip
        return self._result(
            0, integers[:, :, back, 0, 0, 0], energies[:, :, back, 0, 0, 0], runnable[back, 0, 0, 0], chosen
        )

    def _points(
        self, chosen: np.ndarray, detail: bool, integers: np.ndarray, energies: np.ndarray, runnable: np.ndarray
    ) -> None:
        """Price designs; each is an accelerator of its own, with one array, one pair of buffers and one memory."""
        s, c, a, i, w, v, d, f = np.unravel_index(chosen, self.space.shape)
        (arrays, sizes, costs, vector_pj, port_ids, ports, weight_srams, input_srams, weight_rooms, input_rooms,
         *memories) = self._machines  # fmt: skip
        m = d * self.space.shape[-1] + f
        own = (
            arrays[a, i][:, None], sizes[a, i][:, None], costs[a, i][:, None], vector_pj[a], port_ids, ports,
            weight_srams[a, w][:, None], input_srams[a, v][:, None], weight_rooms[a, w][:, None],
            input_rooms[a, v][:, None], *(column[a, m][:, None] for column in memories),
        )  # fmt: skip
        rows = np.stack([np.arange(len(chosen)), np.zeros(len(chosen), np.int64)], 1)
        price, fixed = self._kernel((s, c, a, i), rows, own, self.tables.lanes[a], detail)
        made = [np.empty(x.shape, x.dtype) for x in (integers, energies, runnable)]  # laid out as the kernel takes them
        price(*fixed, *made, 0, len(chosen), 0, 1, 0)
        integers[...], energies[...], runnable[...] = made

    def _piece(self, piece: _Piece, detail: bool, pool: ThreadPoolExecutor, workers: int) -> BatchResult:
        _, inner = self._rows
        count = piece.stop - piece.start
        shape = (count, piece.weights_stop - piece.weights_start, inner[1], inner[2] * inner[3])
        integers = np.empty((len(INTEGERS) if detail else BRIEF_INTEGERS, 2, *shape), np.int64)
        energies = np.empty((len(ENERGIES) if detail else BRIEF_ENERGIES, 2, *shape))
        runnable = np.empty(shape, bool)
        s, c, a, i = np.unravel_index(np.arange(piece.start, piece.stop), self.space.shape[:4])
        price, fixed = self._kernel((s, c, a, i), np.stack([a, i], 1), self._machines, self.tables.lanes, detail)
        jobs = _pieces(count, shape[1], int(np.prod(shape[1:])), max(1, min(_JOB, -(-integers[0, 0].size // workers))))
        _wait(
            pool.submit(
                price, *fixed, integers, energies, runnable, job.start, job.stop,
                piece.weights_start + job.weights_start, piece.weights_start + job.weights_stop, piece.weights_start,
            )
            for job in jobs
        )  # fmt: skip
        rest = int(np.prod(inner[1:]))
        start = piece.start * inner[0] * rest + piece.weights_start * rest
        columns = [made.reshape(*made.shape[:2], -1) for made in (integers, energies)]
        return self._result(start, columns[0], columns[1], runnable.reshape(-1))

    def _result(
        self,
        start: int,
        integers: np.ndarray,
        energies: np.ndarray,
        runnable: np.ndarray,
        chosen: np.ndarray | None = None,
    ) -> BatchResult:
        """What the kernels left, with the designs on GPUs."""
        result = BatchResult(
            self.space, start, integers, energies, runnable, self.forms.reasons, self.tables, chosen
        )  # fmt: skip
        self._gpus.fill(result)
        _check_exact(integers)
        return result


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
        TypeError, ValueError: as ``BatchPricer``.
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


def _wait(futures: Iterable[Future[None]]) -> None:
    """Wait for all of them, or begin no more where one fails or the wait is interrupted."""
    begun = list(futures)
    try:
        for future in as_completed(begun):
            future.result()
    except BaseException:  # an interrupt too: what has not begun shall not begin
        for future in begun:
            future.cancel()
        raise


def _check_exact(integers: np.ndarray) -> None:
    if integers[0].max(initial=0) >= _EXACT or integers.min(initial=0) < 0:
        raise ValueError(f"a design must take fewer than 2**53 cycles, not {integers[0].max()}")


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
