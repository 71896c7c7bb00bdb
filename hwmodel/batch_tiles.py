"""``hwmodel.tile_schedule`` and ``tile_time`` in the kernels of ``batch_evaluate``: what comes again, and how long.

The functions are those of these files, compiled; here they are called as ``hwmodel.tile_plan`` calls them, and
``hwmodel.batch_choice`` calls these.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable

from hwmodel import batch_columns, event_options, tile_schedule, tile_time
from hwmodel.batch_columns import (
    COUNT,
    FIRST,
    HEADS,
    INPUT_BITS,
    INPUT_BYTES,
    INPUT_TURN_BYTES,
    KEYS,
    KIND,
    MASK,
    OFFSET,
    OUTPUT_BITS,
    SHARED,
    TILE_LANES,
    TILE_STEPS,
    TURNS,
    VECTOR_CYCLES,
    WEIGHT_BITS,
    WEIGHT_BYTES,
    WEIGHT_TURN_BYTES,
    WHOLE_TILES,
    M,
    N,
)  # fmt: skip
from hwmodel.tile_schedule import choose_fetches, fetch_times, held_blocks, seen_keys, seen_steps
from hwmodel.tile_time import (
    LATENCY_S,
    block_cycles,
    first_data,
    last_vector_cycles,
    layer_cycles,
    most_cycles,
    part_cycles,
    product_cycles,
)

Compile = Callable[[Callable[..., Any]], Any]


def fresh(*modules: ModuleType) -> Compile:
    """``numba.njit`` whose cache is not used again where one of ``modules`` has changed.

    Numba looks at the file of a function alone, and not at those of what it calls or of the constants in it.
    """
    stamp = zlib.crc32("".join(inspect.getsource(module) for module in modules).encode())

    def compiled(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"_{stamp:08x}"  # part of the name in the cache
        return njit(nogil=True, cache=True, error_model="numpy")(function)

    return compiled


jit_inline = njit(nogil=True, error_model="numpy", inline="always")

for _function in (
    seen_keys, seen_steps, fetch_times, held_blocks, choose_fetches, block_cycles, part_cycles, first_data,
    product_cycles,
    layer_cycles, last_vector_cycles, most_cycles,
):  # fmt: skip
    register_jitable(error_model="numpy")(_function)  # compiled where a kernel calls it
_jit = fresh(batch_columns, event_options, tile_schedule, tile_time)


@_jit
def _shape(forms, f, rows, columns):  # type: ignore[no-untyped-def]
    """``hwmodel.tile_plan.numbers_of``."""
    return (
        forms[f, N], forms[f, M], forms[f, TILE_STEPS], forms[f, TURNS], forms[f, SHARED], rows, columns,
        forms[f, MASK], forms[f, KEYS], forms[f, HEADS], forms[f, OFFSET], forms[f, TILE_LANES],
    )  # fmt: skip


@_jit
def fetch_part(forms, f, rows, columns, hold, weight_room, input_room, settings):  # type: ignore[no-untyped-def]
    """``hwmodel.tile_plan.tile_plan`` of a product."""
    whole = settings[WHOLE_TILES] != 0
    weight_bytes = forms[f, WEIGHT_TURN_BYTES] if whole else forms[f, WEIGHT_BYTES]
    input_bytes = forms[f, INPUT_TURN_BYTES] if whole else forms[f, INPUT_BYTES]
    return choose_fetches(
        whole, hold, forms[f, WEIGHT_BITS], forms[f, INPUT_BITS], weight_bytes, input_bytes, weight_room, input_room,
        _shape(forms, f, rows, columns),
    )  # fmt: skip


@_jit
def filled_item(  # type: ignore[no-untyped-def]
    forms, items, item, work, rows, columns, chosen, bandwidth, clock, weight_room, input_room
):  # fmt: skip
    """``hwmodel.tile_plan.filled_cycles`` and ``look_up_cycles`` of an item.

    Args:
        work: [PARTS], cycles of the array for each product.
        rows, columns: of the tile.
        chosen: [PARTS, 6], of ``fetch_part``.
        bandwidth, clock: bits in a cycle, Hz.
    """
    first = items[item, FIRST]
    if forms[first, KIND] == 6:
        moved = forms[first, WEIGHT_BITS] + forms[first, INPUT_BITS] + forms[first, OUTPUT_BITS]
        return np.ceil(moved / bandwidth + LATENCY_S * clock) if moved > 0 else 0.0
    if forms[first, KIND] == 5:
        return 0.0
    dram = vector = taken = behind = ready = last = 0.0
    for part in range(items[item, COUNT]):
        f = first + part
        fetches = (
            chosen[part, 0], chosen[part, 1], chosen[part, 2], chosen[part, 3], chosen[part, 4], chosen[part, 5]
        )  # fmt: skip
        cycles, behind, moving, operating, first_ready, last = product_cycles(
            work[part], forms[f, VECTOR_CYCLES], forms[f, WEIGHT_BITS], forms[f, INPUT_BITS], forms[f, OUTPUT_BITS],
            bandwidth, forms[f, WEIGHT_TURN_BYTES], forms[f, INPUT_TURN_BYTES], weight_room, input_room, fetches,
            _shape(forms, f, rows, columns), part == 0,
        )  # fmt: skip
        taken, dram, vector, ready = taken + cycles, dram + moving, vector + operating, ready + first_ready
    latency = LATENCY_S * clock if forms[first, WEIGHT_BITS] + forms[first, INPUT_BITS] > 0 else 0.0
    return float(layer_cycles(taken, dram, vector, behind, latency, ready, last))
