"""What buffers, memory and clock do not change in a row of the grid of ``batch_evaluate``, compiled.

A row is one scenario, config, accelerator and array. Formulas over its rows and columns are those of
``hwmodel.operands`` and ``hwmodel.attention_product``, in integers wherever they are integers there.
"""

from __future__ import annotations

import math

import numpy as np

from hwmodel import array_path_blocks, batch_columns, batch_tiles, event_options, tile_schedule
from hwmodel.array_path_blocks import BANKS
from hwmodel.batch_columns import (
    ALONG,
    COPIES,
    COUNT,
    CYCLES,
    ENERGY_CYCLES,
    ENTRIES,
    FIRST,
    GATHERS,
    GROUP_WAITS,
    HEADS,
    INPUT_BITS,
    INPUT_WIDTH,
    INPUT_WORDS,
    KEYS,
    KIND,
    LANES,
    LOAD,
    LOOKUPS,
    MACS,
    METADATA,
    OFF_ARRAY,
    OFFSET,
    OUTPUT_BITS,
    OUTPUT_WORDS,
    PORT,
    PORT_BITS,
    ROOM,
    STEPS,
    SWITCH_WAITS,
    TABLES_START,
    TABLES_STOP,
    TIMES,
    VECTOR,
    VECTOR_CYCLES,
    WEIGHT_BITS,
    WEIGHT_WIDTH,
    WEIGHT_WORDS,
    M,
    N,
)
from hwmodel.batch_tiles import fresh, jit_inline
from hwmodel.tile_schedule import seen_steps

jit = fresh(array_path_blocks, batch_columns, batch_tiles, event_options, tile_schedule)


@jit_inline
def ceil_div(value, divisor):  # type: ignore[no-untyped-def]
    return (value + divisor - 1) // divisor  # of non-negative numbers


@jit
def _causal_steps(forms, f, rows, columns):  # type: ignore[no-untyped-def]
    """``hwmodel.traffic.causal_tile_steps``."""
    values = forms[f, KIND] == 3
    uncut = ceil_div(forms[f, N], rows) if values else forms[f, STEPS]
    along = forms[f, LANES] if values else rows
    return seen_steps(along, columns, forms[f, M], forms[f, KEYS], forms[f, HEADS], forms[f, OFFSET]) * uncut


@jit_inline
def table_loads(tables, t, row_tiles):  # type: ignore[no-untyped-def]
    return np.int64(1) if tables[t, ALONG] == 0 else row_tiles * tables[t, ALONG]


@jit
def array_cycles(forms, floats, tables, f, row_tiles, passes, rows, columns):  # type: ignore[no-untyped-def]
    """Steps, cycles, and cycles weighted with the energy of their mode, of product ``f`` on an array.

    ``hwmodel.operands._linear`` and ``_extra``, ``hwmodel.attention_product.attention_product``. The array takes
    ``row_tiles`` by ``passes`` tiles for a copy.
    """
    kind, copies = forms[f, KIND], forms[f, COPIES]
    tiles = row_tiles * passes * copies
    if kind == 0:
        waits = 0.0
        waits += forms[f, GROUP_WAITS] * tiles
        waits += floats[f, SWITCH_WAITS] * tiles
        looked_up = np.int64(0)
        for t in range(forms[f, TABLES_START], forms[f, TABLES_STOP]):
            waits += tables[t, ENTRIES] * table_loads(tables, t, row_tiles) * copies
            looked_up += ceil_div(tables[t, LOOKUPS] * passes, BANKS) * copies
        compute = max(np.int64(math.ceil(floats[f, CYCLES] * tiles + waits)), looked_up)
        return forms[f, STEPS] * tiles, compute, floats[f, ENERGY_CYCLES] * tiles
    if kind > 3:
        return np.int64(0), np.int64(0), 0.0
    steps = forms[f, STEPS] * tiles if kind == 1 else _causal_steps(forms, f, rows, columns) * copies
    if kind == 2:  # each tile of scores that is not skipped takes as many steps
        tiles = steps // forms[f, STEPS]
    waits_of_groups = forms[f, GROUP_WAITS] * tiles
    compute = np.int64(math.ceil(steps * floats[f, CYCLES])) + waits_of_groups
    if floats[f, ENERGY_CYCLES] == floats[f, CYCLES] and waits_of_groups == 0:
        return steps, compute, float(compute)
    return steps, compute, steps * floats[f, ENERGY_CYCLES]


