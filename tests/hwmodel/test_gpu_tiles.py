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
    decode_instructions,
    decode_slots,
    resident_blocks,
    tile_constants,
    tile_time,
)
from hwmodel.gpu_tiles_fit import BOUNDS, FITTED_FORMATS, TileCase, fit, use_of
from kernels_gpu.gemv_recipes import RECIPES

COPY = 2.997e12  # measurements/gemm_h100.json
WIDE = TileCut(8, 8, 1, 2)
TRUE = TileConstants(2e-6, 0.4e-6, 20, 2, 150, 300, 2.5)
# Loop of runs of 8 x 8 x 1 x 2 at 4096 inputs, sm_90, less 12 for each of eight tiles of tokens (NOTES.md)
DISASSEMBLED = {
    "int4_g128": 191, "uint4_g128": 212, "bitmod4_g128": 344, "bitmod3_g128": 265, "fp4_g128": 321, "nvfp4": 384,
    "nf3_g64": 392, "e2m3_g128": 341, "mxfp6": 407, "e4m3_g128": 119, "e5m2_g128": 102, "mxfp8": 184,
    "int6_g128": 246, "int2_g64": 204, "uint2_g64": 228,
}  # fmt: skip


def time_of(name="int4_g128", shape=(64, 4096, 4096), cut=WIDE, gpu=H100, copy=COPY, constants=None):
    weight_bytes = RECIPES[name].storage_bits(shape[1:]).total / 8
    return tile_time(
        encoding_of(RECIPES[name]), shape, cut, weight_bytes=weight_bytes, gpu=gpu, copy_bytes_per_s=copy,
        constants=constants,
    )  # fmt: skip


@pytest.mark.parametrize("name", DISASSEMBLED)
def test_instructions_are_those_of_the_compiled_loop(name):
    assert decode_instructions(encoding_of(RECIPES[name])) == pytest.approx(DISASSEMBLED[name], rel=0.16)


def test_blocks_take_turns_at_the_multiprocessors():
    one = time_of(shape=(64, 132 * 128, 4096), constants=TRUE)
    assert time_of(shape=(64, 128, 4096), constants=TRUE).blocks_s == one.blocks_s  # one block, or one for each
    two = time_of(shape=(64, 132 * 128 + 1, 4096), constants=TRUE)
    assert two.blocks_s == pytest.approx(2 * one.blocks_s)
    # sixteen stages of 256 inputs: 64 tokens of 512 bytes and 8 warps of 2 KiB at 20 bytes a cycle; two runs of 190
    # instructions, 64 x (3/8 + 1) of them on the half-wide pipe, at 2 cycles a slot, and 8 tiles of tokens at 150;
    # eight warps on the SM, 16 cycles a tile of tokens, or 278 / 4 slots and 3 instructions a tile; the first stage is
    # only fed and the last one only computed
    feed, work = (64 * 512 + 8 * 2048) / 20, 2 * ((190 + 88) * 2 + 8 * 150)
    shared = 8 * 2 * max(16 * 8, 278 / 4 + 3 * 8)
    stage = (feed**2.5 + work**2.5 + shared**2.5) ** (1 / 2.5)
    expected = 2e-6 + 8 * 0.4e-6 + (16 * stage + min(feed, work)) / H100.frequency_hz
    assert one.blocks_s == pytest.approx(expected)
    assert one.launch_s == time_of().launch_s and one.seconds >= one.launch_s + one.blocks_s


def test_rows_across_sectors_are_fed_at_half_the_rate():
    aligned, across = (time_of(cut=replace(WIDE, ring=ring), constants=TRUE) for ring in (Ring.SECTORS, Ring.BANKS))
    assert across.feed_s == pytest.approx(2 * aligned.feed_s) and across.work_s == aligned.work_s
    assert across.seconds > aligned.seconds


# of the loop of runs at 32 tokens, on the half-wide pipe: NOTES.md, floor of the tile kernel
@pytest.mark.parametrize(
    ("name", "half"),
    [("int8", 70), ("int4_g128", 86), ("bitmod3_g128", 142), ("bitmod4_g128", 204), ("mxfp4", 209), ("nf4_g64", 356)],
)
def test_slots_count_the_half_wide_pipe_twice(name, half):
    encoding = encoding_of(RECIPES[name])
    assert decode_slots(encoding) - decode_instructions(encoding) == pytest.approx(half, rel=0.13)


