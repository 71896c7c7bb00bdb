"""Device functions of the GEMV that decode a warp's first stage before its inputs can be read, for one token.

A kernel waits for the one before it only for the inputs. Until then its codes of 4 bits become signed bytes in
registers, 16 words a lane for each block of 32 codes of two rows; behind the wait, products are all that is left.

Tables have one byte a value here where the loop has two products a value (t and u, ``gemv_plan``): the two lookups of
seven bits joined, and moved to the upper bits, are twice the value. Sums of integers are exact, so results are those
of the loop, bit by bit. That costs 11 instructions for eight codes where the loop has seven, and half the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx_tile
from kernels_gpu.gemv_ahead_spec import seven_bit_plan
from kernels_gpu.gemv_decode import Decoders, joined, make_chain, make_patched_tables
from kernels_gpu.gemv_fields import Fields, RowPair, make_row_pair
from kernels_gpu.gemv_gathered import make_close_group
from kernels_gpu.gemv_plan import BLOCK, RUN, Plan
from kernels_gpu.gemv_planes import make_load_inputs, make_looked_up_4, nibbles
from kernels_gpu.gemv_short_groups import make_lane_places, make_short_groups
from kernels_gpu.gemv_spec import BLOCKS, GemvSpec

HELD_WORDS = 16  # of a lane for a block: 32 codes of rows g and g + 8
_looked_up, _looked_up_turned = (make_looked_up_4(turned=turned) for turned in (False, True))


@dataclass(frozen=True)
class Ahead:
    """Device functions.

    Args:
        decode: ``(shared, stage, at, row0, lane, held)``, codes of the stage at word ``at`` into registers.
        add: ``(shared, stage, at, row0, lane, held, y)``, its products to ``y``.
    """

    decode: Any
    add: Any


@cuda.jit(device=True)
def doubled(words, tables):
    """Registers of 32 4-bit codes: twice their values, from tables of seven bits."""
    low, high = _looked_up(words, tables[0], tables[1]), _looked_up_turned(words, tables[2], tables[3])
    return (
        uint32((low[0] | high[0]) << uint32(1)), uint32((low[1] | high[1]) << uint32(1)),
        uint32((low[2] | high[2]) << uint32(1)), uint32((low[3] | high[3]) << uint32(1)),
        uint32((low[4] | high[4]) << uint32(1)), uint32((low[5] | high[5]) << uint32(1)),
        uint32((low[6] | high[6]) << uint32(1)), uint32((low[7] | high[7]) << uint32(1)),
    )  # fmt: skip


def _make_finish(plan: Plan) -> Any:
    """Device function: the products of a group, of both digits of the inputs, as numbers for rows g and g + 8."""
    shift = 1 if plan.looked_up else 0

    @cuda.jit(device=True)
    def finish(total, upper_zero, lower_zero):
        upper_sum, lower_sum = joined(total)
        return (
            float32(int32((upper_sum >> int32(shift)) - upper_zero)),
            float32(int32((lower_sum >> int32(shift)) - lower_zero)),
        )

    return finish


def _make_block(spec: GemvSpec, index: int, load_block: Any) -> tuple[Any, Any]:
    """Device functions ``(shared, place, u, v, held)``: hold block ``index`` if it is ahead, and its registers."""
    plan, pitch, base, ahead = spec.plan, spec.pitch, HELD_WORDS * index, index < spec.ahead
    registers = doubled if plan.looked_up else nibbles

    @cuda.jit(device=True)
    def decoded(shared, place, u, v):
        a = registers(load_block(shared, place), u)
        b = registers(load_block(shared, uint32(place + uint32(8 * pitch))), v)
        return a, b

    @cuda.jit(device=True)
    def put(held, at, words):
        held[at], held[at + 1], held[at + 2], held[at + 3] = words[0], words[1], words[2], words[3]
        held[at + 4], held[at + 5], held[at + 6], held[at + 7] = words[4], words[5], words[6], words[7]

    @cuda.jit(device=True)
    def eight(held, at):
        return (
            held[at], held[at + 1], held[at + 2], held[at + 3], held[at + 4], held[at + 5], held[at + 6], held[at + 7]
        )  # fmt: skip

    @cuda.jit(device=True)
    def hold(shared, place, u, v, held):
        if ahead:
            a, b = decoded(shared, place, u, v)
            put(held, base, a)
            put(held, base + 8, b)

    @cuda.jit(device=True)
    def block(shared, place, u, v, held):
        if ahead:
            return eight(held, base), eight(held, base + 8)
        return decoded(shared, place, u, v)

    return hold, block


def make_ahead(spec: GemvSpec, decoders: Decoders, fields: Fields) -> Ahead:
    """The device functions of one kernel, whose encoding has no obstacle (``gemv_ahead_spec``)."""
    narrow = seven_bit_plan(spec.plan) if spec.plan.looked_up else None
    if narrow is not None:
        decoders = replace(decoders, tables_of=make_patched_tables(narrow))
    row_pair = make_row_pair(spec, decoders, fields)
    product = ptx_tile.product_s8 if spec.plan.signed else ptx_tile.product_u8
    chain = make_chain(product, split=spec.plan.group == BLOCK // 2)
    finish = _make_finish(spec.plan)
    blocks = [_make_block(spec, index, decoders.load_block) for index in range(BLOCKS)]
    decode = _make_decode(spec, fields, row_pair, [hold for hold, _ in blocks])
    make_add = _make_add_short if spec.plan.parts > 2 else _make_add
    return Ahead(decode, make_add(spec, fields, row_pair, [block for _, block in blocks], chain, finish))


def _make_tables_of_piece(spec: GemvSpec, fields: Fields, row_pair: RowPair) -> Any:
    """Device function: tables of a lane's first groups (``piece`` 0) or of the next ones."""
    group = spec.plan.group if spec.plan.group else 1 << 30
    tables_of_rows, stage_fields = row_pair.tables, fields.stage_fields

    @cuda.jit(device=True)
    def tables_of_piece(shared, stage, at, row0, lane, piece):
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        first, _, _, upper_set, lower_set = stage_fields(shared, stage, at, row0, lane)
        field = uint32(uint32(stage * uint32(BLOCKS) + c) * uint32(RUN) // uint32(group) - first + uint32(piece))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        return tables_of_rows(shared, at, upper, lower, g, first, field, upper_set, lower_set, uint32(0))

    return tables_of_piece


def _make_decode(spec: GemvSpec, fields: Fields, row_pair: RowPair, holds: Sequence[Any]) -> Any:
    """``Ahead.decode``."""
    two, parts, (hold0, hold1, hold2, hold3) = 2 * spec.plan.bits, spec.plan.parts, holds
    lane_places, tables_of_piece = make_lane_places(spec), _make_tables_of_piece(spec, fields, row_pair)

    @cuda.jit(device=True)
    def decode(shared, stage, at, row0, lane, held):
        _, even, odd, _, _, _ = lane_places(stage, at, lane)
        u, v = tables_of_piece(shared, stage, at, row0, lane, 0)
        hold0(shared, even, u, v, held)
        hold1(shared, odd, u, v, held)
        if parts == 2:
            u, v = tables_of_piece(shared, stage, at, row0, lane, 1)
        hold2(shared, uint32(even + uint32(two)), u, v, held)
        hold3(shared, uint32(odd + uint32(two)), u, v, held)

    return decode


def _make_add(spec: GemvSpec, fields: Fields, row_pair: RowPair, blocks: Sequence[Any], chain: Any, finish: Any) -> Any:
    """``Ahead.add`` where two blocks or four have one sum."""
    two, parts, (block0, block1, block2, block3) = 2 * spec.plan.bits, spec.plan.parts, blocks
    group = spec.plan.group if spec.plan.group else 1 << 30
    lane_places, tables_of_piece = make_lane_places(spec), _make_tables_of_piece(spec, fields, row_pair)
    stage_fields, load_inputs = fields.stage_fields, make_load_inputs(False)
    close_group = make_close_group(spec, row_pair, finish)

    @cuda.jit(device=True)
    def add(shared, stage, at, row0, lane, held, y):
        g = uint32(lane >> uint32(2))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        first, upper_scale_at, lower_scale_at, _, _ = stage_fields(shared, stage, at, row0, lane)
        run, even, odd, even_source, odd_source, step = lane_places(stage, at, lane)
        field = uint32(run * uint32(RUN) // uint32(group) - first)
        zero = int32(0)
        none = (zero, zero, zero, zero)
        u, v = tables_of_piece(shared, stage, at, row0, lane, 0)
        a, b = block0(shared, even, u, v, held)
        sums = chain(a, b, load_inputs(shared, even_source), 0, none)
        a, b = block1(shared, odd, u, v, held)
        sums = chain(a, b, load_inputs(shared, odd_source), 0, sums)
        if parts == 2:
            close_group(shared, at, upper, lower, g, first, field, run, 0, upper_scale_at, lower_scale_at, sums, y)
            u, v = tables_of_piece(shared, stage, at, row0, lane, 1)
        # a chain of its own, so that products wait for one another half as long
        a, b = block2(shared, uint32(even + uint32(two)), u, v, held)
        more = chain(a, b, load_inputs(shared, uint32(even_source + step + step)), 0, none)
        a, b = block3(shared, uint32(odd + uint32(two)), u, v, held)
        more = chain(a, b, load_inputs(shared, uint32(odd_source + step + step)), 0, more)
        if parts == 1:
            more = (
                int32(sums[0] + more[0]), int32(sums[1] + more[1]), int32(sums[2] + more[2]), int32(sums[3] + more[3])
            )  # fmt: skip
        field = uint32(field + uint32(parts - 1))
        close_group(shared, at, upper, lower, g, first, field, run, parts - 1, upper_scale_at, lower_scale_at, more, y)

    return add


def _make_add_short(
    spec: GemvSpec, fields: Fields, row_pair: RowPair, blocks: Sequence[Any], chain: Any, finish: Any
) -> Any:
    """``Ahead.add`` where each block is a group, or two (``gemv_short_groups``)."""
    two, (block0, block1, block2, block3) = 2 * spec.plan.bits, blocks
    lane_places, tables_of_piece = make_lane_places(spec), _make_tables_of_piece(spec, fields, row_pair)
    stage_fields = fields.stage_fields

    @cuda.jit(device=True)
    def accumulate(a, b, u, v, x, half, sums):
        return chain(a, b, x, half, sums)

    @cuda.jit(device=True)
    def no_sums():
        zero = int32(0)
        return zero, zero, zero, zero

    short = make_short_groups(spec, row_pair, accumulate, no_sums, finish)
    begin, (add0, add1, add2, add3), end = short.begin, short.add, short.end

    @cuda.jit(device=True)
    def add(shared, stage, at, row0, lane, held, y):
        first, upper_at, lower_at, _, _ = stage_fields(shared, stage, at, row0, lane)
        run, even, odd, even_source, odd_source, step = lane_places(stage, at, lane)
        u, v = tables_of_piece(shared, stage, at, row0, lane, 0)
        steps, sums = begin(shared, upper_at, lower_at, lane, run, y)
        a, b = block0(shared, even, u, v, held)
        sums = add0(shared, at, row0, lane, first, run, upper_at, lower_at, a, b, u, v, even_source, steps, sums)
        a, b = block1(shared, odd, u, v, held)
        sums = add1(shared, at, row0, lane, first, run, upper_at, lower_at, a, b, u, v, odd_source, steps, sums)
        a, b = block2(shared, uint32(even + uint32(two)), u, v, held)
        source = uint32(even_source + step + step)
        sums = add2(shared, at, row0, lane, first, run, upper_at, lower_at, a, b, u, v, source, steps, sums)
        a, b = block3(shared, uint32(odd + uint32(two)), u, v, held)
        source = uint32(odd_source + step + step)
        sums = add3(shared, at, row0, lane, first, run, upper_at, lower_at, a, b, u, v, source, steps, sums)
        end(shared, run, sums, y)

    return add
