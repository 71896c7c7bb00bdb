"""From the records of a trace to the layers of a workload: the simulator's convention, ties, masks and routing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

from codesign.trace_experts import route_all_experts
from codesign.trace_ledger import Record, finished_kind, storage_of
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase


def layers_of(
    records: Sequence[Record], model: nn.Module, *, phase: Phase, batch: int, context: int
) -> tuple[LayerSpec, ...]:
    """The layers that ``records`` of a forward pass of ``model`` stand for, in the same order."""
    heads = _head_weights(model)
    shared_heads, routing = _kv_heads(model), _routing(model)
    decoder = generates(model) and not getattr(model.config, "is_encoder_decoder", False)
    masked = decoder and phase is Phase.PREFILL and context > 1
    first_user: dict[int, str] = {}
    stored: Counter[int] = Counter()  # elements of each weight that layers so far account for
    layers = []
    for record in records:
        if routing is not None and record.kind is LayerKind.LINEAR and record.weight_copies is None:
            route_all_experts(record, *routing)
        weight_of = None
        if record.weight is not None:
            elements = record.n * record.k * (record.weight_copies or record.copies)
            if record.weight in first_user and stored[record.weight] + elements > record.weight_elements:
                weight_of = first_user[record.weight]  # not another slice of it: the same weight again
            else:
                first_user.setdefault(record.weight, record.name)
                stored[record.weight] += elements
        m, copies, shared = _rows(record, phase, batch, shared_heads)
        n, state = record.n, record.kind is None and context not in (record.k, record.n)
        if state and phase is Phase.DECODE and m > n:  # state @ token: the token is the input, the state what is kept
            m, n = n, m
        layers.append(
            LayerSpec(
                record.name,
                finished_kind(record),
                m,
                record.k,
                n,
                copies=copies,
                shared_weight=shared,
                weight_of=weight_of,
                causal=record.causal or (masked and _whole_context(record, context)),
                head=record.kind is LayerKind.LINEAR and record.weight in heads,
                weight_copies=record.weight_copies,
                state=state,
                written=_written(record, phase, m, context),
            )
        )
    return tuple(layers)


def _rows(record: Record, phase: Phase, batch: int, shared_heads: tuple[int, int] | None) -> tuple[int, int, bool]:
    """m, copies and whether the copies share a weight, in the simulator's convention."""
    kind = finished_kind(record)
    m, copies = record.m, record.copies
    if kind is LayerKind.LINEAR and record.weight_copies is None and copies == 1:
        if phase is Phase.PREFILL and m % batch == 0:
            m, copies = m // batch, batch
        return m, copies * record.calls, True
    if kind is LayerKind.CONV:
        return m * record.calls, copies, False
    if record.by_hand and kind in ATTENTION_KINDS and shared_heads is not None and record.kind is not None:
        heads, kv_heads = shared_heads
        if copies == batch * heads:  # the code repeats key and value heads before the product
            m, copies = m * heads // kv_heads, batch * kv_heads
    return m, copies * record.calls, False


def _written(record: Record, phase: Phase, m: int, context: int) -> int | None:
    """Keys or values that one copy of an attention product adds to its cache; ``None`` for anything else.

    A decode step adds its one token; a prompt all of its own, even beyond a sliding window, and keys from elsewhere.
    """
    kind = finished_kind(record)
    if kind not in ATTENTION_KINDS or (record.kind is None and context not in (record.k, record.n)):
        return None
    if phase is Phase.DECODE:
        return 1
    keys = record.n if kind is LayerKind.ATTENTION_QK else record.k
    return keys if keys > context else min(m, context)


def _whole_context(record: Record, context: int) -> bool:
    """Whether attention written out by hand covers all of the context, so that a decoder masks its upper half."""
    if not record.by_hand or record.m % context:
        return False
    if record.kind in (LayerKind.ATTENTION_QK, LayerKind.SOFTMAX):
        return record.n == context
    return record.kind is LayerKind.ATTENTION_PV and record.k == context


def _kv_heads(model: nn.Module) -> tuple[int, int] | None:
    """Heads and key-value heads, where they differ and the config says so."""
    config = getattr(model, "config", None)
    try:
        heads = getattr(config, "num_attention_heads", None)
        kv_heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None)
    except Exception:  # a config whose layers differ says so by raising; such models call attention by name
        return None
    if isinstance(heads, int) and isinstance(kv_heads, int) and 0 < kv_heads < heads and heads % kv_heads == 0:
        return heads, kv_heads
    return None


def _routing(model: nn.Module) -> tuple[int, int] | None:
    """Experts and experts chosen for each token, where the config says so."""
    config: Any = getattr(model, "config", None)
    try:
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
        top_k = getattr(config, "num_experts_per_tok", None)
    except Exception:  # a config of several text models, or one whose layers differ
        return None
    return (experts, top_k) if isinstance(experts, int) and isinstance(top_k, int) and experts > 1 else None


def _head_weights(model: nn.Module) -> frozenset[int]:
    """Weights of the output projection to the vocabulary, or of several, one for each stream of tokens."""
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    if not isinstance(head, nn.Module):
        return frozenset()
    return frozenset(storage_of(parameter) for parameter in head.parameters() if parameter.dim() >= 2)


def generates(model: nn.Module) -> bool:
    """Whether a model writes one token after another."""
    config = getattr(model, "config", None)
    return config is not None and (
        getattr(config, "is_decoder", False) or bool(getattr(model, "can_generate", lambda: False)())
    )
