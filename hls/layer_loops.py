"""How often every loop of an exported layer runs in one call: the loops of ``include/codesign`` by their labels.

``layer_loops(plan, tokens)`` walks the same ranges as ``layer.h``: which beats of the weight image a tile of rows
needs, how many steps a group takes, how many rows are written. A test compiles the headers with a counter in every
loop and compares. What an iteration costs is said beside it: the operators on its longest path, and in how many cycles
the next may start. ``hls.estimate_cycles`` puts the loops together. Outliers that are single weights count as spread
evenly over the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from datatypes.planes import row_words
from hls.cpp_types import CppType, parse_type, value_bits
from hls.hls_operators import Operator, stages
from hls.layer_plan import FactorPlan, FieldPlan, LayerPlan, PartPlan, StagePlan

BEAT_BITS, WORD_BITS = 512, 32
PORTS = 2  # of a block RAM: AMD UG573
_PARTIAL_SUMS = 8  # of the interleaved sums in branches.h
_FIELD_ORDER = (
    "scale", "outer_scale", "outer_offset", "zero_point", "zero_point_scale", "zero_point_offset", "selector",
    "codebook", "row_scale",
)  # fmt: skip
_SERIAL_DEPTH = 4  # ASSUMPTION: a plane of bits goes through AND, adder tree, shift and accumulator, one cycle each


class Process(Enum):
    """The steps of the pipeline that run side by side, and those in front of and behind the tiles."""

    READ_INPUT = "read_input"
    QUANTIZE_INPUT = "quantize_input"
    PREPARE = "prepare"  # in `multiply`, before the first tile: gathers, outlier columns, the low-rank branch
    READ_WEIGHTS = "read_weights"
    FILL_TILE = "fill_tile"
    MULTIPLY_TILE = "multiply_tile"
    COLLECT_OUTPUT = "collect_output"
    WRITE_OUTPUT = "write_output"


@dataclass(frozen=True)
class Loop:
    """A loop in one call of a layer.

    Args:
        process: where it runs.
        label: as in the header.
        entries: times that it is entered.
        iterations: of all entries together.
        path: operators behind one another in an iteration.
        interval: cycles from one iteration to the next, as pragmas ask and dependences allow; 0: not pipelined.
        port_interval: the same if arrays that no pragma cuts have two ports, and no two accesses are known to be one.
        tail: operators behind the loop, once an entry.
        tile: which tile of rows; ``None`` for none.
    """

    process: Process
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


def _field_ranges(bits: int, total: int, first: int, count: int) -> list[_Range]:
    """What ``read_field`` reads of a field of ``total`` entries."""
    ranges, plane = [], 0
    for width in plane_widths(bits):
        ranges.append(_Range(plane + first * width, count * width))
        plane += -(-total * width // WORD_BITS) * WORD_BITS
    return ranges


def _rows_of(plan: FieldPlan, columns: int, first: int, rows: int) -> tuple[int, int]:
    """First entry and entries that rows need (``field_rows``)."""
    per_row = -(-columns // plan.tile_columns) * plan.per_tile
    above, last = first // plan.tile_rows, (first + rows - 1) // plan.tile_rows
    return above * per_row, (last - above + 1) * per_row


# --- reading and taking ----------------------------------------------------------------------------------------------


def _moved(ranges: list[_Range], tile: int | None = None) -> Iterator[Loop]:
    """Bursts of some ranges."""
    used = [part for part in ranges if part.bits]
    if used:
        yield Loop(
            Process.READ_WEIGHTS, "burst", len(used), sum(part.beats for part in used), (Operator.AXI,), tile=tile
        )


def _field(plan: FieldPlan, first: int, count: int, taker: Process, tile: int | None = None) -> Iterator[Loop]:
    bits = value_bits(plan.value)
    yield from _moved(_field_ranges(bits, plan.count, first, count), tile)
    planes = len(plane_widths(bits))
    if count:
        path = (Operator.RAM_READ, Operator.LOGIC)
        yield Loop(taker, "entries_of_plane", planes, planes * count, path, tile=tile)


def _packed_rows(words: int, first: int, rows: int, taker: Process, tile: int | None) -> Iterator[Loop]:
    """Rows of packed codes: 16 words a beat."""
    found = _Range(first * words * WORD_BITS, rows * words * WORD_BITS)
    yield from _moved([found], tile)
    per_beat = BEAT_BITS // WORD_BITS
    path = (Operator.LOGIC, Operator.LOGIC)
    yield Loop(taker, "beats", 1, found.beats, path, port_interval=-(-per_beat // PORTS), tile=tile)


def _part_tile(part: PartPlan, tile: int, first: int, rows: int) -> Iterator[Loop]:
    """One part's rows of a tile: codes, fields, tables."""
    codes = -(-part.columns // part.code_dim)
    if part.code_bits < 16:
        yield from _packed_rows(row_words(codes, part.code_bits), first, rows, Process.FILL_TILE, tile)
    else:  # flat, the template's count of entries is 1
        wide = FieldPlan(f"codesign::raw_value<{part.code_bits}>", 1, part.code_dim, 1, part.codes_beat)
        yield from _field(wide, first * codes, rows * codes, Process.FILL_TILE, tile)
    for name in _FIELD_ORDER:
        field = part.fields.get(name)
        if field is not None:
            start, count = _rows_of(field, part.columns, first, rows)
            yield from _field(field, start, count, Process.FILL_TILE, tile)
    entries = loaded_entries(part)
    if entries:
        path = (Operator.RAM_READ, Operator.LOGIC)
        yield Loop(Process.FILL_TILE, "entries_loaded", rows, rows * entries, path, tile=tile)


def loaded_entries(part: PartPlan) -> int:
    """Words that its arithmetic loads: a learned table, or BitMoD's format."""
    if part.arithmetic.registers:
        return len(part.arithmetic.registers)
    return part.fields["codebook"].per_tile if "codebook" in part.fields else 0


# --- multiplying -----------------------------------------------------------------------------------------------------


def group_steps(part: PartPlan, lanes: int) -> list[int]:
    """Steps of each group: its columns in portions of ``lanes``."""
    return [-(-min(part.group, part.columns - begin) // lanes) for begin in range(0, part.columns, part.group)]


def cycles_of_step(part: PartPlan) -> int:
    """Cycles that a serial arithmetic takes for one step; 1 for a parallel one."""
    made = parse_type(part.arithmetic.type)
    if made.name == "bit_serial_arithmetic":
        return made.number(0) if made.number(3) else made.number(1)
    if made.name == "bit_bit_arithmetic":
        return made.number(0) * made.number(1)
    if made.name == "term_serial_arithmetic":
        return made.number(0) // 2 + made.number(0) % 2  # Booth digits of the weight
    if made.name in ("bitmod_arithmetic", "bitmod_int_arithmetic"):
        return _bitmod_sets(made) * bitmod_terms(part.arithmetic.registers[0])
    return 1


def _bitmod_sets(made: CppType) -> int:
    lanes = made.number(1 if made.name == "bitmod_arithmetic" else 0)
    return lanes // 4  # a PE has four lanes: Chen et al., HPCA 2025, figure 5


def bitmod_terms(register: int) -> int:
    """Terms of a weight in BitMoD's format register (``bitmod_format.h``): Booth digits of integers, two of a float."""
    bits = (register >> 24 & 7) + 1
    return 2 if register >> 27 & 1 else -(-bits // 2)


def is_rounded(part: PartPlan) -> bool:
    """Whether each product is rounded into a float accumulator."""
    made = parse_type(part.arithmetic.type)
    products = [one.name for one in made.arguments if isinstance(one, CppType)]
    return made.name == "float_arithmetic" or "rounded_products" in products


def steps_interval(part: PartPlan, lanes: int) -> int:
    """Cycles from one step to the next: 1; a float sum takes its lanes one behind another."""
    if is_rounded(part):
        return lanes * stages(Operator.FLOAT_ADD)
    return cycles_of_step(part)


def _scaling(part: PartPlan, plan: LayerPlan) -> tuple[Operator, ...]:
    """Operators from a group's sum to the row's total, one behind another."""
    made = parse_type(part.arithmetic.type).name
    if made == "bitmod_arithmetic":
        scale = part.fields["scale"]
        return (Operator.LOGIC,) * value_bits(scale.value) + (Operator.FLOAT_ADD,)
    if part.exact_scale:
        return (Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC)
    path: list[Operator] = [] if is_rounded(part) else [Operator.TO_FLOAT]
    if part.zero in ("in_codes", "real"):
        path += [Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD]
    if "scale" in part.fields:
        path.append(Operator.FLOAT_MULTIPLY)
        if "outer_scale" in part.fields and not part.outer_last:
            path.append(Operator.FLOAT_MULTIPLY)
            if "outer_offset" in part.fields:
                path.append(Operator.FLOAT_ADD)
    if plan.input.scale is not None or plan.input.static_scale is not None:
        path.append(Operator.FLOAT_MULTIPLY)
    return (*path, Operator.FLOAT_ADD)


def _finishing(part: PartPlan, plan: LayerPlan) -> tuple[Operator, ...]:
    path: list[Operator] = [Operator.LOGIC]
    if part.exact_scale:
        path += [Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY]
    path += [Operator.FLOAT_MULTIPLY] * (int(part.outer_last) + int("row_scale" in part.fields))
    return tuple(path)


def _multiply_part(part: PartPlan, plan: LayerPlan, tokens: int, tile: int) -> Iterator[Loop]:
    lanes = plan.options.lanes
    steps = group_steps(part, lanes)
    tree = (max(lanes, 1) - 1).bit_length()
    # a step reads activations and codes, takes a zero point off, multiplies, adds up, accumulates
    path = [Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC, *[Operator.LOGIC] * -(-tree // 2), Operator.LOGIC]
    if "gather" in part.fields:
        path.insert(0, Operator.RAM_READ)
    if cycles_of_step(part) > 1:
        path += [Operator.LOGIC] * _SERIAL_DEPTH
    interval = steps_interval(part, lanes)
    yield Loop(
        Process.MULTIPLY_TILE, "steps", tokens * len(steps), tokens * sum(steps), tuple(path), interval,
        max(interval, -(-lanes // PORTS)), tail=_scaling(part, plan), tile=tile,
    )  # fmt: skip
    # around the steps; entered once for a token, its iterations are the entries of the steps
    yield Loop(
        Process.MULTIPLY_TILE, "groups_added", tokens, tokens * len(steps), (), 0, 0, tail=_finishing(part, plan),
        tile=tile,
    )  # fmt: skip


def _multiply_tile(plan: LayerPlan, tokens: int, tile: int, rows: int) -> Iterator[Loop]:
    for place, part in enumerate(plan.parts):
        yield from _multiply_part(part, plan, tokens, tile)
        if place:
            yield Loop(Process.MULTIPLY_TILE, "rows_added", 0, 0, (), 0, 0, (Operator.FLOAT_ADD,) * tokens, tile)
    adds = sum(there is not None for there in (plan.low_rank, plan.outliers, plan.bias))
    path = (Operator.LOGIC, *[Operator.FLOAT_ADD] * adds)
    yield Loop(Process.MULTIPLY_TILE, "rows_out", tokens, tokens * rows, path, 0, 0, tile=tile)
    if plan.outliers is not None:
        label = "outlier_columns_added" if plan.outliers.pointers is None else "outlier_elements_added"
        each = _outliers_of_rows(plan, rows)
        path = (Operator.RAM_READ, Operator.RAM_READ, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
        tail = (Operator.FLOAT_ADD,) * (_PARTIAL_SUMS - 1)
        yield Loop(Process.MULTIPLY_TILE, label, tokens * rows, tokens * each, path, tail=tail, tile=tile)


def _outliers_of_rows(plan: LayerPlan, rows: int) -> int:
    assert plan.outliers is not None
    return plan.outliers.values.count * rows // plan.shape[0]


def _outlier_tile(plan: LayerPlan, tile: int, first: int, rows: int) -> Iterator[Loop]:
    outliers = plan.outliers
    if outliers is None:
        return
    n = plan.shape[0]
    before = outliers.values.count * first // n
    count = outliers.values.count * (first + rows) // n - before
    path = (Operator.RAM_READ, Operator.TO_FLOAT)
    if outliers.pointers is None:
        yield from _field(outliers.values, first * outliers.most, rows * outliers.most, Process.FILL_TILE, tile)
        yield Loop(Process.FILL_TILE, "column_values", 1, rows * outliers.most, path, tile=tile)
        return
    yield from _field(outliers.pointers, first, rows + 1, Process.FILL_TILE, tile)
    yield Loop(Process.FILL_TILE, "row_starts", 1, rows + 1, (Operator.RAM_READ, Operator.LOGIC), tile=tile)
    yield from _field(outliers.values, before, count, Process.FILL_TILE, tile)
    yield from _field(outliers.index, before, count, Process.FILL_TILE, tile)
    if count:
        yield Loop(Process.FILL_TILE, "element_values", 1, count, path, tile=tile)


# --- stages ----------------------------------------------------------------------------------------------------------


def _tiles(stage: StagePlan) -> int:
    return -(-stage.columns // stage.tile_columns)


def _quantize(stage: StagePlan, tokens: int, process: Process) -> Iterator[Loop]:
    """``activation.h``: extremes, scales, codes."""
    tiles = _tiles(stage)
    columns = tokens * stage.columns
    if stage.rule == "none" and stage.scale is None and stage.static_scale is None:
        yield Loop(process, "plain_tiles", tokens, tokens * tiles, (Operator.LOGIC,))
        yield Loop(process, "plain_columns", tokens, columns, (Operator.RAM_READ, *[Operator.LOGIC] * 4))
        return
    rows = tokens if stage.per_token else 1
    if stage.static_scale is None:
        seen = (Operator.RAM_READ, Operator.FLOAT_COMPARE)
        yield Loop(process, "columns_seen", tokens, columns, seen, port_interval=sum(stages(one) for one in seen))
    scale = (Operator.FLOAT_DIVIDE, *[Operator.LOGIC] * 4)
    yield Loop(process, "scale_tiles", rows, rows * tiles, (Operator.RAM_READ, *scale), 0, 0)
    if stage.outer is not None:
        yield Loop(process, "outer_tiles", rows, rows * tiles, (Operator.RAM_READ, Operator.FLOAT_COMPARE), 0, 0)
        stored = (Operator.RAM_READ, *scale, Operator.FLOAT_MULTIPLY)
        yield Loop(process, "stored_tiles", rows, rows * tiles, stored, 0, 0, tail=scale)
    else:
        stored = (Operator.RAM_READ, *[Operator.LOGIC] * 4, Operator.FLOAT_MULTIPLY)
        yield Loop(process, "one_level_tiles", rows, rows * tiles, stored, 0, 0)
    encoded = (Operator.RAM_READ, Operator.FLOAT_DIVIDE, *[Operator.LOGIC] * 4)
    yield Loop(process, "encoded_columns", tokens, columns, encoded)
    if not stage.per_token and tokens > 1:
        yield Loop(process, "shared_tiles", tokens - 1, (tokens - 1) * tiles, (Operator.RAM_READ,))


def _quantize_input(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    k, process = plan.shape[1], Process.QUANTIZE_INPUT
    beats = -(-16 * k // BEAT_BITS)
    yield Loop(Process.READ_INPUT, "beats", 1, tokens * beats, (Operator.AXI,))
    path = [Operator.LOGIC, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY]
    if plan.smoothing is not None:
        yield from _field(plan.smoothing, 0, k, process)
        yield Loop(process, "divisors", 1, k, (Operator.RAM_READ, Operator.TO_FLOAT))
        path.append(Operator.FLOAT_DIVIDE)
    yield Loop(process, "columns", tokens, tokens * k, tuple(path))
    if plan.hadamard > 1:
        blocks, levels = k // plan.hadamard, plan.hadamard.bit_length() - 1
        path = [Operator.RAM_READ, Operator.FLOAT_ADD]
        yield Loop(
            process, "butterflies", tokens * blocks * levels, tokens * blocks * levels * (plan.hadamard // 2),
            tuple(path), port_interval=2,
        )  # fmt: skip
        yield Loop(process, "scaled", tokens * blocks, tokens * k, (Operator.RAM_READ, Operator.FLOAT_DIVIDE))
    yield from _quantize(plan.input, tokens, process)


# --- before the tiles ------------------------------------------------------------------------------------------------


def _factor_rows(factor: FactorPlan) -> Iterator[Loop]:
    """Reading and decoding all rows of a low-rank factor."""
    bits, columns = value_bits(factor.value), factor.columns
    words = row_words(columns, bits) if bits < 16 else 0
    fields = [one for one in (factor.scale, factor.outer_scale) if one is not None]
    flat = FieldPlan(factor.value, 1, 1, factor.rows * columns, factor.beat)
    for row in range(factor.rows):
        if words:
            yield from _packed_rows(words, row, 1, Process.PREPARE, None)
        else:
            yield from _field(flat, row * columns, columns, Process.PREPARE)
        for field in fields:
            start, count = _rows_of(field, columns, row, 1)
            yield from _field(field, start, count, Process.PREPARE)
    path = (Operator.RAM_READ, Operator.LOGIC, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.FLOAT_MULTIPLY)
    yield Loop(Process.PREPARE, "columns", factor.rows, factor.rows * columns, path)


def _prepare(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    for part in plan.parts:
        gather = part.fields.get("gather")
        if gather is not None:
            yield from _field(gather, 0, part.columns, Process.PREPARE)
            yield Loop(Process.PREPARE, "columns", 1, part.columns, (Operator.RAM_READ,))
    if plan.outliers is not None and plan.outliers.pointers is None:
        yield from _field(plan.outliers.index, 0, plan.outliers.most, Process.PREPARE)
        yield Loop(Process.PREPARE, "outlier_indices", 1, plan.outliers.most, (Operator.RAM_READ,))
    if plan.low_rank is None:
        return
    a, b = plan.low_rank
    path = (Operator.RAM_READ, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
    total = (Operator.FLOAT_ADD,) * (_PARTIAL_SUMS - 1)
    yield from _factor_rows(a)
    yield Loop(Process.PREPARE, "columns_in", a.rows * tokens, a.rows * tokens * a.columns, path, tail=total)
    yield from _requantize(plan.middle, tokens)
    yield from _factor_rows(b)
    yield Loop(Process.PREPARE, "ranks_in", b.rows * tokens, b.rows * tokens * b.columns, path, tail=total)
    yield from _requantize(plan.result, tokens)


def _requantize(stage: StagePlan | None, tokens: int) -> Iterator[Loop]:
    if stage is not None:
        yield from _quantize(stage, tokens, Process.PREPARE)
        path = (Operator.RAM_READ, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY)
        yield Loop(Process.PREPARE, "columns_back", tokens, tokens * stage.columns, path)


# --- outputs ---------------------------------------------------------------------------------------------------------


def _write_output(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    n, process = plan.shape[0], Process.WRITE_OUTPUT
    if plan.output is None:
        places = BEAT_BITS // (16 if plan.fp16_output else 32)
        path = (Operator.RAM_READ, Operator.LOGIC, Operator.AXI)
        beats = -(-n // places)
        yield Loop(process, "beats_out", tokens, tokens * beats, path, port_interval=-(-places // PORTS))
        return
    yield from _quantize(plan.output, tokens, process)
    code_beats = -(-row_words(n, plan.output.format.bits) * WORD_BITS // BEAT_BITS)
    scale_beats = -(-_tiles(plan.output) * 32 // BEAT_BITS)
    words = BEAT_BITS // WORD_BITS
    yield Loop(process, "words_cleared", tokens, tokens * code_beats * words, (Operator.LOGIC,))
    packed = (Operator.RAM_READ, Operator.LOGIC)
    yield Loop(process, "columns_packed", tokens, tokens * n, packed, port_interval=sum(stages(one) for one in packed))
    sent = (Operator.RAM_READ, Operator.AXI)
    yield Loop(process, "code_beats_out", tokens, tokens * code_beats, sent, port_interval=words // PORTS)
    yield Loop(process, "scale_beats_out", tokens, tokens * scale_beats, sent, port_interval=words // PORTS)


def layer_loops(plan: LayerPlan, tokens: int) -> list[Loop]:
    """Every loop of one call with ``tokens`` tokens, tile after tile.

    Raises:
        ValueError: more tokens than the layer takes in a call, or none.
    """
    if not 1 <= tokens <= plan.options.tokens:
        raise ValueError(f"tokens of a call must be 1 to the layer's {plan.options.tokens}, not {tokens!r}")
    n, height = plan.shape[0], plan.options.tile_rows
    loops = [*_quantize_input(plan, tokens), *_prepare(plan, tokens)]
    for tile, first in enumerate(range(0, n, height)):
        rows = min(height, n - first)
        for part in plan.parts:
            loops += _part_tile(part, tile, first, rows)
        loops += _outlier_tile(plan, tile, first, rows)
        if plan.bias is not None:
            loops += _field(plan.bias, first, rows, Process.FILL_TILE, tile)
            loops.append(Loop(Process.FILL_TILE, "biases", 1, rows, (Operator.RAM_READ,), tile=tile))
        loops += _multiply_tile(plan, tokens, tile, rows)
        path = (Operator.LOGIC, Operator.LOGIC)
        loops.append(Loop(Process.COLLECT_OUTPUT, "rows_in", tokens, tokens * rows, path, tile=tile))
    loops += _write_output(plan, tokens)
    return loops


def iterations_by_label(loops: list[Loop]) -> Mapping[str, int]:
    """Iterations of all loops of a label: what a simulation with counters shows."""
    totals: dict[str, int] = {}
    for loop in loops:
        totals[loop.label] = totals.get(loop.label, 0) + loop.iterations
    return totals