@jit
def add_row(  # type: ignore[no-untyped-def]
    low, high, items, forms, form_floats, tables, rows, columns, row_ports, ports, traffic, port_bits, columns_seen,
    busy, bits, held, read,
):  # fmt: skip
    """What buffers, memory and clock do not change, of the items ``low`` to ``high`` of one phase.

    Ports are named by *slot*, as their place depends on the array: width by rows, width by columns, width by columns in
    prefill, then the ports themselves. So all of this holds for every array of as many rows and as many passes.

    Args:
        rows, columns: of the array.
        row_ports: port by width, for the rows.
        traffic: out, [4, slots]: reads and written words of the weight buffer and of the activation buffer.
        port_bits: out, [slots]: bits read through the activation port once (vector operations).
        columns_seen: out, [2, forms]: distinct tokens, and the energy of the array's cycles for each (``busy_cycles``).
        busy: out, cycles of each item without the memory.
        bits: out, [items, PARTS], over the bus; held, read: out, slots of the same.

    Returns:
        macs, array cycles, vector cycles, bits of weights, inputs, outputs, room for tables, distinct tokens, whether a
        causal mask cuts tiles; and operations of the vector unit.
    """
    widths = len(row_ports)
    direct = 3 * widths
    traffic[:] = 0.0
    port_bits[:] = 0.0
    size = seen = np.int64(0)
    place = np.int64(-1)
    masked = False
    macs = compute_cycles = vector_cycles = weight_bits = input_bits = output_bits = np.int64(0)
    operations = 0.0
    m, passes = np.int64(0), np.int64(0)
    n, row_tiles = np.int64(0), np.int64(0)
    for item in range(low, high):
        times, at = items[item, TIMES], item - low
        compute_of_item, vector_of_item = np.int64(0), np.int64(0)
        for part in range(items[item, COUNT]):
            f = items[item, FIRST] + part
            kind = forms[f, KIND]
            if forms[f, M] != m:  # divisions are what costs here
                m = forms[f, M]
                passes = ceil_div(m, columns)
                place = np.int64(0)
                while place < seen and columns_seen[0, place] != m:
                    place += 1
                if place == seen:
                    columns_seen[0, place], columns_seen[1, place] = m, 0.0
                    seen += 1
            if forms[f, N] != n:
                n = forms[f, N]
                row_tiles = ceil_div(n, rows)
            to = forms[f, INPUT_WIDTH] + (2 * widths if kind == 6 else widths)
            of = to if kind >= 5 else forms[f, WEIGHT_WIDTH]
            steps, compute, weighted = array_cycles(
                forms, form_floats, tables, f, row_tiles, passes, rows, columns
            )  # fmt: skip
            if kind <= 4:
                masked = masked or kind == 2 or kind == 3
                wide = ports[row_ports[of]]
                if forms[f, OFF_ARRAY]:
                    steps += np.int64(math.ceil(forms[f, OFF_ARRAY] * 16 / wide))
                metadata = float(forms[f, METADATA]) / wide * passes * forms[f, COPIES]
                traffic[0, of] += times * (steps + metadata)
                traffic[1, of] += times * float(forms[f, WEIGHT_WORDS])
                traffic[2, to] += times * float(steps)
                traffic[2, direct] += times * float(forms[f, GATHERS])
                traffic[3, to] += times * float(forms[f, INPUT_WORDS] + forms[f, OUTPUT_WORDS])
            elif kind == 5:
                port_bits[to] += times * float(forms[f, PORT_BITS])
                traffic[3, to] += times * (forms[f, PORT_BITS] / 64)
            for t in range(forms[f, TABLES_START], forms[f, TABLES_STOP]):
                size = max(size, tables[t, ROOM])
                words = tables[t, ENTRIES] * 16 * min(rows, n) * table_loads(tables, t, row_tiles) / 64
                traffic[0, direct] += times * forms[f, COPIES] * words
                traffic[0, direct + tables[t, PORT]] += times * forms[f, COPIES] * float(tables[t, LOOKUPS] * passes)
            columns_seen[1, place] += times * weighted
            operations += times * float(forms[f, VECTOR] + forms[f, LOAD])
            macs += times * forms[f, MACS]
            compute_of_item += compute
            vector_of_item += forms[f, VECTOR_CYCLES]
            weight_bits += times * forms[f, WEIGHT_BITS]
            input_bits += times * forms[f, INPUT_BITS]
            output_bits += times * forms[f, OUTPUT_BITS]
            bits[at, part] = forms[f, WEIGHT_BITS] + forms[f, INPUT_BITS] + forms[f, OUTPUT_BITS]
            held[at, part] = of
            read[at, part] = to
        compute_cycles += times * compute_of_item
        vector_cycles += times * vector_of_item
        busy[at] = max(compute_of_item, vector_of_item)
    return (
        (macs, compute_cycles, vector_cycles, weight_bits, input_bits, output_bits, size, seen),
        masked,
        operations,
    )


@jit
def busy_cycles(columns_seen, seen, columns, gating):  # type: ignore[no-untyped-def]
    """Energy of the array's cycles, in energies of one, of the columns that have work."""
    total = 0.0
    for place in range(seen):
        m = np.int64(columns_seen[0, place])
        share = m / (ceil_div(m, columns) * columns) if gating else 1.0
        total += columns_seen[1, place] * share
    return total


@jit
def as_many_passes(columns_seen, seen, columns, before):  # type: ignore[no-untyped-def]
    """Whether all items take as many passes over ``columns`` as over as many as ``before``."""
    for place in range(seen):
        m = np.int64(columns_seen[0, place])
        if ceil_div(m, columns) != ceil_div(m, before):
            return False
    return True
