"""What an accelerator takes on an FPGA: PEs, term encoders, vector unit and buffers, each with what its number is.

Each kind of PE is priced as the module of ``hls/rtl`` that computes the same (``docs/unit_costs.md`` lists them); a PE
whose authors published LUTs keeps theirs. Left out, and so on top of every estimate: control, interconnect, memory
controllers (``hwmodel.fpga.CONTROLLERS``), requantization, schedulers of term skipping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from datatypes.catalog import FP16, INTS, MINIFLOATS
from datatypes.format import Format, IntFormat
from hwmodel.accelerator import Accelerator
from hwmodel.fpga import FINN_LIMITS, NOTHING, Budget, FpgaDevice, FpgaResources, Limits, budget, planning_clock_hz
from hwmodel.fpga_calibration import FpgaCalibration, calibrated
from hwmodel.fpga_memory import smallest_blocks
from hwmodel.memory import Sram
from hwmodel.pe import PE, WIDE_BITS, PeKind
from hwmodel.report import ResourceReport
from hwmodel.unit_cost import Figure, Origin, UnitCost, price_pe
from hwmodel.unit_cost_design import Arithmetic, FloatAccumulator, PeDesign, design, pe_design
from hwmodel.unit_cost_fused import price_fused_bricks
from hwmodel.unit_cost_registers import registers

_MX_ELEMENTS: Mapping[int, str] = {4: "e2m1", 6: "e2m3", 8: "e4m3"}  # OCP MX 1.0: a float element of each width


@dataclass(frozen=True)
class FpgaPart:
    """One kind of thing in an accelerator.

    Args:
        name: what it is.
        count: how many.
        luts, flip_flops, dsps: of one.
        memory: blocks of one.
    """

    name: str
    count: int
    luts: Figure | None = None
    flip_flops: Figure | None = None
    dsps: Figure | None = None
    memory: FpgaResources = NOTHING

    @property
    def resources(self) -> FpgaResources:
        """Of all of them; what is not known counts as nothing."""
        known = [0.0 if figure is None else figure.value for figure in (self.luts, self.flip_flops, self.dsps)]
        return (FpgaResources(*known) + self.memory).scaled(self.count)

    @property
    def lut_error(self) -> float | None:
        """Expected error of all of its LUTs, in LUTs: the mean error of how they were priced; ``None`` if unknown."""
        if self.luts is None:
            return 0.0
        return None if self.luts.mean_error is None else self.count * self.luts.value * self.luts.mean_error


@dataclass(frozen=True)
class FpgaEstimate:
    """An accelerator on a device.

    Args:
        accelerator, device: names.
        parts: with counts and origins.
        budget: against the device's limits.
        clock_hz: the accelerator's own.
        planning_clock_hz: of the device; ``None`` where none is known.
        missing: what is not counted, one sentence each.
        calibration: what corrected the budget; empty for nothing. Parts are as they were.
    """

    accelerator: str
    device: str
    parts: tuple[FpgaPart, ...]
    budget: Budget
    clock_hz: float
    planning_clock_hz: float | None
    missing: tuple[str, ...]
    calibration: str = ""

    @property
    def resources(self) -> FpgaResources:
        """Sum of the parts, not calibrated."""
        return sum((part.resources for part in self.parts), NOTHING)

    @property
    def lut_error(self) -> float | None:
        """Expected error of all LUTs, relative, if the parts err the same way; ``None`` where a part's is unknown."""
        luts, errors = self.resources.luts, [part.lut_error for part in self.parts]
        known = [error for error in errors if error is not None]
        if len(known) < len(errors):
            return None
        return sum(known) / luts if luts else 0.0

    def report(self) -> ResourceReport:
        """As a record for calibration and tables; rounded to whole sites."""
        total = self.resources
        return ResourceReport(
            self.accelerator, self.device, "hwmodel.unit_cost (estimate)", luts=round(total.luts),
            flip_flops=round(total.flip_flops), dsps=round(total.dsps), brams=total.bram36,
            max_frequency_hz=self.planning_clock_hz,
        )  # fmt: skip


def _integer(bits: int) -> IntFormat:
    return INTS.get(bits) or IntFormat(f"int{bits}", bits, "the accelerator's widest integer")


