"""Memories of an exported layer: the arrays of ``layer.h`` and what its pragmas cut them into, as blocks of a device.

Block RAM and UltraRAM by FINN's rules (``hwmodel.fpga_memory``). A memory of at most 64 words is LUT RAM, as one LUT6
holds 64 bits (AMD UG574); an array cut completely is flip-flops; FIFOs are shift registers. What lies between two steps
of a DATAFLOW region exists twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from datatypes.planes import row_words
from hls.cpp_types import value_bits
from hls.layer_loops import loaded_entries
from hls.layer_plan import FieldPlan, LayerPlan, PartPlan, StagePlan
from hls.loop import BEAT_BITS, PORTS, WORD_BITS
from hls.stage_loops import PARTIAL_SUMS
from hwmodel.fpga import FpgaResources
from hwmodel.fpga_memory import bram36_count, fifo_luts, lutram_luts, uram_count

LUTRAM_WORDS = 64  # AMD UG574: a LUT6 is a memory of 64 x 1
REGISTER_TABLE_BITS = 4  # of a code whose loaded table is registers; a memory for more (loaded_book in codebook.h)
_FORMAT_BITS = 28  # of BitMoD's format register (bitmod_array.h)
_URAM_BLOCKS = 8  # a URAM288 counts as eight block RAMs


@dataclass(frozen=True)
class Buffer:
    """An array.

    Args:
        name: as in the headers.
        banks: it is cut into.
        width_bits, depth: of a bank.
        copies: 2 between two steps of a dataflow.
        constant: a table that is never written.
    """

    name: str
    banks: int
    width_bits: int
    depth: int
    copies: int = 1
    constant: bool = False

    @property
    def bits(self) -> int:
        """Of all banks and copies."""
        return self.banks * self.width_bits * self.depth * self.copies

    def resources(self, *, ultra_at_hand: bool) -> FpgaResources:
        """Blocks, LUTs and flip-flops; UltraRAM where it wastes less and the memory is written."""
        count = self.banks * self.copies
        if self.depth <= 1:
            return FpgaResources(flip_flops=float(self.width_bits * count))
        if self.depth <= LUTRAM_WORDS:
            return FpgaResources(luts=float(lutram_luts(self.width_bits, self.depth) * count))
        blocks, ultra = bram36_count(self.width_bits, self.depth), uram_count(self.width_bits, self.depth)
        if ultra_at_hand and not self.constant and ultra * _URAM_BLOCKS < blocks:
            return FpgaResources(uram288=float(ultra * count))
        return FpgaResources(bram36=blocks * count)


@dataclass(frozen=True)
class Fifo:
    """A stream between two processes."""

    name: str
    width_bits: int
    depth: int

    @property
    def resources(self) -> FpgaResources:
        """Shift registers and counters."""
        return FpgaResources(luts=float(fifo_luts(self.width_bits, self.depth)))


FIFOS = (  # run_layer in layer.h
    Fifo("to_input", BEAT_BITS, 16),
    Fifo("to_multiply", BEAT_BITS, 64),
    Fifo("rows", BEAT_BITS, 16),
    Fifo("results", 32, 64),
)


def _field(field: FieldPlan, columns: int, rows: int, name: str, *, banks: int = 1) -> Buffer:
    """Entries that the rows of a tile need (``field_rows``)."""
    per_row = -(-columns // field.tile_columns) * field.per_tile
    most = rows if field.tile_rows == 1 else min(rows, (rows - 2 + field.tile_rows) // field.tile_rows + 1)
    size = max(most, 1) * per_row
    cut = min(banks, size)
    return Buffer(name, cut, value_bits(field.value), -(-size // cut), copies=2)


_CUT = ("scale", "zero_point", "selector")  # by rows: the pragmas of multiply_part


def _part(part: PartPlan, index: int, rows: int, lanes: int) -> Iterator[Buffer]:
    """``part_tile`` of ``layer_tile.h`` and its tables; ``part_columns`` of ``layer_part.h``, one for all tiles."""
    codes, code_rows = -(-part.stored_columns // part.code_dim), rows // part.outputs
    name = f"part {index}"
    if part.code_bits < 16:
        words = row_words(codes, part.code_bits)
        banks = code_rows * part.code_bits
        yield Buffer(f"{name} codes", banks, WORD_BITS, -(-words // part.code_bits), copies=2)
    else:
        yield Buffer(f"{name} codes", 1, part.code_bits, code_rows * codes, copies=2)
    for key, field in part.fields.items():
        bits = value_bits(field.value)
        if key in ("gather", "column_scale"):  # as stored while they are taken, then as integers or floats
            yield Buffer(f"{name} {key} as stored", 1, bits, part.columns)
            yield Buffer(f"{name} {key}", 1, 32, part.columns)
        elif key == "mask":
            yield _field(field, part.stored_columns, rows, f"{name} mask", banks=rows)
        else:
            yield _field(field, part.columns, rows, f"{name} {key}", banks=rows if key in _CUT else 1)
    if part.arithmetic.registers:
        yield Buffer(f"{name} registers", code_rows * len(part.arithmetic.registers), _FORMAT_BITS, 1, copies=2)
    elif "codebook" in part.fields:
        yield _table(part, code_rows, f"{name} tables", readers=lanes // part.code_dim)


def _table(part: PartPlan, code_rows: int, name: str, *, readers: int) -> Buffer:
    """Loaded tables, one for each row of codes: a code's elements side by side; memories have a copy for two lanes."""
    entries = 1 << part.code_bits
    width = loaded_entries(part) // entries * value_bits(part.fields["codebook"].value)
    if part.code_bits <= REGISTER_TABLE_BITS:
        return Buffer(name, code_rows * entries, width, 1, copies=2)
    return Buffer(name, code_rows * -(-readers // PORTS), width, entries, copies=2)


def _stage(stage: StagePlan, tokens: int, name: str, *, lanes: int, copies: int) -> Iterator[Buffer]:
    """Codes and scales of a stage, its floats, and the extremes of its tiles."""
    bits = stage.code_format.bits
    cut = min(lanes, stage.columns)
    yield Buffer(f"{name} codes", cut, bits, tokens * -(-stage.columns // cut), copies=copies)
    yield Buffer(f"{name} scales", 1, 32, tokens * stage.tiles, copies=copies)
    if stage.scale is not None:
        for what in ("high", "low", "zero"):
            yield Buffer(f"{name} {what}", 1, 32, tokens * stage.tiles)


def buffers(plan: LayerPlan, *, on_chip: bool) -> list[Buffer]:
    """Every array of a layer.

    Args:
        plan: the layer.
        on_chip: whether the weight image is a table of the kernel.
    """
    n, k = plan.shape
    options = plan.options
    made = [Buffer("input floats", 1, 32, options.tokens * k)]
    made += _stage(plan.input, options.tokens, "input", lanes=options.lanes, copies=2)
    if plan.smoothing is not None:
        made += [Buffer("smoothing", 1, value_bits(plan.smoothing.value), k), Buffer("divisors", 1, 32, k)]
    for index, part in enumerate(plan.parts):
        made += _part(part, index, options.tile_rows, options.lanes)
    if plan.low_rank is not None:
        a, b = plan.low_rank
        made += [
            Buffer("low-rank branch", 1, 32, options.tokens * b.rows),
            Buffer("low-rank middle", 1, 32, options.tokens * a.rows),
            Buffer("row of A", 1, 32, a.columns),
            Buffer("row of B", 1, 32, b.columns),
        ]
    if plan.outliers is not None:
        outliers = plan.outliers
        size = outliers.most * (options.tile_rows if outliers.pointers is None else 1)
        made.append(Buffer("outlier values", 1, 32, size, copies=2))
        made.append(Buffer("outlier columns", 1, 32, outliers.most, copies=1 if outliers.pointers is None else 2))
        made.append(Buffer("outlier starts", 1, 32, options.tile_rows + 1, copies=2))
    if plan.bias is not None:
        made.append(Buffer("bias", 1, 32, options.tile_rows, copies=2))
    made.append(Buffer("output floats", 1, 32, options.tokens * n))
    if plan.normalised:
        made += [Buffer("sum of the norm", 1, 32, PARTIAL_SUMS), Buffer("squares of the norm", 1, 32, PARTIAL_SUMS)]
        if plan.bias is not None:  # waits for the norm
            made.append(Buffer("bias behind the norm", 1, 32, n))
    if plan.output is not None:
        made += _stage(plan.output, options.tokens, "output", lanes=1, copies=1)
        words, beat = row_words(n, plan.output.format.bits), BEAT_BITS // WORD_BITS
        made.append(Buffer("output words", 1, WORD_BITS, -(-words // beat) * beat))
    if on_chip:
        made.append(Buffer("weight image", 1, 64, plan.beats * BEAT_BITS // 64, constant=True))
    return made
