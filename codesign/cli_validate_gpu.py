"""``codesign validate --gpu``: measured GPU kernels against the cost model, in short, row by row, or as a page."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from codesign.console import show_json, show_table
from codesign.gpu_page import write_page
from codesign.gpu_truth import BAND, comparison, summary
from codesign.machines import accelerators_by_name
from codesign.messages import say
from hwmodel.gpu import Gpu
from hwmodel.gpu_presets import GPUS

_ROW = ("format", "gpu", "m", "n", "k", "use", "measured_us", "predicted_us", "error_percent", "roofline_percent",
        "bound")  # fmt: skip
_SUMMARY = ("kernel", "gpu", "use", "rows", "mean_percent", "worst_percent", "bias_percent", "within_15_percent",
            "roofline_mean", "roofline_worst")  # fmt: skip
_PERCENT = {
    "mean_percent": "mean_error", "worst_percent": "worst_error", "bias_percent": "bias",
    "within_15_percent": "within_15_percent", "roofline_mean": "roofline_mean_error",
    "roofline_worst": "roofline_worst_error", "error_percent": "error", "roofline_percent": "roofline_error",
}  # fmt: skip
_HEADINGS = {
    "mean_percent": "mean, %", "worst_percent": "worst, %", "bias_percent": "bias, %", "within_15_percent": "within 15",
    "roofline_mean": "roofline mean", "roofline_worst": "worst", "error_percent": "error, %",
    "roofline_percent": "roofline, %", "measured_us": "us", "predicted_us": "ours",
}  # fmt: skip


def gpu_sheet(name: str) -> Gpu:
    """A GPU by a preset's name or in a YAML file.

    Raises:
        ValueError: neither; or a file with a mistake; or no GPU.
    """
    (machine,) = accelerators_by_name((name,)).values()
    if not isinstance(machine, Gpu):
        raise ValueError(f"--sheet must be a GPU, one of {', '.join(GPUS)} or a YAML file, not {name!r}")
    return machine


def validate_gpu(
    files: tuple[Path, ...], *, every: bool, page: Path | None, as_json: bool, sheet: str | None = None
) -> None:
    """The model against the recorded measurements, and those of ``files``, which are of the GPU ``sheet``."""
    found = comparison(files, None if sheet is None else gpu_sheet(sheet))
    short = summary(found.rows)
    by_shape = summary(found.rows, ("kernel", "gpu", "n", "k", "m")) if every else None
    if page is not None:
        write_page(found.rows, page)
        say(f"page: {page.resolve()}")
    for sentence in found.left_out:
        say(f"left out: {sentence}")
    if as_json:
        tables = {"summary": short}
        if by_shape is not None:
            tables |= {"shapes": by_shape, "rows": found.rows}
        show_json({name: table.to_dict(orient="records") for name, table in tables.items()})
        return

    def shown(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
        made = {name: 100 * table[_PERCENT[name]] if name in _PERCENT else table[name] for name in columns}
        return table.assign(**made)

    if by_shape is not None:
        columns = ("kernel", "gpu", "n", "k", "m", *_SUMMARY[3:])
        show_table(shown(by_shape, columns), title="By shape and tokens", as_json=False, columns=columns,
                   headings=_HEADINGS)  # fmt: skip
        show_table(shown(found.rows, _ROW), title="Predicted and measured", as_json=False, columns=_ROW,
                   headings=_HEADINGS, highlight=lambda row: abs(row["error"]) > BAND)  # fmt: skip
    show_table(shown(short, _SUMMARY), title="GPU kernels: predicted over measured, and a roofline at the copy rate",
               as_json=False, columns=_SUMMARY, headings=_HEADINGS)  # fmt: skip
