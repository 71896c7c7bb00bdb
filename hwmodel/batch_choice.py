"""The choice of tiles and held operands (``hwmodel.tile_choice``) in the kernels of ``batch_evaluate``, compiled."""

from __future__ import annotations

import math

import numpy as np

from hwmodel import array_path_blocks, batch_columns, batch_rows, batch_tiles, event_options, tile_schedule, tile_time
from hwmodel.batch_columns import (
    COUNT,
    FILL,
    FIRST,
    INPUT_BITS,
    MASK,
    OUTPUT_BITS,
    ROUND_UP,
    VECTOR_CYCLES,
    WEIGHT_BITS,
    M,
    N,
)  # fmt: skip
from hwmodel.batch_rows import array_cycles, ceil_div
from hwmodel.batch_tiles import fetch_part, filled_item, fresh
from hwmodel.tile_time import most_cycles

jit = fresh(array_path_blocks, batch_columns, batch_rows, batch_tiles, event_options, tile_schedule, tile_time)
# columns of ``tried``
_TAKEN, _MOVED, _COMPUTE, _DRAM, _ROWS, _COLUMNS, _HELD = range(7)
TRIED = 7


@jit
def _fetch(forms, first, count, rows, columns, room_w, room_i, settings, either):  # type: ignore[no-untyped-def]
    """Fetches of the products of an item with inputs and with weights held; ``either`` [PARTS, 2, 6] is out."""
    for part in range(count):
        for hold in range(2):
            fetches = fetch_part(forms, first + part, rows, columns, hold, room_w, room_i, settings)
            for i in range(6):
                either[part, hold, i] = fetches[i]


@jit
def _held(count, mask, either, chosen):  # type: ignore[no-untyped-def]
    """Take the fetches with operands held as ``mask`` says, the first product in its highest bit; false if another mask
    stands for the same."""
    for part in range(count):
        hold = (mask >> (count - 1 - part)) & 1
        same = hold == 1
        for i in range(6):
            chosen[part, i] = either[part, hold, i]
            same = same and either[part, 0, i] == either[part, 1, i]
        if same:
            return False
    return True


@jit
def _bits(forms, f, weight_times, input_times):  # type: ignore[no-untyped-def]
    """Over the bus, everything that comes again included."""
    return weight_times * forms[f, WEIGHT_BITS] + input_times * forms[f, INPUT_BITS] + forms[f, OUTPUT_BITS]


@jit
def memory_cycles(bits, bandwidth, round_up):  # type: ignore[no-untyped-def]
    """``hwmodel.traffic.dram_cycles``."""
    return np.int64(math.ceil(bits / bandwidth)) if round_up else np.int64(bits / bandwidth)


@jit
def _work_of(forms, floats, tables, first, count, rows, columns, work):  # type: ignore[no-untyped-def]
    """Cycles of the array for each product on tiles of these sizes; returns their sum."""
    total = np.int64(0)
    for part in range(count):
        f = first + part
        row_tiles, passes = ceil_div(forms[f, N], rows), ceil_div(forms[f, M], columns)
        _, compute, _ = array_cycles(forms, floats, tables, f, row_tiles, passes, rows, columns)
        work[part] = compute
        total += compute
    return total


@jit
def _try_tile(  # type: ignore[no-untyped-def]
    forms, items, taken, rows, columns, compute, vector, bandwidth, clock, room_w, room_i, settings, most, work, either,
    chosen, tried, made, fastest,
):  # fmt: skip
    """Every way to hold one operand of each product of an item.

    Args:
        most: cycles at which a schedule is not looked at any more; below 0 for none.
        made, fastest: of what was tried before.

    Returns:
        The same with these.
    """
    first, count = items[taken, FIRST], items[taken, COUNT]
    _fetch(forms, first, count, rows, columns, room_w, room_i, settings, either)
    for mask in range(1 << count):
        if not _held(count, mask, either, chosen):
            continue
        moved = memory = np.int64(0)
        for part in range(count):
            bits = _bits(forms, first + part, chosen[part, 2], chosen[part, 3])
            moved += bits
            memory += memory_cycles(bits, bandwidth, settings[ROUND_UP] != 0)
        cycles = max(compute, memory, vector)
        if 0 <= most < cycles:
            continue
        if settings[FILL]:
            filled = filled_item(forms, items, taken, work, rows, columns, chosen, bandwidth, clock, room_w, room_i)
            cycles = max(cycles, np.int64(filled))
        fastest = cycles if made == 0 else min(fastest, cycles)
        tried[made, _TAKEN], tried[made, _MOVED], tried[made, _COMPUTE] = cycles, moved, compute
        tried[made, _DRAM], tried[made, _ROWS], tried[made, _COLUMNS], tried[made, _HELD] = memory, rows, columns, mask
        made += 1
    return made, fastest


