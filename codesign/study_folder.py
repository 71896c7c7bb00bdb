"""The folder that a study leaves: written whole, and read back.

``index.html`` is the dashboard; ``trials.csv`` and ``trials.parquet`` have one row for each recipe and accelerator;
``layers.parquet``, ``machines.csv``, ``front.csv`` and ``manifest.json`` go with them. Every file is written to a
temporary name and renamed; the manifest, written last, has the SHA-256 of every table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from codesign.cache import whole_file
from codesign.dashboard.page import write_dashboard
from codesign.outputs import check_output_file, check_output_folder
from codesign.store import jsonable, write_atomic
from codesign.study import (
    LAYER_COLUMNS,
    MACHINE_COLUMNS,
    TEXT_COLUMNS,
    TRIAL_COLUMNS,
    TRUTH_COLUMNS,
    StudyResult,
    check_objectives,
)

PAGE, MANIFEST = "index.html", "manifest.json"
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "trials": TRIAL_COLUMNS, "layers": LAYER_COLUMNS, "machines": MACHINE_COLUMNS,
}  # fmt: skip
_PARQUET = tuple(f"{name}.parquet" for name in _COLUMNS)
_TABLES = (*_PARQUET, "trials.csv", "machines.csv", "front.csv")
_RATES = ("clock_hz", "peak_macs_per_s", "dram_bytes_per_s")  # of a machine
_DEPTH = 64  # of what a manifest holds inside one another; ours have 8


def check_study_folder(folder: Path, study: str) -> None:
    """Makes sure that the study called ``study`` may be written to ``folder``: no other study is there.

    Raises:
        ValueError: another one, or a manifest of something else, is there; or files cannot be written.
    """
    check_output_folder(folder)
    for name in (*_TABLES, MANIFEST, PAGE):
        check_output_file(folder / name)
    if not (folder / MANIFEST).exists():
        return
    try:
        found = _read_manifest(folder)["name"]
    except ValueError as error:
        raise ValueError(f"the output folder {folder} must be new or of study {study!r}: {error}") from None
    if found != study:
        raise ValueError(f"the output folder {folder} must be new or of study {study!r}, not of study {found!r}")


def write_study(result: StudyResult, folder: Path) -> Path:
    """Write a study's files; returns the path of its page.

    Raises:
        ValueError: as ``check_study_folder``, or tables that cannot be drawn.
    """
    check_study_folder(folder, result.name)
    page = folder / PAGE
    write_dashboard(result, page)  # first, for tables that cannot be drawn are written nowhere
    for name, table in (("trials", result.trials), ("layers", result.layers), ("machines", result.machines)):
        with whole_file(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    for name, table in (("trials", result.trials), ("machines", result.machines), ("front", result.front())):
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False).encode())
    about = {
        "name": result.name,
        "objectives": list(result.objectives),
        "tables": {name: _digest(folder / name) for name in _TABLES},
        "manifest": result.manifest,
    }
    write_atomic(folder / MANIFEST, json.dumps(jsonable(about), indent=1, allow_nan=False).encode())
    return page


def read_study_folder(folder: Path) -> StudyResult:
    """The study that ``write_study`` wrote.

    Raises:
        ValueError: a file is missing, damaged or of another study; says which, and what must stand there.
    """
    for name in (MANIFEST, *_PARQUET):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} must be the folder of a finished study, but {name} is not there")
    about = _read_manifest(folder)
    _check_manifest(about, folder / MANIFEST)
    for name, digest in about.get("tables", {}).items():  # manifests had none at first
        if (folder / name).is_file() and _digest(folder / name) != digest:
            raise ValueError(
                f"{folder / name} must be the table that {MANIFEST} of study {about['name']!r} was written with, not "
                "one of another study or one changed since: run the study again"
            )
    tables = {name: _read_table(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items()}
    _check_machines(tables["machines"], folder / "machines.parquet")
    return StudyResult(
        about["name"], tables["trials"], tables["layers"], tables["machines"], tuple(about["objectives"]),
        about["manifest"],
    )  # fmt: skip


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a study's folder, an object with a name.

    Raises:
        ValueError: it is none.
    """
    path = folder / MANIFEST
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a manifest that codesign study wrote, in JSON ({error})") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} must be a manifest that codesign study wrote, an object, not {_short(about)}")
    _check_kind(about, "name", str, "a text", path)
    if not about["name"].strip() or not about["name"].isprintable():
        raise ValueError(f"name in {path} must be a line of text, not {_short(about['name'])}")
    return about


