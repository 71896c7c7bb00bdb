"""Routed work on meta tensors: which experts run depends on data, so their modules are answered by expectation.

A mixture-of-experts module is known by structure: its ``forward`` takes hidden states and, beside them, an integer
tensor of the experts chosen for each token, and it (or what lies under it) owns stacked expert weights. Its forward is
replaced while tracing: every stacked weight becomes one LINEAR layer.

With routing that is uniform and independent between tokens, ``t`` tokens that choose ``top_k`` of ``E`` experts touch

    E * (1 - (1 - top_k / E) ** t)

distinct experts on average (one expert is missed by a token with probability 1 - top_k / E). ``copies`` is that
number rounded, ``m = ceil(t * top_k / copies)``, and ``weight_copies = E``: all experts are stored, the touched
ones are read. Real routers are less even, so ``copies`` is an upper estimate of the weights read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from codesign.replaced_forwards import replaced_forwards
from codesign.trace_ledger import Record, storage_of
from codesign.trace_record import Recorder
from hwmodel.experts import expected_experts
from hwmodel.workload import LayerKind


def route_all_experts(record: Record, experts: int, top_k: int) -> None:
    """Rewrites a product of every token with every one of ``experts`` weights to the ``top_k`` that routing keeps.

    Some models (Llama 4) compute all experts and multiply what was not chosen by zero.
    """
    if record.copies == experts and record.weight_elements == experts * record.k * record.n:
        tokens, record.weight_copies = record.m, experts
        record.copies = expected_experts(experts, top_k, tokens)
        record.m = -(-tokens * min(top_k, experts) // record.copies)


def routed_experts(recorder: Recorder) -> AbstractContextManager[None]:
    """Answers the experts of ``recorder.model`` by expectation inside the block."""
    return replaced_forwards(
        {
            module: _experts_forward(recorder, module, module.forward)
            for module in recorder.model.modules()
            if _takes_routing(module) and stacked_weights(module)
        }
    )


def stacked_weights(module: nn.Module) -> list[tuple[Tensor, tuple[int, int, int]]]:
    """Stacked expert weights of ``module`` with their shape ``[experts, rows, columns]``, in order of definition.

    Also 2-D weights under it that stack experts along their rows (``[experts * rows, columns]``), where the module
    says how many experts it has.
    """
    if isinstance(module, nn.modules.conv._ConvNd):
        return []
    own = [p for p in module.parameters(recurse=False) if p.dim() == 3 and min(p.shape[1:]) > 1]
    if own:
        return [(p, (p.shape[0], p.shape[1], p.shape[2])) for p in own]
    count = getattr(module, "num_experts", None)
    if not isinstance(count, int) or count < 1:
        return []
    below = [p for p in module.parameters() if p.dim() == 2 and p.shape[0] % count == 0 and p.shape[0] > count]
    return [(p, (count, p.shape[0] // count, p.shape[1])) for p in below]


def _takes_routing(module: nn.Module) -> bool:
    names = list(inspect.signature(module.forward).parameters)
    owns = any(p.dim() == 3 for p in module.parameters(recurse=False))
    return len(names) >= 2 and (owns or any("index" in name for name in names))


def _experts_forward(recorder: Recorder, module: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        hidden = next((t for t in tensors if t.is_floating_point()), None)
        if hidden is None or not any(hidden.shape[-1] in shape[1:] for _, shape in stacked_weights(module)):
            return original(*args, **kwargs)
        tokens = hidden.numel() // hidden.shape[-1]
        chosen = next((t for t in tensors if _is_choice(t, tokens, active=recorder.active(t))), None)
        counts = [value for value in (*args, *kwargs.values()) if isinstance(value, (list, tuple))]
        if chosen is None and len(tensors) == 1 and any(len(c) == stacked_weights(module)[0][1][0] for c in counts):
            return record_experts(recorder, module, hidden, 1)  # rows sorted by expert, so many for each
        if chosen is None or chosen.numel() % tokens:
            return original(*args, **kwargs)
        return record_experts(recorder, module, hidden, chosen.numel() // tokens)

    return forward


def _is_choice(tensor: Tensor, tokens: int, *, active: bool) -> bool:
    """Whether a tensor holds experts for each token: computed by a router, or several looked up for each token.

    Token positions, which other modules with stacked weights take, are neither.
    """
    if tensor.dtype not in (torch.long, torch.int32):
        return False
    return active or (tensor.dim() == 2 and tensor.shape[0] == tokens and tensor.shape[1] > 1)


def record_experts(recorder: Recorder, module: nn.Module, hidden: Tensor, top_k: int) -> Tensor:
    """Records the stacked weights of ``module`` for ``hidden`` ``[..., width]`` and returns its output.

    The last of several stacked weights maps back to ``width``, the others (and a single one) map from it.
    """
    width = hidden.shape[-1]
    tokens = hidden.numel() // width
    weights = stacked_weights(module)
    sources = recorder.sources(hidden)
    transposed = bool(getattr(module, "is_transposed", False))
    entering: set[int] = set()
    for i, (weight, (experts, rows, columns)) in enumerate(weights):
        last = i == len(weights) - 1 and i > 0
        if last:
            inner = recorder.ledger.own_vector(
                "activation", LayerKind.ACTIVATION, (tokens * top_k, rows * columns // width), frozenset(entering)
            )
            sources = frozenset({inner.index})
        other = columns if rows == width and (columns != width or transposed != last) else rows
        k, n = (other, width) if last else (width, other)
        copies = expected_experts(experts, top_k, tokens)
        m = -(-tokens * min(top_k, experts) // copies)
        record = recorder.ledger.linear(storage_of(weight), (copies, m, k, n), sources, whole=True)
        record.weight_copies = experts
        entering.add(record.index)
    return recorder.attend(hidden.new_empty(*hidden.shape[:-1], n), record)
