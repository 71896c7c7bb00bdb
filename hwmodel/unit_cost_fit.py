"""How wrong unit costs are: ``python -m hwmodel.unit_cost_fit`` leaves rows out and compares with other RTL.

Prices follow the recorded tables, so the figures change when a table grows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

import pandas as pd

from hwmodel.unit_cost_dsp import dsp_summary
from hwmodel.unit_cost_errors import error_table, family_table, held_out_errors
from hwmodel.unit_cost_libraries import library_ratios
from hwmodel.unit_cost_prices import fitted, fitted_targets
from hwmodel.unit_cost_truth import reference_errors


def markdown(frame: pd.DataFrame) -> str:
    """The frame as a table of text, for the documentation."""
    lines = [
        list(map(str, frame.columns)),
        ["---"] * len(frame.columns),
        *([str(v) for v in row] for row in frame.values),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(mean: float, worst: float) -> str:
    return "" if pd.isna(mean) else f"{mean:.1%} / {worst:.1%}"


def side_by_side(targets: Iterable[str]) -> pd.DataFrame:
    """Errors of each kind on each target, the ways of leaving out beside one another: mean / worst of larger designs.

    ``worst`` is the worst with formats left out; ``small`` says how many designs are small and how far off in LUTs, or
    in units of area.
    """
    table = error_table(targets)
    rows = []
    for (kind, target), group in table.groupby(["kind", "target"], sort=False):
        ways = {row["left_out"]: row for row in group.to_dict("records")}
        first = ways.get("formats") or next(iter(ways.values()))
        small = "" if not first["small"] else f"{first['small']}: {first['small_difference']:.3g}"
        rows.append({
            "kind": kind, "target": target, "netlists": first["netlists"],
            **{way: _percent(ways[way]["mean"], ways[way]["worst"]) if way in ways else ""
               for way in ("formats", "lanes", "random")},
            "worst": first["worst_design"], "small": small,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _with_percent(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and worst as per cent."""
    found = frame.copy()
    for name in ("mean", "worst"):
        found[name] = ["" if pd.isna(value) else f"{value:.1%}" for value in frame[name]]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints errors on rows left out, what prices each family, prices, and the comparison with other RTL."""
    parser = argparse.ArgumentParser(prog="python -m hwmodel.unit_cost_fit", description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", help="one of the recorded targets; all by default")
    parser.add_argument("--prices", action="store_true", help="the price of each part as well")
    parser.add_argument("--worst", type=int, default=0, help="so many of the worst rows of each group")
    parser.add_argument("--markdown", action="store_true", help="tables as in docs/unit_costs.md")
    options = parser.parse_args(arguments)
    targets = tuple(options.target or fitted_targets())
    unknown = [target for target in targets if target not in fitted_targets()]
    if unknown:
        print(f"error: --target must be one of {', '.join(fitted_targets())}, not {unknown[0]!r}", file=sys.stderr)
        return 2
    percent = {"error": "{:+.1%}".format}

    def show(title: str, frame: pd.DataFrame) -> None:
        print(f"{title}\n{markdown(frame) if options.markdown else frame.to_string(index=False)}\n")

    show("Rows left out of the fit: formats (all that touch one), numbers of lanes, random tenths; mean / worst:",
         side_by_side(targets))  # fmt: skip
    show("Families of hls/rtl and what prices them, formats left out:", _with_percent(family_table(targets)))
    if "lut6" in targets:
        show("LUTs beside DSP48E2s, closed form over netlists of flow dsp:", _with_percent(dsp_summary()))
    show("Syntheses of other RTL of the same functions against recorded netlists, and against what the fits say:",
         _with_percent(reference_errors()).drop(columns="largest_difference"))  # fmt: skip
    show("Area over that of sky130hd, same designs:", _with_percent(library_ratios()).round(4))
    for prices in fitted(targets) if options.prices or options.worst else ():
        title = f"{prices.target}, {prices.group}"
        if options.prices:
            print(f"\n{title}: " + ", ".join(f"{k} {v:.4g}" for k, v in prices.prices.items()))
        if options.worst:
            errors = held_out_errors(prices.group, prices.target)
            order = errors["error"].abs().sort_values(ascending=False).index[: options.worst]
            print(f"\n{title}\n{errors.loc[order].to_string(index=False, formatters=percent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
