"""What an exported layer takes on a device, and how long a call lasts: resources, interval, latency, bandwidth, fit.

``estimate_layer(plan, device, clock_hz)`` prices the generated code part by part (``hls.estimate_logic``), its arrays
(``hls.estimate_buffers``) and its loops (``hls.estimate_cycles``). Every figure says what it is; what nothing prices is
named. Reports of a user's own synthesis correct it (``hwmodel.fpga_calibration``). ``docs/hls_estimate.md`` says what
was compared with what.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hls.estimate_buffers import Buffer, buffers, layer_fifos
from hls.estimate_cycles import CallCycles, call_cycles, image_bytes_read
from hls.estimate_logic import logic_parts
from hls.layer_loops import layer_loops
from hls.layer_plan import LayerPlan
from hls.weights import BEAT_BYTES, row_beats
from hwmodel.fpga import NOTHING, Budget, FpgaDevice, FpgaResources, budget
from hwmodel.fpga_accelerator import FpgaPart
from hwmodel.fpga_calibration import FpgaCalibration, calibrated
from hwmodel.report import ResourceReport
from hwmodel.unit_cost import Figure, Origin

TOOL = "codesign hls estimate"


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimate(ABC):
    """What layers and blocks on a device have in common.

    Args:
        device: it is put on.
        clock_hz: that it is planned with.
        parts: logic, with counts and origins.
        arrays: memories, as blocks of the device.
        missing: what is not counted.
        macs: multiplications of what is timed.
        bytes_moved: of that: weight image, input, output, cache.
        resources: of everything, calibrated if there is a calibration.
        budget: of these, against the device's limits.
        calibration: what corrected the resources; empty for nothing.
    """

    device: FpgaDevice
    clock_hz: float
    parts: tuple[FpgaPart, ...]
    arrays: tuple[tuple[Buffer, FpgaResources], ...]
    missing: tuple[str, ...]
    macs: int
    bytes_moved: int
    resources: FpgaResources
    budget: Budget
    calibration: str = ""

    @property
    @abstractmethod
    def latency(self) -> int:
        """Cycles of what is timed, as pragmas ask."""

    @property
    def logic(self) -> tuple[FpgaPart, ...]:
        """All parts that the error of the whole follows from."""
        return self.parts

    @property
    def seconds(self) -> float:
        """Of what is timed, as pragmas ask."""
        return self.latency / self.clock_hz

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth that is needed to last no longer."""
        return self.bytes_moved / self.seconds

    @property
    def _known(self) -> list[FpgaPart]:
        return [part for part in self.logic if part.lut_error is not None]

    @property
    def lut_error(self) -> float | None:
        """Expected relative error of the parts' LUTs whose error is known; ``None`` if it is known of none."""
        luts = sum(part.resources.luts for part in self._known)
        return sum(part.lut_error or 0.0 for part in self._known) / luts if luts else None

    @property
    def known_share(self) -> float:
        """Share of the parts' LUTs whose error is known."""
        luts = sum(part.resources.luts for part in self.logic)
        return sum(part.resources.luts for part in self._known) / luts if luts else 0.0

    def entry(self, tokens: int, cycles: Mapping[str, Any], layers: Mapping[str, Any]) -> dict[str, Any]:
        """For a manifest: JSON-able, the same bytes for the same estimate.

        Args:
            tokens: that are timed.
            cycles: of them.
            layers: entry of what is inside, empty for nothing.
        """
        return {
            "clock_hz": self.clock_hz,
            "resources": sites_entry(self.resources),
            "limits": {
                use.resource: {"share": round(use.share, 6), "limit": use.limit, "fits": use.fits}
                for use in self.budget.uses
                if use.used or use.capacity
            },
            "fits": self.budget.fits,
            "tightest": self.budget.tightest.resource,
            "lut_error": _rounded(self.lut_error),
            "luts_of_known_error": round(self.known_share, 4),
            "tokens": tokens,
            "macs": self.macs,
            **cycles,
            "seconds": float(f"{self.seconds:.6g}"),
            "bytes": self.bytes_moved,
            "bytes_per_s": round(self.bytes_per_s),
            "device_bytes_per_s": self.device.offchip_bytes_per_s,
            **layers,
            "parts": [_part_entry(part) for part in self.parts],
            "memories": [_memory_entry(buffer, taken) for buffer, taken in self.arrays],
            "missing": list(self.missing),
            "calibration": self.calibration,
        }


