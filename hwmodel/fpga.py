"""FPGA devices and their budgets: does a design fit, what limits it, at what clock it is planned.

Budgets follow FINN's planning limits (Blott et al., FINN-R, ACM TRETS 11(3), 2018; github.com/Xilinx/finn 39f0c9a):
70 % of LUTs, 50 % of flip-flops, 80 % of block RAM, UltraRAM and DSPs. Memories are counted in ``hwmodel.fpga_memory``.
Capacities with their sources: ``data/fpga_devices.csv``. Left out: routing, the shell of a board, several dies.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache

from hwmodel.synthesis_table import DATA, best_rows

DEVICES_FILE = DATA / "fpga_devices.csv"
_SITES = ("luts", "flip_flops", "dsps", "bram36", "uram288")

# Planning clocks, Hz: BISMO's published clocks on these families (TRETS 12(3), 2019: Ultra96; FPL 2018: PYNQ-Z1).
# ASSUMPTION: a LUT datapath with registered operands and products runs as fast as BISMO's.
PLANNING_CLOCK_HZ: Mapping[str, float] = {"UltraScale+": 300e6, "7-series": 200e6}
_CLOCK_BASE = "int_dot.w8a8.x1rr"  # an INT8 MAC with registered operands and product: ratio 1
# DDR4 controller and HBM controller in FINN's planning (github.com/Xilinx/finn 39f0c9a): LUTs, flip-flops, BRAM18s / 2
CONTROLLERS: Mapping[str, tuple[int, int, float]] = {"DDR4": (33256, 44889, 99.5), "HBM": (10718, 21793, 4.0)}


@dataclass(frozen=True)
class FpgaResources:
    """Sites of a design. Additive; fractions of a site are allowed in estimates.

    Args:
        luts, flip_flops, dsps: of the fabric.
        bram36: block RAMs of 36 kb; a half is one of 18 kb.
        uram288: UltraRAMs of 288 kb.
    """

    luts: float = 0.0
    flip_flops: float = 0.0
    dsps: float = 0.0
    bram36: float = 0.0
    uram288: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise ValueError(f"{field.name} of a design must be at least 0, not {getattr(self, field.name)!r}")

    def __add__(self, other: FpgaResources) -> FpgaResources:
        return FpgaResources(*(getattr(self, name) + getattr(other, name) for name in _SITES))

    def scaled(self, factor: float) -> FpgaResources:
        """So many of it."""
        return FpgaResources(*(getattr(self, name) * factor for name in _SITES))


@dataclass(frozen=True)
class Limits:
    """Shares of a device that a plan may use. Source: FINN's planning limits."""

    luts: float = 0.7
    flip_flops: float = 0.5
    dsps: float = 0.8
    bram36: float = 0.8
    uram288: float = 0.8

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) <= 1:
                raise ValueError(
                    f"limit of {field.name} must be above 0 and at most 1, not {getattr(self, field.name)!r}"
                )


FINN_LIMITS = Limits()
NOTHING = FpgaResources()


@dataclass(frozen=True)
class FpgaDevice:
    """Capacities of a part.

    Args:
        name: of the board, lower case.
        device, family: of the part.
        lut_inputs: 6, or 4 where LUT6 counts do not apply.
        luts, flip_flops, dsps, bram36, uram288: sites.
        dsp_type: what its DSPs are.
        offchip: kind of memory.
        offchip_bytes_per_s: its bandwidth; ``None`` without one.
        source, note: where the figures come from; which are computed.
    """

    name: str
    device: str
    family: str
    lut_inputs: int
    luts: int
    flip_flops: int
    dsps: int
    dsp_type: str
    bram36: int
    uram288: int
    offchip: str
    offchip_bytes_per_s: float | None
    source: str
    note: str

    @property
    def capacity(self) -> FpgaResources:
        """All of its sites."""
        return FpgaResources(*(float(getattr(self, name)) for name in _SITES))


