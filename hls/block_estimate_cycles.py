"""Cycles of one token through an exported decoder block: its loops put together as ``block_token`` runs its processes.

All processes of the DATAFLOW region start together and wait for one another at their streams, so a token's latency is
neither the sum of all processes nor the longest of them. It follows from when each process has what it takes: one
reader hands the weights on layer after layer; a layer multiplies once its input is encoded and the reader has come to
it; what streams an element a cycle (rotation, residuals, SiLU, FP16 rows) ends a pipeline's depth behind its source.

Within ``attend`` its steps follow one another; only the positions of a pipeline (read, unpack, multiply, add up)
overlap.
Tokens follow one another too, as one reads what the one before put into the cache: their interval is their latency.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hls.block_loops import Record, Step, block_loops, records
from hls.block_plan import BlockPlan
from hls.decoder_block import LAYERS
from hls.estimate import LayerEstimate
from hls.estimate_cycles import AXI_LATENCY, ROM_READS, loop_cycles
from hls.layer_plan import LayerPlan
from hls.loop import PORTS, Loop, Process
from hls.stage_loops import quantize_input_loops
from hls.weights import BEAT_BYTES


@dataclass(frozen=True)
class Clock:
    """What cycles depend on beside the loops.

    Args:
        clock_hz: of the kernel.
        bytes_per_s: of the memory behind the cache; and behind the weights, if they are not ``on_chip``.
        ports: whether arrays that no pragma cuts have two ports.
    """

    clock_hz: float
    bytes_per_s: float
    on_chip: bool
    ports: bool = False

    def cycles(self, loops: Iterable[Loop]) -> int:
        """Of loops one behind another."""
        return sum(loop_cycles(loop, self.clock_hz, ports=self.ports) for loop in loops)

    def depth(self, loop: Loop) -> int:
        """From a value taken to the value handed on, where all come by themselves."""
        return self.cycles([replace(loop, entries=1, iterations=1)])

    @property
    def beat(self) -> float:
        """Cycles of a beat from memory."""
        return max(1.0, BEAT_BYTES * self.clock_hz / self.bytes_per_s)

    def read(self, bursts: Iterable[Loop]) -> int:
        """Of bursts of the weight image."""
        found = list(bursts)
        beats, entries = sum(loop.iterations for loop in found), sum(loop.entries for loop in found)
        if self.on_chip:
            return round((ROM_READS / PORTS if self.ports else 1.0) * beats) + entries
        return round(self.beat * beats) + entries * (AXI_LATENCY + 1)


@dataclass(frozen=True)
class _LayerTimes:
    """A layer as a process of the block, in cycles.

    Args:
        smoothed: whether its activation stage waits for weights.
        front: what that stage does before its first column; ``column``: to take one, ``streamed``: all as they come;
            ``encode``: behind the last one.
        work: from its first tile to its last output; ``last``: of that, behind its last weight.
    """

    smoothed: bool
    front: int
    column: int
    streamed: int
    encode: int
    work: int
    last: int


def _layer_times(plan: LayerPlan, estimate: LayerEstimate, clock: Clock) -> _LayerTimes:
    stage = [loop for loop in quantize_input_loops(plan, 1) if loop.process is Process.QUANTIZE_INPUT]
    at = next(place for place, loop in enumerate(stage) if loop.label == "columns")
    tiles = -(-plan.shape[0] // plan.rows_on_chip)
    made = estimate.port_cycles if clock.ports else estimate.cycles
    return _LayerTimes(
        smoothed=plan.smoothing is not None, front=clock.cycles(stage[:at]), column=clock.depth(stage[at]),
        streamed=clock.cycles([stage[at]]), encode=clock.cycles(stage[at + 1 :]),
        work=made.prepare + made.tiles, last=-(-made.multiply // tiles),
    )  # fmt: skip


@dataclass(frozen=True)
class AttentionCycles:
    """Steps of ``attend``, one behind another.

    Args:
        encode: the newest keys and values.
        keys, values: all positions through their pipelines; ``key_interval``, ``value_interval``: from one position to
            the next.
        softmax: powers and their sums.
        results: divided and sent.
        write: of the newest record, behind the results.
    """

    encode: int
    keys: int
    softmax: int
    values: int
    results: int
    write: int
    key_interval: int
    value_interval: int

    @property
    def latency(self) -> int:
        """From the last value taken to the last result sent."""
        return self.encode + self.keys + self.softmax + self.values + self.results


@dataclass(frozen=True)
class TokenCycles:
    """One token through a block.

    Args:
        position: of it.
        ends: cycle at which each process has handed on its last value, in order.
        attention: its steps.
        weights: cycle at which the reader has handed on the last weight.
        work: of each layer, from its first tile to its last output.
    """

    position: int
    ends: Mapping[str, int]
    attention: AttentionCycles
    weights: int
    work: Mapping[str, int]

    @property
    def latency(self) -> int:
        """From the start to the last beat written; the next token starts then."""
        return max(self.ends.values())

    @property
    def bound(self) -> str:
        """What takes more of it: the layers or attention."""
        return "layers" if sum(self.work.values()) >= self.attention.latency else "attention"


def _pipeline(first: Sequence[int], later: Sequence[int], position: int) -> tuple[int, int]:
    """Cycles of all positions through the steps of a DATAFLOW loop, and from one position to the next.

    Args:
        first: cycles of each step for a position in memory.
        later: likewise for the newest one, the last.
        position: positions in memory.
    """
    interval = max(first) + 1  # ASSUMPTION: a cycle to start a step again
    if not position:
        return sum(later), interval
    return sum(first) + interval * (position - 1) + max(max(later) + 1, interval), interval


def _positions(
    loops: Mapping[Step, list[Loop]], steps: tuple[Step, ...], record: Record, position: int, clock: Clock
) -> tuple[int, int]:
    read, *later = steps
    from_memory = AXI_LATENCY + round(max(clock.beat, record.beat_interval) * record.beats) + 1
    newest = clock.cycles(loop for loop in loops[read] if loop.label == "words_copied")
    each = [clock.cycles(loops[step]) // (position + 1) for step in later]
    return _pipeline([from_memory, *each], [newest, *each], position)


def attention_cycles(plan: BlockPlan, position: int, clock: Clock) -> AttentionCycles:
    """Of ``attend`` for a token at a position."""
    loops: dict[Step, list[Loop]] = {step: [] for step in Step}
    for loop in block_loops(plan, position):
        assert isinstance(loop.process, Step | Process)
        if isinstance(loop.process, Step):
            loops[loop.process].append(loop)
    key, value = records(plan)
    keys, key_interval = _positions(
        loops, (Step.READ_KEYS, Step.UNPACK_KEYS, Step.SCORE, Step.TOTAL), key, position, clock
    )  # fmt: skip
    values, value_interval = _positions(
        loops, (Step.READ_VALUES, Step.UNPACK_VALUES, Step.WEIGH), value, position, clock
    )  # fmt: skip
    return AttentionCycles(
        encode=clock.cycles(loops[Step.ENCODE]), keys=keys, softmax=clock.cycles(loops[Step.SOFTMAX]), values=values,
        results=clock.cycles(loops[Step.SEND]), write=clock.cycles(loops[Step.WRITE_CACHE]) + AXI_LATENCY,
        key_interval=key_interval, value_interval=value_interval,
    )  # fmt: skip


def token_cycles(plan: BlockPlan, layers: Mapping[str, LayerEstimate], position: int, clock: Clock) -> TokenCycles:
    """When each process of a block is done with a token.

    Args:
        plan: the block.
        layers: estimate of each layer as a kernel of its own, whose tiles are those here.
        position: of the token.
        clock: and what else cycles depend on.
    """
    block = plan.block
    loops = block_loops(plan, position)

    def labelled(step: Step, *labels: str) -> int:
        """Of one entry into each such loop: both norms and both residuals are alike."""
        chosen = {loop.label: loop for loop in loops if loop.process is step and loop.label in labels}
        assert set(chosen) == set(labels)
        return clock.cycles(chosen.values())

    def depth(step: Step, label: str) -> int:
        (loop,) = {loop for loop in loops if loop.process is step and loop.label == label}
        return clock.depth(loop)

    ends: dict[str, int] = {}
    times = {name: _layer_times(plan.layers[name], layers[name], clock) for name in LAYERS}
    work = {name: one.work for name, one in times.items()}
    # tables come first: each norm's weights are taken an entry a cycle, which the reader waits for
    bursts = [loop for loop in loops if loop.process is Process.READ_WEIGHTS]
    norm_weights = labelled(Step.NORM, "entries_of_plane")
    attention_weights = max(clock.read(bursts[:1]), norm_weights)
    reader = attention_weights + max(clock.read(bursts[1:2]), norm_weights) + clock.read(bursts[2:])

    def normalised(taken: int) -> int:
        return taken + labelled(Step.NORM, "columns_out") + labelled(Step.COPY, "beats_copied")

    def layer(name: str, given: int) -> None:
        """A layer whose last input value comes at cycle ``given``."""
        nonlocal reader
        one = times[name]
        taken = given + one.column
        if one.smoothed:
            taken = max(taken, reader + one.front + one.streamed)
        ends[name] = max(reader, taken + one.encode) + one.work
        reader = ends[name] - one.last

    ends["input"] = AXI_LATENCY + max(labelled(Step.READ_INPUT, "columns_in"), attention_weights + block.hidden)
    ends["norm"] = normalised(max(ends["input"], attention_weights + labelled(Step.NORM, "columns_in")))
    for name in ("q", "k", "v"):
        layer(name, ends["norm"])
    # heads are turned as they come: behind the last query head come the key heads, and a head behind the last key
    turned = labelled(Step.ROTATE, "elements_in", "pairs", "elements_out") // (block.heads + block.kv_heads) + 1
    ends["rotate"] = max(ends["q"] + (block.kv_heads + 1) * turned, ends["k"] + turned)
    attention = attention_cycles(plan, position, clock)
    taken = max(ends["v"], ends["rotate"] + block.kv_heads * block.head_dim)
    ends["attend"] = taken + attention.latency
    layer("o", ends["attend"])
    middle = ends["o"] + depth(Step.ADD, "columns_added")
    ends["mlp_norm"] = normalised(middle + depth(Step.NORM, "columns_in"))
    for name in ("gate", "up"):
        layer(name, ends["mlp_norm"])
    ends["silu"] = (
        max(ends["up"], ends["gate"] + depth(Step.SILU, "columns_activated") + block.layers["gate"].shape[0])
        + depth(Step.SILU, "columns_multiplied")
    )  # fmt: skip
    layer("down", ends["silu"])
    ends["output"] = ends["down"] + depth(Step.ADD, "columns_added") + depth(Step.WRITE_OUTPUT, "columns_out")
    ends["output"] += AXI_LATENCY
    ends["cache"] = ends["attend"] + attention.write
    return TokenCycles(position, ends, attention, reader, work)
