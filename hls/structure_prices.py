"""LUTs of conversions, dividers and multiplexers around PEs, from recorded netlists (``hls.structure_netlists``).

A multiplexer alone takes what the netlist of as many ways does for each bit. A window over two beats shares its levels
between neighbouring bits: LUTs a bit on a line over the bits of its place. A conversion is a line over its width. What
no price is made of says how wrong it is. Netlists are of our own RTL and open synthesis: a tool's own operators differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import cache

from hls.rtl_design import Design
from hls.structure_netlists import COMPARED, DIVIDER, USED, structure_rows
from hwmodel.unit_cost import Figure, Origin


class Structure(Enum):
    """A module of ``hls/rtl/structure.sv`` that has several widths."""

    TO_FLOAT = "sum_to_float"
    PICKER = "code_picker"
    WINDOW = "line_window"


def _parameters(design: Design) -> dict[str, int]:
    return {name: int(value) for name, value in design.parameters}


def _luts(design: Design) -> float:
    return float(structure_rows()[design.name].luts)


def _of(kind: Structure, designs: Iterable[Design]) -> list[tuple[dict[str, int], float]]:
    return [(_parameters(one), _luts(one)) for one in designs if one.module == kind.value]


def _line(points: list[tuple[float, float]], x: float) -> float:
    """Through the first and the last point."""
    (first, low), (last, high) = min(points), max(points)
    return low + (high - low) / (last - first) * (x - first)


@cache
def to_float_luts(bits: int) -> float:
    """An integer of ``bits`` to float32."""
    return max(_line([(fields["BITS"], luts) for fields, luts in _of(Structure.TO_FLOAT, USED)], bits), float(bits))


@cache
def picker_luts(ways: int) -> float:
    """A bit of a multiplexer of ``ways`` inputs; nothing for one."""
    if ways < 2:
        return 0.0
    known = {fields["WAYS"]: luts / fields["BITS"] for fields, luts in _of(Structure.PICKER, USED)}
    most = max(known)
    return known[min(way for way in known if way >= ways)] if ways <= most else known[most] * ways / most


@cache
def window_luts(places: int) -> float:
    """A bit of what is taken out of two words at any of ``places``; nothing for one."""
    if places < 2:
        return 0.0
    points = []
    for fields, luts in _of(Structure.WINDOW, USED):
        width = fields["COUNT"] * fields["UNIT"]
        points.append((float((fields["BEAT"] // fields["UNIT"]).bit_length() - 1), luts / width))
    return max(_line(points, float((places - 1).bit_length())), picker_luts(2))


def _estimated(kind: Structure, fields: dict[str, int]) -> float:
    if kind is Structure.TO_FLOAT:
        return to_float_luts(fields["BITS"])
    if kind is Structure.PICKER:
        return fields["BITS"] * picker_luts(fields["WAYS"])
    return fields["COUNT"] * fields["UNIT"] * window_luts(fields["BEAT"] // fields["UNIT"])


@cache
def structure_errors(kind: Structure) -> tuple[float, float, int]:
    """Mean and worst relative error on netlists that no price is made of, and how many."""
    errors = [abs(_estimated(kind, fields) / luts - 1) for fields, luts in _of(kind, COMPARED)]
    return sum(errors) / len(errors), max(errors), len(errors)


def structure_figure(kind: Structure, luts: float, what: str) -> Figure:
    """LUTs with the error of their kind."""
    mean, worst, netlists = structure_errors(kind)
    source = f"{what}: netlists of {kind.value}, tried on {netlists} others"
    return Figure(luts, Origin.FIT, mean, worst, source)


def divider_figure() -> Figure:
    """LUTs of a float32 divider."""
    row = structure_rows()[DIVIDER.name]
    return Figure(float(row.luts), Origin.RECORDED, 0.0, 0.0, f"netlist {row.design}, {row.tool}")
