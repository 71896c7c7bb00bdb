"""The law of the tile kernel: instructions as compiled, laws of its time, constants of a fit."""

from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from hwmodel.gpu_gemv_cut import Ring
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import H100
from hwmodel.gpu_tiles import (
    FITTED,
    TileConstants,
    TileCut,
    resident_blocks,
    tile_constants,
    tile_time,
)
from hwmodel.gpu_tiles_fit import BOUNDS, FITTED_FORMATS, TileCase, fit, use_of
from kernels_gpu.gemv_recipes import RECIPES

COPY = 2.997e12  # measurements/gemm_h100.json
WIDE = TileCut(8, 8, 1, 2)
TRUE = TileConstants(lone_tile_cycles=100, group_slots=300, sharing_norm=2.5)
HZ = H100.frequency_hz * 1980 / 1830  # clocks.sm of the records


def time_of(name="int4_g128", shape=(64, 4096, 4096), cut=WIDE, gpu=H100, copy=COPY, constants=None):
    weight_bytes = RECIPES[name].storage_bits(shape[1:]).total / 8
    return tile_time(
        encoding_of(RECIPES[name]), shape, cut, weight_bytes=weight_bytes, gpu=gpu, copy_bytes_per_s=copy,
        constants=constants,
    )  # fmt: skip


def test_blocks_take_turns_at_the_multiprocessors():
    one = time_of(shape=(64, 132 * 128, 4096), constants=TRUE)
    assert time_of(shape=(64, 128, 4096), constants=TRUE).blocks_s == one.blocks_s  # one block, or one for each
    two = time_of(shape=(64, 132 * 128 + 1, 4096), constants=TRUE)
    assert two.blocks_s == pytest.approx(2 * one.blocks_s)
    # sixteen stages of 256 inputs: 64 tokens of 512 bytes and 8 warps of 2 KiB at 64 bytes a cycle; two warps of a
    # scheduler with two runs of 190 instructions, 64 x (3/8 + 1) of them on the half-wide pipe, and copies of eight
    # pieces of inputs and four of weights; eight tiles of tokens, 64 cycles of a tensor core for each warp and run
    feed, issue = (64 * 512 + 8 * 2048) / 64, 2 * (2 * (190 + 88) + 13 * (8 + 4))
    products = 2 * 2 * 8 * 64
    assert one.blocks_s == pytest.approx(16 * (feed + issue + products) / HZ)
    assert (one.issue_s, one.products_s, one.feed_s) == pytest.approx(
        tuple(16 * part / HZ for part in (issue, products, feed))
    )
    assert one.launch_s == time_of().launch_s and one.seconds >= one.launch_s + one.blocks_s


def test_a_warp_alone_on_its_scheduler_waits_for_its_sums():
    lone = time_of(cut=TileCut(8, 4, 1, 2), constants=TRUE)
    assert lone.products_s == pytest.approx(16 * 2 * 8 * 100 / HZ)
    # 16 pieces of inputs a thread are left in a loop, 38 instructions each
    assert lone.issue_s == pytest.approx(16 * (2 * (190 + 88) + 38 * 16 + 13 * 4) / HZ)


def test_rows_across_sectors_are_fed_at_half_the_rate_and_odd_widths_meet_in_banks():
    aligned, across = (time_of(cut=replace(WIDE, ring=ring), constants=TRUE) for ring in (Ring.SECTORS, Ring.BANKS))
    assert across.feed_s == pytest.approx(2 * aligned.feed_s) and across.issue_s == aligned.issue_s
    assert across.seconds > aligned.seconds
    # 64 tokens of 512 bytes and 8 warps of 1.5 KiB; three words of two rows, each read twice, of 8 warps and two runs
    three = time_of("bitmod3_g128", constants=TRUE)
    assert three.feed_s == pytest.approx(16 * ((64 * 512 + 8 * 1536) / 64 + 2 * 3 * 8 * 2) / HZ)


