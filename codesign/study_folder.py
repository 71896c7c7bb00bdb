"""The folder that a study leaves: written whole, and read back.

``index.html`` is the dashboard; ``trials.csv`` and ``trials.parquet`` have one row for each recipe and accelerator;
``layers.parquet``, ``machines.csv``, ``front.csv`` and ``manifest.json`` go with them. Every file is written to a
temporary name and renamed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from codesign.cache import whole_file
from codesign.dashboard.page import write_dashboard
from codesign.outputs import check_output_folder
from codesign.store import jsonable, write_atomic
from codesign.study import StudyResult

_TABLES = ("trials", "layers", "machines")


def write_study(result: StudyResult, folder: Path) -> Path:
    """Write a study's files; returns the path of its page.

    Raises:
        ValueError: as ``check_output_folder``.
    """
    check_output_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("trials", result.trials), ("layers", result.layers), ("machines", result.machines)):
        with whole_file(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    for name, table in (("trials", result.trials), ("machines", result.machines), ("front", result.front())):
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False).encode())
    about = {"name": result.name, "objectives": list(result.objectives), "manifest": result.manifest}
    write_atomic(folder / "manifest.json", json.dumps(jsonable(about), indent=1, allow_nan=False).encode())
    page = folder / "index.html"
    write_dashboard(result, page)
    return page


def read_study_folder(folder: Path) -> StudyResult:
    """The study that ``write_study`` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    for name in ("manifest.json", *(f"{table}.parquet" for table in _TABLES)):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} must be the folder of a finished study, but {name} is not there")
    try:
        about = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        return StudyResult(
            about["name"], tables["trials"], tables["layers"], tables["machines"], tuple(about["objectives"]),
            about["manifest"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} must be the folder of a finished study ({type(error).__name__}: {error})") from None
