"""Synthesises the PEs of ``hls/rtl`` and records what they take: ``python -m hls.synthesis --help``.

    python -m hls.synthesis --sweep all --target lut6
    python -m hls.synthesis --sweep all --target sky130hd --liberty sky130hd_tt_025C_1v80.lib.gz
    python -m hls.synthesis --sweep registered --target ecp5

Each regenerates (or completes) ``hwmodel/data/synthesis_<target>.csv``. It can be stopped at any moment and goes on
where it was; rows made from RTL that has changed are made again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from hls.lut_packing import count_luts
from hls.rtl_design import Design
from hls.rtl_designs import SWEEPS, designs
from hls.rtl_reference import check
from hls.rtl_simulation import netlist_of
from hls.synthesis_cells import CELL_FLOWS, CellLibrary, cell_library, cell_rows
from hls.synthesis_ecp5 import ECP5_FLOWS, ecp5_rows
from hls.synthesis_store import add_rows, missing, row_of
from hls.synthesis_yosys import DSP_FLOWS, LUT6_FLOWS, SynthesisError, lut6_commands, require_yosys, run_batch
from hwmodel.synthesis_table import DATA, SynthesisRow

FAILURES = (SynthesisError, NotImplementedError, ValueError)  # of one design; the others go on
DSP_MODULES = frozenset({"int_pair_dot"})  # made for DSP slices: flow dsp alone
CHECK_SEED = 20260101  # of the random part of the stimulus

Measure = Callable[[Sequence[Design], str, Path], list[SynthesisRow]]


def lut6_rows(chosen: Sequence[Design], flow: str, folder: Path) -> list[SynthesisRow]:
    """LUT6 fabric: packed LUTs, carry, flip-flops, DSPs; each netlist is simulated against its reference first."""
    tool = f"yosys {require_yosys()}"
    batch = run_batch(chosen, lut6_commands(flow), folder)
    rows = []
    for design in chosen:
        module = batch.modules[design.name]
        count = count_luts(module)
        checked = check(design, netlist_of(module), np.random.default_rng(CHECK_SEED))
        rows.append(
            replace(
                row_of(design, target="lut6", flow=flow, tool=tool),
                luts=count.luts,
                lut_cells_raw=count.lut_cells,
                carry=count.carry_cells,
                muxes=count.muxes,
                flip_flops=count.flip_flops,
                dsps=count.dsps,
                checked=checked,
            )
        )
    return rows


def sweep(
    chosen: Sequence[Design], *, target: str, flow: str, measure: Measure, folder: Path, batch: int = 16
) -> Iterator[tuple[int, int, str]]:
    """Measures what is missing, batch by batch, and records each batch at once.

    Yields:
        designs done, designs to do, and a message ('' or why a design failed). A batch that fails is tried again in
        halves, down to the design that is to blame.
    """
    todo = missing(chosen, target=target, flow=flow, folder=folder)
    done = 0
    parts = [todo[start : start + batch] for start in range(0, len(todo), batch)][::-1]
    while parts:
        part = parts.pop()
        message = ""
        try:
            _record(part, flow, measure, folder)
        except FAILURES as error:
            message = f"{part[0].name}: {error}"
            if len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
                continue
        done += len(part)
        yield done, len(todo), message


def suited(chosen: Sequence[Design], flow: str) -> list[Design]:
    """Designs that a flow is for: those made for DSP slices go through no other."""
    return [design for design in chosen if flow in DSP_FLOWS or design.module not in DSP_MODULES]


def _record(part: Sequence[Design], flow: str, measure: Measure, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="synthesis_") as work:
        add_rows(measure(part, flow, Path(work)), folder)


def measure_of(target: str, library: CellLibrary | None) -> tuple[Measure, tuple[str, ...]]:
    """How ``target`` is measured, and its flows.

    Raises:
        ValueError: a cell library is missing, or given for an FPGA.
    """
    fpgas: dict[str, tuple[Measure, tuple[str, ...]]] = {
        "lut6": (lut6_rows, tuple(flow for flow in LUT6_FLOWS if flow not in DSP_FLOWS)),
        "ecp5": (ecp5_rows, tuple(ECP5_FLOWS)),
    }
    if target in fpgas:
        if library is not None:
            raise ValueError(f"liberty must be left out for {target}, which is no cell library")
        return fpgas[target]
    if library is None:
        raise ValueError(f"target must be lut6, ecp5, or a cell library given with --liberty, not {target!r}")
    return (lambda chosen, flow, folder: cell_rows(chosen, flow, folder, library)), tuple(CELL_FLOWS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when all is recorded, 1 when a design failed, 2 for a mistake, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m hls.synthesis", description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", nargs="+", default=["all"], help=f"all, or of {', '.join(SWEEPS)}")
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of design names, such as 'int_dot.w4a*.x16'")
    parser.add_argument("--target", required=True, help="lut6, ecp5, or a name for the cell library of --liberty")
    parser.add_argument("--flow", nargs="+", help=f"of {', '.join([*LUT6_FLOWS, *CELL_FLOWS, *ECP5_FLOWS])}")
    parser.add_argument("--liberty", nargs="+", type=Path, help="files of one cell library, plain or .gz")
    parser.add_argument("--dont-use", nargs="*", default=None, help="cell name patterns that must not be used")
    parser.add_argument("--out", type=Path, default=DATA, help="folder of the tables")
    parser.add_argument("--batch", type=int, default=16, help="designs for each run of Yosys")
    options = parser.parse_args(arguments)
    try:
        require_yosys()
        chosen = [
            design
            for design in dict.fromkeys(d for name in options.sweep for d in designs(name))
            if any(fnmatchcase(design.name, pattern) for pattern in options.only)
        ]
        if not chosen:
            raise ValueError(f"only must match a design of {' '.join(options.sweep)}, not {' '.join(options.only)!r}")
        library = cell_library(options.target, options.liberty, options.dont_use) if options.liberty else None
        measure, flows = measure_of(options.target, library)
        unknown = sorted(set(options.flow or ()) - set(flows) - (DSP_FLOWS if options.target == "lut6" else set()))
        if unknown:
            raise ValueError(f"flow of {options.target} must be of {', '.join(flows)}, not {', '.join(unknown)}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = 0
    try:
        for flow in options.flow or flows:
            begin = time.monotonic()
            progress = sweep(
                suited(chosen, flow), target=options.target, flow=flow, measure=measure, folder=options.out,
                batch=options.batch,
            )  # fmt: skip
            for done, total, message in progress:
                failed += bool(message)
                spent = time.monotonic() - begin
                left = spent / done * (total - done)
                print(
                    f"{options.target} {flow}: {done}/{total}, {spent:.0f} s, {left:.0f} s left {message}", flush=True
                )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
