"""Runs the C++ PEs of ``hls/include`` on the vectors that their RTL twins are checked with: ``run`` compares designs.

A ``Unit`` is one C++ struct with the ports of its ``step``; ``compiled`` makes one program of many, which drives each
with its own stimulus. C++ has no pipeline registers, so designs are those without. Needs ``ap_int.h`` (extra ``hls``)
and a C++ compiler.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hls.ap_types import INCLUDE, WARNINGS, ap_types_folder, compile_program, compiler
from hls.rtl_design import RTL, Design
from hls.rtl_reference import REFERENCES
from hls.rtl_vectors import Vectors

REGISTER_SWITCHES = ("INPUT_REGISTER", "PRODUCT_REGISTER")  # RTL parameters that C++ does not have
UNITS_PER_PROGRAM = 32  # more need more memory and time of one compiler run
FLAGS = ("-Og", *WARNINGS)  # compiles in two thirds of -O1's time; the vectors take milliseconds either way
WORD_BITS = 64  # of the files between Python and the program
Outputs = Mapping[str, tuple[np.ndarray, int]]  # by port: unsigned integers [cycles, cases], and the width in bits

DRIVER = Path(__file__).parent / "templates" / "csim_driver.h"


@dataclass(frozen=True)
class Unit:
    """One C++ struct to be driven.

    Args:
        name: how messages call it.
        cpp: its type, qualified; ``arithmetic_pe<...>`` makes a PE of an arithmetic.
        header: where it is, such as ``codesign/integer.h``, or a path.
        inputs, outputs: port names in the order of ``step``'s arguments (inputs before outputs).
    """

    name: str
    cpp: str
    header: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


ARITHMETIC_PORTS = (("clear", "weight", "activation", "selector"), ("sum", "value"))


def arithmetic_unit(cpp: str, header: str) -> Unit:
    """The PE of an arithmetic of ``layer.h`` whose codes are elements."""
    return Unit(cpp, f"arithmetic_pe<{cpp}>", header, *ARITHMETIC_PORTS)


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
    return Unit(design.name, cpp, f"codesign/{module.file}.h", module.inputs, module.outputs)


def _argument(value: int | str, chosen: Mapping[str, int | str]) -> str:
    """A parameter as a template argument; a table of ``2**CODE_BITS`` entries as a type."""
    found = re.fullmatch(r"(\d+)'h([0-9a-f]+)", str(value))
    if found is None:
        return str(value)
    entries = 1 << int(chosen.get("CODE_BITS", 4))  # the default of both codebook modules
    width, table = int(found[1]) // entries, int(found[2], 16)
    rows = [table >> (width * i) & ((1 << width) - 1) for i in range(entries)]
    return f"codesign::fixed_table<{', '.join(str(row) for row in rows)}>"


# --- running ---------------------------------------------------------------------------------------------------------


def program_text(units: Sequence[Unit]) -> str:
    """The C++ program that drives ``units``."""
    headers = sorted({"codesign/types.h", *(unit.header for unit in units)})
    cases = [f"    case {i}: return drive(&{unit.cpp}::step, file);" for i, unit in enumerate(units)]
    return "\n".join(
        [
            *(f"#include <{header}>" for header in headers),
            DRIVER.read_text(encoding="utf-8"),
            "std::vector<word> run_unit(int unit, const std::vector<word>& file) {",
            "  switch (unit) {",
            *cases,
            "    default: std::exit(5);",
            "  }",
            "}",
            "",
        ]
    )


@dataclass(frozen=True)
class Program:
    """A compiled program and the units that it drives."""

    path: Path
    units: tuple[Unit, ...]

    def drive(self, unit: Unit, stimulus: Mapping[str, np.ndarray]) -> Outputs:
        """Outputs of ``unit`` for ``stimulus``: by input port, bool ``[cycles, cases, width]``.

        Raises:
            ValueError: an input is missing, or has another width in C++.
        """
        words = _words(stimulus, unit)
        command = [str(self.path), str(self.units.index(unit))]
        done = subprocess.run(command, input=words, capture_output=True, check=False)
        if done.returncode:
            message = done.stderr.decode().strip() or f"the program must end with status 0, not {done.returncode}"
            raise ValueError(f"{unit.name}: {message}")
        return _ports(done.stdout, unit, stimulus[unit.inputs[0]].shape[:2])


@contextmanager
def compiled(units: Sequence[Unit], *, builds: Path | None = None, ap_types: Path | None = None) -> Iterator[Program]:
    """Compiles ``units`` into one program.

    Args:
        units: structs.
        builds: folder in which programs are kept, under the hash of all they are made of; without it the program lives
            as long as the context.
        ap_types: as for ``hls.ap_types.ap_types_folder``.

    Raises:
        FileNotFoundError: headers or compiler are missing.
        CompileError: a unit does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="csim_pe_") as folder:
        source, program = Path(folder) / "csim_pe.cpp", Path(folder) / "csim_pe"
        source.write_text(program_text(units), encoding="utf-8")
        kept = program if builds is None else builds / f"csim_pe_{_digest(source, units, ap_types)}"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f".{uuid.uuid4().hex}.part")
            compile_program([source], part, ap_types=ap_types, flags=FLAGS)
            part.replace(kept)  # whole or not there, whoever else makes it
        yield Program(kept, tuple(units))


