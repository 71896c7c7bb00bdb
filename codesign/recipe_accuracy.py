"""What one recipe does to one model: quantize, measure, keep the numbers, forget the weights.

Everything that a result depends on goes into its key (``codesign.store``): the model's hash, the recipe's algorithm
and configs, the calibration and evaluation tokens, and the project's own sources. While a recipe is in work its
layers, the hidden states after the last evaluated block (``codesign.stream_file`` says how large) and notes lie in a
folder named by that key, so that a killed run loses at most the layer in flight. The original's states stay until all
recipes are measured. Seconds are sums over the runs that a recipe took; the original's pass is in no recipe's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from codesign.accuracy import AccuracyResult, Reference, loss_difference, perplexity, reference
from codesign.blocks import BlockModel
from codesign.cache import cache_dir
from codesign.calibrate_model import GRADIENTS, CalibrationFolder, gather_gradients
from codesign.calibration import LayerCalibration, Statistic
from codesign.layer_error import layer_sqnr_db
from codesign.models import ModelSource
from codesign.quantize_blocks import CalibrationPlan
from codesign.quantize_recipe import gather, layer_jobs, recipe_job
from codesign.quantized_folder import QuantizedModel
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import Recipe
from codesign.steps import NO_STEPS, Steps
from codesign.store import Store
from codesign.stream_file import SOURCES as WALK_SOURCES
from codesign.stream_file import SUFFIX, StreamFile, tokens_hash, walk_key
from codesign.text import load_text
from codesign.tokens import first_token, tokenize, windows
from codesign.work_notes import WorkNotes
from datatypes.config_json import config_from_dict, config_to_dict
from datatypes.layer_config import LayerConfig
from datatypes.quantized_layer import QuantizedLayer

SAMPLE_ROWS = 128  # inputs of each layer that its output SQNR is measured on
GRADIENT_WINDOWS = 2  # a backward pass is dear, and GWQ (arXiv 2411.00850) asks for a minimal calibration set
FP16_BITS = 16
IN_MEMORY = 1_000_000_000  # parameters of a model whose codes, a byte each, may lie in memory together
SOURCES = (
    *WALK_SOURCES,
    "codesign/layer_error.py",
    "codesign/quantize_recipe.py",
    "codesign/recipe_accuracy.py",
    "codesign/recipe_names.py",
    "codesign/recipes.py",
    "codesign/text.py",
    "codesign/tokens.py",
)


@dataclass(frozen=True)
class RecipeResult:
    """What a recipe did to a model.

    Args:
        recipe, algorithm: names.
        configs: the encoding of each quantized layer, as really used.
        numbers: the accuracy columns of a trial (``codesign.study.TRIAL_COLUMNS``).
        layer_sqnr_db: output SQNR of each quantized layer, decibels.
    """

    recipe: str
    algorithm: str
    configs: Mapping[str, LayerConfig]
    numbers: Mapping[str, float]
    layer_sqnr_db: Mapping[str, float]


@dataclass(frozen=True)
class Protocol:
    """How accuracy is measured.

    Args:
        text, tokens, context: held-out text, how much of it, in windows of how many tokens.
        calibration_text, calibration_tokens: what calibrates.
        seed: kept in the key; the order of texts is fixed.
        bos: put the tokenizer's first token before every window; ``None`` where its configuration says so (Gemma).
    """

    text: str
    tokens: int
    context: int
    calibration_text: str
    calibration_tokens: int
    seed: int = 0
    bos: bool | None = None


@dataclass(eq=False)
class Bench:
    """One model and one protocol, opened as far as it is needed: cached results cost no weights.

    Args:
        source: the model.
        protocol: how accuracy is measured.
        device: where blocks run.
        store: where results are kept.
    """

    source: ModelSource
    protocol: Protocol
    device: str = "cpu"
    store: Store = field(default_factory=lambda: Store(cache_dir("evaluations")))
    steps: Steps = NO_STEPS

    @cached_property
    def evaluation(self) -> Tensor:
        """Held-out tokens, int64 ``[w, context]``."""
        return self._windows(self.protocol.text, self.protocol.tokens)

    @cached_property
    def calibration(self) -> Tensor:
        """Calibration tokens, int64 ``[w, context]``."""
        return self._windows(self.protocol.calibration_text, self.protocol.calibration_tokens)

    def _windows(self, text: str, tokens: int) -> Tensor:
        tokenizer = self.source.tokenizer()
        ids = tokenize(load_text(text), tokenizer, tokens)
        first = first_token(tokenizer, self.protocol.bos)
        try:
            return windows(ids, self.protocol.context, bos_token_id=first)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None

    @cached_property
    def model(self) -> BlockModel:
        """The walked model."""
        return BlockModel(self.source, device=self.device)

    @cached_property
    def base(self) -> Reference:
        """The unquantized model on the held-out tokens; kept on disk until ``measure_all`` is through."""
        return reference(self.model, self.evaluation, steps=self.steps, kept=self.base_file)

    @cached_property
    def base_file(self) -> StreamFile:
        """Where the unquantized model's pass is kept."""
        about = {"model": self.source.hash, "windows": tokens_hash(self.evaluation), "device": self.device}
        key = walk_key(about)
        return StreamFile(cache_dir("in_work") / f"original-{key}{SUFFIX}", key)

    def key(self, recipe: Recipe) -> str:
        """Of everything that the recipe's result depends on."""
        job = self.job(recipe, CalibrationPlan())
        return walk_key(
            {
                "job": job.description(self.source.hash),
                "evaluation": tokens_hash(self.evaluation),
                "calibration": tokens_hash(self.calibration) if self._needs(recipe) else None,
                "seed": self.protocol.seed,
                "device": self.device,
            },
            SOURCES,
        )

    def job(self, recipe: Recipe, plan: CalibrationPlan) -> QuantizationJob:
        """The recipe on this model."""
        about = {"text": self.protocol.calibration_text, "tokens": self.protocol.calibration_tokens}
        return recipe_job(self.model, recipe, plan, about)

    def _needs(self, recipe: Recipe) -> frozenset[Statistic]:
        jobs = layer_jobs(self.model, recipe)
        return frozenset(statistic for job in jobs.values() for statistic in job.algorithm.needs)

    def cached(self, recipe: Recipe) -> RecipeResult | None:
        """The recipe's result, if it was measured before."""
        kept = self.store.get(self.key(recipe))
        return None if kept is None else _result_from_json(kept)

    def gather(self, recipes: Sequence[Recipe]) -> CalibrationFolder:
        """The statistics that all ``recipes`` need, from one pass over the unquantized model (two with gradients)."""
        wanted = frozenset({Statistic.INPUTS}).union(*(self._needs(recipe) for recipe in recipes))
        found = gather(self.model, self.source.hash, self.calibration, wanted - GRADIENTS, steps=self.steps)
        if wanted & GRADIENTS:
            few = self.calibration[:GRADIENT_WINDOWS]
            found = gather_gradients(self.model, few, wanted, found.folder, steps=self.steps)
        return found

    def measure(self, recipe: Recipe, gathered: CalibrationFolder) -> RecipeResult:
        """Quantize by the recipe and measure, going on where a killed run was.

        The result is kept, the quantized weights are not.
        """
        key = self.key(recipe)
        folder = _work_folder(key)
        notes = WorkNotes(folder / "notes.json")
        with notes.timing("quantize_s", self.steps) as steps:
            job = self.job(recipe, CalibrationPlan(gathered))
            quantized = quantize_model(
                self.source, job, folder / "model", device=self.device, verify=False, steps=steps
            )
        base = None if notes.numbers else self.base  # outside the recipe's time
        with notes.timing("evaluate_s", self.steps) as steps:
            layers = self._read(quantized)
            if base is not None:
                kept = StreamFile(folder / f"evaluate{SUFFIX}", key)
                found = perplexity(
                    self.model, self.evaluation, layers, kv=quantized.kv, base=base, steps=steps, kept=kept
                )
                notes.numbers = _accuracy_numbers(found, base)
        for found_db in layer_sqnr_db(self.model, layers, _FewInputs(gathered), known=notes.layer_sqnr_db):
            notes.layer_sqnr_db |= found_db
            notes.write()
        sqnr = notes.layer_sqnr_db
        shapes = {name: (entry["shape"][0], entry["shape"][1]) for name, entry in quantized.layers.entries.items()}
        one: dict[LayerConfig, LayerConfig] = {}  # equal configs as one object: priced once
        configs = {
            name: one.setdefault(config, config)
            for name, entry in quantized.layers.entries.items()
            for config in [config_from_dict(entry["config"])]
        }
        bits = sum(configs[name].storage_bits(shape).total for name, shape in shapes.items())
        weights = sum(n * k for n, k in shapes.values())
        numbers = {
            "bits_per_weight": bits / weights if weights else float(FP16_BITS),
            "model_bytes": (FP16_BITS * (self.parameters - weights) + bits) / 8,
            **notes.numbers,
            "sqnr_db": float(np.mean([v for v in sqnr.values() if math.isfinite(v)])) if sqnr else math.nan,
            **notes.seconds,
        }
        result = RecipeResult(recipe.name, algorithm_name(recipe), configs, numbers, sqnr)
        self.store.put(key, _result_to_json(result))
        shutil.rmtree(folder, ignore_errors=True)
        return result

    def _read(self, quantized: QuantizedModel) -> Mapping[str, QuantizedLayer]:
        """The layers in memory where they are small enough, for they are needed twice; else read when asked for."""
        layers = quantized.layers
        return dict(layers) if self.parameters <= IN_MEMORY else layers

    @cached_property
    def parameters(self) -> int:
        """Parameters of the model, tied ones once."""
        return sum(parameter.numel() for parameter in self.source.skeleton().parameters())


