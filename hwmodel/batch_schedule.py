"""The compiled inner loop of ``batch_evaluate`` where layers are priced as tile schedules (``hwmodel.tile_choice``).

Tiles and held operands are chosen anew for every item in every design, since buffers, memory and clock all have a say:
nothing is shared but the forms of the layers. Arguments and results are those of ``hwmodel.batch_kernels.price_rows``.
"""

from __future__ import annotations

import math

import numpy as np

from hwmodel import (
    array_path_blocks,
    batch_choice,
    batch_columns,
    batch_rows,
    batch_tiles,
    event_options,
    tile_schedule,
    tile_time,
)
from hwmodel.batch_choice import TRIED, choose_tiles, memory_cycles
from hwmodel.batch_columns import (
    COPIES,
    COUNT,
    DETAIL,
    ENCODER_PJ,
    ENTRIES,
    FILL,
    FIRST,
    GATHERS,
    GATING,
    IDLE_PJ,
    INPUT_BITS,
    INPUT_WIDTH,
    INPUT_WORDS,
    KIND,
    LEAK,
    LOAD,
    LOGIC_MW,
    LOOKUPS,
    MACS,
    METADATA,
    OFF_ARRAY,
    OUTPUT_BITS,
    OUTPUT_WORDS,
    PARTS,
    PE_PJ,
    PORT,
    PORT_BITS,
    PREFILL_COLUMNS,
    READ,
    ROOM,
    ROUND_UP,
    TABLES_START,
    TABLES_STOP,
    TIMES,
    VECTOR,
    VECTOR_CYCLES,
    WEIGHT_BITS,
    WEIGHT_WIDTH,
    WEIGHT_WORDS,
    WRITE,
    M,
    N,
)
from hwmodel.batch_rows import array_cycles, ceil_div, table_loads
from hwmodel.batch_tiles import filled_item, fresh

jit = fresh(
    array_path_blocks, batch_choice, batch_columns, batch_rows, batch_tiles, event_options, tile_schedule, tile_time
)  # fmt: skip
# what a design sums up: integers, then floats
_CYCLES, _DRAM_CYCLES, _COMPUTED, _VECTOR, _WEIGHTS, _INPUTS, _OUTPUTS, _COMPULSORY, _MACS, _TABLES = range(10)
_BUSY, _OPERATIONS, _LEAKS = range(3)


@jit
def _add_product(  # type: ignore[no-untyped-def]
    forms, floats, tables, f, times, rows, columns, own_columns, of, to, ports, weight_times,
    input_times, gating, traffic, whole, sums,
):  # fmt: skip
    """Add what a product of a layer costs beside its time.

    Args:
        rows, columns: of its tiles; ``own_columns`` of the array.
        of, to: ports of the weight and of the activation buffer that a tile reads.
        traffic: out, [4, ports]: reads and written words of the weight buffer and of the activation buffer.
        whole, sums: out, integers and floats of the design.
    """
    n, m, copies = forms[f, N], forms[f, M], forms[f, COPIES]
    row_tiles, passes = ceil_div(n, rows), ceil_div(m, columns)
    steps, compute, weighted = array_cycles(forms, floats, tables, f, row_tiles, passes, rows, columns)
    if forms[f, OFF_ARRAY]:
        steps += np.int64(math.ceil(forms[f, OFF_ARRAY] * 16 / ports[of]))
    traffic[0, of] += times * (steps + float(forms[f, METADATA]) / ports[of] * passes * copies)
    traffic[1, of] += times * float(weight_times * forms[f, WEIGHT_WORDS])
    traffic[2, to] += times * float(steps)
    traffic[2, 0] += times * float(forms[f, GATHERS])
    traffic[3, to] += times * float(input_times * forms[f, INPUT_WORDS] + forms[f, OUTPUT_WORDS])
    for t in range(forms[f, TABLES_START], forms[f, TABLES_STOP]):
        whole[_TABLES] = max(whole[_TABLES], tables[t, ROOM])
        words = tables[t, ENTRIES] * 16 * min(rows, n) * table_loads(tables, t, row_tiles) / 64
        traffic[0, 0] += times * copies * words
        traffic[0, tables[t, PORT]] += times * copies * float(tables[t, LOOKUPS] * passes)
    share = m / (passes * columns) * (columns / own_columns) if gating else 1.0
    sums[_BUSY] += times * weighted * share
    sums[_OPERATIONS] += times * float(forms[f, VECTOR] + weight_times * forms[f, LOAD])
    whole[_COMPUTED] += times * compute
    whole[_VECTOR] += times * forms[f, VECTOR_CYCLES]
    whole[_MACS] += times * forms[f, MACS]
    whole[_WEIGHTS] += times * weight_times * forms[f, WEIGHT_BITS]
    whole[_INPUTS] += times * input_times * forms[f, INPUT_BITS]
    whole[_OUTPUTS] += times * forms[f, OUTPUT_BITS]
    whole[_COMPULSORY] += times * (forms[f, WEIGHT_BITS] + forms[f, INPUT_BITS] + forms[f, OUTPUT_BITS])


