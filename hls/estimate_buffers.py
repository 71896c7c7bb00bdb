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
from hls.layer_loops import loaded_entries, table_blocks
from hls.layer_plan import FieldPlan, LayerPlan, PartPlan, StagePlan
from hls.loop import BEAT_BITS, ENTRIES_A_LINE, PORTS, WORD_BITS, line_entries
from hls.part_shape import line_blocks, part_shape
from hls.stage_loops import PARTIAL_SUMS
from hwmodel.fpga import FpgaResources
from hwmodel.fpga_memory import bram36_count, fifo_luts, lutram_luts, uram_count

LUTRAM_WORDS = 64  # AMD UG574: a LUT6 is a memory of 64 x 1
REGISTER_TABLE_BITS = 4  # of a code whose loaded table is registers; a memory for more (loaded_book in codebook.h)
_FORMAT_BITS = 28  # of BitMoD's format register (bitmod_array.h)
_FLOAT_BITS = 32  # of a float sum at most, and of an activation's scale
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


FIFOS = (  # run_layer in layer.h; layer_fifos has those inside of `multiply` too
    Fifo("to_input", BEAT_BITS, 16),
    Fifo("to_multiply", BEAT_BITS, 64),
    Fifo("rows", BEAT_BITS, 16),
    Fifo("results", 32, 64),
)


def layer_fifos(plan: LayerPlan) -> tuple[Fifo, ...]:
    """All streams of a layer: ``FIFOS``, and those between the processes of a tile."""
    rows, blocks = plan.options.tile_rows, plan.blocks
    made = list(FIFOS)
    for index, part in enumerate(plan.parts):
        made.append(Fifo(f"groups of part {index}", _group_bits(part, rows), blocks + 2))
        made.append(Fifo(f"totals of part {index}", 32 * rows, plan.options.tokens * blocks + 2))
    if plan.outliers is not None:
        made.append(Fifo("outliers", 32, 16))
    if plan.bias is not None:
        made.append(Fifo("biases", 32, 4 * plan.rows_on_chip))
    return tuple(made)


def _group_bits(part: PartPlan, rows: int) -> int:
    """``group_sums`` of ``part_shape.h``: sums, the activation's scale, and the entries that scale a group."""
    sums = rows + (rows if "mask" in part.fields else 1) * (part.zero in ("in_codes", "real"))
    taken = ["scale", "outer_scale", "outer_offset", "row_scale"]
    if part.zero in ("in_codes", "real"):
        taken += ["zero_point", "zero_point_scale", "zero_point_offset"]
    entries = sum(value_bits(part.fields[name].value) for name in taken if name in part.fields)
    format_bits = WORD_BITS if part.runtime_bits else 0
    return sums * (part.arithmetic.sum_bits or _FLOAT_BITS) + rows * entries + _FLOAT_BITS + format_bits


