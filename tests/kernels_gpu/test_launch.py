"""The device check, and torch memory as numba sees it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from datatypes.catalog import BITMOD_FP4
from datatypes.granularity import PerGroup
from datatypes.layer_config import TensorConfig
from kernels_gpu import ptx
from kernels_gpu.launch import as_array, require_cuda
from kernels_gpu.quantize import quantize_packed

CONFIG = TensorConfig(BITMOD_FP4, PerGroup(128))


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
def test_no_device_is_one_clear_sentence():
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there for GPU kernels; torch"):
        require_cuda()
    with pytest.raises(RuntimeError, match="a CUDA device and its driver must be there"):
        quantize_packed(torch.zeros(2, 128), CONFIG)


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
