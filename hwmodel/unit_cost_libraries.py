"""Cell libraries side by side: the same designs, and the ratio that prices a library whose file may not be passed on.

``data/fpga_reference_area.csv`` holds areas of other RTL of the same functions, synthesised with Yosys 0.70 by somebody
else for this project, in Nangate45, sky130hd, SG13G2 and OSU 0.18 um (in that library's own unit). Nangate45's licence
forbids redistribution, so it has no table of its own here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from hwmodel.synthesis_table import DATA, best_rows
from hwmodel.unit_cost_prices import fitted_targets, is_lut

AREAS = DATA / "fpga_reference_area.csv"
BASE = "sky130hd"
SCALED_LIBRARIES = {"nangate45": BASE}  # library without a table: the one that it is scaled from


@dataclass(frozen=True)
class Ratio:
    """Area of a library over that of another.

    Args:
        value: geometric mean over designs that both have.
        designs: how many.
        mean_error, worst_error: of scaling by it, relative.
    """

    value: float
    designs: int
    mean_error: float
    worst_error: float


def reference_areas() -> Iterator[dict[str, str]]:
    """Rows of the reference: module, config, lanes, library, flow, area."""
    with AREAS.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def recorded_name(module: str, config: str, lanes: str) -> str | None:
    """Our name of a reference design; ``None`` where there is none, or where it stands with roles exchanged.

    >>> recorded_name("int_mac", "W4A8", "1"), recorded_name("mf_mult", "E2M1xE4M3", "1")
    ('int_dot.w4a8.x1', 'minifloat_multiplier.e2m1.e4m3')
    """
    if found := re.fullmatch(r"W(\d)A(\d)", config):
        pair = f"w{found[1]}a{found[2]}"
        return f"int_multiplier.{pair}" if module == "int_mult" else f"int_dot.{pair}.x{lanes}"
    if found := re.fullmatch(r"(E\dM\d)x(E\dM\d)", config):
        pair = f"{found[1]}.{found[2]}".lower()
        return f"minifloat_multiplier.{pair}" if module == "mf_mult" else f"minifloat_dot.{pair}.x{lanes}"
    if module == "term_pe":
        return f"term_serial_dot.a8.s3.x{lanes}"
    if module == "bitserial_pe":
        return f"bit_serial_dot.w8a8.x{lanes}.single"
    return None


def _ratio(pairs: list[tuple[float, float]]) -> Ratio:
    ratios = np.array([ours / base for ours, base in pairs])
    value = float(np.exp(np.log(ratios).mean()))
    errors = np.abs(value / ratios - 1)
    return Ratio(value, len(pairs), float(errors.mean()), float(errors.max()))


@cache
def library_ratio(library: str) -> Ratio:
    """Area in ``library`` over that in sky130hd, MACs that both have.

    Raises:
        ValueError: nothing to compare.
    """
    base = best_rows(BASE)
    if library in SCALED_LIBRARIES:
        areas = {recorded_name(r["module"], r["config"], r["lanes"]): float(r["area"])
                 for r in reference_areas() if r["library"] == library}  # fmt: skip
    else:
        areas = {name: row.area_um2 for name, row in best_rows(library).items() if row.area_um2}
    pairs = []
    for name, area in areas.items():
        known = base.get(name) if name is not None else None
        if known is not None and known.area_um2 and known.accumulator_bits and not known.registered_inputs:
            pairs.append((float(area), known.area_um2))
    if not pairs:
        raise ValueError(f"library must share designs with {BASE}, which {library} does not")
    return _ratio(pairs)


def library_ratios() -> pd.DataFrame:
    """Every library over sky130hd: library, designs, ratio, mean and worst error of scaling by it."""
    rows = []
    for library in (*(t for t in fitted_targets() if not is_lut(t) and t != BASE), *SCALED_LIBRARIES):
        try:
            ratio = library_ratio(library)
        except ValueError:
            continue
        rows.append({"library": library, "designs": ratio.designs, "ratio": ratio.value, "mean": ratio.mean_error,
                     "worst": ratio.worst_error})  # fmt: skip
    return pd.DataFrame(rows)
