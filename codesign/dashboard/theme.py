"""Colours, symbols and the layout all figures share, the shell of single pages; the page's script takes them from here.

Series colours are those of Okabe and Ito, "Color Universal Design" (jfly.uni-koeln.de/color, 2008), some made darker to
stand out on white, told apart under the common kinds of colour blindness; each series has a symbol of its own too. The
dark set has the same hues, made lighter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plotly import graph_objects as go

from hwmodel.workload import LayerKind

LIGHT: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#b3589a", "#a67c00", "#3a9bd0", "#7a5230", "#5b5f66")
DARK: tuple[str, ...] = ("#4aa8e8", "#ff8a45", "#2fcf9f", "#e79bc9", "#f0b429", "#8fd0f7", "#c79a6f", "#a9afb8")
SYMBOLS: tuple[str, ...] = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "pentagon",
    "star",
    "triangle-down",
    "hexagon",
)

# Position of each kind of layer in the colour lists.
KIND_COLOURS: Mapping[str, int] = {
    LayerKind.LINEAR.value: 0,
    LayerKind.ATTENTION_QK.value: 1,
    LayerKind.ATTENTION_PV.value: 4,
    LayerKind.CONV.value: 2,
    LayerKind.EMBEDDING.value: 3,
    LayerKind.NORM.value: 5,
    LayerKind.ACTIVATION.value: 6,
    LayerKind.SOFTMAX.value: 7,
}
KIND_TITLES: Mapping[str, str] = {
    LayerKind.LINEAR.value: "Linear",
    LayerKind.ATTENTION_QK.value: "Attention scores",
    LayerKind.ATTENTION_PV.value: "Attention values",
    LayerKind.CONV.value: "Convolution",
    LayerKind.EMBEDDING.value: "Embedding",
    LayerKind.NORM.value: "Norm",
    LayerKind.ACTIVATION.value: "Activation",
    LayerKind.SOFTMAX.value: "Softmax",
}
PHASE_TITLES: Mapping[str, str] = {"prefill": "Prompt", "decode": "Each token"}

INK = {"light": "#1c2024", "dark": "#e8eaed"}
QUIET = {"light": "#5c636b", "dark": "#a3abb5"}
GRID = {"light": "#e4e7ea", "dark": "#30363d"}

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def colour(index: int) -> str:
    """Colour of the series at a position, going round."""
    return LIGHT[index % len(LIGHT)]


def kind_colour(kind: str) -> str:
    """Colour of a kind of layer; grey for an unknown one."""
    return LIGHT[KIND_COLOURS.get(kind, len(LIGHT) - 1)]


def plain(text: str) -> str:
    """A name as plotly shows it literally: its labels are a small HTML of their own.

    >>> plain("a<b & c")
    'a&lt;b &amp; c'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def document(title: str, body: str, *, style: str = "") -> str:
    """A page of one column, of headings, paragraphs, tables and figures.

    Args:
        title: of the window, as HTML.
        body: as HTML.
        style: CSS, added to the common one.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 {FONT};margin:0 auto;max-width:1080px;padding:24px;color:{INK["light"]};background:#fff}}
h1{{font-size:26px;margin:0 0 8px}}table{{border-collapse:collapse;font-size:13px;width:100%}}
td,th{{padding:3px 8px;text-align:right;border-bottom:1px solid {GRID["light"]}}}.quiet{{color:{QUIET["light"]}}}
{style}</style></head><body>
{body}
</body></html>
"""


def figure(traces: Sequence[Any], **layout: Any) -> go.Figure:
    """A figure in the common look: transparent, quiet grid, no default template.

    Args:
        traces: plotly traces, each with ``meta`` naming its part in the figure.
        layout: plotly layout entries that differ from the common ones; ``xaxis`` and ``yaxis`` are merged.
    """
    base_axis = {
        "gridcolor": GRID["light"],
        "zeroline": False,
        "linecolor": GRID["light"],
        "automargin": True,
        "title": {"standoff": 10},
    }
    layout["xaxis"] = {**base_axis, **layout.get("xaxis", {})}
    layout["yaxis"] = {**base_axis, **layout.get("yaxis", {})}
    common: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK["light"]},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "showlegend": False,
        "hoverlabel": {"align": "left", "font": {"family": FONT, "size": 13}},
    }
    return go.Figure(data=list(traces), layout={**common, **layout})
