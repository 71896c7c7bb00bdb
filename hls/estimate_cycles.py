"""Cycles of one call of an exported layer: its loops put together as the pipeline of ``layer.h`` runs them.

A pipelined loop of ``trips`` iterations takes ``depth + interval * (trips - 1) + 1`` cycles with the call around it, as
Vitis HLS reports it (8 iterations of depth 2 at interval 1: 10 cycles, ``krnl_bp_Pipeline_VITIS_LOOP_236_12`` of
github.com/bavlyshehata/ADMM_BP 8f59b41). The input is quantized first; then, while the groups of one tile of rows are
summed up, the next one is filled and read from memory, and finished groups are scaled and leave through streams; the
last outputs are written when all are there.

Two answers: with the intervals that the pragmas ask for, and with two ports for every array that no pragma cuts and a
port for each access. A tool reaches something between them. Not modelled: refresh and conflicts of the memory, back
pressure of the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from hls.hls_operators import Operator, stages
from hls.layer_plan import LayerPlan
from hls.loop import PORTS, Loop, Process
from hls.part_shape import part_shape
from hls.weights import BEAT_BYTES

LOOP_CYCLES = 1  # into a loop and out of it: the report above
AXI_LATENCY = 64  # cycles before a burst's first beat: default of the Vitis kernel flow, AMD UG1399
ROM_READS = 8  # 64-bit words of a beat, from a table with two ports


@cache
def _depth(path: tuple[Operator, ...], clock_hz: float) -> int:
    return sum(stages(one, clock_hz) for one in path)


def loop_cycles(loop: Loop, clock_hz: float, *, ports: bool = False) -> int:
    """Cycles of all entries of a loop.

    Args:
        loop: with its operators.
        clock_hz: which operators' stages depend on.
        ports: with the interval that two ports allow.
    """
    depth, tail = _depth(loop.path, clock_hz), _depth(loop.tail, clock_hz) * max(loop.entries, 1)
    if not loop.entries:
        return tail
    interval = max(loop.interval, loop.port_interval) if ports else loop.interval
    if not interval:  # one iteration after another; a cycle each for the loop's own state
        return loop.iterations * (depth + 1) + loop.entries * LOOP_CYCLES + tail
    return loop.entries * (depth + LOOP_CYCLES) + interval * (loop.iterations - loop.entries) + tail


@dataclass(frozen=True)
class CallCycles:
    """One call of a layer, in cycles.

    Args:
        input: input read, rotated, quantized.
        prepare: gathers and the low-rank branch, before the first tile.
        tiles: fill of the first tile to the end of the last.
        output: from there to the last beat written.
        multiply, scale, finish, fill, read: of all tiles, each on its own: what the tiles wait for. ``multiply``
            adds up groups, ``scale`` scales them, ``finish`` adds branches and bias and collects the outputs.
        steps: iterations of the innermost loop over lanes, all parts: what an ideal array would take.
        interval: from one step to the next.
    """

    input: int
    prepare: int
    tiles: int
    output: int
    multiply: int
    scale: int
    finish: int
    fill: int
    read: int
    steps: int
    interval: int

    @property
    def latency(self) -> int:
        """From start to end."""
        return self.input + self.prepare + self.tiles + self.output

    @property
    def call_interval(self) -> int:
        """From one call to the next, if the host overlaps them: the slowest process."""
        return max(self.input, self.prepare + self.tiles, self.output)

    @property
    def bound(self) -> str:
        """What the tiles wait for: sums, scaling, outputs, the taking apart of words, or the reading of the image."""
        names = ("multiply", "scale", "finish", "fill", "read")
        return max(names, key=lambda name: int(getattr(self, name)))


def call_cycles(
    plan: LayerPlan,
    loops: Sequence[Loop],
    clock_hz: float,
    *,
    bytes_per_s: float | None = None,
    ports: bool = False,
) -> CallCycles:
    """Cycles of a call.

    Args:
        plan: the layer.
        loops: of the call: ``layer_loops(plan, tokens)``.
        clock_hz: of the kernel.
        bytes_per_s: memory bandwidth behind the weight port; ``None`` for weights in a table on the chip.
        ports: with what two ports an array allow.
    """

    def cycles(chosen: Iterable[Loop]) -> int:
        return sum(loop_cycles(loop, clock_hz, ports=ports) for loop in chosen)

    beat = ROM_READS / PORTS if ports and bytes_per_s is None else 1.0
    if bytes_per_s is not None:
        beat = max(beat, BEAT_BYTES * clock_hz / bytes_per_s)

    def read(chosen: Iterable[Loop]) -> int:
        bursts = [loop for loop in chosen if loop.process is Process.READ_WEIGHTS]
        waits = 0 if bytes_per_s is None else AXI_LATENCY * sum(loop.entries for loop in bursts)
        return waits + round(beat * sum(loop.iterations for loop in bursts)) + sum(loop.entries for loop in bursts)

    outside = [loop for loop in loops if loop.tile is None]
    by_tile: dict[int, list[Loop]] = {}
    for loop in loops:
        if loop.tile is not None:
            by_tile.setdefault(loop.tile, []).append(loop)
    taken = [by_tile[tile] for tile in sorted(by_tile)]
    fills = [cycles(loop for loop in tile if loop.process is Process.FILL_TILE) for tile in taken]
    reads = [read(tile) for tile in taken]
    sums = [cycles(loop for loop in tile if loop.process is Process.MULTIPLY_TILE) for tile in taken]
    # each part has a process that scales its groups
    scaling = [max(cycles([loop]) for loop in tile if loop.process is Process.SCALE_GROUPS) for tile in taken]
    ends = (Process.FINISH_TILE, Process.COLLECT_OUTPUT)
    finishes = [max(cycles(loop for loop in tile if loop.process is process) for process in ends) for tile in taken]
    works = [max(three) for three in zip(sums, scaling, finishes, strict=True)]
    arrivals = [max(pair) for pair in zip(fills, reads, strict=True)]
    tiles = arrivals[0] + works[-1] + _drain(taken[-1], plan.rows_on_chip, clock_hz)
    tiles += sum(max(pair) for pair in zip(arrivals[1:], works[:-1], strict=True))
    first = cycles(loop for loop in outside if loop.process is Process.READ_INPUT) + AXI_LATENCY
    quantized = cycles(loop for loop in outside if loop.process is Process.QUANTIZE_INPUT)
    prepared = [loop for loop in outside if loop.process in (Process.PREPARE, Process.READ_WEIGHTS)]
    return CallCycles(
        input=max(first, quantized + AXI_LATENCY),
        prepare=max(cycles(loop for loop in prepared if loop.process is Process.PREPARE), read(prepared)),
        tiles=tiles,
        output=cycles(loop for loop in outside if loop.process is Process.WRITE_OUTPUT) + AXI_LATENCY,
        multiply=sum(sums),
        scale=sum(scaling),
        finish=sum(finishes),
        fill=sum(fills),
        read=sum(reads),
        steps=sum(loop.iterations for loop in loops if loop.label == "steps"),
        interval=max(part_shape(part, plan.options, plan.blocks).step_interval for part in plan.parts),
    )


def _drain(tile: Sequence[Loop], rows: int, clock_hz: float) -> int:
    """Cycles from a tile's last sum to its last output, at most: through the scaling and the last token's rows."""
    scaling = sum(_depth(loop.path, clock_hz) for loop in tile if loop.process is Process.SCALE_GROUPS)
    return scaling + sum(_depth(loop.path, clock_hz) for loop in tile if loop.label == "rows_out") + rows


def image_bytes_read(loops: Iterable[Loop]) -> int:
    """Bytes of the weight image that a call reads: beats that two tiles share are read twice."""
    return BEAT_BYTES * sum(loop.iterations for loop in loops if loop.process is Process.READ_WEIGHTS)
