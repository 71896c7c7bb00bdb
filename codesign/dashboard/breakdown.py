"""Cycles of each layer, or of each group of layers of equal role, for one trial and phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.cycle_bars import cycle_bars
from codesign.dashboard.layer_costs import TrialKey, layer_costs
from codesign.dashboard.theme import KIND_TITLES, kind_colour, plain
from codesign.study import StudyResult


@dataclass(frozen=True, eq=False)
class BreakdownInfo:
    """Bars in the order of execution.

    Args:
        trial, phase: whose they are.
        names: unique label of each bar.
        kinds: ``LayerKind`` value of each bar.
        members: int ``[bars]``, layers summed in each.
        cycles: float ``[bars]``.
    """

    trial: TrialKey
    phase: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    members: np.ndarray
    cycles: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of all cycles, float ``[bars]``; 0 if there are none."""
        total = self.cycles.sum()
        return self.cycles / total if total > 0 else np.zeros_like(self.cycles)


def breakdown(result: StudyResult, trial: TrialKey, phase: str, *, every_layer: bool = False) -> BreakdownInfo:
    """Cycles by group of layers, or by layer.

    Raises:
        ValueError: an unknown phase, or a trial the study does not hold.
    """
    costs = layer_costs(result, trial, phase, every_layer=every_layer)
    return BreakdownInfo(trial, phase, costs.names, costs.kinds, costs.members, costs.sums["cycles"])


def draw_breakdown(info: BreakdownInfo) -> go.Figure:
    """Horizontal bars, first layer on top, coloured by kind; the one part is ``layers``."""
    trace = go.Bar(
        meta="layers",
        orientation="h",
        y=[plain(name) for name in info.names],
        x=info.cycles,
        marker={"color": [kind_colour(kind) for kind in info.kinds], "line": {"width": 0}},
        customdata=[
            [KIND_TITLES.get(kind, plain(kind)), int(count), share]
            for kind, count, share in zip(info.kinds, info.members, info.shares, strict=True)
        ],
        text=[f"{share:.0%}" if share >= 0.005 else "" for share in info.shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate=(
            "%{y}<br>%{customdata[0]} × %{customdata[1]}<br>%{x:,.4~s} cycles, %{customdata[2]:.1%}<extra></extra>"
        ),
    )
    return cycle_bars([trace], len(info.names), bargap=0.3)
