"""Shares of phases: of each phase's own sum, prompt on top."""

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.phase_bars import phase_bars, shares_of_phases


def test_shares_are_of_their_own_phase_and_zero_where_it_has_nothing():
    values = np.array([[2.0, 6.0, 0.0], [0.0, 0.0, 0.0], [5.0, 0.0, 15.0]])
    assert shares_of_phases(values).tolist() == [[0.25, 0.75, 0.0], [0.0, 0.0, 0.0], [0.25, 0.0, 0.75]]
    assert values[0].tolist() == [2.0, 6.0, 0.0]  # left as they were
    assert shares_of_phases(np.zeros((2, 0))).shape == (2, 0)


def test_bars_are_stacked_to_one_with_the_prompt_on_top():
    parts = [go.Bar(x=[0.25, 1.0], y=["Prompt", "Each token"], orientation="h", name=name) for name in ("a", "b")]
    made = phase_bars(parts, height=200, legend_y=-0.3)
    assert [trace.name for trace in made.data] == ["a", "b"]
    layout = made.layout
    assert layout.barmode == "stack" and layout.yaxis.autorange == "reversed" and list(layout.xaxis.range) == [0, 1]
    assert (layout.height, layout.legend.y) == (200, -0.3)
