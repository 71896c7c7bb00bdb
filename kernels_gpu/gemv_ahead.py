"""Device functions of the GEMV that decode a warp's first stage before its inputs can be read, for one token.

A kernel waits for the one before it only for the inputs. Until then its codes of 4 bits become signed bytes in
registers, 16 words a lane for each block of 32 codes of two rows; behind the wait, products are all that is left.

Tables have one byte a value here where the loop has two products a value (t and u, ``gemv_plan``): the two lookups of
seven bits joined, and moved to the upper bits, are twice the value. Sums of integers are exact, so results are those
of the loop, bit by bit. That costs 11 instructions for eight codes where the loop has seven, and half the products.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_ahead_spec import seven_bit_plan
from kernels_gpu.gemv_decode import Decoders, joined, make_chain, make_patched_tables
from kernels_gpu.gemv_fields import Fields, RowPair, make_row_pair
from kernels_gpu.gemv_gathered import make_close_group
from kernels_gpu.gemv_plan import BLOCK, RUN, Plan
from kernels_gpu.gemv_planes import looked_up_4, make_load_inputs, nibbles
from kernels_gpu.gemv_spec import GemvSpec

HELD_WORDS = 16  # of a lane for a block: 32 codes of rows g and g + 8


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
    low = looked_up_4(words, tables[0], tables[1], uint32(0))
    high = looked_up_4(words, tables[2], tables[3], uint32(0x88888888))
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
    make = _make_gathered if spec.gathered else _make_by_runs
    return make(spec, decoders, fields, row_pair)


def _make_gathered(spec: GemvSpec, decoders: Decoders, fields: Fields, row_pair: RowPair) -> Ahead:
    """For lanes with four blocks next to one another (``gemv_gathered``), two of which may be a group."""
    bits, parts, group = spec.plan.bits, spec.plan.parts, spec.plan.group if spec.plan.group else 1 << 30
    pitch, plane, block_words, inputs_at = spec.pitch, spec.plane, spec.block_words, spec.inputs_at
    product = ptx_tile.product_s8 if spec.plan.signed else ptx_tile.product_u8
    chain, load_inputs = make_chain(product, split=False), make_load_inputs(False)
    tables_of_rows, stage_fields = row_pair.tables, fields.stage_fields
    (hold0, block0), (hold1, block1), (hold2, block2), (hold3, block3) = (
        _make_block(spec, index, decoders.load_block) for index in range(4)
    )
    close_group = make_close_group(spec, row_pair, _make_finish(spec.plan))

    @cuda.jit(device=True)
    def places(at, lane):
        """Words of the first two blocks in the order in which lanes take them."""
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        place, turn = uint32(at + c * uint32(4 * bits) + g * uint32(pitch)), uint32(c >> uint32(1))
        return uint32(place + turn * uint32(bits)), uint32(place + uint32(bits) - turn * uint32(bits))

    @cuda.jit(device=True)
    def tables_of_piece(shared, stage, at, row0, lane, piece):
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        first, _, _, upper_set, lower_set = stage_fields(shared, stage, at, row0, lane)
        field = uint32(uint32(stage * uint32(4) + c) * uint32(RUN) // uint32(group) - first + uint32(piece))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        return tables_of_rows(shared, at, upper, lower, g, first, field, upper_set, lower_set, uint32(0))

    @cuda.jit(device=True)
    def decode(shared, stage, at, row0, lane, held):
        even, odd = places(at, lane)
        u, v = tables_of_piece(shared, stage, at, row0, lane, 0)
        hold0(shared, even, u, v, held)
        hold1(shared, odd, u, v, held)
        if parts == 2:
            u, v = tables_of_piece(shared, stage, at, row0, lane, 1)
        hold2(shared, uint32(even + uint32(2 * bits)), u, v, held)
        hold3(shared, uint32(odd + uint32(2 * bits)), u, v, held)

    @cuda.jit(device=True)
    def add(shared, stage, at, row0, lane, held, y):
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        first, upper_scale_at, lower_scale_at, _, _ = stage_fields(shared, stage, at, row0, lane)
        run = uint32(stage * uint32(4) + c)
        field = uint32(run * uint32(RUN) // uint32(group) - first)
        idle = uint32(g >> uint32(1)) != c  # lane 4 g + c hands in inputs of column g
        step = uint32(0) if idle else uint32(block_words)
        source = uint32(uint32(inputs_at) + run * uint32(4 * block_words) + (g & uint32(1)) * uint32(plane))
        source = uint32(0) if idle else source
        turn = uint32(c >> uint32(1))
        even_source, odd_source = uint32(source + turn * step), uint32(source + step - turn * step)
        even, odd = places(at, lane)
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
        a, b = block2(shared, uint32(even + uint32(2 * bits)), u, v, held)
        more = chain(a, b, load_inputs(shared, uint32(even_source + step + step)), 0, none)
        a, b = block3(shared, uint32(odd + uint32(2 * bits)), u, v, held)
        more = chain(a, b, load_inputs(shared, uint32(odd_source + step + step)), 0, more)
        if parts == 1:
            more = (
                int32(sums[0] + more[0]), int32(sums[1] + more[1]), int32(sums[2] + more[2]), int32(sums[3] + more[3])
            )  # fmt: skip
        field = uint32(field + uint32(parts - 1))
        close_group(shared, at, upper, lower, g, first, field, run, parts - 1, upper_scale_at, lower_scale_at, more, y)

    return Ahead(decode, add)


def _make_by_runs(spec: GemvSpec, decoders: Decoders, fields: Fields, row_pair: RowPair) -> Ahead:
    """For lanes that take every fourth block: one for each run of 128 inputs, in whose parts sums are kept."""
    plan, k, runs, ahead = spec.plan, spec.k, spec.runs, spec.ahead
    bits, parts, group = plan.bits, plan.parts, plan.group if plan.group else 1 << 30
    part_lanes, halves = 4 // parts, 2 if plan.group == 16 else 1
    pitch, plane, whole, sums_per_run = spec.pitch, spec.plane, spec.whole_stages, spec.sums_per_run
    inputs_at, scales_of_x, sums_of_x = spec.inputs_at, spec.input_scales_at, spec.input_sums_at
    product = ptx_tile.product_s8 if plan.signed else ptx_tile.product_u8
    chain, load_inputs, finish = make_chain(product, split=halves == 2), make_load_inputs(False), _make_finish(plan)
    tables_of_rows, steps_of_rows, zeros_of_rows = row_pair.tables, row_pair.steps, row_pair.zeros
    stage_fields, zero_step = fields.stage_fields, plan.zero_step

    def make_run(s: int) -> tuple[Any, Any]:
        hold_block, block = _make_block(spec, s, decoders.load_block)

        @cuda.jit(device=True)
        def place_and_tables(shared, stage, at, row0, lane):
            g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
            first, _, _, upper_set, lower_set = stage_fields(shared, stage, at, row0, lane)
            own = uint32(uint32(stage * uint32(runs) + uint32(s)) * uint32(RUN) + c * uint32(BLOCK))
            field = uint32(own // uint32(group) - first)
            upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
            u, v = tables_of_rows(shared, at, upper, lower, g, first, field, upper_set, lower_set, uint32(0))
            return uint32(at + c * uint32(bits) + g * uint32(pitch) + uint32(s * 4 * bits)), u, v

        @cuda.jit(device=True)
        def hold(shared, stage, at, row0, lane, held):
            place, u, v = place_and_tables(shared, stage, at, row0, lane)
            hold_block(shared, place, u, v, held)

        @cuda.jit(device=True)
        def add_run(shared, stage, at, row0, lane, held, y):
            g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
            upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
            first, upper_scale_at, lower_scale_at, _, _ = stage_fields(shared, stage, at, row0, lane)
            place, u, v = place_and_tables(shared, stage, at, row0, lane)
            a, b = block(shared, place, u, v, held)
            run = uint32(stage * uint32(runs) + uint32(s))
            part = uint32(c & uint32(parts - 1))
            input0 = uint32(run * uint32(RUN) + part * uint32(RUN // parts))
            field = uint32(input0 // uint32(group) - first)
            source = uint32(uint32(inputs_at) + (g & uint32(1)) * uint32(plane) + c * uint32(8) + run * uint32(32))
            if parts > 1:
                idle = uint32(c // uint32(part_lanes)) != uint32(uint32(g >> uint32(1)) & uint32(parts - 1))
                source = uint32(0) if idle else source
            inputs = load_inputs(shared, source)
            x_step = ptx.bits_float(ptx_tile.shared_1(shared, uint32(uint32(scales_of_x) + run)))
            zero = int32(0)
            for half in range(halves):
                here = uint32(field + uint32(half))
                upper_step, lower_step = steps_of_rows(shared, upper_scale_at, lower_scale_at, here)
                upper_zero, lower_zero = zeros_of_rows(shared, at, upper, lower, g, first, here)
                zero_sum = int32(0)
                if sums_per_run > 0:
                    sum_at = uint32(run * uint32(sums_per_run) + part * uint32(halves) + uint32(half))
                    found = ptx_tile.shared_1(shared, uint32(uint32(sums_of_x) + sum_at))
                    zero_sum = int32(ptx.signed(found) * int32(zero_step))
                sums = chain(a, b, inputs, half, (zero, zero, zero, zero))
                upper_sum, lower_sum = finish(
                    sums, int32(int32(upper_zero) * zero_sum), int32(int32(lower_zero) * zero_sum)
                )
                if whole or uint32(input0 + uint32(16 * half)) < uint32(k):
                    y[0] = ptx.fma(ptx.mul(upper_step, x_step), upper_sum, y[0])
                    y[1] = ptx.fma(ptx.mul(lower_step, x_step), lower_sum, y[1])

        return hold, add_run

    made = [make_run(s) for s in range(runs)] * (4 // runs)
    (hold0, add0), (hold1, add1), (hold2, add2), (hold3, add3) = made

    @cuda.jit(device=True)
    def decode(shared, stage, at, row0, lane, held):
        hold0(shared, stage, at, row0, lane, held)
        if ahead > 1:
            hold1(shared, stage, at, row0, lane, held)
        if ahead > 2:
            hold2(shared, stage, at, row0, lane, held)
        if ahead > 3:
            hold3(shared, stage, at, row0, lane, held)

    @cuda.jit(device=True)
    def add(shared, stage, at, row0, lane, held, y):
        add0(shared, stage, at, row0, lane, held, y)
        add1(shared, stage, at, row0, lane, held, y)
        if runs > 2:
            add2(shared, stage, at, row0, lane, held, y)
            add3(shared, stage, at, row0, lane, held, y)

    return Ahead(decode, add)
