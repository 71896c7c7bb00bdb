"""The compressor of Yosys' own netlists is the one that ``hwmodel`` counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hls.rtl_constructors import int_dot
from hls.synthesis_yosys import run_batch, yosys_version
from hwmodel.unit_cost_compressor import compressor, product_columns, word_columns

pytestmark = pytest.mark.synth
# As `synth -booth`, up to where sums are made into adders; `techmap` would make gates of these
COMMANDS = ("synth -flatten -top batch -booth -run begin:fine", "maccmap t:$macc t:$macc_v2", "clean")


GATES = {"$not": "A", "$and": "AB", "$fa": "ABC"}  # inputs


def distinct(module: Mapping) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every one-bit gate and adder of a netlist with the signals that it reads; equal signals have one name.

    Cells come in an order in which they can be evaluated.
    """
    cells = [cell for cell in module["cells"].values() if cell["type"] in GATES]
    made = {bit for cell in cells for port in "XY" for bit in cell["connections"].get(port, ())}
    name: dict[object, str] = {}
    while cells:
        wires = [cell["connections"] for cell in cells]
        ready = [all(bit in name or bit not in made for port in GATES[cell["type"]] for bit in wire[port])
                 for cell, wire in zip(cells, wires, strict=True)]  # fmt: skip
        assert any(ready), "cells in a loop"
        for cell, wire, known in zip(cells, wires, ready, strict=True):
            if not known:
                continue
            for place, inputs in enumerate(zip(*(wire[port] for port in GATES[cell["type"]]), strict=True)):
                bits = tuple(sorted(name.get(bit, str(bit)) for bit in inputs))
                if cell["type"] == "$fa":
                    bits = tuple(bit for bit in bits if bit != "0")
                    one = len(bits) > 1
                    name[wire["Y"][place]] = f"sum{bits}" if one else (*bits, "0")[0]
                    name[wire["X"][place]] = f"carry{bits}" if one else "0"
                else:
                    name[wire["Y"][place]] = "0" if "0" in bits else f"{cell['type']}{bits}"
                yield cell["type"], bits
        cells = [cell for cell, known in zip(cells, ready, strict=True) if not known]


def full_adders(module: Mapping) -> int:
    """Distinct adders of three bits."""
    return len({bits for kind, bits in distinct(module) if kind == "$fa" and len(bits) == 3})


def rows(module: Mapping, width: int) -> int:
    """Rows of full adders as wide as the sum."""
    return sum(cell["type"] == "$fa" and len(cell["connections"]["A"]) == width for cell in module["cells"].values())


@pytest.fixture(autouse=True)
def yosys() -> None:
    if yosys_version() is None:
        pytest.skip("pyosys must be installed: pip install 'codesign[synth]'")


def test_narrow_products_and_their_sum_have_as_many_adders_as_counted(tmp_path: Path):
    shapes = [(2, 2, 2, 14), (2, 2, 4, 14), (2, 2, 4, 32), (2, 8, 4, 20), (3, 3, 2, 16), (3, 3, 4, 24), (2, 2, 16, 14)]
    designs = [int_dot(w, a, lanes=lanes, accumulator_bits=bits) for w, a, lanes, bits in shapes]
    modules = run_batch(designs, COMMANDS, tmp_path).modules
    for shape, design in zip(shapes, designs, strict=True):
        ours, module = compressor(product_columns(*shape)), modules[design.name]
        assert ours.rows == rows(module, shape[-1]), shape
        assert ours.full == full_adders(module), shape


def test_unsigned_products_are_sums_of_their_own(tmp_path: Path):
    shapes = [(2, 6, 3, 18), (3, 3, 4, 20), (3, 8, 2, 24), (6, 2, 3, 20)]
    designs = [int_dot(w, a, lanes=lanes, accumulator_bits=bits, unsigned=True) for w, a, lanes, bits in shapes]
    modules = run_batch(designs, COMMANDS, tmp_path).modules
    for (w, a, lanes, bits), design in zip(shapes, designs, strict=True):
        product = compressor(product_columns(w, a, 1, 0, unsigned=True))
        total = compressor(word_columns(w + a, lanes, bits, accumulator_first=True))
        assert lanes * product.full + total.full == full_adders(modules[design.name]), design.name


def test_recoded_products_have_as_many_rows_as_counted_and_squares_come_after_the_accumulator(tmp_path: Path):
    shapes = [(4, 8, 4, 22), (5, 5, 4, 20), (4, 4, 4, 32), (8, 8, 4, 26), (8, 8, 16, 32)]
    designs = [int_dot(w, a, lanes=lanes, accumulator_bits=bits) for w, a, lanes, bits in shapes]
    modules = run_batch(designs, COMMANDS, tmp_path).modules
    for (w, a, lanes, bits), design in zip(shapes, designs, strict=True):
        cells = modules[design.name]["cells"].values()
        sums = [
            cell["connections"] for cell in cells if cell["type"] == "$fa" and len(cell["connections"]["A"]) == bits
        ]
        first = w == a and w % 2 == 0
        ours = compressor(word_columns(w + a, lanes, bits, accumulator_first=first))
        assert ours.rows == len(sums)
        # the accumulator, or zero: the one multiplexer of the module is in the first row or in the last
        (cleared,) = (cell["connections"]["Y"] for cell in cells if cell["type"] == "$mux")
        places = [index for index, wire in enumerate(sums) if any(cleared[-1] in wire[port] for port in "ABC")]
        made = {bit for wire in sums for bit in (*wire["X"], *wire["Y"])}
        early = [not made & {*wire["A"], *wire["B"], *wire["C"]} for wire in sums]
        assert len(places) == 1
        assert early[places[0]] == first, design.name
