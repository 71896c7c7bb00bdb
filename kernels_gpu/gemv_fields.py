"""Device functions of the GEMV that read what goes with groups from a stage: scales, zero points, candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, uint32

from kernels_gpu import ptx_tile
from kernels_gpu.gemv_decode import Decoders, make_scale
from kernels_gpu.gemv_plan import RUN
from kernels_gpu.gemv_spec import GemvSpec


@dataclass(frozen=True)
class Fields:
    """Device functions; ``row``: of the matrix, ``g``: in its tile, ``first``: group of the stage's first input.

    Args:
        zero_of: ``(shared, at, row, g, first, field)``, zero point of group ``first + field``.
        choice_of: ``(shared, at, row, g, first, field, choices)``, candidate of a group; ``choices`` as from
            ``stage_fields``.
        stage_fields: ``(shared, stage, at, row0, lane)``, of the stage at word ``at`` its first group, and for a
            lane's two rows the byte of the first scale each, and candidates.
    """

    zero_of: Any
    choice_of: Any
    stage_fields: Any


def make_fields(spec: GemvSpec) -> Fields:
    """The device functions of one kernel."""
    groups, columns, group = spec.groups, spec.runs * RUN, spec.plan.group if spec.plan.group else 1 << 30
    scale_field, zero_field, low_field, lowest_field, selector_field = spec.fields
    scale_bits, scale_window, scale_at = scale_field.bits, scale_field.words, scale_field.at
    zero_bits, zero_window, zero_at = zero_field.bits, zero_field.words, zero_field.at
    low_bits, low_window, low_at = low_field.bits, low_field.words, low_field.at
    lowest_bits, lowest_window, lowest_at = lowest_field.bits, lowest_field.words, lowest_field.at
    choice_bits, choice_window, choice_at = selector_field.bits, selector_field.words, selector_field.at

    @cuda.jit(device=True)
    def position(row, first, bits):
        """Bit of a row's first field in its window."""
        return uint32(uint32(uint32(row * uint32(groups) + first) * uint32(bits)) & uint32(31))

    @cuda.jit(device=True)
    def small(shared, at, bit, bits):
        """A field of at most 8 bits at a bit of the window that begins at word ``at``."""
        byte = ptx_tile.shared_byte(shared, uint32(at * uint32(4) + (bit >> uint32(3))))
        return uint32((byte >> uint32(bit & uint32(7))) & uint32((1 << bits) - 1))

    @cuda.jit(device=True)
    def zero_of(shared, at, row, g, first, field):
        """Zero point of a row's group; ``g``: the row in its tile."""
        bit = uint32(position(row, first, zero_bits) + field * uint32(zero_bits))
        made = small(shared, uint32(at + uint32(zero_at) + g * uint32(zero_window)), bit, zero_bits)
        if low_window > 0:
            bit = uint32(position(row, first, low_bits) + field * uint32(low_bits))
            low = small(shared, uint32(at + uint32(low_at) + g * uint32(low_window)), bit, low_bits)
            made = uint32((made << uint32(low_bits)) | low)
        if lowest_window > 0:
            bit = uint32(position(row, first, lowest_bits) + field * uint32(lowest_bits))
            low = small(shared, uint32(at + uint32(lowest_at) + g * uint32(lowest_window)), bit, lowest_bits)
            made = uint32((made << uint32(lowest_bits)) | low)
        return made

    @cuda.jit(device=True)
    def choices_of(shared, at, row, g, first):
        """Candidates of a row's groups in a stage, the first one lowest, where they lie in one word."""
        if choice_window != 1:
            return uint32(0)
        word = ptx_tile.shared_1(shared, uint32(at + uint32(choice_at) + g))
        return uint32(word >> position(row, first, choice_bits))

    @cuda.jit(device=True)
    def choice_of(shared, at, row, g, first, field, choices):
        """Candidate of a row's group."""
        if choice_window == 1:
            return uint32((choices >> uint32(field * uint32(choice_bits))) & uint32((1 << choice_bits) - 1))
        if choice_window == 0:
            return uint32(0)
        bit = uint32(position(row, first, choice_bits) + field * uint32(choice_bits))
        return small(shared, uint32(at + uint32(choice_at) + g * uint32(choice_window)), bit, choice_bits)

    @cuda.jit(device=True)
    def stage_fields(shared, stage, at, row0, lane):
        g = uint32(lane >> uint32(2))
        first = uint32(stage * uint32(columns) // uint32(group))
        upper, lower = uint32(row0 + g), uint32(row0 + g + uint32(8))
        upper_scale_at = uint32(
            (at + uint32(scale_at) + g * uint32(scale_window)) * uint32(4)
            + (position(upper, first, scale_bits) >> uint32(3))
        )
        lower_scale_at = uint32(
            (at + uint32(scale_at) + (g + uint32(8)) * uint32(scale_window)) * uint32(4)
            + (position(lower, first, scale_bits) >> uint32(3))
        )
        upper_set = choices_of(shared, at, upper, g, first)
        lower_set = choices_of(shared, at, lower, uint32(g + uint32(8)), first)
        return first, upper_scale_at, lower_scale_at, upper_set, lower_set

    return Fields(zero_of, choice_of, stage_fields)


@dataclass(frozen=True)
class RowPair:
    """Device functions for rows g and g + 8 of a tile, ``upper`` and ``lower`` in the matrix, in one group.

    Args:
        tables: ``(shared, at, upper, lower, g, first, field, upper_set, lower_set, own_tables)``, their table words.
        steps: ``(shared, upper_scale_at, lower_scale_at, field)``, their scales.
        zeros: ``(shared, at, upper, lower, g, first, field)``, their zero points.
    """

    tables: Any
    steps: Any
    zeros: Any


def make_row_pair(spec: GemvSpec, decoders: Decoders, fields: Fields) -> RowPair:
    """The device functions of one kernel."""
    plan, learned_pitch = spec.plan, spec.learned_pitch
    learned, one_table, scaled = plan.learned, len(plan.tables) <= 1, plan.scale is not None
    scale_bits, zero_window = spec.fields[0].bits, spec.fields[1].words
    tables_of, scale_value = decoders.tables_of, make_scale(plan.scale)
    zero_of, choice_of = fields.zero_of, fields.choice_of

    @cuda.jit(device=True)
    def tables(shared, at, upper, lower, g, first, field, upper_set, lower_set, own_tables):
        if learned:
            tables_at_g = uint32(own_tables + g * uint32(learned_pitch))
            upper_tables = tables_of(shared, tables_at_g)
            lower_tables = tables_of(shared, uint32(tables_at_g + uint32(8 * learned_pitch)))
        else:
            upper_tables = tables_of(shared, choice_of(shared, at, upper, g, first, field, upper_set))
            lower_tables = upper_tables
        if not one_table:
            lower_choice = choice_of(shared, at, lower, uint32(g + uint32(8)), first, field, lower_set)
            lower_tables = tables_of(shared, lower_choice)
        return upper_tables, lower_tables

    @cuda.jit(device=True)
    def steps(shared, upper_scale_at, lower_scale_at, field):
        upper_step, lower_step = float32(1), float32(1)
        if scaled:
            moved = uint32(field * uint32(scale_bits // 8))
            upper_step = scale_value(shared, uint32(upper_scale_at + moved))
            lower_step = scale_value(shared, uint32(lower_scale_at + moved))
        return upper_step, lower_step

    @cuda.jit(device=True)
    def zeros(shared, at, upper, lower, g, first, field):
        upper_zero, lower_zero = uint32(0), uint32(0)
        if zero_window > 0:
            upper_zero = zero_of(shared, at, upper, g, first, field)
            lower_zero = zero_of(shared, at, lower, uint32(g + uint32(8)), first, field)
        return upper_zero, lower_zero

    return RowPair(tables, steps, zeros)
