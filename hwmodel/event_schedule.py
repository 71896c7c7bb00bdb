"""Layers in pieces, joined into one schedule: when each piece may start, and how far each DRAM stream may run.

Three streams share the DRAM: weights, inputs (both read) and outputs (written). Each is a sequence of bursts that are
asked for in order. Data of a piece that come from a burst that an earlier piece needed too are not fetched twice, so a
stream takes ``ceil(bits / burst)`` bursts for each product. All figures are 64-bit integers; time is in ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hwmodel.accelerator import Accelerator, Array
from hwmodel.event_options import Feed, Refill, SimulationOptions
from hwmodel.event_tiles import Ints, Pieces, check_pieces, jit
from hwmodel.units import BYTE_BITS, ceil_div

TICKS = 1 << 16  # in a cycle: a burst's time is rounded to a 65536th of a cycle


@dataclass(frozen=True)
class LayerPlan:
    """What one layer asks of the machine.

    Args:
        parts: its products in pieces, one after another.
        after: layers before it in the schedule that must have ended before it may read inputs and compute.
        weights_after: the same for its weights; 0 for weights that lie in memory from the start.
    """

    parts: tuple[Pieces, ...]
    after: int
    weights_after: int


@dataclass(frozen=True)
class Schedule:
    """Layers joined; arrays are int64. ``[p]`` pieces, ``[t]`` tiles, ``[l]`` layers.

    Args:
        ticks, overhead_ticks, steps: [p] compute, of which filling and draining; steps of the array.
        tile: [p] of each piece; a tile's pieces follow one another.
        weight_need, input_need, output_need: [p] bursts that must have come, or been written, before it starts.
        weight_limit, input_limit: [p + 1] bursts that may be asked for when so many pieces are done.
        vector_ticks, output_ready: [t] the vector unit's work; bursts that may be written when it is done.
        piece_end, tile_end, weight_end, input_end, output_end: [l] up to and with each layer.
        after, weights_after: [l] see ``LayerPlan``.
        weight_bits, input_bits, output_bits, macs: [l] in each layer's bursts and tiles.
        excess_bytes: [l] by which the data that must lie in a buffer at once exceed it (the closed form ignores it).
    """

    ticks: Ints
    overhead_ticks: Ints
    steps: Ints
    tile: Ints
    weight_need: Ints
    input_need: Ints
    output_need: Ints
    weight_limit: Ints
    input_limit: Ints
    vector_ticks: Ints
    output_ready: Ints
    piece_end: Ints
    tile_end: Ints
    weight_end: Ints
    input_end: Ints
    output_end: Ints
    after: Ints
    weights_after: Ints
    weight_bits: Ints
    input_bits: Ints
    output_bits: Ints
    macs: Ints
    excess_bytes: Ints


def schedule(
    plans: Sequence[LayerPlan], accelerator: Accelerator, array: Array, options: SimulationOptions
) -> Schedule:
    """Join layers, each with at least one part.

    Raises:
        ValueError: more pieces than ``hwmodel.event_tiles.MOST_PIECES``.
    """
    burst = options.dram.burst_bytes * BYTE_BITS
    parts = [part for plan in plans for part in plan.parts]
    check_pieces(sum(len(part.cycles) for part in parts))
    weight_need, weight_ends = _bursts([p.weight_bits for p in parts], burst)
    input_need, input_ends = _bursts([p.input_bits for p in parts], burst)
    output_ready, output_ends = _bursts([p.output_bits for p in parts], burst, whole=True)
    tile, tile_ends = _joined([p.tile for p in parts], [int(p.tile[-1]) + 1 for p in parts])
    weights = _room([(p.weight_bytes, p.weight_freed) for p in parts], weight_need,
                    accelerator.weight_buffer.capacity_bytes, options.refill)  # fmt: skip
    inputs = _room([(p.input_bytes, p.input_freed) for p in parts], input_need,
                   accelerator.activation_buffer.capacity_bytes, options.refill)  # fmt: skip
    none = [0] * len(parts)
    cycles, _ = _joined([p.cycles for p in parts], none)
    if options.feed is Feed.BROADCAST:
        overhead = np.zeros(len(cycles), np.int64)  # memory that nobody touches costs nothing
        ticks = cycles * TICKS
    else:
        overhead = _joined([_overhead(p, array, options.feed) for p in parts], none)[0] * TICKS
        ticks = cycles * TICKS + overhead
    piece_ends = np.cumsum([len(p.cycles) for p in parts])
    last = np.cumsum([len(plan.parts) for plan in plans]) - 1
    excess = np.maximum(weights[1], inputs[1])
    bounds = np.concatenate([[0], piece_ends[last]])
    moved = [
        [sum(int(getattr(part, name)[-1]) for part in plan.parts) for plan in plans]
        for name in ("weight_bits", "input_bits", "output_bits", "macs")
    ]
    weight_bits, input_bits, output_bits, macs = (np.array(column, np.int64) for column in moved)
    return Schedule(
        ticks=ticks,
        overhead_ticks=overhead,
        steps=_joined([p.steps for p in parts], none)[0],
        tile=tile,
        weight_need=weight_need,
        input_need=input_need,
        output_need=_output_need(parts, tile, output_ready, options.output_room_bytes // options.dram.burst_bytes),
        weight_limit=weights[0],
        input_limit=inputs[0],
        vector_ticks=np.concatenate([p.vector_cycles for p in parts]) * TICKS,
        output_ready=output_ready,
        piece_end=piece_ends[last],
        tile_end=tile_ends[last],
        weight_end=weight_ends[last],
        input_end=input_ends[last],
        output_end=output_ends[last],
        after=np.array([plan.after for plan in plans], np.int64),
        weights_after=np.array([plan.weights_after for plan in plans], np.int64),
        weight_bits=weight_bits,
        input_bits=input_bits,
        output_bits=output_bits,
        macs=macs,
        excess_bytes=np.array([excess[a:b].max(initial=0) for a, b in pairwise(bounds)]),
    )


def _bursts(bits: list[Ints], burst: int, *, whole: bool = False) -> tuple[Ints, Ints]:
    """Cumulative bits of each part as bursts from the start of the schedule, and the bursts up to each part's end.

    Args:
        bits: of each part; a part starts with a burst of its own.
        burst: bits of one.
        whole: count bursts that are full; the last one of a part always is.
    """
    up = 0 if whole else burst - 1
    shift = burst.bit_length() - 1  # nearly every burst is a power of two, and dividing is slow
    rounded = [(b + up) >> shift if burst == 1 << shift else (b + up) // burst for b in bits]
    counts = [ceil_div(int(b[-1]), burst) for b in bits]
    for part, count in zip(rounded, counts, strict=True):
        part[-1] = count
    return _joined(rounded, counts)


def _joined(parts: list[Ints], counts: list[int]) -> tuple[Ints, Ints]:
    ends = np.cumsum(np.array(counts, np.int64))
    if len(parts) == 1:
        return parts[0], ends
    starts = ends - counts
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=True)]), ends


def _room(held: list[tuple[Ints, Ints]], need: Ints, room_bytes: int, refill: Refill) -> tuple[Ints, Ints]:
    """How far a stream may run when so many pieces are done, and by how much each piece exceeds the buffer.

    Args:
        held: of each part, bytes written before each piece and bytes freed after it, both cumulative.
        need: bursts before each piece.
        room_bytes: the buffer.
        refill: when freed room counts.
    """
    totals = [int(written[-1]) for written, _ in held]
    written, _ = _joined([w for w, _ in held], totals)
    freed, _ = _joined([f for _, f in held], totals)
    half = max(room_bytes // 2, 1) if refill is Refill.HALVES else 1
    counted = freed if half == 1 else freed // half * half
    return _limits(written, freed, counted, need, room_bytes, refill is Refill.SINGLE)


@jit
def _limits(written, freed, counted, need, room, single):  # type: ignore[no-untyped-def]
    """``_room`` of cumulative bytes; ``counted`` of those freed may be filled again."""
    pieces = len(need)
    limit, excess = np.empty(pieces + 1, np.int64), np.empty(pieces, np.int64)
    fits = used_up = ahead = 0  # pieces whose data have room; bytes freed by now; bursts of what has room
    top = room
    for done in range(pieces):
        excess[done] = max(written[done] - used_up - room, 0)
        while not single and fits < pieces and written[fits] <= top:
            ahead = need[fits]
            fits += 1
        limit[done] = max(ahead, need[done])  # what the next piece needs is fetched in any case
        used_up, top = freed[done], room + counted[done]
    limit[pieces] = need[pieces - 1]
    return limit, excess


def _output_need(parts: list[Pieces], tile: Ints, ready: Ints, room: int) -> Ints:
    """Bursts of results that must have been written before each piece starts, for its tile to find room."""
    before = np.concatenate([[0], ready[:-1]])  # never more than there are
    return np.clip(ready - room, 0, before)[tile]


def _overhead(part: Pieces, array: Array, feed: Feed) -> Ints:
    """Cycles of filling and draining a systolic array, of each piece.

    With T steps, R rows and C columns a tile takes 2 R + C + T - 2 cycles (output-stationary; Samajdar et al., ISPASS
    2020, section III): the last operands reach the far corner after R + C - 2 cycles, and results leave in R.
    """
    cycles = np.zeros(len(part.cycles), np.int64)
    if part.on_vector or not part.cycles.any():
        return cycles
    starts = np.flatnonzero(np.diff(part.tile, prepend=-1))
    ends = np.append(starts[1:], len(cycles)) - 1
    if feed is Feed.SYSTOLIC_OVERLAPPED:
        starts, ends = starts[:1], ends[-1:]
    np.add.at(cycles, starts, array.rows + array.columns - 2)
    np.add.at(cycles, ends, array.rows)
    return cycles
