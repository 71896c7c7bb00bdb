"""The command that compares the cost model with published and measured figures."""

from __future__ import annotations

from pathlib import Path

from codesign.console import show_json, show_table
from hwmodel.validation import details, one_table


def validate(rows: Path | None, *, every: bool, as_json: bool) -> None:
    """The cost model against what others published or measured: one table, and with ``every`` all tables behind it."""
    tables = details(rows)
    summary = one_table(tables)
    if as_json:
        behind = {name: table.to_dict(orient="records") for name, table in tables.items()} if every else {}
        show_json({"summary": summary.to_dict(orient="records"), **behind})
        return
    if every:
        for name, table in tables.items():
            if len(table):
                show_table(table, title=name, as_json=False)
    headings = {"truth": "theirs", "mean_error": "mean error, %", "worst_error": "worst error, %"}
    percent = summary.assign(mean_error=100 * summary["mean_error"], worst_error=100 * summary["worst_error"])
    show_table(percent, title="Ours against ground truth", as_json=False, headings=headings)
