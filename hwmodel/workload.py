"""What is to be computed: layers by shape, and how they hang together. No weights, no formats.

A ``Workload`` is a directed graph of ``LayerSpec`` for **one phase** (prefill of so many tokens, or one decode step at
so much context). The layer name is the join key of the whole project: configs, calibration, quantized layers, costs
and measurements are all keyed by it. Repeated layers stay apart as names but are priced once, because pricing depends
only on ``LayerSpec.shape_key``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import networkx as nx


class LayerKind(Enum):
    """What a layer computes; every dispatch in the project is on this, never on a name."""

    LINEAR = "linear"  # y[m, n] = x[m, k] @ w[n, k].T: weights from memory
    EMBEDDING = "embedding"  # row look-up: m rows of n values out of k
    ATTENTION_QK = "attention_qk"  # scores: b copies of q[m, head_dim] @ key[n, head_dim].T
    ATTENTION_PV = "attention_pv"  # b copies of p[m, k] @ value[k, head_dim]
    CONV = "conv"  # as a GEMM: m output positions, k = in_channels/groups * kernel, n out_channels
    NORM = "norm"  # vector unit
    ACTIVATION = "activation"  # vector unit (SiLU, GELU, gating, residual adds)
    SOFTMAX = "softmax"  # vector unit

    __hash__ = object.__hash__  # members are single objects; Enum's own hash runs in Python for every priced layer


class Phase(Enum):
    """Which part of generation a workload is."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True)
class LayerSpec:
    """One layer as a matrix product, or a vector operation over ``m x n`` elements.

    Args:
        name: unique in its workload; the module path in the model (``model.layers.0.self_attn.q_proj``).
        kind: what it computes.
        m: rows of the input (tokens) of one copy.
        k: in_features (the reduced dimension).
        n: out_features.
        copies: independent products of this shape with operands of their own (batch x kv_heads for attention, groups
            of a convolution, experts touched for MoE). A LINEAR layer with ``copies > 1`` has as many weights.
        shared_weight: copies read one and the same weight (batched sequences of a LINEAR layer keep ``m`` per copy).
        weight_of: name of the layer whose weight this one uses (tied embeddings), or whose KV cache (values that are a
            part of the keys: latent attention); counts no storage of its own.
        causal: only scores at or below the diagonal matter (attention in prefill).
        head: the output projection to the vocabulary.
        weight_copies: weights stored (all experts), where that is more than ``copies`` touched; ``None`` for equal.
        state: an attention product with a recurrent state of fixed size (linear attention, state-space models), not
            with a cache as long as the context.
        past: keys of a causal product that were there before its first query (a later chunk of a prompt); ``None`` for
            a whole prompt.
        written: keys or values that one copy of an attention product adds to its cache: the tokens of the step, even
            where fewer are attended to (a sliding window); ``None`` for what the shape tells
            (``hwmodel.attention_side.written``).
        absorbed: outputs of a linear layer's copies that are used the other way round: so many numbers come in there,
            and ``k`` go out (``hwmodel.latent_attention``).
    """

    name: str
    kind: LayerKind
    m: int
    k: int
    n: int
    copies: int = 1
    shared_weight: bool = False
    weight_of: str | None = None
    causal: bool = False
    head: bool = False
    weight_copies: int | None = None
    state: bool = False
    past: int | None = None
    written: int | None = None
    absorbed: int = 0

    def __post_init__(self) -> None:
        if self.state and self.kind not in ATTENTION_KINDS:
            raise ValueError(f"layer {self.name} with a state must be an attention product, not {self.kind.value}")
        if self.absorbed and not (self.kind is LayerKind.LINEAR and 0 < self.absorbed < self.n):
            raise ValueError(
                f"absorbed of layer {self.name} must be fewer outputs than the {self.n} of a linear layer, "
                f"not {self.absorbed!r} of {self.kind.value}"
            )
        for what in ("m", "k", "n", "copies"):
            value = getattr(self, what)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{what} of layer {self.name} must be an integer of at least 1, not {value!r}")
        if self.past is not None and not (self.causal and 0 <= self.past < max(self.k, self.n)):
            raise ValueError(f"past of layer {self.name} must be less than the keys of a causal one, not {self.past!r}")
        if self.written is not None and not (self.kind in ATTENTION_KINDS and self.written >= 0):
            raise ValueError(
                f"written of layer {self.name} must be at least 0 and of an attention product, not {self.written!r} of "
                f"{self.kind.value}"
            )

    @property
    def row_inputs(self) -> int:
        """Numbers that a row of one copy reads."""
        return self.k + self.absorbed

    @property
    def row_outputs(self) -> int:
        """Numbers that a row of one copy writes."""
        return self.n - self.absorbed + self.k if self.absorbed else self.n

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for vector operations and look-ups."""
        if self.kind in VECTOR_KINDS or self.kind is LayerKind.EMBEDDING:
            return 0
        return self.m * self.k * self.n * self.copies

    @property
    def weights(self) -> int:
        """Stored weight elements (0 for attention, vector operations and tied weights)."""
        if self.kind not in WEIGHT_KINDS or self.weight_of is not None:
            return 0
        stored = self.copies if self.weight_copies is None else self.weight_copies
        return self.n * self.k * (1 if self.shared_weight else stored)

    @cached_property
    def shape_key(self) -> tuple[object, ...]:
        """All that a price, at any context, depends on; equal keys are computed once."""
        return (
            self.kind, self.m, self.k, self.n, self.copies, self.shared_weight, self.causal, self.head, self.state,
            self.past, self.written, self.absorbed, self.weight_of is not None,
        )  # fmt: skip


VECTOR_KINDS = frozenset({LayerKind.NORM, LayerKind.ACTIVATION, LayerKind.SOFTMAX})
WEIGHT_KINDS = frozenset({LayerKind.LINEAR, LayerKind.CONV, LayerKind.EMBEDDING})
ATTENTION_KINDS = frozenset({LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV})
GEMM_KINDS = frozenset({LayerKind.LINEAR, LayerKind.CONV}) | ATTENTION_KINDS


@dataclass(frozen=True)
class Workload:
    """A phase of a model: its layers in order, and which output feeds which layer.

    Args:
        model: name of the model.
        phase: prefill or decode.
        layers: in order of execution; names unique.
        edges: (producer, consumer) names.
        batch, context: as asked for; context is tokens already in the KV cache plus those of this step.
    """

    model: str
    phase: Phase
    layers: tuple[LayerSpec, ...]
    edges: tuple[tuple[str, str], ...] = ()
    batch: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"layer names of workload {self.model} must be unique, not repeated: {', '.join(twice)}")
        unknown = {name for edge in self.edges for name in edge} - set(names)
        if unknown:
            raise ValueError(f"edges of workload {self.model} must join its layers, not {', '.join(sorted(unknown))}")

    def __getitem__(self, name: str) -> LayerSpec:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Stored weight elements, tied ones once."""
        return sum(layer.weights for layer in self.layers)

    def graph(self) -> nx.DiGraph:
        """The graph, nodes keyed by layer name with the ``LayerSpec`` as attribute ``layer``."""
        graph: nx.DiGraph = nx.DiGraph(model=self.model, phase=self.phase.value)
        for layer in self.layers:
            graph.add_node(layer.name, layer=layer)
        graph.add_edges_from(self.edges)
        return graph

    def select(self, kinds: Iterable[LayerKind]) -> Workload:
        """The same workload with only layers of ``kinds`` (edges between them kept)."""
        wanted = frozenset(kinds)
        kept = tuple(layer for layer in self.layers if layer.kind in wanted)
        names = {layer.name for layer in kept}
        edges = tuple((a, b) for a, b in self.edges if a in names and b in names)
        return replace(self, layers=kept, edges=edges)


