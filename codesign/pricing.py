"""What generating text costs: a prompt and the tokens after it, on one accelerator, for one set of layer configs.

The workload is traced once for each phase; decode steps follow the growing context by arithmetic
(``hwmodel.workload.at_context``). Configs are joined to layers by name; attention layers take the KV formats of the
configs, every other layer that is not named is FP16. The phases may differ in their layers: a state-space model scans
a prompt in chunks and a token by itself, and only a prompt runs through an encoder. A model that writes no tokens has
one pass and no decode steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd

from codesign.model_config import most_positions
from codesign.recipes import Recipe, check_groups
from codesign.study import LAYER_COLUMNS
from codesign.trace import NoDecodeSteps, trace
from datatypes.layer_config import LayerConfig
from hwmodel.evaluate import Pricer, evaluate, storage_bits
from hwmodel.gpu import Machine
from hwmodel.latent_attention import absorb_latent
from hwmodel.options import HONEST, ModelOptions
from hwmodel.price import Price, sum_prices
from hwmodel.report import CostReport
from hwmodel.term_skipping import CountedBits
from hwmodel.units import cycles_to_s, pj_to_j
from hwmodel.workload import ATTENTION_KINDS, LayerKind, Phase, Workload, at_context

_BITS_PER_BYTE = 8
_FP16_BITS = 16.0
_FOUR_BITS = 4.0  # weights, and activations where the array multiplies encoded ones: what peaks are quoted for


class Described(Protocol):
    """A model of which only the shapes matter."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> Any: ...


@dataclass(frozen=True)
class Generation:
    """The shapes of a prompt and of the decode steps after it.

    Args:
        prefill: the prompt's workload (the whole pass of a model that writes no tokens).
        last_step: the last decode step's workload, at the largest context; ``None`` where no tokens are written.
        prompt, tokens: tokens of the prompt and tokens generated.
    """

    prefill: Workload
    last_step: Workload | None
    prompt: int
    tokens: int

    def at(self, phase: Phase, context: int) -> Workload:
        """The workload of a phase at a context.

        Raises:
            ValueError: a decode step of a model that has none.
        """
        if phase is Phase.PREFILL:
            return self.prefill
        if self.last_step is None:
            raise ValueError(
                f"phase must be prefill for {self.prefill.model}, which writes no tokens, not {phase.value!r}"
            )
        return at_context(self.last_step, context)

    @property
    def middle(self) -> int:
        """Context of the decode step in the middle."""
        return self.prompt + (self.tokens + 1) // 2


# Of a workload: as many as shapes on paper are held without overflow, and decode steps are priced one by one
LARGEST: Mapping[str, int] = {"batch": 1 << 24, "prompt": 1 << 30, "tokens": 1 << 20}


def trace_generation(source: Described, *, batch: int = 1, prompt: int = 256, tokens: int = 256) -> Generation:
    """Trace a model's prompt and decode steps from its config alone; one pass where it writes no tokens.

    Raises:
        ValueError: a size below 1 or beyond ``LARGEST``, or a prompt that the model has no positions for.
    """
    for what, size in (("batch", batch), ("prompt", prompt), ("tokens", tokens)):
        if not 1 <= size <= LARGEST[what]:
            raise ValueError(f"{what} must be 1 to {LARGEST[what]:,}, not {size!r}")
    prefill = _trace_prompt(source, batch, prompt)
    try:
        traced = trace(
            source.config, phase=Phase.DECODE, batch=batch, context=prompt + tokens, source=prompt, name=source.name
        )
    except NoDecodeSteps:
        return Generation(prefill, None, prompt, 0)
    return Generation(prefill, absorb_latent(traced), prompt, tokens)


def _trace_prompt(source: Described, batch: int, prompt: int) -> Workload:
    """The prompt's workload; where only its length is in the way, the sentence names the most positions there are."""
    try:
        return trace(source.config, phase=Phase.PREFILL, batch=batch, context=prompt, name=source.name)
    except NotImplementedError:
        most = most_positions(source.config)
        if most is None or prompt <= most:
            raise
        trace(source.config, phase=Phase.PREFILL, batch=batch, context=most)  # raises where something else is wrong
    raise ValueError(f"prompt must be at most the {most} positions of {source.name} (--prompt {most}), not {prompt}")


def configs_of(made: Recipe, generation: Generation) -> dict[str, LayerConfig]:
    """The recipe's config of each layer with weights, before an algorithm has adapted it.

    Raises:
        ValueError: groups longer than every row.
    """
    layers = generation.prefill.layers
    check_groups(made, (layer.k for layer in layers if layer.kind is LayerKind.LINEAR), generation.prefill.model)
    return {
        layer.name: made.config_of(layer)
        for layer in layers
        if layer.kind in (LayerKind.LINEAR, LayerKind.CONV) and (not layer.head or made.head is not None)
    }


