"""Memory blocks and DSPs: shapes of AMD UG573, FINN's rules."""

import pytest

from hwmodel.fpga import FpgaResources
from hwmodel.fpga_memory import (
    bram18_count,
    bram36_count,
    buffer_resources,
    fifo_luts,
    hls_unit_dsps,
    hls_unit_luts,
    lutram_luts,
    matrix_unit_dsps,
    smallest_blocks,
    uram_count,
)


# AMD UG573: each shape of RAMB18 holds exactly one block, one word or one bit more takes two
@pytest.mark.parametrize(("width", "depth"), [(1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024), (36, 512)])
def test_a_shape_fills_one_block(width, depth):
    assert bram18_count(width, depth) == 1
    assert bram18_count(width, depth + 1) == 2
    assert bram36_count(width, depth) == 0.5


@pytest.mark.parametrize(
    ("width", "depth", "blocks"), [(72, 512, 2), (73, 512, 3), (36, 513, 2), (37, 1024, 3), (3, 4096, 1)]
)
def test_wide_and_deep_memories(width, depth, blocks):
    assert bram18_count(width, depth) == blocks


def test_more_width_or_depth_never_takes_fewer_blocks_at_a_kept_shape():
    for depth in (64, 512, 513, 4096):
        counts = [bram18_count(width, depth) for width in range(19, 200)]
        assert counts == sorted(counts)
    for width in (1, 9, 36, 64):
        assert uram_count(width, 5000) == 2 * uram_count(width, 4096)


def test_ultraram_has_one_shape():
    assert uram_count(72, 4096) == 1
    assert uram_count(144, 4097) == 4


def test_a_buffer_in_blocks():
    # 64 KiB read 64 bits at a time: 8192 words; BRAM18s of 18 x 1024: 8 deep, 4 wide; UltraRAM: 2 deep
    assert buffer_resources(64 * 1024 * 8, 64) == FpgaResources(bram36=16)
    assert buffer_resources(64 * 1024 * 8, 64, ultra=True) == FpgaResources(uram288=2)
    assert smallest_blocks(64 * 1024 * 8, 64, ultra_at_hand=True) == FpgaResources(bram36=16)
    # 36 KiB, 72 bits by 4096: one UltraRAM is eight block RAMs' worth; so are 4 deep times 4 wide BRAM18s, 8 BRAM36s
    assert smallest_blocks(36 * 1024 * 8, 72, ultra_at_hand=True) == FpgaResources(bram36=8)
    # 70 bits: 4213 words; block RAM rounds the depth up to 5 x 1024, UltraRAM to 2 x 4096
    assert smallest_blocks(36 * 1024 * 8, 70, ultra_at_hand=False) == FpgaResources(bram36=10)


def test_lut_memories():
    assert lutram_luts(8, 65) == 16  # two LUTs of 64 bits a column
    assert fifo_luts(8, 32) == 2 * 5 + 1 * 4  # FINN-R: counters, shift registers


def test_dsps_of_finns_units():
    assert matrix_unit_dsps(1, 3, "DSP58") == 1
    assert matrix_unit_dsps(4, 1, "DSP48E2") == 1
    assert matrix_unit_dsps(5, 2, "DSP48E2") == 4
    assert hls_unit_dsps(2, 3, 8, 8) == 6
    assert hls_unit_dsps(1, 1, 24, 25) == 2


def test_luts_of_finns_unit():
    # FINN-R by hand: W4A4, SIMD 16, one PE, 18-bit accumulator: 300 + 1.1 (16 * 3 * 8 + 8 * 31 + 18)
    assert hls_unit_luts(1, 16, 4, 4, 18) == pytest.approx(300 + 1.1 * (384 + 248 + 18))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bram18_count(0, 5), "width_bits and depth of a buffer must be at least 1, not 0 and 5"),
        (lambda: buffer_resources(8, 16), "width_bits of a buffer must be 1 to its 8 bits, not 16"),
        (lambda: matrix_unit_dsps(1, 1, "MULT18X18D"), "dsp_type must be DSP48E1, DSP48E2 or DSP58"),
        (lambda: matrix_unit_dsps(0, 1), "rows and lanes must be at least 1, not 0 and 1"),
        (lambda: hls_unit_dsps(0, 1, 1, 1), "rows, lanes and bits must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
