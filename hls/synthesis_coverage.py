"""Which designs of the declared sweeps have a recorded row, and which do not: ``python -m hls.synthesis_coverage``.

    python -m hls.synthesis_coverage                                    # every sweep on every recorded target
    python -m hls.synthesis_coverage --target lut6 --sweep decoded --absent

A row counts if it was made from today's RTL, in whatever flow. Nothing is synthesised.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hls.rtl_design import Design
from hls.rtl_designs import SWEEPS, designs
from hls.synthesis import suited
from hwmodel.synthesis_table import DATA, recorded_targets, synthesis_rows

# Sweeps that a target is for, where that is not all: its frequencies are ratios of registered designs
SWEEPS_OF = {"ecp5": ("registered",)}


@dataclass(frozen=True)
class Coverage:
    """A sweep on a target.

    Args:
        sweep, target: by name.
        flows: recorded designs in each flow.
        recorded: designs with a row in any flow.
        absent: names of the others.
    """

    sweep: str
    target: str
    flows: tuple[tuple[str, int], ...]
    recorded: int
    absent: tuple[str, ...]

    @property
    def declared(self) -> int:
        """Designs of the sweep that the target is for."""
        return self.recorded + len(self.absent)


def declared(sweep: str, target: str) -> list[Design]:
    """Designs of a sweep that a target is for: none of packed pairs where there are no DSPs."""
    chosen = designs(sweep)
    if sweep not in SWEEPS_OF.get(target, (sweep,)):
        return []
    return suited(chosen, "dsp" if target == "lut6" else "")


def coverage(sweeps: Iterable[str], targets: Iterable[str], folder: Path = DATA) -> Iterator[Coverage]:
    """Coverage of each sweep on each target that it is for.

    Raises:
        ValueError: no such sweep, or nothing is recorded for a target.
    """
    chosen = tuple(sweeps)
    for target in targets:
        rows = {(row.design, row.rtl, row.flow) for row in synthesis_rows(target, folder)}
        known = {(name, rtl) for name, rtl, _ in rows}
        flows = sorted({flow for *_, flow in rows})
        for sweep in chosen:
            wanted = declared(sweep, target)
            if not wanted:
                continue
            counts = {flow: sum((one.name, one.rtl, flow) in rows for one in wanted) for flow in flows}
            absent = tuple(one.name for one in wanted if (one.name, one.rtl) not in known)
            used = tuple((flow, count) for flow, count in counts.items() if count)
            yield Coverage(sweep, target, used, len(wanted) - len(absent), absent)


def total(target: str, folder: Path = DATA) -> tuple[int, int]:
    """Designs with a row and designs declared, of all sweeps of a target; a design of two sweeps once."""
    names = {one.name for sweep in SWEEPS for one in declared(sweep, target)}
    absent = {name for each in coverage(SWEEPS, [target], folder) for name in each.absent}
    return len(names) - len(absent), len(names)


def table(found: Collection[Coverage]) -> str:
    """Sweeps down, targets across: recorded of declared."""
    targets = list(dict.fromkeys(each.target for each in found))
    lines = [["sweep", *targets]]
    for sweep in dict.fromkeys(each.sweep for each in found):
        cells = {each.target: f"{each.recorded}/{each.declared}" for each in found if each.sweep == sweep}
        lines.append([sweep, *(cells.get(target, "-") for target in targets)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(targets) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m hls.synthesis_coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", nargs="+", default=list(SWEEPS), help=f"of {', '.join(SWEEPS)}; all by default")
    parser.add_argument("--target", nargs="+", help="recorded targets; all by default")
    parser.add_argument("--out", type=Path, default=DATA, help="folder of the tables")
    parser.add_argument("--absent", action="store_true", help="name the designs without a row, and count each flow")
    options = parser.parse_args(arguments)
    targets = options.target or recorded_targets(options.out)
    try:
        found = list(coverage(options.sweep, targets, options.out))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(found))
    if set(options.sweep) == set(SWEEPS):
        for target in targets:
            recorded, wanted = total(target, options.out)
            print(f"{target}: {recorded} of {wanted} designs have a row")
    for each in found if options.absent else ():
        flows = ", ".join(f"{flow} {count}" for flow, count in each.flows) or "none"
        print(f"\n{each.target} {each.sweep}: {each.recorded} of {each.declared}; flows: {flows}")
        print("".join(f"  {name}\n" for name in each.absent), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
