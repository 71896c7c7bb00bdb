"""The compiled inner loop of ``batch_evaluate``: designs that differ in buffers, memory and clock, one array at a time.

For one scenario, config, accelerator and array ("row" of the grid) everything that buffers, memory and clock do not
change is added up once (``hwmodel.batch_rows``): cycles and bits of the array, and reads and writes by the width of
their port. What no buffer of the axes makes the array fetch again ("calm") then costs one sum for each memory and
clock; the rest is priced for each pair of buffers, and its cycles for each memory and clock. Formulas are those of
``hwmodel.traffic`` and ``hwmodel.evaluate``; tile schedules have a kernel of their own (``hwmodel.batch_schedule``),
which takes and hands back the same. Kernels release the interpreter. Numba's cache does not see a change in
another file: ``batch_tiles.fresh`` does.
"""

from __future__ import annotations

import numpy as np

from hwmodel import array_path_blocks, batch_columns, batch_rows, batch_tiles, event_options, tile_schedule
from hwmodel.batch_columns import (
    CALM,
    COUNT,
    DETAIL,
    ENCODER_PJ,
    FIRST,
    GATING,
    IDLE_PJ,
    INPUT_BITS,
    INPUT_BYTES,
    INPUT_WORDS,
    LEAK,
    LOAD,
    LOGIC_MW,
    OUTPUT_BITS,
    PARTS,
    PE_PJ,
    PREFILL_COLUMNS,
    READ,
    ROUND_UP,
    TIMES,
    WEIGHT_BITS,
    WEIGHT_BYTES,
    WEIGHT_WORDS,
    WRITE,
)
from hwmodel.batch_rows import add_row, as_many_passes, busy_cycles
from hwmodel.batch_tiles import fresh, jit_inline
from hwmodel.tile_schedule import fetch_times

jit = fresh(array_path_blocks, batch_columns, batch_rows, batch_tiles, event_options, tile_schedule)


@jit
def _add_item(times, least, bits, at, parts, bandwidths, round_up, sums, scratch):  # type: ignore[no-untyped-def]
    """Add an item's cycles, and those of its memory, to the rows of ``sums`` [2, b], for each memory and clock.

    Cycles are whole numbers held as floats (exact to 2**53), which makes these loops vector code. No array is cut into
    views here or in ``add_row``: counting their references took longer than the work.

    Args:
        least: cycles without the memory.
        bits: [items, PARTS] over the bus, of which ``parts`` of item ``at``.
        scratch: [2, b]: cycles of this item's memory; out, of this item.
    """
    speeds = len(bandwidths)
    for b in range(speeds):
        scratch[0, b] = 0.0
    for part in range(parts):
        moved = float(bits[at, part])
        if moved == 0.0:
            continue
        if round_up:
            for b in range(speeds):
                scratch[0, b] += np.ceil(moved / bandwidths[b])
        else:
            for b in range(speeds):
                scratch[0, b] += np.floor(moved / bandwidths[b])
    often, busy = float(times), float(least)
    for b in range(speeds):
        taken = scratch[0, b]
        cycles = often * (taken if taken > busy else busy)
        scratch[1, b] = cycles
        sums[0, b] += cycles
        sums[1, b] += often * taken


@jit
def _calm_cycles(  # type: ignore[no-untyped-def]
    low, high, items, busy, bits, held, read, bandwidths, settings, calm, leaking, scratch,
):  # fmt: skip
    """Cycles of the items that are never fetched again, by memory and clock, and by the slots that leak meanwhile.

    Args:
        calm: out, [2, b]: cycles, and cycles of the memory.
        leaking: out, [2, slots, b], cycles.
        scratch: [2, b].
    """
    calm[:] = 0.0
    leaking[:] = 0.0
    for item in range(low, high):
        at = item - low
        if items[item, CALM]:
            last = items[item, COUNT] - 1
            round_up = settings[ROUND_UP] != 0
            _add_item(items[item, TIMES], busy[at], bits, at, last + 1, bandwidths, round_up, calm, scratch)
            held_port, read_port = held[at, last], read[at, last]
            for b in range(len(bandwidths)):
                leaking[0, held_port, b] += scratch[1, b]
                leaking[1, read_port, b] += scratch[1, b]