def test_blocks_that_fit_on_a_multiprocessor_run_side_by_side():
    int4, small = encoding_of(RECIPES["int4_g128"]), TileCut(4, 4, 2, 2)  # 116 registers of 256 threads; 96 KiB
    assert resident_blocks(int4, 4096, small, H100) == 2
    assert resident_blocks(int4, 4096, WIDE, H100) == 1  # more than 128 registers
    assert resident_blocks(int4, 4096, TileCut(16, 8, 1, 2), H100) == 1

    def blocks_s(blocks):
        return time_of(shape=(32, 64 * blocks, 4096), cut=small, constants=TRUE).blocks_s

    one, both = blocks_s(66), blocks_s(2 * 132)
    assert one < both < 2 * one  # they share what feeds them, and wait for themselves at the same time
    assert blocks_s(3 * 132) == pytest.approx(both + one)
    # the next launch puts two blocks on some of the SMs that this one leaves idle, and the one after finds room
    assert blocks_s(86) == pytest.approx((one + both) / 2) and blocks_s(132) == pytest.approx(one)


def test_more_work_takes_longer():
    by_tokens = [time_of(shape=(m, 4096, 4096)).seconds for m in (64, 512, 2048, 8192)]
    by_inputs = [time_of(shape=(64, 4096, k)).seconds for k in (1024, 4096, 4097, 16384)]
    for times in (by_tokens, by_inputs):
        assert all(a < b for a, b in pairwise(times))
    slow = replace(H100, frequency_hz=H100.frequency_hz / 2)
    assert time_of(gpu=slow).seconds > time_of().seconds
    assert time_of("int8", (17, 28672, 8192), TileCut(3, 8, 1, 3), copy=COPY / 8).bound == "memory"
    assert time_of("nf4_g64").bound == "work" and time_of(shape=(64, 16, 32)).bound == "ends of blocks"
    assert time_of(shape=(512, 4096, 4096), cut=TileCut(32, 2, 1, 2), constants=replace(TRUE, token_cycles=48)).bound


def test_wrong_sizes_and_learned_codebooks_are_refused():
    with pytest.raises(ValueError, match="m, n, k, bytes and copy rate must be above 0, not \\(0, 1, 1\\)"):
        time_of(shape=(0, 1, 1))
    with pytest.raises(NotImplementedError, match="must be of a fixed format, not learned codebooks"):
        time_of("learned4")
    with pytest.raises(ValueError, match="tiles and warps of a cut must be at least 1 and depth at least 2"):
        TileCut(8, 8, 1, 1)


def test_constants_come_from_the_table_or_not_at_all(tmp_path):
    assert set(asdict(tile_constants())) == set(FITTED) == set(BOUNDS)
    for name in FITTED:
        low, start, high = BOUNDS[name]
        assert low < getattr(tile_constants(), name) < high and low < start < high
    path = tmp_path / "constants.csv"
    path.write_text("constant,value,source\nblock_s,1e-6,test\n")
    with pytest.raises(ValueError, match="constants of the tile model must be a CSV table with block_s, "):
        tile_constants(path)


def test_a_fit_predicts_other_rows_of_the_machine_that_made_its_rows():
    def case(name, shape, cut):
        seconds = time_of(name, shape, cut, constants=TRUE).seconds
        weight_bytes = RECIPES[name].storage_bits(shape[1:]).total / 8
        return TileCase(name, encoding_of(RECIPES[name]), shape, cut, weight_bytes, H100, COPY, seconds)

    cuts = (TileCut(3, 2, 4, 2), TileCut(4, 2, 4, 2), WIDE, TileCut(16, 8, 1, 2))
    rows = [case(name, (64, 4096, k), cut) for name in FITTED_FORMATS for k in (4096, 8192) for cut in cuts]
    found = fit(rows)
    for held in (case("bitmod4_g128", (100, 8192, 4096), WIDE), case("mxfp4", (17, 4096, 11008), cuts[0])):
        assert held.predicted(found).seconds == pytest.approx(held.seconds, rel=0.02)
    with pytest.raises(ValueError, match="rows to fit must be at least 7, one for each constant, not 1"):
        fit(rows[:1])


def test_held_out_are_whole_formats_and_a_whole_shape():
    assert {use_of(name, 4096, 4096, "h100") for name in FITTED_FORMATS} == {"fitted"}
    assert use_of("bitmod3_g128", 4096, 4096, "h100") == "format held out"
    assert use_of("int4_g128", 4096, 4096, "h200") == "other GPU"
    assert use_of("int4_g128", 4096, 4096, "h100", Ring.BANKS) == "earlier kernel"
