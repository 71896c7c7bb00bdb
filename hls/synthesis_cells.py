"""Standard cells: area from Yosys and a Liberty file; delay and vectorless power from OpenSTA where it is installed.

A Liberty file is always given by path, since most may not be redistributed. Areas are sums of cell areas, without
routing. Delays are of the critical path with ideal wires and clock, inputs at time 0. Power is OpenSTA's estimate from
switching activity that spreads from the inputs: good for ranking.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hls.rtl_design import Design
from hls.synthesis_store import row_of
from hls.synthesis_yosys import SynthesisError, require_yosys, run_batch
from hwmodel.synthesis_table import SynthesisRow

# Booth recoding pays above about 5 bits; small multipliers and minifloats are a little smaller without.
CELL_FLOWS: Mapping[str, str] = {"booth": "-booth", "plain": "", "booth_twice": "-booth"}
# Mapping nearly equal netlists gives areas that differ by 10 to 20 % now and then (the same design beside other ones),
# and a second start the smaller of both: Yosys' own script, whose cells are made into gates and mapped again.
_MAPPED = "&get,-n;&dch,-f;&nf;&put"
ABC_SCRIPTS: Mapping[str, str] = {
    "booth_twice": f"+strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash;{_MAPPED};strash;dc2;{_MAPPED};topo",
}
# Cells that are no plain logic: power gating and probes of sky130, which mapping would otherwise pick
DONT_USE = ("*lpflow*", "*probe*")
CLOCK_PERIOD_NS = 4.0  # 250 MHz, for power; delays do not depend on it
INPUT_ACTIVITY = 0.1  # transitions of each input a cycle
STA_NAMES = ("sta", "opensta")


@dataclass(frozen=True)
class CellLibrary:
    """A cell library.

    Args:
        name: the target's name in the tables.
        files: plain Liberty files.
        dont_use: cell name patterns.
    """

    name: str
    files: tuple[Path, ...]
    dont_use: tuple[str, ...]


def cell_library(name: str, paths: Sequence[Path], dont_use: Sequence[str] | None = None) -> CellLibrary:
    """The library in ``paths``; ``.gz`` files are unpacked into a folder that lives as long as the process.

    Raises:
        ValueError: a file is missing or no Liberty file, or the name does not suit a file name.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"target must be lower-case letters, digits and _, not {name!r}")
    files = []
    for path in paths:
        if not path.is_file():
            raise ValueError(f"liberty must be files, not {str(path)!r}")
        plain = path
        if path.suffix == ".gz":
            plain = Path(_scratch().name) / path.stem
            with gzip.open(path) as packed, plain.open("wb") as file:
                shutil.copyfileobj(packed, file)
        if not re.search(rb"^\s*library\s*\(", plain.read_bytes(), re.MULTILINE):
            raise ValueError(f"liberty must hold a library, not {path.name!r}")
        files.append(plain)
    return CellLibrary(name, tuple(files), DONT_USE if dont_use is None else tuple(dont_use))


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="liberty_")


def cell_commands(flow: str, library: CellLibrary) -> tuple[str, ...]:
    """Commands from the elaborated designs to cells."""
    if flow not in CELL_FLOWS:
        raise ValueError(f"flow must be one of {', '.join(CELL_FLOWS)}, not {flow!r}")
    files = " ".join(f"-liberty {path}" for path in library.files)
    avoid = " ".join(f"-dont_use {pattern}" for pattern in library.dont_use)
    return (
        f"synth -flatten -top batch {CELL_FLOWS[flow]}",
        f"dfflibmap {files} {avoid}",
        f"abc {files} {avoid}" + (f" -script {ABC_SCRIPTS[flow]}" if flow in ABC_SCRIPTS else ""),
        "opt_clean",
    )


def cell_rows(chosen: Sequence[Design], flow: str, folder: Path, library: CellLibrary) -> list[SynthesisRow]:
    """Area, and where OpenSTA is installed delay and power."""
    tool = f"yosys {require_yosys()}"
    batch = run_batch(chosen, cell_commands(flow, library), folder, liberty=library.files)
    timing: Mapping[str, tuple[float | None, float | None]] = {}
    if sta_program() is not None:
        timing = sta_timing(chosen, folder, library)
        tool += f" + opensta {sta_version()}"
    rows = []
    for design in chosen:
        area = batch.areas[design.name]
        delay_ps, power_mw = timing.get(design.name, (None, None))
        rows.append(
            replace(
                row_of(design, target=library.name, flow=flow, tool=tool),
                area_um2=float(area["area"]),
                area_sequential_um2=float(area["sequential_area"]),
                cells=int(area["num_cells"]),
                flip_flops=_flip_flops(batch.modules[design.name]),
                delay_ps=delay_ps,
                power_mw=power_mw,
                power_clock_hz=None if power_mw is None else 1e9 / CLOCK_PERIOD_NS,
                power_activity=None if power_mw is None else INPUT_ACTIVITY,
                max_frequency_hz=1e12 / delay_ps if delay_ps and design.registered_inputs else None,
            )
        )
    return rows


