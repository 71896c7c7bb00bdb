"""Before a launch: is there a usable device, on which stream, and torch memory as numba sees it.

Under numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1`` before the first import of numba) CPU tensors stand for device
memory, so that the same launchers run in tests.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from kernels_gpu.ptx import SIMULATED

# max.NaN.f32 and ld.global.nc.L1::no_allocate need sm_80 and sm_70: PTX ISA 8.0, sections 9.7.3 and 9.7.9
LOWEST_COMPUTE_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class DeviceFacts:
    """What a measurement records about its device."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int
    driver: str


def require_cuda() -> None:
    """Do nothing where kernels can run.

    Raises:
        RuntimeError: the simulator is on, there is no device, its driver is too old, or the device is.
    """
    sentence = _obstacle()
    if sentence is not None:
        raise RuntimeError(sentence)


@lru_cache(maxsize=1)
def _obstacle() -> str | None:
    if SIMULATED:
        return "a CUDA device is needed, not numba's simulator: unset NUMBA_ENABLE_CUDASIM"
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"
        return f"a CUDA device and its driver must be there for GPU kernels; torch, built for {built}, finds none"
    capability = torch.cuda.get_device_capability()
    if capability < LOWEST_COMPUTE_CAPABILITY:
        return f"compute capability must be at least {LOWEST_COMPUTE_CAPABILITY}, not {capability} ({_name()})"
    try:
        compiled = cuda.jit("void(int32[:])")(_store_thread_index)
        probe = torch.zeros(32, dtype=torch.int32, device="cuda")
        compiled[1, 32](cuda.as_cuda_array(probe))
        works = torch.equal(probe.cpu(), torch.arange(32, dtype=torch.int32))
    except Exception as error:  # numba raises its own family for missing libraries, the driver for unknown PTX
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return (
            f"numba must be able to compile and run a kernel on {_name()} (driver {_driver()}), not fail: {first_line}"
        )
    return None if works else f"a first kernel on {_name()} must give right results, not wrong ones"


def require_free_memory(needed_bytes: int, what: str) -> None:
    """Do nothing where the current device has ``needed_bytes`` of free memory.

    Raises:
        RuntimeError: it has less.
    """
    free = torch.cuda.mem_get_info()[0]
    if free < needed_bytes:
        raise RuntimeError(
            f"free memory of {_name()} must be at least {needed_bytes / 1e9:.1f} GB for {what}, not {free / 1e9:.1f}"
        )


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """``tensor`` on ``device``, contiguous.

    Raises:
        RuntimeError: a CUDA device that cannot be used, or whose free memory is too small.
    """
    if torch.device(device).type == "cuda" and not tensor.is_cuda:
        require_cuda()
    try:
        return tensor.contiguous().to(device)
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"memory of the device must hold {tensor.nbytes} more bytes for a packed array: too few are free"
        ) from error


def _store_thread_index(out: Any) -> None:
    out[cuda.threadIdx.x] = cuda.threadIdx.x


def _name() -> str:
    return torch.cuda.get_device_name()


@lru_cache(maxsize=1)
def _driver() -> str:
    found = query_smi("driver_version")
    return "unknown" if found is None else found


def query_smi(fields: str) -> str | None:
    """One line of ``nvidia-smi --query-gpu`` for the current device, ``None`` where that fails."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "-i", str(torch.cuda.current_device())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def device_facts() -> DeviceFacts:
    """Facts of the current device.

    Raises:
        RuntimeError: no usable device.
    """
    require_cuda()
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return DeviceFacts(
        name=found.name,
        compute_capability=(found.major, found.minor),
        multiprocessors=found.multi_processor_count,
        memory_bytes=found.total_memory,
        l2_bytes=found.L2_cache_size,
        driver=_driver(),
    )


def as_array(tensor: Tensor, dtype: type[np.generic]) -> Any:
    """A contiguous tensor's memory as a numba device array of ``dtype`` (same item size); numpy in the simulator."""
    bits = tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[tensor.element_size()])
    if SIMULATED:
        return bits.numpy().view(dtype)
    return cuda.as_cuda_array(bits, sync=False).view(dtype)


def current_stream() -> Any:
    """Torch's current stream for numba's launches, so that both libraries keep one order."""
    if SIMULATED:
        return 0
    return cuda.external_stream(torch.cuda.current_stream().cuda_stream)