def _bit_serial(pe: PE) -> PeDesign:
    return pe_design(MINIFLOATS["e2m1"] if pe.max_integer_bits < 2 else _integer(pe.max_integer_bits), FP16,
                     arithmetic=Arithmetic.BITMOD, lanes=pe.lanes)  # fmt: skip


def _integer_multiplier(pe: PE) -> PeDesign:
    weight = _integer(pe.max_integer_bits or WIDE_BITS)
    if pe.max_activation_bits:
        return pe_design(weight, _integer(pe.max_activation_bits), lanes=pe.lanes)
    return pe_design(weight, FP16, accumulator=FloatAccumulator(), lanes=pe.lanes)


def _float(pe: PE) -> PeDesign:
    return pe_design(FP16, FP16, accumulator=FloatAccumulator(), lanes=pe.lanes)


def _activation_serial(pe: PE) -> PeDesign:
    weight, activation = _integer(pe.max_integer_bits), _integer(pe.max_activation_bits)
    return pe_design(weight, activation, arithmetic=Arithmetic.ACTIVATION_SERIAL, lanes=pe.lanes)


def _both_serial(pe: PE) -> PeDesign:
    weight, activation = _integer(pe.max_integer_bits), _integer(pe.max_activation_bits)
    return pe_design(weight, activation, arithmetic=Arithmetic.BOTH_SERIAL, lanes=pe.lanes)


def _terms(pe: PE) -> PeDesign:
    weight, activation = _integer(pe.max_integer_bits), _integer(pe.max_activation_bits)
    return pe_design(weight, activation, arithmetic=Arithmetic.TERM_SERIAL, lanes=pe.lanes)


def _block(pe: PE) -> PeDesign:
    widest = max(pe.modes, key=lambda mode: mode.bits)
    fmt: Format = INTS[8] if all(m.integer for m in pe.modes) else MINIFLOATS[_MX_ELEMENTS.get(widest.bits, "e4m3")]
    return pe_design(fmt, fmt, arithmetic=Arithmetic.BLOCK, lanes=widest.lanes)


_DESIGNS: Mapping[PeKind, Callable[[PE], PeDesign]] = {
    PeKind.BIT_SERIAL: _bit_serial,
    PeKind.INT_MULTIPLIER: _integer_multiplier,
    PeKind.FP16_MAC: _float,
    PeKind.TABLE_LOOKUP: _float,
    PeKind.ACTIVATION_SERIAL: _activation_serial,
    PeKind.BOTH_SERIAL: _both_serial,
    PeKind.TERM_SKIPPING: _terms,
    PeKind.BLOCK_DOT: _block,
}


def design_of_pe(pe: PE) -> PeDesign:
    """The module that computes what ``pe`` does.

    Raises:
        NotImplementedError: fused bricks, which have no module; ``price_accelerator_pe`` composes them.
    """
    if pe.kind not in _DESIGNS:
        raise NotImplementedError(f"a PE of kind {pe.kind.value} has no module of its own")
    return _DESIGNS[pe.kind](pe)


def price_accelerator_pe(pe: PE, *, dsp: bool = False, target: str = "lut6") -> UnitCost:
    """LUTs, flip-flops and DSPs, or cell area, of one PE of an accelerator.

    Args:
        pe: of any kind.
        dsp: put its integer multiply-adds into DSP48E2s, where the kind allows it.
        target: ``lut6``, or a cell library that ``price_pe`` knows.

    Raises:
        ValueError: too few netlists of its kind are recorded.
        NotImplementedError: DSPs for a PE that has no integer multiply-adds.
    """
    if pe.kind is PeKind.FUSED_BRICKS:
        if dsp:
            raise NotImplementedError(f"fused bricks are LUT logic; PE {pe.name} has no DSPs")
        return price_fused_bricks(pe.brick_bits, pe.lanes, target)
    one = design_of_pe(pe)
    if pe.luts is not None and not dsp and target == "lut6":
        luts = Figure(pe.luts, Origin.PUBLISHED, None, None, pe.source)
        none = Figure(0.0, Origin.PUBLISHED, None, None, "not stated: LUT logic")
        count = registers(one)
        held = None if count is None else Figure(float(count), Origin.CLOSED_FORM, None, None, "registers of the RTL")
        return UnitCost(one, "lut6", luts, held, none, None)
    return price_pe(one, target, dsp=dsp)


