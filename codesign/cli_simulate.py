"""The command that simulates a model event by event and shows it beside the closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from codesign.cli_work import traced_model
from codesign.console import records, show_json, show_table
from codesign.machines import accelerators_by_name
from codesign.pricing import configs_by_layer, configs_by_own_layer
from hwmodel.event_options import BANDWIDTH, DRAM_TIMING, Arbiter, Feed, Refill, SimulationOptions
from hwmodel.event_report import SimulationReport
from hwmodel.event_simulator import simulate
from hwmodel.gpu import Gpu
from hwmodel.options import HONEST, ModelOptions
from hwmodel.workload import Phase

_COLUMNS = (
    "phase", "layer", "count", "closed_cycles", "filled_cycles", "cycles", "difference_percent", "compute_percent",
    "weights_percent", "inputs_percent", "outputs_percent", "other_percent",
)  # fmt: skip
_HEADINGS = {
    "closed_cycles": "closed form", "filled_cycles": "with filling and draining", "cycles": "simulated",
    "difference_percent": "closed form - simulated [%]", "compute_percent": "computing [%]",
    "weights_percent": "waits for weights [%]", "inputs_percent": "for inputs [%]",
    "outputs_percent": "for outputs [%]", "other_percent": "fill, drain, tail [%]",
}  # fmt: skip
_WAITS = {
    "compute_percent": ("compute_cycles",),
    "weights_percent": ("weight_wait_cycles",),
    "inputs_percent": ("input_wait_cycles",),
    "outputs_percent": ("output_wait_cycles",),
    "other_percent": ("fill_drain_cycles", "conflict_cycles", "layer_wait_cycles", "tail_cycles"),
}
_SUMMED = ("closed_cycles", "filled_cycles", "cycles", *(name for names in _WAITS.values() for name in names))


@dataclass(frozen=True)
class Machine:
    """What the user switched on.

    Args:
        dram_timing: rows, refresh and turnaround.
        prefetch: weights of later layers.
        systolic: operands go from PE to PE.
        whole_tiles, fill_and_drain: of the closed form, and the tiles of the simulation (``hwmodel.options``).
        arbiter: which stream a DRAM channel serves next.
        refill: when freed room is filled again.
        bank_conflicts: banks of single-ported buffers; ``None`` for two ports.
    """

    dram_timing: bool
    prefetch: bool
    systolic: bool
    whole_tiles: bool = False
    fill_and_drain: bool = False
    arbiter: Arbiter = Arbiter.EARLIEST
    refill: Refill = Refill.SLOT
    bank_conflicts: int | None = None

    @property
    def options(self) -> SimulationOptions:
        """For the simulator."""
        chosen = DRAM_TIMING if self.dram_timing else BANDWIDTH
        return replace(
            chosen,
            prefetch=self.prefetch,
            feed=Feed.SYSTOLIC if self.systolic else Feed.BROADCAST,
            arbiter=self.arbiter,
            refill=self.refill,
            bank_conflicts=self.bank_conflicts,
        )

    @property
    def model_options(self) -> ModelOptions:
        """For the closed form, whose bits the simulator moves."""
        return replace(HONEST, whole_tiles=self.whole_tiles, fill_and_drain=self.fill_and_drain)


def simulate_model(
    model: str, *, accelerator: str, recipe_name: str | None, batch: int, prompt: int, generate: int, machine: Machine,
    every_layer: bool, as_json: bool,
) -> None:  # fmt: skip
    """Simulate the prompt and the middle decode step of a model."""
    (device,) = accelerators_by_name((accelerator,)).values()
    if isinstance(device, Gpu):
        raise ValueError(f"accelerator of a simulation must be an array of PEs, not the GPU {device.name}")
    traced = traced_model(model, recipe_name, batch=batch, prompt=prompt, generate=generate)
    generation, configs = traced.generation, traced.configs
    phases = [(generation.prefill, configs_by_layer(generation.prefill, configs))]
    if generation.tokens:
        step = generation.at(Phase.DECODE, generation.middle)
        phases.append((step, configs_by_own_layer(step, configs)))
    reports = [
        simulate(workload, by_layer, device, machine.options, machine.model_options) for workload, by_layer in phases
    ]
    table = pd.concat([report.to_frame().assign(phase=report.phase) for report in reports], ignore_index=True)
    totals = [_totals(report) for report in reports]
    if as_json:
        show_json({"model": traced.model, "recipe": traced.recipe, "accelerator": device.name, "totals": totals,
                   "layers": records(table)})  # fmt: skip
        return
    shown = _shares(table.assign(count=1) if every_layer else _grouped(table))
    title = f"{traced.model}, {traced.recipe}, on {device.name}: the closed form beside the event simulator"
    show_table(shown, title=title, as_json=False, columns=_COLUMNS, headings=_HEADINGS)
    show_table(pd.DataFrame(totals), title="Totals", as_json=False)


def _totals(report: SimulationReport) -> dict[str, float | str]:
    return {
        "phase": report.phase,
        "closed_cycles": report.closed_cycles,
        "filled_cycles": sum(layer.filled_cycles for layer in report.layers),
        "simulated_cycles": report.cycles,
        "difference_percent": 100 * (report.closed_cycles / report.cycles - 1) if report.cycles else 0.0,
        "seconds": report.seconds,
        "events": report.events,
    }


def _grouped(table: pd.DataFrame) -> pd.DataFrame:
    """Layers that are alike in everything but their block, summed."""
    table = table.assign(layer=table["layer"].str.replace(r"\.\d+(?=\.|$)", ".*", regex=True))
    sums = {name: (name, "sum") for name in _SUMMED}
    grouped = table.groupby(["phase", "layer"], sort=False)
    return grouped.agg(count=("cycles", "size"), **sums).reset_index()


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    """Where the time went, in percent; layers that take no time are left out."""
    table = table[table["cycles"] > 0]
    parts = {
        what: 100 * sum((table[name] for name in names), start=0.0) / table["cycles"] for what, names in _WAITS.items()
    }
    return table.assign(**parts, difference_percent=100 * (table["closed_cycles"] / table["cycles"] - 1))
