"""An accelerator as the cost model sees it: frozen inputs with their sources, and the few sums over them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from hwmodel.array_path import bare_path
from hwmodel.memory import Dram, Sram
from hwmodel.pe import PE, WIDE_BITS, PeKind
from hwmodel.technology import Technology, node_scaling
from hwmodel.units import WORD_BITS, um2_to_mm2, uw_to_mw
from hwmodel.workload import Phase


@dataclass(frozen=True)
class Array:
    """How PEs are laid out: output-stationary, outputs ``n`` along ``rows``, tokens ``m`` along ``columns``."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"rows and columns of an array must be at least 1, not {self.rows!r} and {self.columns!r}")


@dataclass(frozen=True)
class VectorUnit:
    """FP16 multiply-add lanes beside the array, for everything that is not a matrix product.

    Args:
        lanes: operations in a cycle.
        energy_pj_per_operation: of one multiply-add after synthesis.
        area_um2_per_lane: after synthesis.
        source: where the figures come from.
    """

    lanes: int
    energy_pj_per_operation: float
    area_um2_per_lane: float
    source: str

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(f"lanes of a vector unit must be at least 1, not {self.lanes!r}")


@dataclass(frozen=True)
class Encoder:
    """What turns codes into what the PEs multiply, at the array's edge: term encoders, format decoders, tables.

    Args:
        energy_pj_per_cycle: of all of them while the array computes, after synthesis.
        area_um2: of all of them.
        source: where the figures come from.
    """

    energy_pj_per_cycle: float
    area_um2: float
    source: str