@jit
def _add_other(  # type: ignore[no-untyped-def]
    forms, items, item, to, ports, bandwidth, clock, settings, traffic, whole, sums, work, chosen
):  # fmt: skip
    """Add a look-up or a vector operation; returns its cycles."""
    f, times = items[item, FIRST], items[item, TIMES]
    bits = forms[f, WEIGHT_BITS] + forms[f, INPUT_BITS] + forms[f, OUTPUT_BITS]
    memory = memory_cycles(bits, bandwidth, settings[ROUND_UP] != 0) if bits else np.int64(0)
    if forms[f, KIND] == 5:
        traffic[2, to] += times * float(forms[f, PORT_BITS]) / ports[to]
        traffic[3, to] += times * (forms[f, PORT_BITS] / 64)
    cycles = max(memory, forms[f, VECTOR_CYCLES])
    if settings[FILL]:
        filled = filled_item(forms, items, item, work, 1, 1, chosen, bandwidth, clock, 1, 1)
        cycles = max(cycles, np.int64(filled))
    sums[_OPERATIONS] += times * float(forms[f, VECTOR])
    whole[_VECTOR] += times * forms[f, VECTOR_CYCLES]
    whole[_MACS] += times * forms[f, MACS]
    whole[_WEIGHTS] += times * forms[f, WEIGHT_BITS]
    whole[_INPUTS] += times * forms[f, INPUT_BITS]
    whole[_OUTPUTS] += times * forms[f, OUTPUT_BITS]
    whole[_COMPULSORY] += times * bits
    whole[_DRAM_CYCLES] += times * memory
    return cycles


@jit
def _design(  # type: ignore[no-untyped-def]
    low, high, narrow_low, items, forms, floats, tables, sizes, phase, port_ids, ports, tiles, places, lanes, bandwidth,
    clock, room_w, room_i, sram_w, sram_i, settings, slack, tried, either, chosen, work, traffic, whole, sums,
):  # fmt: skip
    """Sum up the items of a phase of one design.

    Args:
        low, high, narrow_low: items; the first of those for a single column.
        sizes: places of the array's rows and columns in prefill and decode.
        tiles: [sizes, most]: sizes of tiles by the place of a size; places: of sizes.
        lanes: of the vector unit.
        traffic, whole, sums: out.
    """
    traffic[:] = 0.0
    whole[:] = 0
    sums[:] = 0.0
    rows_place, columns_place = sizes[2 * phase], sizes[2 * phase + 1]
    for item in range(low, high):
        first, count, times = items[item, FIRST], items[item, COUNT], items[item, TIMES]
        last = first + count - 1
        if forms[first, KIND] > 4:
            place = sizes[PREFILL_COLUMNS] if forms[first, KIND] == 6 else columns_place
            held = read = port_ids[place, forms[first, INPUT_WIDTH]]
            cycles = _add_other(
                forms, items, item, read, ports, bandwidth, clock, settings, traffic, whole, sums, work, chosen
            )  # fmt: skip
        else:
            cycles, memory, tile_rows, tile_columns, taken = choose_tiles(
                forms, floats, tables, items, item, narrow_low + item - low, tiles[rows_place], tiles[columns_place],
                lanes, bandwidth, clock, room_w, room_i, settings, slack, tried, either, chosen, work,
            )  # fmt: skip
            for part in range(count):
                f = items[taken, FIRST] + part
                _add_product(
                    forms, floats, tables, f, times, tile_rows, tile_columns, tiles[columns_place, 0],
                    port_ids[places[tile_rows], forms[f, WEIGHT_WIDTH]],
                    port_ids[places[tile_columns], forms[f, INPUT_WIDTH]], ports, chosen[part, 2], chosen[part, 3],
                    settings[GATING] != 0, traffic, whole, sums,
                )  # fmt: skip
            whole[_DRAM_CYCLES] += times * memory
            held = port_ids[rows_place, forms[last, WEIGHT_WIDTH]]
            read = port_ids[columns_place, forms[last, INPUT_WIDTH]]
        whole[_CYCLES] += times * cycles
        sums[_LEAKS] += float(times * cycles) * (sram_w[held, LEAK] + sram_i[read, LEAK])


