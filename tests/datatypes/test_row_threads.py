"""Rows among threads: every row once, in order, whatever the number of threads."""

import threading

import numpy as np
import pytest
import torch

from datatypes.row_threads import CHUNK_ELEMENTS, in_threads, over_rows, row_chunks


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Torch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("columns", [1, CHUNK_ELEMENTS])
def test_a_kernel_sees_every_row_once(threads, rows, columns):
    seen, lock = np.zeros(rows, int), threading.Lock()

    def kernel(what, start, stop):
        assert what == "argument"
        with lock:
            seen[start:stop] += 1

    over_rows(kernel, rows, columns, "argument")
    assert (seen == 1).all()


def test_a_small_matrix_is_not_worth_a_thread(threads):
    where = []
    over_rows(lambda start, stop: where.append((threading.get_ident(), start, stop)), 64, CHUNK_ELEMENTS // 64)
    assert where == [(threading.get_ident(), 0, 64)]


def test_chunks_hold_whole_rows_and_fit_the_cache():
    assert row_chunks(5, CHUNK_ELEMENTS // 2) == [(0, 2), (2, 4), (4, 5)]
    assert row_chunks(2, 2 * CHUNK_ELEMENTS) == [(0, 1), (1, 2)], "at least one row"
    assert row_chunks(3, 0) == [(0, 3)] and row_chunks(0, 8) == []


def test_results_come_in_the_order_of_the_ranges(threads):
    ranges = [(i, i + 1) for i in range(20)]
    assert in_threads(lambda a, b: (a, b), ranges) == ranges


def test_an_error_in_a_thread_is_the_caller_s(threads):
    def broken(a, b):
        raise ValueError(f"rows {a} to {b}")

    with pytest.raises(ValueError, match="rows 0 to 1"):
        in_threads(broken, [(0, 1), (1, 2), (2, 3)])
