"""What the page of measured kernels draws, and that it stands alone."""

import re

import pytest

from codesign.gpu_page import BAND, draw, draw_errors, page_info, render, write_page
from codesign.gpu_rows import OWNS
from codesign.gpu_truth import comparison


@pytest.fixture(scope="module")
def rows():
    return comparison().rows


def test_series_have_a_colour_for_each_format_and_a_symbol_for_each_gpu(rows):
    info = page_info(rows)
    assert sum(len(part) for part in info.series.values()) == len(rows)
    assert info.symbols == {"h100": "circle", "h200": "diamond"}
    own = rows[rows["kernel"].isin(OWNS)]["format"].unique()
    others = {info.colours[name] for name in info.colours if name not in own}
    assert len(others) == 1 and others.isdisjoint(info.colours[name] for name in own)
    assert info.lowest_us < rows[["measured_us", "predicted_us"]].min().min()
    assert info.highest_us > rows[["measured_us", "predicted_us"]].max().max()


def test_figure_has_the_band_every_point_and_what_a_hover_says(rows):
    info = page_info(rows)
    band, equal, *points = draw(info).data
    assert [y / x for x, y in zip(band.x, band.y, strict=True)] == pytest.approx(
        [1 - BAND, 1 - BAND, 1 + BAND, 1 + BAND]
    )
    assert list(equal.x) == list(equal.y)
    assert sum(len(trace.x) for trace in points) == len(rows)
    filled = sum(not s.endswith("open") for trace in points for s in trace.marker.symbol)
    assert filled == int((rows["use"] == "fitted").sum())
    one = next(trace for trace in points if trace.name == "int4_g128" and trace.meta == "h100")
    first = info.series["int4_g128", "h100"].iloc[0]
    assert list(one.customdata[0][:4]) == [first["n"], first["k"], first["m"], first["error"]]
    assert "error %{customdata[3]:+.1%}" in one.hovertemplate
    assert len({trace.name for trace in points if trace.showlegend}) == sum(bool(t.showlegend) for t in points)


def test_errors_have_the_same_points_in_percent(rows):
    info = page_info(rows)
    band, equal, *points = draw_errors(info).data
    assert (min(band.y), max(band.y), list(equal.y)) == (-100 * BAND, 100 * BAND, [0, 0])
    assert sum(len(trace.x) for trace in points) == len(rows)
    for trace in points:
        # n, k, m, error, use, roofline, predicted, what bounds it
        assert list(trace.y) == pytest.approx([100 * told[3] for told in trace.customdata])
        off = [told[6] / measured - 1 for told, measured in zip(trace.customdata, trace.x, strict=True)]
        assert off == pytest.approx([told[3] for told in trace.customdata])
    said = {told[7] for trace in points for told in trace.customdata}
    assert "; bound by memory" in said and "" in said and "; bound by " not in said


def test_own_kernels_come_first_in_short(rows):
    kernels = list(page_info(rows).summary["kernel"])
    first_of_others = next(i for i, kernel in enumerate(kernels) if kernel not in OWNS)
    assert set(kernels[:first_of_others]) == set(OWNS) and not set(kernels[first_of_others:]) & set(OWNS)


def test_page_is_one_file_that_asks_nothing_of_a_network(rows, tmp_path):
    write_page(rows, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="http', text)
    wide = int((rows["error"].abs() > BAND).sum())
    assert text.count('<tr class="wide">') == wide
    assert text.count("<tr") == 2 + len(rows) + rows.groupby(["kernel", "gpu", "use"]).ngroups


def test_names_are_text(rows):
    hostile = rows.head(2).assign(use="<script>alert(1)</script>")
    assert "<td><script>" not in render(hostile)
    with pytest.raises(ValueError, match="rows of the page must be at least one"):
        render(rows.head(0))