def shape_counts(layers: Iterable[LayerSpec]) -> Mapping[tuple[object, ...], int]:
    """How often each distinct shape occurs, in order of first appearance."""
    counts: dict[tuple[object, ...], int] = {}
    for layer in layers:
        counts[layer.shape_key] = counts.get(layer.shape_key, 0) + 1
    return counts


def at_context(decode: Workload, context: int) -> Workload:
    """A decode step at another context, without tracing again.

    Only products with a KV cache and their softmax follow the context; those with a ``state`` stay. A length below the
    traced context is a sliding window (or a shorter source's) and is cut, never stretched, so trace at the largest
    context that is needed. One beyond it stays: keys from elsewhere, such as those of an encoder, are always there.

    Args:
        decode: a decode workload.
        context: tokens in the KV cache, this step's included.

    Raises:
        ValueError: not a decode workload, or ``context`` beyond the traced one.
    """
    if decode.phase is not Phase.DECODE or not 1 <= context <= decode.context:
        raise ValueError(
            f"context must be 1 to the traced {decode.context} of a decode workload, "
            f"not {context!r} of a {decode.phase.value} workload"
        )

    def length(traced: int) -> int:
        if traced > decode.context:
            return traced
        return context if traced == decode.context else min(traced, context)

    layers = tuple(
        layer
        if layer.state
        else replace(layer, k=length(layer.k))
        if layer.kind is LayerKind.ATTENTION_PV
        else replace(layer, n=length(layer.n))
        if layer.kind in (LayerKind.ATTENTION_QK, LayerKind.SOFTMAX)
        else layer
        for layer in decode.layers
    )
    return replace(decode, layers=layers, context=context)
