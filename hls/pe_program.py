"""C++ PEs compiled into one program that drives each of them with its own stimulus.

A ``Unit`` is one C++ struct with the ports of its ``step``; ``compiled`` makes one program of many. Needs ``ap_int.h``
(extra ``hls``) and a C++ compiler.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hls.ap_types import INCLUDE, WARNINGS, ap_types_folder, compile_program, compiler

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
def compiled(units: Sequence[Unit], *, builds: Path | None = None) -> Iterator[Program]:
    """Compiles ``units`` into one program.

    Args:
        units: structs.
        builds: folder in which programs are kept, under the hash of all they are made of; without it the program lives
            as long as the context.

    Raises:
        FileNotFoundError: headers or compiler are missing.
        CompileError: a unit does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="csim_pe_") as folder:
        source, program = Path(folder) / "csim_pe.cpp", Path(folder) / "csim_pe"
        source.write_text(program_text(units), encoding="utf-8")
        kept = program if builds is None else builds / f"csim_pe_{_digest(source, units)}"
        if not kept.is_file():
            compile_program([source], kept, flags=FLAGS)
        yield Program(kept, tuple(units))


def _digest(source: Path, units: Sequence[Unit]) -> str:
    digest = hashlib.sha256("\0".join([compiler(), str(ap_types_folder()), *FLAGS]).encode())
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