def test_blocks_that_fit_on_a_multiprocessor_run_side_by_side():
    int4, small = encoding_of(RECIPES["int4_g128"]), TileCut(4, 4, 2, 2)  # 116 registers of 256 threads; 96 KiB
    assert resident_blocks(int4, 4096, small, H100) == 2
    assert resident_blocks(int4, 4096, WIDE, H100) == 1  # more than 128 registers
    assert resident_blocks(int4, 4096, TileCut(16, 8, 1, 2), H100) == 1
    e4m3, cut = encoding_of(RECIPES["e4m3_g128"]), TileCut(6, 8, 1, 2)
    assert resident_blocks(e4m3, 4096, cut, H100) == 2  # roughly; compiled it has 131 (measurements/gemm_h100.json)
    assert resident_blocks(e4m3, 4096, replace(cut, registers=131), H100) == 1

    def blocks_s(blocks, cut=small):
        return time_of(shape=(32, 64 * blocks, 4096), cut=cut, constants=TRUE).blocks_s

    one, both = blocks_s(33), blocks_s(2 * 132)
    assert one < both < 2 * one  # they share what feeds them, and wait for themselves at the same time
    assert blocks_s(3 * 132) == pytest.approx(both + one)
    # eight stages; four warps a scheduler, with eight pieces of inputs and four of weights, 12 instructions and four
    # tiles of tokens a run
    feed = (32 * 1024 + 8 * 2048) / 64
    alone = feed + 2 * (2 * (190 + 88) + 13 * (8 + 4)) + 2 * 2 * 4 * 64
    issue, port = 4 * (2 * (190 + 88) + 13 * (8 + 4) + 2 * 4 * 12), 2 * feed + 4 * 2 * 4 * 64
    assert one == pytest.approx(8 * alone / HZ)
    assert both == pytest.approx(8 * (alone**2.5 + issue**2.5 + port**2.5) ** (1 / 2.5) / HZ)
    # the next launches put two blocks on some of the SMs that this one leaves idle: none of 33, half of 82.5
    assert blocks_s(66) == pytest.approx(one + (both - one) / 3)
    assert one < blocks_s(66) < blocks_s(99) < blocks_s(131) < both and blocks_s(132) == pytest.approx(one)
    assert blocks_s(66, replace(small, registers=129)) == pytest.approx(one)  # one fits alone


def test_more_work_takes_longer():
    by_tokens = [time_of(shape=(m, 4096, 4096)).seconds for m in (64, 512, 2048, 8192)]
    by_inputs = [time_of(shape=(64, 4096, k)).seconds for k in (1024, 4096, 4097, 16384)]
    for times in (by_tokens, by_inputs):
        assert all(a < b for a, b in pairwise(times))
    slow = replace(H100, frequency_hz=H100.frequency_hz / 2)
    assert time_of(gpu=slow).seconds > time_of().seconds
    assert time_of("int8", (17, 28672, 8192), TileCut(3, 8, 1, 3), copy=COPY / 8).bound == "memory"
    assert time_of("nf3_g64").bound == "issue" and time_of().bound == "products"
    assert time_of("int8", (17, 4096, 4096), TileCut(3, 2, 4, 2), copy=1e15).bound in ("issue", "feed")


def test_wrong_sizes_and_learned_codebooks_are_refused():
    with pytest.raises(ValueError, match="m, n, k, bytes and copy rate must be above 0, not \\(0, 1, 1\\)"):
        time_of(shape=(0, 1, 1))
    with pytest.raises(NotImplementedError, match="must be of a fixed format, not learned codebooks"):
        time_of("learned4")
    with pytest.raises(ValueError, match="tiles and warps of a cut must be at least 1, depth at least 2"):
        TileCut(8, 8, 1, 1)
    with pytest.raises(ValueError, match="and registers at least 0"):
        TileCut(8, 8, 1, 2, registers=-1)


def test_constants_come_from_the_table_or_not_at_all(tmp_path):
    assert set(asdict(tile_constants())) == set(FITTED) == set(BOUNDS)
    for name in FITTED:
        low, start, high = BOUNDS[name]
        assert low < getattr(tile_constants(), name) < high and low < start < high
    path = tmp_path / "constants.csv"
    path.write_text("constant,value,source\nlone_tile_cycles,90,test\n")
    with pytest.raises(ValueError, match="constants of the tile model must be a CSV table with lone_tile_cycles, "):
        tile_constants(path)


def test_a_fit_predicts_other_rows_of_the_machine_that_made_its_rows():
    def case(name, shape, cut):
        seconds = time_of(name, shape, cut, constants=TRUE).seconds
        weight_bytes = RECIPES[name].storage_bits(shape[1:]).total / 8
        return TileCase(name, encoding_of(RECIPES[name]), shape, cut, weight_bytes, H100, COPY, seconds)

    cuts = (TileCut(3, 2, 4, 2), TileCut(3, 4, 2, 2), WIDE, TileCut(8, 4, 1, 2))
    rows = [case(name, (64, 4096, k), cut) for name in FITTED_FORMATS for k in (4096, 8192) for cut in cuts]
    found = fit(rows)
    for held in (case("bitmod4_g128", (100, 8192, 4096), WIDE), case("mxfp4", (17, 4096, 11008), cuts[0])):
        assert held.predicted(found).seconds == pytest.approx(held.seconds, rel=0.02)
    with pytest.raises(ValueError, match="rows to fit must be at least 3, one for each constant, not 1"):
        fit(rows[:1])


def test_held_out_are_whole_formats_and_a_whole_shape():
    assert {use_of(name, 4096, 4096, "h100") for name in FITTED_FORMATS} == {"fitted"}
    assert use_of("bitmod3_g128", 4096, 4096, "h100") == "format held out"
    assert use_of("int4_g128", 4096, 4096, "h200") == "other GPU"
    assert use_of("int4_g128", 4096, 4096, "h100", Ring.BANKS) == "earlier kernel"
