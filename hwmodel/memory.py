"""On-chip SRAM by a table of CACTI 7 runs, and DRAM by bandwidth and energy per bit.

The table (``data/sram_28nm.csv``) holds CACTI 7 results at 28 nm for buffers of 8 banks (ITRS-HP cells, 360 K, one read
and one write port, every access activates all banks), capacities 64 KiB to 2 MiB and port widths 64 to 4096 bits.
``data/bitmod_cacti_sram.csv`` holds the nine widths that the BitMoD design points use; those are taken as they are.
Between table points energies are interpolated linearly in the port width and in the logarithm of the capacity. CACTI
changes its subarrays in jumps, so that costs accuracy: a point left out and interpolated from its neighbours misses by
2.5 % on average and 9.2 % at most for 512 KiB, by up to 33 % for other capacities, and a capacity left out by 10 % on
average and 35 % at most (``tests/hwmodel/test_memory.py``). A capacity outside the table is an error; a port wider than
the table's is so many buffers of the widest tabulated port read side by side, each a share of the whole. Other nodes
than 28 nm are scaled (``hwmodel.technology``).
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hwmodel.technology import node_scaling
from hwmodel.units import KIB

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class SramPoint:
    """Figures of one SRAM buffer at one port width.

    Args:
        read_pj, write_pj: energy of one access of the whole port, all banks.
        leakage_mw: subthreshold and gate leakage of all banks.
        area_mm2: area of all banks.
    """

    read_pj: float
    write_pj: float
    leakage_mw: float
    area_mm2: float


def _mix(a: SramPoint, b: SramPoint, share: float) -> SramPoint:
    """``a`` and ``b`` mixed linearly, ``share`` of ``b``."""
    return SramPoint(
        a.read_pj + share * (b.read_pj - a.read_pj),
        a.write_pj + share * (b.write_pj - a.write_pj),
        a.leakage_mw + share * (b.leakage_mw - a.leakage_mw),
        a.area_mm2 + share * (b.area_mm2 - a.area_mm2),
    )


@cache
def sram_table() -> Mapping[int, Mapping[int, SramPoint]]:
    """The CACTI results: capacity in bytes -> port width in bits -> figures, both ascending."""
    table: dict[int, dict[int, SramPoint]] = {}
    with (DATA / "sram_28nm.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            leakage = float(row["subthreshold_leakage_mw"]) + float(row["gate_leakage_mw"])
            point = SramPoint(
                float(row["read_pj_per_access"]), float(row["write_pj_per_access"]), leakage, float(row["area_mm2"])
            )
            table.setdefault(int(row["capacity_kib"]) * KIB, {})[int(row["port_bits"])] = point
    with (DATA / "bitmod_cacti_sram.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            ports = table[int(row["size_KB"]) * KIB]
            port = int(row["port_width_bits"])
            leakage = interpolate_port(ports, port).leakage_mw  # not part of the published table
            read, write = float(row["read_pJ_per_access_all_banks"]), float(row["write_pJ_per_access_all_banks"])
            ports[port] = SramPoint(read, write, leakage, float(row["area_mm2"]))
    return {size: dict(sorted(table[size].items())) for size in sorted(table)}


def interpolate_port(ports: Mapping[int, SramPoint], port_bits: float) -> SramPoint:
    """Figures at a port width between two of ``ports``, linear in the width.

    Raises:
        ValueError: the width lies outside ``ports``.
    """
    if port_bits in ports:
        return ports[int(port_bits)]
    widths = sorted(ports)
    if not widths[0] <= port_bits <= widths[-1]:
        raise ValueError(f"port_bits of an SRAM must lie in the table, {widths[0]} to {widths[-1]}, not {port_bits!r}")
    above = bisect_left(widths, port_bits)
    low, high = widths[above - 1], widths[above]
    return _mix(ports[low], ports[high], (port_bits - low) / (high - low))


@cache
def sram_point(capacity_bytes: int, port_bits: float) -> SramPoint:
    """Figures of a buffer, interpolated where the table has no such point.

    >>> sram_point(512 * KIB, 512).read_pj
    92.7944

    Raises:
        ValueError: capacity or port width outside the table.
    """
    return interpolate_capacity(sram_table(), capacity_bytes, port_bits)


def interpolate_capacity(
    table: Mapping[int, Mapping[int, SramPoint]], capacity_bytes: int, port_bits: float
) -> SramPoint:
    """Figures at a capacity between two of ``table``, linear in its logarithm; ports as in ``interpolate_port``.

    Raises:
        ValueError: capacity or port width outside ``table``.
    """
    if capacity_bytes in table:
        return interpolate_port(table[capacity_bytes], port_bits)
    sizes = sorted(table)
    if not sizes[0] <= capacity_bytes <= sizes[-1]:
        raise ValueError(
            f"capacity_bytes of an SRAM must lie in the table, {sizes[0]} to {sizes[-1]}, not {capacity_bytes!r}"
        )
    above = bisect_left(sizes, capacity_bytes)
    low, high = sizes[above - 1], sizes[above]
    share = math.log(capacity_bytes / low) / math.log(high / low)
    return _mix(interpolate_port(table[low], port_bits), interpolate_port(table[high], port_bits), share)


TABLE_NODE_NM = 28.0  # of the CACTI runs


@cache
def buffer_point(capacity_bytes: int, port_bits: float, node_nm: float) -> SramPoint:
    """Figures of a buffer in any node, with a port of any width.

    A port wider than the table's is cut into equal parts, and each part costs an access of its width.

    Raises:
        ValueError: capacity outside the table, or port narrower than the table's.
    """
    widest = max(next(iter(sram_table().values())))
    parts = math.ceil(port_bits / widest)
    point = sram_point(capacity_bytes, port_bits / parts)
    if parts == 1 and node_nm == TABLE_NODE_NM:
        return point
    scale = node_scaling(TABLE_NODE_NM, node_nm)
    return SramPoint(
        point.read_pj * parts * scale.energy,
        point.write_pj * parts * scale.energy,
        point.leakage_mw * scale.energy,
        point.area_mm2 * scale.area,
    )


@dataclass(frozen=True)
class Sram:
    """One on-chip buffer.

    Args:
        capacity_bytes: size.
        source: where the size comes from.
        node_nm: feature size; figures of the 28 nm table are scaled to it.
    """

    capacity_bytes: int
    source: str
    node_nm: float = TABLE_NODE_NM

    def __post_init__(self) -> None:
        sizes = list(sram_table())
        if not sizes[0] <= self.capacity_bytes <= sizes[-1]:
            raise ValueError(
                f"capacity_bytes of an SRAM must lie in the table, {sizes[0]} to {sizes[-1]}, "
                f"not {self.capacity_bytes!r}"
            )

    def at(self, port_bits: float) -> SramPoint:
        """Figures of this buffer with a port of ``port_bits``."""
        return buffer_point(self.capacity_bytes, port_bits, self.node_nm)


@dataclass(frozen=True)
class Dram:
    """Off-chip memory.

    Args:
        name: kind of memory.
        bytes_per_s: peak bandwidth of all channels.
        energy_pj_per_bit: read and write alike.
        efficiency: sustained over peak bandwidth for long sequential bursts.
        source: where the figures come from.
        channels: channels that share the traffic evenly (of HBM: stacks).
    """

    name: str
    bytes_per_s: float
    energy_pj_per_bit: float
    efficiency: float
    source: str
    channels: int = 1

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels of DRAM {self.name} must be at least 1, not {self.channels!r}")
        if self.bytes_per_s <= 0:
            raise ValueError(f"bytes_per_s of DRAM {self.name} must be above 0, not {self.bytes_per_s!r}")
        if self.energy_pj_per_bit < 0:
            raise ValueError(
                f"energy_pj_per_bit of DRAM {self.name} must be at least 0, not {self.energy_pj_per_bit!r}"
            )
        if not 0 < self.efficiency <= 1:
            raise ValueError(f"efficiency of DRAM {self.name} must be above 0 and at most 1, not {self.efficiency!r}")

    @property
    def channel_bytes_per_s(self) -> float:
        """Peak bandwidth of one channel."""
        return self.bytes_per_s / self.channels

    def with_channels(self, channels: int) -> Dram:
        """The same memory with another number of channels, each as fast as before.

        >>> from hwmodel.presets_memory import HBM3
        >>> HBM3.with_channels(4).bytes_per_s / 1e9
        3276.8
        """
        if channels < 1:
            raise ValueError(f"channels of DRAM {self.name} must be at least 1, not {channels!r}")
        return replace(self, channels=channels, bytes_per_s=self.channel_bytes_per_s * channels)

    def bits_per_cycle(self, frequency_hz: float, *, sustained: bool) -> float:
        """Bits in one clock cycle of the accelerator."""
        return self.bytes_per_s * 8 / frequency_hz * (self.efficiency if sustained else 1.0)