class _FewInputs(Mapping[str, LayerCalibration]):
    """Calibration with the first ``SAMPLE_ROWS`` inputs of each layer: enough for a ratio of energies."""

    def __init__(self, gathered: Mapping[str, LayerCalibration]) -> None:
        self._gathered = gathered

    def __getitem__(self, name: str) -> LayerCalibration:
        whole = self._gathered[name]
        return LayerCalibration(name, whole.tokens, {Statistic.INPUTS: whole[Statistic.INPUTS][:SAMPLE_ROWS]})

    def __iter__(self) -> Iterator[str]:
        return iter(self._gathered)

    def __len__(self) -> int:
        return len(self._gathered)


def _work_folder(key: str) -> Path:
    """Where a recipe lies while it is in work."""
    return cache_dir("in_work") / key


def _accuracy_numbers(result: AccuracyResult, base: Reference) -> dict[str, float]:
    """The accuracy columns of a trial that come from the evaluation."""
    delta, delta_se = loss_difference(result, base.result)
    return {
        "loss": result.loss_nats,
        "loss_delta": delta,
        "loss_delta_se": math.nan if delta_se is None else delta_se,
        "perplexity": result.perplexity,
        "kl": math.nan if result.kl_nats is None else result.kl_nats,
        "top1": math.nan if result.top1_agreement is None else result.top1_agreement,
    }