@jit
def price_schedules(  # type: ignore[no-untyped-def]
    rows, ranges, narrow_ranges, items, forms, floats, tables, arrays, sizes, array_costs, vector_pj, port_ids, ports,
    weight_srams, input_srams, weight_rooms, input_rooms, bandwidths, dram_pj, clocks, tiles, places, lanes, slack,
    settings, integers, energies, runnable, start, stop, weights_start, weights_stop, weights_first,
):  # fmt: skip
    """Price all designs of some rows of the grid.

    Args:
        narrow_ranges: items of each phase on an array of one column.
        tiles: sizes of tiles by place of a size, [sizes, most], itself first, 0 after the last; places: by size.
        lanes: of the vector units, [a].
        slack: ``ModelOptions.tile_slack``.
        rows, ...: the others as in ``hwmodel.batch_kernels.price_rows``.
    """
    detail = settings[DETAIL] != 0
    tried = np.zeros((max(tiles.shape[1], 16) ** 2 << PARTS, TRIED), np.int64)
    either, chosen = np.zeros((PARTS, 2, 6), np.int64), np.zeros((PARTS, 6), np.int64)
    work = np.zeros(PARTS, np.int64)
    traffic, whole, sums = np.zeros((4, len(ports))), np.zeros(10, np.int64), np.zeros(3)
    for row in range(start, stop):
        machine, array = rows[row, 0], rows[row, 1]
        costs = array_costs[machine, array]
        runs = ranges[row, 0, 0] >= 0 and ranges[row, 1, 0] >= 0
        for w in range(weights_start, weights_stop):
            sram_w, room_w, to = weight_srams[machine, w], weight_rooms[machine, w], w - weights_first
            for i in range(input_rooms.shape[1]):
                sram_i, room_i = input_srams[machine, i], input_rooms[machine, i]
                for b in range(bandwidths.shape[1]):
                    fits = runs
                    for phase in range(2):
                        if not fits:
                            break
                        low, high, narrow = ranges[row, phase, 0], ranges[row, phase, 1], narrow_ranges[row, phase, 0]
                        _design(
                            low, high, narrow, items, forms, floats, tables, sizes[machine, array], phase, port_ids,
                            ports, tiles, places, lanes[machine], bandwidths[machine, b], clocks[machine, b], room_w,
                            room_i, sram_w, sram_i, settings, slack, tried, either, chosen, work, traffic, whole, sums,
                        )  # fmt: skip
                        fits = whole[_TABLES] <= room_w
                        read_pj = write_pj = 0.0
                        for port in range(len(ports)):
                            read_pj += traffic[0, port] * sram_w[port, READ] + traffic[2, port] * sram_i[port, READ]
                            write_pj += traffic[1, port] * sram_w[port, WRITE] + traffic[3, port] * sram_i[port, WRITE]
                        moved = whole[_WEIGHTS] + whole[_INPUTS] + whole[_OUTPUTS]
                        cycles, computed = whole[_CYCLES], whole[_COMPUTED]
                        moved_pj = dram_pj[machine, b] * float(moved)
                        leakage = (costs[LOGIC_MW] * float(cycles) + sums[_LEAKS]) * 1e9 / clocks[machine, b]
                        idle = costs[IDLE_PJ] * float(cycles - computed)
                        parts = (
                            costs[PE_PJ] * sums[_BUSY], costs[ENCODER_PJ] * float(computed),
                            vector_pj[machine] * sums[_OPERATIONS], read_pj, write_pj, moved_pj, leakage, idle,
                        )  # fmt: skip
                        integers[0, phase, row, to, i, b], integers[1, phase, row, to, i, b] = cycles, moved
                        total = 0.0
                        for part_pj in parts:
                            total += part_pj
                        energies[0, phase, row, to, i, b] = total
                        if detail:
                            same = (
                                whole[_MACS], computed, whole[_DRAM_CYCLES], whole[_VECTOR], whole[_WEIGHTS],
                                whole[_INPUTS], whole[_OUTPUTS], whole[_COMPULSORY],
                            )  # fmt: skip
                            for column in range(8):
                                integers[2 + column, phase, row, to, i, b] = same[column]
                                energies[1 + column, phase, row, to, i, b] = parts[column]
                    runnable[row, to, i, b] = fits
                    if not fits:
                        integers[:, :, row, to, i, b] = 0
                        energies[:, :, row, to, i, b] = np.nan
