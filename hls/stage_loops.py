"""Loops of an exported layer before and behind its tiles: activation stages, rotation, low-rank branch, outputs.

In closed form, by the labels of ``include/codesign``; ``hls.layer_loops`` has the tiles and puts both together.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from datatypes.planes import row_words
from hls.cpp_types import value_bits
from hls.hls_operators import Operator, stages
from hls.layer_plan import FactorPlan, FieldPlan, LayerPlan, StagePlan
from hls.loop import BEAT_BITS, PORTS, WORD_BITS, Loop, Process, field_loops, packed_row_loops, rows_of_field
from hls.weights import row_beats

PARTIAL_SUMS = 8  # of the interleaved sums in branches.h


def quantize_loops(stage: StagePlan, tokens: int, process: Enum) -> Iterator[Loop]:
    """``activation.h``: extremes, scales, codes."""
    tiles, columns = stage.tiles, tokens * stage.columns
    if stage.scale is None:
        yield Loop(process, "plain_tiles", tokens, tokens * tiles, (Operator.LOGIC,))
        yield Loop(process, "plain_columns", tokens, columns, (Operator.RAM_READ, *[Operator.LOGIC] * 4))
        return
    rows = tokens if stage.per_token else 1
    if stage.static_scale is None:
        yield Loop(process, "columns_seen", tokens, columns, (Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC))
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


def quantize_input_loops(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    k, process = plan.shape[1], Process.QUANTIZE_INPUT
    yield Loop(Process.READ_INPUT, "beats", 1, tokens * row_beats(k, 16), (Operator.AXI,))
    path = [Operator.LOGIC, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY]
    if plan.smoothing is not None:
        yield from field_loops(plan.smoothing, 0, k, process)
        yield Loop(process, "divisors", 1, k, (Operator.RAM_READ, Operator.TO_FLOAT))
        path.append(Operator.FLOAT_DIVIDE)
    if plan.offset is not None:
        yield from field_loops(plan.offset, 0, k, process)
        yield Loop(process, "offsets", 1, k, (Operator.RAM_READ, Operator.TO_FLOAT))
        path.append(Operator.FLOAT_ADD)
    yield Loop(process, "columns", tokens, tokens * k, tuple(path))
    if plan.hadamard > 1:
        blocks, levels = k // plan.hadamard, plan.hadamard.bit_length() - 1
        path = [Operator.RAM_READ, Operator.FLOAT_ADD]
        yield Loop(
            process, "butterflies", tokens * blocks * levels, tokens * blocks * levels * (plan.hadamard // 2),
            tuple(path), port_interval=2,
        )  # fmt: skip
        yield Loop(process, "scaled", tokens * blocks, tokens * k, (Operator.RAM_READ, Operator.FLOAT_DIVIDE))
    yield from quantize_loops(plan.input, tokens, process)


# --- before the tiles ------------------------------------------------------------------------------------------------


def _factor_rows(factor: FactorPlan) -> Iterator[Loop]:
    """Reading and decoding all rows of a low-rank factor."""
    bits, columns = value_bits(factor.value), factor.columns
    words = row_words(columns, bits) if bits < 16 else 0
    fields = [one for one in (factor.scale, factor.outer_scale) if one is not None]
    flat = FieldPlan(factor.value, 1, 1, factor.rows * columns, factor.beat)
    for row in range(factor.rows):
        if words:
            yield from packed_row_loops(words, row, Process.PREPARE)
        else:
            yield from field_loops(flat, row * columns, columns, Process.PREPARE)
        for field in fields:
            start, count = rows_of_field(field, columns, row, 1)
            yield from field_loops(field, start, count, Process.PREPARE)
    path = (Operator.RAM_READ, Operator.LOGIC, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.FLOAT_MULTIPLY)
    yield Loop(Process.PREPARE, "columns", factor.rows, factor.rows * columns, path)


def prepare_loops(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    for part in plan.parts:
        picked = [part.fields[name] for name in ("gather", "column_scale") if name in part.fields]
        for field in picked:
            yield from field_loops(field, 0, part.columns, Process.PREPARE)
        if picked:
            picking = [Operator.RAM_READ, Operator.RAM_READ]
            if "column_scale" in part.fields:  # decoded, multiplied, encoded as FP16 again
                picking += [Operator.LOGIC, Operator.FLOAT_MULTIPLY, *[Operator.LOGIC] * 3]
            yield Loop(Process.PREPARE, "inputs_taken", tokens, tokens * part.columns, tuple(picking))
    if plan.outliers is not None and plan.outliers.pointers is None:
        yield from field_loops(plan.outliers.index, 0, plan.outliers.most, Process.PREPARE)
        yield Loop(Process.PREPARE, "outlier_indices", 1, plan.outliers.most, (Operator.RAM_READ,))
    if plan.low_rank is None:
        return
    a, b = plan.low_rank
    path = (Operator.RAM_READ, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
    total = (Operator.FLOAT_ADD,) * (PARTIAL_SUMS - 1)
    yield from _factor_rows(a)
    yield Loop(Process.PREPARE, "columns_in", a.rows * tokens, a.rows * tokens * a.columns, path, tail=total)
    yield from _requantize(plan.middle, tokens)
    yield from _factor_rows(b)
    yield Loop(Process.PREPARE, "ranks_in", b.rows * tokens, b.rows * tokens * b.columns, path, tail=total)
    yield from _requantize(plan.result, tokens)


def _requantize(stage: StagePlan | None, tokens: int) -> Iterator[Loop]:
    if stage is not None:
        yield from quantize_loops(stage, tokens, Process.PREPARE)
        path = (Operator.RAM_READ, Operator.TO_FLOAT, Operator.FLOAT_MULTIPLY)
        yield Loop(Process.PREPARE, "columns_back", tokens, tokens * stage.columns, path)


# --- outputs ---------------------------------------------------------------------------------------------------------


def output_loops(plan: LayerPlan, tokens: int) -> Iterator[Loop]:
    n, process = plan.shape[0], Process.WRITE_OUTPUT
    if plan.normalised:
        total = (Operator.FLOAT_ADD,) * (PARTIAL_SUMS - 1) + (Operator.FLOAT_DIVIDE,)
        add = (Operator.RAM_READ, Operator.FLOAT_ADD)
        yield Loop(process, "columns_summed", tokens, tokens * n, add, tail=total)
        squares = (*add, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
        # the root takes about as long as a division
        root = (*total, Operator.FLOAT_ADD, Operator.FLOAT_DIVIDE, Operator.FLOAT_DIVIDE)
        yield Loop(process, "columns_centred", tokens, tokens * n, squares, tail=root)
        yield Loop(process, "columns_normalised", tokens, tokens * n, (Operator.RAM_READ, Operator.FLOAT_MULTIPLY))
        if plan.bias is not None:
            yield Loop(process, "biases_added", tokens, tokens * n, add)
    beats, scale_beats = plan.output_beats
    if plan.output is None:
        path = (Operator.RAM_READ, Operator.LOGIC, Operator.AXI)
        yield Loop(process, "beats_out", tokens, tokens * beats, path)
        return
    yield from quantize_loops(plan.output, tokens, process)
    words = BEAT_BITS // WORD_BITS
    yield Loop(process, "words_cleared", tokens, tokens * beats * words, (Operator.LOGIC,))
    packed = (Operator.RAM_READ, Operator.LOGIC)
    yield Loop(process, "columns_packed", tokens, tokens * n, packed, port_interval=sum(stages(one) for one in packed))
    sent = (Operator.RAM_READ, Operator.AXI)
    yield Loop(process, "code_beats_out", tokens, tokens * beats, sent, port_interval=words // PORTS)
    yield Loop(process, "scale_beats_out", tokens, tokens * scale_beats, sent, port_interval=words // PORTS)
