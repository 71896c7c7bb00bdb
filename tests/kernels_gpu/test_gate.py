"""silu(gate) * up in the simulator and (marked gpu) on a device."""

import numpy as np
import pytest
import torch

from kernels_gpu import ptx
from kernels_gpu.gate import gated, prepare, tolerance
from kernels_gpu.gemv_launch import allocate_result

simulated = pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")


def check(both, device="cpu"):
    m, width = both.shape[0], both.shape[1] // 2
    out = allocate_result(m, width, both).fill_(float("nan")).to(device)
    given = allocate_result(m, 2 * width, both).copy_(both)
    prepare(given.to(device), out)()
    expected = gated(both.double().numpy())
    allowed = tolerance(both.double().numpy(), expected, both.dtype)
    error = np.abs(out.double().cpu().numpy() - expected)
    well = ~np.isnan(expected)
    assert (error <= allowed)[well].all(), (error / allowed)[well].max()
    assert (allowed < np.abs(expected) * 2.0**-7 + 2.0**-20)[well].all()
    assert np.array_equal(out.isnan().cpu().numpy(), ~well)


def random_rows(m, width, dtype, seed=0):
    return (torch.randn((m, 2 * width), generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)


@simulated
@pytest.mark.parametrize(
    ("m", "width", "dtype"),
    [(2, 136, torch.float16), (1, 24, torch.bfloat16), (3, 37, torch.float16), (2, 100, torch.bfloat16)],
    ids=["whole", "bfloat16", "odd", "gate and up in other places of a chunk"],
)
def test_every_shape(m, width, dtype):
    check(random_rows(m, width, dtype))


@simulated
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_magnitude_and_nan(dtype):
    """All finite numbers of one sign at a stride, as gates: the power over- and underflows."""
    bits = torch.arange(0, 0x7C00, 97, dtype=torch.int32)
    gates = torch.cat([bits, bits + 0x8000, torch.tensor([0x7FFF])]).to(torch.int16).view(dtype)
    gates = gates[: len(gates) // 8 * 8]
    check(torch.stack([torch.cat([gates, torch.full_like(gates, 0.75)])]))
    nan = torch.tensor([[float("nan")] + [1.0] * 15]).to(dtype)
    check(nan)


def test_the_reference_is_torch_s():
    both = random_rows(2, 9, torch.float64)
    gate, up = both.chunk(2, dim=1)
    assert np.allclose(gated(both.numpy()), (torch.nn.functional.silu(gate) * up).numpy(), rtol=1e-12)


def test_wrong_shapes_are_one_sentence():
    rows = torch.zeros(2, 64).half()
    with pytest.raises(ValueError, match=r"gate with up must be \[2, 128\] for a result \[2, 64\], not \[2, 64\]"):
        prepare(rows, rows)
    with pytest.raises(TypeError, match="gate with up and out must all be float16 or all bfloat16"):
        prepare(rows.float(), rows.float())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_on_a_device(dtype):
    for m, width in ((1, 11008), (16, 14336), (5, 1001), (1, 8)):
        check(random_rows(m, width, dtype), "cuda")
