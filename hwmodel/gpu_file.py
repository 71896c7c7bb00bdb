"""A user's GPU in a YAML file, from its data sheet alone. Every key, with the A40 as the example::

    name: my_a40
    source: NVIDIA A40 data sheet; NVIDIA Ampere GA102 GPU Architecture, V2
    architecture: ampere        # whose library constants it takes: volta, turing, ampere, ada, hopper
    multiprocessors: 84         # SMs
    frequency_ghz: 1.74         # boost clock
    tensor_tflops: {fp16: 149.7, int8: 299.3, int4: 598.6}   # dense, FP32 accumulation; also fp8, fp4
    memory: {preset: gddr6, gb: 48, gb_per_s: 696}           # the preset gives the energy of a bit
    l2_mib: 6
    shared_kib: 100             # shared memory of one SM
    power_w: 300                # board limit
    link: pcie4_x16             # hwmodel.link.LINKS
    die_mm2: 628.4              # optional
    compute_capability: 8.6     # optional; otherwise the least of its architecture
    low_bit_kernels: project    # optional; or public: whose kernels multiply few tokens by an encoded weight

Or ``base: <preset GPU>`` with a ``name``, a ``source`` and what differs. Nothing is fitted. Every error is one sentence
with file and key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwmodel.accelerator_file import load_accelerator
from hwmodel.gpu import OPERAND_BITS, Gpu, GpuKernels, Machine
from hwmodel.gpu_library import GpuLibrary, gpu_libraries
from hwmodel.gpu_presets import GPUS, gpu_by_name
from hwmodel.link import LINKS
from hwmodel.memory import Dram
from hwmodel.presets_memory import DRAMS
from hwmodel.units import KIB, MIB
from hwmodel.yaml_file import check_keys, read_yaml, text

# Warp-wide tensor instructions (mma.sync) but for Hopper's (wgmma): NVIDIA, PTX ISA. Only Ampere's and Hopper's
# libraries were measured; ASSUMPTION: the other warp-wide families reach Ampere's shares of their own peaks.
ARCHITECTURES: Mapping[str, str] = {
    "volta": "ampere_cublas12", "turing": "ampere_cublas12", "ampere": "ampere_cublas12", "ada": "ampere_cublas12",
    "hopper": "hopper_cublas12", "hopper_cuda13": "hopper_cublas13",
}  # fmt: skip
CAPABILITIES: Mapping[str, tuple[int, int]] = {  # NVIDIA, CUDA GPUs: the least of each architecture
    "volta": (7, 0), "turing": (7, 5), "ampere": (8, 0), "ada": (8, 9), "hopper": (9, 0), "hopper_cuda13": (9, 0),
}  # fmt: skip
_OPTIONAL = ("die_mm2", "compute_capability", "low_bit_kernels")
_MEMORY_KEYS = ("preset", "gb", "gb_per_s")


def load_gpu(path: Path | str) -> Gpu:
    """Read a GPU from a YAML file.

    Raises:
        ValueError: the file cannot be read, is no YAML mapping, or a key is unknown, given twice, missing or of a
            wrong value; the message names file and key.
    """
    file = Path(path)
    return gpu_of(read_yaml(file), f"GPU file {file}")


def load_machine(path: Path | str) -> Machine:
    """Read a GPU (a file with ``multiprocessors``, or with a GPU as its ``base``) or an accelerator from a YAML file.

    Raises:
        ValueError: as ``load_gpu`` and ``load_accelerator``.
    """
    content = read_yaml(Path(path))
    is_gpu = "multiprocessors" in content or "architecture" in content or content.get("base") in tuple(GPUS)
    return load_gpu(path) if is_gpu else load_accelerator(path)


def gpu_of(sheet: Mapping[str, Any], where: str = "GPU") -> Gpu:
    """The GPU that a data sheet describes.

    Args:
        sheet: the keys of the module's example.
        where: for messages.

    Raises:
        ValueError: a key is unknown, missing or of a wrong value.
    """
    base = None if sheet.get("base") is None else gpu_by_name(str(sheet["base"]))  # what is no text is no name
    required = ("name", "source") if base is not None else tuple(k for k in _READERS if k not in _OPTIONAL)
    check_keys(sheet, {*_READERS, "base"}, required, where)
    values: dict[str, Any] = {}
    if sheet.get("architecture") in tuple(CAPABILITIES):
        values["compute_capability"] = CAPABILITIES[sheet["architecture"]]
    for key, (field, reader) in _READERS.items():
        if key not in sheet:
            continue
        try:
            values[field] = reader(sheet[key])
        except ValueError as error:
            raise ValueError(f"{where}: key {key!r} must be {error}, not {sheet[key]!r}") from None
    values |= _memory(sheet["memory"], values["name"], where) if "memory" in sheet else {}
    values.pop("memory", None)
    try:
        return replace(base, **values) if base is not None else Gpu(**{"die_mm2": None, **values})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number above 0")
    return float(value)


def _whole(value: object) -> int:
    if _number(value) != int(_number(value)):
        raise ValueError("a whole number above 0")
    return int(_number(value))


def _scaled(scale: float) -> Callable[[object], float]:
    return lambda value: _number(value) * scale


def _bytes(scale: int) -> Callable[[object], int]:
    return lambda value: round(_number(value) * scale)


def _rates(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or "fp16" not in value or not set(value) <= set(OPERAND_BITS):
        raise ValueError(f"a mapping with fp16 and any of {', '.join(k for k in OPERAND_BITS if k != 'fp16')}")
    return {kind: _number(rate) * 1e12 for kind, rate in value.items()}


def _link(value: object) -> str:
    if value not in tuple(LINKS):
        raise ValueError(f"one of {', '.join(LINKS)}")
    return str(value)


def _library(value: object) -> GpuLibrary:
    if value not in tuple(ARCHITECTURES):
        raise ValueError(f"one of {', '.join(ARCHITECTURES)}")
    return gpu_libraries()[ARCHITECTURES[str(value)]]


def _capability(value: object) -> tuple[int, int]:
    whole, part = divmod(round(_number(value) * 10), 10)
    if whole + part / 10 != value:
        raise ValueError("a compute capability such as 8.6")
    return whole, part


def _kernels(value: object) -> GpuKernels:
    if value not in tuple(kernels.value for kernels in GpuKernels):
        raise ValueError(f"one of {', '.join(kernels.value for kernels in GpuKernels)}")
    return GpuKernels(value)


def _mapping(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"a mapping of {', '.join(_MEMORY_KEYS)}")
    return value


def _memory(section: Mapping[str, object], name: str, where: str) -> dict[str, Any]:
    """Fields of ``Gpu`` that the memory section gives."""
    where = f"{where}: memory"
    check_keys(section, _MEMORY_KEYS, _MEMORY_KEYS, where)
    preset = DRAMS.get(str(section["preset"]))
    if preset is None:
        raise ValueError(f"{where}: key 'preset' must be one of {', '.join(DRAMS)}, not {section['preset']!r}")
    try:
        rate, capacity = (_number(section[key]) * 1e9 for key in ("gb_per_s", "gb"))
    except ValueError as error:
        raise ValueError(f"{where}: keys 'gb_per_s' and 'gb' must each be {error}") from None
    dram: Dram = replace(preset, name=f"{preset.name}_{name}", bytes_per_s=rate)
    return {"dram": dram, "memory_bytes": capacity}


_READERS: Mapping[str, tuple[str, Callable[[object], Any]]] = {  # key in the file -> (field, reader)
    "name": ("name", text), "source": ("source", text), "architecture": ("library", _library),
    "multiprocessors": ("multiprocessors", _whole), "frequency_ghz": ("frequency_hz", _scaled(1e9)),
    "tensor_tflops": ("tensor_flops", _rates), "memory": ("memory", _mapping), "l2_mib": ("l2_bytes", _bytes(MIB)),
    "shared_kib": ("shared_bytes", _bytes(KIB)), "power_w": ("power_w", _number), "link": ("link", _link),
    "die_mm2": ("die_mm2", _number), "compute_capability": ("compute_capability", _capability),
    "low_bit_kernels": ("kernels", _kernels),
}  # fmt: skip