def _flip_flops(module: Mapping) -> int:
    """Cells with a clock pin: one bit each."""
    clock = set(module["ports"].get("clk", {}).get("bits", ()))
    return sum(
        1
        for cell in module["cells"].values()
        if any(bit in clock for bits in cell["connections"].values() for bit in bits)
    )


def sta_program() -> str | None:
    """OpenSTA's path, or ``None``."""
    return next((found for name in STA_NAMES if (found := shutil.which(name))), None)


@cache
def sta_version() -> str:
    """What OpenSTA says of itself."""
    program = sta_program()
    assert program is not None
    text = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False).stdout
    return text.split()[0] if text.split() else "unknown"


def sta_script(chosen: Sequence[Design], folder: Path, library: CellLibrary) -> str:
    """Tcl for one run over all designs of a batch; each prints ``RESULT name slack`` and its power table."""
    lines = [f"read_liberty {path}" for path in library.files]
    for i, design in enumerate(chosen):
        clocked = design.pipeline_stages > 0
        lines += [f"read_verilog {folder / f'design{i}.v'}", f"link_design design{i}"]
        if clocked:
            lines += [
                f"create_clock -name clk -period [expr {CLOCK_PERIOD_NS} * $ns] [get_ports clk]",
                "set inputs {}",
                'foreach port [all_inputs] { if {[get_property $port full_name] != "clk"} { lappend inputs $port } }',
            ]
        else:
            lines += [
                f"create_clock -name clk -period [expr {CLOCK_PERIOD_NS} * $ns]",
                "set inputs [all_inputs]",
            ]
        lines += [
            "set_input_delay 0 -clock clk $inputs",
            "set_output_delay 0 -clock clk [all_outputs]",
            f"set_power_activity -input -activity {INPUT_ACTIVITY}",
            f'puts "DESIGN {i}"',
            "report_worst_slack -digits 5",
            "report_power -digits 5",
        ]
    lines.append("exit")
    return "\n".join(lines) + "\n"


def sta_timing(
    chosen: Sequence[Design], folder: Path, library: CellLibrary
) -> dict[str, tuple[float | None, float | None]]:
    """Critical path in ps and power in mW of each design in ``folder/netlist.v``.

    Raises:
        SynthesisError: OpenSTA failed.
    """
    program = sta_program()
    if program is None:
        raise ValueError("OpenSTA must be installed (Debian package opensta), not missing")
    unit_ps = library_time_unit_ps(library)
    # One file for each design, since linking drops the others; this reader knows no signed wires.
    text = (folder / "netlist.v").read_text(encoding="utf-8").replace(" signed ", " ")
    for found in re.finditer(r"^module (design\d+)\b.*?^endmodule", text, re.MULTILINE | re.DOTALL):
        (folder / f"{found[1]}.v").write_text(found[0] + "\n", encoding="utf-8")
    script = folder / "sta.tcl"
    script.write_text(f"set ns {1000 / unit_ps:g}\n" + sta_script(chosen, folder, library), encoding="utf-8")
    done = subprocess.run(
        [program, "-no_splash", "-exit", str(script)], capture_output=True, text=True, timeout=3600, check=False
    )
    if done.returncode:
        raise SynthesisError(f"OpenSTA failed: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    return _parse_sta(done.stdout, chosen, unit_ps)


def _parse_sta(text: str, chosen: Sequence[Design], unit_ps: float) -> dict[str, tuple[float | None, float | None]]:
    found: dict[str, tuple[float | None, float | None]] = {}
    sections = re.split(r"^DESIGN (\d+)\n", text, flags=re.MULTILINE)[1:]
    for number, section in zip(sections[::2], sections[1::2], strict=True):
        slack = re.search(r"^worst slack\s+(?:max\s+)?(-?[\d.eE+-]+)", section, re.MULTILINE)
        power = re.search(r"^Total\s+(?:\S+\s+){3}(\S+)", section, re.MULTILINE)
        found[chosen[int(number)].name] = (
            CLOCK_PERIOD_NS * 1000 - float(slack[1]) * unit_ps if slack else None,
            float(power[1]) * 1e3 if power else None,
        )
    return found


def library_time_unit_ps(library: CellLibrary) -> float:
    """The library's time unit in ps.

    Raises:
        ValueError: it says none.
    """
    found = re.search(rb'time_unit\s*:\s*"?(\d+)\s*(ps|ns)"?', library.files[0].read_bytes())
    if found is None:
        raise ValueError(f"liberty must state its time_unit, not leave it out: {library.files[0].name!r}")
    return int(found[1]) * (1000.0 if found[2] == b"ns" else 1.0)
