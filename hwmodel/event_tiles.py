"""A product cut into pieces: which tile, which slice of it, what each piece needs in the buffers and what it frees.

Output-stationary, as ``hwmodel.traffic`` counts: tiles of ``rows`` outputs by ``columns`` tokens, reduced slice by
slice. One operand is held, a buffer-full (*block*) at a time, and the other streamed past it once for each block:

* held inputs: for each block of token tiles, for each output tile, for each token tile of the block;
* held weights: for each block of output tiles, for each token tile, for each output tile of the block.

``hwmodel.tile_schedule`` says which operand is held, in how many blocks, and what comes again at every visit because a
tile of it has no room. The law of this file: pieces move exactly the bits of the closed form and take exactly its
compute cycles; where blocks or tiles are ragged, bits and cycles follow the elements (largest remainder first come).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from hwmodel.accelerator import Accelerator
from hwmodel.tile_plan import CAUSAL_VALUES, DENSE, TilePlan, TileShape
from hwmodel.tile_schedule import seen_keys
from hwmodel.traffic import Product
from hwmodel.units import ceil_div

Ints = np.ndarray  # int64 [pieces] or [tiles]

_MOST = 4  # times ``piece_limit``: 8 million pieces take 2 GB
MOST_PIECES = 32_000_000  # at once: 8 GB

jit = njit(nogil=True, cache=True, error_model="numpy")


@dataclass(frozen=True)
class Tiling:
    """The shape of a product as the array sees it.

    Args:
        outputs: ``n``, cut into tiles of the array's rows.
        tokens: tokens of each token tile, all copies that share a weight one after another.
        visible: output tiles that each token tile needs; fewer than all under a causal mask, never decreasing.
        steps: steps of each token tile's tiles; never decreasing.
        copies: passes one after another with operands of their own.
    """

    outputs: int
    tokens: tuple[int, ...]
    visible: tuple[int, ...]
    steps: tuple[int, ...]
    copies: int = 1


def _tokens(m: int, columns: int) -> tuple[int, ...]:
    full, rest = divmod(m, columns)
    return (columns,) * full + ((rest,) if rest else ())


@dataclass(frozen=True)
class Pieces:
    """A product in pieces, in the order in which the array takes them. Cumulative figures include the piece itself.

    Args:
        cycles: of the array (of the vector unit where ``on_vector``).
        steps: of the array, for bank conflicts.
        weight_bits, input_bits: DRAM bits that have come when the piece starts.
        weight_bytes, input_bytes: bytes written into the buffer by then.
        weight_freed, input_freed: of those, bytes that are used up when the piece ends.
        tile: index of the piece's tile.
        vector_cycles: of each tile's work on the vector unit, after the array; by results and steps.
        output_bits: DRAM bits of results, up to each tile.
        macs: multiply-accumulates done up to each tile.
        on_vector: the product does not use the array.
        held_weights: which operand is held.
        blocks: buffer-fulls of it, in one copy.
    """

    cycles: Ints
    steps: Ints
    weight_bits: Ints
    input_bits: Ints
    weight_bytes: Ints
    input_bytes: Ints
    weight_freed: Ints
    input_freed: Ints
    tile: Ints
    vector_cycles: Ints
    output_bits: Ints
    macs: Ints
    on_vector: bool
    held_weights: bool
    blocks: int


def tiling_of(shape: TileShape) -> Tiling:
    """Every tile of a shape."""
    if shape.mask == DENSE:
        tokens = _tokens(shape.tokens, shape.columns) * shape.shared
        count = len(tokens)
        return Tiling(shape.outputs, tokens, (shape.output_tiles,) * count, (shape.steps,) * count, shape.turns)
    tokens = _tokens(shape.tokens, shape.columns)
    seen = [
        seen_keys(tile, shape.columns, shape.tokens, shape.keys, shape.heads, shape.past) for tile in range(len(tokens))
    ]
    if shape.mask == CAUSAL_VALUES:
        visible, steps = [shape.output_tiles] * len(seen), [ceil_div(s, shape.lanes) for s in seen]
    else:
        visible, steps = [ceil_div(s, shape.rows) for s in seen], [shape.steps] * len(seen)
    return Tiling(shape.outputs, tokens, tuple(visible), tuple(steps), shape.turns)


def cut(plan: TilePlan, accelerator: Accelerator, *, slice_bytes: int, piece_limit: int) -> Pieces:
    """Cut a product into pieces.

    Args:
        plan: bits and cycles, shape, and how tiles take turns.
        accelerator: on what.
        slice_bytes: of one operand of a piece, at least one step.
        piece_limit: slices grow where there would be more pieces, to a quarter of their buffer: longer ones would not
            be fetched beside the one in use, which shows. They do beyond ``_MOST`` times as many pieces.

    Raises:
        ValueError: more than ``MOST_PIECES`` even so.
    """
    product, shape, tiling = plan.product, plan.shape, tiling_of(plan.shape)
    (weight_times, input_times), (weights_again, inputs_again) = plan.times, plan.again
    held_weights, blocks = plan.held_weights, plan.blocks
    tokens, visible, steps = (np.array(x, np.int64) for x in (tiling.tokens, tiling.visible, tiling.steps))
    output_tiles = int(visible.max())
    blocks = min(blocks, output_tiles if held_weights else len(tokens))
    each = _step_bytes(product, tiling)
    slice_steps = max(1, min(int(steps.max()), int(slice_bytes / max(*each, 1e-3))))
    rooms = accelerator.weight_buffer.capacity_bytes, accelerator.activation_buffer.capacity_bytes
    calm = min(room / 4 / max(size, 1e-3) for room, size in zip(rooms, each, strict=True))
    while (count := tiling.copies * int((visible * -(-steps // slice_steps)).sum())) > piece_limit:
        if slice_steps >= int(steps.max()) or (2 * slice_steps > calm and count <= _MOST * piece_limit):
            break
        slice_steps *= 2
    check_pieces(count)
    edges = np.array([min(shape.rows, tiling.outputs - i * shape.rows) for i in range(output_tiles)], np.int64)
    tiles = tiling.copies * int(visible.sum())
    made = np.zeros((6, count), np.int64)
    results = np.zeros(tiles, np.int64)
    fill = _pieces_of_held_weights if held_weights else _pieces_of_held_inputs
    fill(tokens, visible, steps, edges, slice_steps, blocks, tiling.copies, weights_again, inputs_again, made, results)
    piece_steps, weight_new, input_new, weight_old, input_old, tile = made
    on_vector = product.compute_cycles == 0 and product.vector_operations > 0
    vector = ceil_div(product.vector_operations, accelerator.vector.lanes)
    vector_cycles = np.zeros(tiles, np.int64)
    if vector and not on_vector:
        tile_steps = np.bincount(tile, weights=piece_steps, minlength=tiles).astype(np.int64)
        vector_cycles = _differences(share(vector, results * tile_steps))
    weight_loads, input_loads = (1, blocks) if held_weights else (blocks, 1)
    weight_loads = weight_times if weights_again else weight_loads
    input_loads = input_times if inputs_again else input_loads
    weight_bytes, input_bytes = product.weight.buffer_bytes * weight_loads, product.input.buffer_bytes * input_loads
    return Pieces(
        cycles=_differences(share(vector if on_vector else product.compute_cycles, piece_steps)),
        steps=piece_steps,
        weight_bits=share(product.weight.dram_bits * weight_times, weight_new),
        input_bits=share(product.input.dram_bits * input_times, input_new),
        weight_bytes=share(weight_bytes, weight_new),
        input_bytes=share(input_bytes, input_new),
        weight_freed=share(weight_bytes, weight_old),
        input_freed=share(input_bytes, input_old),
        tile=tile,
        vector_cycles=vector_cycles,
        output_bits=share(product.output.dram_bits, results),
        macs=share(product.macs, results),
        on_vector=on_vector,
        held_weights=held_weights,
        blocks=blocks,
    )


def check_pieces(count: int) -> None:
    """Raises ValueError for more pieces than memory should be asked for."""
    if count > MOST_PIECES:
        raise ValueError(
            f"pieces that are simulated at once must be at most {MOST_PIECES:,}, not {count:,}: ask for a shorter "
            "prompt or a smaller batch, leave prefetching out, or price by the closed form (codesign estimate)"
        )


def _step_bytes(product: Product, tiling: Tiling) -> tuple[float, float]:
    """Bytes of a full tile's weights and inputs in a step."""
    tallest, tiles = max(tiling.steps), max(tiling.visible)
    weight = product.weight.buffer_bytes / (tiling.copies * tiles * tallest)
    return weight, product.input.buffer_bytes / (tiling.copies * len(tiling.tokens) * tallest)


