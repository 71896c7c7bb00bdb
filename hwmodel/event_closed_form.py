"""The closed form with what the event simulator shows it leaves out: held data that must come first, uneven blocks.

``price_product`` lets array, DRAM and vector unit run beside one another from start to end of a layer. Three things
keep them from it. Before each block (``event_tiles``) a buffer-full of the held operand must come, and it finds no room
before the last pass over the block before; where blocks are uneven, each takes the longer of its own computing and its
own fetching; and two streamed tiles may not fit beside each other. With

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
added once. No fitted number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwmodel.accelerator import Accelerator, Array
from hwmodel.event_options import SimulationOptions
from hwmodel.event_tiles import Pieces, Tiling
from hwmodel.options import ModelOptions
from hwmodel.traffic import Product
from hwmodel.units import ceil_div


@dataclass(frozen=True)
class Part:
    """A product, its shape and its pieces."""

    product: Product
    tiling: Tiling
    pieces: Pieces


def filled_cycles(
    parts: tuple[Part, ...],
    accelerator: Accelerator,
    array: Array,
    options: SimulationOptions,
    model_options: ModelOptions,
) -> float:
    """Cycles of a layer by the closed form above.

    Args:
        parts: its products.
        accelerator, array: on what.
        options: latency and slices; buffers refilled slot by slot, DRAM by bandwidth.
        model_options: peak or sustained bandwidth.
    """
    clock = accelerator.frequency_hz
    bandwidth = accelerator.dram.bits_per_cycle(clock, sustained=model_options.dram_efficiency)
    latency = options.dram.latency_s * clock
    dram = vector = work = behind = 0.0
    for index, part in enumerate(parts):
        pieces = part.pieces
        bits = int(pieces.weight_bits[-1]) + int(pieces.input_bits[-1]) + int(pieces.output_bits[-1])
        dram += bits / bandwidth
        vector += float(pieces.vector_cycles.sum())
        cycles, behind = _work(part, accelerator, array, bandwidth, first=index == 0)
        work += cycles
    if work_of_array(parts) + vector == 0:  # a look-up: reading and writing share the bus
        return dram + latency
    first, last = parts[0].pieces, parts[-1].pieces
    start = (int(first.weight_bits[0]) + int(first.input_bits[0])) / bandwidth
    read = latency if int(first.weight_bits[-1]) + int(first.input_bits[-1]) else 0.0
    tiles = len(last.output_bits)
    end = float(last.vector_cycles[-1]) + int(last.output_bits[-1]) / tiles / bandwidth
    tile = float(first.cycles.sum()) / len(first.output_bits)
    return max(work + read + end, dram + behind, vector + start + read + tile if vector else 0.0)


def work_of_array(parts: tuple[Part, ...]) -> float:
    """Cycles of the array, or of the vector unit in its place."""
    return float(sum(part.pieces.cycles.sum() for part in parts))


def _work(part: Part, accelerator: Accelerator, array: Array, bandwidth: float, *, first: bool) -> tuple[float, float]:
    """Cycles of the blocks of one product, one after another; computing that is left when the last data have come."""
    product, tiling, pieces = part.product, part.tiling, part.pieces
    held_weights, blocks, copies = pieces.held_weights, pieces.blocks, tiling.copies
    buffers = (accelerator.weight_buffer, accelerator.activation_buffer)[:: 1 if held_weights else -1]
    room, streamed_room = (buffer.capacity_bytes for buffer in buffers)
    held, streamed = (product.weight, product.input)[:: 1 if held_weights else -1]
    held_bits, streamed_bits = (pieces.weight_bits, pieces.input_bits)[:: 1 if held_weights else -1]
    visible, steps = np.array(tiling.visible), np.array(tiling.steps)
    rows = ceil_div(tiling.outputs, array.rows)
    count = min(rows, int(visible.max())) if held_weights else len(visible)
    tile_bytes = streamed.buffer_bytes / (copies * (len(visible) if held_weights else rows))
    squeezed = 1 - min(1.0, max(0.0, (streamed_room - tile_bytes) / tile_bytes)) if tile_bytes else 0.0
    step_cycles = float(pieces.cycles.sum()) / (copies * float((visible * steps).sum()))
    tiles = len(pieces.output_bits)
    output = int(pieces.output_bits[-1]) / tiles / bandwidth
    total = ahead_bytes = behind = 0.0
    for copy in range(min(copies, 2)):  # all copies but the first are alike
        times = 1 if copy == 0 else copies - 1
        for block in range(blocks):
            low, high = block * count // blocks, (block + 1) * count // blocks
            share = (high - low) / count
            h = int(held_bits[-1]) / copies * share / bandwidth
            hold_bytes = held.buffer_bytes / copies * share
            if held_weights:
                visits = np.clip(visible - low, 0, high - low)
                work = visits * steps * step_cycles
            else:
                n = np.arange(int(visible[low:high].max()))[:, None]
                seen = n < visible[low:high]
                visits = seen.sum(axis=1)
                work = (seen * steps[low:high]).sum(axis=1) * step_cycles
            s = int(streamed_bits[-1]) / (copies * blocks * len(visits)) / bandwidth + visits * output
            late = np.where(visits > 1, work * np.maximum(visits - 2, 0) / visits + s * squeezed, 0.0)
            bulk = max(float(work.sum()), float(s.sum()), float(late.sum()))
            h *= float(visits[0]) / (high - low) if held_weights else 1.0  # a causal mask needs few keys at first
            if first and copy == 0 and block == 0:
                exposed = max(0.0, h + float(s[0]) - max(float(work[0]), float(s[0])))
                exposed = max(exposed, (int(pieces.weight_bits[0]) + int(pieces.input_bits[0])) / bandwidth)
            elif float(s.sum()) > float(work.sum()):
                exposed = h
            else:
                ahead = min(1.0, max(0.0, (room - ahead_bytes) / hold_bytes)) if hold_bytes else 1.0
                exposed = max(0.0, h * (1 - ahead) - 2 * float(work[0]))
            ahead_bytes = hold_bytes
            last = float(visits[-1])
            behind = max(0.0, float(work[-1]) * (last - 1) / last - last * output)
            total += times * (exposed + bulk)
    return total, behind
