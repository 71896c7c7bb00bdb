"""Tables behind ``batch_evaluate``: what each axis of a design space contributes, worked out once for each value.

Layers become forms (``hwmodel.batch_forms``) for each accelerator and kind of layout (one column of PEs or more), equal
ones once; port widths, SRAM figures, bandwidths and unit energies are looked up by place on their axes. Everything
comes from the functions and objects that ``evaluate`` uses.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from datatypes.layer_config import LayerConfig
from hwmodel.accelerator import Array
from hwmodel.batch_axes import DesignSpace, Scenario
from hwmodel.batch_forms import Form, Table, forms_of, port_bits
from hwmodel.batch_kernels import FORM_COLUMNS
from hwmodel.evaluate import _formats
from hwmodel.memory import Sram
from hwmodel.operand_paths import Machine
from hwmodel.operands import FP16_LAYER, Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.term_skipping import CountedBits
from hwmodel.units import WORD_BITS, ceil_div
from hwmodel.workload import ATTENTION_KINDS, VECTOR_KINDS, LayerKind, LayerSpec, Phase

_LARGEST = 1 << 62  # numbers of one form must stay below, so that sums stay integers
NOT_RUNNABLE = (-1, -1)
_FOLLOWING = frozenset({*ATTENTION_KINDS, LayerKind.SOFTMAX})  # layers that follow the context


class FormTable:
    """Forms of layers, equal ones once.

    Args:
        space: the designs.
        options: which effects count.
        bit_stats: as in ``hwmodel.evaluate.evaluate``.
    """

    def __init__(self, space: DesignSpace, options: ModelOptions, bit_stats: Mapping[str, CountedBits]) -> None:
        self.space, self.options, self.bit_stats = space, options, bit_stats
        self.forms: list[tuple[int, ...]] = []
        self.form_floats: list[tuple[float, float, float]] = []
        self.tables: list[tuple[int, ...]] = []
        self.items: list[np.ndarray] = []
        self.item_count = 0
        self.widths: dict[float, int] = {}
        self.lookup_ports: dict[float, int] = {float(WORD_BITS): 0}  # least port first
        self.reasons: dict[tuple[str, str], str] = {}
        self._config_ids: dict[Config, int] = {}
        self._known: dict[int, int] = {}  # by id of the object
        self._kept: list[object] = []  # so that ids stay distinct
        self._layers: dict[tuple[Any, ...], tuple[int, int, bool]] = {}
        self._contexts: dict[tuple[Any, ...], list[tuple[LayerSpec, int]]] = {}
        self._blocks: dict[tuple[Any, ...], np.ndarray] = {}
        axes = space.axes
        self._rooms = [
            (
                min(base.weight_buffer.capacity_bytes if c is None else c for c in axes.weight_buffer_bytes),
                min(base.activation_buffer.capacity_bytes if c is None else c for c in axes.activation_buffer_bytes),
            )
            for base in axes.accelerators
        ]
        self.ranges = np.zeros((len(space.scenarios), len(space.configs), len(axes.accelerators), 2, 2, 2), np.int64)
        self._fill()

    def _fill(self) -> None:
        """Ranges of items by scenario, config, accelerator, phase and layout (one column or more)."""
        axes = self.space.axes
        machines = [
            [
                (phase, Machine(base, Array(1, 1 if one_column else 2), self.options))
                for phase, one_column in {
                    (phase, axes.with_array(a, i).array(phase).columns == 1)
                    for i in range(len(axes.arrays))
                    for phase in Phase
                }
            ]
            for a, base in enumerate(axes.accelerators)
        ]
        for s, scenario in enumerate(self.space.scenarios):
            alike = {phase: _alike(scenario, phase) for phase in Phase}
            for c, name in enumerate(self.space.config_names):
                self._check_names(name, scenario)
                groups = {phase: self._groups(layers, name) for phase, layers in alike.items()}
                for a, base in enumerate(axes.accelerators):
                    for phase, machine in machines[a]:
                        try:
                            made = self._items(scenario, phase, groups[phase], a, machine)
                        except _NotRunnable as error:
                            self.reasons.setdefault((name, base.name), str(error))
                            made = NOT_RUNNABLE
                        self.ranges[s, c, a, int(phase is Phase.DECODE), int(machine.array.columns == 1)] = made

    def _groups(self, alike: list[list[LayerSpec]], name: str) -> list[tuple[LayerSpec, Config, Any, int]]:
        """The distinct layers of a phase: layer, config, statistics, how many are alike."""
        configs = self.space.configs[name]
        made = []
        for layers in alike:
            if not isinstance(configs, Mapping) and not self.bit_stats:
                config: Config = FP16_LAYER if layers[0].kind is LayerKind.EMBEDDING else configs
                made.append((layers[0], config, None, len(layers)))
                continue
            groups: dict[tuple[int, int], list[Any]] = {}
            for layer in layers:
                if isinstance(configs, Mapping):
                    config = configs.get(layer.name, FP16_LAYER)
                else:
                    config = FP16_LAYER if layer.kind is LayerKind.EMBEDDING else configs
                stats = self.bit_stats.get(layer.name)
                group = groups.setdefault((self._config_id(config), id(stats)), [layer, config, stats, 0])
                group[3] += 1
            made += [(layer, config, stats, count) for layer, config, stats, count in groups.values()]
        return made

    def _check_names(self, name: str, scenario: Scenario) -> None:
        configs = self.space.configs[name]
        given = {"configs": configs if isinstance(configs, Mapping) else {}, "bit_stats": self.bit_stats}
        if not any(given.values()):
            return
        names = {layer.name for layer in scenario.prefill.layers}
        if scenario.last_step is not None:
            names |= {layer.name for layer in scenario.last_step.layers}
        for what, known in given.items():
            for layer in known:
                if layer not in names:
                    near = difflib.get_close_matches(layer, names, n=3)
                    hint = f"; nearest: {', '.join(near)}" if near else ""
                    raise ValueError(f"{what} must name layers of the workload, not {layer!r}{hint}")

    def _config_id(self, config: Config) -> int:
        """A number for each distinct config."""
        known = self._known.get(id(config))
        if known is None:
            if not isinstance(config, LayerConfig | OperandBits):
                raise TypeError(f"config of a layer must be a LayerConfig or OperandBits, not {config!r}")
            known = self._config_ids.setdefault(config, len(self._config_ids))
            self._known[id(config)] = known
            self._kept.append(config)
        return known

    def _items(
        self,
        scenario: Scenario,
        phase: Phase,
        groups: list[tuple[LayerSpec, Config, Any, int]],
        which: int,
        machine: Machine,
    ) -> tuple[int, int]:
        """Items of a phase on an accelerator: how often, first form, forms, whether never fetched again."""
        blocks = []
        for layer, config, stats, count in groups:
            config = _relevant(layer, config, machine)
            number = self._config_id(config)
            key = (scenario.name, phase, which, machine.array.columns == 1, layer.shape_key, number, id(stats))
            block = self._blocks.get(key)
            if block is None:
                specs = self._specs(scenario, phase, layer)
                counted = machine if stats is None else replace(machine, stats=stats)
                rows = [(times, *self._layer(spec, config, which, counted)) for spec, times in specs]
                block = self._blocks[key] = np.array([row for row in rows if row[2]], np.int64).reshape(-1, 4)
            blocks.append(block * np.array([count, 1, 1, 1]))
        start = self.item_count
        self.items += blocks
        self.item_count += sum(len(block) for block in blocks)
        return start, self.item_count

    def _specs(self, scenario: Scenario, phase: Phase, layer: LayerSpec) -> list[tuple[LayerSpec, int]]:
        """A layer at every context, and how many steps see it."""
        if phase is Phase.PREFILL:
            if layer.head and self.options.last_token_head:
                layer = replace(layer, m=max(1, min(layer.m, scenario.prefill.batch // layer.copies)))
            return [(layer, 1)]
        assert scenario.last_step is not None
        contexts = scenario.contexts(self.options)
        if layer.kind not in _FOLLOWING or layer.state:
            return [(layer, sum(times for _, times in contexts))]
        key = (scenario.name, layer.shape_key)
        if key not in self._contexts:
            alone = replace(scenario, last_step=replace(scenario.last_step, layers=(layer,), edges=()))
            self._contexts[key] = [(alone.step(context).layers[0], times) for context, times in contexts]
        return self._contexts[key]

    def _layer(self, spec: LayerSpec, config: Config, which: int, machine: Machine) -> tuple[int, int, int]:
        """First form, number of forms, and whether no buffer of the axes makes the array fetch them again."""
        one_column = machine.array.columns == 1
        key = (which, one_column, spec.shape_key, self._config_id(config), id(machine.stats))
        known = self._layers.get(key)
        if known is None:
            try:
                forms = forms_of(spec, config, machine)
            except NotImplementedError as error:
                raise _NotRunnable(
                    f"accelerator {machine.accelerator.name} cannot run {_formats(spec, config)} in layer {spec.name}, "
                    f"because {error}"
                ) from None
            first = len(self.forms)
            for form in forms:
                self._add(form, machine.accelerator.vector.lanes)
            weight_room, input_room = self._rooms[which]
            calm = all(
                ceil_div(form.weight.buffer_bytes, form.passes) <= weight_room
                or ceil_div(form.input.buffer_bytes, form.passes) <= input_room
                for form in forms
            )
            known = self._layers[key] = first, len(forms), calm
        return known

    def _add(self, form: Form, lanes: int) -> None:
        tables_start = len(self.tables)
        self.tables += [self._table(table) for table in form.tables]
        row = (
            int(form.kind), form.m, form.n, form.copies, form.passes, form.macs, form.steps, form.group_waits,
            form.off_array, form.weight.dram_bits, form.weight.buffer_words,
            ceil_div(form.weight.buffer_bytes, form.passes), form.input.dram_bits, form.input.buffer_words,
            ceil_div(form.input.buffer_bytes, form.passes), form.output.dram_bits, form.output.buffer_words,
            form.vector, ceil_div(form.vector, lanes), form.load, form.metadata_bits, form.gathers, form.port_bits,
            self.widths.setdefault(form.weight_width, len(self.widths)),
            self.widths.setdefault(form.input_width, len(self.widths)),
            form.keys, form.heads, form.offset, form.lanes, tables_start, len(self.tables),
        )  # fmt: skip
        assert len(row) == FORM_COLUMNS
        if max(row) >= _LARGEST:
            raise ValueError(f"a layer of a design space must take fewer than 2**62 operations, not {max(row)}")
        self.forms.append(row)
        self.form_floats.append((float(form.cycles), float(form.energy_cycles), float(form.switch_waits)))

    def _table(self, table: Table) -> tuple[int, ...]:
        port = self.lookup_ports.setdefault(float(table.port_bits), len(self.lookup_ports))
        return table.entries, table.along, table.lookups, port, table.room_bytes


def _alike(scenario: Scenario, phase: Phase) -> list[list[LayerSpec]]:
    """Layers of a phase, those of equal shape together."""
    workload = scenario.prefill if phase is Phase.PREFILL else scenario.last_step
    groups: dict[tuple[Any, ...], list[LayerSpec]] = {}
    for layer in workload.layers if workload is not None else ():
        groups.setdefault(layer.shape_key, []).append(layer)
    return list(groups.values())


class _NotRunnable(Exception):
    """A format that an accelerator cannot run; with the sentence of ``evaluate``."""


def _relevant(layer: LayerSpec, config: Config, machine: Machine) -> Config:
    """What of a config a layer's price depends on."""
    if layer.kind in VECTOR_KINDS:
        return FP16_LAYER
    if isinstance(config, OperandBits) or layer.kind not in ATTENTION_KINDS:
        return config
    activation = config.activation if machine.accelerator.pe.encoded_activations else None
    scores = layer.kind is LayerKind.ATTENTION_QK
    return LayerConfig(
        activation=activation, key=config.key if scores else None, value=None if scores else config.value
    )


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
        shape = (len(axes.accelerators), len(axes.arrays), 4)
        made = [
            axes.with_array(a, i).array(phase)
            for a in range(shape[0])
            for i in range(shape[1])
            for phase in (Phase.PREFILL, Phase.DECODE)
        ]
        return np.array([(array.rows, array.columns) for array in made], np.int64).reshape(shape)

    @cached_property
    def _sizes(self) -> tuple[np.ndarray, np.ndarray]:
        sizes, inverse = np.unique(self.arrays, return_inverse=True)
        return sizes, inverse.reshape(self.arrays.shape).astype(np.int64)

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
        for a in range(len(axes.accelerators)):
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
        return np.array(made).reshape(len(axes.accelerators), len(axes.arrays), 4)

    @cached_property
    def areas(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mm2 of logic [accelerators, arrays], weight and activation buffers [accelerators, arrays, capacities]."""
        axes = self.space.axes
        logic, weight, activation = [], [], []
        for a in range(len(axes.accelerators)):
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
        shape = (len(axes.accelerators), len(axes.arrays))
        return (
            np.array(logic).reshape(shape),
            np.array(weight).reshape(*shape, -1),
            np.array(activation).reshape(*shape, -1),
        )

    def _buffers(self, which: int, *, weight: bool) -> list[Sram]:
        axes = self.space.axes
        base = axes.accelerators[which]
        own = base.weight_buffer if weight else base.activation_buffer
        capacities = axes.weight_buffer_bytes if weight else axes.activation_buffer_bytes
        return [own if c is None else replace(own, capacity_bytes=c) for c in capacities]

    @cached_property
    def vector_pj(self) -> np.ndarray:
        """Of one operation after layout."""
        bases = self.space.axes.accelerators
        return np.array([b.technology.layout_energy_factor * b.vector.energy_pj_per_operation for b in bases])

    def srams(self, *, weight: bool) -> np.ndarray:
        """pJ of an access, pJ of writing a word, mW of leakage, [accelerators, capacities, ports, 3]."""
        made = []
        for which in range(len(self.space.axes.accelerators)):
            for sram in self._buffers(which, weight=weight):
                for port in self.ports:
                    point = sram.at(float(port))
                    leakage_mw = point.leakage_mw if self.options.leakage else 0.0
                    made.append((point.read_pj, point.write_pj * WORD_BITS / float(port), leakage_mw))
        return np.array(made).reshape(len(self.space.axes.accelerators), -1, len(self.ports), 3)

    def rooms(self, *, weight: bool) -> np.ndarray:
        """Capacities in bytes, [accelerators, capacities]."""
        count = len(self.space.axes.accelerators)
        return np.array([[s.capacity_bytes for s in self._buffers(a, weight=weight)] for a in range(count)], np.int64)

    @cached_property
    def clocks(self) -> np.ndarray:
        """Hz, [accelerators, clocks]."""
        axes = self.space.axes
        return np.array([[b.frequency_hz if f is None else f for f in axes.frequencies_hz] for b in axes.accelerators])

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
        bits, energy, hz = np.array(made).reshape(len(axes.accelerators), -1, 3).transpose(2, 0, 1).copy()
        return bits, energy, hz
