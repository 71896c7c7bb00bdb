"""How wrong fitted unit costs are: rows are left out of the fit, and priced by it.

Three ways of leaving out, for every group of families on every target: *formats* (all rows that touch a format
together; a pair of formats where a family knows few; single designs of families of one format), *lanes* (all rows of
a number of lanes together) and *random* tenths. Errors are relative to the whole PE. Designs below ``SMALL_LUTS`` LUTs
or ``SMALL_GATES`` gates stand apart: there one LUT is more than 5 %, so their difference in LUTs says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np
import pandas as pd

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_parts import RECORDED_ONLY, group_of
from hwmodel.unit_cost_prices import (
    FEW_ROWS,
    Sample,
    closed_form,
    fitted,
    known_prices,
    samples,
    small_size,
    solve,
)

# Groups whose recorded rows share one format, or know only few: formats of both sides are left out as a pair
_BY_PAIR = frozenset({"bit-serial", "both serial", "term-serial", "code book", "mixture", "vector book", "flint",
                      "flint pair", "OliVe", "Tender", "BitMoD", "BitMoD group accumulator",
                      "BitMoD integer accumulator"})  # fmt: skip
_FEW_KEYS = 3  # fewer pairs or numbers of lanes: single designs, or nothing, are left out
_RANDOM_PARTS, _SEED = 10, 20261122


class LeftOut(Enum):
    """What is left out of a fit together."""

    FORMATS = "formats"
    LANES = "lanes"
    RANDOM = "random"


@dataclass(frozen=True)
class HeldOut:
    """Errors relative to the whole PE: on rows that were left out of the fit, or against other RTL.

    Args:
        rows: how many.
        mean, worst: of the magnitudes.
        worst_design: name of the worst.
        largest_difference: in LUTs, or in the unit of area.
    """

    rows: int
    mean: float
    worst: float
    worst_design: str
    largest_difference: float


def folds(group: str, chosen: Sequence[Sample], by: LeftOut = LeftOut.FORMATS) -> dict[str, list[int]]:
    """Rows to leave out together, by what they share; empty where a group has too few lanes or rows for that."""
    if by is LeftOut.RANDOM:
        if len(chosen) < 2 * _RANDOM_PARTS:
            return {}
        order = np.random.default_rng(_SEED).permutation(len(chosen))
        return {f"part {i}": [int(k) for k in order[i::_RANDOM_PARTS]] for i in range(_RANDOM_PARTS)}
    keys = [_keys(group, sample, by) for sample in chosen]
    if len({key for some in keys for key in some}) < _FEW_KEYS:
        if by is LeftOut.LANES:
            return {}
        keys = [{sample.row.design} for sample in chosen]
    parts: dict[str, list[int]] = {}
    for index, some in enumerate(keys):
        for key in sorted(some):
            parts.setdefault(key, []).append(index)
    if by is LeftOut.LANES:  # a few dot products cannot price all MACs, nor does anybody ask them to
        return {key: rows for key, rows in parts.items() if 2 * len(rows) <= len(chosen)}
    return parts


def _keys(group: str, sample: Sample, by: LeftOut) -> set[str]:
    row = sample.row
    if by is LeftOut.LANES:
        return {f"x{row.lanes}"}
    if group in _BY_PAIR:
        return {f"{row.weight_format} x {row.activation_format}"}
    return {row.weight_format} if group == "float accumulator" else {row.weight_format, row.activation_format}


def is_small(size: float, target: str) -> bool:
    """Whether a PE of that many LUTs, or that area, is a small one."""
    return size < small_size(target)


@cache
def held_out_errors(group: str, target: str, by: LeftOut = LeftOut.FORMATS) -> pd.DataFrame:
    """One row for each recorded design and each key left out.

    Columns: design, kind (the group; of dot products so named), left_out, truth, ours, error (relative), small.
    """
    chosen = samples(group, target)
    rows = []
    for key, outside in folds(group, chosen, by).items():
        left_out = set(outside)
        inside = [sample for index, sample in enumerate(chosen) if index not in left_out]
        if len(inside) < FEW_ROWS and not closed_form(group, target):
            continue
        prices = solve(inside, known_prices(group, target))
        for index in outside:
            sample = chosen[index]
            ours = sum(prices.get(name, 0.0) * amount for name, amount in sample.parts.items())
            kind = f"{group}, dot" if group in ("integer", "Kulisch") and sample.row.lanes > 1 else group
            rows.append({
                "design": sample.row.design, "kind": kind, "left_out": key, "truth": sample.whole,
                "ours": sample.whole + ours - sample.value, "error": (ours - sample.value) / sample.whole,
                "small": is_small(sample.whole, target),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=["design", "kind", "left_out", "truth", "ours", "error", "small"])


def held_out(group: str, target: str, *, small: bool) -> HeldOut | None:
    """Errors with formats left out, of designs of that size; of all where none is; ``None`` without any."""
    errors = held_out_errors(group, target)
    if errors.empty:
        return None
    alike = errors[errors["small"] == small]
    return summary_of(errors if alike.empty else alike)


def summary_of(errors: pd.DataFrame) -> HeldOut:
    """Of rows with the columns design, truth, ours and error; at least one."""
    magnitude = errors["error"].abs()
    worst = int(magnitude.to_numpy().argmax())
    return HeldOut(
        len(errors), float(magnitude.mean()), float(magnitude.max()), str(errors["design"].iloc[worst]),
        float((errors["ours"] - errors["truth"]).abs().max()),
    )  # fmt: skip


def error_table(targets: Iterable[str], ways: Iterable[LeftOut] = tuple(LeftOut)) -> pd.DataFrame:
    """Errors on rows left out: one row for each kind, target and way; kinds with too few rows are left away.

    Columns: kind, target, left_out, netlists, and of those that are not small mean, worst, worst_design; small (how
    many are), small_difference (the largest among them, in LUTs or units of area).
    """
    rows = []
    chosen = [(prices.group, prices.target) for prices in fitted(targets)]
    for by in ways:
        for group, target in chosen:
            for kind, errors in held_out_errors(group, target, by).groupby("kind", sort=False):
                large, small = errors[~errors["small"]], errors[errors["small"]]
                rest = None if large.empty else summary_of(large)
                rows.append({
                    "kind": kind, "target": target, "left_out": by.value, "netlists": errors["design"].nunique(),
                    "mean": None if rest is None else rest.mean, "worst": None if rest is None else rest.worst,
                    "worst_design": "" if rest is None else rest.worst_design, "small": small["design"].nunique(),
                    "small_difference": None if small.empty else summary_of(small).largest_difference,
                })  # fmt: skip
    return pd.DataFrame(rows)


def family_table(targets: Iterable[str]) -> pd.DataFrame:
    """Every recorded family and how its PEs are priced: family, target, netlists, price, mean, worst.

    ``price`` is ``recorded`` for modules without parameters to extrapolate (decoders, BitMoD's encoder), else the group
    whose prices it shares, with its errors on formats left out.
    """
    rows = []
    for target in targets:
        recorded = [row.family for row in best_rows(target).values() if not row.registered_inputs]
        for family in sorted(set(recorded)):
            row = {"family": family, "target": target, "netlists": recorded.count(family)}
            errors = pd.DataFrame()
            if family in RECORDED_ONLY:
                row["price"] = "recorded"
            else:
                row["price"] = group = group_of(family)
                errors = held_out_errors(group, target)
                errors = errors[errors["design"].str.startswith(f"{family}.") & ~errors["small"]]
            known = None if errors.empty else summary_of(errors)
            row |= {"mean": None if known is None else known.mean, "worst": None if known is None else known.worst}
            rows.append(row)
    return pd.DataFrame(rows)
