"""Unit costs against syntheses of other RTL of the same functions, by somebody else, and against themselves.

``data/fpga_reference_lut.csv``: LUT6s of integer and minifloat multipliers, products and MACs, Yosys 0.70, family
``xcup``, three flows, packed by the rule that ``docs/synthesis.md`` states; written and synthesised apart from
``hls/rtl``. ``data/fpga_reference_area.csv``: see ``hwmodel.unit_cost_libraries``.

A netlist is compared with the reference flow by flow: tables here hold flows that the reference was not put through,
and their smaller netlists are no error of either.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache

import pandas as pd

from datatypes.catalog import INTS, MINIFLOATS, UINTS
from datatypes.format import Format
from hwmodel.check import Check, Standing
from hwmodel.synthesis_table import DATA, synthesis_rows
from hwmodel.unit_cost import price_pe
from hwmodel.unit_cost_design import Arithmetic, FixedAccumulator, PeDesign, design_of_row, pe_design
from hwmodel.unit_cost_errors import LeftOut, error_table, held_out_errors, summary_of
from hwmodel.unit_cost_libraries import BASE, SCALED_LIBRARIES, library_ratio, reference_areas

LUTS = DATA / "fpga_reference_lut.csv"
_FORMATS: dict[str, Format] = {
    **{f.name: f for f in INTS.values()}, **{f.name: f for f in UINTS.values()}, **MINIFLOATS,
}  # fmt: skip
_MODULES = {
    "int_mult": Arithmetic.MULTIPLIER, "int_mac": Arithmetic.PARALLEL, "mf_mult": Arithmetic.MULTIPLIER,
    "mf_mult_fx": Arithmetic.FIXED_PRODUCT, "mf_mac": Arithmetic.PARALLEL,
}  # fmt: skip
_FEW = 4  # fewer designs make no row of their own
_SOURCE = "other RTL of the same functions, Yosys 0.70 (data/fpga_reference_*.csv)"


_CELL_FLOWS = {"synth": "plain", "synth_booth": "booth"}  # the reference's names; "best" is the smallest of both


def reference_luts() -> dict[tuple[str, str, str, int], dict[str, float]]:
    """(module, weight, activation, accumulator bits): LUTs by flow."""
    found: dict[tuple[str, str, str, int], dict[str, float]] = {}
    with LUTS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["flow"] == "best_of_3":  # the smallest of the others
                continue
            key = row["module"], row["weight"], row["activation"], int(row["accumulator_bits"])
            found.setdefault(key, {})[row["flow"]] = float(row["luts"])
    return found


@cache
def _recorded_flows(target: str) -> Mapping[PeDesign, Mapping[str, float]]:
    """Every recorded design: LUTs or area by flow."""
    found: dict[PeDesign, dict[str, float]] = {}
    for row in () if target in SCALED_LIBRARIES else synthesis_rows(target):
        size = row.area_um2 if row.luts is None else float(row.luts)
        if size is not None and not row.dsps:
            found.setdefault(design_of_row(row), {})[row.flow] = size
    return found


def _beside(one: PeDesign, target: str, theirs: Mapping[str, float], *, table: bool) -> tuple[float, float] | None:
    """The reference's figure of a design and ours, the smallest of the flows that both have.

    Args:
        one: the design.
        target: fabric or library.
        theirs: the reference's figures by flow.
        table: the recorded netlist; without, what the model says, times what the smallest flow that both have takes
            over the smallest of all, where netlists are recorded. Designs that are not recorded are priced.

    Returns:
        Both; ``None`` where too few netlists of the kind are recorded.
    """
    known = _recorded_flows(target).get(one, {})
    flows = set(known) if "best" in theirs else known.keys() & theirs.keys()
    both = min((known[flow] for flow in flows), default=None)
    truth = min(theirs[flow] for flow in (flows & theirs.keys() or theirs))
    if table and both is not None:
        return truth, both
    try:
        cost = price_pe(one, target, table=table)
    except ValueError:
        return None
    figure = cost.area_um2 if cost.luts is None else cost.luts
    if figure is None:
        return None
    return truth, figure.value * (1.0 if both is None else both / min(known.values()))


def reference_design(module: str, weight: str, activation: str, accumulator_bits: int) -> PeDesign:
    """Our design of a reference one."""
    accumulator = FixedAccumulator(accumulator_bits) if accumulator_bits else None
    return pe_design(
        _FORMATS[weight], _FORMATS[activation], arithmetic=_MODULES[module], accumulator=accumulator
    )  # fmt: skip


def reference_area_design(module: str, config: str, lanes: int) -> PeDesign | None:
    """Our design of a reference one in cells; ``None`` for what has no twin here.

    >>> reference_area_design("mf_mac", "E2M1xE4M3", 1).get("ACCUMULATOR_BITS")
    33
    """
    kind = {"int_dot": "int_mac", "mf_dot": "mf_mac"}.get(module, module)
    if found := re.fullmatch(r"W(\d)A(\d)", config):
        pair: tuple[Format, Format] = INTS[int(found[1])], INTS[int(found[2])]
    elif found := re.fullmatch(r"(E\dM\d)x(E\dM\d)", config):
        pair = MINIFLOATS[found[1].lower()], MINIFLOATS[found[2].lower()]
    elif module == "term_pe":
        return pe_design(INTS[8], INTS[8], arithmetic=Arithmetic.TERM_SERIAL, lanes=lanes)
    elif module == "bitserial_pe":
        return pe_design(INTS[8], INTS[8], arithmetic=Arithmetic.WEIGHT_SERIAL, lanes=lanes).replaced(ACCUMULATE=0)
    else:
        return None
    return pe_design(*pair, arithmetic=_MODULES[kind], lanes=lanes)


@cache
def reference_cells(table: bool) -> pd.DataFrame:
    """Every reference figure beside ours: quantity, target, design, truth, ours, error.

    Args:
        table: use the recorded netlists; without, what the closed forms and fits say.
    """
    compared: list[tuple[str, str, str, PeDesign, Mapping[str, float]]] = []
    for (module, weight, activation, bits), by_flow in reference_luts().items():
        one = reference_design(module, weight, activation, bits)
        compared.append((module, "lut6", f"{weight} x {activation}", one, by_flow))
    for row in reference_areas():
        found = reference_area_design(row["module"], row["config"], int(row["lanes"]))
        if found is not None:
            areas = {_CELL_FLOWS.get(row["flow"], row["flow"]): float(row["area"])}
            compared.append((row["module"], row["library"], f"{row['config']} x{row['lanes']}", found, areas))
    rows = []
    for quantity, target, name, one, theirs in compared:
        pair = _beside(one, target, theirs, table=table)
        if pair is not None:
            rows.append((quantity, target, name, *pair))
    frame = pd.DataFrame(rows, columns=["quantity", "target", "design", "truth", "ours"])
    frame["error"] = frame["ours"] / frame["truth"] - 1
    return frame


def reference_errors() -> pd.DataFrame:
    """Errors against the reference, from the recorded table and without it: one row for each kind and target."""
    rows = []
    for table in (True, False):
        cells = reference_cells(table)
        for (target, quantity), group in cells.groupby(["target", "quantity"], sort=False):
            errors = summary_of(group)
            rows.append({
                "ours": "recorded netlists" if table else "closed forms and fits", "target": target,
                "quantity": quantity, "designs": errors.rows, "mean": errors.mean, "worst": errors.worst,
                "worst_design": errors.worst_design, "largest_difference": errors.largest_difference,
            })  # fmt: skip
    return pd.DataFrame(rows)


# --- rows of the validation table ------------------------------------------------------------------------------------


def unit_cost_checks() -> Iterator[Check]:
    """Closed forms and held-out fits against recorded netlists, and those against other RTL. Ours is 1 + mean error."""
    for group, what in (("integer multiplier", "multipliers"), ("integer", "MACs and dot products")):
        errors = held_out_errors(group, "lut6").drop_duplicates("design")
        yield Check(
            f"integer {what}", "LUT6s, closed form over netlists", 1.0,
            1.0 + float(errors["error"].abs().mean()), Standing.REBUILT, "data/synthesis_lut6.csv",
            f"largest difference {(errors['ours'] - errors['truth']).abs().max():.0f} LUTs",
            len(errors), float(errors["error"].abs().max()),
        )  # fmt: skip
    table = error_table(("lut6", BASE), (LeftOut.FORMATS,))
    for row in table[table["kind"] == "Kulisch"].to_dict("records"):
        yield Check(
            f"Kulisch MACs on {row['target']}", "each format left out of the fit", 1.0, 1.0 + row["mean"],
            Standing.REBUILT, f"data/synthesis_{row['target']}.csv", f"worst: {row['worst_design']}", row["netlists"],
            abs(row["worst"]),
        )  # fmt: skip
    for row in reference_errors().to_dict("records"):
        if row["target"] not in ("lut6", BASE) or row["designs"] <= _FEW:
            continue
        yield Check(
            f"{row['quantity']} on {row['target']}", f"{row['ours']} over other RTL's", 1.0, 1.0 + row["mean"],
            Standing.REBUILT, _SOURCE, f"worst: {row['worst_design']}", row["designs"], abs(row["worst"]),
        )  # fmt: skip
    ratio = library_ratio("nangate45")
    yield Check(
        "Nangate45", f"area of a MAC, scaled from {BASE}", 1.0, 1.0 + ratio.mean_error, Standing.REBUILT,
        _SOURCE, f"ratio {ratio.value:.4f}", ratio.designs, abs(ratio.worst_error),
    )  # fmt: skip
