"""The closed form against the event simulator over a grid of layers: ``python -m hwmodel.event_grid``.

Every distinct layer of Llama-2-7B, OPT-1.3B, Phi-2, Llama-3-8B (grouped heads) and Mixtral-8x7B (experts), prompt and
decode, batch 1 to 64, on every preset, with every format of ``formats`` that the preset runs. Prints layers, mean and
worst difference in cycles, share of layers and of cycles within 2 %, and the same of the closed form with filling and
draining (``tile_schedule``), by preset, kind of layer, model, batch and format.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import pandas as pd

from datatypes.block_formats import BLOCK_FORMATS
from datatypes.catalog import BITMOD_FP3, FP16, INTS_SYMMETRIC, UINT8
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig
from hwmodel.accelerator import Accelerator
from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import reason_not_runnable
from hwmodel.event_options import BANDWIDTH, DRAM_TIMING, SimulationOptions
from hwmodel.event_report import SimulatedLayer
from hwmodel.event_simulator import Known, simulate
from hwmodel.options import HONEST, SCHEDULED, ModelOptions
from hwmodel.paper import paper_workload
from hwmodel.presets import ACCELERATORS
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

MODELS = ("Llama-2-7B", "OPT-1.3B", "Phi-2B", "Llama-3-8B", "Mixtral-8x7B")
BATCHES = {Phase.PREFILL: (1, 16), Phase.DECODE: (1, 4, 16, 64)}
# many prompts are as many times more tiles, and take as many times longer; cut four times as coarsely, the layers of 64
# move by under 0.04 %
COARSE_BATCH, COARSE = 16, 4
CONTEXT = 256
QUICK = dict.fromkeys(Phase, (1,))
CLOSE = 0.02  # issue of the hardware model: differences above 2 % are explained or repaired


def _kv8() -> TensorConfig:
    return TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), dynamic=True)


def formats() -> dict[str, LayerConfig]:
    """Configs by name: wide, 8, 4 and 3 bits; the last two with a KV cache of 8 bits."""
    group = PerGroup(128)
    int8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16))
    int4 = TensorConfig((INTS_SYMMETRIC[4],), group, ScaleConfig(FP16))
    bitmod3 = TensorConfig(BITMOD_FP3, group, ScaleConfig(UINT8, outer=FP16))
    return {
        "fp16": LayerConfig(),
        "int8_channel_kv8": LayerConfig(weight=int8, key=_kv8(), value=_kv8()),
        "int4_g128_kv8": LayerConfig(weight=int4, key=_kv8(), value=_kv8()),
        "bitmod4_g128_kv8": bitmod4_config(),
        "bitmod3_g128_kv8": LayerConfig(weight=bitmod3, key=_kv8(), value=_kv8()),
        "int8_channel_a8_kv8": LayerConfig(weight=int8, activation=_kv8(), key=_kv8(), value=_kv8()),
        "int4_channel_a8_kv8": LayerConfig(
            weight=replace(int4, granularity=PerChannel()), activation=_kv8(), key=_kv8(), value=_kv8()
        ),
        "mxfp4_a_kv8": LayerConfig(
            weight=BLOCK_FORMATS["mxfp4"],
            activation=replace(BLOCK_FORMATS["mxfp4"], dynamic=True),
            key=_kv8(),
            value=_kv8(),
        ),
    }


def mixtral(phase: Phase, *, batch: int, context: int) -> Workload:
    """Mixtral-8x7B: Mistral's attention and 8 experts of which a token takes 2 (config.json of the published model:
    hidden 4096, 32 heads, 8 KV heads, intermediate 14336, vocabulary 32000). Experts that no token takes are not read:
    8 (1 - (1 - 2/8)^tokens) are expected to be read, if tokens choose alike and alone.
    """
    tokens, copies = (context, batch) if phase is Phase.PREFILL else (batch, 1)
    rows = 4 * (context if phase is Phase.PREFILL else 1)
    routed = tokens * copies
    experts = max(1, round(8 * (1 - (1 - 2 / 8) ** routed)))
    each = math.ceil(2 * routed / experts)

    def linear(name: str, n: int, k: int, *, head: bool = False) -> LayerSpec:
        return LayerSpec(name, LayerKind.LINEAR, tokens, k, n, copies, shared_weight=True, head=head)

    def expert(name: str, n: int, k: int) -> LayerSpec:
        return LayerSpec(name, LayerKind.LINEAR, each, k, n, experts, weight_copies=8)

    causal = phase is Phase.PREFILL
    layers = (
        linear("q_proj", 4096, 4096), linear("k_proj", 1024, 4096), linear("v_proj", 1024, 4096),
        linear("o_proj", 4096, 4096), linear("gate", 8, 4096),
        LayerSpec("attention_qk", LayerKind.ATTENTION_QK, rows, 128, context, 8 * batch, causal=causal),
        LayerSpec("attention_pv", LayerKind.ATTENTION_PV, rows, context, 128, 8 * batch, causal=causal),
        expert("w1", 14336, 4096), expert("w2", 4096, 14336), linear("lm_head", 32000, 4096, head=True),
    )  # fmt: skip
    return Workload("Mixtral-8x7B", phase, layers, batch=batch, context=context)


def workload(model: str, phase: Phase, *, batch: int, context: int = CONTEXT) -> Workload:
    """A model's layers, each shape once."""
    if model == "Mixtral-8x7B":
        made = mixtral(phase, batch=batch, context=context)
    else:
        made = paper_workload(model, phase, batch=batch, context=context, other_layers=True)
    seen: dict[tuple[object, ...], LayerSpec] = {}
    for layer in made.layers:
        seen.setdefault(layer.shape_key, layer)
    return replace(made, layers=tuple(seen.values()), edges=())