_MISSING = {
    PeKind.TERM_SKIPPING: "the scheduler that finds terms",
    PeKind.TABLE_LOOKUP: "the tables at the rows' edge",
    PeKind.FUSED_BRICKS: "decoders of formats beyond integers",
}


def _widths_read(pe: PE) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Bits of a weight and of an activation that a lane may take from its buffer at a time.

    A machine that takes them serially reads a bit in a cycle, or all of them once in several cycles.
    """
    weights, inputs = pe.native_bits, pe.native_bits if pe.encoded_activations else WIDE_BITS
    return (
        (1, weights) if pe.kind is PeKind.BOTH_SERIAL else (weights,),
        (1, inputs) if pe.kind in (PeKind.BOTH_SERIAL, PeKind.ACTIVATION_SERIAL) else (inputs,),
    )


def _fewest_blocks(memory: Sram, port_bits: Sequence[float], device: FpgaDevice) -> FpgaResources:
    """Blocks of a buffer with whichever port takes fewer bits of them."""
    made = [smallest_blocks(memory.capacity_bytes * 8, bits, ultra_at_hand=device.uram288 > 0) for bits in port_bits]
    return min(made, key=lambda blocks: blocks.bram36 + 8 * blocks.uram288)  # 288 kb over 36 kb


def estimate_on_fpga(
    accelerator: Accelerator,
    device: FpgaDevice,
    *,
    dsp: bool = False,
    limits: Limits = FINN_LIMITS,
    calibration: FpgaCalibration | None = None,
) -> FpgaEstimate:
    """``accelerator`` on ``device``.

    Args:
        accelerator: any preset or file.
        device: with LUT6s.
        dsp: integer multiply-adds in DSPs.
        limits: shares that a plan may use.
        calibration: from reports of synthesis: corrects what the budget takes.

    Raises:
        ValueError: the device's LUTs have four inputs, or too few netlists of the PE's kind are recorded.
    """
    if device.lut_inputs != 6:
        raise ValueError(f"device must have LUTs of 6 inputs for these counts, not {device.lut_inputs} ({device.name})")
    pe = accelerator.pe
    cost = price_accelerator_pe(pe, dsp=dsp)
    parts = [FpgaPart(f"PE {pe.name}", accelerator.pe_count, cost.luts, cost.flip_flops, cost.dsps)]
    array = accelerator.prefill_array
    if pe.kind is PeKind.BIT_SERIAL:
        encoder = price_pe(design("bitmod_term_encoder", ACCUMULATOR_BITS=0), "lut6")
        parts.append(FpgaPart("term encoder", array.rows * pe.lanes, encoder.luts, encoder.flip_flops, encoder.dsps))
    missing = ["control, interconnect, memory controllers and requantization"]
    if pe.kind in _MISSING:
        missing.append(_MISSING[pe.kind])
    if accelerator.technology.name.startswith("zynq"):
        missing.append("the vector unit, which is the host's")
    else:
        lane = price_pe(pe_design(FP16, FP16, accumulator=FloatAccumulator()), "lut6")
        parts.append(FpgaPart("vector lane", accelerator.vector.lanes, lane.luts, lane.flip_flops, lane.dsps))
    weights, inputs = _widths_read(pe)
    ports = (
        ("weight buffer", accelerator.weight_buffer, [accelerator.weight_port_bits(b, array) for b in weights]),
        ("activation buffer", accelerator.activation_buffer, [accelerator.input_port_bits(array, b) for b in inputs]),
    )
    for name, memory, port_bits in ports:
        parts.append(FpgaPart(name, 1, memory=_fewest_blocks(memory, port_bits, device)))
    total, said = sum((part.resources for part in parts), NOTHING), ""
    if calibration is not None:
        total, said = calibrated(total, calibration, device.family)
    return FpgaEstimate(
        accelerator.name, device.name, tuple(parts), budget(total, device, limits), accelerator.frequency_hz,
        planning_clock_hz(device), tuple(missing), said,
    )  # fmt: skip
