"""Costs of one trial's layers, as they are or summed over the blocks: what the figures below the main chart show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codesign.dashboard.layer_groups import group_layers
from codesign.study import StudyResult

PHASES: tuple[str, ...] = ("prefill", "decode")
SUMMED: tuple[str, ...] = (
    "macs",
    "cycles",
    "compute_cycles",
    "dram_cycles",
    "dram_bits",
    "energy_pj",
    "energy_compute_pj",
    "energy_sram_pj",
    "energy_dram_pj",
)


@dataclass(frozen=True)
class TrialKey:
    """Which trial: a recipe on an accelerator."""

    recipe: str
    accelerator: str


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """Rows of a trial's layers in one phase, in order of first appearance.

    Args:
        names: unique label of the layer or of its group.
        kinds: ``LayerKind`` value of each row (that of the first layer of a group).
        members: how many layers each row stands for.
        sums: ``SUMMED`` columns, float ``[rows]`` each; a missing cost counts as 0.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    members: np.ndarray
    sums: Mapping[str, np.ndarray]


def layer_costs(result: StudyResult, trial: TrialKey, phase: str, *, every_layer: bool = False) -> LayerCosts:
    """Costs of a trial in one phase.

    Args:
        result: of the study.
        trial: recipe and accelerator.
        phase: prefill or decode.
        every_layer: a row for each layer instead of one for each group of equal role.

    Returns:
        The rows; none if the trial has no layer costs (unsupported pairs).

    Raises:
        ValueError: an unknown phase, or a trial the study does not hold.
    """
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {', '.join(PHASES)}, not {phase!r}")
    trials = result.trials
    if not ((trials["recipe"] == trial.recipe) & (trials["accelerator"] == trial.accelerator)).any():
        raise ValueError(f"trial must be one of study {result.name}, not {trial!r}")
    layers = result.layers
    chosen = (layers["recipe"] == trial.recipe) & (layers["accelerator"] == trial.accelerator)
    table = layers[chosen & (layers["phase"] == phase)]
    groups = group_layers(layers["layer"].unique())
    position = {name: index for index, name in enumerate(groups.layers)}
    layer = np.array([position[name] for name in table["layer"]], dtype=np.intp)
    row_of = layer if every_layer else np.array(groups.group, dtype=np.intp)[layer] if len(layer) else layer
    rows, first, inverse = np.unique(row_of, return_index=True, return_inverse=True)
    titles = groups.labels if every_layer else groups.titles
    kinds = table["kind"].to_numpy(dtype=object)
    sums = {
        column: np.bincount(
            inverse, weights=np.nan_to_num(table[column].to_numpy(dtype=np.float64)), minlength=len(rows)
        )
        for column in SUMMED
    }
    return LayerCosts(
        names=tuple(titles[row] for row in rows),
        kinds=tuple(str(kinds[index]) for index in first),
        members=np.bincount(inverse, minlength=len(rows)),
        sums=sums,
    )
