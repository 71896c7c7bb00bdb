"""The event loop in plain Python: a heap of ends, objects for channels, array and vector unit.

It says what ``hwmodel.event_kernel`` does, in the ordinary way and without sharing a line with it; tests hold the two
against each other event for event, ``hwmodel.event_bench`` compares their speed.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from hwmodel import event_kernel as names
from hwmodel.event_schedule import Schedule

Event = tuple[int, int, int, int]  # time, kind, then stream and bursts, or index and 0

_RANK_CHANNEL, _RANK_ARRAY, _RANK_VECTOR = range(3)


@dataclass
class _Channel:
    """One DRAM channel and the rows that are open in its banks."""

    index: int
    refresh_at: int
    busy: bool = False
    stream: int = 0
    bursts: int = 0
    served: int = 2
    wrote: bool | None = None
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)  # bank -> stream, row
    row_ready: dict[int, int] = field(default_factory=dict)


class ReferenceLoop:
    """Runs one schedule; ``events`` has what happened, ``layer_time`` when each layer ended.

    Args:
        made: the schedule.
        settings: the numbers of ``event_kernel``.
    """

    def __init__(self, made: Schedule, settings: np.ndarray) -> None:
        self.made, self.settings = made, [int(x) for x in settings]
        self.needs = [[int(x) for x in column] for column in (made.weight_need, made.input_need, made.output_need)]
        self.pieces, self.tiles, self.layers = len(made.ticks), len(made.vector_ticks), len(made.after)
        self.heap: list[tuple[int, int, int]] = []
        self.events: list[Event] = []
        self.layer_time: list[int] = []
        self.where = [[0] * 7 for _ in range(self.layers)]
        count = self.settings[names.CHANNELS]
        self.channels = [_Channel(i, self.settings[names.REFRESH_INTERVAL]) for i in range(count)]
        self.asked = [[0] * count for _ in range(3)]
        self.finished = [[0] * count for _ in range(3)]
        self.first_missing = [0, 0, 0]
        self.waiting: list[deque[int]] = [deque(range(self.pieces)) for _ in range(3)]
        self.there: list[dict[int, int]] = [{}, {}, {}]  # piece -> when its data, or its room, were there
        self.piece = self.tile = 0
        self.ended_tiles: dict[int, int] = {}  # on the vector unit
        self.computed_tiles = 0
        self.array_end: int | None = None
        self.array_free = self.array_start = 0
        self.vector_busy = False

    def come(self, stream: int) -> int:
        """Bursts of a stream before the first that has not come."""
        count, burst = len(self.channels), self.first_missing[stream]
        while self.finished[stream][burst % count] > burst // count:
            burst += 1
        self.first_missing[stream] = burst
        return burst

    def run(self) -> int:
        """Run to the end; the time of the end."""
        now = 0
        while True:
            self._settle(now)
            if len(self.layer_time) == self.layers:
                return now
            self._start_vector(now)
            self._start_array()
            for channel in self.channels:
                if not channel.busy:
                    self._start_channel(channel, now)
            now = self.heap[0][0]
            while self.heap and self.heap[0][0] == now:
                _, rank, index = heapq.heappop(self.heap)
                if rank == _RANK_CHANNEL:
                    self._end_channel(self.channels[index], now)
                elif rank == _RANK_ARRAY:
                    if self.array_end == now:  # else it was held up by a conflict, and has an end of its own
                        self._end_array(now)
                else:
                    self._end_vector(now)

    def _settle(self, now: int) -> None:
        for stream in range(3):
            come = self.come(stream)
            queue = self.waiting[stream]
            while queue and self.needs[stream][queue[0]] <= come:
                piece = queue.popleft()
                late = self.settings[names.LATENCY] if stream < 2 else 0
                self.there[stream][piece] = now + late if self.needs[stream][piece] else 0
        while len(self.layer_time) < self.layers:
            layer = len(self.layer_time)
            if self.tile < self.made.tile_end[layer] or self.come(2) < self.made.output_end[layer]:
                break
            self.layer_time.append(now)

    def _limit(self, stream: int) -> int:
        made, closed = self.made, len(self.layer_time)
        if stream == 2:
            return int(made.output_ready[self.tile - 1]) if self.tile else 0
        gates = made.weights_after if stream == 0 else made.after
        ends = made.weight_end if stream == 0 else made.input_end
        limits = made.weight_limit if stream == 0 else made.input_limit
        opened = 0
        for gate, end in zip(gates, ends, strict=True):
            if gate > closed:
                break
            opened = int(end)
        return min(int(limits[self.piece]), opened)

    def _start_vector(self, now: int) -> None:
        if not self.vector_busy and self.tile < self.computed_tiles:
            self.vector_busy = True
            heapq.heappush(self.heap, (now + int(self.made.vector_ticks[self.tile]), _RANK_VECTOR, self.tile))

    def _end_vector(self, now: int) -> None:
        self.events.append((now, names.TILE, self.tile, 0))
        self.ended_tiles[self.tile] = now
        self.tile += 1
        self.vector_busy = False

    def _layer_of(self, piece: int) -> int:
        return int(np.searchsorted(self.made.piece_end, piece, side="right"))

    def _start_array(self) -> None:
        piece = self.piece
        if self.array_end is not None or piece >= self.pieces or any(piece not in there for there in self.there):
            return
        layer, tile = self._layer_of(piece), int(self.made.tile[piece])
        before, depth = int(self.made.after[layer]), self.settings[names.RESULT_TILES]
        if before > len(self.layer_time) or (tile >= depth and tile - depth not in self.ended_tiles):
            return
        weights, inputs, outputs = (there[piece] for there in self.there)
        outputs = max(outputs, self.ended_tiles[tile - depth]) if tile >= depth else outputs
        layers = self.layer_time[before - 1] if before else 0
        self.array_start = max(self.array_free, weights, inputs, outputs, layers)
        gap = self.array_start - self.array_free
        if gap:
            causes = (
                (weights, names.WAIT_WEIGHTS), (inputs, names.WAIT_INPUTS),
                (outputs, names.WAIT_OUTPUTS), (layers, names.WAIT_LAYERS),
            )  # fmt: skip
            self.where[layer][next(cause for time, cause in causes if time == self.array_start)] += gap
        overhead = int(self.made.overhead_ticks[piece])
        self.where[layer][names.COMPUTE] += int(self.made.ticks[piece]) - overhead
        self.where[layer][names.FILL_DRAIN] += overhead
        self.array_end = self.array_start + int(self.made.ticks[piece])
        heapq.heappush(self.heap, (self.array_end, _RANK_ARRAY, piece))

    def _end_array(self, now: int) -> None:
        self.events.append((now, names.PIECE, self.piece, 0))
        tile = self.made.tile[self.piece]
        self.piece += 1
        if self.piece == self.pieces or self.made.tile[self.piece] != tile:
            self.computed_tiles += 1
        self.array_free, self.array_end = now, None

    def _choice(self, channel: _Channel) -> tuple[int, int] | None:
        """The stream to serve next and how many bursts of it wait here."""
        count = len(self.channels)
        waiting = {}
        for stream in range(3):
            here = len(range(channel.index, self._limit(stream), count)) - self.asked[stream][channel.index]
            if here > 0:
                waiting[stream] = here
        if not waiting:
            return None
        arbiter = self.settings[names.ARBITER]
        if arbiter == names.PRIORITY:
            chosen = min(waiting, key=(1, 0, 2).index)
        elif arbiter == names.ROUND_ROBIN:
            chosen = min(waiting, key=lambda stream: (stream - channel.served - 1) % 3)
        else:
            chosen = min(waiting, key=lambda stream: (len(self.there[stream]), stream))
        return chosen, min(waiting[chosen], self.settings[names.QUANTUM])

    def _start_channel(self, channel: _Channel, now: int) -> None:
        choice = self._choice(channel)
        if choice is None:
            return
        stream, bursts = choice
        s = self.settings
        at = self.asked[stream][channel.index]
        begin = now
        if s[names.REFRESH]:
            while channel.refresh_at <= begin:
                begin = max(begin, channel.refresh_at + s[names.REFRESH])
                channel.refresh_at += s[names.REFRESH_INTERVAL]
                channel.rows.clear()
        writes = stream == 2
        data = begin
        if channel.wrote is not None and channel.wrote != writes:
            data += s[names.READ_TO_WRITE] if writes else s[names.WRITE_TO_READ]
        if s[names.ROW_BURSTS]:
            row, within = divmod(at, s[names.ROW_BURSTS])
            bursts = min(bursts, s[names.ROW_BURSTS] - within)
            bank = (row + stream * (s[names.BANKS] // 3)) % s[names.BANKS]
            self._open(channel, bank, (stream, row), begin)
            data = max(data, channel.row_ready[bank])
            if s[names.BANKS] > 1:
                self._open(channel, (bank + 1) % s[names.BANKS], (stream, row + 1), data)
        end = data + bursts * s[names.BURST]
        channel.busy, channel.stream, channel.bursts, channel.served, channel.wrote = (
            True,
            stream,
            bursts,
            stream,
            writes,
        )
        self.asked[stream][channel.index] += bursts
        heapq.heappush(self.heap, (end, _RANK_CHANNEL, channel.index))

    def _open(self, channel: _Channel, bank: int, row: tuple[int, int], at: int) -> None:
        """Open a row, unless it is."""
        if channel.rows.get(bank) != row:
            closing = self.settings[names.PRECHARGE] if bank in channel.rows else 0
            channel.row_ready[bank] = at + self.settings[names.ACTIVATE] + closing
            channel.rows[bank] = row

    def _end_channel(self, channel: _Channel, now: int) -> None:
        stream = channel.stream
        self.events.append((now, names.GRANT, stream, channel.bursts))
        if self.settings[names.CONFLICT_BANKS] and stream < 2 and self.array_end is not None:
            self._conflicts(channel, now)
        self.finished[stream][channel.index] += channel.bursts
        channel.busy = False

    def _conflicts(self, channel: _Channel, now: int) -> None:
        """Bursts that were written into the bank that the array read."""
        assert self.array_end is not None
        banks, held_up = self.settings[names.CONFLICT_BANKS], 0
        if self.array_end <= self.array_start:
            return
        step = max((self.array_end - self.array_start) // max(int(self.made.steps[self.piece]), 1), 1)
        for j in range(channel.bursts):
            arrives = now - (channel.bursts - 1 - j) * self.settings[names.BURST]
            burst = (self.finished[channel.stream][channel.index] + j) * len(self.channels) + channel.index
            inside = self.array_start <= arrives < self.array_end + held_up
            if inside and (arrives - self.array_start) // step % banks == burst % banks:
                held_up += self.settings[names.CONFLICT]
        if held_up:
            self.array_end += held_up
            self.where[self._layer_of(self.piece)][names.CONFLICTS] += held_up
            heapq.heappush(self.heap, (self.array_end, _RANK_ARRAY, self.piece))


def run_reference(made: Schedule, settings: np.ndarray) -> ReferenceLoop:
    """Run a schedule in plain Python; slow, for comparison."""
    loop = ReferenceLoop(made, settings)
    loop.run()
    return loop
