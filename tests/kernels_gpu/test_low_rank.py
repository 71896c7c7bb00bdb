"""Thin products in the simulator (and, marked gpu, on a device) against float64 products of the decoded factors."""

import numpy as np
import pytest
import torch

from codesign.algorithms.lqer import mxint_config
from datatypes.catalog import BF16, FP16, FP32, INTS_SYMMETRIC, NF4
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from kernels_gpu import ptx
from kernels_gpu.gemv_launch import allocate_result
from kernels_gpu.gemv_reference import HALF_STEP, SMALLEST
from kernels_gpu.low_rank_launch import DeviceFactor, dense_factor, device_factor, prepare_columns, prepare_low_rank
from kernels_gpu.low_rank_reference import columns_product, low_rank, sums_tolerance
from kernels_gpu.low_rank_spec import Factor, FactorKind, Source, Target, ThinSpec, factor_of, thin_cut

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
CONFIGS = {
    "fp16": TensorConfig((FP16,), scale=None),
    "bf16": TensorConfig((BF16,), scale=None),
    "int8_g128": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), ScaleConfig(FP16)),
    "int8_row": TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32)),
    "mxint8": mxint_config(8),
}


def random(shape, seed, dtype=torch.float32, device="cpu"):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device)


def random_result(m, n, dtype, device):
    return allocate_result(m, n, torch.empty(0, dtype=dtype, device=device)).copy_(random((m, n), 3, dtype, device))


def check_branch(config, n, k, rank, m, dtype=torch.float16, device="cpu", visible=0.05):
    """A x, then y += B t, on a random y and poisoned partial sums; every element within its tolerance."""
    a, b = (quantize_tensor(random(s, i), config) for i, s in enumerate(((rank, k), (n, rank))))
    x, y = random((m, k), 2, dtype, device), random_result(m, n, dtype, device)
    start = y.double().cpu().numpy()
    first, second = prepare_low_rank(device_factor(a, device), device_factor(b, device), x, y)
    first.arguments[4].fill_(float("nan"))
    first()
    second()
    decoded = a.dequantize().numpy(), b.dequantize().numpy()
    added = low_rank(*decoded, x.float().cpu().numpy())
    absolute = low_rank(np.abs(decoded[0]), np.abs(decoded[1]), np.abs(x.float().cpu().numpy()))
    expected = start + added
    allowed = sums_tolerance(absolute, k + rank + 6) + np.abs(expected) * HALF_STEP[dtype] + SMALLEST[dtype]
    error = np.abs(y.double().cpu().numpy() - expected)
    assert (error <= allowed).all(), (error / allowed).max()
    assert (allowed < visible * np.abs(added).mean()).all()  # a wrong scale or token would be seen


@simulated
@pytest.mark.parametrize(
    ("config", "n", "k", "rank", "m", "dtype"),
    [
        ("fp16", 6, 304, 8, 2, torch.float16),
        ("fp16", 9, 75, 5, 1, torch.float16),  # rows that are no multiples of eight
        ("bf16", 5, 168, 8, 1, torch.bfloat16),
        ("int8_g128", 6, 140, 8, 3, torch.float16),
        ("int8_row", 7, 131, 6, 1, torch.bfloat16),
        ("mxint8", 5, 136, 10, 1, torch.float16),
    ],
)
def test_a_branch_is_added(config, n, k, rank, m, dtype):
    check_branch(CONFIGS[config], n, k, rank, m, dtype)


