"""Memory against compute: for each group of layers, the cycles each would need if the other were free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.cycle_bars import cycle_bars
from codesign.dashboard.layer_costs import TrialKey, layer_costs
from codesign.dashboard.theme import colour, plain
from codesign.study import StudyResult


@dataclass(frozen=True, eq=False)
class MemoryComputeInfo:
    """Pairs of bars in the order of execution.

    Args:
        trial, phase: whose they are.
        names: unique label of each pair.
        compute_cycles: float ``[bars]``, if memory were free.
        dram_cycles: float ``[bars]``, if compute were free.
    """

    trial: TrialKey
    phase: str
    names: tuple[str, ...]
    compute_cycles: np.ndarray
    dram_cycles: np.ndarray


def memory_compute(result: StudyResult, trial: TrialKey, phase: str, *, every_layer: bool = False) -> MemoryComputeInfo:
    """Compute and DRAM cycles by group of layers, or by layer.

    Raises:
        ValueError: an unknown phase, or a trial the study does not hold.
    """
    costs = layer_costs(result, trial, phase, every_layer=every_layer)
    return MemoryComputeInfo(trial, phase, costs.names, costs.sums["compute_cycles"], costs.sums["dram_cycles"])


def draw_memory_compute(info: MemoryComputeInfo) -> go.Figure:
    """Two horizontal bars for each name; the parts are ``compute`` and ``dram``."""
    names = [plain(name) for name in info.names]
    traces = [
        go.Bar(
            meta=part,
            name=title,
            orientation="h",
            y=names,
            x=values,
            marker={"color": colour(index), "line": {"width": 0}},
            hovertemplate=f"%{{y}}<br>{title}: %{{x:,.4~s}} cycles<extra></extra>",
        )
        for part, title, values, index in (
            ("compute", "Compute", info.compute_cycles, 0),
            ("dram", "Memory", info.dram_cycles, 1),
        )
    ]
    return cycle_bars(
        traces,
        len(info.names),
        barmode="group",
        bargap=0.25,
        bargroupgap=0.05,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    )
