"""What the kernel does for an encoding: as it is compiled, instruction counts by hand and by the disassembly."""

import itertools
from dataclasses import replace

import pytest

from codesign.recipes import RECIPES as MODEL_RECIPES
from datatypes.catalog import E8M0, FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerBlock, PerGroup
from datatypes.layer_config import ScaleConfig, SecondLevel, SparsityConfig, TensorConfig
from hwmodel.gpu_gemv_cut import GemvCut
from hwmodel.gpu_gemv_encoding import encoding_of, instructions, merged, reason_without_kernel
from kernels_gpu.gemv_launch import spec_of
from kernels_gpu.gemv_plan import Decoding, plan_of
from kernels_gpu.gemv_recipes import RECIPES

INT4 = RECIPES["int4_g128"]


@pytest.mark.parametrize("name", RECIPES)
def test_an_encoding_is_what_the_kernel_is_compiled_for(name):
    ours, plan = encoding_of(RECIPES[name]), plan_of(RECIPES[name])
    assert (ours.bits, ours.digits, ours.group, ours.parts) == (plan.bits, plan.digits, plan.group, plan.parts)
    assert ours.digits * ours.tables == plan.sets
    assert (ours.selector_bits, ours.zero_bits) == (plan.selector_bits, plan.zero_bits)
    assert ours.scale_bits == (0 if plan.scale is None else plan.scale.bits)
    assert (ours.floats, ours.learned) == (plan.halves, plan.learned)
    assert ours.looked_up == (plan.decoding is Decoding.TABLE)


def test_the_model_knows_an_encoding_exactly_where_there_is_a_kernel():
    changes = (
        {"hadamard": 128}, {"row_scale": FP16}, {"column_scale": FP16}, {"sparsity": SparsityConfig()},
        {"dynamic": True}, {"zero_point": FP16}, {"residual": INT4}, {"granularity": PerGroup(48)},
        {"granularity": PerBlock(8, 32)}, {"selector": PerGroup(64)}, {"scale": ScaleConfig(INTS_SYMMETRIC[8])},
        {"scale": ScaleConfig(UINT8, outer=E8M0)}, {"scale": ScaleConfig(UINT8, outer=FP16, outer_offset=FP16)},
        {"scale": ScaleConfig(UINT8, outer=FP16, outer_granularity=PerGroup(256))},
        {"zero_point": UINTS[4], "zero_point_level": SecondLevel()}, {"formats": (INTS_SYMMETRIC[4], UINTS[4])},
        {"granularity": PerGroup(16)}, {"scale": None}, {"selector": PerGroup(128)},
    )  # fmt: skip
    configs = [
        replace(RECIPES[name], **change) for name in ("int4_g128", "e4m3_g128", "fp4_g128") for change in changes
    ]
    configs += [r.linear.weight for r in MODEL_RECIPES.values() if isinstance(r.linear.weight, TensorConfig)]
    known = 0
    for config in configs:
        try:
            plan_of(config)
            there = True
        except NotImplementedError:
            there = False
        assert (reason_without_kernel(config) is None) == there, config
        known += there
    assert 5 < known < len(configs) - 5
    with pytest.raises(NotImplementedError, match="encoding of the GEMV model must have a kernel, not a Hadamard"):
        encoding_of(replace(INT4, hadamard=128))


def test_decoding_takes_the_instructions_that_the_kernel_states():
    # kernels_gpu/gemv_decode.py: nibbles 3/8; table of 2 bits 11/16, 3 bits 29/32, 4 bits 7/8, two digits 11/8; planes
    # of 5 and 6 bits 15/16, 7 bits 37/32; gemv_halves.py: for sixteen of FP6 29 or 25, for a pair of FP8 one conversion
    # and half a shift, or one permutation
    stated = {
        "int8": 0, "int4_g128": 3 / 8, "int2_g64": 11 / 16, "int3_g128": 29 / 32, "fp4_g128": 7 / 8, "nf4_g64": 11 / 8,
        "int5_g128": 15 / 16, "int6_g128": 15 / 16, "int7_g128": 37 / 32, "learned4": 11 / 8,
        "e2m3_g128": 29 / 16, "e3m2_g128": 25 / 16, "e4m3": 3 / 4, "e5m2_g128": 1 / 2,
    }  # fmt: skip
    assert {name: encoding_of(RECIPES[name]).decode for name in stated} == stated


