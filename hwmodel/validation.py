"""All comparisons of the cost model with what others published or measured, as one table.

Each ground truth has a file of its own (``validate``, ``validate_machines``, ``gpu_validate``, ``event_grid``); here
their tables are brought to the same columns, a row for each figure, or for each group of figures of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hwmodel.check import Standing
from hwmodel.event_grid import validate_events
from hwmodel.gpu_validate import gpu_errors, link_errors
from hwmodel.validate import errors_by_row, summarize, validate_headlines, validate_simulator, validate_speedups
from hwmodel.validate_machines import validate_machines

COLUMNS = ("ground_truth", "quantity", "cases", "truth", "ours", "mean_error", "worst_error", "standing")
_SIMULATOR = "BitMoD simulator"
_FIGURES = "BitMoD, figures 7 and 8"


def details(rows: Path | None = None) -> dict[str, pd.DataFrame]:
    """Every table of comparisons, by title.

    Args:
        rows: CSV of simulator rows; the published ones by default.

    Raises:
        ValueError: ``rows`` is no such file.
    """
    cells = validate_simulator() if rows is None else validate_simulator(rows)
    return {
        "Published simulator, cell by cell": summarize(cells),
        "Reference rows": errors_by_row(cells),
        "Cells that disagree": cells[~cells["agrees"]],
        "Figures 7 and 8": validate_speedups(),
        "Headlines of the paper": validate_headlines(),
        "Machines, methods and unit costs": validate_machines(),
        "GPUs against measured kernels: relative errors": gpu_errors(),
        "Links between GPUs against measured collectives: relative errors": link_errors(),
        "Closed form against event simulator, Llama-2-7B: differences in cycles": validate_events(),
    }


def one_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """``details`` in one table: a row for each ground truth and quantity.

    Returns:
        ``COLUMNS``: ``truth`` and ``ours`` where there is one figure; ``mean_error`` of absolute relative errors and
        ``worst_error``, with its sign where there is one figure, both NaN for inputs; ``standing`` says what agreement
        means, or whether constants were fitted to these rows.
    """
    rows = [*_published(tables), *_machines(tables), *_measured(tables), *_simulated(tables)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _published(tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for version, rows in tables["Reference rows"].groupby("version", sort=False):
        for quantity in ("cycles", "energy"):
            errors = rows[f"{quantity}_error"].abs()
            yield _many(f"{_SIMULATOR}, {version}", quantity, errors, "rebuilt")
    figures = tables["Figures 7 and 8"]
    for quantity in ("cycles", "energy"):
        yield _many(_FIGURES, f"{quantity} of a bar", figures[f"{quantity}_error"].abs(), "rebuilt")
    for claim in tables["Headlines of the paper"].to_dict(orient="records"):
        yield _one("BitMoD, abstract and section V", claim["claim"], claim["paper"], claim["v1"], "rebuilt")


def _machines(tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for row in tables["Machines, methods and unit costs"].to_dict(orient="records"):
        made = _one(row["subject"], row["quantity"], row["truth"], row["ours"], row["standing"])
        if row["cases"] > 1:  # their mean is no figure of theirs
            made |= {"cases": row["cases"], "truth": None, "ours": None, "worst_error": row["worst"]}
        yield made


def _measured(tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for title in (
        "GPUs against measured kernels: relative errors",
        "Links between GPUs against measured collectives: relative errors",
    ):
        for row in tables[title].to_dict(orient="records"):
            yield {
                "ground_truth": f"{row['truth']}, {row['gpu']}",
                "quantity": row["part"],
                "cases": row["rows"],
                "mean_error": row["mean_error"],
                "worst_error": row["worst_error"],
                "standing": row["use"],
            }


def _simulated(tables: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    title = "Closed form against event simulator, Llama-2-7B: differences in cycles"
    for row in tables[title].to_dict(orient="records"):
        yield {
            "ground_truth": "own event simulator",
            "quantity": f"cycles of a layer, {row['accelerator']}, {row['phase']}",
            "cases": row["layers"],
            "mean_error": row["mean_percent"] / 100,
            "worst_error": row["worst_percent"] / 100,
            "standing": f"closed form, {row['closed_form']}",
        }


def _many(truth: str, quantity: str, errors: pd.Series, standing: str) -> dict[str, Any]:
    return {
        "ground_truth": truth,
        "quantity": quantity,
        "cases": len(errors),
        "mean_error": float(errors.mean()),
        "worst_error": float(errors.max()),
        "standing": standing,
    }


def _one(truth: str, quantity: str, theirs: float, ours: float, standing: str) -> dict[str, Any]:
    error = float("nan") if standing == Standing.INPUT.value else ours / theirs - 1
    return {
        "ground_truth": truth,
        "quantity": quantity,
        "cases": 1,
        "truth": theirs,
        "ours": ours,
        "mean_error": abs(error),
        "worst_error": error,
        "standing": standing,
    }