@simulated
@pytest.mark.slow  # NUMBA_ENABLE_CUDASIM=1 pytest -m slow tests/kernels_gpu
@pytest.mark.parametrize("seed", range(10))
def test_drawn_branches_and_columns(seed):
    draw = np.random.default_rng(seed)
    n, k, rank, m = (int(draw.integers(1, most)) for most in (20, 300, 40, 17))
    dtype = (torch.float16, torch.bfloat16)[seed % 2]
    check_branch(list(CONFIGS.values())[seed % len(CONFIGS)], n, k, rank, m, dtype, visible=float("inf"))
    count = int(draw.integers(1, k + 1))
    kind = (torch.float16, torch.bfloat16, torch.float32)[seed % 3]
    check_columns(n, k, count, m, dtype, kind, (torch.int16, torch.int32)[seed // 2 % 2])


@simulated
def test_a_nan_scale_of_b_spoils_its_row_and_one_of_a_everything_that_reads_its_rank():
    a, b = (quantize_tensor(random(s, i), CONFIGS["mxint8"]) for i, s in enumerate(((8, 64), (6, 8))))
    b.scale[4, 0] = 255  # NaN of E8M0: OCP MX 1.0, section 5.4.1
    x = random((1, 64), 2, torch.float16)
    for spoil, expected in ((False, [False, False, False, False, True, False]), (True, [True] * 6)):
        if spoil:
            a.scale[3, 1] = 255
        y = torch.zeros(1, 6, dtype=torch.float16)
        for launch in prepare_low_rank(device_factor(a, "cpu"), device_factor(b, "cpu"), x, y):
            launch()
        assert y.isnan()[0].tolist() == expected


def check_columns(n, k, count, m, dtype=torch.float16, kind=torch.float16, index=torch.int16, device="cpu"):
    generator = torch.Generator().manual_seed(count)
    columns = torch.randperm(k, generator=generator)[:count].sort().values
    values, x = random((n, count), 1, kind), random((m, k), 2, dtype, device)
    y = random_result(m, n, dtype, device)
    start = y.double().cpu().numpy()
    stored = columns.to(index).to(device)
    prepare_columns(dense_factor(values, device), stored, x, y)()
    given = values.float().numpy(), columns.numpy(), x.float().cpu().numpy()
    expected = start + columns_product(*given)
    absolute = columns_product(np.abs(given[0]), given[1], np.abs(given[2]))
    allowed = sums_tolerance(absolute, count + 1) + np.abs(expected) * HALF_STEP[dtype] + SMALLEST[dtype]
    assert (np.abs(y.double().cpu().numpy() - expected) <= allowed).all()


@simulated
@pytest.mark.parametrize(
    ("n", "k", "count", "m", "dtype", "kind", "index"),
    [
        (9, 100, 16, 2, torch.float16, torch.float16, torch.int16),
        (4, 70, 41, 1, torch.bfloat16, torch.float16, torch.int32),
        (2, 1200, 600, 1, torch.float16, torch.float32, torch.int16),  # more than a round of columns
        (2, 40000, 3, 1, torch.float16, torch.float16, torch.int16),  # indices above 32767
    ],
)
def test_columns_are_added(n, k, count, m, dtype, kind, index):
    check_columns(n, k, count, m, dtype, kind, index)


def test_every_column_is_covered_once():
    for kind in FactorKind:
        for columns in (1, 5, 8, 33, 64, 500, 4096, 11008, 28673):
            factor = Factor(kind, columns)
            for lanes, splits in ((8, 1), (32, 8)):
                used, loads, rounds, parts = thin_cut(factor, most_lanes=lanes, splits=splits)
                covered = used * loads * factor.unit * rounds
                assert used <= lanes and parts <= splits and loads * factor.words <= 16
                assert covered * parts >= columns > covered * (parts - 1)


def test_encodings_without_a_kernel_and_splits_of_added_results_are_refused():
    for config in (TensorConfig((NF4,), PerGroup(64)), TensorConfig((INTS_SYMMETRIC[8],), PerGroup(12))):
        with pytest.raises(NotImplementedError, match="a factor of the GPU kernels must be fp16, bf16, fp32, or"):
            factor_of(config, 64)
    with pytest.raises(ValueError, match="splits must be 1 where results are added to y, not 2"):
        ThinSpec(Factor(FactorKind.FP16, 64), 1, 8, 1, 1, 2, 32, Source.SUMS, Target.ADDED, 1)
    with pytest.raises(ValueError, match="codes and scale of a factor 4 x 64 must take 512 and 0 bytes, not 256"):
        DeviceFactor(Factor(FactorKind.FP16, 64), 4, torch.zeros((2, 64), dtype=torch.float16))
    a, b = dense_factor(torch.zeros(8, 64).half(), "cpu"), dense_factor(torch.zeros(5, 7).half(), "cpu")
    with pytest.raises(ValueError, match=r"factors of a branch must be \[rank, 64\] and \[5, rank\], not \[8, 64\] "):
        prepare_low_rank(a, b, torch.zeros(1, 64).half(), torch.zeros(1, 5).half())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", list(CONFIGS))
def test_on_a_device(config):
    for n, k, rank, m in ((4096, 4096, 32, 1), (1000, 4100, 8, 3), (333, 11008, 64, 16)):
        # worst-case bounds of sums grow with k, results with its root
        check_branch(CONFIGS[config], n, k, rank, m, torch.float16, "cuda", visible=0.5)
    check_columns(1000, 4100, 41, 5, device="cuda")
    check_columns(4096, 28672, 288, 1, torch.bfloat16, torch.float32, torch.int32, "cuda")
