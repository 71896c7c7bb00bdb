"""The dequantizer in the simulator (and, marked gpu, on a device): ``QuantizedTensor.dequantize`` bit for bit."""

import numpy as np
import pytest
import torch

from datatypes.catalog import BF16, E4M3, FP32, INTS_SYMMETRIC, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.packing import pack_tensor
from kernels_gpu import ptx
from kernels_gpu.dequantize_launch import dequantize, prepare_dequantize
from kernels_gpu.gemv_launch import allocate_result, from_quantized
from kernels_gpu.gemv_plan import ScaleKind
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
MORE = {
    "int3_fp32": TensorConfig((INTS_SYMMETRIC[3],), PerGroup(32), ScaleConfig(FP32)),
    "uint7_bf16": TensorConfig((UINTS[7],), PerGroup(32), ScaleConfig(BF16, ScaleRule.RANGE), zero_point=UINTS[7]),
}


def random_matrix(config, n, k, seed=0):
    weight = torch.randn((n, k), generator=torch.Generator().manual_seed(seed)) * 0.02
    return quantize_randomly(weight, config)


def check(tensor, dtype, device="cpu", poison=None):
    """The whole matrix, or, where there is a ``poison``, a launch on memory that is full of it."""
    weight = from_quantized(tensor, device)
    if poison is None:
        made = dequantize(weight, dtype).cpu()
    else:
        made = allocate_result(*tensor.shape, torch.empty(0, dtype=dtype, device=device)).fill_(poison)
        prepare_dequantize(weight, made)()
        made = made.cpu()
    expected = tensor.to("cpu").dequantize().to(dtype)
    assert torch.equal(made.isnan(), expected.isnan())
    assert torch.equal(made.nan_to_num(7.0), expected.nan_to_num(7.0))
    assert expected.float().std() > 0.005


@simulated
@pytest.mark.parametrize("name", [*RECIPES, *MORE])
def test_every_encoding_with_a_ragged_row(name):
    index = [*RECIPES, *MORE].index(name)
    check(
        random_matrix((RECIPES | MORE)[name], 2, (96, 101)[index % 2]), (torch.float16, torch.bfloat16)[index // 2 % 2]
    )


@simulated
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_drawn_shapes(seed):
    draw, configs = np.random.default_rng(seed), list((RECIPES | MORE).values())
    n, k = int(draw.integers(1, 6)), int(draw.integers(64, 300))
    config = configs[(7 * seed + 2) % len(configs)]
    check(random_matrix(config, n, k, seed), (torch.float16, torch.bfloat16)[seed % 2], poison=float("nan"))


@simulated
def test_every_code_of_8_bits_nan_codes_too():
    config = RECIPES["e4m3"]
    tensor = random_matrix(config, 1, 256)
    tensor.codes[0] = torch.arange(256)
    made = dequantize(from_quantized(tensor, "cpu"))
    assert made.isnan().sum() == 2 == torch.tensor(E4M3.code_values).isnan().sum()  # OFP8, table 1: 0x7F and 0xFF
    assert torch.equal(made.nan_to_num(7.0), tensor.dequantize().half().nan_to_num(7.0))


@simulated
@pytest.mark.parametrize("name", ["int4_g128", "mxfp4", "nvfp4", "bitmod3_g128"])
def test_a_nan_scale_spoils_its_group(name):
    tensor = random_matrix(RECIPES[name], 3, 256)
    group = RECIPES[name].granularity.tile((3, 256))[1]
    nan = {"mxfp4": 0xFF, "nvfp4": 0x7F}.get(name, float("nan"))  # OCP MX 1.0, section 5.4.1; UE4M3 as E4M3
    if name == "bitmod3_g128":
        tensor.outer_scale[1, 0], group = nan, 256  # scales of 8 bits have no NaN
    else:
        tensor.scale[1, 0] = nan
    expected = torch.zeros(3, 256, dtype=torch.bool)
    expected[1, :group] = True
    assert torch.equal(dequantize(from_quantized(tensor, "cpu")).isnan(), expected)


def test_scales_of_all_kinds_are_covered():
    kinds = {from_quantized(random_matrix(c, 2, 64), "cpu").plan.scale for c in (RECIPES | MORE).values()}
    assert kinds == {*ScaleKind, None}


@simulated
def test_an_empty_matrix_and_another_type():
    tensor = random_matrix(RECIPES["int4_g128"], 2, 64)
    weight = from_quantized(tensor, "cpu")
    with pytest.raises(TypeError, match=r"dtype of a dequantized matrix must be .*, not torch.float32"):
        dequantize(weight, torch.float32)
    assert set(pack_tensor(tensor)) == set(weight.arrays)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*RECIPES, *MORE])
def test_on_a_device(name):
    config = (RECIPES | MORE)[name]
    for n, k in ((4096, 4096), (1000, 1061), (33, 11008)):
        check(random_matrix(config, n, k), torch.float16, "cuda")
        check(random_matrix(config, n, k), torch.bfloat16, "cuda", poison=float("nan"))
