"""How tiles take turns in the buffers: what is fetched again where whole tiles must fit.

``hwmodel.traffic`` counts bytes: what is in a buffer stays there, even a part of a tile. Here a product runs as a tile
schedule does. One operand is held, a buffer-full of whole tiles (*block*) at a time, and tiles of the other are
streamed past it, each used by all tiles of the block before its room is given up:

* a held operand that fits comes once, and so does one that meets a single tile of the other; else it comes in blocks of
  as many whole tiles as fit, and the streamed operand comes once for each block;
* a streamed tile that does not fit comes again for every held tile it meets; a held tile that does not fit comes again
  for every streamed tile. (The array has accumulators for one tile.)

Which operand is held, and how large tiles are, is chosen (``hwmodel.tile_choice``).

The time that it takes: ``hwmodel.tile_time``.

The functions take numbers alone and call only one another: ``hwmodel.traffic`` and ``hwmodel.tile_plan`` call them for
one layer, and ``hwmodel.batch_tiles`` compiles the same functions.
"""

from __future__ import annotations


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
