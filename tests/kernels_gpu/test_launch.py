"""The device check, and torch memory as numba sees it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP4, FP16, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from kernels_gpu import ptx
from kernels_gpu.attention_launch import cache_side, decode_attention
from kernels_gpu.dequantize_launch import dequantize
from kernels_gpu.gemm_launch import gemm
from kernels_gpu.gemv_launch import from_quantized, gemv
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.launch import as_array, require_cuda, to_device
from kernels_gpu.layer import device_layer, layer_gemv
from kernels_gpu.low_rank_launch import dense_factor
from kernels_gpu.outliers_launch import device_outliers
from kernels_gpu.quantize import quantize_packed

CONFIG = TensorConfig(BITMOD_FP4, PerGroup(128))


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
def test_no_device_is_one_clear_sentence():
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there for GPU kernels; torch"):
        require_cuda()
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there"):
        quantize_packed(torch.zeros(2, 128), CONFIG)


def _attend(device):
    rows = quantize_tensor(torch.ones(8, 64), TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16)))
    side = cache_side(rows, (1, 1, 8, 64), device)
    return decode_attention(torch.zeros(1, 1, 64).half(), side, side, torch.tensor([8], dtype=torch.int32))


def _layer(device):
    weight = quantize_tensor(torch.ones(4, 128), RECIPES["int4_g128"])
    placed = device_layer(QuantizedLayer(LayerConfig(weight=weight.config), weight, (4, 128)), device)
    return layer_gemv(placed, torch.zeros(1, 128).half())


def _placed(device):
    return from_quantized(quantize_tensor(torch.ones(4, 128), RECIPES["int4_g128"]), device)


def _outliers(device):
    return device_outliers(torch.ones(1), torch.zeros(1), torch.tensor([0, 1]), (1, 8), device)


LAUNCHERS = {
    "gemv": lambda device: gemv(_placed(device), torch.zeros(1, 128).half()),
    "gemm": lambda device: gemm(_placed(device), torch.zeros(40, 128).half()),
    "dequantize": lambda device: dequantize(_placed(device)),
    "layer_gemv": _layer,
    "decode_attention": _attend,
}
PLACERS = {"factor": lambda device: dense_factor(torch.zeros(2, 8).half(), device), "outliers": _outliers}


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", [*LAUNCHERS, *PLACERS])
def test_every_launcher_says_that_there_is_no_device(name, device):
    if name in PLACERS and device == "cpu":
        pytest.skip("arrays may lie on a CPU")
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there for GPU kernels; torch"):
        (LAUNCHERS | PLACERS)[name](device)


def test_too_little_memory_for_an_array_is_one_sentence(monkeypatch):
    def full(tensor, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.\nSee documentation")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(RuntimeError, match="memory of the device must hold 64 more bytes for a packed array"):
        to_device(torch.zeros(16), "cpu")


@pytest.mark.skipif(not ptx.SIMULATED, reason="runs inside the simulator (test_simulator.py)")
def test_the_simulator_is_no_device():
    with pytest.raises(RuntimeError, match="a CUDA device is needed, not numba's simulator"):
        require_cuda()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_the_benchmark_says_so_and_exits_with_2():
    command = [sys.executable, "-m", "kernels_gpu.bench_quantize"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip().count("\n") == 0 and "a CUDA device" in done.stderr


@pytest.mark.skipif(not ptx.SIMULATED, reason="numba arrays need a device; numpy stands for them in the simulator")
def test_an_array_is_a_view_of_the_tensor():
    tensor = torch.zeros(4, dtype=torch.bfloat16)
    as_array(tensor, np.uint16)[1] = 0x3F80
    assert tensor.tolist() == [0.0, 1.0, 0.0, 0.0]
