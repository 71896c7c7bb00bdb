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
from hls.c_arithmetics import BITMOD_LANES
from hls.cpp_types import CppType, parse_type, value_bits
from hls.hls_operators import Operator, stages
from hls.layer_plan import FieldPlan, LayerPlan, PartPlan
from hls.loop import PORTS, Loop, Process, field_loops, packed_row_loops, rows_of_field
from hls.stage_loops import PARTIAL_SUMS, output_loops, prepare_loops, quantize_input_loops

FIELD_ORDER = (
    "scale", "outer_scale", "outer_offset", "zero_point", "zero_point_scale", "zero_point_offset", "selector",
    "codebook", "row_scale",
)  # fmt: skip
_SERIAL_DEPTH = 4  # ASSUMPTION: a plane of bits goes through AND, adder tree, shift and accumulator, one cycle each


def _part_tile(part: PartPlan, tile: int, first: int, rows: int) -> Iterator[Loop]:
    """One part's rows of a tile: codes, fields, tables."""
    codes = -(-part.stored_columns // part.code_dim)
    above, code_rows = first // part.outputs, -(-rows // part.outputs)
    if part.code_bits < 16:
        yield from packed_row_loops(row_words(codes, part.code_bits), above, code_rows, Process.FILL_TILE, tile)
    else:  # flat, the template's count of entries is 1
        wide = FieldPlan(f"codesign::raw_value<{part.code_bits}>", 1, part.code_dim, 1, part.codes_beat)
        yield from field_loops(wide, above * codes, code_rows * codes, Process.FILL_TILE, tile)
    if "mask" in part.fields:  # places of what is stored
        start, count = rows_of_field(part.fields["mask"], part.stored_columns, first, rows)
        yield from field_loops(part.fields["mask"], start, count, Process.FILL_TILE, tile)
    for name in FIELD_ORDER:
        field = part.fields.get(name)
        if field is not None:
            start, count = rows_of_field(field, part.columns, first, rows)
            yield from field_loops(field, start, count, Process.FILL_TILE, tile)
    entries = loaded_entries(part)
    if entries:
        path = (Operator.RAM_READ, Operator.LOGIC)
        yield Loop(Process.FILL_TILE, "entries_loaded", code_rows, code_rows * entries, path, tile=tile)


def loaded_entries(part: PartPlan) -> int:
    """Words that its arithmetic loads: a learned table, or BitMoD's format."""
    if part.arithmetic.registers:
        return len(part.arithmetic.registers)
    return part.fields["codebook"].per_tile if "codebook" in part.fields else 0


# --- multiplying -----------------------------------------------------------------------------------------------------


def group_steps(part: PartPlan, lanes: int) -> list[int]:
    """Steps of each group: its stored columns in portions of ``lanes``."""
    sparsity = SparsityConfig(part.kept, part.block)
    lengths = (min(part.group, part.columns - begin) for begin in range(0, part.columns, part.group))
    return [-(-sparsity.kept_columns(length) // lanes) for length in lengths]


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
    return lanes // BITMOD_LANES


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
    if plan.input.scale is not None:
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
    if "mask" in part.fields:
        path.append(Operator.LOGIC)  # each lane picks its input out of its block
    if "column_scale" in part.fields:
        path[1:1] = [Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.LOGIC]
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
        tail = (Operator.FLOAT_ADD,) * (PARTIAL_SUMS - 1)
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
    n, height = plan.shape[0], plan.options.tile_rows
    loops = [*quantize_input_loops(plan, tokens), *prepare_loops(plan, tokens)]
    for tile, first in enumerate(range(0, n, height)):
        rows = min(height, n - first)
        for part in plan.parts:
            loops += _part_tile(part, tile, first, rows)
        loops += _outlier_tile(plan, tile, first, rows)
        if plan.bias is not None:
            loops += field_loops(plan.bias, first, rows, Process.FILL_TILE, tile)
            loops.append(Loop(Process.FILL_TILE, "biases", 1, rows, (Operator.RAM_READ,), tile=tile))
        loops += _multiply_tile(plan, tokens, tile, rows)
        path = (Operator.LOGIC, Operator.LOGIC)
        loops.append(Loop(Process.COLLECT_OUTPUT, "rows_in", tokens, tokens * rows, path, tile=tile))
        if plan.normalised and plan.bias is not None:  # waits for the norm
            loops.append(Loop(Process.MULTIPLY_TILE, "biases_out", 1, rows, (Operator.RAM_READ,), tile=tile))
            loops.append(Loop(Process.COLLECT_OUTPUT, "biases_in", 1, rows, path, tile=tile))
    loops += output_loops(plan, tokens)
    return loops


def iterations_by_label(loops: list[Loop]) -> Mapping[str, int]:
    """Iterations of all loops of a label: what a simulation with counters shows."""
    totals: dict[str, int] = {}
    for loop in loops:
        totals[loop.label] = totals.get(loop.label, 0) + loop.iterations
    return totals