@jit
def _least_compute(unit, rows, columns):  # type: ignore[no-untyped-def]
    """``hwmodel.tile_choice.least_compute``."""
    return unit // (rows * ceil_div(columns, 2))


@jit
def choose_tiles(  # type: ignore[no-untyped-def]
    forms, floats, tables, items, item, narrow, row_sizes, column_sizes, lanes, bandwidth, clock, room_w, room_i,
    settings, slack, tried, either, chosen, work,
):  # fmt: skip
    """``hwmodel.tile_choice.schedule_layer``.

    Args:
        items: of these ``item``, or ``narrow`` where tiles have a single column.
        row_sizes, column_sizes: of tiles, the array's own first, 0 after the last.
        lanes: of the vector unit.
        tried: scratch, [schedules, 7]; either: scratch, [PARTS, 2, 6]; chosen: out, [PARTS, 6]: fetches; work: scratch,
            [PARTS].

    Returns:
        Cycles; those of DRAM; rows and columns of tiles; the item that was taken.
    """
    count, first = items[item, COUNT], items[item, FIRST]
    n, m = forms[first, N], forms[first, M]
    made, fastest = 0, np.int64(0)
    compute = _work_of(forms, floats, tables, first, count, row_sizes[0], column_sizes[0], work)
    vector = memory = np.int64(0)
    for part in range(count):
        vector += forms[first + part, VECTOR_CYCLES]
        memory += memory_cycles(_bits(forms, first + part, 1, 1), bandwidth, settings[ROUND_UP] != 0)
    masked, unit = forms[first, MASK] != 0, np.int64(0)
    floor = compute
    if masked:
        unit = _work_of(forms, floats, tables, first, count, np.int64(1), min(column_sizes[0], np.int64(2)), work)
        floor = _least_compute(unit, row_sizes[0], column_sizes[0])
    least = max(floor, memory, vector)
    over = compute == 0
    if over:
        columns = lanes
        while columns > 0:
            rows = lanes
            while rows > 0:
                if not (m <= columns < lanes or n <= rows < lanes):
                    made, fastest = _try_tile(
                        forms, items, item, rows, columns, compute, vector, bandwidth, clock, room_w, room_i, settings,
                        np.int64(-1), work, either, chosen, tried, made, fastest,
                    )  # fmt: skip
                    if fastest <= most_cycles(least, slack):
                        rows = columns = np.int64(0)
                rows //= 2
            columns //= 2
    for j in range(len(column_sizes)):
        columns = column_sizes[j]
        if columns == 0 or over:
            break
        if j > 0 and m <= columns:
            continue
        taken = narrow if columns == 1 else item
        for i in range(len(row_sizes)):
            rows = row_sizes[i]
            if rows == 0:
                break
            if i > 0 and n <= rows:
                continue
            most = np.int64(-1) if made == 0 else most_cycles(fastest, slack)
            if masked and 0 <= most < _least_compute(unit, rows, columns):
                over = i == 0
                break
            compute = _work_of(forms, floats, tables, items[taken, FIRST], count, rows, columns, work)
            if 0 <= most < compute:
                if masked:
                    continue  # smaller tiles may waste less above the diagonal
                over = i == 0
                break
            made, fastest = _try_tile(
                forms, items, taken, rows, columns, compute, vector, bandwidth, clock, room_w, room_i, settings, most,
                work, either, chosen, tried, made, fastest,
            )  # fmt: skip
            if fastest <= most_cycles(least, slack):
                over = True
                break
    best, most = -1, most_cycles(least if fastest <= most_cycles(least, slack) else fastest, slack)
    for at in range(made):
        if tried[at, _TAKEN] <= most and (
            best < 0
            or tried[at, _MOVED] < tried[best, _MOVED]
            or (tried[at, _MOVED] == tried[best, _MOVED] and tried[at, _COMPUTE] < tried[best, _COMPUTE])
        ):
            best = at
    rows, columns = tried[best, _ROWS], tried[best, _COLUMNS]
    taken = narrow if columns == 1 and tried[best, _COMPUTE] > 0 else item
    _fetch(forms, items[taken, FIRST], count, rows, columns, room_w, room_i, settings, either)
    _held(count, tried[best, _HELD], either, chosen)
    if tried[best, _COMPUTE] == 0:
        rows, columns = row_sizes[0], column_sizes[0]  # the array, which has nothing to do
    return tried[best, _TAKEN], tried[best, _DRAM], rows, columns, taken
