"""RMSNorm with the addition to the residual stream, in the simulator and (marked gpu) on a device."""

import numpy as np
import pytest
import torch

from kernels_gpu import norm, ptx
from kernels_gpu.gemv_launch import allocate_result
from kernels_gpu.norm import add_and_normalise, prepare, spec_of, tolerance

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
EPSILON = 1e-5


def numbers(shape, seed, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(m, width, adds, dtype=torch.float16, device="cpu", spoil=None):
    """Run on a poisoned result; the sums must be equal, every result within its tolerance. Returns the result."""
    residual = allocate_result(m, width, numbers(1, 0, dtype)).copy_(numbers((m, width), 1, dtype) * 3)
    delta = allocate_result(m, width, residual).copy_(numbers((m, width), 2, dtype)) if adds else None
    gain = allocate_result(1, width, residual)[0].copy_(numbers(width, 3, dtype))
    if spoil is not None:
        residual[spoil] = float("nan")
    out = allocate_result(m, width, residual).fill_(float("nan"))
    given = [None if t is None else t.to(device) for t in (residual, delta, gain, out)]
    total, expected = add_and_normalise(residual, delta, gain, EPSILON)
    prepare(*given, epsilon=EPSILON)()
    assert torch.equal(given[0].cpu().nan_to_num(), total.nan_to_num())
    spec = spec_of(width, epsilon=EPSILON, adds=adds, bfloat=dtype == torch.bfloat16)
    error = np.abs(given[3].double().cpu().numpy() - expected)
    allowed = tolerance(expected, spec)
    well = ~np.isnan(expected)
    assert (error <= allowed)[well].all(), (error / allowed)[well].max()
    # a wrong gain or a number left out of the mean would be seen
    assert (allowed < np.abs(expected) * 2.0**-7 + 2.0**-20)[well].all()
    assert np.array_equal(given[3].isnan().cpu().numpy(), ~well)


@simulated
@pytest.mark.parametrize(
    ("m", "width", "adds", "dtype"),
    [
        (2, 512, True, torch.float16),
        (1, 512, False, torch.bfloat16),
        (3, 40, True, torch.bfloat16),
        (2, 37, True, torch.float16),
        (1, 1100, True, torch.float16),
    ],
    ids=["whole", "bfloat16, no delta", "fewer chunks than lanes", "odd", "three chunks a thread"],
)
def test_every_shape(m, width, adds, dtype):
    check(m, width, adds, dtype)


@simulated
def test_nan_spoils_its_row_alone():
    check(2, 64, True, spoil=(1, 5))


@simulated
def test_zeros_stay_zeros():
    zeros, gain = torch.zeros(1, 64).half(), torch.ones(64).half()
    out = torch.full_like(zeros, float("nan"))
    prepare(zeros, None, gain, out, epsilon=EPSILON)()
    assert (out == 0).all()


def test_the_reference_is_torch_s():
    residual, gain = numbers((2, 33), 0), numbers(33, 1)
    expected = torch.nn.functional.rms_norm(residual.double(), (33,), gain.double(), EPSILON).numpy()
    assert np.allclose(add_and_normalise(residual, None, gain, EPSILON)[1], expected, rtol=1e-12)


def test_wrong_arguments_are_one_sentence():
    rows, gain = torch.zeros(2, 64).half(), torch.ones(64).half()
    with pytest.raises(TypeError, match="must all be float16 or all bfloat16, not torch.bfloat16, torch.float16"):
        prepare(rows, None, gain.bfloat16(), rows, epsilon=EPSILON)
    with pytest.raises(ValueError, match=r"delta and out must be of the shape \[2, 64\], gain \[64\], not"):
        prepare(rows, rows[:1], gain, rows, epsilon=EPSILON)
    with pytest.raises(ValueError, match="must be contiguous, not strided"):
        prepare(rows.T, None, gain, rows, epsilon=EPSILON)
    most = norm.MAX_THREADS * norm.MAX_ROUNDS * 8
    with pytest.raises(NotImplementedError, match=f"width of a norm must be at most {most}, not {most + 1}"):
        spec_of(most + 1, epsilon=EPSILON, adds=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [64, 4096, 5120, 8192, 4099, 16384])
def test_on_a_device(width, dtype):
    for m in (1, 5, 16):
        for adds in (True, False):
            check(m, width, adds, dtype, "cuda")