@jit
def _leaks(leaking, port_of, weight_srams, input_srams, weight_leak, input_leak):  # type: ignore[no-untyped-def]
    """What the buffers leak in ``leaking`` [2, slots, b]; out, [w, b] and [i, b], mW x cycles."""
    speeds = leaking.shape[2]
    weight_leak[:] = 0.0
    input_leak[:] = 0.0
    for slot in range(leaking.shape[1]):
        port = port_of[slot]
        if leaking[0, slot, 0]:
            for w in range(len(weight_leak)):
                for b in range(speeds):
                    weight_leak[w, b] += leaking[0, slot, b] * weight_srams[w, port, LEAK]
        if leaking[1, slot, 0]:
            for i in range(len(input_leak)):
                for b in range(speeds):
                    input_leak[i, b] += leaking[1, slot, b] * input_srams[i, port, LEAK]


@jit_inline
def _buffer_pj(traffic, srams):  # type: ignore[no-untyped-def]
    """Energies of reading and writing a buffer."""
    read_pj = write_pj = 0.0
    for port in range(len(srams)):
        read_pj += traffic[0, port] * srams[port, READ]
        write_pj += traffic[1, port] * srams[port, WRITE]
    return read_pj, write_pj


@jit
def _sizes_of(arrays, rows, start, stop, which):  # type: ignore[no-untyped-def]
    """Column ``which`` of the arrays of some rows of the grid."""
    made = np.empty(stop - start, np.int64)
    for row in range(start, stop):
        made[row - start] = arrays[rows[row, 0], rows[row, 1], which]
    return made


