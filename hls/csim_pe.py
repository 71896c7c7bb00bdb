"""Runs the C++ PEs of ``hls/include`` on the vectors that their RTL twins are checked with: ``run`` compares designs.

C++ has no pipeline registers, so designs are those without. Needs ``ap_int.h`` (extra ``hls``) and a C++ compiler.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hls.pe_program import Outputs, Unit, compiled
from hls.rtl_design import RTL, Design
from hls.rtl_reference import REFERENCES
from hls.rtl_vectors import Vectors

REGISTER_SWITCHES = ("INPUT_REGISTER", "PRODUCT_REGISTER")  # RTL parameters that C++ does not have
FLOAT_ENTRY_BITS = 16  # of a table of floats, which says no width
TWINS = Path(__file__).parent / "templates" / "csim_twins.h"  # modules that headers have as mappings and arithmetics
TWIN_FILES = ("int_pair", "mixture", "vector_codebook")  # of hls/rtl, whose modules are there
UNITS_PER_PROGRAM = 32  # more need more memory and time of one compiler run


@dataclass(frozen=True)
class Mismatch:
    """An output that is not what it must be."""

    unit: str
    port: str
    cycle: int
    case: int
    found: int
    expected: int

    def __str__(self) -> str:
        return (
            f"{self.port} of {self.unit} must be {self.expected} in cycle {self.cycle}, case {self.case}, "
            f"not {self.found}"
        )


@dataclass(frozen=True)
class Comparison:
    """What came of one unit.

    Args:
        unit: its name.
        compared: output values that were compared.
        wrong: how many of them differ.
        mismatches: the first of each port.
    """

    unit: str
    compared: int
    wrong: int
    mismatches: tuple[Mismatch, ...]


# --- designs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Module:
    """What the header of an RTL module says: file, parameters with defaults, ports without the clock."""

    file: str
    parameters: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@cache
def _modules() -> Mapping[str, _Module]:
    found = {}
    for path in sorted(RTL.glob("*.sv")):
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        for name, header in re.findall(r"^module\s+(\w+)\s*(.*?\)\s*;)", text, re.MULTILINE | re.DOTALL):
            parameters = re.findall(r"\bparameter\s+\w+\s*(?:\[[^\]]*\])?\s*(\w+)\s*=\s*([^,\n]+)", header)
            ports = re.findall(r"\b(input|output)\b[^,]*?(\w+)\s*(?=,|\)\s*;)", header)
            ports = [port for port in ports if port[1] != "clk"]
            found[name] = _Module(
                path.stem,
                dict(parameters),
                tuple(port for direction, port in ports if direction == "input"),
                tuple(port for direction, port in ports if direction == "output"),
            )
    return found


def unit_of(design: Design, *, extra: Sequence[str] = ()) -> Unit:
    """The C++ twin of a design.

    Args:
        design: without pipeline registers.
        extra: C++ template arguments after those of the RTL.

    Raises:
        ValueError: the design has registers inside, which C++ has not.
    """
    module = _modules()[design.module]
    chosen = {name: value for name, value in design.parameters if name not in REGISTER_SWITCHES}
    if any(value for name, value in design.parameters if name in REGISTER_SWITCHES):
        raise ValueError(f"a design must have no registers inside to be run in C++, not as {design.name} has")
    names = [name for name in module.parameters if name not in REGISTER_SWITCHES]
    last = max((names.index(name) for name in chosen), default=-1)
    values = [_argument(chosen.get(name, module.parameters[name]), chosen) for name in names[: last + 1]]
    cpp = f"codesign::{design.module}"
    if names:
        cpp += f"<{', '.join([*values, *extra])}>"
    header = str(TWINS) if module.file in TWIN_FILES else f"codesign/{module.file}.h"
    return Unit(design.name, cpp, header, module.inputs, module.outputs)


def _argument(value: int | str, chosen: Mapping[str, int | str]) -> str:
    """A parameter as a template argument; a table as a type."""
    found = re.fullmatch(r"(\d+)'h([0-9a-f]+)", str(value))
    if found is None:
        return str(value)
    width, table = int(chosen.get("ENTRY_BITS", FLOAT_ENTRY_BITS)), int(found[2], 16)
    entries = int(found[1]) // width
    rows = [table >> (width * i) & ((1 << width) - 1) for i in range(entries)]
    return f"codesign::fixed_table<{', '.join(str(row) for row in rows)}>"


# --- running ---------------------------------------------------------------------------------------------------------


def compare(unit: Unit, vectors: Vectors, found: Outputs) -> Comparison:
    """What a program made of ``vectors.stimulus`` beside what it must make."""
    compared, wrong, first = 0, 0, []
    for port, expected in vectors.expected.items():
        got, width = found[port]
        if vectors.signed and port not in vectors.unsigned_ports:
            got = got - (((got >> (width - 1)) & 1) << width)
        chosen = vectors.compared_ports.get(port, vectors.compared)
        chosen = np.ones(got.shape, bool) if chosen is None else chosen
        places = np.argwhere((got != expected).astype(bool) & chosen)
        compared += int(chosen.sum())
        wrong += len(places)
        if len(places):
            cycle, case = (int(place) for place in places[0])
            first.append(Mismatch(unit.name, port, cycle, case, int(got[cycle, case]), int(expected[cycle, case])))
    return Comparison(unit.name, compared, wrong, tuple(first))


def run(
    designs: Sequence[Design], *, seed: int = 7, builds: Path | None = None, extra: Sequence[str] = ()
) -> list[Comparison]:
    """Compares the C++ twin of each design with its reference, on the vectors of the RTL check.

    Args:
        designs: without pipeline registers.
        seed: of the random part of the vectors.
        builds: as for ``compiled``.
        extra: as for ``unit_of``.

    Raises:
        FileNotFoundError, CompileError: as for ``compiled``.
        ValueError: a design has registers inside, or a port another width in C++.
    """
    found = []
    for first in range(0, len(designs), UNITS_PER_PROGRAM):
        units = {unit_of(design, extra=extra): design for design in designs[first : first + UNITS_PER_PROGRAM]}
        with compiled(list(units), builds=builds) as program:
            for unit, design in units.items():
                vectors = REFERENCES[design.module](design, np.random.default_rng(seed))
                found.append(compare(unit, vectors, program.drive(unit, vectors.stimulus)))
    return found
