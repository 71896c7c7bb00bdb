"""Device functions of the GEMV that start copies of a stage: codes of its rows, and the fields that go with groups."""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import RUN, TILE_ROWS
from kernels_gpu.gemv_spec import WARP, Field, GemvSpec


def _make_copy_codes(spec: GemvSpec) -> Any:
    """Device function that starts copying a stage's codes: four lanes a row, so that places differ by constants."""
    row_words, row_stage, pitch = spec.row_words, spec.stage_row_words, spec.pitch
    whole_rows, whole_stages, aligned, swapped = spec.whole_rows, spec.whole_stages, spec.aligned, spec.swapped
    size = 4 if aligned else 1
    row_copies = row_stage // size
    rounds = -(-row_copies // 4)

    @cuda.jit(device=True)
    def copy_codes(shared, at, words, row0, stage, n, g, c):
        first = uint32(uint32(row0 + g) * uint32(row_words) + stage * uint32(row_stage) + c * uint32(size))
        upper = ptx_tile.place_of(words, first)
        lower = ptx_tile.place_of(words, uint32(first + uint32(8 * row_words)))
        place = uint32(c ^ (g & uint32(1))) if swapped else c
        to_upper = uint32(at + g * uint32(pitch) + place * uint32(size))
        to_lower = uint32(to_upper + uint32(8 * pitch))
        left = uint32(uint32(row_words) - stage * uint32(row_stage) - c * uint32(size))
        upper_there = whole_rows or uint32(row0 + g) < n
        lower_there = whole_rows or uint32(row0 + g + uint32(8)) < n
        for i in range(rounds):
            offset = uint32(i * 4 * size)
            if row_copies % 4 != 0 and c >= uint32(row_copies - 4 * i):
                break
            if aligned and whole_rows and whole_stages:
                ptx_tile.copy_async_16(shared, to_upper, upper, offset)
                ptx_tile.copy_async_16(shared, to_lower, lower, offset)
            else:
                # ``left`` is taken as signed: it wraps below zero where the row has ended before
                there = whole_stages or ptx.signed(left) > int32(i * 4 * size)
                if aligned:
                    ptx_tile.copy_async_16_if(
                        shared, to_upper, upper, offset, uint32(16) if there and upper_there else uint32(0)
                    )
                    ptx_tile.copy_async_16_if(
                        shared, to_lower, lower, offset, uint32(16) if there and lower_there else uint32(0)
                    )
                else:
                    ptx_tile.copy_async_4(
                        shared, to_upper, upper, offset, uint32(4) if there and upper_there else uint32(0)
                    )
                    ptx_tile.copy_async_4(
                        shared, to_lower, lower, offset, uint32(4) if there and lower_there else uint32(0)
                    )

    return copy_codes


def _make_copy_field(spec: GemvSpec, field: Field) -> Any:
    """Device function that starts copying the windows of one field."""
    window, bits, groups = field.words, field.bits, spec.groups
    count, target = TILE_ROWS * field.words, field.at
    rounds = -(-count // WARP)

    @cuda.jit(device=True)
    def copy_field(shared, at, address, row0, first, base, total, lane):
        """``base``: word of the field's plane; ``total``: words of its array."""
        for i in range(rounds):
            q = uint32(lane + uint32(WARP * i))
            if count % WARP == 0 or q < uint32(count):
                row = uint32(q // uint32(window))
                start = uint32(uint32(uint32(row0 + row) * uint32(groups) + first) * uint32(bits)) >> uint32(5)
                word = uint32(base + start + (q - row * uint32(window)))
                there = uint32(4) if word < total else uint32(0)
                place = ptx_tile.place_of(address, word)
                ptx_tile.copy_async_4(shared, uint32(at + uint32(target) + q), place, uint32(0), there)

    return copy_field


def make_copy_stage(spec: GemvSpec) -> Any:
    """Device function that starts copying a warp's stage: codes, scales, zero points, selectors of a tile's rows."""
    scale, zero, low, lowest, choice = spec.fields
    scaled, zeroed, has_low = scale.words > 0, zero.words > 0, low.words > 0
    has_lowest, chosen = lowest.words > 0, choice.words > 0
    stage_columns, group = spec.runs * RUN, spec.plan.group if spec.plan.group else 1 << 30
    copy_codes = _make_copy_codes(spec)
    copy_scale, copy_zero, copy_low = (_make_copy_field(spec, field) for field in (scale, zero, low))
    copy_lowest, copy_choice = _make_copy_field(spec, lowest), _make_copy_field(spec, choice)

    @cuda.jit(device=True)
    def copy_stage(
        shared, at, stage, row0, lane, g, c, words, scales, zeros, selectors, rows, scale_words, zero_words, low_base,
        lowest_base, selector_words,
    ):  # fmt: skip
        """Lane ``4 g + c``; ``low_base`` and ``lowest_base``: words of ``zeros`` where its lower planes begin."""
        copy_codes(shared, at, words, row0, stage, rows, g, c)
        first = uint32(stage * uint32(stage_columns) // uint32(group))
        none = uint32(0)
        if scaled:
            copy_scale(shared, at, scales, row0, first, none, uint32(scale_words), lane)
        if zeroed:
            copy_zero(shared, at, zeros, row0, first, none, uint32(zero_words), lane)
        if has_low:
            copy_low(shared, at, zeros, row0, first, uint32(low_base), uint32(zero_words), lane)
        if has_lowest:
            copy_lowest(shared, at, zeros, row0, first, uint32(lowest_base), uint32(zero_words), lane)
        if chosen:
            copy_choice(shared, at, selectors, row0, first, none, uint32(selector_words), lane)

    return copy_stage