@jit
def price_rows(  # type: ignore[no-untyped-def]
    rows, ranges, items, forms, form_floats, tables, arrays, sizes, array_costs, vector_pj, port_ids,
    ports, weight_srams, input_srams, weight_rooms, input_rooms, bandwidths, dram_pj, clocks, settings, integers,
    energies, runnable, start, stop, weights_start, weights_stop, weights_first,
):  # fmt: skip
    """Price all designs of some rows of the grid.

    Args:
        rows: int64 [r, 2]: accelerator and array.
        ranges: int64 [r, 2, 2]: items of each phase; -1 where the formats cannot run.
        items, forms, form_floats, tables: see the columns above.
        arrays, sizes: int64 [a, l, 4]: rows and columns, and their places in ``port_ids``.
        array_costs: float64 [a, l, 4].
        vector_pj: [a].
        port_ids: int64 [sizes, widths]; ports: their bits, [p], the first of one word.
        weight_srams, input_srams: float64 [a, w, p, 3] and [a, i, p, 3].
        weight_rooms, input_rooms: int64 [a, w] and [a, i], bytes.
        bandwidths, dram_pj, clocks: bits in a cycle, pJ a bit, Hz by memory and clock together, [a, b].
        settings: int64 [5].
        integers, energies: out, [columns, 2, r, w, i, b].
        runnable: out, bool [r, w, i, b].
        start, stop: rows to price.
        weights_start, weights_stop: weight buffers to price; ``weights_first`` stands at place 0 of the results.
    """
    detail, round_up = settings[DETAIL] != 0, settings[ROUND_UP] != 0
    weights, inputs, speeds = weight_rooms.shape[1], input_rooms.shape[1], bandwidths.shape[1]
    most = np.int64(1)
    for row in range(start, stop):
        most = max(most, ranges[row, 0, 1] - ranges[row, 0, 0], ranges[row, 1, 1] - ranges[row, 1, 0])
    busy, restless = np.zeros(most, np.int64), np.zeros(most, np.int64)
    bits = np.zeros((most, PARTS), np.int64)
    held, read = np.zeros((most, PARTS), np.int64), np.zeros((most, PARTS), np.int64)
    widths = port_ids.shape[1]
    slots = 3 * widths + len(ports)
    traffic, leaking, port_bits = np.zeros((4, len(ports))), np.zeros((2, slots, speeds)), np.zeros(slots)
    slot_traffic, port_of, columns_seen = (
        np.zeros((4, slots)),
        np.arange(slots) - 3 * widths,
        np.zeros((2, PARTS * most)),
    )
    room_of = np.zeros(stop - start, np.int64)  # that the tables of a row need in the weight buffer
    calm, scratch = np.zeros((2, speeds)), np.zeros((2, speeds))
    weight_leak, input_leak = np.zeros((weights, speeds)), np.zeros((inputs, speeds))
    sums, leak = np.zeros((2, speeds)), np.zeros(speeds)

    for row in range(start, stop):
        if ranges[row, 0, 0] < 0 or ranges[row, 1, 0] < 0:
            room_of[row - start] = np.int64(1) << 62
    for phase in range(2):
        # rows that share items, rows and passes of the array one after another: most of the work is done once for them
        order = start + np.argsort(_sizes_of(arrays, rows, start, stop, 2 * phase + 1), kind="mergesort")
        order = order[np.argsort(_sizes_of(arrays, rows, start, stop, 2 * phase)[order - start], kind="mergesort")]
        order = order[np.argsort(ranges[start:stop, phase, 0][order - start], kind="mergesort")]
        before = calm_machine = np.int64(-1)
        seen = restless_count = np.int64(0)
        macs = compute_cycles = vector_cycles = weight_bits = input_bits = output_bits = size = np.int64(0)
        masked, operations = False, 0.0
        for row in order:
            if room_of[row - start] == np.int64(1) << 62:
                continue
            machine, array = rows[row, 0], rows[row, 1]
            low, high = ranges[row, phase, 0], ranges[row, phase, 1]
            costs = array_costs[machine, array]
            bandwidth, clock, bit_pj = bandwidths[machine], clocks[machine], dram_pj[machine]
            place = sizes[machine, array]
            rows_of, columns_of = arrays[machine, array, 2 * phase], arrays[machine, array, 2 * phase + 1]
            known = False
            if before >= 0:
                columns_before = arrays[rows[before, 0], rows[before, 1], 2 * phase + 1]
                known = (
                    ranges[before, phase, 0] == low
                    and ranges[before, phase, 1] == high
                    and arrays[rows[before, 0], rows[before, 1], 2 * phase] == rows_of
                ) and (
                    columns_before == columns_of
                    or (not masked and as_many_passes(columns_seen, seen, columns_of, columns_before))
                )
            if not known:
                before = row
                whole, masked, operations = add_row(
                    low, high, items, forms, form_floats, tables, rows_of, columns_of, port_ids[place[2 * phase]],
                    ports, slot_traffic, port_bits, columns_seen, busy, bits, held, read,
                )  # fmt: skip
                macs, compute_cycles, vector_cycles, weight_bits, input_bits, output_bits, size, seen = whole
                restless_count = np.int64(0)
                for item in range(low, high):
                    if not items[item, CALM]:
                        restless[restless_count] = item
                        restless_count += 1
            if not known or not np.array_equal(bandwidth, bandwidths[calm_machine]):
                calm_machine = machine
                _calm_cycles(
                    low, high, items, busy, bits, held, read, bandwidth, settings, calm, leaking, scratch
                )  # fmt: skip
            room_of[row - start] = max(room_of[row - start], size)
            traffic[:] = 0.0
            for slot in range(slots):
                if slot < widths:
                    port_of[slot] = port_ids[place[2 * phase], slot]
                elif slot < 2 * widths:
                    port_of[slot] = port_ids[place[2 * phase + 1], slot - widths]
                elif slot < 3 * widths:
                    port_of[slot] = port_ids[place[PREFILL_COLUMNS], slot - 2 * widths]
                port = port_of[slot]
                for which in range(4):
                    traffic[which, port] += slot_traffic[which, slot]
                traffic[2, port] += port_bits[slot] / ports[port]
            pe_pj = costs[PE_PJ] * busy_cycles(columns_seen, seen, columns_of, settings[GATING] != 0)
            encoder_pj = costs[ENCODER_PJ] * float(compute_cycles)
            _leaks(leaking, port_of, weight_srams[machine], input_srams[machine], weight_leak, input_leak)
            for w in range(weights_start, weights_stop):
                sram_w, room_w = weight_srams[machine, w], weight_rooms[machine, w]
                read_w_pj, write_w_pj = _buffer_pj(traffic[:2], sram_w)
                for i in range(inputs):
                    sram_i, room_i = input_srams[machine, i], input_rooms[machine, i]
                    read_pj, write_pj = _buffer_pj(traffic[2:], sram_i)
                    read_pj += read_w_pj
                    write_pj += write_w_pj
                    weights_moved, inputs_moved, vector_work = weight_bits, input_bits, operations
                    for b in range(speeds):
                        sums[0, b] = calm[0, b]
                        sums[1, b] = calm[1, b]
                        leak[b] = weight_leak[w, b] + input_leak[i, b]
                    for k in range(restless_count):
                        item = restless[k]
                        at, last, times = item - low, items[item, COUNT] - 1, items[item, TIMES]
                        for part in range(last + 1):
                            f = items[item, FIRST] + part
                            weight_times, input_times = fetch_times(
                                forms[f, WEIGHT_BITS], forms[f, INPUT_BITS], forms[f, WEIGHT_BYTES],
                                forms[f, INPUT_BYTES], room_w, room_i,
                            )  # fmt: skip
                            again_w, again_i = times * (weight_times - 1), times * (input_times - 1)
                            bits[at, part] = (
                                weight_times * forms[f, WEIGHT_BITS]
                                + input_times * forms[f, INPUT_BITS]
                                + forms[f, OUTPUT_BITS]
                            )
                            weights_moved += again_w * forms[f, WEIGHT_BITS]
                            inputs_moved += again_i * forms[f, INPUT_BITS]
                            vector_work += float(again_w * forms[f, LOAD])
                            write_pj += float(again_w * forms[f, WEIGHT_WORDS]) * sram_w[port_of[held[at, part]], WRITE]
                            write_pj += float(again_i * forms[f, INPUT_WORDS]) * sram_i[port_of[read[at, part]], WRITE]
                        _add_item(times, busy[at], bits, at, last + 1, bandwidth, round_up, sums, scratch)
                        leak_mw = sram_w[port_of[held[at, last]], LEAK] + sram_i[port_of[read[at, last]], LEAK]
                        for b in range(speeds):
                            leak[b] += scratch[1, b] * leak_mw
                    moved = weights_moved + inputs_moved + output_bits
                    operations_pj = vector_pj[machine] * vector_work
                    fixed_pj = pe_pj + encoder_pj + operations_pj + read_pj + write_pj
                    to = w - weights_first
                    cycles_out, bits_out = integers[0, phase, row, to, i], integers[1, phase, row, to, i]
                    energy_out = energies[0, phase, row, to, i]
                    for b in range(speeds):
                        moved_pj = bit_pj[b] * float(moved)
                        leakage = (costs[LOGIC_MW] * sums[0, b] + leak[b]) * 1e9 / clock[b]
                        idle = costs[IDLE_PJ] * (sums[0, b] - compute_cycles)
                        cycles_out[b] = np.int64(sums[0, b])
                        bits_out[b] = moved
                        energy_out[b] = fixed_pj + moved_pj + leakage + idle
                        if detail:
                            integers[4, phase, row, to, i, b] = np.int64(sums[1, b])
                            energies[6, phase, row, to, i, b] = moved_pj
                            energies[7, phase, row, to, i, b] = leakage
                            energies[8, phase, row, to, i, b] = idle
                    if detail:
                        compulsory = weight_bits + input_bits + output_bits
                        same = (0, 0, macs, compute_cycles, 0, vector_cycles, weights_moved, inputs_moved, output_bits,
                                compulsory)  # fmt: skip
                        for column in range(2, 10):
                            if column != 4:
                                integers[column, phase, row, to, i] = same[column]
                        same_pj = (0.0, pe_pj, encoder_pj, operations_pj, read_pj, write_pj)
                        for column in range(1, 6):
                            energies[column, phase, row, to, i] = same_pj[column]
    for row in range(start, stop):
        for w in range(weights_start, weights_stop):
            to = w - weights_first
            fits = room_of[row - start] <= weight_rooms[rows[row, 0], w]
            runnable[row, to] = fits
            if not fits:
                integers[:, :, row, to] = 0
                energies[:, :, row, to] = np.nan