@cache
def _devices() -> Mapping[str, FpgaDevice]:
    with DEVICES_FILE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        row["name"]: FpgaDevice(
            row["name"], row["device"], row["family"], int(row["lut_inputs"]), int(row["luts"]),
            int(row["flip_flops"]), int(row["dsps"]), row["dsp_type"], int(row["bram36"]), int(row["uram288"]),
            row["offchip"], float(row["offchip_gb_s"]) * 1e9 if row["offchip_gb_s"] else None, row["source"],
            row["note"],
        )
        for row in rows
    }  # fmt: skip


DEVICES: Mapping[str, FpgaDevice] = _devices()


def device_by_name(name: str) -> FpgaDevice:
    """The device called ``name``.

    Raises:
        ValueError: there is none; the message names the nearest ones.
    """
    if name in DEVICES:
        return DEVICES[name]
    near = difflib.get_close_matches(name, list(DEVICES), n=3) or list(DEVICES)
    raise ValueError(f"device must be one of {', '.join(near)}, not {name!r}")


# --- budgets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """One resource of a design on a device.

    Args:
        resource: its name.
        used, capacity: sites.
        limit: share that a plan may use.
    """

    resource: str
    used: float
    capacity: float
    limit: float

    @property
    def share(self) -> float:
        """Of the device; infinite where there is none of what is used."""
        if self.capacity == 0:
            return 0.0 if self.used == 0 else float("inf")
        return self.used / self.capacity

    @property
    def fits(self) -> bool:
        """Whether it keeps the limit."""
        return self.share <= self.limit


@dataclass(frozen=True)
class Budget:
    """A design on a device: every resource against its limit."""

    device: FpgaDevice
    uses: tuple[Use, ...]

    @property
    def fits(self) -> bool:
        """Whether all limits are kept."""
        return all(use.fits for use in self.uses)

    @property
    def tightest(self) -> Use:
        """The resource that comes nearest to its limit, or exceeds it most."""
        return max(self.uses, key=lambda use: use.share / use.limit)

    @property
    def copies(self) -> int | None:
        """How many of the design the limits allow; ``None`` if it uses nothing."""
        rooms = [use.limit * use.capacity / use.used for use in self.uses if use.used > 0]
        return int(min(rooms)) if rooms else None


def budget(design: FpgaResources, device: FpgaDevice, limits: Limits = FINN_LIMITS) -> Budget:
    """``design`` against the limits of ``device``.

    >>> budget(FpgaResources(luts=83.8), DEVICES["kv260"]).copies
    978
    """
    capacity = device.capacity
    return Budget(
        device,
        tuple(Use(n, getattr(design, n), getattr(capacity, n), getattr(limits, n)) for n in _SITES),
    )


# --- clocks ----------------------------------------------------------------------------------------------------------


def relative_clock(recorded_design: str) -> float:
    """Frequency of a recorded design over that of an INT8 MAC with registered operands and product.

    Placed and routed on ECP5, a LUT4 fabric: a ratio between designs, not a frequency of another family. Recorded PEs
    have one or two stages; a deeper pipeline is faster.

    Raises:
        ValueError: the design was not placed and routed.
    """
    rows = {name: row.max_frequency_hz for name, row in best_rows("ecp5").items() if row.max_frequency_hz}
    if recorded_design not in rows or _CLOCK_BASE not in rows:
        raise ValueError(f"design must be one of the placed ones ({', '.join(rows)}), not {recorded_design!r}")
    return rows[recorded_design] / rows[_CLOCK_BASE]


def planning_clock_hz(device: FpgaDevice, recorded_design: str | None = None) -> float | None:
    """Clock to plan with: what BISMO runs at on that family, times the design's ratio where one is known, at most 1.

    ``None`` where no published clock is at hand (Versal, ECP5). A faster design than the base is not promised more:
    clock trees, memories and wires of a whole array do not follow its PE.
    """
    base = PLANNING_CLOCK_HZ.get(device.family)
    if base is None:
        return None
    return base * min(1.0, relative_clock(recorded_design)) if recorded_design is not None else base
