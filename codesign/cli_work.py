"""Commands that do the work: study, quantize, evaluate, estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from codesign.accuracy import AccuracyResult, perplexity
from codesign.apply import KVFormats
from codesign.bits import read_bits
from codesign.blocks import BlockModel
from codesign.calibrate_model import GRADIENTS
from codesign.cli_report import show_study
from codesign.console import number, records, show_json, show_table, two_columns
from codesign.machines import accelerators_by_name
from codesign.messages import say
from codesign.model_config import most_positions
from codesign.models import ModelSource, resolve_model
from codesign.outputs import check_output_folder
from codesign.pricing import (
    Generation,
    configs_by_own_layer,
    configs_of,
    layer_rows,
    price_generation,
    stored_weights,
    trace_generation,
)
from codesign.quantize_blocks import CalibrationPlan
from codesign.quantize_recipe import gather, recipe_job
from codesign.quantized_folder import QuantizedModel, check_own_recipe, is_quantized, load_quantized
from codesign.quantized_model import check_quantized_output, quantize_model
from codesign.recipe_accuracy import Bench, RecipeResult, algorithm_name
from codesign.recipes import Recipe, check_quantizes, recipe
from codesign.run_study import protocol_of, run_study
from codesign.steps import progress
from codesign.study_file import StudySpec, read_study
from codesign.study_folder import check_study_folder, write_study
from codesign.tasks import load_task
from codesign.text import Text, check_text_name, load_text
from codesign.tokens import first_token, tokenize, windows
from codesign.zero_shot import zero_shot
from datatypes.layer_config import LayerConfig
from hwmodel.capacity import cache_bits, weight_bits
from hwmodel.gpu import Gpu
from hwmodel.options import ModelOptions
from hwmodel.pe import PeKind
from hwmodel.units import BYTE_BITS, cycles_to_s, pj_to_mj
from hwmodel.workload import Phase

_GB = 1e9
_ESTIMATE = ("phase", "layer", "count", "m", "k", "n", "weight_bits", "cycles", "seconds", "dram_bits", "energy_mj",
             "bound")  # fmt: skip


def checked_device(device: str) -> str:
    """``device`` if torch can use it.

    Raises:
        ValueError: no such device here.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"device must be one that torch can use here, not {device!r} ({reason})") from None
    return device


class _Bars:
    """Two bars: recipes, and the steps of what is being done."""

    def __init__(self, bars: Progress, title: str, total: int) -> None:
        self._bars = bars
        self._all: TaskID = bars.add_task(title, total=total)
        self._now: TaskID = bars.add_task("starting", total=None)

    def step(self, what: str, done: int, total: int) -> None:
        """A ``Steps``: moves the lower bar; without a terminal, a line says when something is through."""
        self._bars.update(self._now, description=what or "working", completed=done, total=total)
        if not self._bars.console.is_terminal and done == total and what == "calibrate":
            say(f"{what}: {done} of {total} blocks")

    def done(self, made: Recipe, result: RecipeResult, from_store: bool) -> None:
        self._bars.advance(self._all)
        kept = "measured before" if from_store else "measured"
        self._bars.console.print(
            f"{made.name}: {kept}, loss {number(result.numbers['loss_delta'])} nats over the original", markup=False
        )


