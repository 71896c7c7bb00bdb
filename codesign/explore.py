"""Exploring a design space: every combination of recipes and machines priced, and the front of each workload.

A space is lists: recipes, accelerators, arrays, buffers, memories or bandwidths, clocks; and workloads (batch x prompt
x tokens), each with a front of its own, because a shorter prompt is not a better machine. Losses by recipe, from the
trials table of a study, make accuracy one of the objectives; without them the narrowest recipe wins.
``hwmodel.batch_evaluate`` prices, ``codesign.pareto`` finds the fronts, chunk by chunk. Designs without an area (FPGAs)
leave a front over it. A
bandwidth costs nothing but energy in the model, so let it be an objective, or name real memories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codesign.machines import accelerators_by_name
from codesign.models import resolve_model
from codesign.pareto import RunningFront
from codesign.pricing import configs_by_layer, configs_by_own_layer, configs_of, stored_weights, trace_generation
from codesign.recipes import recipe
from datatypes.layer_config import LayerConfig
from hwmodel.accelerator import Array
from hwmodel.batch_axes import Arrays, DesignAxes, DesignSpace, Memory, Scenario
from hwmodel.batch_evaluate import BatchPricer
from hwmodel.batch_result import BatchResult, array_columns
from hwmodel.options import HONEST
from hwmodel.presets_memory import DRAMS
from hwmodel.units import KIB, pj_to_j

# Columns of the front, as in codesign.study.TRIAL_COLUMNS: decode is for each generated token. Bandwidths are peaks
OBJECTIVES = (
    "loss", "bits_per_weight", "prefill_s", "decode_s", "total_s", "prefill_energy_j", "decode_energy_j",
    "total_energy_j", "area_mm2", "bandwidth_gb_s",
)  # fmt: skip
COLUMNS = (
    "batch", "prompt", "tokens", "recipe", "accelerator", "prefill_array", "decode_array", "weight_buffer_kib",
    "activation_buffer_kib", "memory", "frequency_ghz", *OBJECTIVES,
)  # fmt: skip
_NUMBERS = ("weight_buffers_kib", "activation_buffers_kib", "bandwidths_gb_s", "frequencies_ghz", "batches", "prompts",
            "tokens")  # fmt: skip


@dataclass(frozen=True)
class ExploreSpec:
    """What is asked for; the keys of a YAML file, and options of the command line.

    Args:
        recipes, accelerators: names.
        arrays: ``32x32`` or ``32x32/64x16`` (prefill/decode); none for the accelerator's own, as in all that follow.
        weight_buffers_kib, activation_buffers_kib: capacities.
        memories: names of presets; ``bandwidths_gb_s``: of the accelerator's own memory. Both together are one axis.
        frequencies_ghz: clocks.
        batches, prompts, tokens: workloads.
        objectives: columns to minimise.
        whole_tiles, fill_and_drain: options of the price (``hwmodel.options``).
        losses: trials table of a study of the same model (CSV or Parquet) with columns ``recipe`` and ``loss``.
    """

    recipes: tuple[str, ...] = ("bitmod4_g128",)
    accelerators: tuple[str, ...] = ("bitmod",)
    arrays: tuple[str, ...] = ()
    weight_buffers_kib: tuple[float, ...] = ()
    activation_buffers_kib: tuple[float, ...] = ()
    memories: tuple[str, ...] = ()
    bandwidths_gb_s: tuple[float, ...] = ()
    frequencies_ghz: tuple[float, ...] = ()
    batches: tuple[int, ...] = (1,)
    prompts: tuple[int, ...] = (256,)
    tokens: tuple[int, ...] = (256,)
    objectives: tuple[str, ...] = ("total_s", "total_energy_j", "area_mm2")
    whole_tiles: bool = False
    fill_and_drain: bool = False
    losses: str | None = None

    def __post_init__(self) -> None:
        for key in ("recipes", "accelerators", "batches", "prompts", "tokens", "objectives"):
            if not getattr(self, key):
                raise ValueError(f"{key} of a design space must not be empty")
        for key in _NUMBERS:
            for value in getattr(self, key):
                if not 0 < value < math.inf:
                    raise ValueError(f"{key} of a design space must be above 0 and finite, not {value!r}")
        for field in fields(self):
            values = getattr(self, field.name)
            twice = [value for value in values if values.count(value) > 1] if isinstance(values, tuple) else []
            if twice:
                raise ValueError(f"{field.name} of a design space must all differ, not hold {twice[0]!r} twice")
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ValueError(f"objectives must be of {', '.join(OBJECTIVES)}, not {name!r}")
        if "loss" in self.objectives and self.losses is None:
            raise ValueError("losses must be given where loss is an objective: the trials table of a study")


def spec_from(values: Mapping[str, Any], where: str) -> ExploreSpec:
    """A spec out of strings with commas, single values and lists.

    Args:
        values: by the names of ``ExploreSpec``'s fields.
        where: they come from, for messages.

    Raises:
        ValueError: an unknown key, or a value of the wrong kind.
    """
    kinds = {f.name: f.type for f in fields(ExploreSpec)}
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            raise ValueError(f"{where}: key {key!r} must be one of {', '.join(kinds)}")
        if key == "losses":
            made[key] = None if value is None else str(value)
            continue
        if kinds[key] == "bool":
            if not isinstance(value, bool):
                raise ValueError(f"{where}: {key} must be true or false, not {value!r}")
            made[key] = value
            continue
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        items = [item.strip() if isinstance(item, str) else item for item in items]
        read = _whole if "int" in str(kinds[key]) else float if "float" in str(kinds[key]) else str
        name = "int" if read is _whole else read.__name__
        try:
            made[key] = tuple(read(item) for item in items if item != "")
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{where}: {key} must be a list of {name}, not {value!r}") from None
    return ExploreSpec(**made)


def _whole(item: Any) -> int:
    """A whole number, as text or as YAML has it; no truth value and no fraction."""
    if isinstance(item, bool) or (isinstance(item, float) and item != int(item)):
        raise ValueError(f"{item!r} is no whole number")
    return int(item)


def arrays_of(text: str) -> Arrays:
    """The arrays that ``32x32/64x16`` says.

    >>> arrays_of("32x32/64x16")
    (Array(rows=32, columns=32), Array(rows=64, columns=16))

    Raises:
        ValueError: no such sizes, or another number of PEs in decode.
    """
    try:
        sizes = [tuple(int(size) for size in part.split("x")) for part in text.split("/")]
        (prefill, decode) = sizes if len(sizes) == 2 else (sizes[0], *sizes)
        made = Array(*prefill), Array(*decode)
    except (TypeError, ValueError):
        raise ValueError(f"an array must be rows x columns, such as 32x32 or 32x32/64x16, not {text!r}") from None
    if made[0].rows * made[0].columns != made[1].rows * made[1].columns:
        raise ValueError(f"an array must have as many PEs in decode as in prefill, not {text!r}")
    return made


@dataclass(frozen=True, eq=False)
class Explored:
    """What was found.

    Args:
        model: its name.
        designs, runnable: priced, and of these runnable.
        fronts: one row for each design on the front of its workload, ``COLUMNS`` and ``index``.
        reasons: why recipes do not run, one sentence for each pair of recipe and accelerator.
    """

    model: str
    designs: int
    runnable: int
    fronts: pd.DataFrame
    reasons: tuple[str, ...]


def explore(
    model: str, spec: ExploreSpec, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Explored:
    """Price the space of ``spec`` for a model and find its fronts.

    Raises:
        ValueError, NotImplementedError: as ``hwmodel.batch_evaluate``; a recipe without a loss.
    """
    source = resolve_model(model)
    made = {name: recipe(name) for name in spec.recipes}
    losses = _losses(spec)
    workloads = [(b, p, t) for b in spec.batches for p in spec.prompts for t in spec.tokens]
    traced = [trace_generation(source, batch=b, prompt=p, tokens=t) for b, p, t in workloads]
    if traced[0].last_step is None:
        raise ValueError(f"model {source.name} must write tokens to be explored; codesign estimate prices its one pass")
    scenarios = tuple(
        Scenario(f"{b} {p} {t}", generation.prefill, generation.last_step, p, t)
        for (b, p, t), generation in zip(workloads, traced, strict=True)
    )
    configs: dict[str, dict[str, LayerConfig]] = {}
    bits = {}
    for name, chosen in made.items():
        own = configs_of(chosen, traced[0])
        configs[name] = configs_by_layer(traced[0].prefill, own) | configs_by_own_layer(traced[0].last_step, own)
        bits[name] = stored_weights(traced[0].prefill, own).bits_per_weight
    options = replace(HONEST, whole_tiles=spec.whole_tiles, fill_and_drain=spec.fill_and_drain)
    pricer = BatchPricer(DesignSpace(scenarios, configs, _axes(spec)), options)
    fronts = [RunningFront() for _ in workloads]
    kept: dict[int, dict[str, Any]] = {}
    runnable = 0
    for part in pricer.chunks(threads=threads, progress=progress):
        runnable += int(part.runnable.sum())
        figures = _figures(part, bits, losses, [tokens for _, _, tokens in workloads])
        costs = np.stack([figures[name] for name in spec.objectives], axis=1)
        costs[~part.runnable] = np.nan
        for place in np.unique(part.places["scenario"]):
            here = np.flatnonzero(part.places["scenario"] == place)
            fronts[place].add(costs[here], part.indices[here])
        on = {int(label) for front in fronts for label in front.labels}
        kept = {label: row for label, row in kept.items() if label in on}
        for label in sorted(on - kept.keys()):
            kept[label] = _row(part, label, workloads, {name: figures[name][label - part.start] for name in figures})
    rows = [kept[int(label)] for front in fronts for label in front.labels]
    table = pd.DataFrame(rows, columns=["index", *COLUMNS])
    table = table.sort_values(["batch", "prompt", "tokens", spec.objectives[0]], kind="stable", ignore_index=True)
    reasons = tuple(f"{recipe_name}: {why}" for (recipe_name, _), why in pricer.forms.reasons.items())
    return Explored(source.name, len(pricer.space), runnable, table, reasons)


def _axes(spec: ExploreSpec) -> DesignAxes:
    unknown = [name for name in spec.memories if name not in DRAMS]
    if unknown:
        raise ValueError(f"memories must be of {', '.join(DRAMS)}, not {unknown[0]!r}")
    drams: tuple[Memory | None, ...] = (
        *(DRAMS[name] for name in spec.memories), *(rate * 1e9 for rate in spec.bandwidths_gb_s)
    )  # fmt: skip
    return DesignAxes(
        tuple(accelerators_by_name(spec.accelerators).values()),
        tuple(arrays_of(text) for text in spec.arrays) or (None,),
        tuple(round(size * KIB) for size in spec.weight_buffers_kib) or (None,),
        tuple(round(size * KIB) for size in spec.activation_buffers_kib) or (None,),
        drams or (None,),
        tuple(rate * 1e9 for rate in spec.frequencies_ghz) or (None,),
    )


def _losses(spec: ExploreSpec) -> Mapping[str, float]:
    """Loss by recipe; empty where none are asked for."""
    if spec.losses is None:
        return {}
    path = Path(spec.losses)
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        table["loss"] = pd.to_numeric(table["loss"], errors="coerce")  # what is no number is NaN
        losses = table.groupby("recipe")["loss"].first().to_dict()
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"losses must be a table with columns recipe and loss, not {spec.losses!r} ({error})"
        ) from None
    missing = [name for name in spec.recipes if name not in losses]
    if missing:
        raise ValueError(f"losses in {spec.losses} must hold every recipe, and {', '.join(missing)} is not there")
    for name in spec.recipes:
        if not math.isfinite(losses[name]):
            raise ValueError(f"losses in {spec.losses} must be finite numbers, not {losses[name]!r} for {name}")
    return losses


def _figures(
    part: BatchResult, bits: Mapping[str, float], losses: Mapping[str, float], tokens: Sequence[int]
) -> dict[str, np.ndarray]:
    """The columns that may be objectives; ``tokens`` are those generated in each workload."""
    names = part.space.config_names
    config = part.places["config"]
    prefill, decode, total = part.prefill, part.decode, part.total
    generated = np.array(tokens)[part.places["scenario"]]
    return {
        "loss": np.array([losses.get(name, np.nan) for name in names])[config],
        "bits_per_weight": np.array([bits[name] for name in names])[config],
        "prefill_s": prefill.seconds,
        "decode_s": decode.seconds / generated,
        "total_s": total.seconds,
        "prefill_energy_j": pj_to_j(1.0) * prefill.energy_pj,
        "decode_energy_j": pj_to_j(1.0) * decode.energy_pj / generated,
        "total_energy_j": pj_to_j(1.0) * total.energy_pj,
        "area_mm2": part.area_mm2,
        "bandwidth_gb_s": _bandwidths(part),
    }


def _bandwidths(part: BatchResult) -> np.ndarray:
    axes = part.space.axes
    peaks = [
        [axes.memory(a, d).bytes_per_s / 1e9 for d in range(len(axes.drams))] for a in range(len(axes.accelerators))
    ]
    return np.array(peaks)[part.places["accelerator"], part.places["dram"]]


def _row(
    part: BatchResult, label: int, workloads: list[tuple[int, int, int]], figures: Mapping[str, float]
) -> dict[str, Any]:
    point = part.space.design(label)
    machine = point.accelerator
    array = array_columns(machine)
    batch, prompt, tokens = workloads[part.space.scenarios.index(point.scenario)]
    return {
        "index": label,
        "batch": batch,
        "prompt": prompt,
        "tokens": tokens,
        "recipe": point.config_name,
        "accelerator": machine.name,
        "prefill_array": array["prefill_array"],
        "decode_array": array["decode_array"],
        "weight_buffer_kib": _kib(array["weight_buffer_bytes"]),
        "activation_buffer_kib": _kib(array["activation_buffer_bytes"]),
        "memory": machine.dram.name,
        "frequency_ghz": machine.frequency_hz / 1e9,
        **{name: float(value) for name, value in figures.items()},
    }


def _kib(size_bytes: Any) -> float | None:
    return None if size_bytes is None else size_bytes / KIB
