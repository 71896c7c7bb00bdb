"""Where the energy goes: processing elements, on-chip memory, DRAM and the rest, for the prompt and for each token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.layer_costs import PHASES, TrialKey, layer_costs
from codesign.dashboard.phase_bars import phase_bars, shares_of_phases
from codesign.dashboard.theme import PHASE_TITLES, colour
from codesign.study import StudyResult
from hwmodel.units import pj_to_j

PARTS: tuple[tuple[str, str], ...] = (
    ("energy_compute_pj", "Compute"),
    ("energy_sram_pj", "On-chip memory"),
    ("energy_dram_pj", "DRAM"),
)
REST = "Other"
# A remainder below this share of the total is rounding of the sums (float64, thousands of layers), not energy.
_ROUNDING = 1e-6
# Compute and memory in the colours of the memory-against-compute chart.
_COLOURS = (0, 2, 1, 7)


@dataclass(frozen=True, eq=False)
class EnergySplitInfo:
    """Energy of a trial.

    Args:
        phases: prefill, decode.
        parts: what uses it.
        energy_pj: float ``[phases, parts]``.
    """

    phases: tuple[str, ...]
    parts: tuple[str, ...]
    energy_pj: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of each part in its phase, float ``[phases, parts]``; 0 where a phase uses none."""
        return shares_of_phases(self.energy_pj)


def energy_split(result: StudyResult, trial: TrialKey) -> EnergySplitInfo:
    """Energy by part and phase; what the total holds beyond the named parts is ``Other``.

    Raises:
        ValueError: a trial the study does not hold.
    """
    energy = np.zeros((len(PHASES), len(PARTS) + 1))
    for row, phase in enumerate(PHASES):
        sums = layer_costs(result, trial, phase).sums
        named = [float(sums[column].sum()) for column, _ in PARTS]
        total = float(sums["energy_pj"].sum())
        rest = total - sum(named)
        energy[row] = [*named, rest if rest > _ROUNDING * total else 0.0]
    return EnergySplitInfo(PHASES, (*(title for _, title in PARTS), REST), energy)


def draw_energy_split(info: EnergySplitInfo) -> go.Figure:
    """Two stacked bars of shares, one ``part`` for each part; parts without energy are left out of the legend."""
    traces = [
        go.Bar(
            meta="part",
            name=title,
            orientation="h",
            y=[PHASE_TITLES[phase] for phase in info.phases],
            x=info.shares[:, column],
            customdata=[pj_to_j(value) for value in info.energy_pj[:, column]],  # plotly's prefixes start from joules
            marker={"color": colour(_COLOURS[column]), "line": {"width": 0}},
            text=[f"{share:.0%}" if share >= 0.08 else "" for share in info.shares[:, column]],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            showlegend=bool(info.energy_pj[:, column].any()),
            hovertemplate=f"{title}<br>%{{customdata:.4~s}}J, %{{x:.1%}}<extra></extra>",
        )
        for column, title in enumerate(info.parts)
    ]
    return phase_bars(traces, height=220, legend_y=-0.25)
