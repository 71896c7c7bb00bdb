"""The event loop, compiled: DRAM channels, array and vector unit, each with one thing in hand and a time when it ends.

Time moves to the earliest end. Everything that ends then is booked (channels in order, array, vector unit), layers that
are through are closed, and whatever is idle takes what it may: vector unit, array, channels in order. So few resources
need no heap. ``hwmodel.event_reference`` says the same in plain Python, with a heap.

Streams: 0 weights, 1 inputs, 2 outputs. ``settings`` [int64] by the names below; times in ticks.
"""

from __future__ import annotations

import numpy as np

from hwmodel.event_tiles import jit

(
    CHANNELS, BURST, QUANTUM, ARBITER, LATENCY, ROW_BURSTS, BANKS, ACTIVATE, PRECHARGE, WRITE_TO_READ, READ_TO_WRITE,
    REFRESH_INTERVAL, REFRESH, CONFLICT_BANKS, CONFLICT, RESULT_TILES,
) = range(16)  # fmt: skip
SETTINGS = 16
EARLIEST, ROUND_ROBIN, PRIORITY = range(3)  # values of ARBITER
# what a layer's time went into, columns of ``where``
COMPUTE, FILL_DRAIN, WAIT_WEIGHTS, WAIT_INPUTS, WAIT_OUTPUTS, WAIT_LAYERS, CONFLICTS = range(7)
# totals
EVENTS, DRAM_BUSY, VECTOR_BUSY, ROW_MISSES, TURNAROUNDS, REFRESHES, LAST_COMPUTE = range(7)
# kinds of traced events
GRANT, PIECE, TILE = range(3)

_NEVER = np.int64(1) << 62
_STREAM_ROWS = np.int64(1) << 40  # rows of different streams have different names


