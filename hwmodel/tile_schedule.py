"""How tiles take turns in the buffers: what is fetched again where whole tiles must fit, and the time it takes.

``hwmodel.traffic`` counts bytes: what is in a buffer stays there, even a part of a tile. Here a product runs as a tile
schedule does. One operand is held, a buffer-full of whole tiles (*block*) at a time, and tiles of the other are
streamed past it, each used by all tiles of the block before its room is given up:

* a held operand that fits comes once, and so does one that meets a single tile of the other; else it comes in blocks of
  as many whole tiles as fit, and the streamed operand comes once for each block;
* a streamed tile that does not fit comes again for every held tile it meets; a held tile that does not fit comes again
  for every streamed tile. (The array has accumulators for one tile.)

Which operand is held, and how large tiles are, is chosen (``hwmodel.tile_choice``).

Time (``part_cycles``). Array, DRAM and vector unit do not run beside one another from start to end of a layer, as the
plain model has it. Before each block a buffer-full of the held operand must come, and it finds no room before the last
pass over the block before; where blocks are uneven, each takes the longer of its own computing and its own fetching;
and two streamed tiles may not fit beside each other. With

    h  DRAM cycles of what a block's first pass needs of the held operand,
    s  of one tile of the streamed operand and the results of its pass,
    c  array cycles of a pass (one streamed tile past the block),
    a  share of a block for which there is room ahead,
    u  share of a streamed tile for which there is none beside the one before,
    v  tiles of a block: a streamed tile frees its room during the last of v visits,

a block takes ``e + max(sum of c, sum of s, sum of c (v - 2) / v + s u)``, where ``e`` is ``max(0, h + s - max(c, s))``
for the first block, ``h`` where passes wait for DRAM anyway, and ``max(0, h (1 - a) - 2 c)`` elsewhere: its data come
during the last pass before it and during its own first. A layer takes at least its DRAM cycles with what is left of its
last pass when the last data have come, and at least its vector cycles; latency, the first slice and the last tile are
added once. No fitted number. ``hwmodel.event_grid`` holds it against the event simulator.

The functions take numbers alone and call only one another: ``hwmodel.traffic`` and ``hwmodel.tile_plan`` call them for
one layer, and ``hwmodel.batch_tiles`` compiles the same functions.
"""

from __future__ import annotations

import math

from hwmodel.event_options import BANDWIDTH

LATENCY_S = BANDWIDTH.dram.latency_s  # DRAMsim3, configs/DDR4_8Gb_x8_2133.ini, for every memory
OUTPUT_ROOM_BYTES = BANDWIDTH.output_room_bytes


