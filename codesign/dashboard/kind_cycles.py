"""Where the time goes, by kind of layer: one stacked bar for the prompt and one for each generated token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.layer_costs import PHASES, TrialKey, layer_costs
from codesign.dashboard.phase_bars import phase_bars, shares_of_phases
from codesign.dashboard.theme import KIND_TITLES, PHASE_TITLES, kind_colour
from codesign.study import StudyResult


@dataclass(frozen=True, eq=False)
class KindCyclesInfo:
    """Cycles of a trial.

    Args:
        phases: prefill, decode.
        kinds: every kind of layer, in the order of the legend.
        cycles: float ``[phases, kinds]``.
    """

    phases: tuple[str, ...]
    kinds: tuple[str, ...]
    cycles: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of each kind in its phase, float ``[phases, kinds]``; 0 where a phase has no cycles."""
        return shares_of_phases(self.cycles)


def kind_cycles(result: StudyResult, trial: TrialKey) -> KindCyclesInfo:
    """Cycles by kind of layer and phase.

    Raises:
        ValueError: a trial the study does not hold.
    """
    kinds = tuple(KIND_TITLES)
    cycles = np.zeros((len(PHASES), len(kinds)))
    for row, phase in enumerate(PHASES):
        costs = layer_costs(result, trial, phase, every_layer=True)
        for kind, value in zip(costs.kinds, costs.sums["cycles"], strict=True):
            cycles[row, kinds.index(kind)] += value
    return KindCyclesInfo(PHASES, kinds, cycles)


def draw_kind_cycles(info: KindCyclesInfo) -> go.Figure:
    """Two stacked bars of shares; one ``kind`` part for each kind, those without cycles left out of the legend."""
    traces = [
        go.Bar(
            meta="kind",
            name=KIND_TITLES[kind],
            orientation="h",
            y=[PHASE_TITLES[phase] for phase in info.phases],
            x=info.shares[:, column],
            customdata=info.cycles[:, column],
            marker={"color": kind_colour(kind), "line": {"width": 0}},
            showlegend=bool(info.cycles[:, column].any()),
            hovertemplate=(
                f"{KIND_TITLES[kind]}<br>%{{x:.1%}} of the cycles<br>%{{customdata:,.4~s}} cycles<extra></extra>"
            ),
        )
        for column, kind in enumerate(info.kinds)
    ]
    return phase_bars(traces, height=190, legend_y=-0.3)