def _field(
    field: FieldPlan, columns: int, plan: LayerPlan, name: str, each: int = ENTRIES_A_LINE, *, rows: int = 0
) -> Buffer:
    """Entries that the rows of a tile need, in lines (``field_tile``)."""
    rows, parallel = rows or plan.rows_on_chip, rows // plan.blocks or plan.options.tile_rows
    per_row = -(-columns // field.tile_columns) * field.per_tile
    most = rows if field.tile_rows == 1 else max(min(rows, (rows - 2 + field.tile_rows) // field.tile_rows + 1), 1)
    banks = min(parallel, most) if field.tile_rows == 1 else most
    held = line_entries(field, columns, each)
    depth = -(-most // banks) * -(-per_row // held)
    return Buffer(name, banks, held * value_bits(field.value), depth, copies=2)


def _part(part: PartPlan, index: int, plan: LayerPlan) -> Iterator[Buffer]:
    """``part_tile`` of ``layer_tile.h`` and its tables; ``part_inputs`` of ``part_shape.h``, one for all tiles."""
    codes, code_rows = part.row_codes, plan.options.tile_rows // part.outputs
    name, lanes = f"part {index}", plan.options.lanes
    if part.code_bits < 16:
        line = line_blocks(part.code_bits, codes) * part.code_bits
        lines = -(-row_words(codes, part.code_bits) // line)
        yield Buffer(f"{name} codes", code_rows, line * WORD_BITS, plan.blocks * lines, copies=2)
    else:
        yield _field(
            part.wide_codes, codes, plan, f"{name} codes", lanes // part.code_dim, rows=code_rows * plan.blocks
        )
    for key, field in part.fields.items():
        if key in ("gather", "column_scale"):  # while inputs are picked and scaled
            yield Buffer(f"{name} {key} as stored", 1, value_bits(field.value), part.columns)
        elif key == "mask":
            yield _field(field, part.stored_columns, plan, f"{name} mask", lanes)
        else:
            yield _field(field, part.columns, plan, f"{name} {key}")
    if "gather" in part.fields or "column_scale" in part.fields:
        cut = min(lanes, part.columns)
        depth = plan.options.tokens * -(-part.columns // cut)
        yield Buffer(f"{name} inputs", cut, part.arithmetic.activation_bits, depth)
    if "gather" in part.fields:
        yield Buffer(f"{name} input scales", 1, 32, plan.options.tokens * -(-part.columns // part.group))
    if part.arithmetic.registers:
        yield Buffer(f"{name} registers", code_rows * len(part.arithmetic.registers), _FORMAT_BITS, 1, copies=2)
    elif "codebook" in part.fields:
        yield _table(part, plan, f"{name} tables", readers=lanes // part.code_dim)
    shape = part_shape(part, plan.options, plan.blocks)
    if shape.in_turns:  # sums of the blocks that are not at hand, beside those in the PEs
        bits = 1 + sum(plan.options.accumulator)
        yield Buffer(f"{name} sums in turns", (plan.blocks - 1) * plan.options.tile_rows, bits, 1)
    bits = whole_bits(part) if part.exact_scale else 32
    yield Buffer(f"{name} totals", plan.blocks * shape.passes * shape.scalers, bits, 1)


def whole_bits(part: PartPlan) -> int:
    """Bits of the integer that becomes a float: a sum, or under exact scales the row's (``exact_width``)."""
    if not part.exact_scale:
        return part.arithmetic.sum_bits
    groups = -(-part.columns // part.group)
    return part.arithmetic.sum_bits + value_bits(part.fields["scale"].value) + 1 + (groups - 1).bit_length()


def _table(part: PartPlan, plan: LayerPlan, name: str, *, readers: int) -> Buffer:
    """Loaded tables, one for each row of codes: a code's elements side by side; memories have a copy for two lanes."""
    entries = 1 << part.code_bits
    width = loaded_entries(part) // entries * value_bits(part.fields["codebook"].value)
    code_rows = plan.options.tile_rows // part.outputs
    blocks = table_blocks(part, plan.blocks, plan.rows_on_chip)
    if part.code_bits <= REGISTER_TABLE_BITS:
        return Buffer(name, code_rows * entries, width, blocks, copies=2)
    return Buffer(name, code_rows * -(-readers // PORTS), width, blocks * entries, copies=2)


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
    if plan.offset is not None:
        made += [Buffer("offsets", 1, value_bits(plan.offset.value), k), Buffer("offsets as floats", 1, 32, k)]
    for index, part in enumerate(plan.parts):
        made += _part(part, index, plan)
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
        size = outliers.most * (plan.rows_on_chip if outliers.pointers is None else 1)
        made.append(Buffer("outlier values", 1, 32, size, copies=2))
        made.append(Buffer("outlier columns", 1, 32, outliers.most, copies=1 if outliers.pointers is None else 2))
        made.append(Buffer("outlier starts", 1, 32, plan.rows_on_chip + 1, copies=2))
        made.append(Buffer("outlier sums", PARTIAL_SUMS, 32, plan.rows_on_chip))
    if plan.bias is not None:
        made.append(Buffer("bias", 1, 32, plan.rows_on_chip, copies=2))  # as stored, and as it is added
    places = 1 if plan.output is not None else min(BEAT_BITS // (16 if plan.fp16_output else 32), n)
    made.append(Buffer("output floats", places, 32, options.tokens * -(-n // places)))
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
