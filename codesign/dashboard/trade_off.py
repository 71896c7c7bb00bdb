"""Accuracy against cost: every supported trial as a point, and the front of those shown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from codesign.dashboard.axes import X_AXES, Y_AXES, Axis, axis
from codesign.dashboard.theme import INK, QUIET, SYMBOLS, colour, figure, plain
from codesign.pareto import pareto_mask
from codesign.study import StudyResult


@dataclass(frozen=True, eq=False)
class TradeOffInfo:
    """Points of the chart, in the order of the trials table.

    Args:
        x, y: the axes.
        trials: int ``[points]``, position in the trials table.
        recipes, accelerators: of each point.
        series: names of all accelerators of the study, which fixes colours.
        x_values, y_values: float ``[points]``, finite.
        y_error: float ``[points]``, standard error of ``y_values``, NaN where unknown; ``None`` if the axis has none.
        front: bool ``[points]``, not dominated in (x, y) among the points.
    """

    x: Axis
    y: Axis
    trials: np.ndarray
    recipes: tuple[str, ...]
    accelerators: tuple[str, ...]
    series: tuple[str, ...]
    x_values: np.ndarray
    y_values: np.ndarray
    y_error: np.ndarray | None
    front: np.ndarray


def trade_off(
    result: StudyResult, *, x: str = "decode_s", y: str = "loss", accelerators: Collection[str] | None = None
) -> TradeOffInfo:
    """Supported trials on the given accelerators with finite values on both axes, and their front.

    Args:
        result: of the study.
        x, y: columns among ``X_AXES`` and ``Y_AXES``.
        accelerators: names to keep; ``None`` for all.

    Raises:
        ValueError: an axis that is not among them.
    """
    x_axis, y_axis = axis(x, X_AXES), axis(y, Y_AXES)
    trials = result.trials
    x_all, y_all = (trials[column].to_numpy(dtype=np.float64) for column in (x, y))
    keep = trials["supported"].to_numpy(dtype=bool) & np.isfinite(x_all) & np.isfinite(y_all)
    if accelerators is not None:
        keep &= trials["accelerator"].isin(list(accelerators)).to_numpy()
    rows = np.flatnonzero(keep)
    error = None if y_axis.error is None else trials[y_axis.error].to_numpy(dtype=np.float64)[rows]
    return TradeOffInfo(
        x=x_axis,
        y=y_axis,
        trials=rows,
        recipes=tuple(trials["recipe"].iloc[rows]),
        accelerators=tuple(trials["accelerator"].iloc[rows]),
        series=tuple(dict.fromkeys(trials["accelerator"])),
        x_values=x_all[rows],
        y_values=y_all[rows],
        y_error=error,
        front=pareto_mask(np.column_stack([x_all[rows], y_all[rows]])),
    )


def draw_trade_off(info: TradeOffInfo, *, selected: int | None = None) -> go.Figure:
    """The chart; ``selected`` is the position of a trial in the trials table, ringed.

    Parts: ``front`` (a stair through it), one ``points`` for each accelerator, ``labels`` of the front, ``ring``.
    """
    order = np.flatnonzero(info.front)[np.lexsort((info.y_values[info.front], info.x_values[info.front]))]
    names = np.array([plain(recipe) for recipe in info.recipes], dtype=object)
    traces = [
        go.Scatter(
            meta="front",
            x=info.x_values[order],
            y=info.y_values[order],
            mode="lines",
            line={"shape": "hv", "width": 2, "color": QUIET["light"]},
            hoverinfo="skip",
        )
    ]
    accelerators = np.array(info.accelerators, dtype=object)
    for index, name in enumerate(info.series):
        mine = accelerators == name
        error = None if info.y_error is None else info.y_error[mine]
        traces.append(
            go.Scatter(
                meta="points",
                name=plain(name),
                x=info.x_values[mine],
                y=info.y_values[mine],
                error_y={"array": error, "visible": error is not None, "thickness": 1, "width": 3},
                mode="markers",
                marker={
                    "color": colour(index),
                    "symbol": SYMBOLS[index % len(SYMBOLS)],
                    "size": 10,
                    "line": {"width": 1, "color": "#ffffff"},
                },
                customdata=info.trials[mine],
                text=[f"{recipe}<br>{plain(name)}" for recipe in names[mine]],
                hovertemplate="%{text}<br>%{x}<br>%{y}<extra></extra>",
            )
        )
    traces.append(
        go.Scatter(
            meta="labels",
            x=info.x_values[order],
            y=info.y_values[order],
            text=names[order],
            mode="text",
            textposition="top right",
            textfont={"size": 12, "color": INK["light"]},
            hoverinfo="skip",
            cliponaxis=False,
        )
    )
    ring = info.trials == selected
    traces.append(
        go.Scatter(
            meta="ring",
            x=info.x_values[ring],
            y=info.y_values[ring],
            mode="markers",
            marker={"symbol": "circle-open", "size": 22, "line": {"width": 3}, "color": INK["light"]},
            hoverinfo="skip",
        )
    )
    return figure(
        traces,
        xaxis=_axis_layout(info.x),
        yaxis=_axis_layout(info.y),
        height=520,
        showlegend=True,
        hovermode="closest",
    )


def _axis_layout(what: Axis) -> dict[str, object]:
    return {
        "title": {"text": what.title, "standoff": 10},
        "type": "log" if what.log else "linear",
        "tickformat": "~s" if what.unit else "~g",
        "ticksuffix": what.unit,
        "dtick": None,
    }
