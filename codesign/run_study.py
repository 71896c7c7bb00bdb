"""A whole study: recipes measured, priced on every accelerator, written to one folder.

What a finished folder holds: ``index.html`` (the dashboard), ``trials.csv`` and ``trials.parquet`` (one row for each
recipe and accelerator), ``layers.parquet``, ``machines.csv``, ``front.csv`` and ``manifest.json``. Every file is
written to a temporary name and renamed; a study that is run again measures only what is not in the store yet.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from codesign.cache import whole_file
from codesign.dashboard.page import write_dashboard
from codesign.models import ModelSource, resolve_model
from codesign.pricing import Generation, layer_rows, machine_rows, price_generation, trace_generation
from codesign.recipe_accuracy import SOURCES, Bench, Protocol, RecipeResult, measure_all
from codesign.recipes import Recipe, recipe_to_dict
from codesign.store import code_fingerprint, jsonable, write_atomic
from codesign.study import LAYER_COLUMNS, TRIAL_COLUMNS, StudyResult, mark_front
from codesign.study_file import StudySpec
from codesign.text import load_text
from codesign.tokens import first_token
from hwmodel.gpu import Machine
from hwmodel.gpu_file import load_machine
from hwmodel.gpu_presets import MACHINES, machine_by_name
from hwmodel.options import HONEST
from hwmodel.workload import Phase

PACKAGES = ("numpy", "numba", "torch", "transformers", "safetensors", "pandas", "plotly", "pyarrow", "networkx")
_TABLES = ("trials", "layers", "machines")
_COSTS = ("prefill_s", "decode_s", "prefill_energy_j", "decode_energy_j", "total_s", "total_energy_j")

Done = Callable[[Recipe, RecipeResult, bool], None]


def accelerators_by_name(names: tuple[str, ...]) -> dict[str, Machine]:
    """The presets, or accelerators in YAML files, that ``names`` name.

    Raises:
        ValueError: neither a preset nor a file; or a file with a mistake; or two of one name.
    """
    found: dict[str, Machine] = {}
    for name in names:
        is_file = name not in MACHINES and name.endswith((".yaml", ".yml"))
        machine: Machine = load_machine(Path(name)) if is_file else machine_by_name(name)
        if machine.name in found:
            raise ValueError(f"accelerators of a study must have different names, not two called {machine.name!r}")
        found[machine.name] = machine
    return found


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
    for use, name in (("evaluation", spec.text), ("calibration", spec.calibration_text)):
        text = load_text(name)
        texts[use] = {"name": text.name, "source": text.source, "licence": text.licence, "sha256": text.hash,
                      "note": text.note}  # fmt: skip
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


def check_output(folder: Path) -> None:
    """Makes sure that files can be written to ``folder``, which need not exist yet; writes nothing.

    Raises:
        ValueError: it is a file, lies below one, or may not be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} must be a folder, not a file")
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"the output {folder} must be where files may be written, which {place} is not")


def write_study(result: StudyResult, folder: Path) -> Path:
    """Write a study's files; returns the path of its page.

    Raises:
        ValueError: as ``check_output``.
    """
    check_output(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("trials", result.trials), ("layers", result.layers), ("machines", result.machines)):
        with whole_file(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    for name, table in (("trials", result.trials), ("machines", result.machines), ("front", result.front())):
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False).encode())
    about = {"name": result.name, "objectives": list(result.objectives), "manifest": result.manifest}
    write_atomic(folder / "manifest.json", json.dumps(jsonable(about), indent=1, allow_nan=False).encode())
    page = folder / "index.html"
    write_dashboard(result, page)
    return page


def read_study_folder(folder: Path) -> StudyResult:
    """The study that ``write_study`` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    for name in ("manifest.json", *(f"{table}.parquet" for table in _TABLES)):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} must be the folder of a finished study, but {name} is not there")
    try:
        about = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        return StudyResult(
            about["name"], tables["trials"], tables["layers"], tables["machines"], tuple(about["objectives"]),
            about["manifest"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} must be the folder of a finished study ({type(error).__name__}: {error})") from None