def share(total: int, elements: Ints) -> Ints:
    """``floor(total * cumulative / whole)`` for the cumulative sum of ``elements`` and its last value, exact."""
    whole = int(elements.sum())
    if whole == 0 or total == 0:
        return np.zeros(len(elements), np.int64)
    assert whole < 2**53, "elements must be exact as floats"
    each, rest = divmod(int(total), whole)
    return _spread(elements, each, rest, whole, 1 / whole)


def _differences(cumulative: Ints) -> Ints:
    """Undo the sum, in place."""
    cumulative[1:] -= cumulative[:-1].copy()
    return cumulative


@jit
def _spread(elements, each, rest, whole, inverse):  # type: ignore[no-untyped-def]
    """``share`` in 64-bit integers; the quotient is guessed in floats and put right, as dividing integers is slow.

    The dividend may overflow: it wraps around, and so does what is taken from it; what is left is small and exact.
    """
    made = np.empty(len(elements), np.int64)
    cumulative = value = 0
    for i in range(len(elements)):
        if elements[i] > 0:
            cumulative += elements[i]
            quotient = np.int64(np.float64(rest) * cumulative * inverse)
            left = rest * cumulative - quotient * whole
            while left < 0:
                quotient -= 1
                left += whole
            while left >= whole:
                quotient += 1
                left -= whole
            value = each * cumulative + quotient
        made[i] = value
    return made


