"""The time that a tile schedule takes (``hwmodel.tile_schedule`` says what is held and streamed, and what comes again).

Array, DRAM and vector unit wait for one another where blocks and tiles begin and end.

Before each block a buffer-full of the held operand must come, and it finds no room before the last pass over the block
before; where blocks are uneven, each takes the longer of its own computing and its own fetching; and two streamed tiles
may not fit beside each other. With

    h  DRAM cycles of what a block's first pass needs of the held operand,
    s  of one tile of the streamed operand and the results of its pass,
    c  array cycles of a pass (one streamed tile past the block),
    a  share of a block for which there is room ahead,
    u  share of a streamed tile for which there is none beside the one before,
    v  tiles of a block: a streamed tile frees its room during the last of v visits,

a block takes the longest of

    DRAM    h + sum of s; of the last block without the results that may wait, which are written beside the last tile;
    array   sum of c + max(0, h (1 - a) - 2 c): its data come during the last pass before it and during its own first;
            for the first block, sum of c, of which the first pass takes h + s if that is longer, and its first tile or
            its second pass may come late;
    room    sum of (c (v - 2) / v + s u); for the first block with its first pass as it comes.

A layer takes at least its DRAM cycles with what is left of its last pass when the last data have come, and at least its
vector cycles; latency, the first step and the last tile are added once. Every term grows with the time of each stream
and of the array, so a faster memory, or less to move or compute in the same schedule, never takes longer. No fitted
number. ``hwmodel.event_grid`` holds it against the event simulator.
"""

from __future__ import annotations

import math

from hwmodel.event_options import BANDWIDTH
from hwmodel.tile_schedule import seen_keys, seen_steps

LATENCY_S = BANDWIDTH.dram.latency_s  # DRAMsim3, configs/DDR4_8Gb_x8_2133.ini, for every memory
OUTPUT_ROOM_BYTES = BANDWIDTH.output_room_bytes


