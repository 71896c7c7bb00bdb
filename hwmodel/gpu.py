"""A GPU as the cost model sees it: its data sheet, and the constants of the library that runs on it.

``Gpu`` holds what a data sheet prints and nothing fitted, so that a new GPU is described by its sheet alone; everything
fitted stands in its ``GpuLibrary``, which whole architecture families share (``hwmodel.gpu_library``). It offers the
same questions as an ``Accelerator`` (name, clock, peak, DRAM, area, source), so that reports and tables take either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hwmodel.accelerator import Accelerator
from hwmodel.gpu_library import GpuLibrary
from hwmodel.memory import Dram
from hwmodel.units import BYTE_BITS

_LANES = 128  # threads that four schedulers issue in a cycle, every SM since Volta: NVIDIA, CUDA C++ Programming Guide


class GpuKernels(Enum):
    """Whose kernels multiply few tokens by an encoded weight (``hwmodel.gpu_narrow``)."""

    PROJECT = "project"  # kernels_gpu
    PUBLIC = "public"  # as tinygemm's and bitsandbytes'


@dataclass(frozen=True)
class Gpu:
    """The data sheet of a GPU.

    Args:
        name: unique, lower case.
        multiprocessors: streaming multiprocessors (SMs).
        frequency_hz: boost clock at which the sheet quotes its peaks.
        tensor_flops: dense tensor-core operations a second (two for a multiply-add), by operand kind: ``fp16`` always,
            ``fp8``, ``int8``, ``int4``, ``fp4`` where the sheet has them.
        dram: memory at its peak bandwidth; ``dram.efficiency`` is not used, the library's ``dram_share`` is.
        memory_bytes: capacity.
        l2_bytes: level-2 cache.
        shared_bytes: shared memory of one SM.
        power_w: board power limit.
        die_mm2: silicon area; ``None`` where the vendor prints none.
        link: name of the link between GPUs (``hwmodel.link.LINKS``).
        compute_capability: major and minor.
        library: fitted constants.
        source: of the data sheet.
        kernels: whose kernels multiply few tokens by an encoded weight.
    """

    name: str
    multiprocessors: int
    frequency_hz: float
    tensor_flops: Mapping[str, float]
    dram: Dram
    memory_bytes: float
    l2_bytes: int
    shared_bytes: int
    power_w: float
    die_mm2: float | None
    link: str
    compute_capability: tuple[int, int]
    library: GpuLibrary
    source: str
    kernels: GpuKernels = GpuKernels.PROJECT

    def __post_init__(self) -> None:
        if "fp16" not in self.tensor_flops:
            raise ValueError(f"tensor_flops of GPU {self.name} must have fp16, not only {sorted(self.tensor_flops)}")
        for what in ("multiprocessors", "frequency_hz", "memory_bytes", "l2_bytes", "shared_bytes", "power_w"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} of GPU {self.name} must be above 0, not {getattr(self, what)!r}")

    def macs_per_cycle(self, kind: str = "fp16") -> float:
        """Multiply-adds of all tensor cores in a cycle for operands of ``kind``; FP16's where the sheet has none."""
        return self.tensor_flops.get(kind, self.tensor_flops["fp16"]) / 2 / self.frequency_hz

    def peak_macs_per_cycle_of_bits(self, weight: float, activation: float) -> float:
        """Multiply-adds in a cycle for operands of so many bits: the wider operand sets the tensor core's rate."""
        bits = max(weight, activation)
        kinds = [kind for kind in self.tensor_flops if bits <= OPERAND_BITS[kind]]
        return max((self.macs_per_cycle(kind) for kind in kinds), default=self.macs_per_cycle())

    @property
    def most_macs_per_cycle(self) -> float:
        """The largest of all rates: the roof of the roofline."""
        return max(self.macs_per_cycle(kind) for kind in self.tensor_flops)

    @property
    def lane_operations_per_s(self) -> float:
        """Instructions a second of all threads outside the tensor cores, at full issue."""
        return self.multiprocessors * _LANES * self.frequency_hz

    @property
    def streamed_bytes_per_s(self) -> float:
        """DRAM bandwidth that the library's kernels reach."""
        return self.dram.bytes_per_s * self.library.dram_share

    @property
    def area_mm2(self) -> float:
        """The die; NaN where the vendor prints none."""
        return float("nan") if self.die_mm2 is None else self.die_mm2

    def fits(self, resident_bits: int, gpus: int = 1) -> bool:
        """Whether weights and cache of ``resident_bits`` fit into the memory of ``gpus`` of these, evenly cut.

        Raises:
            ValueError: fewer than one GPU.
        """
        if gpus < 1:
            raise ValueError(f"gpus must be at least 1, not {gpus!r}")
        return resident_bits <= self.memory_bytes * BYTE_BITS * gpus


OPERAND_BITS: Mapping[str, int] = {"fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}
Machine = Accelerator | Gpu
