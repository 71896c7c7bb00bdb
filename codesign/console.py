"""Results on standard output: tables for people, JSON for programs.

Numbers are rounded for people only; JSON has them whole, NaN as null. ``codesign.messages`` has what goes to standard
error.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codesign.store import jsonable


def number(value: Any) -> str:
    """A number for people: four significant digits, integers whole, nothing for a missing value.

    >>> number(0.000123456), number(1234567), number(float("nan")), number(True)
    ('0.0001235', '1,234,567', '', 'yes')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        if value and not 1e-4 <= abs(value) < 1e6:
            return f"{value:.3e}"
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)


def plain(value: Any) -> Any:
    """NumPy scalars as Python ones."""
    return value.item() if hasattr(value, "item") and not isinstance(value, str) else value


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON-able mappings."""
    return [{str(key): plain(value) for key, value in row.items()} for row in frame.to_dict(orient="records")]


def two_columns(values: Mapping[str, Any]) -> pd.DataFrame:
    """A flat record as a table; objects, so that every value keeps its own type."""
    return pd.DataFrame({"what": list(values), "value": pd.Series(list(values.values()), dtype=object)})


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(jsonable(value), indent=2, allow_nan=False) + "\n")


def show_table(
    frame: pd.DataFrame,
    *,
    title: str,
    as_json: bool,
    headings: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    highlight: Callable[[Mapping[str, Any]], bool] | None = None,
) -> None:
    """A table on standard output.

    Args:
        title: above the table (people only).
        as_json: print all columns as JSON records instead.
        headings: what people read over a column, by its name.
        columns: which columns people see; all by default.
        highlight: rows to print bold.
    """
    if as_json:
        show_json(records(frame))
        return
    shown = list(columns) if columns is not None else [str(c) for c in frame.columns]
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for name in shown:
        numeric = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
        table.add_column(
            escape((headings or {}).get(name, name)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in records(frame):
        style = "bold" if highlight is not None and highlight(row) else None
        table.add_row(*(escape(number(row[name])) for name in shown), style=style)
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width).print(table)
