"""Codes decoded before the inputs come: twice their values, and results bit for bit those of codes decoded later."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP4, FP4, FP16, UINT8, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.packing import pack
from hwmodel.gpu_gemv_cut import GemvCut
from kernels_gpu import ptx
from kernels_gpu.disassembly import ToolsMissing, find_tool
from kernels_gpu.gemv_ahead import doubled
from kernels_gpu.gemv_ahead_spec import seven_bit_plan
from kernels_gpu.gemv_branch_spec import BranchSpec
from kernels_gpu.gemv_launch import allocate_result, from_quantized, prepare, spec_of
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.low_rank_spec import Factor, FactorKind

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
# groups of 64: two of a lane's four blocks are of one group
SHORT = {
    "fp4_g64": TensorConfig((FP4,), PerGroup(64), ScaleConfig(FP16)),
    "bitmod4_g64": TensorConfig(BITMOD_FP4, PerGroup(64), ScaleConfig(UINT8, outer=FP16)),
    "bitmod4_g32": TensorConfig(BITMOD_FP4, PerGroup(32), ScaleConfig(UINT8, outer=FP16)),
    "uint4_g32": TensorConfig((UINTS[4],), PerGroup(32), ScaleConfig(FP16, rule=ScaleRule.RANGE), zero_point=UINTS[4]),
}
GATHERED = GemvCut(1, 4, 1)
slow = pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu


def product(config, cut, n, k):
    generator = torch.Generator().manual_seed(n)
    tensor = quantize_randomly(torch.randn((n, k), generator=generator), config)
    x = torch.randn((1, k), generator=generator).half()
    out = allocate_result(1, n, x).fill_(math.nan)
    prepare(from_quantized(tensor, "cpu"), x, out, shape=cut)()
    return out


@simulated
@pytest.mark.parametrize(
    ("recipe", "ahead"),
    [
        ("fp4_g128", 4),
        ("bitmod4_g64", 1),
        ("nvfp4", 2),
        ("mxfp4", 4),
        *(pytest.param("fp4_g64", ahead, marks=slow) for ahead in (1, 2, 3, 4)),
        *(pytest.param("bitmod4_g128", ahead, marks=slow) for ahead in (2, 4)),
        *(pytest.param(name, 4, marks=slow) for name in ("int4_g128", "uint4_g128", "nvfp4", "uint4_g32")),
        pytest.param("mxfp4", 2, marks=slow),
    ],
)
def test_results_are_those_without_bit_for_bit(recipe, ahead):
    config = {**RECIPES, **SHORT}[recipe]
    n, k = 9, 332  # ragged rows and inputs
    assert torch.equal(product(config, replace(GATHERED, ahead=ahead), n, k), product(config, GATHERED, n, k))


@simulated
@slow
@pytest.mark.parametrize(
    ("cut", "k"), [(GATHERED, 588), (replace(GATHERED, warps=2), 72), (replace(GATHERED, warps=2, depth=2), 600)]
)
def test_a_block_goes_on_to_other_stages_and_tiles_and_a_warp_may_have_none(cut, k):
    # the simulated device has two blocks at work, so that the first one takes rows 0 to 15 and 32
    config, n = RECIPES["fp4_g128"], 33
    assert torch.equal(product(config, replace(cut, ahead=4), n, k), product(config, cut, n, k))


@simulated
@pytest.mark.parametrize("formats", [(FP4,), *((fmt,) for fmt in BITMOD_FP4)])
def test_every_code_becomes_twice_its_value(formats):
    plan = plan_of(TensorConfig(formats, PerGroup(128), ScaleConfig(FP16)))
    codes = np.random.default_rng(4).permutation(np.arange(32) % 16)
    made = doubled(tuple(pack(codes[None], 4)[0]), seven_bit_plan(plan).tables[0])
    values = np.array(made, np.uint32).view(np.int8) * plan.step / 2
    assert np.array_equal(values, np.asarray(formats[0].code_values)[codes])


def test_entries_have_their_top_bit_clear_and_candidates_differ_in_a_byte_of_a_word():
    found = seven_bit_plan(plan_of(RECIPES["bitmod4_g128"]))
    assert all(word & 0x80808080 == 0 for words in found.tables for word in words)
    assert len(found.tables) == 4 and found.patched_bytes is not None


def spec_with(name, ahead, runs=4, tokens=1, branch=None):
    return spec_of(plan_of(RECIPES[name]), tokens, (64, 512), GemvCut(1, runs, 1, ahead=ahead), branch=branch)


def test_what_cannot_be_decoded_ahead_is_one_sentence():
    with pytest.raises(ValueError, match="ahead must be 0, or up to 4 with 4 runs, not 2 of 2"):
        spec_with("fp4_g128", 2, runs=2)
    with pytest.raises(ValueError, match="ahead must be 0, or up to 4 with 4 runs, not 5 of 4"):
        spec_with("fp4_g128", 5)
    with pytest.raises(NotImplementedError, match="groups of mixtures decoded ahead must be of at least 64 codes"):
        spec_of(plan_of(SHORT["bitmod4_g32"]), 1, (64, 512), GemvCut(1, 4, 1, ahead=4))
    with pytest.raises(NotImplementedError, match="decodes ahead must be 1, without a branch, not 2"):
        spec_with("fp4_g128", 4, tokens=2)
    with pytest.raises(NotImplementedError, match="without a branch, not 1"):
        factors = Factor(FactorKind.FP16, 512), Factor(FactorKind.FP16, 32)
        spec_with("int4_g128", 4, branch=BranchSpec(*factors))
    for name in ("nf4_g64", "learned4", "bitmod3_g128", "int8"):
        with pytest.raises(NotImplementedError, match="ahead must be of 4 bits with values of one digit up to 63"):
            spec_with(name, 4)
    with pytest.raises(ValueError, match="blocks, registers and ahead at least 0"):
        GemvCut(1, 2, 1, ahead=-1)


LOOKUPS = """
from hwmodel.gpu_gemv_cut import GemvCut
from kernels_gpu import gemv
from kernels_gpu.disassembly import compile_case, disassemble
from kernels_gpu.gemv_launch import spec_of
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.kernel_cases import Case

for ahead in (0, 4):
    spec = spec_of(plan_of(RECIPES["fp4_g128"]), 1, (4096, 4096), GemvCut(8, 4, 2, 1, ahead=ahead))
    kernel = disassemble(compile_case(Case("", lambda: gemv.make_body(spec), gemv.ARGUMENTS, "", 1), (9, 0)), (9, 0))
    names = [one.name for one in kernel.instructions]
    print(names[names.index("ACQBULK") :].count("PRMT"), kernel.spill_bytes, kernel.registers)
"""


@slow
def test_lookups_stand_before_the_wait_in_registers_of_which_two_kernels_have_enough():
    try:
        find_tool("ptxas"), find_tool("nvdisasm")
    except ToolsMissing as missing:
        pytest.skip(str(missing))
    made = subprocess.run(
        [sys.executable, "-c", LOOKUPS],
        capture_output=True, text=True, env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}, check=True,
    )  # fmt: skip
    without, ahead = (list(map(int, line.split())) for line in made.stdout.splitlines())
    assert without[:2] == ahead[:2] and ahead[1] == 0  # those behind the wait are the inputs' own
    assert ahead[2] * 2 * 8 * 32 <= 65536


def test_values_of_eight_bits_have_no_table_of_seven():
    plan = plan_of(RECIPES["fp4_g128"])
    assert seven_bit_plan(replace(plan, tables=((0x7F, 0, 0, 0),))) is None  # t of 127 beside u of 0: 127
    assert seven_bit_plan(plan) is not None
