"""Teams of warps, each with tiles of its own: results bit for bit those of blocks that are one such team."""

import math
from dataclasses import replace

import pytest
import torch

from hwmodel.gpu_gemv_cut import GemvCut
from kernels_gpu import ptx
from kernels_gpu.gemv_branch_spec import BranchSpec
from kernels_gpu.gemv_launch import allocate_result, choose_shape, from_quantized, prepare, spec_of
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.low_rank_spec import Factor, FactorKind
from tests.kernels_gpu.test_gemv import check, quantized, random_inputs

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
slow = pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu


def product(tensor, x, cut):
    out = allocate_result(len(x), tensor.shape[0], x).fill_(math.nan)
    prepare(from_quantized(tensor, x.device), x, out, shape=cut)()
    return out


CASES = [
    # the simulated device has two blocks at work: five tiles are two turns, and three teams idle in the second
    ("learned4", 1, 65, 128, GemvCut(2, 2, 1, 1, teams=2)),
    # one tile: a team that has none stages its part of the inputs
    ("bitmod3_g128", 1, 9, 600, GemvCut(2, 4, 2, 1, teams=2)),
    # two warps of a team, of which one has no stage in the second turn
    ("bitmod4_g128", 1, 40, 1200, GemvCut(4, 4, 1, 1, teams=2)),
    ("fp4_g128", 1, 65, 600, GemvCut(2, 4, 1, 1, ahead=4, teams=2)),
    ("nvfp4", 1, 65, 600, GemvCut(2, 4, 2, 1, teams=2)),
    ("uint4_g128", 3, 65, 300, GemvCut(2, 2, 2, 1, teams=2)),
    ("e3m2_g128", 1, 33, 600, GemvCut(3, 4, 1, 1, teams=3)),
]


@simulated
@pytest.mark.parametrize(("recipe", "m", "n", "k", "cut"), CASES[:2])
def test_teams_take_tiles_of_their_own(recipe, m, n, k, cut):
    check(quantized(recipe, n, k), random_inputs(m, k), cut)


@simulated
@slow
@pytest.mark.parametrize(("recipe", "m", "n", "k", "cut"), CASES)
def test_results_are_those_of_one_team(recipe, m, n, k, cut):
    tensor, x = quantized(recipe, n, k), random_inputs(m, k)
    alone = replace(cut, warps=cut.team_warps, teams=1)
    assert torch.equal(product(tensor, x, cut), product(tensor, x, alone))


def test_teams_divide_warps_and_have_no_branch():
    with pytest.raises(ValueError, match="teams of a cut must divide its 8 warps, not 3"):
        GemvCut(8, 4, 2, teams=3)
    with pytest.raises(ValueError, match="depth of a cut must be at least 1"):
        GemvCut(8, 4, 2, teams=0)
    plan, shape = plan_of(RECIPES["nf4_g64"]), (28672, 8192)
    spec = spec_of(plan, 1, shape, GemvCut(8, 4, 2, teams=2))
    with pytest.raises(ValueError, match="teams must divide 8 warps, and be one beside a branch, not 5"):
        replace(spec, teams=5)
    branch = BranchSpec(Factor(FactorKind.FP16, shape[1]), Factor(FactorKind.FP16, 32))
    with pytest.raises(ValueError, match="be one beside a branch, not 2"):
        spec_of(plan, 1, shape, GemvCut(8, 4, 2, teams=2), branch=branch)
    assert choose_shape(plan, 1, *shape).teams == 2 and choose_shape(plan, 1, *shape, branch=branch).teams == 1


def test_every_thread_stages_as_many_inputs_and_every_team_has_tables_of_its_own():
    plan, shape = plan_of(RECIPES["learned4"]), (4096, 1024)
    one, four = (spec_of(plan, 1, shape, GemvCut(8, 4, 1, teams=teams)) for teams in (1, 4))
    # by hand: two stages of 512 inputs; eight warps stage 4096 of them, four each time 8 x 32 threads take eight
    assert (one.slots, four.slots, one.all_runs, four.all_runs) == (1, 1, 32, 16)
    assert four.inputs_at - one.inputs_at == 3 * 2 * 16 * one.learned_pitch


# what is launched where teams measured best (kernels_gpu/NOTES.md, "Teams"), with whole and with ragged rows
LAUNCHED = [
    ("int3_g128", 28672, 8192), ("bitmod3_g128", 22016, 4096), ("nf3_g64", 28672, 8192), ("nf4_g64", 28672, 8192),
    ("nf4_g64", 22016, 4096), ("learned4", 4096, 4096), ("learned4", 28672, 8192), ("nvfp4", 28672, 8192),
    ("e3m2_g128", 28672, 8192),
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("recipe", "n", "k"), LAUNCHED)
@pytest.mark.parametrize("less", [0, 5])
def test_on_a_device(recipe, n, k, less):
    check(quantized(recipe, n - less, k, "cuda"), random_inputs(1, k, device="cuda"), None)