@dataclass(frozen=True, kw_only=True)
class LayerEstimate(Estimate):
    """A layer on a device.

    Args:
        name: of the design.
        tokens: of the call that is timed; ``macs`` are those of its dense parts.
        cycles: with the intervals that pragmas ask for; ``port_cycles``: with two ports an array.
    """

    name: str
    tokens: int
    cycles: CallCycles
    port_cycles: CallCycles

    @property
    def latency(self) -> int:
        """Cycles of one call."""
        return self.cycles.latency

    def report(self) -> ResourceReport:
        """As a record to compare reports with."""
        total = self.resources
        return ResourceReport(
            self.name, self.device.name, TOOL, luts=round(total.luts), flip_flops=round(total.flip_flops),
            dsps=round(total.dsps), brams=total.bram36, urams=round(total.uram288),
            max_frequency_hz=self.clock_hz, latency_cycles=self.cycles.latency,
            interval_cycles=self.cycles.call_interval,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """For a manifest."""
        cycles = {"cycles": _cycles(self.cycles), "cycles_with_two_ports": _cycles(self.port_cycles)}
        return self.entry(self.tokens, cycles, {})


def _cycles(cycles: CallCycles) -> dict[str, Any]:
    return {
        "latency": cycles.latency, "input": cycles.input, "prepare": cycles.prepare, "tiles": cycles.tiles,
        "output": cycles.output, "interval_of_calls": cycles.call_interval, "steps": cycles.steps,
        "interval_of_steps": cycles.interval, "bound": cycles.bound,
    }  # fmt: skip


def sites_entry(taken: FpgaResources) -> dict[str, float]:
    """Sites in a manifest."""
    return {key: round(value, 1) for key, value in asdict(taken).items()}


def _rounded(error: float | None) -> float | None:
    return None if error is None else round(error, 4)


def _part_entry(part: FpgaPart) -> dict[str, Any]:
    """A part in a manifest."""

    def value(figure: Any) -> float | None:
        return None if figure is None else round(figure.value, 2)

    return {
        "part": part.name, "count": part.count, "luts": value(part.luts), "flip_flops": value(part.flip_flops),
        "dsps": value(part.dsps), "origin": "" if part.luts is None else part.luts.origin.value,
        "mean_error": None if part.luts is None else _rounded(part.luts.mean_error),
        "worst_error": None if part.luts is None else _rounded(part.luts.worst_error),
        "error": error_text(part.luts),
        "source": "" if part.luts is None else part.luts.source,
    }  # fmt: skip


_UNKNOWN: Mapping[Origin, str] = {
    Origin.CLOSED_FORM: "a rule of its structure, which no netlist or report was compared with",
    Origin.COMPOSED: "a sum of priced parts that was never synthesised as one",
    Origin.PUBLISHED: "one published figure, and no second one",
}


def error_text(luts: Figure | None) -> str:
    """How wrong a part's LUTs are, or that and why nobody knows.

    >>> error_text(Figure(8.0, Origin.CLOSED_FORM, None, None, "a LUT a bit"))
    'error not known: a rule of its structure, which no netlist or report was compared with'
    >>> error_text(Figure(8.0, Origin.FIT, 0.021, 0.094, "33 netlists"))
    'mean 2.1 %, worst 9.4 %'
    """
    if luts is None:
        return "error not known: no price"
    if luts.mean_error is None or luts.worst_error is None:
        return f"error not known: {_UNKNOWN.get(luts.origin, 'nothing was compared')}"
    return f"mean {100 * luts.mean_error:.1f} %, worst {100 * luts.worst_error:.1f} %"


def _memory_entry(buffer: Buffer, taken: FpgaResources) -> dict[str, Any]:
    """A memory in a manifest."""
    used = {key: value for key, value in asdict(taken).items() if value}
    return {
        "array": buffer.name, "banks": buffer.banks, "width_bits": buffer.width_bits, "depth": buffer.depth,
        "copies": buffer.copies, **used,
    }  # fmt: skip


def estimate_layer(
    plan: LayerPlan,
    device: FpgaDevice,
    clock_hz: float,
    *,
    name: str = "",
    on_chip: bool = False,
    calibration: FpgaCalibration | None = None,
) -> LayerEstimate:
    """What a planned layer takes, with a call of as many tokens as it holds.

    Args:
        plan: of the layer.
        device: with LUTs of six inputs.
        clock_hz: of the kernel.
        name: of the design.
        on_chip: whether the weight image is a table of the kernel.
        calibration: from reports of synthesis.

    Raises:
        ValueError: LUTs of four inputs, or a clock that is none.
    """
    if device.lut_inputs != 6:
        raise ValueError(f"device must have LUTs of 6 inputs for these counts, not {device.lut_inputs} ({device.name})")
    if not clock_hz > 0:
        raise ValueError(f"clock_hz of a kernel must be above 0, not {clock_hz!r}")
    parts, missing = logic_parts(plan, on_chip=on_chip)
    ultra = device.uram288 > 0
    arrays = tuple((one, one.resources(ultra_at_hand=ultra)) for one in buffers(plan, on_chip=on_chip))
    total = sum((part.resources for part in parts), NOTHING)
    total = sum((taken for _, taken in arrays), total)
    total = sum((fifo.resources for fifo in layer_fifos(plan)), total)
    said = ""
    if calibration is not None:
        total, said = calibrated(total, calibration, device.family)
    bandwidth = device.offchip_bytes_per_s
    if not on_chip and bandwidth is None:
        missing.append(f"the memory behind the weight port: {device.name} has none whose bandwidth is known")
    behind = None if on_chip else bandwidth or BEAT_BYTES * clock_hz
    tokens = plan.options.tokens
    loops = layer_loops(plan, tokens)
    return LayerEstimate(
        name=name,
        device=device,
        clock_hz=clock_hz,
        parts=tuple(parts),
        arrays=arrays,
        missing=tuple(missing),
        tokens=tokens,
        macs=tokens * plan.shape[0] * sum(part.stored_columns for part in plan.parts),
        cycles=call_cycles(plan, loops, clock_hz, bytes_per_s=behind),
        port_cycles=call_cycles(plan, loops, clock_hz, bytes_per_s=behind, ports=True),
        bytes_moved=_bytes(plan, tokens) + (0 if on_chip else image_bytes_read(loops)),
        resources=total,
        budget=budget(total, device),
        calibration=said,
    )


def _bytes(plan: LayerPlan, tokens: int) -> int:
    """Inputs and outputs of a call."""
    return tokens * BEAT_BYTES * (row_beats(plan.shape[1], 16) + sum(plan.output_beats))
