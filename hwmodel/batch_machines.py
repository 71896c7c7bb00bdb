"""Tables of machines behind ``batch_evaluate``: what each axis contributes, worked out once for each value.

Port widths, SRAM figures, bandwidths, unit energies and areas by place on their axes, all asked of the objects that
``evaluate`` uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwmodel.batch_axes import DesignSpace
from hwmodel.batch_forms import port_bits
from hwmodel.batch_tables import FormTable
from hwmodel.gpu import Gpu
from hwmodel.memory import Sram
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.tile_choice import tile_sizes
from hwmodel.units import WORD_BITS
from hwmodel.workload import Phase


@dataclass(frozen=True, eq=False)
class MachineTables:
    """Arrays of ``hwmodel.batch_kernels.price_rows`` that depend on the axes."""

    space: DesignSpace
    options: ModelOptions
    table: FormTable

    @cached_property
    def arrays(self) -> np.ndarray:
        """Rows and columns in prefill and in decode, [accelerators, arrays, 4]."""
        axes = self.space.axes
        shape = (len(axes.pe_arrays), len(axes.arrays), 4)
        made = [
            axes.with_array(a, i).array(phase)
            for a in range(shape[0])
            for i in range(shape[1])
            for phase in (Phase.PREFILL, Phase.DECODE)
        ]
        return np.array([(array.rows, array.columns) for array in made], np.int64).reshape(shape)

    @cached_property
    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        own = {int(size) for size in self.arrays.ravel()}
        tiles = {tile for size in own for tile in tile_sizes(size)} if self.options.scheduled else set()
        sizes = np.array(sorted(own | tiles), np.int64)
        return sizes, np.searchsorted(sizes, self.arrays).astype(np.int64)

    @cached_property
    def tiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Sizes of tiles by place of a size, [sizes, most], the size itself first, 0 after the last; and places by
        size."""
        sizes = self._sizes[0]
        made = [tile_sizes(int(size)) for size in sizes]
        tiles = np.zeros((len(sizes), max(len(row) for row in made) + 1), np.int64)
        places = np.zeros(int(sizes.max()) + 1, np.int64)
        for place, row in enumerate(made):
            tiles[place, : len(row)] = row
            places[row[0]] = place
        return tiles, places

    @cached_property
    def lanes(self) -> np.ndarray:
        """Of the vector units, [accelerators]."""
        return np.array([base.vector.lanes for base in self.space.axes.pe_arrays], np.int64)

    @property
    def sizes(self) -> np.ndarray:
        """Places of ``arrays`` among the distinct sizes."""
        return self._sizes[1]

    @cached_property
    def _ports(self) -> tuple[np.ndarray, np.ndarray]:
        ids = dict(self.table.lookup_ports)
        sizes = self._sizes[0]
        places = np.zeros((len(sizes), max(len(self.table.widths), 1)), np.int64)
        for width, w in self.table.widths.items():
            for s, size in enumerate(sizes):
                places[s, w] = ids.setdefault(port_bits(width, int(size)), len(ids))
        return places, np.array(list(ids))

    @property
    def port_ids(self) -> np.ndarray:
        """Place of a port by size and width, [sizes, widths]."""
        return self._ports[0]

    @property
    def ports(self) -> np.ndarray:
        """Bits of each port."""
        return self._ports[1]

    @cached_property
    def array_costs(self) -> np.ndarray:
        """Busy PEs and encoders, leakage and idle clock, [accelerators, arrays, 4]."""
        axes, options = self.space.axes, self.options
        made = []
        for a in range(len(axes.pe_arrays)):
            for i in range(len(axes.arrays)):
                machine = axes.with_array(a, i)
                layout = machine.technology.layout_energy_factor
                encoder = machine.encoder if options.encoder_energy else None
                made.append(
                    (
                        layout * machine.pe.energy_pj_per_cycle * machine.pe_count,
                        0.0 if encoder is None else layout * encoder.energy_pj_per_cycle,
                        machine.logic_leakage_mw if options.leakage else 0.0,
                        machine.idle_pj_per_cycle if options.clock_idle else 0.0,
                    )
                )
        return np.array(made).reshape(len(axes.pe_arrays), len(axes.arrays), 4)

    @cached_property
    def areas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mm2 of logic (a GPU's die) [accelerators, arrays], of weight and activation buffers [accelerators, arrays,
        capacities]."""
        axes = self.space.axes
        logic, weight, activation = [], [], []
        for a in range(len(axes.pe_arrays)):
            for i in range(len(axes.arrays)):
                machine = axes.with_array(a, i)
                vector = machine.vector_area_mm2 if self.options.vector_unit else 0.0
                logic.append(machine.pe_area_mm2 + machine.encoder_area_mm2 + vector)
                native = machine.pe.native_bits
                inputs = native if machine.pe.encoded_activations else WIDE_BITS
                port = machine.weight_port_bits(native, machine.prefill_array)
                weight.append([sram.at(port).area_mm2 for sram in self._buffers(a, weight=True)])
                port = machine.input_port_bits(machine.prefill_array, inputs)
                activation.append([sram.at(port).area_mm2 for sram in self._buffers(a, weight=False)])
        shape = (len(axes.pe_arrays), len(axes.arrays))
        made = (
            np.array(logic).reshape(shape),
            np.array(weight).reshape(*shape, -1),
            np.array(activation).reshape(*shape, -1),
        )
        for a, base in enumerate(axes.accelerators):
            if isinstance(base, Gpu):
                for areas, area_mm2 in zip(made, (base.area_mm2, 0.0, 0.0), strict=True):
                    areas[a] = area_mm2
        return made

    def _buffers(self, which: int, *, weight: bool) -> list[Sram]:
        axes = self.space.axes
        base = axes.pe_arrays[which]
        own = base.weight_buffer if weight else base.activation_buffer
        capacities = axes.weight_buffer_bytes if weight else axes.activation_buffer_bytes
        return [own if c is None else replace(own, capacity_bytes=c) for c in capacities]

    @cached_property
    def vector_pj(self) -> np.ndarray:
        """Of one operation after layout."""
        bases = self.space.axes.pe_arrays
        return np.array([b.technology.layout_energy_factor * b.vector.energy_pj_per_operation for b in bases])

    def srams(self, *, weight: bool) -> np.ndarray:
        """pJ of an access, pJ of writing a word, mW of leakage, [accelerators, capacities, ports, 3]."""
        made = []
        for which in range(len(self.space.axes.pe_arrays)):
            for sram in self._buffers(which, weight=weight):
                for port in self.ports:
                    point = sram.at(float(port))
                    leakage_mw = point.leakage_mw if self.options.leakage else 0.0
                    made.append((point.read_pj, point.write_pj * WORD_BITS / float(port), leakage_mw))
        return np.array(made).reshape(len(self.space.axes.pe_arrays), -1, len(self.ports), 3)

    def rooms(self, *, weight: bool) -> np.ndarray:
        """Capacities in bytes, [accelerators, capacities]."""
        count = len(self.space.axes.pe_arrays)
        return np.array([[s.capacity_bytes for s in self._buffers(a, weight=weight)] for a in range(count)], np.int64)

    @cached_property
    def clocks(self) -> np.ndarray:
        """Hz, [accelerators, clocks]."""
        axes = self.space.axes
        return np.array(
            [
                [b.frequency_hz if f is None or isinstance(b, Gpu) else f for f in axes.frequencies_hz]
                for b in axes.accelerators
            ]
        )

    @cached_property
    def memories(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bits in a cycle, pJ a bit and Hz, by memory and clock together, [accelerators, memories x clocks]."""
        axes = self.space.axes
        made = []
        for which, clocks in enumerate(self.clocks):
            for place in range(len(axes.drams)):
                dram = axes.memory(which, place)
                for clock in clocks:
                    per_cycle = dram.bits_per_cycle(float(clock), sustained=self.options.dram_efficiency)
                    made.append((per_cycle, dram.energy_pj_per_bit, float(clock)))
        bits, energy, hz = np.array(made).reshape(len(axes.pe_arrays), -1, 3).transpose(2, 0, 1).copy()
        return bits, energy, hz
