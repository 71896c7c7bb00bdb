"""GPUs by their data sheets. ``GPUS`` maps names to them; ``machine_by_name`` finds a GPU or an accelerator preset.

A GPU without measured rows takes the constants of its family: Ampere's serve GA102, Orin and Ada, whose tensor cores
take the same warp-wide instructions. The suffix ``_cublas13`` names the same board under a newer library: CUDA 13
chooses among many more tiles and is up to 1.6 times as fast at 100 to 700 tokens. Few tokens meet encoded weights in
this project's kernels; with the suffix ``_public`` in those that others wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from datatypes.nearest import nearest
from hwmodel.gpu import Gpu, GpuKernels, Machine
from hwmodel.gpu_library import gpu_libraries
from hwmodel.presets import ACCELERATORS, accelerator_by_name
from hwmodel.presets_memory import GDDR6, HBM2E, HBM3, LPDDR5
from hwmodel.units import KIB, MIB

_AMPERE, _HOPPER = gpu_libraries()["ampere_cublas12"], gpu_libraries()["hopper_cublas12"]
_HOPPER13 = gpu_libraries()["hopper_cublas13"]

A100 = Gpu(
    name="a100",
    multiprocessors=108, frequency_hz=1.41e9,  # NVIDIA A100 Tensor Core GPU Architecture, V1.0, table 4
    tensor_flops={"fp16": 312e12, "int8": 624e12, "int4": 1248e12},  # the same, table 4
    dram=replace(HBM2E, name="hbm2e_a100", bytes_per_s=2039e9),  # NVIDIA A100 80GB data sheet, SXM
    memory_bytes=80e9, power_w=400,  # NVIDIA A100 80GB data sheet, SXM
    l2_bytes=40 * MIB, shared_bytes=164 * KIB, die_mm2=826,  # NVIDIA A100 architecture, table 4
    link="nvlink3", library=_AMPERE,  # NVIDIA A100 data sheet: third-generation NVLink
    compute_capability=(8, 0),  # NVIDIA, CUDA GPUs
    source="NVIDIA A100 80GB SXM data sheet; NVIDIA A100 Tensor Core GPU Architecture, V1.0",
)  # fmt: skip
A40 = Gpu(
    name="a40",
    multiprocessors=84, frequency_hz=1.74e9,  # NVIDIA Ampere GA102 GPU Architecture, V2, appendix A40
    tensor_flops={"fp16": 149.7e12, "int8": 299.3e12, "int4": 598.6e12},  # NVIDIA A40 data sheet, dense
    dram=replace(GDDR6, name="gddr6_a40", bytes_per_s=696e9),  # NVIDIA A40 data sheet
    memory_bytes=48e9, power_w=300,  # NVIDIA A40 data sheet
    l2_bytes=6 * MIB, shared_bytes=100 * KIB, die_mm2=628.4,  # NVIDIA Ampere GA102 GPU Architecture, V2
    link="pcie4_x16", library=_AMPERE,  # NVIDIA A40 data sheet: PCI Express Gen 4 x16
    compute_capability=(8, 6),  # NVIDIA, CUDA GPUs
    source="NVIDIA A40 data sheet; NVIDIA Ampere GA102 GPU Architecture, V2",
)  # fmt: skip
H100 = Gpu(
    name="h100",
    multiprocessors=132, frequency_hz=1.83e9,  # 989.4 TFLOPS / (132 SMs x 4096 a cycle): NVIDIA H100 architecture
    # NVIDIA H100 Tensor Core GPU Architecture, V1.04, table 2, SXM5, dense
    tensor_flops={"fp16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12},
    dram=replace(HBM3, name="hbm3_h100", bytes_per_s=3350e9),  # NVIDIA H100 data sheet, SXM
    memory_bytes=80e9, power_w=700,  # NVIDIA H100 data sheet, SXM
    l2_bytes=50 * MIB, shared_bytes=228 * KIB, die_mm2=814,  # NVIDIA H100 architecture, table 2
    link="nvlink4", library=_HOPPER,  # NVIDIA H100 data sheet: fourth-generation NVLink
    compute_capability=(9, 0),  # NVIDIA, CUDA GPUs
    source="NVIDIA H100 SXM data sheet; NVIDIA H100 Tensor Core GPU Architecture, V1.04",
)  # fmt: skip
H200 = replace(
    H100, name="h200",
    dram=replace(HBM3, name="hbm3e_h200", bytes_per_s=4800e9), memory_bytes=141e9,  # NVIDIA H200 data sheet, SXM
    source="NVIDIA H200 SXM data sheet; NVIDIA H100 Tensor Core GPU Architecture, V1.04",
)  # fmt: skip
RTX4090 = Gpu(
    name="rtx4090",
    multiprocessors=128, frequency_hz=2.52e9,  # NVIDIA Ada GPU Architecture, V2.02, appendix A
    # the same, dense; FP16 and FP8 with FP32 accumulation
    tensor_flops={"fp16": 165.2e12, "fp8": 330.3e12, "int8": 660.6e12, "int4": 1321.2e12},
    dram=replace(GDDR6, name="gddr6x_rtx4090", bytes_per_s=1008e9),  # the same; ASSUMPTION: energy as GDDR6
    memory_bytes=24e9, power_w=450, l2_bytes=72 * MIB, shared_bytes=100 * KIB, die_mm2=608.5,  # the same
    link="pcie4_x16", library=_AMPERE,  # the same: PCI Express Gen 4
    compute_capability=(8, 9),  # NVIDIA, CUDA GPUs
    source="NVIDIA Ada GPU Architecture, V2.02",
)  # fmt: skip
L40S = Gpu(
    name="l40s",
    multiprocessors=142, frequency_hz=2.49e9,  # 362.05 TFLOPS / (142 SMs x 1024 a cycle): NVIDIA L40S data sheet
    tensor_flops={"fp16": 362.05e12, "fp8": 733e12, "int8": 733e12, "int4": 733e12},  # NVIDIA L40S data sheet, dense
    dram=replace(GDDR6, name="gddr6_l40s", bytes_per_s=864e9),  # NVIDIA L40S data sheet
    memory_bytes=48e9, power_w=350,  # NVIDIA L40S data sheet
    l2_bytes=96 * MIB, shared_bytes=100 * KIB, die_mm2=608.5,  # NVIDIA Ada GPU Architecture, V2.02: AD102
    link="pcie4_x16", library=_AMPERE,  # NVIDIA L40S data sheet: PCIe Gen4 x16
    compute_capability=(8, 9),  # NVIDIA, CUDA GPUs
    source="NVIDIA L40S data sheet; NVIDIA Ada GPU Architecture, V2.02",
)  # fmt: skip
ORIN = Gpu(
    name="jetson_agx_orin",
    multiprocessors=16, frequency_hz=1.3e9,  # NVIDIA Jetson AGX Orin Series technical brief, v1.2: 2048 cores, 1.3 GHz
    # the same: 170 sparse INT8 TOPS on the GPU, half of it dense; FP16 at half of INT8
    tensor_flops={"fp16": 42.5e12, "int8": 85e12},
    dram=replace(LPDDR5, name="lpddr5_orin", bytes_per_s=204.8e9, channels=16),  # the same: 256 bits at 6400 MT/s
    memory_bytes=64e9, power_w=60, l2_bytes=4 * MIB,  # the same, 64 GB module
    shared_bytes=164 * KIB,  # CUDA C++ Programming Guide, compute capability 8.7
    die_mm2=None, link="pcie4_x8", library=_AMPERE,  # the technical brief: PCIe Gen4, up to x8; no die size printed
    compute_capability=(8, 7),  # NVIDIA, CUDA GPUs
    source="NVIDIA Jetson AGX Orin Series technical brief, v1.2",
)  # fmt: skip

_ALL = (
    A100, A40, H100, H200, RTX4090, L40S, ORIN, replace(H100, name="h100_cublas13", library=_HOPPER13),
    replace(H200, name="h200_cublas13", library=_HOPPER13),
    replace(H100, name="h100_public", kernels=GpuKernels.PUBLIC),
    replace(H200, name="h200_public", kernels=GpuKernels.PUBLIC),
)  # fmt: skip
GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _ALL}
MACHINES: Mapping[str, Machine] = {**ACCELERATORS, **GPUS}


def gpu_by_name(name: str) -> Gpu:
    """The GPU called ``name``.

    Raises:
        ValueError: no such GPU; the message names the nearest ones.
    """
    if name in GPUS:
        return GPUS[name]
    hint = nearest(name, GPUS) or f"; there are {', '.join(GPUS)}"
    raise ValueError(f"GPU must be one of the presets, not {name!r}{hint}")


def machine_by_name(name: str) -> Machine:
    """The accelerator or GPU preset called ``name``.

    Raises:
        ValueError: no such preset; the message names the nearest ones.
    """
    if name in GPUS:
        return GPUS[name]
    if name not in ACCELERATORS and (hint := nearest(name, MACHINES)):
        raise ValueError(f"accelerator must be one of the presets (codesign accelerators), not {name!r}{hint}")
    return accelerator_by_name(name)
