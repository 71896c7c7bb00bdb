"""Charts of shares as two stacked bars: one for the prompt, one for each generated token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.theme import figure


def shares_of_phases(values: np.ndarray) -> np.ndarray:
    """Share of each part in its phase, float ``[phases, parts]`` as ``values``; 0 where a phase has nothing.

    >>> shares_of_phases(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist()
    [[0.25, 0.75], [0.0, 0.0]]
    """
    total = values.sum(axis=1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def phase_bars(traces: Sequence[go.Bar], *, height: int, legend_y: float) -> go.Figure:
    """The figure of ``traces``, one for each part, whose ``x`` are shares and whose ``y`` are titles of phases.

    Args:
        height: in pixels.
        legend_y: top of the legend below the bars, in heights of the plot.
    """
    return figure(
        list(traces),
        barmode="stack",
        bargap=0.35,
        margin={"l": 8, "r": 22, "t": 8, "b": 8},
        height=height,
        showlegend=True,
        legend={"orientation": "h", "y": legend_y, "x": 0, "yanchor": "top", "traceorder": "normal"},
        xaxis={"tickformat": ".0%", "range": [0, 1], "dtick": 0.25},
        yaxis={"autorange": "reversed", "showgrid": False, "ticklen": 4, "tickcolor": "rgba(0,0,0,0)"},
    )