@dataclass(frozen=True)
class StoredWeights:
    """How many weights are encoded, and the bits that they are stored in."""

    weights: int
    bits: int

    @property
    def bits_per_weight(self) -> float:
        """Those of FP16 where nothing is encoded."""
        return self.bits / self.weights if self.weights else _FP16_BITS


def stored_weights(workload: Workload, configs: Mapping[str, LayerConfig]) -> StoredWeights:
    """The weights of ``workload`` that ``configs`` encode."""
    weights = bits = 0
    for layer in workload.layers:
        if layer.name in configs and layer.weights:
            copies = layer.weights // (layer.n * layer.k)
            weights += layer.weights
            bits += copies * configs[layer.name].storage_bits((layer.n, layer.k)).total
    return StoredWeights(weights, bits)


def configs_by_layer(workload: Workload, configs: Mapping[str, LayerConfig]) -> dict[str, LayerConfig]:
    """Configs of the workload's layers: its own for each named layer, the KV formats for products with a cache.

    The KV formats are those of the first config that has any: one KV cache serves all layers alike.

    Raises:
        ValueError: a config names no layer of the workload.
    """
    known = {layer.name for layer in workload.layers}
    stray = sorted(set(configs) - known)
    if stray:
        raise ValueError(f"configs must name layers of {workload.model}, not {stray[0]}")
    cached = next((c for c in configs.values() if c.key is not None or c.value is not None), None)
    one: dict[LayerConfig, LayerConfig] = {}  # equal configs as one object: alike layers are priced once
    made = {name: one.setdefault(config, config) for name, config in configs.items()}
    if cached is not None:
        attention = LayerConfig(key=cached.key, value=cached.value)
        products = [layer for layer in workload.layers if layer.kind in ATTENTION_KINDS]
        made.update({layer.name: attention for layer in products if not layer.state})  # a state is no cache
    return made


def configs_by_own_layer(workload: Workload, configs: Mapping[str, LayerConfig]) -> dict[str, LayerConfig]:
    """As ``configs_by_layer``, of a phase that need not have every layer that ``configs`` name."""
    names = {layer.name for layer in workload.layers}
    return configs_by_layer(workload, {name: config for name, config in configs.items() if name in names})


@dataclass(frozen=True)
class Priced:
    """What one generation costs on one accelerator.

    Args:
        prefill, whole: sums over all layers of the prompt, and of the prompt with all decode steps.
        prefill_report, middle_report: every layer of the prompt, and of the decode step at the mean context (``None``
            where there are no decode steps).
        tokens: generated.
    """

    prefill: Price
    whole: Price
    prefill_report: CostReport
    middle_report: CostReport | None
    tokens: int

    def objectives(self) -> dict[str, float]:
        """The cost columns of a trial (``codesign.study.TRIAL_COLUMNS``); NaN for the tokens of a model without any."""
        clock_hz = self.prefill_report.frequency_hz
        prefill_s, total_s = cycles_to_s(self.prefill.cycles, clock_hz), cycles_to_s(self.whole.cycles, clock_hz)
        decode_pj = self.whole.energy_pj - self.prefill.energy_pj
        return {
            "prefill_s": prefill_s,
            "decode_s": (total_s - prefill_s) / self.tokens if self.tokens else math.nan,
            "prefill_energy_j": pj_to_j(self.prefill.energy_pj),
            "decode_energy_j": pj_to_j(decode_pj) / self.tokens if self.tokens else math.nan,
            "total_s": total_s,
            "total_energy_j": pj_to_j(self.whole.energy_pj),
            "area_mm2": sum(self.prefill_report.area_mm2.values()),
        }


