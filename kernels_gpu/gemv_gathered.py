"""Device function of the GEMV for one token: a stage of 512 inputs in which each lane has 128 next to one another.

The four lanes of a row then have groups of their own. The right operand is block-diagonal: columns 2 c and 2 c + 1 are
the digits of the inputs of lanes c, zero elsewhere. So the sums of 128 inputs (or 64, by their groups) take one scale,
one conversion and one table, and codes come by loads of 16 bytes: 506 instructions a stage for BitMoD-3 where 659 were,
289 for INT4 where 476 were.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_decode import Decoders
from kernels_gpu.gemv_fields import RowPair
from kernels_gpu.gemv_plan import RUN
from kernels_gpu.gemv_planes import make_load_four, make_load_inputs
from kernels_gpu.gemv_short_groups import make_short_groups, make_short_stage
from kernels_gpu.gemv_spec import GemvSpec


def make_close_group(spec: GemvSpec, row_pair: RowPair, finish: Any) -> Any:
    """Device function that adds a group's sums to ``y``; ``finish`` makes them numbers, less those of zero points."""
    plan, k, sums_per_run, whole = spec.plan, spec.k, spec.sums_per_run, spec.whole_stages
    scales_of_x, sums_of_x, zero_step = spec.input_scales_at, spec.input_sums_at, plan.zero_step
    steps_of_rows, zeros_of_rows = row_pair.steps, row_pair.zeros

    @cuda.jit(device=True)
    def close_group(shared, at, upper, lower, g, first, field, run, piece, upper_scale_at, lower_scale_at, sums, y):
        """Add a group's sums, with one token, to ``y``."""
        upper_step, lower_step = steps_of_rows(shared, upper_scale_at, lower_scale_at, field)
        upper_zero, lower_zero = zeros_of_rows(shared, at, upper, lower, g, first, field)
        zero_sum = int32(0)
        if sums_per_run > 0:
            found = ptx_tile.shared_1(shared, uint32(uint32(sums_of_x) + run * uint32(sums_per_run) + uint32(piece)))
            zero_sum = int32(ptx.signed(found) * int32(zero_step))
        upper_sum, lower_sum = finish(sums, int32(int32(upper_zero) * zero_sum), int32(int32(lower_zero) * zero_sum))
        x_step = ptx.bits_float(ptx_tile.shared_1(shared, uint32(uint32(scales_of_x) + run)))
        if whole or run * uint32(RUN) + uint32(piece * (RUN // 2)) < uint32(k):
            y[0] = ptx.fma(ptx.mul(upper_step, x_step), upper_sum, y[0])
            y[1] = ptx.fma(ptx.mul(lower_step, x_step), lower_sum, y[1])

    return close_group


def make_step_stage(spec: GemvSpec, decoders: Decoders, row_pair: RowPair) -> Any:
    """Device function that adds the products of a stage to ``y``."""
    plan = spec.plan
    if plan.parts > 2:
        short = make_short_groups(spec, row_pair, decoders.accumulate, decoders.no_sums, decoders.finish)
        return make_short_stage(spec, short, row_pair, decoders.load_block, make_load_four(plan.bits))
    bits, parts, group = plan.bits, plan.parts, plan.group if plan.group else 1 << 30
    pitch, plane, block_words, inputs_at = spec.pitch, spec.plane, spec.block_words, spec.inputs_at
    as_halves, turned = plan.halves, spec.turned
    two, three = 2 * bits, 3 * bits
    load_block, load_four, load_inputs = decoders.load_block, make_load_four(bits), make_load_inputs(plan.halves)
    accumulate, no_sums, tables_of_rows = decoders.accumulate, decoders.no_sums, row_pair.tables
    close_group = make_close_group(spec, row_pair, decoders.finish)

    @cuda.jit(device=True)
    def add_block(shared, upper_codes, lower_codes, upper_tables, lower_tables, source, sums):
        """``sums`` with the products of a block of 32 inputs that begin at word ``source``."""
        inputs = load_inputs(shared, source)
        return accumulate(upper_codes, lower_codes, upper_tables, lower_tables, inputs, 0, sums)

    @cuda.jit(device=True)
    def add_two_turned(shared, even, odd, upper_tables, lower_tables, even_source, odd_source, sums):
        """``sums`` with the products of two blocks of codes, at ``even`` and at ``odd`` in row g."""
        a, b = load_block(shared, even), load_block(shared, uint32(even + uint32(8 * pitch)))
        sums = add_block(shared, a, b, upper_tables, lower_tables, even_source, sums)
        a, b = load_block(shared, odd), load_block(shared, uint32(odd + uint32(8 * pitch)))
        return add_block(shared, a, b, upper_tables, lower_tables, odd_source, sums)

    @cuda.jit(device=True)
    def step_stage(
        shared, stage, first, at, row0, lane, upper_scale_at, lower_scale_at, upper_set, lower_set, own_tables, y,
    ):  # fmt: skip
        """Add the products of a stage of 512 inputs to ``y``: a lane has the codes of 128 inputs next to each other.

        The right operand is block-diagonal: columns 2 c and 2 c + 1 are the digits of the inputs of lanes c.
        """
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        run = uint32(stage * uint32(4) + c)
        field = uint32(run * uint32(RUN) // uint32(group) - first)
        u, v = tables_of_rows(shared, at, upper, lower, g, first, field, upper_set, lower_set, own_tables)
        # lane 4 g + c hands in inputs of column g; written as g, it compiles otherwise than what was timed
        column = uint32(lane >> uint32(2))
        idle = uint32(column >> uint32(1)) != c
        # words of zeros for lanes whose inputs are not the column's
        step = uint32(0) if idle else uint32(block_words)
        source = uint32(uint32(inputs_at) + run * uint32(4 * block_words))
        if not as_halves:
            source = uint32(source + (column & uint32(1)) * uint32(plane))
        source = uint32(0) if idle else source
        place = uint32(at + c * uint32(4 * bits) + g * uint32(pitch))
        sums = no_sums()
        if turned:
            turn = uint32(c >> uint32(1))
            even = uint32(place + turn * uint32(bits))
            odd = uint32(place + uint32(bits) - turn * uint32(bits))
            even_source = uint32(source + turn * step)
            odd_source = uint32(source + step - turn * step)
            sums = add_two_turned(shared, even, odd, u, v, even_source, odd_source, sums)
        else:
            a, b = load_four(shared, place), load_four(shared, uint32(place + uint32(8 * pitch)))
            sums = add_block(shared, a[:bits], b[:bits], u, v, source, sums)
            source = uint32(source + step)
            sums = add_block(shared, a[bits:two], b[bits:two], u, v, source, sums)
            source = uint32(source + step)
        if parts == 2:
            close_group(shared, at, upper, lower, g, first, field, run, 0, upper_scale_at, lower_scale_at, sums, y)
            sums = no_sums()
            field = uint32(field + uint32(1))
            u, v = tables_of_rows(shared, at, upper, lower, g, first, field, upper_set, lower_set, own_tables)
        if turned:
            even, odd = uint32(even + uint32(two)), uint32(odd + uint32(two))
            even_source, odd_source = uint32(even_source + step + step), uint32(odd_source + step + step)
            sums = add_two_turned(shared, even, odd, u, v, even_source, odd_source, sums)
        else:
            sums = add_block(shared, a[two:three], b[two:three], u, v, source, sums)
            sums = add_block(shared, a[three:], b[three:], u, v, uint32(source + step), sums)
        close_group(shared, at, upper, lower, g, first, field, run, parts - 1, upper_scale_at, lower_scale_at, sums, y)

    return step_stage
