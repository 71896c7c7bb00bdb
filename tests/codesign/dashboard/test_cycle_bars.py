"""Bars of cycles: a readable place for each name, the first on top, and what charts add."""

import pytest
from plotly import graph_objects as go

from codesign.dashboard.cycle_bars import cycle_bars


@pytest.mark.parametrize(("places", "pixels"), [(0, 160), (4, 160), (5, 180), (100, 2270)])
def test_height_grows_with_the_names_from_a_least_one_on(places, pixels):
    assert cycle_bars([], places).layout.height == pixels  # 22 pixels each below a head of 70


def test_the_first_name_is_on_top_and_names_are_no_numbers():
    made = cycle_bars([go.Bar(x=[5, 7], y=["0", "1"], orientation="h")], 2)
    assert made.layout.yaxis.autorange == "reversed" and made.layout.yaxis.type == "category"
    assert list(made.data[0].x) == [5, 7] and made.layout.xaxis.title.text == "cycles"


def test_charts_add_their_own_layout():
    made = cycle_bars([], 1, barmode="stack", showlegend=True)
    assert made.layout.barmode == "stack" and made.layout.showlegend is True
