"""A whole study: recipes measured, and priced on every accelerator; ``codesign.study_folder`` writes it.

A study that is run again measures only what is not in the store yet.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from codesign.machines import accelerators_by_name
from codesign.models import ModelSource, resolve_model
from codesign.pricing import Generation, layer_rows, machine_rows, price_generation, trace_generation
from codesign.recipe_accuracy import SOURCES, Bench, Protocol, RecipeResult, measure_all
from codesign.recipes import Recipe, check_quantizes, recipe_to_dict
from codesign.store import code_fingerprint, jsonable
from codesign.study import LAYER_COLUMNS, TRIAL_COLUMNS, StudyResult, mark_front
from codesign.study_file import StudySpec
from codesign.text import load_text
from codesign.tokens import first_token, tokenize
from hwmodel.gpu import Machine
from hwmodel.options import HONEST
from hwmodel.workload import Phase

PACKAGES = ("numpy", "numba", "torch", "transformers", "safetensors", "pandas", "plotly", "pyarrow", "networkx")
_COSTS = ("prefill_s", "decode_s", "prefill_energy_j", "decode_energy_j", "total_s", "total_energy_j")

Done = Callable[[Recipe, RecipeResult, bool], None]


def run_study(
    spec: StudySpec, *, device: str = "cpu", bench: Bench | None = None, done: Done | None = None
) -> StudyResult:
    """Measure and price everything that ``spec`` names.

    Args:
        device: where blocks run.
        bench: an opened model with steps of its own; made from ``spec`` by default.
        done: called with each recipe's result as it comes.

    Raises:
        ValueError: an unknown name, a text that is too short, or what quantizing raises.
    """
    recipes = [spec.recipe(name) for name in spec.recipes]
    for made in recipes:
        check_quantizes(made)
    machines = accelerators_by_name(spec.accelerators)
    if bench is None:
        bench = Bench(resolve_model(spec.model), protocol_of(spec), device)
    results = measure_all(bench, recipes, done=done)
    generation = trace_generation(bench.source, batch=spec.batch, prompt=spec.prompt, tokens=spec.generate)
    trials, layers = price_all(generation, results, machines)
    trials["on_front"] = mark_front(trials, spec.objectives)
    return StudyResult(
        name=spec.name,
        trials=trials[list(TRIAL_COLUMNS)],
        layers=layers,
        machines=machine_rows(machines),
        objectives=spec.objectives,
        manifest=manifest(spec, bench.source, recipes, machines),
    )


def protocol_of(spec: StudySpec) -> Protocol:
    """How the study measures accuracy."""
    return Protocol(
        spec.text, spec.tokens, spec.context, spec.calibration_text, spec.calibration_tokens, spec.seed, spec.bos
    )


def price_all(
    generation: Generation, results: Mapping[str, RecipeResult], machines: Mapping[str, Machine]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials table without its front, and the layers table: every recipe on every accelerator."""
    trials: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    phases = {"prefill": generation.prefill, "decode": generation.at(Phase.DECODE, generation.middle)}
    for name, result in results.items():
        for machine in machines.values():
            row: dict[str, Any] = {"recipe": name, "algorithm": result.algorithm, "accelerator": machine.name}
            row |= dict(result.numbers)
            try:
                priced = price_generation(generation, result.configs, machine)
            except NotImplementedError as reason:
                nothing = dict.fromkeys(_COSTS, math.nan)
                row |= {"supported": False, "reason": str(reason), **nothing, "area_mm2": machine.area_mm2}
                trials.append(row)
                continue
            trials.append(row | {"supported": True, "reason": "", **priced.objectives()})
            reports = (priced.prefill_report, priced.middle_report)
            for report in (made for made in reports if made is not None):
                workload = phases[report.phase]
                layers += layer_rows(report, workload, recipe=name, configs=result.configs)
    return pd.DataFrame(trials), pd.DataFrame(layers, columns=list(LAYER_COLUMNS))


def manifest(
    spec: StudySpec, source: ModelSource, recipes: list[Recipe], machines: Mapping[str, Machine]
) -> dict[str, Any]:
    """All that a reader needs to repeat the study and to trust its constants; JSON-able."""
    texts = {}
    for use, name, tokens in (
        ("evaluation", spec.text, spec.tokens),
        ("calibration", spec.calibration_text, spec.calibration_tokens),
    ):
        text = load_text(name)
        taken = len(tokenize(text, source.tokenizer(), tokens))  # fewer than were asked for where it holds no more
        texts[use] = {"name": text.name, "source": text.source, "licence": text.licence, "sha256": text.hash,
                      "note": text.note, "tokens": taken}  # fmt: skip
    made: dict[str, Any] = jsonable(
        {
            "study": {key: value for key, value in asdict_plain(spec).items() if key != "own_recipes"},
            "model": {
                "name": source.name,
                "sha256": source.hash,
                "licence": source.licence,
                "source": source.source,
                "grid": source.grid,
            },
            "texts": texts,
            "first_token": _first_token(spec, source),
            "recipes": [recipe_to_dict(made) for made in recipes],
            "accelerators": {name: asdict_plain(machine) for name, machine in machines.items()},
            "options": asdict_plain(HONEST),
            "versions": {
                "python": platform.python_version(),
                "codesign": _version("codesign"),
                **{name: _version(name) for name in PACKAGES},
            },
            "code": code_fingerprint((*SOURCES, "hwmodel")),
            "platform": {"system": sys.platform, "machine": platform.machine()},
        }
    )
    return made


def _first_token(spec: StudySpec, source: ModelSource) -> str | None:
    """What stands before every window, as the study or else the tokenizer's configuration says."""
    tokenizer = source.tokenizer()
    first = first_token(tokenizer, spec.bos)
    return None if first is None else str(tokenizer.convert_ids_to_tokens(first))


def asdict_plain(value: Any) -> Any:
    """A frozen noun as plain JSON: enumerations by value, formats by name."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: asdict_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): asdict_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return [asdict_plain(item) for item in value]
    if hasattr(value, "value") and not isinstance(value, int | float | str):
        return value.value
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
