"""The plain twins of tile instructions, run by a warp of the simulator."""

import numpy as np
import pytest
from numba import cuda, int32, uint32

from kernels_gpu import ptx, ptx_tile

pytestmark = pytest.mark.skipif(not ptx.SIMULATED, reason="twins exist in the simulator (test_simulator.py)")


@cuda.jit
def multiply(a, b, c, unsigned):
    """c = A B for A [16, 32], B [32, 8], spread over lanes as PTX ISA 8.0, section 9.7.13.4.10, draws them."""
    lane = cuda.threadIdx.x
    g, t = lane // 4, lane % 4
    words = []
    for register in range(4):
        row, first = g + 8 * (register % 2), 4 * t + 16 * (register // 2)
        words.append(a[row, first : first + 4].view(np.uint32)[0])
    for register in range(2):
        first = 4 * t + 16 * register
        words.append(np.ascontiguousarray(b[first : first + 4, g]).view(np.uint32)[0])
    zero = int32(0)
    product = ptx_tile.product_u8 if unsigned else ptx_tile.product_s8
    made = product(*words, (zero, zero, zero, zero))
    for i in range(4):
        c[g + 8 * (i // 2), 2 * t + i % 2] = made[i]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_the_product_is_that_of_the_tiles(dtype):
    generator = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    a = generator.integers(limits.min, limits.max + 1, (16, 32)).astype(dtype)
    b = generator.integers(-128, 128, (32, 8)).astype(np.int8)
    c = np.zeros((16, 8), np.int32)
    multiply[1, 32](a, b, c, dtype is np.uint8)
    assert np.array_equal(c, a.astype(np.int32) @ b.astype(np.int32))


@cuda.jit
def copy(source, out):
    shared = cuda.shared.array(0, uint32)
    ptx_tile.copy_async_16(shared, 0, ptx_tile.place_of(source, 4), 0)
    ptx_tile.copy_async_16_if(shared, 4, ptx_tile.place_of(source, 0), 0, 0)
    ptx_tile.copy_async_4(shared, 8, ptx_tile.place_of(source, 1), 1, 4)
    for i in range(10):
        out[i] = ptx_tile.shared_1(shared, i)
    out[10] = ptx_tile.shared_byte(shared, 1)
    out[11] = ptx_tile.shared_half(shared, 2)


def test_copies_and_narrow_loads():
    source = np.array([0x10, 0x11, 0x12, 0x13, 0x44332211, 0x15, 0x16, 0x17], np.uint32)
    out = np.zeros(12, np.uint32)
    copy[1, 1, 0, 64](source, out)
    # four words from word 4; zeros; word 1 + 1 to place 8 + 1
    assert [hex(x) for x in out[:4]] == ["0x44332211", "0x15", "0x16", "0x17"]
    assert out[4:8].tolist() == [0, 0, 0, 0] and out[9] == 0x12
    assert [hex(x) for x in out[10:]] == ["0x22", "0x4433"]


@cuda.jit
def store(out):
    ptx_tile.store_words_4(out, uint32(4), uint32(1), uint32(2), uint32(3), uint32(4))


def test_four_words_are_stored_side_by_side():
    out = np.zeros(12, np.uint32)
    store[1, 1](out)
    assert out.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0]
