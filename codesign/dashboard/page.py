"""Writes the page: template, style, scripts, plotly.js, figures and data in one file that needs no network.

The page forbids itself every request and every script but its own, by a content security policy that lists their
hashes (W3C, Content Security Policy Level 3, section 2.3.1), so not even a hostile name in the data could run anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from codesign.cache import whole_file
from codesign.dashboard.breakdown import breakdown, draw_breakdown
from codesign.dashboard.energy_split import draw_energy_split, energy_split
from codesign.dashboard.kind_cycles import draw_kind_cycles, kind_cycles
from codesign.dashboard.layer_costs import PHASES, TrialKey
from codesign.dashboard.memory_compute import draw_memory_compute, memory_compute
from codesign.dashboard.page_data import page_data, to_json
from codesign.dashboard.roofline import draw_roofline, roofline
from codesign.dashboard.trade_off import draw_trade_off, trade_off
from codesign.study import StudyResult

SCRIPTS: tuple[str, ...] = ("numbers.js", "charts.js", "tables.js", "page.js")


def write_dashboard(result: StudyResult, path: Path) -> None:
    """Write the study's page to ``path``; an existing file is replaced only by a whole one.

    Raises:
        ValueError: tables that cannot be drawn (see ``page_data``).
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    text = render(result)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def render(result: StudyResult) -> str:
    """The page as text."""
    scripts = {name: _package_text(name) for name in SCRIPTS}
    plotly = get_plotlyjs()
    hashes = " ".join(_hash(script) for script in (plotly, *scripts.values()))
    parts = {
        "title": html.escape(result.name),
        "policy": f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:",
        "style": _package_text("page.css"),
        "data": to_json(page_data(result)),
        "figures": to_json({name: prototype(figure) for name, figure in figures(result).items()}),
        "plotly": plotly,
        **{name.removesuffix(".js"): script for name, script in scripts.items()},
    }
    return fill(_package_text("page.html"), parts)


def figures(result: StudyResult) -> Mapping[str, go.Figure]:
    """Every figure of the page, for the first supported trial (the first one if none is)."""
    trials = result.trials
    row = int(np.argmax(trials["supported"].to_numpy(dtype=bool)))
    trial = TrialKey(str(trials["recipe"].iloc[row]), str(trials["accelerator"].iloc[row]))
    phase = PHASES[-1]
    return {
        "trade_off": draw_trade_off(trade_off(result), selected=row),
        "kind_cycles": draw_kind_cycles(kind_cycles(result, trial)),
        "breakdown": draw_breakdown(breakdown(result, trial, phase)),
        "memory_compute": draw_memory_compute(memory_compute(result, trial, phase)),
        "roofline": draw_roofline(roofline(result, trial)),
        "energy_split": draw_energy_split(energy_split(result, trial)),
    }


def prototype(figure: go.Figure) -> dict[str, Any]:
    """A figure's looks without its data: what the page's script fills for whatever is selected."""
    spec = figure.to_plotly_json()
    for trace in spec["data"]:
        for key in ("x", "y", "text", "customdata"):
            trace.pop(key, None)
        if "error_y" in trace:
            trace["error_y"].pop("array", None)
        for key in ("color", "size"):
            if not isinstance(trace.get("marker", {}).get(key), str | int | float | None):  # one for each point
                del trace["marker"][key]
    return {"data": spec["data"], "layout": spec["layout"]}


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with each ``{{name}}`` replaced once; what is put in is never looked at again.

    Raises:
        KeyError: a placeholder without a part.

    >>> fill("<p>{{a}}</p>", {"a": "{{b}}"})
    '<p>{{b}}</p>'
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], template)


def _package_text(name: str) -> str:
    return resources.files("codesign.dashboard").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
