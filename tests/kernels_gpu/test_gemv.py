"""The GEMV kernel in the simulator (and, marked gpu, on a device) against float64 products of decoded weights."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from datatypes.catalog import NF4
from datatypes.granularity import PerGroup
from datatypes.layer_config import TensorConfig
from datatypes.packing import pack_tensor
from hwmodel.gpu_gemv_cut import GemvCut
from kernels_gpu import ptx
from kernels_gpu.gemv_launch import allocate_result, from_quantized, gemv, packed_matrix, prepare
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_reference import tolerance

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
ONE_WARP = GemvCut(warps=1, runs=2, depth=1)


def quantized(recipe, n, k, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return quantize_randomly(torch.randn((n, k), generator=generator).to(device), RECIPES[recipe])


def random_inputs(m, k, dtype=torch.float16, device="cpu"):
    return torch.randn((m, k), generator=torch.Generator().manual_seed(m)).to(dtype).to(device)


def check(tensor, x, cut):
    """Run on a poisoned result; every element must be within its tolerance."""
    weight = from_quantized(tensor, x.device)
    dense = tensor.dequantize()
    out = allocate_result(len(x), tensor.shape[0], x).fill_(float("nan"))
    prepare(weight, x, out, shape=cut)()
    expected = x.double() @ dense.double().T
    error = (out.double() - expected).abs()
    assert (error <= tolerance(x, dense, weight.plan, expected)).all(), error.max()


# others run on a device; what sets them apart is tested by itself (test_gemv_planes.py)
NOT_SIMULATED = (
    "int5_g128",
    "int6_g128",
    "int7_g128",
    "uint6_g128",
    "e2m3_g128",
    "mxfp6",
    "e4m3",
    "e5m2_g128",
    "mxfp8",
)


@simulated
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in NOT_SIMULATED])
def test_every_encoding_with_ragged_inputs(recipe):
    check(quantized(recipe, 16, 200), random_inputs(1, 200), ONE_WARP)


@simulated
@pytest.mark.parametrize("recipe", ["bitmod3_g128", "uint2_g64"])
def test_two_warps_two_tiles_a_ring_and_ragged_rows(recipe):
    check(quantized(recipe, 18, 600), random_inputs(2, 600, torch.bfloat16), GemvCut(warps=2, runs=2, depth=2))


@simulated
@pytest.mark.parametrize("recipe", ["bitmod4_g128", "uint2_g64"])
def test_lanes_gather_four_blocks_of_one_token(recipe):
    # 600 inputs: the second stage of 512 has one group and a part of one; the second tile two rows
    check(quantized(recipe, 18, 600), random_inputs(1, 600), GemvCut(warps=2, runs=4, depth=1))


@simulated
def test_odd_rows_of_bytes_have_halves_of_sectors_swapped():
    check(quantized("int8", 16, 256), random_inputs(1, 256), ONE_WARP)


@simulated
def test_a_block_makes_the_learned_tables_of_its_second_tile():
    # the simulated device has two blocks at work, so that the first one takes rows 0 to 15 and 32
    check(quantized("learned4", 33, 128), random_inputs(1, 128), ONE_WARP)


@simulated
@pytest.mark.parametrize("recipe", ["learned3", "e5m2_g128"])
def test_a_nan_codebook_or_code_spoils_its_row(recipe):
    tensor = quantized(recipe, 16, 128)
    if tensor.codebook is None:
        tensor.codes[5, 100] = 0x7F  # of E5M2, as of E4M3: OFP8, table 1
    else:
        tensor.codebook[5, 2] = float("nan")
    x = random_inputs(1, 128)
    out = allocate_result(1, 16, x).fill_(0)
    prepare(from_quantized(tensor, "cpu"), x, out, shape=ONE_WARP)()
    assert torch.equal(out.isnan()[0], torch.arange(16) == 5)


@simulated
def test_more_tokens_than_a_tile_of_columns_and_an_odd_row_length():
    check(quantized("int4_g128", 16, 131), random_inputs(5, 131), ONE_WARP)


@simulated
@pytest.mark.parametrize("tokens", [2, 3])
def test_halves_of_blocks_are_of_two_groups_over_tiles_of_columns(tokens):
    check(quantized("nvfp4", 16, 72), random_inputs(tokens, 72), ONE_WARP)


@simulated
def test_second_level_scales_are_fetched_a_tile_ahead():
    # three tiles on two blocks: one walks on to the last tile, of a single row
    check(quantized("bitmod4_g128", 33, 128), random_inputs(2, 128), ONE_WARP)


@simulated
def test_a_nan_scale_spoils_its_row_and_a_nan_or_infinite_input_its_token():
    tensor = quantized("int4_g128", 16, 256)
    tensor.scale[5, 1] = float("nan")
    x = random_inputs(3, 256)
    x[1, 7], x[2, 200] = float("inf"), float("nan")
    expected = torch.zeros(3, 16, dtype=torch.bool)
    expected[:, 5] = expected[1] = expected[2] = True
    out = allocate_result(3, 16, x).fill_(0)
    prepare(from_quantized(tensor, "cpu"), x, out, shape=ONE_WARP)()
    assert torch.equal(out.isnan(), expected)


# as stored: binary16's, E8M0's (OCP MX 1.0, section 5.4.1) and UE4M3's, which is E4M3's without a sign
NANS = {"e8m0": 0xFF, "ue4m3": 0x7F}


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
@pytest.mark.parametrize("recipe", [name for name, config in RECIPES.items() if config.scale is not None])
def test_a_nan_scale_spoils_its_row_in_every_encoding(recipe):
    tensor = quantized(recipe, 16, 256)
    scale = RECIPES[recipe].scale.format.name
    if scale == "uint8":  # has no NaN, its row's has
        tensor.outer_scale[5] = float("nan")
    else:
        tensor.scale[5, -1] = NANS.get(scale, float("nan"))
    out = allocate_result(3, 16, random_inputs(3, 256)).fill_(0)
    prepare(from_quantized(tensor, "cpu"), random_inputs(3, 256), out, shape=ONE_WARP)()
    assert torch.equal(out.isnan(), (torch.arange(16) == 5).expand(3, 16))


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
@pytest.mark.parametrize("seed", range(16))
def test_drawn_shapes(seed):
    draw = np.random.default_rng(seed)
    recipe = list(RECIPES)[(7 * seed + 3) % len(RECIPES)]
    n, k, m = int(draw.integers(1, 34)), int(draw.integers(1, 600)), int(draw.integers(1, 17))
    cut = GemvCut(int(draw.integers(1, 3)), int(draw.choice([2, 4])), int(draw.integers(1, 4)))
    dtype = (torch.float16, torch.bfloat16)[seed % 2]
    shift = int(draw.integers(0, 4))  # inputs that begin at an odd address
    x = torch.zeros(m * k + shift, dtype=dtype)[shift:].view(m, k).copy_(random_inputs(m, k, dtype))
    check(quantized(recipe, n, k, seed=seed), x, cut)


@simulated
@pytest.mark.parametrize(
    "recipe", ["uint2_g64", "nvfp4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uint4_g128", "mxfp6"))]
)
def test_codes_zero_points_and_scales_at_their_ends(recipe):
    """Every code, the lowest and the highest zero point, scales from zero and the smallest subnormal on."""
    tensor = quantized(recipe, 4, 256)
    tensor.codes.copy_(torch.arange(4 * 256).view(4, 256) % (1 << RECIPES[recipe].formats[0].bits))
    ends = torch.arange(tensor.scale.numel()).view(tensor.scale.shape)
    if tensor.zero_point is not None:
        tensor.zero_point.copy_(ends % 2 * ((1 << RECIPES[recipe].zero_point.bits) - 1))
    if tensor.scale.dtype == torch.float16:
        tensor.scale.copy_(torch.tensor([0.0, 2.0**-24, 2.0**-14, 1.0, 60000.0])[ends % 5])
    else:  # of E8M0 2**-127 to 2**-112, of UE4M3 0 to 15 * 2**-9
        tensor.scale.copy_(ends % 16)
    check(tensor, random_inputs(2, 256, torch.bfloat16), ONE_WARP)


@simulated
def test_no_tokens_no_work_and_zeros_give_zeros():
    weight = from_quantized(quantized("int4_g128", 16, 128), "cpu")
    assert gemv(weight, torch.zeros((0, 128), dtype=torch.float16)).shape == (0, 16)
    assert torch.equal(gemv(weight, torch.zeros((1, 128), dtype=torch.float16)), torch.zeros(1, 16).half())


@simulated
def test_wrong_inputs_are_one_sentence():
    weight = from_quantized(quantized("int4_g128", 16, 128), "cpu")
    with pytest.raises(TypeError, match=r"x must be float16 or bfloat16, not torch.float32"):
        gemv(weight, torch.zeros(1, 128))
    with pytest.raises(ValueError, match=r"x must be a contiguous matrix \[m, 128\], not of shape \[1, 64\]"):
        gemv(weight, torch.zeros((1, 64), dtype=torch.float16))
    with pytest.raises(NotImplementedError, match="tokens of a decode GEMV must be at most 16, not 17"):
        gemv(weight, torch.zeros((17, 128), dtype=torch.float16))


def test_packed_arrays_are_checked():
    tensor = quantized("bitmod4_g128", 4, 128)
    arrays = pack_tensor(tensor)
    with pytest.raises(ValueError, match="codes of a packed 8 x 128 matrix must take 512 bytes, not 256"):
        packed_matrix(arrays, tensor.config, (8, 128), "cpu")
    del arrays["selector"]
    with pytest.raises(ValueError, match="must hold selector, not"):
        packed_matrix(arrays, tensor.config, (4, 128), "cpu")
    with pytest.raises(NotImplementedError, match="scales of a GPU kernel must be"):
        packed_matrix({}, TensorConfig((NF4,), PerGroup(24)), (4, 128), "cpu")


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
def test_no_device_is_one_sentence():
    weight = from_quantized(quantized("int4_g128", 16, 128), "cpu")
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there for GPU kernels"):
        gemv(weight, torch.zeros((1, 128), dtype=torch.float16))


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
def test_the_benchmark_says_so_and_exits_with_2():
    command = [sys.executable, "-m", "kernels_gpu.bench_gemv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip().count("\n") == 0 and "a CUDA device" in done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize(("n", "k"), [(16, 256), (40, 1000), (33, 4100), (100, 1061), (272, 4096)])
def test_on_a_device(recipe, n, k):
    tensor = quantized(recipe, n, k, "cuda")
    cuts = ((1, GemvCut(2, 2, 1)), (1, GemvCut(4, 4, 2)), (1, GemvCut(4, 4, 1, registers=64)), (3, GemvCut(4, 4, 2)))
    for (m, cut), dtype in zip(cuts, itertools.cycle((torch.float16, torch.bfloat16)), strict=False):
        check(tensor, random_inputs(m, k, dtype, "cuda"), cut)
    check(tensor, random_inputs(6, k, device="cuda"), None)