@jit
def run(  # type: ignore[no-untyped-def]
    ticks, overhead, steps, tile, weight_need, input_need, output_need, weight_limit, input_limit, vector_ticks,
    output_ready, piece_end, tile_end, weight_end, input_end, output_end, after, weights_after, settings,
    layer_time, where, moved, totals, trace,
):  # fmt: skip
    """Run a schedule (``event_schedule.Schedule``, all arrays but the last) to its end.

    Args:
        settings: see above.
        layer_time: [l] out: when each layer ended.
        where: [l, 7] out: ticks of the array by what they went into.
        moved: [l, 4] out: bursts of each stream moved, and events, up to the end of each layer.
        totals: [7] out.
        trace: [size, 4] out: time, kind, (stream, bursts) or (index, 0) of each event; size 0 for none.

    Returns:
        The end of everything, or -1 where nothing can go on (an error of the schedule).
    """
    channels, burst, quantum, arbiter = settings[CHANNELS], settings[BURST], settings[QUANTUM], settings[ARBITER]
    latency, row_bursts, banks = settings[LATENCY], settings[ROW_BURSTS], settings[BANKS]
    conflict_banks, conflict = settings[CONFLICT_BANKS], settings[CONFLICT]
    pieces, layers = len(ticks), len(after)

    ends = np.full(channels, _NEVER, np.int64)
    stream = np.zeros(channels, np.int64)
    count = np.zeros(channels, np.int64)
    served = np.full(channels, 2, np.int64)
    written = np.full(channels, -1, np.int64)  # direction of the last grant
    refresh_at = np.full(channels, settings[REFRESH_INTERVAL], np.int64)
    open_row = np.full((channels, max(banks, 1)), -1, np.int64)
    row_ready = np.zeros((channels, max(banks, 1)), np.int64)
    issued = np.zeros((3, channels), np.int64)
    finished = np.zeros((3, channels), np.int64)
    come = np.zeros(3, np.int64)
    limit = np.zeros(3, np.int64)
    order = np.array([1, 0, 2], np.int64)

    weight_time = np.zeros(pieces, np.int64)
    input_time = np.zeros(pieces, np.int64)
    output_time = np.zeros(pieces, np.int64)
    ready = np.zeros(3, np.int64)  # pieces whose weights, inputs and room for outputs are there
    array_end, array_free, piece, start = _NEVER, np.int64(0), 0, np.int64(0)
    vector_end, vector_done, tiles_done = _NEVER, 0, 0
    depth = settings[RESULT_TILES]
    vector_time = np.zeros(depth, np.int64)
    closed, layer, layer_ready = 0, 0, np.int64(0)
    weight_layers = input_layers = 0
    now, traced = np.int64(0), 0

    while True:
        # what has come, whatever the time: pointers move on
        for s in range(3):
            need = weight_need if s == 0 else (input_need if s == 1 else output_need)
            times = weight_time if s == 0 else (input_time if s == 1 else output_time)
            at = now + latency if s < 2 else now
            k = ready[s]
            while k < pieces and need[k] <= come[s]:
                times[k] = at if need[k] > 0 else 0
                k += 1
            ready[s] = k
        while closed < layers and vector_done >= tile_end[closed] and come[2] >= output_end[closed]:
            layer_time[closed] = now
            for s in range(3):
                moved[closed, s] = come[s]
            moved[closed, 3] = totals[EVENTS]
            closed += 1
        while weight_layers < layers and weights_after[weight_layers] <= closed:
            weight_layers += 1
        while input_layers < layers and after[input_layers] <= closed:
            input_layers += 1
        if closed == layers:
            return now
        limit[0] = min(weight_limit[piece], weight_end[weight_layers - 1] if weight_layers else 0)
        limit[1] = min(input_limit[piece], input_end[input_layers - 1] if input_layers else 0)
        limit[2] = output_ready[vector_done - 1] if vector_done else 0

        # idle resources take what they may
        if vector_end == _NEVER and vector_done < tiles_done:
            vector_end = now + vector_ticks[vector_done]
            totals[VECTOR_BUSY] += vector_ticks[vector_done]
        if array_end == _NEVER and piece < pieces:
            while piece >= piece_end[layer]:
                layer += 1
            if piece < ready[0] and piece < ready[1] and piece < ready[2] and after[layer] <= closed:
                t = tile[piece]
                if t < depth or vector_done > t - depth:
                    layer_ready = layer_time[after[layer] - 1] if after[layer] > 0 else 0
                    outputs_ready = output_time[piece] if t < depth else max(output_time[piece], vector_time[t % depth])
                    start = max(array_free, weight_time[piece], input_time[piece], outputs_ready, layer_ready)
                    gap = start - array_free
                    if gap > 0:
                        cause = WAIT_LAYERS
                        if start == weight_time[piece]:
                            cause = WAIT_WEIGHTS
                        elif start == input_time[piece]:
                            cause = WAIT_INPUTS
                        elif start == outputs_ready:
                            cause = WAIT_OUTPUTS
                        where[layer, cause] += gap
                    where[layer, COMPUTE] += ticks[piece] - overhead[piece]
                    where[layer, FILL_DRAIN] += overhead[piece]
                    array_end = start + ticks[piece]
        for c in range(channels):
            if ends[c] != _NEVER:
                continue
            chosen = -1
            for i in range(3):
                s = order[i] if arbiter == PRIORITY else (served[c] + 1 + i) % 3 if arbiter == ROUND_ROBIN else i
                if (limit[s] - c + channels - 1) // channels > issued[s, c]:
                    if chosen < 0 or ready[s] < ready[chosen]:
                        chosen = s
                    if arbiter != EARLIEST:
                        break
            if chosen < 0:
                continue
            s = chosen
            at = issued[s, c]
            many = min(quantum, (limit[s] - c + channels - 1) // channels - at)
            begin = now
            if settings[REFRESH]:
                while refresh_at[c] <= begin:
                    refreshed = refresh_at[c] + settings[REFRESH]
                    begin = max(begin, refreshed)
                    refresh_at[c] += settings[REFRESH_INTERVAL]
                    totals[REFRESHES] += 1
                    open_row[c, :] = -1
            bus = begin
            if written[c] >= 0 and written[c] != s // 2:
                bus += settings[READ_TO_WRITE] if s == 2 else settings[WRITE_TO_READ]
                totals[TURNAROUNDS] += 1
            if row_bursts > 0:
                many = min(many, row_bursts - at % row_bursts)
                row = s * _STREAM_ROWS + at // row_bursts
                bank = (at // row_bursts + s * (banks // 3)) % banks
                if open_row[c, bank] != row:
                    row_ready[c, bank] = begin + settings[ACTIVATE]
                    if open_row[c, bank] >= 0:
                        row_ready[c, bank] += settings[PRECHARGE]
                    open_row[c, bank] = row
                    totals[ROW_MISSES] += 1
                bus = max(bus, row_ready[c, bank])
                following = (bank + 1) % banks
                if following != bank and open_row[c, following] != row + 1:  # opened ahead
                    row_ready[c, following] = bus + settings[ACTIVATE]
                    if open_row[c, following] >= 0:
                        row_ready[c, following] += settings[PRECHARGE]
                    open_row[c, following] = row + 1
            ends[c] = bus + many * burst
            totals[DRAM_BUSY] += many * burst
            stream[c], count[c], served[c], written[c] = s, many, s, s // 2
            issued[s, c] += many

        # the earliest end
        now = min(array_end, vector_end)
        for c in range(channels):
            now = min(now, ends[c])
        if now == _NEVER:
            return -1

        for c in range(channels):
            if ends[c] != now:
                continue
            s = stream[c]
            if conflict_banks > 0 and s < 2 and array_end != _NEVER and array_end > start:
                step_ticks = max((array_end - start) // max(steps[piece], 1), 1)
                for j in range(count[c]):
                    arrives = now - (count[c] - 1 - j) * burst
                    if start <= arrives < array_end:
                        wanted = ((arrives - start) // step_ticks) % conflict_banks
                        if ((finished[s, c] + j) * channels + c) % conflict_banks == wanted:
                            array_end += conflict
                            where[layer, CONFLICTS] += conflict
            finished[s, c] += count[c]
            ends[c] = _NEVER
            lowest = finished[s, 0] * channels
            for other in range(1, channels):
                lowest = min(lowest, finished[s, other] * channels + other)
            come[s] = lowest
            totals[EVENTS] += 1
            if traced < len(trace):
                trace[traced, 0], trace[traced, 1], trace[traced, 2], trace[traced, 3] = now, GRANT, s, count[c]
                traced += 1
        if array_end == now:
            totals[EVENTS] += 1
            totals[LAST_COMPUTE] = now
            if traced < len(trace):
                trace[traced, 0], trace[traced, 1], trace[traced, 2], trace[traced, 3] = now, PIECE, piece, 0
                traced += 1
            piece += 1
            if piece == pieces or tile[piece] != tile[piece - 1]:
                tiles_done += 1
            array_free, array_end = now, _NEVER
        if vector_end == now:
            totals[EVENTS] += 1
            if traced < len(trace):
                trace[traced, 0], trace[traced, 1], trace[traced, 2], trace[traced, 3] = now, TILE, vector_done, 0
                traced += 1
            vector_time[vector_done % depth] = now
            vector_done += 1
            vector_end = _NEVER