def seen_keys(tile, columns, tokens, keys, heads, past):  # type: ignore[no-untyped-def]
    """Keys that a token tile attends to under a causal mask: those up to its last position.

    Args:
        tile: which, of ``columns`` of the ``tokens``.
        keys, heads, past: as in ``choose_fetches``.
    """
    return min(past + (min((tile + 1) * columns, tokens) - 1) // heads + 1, keys)


def seen_steps(along, columns, tokens, keys, heads, past):  # type: ignore[no-untyped-def]
    """Runs of ``along`` keys that all token tiles together attend to; arguments as in ``seen_keys``."""
    steps = 0
    for tile in range((tokens + columns - 1) // columns):
        steps += (seen_keys(tile, columns, tokens, keys, heads, past) + along - 1) // along
    return steps


def fetch_times(weight_bits, input_bits, weight_bytes, input_bytes, weight_room, input_room):  # type: ignore[no-untyped-def]
    """How often weights and inputs come by ``hwmodel.traffic.fetches``; arguments as in ``choose_fetches``."""
    weight_times = input_times = 1
    if weight_bytes > weight_room and input_bytes > input_room:
        again_inputs = (weight_bytes + weight_room - 1) // weight_room
        again_weights = (input_bytes + input_room - 1) // input_room
        if again_weights * weight_bits + input_bits < again_inputs * input_bits + weight_bits:
            weight_times = again_weights
        else:
            input_times = again_inputs
    return weight_times, input_times


def held_blocks(fits, tiles, others, tile_bytes, room_bytes):  # type: ignore[no-untyped-def]
    """Blocks of a held operand, and whether it comes again at every visit (1 or 0).

    Args:
        fits: all of it has room.
        tiles, others: of it, and of the streamed operand.
        tile_bytes, room_bytes: of one of its tiles, and of its buffer.
    """
    if fits or others <= 1:
        return 1, 0
    room = room_bytes // tile_bytes
    if room == 0:
        return tiles, 1
    return (tiles + room - 1) // room, 0


def choose_fetches(  # type: ignore[no-untyped-def]
    whole, hold, weight_bits, input_bits, weight_bytes, input_bytes, weight_room, input_room, shape
):  # fmt: skip
    """In how many blocks an operand is held, and how often both come.

    Args:
        whole: whole tiles must fit; otherwise the rule of ``hwmodel.traffic.fetches``.
        hold: 1 for weights, 0 for inputs, -1 for what moves fewer bits; not asked where parts of tiles stay and one
            operand alone fits, or neither.
        weight_bits, input_bits: over the bus once, all copies.
        weight_bytes, input_bytes: room that one turn takes.
        weight_room, input_room: bytes of the buffers.
        shape: outputs, tokens, steps, turns, shared, rows, columns, mask, keys, heads, past, lanes (``TileShape``).

    Returns:
        Whether weights are held (1 or 0), blocks, times weights come, times inputs come, whether weights and whether
        inputs come again at every visit (1 or 0).
    """
    outputs, tokens, steps, _, shared, rows, columns, mask, keys, heads, past, lanes = shape
    output_tiles = (outputs + rows - 1) // rows
    token_tiles = (tokens + columns - 1) // columns * shared
    weights_fit, inputs_fit = weight_bytes <= weight_room, input_bytes <= input_room
    if not whole:
        if weights_fit or inputs_fit:
            held = weights_fit
            if weights_fit and inputs_fit:
                held = weight_bits < input_bits if hold < 0 else hold == 1
            return int(held), 1, 1, 1, 0, 0
        weight_times, input_times = fetch_times(
            weight_bits, input_bits, weight_bytes, input_bytes, weight_room, input_room
        )
        if weight_times > 1:
            return 0, min(weight_times, token_tiles), weight_times, 1, 0, 0
        return 1, min(input_times, output_tiles), 1, input_times, 0, 0
    weight_tile = (weight_bytes * min(rows, outputs) + outputs - 1) // outputs
    input_tile = (input_bytes * min(columns, tokens) + tokens * shared - 1) // (tokens * shared)
    # how often all of an operand comes where it comes at every visit; under a mask only what is seen
    weight_visits, input_visits = token_tiles, output_tiles
    if mask != 0 and (weight_tile > weight_room or input_tile > input_room):
        seen = seen_steps(rows if mask == 1 else lanes, columns, tokens, keys, heads, past)
        once = output_tiles if mask == 1 else steps
        weight_visits = (seen + once - 1) // once
        if mask == 1:
            input_visits = (seen + token_tiles - 1) // token_tiles
    # inputs held
    blocks_of_inputs, inputs_again = held_blocks(inputs_fit, token_tiles, output_tiles, input_tile, input_room)
    weights_streamed = weight_visits if weight_tile > weight_room else blocks_of_inputs
    inputs_held = input_visits if inputs_again else 1
    # weights held
    blocks_of_weights, weights_again = held_blocks(weights_fit, output_tiles, token_tiles, weight_tile, weight_room)
    inputs_streamed = input_visits if input_tile > input_room else blocks_of_weights
    weights_held = weight_visits if weights_again else 1
    of_inputs = weights_streamed * weight_bits + inputs_held * input_bits
    of_weights = weights_held * weight_bits + inputs_streamed * input_bits
    hold_weights = of_weights < of_inputs if hold < 0 else hold == 1
    if of_weights == of_inputs and hold < 0:
        hold_weights = weight_bits < input_bits if weights_fit == inputs_fit else weights_fit
    if hold_weights:
        streamed_again = 1 if input_tile > input_room else 0
        return 1, blocks_of_weights, weights_held, inputs_streamed, weights_again, streamed_again
    streamed_again = 1 if weight_tile > weight_room else 0
    return 0, blocks_of_inputs, weights_streamed, inputs_held, streamed_again, inputs_again


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
