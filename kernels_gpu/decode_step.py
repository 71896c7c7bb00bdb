"""A decoder's decode step: one token of each sequence in, the next one out, as a list of bound launches.

``stages`` binds them one after another; ``DecodeStep`` keeps them, runs them, and captures them as one CUDA graph whose
replay is a step: tokens, lengths and the KV cache live on the device, so a loop of replays generates text greedily.

For each layer: norm (with the last addition to the residual stream), queries with keys and values, rotary embedding
with the append to the cache, attention (and its merge), output, norm, gate with up, gate, down. Before them the
embedding; after them a norm, the vocabulary and the largest logit. Every kernel of this package starts while the one
before it still runs, and waits for it before it reads what that wrote (``ptx_tile.wait_for_previous``); since each
waits for its own predecessor, all that came earlier has ended too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from kernels_gpu import argmax, attention_launch, embedding, gate, norm, rotary
from kernels_gpu.decode_model import Cache, Decoder, Matrix
from kernels_gpu.decode_weights import Call, Weight
from kernels_gpu.gemv_launch import MAX_TOKENS, allocate_result


class StageKind(Enum):
    """What a stage computes."""

    EMBEDDING = "embedding"
    NORM = "norm"
    PRODUCT = "product"
    ROTARY = "rotary"
    ATTENTION = "attention"
    GATE = "gate"
    ARGMAX = "argmax"


@dataclass(frozen=True, eq=False)
class Stage:
    """Some launches of a step.

    Args:
        kind: what they compute.
        layer: whose; ``layers`` for what follows the last one, -1 for the embedding.
        calls: the launches, in order; none where binding the stage has computed it.
        reads, writes: the buffers, by what they hold. A buffer may be both.
        weight, matrix: of a product; ``cache`` of rotary and attention; ``gain`` of a norm.
    """

    kind: StageKind
    layer: int
    calls: Sequence[Call]
    reads: Mapping[str, Tensor]
    writes: Mapping[str, Tensor]
    weight: Weight | None = None
    matrix: Matrix | None = None
    cache: Cache | None = None
    gain: Tensor | None = None


@dataclass(frozen=True, eq=False)
class State:
    """What a step starts from and leaves behind.

    Args:
        tokens: int32 ``[m]``: what each sequence goes on with; the step puts the next ones there.
        lengths: int32 ``[m]``: tokens in the cache.
        caches: keys and values, by layer.
        turns: float32 ``[capacity, head_dim / 2, 2]``: the rotary table.
    """

    tokens: Tensor
    lengths: Tensor
    caches: tuple[Cache, ...]
    turns: Tensor

    @property
    def batch(self) -> int:
        """Sequences."""
        return len(self.tokens)

    @property
    def capacity(self) -> int:
        """Tokens that a cache holds."""
        return len(self.turns)

    def cache_bytes(self, context: int) -> int:
        """Bytes that attention reads for ``context`` tokens of each sequence, all layers."""
        return sum(side.nbytes * context // self.capacity for cache in self.caches for side in cache)


def make_state(decoder: Decoder, caches: Sequence[Cache], tokens: Sequence[int], lengths: Sequence[int]) -> State:
    """A state on the decoder's device.

    Raises:
        ValueError: not one cache for each layer, too many sequences, or tokens and lengths out of range.
    """
    shape, device, batch = decoder.shape, decoder.embedding.device, len(tokens)
    if not 1 <= batch <= MAX_TOKENS:
        raise ValueError(f"sequences of a decode step must be 1 to {MAX_TOKENS}, not {batch!r}")
    sides = {side.shape for cache in caches for side in cache}
    capacity = next(iter(sides))[2] if sides else 0
    wanted = (batch, shape.key_heads, capacity, shape.head_dim)
    if len(caches) != shape.layers or sides != {wanted}:
        raise ValueError(f"caches must be {shape.layers} of shape {wanted!r}, not {len(caches)} of {sorted(sides)!r}")
    if len(lengths) != batch or not all(0 <= n <= capacity for n in lengths):
        raise ValueError(f"lengths must be {batch} numbers of 0 to the capacity {capacity}, not {list(lengths)!r}")
    if not all(0 <= t < shape.vocabulary for t in tokens):
        raise ValueError(f"tokens must be 0 to {shape.vocabulary - 1}, not {list(tokens)!r}")
    table = rotary.turns(capacity, shape.head_dim, shape.theta).to(device)
    words, counts = (torch.tensor(list(given), dtype=torch.int32, device=device) for given in (tokens, lengths))
    return State(words, counts, tuple(caches), table)


def stages(decoder: Decoder, state: State, *, advance: bool) -> Iterator[Stage]:
    """Bind the launches of a step, stage by stage; where a weight is late, run each before the next is asked for.

    ``advance``: whether lengths grow by the new token; if not, it replaces the last one, so that a step that is timed
    does the same work every time.
    """
    shape, m, end = decoder.shape, state.batch, decoder.shape.layers
    like = decoder.embedding

    def buffer(n: int) -> Tensor:
        return allocate_result(m, n, like)

    residual, x, gated, attended = (
        buffer(n) for n in (shape.hidden, shape.hidden, shape.intermediate, shape.heads * shape.head_dim)
    )
    queries = buffer(shape.heads * shape.head_dim).view(m, shape.heads, shape.head_dim)
    results = {which: buffer(shape.matrix(which)[0]) for which in Matrix}
    turns = torch.empty((m, shape.head_dim // 2, 2), dtype=torch.float32, device=like.device)
    follows_own = True

    def product(layer: int, which: Matrix, weight: Weight, given: Tensor) -> Stage:
        nonlocal follows_own
        calls, results[which] = weight.bind(given, results[which], overlapped=follows_own)
        follows_own = weight.own
        return Stage(StageKind.PRODUCT, layer, calls, {"x": given}, {"out": results[which]}, weight, which)

    def normed(layer: int, delta: Tensor | None, gain: Tensor) -> Stage:
        nonlocal follows_own
        launch = norm.prepare(residual, delta, gain, x, epsilon=shape.epsilon, overlapped=follows_own)
        follows_own = True
        reads = {"residual": residual} | ({} if delta is None else {"delta": delta})
        return Stage(StageKind.NORM, layer, (launch,), reads, {"residual": residual, "out": x}, gain=gain)

    launch = embedding.prepare(
        state.tokens, like, state.lengths, state.turns, residual, turns, advance=advance, overlapped=False
    )
    yield Stage(
        StageKind.EMBEDDING, -1, (launch,), {"tokens": state.tokens, "lengths": state.lengths},
        {"out": residual, "turns": turns, "lengths": state.lengths},
    )  # fmt: skip
    delta = None
    for i, layer in enumerate(decoder.layers):
        yield normed(i, delta, layer.attention_gain)
        yield product(i, Matrix.QKV, layer.weights[Matrix.QKV], x)
        key, value = state.caches[i]
        qkv = results[Matrix.QKV]
        launch = rotary.prepare(qkv, turns, state.lengths, queries, key, value, overlapped=follows_own)
        follows_own = True
        cached = {"keys": key.codes, "key_scales": key.scale, "values": value.codes, "value_scales": value.scale}
        reads = {"qkv": qkv, "turns": turns, "lengths": state.lengths, **cached}
        yield Stage(StageKind.ROTARY, i, (launch,), reads, {"queries": queries, **cached}, cache=(key, value))
        out = attended.view(queries.shape)
        launches = attention_launch.prepare(queries, key, value, state.lengths, out)
        reads = {"queries": queries, "lengths": state.lengths}
        yield Stage(StageKind.ATTENTION, i, launches, reads, {"out": out}, cache=(key, value))
        yield product(i, Matrix.OUT, layer.weights[Matrix.OUT], attended)
        yield normed(i, results[Matrix.OUT], layer.feed_forward_gain)
        yield product(i, Matrix.GATE_UP, layer.weights[Matrix.GATE_UP], x)
        both = results[Matrix.GATE_UP]
        launch = gate.prepare(both, gated, overlapped=follows_own)
        follows_own = True
        yield Stage(StageKind.GATE, i, (launch,), {"both": both}, {"out": gated})
        yield product(i, Matrix.DOWN, layer.weights[Matrix.DOWN], gated)
        delta = results[Matrix.DOWN]
    yield normed(end, delta, decoder.final_gain)
    yield product(end, Matrix.HEAD, decoder.head, x)
    logits = results[Matrix.HEAD]
    launch = argmax.prepare(logits, state.tokens, overlapped=follows_own)
    yield Stage(StageKind.ARGMAX, end, (launch,), {"logits": logits}, {"tokens": state.tokens})


class DecodeStep:
    """A step bound to a decoder and a state: call it to enqueue it on torch's current stream.

    Args:
        decoder: its weights.
        state: what the step changes.
        advance: as in ``stages``.
    """

    def __init__(self, decoder: Decoder, state: State, *, advance: bool = True) -> None:
        self.decoder, self.state, self.advance = decoder, state, advance
        self.bound: tuple[Stage, ...] | None = None
        if not decoder.late:
            self.bound = tuple(stages(decoder, state, advance=advance))

    def __call__(self) -> None:
        for stage in stages(self.decoder, self.state, advance=self.advance) if self.bound is None else self.bound:
            for call in stage.calls:
                call()

    def launches(self) -> int:
        """Kernels of this package, and calls of the library, in a step."""
        kept = stages(self.decoder, self.state, advance=self.advance) if self.bound is None else self.bound
        return sum(max(1, len(stage.calls)) for stage in kept)

    def capture(self) -> torch.cuda.CUDAGraph:
        """The step as a CUDA graph; a replay is a step.

        The step runs once outside the graph first, so that kernels are compiled and the library has its workspace;
        tokens and lengths are put back, the cache keeps a row more than it had.
        """
        kept = self.state.tokens.clone(), self.state.lengths.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self()
        self.state.tokens.copy_(kept[0])
        self.state.lengths.copy_(kept[1])
        return graph
