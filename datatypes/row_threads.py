"""Rows of a matrix shared among threads: kernels that release the interpreter, and chunks that fit a core's cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")

CHUNK_ELEMENTS = 1 << 18  # 1 MB of float32 stays in a core's cache from pass to pass; less is not worth a thread


def over_rows(kernel: Callable[..., None], rows: int, columns: int, *arguments: object) -> None:
    """``kernel(*arguments, start, stop)`` over all rows, in as many threads as torch was given."""
    workers = min(torch.get_num_threads(), max(1, rows * columns // CHUNK_ELEMENTS), max(rows, 1))
    if workers == 1:
        kernel(*arguments, 0, rows)
        return
    bounds = np.linspace(0, rows, 4 * workers + 1).astype(np.int64)  # four turns each: uneven threads even out
    in_threads(lambda a, b: kernel(*arguments, a, b), [(int(a), int(b)) for a, b in pairwise(bounds) if b > a])


def row_chunks(rows: int, columns: int) -> list[tuple[int, int]]:
    """Ranges of rows of at most ``CHUNK_ELEMENTS`` elements (at least one row): each is worked on by one thread."""
    step = max(1, CHUNK_ELEMENTS // max(columns, 1))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def in_threads(run: Callable[[int, int], T], ranges: list[tuple[int, int]]) -> list[T]:
    """``run(start, stop)`` for every range, in as many threads as torch was given, results in order."""
    workers = min(torch.get_num_threads(), len(ranges))
    if workers <= 1:
        return [run(*part) for part in ranges]
    pool = _pool(workers, os.getpid())
    jobs = [pool.submit(run, *part) for part in ranges]
    return [job.result() for job in jobs]


@lru_cache(maxsize=8)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """One pool for each size; a forked process gets its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix="codesign-rows")
