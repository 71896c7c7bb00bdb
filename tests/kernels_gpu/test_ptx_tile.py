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


@cuda.jit
def multiply_halves(a, b, c, out):
    """out = c + A B for A [16, 16], B [16, 8], spread over lanes as PTX ISA 8.0, section 9.7.13.4.8, draws them."""
    lane = cuda.threadIdx.x
    g, t = lane // 4, lane % 4
    words = []
    for register in range(4):
        row, first = g + 8 * (register % 2), 2 * t + 8 * (register // 2)
        words.append(a[row, first : first + 2].view(np.uint32)[0])
    for register in range(2):
        first = 2 * t + 8 * register
        words.append(np.ascontiguousarray(b[first : first + 2, g]).view(np.uint32)[0])
    start = tuple(c[g + 8 * (i // 2), 2 * t + i % 2] for i in range(4))
    made = ptx_tile.product_half(*words, start)
    for i in range(4):
        out[g + 8 * (i // 2), 2 * t + i % 2] = made[i]


def test_the_product_of_halves_is_that_of_the_tiles():
    generator = np.random.default_rng(1)
    a, b = (generator.integers(-9, 10, shape).astype(np.float16) for shape in ((16, 16), (16, 8)))
    c = generator.integers(-9, 10, (16, 8)).astype(np.float32)
    out = np.full((16, 8), np.nan, np.float32)
    multiply_halves[1, 32](a, b, c, out)
    assert np.array_equal(out, c + a.astype(np.float32) @ b.astype(np.float32))  # whole numbers: exact


def test_every_e4m3_code_is_what_its_bits_say():
    # OFP8 (OCP 8-bit floating point, revision 1.0), table 1: bias 7, three bits of significand, NaN of all ones
    for code in range(256):
        exponent, significand = code >> 3 & 15, code & 7
        value = significand / 8 * 2.0**-6 if exponent == 0 else (1 + significand / 8) * 2.0 ** (exponent - 7)
        value = float("nan") if code & 0x7F == 0x7F else -value if code >> 7 else value
        pair = np.array([ptx_tile.halves_of_e4m3(code | 0x38 << 8)], np.uint32).view(np.float16)  # 0x38 is 1
        assert (pair[0] == value or np.isnan(pair[0]) == np.isnan(value) == 1) and pair[1] == 1
        assert np.signbit(pair[0]) == (code >> 7) or np.isnan(value)


@cuda.jit
def move(source, out):
    """Global words to shared ones, in every width, and back."""
    shared = ptx_tile.shared_words()
    ptx_tile.start()
    ptx_tile.wait_for_previous()
    ptx_tile.wait_for_previous_in_a_loop(uint32(0))
    ptx_tile.put_1(shared, 0, ptx_tile.load_word(source, 1))
    ptx_tile.put_2(shared, 2, *ptx_tile.stream_words_2(source, 2))
    ptx_tile.put_4(shared, 4, *ptx_tile.load_words_4(source, 4))
    ptx_tile.put_4(shared, 8, *ptx_tile.stream_words_4(source, 0))
    ptx_tile.put_1(shared, 12, ptx_tile.stream_words_1(source, 7)[0])
    ptx_tile.put_1(shared, 13, uint32(0x11223344))
    ptx_tile.put_byte(shared, 4 * 13 + 2, uint32(0xFFFFFFAB))
    ptx_tile.commit()
    ptx_tile.wait_all_but(0)()
    ptx_tile.store_word(out, 0, ptx_tile.shared_1(shared, 0))
    two, four = ptx_tile.shared_2(shared, 2), ptx_tile.shared_4(shared, 4)
    for i in range(2):
        ptx_tile.store_word(out, 2 + i, two[i])
    ptx_tile.store_words_4(out, 4, *four)
    ptx_tile.store_words_4(out, 8, *ptx_tile.shared_4(shared, 8))
    ptx_tile.store_word(out, 12, ptx_tile.shared_1(shared, 12))
    ptx_tile.store_word(out, 13, ptx_tile.shared_1(shared, 13))
    ptx_tile.store_half(out, 3, ptx_tile.load_half(source, 1))  # the upper half of word 1 from that of word 0
    ptx_tile.store_half(out, 2, uint32(0x7777))


def test_words_move_in_every_width():
    source = np.array([0xAAAA0000, *(0x100 + i for i in range(1, 8))], np.uint32)
    out = np.zeros(16, np.uint32)
    move[1, 1, 0, 64](source, out)
    assert [hex(x) for x in out[:2]] == ["0x101", "0xaaaa7777"]
    assert out[2:8].tolist() == [0x102, 0x103, *range(0x104, 0x108)]
    assert out[8:12].tolist() == source[:4].tolist() and out[12] == 0x107 and hex(out[13]) == "0x11ab3344"


@cuda.jit
def read(out):
    out[0] = ptx_tile.shared_1(ptx_tile.shared_words(), 3)


def test_shared_memory_begins_full_of_nan():
    """As conftest.py makes it, so that a kernel that reads what it has not written is found."""
    out = np.zeros(1, np.uint32)
    read[1, 1, 0, 16](out)
    assert out[0] == 0xFFFFFFFF


def test_threads_of_a_barrier_see_what_the_others_stored():
    @cuda.jit
    def turned(out):
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        warp = uint32(thread // uint32(32))
        ptx_tile.put_1(shared, thread, uint32(thread + uint32(1)))
        ptx_tile.sync_some(uint32(warp + uint32(1)), uint32(32))
        ptx_tile.store_word(out, thread, ptx_tile.shared_1(shared, uint32(uint32(31) - thread + uint32(64) * warp)))

    out = np.zeros(64, np.uint32)
    turned[1, 64, 0, 256](out)
    assert out.tolist() == [*range(32, 0, -1), *range(64, 32, -1)]
