"""Netlists of what stands around the PEs of an exported layer: ``python -m hls.structure_netlists``.

``hls/rtl/structure.sv`` and ``float_divider.sv``: conversions of sums to float32, dividers, multiplexers over the codes
of a word and windows over two beats, through the LUT6 flow of ``hls.synthesis``; each netlist is compared with numpy
before it is counted. ``data/structure_lut6.csv`` holds them, and the command makes those again whose RTL has changed.
Prices of other widths follow from a few of them (``hls.structure_prices``), and the others say how wrong such a price
is. Registers of a pipeline are counted elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

from hls.lut_packing import count_luts
from hls.rtl_design import Design
from hls.rtl_simulation import Netlist, bits_of, integers_of, netlist_of
from hls.synthesis_yosys import lut6_commands, require_yosys, run_batch

TABLE = Path(__file__).parent / "data" / "structure_lut6.csv"
FLOW, CASES, SEED = "rowpair", 4096, 20260102


@dataclass(frozen=True)
class StructureRow:
    """A recorded netlist.

    Args:
        design: module and parameters.
        luts: packed LUT6 sites.
        checked: outputs that were compared with numpy, all equal.
        rtl: first digits of the hash of the source.
        tool: that made it.
    """

    design: str
    luts: int
    checked: int
    rtl: str
    tool: str


def _design(module: str, **parameters: int) -> Design:
    label = "_".join(f"{key.lower()}{value}" for key, value in parameters.items()) or "float32"
    return Design(module, tuple(parameters.items()), label, "", "")


def sum_to_float(bits: int) -> Design:
    """An integer to float32."""
    return _design("sum_to_float", BITS=bits)


def code_picker(ways: int, bits: int) -> Design:
    """One of ``ways`` codes."""
    return _design("code_picker", WAYS=ways, BITS=bits)


def line_window(unit: int, count: int, beat: int) -> Design:
    """``count`` units out of two beats."""
    return _design("line_window", UNIT=unit, COUNT=count, BEAT=beat)


DIVIDER = _design("float_divider")
# What prices are made of, and what they are compared with
USED = (DIVIDER, sum_to_float(12), sum_to_float(32), *(code_picker(ways, 4) for ways in (2, 4, 8, 16, 32)),
        line_window(32, 16, 512), line_window(16, 8, 128), line_window(16, 4, 64))  # fmt: skip
COMPARED = (sum_to_float(16), sum_to_float(20), sum_to_float(24), code_picker(4, 8), code_picker(16, 8),
            code_picker(32, 3), line_window(8, 16, 128), line_window(8, 8, 64), line_window(4, 16, 64))  # fmt: skip
DESIGNS = (*USED[1:], *COMPARED, DIVIDER)  # which takes longest


# --- what they compute -----------------------------------------------------------------------------------------------


def _floats(rng: np.random.Generator, cases: int) -> np.ndarray:
    """Normal numbers, far from both ends of the exponent: uint32 ``[cases]``."""
    sign, exponent = rng.integers(0, 2, cases), rng.integers(64, 190, cases)
    return ((sign << 31) | (exponent << 23) | rng.integers(0, 1 << 23, cases)).astype(np.uint32)


def _sums(netlist: Netlist, bits: int, rng: np.random.Generator) -> int:
    ends = [0, 1, -1, -(1 << (bits - 1)), (1 << (bits - 1)) - 1]
    values = np.concatenate([rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), CASES), ends])
    found = _run(netlist, {"sum": bits_of(values, bits)}, "number")
    return _equal(found, values.astype(np.float32).view(np.uint32))


def _quotients(netlist: Netlist, rng: np.random.Generator) -> int:
    left, right = _floats(rng, CASES), _floats(rng, CASES)
    right[:64] = left[:64]
    right[64:128] &= np.uint32(0xFF800000)  # powers of two
    quotients = left.view(np.float32) / right.view(np.float32)
    normal = (np.abs(quotients) >= np.finfo(np.float32).tiny) & np.isfinite(quotients)
    found = _run(netlist, {"dividend": bits_of(left, 32), "divisor": bits_of(right, 32)}, "quotient")
    return _equal(found[normal], quotients.view(np.uint32)[normal])


def _picked(netlist: Netlist, ways: int, bits: int, rng: np.random.Generator) -> int:
    codes, place = rng.integers(0, 1 << bits, (CASES, ways)), rng.integers(0, ways, CASES)
    stimulus = {"codes": bits_of(codes, bits).reshape(CASES, -1), "place": bits_of(place, (ways - 1).bit_length())}
    return _equal(_run(netlist, stimulus, "code"), codes[np.arange(CASES), place])


def _windows(netlist: Netlist, unit: int, count: int, beat: int, rng: np.random.Generator) -> int:
    places = beat // unit
    beats, place = rng.integers(0, 2, (CASES, 2 * beat)).astype(bool), rng.integers(0, places, CASES)
    stimulus = {"beats": beats, "place": bits_of(place, (places - 1).bit_length())}
    found = netlist.run({name: bits[None] for name, bits in stimulus.items()})["units"][0]
    wanted = np.stack([row[at * unit : at * unit + count * unit] for row, at in zip(beats, place, strict=True)])
    return _equal(found, wanted)


def _run(netlist: Netlist, stimulus: Mapping[str, np.ndarray], output: str) -> np.ndarray:
    return integers_of(netlist.run({name: bits[None] for name, bits in stimulus.items()})[output][0], signed=False)


def _equal(found: np.ndarray, wanted: np.ndarray) -> int:
    if not np.array_equal(found, wanted.astype(found.dtype)):
        raise AssertionError("a netlist of hls/rtl/structure.sv differs from numpy")
    return len(wanted)


_CHECKS: Mapping[str, Callable[..., int]] = {
    "sum_to_float": _sums, "float_divider": _quotients, "code_picker": _picked, "line_window": _windows
}  # fmt: skip


def measured(design: Design) -> StructureRow:
    """Synthesises one of ``DESIGNS`` and compares its netlist with numpy."""
    with tempfile.TemporaryDirectory(prefix="structure_") as folder:
        module = run_batch([design], lut6_commands(FLOW), Path(folder)).modules[design.name]
    numbers = [int(value) for _, value in design.parameters]
    checked = _CHECKS[design.module](netlist_of(module), *numbers, np.random.default_rng(SEED))
    return StructureRow(design.name, count_luts(module).luts, checked, design.rtl, f"yosys {require_yosys()}")


# --- the table and its prices ----------------------------------------------------------------------------------------


@cache
def structure_rows(path: Path = TABLE) -> Mapping[str, StructureRow]:
    """Recorded netlists by design; none where there is no table."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [StructureRow(r["design"], int(r["luts"]), int(r["checked"]), r["rtl"], r["tool"])
                for r in csv.DictReader(file)]  # fmt: skip
    return {row.design: row for row in rows}


def write_rows(rows: Sequence[StructureRow], path: Path = TABLE) -> None:
    """Writes the table, at once."""
    names = [field.name for field in fields(StructureRow)]
    lines = [",".join(names), *(",".join(str(value) for value in asdict(row).values()) for row in rows)]
    temporary = path.with_suffix(".part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 without Yosys."""
    parser = argparse.ArgumentParser(prog="python -m hls.structure_netlists", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TABLE, help="file of the table")
    options = parser.parse_args(arguments)
    try:
        require_yosys()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    known = dict(structure_rows(options.out))
    for design in DESIGNS:
        row = known.get(design.name)
        if row is None or row.rtl != design.rtl:
            known[design.name] = measured(design)
            write_rows([known[one.name] for one in DESIGNS if one.name in known], options.out)
        print(f"{design.name}: {known[design.name].luts} LUTs", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
