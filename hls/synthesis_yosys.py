"""Yosys as the synthesis scripts use it: batches of designs through one flow, for LUT fabrics and for cell libraries.

Yosys comes as the wheel ``pyosys`` (extra ``synth``). Versions before 0.70 map multipliers far worse and are refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hls.rtl_design import RTL, Design, source_files

OLDEST_YOSYS = (0, 70)
ROWPAIR_MAP = RTL / "rowpair_map.v"
PREPARE = ("proc", "flatten", "opt", "wreduce", "opt_clean")
# synth_xilinx without its memory stages: no design has one, and reading their libraries takes longer than the rest
_XILINX = "synth_xilinx -family xcup -top batch -noiopad -noclkbuf -flatten"
_ROWPAIR = (f"techmap -autoproc -map {ROWPAIR_MAP}", "opt")
_ROWPAIR_GATES = (*_ROWPAIR, "select -set chains t:$alu", "techmap t:* @chains %d", "opt -full")
_GATES = (*_ROWPAIR, "techmap", "opt -full")
_ROUND = "dch,-f;if,-K,6,-a;mfs2,-a,-e"
_ROUNDS = f"strash;ifraig;scorr;dc2;{_ROUND};strash;{_ROUND};strash;{_ROUND};lutpack,-S,1"


@dataclass(frozen=True)
class Lut6Flow:
    """What a flow adds to ``synth_xilinx``.

    Args:
        before: commands ahead of it.
        before_memories: commands behind its coarse stage, which has chosen the DSPs by then.
        dsps: whether products may go into DSPs.
        wide_muxes: whether multiplexers may join two or four LUTs.
    """

    before: tuple[str, ...] = ()
    before_memories: tuple[str, ...] = ()
    dsps: bool = False
    wide_muxes: bool = True


LUT6_FLOWS: Mapping[str, Lut6Flow] = {
    "rowpair": Lut6Flow(_ROWPAIR),
    "default": Lut6Flow(),
    "booth": Lut6Flow(("booth", "opt")),
    # Shifters, decoders and selectors become gates before anything else is mapped, so that they are optimised together;
    # adders stay on carry chains, or ("gates") become gates as well, which small products gain from.
    "rowpair_gates": Lut6Flow(_ROWPAIR_GATES),
    "gates": Lut6Flow(_GATES),
    # The same onto LUTs alone: with multiplexers that join two or four of them small products take up to a third more.
    "gates_nomux": Lut6Flow(_GATES, wide_muxes=False),
    # Gates mapped onto LUTs for area and minimised by don't-cares, three times, before the flow's own mapping.
    "gates_rounds": Lut6Flow((*_GATES, f"abc -lut 6 -script +{_ROUNDS}", "opt"), wide_muxes=False),
    # Gates simplified as gates first: a second start, since netlists differ by a tenth with what a mapper begins with.
    "gates_twice": Lut6Flow((*_GATES, "abc -g AND,XOR,MUX", "opt"), wide_muxes=False),
    "rowpair_gates_nomux": Lut6Flow(_ROWPAIR_GATES, wide_muxes=False),
    "dsp": Lut6Flow(dsps=True),
    # Sums become carry chains before DSPs are chosen, where Yosys would merge three terms into wide compressors; then
    # the products that are left become row pairs.
    "dsp_chains": Lut6Flow(
        (f"techmap -autoproc -map {ROWPAIR_MAP} t:$add t:$sub", "opt"), before_memories=_ROWPAIR, dsps=True
    ),
}
DSP_FLOWS = frozenset(name for name, flow in LUT6_FLOWS.items() if flow.dsps)


class SynthesisError(RuntimeError):
    """A tool failed; the message holds its last lines."""


def yosys_version() -> str | None:
    """Version of the installed wheel, or ``None``."""
    try:
        return importlib.metadata.version("pyosys")
    except importlib.metadata.PackageNotFoundError:
        return None


def require_yosys() -> str:
    """The version, or one sentence.

    Raises:
        ValueError: it is missing or too old.
    """
    version = yosys_version()
    if version is None or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_YOSYS:
        raise ValueError(f"pyosys must be installed, 0.70 or newer (pip install 'codesign[synth]'), not {version}")
    return version


def lut6_commands(flow: str) -> tuple[str, ...]:
    """Commands from the elaborated designs to LUT6, carry chains and flip-flops.

    Raises:
        ValueError: no such flow.
    """
    if flow not in LUT6_FLOWS:
        raise ValueError(f"flow must be one of {', '.join(LUT6_FLOWS)}, not {flow!r}")
    chosen = LUT6_FLOWS[flow]
    xilinx = f"{_XILINX}{'' if chosen.dsps else ' -nodsp'}{'' if chosen.wide_muxes else ' -nowidelut'} -run "
    mapping = [f"{xilinx}begin:map_memory"]
    if chosen.before_memories:
        mapping = [f"{xilinx}begin:coarse", *chosen.before_memories, f"{xilinx}coarse:map_memory"]
    return (*PREPARE, *chosen.before, *mapping, f"{xilinx}map_ffram:check")


@dataclass(frozen=True)
class Batch:
    """What a batch left behind: the netlists, by design name.

    Args:
        modules: Yosys JSON of each design's module (empty if not asked for).
        areas: what ``stat`` says of each module (empty if not asked for).
    """

    modules: Mapping[str, Mapping]
    areas: Mapping[str, Mapping]


def run_batch(
    designs: Sequence[Design],
    commands: Sequence[str],
    folder: Path,
    *,
    liberty: Sequence[Path] = (),
    timeout_s: int = 3600,
) -> Batch:
    """Synthesises ``designs`` together.

    Args:
        designs: of different names.
        commands: passes after elaboration.
        folder: for the files of the job; ``design<i>`` is the i-th design in ``netlist.v`` and ``netlist.json``.
        liberty: cell libraries; with them, areas and a Verilog netlist are written.

    Raises:
        SynthesisError: Yosys failed.
    """
    names = {f"design{i}": design for i, design in enumerate(designs)}
    files = sorted({file for design in designs for file in source_files(design.module)})
    job: dict = {
        "batch": str(folder / "batch.sv"),
        "sources": [str(RTL / file) for file in files],
        "instances": {name: design.instance for name, design in names.items()},
        "commands": list(commands),
        "json": str(folder / "netlist.json"),
    }
    if liberty:
        job["stat"] = str(folder / "stat.json")
        job["stat_arguments"] = " ".join(f"-liberty {path}" for path in liberty)
        job["verilog"] = str(folder / "netlist.v")
    run_job(job, folder, timeout_s=timeout_s)
    found = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))["modules"]
    areas = json.loads((folder / "stat.json").read_text(encoding="utf-8"))["modules"] if liberty else {}
    return Batch(
        {design.name: found[name] for name, design in names.items()},
        {design.name: areas[f"\\{name}"] for name, design in names.items()} if liberty else {},
    )


def run_job(job: Mapping, folder: Path, *, timeout_s: int = 3600) -> None:
    """One job in a process of its own; its log is ``folder/yosys.log``.

    Raises:
        SynthesisError: it failed or took longer than ``timeout_s``.
    """
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    log = folder / "yosys.log"
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "hls.yosys_worker", str(path)],
                cwd=RTL.parent.parent, stdout=output, stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SynthesisError(f"Yosys must finish within {timeout_s} s, not longer: {log}") from None
    if done.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise SynthesisError(f"Yosys failed: {' / '.join(tail)}")
