"""Softmax attention, recorded before key and value heads are repeated.

transformers lets a model's attention be exchanged by name (``AttentionInterface``). The function registered here
receives the query ``[batch, heads, tokens, head_dim]`` and the key and value with their own number of heads, records
ATTENTION_QK, SOFTMAX and ATTENTION_PV, and computes nothing. Models that write their attention out by hand are
recognised by ``Recorder`` instead, product by product.

Convention (BitMoD's simulator, version 2): copies = batch x kv_heads; m = group x tokens with group = heads / kv_heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from codesign.trace_record import Recorder
from hwmodel.workload import LayerKind

IMPLEMENTATION = "codesign_trace"  # the name under which the recording attention is registered
_ACTIVE: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recorded_attention(recorder: Recorder) -> Iterator[None]:
    """Attention called by name goes to ``recorder`` inside the block."""
    token = _ACTIVE.set(recorder)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def register() -> None:
    """Makes ``IMPLEMENTATION`` known to transformers, with masks that have a shape and say nothing."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, _attention)
    AttentionMaskInterface.register(IMPLEMENTATION, _mask)


def _mask(batch_size: int, q_length: int, kv_length: int, *args: Any, **kwargs: Any) -> Tensor:
    return torch.ones(int(batch_size), 1, int(q_length), int(kv_length), dtype=torch.bool, device="meta")


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
    recorder = _ACTIVE.get()
    if recorder is None:
        raise RuntimeError(f"attention {IMPLEMENTATION!r} must be called while tracing, not on its own")
    heads, tokens = prod(query.shape[:-2]), query.shape[-2]
    kv_heads, context = prod(key.shape[:-2]), key.shape[-2]
    if heads % kv_heads:
        raise ValueError(
            f"heads of keys and values must divide the {query.shape[-3]} of the query, not {key.shape[-3]}"
        )
    window = attention_window(module, kwargs)
    seen = context if window is None else min(context, window)
    is_causal = kwargs.get("is_causal")
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(is_causal) and tokens == context > 1 and seen == context
    rows = heads // kv_heads * tokens
    product = recorder.ledger.product(
        "qk", LayerKind.ATTENTION_QK, (kv_heads, rows, key.shape[-1], seen), recorder.sources(query, key), causal=causal
    )
    scores = (kv_heads, rows, 1, seen)
    softmax = recorder.ledger.product("softmax", LayerKind.SOFTMAX, scores, frozenset({product.index}), causal=causal)
    output = recorder.ledger.product(
        "pv",
        LayerKind.ATTENTION_PV,
        (kv_heads, rows, seen, value.shape[-1]),
        recorder.sources(value) | {softmax.index},
        causal=causal,
    )
    shape = (query.shape[0], tokens, *query.shape[1:-2], value.shape[-1])
    return recorder.attend(query.new_empty(shape), output), None


def attention_window(module: nn.Module, kwargs: dict[str, Any]) -> int | None:
    """Tokens that a query sees at most, or ``None``: a sliding window, a chunk, or an indexer's choice of keys."""
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    windows = [kwargs.get("sliding_window"), getattr(module, "sliding_window", None)]
    if getattr(module, "indexer", None) is not None:
        windows.append(getattr(config, "index_topk", None))
    types = getattr(config, "layer_types", None)
    if types is not None and isinstance(index, int) and index < len(types) and types[index] == "chunked_attention":
        windows.append(getattr(config, "attention_chunk_size", None))
    known = [w for w in windows if isinstance(w, int) and not isinstance(w, bool) and w > 0]
    return min(known, default=None)
