"""The largest logit in the simulator and (marked gpu) on a device, against numpy's argmax."""

import numpy as np
import pytest
import torch

from kernels_gpu import ptx
from kernels_gpu.argmax import prepare
from kernels_gpu.gemv_launch import allocate_result

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")


def check(logits, device="cpu"):
    tokens = torch.full((len(logits),), -1, dtype=torch.int32, device=device)
    given = allocate_result(*logits.shape, logits).copy_(logits)
    prepare(given.to(device), tokens)()
    assert tokens.tolist() == np.argmax(logits.float().numpy(), axis=1).tolist()


def random_logits(m, width, dtype, seed=0):
    return torch.randn((m, width), generator=torch.Generator().manual_seed(seed)).to(dtype)


@simulated
@pytest.mark.parametrize(("m", "width"), [(2, 1000), (2, 37), (1, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_random_rows(m, width, dtype):
    rows = random_logits(m, width, dtype)
    rows[-1] = -rows[-1].abs()  # all below zero
    check(rows)


@simulated
def test_ties_zeros_infinities_and_nan():
    rows = torch.full((5, 96), -3.0)
    rows[0, [7, 40, 90]] = 2.0  # the first of equal logits
    rows[1, 30], rows[1, 60] = -0.0, 0.0  # both zeros are one
    rows[2, 50], rows[2, 8] = float("nan"), float("inf")  # NaN is above infinity
    rows[3] = float("-inf")
    rows[4, [3, 64]], rows[4, 95] = float("nan"), float("inf")
    check(rows.half())
    check(rows.bfloat16())


def test_wrong_arguments_are_one_sentence():
    with pytest.raises(TypeError, match="tokens must be int32, not torch.int64"):
        prepare(torch.zeros(1, 8).half(), torch.zeros(1).long())
    with pytest.raises(ValueError, match=r"tokens must be \[2\] for logits \[2, 8\], not \[1\]"):
        prepare(torch.zeros(2, 8).half(), torch.zeros(1, dtype=torch.int32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_device(dtype):
    for m, width in ((1, 32000), (16, 128256), (3, 33333)):
        check(random_logits(m, width, dtype), "cuda")
