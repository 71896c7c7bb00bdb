"""A token through ``block_token``, event by event: processes that wait at streams of the depths that the header states.

An independent reference for the timeline of ``hls.block_estimate_cycles``, which knows no streams. Cycles of single
loops are the same closed forms; what is put together here is every beat and every float that goes through a stream, the
back pressure of full streams, and ping-pong buffers between the two processes of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hls.block_estimate_buffers import block_streams
from hls.block_estimate_cycles import Clock, attention_cycles
from hls.block_loops import Step, block_loops
from hls.block_plan import BlockPlan
from hls.decoder_block import LAYERS
from hls.estimate_cycles import AXI_LATENCY
from hls.layer_loops import layer_loops
from hls.loop import Loop, Process

FLOATS, HALVES = 16, 32  # of a beat
_BEFORE_PRODUCTS = {Process.READ_WEIGHTS, Process.FILL_TILE, Process.COLLECT_OUTPUT}  # the last is not in a block


@dataclass
class Stream:
    """Cycles at which each value was written and read; a writer waits where ``depth`` values are inside."""

    depth: int
    written: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)


Event = tuple[str, Stream | int]
Running = Iterator[Event]


def ends_of(processes: Mapping[str, Running]) -> dict[str, int]:
    """Cycle at which each process ends. Whatever is run first, times are the same (Kahn's networks are determinate)."""
    time, waiting, ends = dict.fromkeys(processes, 0), {}, {}
    while len(ends) < len(processes):
        moved = False
        for name, process in processes.items():
            if name in ends:
                continue
            while True:
                event = waiting.pop(name, None) or next(process, None)
                if event is None:
                    ends[name] = time[name]
                    moved = True
                    break
                kind, what = event
                if isinstance(what, int):
                    time[name] += what
                    continue
                if kind == "write":
                    place = len(what.written) - what.depth
                    if place >= len(what.read):
                        waiting[name] = event
                        break
                    time[name] = max(time[name], what.read[place] if place >= 0 else 0)
                    what.written.append(time[name])
                else:
                    if len(what.read) >= len(what.written):
                        waiting[name] = event
                        break
                    time[name] = max(time[name], what.written[len(what.read)] + 1)
                    what.read.append(time[name])
                moved = True
        assert moved, f"all processes wait for one another: {sorted(set(processes) - set(ends))}"
    return ends


def _bursts(loops: list[Loop], out: Stream) -> Running:
    for loop in loops:
        for burst in range(loop.entries):
            yield "wait", AXI_LATENCY + 1
            beats = loop.iterations // loop.entries + (burst < loop.iterations % loop.entries)
            for _ in range(beats):
                yield "wait", 1
                yield "write", out


def token_events(plan: BlockPlan, position: int, clock: Clock) -> dict[str, int]:
    """Cycle at which each process ends, with weights behind an AXI port."""
    block = plan.block
    streams = {one.name: Stream(one.depth) for one in block_streams(plan)}
    loops = block_loops(plan, position)
    cycles: dict[tuple[Step, str], int] = {}
    depth: dict[tuple[Step, str], int] = {}
    for loop in loops:
        if isinstance(loop.process, Step):
            cycles[loop.process, loop.label] = clock.cycles([loop])
            depth[loop.process, loop.label] = clock.cycles([loop]) - loop.interval * (loop.iterations - 1)
    tables = [loop for loop in loops if loop.process is Process.READ_WEIGHTS]
    of_layer = {name: layer_loops(layer, 1) for name, layer in plan.layers.items()}
    tiles = {name: max(loop.tile for loop in found if loop.tile is not None) + 1 for name, found in of_layer.items()}

    def reader() -> Running:
        for loop, name in zip(tables, ("norm", "mlp_norm", "angles", "angles"), strict=True):
            yield from _bursts([loop], streams[name])
        for name in LAYERS:
            found = [loop for loop in of_layer[name] if loop.process is Process.READ_WEIGHTS]
            outside = [loop for loop in found if loop.tile is None]
            yield from _bursts(outside, streams[f"{name}.to_input"])  # smoothing alone, in the blocks tried
            yield from _bursts([loop for loop in found if loop.tile is not None], streams[f"{name}.to_multiply"])

    def read_input() -> Running:
        yield "wait", AXI_LATENCY
        for _ in range(block.hidden):
            yield "wait", 1
            yield "write", streams["x"]
            yield "write", streams["residual"]

    def beats_of(columns: int, each: int) -> Iterator[int]:
        for first in range(0, columns, each):
            yield min(each, columns - first)

    def norm(weights: str, row: str, out: str) -> Running:
        for count in beats_of(block.hidden, FLOATS):
            yield "read", streams[weights]
            yield "wait", count - 1
        for _ in range(block.hidden):
            yield "read", streams[row]
        yield "wait", depth[Step.NORM, "columns_in"] + depth[Step.NORM, "columns_out"]
        for count in beats_of(block.hidden, HALVES):
            yield "wait", count
            yield "write", streams[out]

    def copy(given: str, *out: str) -> Running:
        for _ in beats_of(block.hidden, HALVES):
            yield "read", streams[given]
            for name in out:
                yield "write", streams[name]

    inputs: dict[str, Stream] = {name: Stream(2) for name in LAYERS}

    def quantize(name: str, given: str) -> Running:
        stage = [loop for loop in of_layer[name] if loop.process is Process.QUANTIZE_INPUT]
        at = next(place for place, loop in enumerate(stage) if loop.label == "columns")
        outside = [loop for loop in of_layer[name] if loop.process is Process.READ_WEIGHTS and loop.tile is None]
        for _ in range(sum(loop.iterations for loop in outside)):
            yield "read", streams[f"{name}.to_input"]
        if outside:
            yield "wait", clock.cycles(stage[:at])
        for count in beats_of(plan.layers[name].shape[1], HALVES):
            yield "read", streams[given]
            yield "wait", count - 1
        yield "wait", clock.cycles(stage[at + 1 :])
        yield "write", inputs[name]

    full: dict[str, Stream] = {name: Stream(2) for name in LAYERS}
    free: dict[str, Stream] = {name: Stream(1 << 20) for name in LAYERS}

    def fill(name: str) -> Running:
        yield "read", inputs[name]
        for tile in range(tiles[name]):
            if tile >= 2:  # two copies: one is multiplied while the other is filled
                yield "read", free[name]
            found = [loop for loop in of_layer[name] if loop.tile == tile]
            beats = sum(loop.iterations for loop in found if loop.process is Process.READ_WEIGHTS)
            work = clock.cycles(loop for loop in found if loop.process is Process.FILL_TILE)
            for beat in range(beats):
                yield "read", streams[f"{name}.to_multiply"]
                # a beat that waits in the stream takes its share too; the first comes with the cycle into the loop
                yield "wait", work * (beat + 1) // beats - work * beat // beats - (beat == 0)
            yield "write", full[name]

    def multiply(name: str) -> Running:
        n = plan.layers[name].shape[0]
        for tile in range(tiles[name]):
            yield "read", full[name]
            found = [loop for loop in of_layer[name] if loop.tile == tile]
            behind = {loop.process for loop in found} - _BEFORE_PRODUCTS  # side by side
            work = max(clock.cycles(loop for loop in found if loop.process is process) for process in behind)
            rows = n * (tile + 1) // tiles[name] - n * tile // tiles[name]
            yield "wait", work - rows
            for _ in range(rows):
                yield "wait", 1
                yield "write", streams[f"{name}_out"]
            yield "write", free[name]

    def rotate() -> Running:
        half = block.head_dim // 2
        for _ in range(2):
            for count in beats_of(half, FLOATS):
                yield "read", streams["angles"]
                yield "wait", count - 1
        yield "wait", cycles[Step.ROTATE, "cosines"] + cycles[Step.ROTATE, "sines"]
        heads = block.heads + block.kv_heads
        for head in range(heads):
            given, out = ("q_out", "turned_q") if head < block.heads else ("k_out", "turned_k")
            for _ in range(block.head_dim):
                yield "read", streams[given]
            yield "wait", cycles[Step.ROTATE, "pairs"] // heads
            for _ in range(block.head_dim):
                yield "wait", 1
                yield "write", streams[out]

    attention = attention_cycles(plan, position, clock)

    def attend() -> Running:
        for given, heads in (("turned_q", block.heads), ("turned_k", block.kv_heads), ("v_out", block.kv_heads)):
            for _ in range(heads * block.head_dim):
                yield "read", streams[given]
        yield "wait", attention.encode + attention.keys + attention.softmax + attention.values
        yield "wait", depth[Step.SEND, "results_out"]
        for count in beats_of(block.heads * block.head_dim, HALVES):
            yield "wait", count
            yield "write", streams["o_in"]

    def add(residual: str, layer: str, *out: str) -> Running:
        waited = False
        for _ in range(block.hidden):
            yield "read", streams[residual]
            yield "read", streams[layer]
            if not waited:  # values follow one another through the adder
                yield "wait", depth[Step.ADD, "columns_added"]
                waited = True
            for name in out:
                yield "write", streams[name]

    def silu() -> Running:
        mlp = plan.layers["gate"].shape[0]
        for _ in range(mlp):
            yield "read", streams["gate_out"]
        yield "wait", depth[Step.SILU, "columns_activated"] + depth[Step.SILU, "columns_multiplied"]
        for count in beats_of(mlp, HALVES):
            for _ in range(count):
                yield "read", streams["up_out"]
            yield "write", streams["down_in"]

    def write_output() -> Running:
        for _ in range(block.hidden):
            yield "read", streams["y"]
        yield "wait", depth[Step.WRITE_OUTPUT, "columns_out"] + AXI_LATENCY

    processes: dict[str, Running] = {
        "reader": reader(), "input": read_input(), "norm": norm("norm", "x", "normed"),
        "copy": copy("normed", "q_in", "k_in", "v_in"), "rotate": rotate(), "attend": attend(),
        "middle": add("residual", "o_out", "h", "mlp_residual"), "mlp_norm": norm("mlp_norm", "h", "mlp_normed"),
        "mlp_copy": copy("mlp_normed", "gate_in", "up_in"), "silu": silu(),
        "sum": add("mlp_residual", "down_out", "y"), "output": write_output(),
    }  # fmt: skip
    given = {"o": "o_in", "down": "down_in"}
    for name in LAYERS:
        processes[f"{name} input"] = quantize(name, given.get(name, f"{name}_in"))
        processes[f"{name} fill"] = fill(name)
        processes[name] = multiply(name)
    return ends_of(processes)
