"""Commands that list what there is, and those that compare the cost model with published figures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from codesign.algorithms.registry import ALGORITHMS
from codesign.console import say, show_json, show_table
from codesign.package_models import PACKAGE_MODELS
from codesign.recipe_names import GRAMMAR as GRAMMAR
from codesign.recipes import RECIPES, recipe
from codesign.text import TEXTS
from datatypes.catalog import FORMATS, format_by_name
from datatypes.format_facts import describe
from datatypes.outlier_victim import OutlierVictimFormat
from hwmodel.effects import option_effects
from hwmodel.gpu import Gpu, Machine
from hwmodel.gpu_presets import MACHINES
from hwmodel.paper import paper_model, paper_workload
from hwmodel.presets import accelerator_by_name
from hwmodel.validation import details, one_table
from hwmodel.workload import Phase, Workload

FORMAT_COLUMNS = ("name", "bits", "levels", "maximum", "min_normal", "min_subnormal", "nan_codes", "tie", "source")


def formats() -> pd.DataFrame:
    """One row for each format."""
    return pd.DataFrame([asdict(describe(fmt)) for fmt in FORMATS.values()])


def format_codes(name: str, *, as_json: bool) -> None:
    """Every code of one format with its value (or values, for codes of several elements).

    Raises:
        ValueError: no such format; or one whose values belong to each tensor, or that has too many codes for a table.
    """
    fmt = format_by_name(name)
    try:
        table = fmt.pair_table if isinstance(fmt, OutlierVictimFormat) else fmt.code_values
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"format {name} must have a table of values to list, but has none ({error})") from None
    digits = -(-fmt.bits // 4)
    rows = [
        {"code": code, "hex": f"{code:0{digits}x}", "value": value if np.ndim(value) else float(value)}
        for code, value in enumerate(table.tolist())
    ]
    if as_json:
        show_json({**asdict(describe(fmt)), "codes": rows})
        return
    facts = describe(fmt)
    show_table(pd.DataFrame([{**row, "value": str(row["value"])} for row in rows]), title=facts.name, as_json=False)
    say(f"ties go to {facts.tie}; {facts.overflow}; source: {facts.source}")


def accelerators() -> pd.DataFrame:
    """One row for each preset."""
    return pd.DataFrame(
        [
            {
                "name": machine.name,
                **_array_of(machine),
                "clock_ghz": machine.frequency_hz / 1e9,
                "area_mm2": machine.area_mm2,
                "dram": machine.dram.name,
                "source": machine.source,
            }
            for machine in MACHINES.values()
        ]
    )


def _array_of(machine: Machine) -> dict[str, object]:
    """What multiplies, how many there are, and multiply-adds of each in a cycle."""
    if isinstance(machine, Gpu):
        lanes = round(machine.macs_per_cycle() / machine.multiprocessors)
        return {"pe": "tensor_cores_fp16", "pes": machine.multiprocessors, "lanes": lanes}
    return {"pe": machine.pe.name, "pes": machine.pe_count, "lanes": machine.pe.lanes}


def algorithms() -> pd.DataFrame:
    """One row for each algorithm."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "needs": ", ".join(sorted(s.value for s in algorithm.needs)) or "weights only",
                "source": algorithm.source,
            }
            for name, algorithm in ALGORITHMS.items()
        ]
    )


def recipes() -> pd.DataFrame:
    """One row for each named recipe; bits for a 4096 x 4096 layer, everything counted."""
    shape = (4096, 4096)
    return pd.DataFrame(
        [
            {
                "name": recipe.name,
                "algorithm": "none" if recipe.algorithm is None else recipe.algorithm.name,
                "bits_4096": recipe.linear.storage_bits(shape).bits_per_weight(shape),
                "note": recipe.note,
            }
            for recipe in RECIPES.values()
        ]
    )


def models() -> pd.DataFrame:
    """One row for each packaged model."""
    return pd.DataFrame(
        [
            {"name": name, "licence": model.licence, "grid": model.grid, "source": model.source}
            for name, model in PACKAGE_MODELS.items()
        ]
    )


def texts() -> pd.DataFrame:
    """One row for each named text."""
    return pd.DataFrame([{"name": name, "about": (load.__doc__ or "").strip()} for name, load in TEXTS.items()])


def validate(rows: Path | None, *, every: bool, as_json: bool) -> None:
    """The cost model against what others published or measured: one table, and with ``every`` all tables behind it."""
    tables = details(rows)
    summary = one_table(tables)
    if as_json:
        behind = {name: table.to_dict(orient="records") for name, table in tables.items()} if every else {}
        show_json({"summary": summary.to_dict(orient="records"), **behind})
        return
    if every:
        for name, table in tables.items():
            if len(table):
                show_table(table, title=name, as_json=False)
    headings = {"truth": "theirs", "mean_error": "mean error, %", "worst_error": "worst error, %"}
    percent = summary.assign(mean_error=100 * summary["mean_error"], worst_error=100 * summary["worst_error"])
    show_table(percent, title="Ours against ground truth", as_json=False, headings=headings)


def effects(model: str, accelerator: str, *, as_json: bool, recipe_name: str = "bitmod4_g128") -> None:
    """The options of the honest mode, one by one, for one recipe's linear layers and KV cache."""
    shape = paper_model(model)

    def workload_at(phase: Phase, context: int) -> Workload:
        return paper_workload(shape.name, phase, context=context, other_layers=True)

    table = option_effects(workload_at, recipe(recipe_name).linear, accelerator_by_name(accelerator))
    changes = tuple(
        f"{phase}_{what}_change_percent" for phase in ("prefill", "decode", "generate") for what in ("cycles", "energy")
    )
    on_top = tuple(f"generate_{what}_on_top_percent" for what in ("cycles", "energy"))
    headings = {name: name.removesuffix("_change_percent") for name in changes}
    headings |= {name: name.removesuffix("_on_top_percent").replace("generate", "on_top") for name in on_top}
    show_table(
        table, title=f"{shape.name}, {recipe_name}, on {accelerator}: change by each option alone, in percent; on_top: "
        "what it adds to all others",
        as_json=as_json, columns=("option", *changes, *on_top), headings=headings,
    )  # fmt: skip
