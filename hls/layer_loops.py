"""How often every loop of an exported layer runs in one call: the loops of ``include/codesign`` by their labels.

``layer_loops(plan, tokens)`` walks the same ranges as ``layer.h``: which beats of the weight image a tile of rows
needs, how many steps a group takes, how many rows are written. A test compiles the headers with a counter in every
loop and compares. What an iteration costs is said beside it: the operators on its longest path, and in how many cycles
the next may start. ``hls.estimate_cycles`` puts the loops together. Outliers that are single weights count as spread
evenly over the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from datatypes.layer_config import SparsityConfig
from datatypes.planes import row_words
from hls.cpp_types import parse_type, value_bits
from hls.hls_operators import Operator
from hls.layer_plan import LayerPlan, PartPlan
from hls.loop import PORTS, Loop, Process, code_line_loops, field_loops, tile_field_loops
from hls.part_shape import PartShape, is_rounded, line_blocks, part_shape
from hls.stage_loops import PARTIAL_SUMS, output_loops, prepare_loops, quantize_input_loops

FIELD_ORDER = (
    "scale", "outer_scale", "outer_offset", "zero_point", "zero_point_scale", "zero_point_offset", "selector",
    "codebook", "row_scale",
)  # fmt: skip
_SERIAL_DEPTH = 4  # ASSUMPTION: a plane of bits goes through AND, adder tree, shift and accumulator, one cycle each


def _part_tile(part: PartPlan, plan: LayerPlan, tile: int, first: int, rows: int) -> Iterator[Loop]:
    """One part's rows of a tile: codes, fields, tables."""
    codes = part.row_codes
    above, code_rows = first // part.outputs, -(-rows // part.outputs)
    lanes = plan.options.lanes
    if part.code_bits < 16:
        words = row_words(codes, part.stored_bits)
        line = line_blocks(part.code_bits, codes) * part.stored_bits
        yield from code_line_loops(words, line, above, code_rows, tile)
    else:
        yield from tile_field_loops(part.wide_codes, codes, above, code_rows, tile, each=lanes // part.code_dim)
    if "mask" in part.fields:  # places of what is stored
        yield from tile_field_loops(part.fields["mask"], part.stored_columns, first, rows, tile, each=lanes)
    for name in FIELD_ORDER:
        field = part.fields.get(name)
        if field is not None:
            yield from tile_field_loops(field, part.columns, first, rows, tile)
    entries = loaded_entries(part)
    if entries:
        path = (Operator.RAM_READ, Operator.LOGIC)
        loaded = table_blocks(part, plan.blocks, plan.rows_on_chip) * plan.options.tile_rows // part.outputs
        yield Loop(Process.FILL_TILE, "entries_loaded", loaded, loaded * entries, path, tile=tile)


def loaded_entries(part: PartPlan) -> int:
    """Words that its arithmetic loads: a learned table, or BitMoD's format."""
    if part.arithmetic.registers:
        return len(part.arithmetic.registers)
    return part.fields["codebook"].per_tile if "codebook" in part.fields else 0


def table_blocks(part: PartPlan, blocks: int, rows: int) -> int:
    """Blocks of a tile of ``rows`` rows that have tables of their own; 1 where all rows share theirs."""
    book = part.fields.get("codebook")
    return 1 if book is None or book.count == book.per_tile or book.tile_rows % rows == 0 else blocks


# --- multiplying -----------------------------------------------------------------------------------------------------


def _scaling(part: PartPlan, plan: LayerPlan) -> tuple[Operator, ...]:
    """Operators from a group's sum to the row's total, one behind another."""
    made = parse_type(part.arithmetic.type).name
    if made == "bitmod_arithmetic":
        scale = part.fields["scale"]
        return (Operator.LOGIC,) * value_bits(scale.value) + (Operator.FLOAT_ADD,)  # a stage a bit
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
    if plan.input.scale is not None:
        path.append(Operator.FLOAT_MULTIPLY)
    return (*path, Operator.FLOAT_ADD)


def _finishing(part: PartPlan, plan: LayerPlan) -> tuple[Operator, ...]:
    path: list[Operator] = []
    if part.exact_scale:
        path += [Operator.TO_FLOAT] + [Operator.FLOAT_MULTIPLY] * (plan.input.scale is not None)
    path += [Operator.FLOAT_MULTIPLY] * (int(part.outer_last) + int("row_scale" in part.fields))
    return tuple(path)


def _multiply_part(part: PartPlan, plan: LayerPlan, tokens: int, tile: int, added: bool) -> Iterator[Loop]:
    lanes = plan.options.lanes
    shape = part_shape(part, plan.options, plan.blocks)
    tree = (max(lanes, 1) - 1).bit_length()
    # a step reads activations and codes, takes a zero point off, multiplies, adds up, accumulates
    path = [Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC, *[Operator.LOGIC] * -(-tree // 2), Operator.LOGIC]
    if "mask" in part.fields:
        path.append(Operator.LOGIC)  # each lane picks its input out of its block
    if shape.cycles > 1:
        path += [Operator.LOGIC] * _SERIAL_DEPTH
    if is_rounded(part):
        path += [Operator.FLOAT_ADD] * lanes
    yield Loop(
        Process.MULTIPLY_TILE, "steps", 1, tokens * plan.blocks * shape.iterations, tuple(path), shape.step_interval,
        max(shape.step_interval, _step_ports(part, shape, lanes)), tile=tile,
    )  # fmt: skip
    passes = tokens * plan.blocks * len(shape.steps) * shape.passes
    scaling = (*_scaling(part, plan), *_finishing(part, plan), *[Operator.FLOAT_ADD] * added)
    yield Loop(
        Process.SCALE_GROUPS, "rows_scaled", 1, passes, scaling, shape.scale_interval, shape.scale_interval, tile=tile
    )


def _step_ports(part: PartPlan, shape: PartShape, lanes: int) -> int:
    """Cycles that a step needs if memories have two ports: lines of codes and masks, and words of activations."""
    reads = [shape.lines_read, -(-shape.window // lanes) * (1 if shape.aligned else 2)]
    whole = len(shape.steps) == 1 or SparsityConfig(part.kept, part.block).kept_columns(part.group) % lanes == 0
    if not whole and part.code_bits >= 16:
        reads.append(lanes // part.code_dim)
    if not whole and "mask" in part.fields:
        reads.append(lanes)
    return -(-max(reads) // PORTS)


def _multiply_tile(plan: LayerPlan, tokens: int, tile: int, first: int, rows: int) -> Iterator[Loop]:
    for place, part in enumerate(plan.parts):
        yield from _multiply_part(part, plan, tokens, tile, bool(place))
    if plan.outliers is not None:
        count = _outliers_of_rows(plan, first, rows)
        ends = 0 if plan.outliers.pointers is None else rows
        path = (Operator.RAM_READ, Operator.RAM_READ, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
        yield Loop(Process.MULTIPLY_TILE, "outlier_products", tokens, tokens * (count + ends), path, tile=tile)
        total = (Operator.RAM_READ, *[Operator.FLOAT_ADD] * PARTIAL_SUMS)
        yield Loop(Process.MULTIPLY_TILE, "outlier_totals", tokens, tokens * rows, total, tile=tile)
    adds = (plan.low_rank is not None) + (plan.outliers is not None)
    adds += plan.bias is not None and not plan.normalised
    finish = (Operator.LOGIC, Operator.RAM_READ, *[Operator.FLOAT_ADD] * adds)
    yield Loop(Process.FINISH_TILE, "rows_out", 1, tokens * plan.rows_on_chip, finish, tile=tile)


def _outliers_of_rows(plan: LayerPlan, first: int, rows: int) -> int:
    assert plan.outliers is not None
    count, n = plan.outliers.values.count, plan.shape[0]
    return count * (first + rows) // n - count * first // n


def _outlier_tile(plan: LayerPlan, tile: int, first: int, rows: int) -> Iterator[Loop]:
    outliers = plan.outliers
    if outliers is None:
        return
    before = outliers.values.count * first // plan.shape[0]
    count = _outliers_of_rows(plan, first, rows)
    path = (Operator.RAM_READ, Operator.TO_FLOAT)
    if outliers.pointers is None:
        yield from field_loops(outliers.values, first * outliers.most, rows * outliers.most, Process.FILL_TILE, tile)
        yield Loop(Process.FILL_TILE, "column_values", 1, rows * outliers.most, path, tile=tile)
        return
    yield from field_loops(outliers.pointers, first, rows + 1, Process.FILL_TILE, tile)
    yield Loop(Process.FILL_TILE, "row_starts", 1, rows + 1, (Operator.RAM_READ, Operator.LOGIC), tile=tile)
    yield from field_loops(outliers.values, before, count, Process.FILL_TILE, tile)
    yield from field_loops(outliers.index, before, count, Process.FILL_TILE, tile)
    if count:
        yield Loop(Process.FILL_TILE, "element_values", 1, count, path, tile=tile)


def layer_loops(plan: LayerPlan, tokens: int) -> list[Loop]:
    """Every loop of one call with ``tokens`` tokens, tile after tile.

    Raises:
        ValueError: more tokens than the layer takes in a call, or none.
    """
    if not 1 <= tokens <= plan.options.tokens:
        raise ValueError(f"tokens of a call must be 1 to the layer's {plan.options.tokens}, not {tokens!r}")
    n, height = plan.shape[0], plan.rows_on_chip
    loops = [*quantize_input_loops(plan, tokens), *prepare_loops(plan, tokens)]
    for tile, first in enumerate(range(0, n, height)):
        rows = min(height, n - first)
        for part in plan.parts:
            loops += _part_tile(part, plan, tile, first, rows)
        loops += _outlier_tile(plan, tile, first, rows)
        if plan.bias is not None:
            loops += field_loops(plan.bias, first, rows, Process.FILL_TILE, tile)
            loops.append(Loop(Process.FILL_TILE, "biases", 1, rows, (Operator.RAM_READ,), tile=tile))
        loops += _multiply_tile(plan, tokens, tile, first, rows)
        path = (Operator.LOGIC, Operator.LOGIC)
        loops.append(Loop(Process.COLLECT_OUTPUT, "rows_in", tokens, tokens * rows, path, tile=tile))
        if plan.normalised and plan.bias is not None:  # waits for the norm
            loops.append(Loop(Process.FINISH_TILE, "biases_out", 1, rows, (Operator.RAM_READ,), tile=tile))
            loops.append(Loop(Process.COLLECT_OUTPUT, "biases_in", 1, rows, path, tile=tile))
    loops += output_loops(plan, tokens)
    return loops


def iterations_by_label(loops: list[Loop]) -> Mapping[str, int]:
    """Iterations of all loops of a label: what a simulation with counters shows."""
    totals: dict[str, int] = {}
    for loop in loops:
        totals[loop.label] = totals.get(loop.label, 0) + loop.iterations
    return totals
