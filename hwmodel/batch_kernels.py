"""The compiled inner loop of ``batch_evaluate``: designs that differ in buffers, memory and clock, one array at a time.

For one scenario, config, accelerator and array ("row" of the grid) everything that buffers, memory and clock do not
change is added up once: cycles and bits of the array, and reads and writes by the width of their port. What no buffer
of the axes makes the array fetch again ("calm") then costs one sum for each memory and clock; the rest is priced for
each pair of buffers, and its cycles for each memory and clock. Formulas are those of ``hwmodel.traffic``,
``hwmodel.operands``, ``hwmodel.attention_product`` and ``hwmodel.evaluate``, in integers wherever they are integers
there. Kernels release the interpreter. All stay in one file: numba's cache does not see a change in another.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# columns of ``forms`` (int64)
(
    KIND, M, N, COPIES, PASSES, MACS, STEPS, GROUP_WAITS, OFF_ARRAY, WEIGHT_BITS, WEIGHT_WORDS, WEIGHT_BYTES,
    INPUT_BITS, INPUT_WORDS, INPUT_BYTES, OUTPUT_BITS, OUTPUT_WORDS, VECTOR, LOAD, METADATA, GATHERS, PORT_BITS,
    WEIGHT_WIDTH, INPUT_WIDTH, KEYS, HEADS, OFFSET, LANES, TABLES_START, TABLES_STOP,
) = range(30)  # fmt: skip
FORM_COLUMNS = 30
CYCLES, ENERGY_CYCLES, SWITCH_WAITS = range(3)  # columns of ``form_floats``
ENTRIES, ALONG, LOOKUPS, PORT, ROOM = range(5)  # columns of ``tables``
TIMES, FIRST, COUNT, CALM = range(4)  # columns of ``items``
PREFILL_ROWS, PREFILL_COLUMNS, DECODE_ROWS, DECODE_COLUMNS = range(4)  # columns of ``arrays``, and of their sizes
PE_PJ, ENCODER_PJ, LOGIC_MW, IDLE_PJ = range(4)  # columns of ``array_costs``
READ, WRITE, LEAK = range(3)  # columns of SRAM tables: pJ an access, pJ a word, mW
GATING, ROUND_UP, DETAIL = range(3)  # settings
# results by phase: integers, then energies
INTEGERS = (
    "cycles", "dram_bits", "macs", "compute_cycles", "dram_cycles", "vector_cycles", "weight_bits", "input_bits",
    "output_bits", "compulsory_bits",
)  # fmt: skip
ENERGIES = (
    "energy_pj", "pe_pj", "encoder_pj", "vector_pj", "sram_read_pj", "sram_write_pj", "dram_pj", "leakage_pj",
    "idle_pj",
)  # fmt: skip
BRIEF_INTEGERS, BRIEF_ENERGIES = 2, 1  # of these without details

jit = njit(nogil=True, cache=True, error_model="numpy")
jit_inline = njit(nogil=True, error_model="numpy", inline="always")


@jit_inline
def _ceil_div(value, divisor):  # type: ignore[no-untyped-def]
    return (value + divisor - 1) // divisor  # of non-negative numbers


@jit_inline
def _dram_cycles(bits, per_cycle, round_up):  # type: ignore[no-untyped-def]
    cycles = bits / per_cycle
    whole = np.int64(cycles)
    return whole + 1 if round_up and whole < cycles else whole


@jit
def _causal_steps(form, rows, columns):  # type: ignore[no-untyped-def]
    """``hwmodel.traffic.causal_tile_steps``."""
    m, keys, heads, offset = form[M], form[KEYS], form[HEADS], form[OFFSET]
    uncut = _ceil_div(form[N], rows) if form[KIND] == 3 else form[STEPS]
    along = form[LANES] if form[KIND] == 3 else rows
    steps = 0
    for start in range(0, m, columns):
        last = (min(start + columns, m) - 1) // heads
        steps += _ceil_div(min(offset + last + 1, keys), along)
    return steps * uncut


@jit
def price_rows(  # type: ignore[no-untyped-def]
    rows, ranges, items, forms, form_floats, tables, arrays, sizes, array_costs, vector_lanes,
    vector_pj, port_ids, ports, weight_srams, input_srams, weight_rooms, input_rooms, bandwidths, dram_pj, clocks,
    settings, integers, energies, runnable, start, stop, weights_start, weights_stop, weights_first,
):  # fmt: skip
    """Price all designs of some rows of the grid.

    Args:
        rows: int64 [r, 2]: accelerator and array.
        ranges: int64 [r, 2, 2]: items of each phase; -1 where the formats cannot run.
        items, forms, form_floats, tables: see the columns above.
        arrays, sizes: int64 [a, l, 4]: rows and columns, and their places in ``port_ids``.
        array_costs: float64 [a, l, 4].
        vector_lanes, vector_pj: [a].
        port_ids: int64 [widths, sizes]; ports: their bits, [p], the first of one word.
        weight_srams, input_srams: float64 [a, w, p, 3] and [a, i, p, 3].
        weight_rooms, input_rooms: int64 [a, w] and [a, i], bytes.
        bandwidths: bits in a cycle, [a, d, f]; dram_pj: pJ a bit, [a, d]; clocks: Hz, [a, f].
        settings: int64 [3].
        integers, energies: out, [columns, 2, r, w, i, d, f].
        runnable: out, bool [r, w, i, d, f].
        start, stop: rows to price.
        weights_start, weights_stop: weight buffers to price; ``weights_first`` stands at place 0 of the results.
    """
    port_count = len(ports)
    detail = settings[DETAIL] != 0
    round_up = settings[ROUND_UP] != 0
    weights, inputs = weight_rooms.shape[1], input_rooms.shape[1]
    drams, speeds = bandwidths.shape[1], bandwidths.shape[2]
    weight_reads, weight_writes = np.zeros(port_count), np.zeros(port_count)
    input_reads, input_writes = np.zeros(port_count), np.zeros(port_count)
    weight_leaks, input_leaks = np.zeros(port_count), np.zeros(port_count)
    calm_cycles = np.zeros((drams, speeds), np.int64)
    calm_dram = np.zeros((drams, speeds), np.int64)
    weight_leak, input_leak = np.zeros((drams, speeds, weights)), np.zeros((drams, speeds, inputs))
    most = 1
    for row in range(start, stop):
        for phase in range(2):
            most = max(most, ranges[row, phase, 1] - ranges[row, phase, 0])
    compute_of, vector_of = np.zeros(most, np.int64), np.zeros(most, np.int64)
    weight_port, input_port = np.zeros((most, 3), np.int64), np.zeros((most, 3), np.int64)
    restless = np.zeros(most, np.int64)
    moved = np.zeros((most, 3), np.int64)

    for row in range(start, stop):
        machine, array = rows[row, 0], rows[row, 1]
        if ranges[row, 0, 0] < 0 or ranges[row, 1, 0] < 0:
            for w in range(weights_start - weights_first, weights_stop - weights_first):
                runnable[row, w] = False
                integers[:, :, row, w] = 0
                energies[:, :, row, w] = np.nan
            continue
        lanes, operation_pj = vector_lanes[machine], vector_pj[machine]
        costs = array_costs[machine, array]
        room_needed = 0
        for phase in range(2):
            low, high = ranges[row, phase, 0], ranges[row, phase, 1]
            pe_rows, pe_columns = arrays[machine, array, 2 * phase], arrays[machine, array, 2 * phase + 1]
            row_size, column_size = sizes[machine, array, 2 * phase], sizes[machine, array, 2 * phase + 1]
            prefill_columns = sizes[machine, array, PREFILL_COLUMNS]
            weight_reads[:] = 0.0
            weight_writes[:] = 0.0
            input_reads[:] = 0.0
            input_writes[:] = 0.0
            macs = compute_cycles = vector_cycles = weight_bits = input_bits = output_bits = np.int64(0)
            pe_pj = encoder_pj = operations = 0.0
            restless_count = 0

            for item in range(low, high):
                times = items[item, TIMES]
                at = item - low
                compute_of[at] = 0
                vector_of[at] = 0
                if not items[item, CALM]:
                    restless[restless_count] = item
                    restless_count += 1
                for part in range(items[item, COUNT]):
                    which = items[item, FIRST] + part
                    form = forms[which]
                    kind = form[KIND]
                    m, copies = form[M], form[COPIES]
                    into = prefill_columns if kind == 6 else column_size
                    read_port = port_ids[form[INPUT_WIDTH], into]
                    held_port = read_port if kind >= 5 else port_ids[form[WEIGHT_WIDTH], row_size]
                    passes = _ceil_div(m, pe_columns)
                    tiles = _ceil_div(form[N], pe_rows) * passes * copies
                    cycles = form_floats[which, CYCLES]
                    compute = np.int64(0)
                    weighted = 0.0
                    steps = np.int64(0)
                    if kind == 0:
                        steps = form[STEPS] * tiles
                        busy_cycles = cycles * tiles
                        waits = 0.0
                        waits += form[GROUP_WAITS] * tiles
                        waits += form_floats[which, SWITCH_WAITS] * tiles
                        looked_up = np.int64(0)
                        for t in range(form[TABLES_START], form[TABLES_STOP]):
                            room_needed = max(room_needed, tables[t, ROOM])
                            along = tables[t, ALONG]
                            loads = np.int64(1) if along == 0 else _ceil_div(form[N], pe_rows) * along
                            waits += tables[t, ENTRIES] * loads * copies
                            words = tables[t, ENTRIES] * 16 * min(pe_rows, form[N]) * loads / 64
                            weight_reads[0] += times * copies * words
                            lookups = tables[t, LOOKUPS] * passes
                            looked_up += _ceil_div(lookups, 8) * copies  # hwmodel.array_path_blocks.BANKS
                            weight_reads[tables[t, PORT]] += times * copies * float(lookups)
                        compute = max(np.int64(math.ceil(busy_cycles + waits)), looked_up)
                        weighted = form_floats[which, ENERGY_CYCLES] * tiles
                    elif kind <= 3:
                        steps = form[STEPS] * tiles if kind == 1 else _causal_steps(form, pe_rows, pe_columns) * copies
                        waits_of_groups = form[GROUP_WAITS] * tiles
                        compute = np.int64(math.ceil(steps * cycles)) + waits_of_groups
                        energy_cycles = form_floats[which, ENERGY_CYCLES]
                        plain = energy_cycles == cycles and waits_of_groups == 0
                        weighted = float(compute) if plain else steps * energy_cycles
                    if kind <= 4:
                        steps += np.int64(math.ceil(form[OFF_ARRAY] * 16 / ports[held_port]))
                        gathered = float(form[METADATA]) / ports[held_port] * passes * copies
                        weight_reads[held_port] += times * (steps + gathered)
                        input_reads[read_port] += times * float(steps)
                        input_reads[0] += times * float(form[GATHERS])
                        weight_writes[held_port] += times * float(form[WEIGHT_WORDS])
                        input_writes[read_port] += times * float(form[INPUT_WORDS] + form[OUTPUT_WORDS])
                    elif kind == 5:
                        input_reads[read_port] += times * (form[PORT_BITS] / ports[read_port])
                        input_writes[read_port] += times * (form[PORT_BITS] / 64)
                    busy = m / (passes * pe_columns) if settings[GATING] else 1.0
                    pe_pj += times * costs[PE_PJ] * weighted * busy
                    encoder_pj += times * costs[ENCODER_PJ] * float(compute)
                    vector = _ceil_div(form[VECTOR], lanes)
                    operations += times * float(form[VECTOR] + form[LOAD])
                    macs += times * form[MACS]
                    compute_cycles += times * compute
                    vector_cycles += times * vector
                    weight_bits += times * form[WEIGHT_BITS]
                    input_bits += times * form[INPUT_BITS]
                    output_bits += times * form[OUTPUT_BITS]
                    compute_of[at] += compute
                    vector_of[at] += vector
                    weight_port[at, part] = held_port
                    input_port[at, part] = read_port
                    moved[at, part] = form[WEIGHT_BITS] + form[INPUT_BITS] + form[OUTPUT_BITS]

            # cycles of what is never fetched again, and how long each port leaks meanwhile
            for dram in range(drams):
                for speed in range(speeds):
                    per_cycle = bandwidths[machine, dram, speed]
                    weight_leaks[:] = 0.0
                    input_leaks[:] = 0.0
                    total, dram_total = np.int64(0), np.int64(0)
                    held, run = np.int64(0), np.int64(0)
                    read = np.int64(0)
                    for item in range(low, high):
                        if not items[item, CALM]:
                            continue
                        at = item - low
                        last = items[item, COUNT] - 1
                        taken = _dram_cycles(moved[at, 0], per_cycle, round_up)
                        for part in range(1, last + 1):
                            taken += _dram_cycles(moved[at, part], per_cycle, round_up)
                        times = items[item, TIMES]
                        cycles_of_item = times * max(compute_of[at], taken, vector_of[at])
                        dram_total += times * taken
                        if weight_port[at, last] != held or input_port[at, last] != read:
                            weight_leaks[held] += run
                            input_leaks[read] += run
                            total += run
                            run = np.int64(0)
                            held, read = weight_port[at, last], input_port[at, last]
                        run += cycles_of_item
                    weight_leaks[held] += run
                    input_leaks[read] += run
                    calm_cycles[dram, speed] = total + run
                    calm_dram[dram, speed] = dram_total
                    weight_leak[dram, speed] = 0.0
                    input_leak[dram, speed] = 0.0
                    for port in range(port_count):
                        if weight_leaks[port]:
                            for w in range(weights_start, weights_stop):
                                weight_leak[dram, speed, w] += weight_leaks[port] * weight_srams[machine, w, port, LEAK]
                        if input_leaks[port]:
                            for i in range(inputs):
                                input_leak[dram, speed, i] += input_leaks[port] * input_srams[machine, i, port, LEAK]

            for w in range(weights_start, weights_stop):
                to = w - weights_first
                weight_room = weight_rooms[machine, w]
                read_w = write_w = 0.0
                for port in range(port_count):
                    if weight_reads[port] or weight_writes[port]:
                        read_w += weight_reads[port] * weight_srams[machine, w, port, READ]
                        write_w += weight_writes[port] * weight_srams[machine, w, port, WRITE]
                for i in range(inputs):
                    input_room = input_rooms[machine, i]
                    read_pj, write_pj = read_w, write_w
                    for port in range(port_count):
                        if input_reads[port] or input_writes[port]:
                            read_pj += input_reads[port] * input_srams[machine, i, port, READ]
                            write_pj += input_writes[port] * input_srams[machine, i, port, WRITE]
                    weights_moved, inputs_moved, vector_work = weight_bits, input_bits, operations
                    for k in range(restless_count):
                        item = restless[k]
                        at = item - low
                        times = items[item, TIMES]
                        for part in range(items[item, COUNT]):
                            form = forms[items[item, FIRST] + part]
                            weight_times = input_times = np.int64(1)
                            if form[WEIGHT_BYTES] > weight_room and form[INPUT_BYTES] > input_room:
                                input_times = _ceil_div(form[WEIGHT_BYTES], weight_room)
                                weight_times = _ceil_div(form[INPUT_BYTES], input_room)
                                again_weights = weight_times * form[WEIGHT_BITS] + form[INPUT_BITS]
                                if again_weights < input_times * form[INPUT_BITS] + form[WEIGHT_BITS]:
                                    input_times = np.int64(1)
                                else:
                                    weight_times = np.int64(1)
                            more_weights, more_inputs = weight_times - 1, input_times - 1
                            held, read = weight_port[at, part], input_port[at, part]
                            moved[at, part] = (
                                weight_times * form[WEIGHT_BITS] + input_times * form[INPUT_BITS] + form[OUTPUT_BITS]
                            )
                            weights_moved += times * more_weights * form[WEIGHT_BITS]
                            inputs_moved += times * more_inputs * form[INPUT_BITS]
                            vector_work += times * float(more_weights * form[LOAD])
                            write_pj += (times * float(more_weights * form[WEIGHT_WORDS])
                                         * weight_srams[machine, w, held, WRITE])  # fmt: skip
                            write_pj += (times * float(more_inputs * form[INPUT_WORDS])
                                         * input_srams[machine, i, read, WRITE])  # fmt: skip
                    bits = weights_moved + inputs_moved + output_bits
                    vector_energy = operation_pj * vector_work
                    fixed_pj = pe_pj + encoder_pj + vector_energy + read_pj + write_pj
                    for dram in range(drams):
                        moved_pj = dram_pj[machine, dram] * float(bits)
                        for speed in range(speeds):
                            per_cycle = bandwidths[machine, dram, speed]
                            total, taken_total = calm_cycles[dram, speed], calm_dram[dram, speed]
                            leak = weight_leak[dram, speed, w] + input_leak[dram, speed, i]
                            for k in range(restless_count):
                                item = restless[k]
                                at = item - low
                                last = items[item, COUNT] - 1
                                taken = _dram_cycles(moved[at, 0], per_cycle, round_up)
                                for part in range(1, last + 1):
                                    taken += _dram_cycles(moved[at, part], per_cycle, round_up)
                                times = items[item, TIMES]
                                cycles_of_item = times * max(compute_of[at], taken, vector_of[at])
                                taken_total += times * taken
                                total += cycles_of_item
                                leak += cycles_of_item * (
                                    weight_srams[machine, w, weight_port[at, last], LEAK]
                                    + input_srams[machine, i, input_port[at, last], LEAK]
                                )
                            leakage = (costs[LOGIC_MW] * total + leak) * 1e9 / clocks[machine, speed]
                            idle = costs[IDLE_PJ] * float(total - compute_cycles)
                            integers[0, phase, row, to, i, dram, speed] = total
                            integers[1, phase, row, to, i, dram, speed] = bits
                            energies[0, phase, row, to, i, dram, speed] = fixed_pj + moved_pj + leakage + idle
                            if detail:
                                integers[2, phase, row, to, i, dram, speed] = macs
                                integers[3, phase, row, to, i, dram, speed] = compute_cycles
                                integers[4, phase, row, to, i, dram, speed] = taken_total
                                integers[5, phase, row, to, i, dram, speed] = vector_cycles
                                integers[6, phase, row, to, i, dram, speed] = weights_moved
                                integers[7, phase, row, to, i, dram, speed] = inputs_moved
                                integers[8, phase, row, to, i, dram, speed] = output_bits
                                integers[9, phase, row, to, i, dram, speed] = weight_bits + input_bits + output_bits
                                energies[1, phase, row, to, i, dram, speed] = pe_pj
                                energies[2, phase, row, to, i, dram, speed] = encoder_pj
                                energies[3, phase, row, to, i, dram, speed] = vector_energy
                                energies[4, phase, row, to, i, dram, speed] = read_pj
                                energies[5, phase, row, to, i, dram, speed] = write_pj
                                energies[6, phase, row, to, i, dram, speed] = moved_pj
                                energies[7, phase, row, to, i, dram, speed] = leakage
                                energies[8, phase, row, to, i, dram, speed] = idle
        for w in range(weights_start, weights_stop):
            fits = room_needed <= weight_rooms[machine, w]
            runnable[row, w - weights_first] = fits
            if not fits:
                integers[:, :, row, w - weights_first] = 0
                energies[:, :, row, w - weights_first] = np.nan
