"""How tiles take turns in the buffers: what is fetched again where whole tiles must fit, and the time it takes.

``hwmodel.traffic`` counts bytes: what is in a buffer stays there, even a part of a tile. Here a product runs as a tile
schedule does. One operand is held, a buffer-full of whole tiles (*block*) at a time, and tiles of the other are
streamed past it, each used by all tiles of the block before its room is given up:

* a held operand that fits comes once, and so does one that meets a single tile of the other; else it comes in blocks of
  as many whole tiles as fit, and the streamed operand comes once for each block;
* a streamed tile that does not fit comes again for every held tile it meets; a held tile that does not fit comes again
  for every streamed tile. (The array has accumulators for one tile.)

Whichever operand is better held is held: fewer bits, and where equal the smaller one that fits.

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
SLICE_BYTES = BANDWIDTH.slice_bytes


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
    whole, weight_bits, input_bits, weight_bytes, input_bytes, weight_room, input_room, shape
):  # fmt: skip
    """Which operand is held, in how many blocks, and how often both come.

    Args:
        whole: whole tiles must fit; otherwise the rule of ``hwmodel.traffic.fetches``.
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
            held = weight_bits < input_bits if weights_fit and inputs_fit else weights_fit
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
    hold_weights = of_weights < of_inputs
    if of_weights == of_inputs:
        hold_weights = weight_bits < input_bits if weights_fit == inputs_fit else weights_fit
    if hold_weights:
        streamed_again = 1 if input_tile > input_room else 0
        return 1, blocks_of_weights, weights_held, inputs_streamed, weights_again, streamed_again
    streamed_again = 1 if weight_tile > weight_room else 0
    return 0, blocks_of_inputs, weights_streamed, inputs_held, streamed_again, inputs_again


