"""Forms of all layers of a design space, equal ones once, and which of them each design runs.

Layers become forms (``hwmodel.batch_forms``) for each accelerator and kind of layout (one column of PEs or more).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from datatypes.layer_config import LayerConfig
from hwmodel.accelerator import Accelerator, Array
from hwmodel.batch_axes import DesignSpace, Scenario
from hwmodel.batch_columns import FORM_COLUMNS
from hwmodel.batch_forms import Form, forms_of
from hwmodel.evaluate import check_layer_names, not_runnable, with_last_tokens
from hwmodel.operand_paths import Machine
from hwmodel.operands import FP16_LAYER, Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.table_work import Table
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
        self._alike: dict[tuple[str, Phase], list[list[LayerSpec]]] = {}
        axes = space.axes
        self._rooms = [
            (
                min(base.weight_buffer.capacity_bytes if c is None else c for c in axes.weight_buffer_bytes),
                min(base.activation_buffer.capacity_bytes if c is None else c for c in axes.activation_buffer_bytes),
            )
            for base in axes.pe_arrays
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
                    (phase, one_column)
                    for i in range(len(axes.arrays))
                    for phase in Phase
                    for one_column in {axes.with_array(a, i).array(phase).columns == 1, self.options.scheduled}
                }
            ]
            if isinstance(base, Accelerator)
            else []
            for a, base in enumerate(axes.accelerators)
        ]
        for s, scenario in enumerate(self.space.scenarios):
            alike = {phase: _alike(scenario, phase) for phase in Phase}
            for c, name in enumerate(self.space.config_names):
                self._check_names(name, scenario)
                groups = {phase: self._groups(layers, name) for phase, layers in alike.items()}
                for a, base in enumerate(axes.accelerators):
                    if not machines[a]:  # a GPU, which ``hwmodel.batch_gpus`` prices
                        self.ranges[s, c, a] = NOT_RUNNABLE
                    for phase, machine in machines[a]:
                        try:
                            made = self._items(scenario, phase, groups[phase], a, machine)
                        except _NotRunnable as error:
                            self.reasons.setdefault((name, base.name), str(error))
                            made = NOT_RUNNABLE
                        self.ranges[s, c, a, int(phase is Phase.DECODE), int(machine.array.columns == 1)] = made

    def groups(self, scenario: Scenario, phase: Phase, name: str) -> list[tuple[LayerSpec, Config, Any, int]]:
        """The distinct layers of a phase under the config of a name: layer, config, statistics, how many are alike."""
        key = (scenario.name, phase)
        if key not in self._alike:
            self._alike[key] = _alike(scenario, phase)
        return self._groups(self._alike[key], name)

    def _groups(self, alike: list[list[LayerSpec]], name: str) -> list[tuple[LayerSpec, Config, Any, int]]:
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
                group = groups.setdefault((self.config_id(config), id(stats)), [layer, config, stats, 0])
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
            check_layer_names(known, names, what)

    def config_id(self, config: Config) -> int:
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
            number = self.config_id(config)
            key = (scenario.name, phase, which, machine.array.columns == 1, layer.shape_key, number, id(stats))
            block = self._blocks.get(key)
            if block is None:
                specs = self.specs(scenario, phase, layer)
                counted = machine if stats is None else replace(machine, stats=stats)
                rows = [(times, *self._layer(spec, config, which, counted)) for spec, times in specs]
                block = self._blocks[key] = np.array([row for row in rows if row[2]], np.int64).reshape(-1, 4)
            blocks.append(block * np.array([count, 1, 1, 1]))
        start = self.item_count
        self.items += blocks
        self.item_count += sum(len(block) for block in blocks)
        return start, self.item_count

    def specs(self, scenario: Scenario, phase: Phase, layer: LayerSpec) -> list[tuple[LayerSpec, int]]:
        """A layer at every context, and how many steps see it."""
        if phase is Phase.PREFILL:
            return [(with_last_tokens(layer, scenario.prefill, self.options), 1)]
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
        key = (which, one_column, spec.shape_key, self.config_id(config), id(machine.stats))
        known = self._layers.get(key)
        if known is None:
            try:
                forms = forms_of(spec, config, machine)
            except NotImplementedError as error:
                raise _NotRunnable(not_runnable(spec, config, machine.accelerator, error)) from None
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
            int(form.kind), form.m, form.n, form.copies, form.macs, form.steps, form.group_waits,
            form.off_array, form.weight.dram_bits, form.weight.buffer_words,
            ceil_div(form.weight.buffer_bytes, form.passes), form.input.dram_bits, form.input.buffer_words,
            ceil_div(form.input.buffer_bytes, form.passes), form.output.dram_bits, form.output.buffer_words,
            form.vector, ceil_div(form.vector, lanes), form.load, form.metadata_bits, form.gathers, form.port_bits,
            self.widths.setdefault(form.weight_width, len(self.widths)),
            self.widths.setdefault(form.input_width, len(self.widths)),
            form.keys, form.heads, form.offset, form.lanes, tables_start, len(self.tables), form.turns,
            form.copies // form.turns, form.mask, form.tile_steps, form.tile_lanes,
            ceil_div(form.weight.buffer_bytes, form.turns), ceil_div(form.input.buffer_bytes, form.turns),
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
