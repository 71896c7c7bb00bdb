"""Compile a numba kernel to PTX, load it, and launch it with attributes that numba's own launcher does not know.

Those are: more than 48 KiB of shared memory, and programmatic dependent launch, by which a kernel starts while the one
before it in the stream still runs (it must then wait for it, ``griddepcontrol.wait``, before it reads what that wrote).
Kernel arguments are pointers (uint64) and int32 numbers only. In numba's simulator the same kernel runs as it is.

Source: CUDA Driver API 13.0, sections 6.10 (modules) and 6.22 (execution control).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import cuda, types
from torch import Tensor

from hwmodel.units import BYTE_BITS
from kernels_gpu.ptx import SIMULATED

PTX_FOLDER = "CODESIGN_PTX"  # environment variable: a folder where compiled PTX is kept between processes
MAX_SHARED_BYTES = 232448  # of a block: CUDA C++ Programming Guide, compute capability 9.0 (227 KiB)
# shared memory of a block on others, where no device can be asked (the same table): 163, 99 and 227 KiB
SHARED_BYTES = {(8, 0): 166912, (8, 6): 101376, (8, 7): 166912, (8, 9): 101376, (12, 0): 101376}
PROGRAMMATIC_CAPABILITY = (9, 0)  # of griddepcontrol and its launch attribute: PTX ISA 7.8, section 9.7.12.13
Argument = Tensor | int


def compile_ptx(
    body: Callable[..., None],
    kinds: str,
    key: str,
    capability: tuple[int, int] | None = None,
    registers: int = 0,
) -> str:
    """PTX for a compute capability, by default the current device's.

    ``kinds`` has a letter for each argument: ``p`` for pointers, ``i`` for int32. ``registers`` is the most that a
    thread may have (PTX ISA 8.7, section 11.4.1), 0 for as many as the assembler likes.
    """
    if capability is None:
        capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (9, 0)
    folder = os.environ.get(PTX_FOLDER)
    digest = hashlib.sha256(f"{key} {capability} {registers} {_sources()}".encode()).hexdigest()[:24]
    kept = None if folder is None else Path(folder) / f"{digest}.ptx"
    if kept is not None and kept.exists():
        return kept.read_text(encoding="utf-8")
    signature = tuple({"p": types.uint64, "i": types.int32}[kind] for kind in kinds)
    text, _ = cuda.compile_ptx(body, signature, cc=capability)
    if capability < PROGRAMMATIC_CAPABILITY:  # kernels there run one after another: nothing to wait for
        text = re.sub(r"griddepcontrol\.\w+;", "", text)
    if registers:
        text, found = re.subn(r"(\.entry \w+\([^)]*\)\s*)\{", rf"\1.maxnreg {registers}\n{{", text)
        assert found == 1
    if kept is not None:
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(kept)
    return text


def shared_limit(device: torch.device | None = None) -> int:
    """Bytes of shared memory that a block may have on a device (an H100's in the simulator)."""
    if SIMULATED or device is None or device.type != "cuda":
        return MAX_SHARED_BYTES
    properties: Any = torch.cuda.get_device_properties(device)  # torch's annotations lack some of them
    return min(MAX_SHARED_BYTES, properties.shared_memory_per_block_optin)


def peak_memory_bytes_per_s(device: torch.device | None = None) -> float | None:
    """What a device's memory could deliver, by its driver; ``None`` without a device, and in the simulator."""
    if SIMULATED or device is None or device.type != "cuda":
        return None
    return _peak_of(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _peak_of(ordinal: int) -> float:
    from cuda.bindings import driver

    _checked(driver.cuInit(0))
    device, kinds = _checked(driver.cuDeviceGet(ordinal)), driver.CUdevice_attribute
    clock_khz = _checked(driver.cuDeviceGetAttribute(kinds.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, device))
    bus_bits = _checked(driver.cuDeviceGetAttribute(kinds.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, device))
    return bus_bytes_per_s(clock_khz, bus_bits)


def bus_bytes_per_s(clock_khz: int, bits: int) -> float:
    """Of a memory bus of so many bits, two transfers a clock.

    Source: CUDA C++ Best Practices Guide, Theoretical Bandwidth Calculation.

    >>> [f"{bus_bytes_per_s(*bus):.3g}" for bus in ((2619000, 5120), (3201000, 6144))]  # H100 and H200 (SXM)
    ['3.35e+12', '4.92e+12']
    """
    return 2 * clock_khz * 1e3 * bits / BYTE_BITS


@lru_cache(maxsize=1)
def _sources() -> str:
    """A fingerprint of this package's kernels."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if not f.name.startswith("bench"))).hexdigest()


@dataclass(frozen=True, eq=False)
class NativeKernel:
    """A loaded kernel. ``function`` is the driver's handle, or the simulated kernel."""

    function: Any
    module: Any
    registers: int
    local_bytes: int


def _checked(result: tuple[Any, ...]) -> Any:
    error, *values = result
    if int(error) != 0:
        raise RuntimeError(f"CUDA driver must succeed, not answer {error}")
    return values[0] if len(values) == 1 else values


def load(body: Callable[..., None], kinds: str, key: str, registers: int = 0) -> NativeKernel:
    """Compile and load ``body`` on the current device; ``registers`` as in ``compile_ptx``."""
    if SIMULATED:
        return NativeKernel(cuda.jit(body), None, 0, 0)
    from cuda.bindings import driver

    torch.cuda.current_stream()  # makes torch's context current
    text = compile_ptx(body, kinds, key, registers=registers)
    name = re.search(r"\.visible \.entry (\w+)\(", text)
    assert name is not None
    module = _checked(driver.cuModuleLoadData(text.encode()))
    function = _checked(driver.cuModuleGetFunction(module, name[1].encode()))
    attribute = driver.CUfunction_attribute
    carveout = attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
    _checked(driver.cuFuncSetAttribute(function, carveout, 100))
    largest = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    limit = shared_limit(torch.device("cuda", torch.cuda.current_device()))
    _checked(driver.cuFuncSetAttribute(function, largest, limit))
    registers = _checked(driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_NUM_REGS, function))
    local = _checked(driver.cuFuncGetAttribute(attribute.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function))
    return NativeKernel(function, module, registers, local)


def fill_caches(body: Callable[..., None], kinds: str, key: str, registers: int = 0) -> None:
    """Compile ``body``, and load it where there is a device, for launchers of other processes.

    PTX is kept where ``PTX_FOLDER`` says; machine code by the driver (CUDA_CACHE_PATH, CUDA C++ Programming Guide,
    CUDA Environment Variables), which takes half a second a kernel for it.
    """
    if torch.cuda.is_available():
        load(body, kinds, key, registers)
    else:
        compile_ptx(body, kinds, key, registers=registers)


class BoundLaunch:
    """A kernel with grid and arguments bound: call it to enqueue it on torch's current stream."""

    def __init__(
        self,
        kernel: NativeKernel,
        grid: int,
        threads: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int,
        overlapped: bool,
    ) -> None:
        self.kernel, self.grid, self.threads, self.shared_bytes = kernel, grid, threads, shared_bytes
        self.arguments = tuple(arguments)  # keeps the tensors alive
        if SIMULATED:
            return
        from cuda.bindings import driver

        values = tuple(a.data_ptr() if isinstance(a, Tensor) else int(a) for a in arguments)
        kinds = tuple(ctypes.c_void_p if isinstance(a, Tensor) else ctypes.c_int32 for a in arguments)
        self._parameters = (values, kinds)
        self._config = driver.CUlaunchConfig()
        self._config.gridDimX, self._config.gridDimY, self._config.gridDimZ = grid, 1, 1
        self._config.blockDimX, self._config.blockDimY, self._config.blockDimZ = threads, 1, 1
        self._config.sharedMemBytes = shared_bytes
        if overlapped and torch.cuda.get_device_capability() >= PROGRAMMATIC_CAPABILITY:
            made = driver.CUlaunchAttribute()
            made.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            value = driver.CUlaunchAttributeValue()
            value.programmaticStreamSerializationAllowed = 1
            made.value = value
            self._config.attrs = [made]
            self._config.numAttrs = 1

    def __call__(self) -> None:
        if SIMULATED:
            given = [_view(a) if isinstance(a, Tensor) else a for a in self.arguments]
            self.kernel.function[self.grid, self.threads, 0, self.shared_bytes](*given)
            return
        from cuda.bindings import driver

        self._config.hStream = torch.cuda.current_stream().cuda_stream
        _checked(driver.cuLaunchKernelEx(self._config, self.kernel.function, self._parameters, 0))


def blocks_per_multiprocessor(kernel: NativeKernel, threads: int, shared_bytes: int) -> int:
    """Blocks that fit on one multiprocessor (1 in the simulator)."""
    if SIMULATED:
        return 1
    from cuda.bindings import driver

    return _checked(driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(kernel.function, threads, shared_bytes))


def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of a device (2 in the simulator)."""
    return 2 if SIMULATED else torch.cuda.get_device_properties(device).multi_processor_count


def _view(tensor: Tensor) -> np.ndarray:
    """A CPU tensor's memory as whole words: its own where its storage reaches so far, else a padded copy."""
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    first = tensor.data_ptr() - storage.data_ptr()
    size = -(-tensor.nbytes // 4) * 4
    found = storage.numpy()[first : first + size]
    return (
        np.concatenate([found, np.zeros(size - len(found), np.uint8)]).view(np.uint32)
        if len(found) < size
        else found.view(np.uint32)
    )