def part_cycles(  # type: ignore[no-untyped-def]
    work, weight_cycles, input_cycles, output_cycles, weight_bytes, input_bytes, weight_room, input_room, fetches,
    shape, first,
):  # fmt: skip
    """Cycles of the blocks of one product, one after another.

    Args:
        work: cycles of the array, or of the vector unit in its place.
        weight_cycles, input_cycles, output_cycles: of DRAM, everything that comes again included.
        weight_bytes, input_bytes: room that one turn takes.
        weight_room, input_room: bytes of the buffers.
        fetches: what ``choose_fetches`` returns.
        shape: as there.
        first: DRAM cycles of the first slice of both operands; below 0 for a product after the first of its layer.

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
        count, passes, held_bytes, tile_bytes = output_tiles, token_tiles, weight_bytes, input_bytes / token_tiles
        room, streamed_room, held_again, streamed_again = weight_room, input_room, weights_again, inputs_again
        held_cycles, streamed_cycles = weight_cycles, input_cycles
    else:
        full_held, last_held, full_streamed, last_streamed = full_tokens, last_tokens, full_outputs, last_outputs
        count, passes, held_bytes, tile_bytes = token_tiles, output_tiles, input_bytes, weight_bytes / output_tiles
        room, streamed_room, held_again, streamed_again = input_room, weight_room, inputs_again, weights_again
        held_cycles, streamed_cycles = input_cycles, weight_cycles
    squeezed = 0.0
    stays = not streamed_again
    if tile_bytes > 0 and stays:
        squeezed = 1.0 - min(1.0, max(0.0, (streamed_room - tile_bytes) / tile_bytes))
    if mask != 0:  # tiles, or steps of all tiles, that it leaves of one turn
        seen_tiles = seen_steps(rows if mask == 1 else lanes, columns, tokens, keys, heads, past)
        cycles = work / (turns * seen_tiles)  # of a tile of scores, of a step of values over all output tiles
        output = output_cycles / (turns * (seen_tiles if mask == 1 else token_tiles * output_tiles))
        if mask == 2:
            cycles /= output_tiles
    else:
        cycles = work / (turns * output_tiles * token_tiles)
        output = output_cycles / (turns * output_tiles * token_tiles)
    total = behind = written = held_first = 0.0
    large = (count + blocks - 1) // blocks
    for turn in range(min(turns, 2)):  # all turns but the first are alike
        for each in range(3 if mask == 0 else blocks):
            times = 1.0 if turn == 0 else float(turns - 1)
            leading = first >= 0 and turn == 0 and each == 0
            low, high = each * count // blocks, (each + 1) * count // blocks
            if mask == 0:  # the first block, the others of its size, those with a tile more
                low, high = 0, count // blocks
                many = 1
                if each == 1:
                    many = blocks - count % blocks - 1
                elif each == 2:
                    many = count % blocks
                    high += 1
                if many == 0:
                    continue
                times *= many
            tiles = high - low
            h = held_cycles / turns * (tiles / count)
            s = streamed_cycles / (turns * blocks * passes)
            hold_bytes = held_bytes * (tiles / count)
            if held_again:
                s += h / passes
                h /= passes
                hold_bytes = 0.0
            start = 0.0
            if mask == 0:
                c = first_c = last_c = tiles * cycles
                visit = s * passes / (1 if stays else tiles)  # all streamed tiles, at one visit
                first_s = s * passes * full_streamed + tiles * output
                last_s = visit * last_streamed
                if passes == 1:  # what is held comes beside it
                    last_s += h * min(1.0, last_held * count / tiles)
                visits = last_visits = tiles
                sum_c, sum_s = passes * c, passes * (s + tiles * output)
                late = 0.0
                if visits > 1 and stays:
                    late = passes * (c * (visits - 2) / visits + (s + tiles * output) * squeezed)
                held_first = h * min(1.0, full_held * count / tiles)
                start = visit * full_streamed + held_first - cycles
                if passes > 1:
                    start = max(start, h + first_s + visit * full_streamed - c - cycles)
            else:
                sum_c = sum_s = late = first_c = first_s = last_c = 0.0
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
                        first_c, first_s = c, wanted
                        if hold_weights and not held_again:  # a mask needs few keys at first
                            h *= visits / tiles
                    sum_c += c
                    sum_s += wanted
                    if visits > 1 and stays:
                        late += c * (visits - 2) / visits + wanted * squeezed
                    last_c, last_visits = c, visits
            bulk = max(sum_c, sum_s)
            if leading and late > bulk and mask == 0:
                exposed = max(held_first + cycles, h - late / passes + first_s)
            elif leading:
                exposed = h + first_s - max(first_c, first_s)
                if sum_c >= sum_s:
                    exposed = max(exposed, max(start, first))
            elif sum_s > sum_c:
                exposed = max(0.0, h - max(0.0, late - sum_s))
            else:
                ahead = 1.0
                if hold_bytes > 0:
                    before = hold_bytes if mask or blocks == 1 else held_bytes * (large / count)
                    ahead = min(1.0, max(0.0, (room - before) / hold_bytes))
                exposed = max(0.0, h * (1.0 - ahead) - 2.0 * first_c)
            if last_visits > 0:
                one = last_c / last_visits
                behind = max(0.0, (last_c if stays else one) - min(one, last_s) - last_visits * output)
            total += times * (exposed + max(bulk, late))
            written = output if sum_s > sum_c else 0.0
    return total - written, behind  # the last tile's results are counted once


def first_slice(weight_cycles, input_cycles, weight_bytes, input_bytes, shape):  # type: ignore[no-untyped-def]
    """DRAM cycles of the first slice of both operands (``hwmodel.event_options``), and of a tile of both.

    Args:
        weight_cycles, input_cycles: of DRAM, everything once.
        weight_bytes, input_bytes: room that one turn takes.
        shape: as in ``choose_fetches``.
    """
    outputs, tokens, steps, turns, shared, rows, columns, _, _, _, _, _ = shape
    output_tiles = (outputs + rows - 1) // rows
    token_tiles = (tokens + columns - 1) // columns * shared
    step_bytes = max(max(weight_bytes / (output_tiles * steps), input_bytes / (token_tiles * steps)), 1e-3)
    part = max(1, min(steps, int(SLICE_BYTES / step_bytes))) / steps
    weights = weight_cycles / turns * (min(rows, outputs) / outputs)
    inputs = input_cycles / turns * (min(columns, tokens) / (tokens * shared))
    return (weights + inputs) * part, weights + inputs


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
    slices, ready = -1.0, 0.0
    if leading:
        slices, data = first_slice(weight_once, input_once, weight_bytes, input_bytes, shape)
        ready = max(slices + work / tiles, data)
    taken, behind = part_cycles(
        float(work), weights, inputs, written, weight_bytes, input_bytes, weight_room, input_room, fetches, shape,
        slices,
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
    taken = max(work + latency + last, dram + behind)
    if vector > 0:
        taken = max(taken, vector + latency + ready)
    return math.ceil(taken)


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