def part_cycles(  # type: ignore[no-untyped-def]
    work, weight_cycles, input_cycles, output_cycles, weight_bytes, input_bytes, weight_room, input_room, fetches,
    shape, first, waiting,
):  # fmt: skip
    """Cycles of the blocks of one product, one after another.

    Args:
        work: cycles of the array, or of the vector unit in its place.
        weight_cycles, input_cycles, output_cycles: of DRAM, everything that comes again included.
        weight_bytes, input_bytes: room that one turn takes.
        weight_room, input_room: bytes of the buffers.
        fetches: what ``choose_fetches`` returns.
        shape: as there.
        first: DRAM cycles of the first step of both operands; below 0 for a product after the first of its layer.
        waiting: DRAM cycles of results that may wait to be written.

    Returns:
        Cycles, and those of computing that are left when the last data have come.
    """
    outputs, tokens, _, turns, shared, rows, columns, mask, keys, heads, past, lanes = shape
    hold_weights, blocks, _, _, weights_again, inputs_again = fetches
    output_tiles = (outputs + rows - 1) // rows
    token_tiles = (tokens + columns - 1) // columns * shared
    # shares of a full tile and of the last one in their operand
    full_outputs, full_tokens = min(rows, outputs) / outputs, min(columns, tokens) / (tokens * shared)
    last_outputs = (outputs - (outputs - 1) // rows * rows) / outputs
    last_tokens = (tokens - (tokens - 1) // columns * columns) / (tokens * shared)
    if hold_weights:
        full_held, last_held, full_streamed, last_streamed = full_outputs, last_outputs, full_tokens, last_tokens
        count, passes, held_bytes, streamed_bytes = output_tiles, token_tiles, weight_bytes, input_bytes
        room, streamed_room, held_again, streamed_again = weight_room, input_room, weights_again, inputs_again
        held_cycles, streamed_cycles = weight_cycles, input_cycles
    else:
        full_held, last_held, full_streamed, last_streamed = full_tokens, last_tokens, full_outputs, last_outputs
        count, passes, held_bytes, streamed_bytes = token_tiles, output_tiles, input_bytes, weight_bytes
        room, streamed_room, held_again, streamed_again = input_room, weight_room, inputs_again, weights_again
        held_cycles, streamed_cycles = input_cycles, weight_cycles
    copies = shared if hold_weights else 1  # of the streamed operand's tiles, each with a last one
    second_streamed = last_streamed if passes == 2 * copies else full_streamed
    stays = not streamed_again
    squeezed = last_squeezed = 0.0
    if streamed_bytes > 0 and stays:
        beside = max(0.0, streamed_room - streamed_bytes * full_streamed)
        squeezed = 1.0 - min(1.0, beside / (streamed_bytes * full_streamed))
        last_squeezed = 1.0 - min(1.0, beside / (streamed_bytes * last_streamed))
    if mask != 0:  # tiles, or steps of all tiles, that it leaves of one turn
        seen_tiles = seen_steps(rows if mask == 1 else lanes, columns, tokens, keys, heads, past)
        cycles = work / (turns * seen_tiles)  # of a tile of scores, of a step of values over all output tiles
        output = output_cycles / (turns * (seen_tiles if mask == 1 else token_tiles * output_tiles))
        if mask == 2:
            cycles /= output_tiles
    else:
        cycles = work / (turns * output_tiles * token_tiles)
        output = output_cycles / (turns * output_tiles * token_tiles)
    total = behind = again = 0.0
    small, uneven = count // blocks, count % blocks
    even_tiles = shared > 1 and not hold_weights  # a last tile in every copy: each is taken for the mean
    held_share = 1.0 / count if even_tiles else full_held
    for turn in range(min(turns, 2)):  # all turns but the first are alike
        for each in range(4 if mask == 0 else blocks):
            times = 1.0 if turn == 0 else float(turns - 1)
            leading = first >= 0 and turn == 0 and each == 0
            low, high = each * count // blocks, (each + 1) * count // blocks
            if mask == 0:  # the first block, the others of its size, those with a tile more, the last
                low, high = 0, small
                many = 1
                if each == 1:
                    many = blocks - uneven - (1 if uneven or blocks == 1 else 2)
                elif each == 2:
                    many = max(uneven - 1, 0)
                elif each == 3:
                    many = min(blocks - 1, 1)
                if each == 2 or (each == 3 and uneven > 0):
                    high += 1
                if many == 0:
                    continue
                times *= many
            tiles = high - low
            share = tiles * held_share
            if mask or even_tiles or blocks == 1:
                share = tiles / count
            elif each == 3:
                share -= full_held - last_held
            h = held_cycles / turns * share
            s = streamed_cycles / (turns * blocks * passes)
            hold_bytes = held_bytes * share
            if held_again:
                s += h / passes
                h /= passes
                hold_bytes = 0.0
            start = second = 0.0
            if mask == 0:
                c = first_c = last_c = tiles * cycles
                visit = s * passes / (1 if stays else tiles)  # all streamed tiles, at one visit
                first_s = s * passes * full_streamed
                last_s = visit * last_streamed
                if passes == 1:  # what is held comes beside it
                    last_s += held_cycles / turns * last_held
                visits = last_visits = tiles
                sum_c, sum_o = passes * c, passes * tiles * output
                sum_s = passes * s + sum_o
                late = first_late = 0.0
                if visits > 1 and stays:
                    first_late = c * (visits - 2) / visits + tiles * output * squeezed
                    late = passes * first_late + s * passes * copies * last_streamed * last_squeezed
                    late += s * passes * (passes - copies) * full_streamed * squeezed
                    first_late += s * passes * full_streamed * squeezed
                held_first = held_cycles / turns / (passes if held_again else 1) * full_held
                start = visit * full_streamed + held_first - cycles
                if passes > 1:
                    second = max(0.0, h + first_s + visit * second_streamed - c - cycles)
            else:
                sum_c = sum_s = sum_o = late = first_c = first_s = first_late = last_c = 0.0
                last_s = s
                last_visits = visited = low
                for at in range(passes):
                    if hold_weights:
                        seen = seen_keys(at, columns, tokens, keys, heads, past)
                        visits = tiles
                        if mask == 1:
                            visits = min(max((seen + rows - 1) // rows - low, 0), tiles)
                        c = visits * cycles * (1 if mask == 1 else (seen + lanes - 1) // lanes)
                    elif mask == 1:
                        seen = seen_keys(visited, columns, tokens, keys, heads, past)
                        while visited < high and (seen + rows - 1) // rows <= at:
                            visited += 1
                            seen = seen_keys(visited, columns, tokens, keys, heads, past)
                        visits = high - visited
                        c = visits * cycles
                    else:
                        visits = tiles
                        if at == 0:
                            c = 0.0
                            for tile in range(low, high):
                                seen = seen_keys(tile, columns, tokens, keys, heads, past)
                                c += (seen + lanes - 1) // lanes * cycles
                    if visits == 0:
                        continue
                    wanted = s + visits * output
                    if at == 0:
                        first_c, first_s, first_late = c, s, 0.0
                        if hold_weights and not held_again:  # a mask needs few keys at first
                            h *= visits / tiles
                    sum_c += c
                    sum_s += wanted
                    sum_o += visits * output
                    if visits > 1 and stays:
                        late += c * (visits - 2) / visits + wanted * squeezed
                        if at == 0:
                            first_late = late
                    last_c, last_visits = c, visits
            begin = max(start, first) if leading else 0.0
            ahead = 1.0
            if hold_bytes > 0:
                before = hold_bytes
                if mask == 0 and blocks > 1:
                    before = held_bytes * held_share * (small + (1 if uneven > 1 else 0))
                ahead = min(1.0, max(0.0, (room - before) / hold_bytes))
            passed = first_c, first_s, first_late
            taken = block_cycles(leading, (begin, second), h, ahead, h + sum_s, passed, sum_c, late)
            if last_visits > 0:
                one = last_c / last_visits
                behind = max(0.0, (last_c if stays else one) - min(one, last_s) - last_visits * output)
            total += times * taken
            moved = h + sum_s - min(sum_o, waiting)
            again = taken - block_cycles(leading, (begin, second), h, ahead, moved, passed, sum_c, late)
    return total - again, behind  # the last tile's results are counted once


def block_cycles(leading, begin, h, ahead, moving, passed, sum_c, late):  # type: ignore[no-untyped-def]
    """Cycles of a block: the longest of what DRAM, array and room for streamed tiles want, none of which ever takes
    longer where data come sooner.

    Args:
        leading: the first block of a layer.
        begin: cycles by which the first tile, and by which the second pass come late.
        h, ahead: as above.
        moving: DRAM cycles of all of it.
        passed: c, s and what room takes of the first pass.
        sum_c, late: of all passes.
    """
    first_c, first_s, first_late = passed
    if leading:
        computed = max(sum_c - first_c + max(first_c, h + first_s), sum_c + max(begin[0], begin[1]))
        return max(moving, computed, late - first_late + max(first_c + begin[0], h + first_s))
    return max(moving, sum_c + max(0.0, h * (1.0 - ahead) - 2.0 * first_c), late)


def first_data(weight_cycles, input_cycles, shape):  # type: ignore[no-untyped-def]
    """DRAM cycles of a step of both operands, and of a tile of both.

    Args:
        weight_cycles, input_cycles: of DRAM, everything once.
        shape: as in ``choose_fetches``.
    """
    outputs, tokens, steps, turns, shared, rows, columns, _, _, _, _, _ = shape
    weights = weight_cycles / turns * (min(rows, outputs) / outputs)
    inputs = input_cycles / turns * (min(columns, tokens) / (tokens * shared))
    return (weights + inputs) / steps, weights + inputs


def product_cycles(  # type: ignore[no-untyped-def]
    work, vector, weight_bits, input_bits, output_bits, bandwidth, weight_bytes, input_bytes, weight_room, input_room,
    fetches, shape, leading,
):  # fmt: skip
    """Cycles of one product of a layer, which ``layer_cycles`` takes together.

    Args:
        work, vector: cycles of array and vector unit; without an array the vector unit stands in its place.
        weight_bits, input_bits, output_bits: over the bus once.
        bandwidth: bits in a cycle.
        weight_bytes, input_bytes: room that one turn takes.
        weight_room, input_room: bytes of the buffers.
        fetches: what ``choose_fetches`` returns.
        shape: as there.
        leading: it is the first of its layer.

    Returns:
        Those of its blocks; of computing left when the last data have come; of DRAM and vector unit alone; when the
        first tile is ready (0 unless ``leading``); of the last tile's vector work and writing.
    """
    outputs, tokens, _, turns, shared, rows, columns, _, _, _, _, _ = shape
    tiles = turns * ((outputs + rows - 1) // rows) * ((tokens + columns - 1) // columns * shared)
    if work == 0:
        work, vector = vector, 0
    weight_once, input_once, written = weight_bits / bandwidth, input_bits / bandwidth, output_bits / bandwidth
    weights, inputs = weight_once * fetches[2], input_once * fetches[3]
    step, ready = -1.0, 0.0
    if leading:
        step, data = first_data(weight_once, input_once, shape)
        ready = max(step + work / tiles, data)
    taken, behind = part_cycles(
        float(work), weights, inputs, written, weight_bytes, input_bytes, weight_room, input_room, fetches, shape,
        step, OUTPUT_ROOM_BYTES * 8 / bandwidth,
    )  # fmt: skip
    last = last_vector_cycles(vector, shape) + written / tiles
    return taken, behind, weights + inputs + written, vector, ready, last


def layer_cycles(work, dram, vector, behind, latency, ready, last):  # type: ignore[no-untyped-def]
    """Cycles of a layer.

    Args:
        work, behind: of all its products (``part_cycles``), and what the last one leaves.
        dram, vector: cycles of DRAM and vector unit alone.
        latency: of the first read.
        ready: when the first tile is ready for the vector unit, latency left out.
        last: the last tile's vector work and writing.
    """
    taken = max(work + latency + last, dram + max(latency, behind))
    if vector > 0:
        taken = max(taken, vector + latency + ready)
    return math.ceil(taken)


def most_cycles(fastest, slack):  # type: ignore[no-untyped-def]
    """Cycles that a schedule may take in place of the fastest (``hwmodel.tile_choice``)."""
    return fastest + int(fastest * slack)


def last_vector_cycles(vector, shape):  # type: ignore[no-untyped-def]
    """Vector unit's cycles for the last tile of a product: its results, or under a mask its steps."""
    outputs, tokens, _, turns, shared, rows, columns, mask, keys, heads, past, lanes = shape
    token_tiles = (tokens + columns - 1) // columns
    if mask == 0:
        last_outputs = outputs - (outputs - 1) // rows * rows
        last_tokens = tokens - (token_tiles - 1) * columns
        return vector * (last_outputs * last_tokens / (outputs * tokens * turns * shared))
    seen_tiles = seen_steps(rows if mask == 1 else lanes, columns, tokens, keys, heads, past)
    last = 1
    if mask == 2:
        seen_tiles *= (outputs + rows - 1) // rows
        last = (seen_keys(token_tiles - 1, columns, tokens, keys, heads, past) + lanes - 1) // lanes
    return vector * (last / (seen_tiles * turns))
