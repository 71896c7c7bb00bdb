"""Twins of what blocks wait for each other by, where the simulator runs one block after another."""

import numpy as np
import pytest
from numba import cuda, uint32

from kernels_gpu import ptx, ptx_grid, ptx_tile

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")


@simulated
def test_a_counter_begins_again_behind_its_last_number():
    memory = np.array([4, 5], np.uint32)
    counts = []
    for _ in range(4):
        ptx_grid.count_up(memory, np.uint32(1), np.uint32(6))
        counts.append(int(ptx_grid.relaxed_word(memory, 1)))
    assert counts == [6, 0, 1, 2] and memory[0] == 4


@simulated
def test_a_word_and_its_tag_are_stored_and_read_as_one():
    memory = np.zeros(6, np.uint32)
    ptx_grid.put_tagged(memory, np.uint32(2), np.uint32(0xFFFFFFFF), np.uint32(1))
    assert memory.tolist() == [0, 0, 0, 0, 0xFFFFFFFF, 1] and ptx_grid.tagged(memory, 2) == (0xFFFFFFFF, 1)


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
