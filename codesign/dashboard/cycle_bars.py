"""Charts of cycles as horizontal bars, one place on the axis for each layer or group of layers, the first on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plotly import graph_objects as go

from codesign.dashboard.theme import figure


def cycle_bars(traces: Sequence[go.Bar], places: int, **layout: Any) -> go.Figure:
    """The figure of ``traces``, whose ``x`` are cycles and whose ``y`` are names.

    Args:
        places: names on the axis.
        layout: what differs from chart to chart, as in plotly.
    """
    return figure(
        list(traces),
        height=max(160, 70 + 22 * places),  # pixels: a readable label for each place
        xaxis={"tickformat": "~s", "title": {"text": "cycles", "standoff": 8}, "nticks": 6},
        yaxis={
            "autorange": "reversed",
            "type": "category",
            "showgrid": False,
            "ticklen": 4,
            "tickcolor": "rgba(0,0,0,0)",
            "dtick": 1,
        },
        **layout,
    )
