"""What the event simulator can be told: DRAM channels, arbitration, how the array is fed, how buffers are refilled.

The defaults are the closed form's machine with the time it leaves out: bursts at the sustained bandwidth on two
channels, read latency, buffers refilled slot by slot. Everything else (rows, refresh, turnaround, systolic skew, bank
conflicts, prefetching across layers) is a switch, off at first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class Arbiter(Enum):
    """Which of the waiting streams a DRAM channel serves next."""

    EARLIEST = "earliest"  # the one whose next data the array needs first, as a queue in program order would
    ROUND_ROBIN = "round_robin"  # the next one after the one served last: weights, inputs, outputs
    PRIORITY = "priority"  # the first one that waits: inputs, weights, outputs


class Feed(Enum):
    """How operands reach the PEs and results leave them."""

    BROADCAST = "broadcast"  # every PE at once; results leave beside the next tile
    SYSTOLIC = "systolic"  # hand to hand: rows + columns - 2 cycles of skew and rows cycles of draining for each tile
    SYSTOLIC_OVERLAPPED = "systolic_overlapped"  # the same, but only for the first and last tile of a layer


class Refill(Enum):
    """When the room of data that are used up may be filled again."""

    SLOT = "slot"  # slice by slice
    HALVES = "halves"  # two halves in turn: one is filled while the other is read (ping-pong)
    SINGLE = "single"  # nothing is fetched before the array asks for it


@dataclass(frozen=True)
class DramChannels:
    """Geometry and timing of a DRAM, beside the bandwidth that the accelerator names.

    Args:
        channels: independent data buses that share the bandwidth; bursts go to them in turn.
        burst_bytes: moved by one access of one channel.
        row_bytes: of one open row of one channel.
        banks: of one channel, each with one open row.
        latency_s: from the column command to the data.
        activate_s, precharge_s: to open and to close a row.
        write_to_read_s, read_to_write_s: the data bus is idle when the direction changes.
        refresh_interval_s, refresh_s: how often all banks are refreshed, and for how long.
        source: where the figures come from.
    """

    channels: int
    burst_bytes: int
    row_bytes: int
    banks: int
    latency_s: float
    activate_s: float
    precharge_s: float
    write_to_read_s: float
    read_to_write_s: float
    refresh_interval_s: float
    refresh_s: float
    source: str

    def __post_init__(self) -> None:
        for what in ("channels", "burst_bytes", "row_bytes", "banks"):
            value = getattr(self, what)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{what} of DRAM channels must be an integer of at least 1, not {value!r}")
        if self.row_bytes % self.burst_bytes:
            raise ValueError(
                f"row_bytes of DRAM channels must be a multiple of burst_bytes {self.burst_bytes}, "
                f"not {self.row_bytes!r}"
            )
        for what in ("latency_s", "activate_s", "precharge_s", "write_to_read_s", "read_to_write_s", "refresh_s"):
            if not getattr(self, what) >= 0:
                raise ValueError(f"{what} of DRAM channels must be at least 0, not {getattr(self, what)!r}")
        if not self.refresh_interval_s > self.refresh_s:
            raise ValueError(
                f"refresh_interval_s of DRAM channels must be above refresh_s {self.refresh_s}, "
                f"not {self.refresh_interval_s!r}"
            )


_TCK_S = 0.94e-9  # DRAMsim3, configs/DDR4_8Gb_x8_2133.ini: tCK
DDR4_CHANNELS = DramChannels(
    channels=2,  # BitMoD simulator: 128 bits wide; DRAMsim3's DDR4 channel has bus_width 64
    burst_bytes=64,  # BL 8 x 64 bits
    row_bytes=8192,  # 1024 columns x 8 devices of 8 bits
    banks=16,  # 4 groups of 4
    latency_s=16 * _TCK_S,  # CL
    activate_s=16 * _TCK_S,  # tRCD
    precharge_s=16 * _TCK_S,  # tRP
    write_to_read_s=(8 + 16) * _TCK_S,  # tWTR_L + CL: from the end of the written data to the read data
    read_to_write_s=1 * _TCK_S,  # tRTRS
    refresh_interval_s=8328 * _TCK_S,  # tREFI
    refresh_s=374 * _TCK_S,  # tRFC
    source="DRAMsim3 (Li et al., IEEE CAL 2020), configs/DDR4_8Gb_x8_2133.ini; two channels of 64 bits",
)


@dataclass(frozen=True)
class SimulationOptions:
    """How a simulation runs.

    Args:
        dram: geometry and timing of the memory.
        arbiter: which stream a channel serves next.
        quantum_bursts: bursts of one stream that a channel serves before it looks at the others.
        rows: row misses cost precharge and activation; the next row of a stream is opened ahead in its own bank. Bursts
            then run at peak bandwidth, for what they lose is simulated; likewise with ``refresh`` and ``turnaround``.
        refresh: all banks are refreshed at their interval.
        turnaround: the data bus waits where reads and writes meet.
        feed: how the array is fed.
        refill: when room in the buffers is filled again.
        bank_conflicts: banks of each SRAM buffer, single-ported, over which steps and bursts are interleaved: a burst
            written into the bank that the array reads holds the array up for a cycle. ``None``: two ports.
        prefetch: the next layers' weights are fetched as soon as there is room. Otherwise a layer starts when the one
            before has ended.
        slice_bytes: of one operand, fetched and computed as one piece; a step of the array at least.
        least_slices: where a layer moves fewer than so many slices, slices and ``quantum_bursts`` are as many times
            smaller: the grain of the simulation shall not show in small layers. 1 for slices as they are.
        output_room_bytes: results that may wait to be written, of all tiles together.
        result_tiles: tiles whose results the array may have begun before the vector unit has taken them: doubled
            accumulators and a queue of two. ASSUMPTION: no publication sizes it.
        piece_limit: slices are made longer where a layer would have more pieces than this, to a quarter of their
            buffer (``hwmodel.event_tiles.cut``).
    """

    dram: DramChannels = field(default=DDR4_CHANNELS)
    arbiter: Arbiter = Arbiter.EARLIEST
    quantum_bursts: int = 16
    rows: bool = False
    refresh: bool = False
    turnaround: bool = False
    feed: Feed = Feed.BROADCAST
    refill: Refill = Refill.SLOT
    bank_conflicts: int | None = None
    prefetch: bool = False
    slice_bytes: int = 4096
    least_slices: int = 256
    output_room_bytes: int = 65536
    result_tiles: int = 4
    piece_limit: int = 2_000_000

    def __post_init__(self) -> None:
        sizes = ("quantum_bursts", "slice_bytes", "least_slices", "output_room_bytes", "result_tiles", "piece_limit")
        for what in sizes:
            value = getattr(self, what)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{what} of a simulation must be an integer of at least 1, not {value!r}")
        if self.bank_conflicts is not None and self.bank_conflicts < 1:
            raise ValueError(f"bank_conflicts of a simulation must be at least 1 or None, not {self.bank_conflicts!r}")

    @property
    def timed_dram(self) -> bool:
        """Whether the DRAM's losses are simulated rather than taken from its efficiency."""
        return self.rows or self.refresh or self.turnaround

    def grain(self, moved_bytes: int) -> SimulationOptions:
        """These options with slices and quanta for a layer that moves so many bytes."""
        share = moved_bytes / (self.least_slices * self.slice_bytes)
        if share >= 1:
            return self
        return replace(
            self,
            slice_bytes=max(min(self.dram.burst_bytes, self.slice_bytes), int(self.slice_bytes * share)),
            quantum_bursts=max(1, int(self.quantum_bursts * share)),
        )


BANDWIDTH = SimulationOptions()
DRAM_TIMING = SimulationOptions(rows=True, refresh=True, turnaround=True)
