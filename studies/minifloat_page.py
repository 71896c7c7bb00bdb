"""The page of ``studies.minifloat_front``: accuracy over the area of a multiply-accumulate, once for each target.

``python -m studies.minifloat_page results/minifloat_front.html`` reads ``studies/minifloat_front.csv`` and the
accuracies beside it, and writes one page that needs no network.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from codesign.cache import whole_file
from codesign.dashboard.theme import FONT, LIGHT, SYMBOLS, document
from studies.minifloat_front import ACCURACY, RESULT

TARGETS: Mapping[str, tuple[str, str]] = {
    "luts": ("LUTs of six inputs", "LUT6 and carry chains of an FPGA"),
    "sg13g2_um2": ("area, µm²", "standard cells, IHP SG13G2, 130 nm"),
    "sky130hd_um2": ("area, µm²", "standard cells, SkyWater sky130hd, 130 nm"),
}
LOWEST_TOP1 = 0.55  # points below are in the table alone: they would squeeze the rest
_PLACES = ("bottom right", "top left", "bottom center", "top center")  # labels of neighbours apart


@dataclass(frozen=True)
class FrontInfo:
    """One figure.

    Args:
        cost: column of the table.
        axis, title: texts.
        points: by kind, columns ``name``, ``cost``, ``top1`` (per cent).
        front: the same columns, by cost.
        reference: top-1 of the float network, per cent.
    """

    cost: str
    axis: str
    title: str
    points: Mapping[str, pd.DataFrame]
    front: pd.DataFrame
    reference: float


def front_info(table: pd.DataFrame, cost: str, reference: float) -> FrontInfo:
    """The figure of one cost.

    Args:
        table: as ``studies.minifloat_front.fronts`` makes it.
        cost: a key of ``TARGETS``.
        reference: top-1 of the float network, 0 to 1.
    """
    shown = table[table.top1 >= LOWEST_TOP1]
    names = [w if w == a else f"{w} × {a}" for w, a in zip(shown.weight, shown.activation, strict=True)]
    rows = pd.DataFrame({"name": names, "cost": shown[cost], "top1": shown.top1 * 100, "kind": shown.kind})
    front = rows[shown[f"front_{cost}"]].sort_values("cost")
    axis, title = TARGETS[cost]
    kinds = {str(kind): part for kind, part in rows.groupby("kind")}
    return FrontInfo(cost, axis, title, kinds, front, reference * 100)


def draw_front(info: FrontInfo) -> go.Figure:
    """Points by kind, the front as steps with its names."""
    figure = go.Figure()
    figure.add_scatter(
        x=info.front.cost, y=info.front.top1, mode="lines", name="front", line={"color": "#5b5f66", "shape": "hv"},
        hoverinfo="skip",
    )  # fmt: skip
    for index, (kind, rows) in enumerate(info.points.items()):
        on_front = rows.name.isin(info.front.name)
        figure.add_scatter(
            x=rows.cost, y=rows.top1, mode="markers+text", name=kind, text=rows.name.where(on_front, ""),
            customdata=rows.name, hovertemplate="%{customdata}<br>%{x:,.0f}, %{y:.1f} %<extra></extra>",
            textposition=[_PLACES[i % len(_PLACES)] for i in range(len(rows))],
            textfont={"size": 10, "color": LIGHT[index]},
            marker={"size": 9, "color": LIGHT[index], "symbol": SYMBOLS[index]},
        )  # fmt: skip
    figure.add_hline(info.reference, line={"dash": "dot", "color": "#5b5f66"}, annotation_text="float32",
                     annotation_position="bottom left")  # fmt: skip
    figure.update_layout(
        template="plotly_white", height=520, font={"family": FONT}, title={"text": info.title, "font": {"size": 16}},
        xaxis={"title": f"one exact multiply-accumulate: {info.axis}"},
        yaxis={"title": "top-1 (%)"}, legend={"orientation": "h", "y": -0.18}, margin={"t": 48, "r": 60},
    )  # fmt: skip
    return figure


def sentences(table: pd.DataFrame) -> tuple[str, ...]:
    """Which kind holds each front, said from the table."""
    made = []
    for cost, (_, title) in TARGETS.items():
        front = table[table[f"front_{cost}"] & (table.top1 >= LOWEST_TOP1)]
        said = []
        for kind, one in front.groupby("kind"):
            said.append(f"{len(one)} {kind} ({', '.join(dict.fromkeys(one.weight))})")
        made.append(f"{title}: of {len(front)} points of the front {'; '.join(said)}.")
    return tuple(made)


_STYLE = """table{font-size:14px}td,th{padding:4px 10px}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"""
_BODY = """<h1>Minifloats or integers: accuracy for the logic of a multiply-accumulate</h1>
<p>EfficientNet-Lite0, weights and inputs of all layers but the first and the last in one format; {images} ImageNet
images, so that one standard error of top-1 near 87 % is {error:.1f} points: smaller differences mean nothing. Quantized
by Brevitas (equalization, least-squares scales, bias correction). Accumulators are exact. Unsigned activations have a
zero point, whose correction is a constant of each output.</p>
<ul>{sentences}</ul>
{figures}
<h2>All points</h2>
{table}
<p class="quiet">Areas: hwmodel.unit_cost, netlists of this project's RTL by Yosys (docs/unit_costs.md); “adjusted”: a
recorded netlist with its accumulator widened. Question: Aggarwal et al., Shedding the Bits, FPL 2024.</p>"""


def render(table: pd.DataFrame, accuracy: pd.DataFrame) -> str:
    """The page as text."""
    reference = accuracy[accuracy.setting == "float32"].iloc[0]
    figures: list[str] = []
    for cost in TARGETS:
        figure = draw_front(front_info(table, cost, float(reference.top1)))
        figures.append(figure.to_html(full_html=False, include_plotlyjs=not figures))
    shown = table.sort_values("luts")[["weight", "activation", "top1", "top5", "luts", "luts_from", *list(TARGETS)[1:]]]
    formats = {"top1": "{:.1%}".format, "top5": "{:.1%}".format, **dict.fromkeys(TARGETS, "{:,.0f}".format)}
    images = int(reference["images"])
    body = _BODY.format(
        images=images, error=100 * (0.87 * 0.13 / images) ** 0.5, figures="\n".join(figures),
        sentences="".join(f"<li>{html.escape(text)}</li>" for text in sentences(table)),
        table=shown.to_html(index=False, border=0, formatters=formats),
    )  # fmt: skip
    return document("Minifloats or integers", body, style=_STYLE)


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    text = render(pd.read_csv(RESULT), pd.read_csv(ACCURACY))
    with whole_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
