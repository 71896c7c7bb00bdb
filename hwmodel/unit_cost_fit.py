"""How wrong unit costs are: ``python -m hwmodel.unit_cost_fit`` leaves formats out and compares with other RTL.

Prices follow the recorded tables, so the figures change when a table grows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hwmodel.unit_cost_errors import error_table, family_table, held_out_errors
from hwmodel.unit_cost_libraries import library_ratios
from hwmodel.unit_cost_prices import fitted, fitted_targets
from hwmodel.unit_cost_truth import reference_errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints errors on formats left out, prices, and the comparison with other RTL."""
    parser = argparse.ArgumentParser(prog="python -m hwmodel.unit_cost_fit", description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", help="one of the recorded targets; all by default")
    parser.add_argument("--prices", action="store_true", help="the price of each part as well")
    parser.add_argument("--worst", type=int, default=0, help="so many of the worst rows of each group")
    options = parser.parse_args(arguments)
    targets = tuple(options.target or fitted_targets())
    unknown = [target for target in targets if target not in fitted_targets()]
    if unknown:
        print(f"error: --target must be one of {', '.join(fitted_targets())}, not {unknown[0]!r}", file=sys.stderr)
        return 2
    percent = {"mean": "{:.1%}".format, "worst": "{:.1%}".format, "error": "{:+.1%}".format}
    print("Rows left out of the fit: formats (all that touch one), numbers of lanes, random tenths:")
    print(error_table(targets).to_string(index=False, formatters=percent))
    print("\nFamilies of hls/rtl and what prices them, formats left out:")
    print(family_table(targets).to_string(index=False, formatters=percent))
    print("\nSyntheses of other RTL of the same functions against what price_pe says without the table:")
    print(reference_errors().to_string(index=False, formatters=percent))
    print("\nArea over that of sky130hd, same designs:")
    print(library_ratios().to_string(index=False))
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
