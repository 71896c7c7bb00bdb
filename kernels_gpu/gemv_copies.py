"""Device functions of the GEMV that start copies of a stage: codes of its rows, and the fields that go with groups."""

from __future__ import annotations

from typing import Any

from numba import cuda, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import TILE_ROWS
from kernels_gpu.gemv_spec import WARP, Field, GemvSpec


def make_copy_codes(spec: GemvSpec) -> Any:
    """Device function that starts copying a stage's codes: four lanes a row, so that places differ by constants."""
    row_words, row_stage, pitch = spec.row_words, spec.stage_row_words, spec.pitch
    whole_rows, whole_stages, aligned = spec.whole_rows, spec.whole_stages, spec.aligned
    size = 4 if aligned else 1
    row_copies = row_stage // size
    rounds = -(-row_copies // 4)

    @cuda.jit(device=True)
    def copy_codes(shared, at, words, row0, stage, n, g, c):
        first = uint32(uint32(row0 + g) * uint32(row_words) + stage * uint32(row_stage) + c * uint32(size))
        upper = ptx_tile.place_of(words, first)
        lower = ptx_tile.place_of(words, uint32(first + uint32(8 * row_words)))
        to_upper = uint32(at + g * uint32(pitch) + c * uint32(size))
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


def make_copy_field(spec: GemvSpec, field: Field) -> Any:
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