def _digest(source: Path, units: Sequence[Unit], ap_types: Path | None) -> str:
    digest = hashlib.sha256("\0".join([compiler(), str(ap_types_folder(ap_types)), *FLAGS]).encode())
    others = {Path(unit.header) for unit in units if Path(unit.header).is_file()}  # headers given by path
    for file in (source, *sorted(INCLUDE.rglob("*.h")), *sorted(others)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _words(stimulus: Mapping[str, np.ndarray], unit: Unit) -> bytes:
    """Stimulus as the program reads it: cycles, cases, number and widths of ports; then by case, cycle and port."""
    missing = sorted(set(unit.inputs) - set(stimulus))
    if missing:
        raise ValueError(f"stimulus of {unit.name} must have every input, not without {missing!r}")
    cycles, cases = stimulus[unit.inputs[0]].shape[:2]
    packed = []
    for port in unit.inputs:
        bits = np.moveaxis(np.broadcast_to(stimulus[port], (cycles, cases, stimulus[port].shape[2])), 0, 1)
        bits = np.pad(bits, ((0, 0), (0, 0), (0, -bits.shape[2] % WORD_BITS)))
        packed.append(np.packbits(bits, axis=2, bitorder="little"))
    head = [cycles, cases, len(unit.inputs), *(stimulus[port].shape[2] for port in unit.inputs)]
    return np.array(head, "<u8").tobytes() + np.concatenate(packed, axis=2).tobytes()


def _ports(answer: bytes, unit: Unit, shape: tuple[int, int]) -> Outputs:
    """By output port: unsigned integers ``[cycles, cases]`` and the width."""
    words = np.frombuffer(answer, "<u8")
    widths = [int(width) for width in words[: len(unit.outputs)]]
    cycles, cases = shape
    rows = words[len(widths) :].reshape(cases, cycles, -1)
    found: dict[str, tuple[np.ndarray, int]] = {}
    first = 0
    for port, width in zip(unit.outputs, widths, strict=True):
        count = -(-width // WORD_BITS)
        value = rows[:, :, first].T
        if width > WORD_BITS - 1:
            value = np.sum([rows[:, :, first + i].T.astype(object) << (WORD_BITS * i) for i in range(count)], axis=0)
        found[port] = (value if width > WORD_BITS - 1 else value.astype(np.int64), width)
        first += count
    return found


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


def simulate(
    units: Sequence[Unit],
    stimuli: Sequence[Mapping[str, np.ndarray]],
    *,
    builds: Path | None = None,
    ap_types: Path | None = None,
) -> list[Outputs]:
    """Outputs of each unit for its stimulus; ``UNITS_PER_PROGRAM`` are compiled together.

    Args:
        units: structs.
        stimuli: as for ``Program.drive``.
        builds, ap_types: as for ``compiled``.

    Raises:
        FileNotFoundError, CompileError, ValueError: as for ``compiled`` and ``Program.drive``.
    """
    found: list[Outputs] = []
    for first in range(0, len(units), UNITS_PER_PROGRAM):
        batch = units[first : first + UNITS_PER_PROGRAM]
        with compiled(batch, builds=builds, ap_types=ap_types) as program:
            found += [program.drive(unit, stimulus) for unit, stimulus in zip(batch, stimuli[first:], strict=False)]
    return found


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