# Both loops: ``tokens``, ``visible``, ``steps`` [token tiles], ``edges`` outputs of each output tile; ``made`` rows are
# steps, elements of weights and inputs that must be fetched first, elements freed afterwards, and the tile's index;
# ``weights_again`` and ``inputs_again``: they come at every visit.
# Operand elements are counted in outputs x steps and tokens x steps. ``results`` [tiles]: outputs x tokens.


@jit
def _covered(steps, part, slice_steps):  # type: ignore[no-untyped-def]
    """Steps of slice ``part`` of a tile of ``steps``."""
    return min(max(steps - part * slice_steps, 0), slice_steps)


@jit
def _pieces_of_held_inputs(  # type: ignore[no-untyped-def]
    tokens, visible, steps, edges, slice_steps, blocks, copies, weights_again, inputs_again, made, results
):  # fmt: skip
    piece = tile = 0
    count = len(tokens)
    for _ in range(copies):
        for block in range(blocks):
            first, end = block * count // blocks, (block + 1) * count // blocks
            for n in range(visible[end - 1]):
                for m in range(first, end):
                    if n >= visible[m]:
                        continue
                    for part in range(-(-steps[m] // slice_steps)):
                        new = _covered(steps[m], part, slice_steps)
                        made[0, piece] = new
                        before = 0
                        if m > first and n < visible[m - 1] and not weights_again:
                            before = _covered(steps[m - 1], part, slice_steps)
                        made[1, piece] = edges[n] * (new - before)
                        if n == 0 or inputs_again:
                            made[2, piece] = tokens[m] * new
                        if m == end - 1 or weights_again:
                            made[3, piece] = edges[n] * new
                        if n == visible[m] - 1 or inputs_again:
                            made[4, piece] = tokens[m] * new
                        made[5, piece] = tile
                        piece += 1
                    results[tile] = edges[n] * tokens[m]
                    tile += 1


@jit
def _pieces_of_held_weights(  # type: ignore[no-untyped-def]
    tokens, visible, steps, edges, slice_steps, blocks, copies, weights_again, inputs_again, made, results
):  # fmt: skip
    piece = tile = 0
    count, tiles = len(tokens), len(edges)
    for _ in range(copies):
        for block in range(blocks):
            first, end = block * tiles // blocks, (block + 1) * tiles // blocks
            for m in range(count):
                last = min(end, visible[m])
                for n in range(first, last):
                    for part in range(-(-steps[m] // slice_steps)):
                        new = _covered(steps[m], part, slice_steps)
                        made[0, piece] = new
                        before = 0
                        if m > 0 and n < visible[m - 1] and not weights_again:
                            before = _covered(steps[m - 1], part, slice_steps)
                        made[1, piece] = edges[n] * (new - before)
                        if n == first or inputs_again:
                            made[2, piece] = tokens[m] * new
                        if m == count - 1 or weights_again:
                            made[3, piece] = edges[n] * new
                        if n == last - 1 or inputs_again:
                            made[4, piece] = tokens[m] * new
                        made[5, piece] = tile
                        piece += 1
                    results[tile] = edges[n] * tokens[m]
                    tile += 1
