"""The prefill GEMM in the simulator (and, marked gpu, on a device) against float64 products of decoded weights."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP4, FP16, FP32, INTS_SYMMETRIC, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from hwmodel.gpu_gemv_cut import LAUNCHED
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import H100
from hwmodel.gpu_tiles_cut import TILE_CUTS, choose_tile_cut
from hwmodel.gpu_tiles_decode import LOOKED_UP, Lookup, in_halves
from kernels_gpu import ptx
from kernels_gpu.compile_ahead import Ahead, compile_all, kept_ptx
from kernels_gpu.gemm import ARGUMENTS, make_body, moved_granules
from kernels_gpu.gemm_launch import CUTS, choose_cut, gemm, most_tile_tokens, padded_inputs, prepare_gemm, rule, spec_of
from kernels_gpu.gemm_reference import tolerance
from kernels_gpu.gemm_spec import GemmSpec
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_reference import HALF_STEP
from kernels_gpu.native import MAX_SHARED_BYTES, shared_limit

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
ONE_WARP = (1, 1, 1, 2)
TILED = [name for name in RECIPES if not name.startswith("learned")]


def quantized(config, n, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return quantize_randomly(torch.randn((n, k), generator=generator), config)


def random_inputs(m, k, dtype=torch.float16):
    return torch.randn((m, k), generator=torch.Generator().manual_seed(m)).to(dtype)


def errors(tensor, x, made, visible=100):
    """Each error over its tolerance; ``visible``: half steps of the mean result that tolerances stay below."""
    dense, x = tensor.dequantize().cpu(), x.cpu()
    expected = x.double() @ dense.double().T
    allowed = tolerance(x, dense, plan_of(tensor.config), expected)
    # a wrong scale or token would be seen
    assert (allowed < visible * HALF_STEP[x.dtype] * expected.abs().mean()).all()
    return ((made.double().cpu() - expected).abs() / allowed).nan_to_num(nan=float("inf"))


def check(tensor, m, cut, device="cpu", visible=100):
    """Run the tile kernel on a poisoned result; every element must be within its tolerance."""
    x = random_inputs(m, tensor.shape[1])
    out = allocate_result(m, tensor.shape[0], x.to(device)).fill_(float("nan"))
    prepare_gemm(from_quantized(tensor, device), padded_inputs(x.to(device)), out, cut=cut)()
    assert errors(tensor, x, out, visible).max() <= 1


# others run marked slow, or on a device
SIMULATED_RECIPES = (
    "uint4_g128", "nf4_g64", "nf3_g64", "int8", "nvfp4", "e2m3_g128",
)  # fmt: skip


@simulated
@pytest.mark.parametrize(
    "recipe", [n if n in SIMULATED_RECIPES else pytest.param(n, marks=pytest.mark.slow) for n in TILED]
)
def test_every_encoding_with_ragged_rows_tokens_and_inputs(recipe):
    check(quantized(RECIPES[recipe], 13, 101), 3, ONE_WARP)


HALVES_APART = {
    "mixture": TensorConfig(BITMOD_FP4, PerGroup(16), ScaleConfig(FP16)),
    "zero_point": TensorConfig((UINTS[4],), PerGroup(16), ScaleConfig(FP16, rule=ScaleRule.RANGE), zero_point=UINTS[4]),
}


@simulated
@pytest.mark.parametrize("name", HALVES_APART)
def test_halves_of_a_block_have_candidates_and_zero_points_of_their_own(name):
    check(quantized(HALVES_APART[name], 9, 72), 3, ONE_WARP)


@simulated
@pytest.mark.parametrize(
    ("recipe", "n", "k", "m", "cut"),
    [
        ("uint4_g128", 20, 130, 9, (2, 2, 1, 2)),  # two row warps, two tiles of tokens
        ("bitmod3_g128", 16, 520, 3, (1, 1, 2, 2)),  # two warps share rows, and one has no part of the last stage
        ("mxfp4", 5, 520, 2, (1, 1, 1, 3)),  # three stages, all under way
        ("int4_g128", 16, 37, 3, (1, 2, 1, 2)),  # whole tiles of rows, but none for the second row warp
    ],
)
def test_cuts_of_the_work(recipe, n, k, m, cut):
    check(quantized(RECIPES[recipe], n, k), m, cut)


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
@pytest.mark.parametrize("seed", range(12))
def test_drawn_shapes(seed):
    draw = np.random.default_rng(seed)
    recipe = TILED[(7 * seed + 1) % len(TILED)]
    n, k, m = int(draw.integers(1, 50)), int(draw.integers(1, 560)), int(draw.integers(1, 20))
    cut = [ONE_WARP, (2, 2, 1, 2), (1, 1, 2, 2), (1, 1, 1, 3), (1, 3, 1, 2)][seed % 5]
    check(quantized(RECIPES[recipe], n, k, seed), m, cut, visible=float("inf"))


def test_a_load_of_inputs_meets_all_banks_and_pairs_of_granules_stay_in_their_sector():
    place = moved_granules.fn if ptx.SIMULATED else moved_granules.py_func
    for granule, first_token, run in itertools.product(range(4), (0, 2, 4, 6), (0, 1)):
        banks = set()
        for token, lane in itertools.product((first_token, first_token + 1), range(4)):
            block = 4 * run + lane
            moved = granule ^ int(place(np.uint32(token), np.uint32(block)))
            assert moved // 2 == (granule ^ 1 ^ int(place(np.uint32(token), np.uint32(block)))) // 2
            banks.add((4 * block + moved) % 8)  # of 16 bytes; a token's inputs are a multiple of 128 bytes
        assert len(banks) == 8


@simulated
def test_a_nan_scale_spoils_its_row_and_a_nan_input_its_token():
    tensor = quantized(RECIPES["mxfp4"], 9, 64)
    tensor.scale[5, 1] = 255  # NaN of E8M0: OCP MX 1.0, section 5.4.1
    x = random_inputs(9, 64)  # two blocks of tokens
    x[8, 7] = float("nan")
    out = allocate_result(9, 9, x).fill_(0)
    prepare_gemm(from_quantized(tensor, "cpu"), x, out, cut=ONE_WARP)()
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[:, 5] = expected[8] = True
    assert torch.equal(out.isnan(), expected)


@simulated
@pytest.mark.parametrize("exponent", [-14, 17])
def test_powers_of_two_that_are_no_halves_scale_as_they_should(exponent):
    tensor = quantized(RECIPES["mxfp4"], 4, 32)
    tensor.scale.fill_(127 + exponent)  # weights of up to 6 * 2**exponent
    x = random_inputs(1, 32) * 2.0**-exponent * 2.0**-4 if exponent > 0 else random_inputs(1, 32)
    out = allocate_result(1, 4, x).fill_(float("nan"))
    prepare_gemm(from_quantized(tensor, "cpu"), x.half(), out, cut=ONE_WARP)()
    values = tensor.dequantize().half().double()  # of 17, infinite ones among them
    expected = x.half().double() @ values.T
    if exponent > 0:
        assert torch.equal(out.isfinite(), expected.isfinite()) and not out.isfinite().any()
    else:
        assert ((out.double() - expected).abs() <= 2.0**-10 * expected.abs() + 2.0**-24).all()


@simulated
def test_the_library_takes_what_has_no_tile_kernel():
    for recipe, m, dtype in (("learned4", 17, torch.float16), ("int4_g128", 17, torch.bfloat16)):
        tensor, x = quantized(RECIPES[recipe], 6, 64), random_inputs(m, 64, dtype)
        assert errors(tensor, x, gemm(from_quantized(tensor, "cpu"), x)).max() <= 1
    tensor, x = quantized(RECIPES["int4_g128"], 6, 64), random_inputs(2, 64)
    assert gemm(from_quantized(tensor, "cpu"), x).shape == (2, 6)  # by the GEMV
    with pytest.raises(ValueError, match=r"x must be a contiguous matrix \[m, 64\], not of shape \[2, 32\]"):
        gemm(from_quantized(tensor, "cpu"), random_inputs(2, 32))


def test_the_rule():
    int4, learned = plan_of(RECIPES["int4_g128"]), plan_of(RECIPES["learned3"])
    fp32_scales = plan_of(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(64), ScaleConfig(FP32)))
    square, long = (4096, 4096), (28672, 8192)
    assert [rule(int4, m, torch.float16, square) for m in (0, 16, 17, 128, 129)] == [
        "gemv",
        "gemv",
        "tiles",
        "tiles",
        "library",
    ]
    # two digits, groups of 16 and 32 decoded by bytes: the measured rows cross between 64 and 128 tokens
    for slow in ("nf3_g64", "mxfp8", "mxfp6"):
        plan = plan_of(RECIPES[slow])
        assert most_tile_tokens(plan) == 64
        assert [rule(plan, m, torch.float16, square) for m in (17, 64, 65)] == ["tiles", "tiles", "library"]
    for fast in ("bitmod4_g128", "bitmod3_g128", "int8", "e4m3_g128", "uint2_g64", "nf4_g64", "mxfp4", "nvfp4"):
        assert most_tile_tokens(plan_of(RECIPES[fast])) == 128
    assert rule(int4, 64, torch.bfloat16, square) == rule(learned, 64, torch.float16, square) == "library"
    assert rule(fp32_scales, 64, torch.float16, square) == "library"
    # groups of 16 and 32 leave the GEMV before; the others where it would read the weight again (16 tokens of 8192)
    nvfp4, mxfp4 = plan_of(RECIPES["nvfp4"]), plan_of(RECIPES["mxfp4"])
    assert [rule(nvfp4, m, torch.float16, square) for m in (5, 6, 16)] == ["gemv", "tiles", "tiles"]
    assert [rule(mxfp4, m, torch.float16, square) for m in (6, 7, 16)] == ["gemv", "tiles", "tiles"]
    nf4, mxfp8 = plan_of(RECIPES["nf4_g64"]), plan_of(RECIPES["mxfp8"])
    assert [rule(nf4, m, torch.float16, square) for m in (8, 9, 16)] == ["gemv", "tiles", "tiles"]
    assert [rule(mxfp8, m, torch.float16, square) for m in (11, 12, 16)] == ["gemv", "tiles", "tiles"]
    assert [rule(int4, m, torch.float16, long) for m in (1, 8, 16)] == ["gemv", "gemv", "tiles"]
    assert rule(plan_of(RECIPES["bitmod4_g128"]), 16, torch.float16, long) == "gemv"
    assert rule(int4, 16, torch.bfloat16, long) == rule(nvfp4, 16, torch.bfloat16, square) == "gemv"
    weight = from_quantized(quantized(RECIPES["learned3"], 4, 64), "cpu")
    with pytest.raises(NotImplementedError, match="scales that are halves, not learned codebooks"):
        prepare_gemm(weight, random_inputs(17, 64), allocate_result(17, 4, random_inputs(1, 1)))


def test_every_shape_has_a_cut_that_fits_and_fills_the_device():
    for recipe in TILED:
        plan = plan_of(RECIPES[recipe])
        for shape in ((4096, 4096), (11008, 4096), (28672, 8192), (48, 131)):
            for m in (17, 32, 64, 128):
                cut = choose_cut(RECIPES[recipe], m, shape)
                assert cut in CUTS and spec_of(plan, shape, cut).shared_bytes <= MAX_SHARED_BYTES
        spec = spec_of(plan, (4096, 4096), choose_cut(RECIPES[recipe], 32, (4096, 4096)))
        assert 4096 // spec.rows * -(-32 // spec.tokens) >= 64  # at least half of 132 multiprocessors
    # measured: six tiles of tokens on 128 rows, 258 blocks in two turns, beat eight on 64 rows in three (NOTES.md)
    assert choose_cut(RECIPES["int8"], 128, (11008, 4096)) == choose_cut(RECIPES["int4_g128"], 128, (11008, 4096))
    with pytest.raises(NotImplementedError, match="shared memory of a block must hold a stage"):
        choose_cut(RECIPES[recipe], 64, (4096, 4096), 1024)
    with pytest.raises(
        ValueError, match="depth must be at least 2, warps 1 to 32 and token_tiles at least 1, not 1, 1"
    ):
        GemmSpec(plan, 64, 1, 1, 1, 1, True)


MANY_INPUTS_VISIBLE = 400  # half steps: worst-case bounds of sums grow with k, results with its root


# whole blocks of rows; whole tiles of rows but no whole block, for most cuts; neither
DEVICE_SHAPES = ((4096, 4096), (1040, 1061), (33, 4100))
TURNS = 8  # a kernel takes seconds to compile: of the cuts an encoding takes one in so many, at each shape others


def earlier_cut(config, m, shape, lookup):
    """What ``choose_cut`` says of a kernel that decoded floats of four bits in another way."""
    chosen, _ = choose_tile_cut(
        encoding_of(config), (m, *shape), weight_bytes=config.storage_bits(shape).total / 8,
        shared_limit=MAX_SHARED_BYTES, gpu=H100, copy_bytes_per_s=H100.dram.bytes_per_s * COPY_SHARE,
        cuts=[replace(cut, lookup=lookup) for cut in TILE_CUTS],
    )  # fmt: skip
    return chosen.token_tiles, chosen.row_warps, chosen.k_warps, chosen.depth


def test_the_chosen_cuts_are_close_to_the_best_that_were_measured():
    # every cut of four encodings, three shapes and four numbers of tokens on an H100, by bench_gemm --explore
    folder, found = Path(__file__).parents[2] / "kernels_gpu" / "measurements", {}
    for name in ("gemm_h100.json", "gemm_cuts_h100.json"):
        for record in json.loads((folder / name).read_text()):
            cut = record["conditions"]["way or cut"]
            if record["name"].endswith(" tiles") and record["conditions"].get("ring") == LAUNCHED.value:
                lookup = Lookup(record["conditions"].get("lookup", "bytes"))
                key = (record["name"].removesuffix(" tiles"), *record["shape"], lookup)
                found.setdefault(key, {}).setdefault(cut, []).append(record["seconds"])
    lost = []
    for (recipe, m, k, n, lookup), times in found.items():
        if len(times) >= 3:
            best = {cut: min(seconds) for cut, seconds in times.items()}
            chosen = choose_cut(RECIPES[recipe], m, (n, k))
            if lookup is not LOOKED_UP and in_halves(
                encoding_of(RECIPES[recipe]), LOOKED_UP
            ):  # as the launcher of that day chose
                chosen = earlier_cut(RECIPES[recipe], m, (n, k), lookup)
            lost.append(best["x".join(map(str, chosen))] / min(best.values()))
    assert len(lost) == 4 * 3 * 4 and sum(lost) / len(lost) < 1.005 and max(lost) < 1.07


def cuts_in_turn(recipe, shape, limit):
    """Cuts that are run for an encoding at one of ``DEVICE_SHAPES``: every one that fits, for int4_g128."""
    plan = plan_of(RECIPES[recipe])
    first = TILED.index(recipe) + DEVICE_SHAPES.index(shape)
    cuts = CUTS if recipe == "int4_g128" else [cut for i, cut in enumerate(CUTS) if (i - first) % TURNS == 0]
    return [cut for cut in cuts if spec_of(plan, shape, cut).shared_bytes <= limit]


def test_encodings_take_turns_at_all_cuts():
    for shape in DEVICE_SHAPES:
        taken = [cut for recipe in TILED if recipe != "int4_g128" for cut in cuts_in_turn(recipe, shape, 1 << 20)]
        assert set(taken) == set(CUTS) and len(taken) == (len(TILED) - 1) * len(CUTS) // TURNS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", TILED)
def test_on_a_device(recipe):
    plan, limit = plan_of(RECIPES[recipe]), shared_limit(torch.device("cuda", torch.cuda.current_device()))
    cuts = {shape: cuts_in_turn(recipe, shape, limit) for shape in DEVICE_SHAPES}
    chosen = {shape: choose_cut(RECIPES[recipe], 17, shape, limit) for shape in DEVICE_SHAPES}
    specs = {spec_of(plan, shape, cut) for shape in DEVICE_SHAPES for cut in (*cuts[shape], chosen[shape])}
    with kept_ptx():
        # each process that compiles has a context on the device, and so has each that tests
        beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        compile_all([Ahead(make_body, ARGUMENTS, spec) for spec in specs], max(1, (os.cpu_count() or 1) // beside))
        for n, k in DEVICE_SHAPES:
            tensor = quantized(RECIPES[recipe], n, k)
            for cut in cuts[n, k]:
                check(tensor, 100, cut, "cuda", MANY_INPUTS_VISIBLE)
            few = [m for m in (12,) if rule(plan, m, torch.float16, (n, k), limit) == "tiles"]
            for m in (*few, 17, 600):  # by the tile kernel, and by the library
                x = random_inputs(m, k)
                made = gemm(from_quantized(tensor, "cuda"), x.cuda())
                assert errors(tensor, x, made, MANY_INPUTS_VISIBLE).max() <= 1