def test_instructions_of_a_run_by_hand_and_in_the_disassembly():
    # INT4, one token, 64 weights a lane: 24 to decode; 4 to join and convert; loads 2 of codes, 2 of inputs, 1 of their
    # scale; 4 products; 4 for group scales; 4 to scale and add; 4 copies and places
    work = instructions(encoding_of(INT4), 1)
    assert (work.instructions, work.half_wide, work.products) == (24 + 4 + 5 + 4 + 4 + 4 + 4, 28, 4)
    # E5M2: 32 permutations; loads 4 of codes, 4 of inputs, 1 of their scale; 8 products; 4; 4; 8 copies
    work = instructions(encoding_of(RECIPES["e5m2_g128"]), 1)
    assert (work.instructions, work.half_wide, work.products) == (32 + 9 + 8 + 4 + 4 + 8, 32, 8)
    # NOTES.md: 10.4 M warp instructions on the half-wide pipe for BitMoD-3 at 28672 x 8192, counted by ncu, less
    # 0.15 a weight since
    runs = 28672 // 16 * 8192 // 128
    assert instructions(encoding_of(RECIPES["bitmod3_g128"]), 1).half_wide * runs == pytest.approx(
        10.4e6 - 0.15 * 28672 * 8192 / 32, rel=0.15
    )


def test_groups_below_a_run_take_more_columns():
    products = {
        name: instructions(encoding_of(RECIPES[name]), 4).products for name in ("int4_g128", "int2_g64", "mxfp4")
    }
    # four tensor-core products for four tokens, eight in groups of 64; of 32: sixteen, for both tables of sixteen
    assert products == {"int4_g128": 4, "int2_g64": 8, "mxfp4": 32}


def test_halves_of_a_block_are_runs_of_their_own_from_two_tiles_of_columns_on():
    # NVFP4: four tables' products for two halves of a tile of columns and both tables; in the disassembly
    # (kernels_gpu/NOTES.md) 8 a run with one token, 16 with two and 64 with eight, and 208, 257, 309, 350, 448, 529 and
    # 986 instructions with 1, 2, 3, 4, 6, 8 and 16 tokens, of which some 100 to 150 are those of a stage
    work = {tokens: instructions(encoding_of(RECIPES["nvfp4"]), tokens) for tokens in (1, 2, 3, 8)}
    assert [w.products for w in work.values()] == [8, 16, 24, 64]
    assert [w.sums for w in work.values()] == [2, 4, 6, 16]
    steps = [work[2].instructions - work[1].instructions, work[3].instructions - work[2].instructions]
    assert steps[0] > steps[1]  # inputs and codes come twice
    assert (work[8].instructions - work[3].instructions) / 5 == pytest.approx((529 - 309) / 5, rel=0.15)


@pytest.mark.parametrize("name", RECIPES)
def test_both_tables_have_one_sum_where_the_kernel_has_one(name):
    config = RECIPES[name]
    for tokens, cut in itertools.product((1, 2, 4, 8, 16), (GemvCut(8, 2, 2), GemvCut(8, 4, 2))):
        spec = spec_of(plan_of(config), tokens, (4096, 4096), cut)
        assert merged(encoding_of(config), tokens, gathered=spec.gathered) == spec.merged


def test_bytes_of_short_groups_are_scales_in_words():
    # MXFP4, gathered: 56 to decode, 4 to join, convert; loads 2, 2, a table and a scale of inputs in four runs; 8; 5;
    # 4 to scale and add; 4 copies. NVFP4: 4 to join and convert more, 6 for scales, 2 for each of two sums
    shared = 56 + 2 + 2 + 1 + 1 / 4 + 8 + 4
    mxfp4, nvfp4 = (instructions(encoding_of(RECIPES[name]), 1, gathered=True) for name in ("mxfp4", "nvfp4"))
    assert (mxfp4.instructions, nvfp4.instructions) == (shared + 4 + 5 + 4, shared + 8 + 6 + 4)


@pytest.mark.parametrize("name", ["int4_g128", "bitmod3_g128", "nf4_g64", "uint4_g128", "learned4"])
def test_gathered_runs_are_summed_once_for_a_group(name):
    encoding = encoding_of(RECIPES[name])
    apart, together = instructions(encoding, 1), instructions(encoding, 1, gathered=True)
    assert together.products == apart.products  # columns of zeros for the other lanes' groups
    assert together.sums == apart.sums * (2 if name == "nf4_g64" else 1) / 4  # four runs have eight groups of 64
    assert together.instructions < apart.instructions and together.half_wide <= apart.half_wide
