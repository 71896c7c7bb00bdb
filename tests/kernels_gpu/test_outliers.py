"""Compressed rows in the simulator (and, marked gpu, on a device) against float64 sums."""

import numpy as np
import pytest
import torch

from kernels_gpu import ptx
from kernels_gpu.gemv_launch import allocate_result
from kernels_gpu.gemv_reference import HALF_STEP, SMALLEST
from kernels_gpu.low_rank_reference import csr_product, sums_tolerance
from kernels_gpu.outliers import CsrSpec, row_blocks
from kernels_gpu.outliers_launch import ELEMENTS, choose_elements, device_outliers, prepare_outliers

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")


def random_rows(counts, k, seed=0, dtype=torch.float16):
    """Values, columns and pointers of rows with so many outliers."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randperm(k, generator=generator)[:count].sort().values for count in counts]
    pointers = torch.tensor([0, *counts]).cumsum(0)
    return torch.randn(sum(counts), generator=generator).to(dtype), torch.cat(columns), pointers


def check(counts, k, m, dtype=torch.float16, kind=torch.float16, device="cpu", block_elements=None):
    """Add to random results; every element within its tolerance, rows without outliers unchanged."""
    values, columns, pointers = random_rows(counts, k, dtype=kind)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((m, k), generator=generator).to(dtype).to(device)
    y = allocate_result(m, len(counts), x)
    y.copy_(torch.randn((m, len(counts)), generator=generator))
    start = y.double().cpu().numpy()
    shape = (len(counts), k)
    placed = device_outliers(values, columns, pointers, shape, device, block_elements=block_elements)
    prepare_outliers(placed, x, y)()
    given = columns.numpy(), pointers.numpy(), x.float().cpu().numpy()
    expected = start + csr_product(values.float().numpy(), *given)
    absolute = csr_product(values.abs().float().numpy(), *given[:2], np.abs(given[2]))
    allowed = sums_tolerance(absolute, max(counts) + 2) + np.abs(expected) * HALF_STEP[dtype] + SMALLEST[dtype]
    made = y.double().cpu().numpy()
    assert (np.abs(made - expected) <= allowed).all()
    empty = np.array(counts) == 0
    assert (made[:, empty] == start[:, empty]).all()


@simulated
@pytest.mark.parametrize(
    ("counts", "k", "m", "dtype", "kind"),
    [
        ([3, 0, 20, 7, 1, 0, 0, 40, 2, 5, 11, 0], 60, 1, torch.float16, torch.float16),
        ([0, 150, 2], 160, 3, torch.bfloat16, torch.float16),  # a row of three rounds
        ([9, 70, 0], 70000, 1, torch.float16, torch.float32),  # columns of 32 bits
        ([5, 6], 60000, 2, torch.float16, torch.float16),  # columns above 32767 in 16 bits
        ([0, 0], 16, 1, torch.float16, torch.float16),
    ],
    ids=["uneven rows", "a long row", "float32 values", "wide rows", "none"],
)
def test_outliers_are_added(counts, k, m, dtype, kind):
    check(counts, k, m, dtype, kind)


@simulated
def test_a_block_takes_several_rows_in_several_rounds():
    check([30, 50, 0, 41, 25, 60], 64, 2, block_elements=256)  # rounds of 64 end inside rows


@simulated
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_drawn_rows(seed):
    draw = np.random.default_rng(seed)
    k, m = int(draw.choice([1, 9, 150, 65536, 65537])), int(draw.integers(1, 17))
    counts = np.minimum(draw.integers(0, 30, draw.integers(1, 40)) * draw.integers(0, 12), k).tolist()
    kinds = (torch.float16, torch.bfloat16)[seed % 2], (torch.float16, torch.float32)[seed // 2 % 2]
    check(counts, k, m, *kinds, block_elements=[None, 64, 256][seed % 3])


def test_large_matrices_have_blocks_of_more_rounds():
    # a round of 1024 outliers for each of 528 blocks, and four at most; in the simulator rounds are of 64
    rounds = [choose_elements(count) // ELEMENTS for count in (0, 528 * ELEMENTS, 528 * ELEMENTS + 1, 1 << 30)]
    assert rounds == [1, 1, 2, 4]


@simulated
def test_a_nan_value_spoils_its_row_and_an_infinite_input_the_rows_that_read_it():
    values, pointers = torch.tensor([1.0, float("nan"), 2.0]).half(), torch.tensor([0, 1, 2, 3])
    x, y = torch.ones(1, 4).half(), torch.zeros(1, 4).half()[:, :3]
    x[0, 3] = float("inf")
    y = allocate_result(1, 3, x).fill_(0)
    prepare_outliers(device_outliers(values, torch.tensor([0, 1, 3]), pointers, (3, 4), "cpu"), x, y)()
    assert y[0, 0] == 1 and y[0, 1].isnan() and y[0, 2] == float("inf")


def test_blocks_take_every_row_once_and_no_more_elements_than_fit():
    generator = np.random.default_rng(0)
    for _ in range(20):
        counts = generator.integers(0, 9, 300) * generator.integers(0, 2, 300)
        counts[generator.integers(0, 300, 3)] = 5000
        pointers = np.concatenate([[0], counts.cumsum()])
        starts = row_blocks(pointers, 100, 64)
        assert starts[0] == 0 and starts[-1] == 300 and (np.diff(starts) > 0).all()
        held, rows = np.diff(pointers[starts]), np.diff(starts)
        assert ((held <= 100) | (rows == 1)).all() and (rows <= 64).all()


def test_wrong_arrays_are_one_sentence():
    values, columns, pointers = random_rows([2, 1], 8)
    with pytest.raises(TypeError, match="values of outliers must be float16 or float32, not torch.float64"):
        device_outliers(values.double(), columns, pointers, (2, 8), "cpu")
    with pytest.raises(ValueError, match="row_pointers of outliers must be 4, ascending from 0 to 3, not 3 of them"):
        device_outliers(values, columns, pointers, (3, 8), "cpu")
    with pytest.raises(ValueError, match="columns of outliers must be 0 to 1, not "):
        device_outliers(values, columns.clamp(min=2), pointers, (2, 2), "cpu")
    with pytest.raises(ValueError, match="elements must be a multiple of threads and these of lanes, not 100, 64 and"):
        CsrSpec(8, 1, 100, 8, 8, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("m", [1, 5, 16])
def test_on_a_device(m):
    generator = np.random.default_rng(m)
    counts = generator.poisson(41, 3000) * generator.integers(0, 3, 3000)
    counts[7] = 4000
    check(counts.tolist(), 4096, m, device="cuda")
    check(counts.tolist(), 70001, m, torch.bfloat16, torch.float32, "cuda")
