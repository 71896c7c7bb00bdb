"""Twins of what blocks wait for each other by, where the simulator runs one block after another."""

import numpy as np
import pytest
from numba import cuda, uint32

from kernels_gpu import ptx, ptx_grid, ptx_tile

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")


@simulated
def test_a_counter_gives_what_was_there_before_and_wraps():
    memory = np.array([7, 0xFFFFFFFF], np.uint32)
    assert [int(ptx_grid.add_at(memory, 0, 1)), int(ptx_grid.add_at(memory, np.uint32(0), 3))] == [7, 8]
    assert int(ptx_grid.add_at(memory, 1, 1)) == 0xFFFFFFFF and memory.tolist() == [11, 0]


@simulated
def test_words_are_stored_and_read():
    memory = np.zeros(2, np.uint32)
    ptx_grid.release(memory, 1, np.uint32(5))
    ptx_grid.fence()
    assert memory.tolist() == [0, 5] and ptx_grid.acquire(memory, 1) == 5


@simulated
def test_threads_of_a_block_wait_for_each_other():
    def turned(out):
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        ptx_tile.put_1(shared, thread, uint32(thread + uint32(1)))
        ptx_grid.sync_block()
        ptx_tile.store_word(out, thread, ptx_tile.shared_1(shared, uint32(uint32(31) - thread)))

    out = np.zeros(32, np.uint32)
    cuda.jit(turned)[1, 32, 0, 128](out)
    assert out.tolist() == list(range(32, 0, -1))
