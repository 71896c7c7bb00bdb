"""The page of measured GPU kernels: predicted over measured, a band of 15 %, and the table; one file, no network.

Written by ``codesign validate --gpu --page FILE`` from ``codesign.gpu_truth.comparison``.
``PageInfo`` is what is drawn.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from plotly import graph_objects as go

from codesign.cache import whole_file
from codesign.dashboard.theme import DARK, LIGHT, SYMBOLS, document, figure, plain
from codesign.gpu_rows import OWNS
from codesign.gpu_truth import BAND, summary

_COLOURS = LIGHT[:-1] + DARK[:-1]  # more formats than these share a colour with one far away in the list
_GREY = LIGHT[-1]  # kernels of others, and lines
_HELD = "open"  # symbols of rows that had no part in the fit


@dataclass(frozen=True)
class PageInfo:
    """What the figure shows.

    Args:
        series: rows by (format, GPU), of the columns of ``codesign.gpu_truth``.
        colours, symbols: by format and by GPU.
        lowest_us, highest_us: of both axes.
        summary: errors by kernel, GPU and use, own kernels first.
    """

    series: Mapping[tuple[str, str], pd.DataFrame]
    colours: Mapping[str, str]
    symbols: Mapping[str, str]
    lowest_us: float
    highest_us: float
    summary: pd.DataFrame


def page_info(rows: pd.DataFrame) -> PageInfo:
    """What there is to draw: own kernels first.

    Raises:
        ValueError: no rows.
    """
    if rows.empty:
        raise ValueError("rows of the page must be at least one, not none")
    ordered = rows.assign(own=~rows["kernel"].isin(OWNS)).sort_values(["own", "format", "gpu"], kind="stable")
    names, gpus = ordered["format"].unique(), ordered["gpu"].unique()
    own = set(rows["format"][rows["kernel"].isin(OWNS)])
    times = rows[["measured_us", "predicted_us"]]
    return PageInfo(
        series={(str(name), str(gpu)): part for (name, gpu), part in ordered.groupby(["format", "gpu"], sort=False)},
        colours={str(name): _COLOURS[i % len(_COLOURS)] if name in own else _GREY for i, name in enumerate(names)},
        symbols={str(gpu): SYMBOLS[i % len(SYMBOLS)] for i, gpu in enumerate(gpus)},
        lowest_us=float(times.min().min()) * 0.8,
        highest_us=float(times.max().max()) * 1.25,
        summary=summary(ordered.sort_values(["own", "kernel", "gpu"], kind="stable")),
    )


def draw(info: PageInfo) -> go.Figure:
    """Measured time across, predicted time up, both logarithmic; the band is 15 % around equal."""
    ends = [info.lowest_us, info.highest_us]
    around = [ends[0] * (1 - BAND), ends[1] * (1 - BAND), ends[1] * (1 + BAND), ends[0] * (1 + BAND)]
    return figure(
        [*_frame(ends, around, ends), *_points(info, lambda rows: rows["predicted_us"])],
        height=640, yaxis={"type": "log", "title": {"text": "predicted, µs"}, "dtick": "D2"}, **_LAYOUT,
    )  # fmt: skip


def draw_errors(info: PageInfo) -> go.Figure:
    """Measured time across, logarithmic; what the prediction is off up, in percent; the band is 15 %."""
    ends, most = [info.lowest_us, info.highest_us], 100 * BAND
    return figure(
        [*_frame(ends, [-most, -most, most, most], [0, 0]), *_points(info, lambda rows: 100 * rows["error"])],
        height=460, yaxis={"title": {"text": "predicted over measured, less one, %"}, "zeroline": False}, **_LAYOUT,
    )  # fmt: skip


_LAYOUT: dict[str, Any] = {
    "showlegend": True, "legend": {"font": {"size": 11}, "itemsizing": "constant"},
    "margin": {"l": 8, "r": 12, "t": 36, "b": 48},
    "xaxis": {"type": "log", "title": {"text": "measured, µs"}, "dtick": "D2"},
}  # fmt: skip


def _frame(across: list[float], around: list[float], equal: list[float]) -> list[go.Scatter]:
    """The band, its corners at ``around``, and the line of what is predicted as measured."""
    band = go.Scatter(
        x=[*across, *reversed(across)], y=around, fill="toself", fillcolor="rgba(91,95,102,0.12)", line={"width": 0},
        hoverinfo="skip", name="within 15 %", mode="lines",
    )  # fmt: skip
    line = {"color": _GREY, "dash": "dot"}
    return [band, go.Scatter(x=across, y=equal, mode="lines", line=line, hoverinfo="skip", name="equal")]


def _points(info: PageInfo, up: Callable[[pd.DataFrame], pd.Series]) -> Iterator[go.Scatter]:
    """The rows of each format and GPU, ``up`` of them over the measured time; a name for each format."""
    seen = set()
    for (name, gpu), rows in info.series.items():
        symbol = info.symbols[gpu]
        bound = rows["bound"].map(lambda part: f"; bound by {part}" if part else "")
        told = rows[["n", "k", "m", "error", "use", "roofline_us", "predicted_us"]].assign(bound=bound)
        yield go.Scatter(
            x=rows["measured_us"], y=up(rows), mode="markers", name=plain(name),
            legendgroup=name, showlegend=name not in seen, meta=gpu, customdata=told.to_numpy(),
            marker={"color": info.colours[name], "size": 8,
                    "symbol": [symbol if use == "fitted" else f"{symbol}-{_HELD}" for use in rows["use"]]},
            hovertemplate="<b>%{fullData.name}</b>, %{meta}<br>"
            "%{customdata[0]}×%{customdata[1]}, m = %{customdata[2]}<br>"
            "measured %{x:.2f} µs, predicted %{customdata[6]:.2f} µs<br>"
            "error %{customdata[3]:+.1%}, %{customdata[4]}<br>"
            "roofline %{customdata[5]:.2f} µs%{customdata[7]}<extra></extra>",
        )  # fmt: skip
        seen.add(name)


_STYLE = """td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}
.rows td:nth-child(-n+2),.rows th:nth-child(-n+2){text-align:left}
.wide{background:#fdecea}.quiet{font-size:14px}.scroll{overflow-x:auto}"""
_BODY = """<h1>GPU kernels: predicted and measured</h1>
<p>{count} kernels; of the project's own {within:.0f} % within 15 %. {symbols}; grey: kernels that others wrote. Filled
symbols had a part in the fit, open ones had none. The roofline is the bytes at the measured copy rate; of prefill the
operations at the library's best rate, where these take longer. Of decode steps n×k is the context and the layers, of
attention m, k and n are sequences, query heads and context. Click a name to hide it, twice to see it alone.</p>
{figure}
<h2>How far off</h2>
{errors}
<h2>In short</h2><div class="scroll">{summary}</div>
<h2>Every kernel</h2><p class="quiet">Coloured rows are more than 15 % off.</p><div class="scroll">{rows}</div>"""


def render(rows: pd.DataFrame) -> str:
    """The page as text."""
    info, own = page_info(rows), rows[rows["kernel"].isin(OWNS)]
    shown = {"full_html": False, "config": {"displaylogo": False}}
    picture = draw(info).to_html(include_plotlyjs=True, **shown)
    errors = draw_errors(info).to_html(include_plotlyjs=False, **shown)
    body = _BODY.format(
        count=len(rows), within=100 * float((own["error"].abs() <= BAND).mean()), figure=picture, errors=errors,
        symbols=", ".join(f"{symbol}s: {html.escape(gpu)}" for gpu, symbol in info.symbols.items()).capitalize(),
        summary=_summary_table(info.summary), rows=_rows_table(rows),
    )  # fmt: skip
    return document("GPU kernels, predicted and measured", body, style=_STYLE)


def write_page(rows: pd.DataFrame, path: Path) -> None:
    """Write the page to ``path``; an existing file is replaced only by a whole one."""
    text = render(rows)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _summary_table(table: pd.DataFrame) -> str:
    heads = ("kernel", "GPU", "use", "rows", "mean", "worst", "bias", "within 15 %", "roofline mean", "worst")
    body = [
        [row.kernel, row.gpu, row.use, str(row.rows), f"{row.mean_error:.1%}", f"{row.worst_error:.1%}",
         f"{row.bias:+.1%}", f"{row.within_15_percent:.0%}", f"{row.roofline_mean_error:.1%}",
         f"{row.roofline_worst_error:.1%}"]
        for row in table.itertuples()
    ]  # fmt: skip
    return _table(heads, body, [""] * len(body), "")


def _rows_table(rows: pd.DataFrame) -> str:
    heads = ("format or kernel", "GPU", "m", "n×k", "use", "measured, µs", "predicted", "error", "roofline", "error",
             "bound")  # fmt: skip
    ordered = rows.sort_values(["gpu", "n", "m", "format"], kind="stable")
    body = [
        [row.format, row.gpu, str(row.m), f"{row.n}×{row.k}", row.use, f"{row.measured_us:.2f}",
         f"{row.predicted_us:.2f}", f"{row.error:+.1%}", f"{row.roofline_us:.2f}", f"{row.roofline_error:+.1%}",
         row.bound]
        for row in ordered.itertuples()
    ]  # fmt: skip
    return _table(heads, body, ["wide" if abs(e) > BAND else "" for e in ordered["error"]], "rows")


def _table(heads: tuple[str, ...], body: list[list[str]], marks: list[str], name: str) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    lines = [
        f'<tr class="{mark}">' + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
        for mark, row in zip(marks, body, strict=True)
    ]
    return f'<table class="{name}"><tr>{head}</tr>{"".join(lines)}</table>'