def price_generation(
    generation: Generation,
    configs: Mapping[str, LayerConfig],
    accelerator: Machine,
    options: ModelOptions = HONEST,
    bit_stats: Mapping[str, CountedBits] | None = None,
) -> Priced:
    """Price a prompt and its decode steps.

    Layers alike in shape and config are priced once in every step (a transformer of 500 layers has about 15).

    Args:
        generation: traced.
        configs: by layer name.
        accelerator: or GPU.
        options: which effects count.
        bit_stats: as in ``hwmodel.evaluate.evaluate``.

    Raises:
        NotImplementedError: the accelerator cannot run a format; names accelerator, format and layer.
        ValueError: a config or statistics name no layer.
    """
    counted = dict(bit_stats or {})
    by_layer = configs_by_layer(generation.prefill, configs)
    if generation.last_step is None:  # no next token to be chosen: a head (of a masked language model) sees them all
        every_token = replace(options, last_token_head=False)
        report = evaluate(generation.prefill, by_layer, accelerator, every_token, bit_stats=counted)
        return Priced(report.total, report.total, report, None, 0)
    report = evaluate(generation.prefill, by_layer, accelerator, options, bit_stats=counted)
    of_step = configs_by_own_layer(generation.last_step, configs)
    names = {layer.name for layer in generation.last_step.layers}
    counted = {name: stats for name, stats in counted.items() if name in names}
    few, counts = _alike(generation.last_step, of_step, counted)
    pricer = Pricer(
        {name: config for name, config in of_step.items() if name in counts}, accelerator, options,
        bit_stats={name: stats for name, stats in counted.items() if name in counts},
    )  # fmt: skip
    prompt, tokens = generation.prompt, generation.tokens
    contexts = [(prompt + i + 1, 1) for i in range(tokens)] if options.growing_context else [(prompt, tokens)]
    steps = (
        cost.price.times(times * counts[cost.layer])
        for context, times in contexts
        for cost in pricer.evaluate(at_context(few, context)).layers
    )
    return Priced(
        prefill=report.total,
        whole=sum_prices([report.total, *steps]),
        prefill_report=report,
        middle_report=evaluate(
            generation.at(Phase.DECODE, generation.middle), of_step, accelerator, options, bit_stats=counted
        ),
        tokens=tokens,
    )


def _alike(
    workload: Workload, configs: Mapping[str, LayerConfig], counted: Mapping[str, CountedBits]
) -> tuple[Workload, dict[str, int]]:
    """The first of each set of layers equal in shape, config and statistics; how many of each, by its name."""
    first: dict[tuple[object, ...], str] = {}
    counts: dict[str, int] = {}
    for layer in workload.layers:
        key = layer.shape_key, id(configs.get(layer.name)), id(counted.get(layer.name))
        name = first.setdefault(key, layer.name)
        counts[name] = counts.get(name, 0) + 1
    return replace(workload, layers=tuple(layer for layer in workload.layers if layer.name in counts), edges=()), counts


def layer_rows(
    report: CostReport, workload: Workload, *, recipe: str, configs: Mapping[str, LayerConfig]
) -> list[dict[str, Any]]:
    """One row of ``LAYER_COLUMNS`` for each layer of a report."""
    rows = []
    for cost, layer in zip(report.layers, workload.layers, strict=True):
        price = cost.price
        weight_bits = float("nan")
        if layer.kind in (LayerKind.LINEAR, LayerKind.CONV):
            shape = (layer.n, layer.k)
            weight_bits = storage_bits(shape, configs.get(layer.name, LayerConfig())) / (layer.n * layer.k)
        row = {
            "recipe": recipe,
            "accelerator": report.accelerator,
            "phase": report.phase,
            "layer": layer.name,
            "kind": layer.kind.value,
            "m": layer.m,
            "k": layer.k,
            "n": layer.n,
            "copies": layer.copies,
            "macs": price.macs,
            "weight_bits": weight_bits,
            "cycles": cost.cycles,
            "compute_cycles": price.compute_cycles,
            "dram_cycles": price.dram_cycles,
            "dram_bits": price.dram_bits,
            "energy_pj": price.energy_pj,
            "energy_compute_pj": price.onchip_pj - price.sram_read_pj - price.sram_write_pj,
            "energy_sram_pj": price.sram_read_pj + price.sram_write_pj,
            "energy_dram_pj": price.dram_pj,
            "bound": cost.bound.value,
        }
        assert row.keys() == LAYER_COLUMNS.keys()
        rows.append(row)
    return rows


def machine_rows(accelerators: Mapping[str, Machine]) -> pd.DataFrame:
    """The machines table of a study (``MACHINE_COLUMNS``)."""
    return pd.DataFrame(
        [
            {
                "accelerator": name,
                "clock_hz": machine.frequency_hz,
                "peak_macs_per_s": machine.peak_macs_per_cycle_of_bits(_FOUR_BITS, _FOUR_BITS) * machine.frequency_hz,
                "dram_bytes_per_s": machine.dram.bits_per_cycle(machine.frequency_hz, sustained=True)
                * machine.frequency_hz
                / _BITS_PER_BYTE,
                "area_mm2": machine.area_mm2,
                "source": machine.source,
            }
            for name, machine in accelerators.items()
        ]
    )