@dataclass(frozen=True)
class Row:
    """One layer of the grid."""

    model: str
    phase: str
    batch: int
    accelerator: str
    format: str
    layer: SimulatedLayer

    def record(self) -> dict[str, object]:
        """As a flat record."""
        names = ("model", "phase", "batch", "accelerator", "format")
        return {**{name: getattr(self, name) for name in names}, **self.layer.record()}


def grid(
    models: Iterable[str] = MODELS,
    batches: Mapping[Phase, Sequence[int]] = BATCHES,
    accelerators: Iterable[Accelerator] | None = None,
    configs: Iterable[str] | None = None,
    options: SimulationOptions = BANDWIDTH,
    model_options: ModelOptions = HONEST,
) -> Iterator[Row]:
    """Simulate the grid, leaving out what a preset does not run.

    On one preset layers with equal plans, of whatever model and format, are simulated once.
    """
    machines = [m for m in (accelerators or ACCELERATORS.values()) if isinstance(m, Accelerator)]
    known = formats()
    models = tuple(models)
    for machine in machines:
        simulated: Known = {}
        for model, phase in itertools.product(models, Phase):
            for batch in batches[phase]:
                layers = workload(model, phase, batch=batch)
                chosen = options
                if phase is Phase.PREFILL and batch >= COARSE_BATCH:
                    chosen = replace(
                        options,
                        slice_bytes=COARSE * options.slice_bytes,
                        quantum_bursts=COARSE * options.quantum_bursts,
                    )
                for name in configs or known:
                    if reason_not_runnable(layers, known[name], machine) is not None:
                        continue
                    report = simulate(layers, known[name], machine, chosen, model_options, known=simulated)
                    for layer in report.layers:
                        if layer.cycles:
                            yield Row(model, phase.value, batch, machine.name, name, layer)


@dataclass(frozen=True)
class GridRun:
    """What one process of ``main`` is asked for, ``grid``'s arguments but the preset's name."""

    models: tuple[str, ...]
    batches: Mapping[Phase, Sequence[int]]
    options: SimulationOptions
    model_options: ModelOptions

    def __call__(self, machine: str) -> list[dict[str, object]]:
        """Records of the grid's rows on a preset."""
        accelerator = ACCELERATORS[machine]
        assert isinstance(accelerator, Accelerator)
        rows = grid(
            self.models, self.batches, [accelerator], options=self.options, model_options=self.model_options
        )  # fmt: skip
        return [row.record() for row in rows]

    def table(self, processes: int) -> pd.DataFrame:
        """Those on all presets, which so many processes share."""
        machines = [name for name, machine in ACCELERATORS.items() if isinstance(machine, Accelerator)]
        if processes == 1:
            return pd.DataFrame([record for name in machines for record in self(name)])
        with get_context("spawn").Pool(processes) as pool:
            made = pool.map(self, machines, chunksize=1)
        return pd.DataFrame([record for records in made for record in records])