def _check_manifest(about: Mapping[str, Any], path: Path) -> None:
    """That there are objectives which are columns, an object, and digests of tables, which older manifests lack."""
    _check_kind(about, "objectives", list, "a list of columns", path)
    _check_kind(about, "manifest", dict, "an object", path)
    try:
        check_objectives(about["objectives"], about["name"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "tables" in about:
        _check_kind(about, "tables", dict, "an object", path)
        for name, digest in about["tables"].items():
            if name not in _TABLES or not isinstance(digest, str):
                raise ValueError(f"tables in {path} must name {', '.join(_TABLES)}, each with a SHA-256, not {name!r}")
    if _deeper([about], _DEPTH):
        raise ValueError(f"{path} must hold values at most {_DEPTH} inside one another, not more")


def _check_kind(about: Mapping[str, Any], key: str, kind: type, wanted: str, path: Path) -> None:
    if key not in about:
        raise ValueError(f"{path} must have the key {key!r}")
    if not isinstance(about[key], kind):
        raise ValueError(f"{key} in {path} must be {wanted}, not {_short(about[key])}")


def _deeper(values: Iterable[Any], levels: int) -> bool:
    """Whether there is something below so many levels of lists and objects."""
    for _ in range(levels):
        holders = [value for value in values if isinstance(value, list | dict)]
        values = [item for one in holders for item in (one.values() if isinstance(one, dict) else one)]
    return bool(values)


def _short(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table with ``columns``, each of its kind.

    Raises:
        ValueError: it is no table, lacks one, or has a value of another kind; names file, column and row.
    """
    try:
        table = pd.read_parquet(path).reset_index(drop=True)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError, ArrowException) as error:
        raise ValueError(f"{path} must be a table that codesign study wrote ({_first_line(error)})") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(missing)}, not only its others")
    for column in columns:
        _check_column(table[column], f"{path}: column {column}")
        if column not in TEXT_COLUMNS | TRUTH_COLUMNS and table[column].isna().all():
            table[column] = np.nan  # numbers none of which is there come back as objects
    return table


def _check_machines(machines: pd.DataFrame, path: Path) -> None:
    """That each accelerator stands once, with rates that can be divided by."""
    twice = machines["accelerator"][machines["accelerator"].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: column accelerator must name each once, not repeat {twice.iloc[0]!r}")
    for column in _RATES:
        wrong = machines[column][machines[column] <= 0]
        if len(wrong):
            raise ValueError(
                f"{path}: column {column} must be above 0, not {wrong.iloc[0]} in row {wrong.index[0] + 1}"
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_column(column: pd.Series | pd.DataFrame, where: str) -> None:
    """That a column stands once, and that its values are of its kind; numbers and reasons may be missing."""
    if isinstance(column, pd.DataFrame):
        raise ValueError(f"{where} must stand there once, not {column.shape[1]} times")
    optional = column.name == "reason" or column.name not in TEXT_COLUMNS | TRUTH_COLUMNS
    if not len(column) or (optional and column.isna().all()):
        return
    types, values = pd.api.types, column.astype(object)
    if column.name in TEXT_COLUMNS:
        kind, whole = "texts", isinstance(column.dtype, pd.StringDtype) or column.dtype == object
        right = values.map(lambda value: isinstance(value, str)) | (values.isna() & optional)
    elif column.name in TRUTH_COLUMNS:
        kind, whole = "true or false", column.dtype == np.bool_
        right = values.map(lambda value: isinstance(value, bool))
    else:
        kind = "numbers"
        whole = types.is_float_dtype(column) or types.is_integer_dtype(column)
        right = values.map(lambda value: isinstance(value, int | float) and not isinstance(value, bool)) | values.isna()
    if not right.all():
        row = int(np.argmin(right.to_numpy()))
        raise ValueError(f"{where} must hold {kind}, not {_short(values.iloc[row])} in row {row + 1}")
    if not whole:
        raise ValueError(f"{where} must hold {kind}, not values of type {column.dtype}")
