"""A loop of an exported layer in closed form, and those that bring arrays of the weight image into a kernel.

What ``hls.layer_loops`` and ``hls.stage_loops`` are made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from hls.cpp_types import value_bits
from hls.hls_operators import Operator
from hls.layer_plan import FieldPlan
from hls.weights import BEAT_BYTES

BEAT_BITS, WORD_BITS = 8 * BEAT_BYTES, 32
PORTS = 2  # of a block RAM: AMD UG573
ENTRIES_A_LINE = 8  # entries_a_line of layer_tile.h
_SHIFTED = 3  # ASSUMPTION: a line is cut out of two beats in that many levels: two of the shift, one that joins them


class Process(Enum):
    """The steps of the pipeline that run side by side, and those in front of and behind the tiles."""

    READ_INPUT = "read_input"
    QUANTIZE_INPUT = "quantize_input"
    PREPARE = "prepare"  # in `multiply`, before the first tile: gathers, outlier columns, the low-rank branch
    READ_WEIGHTS = "read_weights"
    FILL_TILE = "fill_tile"
    MULTIPLY_TILE = "sum_tile"
    SCALE_GROUPS = "scale_groups"  # one for each part
    FINISH_TILE = "finish_tile"
    COLLECT_OUTPUT = "collect_output"
    WRITE_OUTPUT = "write_output"


@dataclass(frozen=True)
class Loop:
    """A loop in one call of a layer.

    Args:
        process: where it runs: a ``Process``, or one of a decoder block.
        label: as in the header.
        entries: times that it is entered.
        iterations: of all entries together.
        path: operators behind one another in an iteration.
        interval: cycles from one iteration to the next, as pragmas ask and dependences allow; 0: not pipelined.
        port_interval: the same if arrays that no pragma cuts have two ports, and no two accesses are known to be one.
        tail: operators behind the loop, once an entry.
        tile: which tile of rows; ``None`` for none.
    """

    process: Enum
    label: str
    entries: int
    iterations: int
    path: tuple[Operator, ...] = ()
    interval: int = 1
    port_interval: int = 1
    tail: tuple[Operator, ...] = ()
    tile: int | None = None


@dataclass(frozen=True)
class _Range:
    """Bits of an array that are read at once."""

    first: int
    bits: int

    @property
    def beats(self) -> int:
        if not self.bits:
            return 0
        return (self.first + self.bits - 1) // BEAT_BITS - self.first // BEAT_BITS + 1


def plane_widths(bits: int) -> list[int]:
    """Widths of the planes of a field, high bits first (``datatypes.packing``).

    >>> plane_widths(6), plane_widths(16)
    ([4, 2], [16])
    """
    return [1 << power for power in range(5, -1, -1) if bits >> power & 1]


def field_ranges(bits: int, total: int, first: int, count: int) -> list[_Range]:
    """What ``read_field`` reads of a field of ``total`` entries."""
    ranges, plane = [], 0
    for width in plane_widths(bits):
        ranges.append(_Range(plane + first * width, count * width))
        plane += -(-total * width // WORD_BITS) * WORD_BITS
    return ranges


def rows_of_field(plan: FieldPlan, columns: int, first: int, rows: int) -> tuple[int, int]:
    """First entry and entries that rows need (``field_rows``)."""
    per_row = -(-columns // plan.tile_columns) * plan.per_tile
    above, last = first // plan.tile_rows, (first + rows - 1) // plan.tile_rows
    return above * per_row, (last - above + 1) * per_row


# --- reading and taking ----------------------------------------------------------------------------------------------


def burst_loops(ranges: list[_Range], tile: int | None = None) -> Iterator[Loop]:
    """Bursts of some ranges."""
    used = [part for part in ranges if part.bits]
    if used:
        yield Loop(
            Process.READ_WEIGHTS, "burst", len(used), sum(part.beats for part in used), (Operator.AXI,), tile=tile
        )


def field_loops(plan: FieldPlan, first: int, count: int, taker: Enum, tile: int | None = None) -> Iterator[Loop]:
    bits = value_bits(plan.value)
    yield from burst_loops(field_ranges(bits, plan.count, first, count), tile)
    planes = len(plane_widths(bits))
    if count:
        path = (Operator.RAM_READ, Operator.LOGIC)
        yield Loop(taker, "entries_of_plane", planes, planes * count, path, tile=tile)


def tile_field_loops(
    plan: FieldPlan, columns: int, first: int, rows: int, tile: int, *, each: int = ENTRIES_A_LINE
) -> Iterator[Loop]:
    """Entries of a field into the lines of a tile (``take_entries`` of ``layer_tile.h``)."""
    start, count = rows_of_field(plan, columns, first, rows)
    bits = value_bits(plan.value)
    yield from burst_loops(field_ranges(bits, plan.count, start, count), tile)
    per_row = -(-columns // plan.tile_columns) * plan.per_tile
    lines = -(-per_row // line_entries(plan, columns, each))
    planes = len(plane_widths(bits))
    path = (Operator.RAM_READ, *[Operator.LOGIC] * _SHIFTED)
    yield Loop(Process.FILL_TILE, "entry_lines", planes, planes * (count // per_row) * lines, path, tile=tile)


def line_entries(plan: FieldPlan, columns: int, each: int = ENTRIES_A_LINE) -> int:
    """Entries of a field in a line of a tile."""
    per_row = -(-columns // plan.tile_columns) * plan.per_tile
    return min(each, per_row, BEAT_BITS // value_bits(plan.value))


def code_line_loops(words: int, line_words: int, first: int, rows: int, tile: int) -> Iterator[Loop]:
    """Rows of packed codes into the lines of a tile (``take_codes`` of ``layer_tile.h``)."""
    yield from burst_loops([_Range(first * words * WORD_BITS, rows * words * WORD_BITS)], tile)
    path = (Operator.LOGIC,) * _SHIFTED
    yield Loop(Process.FILL_TILE, "code_lines", 1, rows * -(-words // line_words), path, tile=tile)


def packed_row_loops(words: int, row: int, taker: Process) -> Iterator[Loop]:
    """A row of packed codes: 16 words a beat (``take_row`` of ``streams.h``)."""
    found = _Range(row * words * WORD_BITS, words * WORD_BITS)
    yield from burst_loops([found])
    per_beat = BEAT_BITS // WORD_BITS
    path = (Operator.LOGIC, Operator.LOGIC)
    yield Loop(taker, "beats", 1, found.beats, path, port_interval=-(-per_beat // PORTS))