def summary(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The grid's rows by some columns.

    Returns:
        Layers, mean and worst absolute difference in percent, share of layers within 2 % in percent, the same of
        cycles, and the difference of the sums.
    """
    tagged = table.assign(
        error=table["difference"].abs() * 100,
        filled=table["filled_difference"].abs() * 100,
        near_filled=(table["filled_difference"].abs() <= CLOSE) * 100.0,
        near=(table["difference"].abs() <= CLOSE) * 100.0,
        near_cycles=np.where(table["difference"].abs() <= CLOSE, table["cycles"], 0.0),
    )
    grouped = tagged.groupby(list(by), sort=False)
    made = grouped.agg(
        layers=("error", "size"), mean_percent=("error", "mean"), worst_percent=("error", "max"),
        within_2_percent=("near", "mean"), closed=("closed_cycles", "sum"), simulated=("cycles", "sum"),
        near_cycles=("near_cycles", "sum"), filled_mean=("filled", "mean"), filled_worst=("filled", "max"),
        filled_within_2=("near_filled", "mean"),
    )  # fmt: skip
    made["cycles_within_2_percent"] = 100 * made["near_cycles"] / made["simulated"]
    made["sum_percent"] = 100 * (made["closed"] / made["simulated"] - 1)
    return made.drop(columns=["closed", "simulated", "near_cycles"]).reset_index()


def validate_events(model: str = MODELS[0]) -> pd.DataFrame:
    """The closed form against the simulator for one model at batch 1, plain and as a tile schedule (``SCHEDULED``).

    Slices are four times as long as the simulator's own, to be quick.

    Returns:
        A row of ``summary`` for each of both, preset and phase.
    """
    options = replace(BANDWIDTH, slice_bytes=COARSE * BANDWIDTH.slice_bytes)
    tables = []
    for name, model_options in (("plain", HONEST), ("tile schedule", SCHEDULED)):
        rows = grid((model,), QUICK, options=options, model_options=model_options)
        tables.append(pd.DataFrame([row.record() for row in rows]).assign(closed_form=name))
    return summary(pd.concat(tables, ignore_index=True), ("closed_form", "accelerator", "phase"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m hwmodel.event_grid", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 1 alone, Llama-2-7B and OPT-1.3B")
    parser.add_argument("--dram-timing", action="store_true", help="with rows, refresh and turnaround")
    parser.add_argument("--scheduled", action="store_true", help="price and simulate whole tiles, filling and draining")
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"some of {', '.join(MODELS)}")
    parser.add_argument("--processes", type=int, default=1, help="that share the presets")
    parser.add_argument("--csv", help="write every row to this file")
    asked = parser.parse_args(arguments)
    options = DRAM_TIMING if asked.dram_timing else BANDWIDTH
    model_options = SCHEDULED if asked.scheduled else HONEST
    models, batches = (MODELS[:2], QUICK) if asked.quick else (MODELS, BATCHES)
    run = GridRun(tuple(asked.models or models), batches, options, model_options)
    table = run.table(asked.processes)
    if asked.csv:
        table.to_csv(asked.csv, index=False)
    table["fits"] = table["excess_bytes"] == 0
    for by in (
        ["fits", "phase"],
        ["accelerator", "phase"],
        ["kind", "phase"],
        ["model", "phase"],
        ["batch", "phase"],
        ["format", "phase"],
    ):
        sys.stdout.write(f"\n{summary(table, by).to_string(index=False, float_format='%.2f')}\n")
    every = summary(table.assign(all="all"), ["all"])
    sys.stdout.write(f"\n{every.to_string(index=False, float_format='%.2f')}\n")
    sys.stdout.write(f"{int(table['events'].sum()):,} events\n")


if __name__ == "__main__":
    main()