@contextmanager
def _in_file(file: Path, key: str) -> Iterator[None]:
    """Puts file and key before what is said about a value in a study file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {key}: {error}") from None


def study(file: Path, out: Path, *, device: str, as_json: bool) -> None:
    """Run a study file and write its folder."""
    spec = read_study(file)
    with _in_file(file, "recipes"):  # an unknown name is said before anything is fetched
        for name in spec.recipes:
            check_quantizes(spec.recipe(name))
    with _in_file(file, "accelerators"):
        accelerators_by_name(spec.accelerators)
    with _in_file(file, "evaluation"):
        check_text_name(spec.text)
    with _in_file(file, "calibration"):
        check_text_name(spec.calibration_text)
    checked_device(device)
    check_study_folder(out, spec.name)
    with progress() as bars:
        shown = _Bars(bars, spec.name, len(spec.recipes))
        with _in_file(file, "model"):
            source = resolve_model(spec.model)
        _check_texts(spec, source, file)
        bench = Bench(source, protocol_of(spec), device, steps=shown.step)
        result = run_study(spec, device=device, bench=bench, done=shown.done)
    page = write_study(result, out)
    show_study(result, page, as_json=as_json)


def _check_texts(spec: StudySpec, source: ModelSource, file: Path) -> None:
    """Makes sure, before any work, that a study's texts fill windows that its model has positions for.

    Says so where a text holds fewer tokens than the study asks for.
    """
    positions = most_positions(source.config)
    with _in_file(file, "evaluation"):
        _check_context(spec.context, source)
    tokenizer = source.tokenizer()
    for key, name, tokens in (
        ("evaluation", spec.text, spec.tokens),
        ("calibration", spec.calibration_text, spec.calibration_tokens),
    ):
        with _in_file(file, key):
            _windows_of(load_text(name), tokenizer, tokens, spec.context, first_token(tokenizer, spec.bos))
    whole = spec.prompt + spec.generate
    if positions is not None and whole > positions:
        say(f"prompt and generated tokens are {whole}, beyond the {positions} positions of {source.name}: "
            "priced as if it had them")  # fmt: skip


def quantize(
    model: str, recipe_name: str, out: Path, *, calibration_text: str, calibration_tokens: int, context: int,
    sequential: bool, device: str, as_json: bool,
) -> None:  # fmt: skip
    """Quantize a model into a folder."""
    made = recipe(recipe_name)
    check_quantizes(made)
    check_text_name(calibration_text)
    check_output_folder(out)
    check_quantized_output(out)
    source = resolve_model(model)
    checked_device(device)
    with progress() as bars:
        shown = _Bars(bars, f"{source.name} {made.name}", 1)
        walked = BlockModel(source, device=device)
        plan, about, tokens = CalibrationPlan(), {}, None
        if made.needs:
            _check_context(context, source)
            text = load_text(calibration_text)
            tokenizer = source.tokenizer()
            first = first_token(tokenizer)
            tokens = _windows_of(text, tokenizer, calibration_tokens, context, first)
            plan = CalibrationPlan(windows=tokens if sequential else None)
            about = {"text": text.name, "sha256": text.hash, "tokens": int(tokens.numel()), "context": context,
                     "sequential": sequential, "bos": first is not None}  # fmt: skip
        job = recipe_job(walked, made, plan, about)
        check_quantized_output(out, job.description(source.hash))  # before the model is run on the text
        wanted = made.needs & GRADIENTS if sequential else made.needs
        if tokens is not None and wanted:
            gathered = gather(walked, source.hash, tokens, wanted, steps=shown.step)
            job = replace(job, plan=replace(plan, gathered=gathered))
        quantized = quantize_model(source, job, out, device=device, steps=shown.step)
    totals = {
        "folder": str(out.resolve()),
        "recipe": made.name,
        "algorithm": algorithm_name(made),
        "layers": len(quantized.layers),
        "bits_per_weight": quantized.bits_per_weight if len(quantized.layers) else None,
        **{f"{kind}_bits": bits for kind, bits in quantized.manifest["bits"].items() if kind != "weights"},
    }
    if as_json:
        show_json(totals)
        return
    show_table(two_columns(totals), title=f"{source.name} as {made.name}", as_json=False)


def _check_context(context: int, source: ModelSource | QuantizedModel) -> None:
    positions = most_positions(source.config)
    if positions is not None and context > positions:
        raise ValueError(f"context must be at most the {positions} positions of {source.name}, not {context}")


def _windows_of(text: Text, tokenizer: Any, wanted: int, context: int, first: int | None) -> Tensor:
    """Windows of the first ``wanted`` tokens of a text; where it holds fewer, of all and a line that says so."""
    ids = tokenize(text, tokenizer, wanted)
    least = context if first is None else context - 1
    if wanted < least:
        raise ValueError(f"tokens of text {text.name} must be at least {least}, one window (context), not {wanted}")
    if len(ids) < least:
        raise ValueError(f"text {text.name} must be at least one window (context) of {least} tokens, not {len(ids)}")
    made = windows(ids, context, bos_token_id=first)
    if len(ids) < wanted:
        say(f"{text.name} holds {len(ids)} tokens, not {wanted}: all are taken")
    return made


def opened(model: str) -> tuple[ModelSource | QuantizedModel, Mapping[str, Any], KVFormats]:
    """A model, its quantized layers (none for an ordinary one) and its KV formats."""
    if is_quantized(model):
        quantized = load_quantized(model)
        return quantized, quantized.layers, quantized.kv
    return resolve_model(model), {}, KVFormats()


def evaluate(
    model: str, *, text: str, tokens: int, context: int, tasks: tuple[str, ...], limit: int | None, bos: bool | None,
    device: str, as_json: bool,
) -> None:  # fmt: skip
    """Perplexity or zero-shot accuracy of a model."""
    if not tasks:
        check_text_name(text)
    source, layers, kv = opened(model)
    checked_device(device)
    tokenizer = source.tokenizer()
    first = first_token(tokenizer, bos)
    rows: list[dict[str, Any]] = []
    with progress() as bars:
        shown = _Bars(bars, source.name, len(tasks) or 1)
        if not tasks:
            _check_context(context, source)
            held_out = load_text(text)
            ids = _windows_of(held_out, tokenizer, tokens, context, first)
            predicted = "".join(tokenizer.decode(window[1:]) for window in ids.tolist())
            walked = BlockModel(source, device=device)
            result = perplexity(walked, ids, layers, kv=kv, text_bytes=len(predicted.encode()), steps=shown.step)
            rows.append(_accuracy_row(source.name, held_out.name, result) | {"bos": first is not None})
        for name in tasks:
            task = load_task(name, limit)
            walked = BlockModel(source, device=device)
            answered = zero_shot(walked, task, tokenizer, layers, kv=kv, bos_token_id=first, steps=shown.step)
            rows.append({
                "model": source.name, "task": answered.task, "questions": answered.questions,
                "accuracy": answered.accuracy, "accuracy_se": answered.accuracy_standard_error,
                "accuracy_norm": answered.accuracy_norm, "accuracy_norm_se": answered.accuracy_norm_standard_error,
                "bos": first is not None,
            })  # fmt: skip
    show_table(pd.DataFrame(rows), title="Accuracy", as_json=as_json)


def _accuracy_row(model: str, text: str, result: AccuracyResult) -> dict[str, Any]:
    return {
        "model": model,
        "text": text,
        "tokens": result.tokens,
        "context": result.context,
        "loss_nats": result.loss_nats,
        "loss_se": result.loss_standard_error,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
    }


@dataclass(frozen=True)
class Traced:
    """Shapes of a model, and what a recipe (or a quantized folder) makes of its layers."""

    model: str
    recipe: str
    generation: Generation
    configs: Mapping[str, LayerConfig]


PRICED_RECIPE = "bitmod4_g128"  # where none is named


def traced_model(model: str, recipe_name: str | None, *, batch: int, prompt: int, generate: int) -> Traced:
    """The shapes of ``model`` with the configs of ``recipe_name``; a quantized folder has a recipe of its own.

    Raises:
        ValueError: another recipe than a quantized folder's own is named.
    """
    if is_quantized(model):
        quantized = load_quantized(model)
        check_own_recipe(quantized, recipe_name)
        generation = trace_generation(quantized, batch=batch, prompt=prompt, tokens=generate)
        configs = {name: quantized.layers[name].config for name in quantized.layers}
        return Traced(quantized.name, str(quantized.manifest["recipe"]), generation, configs)
    made = recipe(recipe_name or PRICED_RECIPE)
    source = resolve_model(model)
    generation = trace_generation(source, batch=batch, prompt=prompt, tokens=generate)
    return Traced(source.name, made.name, generation, configs_of(made, generation))


def estimate(
    model: str, *, accelerator: str, recipe_name: str | None, batch: int, prompt: int, generate: int,
    options: ModelOptions, every_layer: bool, as_json: bool, bits: Path | None = None,
) -> None:  # fmt: skip
    """Price a model from its shapes; with ``bits``, machines that skip zeros from the counts of its weights."""
    (machine,) = accelerators_by_name((accelerator,)).values()
    if isinstance(machine, Gpu) and (options.whole_tiles or options.fill_and_drain):
        raise ValueError(f"whole_tiles and fill_and_drain are of arrays: {machine.name} must be priced without them")
    if bits is not None and (isinstance(machine, Gpu) or machine.pe.kind is not PeKind.TERM_SKIPPING):
        raise ValueError(f"accelerator must skip the zeros of weights to be priced by their bits, not {machine.name}")
    counted = {} if bits is None else read_bits(bits)
    traced = traced_model(model, recipe_name, batch=batch, prompt=prompt, generate=generate)
    generation, configs, name = traced.generation, traced.configs, traced.recipe
    names = {layer.name for layer in generation.prefill.layers}
    strange = next((name for name in counted if name not in names), None)
    if strange is not None:
        raise ValueError(f"{bits} must be of this model, {traced.model}, which has no layer {strange}")
    for layer in generation.prefill.layers:
        stats = counted.get(layer.name)
        if stats is not None and stats.weights != layer.weights:
            raise ValueError(
                f"{bits} must be of this model: {layer.name} has {layer.weights} weights, not {stats.weights}"
            )
    priced = price_generation(generation, configs, machine, options, counted)
    totals = _totals(generation, priced, configs) | {"stored_gb": _stored_gb(generation, configs)}
    if isinstance(machine, Gpu) and totals["stored_gb"] * _GB > machine.memory_bytes:
        room = f"the {number(machine.memory_bytes / _GB)} GB of {machine.name}"
        say(f"weights and KV cache of {traced.model} do not fit into {room}: priced as if they did")
    rows = layer_rows(priced.prefill_report, generation.prefill, recipe=name, configs=configs)
    title = f"{traced.model}, {name}, on {machine.name}: "
    if priced.middle_report is not None:
        shapes = generation.at(Phase.DECODE, generation.middle)
        rows += layer_rows(priced.middle_report, shapes, recipe=name, configs=configs)
        title += f"prompt of {prompt} tokens, and the middle decode step"
    else:
        title += f"one pass, batch {batch}; it writes no tokens, so there are no decode steps"
    table = pd.DataFrame(rows)
    if as_json:
        show_json({"model": traced.model, "recipe": name, "accelerator": machine.name, "totals": totals,
                   "layers": records(table)})  # fmt: skip
        return
    shown = table.assign(count=1) if every_layer else _grouped(table)
    shown["seconds"] = [cycles_to_s(cycles, machine.frequency_hz) for cycles in shown["cycles"]]
    shown["energy_mj"] = [pj_to_mj(energy) for energy in shown["energy_pj"]]
    show_table(shown, title=title, as_json=False, columns=_ESTIMATE)
    show_table(two_columns(totals), title="Totals", as_json=False)


def _stored_gb(generation: Generation, configs: Mapping[str, LayerConfig]) -> float:
    """Weights, and the KV cache of the whole batch after the last token."""
    weights = weight_bits(generation.prefill, configs)
    step = generation.last_step
    cached = 0 if step is None else step.batch * cache_bits(step, configs_by_own_layer(step, configs))
    return (weights + cached) / BYTE_BITS / _GB


def _totals(generation: Generation, priced: Any, configs: Mapping[str, LayerConfig]) -> dict[str, float]:
    stored = stored_weights(generation.prefill, configs)
    objectives = {what: value for what, value in priced.objectives().items() if not math.isnan(value)}
    return {
        **objectives,
        "prefill_cycles": priced.prefill.cycles,
        "total_cycles": priced.whole.cycles,
        **({"tokens_per_s": 1 / objectives["decode_s"]} if priced.tokens else {}),
        "bits_per_weight": stored.bits_per_weight,
        "quantized_weights": stored.weights,
    }


def _grouped(table: pd.DataFrame) -> pd.DataFrame:
    """Layers that are alike in everything but their block, summed."""
    table = table.assign(layer=table["layer"].str.replace(r"\.\d+(?=\.|$)", ".*", regex=True))
    keys = ["phase", "layer", "kind", "m", "k", "n", "copies", "weight_bits", "bound"]
    sums = {name: (name, "sum") for name in ("cycles", "dram_bits", "energy_pj", "macs")}
    return table.groupby(keys, sort=False, dropna=False).agg(count=("cycles", "size"), **sums).reset_index()
