"""Cuts of launches: those that the launcher chooses, and their shared memory."""

from dataclasses import replace

import pytest

from datatypes.catalog import BITMOD_FP4, FP16
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from hwmodel.gpu_gemv_cut import (
    FAST_MEMORY_BYTES_PER_S,
    RESERVED_BYTES,
    GemvCut,
    Ring,
    choose_cut,
    row_pitch_words,
    shared_bytes,
)
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_presets import H100, H200
from kernels_gpu.gemv_launch import choose_shape, spec_of, tokens_at_once
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.native import bus_bytes_per_s

LIMIT = H100.shared_bytes - RESERVED_BYTES
# DRAM bandwidth by data sheet and by the driver, whose clock and bus are in kernels_gpu/measurements and the sheets
MEMORIES = {
    "h100": (H100.dram.bytes_per_s, bus_bytes_per_s(2_619_000, 5120)),
    "h200": (H200.dram.bytes_per_s, bus_bytes_per_s(3_201_000, 6144)),
    "unknown": (None, None),
}
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (28672, 8192), (32000, 4096), (1024, 4096), (576, 576), (64, 256))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("sheet", "driver"), MEMORIES.values(), ids=MEMORIES)
def test_cuts_and_launches_are_the_launchers(name, sheet, driver):
    encoding, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    for n, k in SHAPES:
        for m in (1, 2, 4, 5, 8, 16):
            at_once = tokens_at_once(plan, m, (n, k))
            theirs = choose_shape(plan, at_once, n, k, memory_bytes_per_s=driver)
            assert choose_cut(encoding, (m, n, k), LIMIT, sheet) == (theirs, -(-m // at_once)), (n, k, m)


def test_fast_memory_lies_between_the_two_measured_gpus():
    assert max(MEMORIES["h100"]) < FAST_MEMORY_BYTES_PER_S < min(MEMORIES["h200"])
    for ends in (MEMORIES["h100"], MEMORIES["h200"]):
        assert ends[0] == pytest.approx(ends[1], rel=0.03)


# kernels_gpu/NOTES.md, "Cuts of version 10", 12 and "Teams": measured best at one token, where not the H100's best
WIDE, NARROW, THREE_TEAMS = GemvCut(8, 4, 2), GemvCut(8, 2, 2), GemvCut(12, 4, 2, teams=3)
FAST = {
    "mxfp4": WIDE, "nvfp4": THREE_TEAMS, "int3_g128": THREE_TEAMS, "fp3_g128": THREE_TEAMS, "fp4_g128": WIDE,
    "nf3_g64": GemvCut(4, 4, 3), "nf4_g64": GemvCut(16, 4, 2, teams=4), "bitmod3_g128": WIDE, "int8": WIDE,
    "int8_g128": WIDE, "uint8_g128": WIDE, "e2m3_g128": THREE_TEAMS, "e3m2_g128": THREE_TEAMS, "mxfp6": NARROW,
}  # fmt: skip
FAST_AT_11008 = {
    **dict.fromkeys(("int4_g128", "uint4_g128", "int6_g128", "uint6_g128"), NARROW), "nf4_g64": GemvCut(8, 4, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_fast_memory_changes_the_cut_of_some_encodings_of_many_rows(name):
    encoding = encoding_of(RECIPES[name])

    def chosen(shape, memory_bytes_per_s=None):
        return choose_cut(encoding, shape, LIMIT, memory_bytes_per_s)

    for shape, by_name in (((1, 28672, 8192), FAST), ((1, 11008, 4096), FAST_AT_11008)):
        known = chosen(shape)
        assert chosen(shape, H100.dram.bytes_per_s) == known
        fast = chosen(shape, H200.dram.bytes_per_s)
        assert fast == ((by_name[name], 1) if name in by_name else known)
        assert (fast != known) == (name in by_name)
    for shape in ((2, 28672, 8192), (1, 4096, 4096), (1, 12288, 4096), (1, 22016, 4096), (1, 4096, 28672)):
        fast, registers = chosen(shape, H200.dram.bytes_per_s), 80 if name == "nf4_g64" and shape[1] == 12288 else 0
        assert replace(fast[0], registers=registers) == chosen(shape)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_shared_memory_is_the_kernels(name):
    encoding, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    cuts = (GemvCut(8, 2, 2), GemvCut(16, 2, 1), GemvCut(4, 4, 3), GemvCut(12, 4, 2, teams=3), GemvCut(2, 2, 1))
    for tokens, k, cut in zip((1, 8, 3, 1, 16), (4096, 8192, 1000, 4096, 11008), cuts, strict=True):
        theirs = spec_of(plan, tokens, (4096, k), cut).shared_bytes
        assert shared_bytes(encoding, tokens, k, cut) == theirs


def test_many_rows_of_few_bits_or_two_digits_are_cut_to_teams():
    def teams(name, n, k):
        cut, launches = choose_cut(encoding_of(RECIPES[name]), (1, n, k), LIMIT)
        return launches, cut.teams, cut.team_warps

    assert [teams("int3_g128", n, k) for n, k in ((4096, 4096), (22016, 4096), (28672, 8192))] == [
        (1, 1, 16), (1, 4, 2), (1, 3, 4)
    ]  # fmt: skip
    assert [teams("learned4", n, k) for n, k in ((4096, 4096), (11008, 4096), (22016, 4096), (28672, 8192))] == [
        (1, 2, 4), (1, 1, 8), (1, 2, 4), (1, 2, 4)
    ]  # fmt: skip
    # 132 tiles are one for an SM; what has too few stages for a team's warps is cut as for many tokens
    assert [teams("learned4", n, 4096)[1:] for n in (2112, 2113)] == [(1, 8), (2, 4)]
    assert teams("int3_g128", 32000, 1024)[1:] == (4, 2) and teams("int3_g128", 32000, 512)[1] == 1


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("gathered", [False, True])
def test_rows_of_whole_sectors_begin_at_32_bytes(bits, gathered):
    runs = 4 if gathered else 2
    sectors = row_pitch_words(bits, runs, ring=Ring.SECTORS, gathered=gathered)
    assert sectors % 8 == 0 and runs * 4 * bits <= sectors <= runs * 4 * bits + 32
    # rows for banks begin at odd multiples of 16 bytes where bits are odd, and with 8
    assert row_pitch_words(bits, runs, ring=Ring.BANKS) % 8 == (4 if bits in (3, 5, 7, 8) else 0)


def test_four_runs_of_one_token_are_gathered():
    four, two = (GemvCut(8, runs, 2, ring=Ring.SECTORS) for runs in (4, 2))
    int4, nf4, mxfp4, int8 = (encoding_of(RECIPES[name]) for name in ("int4_g128", "nf4_g64", "mxfp4", "int8"))
    mixture = encoding_of(TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(FP16)))
    assert all(four.gathers(encoding, 1) for encoding in (int4, nf4, mxfp4))  # groups of 128, 64 and 32
    assert not any((four.gathers(int4, 2), two.gathers(int4, 1), four.gathers(mixture, 1), four.gathers(int8, 1)))
    assert not GemvCut(8, 4, 2, ring=Ring.BANKS).gathers(int4, 1)


def test_short_groups_gather_where_every_warp_has_a_stage_in_every_turn():
    mxfp4 = encoding_of(RECIPES["mxfp4"])
    assert choose_cut(mxfp4, (1, 11008, 4096), LIMIT)[0] == GemvCut(8, 4, 1, ahead=4)
    assert choose_cut(mxfp4, (1, 5120, 5120), LIMIT)[0] == GemvCut(8, 2, 2)


def test_mixtures_decode_ahead_where_a_block_has_one_tile():
    encoding = encoding_of(RECIPES["bitmod4_g128"])
    assert [choose_cut(encoding, (1, n, 4096), LIMIT)[0].ahead for n in (2112, 2128, 4096, 11008)] == [4, 0, 0, 4]
    short = encoding_of(TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(FP16)))
    assert not short.seven_bits and choose_cut(short, (1, 2048, 4096), LIMIT)[0].ahead == 0


def test_bytes_of_whole_sectors_by_hand():
    # INT4, one token, 512 inputs, one warp, one stage of two runs: zeros of 8 words; two planes of 128 words and 8;
    # four steps; 276 words are 280 in sectors of 8; 16 rows of 32 words and 16 apart, scale windows of one word, 784;
    # and sums of 2 x 16 rows
    encoding = encoding_of(RECIPES["int4_g128"])
    words = 280 + (16 * 48 + 16) + 2 * 16
    assert shared_bytes(encoding, 1, 512, GemvCut(1, 2, 1, ring=Ring.SECTORS)) == 4 * words


def test_what_does_not_fit_has_no_cut():
    assert choose_cut(encoding_of(RECIPES["int4_g128"]), (1, 16, 200000), LIMIT) is None
    for wrong in ((0, 2, 1), (1, 2, 1, 0, -1)):
        with pytest.raises(ValueError, match="depth of a cut must be at least 1, blocks, registers and ahead"):
            GemvCut(*wrong)
