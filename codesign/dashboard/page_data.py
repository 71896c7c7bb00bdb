"""A ``StudyResult`` as the compact JSON the page carries.

Columns instead of rows, strings as codes into a list of values, and the layer table in three steps, because a study has
some hundred thousand layer rows but few different ones: ``costs`` holds each distinct set of figures once,
``sequences`` each distinct list of layers, blocks of equal role side by side; ``runs`` names, for a trial and phase,
its sequence and its costs as (cost, repetitions) pairs. Layer figures are rounded to ``_DIGITS`` significant digits -
the tables written beside the page have them all; trials are exact. JSON has no NaN or infinity: both become null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from codesign.dashboard.axes import X_AXES, Y_AXES, Axis
from codesign.dashboard.layer_costs import PHASES
from codesign.dashboard.layer_groups import LayerGroups, group_layers
from codesign.dashboard.theme import (
    DARK,
    GRID,
    INK,
    KIND_COLOURS,
    KIND_TITLES,
    LIGHT,
    PHASE_TITLES,
    QUIET,
    SYMBOLS,
)
from codesign.study import LAYER_COLUMNS, MACHINE_COLUMNS, TRIAL_COLUMNS, StudyResult
from hwmodel.units import BYTE_BITS, pj_to_j

_DIGITS = 7
# What identifies a layer row rather than describing it.
_KEYS = ("recipe", "accelerator", "phase", "layer", "kind")
COST_COLUMNS: tuple[str, ...] = tuple(column for column in LAYER_COLUMNS if column not in _KEYS)


def page_data(result: StudyResult) -> dict[str, Any]:
    """Everything the page's script reads, JSON-able.

    Raises:
        ValueError: no trials, a trial given twice, a machine missing, or an unknown phase or kind of layer.
    """
    _check(result)
    groups = group_layers(result.layers["layer"].unique())
    return {
        "name": result.name,
        "objectives": list(result.objectives),
        "reference": reference_recipe(result),
        "trials": _columns(result.trials, TRIAL_COLUMNS),
        "trial_columns": dict(TRIAL_COLUMNS),
        "machines": _columns(result.machines, MACHINE_COLUMNS),
        "manifest": clean(result.manifest),
        "axes": {"x": [_axis(axis) for axis in X_AXES], "y": [_axis(axis) for axis in Y_AXES]},
        "theme": {
            "light": {"series": LIGHT, "ink": INK["light"], "quiet": QUIET["light"], "grid": GRID["light"]},
            "dark": {"series": DARK, "ink": INK["dark"], "quiet": QUIET["dark"], "grid": GRID["dark"]},
            "symbols": SYMBOLS,
            "kind_colours": dict(KIND_COLOURS),
        },
        "kind_titles": dict(KIND_TITLES),
        "phases": list(PHASES),
        "phase_titles": dict(PHASE_TITLES),
        "units": {"byte_bits": BYTE_BITS, "joules_per_pj": pj_to_j(1.0)},
        **_layers(result, groups),
    }


def reference_recipe(result: StudyResult) -> str:
    """The recipe others are compared with: the manifest's ``reference``, else the first whose ``loss_delta`` is 0.

    Where no ``loss_delta`` is 0 it is the recipe with the lowest loss, and the first one if none has a loss.
    """
    trials = result.trials
    named = result.manifest.get("reference")
    if isinstance(named, str) and (trials["recipe"] == named).any():
        return named
    zero = trials[trials["loss_delta"] == 0.0]
    if len(zero):
        return str(zero["recipe"].iloc[0])
    losses = trials["loss"].to_numpy(dtype=np.float64)
    row = 0 if np.isnan(losses).all() else int(np.nanargmin(losses))
    return str(trials["recipe"].iloc[row])


def to_json(data: Any) -> str:
    """JSON that can stand inside a script element: ``<``, ``>``, ``&`` and the line separators are escaped.

    >>> to_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def clean(value: Any) -> Any:
    """A JSON-able copy: NaN and infinities as null, NumPy scalars as Python's, anything unknown as its text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(entry) for entry in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    return str(value)


def significant(values: np.ndarray, digits: int = _DIGITS) -> np.ndarray:
    """Values rounded to so many significant digits; zero, NaN and infinities stay.

    >>> significant(np.array([123456789.0, 0.00012345678, 0.0]), 3).tolist()
    [123000000.0, 0.000123, 0.0]
    """
    values = np.asarray(values, dtype=np.float64)
    result = values.copy()
    nonzero = np.isfinite(values) & (values != 0)
    exponent = np.maximum(np.floor(np.log10(np.abs(values[nonzero]))).astype(int) + 1 - digits, -300)
    # Powers of ten with a positive exponent are exact, so that the rounded value prints short.
    down, up = 10.0 ** np.maximum(exponent, 0), 10.0 ** np.maximum(-exponent, 0)
    result[nonzero] = np.round(values[nonzero] / down * up) / up * down
    return result


def _check(result: StudyResult) -> None:
    trials, layers = result.trials, result.layers
    if not len(trials):
        raise ValueError(f"trials of study {result.name} must have at least one row, not 0")
    twice = trials[trials.duplicated(["recipe", "accelerator"])]
    if len(twice):
        pair = f"{twice['recipe'].iloc[0]} on {twice['accelerator'].iloc[0]}"
        raise ValueError(
            f"trials of study {result.name} must hold each recipe once for an accelerator, not twice {pair}"
        )
    for column, known, where in (
        ("accelerator", set(result.machines["accelerator"]), trials),
        ("phase", set(PHASES), layers),
        ("kind", set(KIND_TITLES), layers),
    ):
        unknown = [name for name in where[column].unique() if name not in known]
        if unknown:
            choices = ", ".join(sorted(map(str, known))) or "nothing"
            raise ValueError(f"{column} in study {result.name} must be one of {choices}, not {unknown[0]!r}")


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "column": axis.column,
        "title": axis.title,
        "unit": axis.unit,
        "log": axis.log,
        "per_accelerator": axis.per_accelerator,
        "error": axis.error,
    }


def _columns(table: pd.DataFrame, names: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    return {name: _column(table[name]) for name in names}


def _column(column: pd.Series) -> Any:
    """A list of numbers or booleans, or the codes and values of strings."""
    if pd.api.types.is_bool_dtype(column):
        return [bool(value) for value in column]
    if pd.api.types.is_numeric_dtype(column):
        return [_number(value) for value in column.to_numpy(dtype=np.float64)]
    codes, values = pd.factorize(column.fillna("").astype(str))
    return {"codes": codes.tolist(), "values": [str(value) for value in values]}


def _number(value: float) -> int | float | None:
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)


def _layers(result: StudyResult, groups: LayerGroups) -> dict[str, Any]:
    position = {name: index for index, name in enumerate(groups.layers)}
    table = result.layers
    figures = pd.DataFrame({
        column: table[column] if column == "bound" else significant(table[column].to_numpy(dtype=np.float64))
        for column in COST_COLUMNS
    })  # fmt: skip
    cost = figures.groupby(list(COST_COLUMNS), dropna=False, sort=False).ngroup().to_numpy()
    distinct = np.sort(np.unique(cost, return_index=True)[1])
    trials = pd.MultiIndex.from_frame(result.trials[["recipe", "accelerator"]])
    trial = trials.get_indexer(pd.MultiIndex.from_frame(table[["recipe", "accelerator"]]))
    layer = np.array([position[name] for name in table["layer"]], dtype=np.intp)
    group = np.array(groups.group, dtype=np.intp)[layer] if len(layer) else layer
    kind = pd.Series(table["kind"].to_numpy(), index=layer).groupby(level=0).first() if len(layer) else []
    order = np.lexsort((np.arange(len(layer)), group))
    sequences: dict[tuple[int, ...], int] = {}
    runs: list[list[Any]] = [[None] * len(PHASES) for _ in range(len(result.trials))]
    phase = table["phase"].map({name: index for index, name in enumerate(PHASES)}).to_numpy()[order]
    for (row, column), at in pd.Series(order).groupby([trial[order], phase]):
        if row < 0:  # layers of a trial the table does not hold
            continue
        rows = at.to_numpy()
        sequence = sequences.setdefault(tuple(layer[rows].tolist()), len(sequences))
        runs[row][column] = [sequence, _run_lengths(cost[rows])]
    return {
        "layers": {"labels": groups.labels, "group": groups.group, "kind": [str(name) for name in kind]},
        "groups": {"titles": groups.titles, "patterns": groups.patterns},
        "costs": _columns(figures.iloc[distinct], COST_COLUMNS),
        "sequences": [list(sequence) for sequence in sequences],
        "runs": runs,
    }


def _run_lengths(values: np.ndarray) -> list[int]:
    """Value and repetitions in turn."""
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.concatenate((starts, [len(values)])))
    return np.stack([values[starts], lengths], axis=1).reshape(-1).tolist()