@dataclass(frozen=True)
class Accelerator:
    """A whole accelerator.

    Args:
        name: unique, lower case.
        pe: the processing element.
        prefill_array, decode_array: the array in each phase; the same number of PEs, laid out anew.
        weight_buffer, activation_buffer: on-chip memories.
        dram: off-chip memory.
        frequency_hz: clock.
        technology: silicon process.
        vector: the vector unit.
        source: where the design comes from.
        encoder: term encoders, decoders or tables at the array's edge, if there are any.
    """

    name: str
    pe: PE
    prefill_array: Array
    decode_array: Array
    weight_buffer: Sram
    activation_buffer: Sram
    dram: Dram
    frequency_hz: float
    technology: Technology
    vector: VectorUnit
    source: str
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        prefill = self.prefill_array.rows * self.prefill_array.columns
        decode = self.decode_array.rows * self.decode_array.columns
        if prefill != decode:
            raise ValueError(
                f"prefill_array and decode_array of accelerator {self.name} must have as many PEs, "
                f"not {prefill} and {decode}"
            )
        if self.frequency_hz <= 0:
            raise ValueError(f"frequency_hz of accelerator {self.name} must be above 0, not {self.frequency_hz!r}")
        if self.technology.static_power_mw is None and math.isnan(self.logic_leakage_mw):
            raise ValueError(
                f"areas of PE, encoder and vector unit of accelerator {self.name} must be numbers, not nan, unless "
                f"technology {self.technology.name} gives static_power_mw in place of leakage by area"
            )

    @cached_property
    def pe_count(self) -> int:
        """PEs in the array."""
        return self.prefill_array.rows * self.prefill_array.columns

    def array(self, phase: Phase) -> Array:
        """The array as laid out in ``phase``."""
        return self.prefill_array if phase is Phase.PREFILL else self.decode_array

    def weight_port_bits(self, bits: float, array: Array, lanes: int | None = None) -> float:
        """Width of the weight buffer's port: one step of weights for every row, in nibbles, halved if bit-serial.

        Source: BitMoD simulator, version 2; its quirk of rounding 4.0625 bits to two nibbles included. A port
        is at least one word wide. Fused bricks round to bricks, serial machines not at all.

        Args:
            bits: of a weight.
            array: the PEs as laid out.
            lanes: weights in a step; ``None`` for the PE's.
        """
        unit = self.pe.port_unit_bits
        width = (self.pe.lanes if lanes is None else lanes) * -(-bits // unit) * unit * array.rows
        return max(width / 2 if self.pe.bit_serial else width, WORD_BITS)

    def input_port_bits(self, array: Array, bits: float = WIDE_BITS, lanes: int | None = None) -> float:
        """Width of the activation buffer's port: one step of inputs for every column, halved if bit-serial.

        Args:
            array: the PEs as laid out.
            bits: of an activation.
            lanes: inputs in a step; ``None`` for the PE's.
        """
        width = (self.pe.lanes if lanes is None else lanes) * bits * array.columns
        return max(width / 2 if self.pe.bit_serial else width, WORD_BITS)

    @cached_property
    def pe_area_mm2(self) -> float:
        """Area of all PEs."""
        return um2_to_mm2(self.pe_count * self.pe.area_um2)

    @cached_property
    def encoder_area_mm2(self) -> float:
        """Area of encoders, decoders and tables."""
        return 0.0 if self.encoder is None else um2_to_mm2(self.encoder.area_um2)

    @cached_property
    def vector_area_mm2(self) -> float:
        """Area of the vector unit."""
        return um2_to_mm2(self.vector.lanes * self.vector.area_um2_per_lane)

    @cached_property
    def sram_area_mm2(self) -> float:
        """Area of both buffers, with ports for the widest native operands in the prefill layout."""
        inputs = self.pe.native_bits if self.pe.encoded_activations else WIDE_BITS
        weight = self.weight_buffer.at(self.weight_port_bits(self.pe.native_bits, self.prefill_array))
        return weight.area_mm2 + self.activation_buffer.at(self.input_port_bits(self.prefill_array, inputs)).area_mm2

    @property
    def area_mm2(self) -> float:
        """PEs, encoders, vector unit and buffers; no controllers, no wiring. ``nan`` on an FPGA."""
        return self.pe_area_mm2 + self.encoder_area_mm2 + self.vector_area_mm2 + self.sram_area_mm2

    @cached_property
    def logic_leakage_mw(self) -> float:
        """Leakage of PEs, encoders and vector unit, or the technology's static power."""
        if self.technology.static_power_mw is not None:
            return self.technology.static_power_mw
        logic_mm2 = self.pe_area_mm2 + self.encoder_area_mm2 + self.vector_area_mm2
        return uw_to_mw(self.technology.logic_leakage_uw_per_um2 * logic_mm2 * 1e6)

    @cached_property
    def idle_pj_per_cycle(self) -> float:
        """Energy of the clock in PEs that wait, after layout: the technology's share of their busy energy."""
        technology = self.technology
        busy_pj = technology.layout_energy_factor * self.pe.energy_pj_per_cycle * self.pe_count
        return technology.clock_idle_share * busy_pj

    def peak_macs_per_cycle_of_bits(self, weight_bits: float, activation_bits: float = WIDE_BITS) -> float:
        """Multiply-accumulates in a cycle when all PEs are busy with operands of these widths.

        They are integers; in a block dot product, of the faster family. Widths beyond the PE's are cut to its widest.
        """
        pe = self.pe
        if pe.kind is PeKind.BLOCK_DOT:
            widest = min(max(weight_bits, activation_bits), pe.native_bits)
            return self.pe_count * max(mode.lanes for mode in pe.modes if mode.bits >= widest)
        path = bare_path(
            min(weight_bits, pe.native_bits), min(activation_bits, pe.max_activation_bits or WIDE_BITS), pe
        )
        return self.pe_count * (path.lanes or pe.lanes) / path.cycles

    @property
    def most_macs_per_cycle(self) -> float:
        """Multiply-accumulates in a cycle that no formats can exceed."""
        return self.pe_count * self.pe.most_macs_per_cycle


def at_node(accelerator: Accelerator, node_nm: float) -> Accelerator:
    """The same design in another node: areas and energies of logic and buffers scaled, clock and memory as they are.

    Leakage is taken to scale as energy does (ASSUMPTION: none of the sources scales it).

    Raises:
        ValueError: a node outside those of ``hwmodel.technology``.
    """
    technology, pe, vector, encoder = accelerator.technology, accelerator.pe, accelerator.vector, accelerator.encoder
    scale = node_scaling(technology.node_nm, node_nm)
    modes = tuple(replace(mode, energy_pj_per_cycle=mode.energy_pj_per_cycle * scale.energy) for mode in pe.modes)
    static_mw = technology.static_power_mw
    return replace(
        accelerator,
        pe=replace(
            pe,
            energy_pj_per_cycle=pe.energy_pj_per_cycle * scale.energy,
            area_um2=pe.area_um2 * scale.area,
            modes=modes,
        ),
        vector=replace(
            vector,
            energy_pj_per_operation=vector.energy_pj_per_operation * scale.energy,
            area_um2_per_lane=vector.area_um2_per_lane * scale.area,
        ),
        encoder=None
        if encoder is None
        else replace(
            encoder,
            energy_pj_per_cycle=encoder.energy_pj_per_cycle * scale.energy,
            area_um2=encoder.area_um2 * scale.area,
        ),
        weight_buffer=replace(accelerator.weight_buffer, node_nm=node_nm),
        activation_buffer=replace(accelerator.activation_buffer, node_nm=node_nm),
        technology=replace(
            technology,
            name=f"{technology.name}_at_{node_nm:g}",
            node_nm=node_nm,
            logic_leakage_uw_per_um2=technology.logic_leakage_uw_per_um2 * scale.energy / scale.area,
            static_power_mw=None if static_mw is None else static_mw * scale.energy,
            source=f"{technology.source}; scaled from {technology.node_nm:g} nm (Stillmaker and Baas 2017)",
        ),
    )