def algorithm_name(recipe: Recipe) -> str:
    """Key of the recipe's algorithm, ``none`` where there is none."""
    return "none" if recipe.algorithm is None else recipe.algorithm.name


def measure_all(
    bench: Bench, recipes: Sequence[Recipe], *, done: Callable[[Recipe, RecipeResult, bool], None] | None = None
) -> dict[str, RecipeResult]:
    """The results of all recipes, from the store where they were measured before.

    Args:
        done: called with each result as it comes, and whether it came from the store.
    """
    results = {recipe.name: found for recipe in recipes if (found := bench.cached(recipe)) is not None}
    missing = [recipe for recipe in recipes if recipe.name not in results]
    if done is not None:
        for recipe in recipes:
            if recipe.name in results:
                done(recipe, results[recipe.name], True)
    if missing:
        gathered = bench.gather(recipes)  # of all, so that a study that goes on finds the same statistics again
        for recipe in missing:
            results[recipe.name] = bench.measure(recipe, gathered)
            if done is not None:
                done(recipe, results[recipe.name], False)
        shutil.rmtree(gathered.folder, ignore_errors=True)
        bench.base_file.remove()
    return {recipe.name: results[recipe.name] for recipe in recipes}


def _result_to_json(result: RecipeResult) -> dict[str, Any]:
    distinct: list[dict[str, Any]] = []
    of_layer: dict[str, int] = {}
    seen: dict[LayerConfig, int] = {}
    for name, config in result.configs.items():
        if config not in seen:
            seen[config] = len(distinct)
            distinct.append(config_to_dict(config))
        of_layer[name] = seen[config]
    return {
        "recipe": result.recipe,
        "algorithm": result.algorithm,
        "configs": distinct,
        "config_of_layer": of_layer,
        "numbers": dict(result.numbers),
        "layer_sqnr_db": dict(result.layer_sqnr_db),
    }


def _result_from_json(data: Mapping[str, Any]) -> RecipeResult:
    distinct = [config_from_dict(config) for config in data["configs"]]  # one object each: priced once

    def numbers(values: Mapping[str, float | None]) -> dict[str, float]:
        return {name: math.nan if value is None else value for name, value in values.items()}

    return RecipeResult(
        data["recipe"],
        data["algorithm"],
        {name: distinct[index] for name, index in data["config_of_layer"].items()},
        numbers(data["numbers"]),
        numbers(data["layer_sqnr_db"]),
    )
