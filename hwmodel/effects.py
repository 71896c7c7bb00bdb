"""What each option of the honest mode does to a price: a table, one option at a time.

An option is seen twice: alone, switched on over the published model; and on top of all others, as the difference that
leaving it out of the honest mode makes (or adding it, where the honest mode leaves it off). Some options (gathering
outliers, seeking the largest magnitude, reading metadata) act through others and show on top only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pandas as pd

from hwmodel.accelerator import Accelerator
from hwmodel.evaluate import Configs, evaluate, generate_cost
from hwmodel.options import HONEST, PAPER, SCHEDULED, ModelOptions
from hwmodel.report import CostReport
from hwmodel.units import pj_to_mj
from hwmodel.workload import Phase, Workload


def option_effects(
    workload_at: Callable[[Phase, int], Workload],
    configs: Configs,
    accelerator: Accelerator,
    *,
    prompt: int = 256,
    tokens: int = 256,
) -> pd.DataFrame:
    """Price a model with the published model's assumptions, with each option on alone or off alone, and with all on.

    Args:
        workload_at: the model's workload in a phase at a context.
        configs: as in ``evaluate``.
        accelerator: what it runs on.
        prompt: tokens of prefill (and context of the decode column).
        tokens: decode steps of the generate column.

    Returns:
        One row for each option (``paper`` first, ``honest`` last): cycles in millions and energy in mJ of prefill, one
        decode step and the whole generation, the change from ``paper`` in percent (``_change_percent``), and what the
        option adds to all others in percent of the price without it (``_on_top_percent``; 0 for the first and last).
    """
    workloads: dict[tuple[Phase, int], Workload] = {}

    def remembered(phase: Phase, context: int) -> Workload:
        key = (phase, context)
        if key not in workloads:
            workloads[key] = workload_at(phase, context)
        return workloads[key]

    choices: dict[str, ModelOptions] = {"paper": PAPER}
    for field in fields(ModelOptions):
        choices[field.name] = replace(PAPER, **{field.name: getattr(SCHEDULED, field.name)})
    choices["honest"] = HONEST

    def figures(options: ModelOptions) -> dict[str, float]:
        return _figures(
            {
                "prefill": evaluate(remembered(Phase.PREFILL, prompt), configs, accelerator, options),
                "decode": evaluate(remembered(Phase.DECODE, prompt), configs, accelerator, options),
                "generate": generate_cost(
                    remembered, configs, accelerator, prompt=prompt, tokens=tokens, options=options
                ),
            }
        )

    alone = {name: figures(options) for name, options in choices.items()}
    honest = alone["honest"]
    extra = {name for name in vars(HONEST) if getattr(HONEST, name) == getattr(PAPER, name)}
    other = {
        name: figures(replace(HONEST, **{name: getattr(SCHEDULED if name in extra else PAPER, name)}))
        for name in vars(HONEST)
    }
    table = pd.DataFrame([{"option": name, **row} for name, row in alone.items()])
    for column in honest:
        figure = column.rsplit("_", 1)[0]
        table[f"{figure}_change_percent"] = (table[column] / table[column].iloc[0] - 1) * 100
        changes = [other.get(name, honest)[column] / honest[column] for name in choices]
        table[f"{figure}_on_top_percent"] = [
            ((change if name in extra else 1 / change) - 1) * 100 for name, change in zip(choices, changes, strict=True)
        ]
    return table


def _figures(reports: dict[str, CostReport]) -> dict[str, float]:
    figures = {}
    for name, report in reports.items():
        figures[f"{name}_cycles_millions"] = report.cycles / 1e6
        figures[f"{name}_energy_mj"] = pj_to_mj(report.energy_pj)
    return figures
