"""How a model calls its blocks: arguments beside the hidden states, the KV cache, the wrapping of the output."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CACHE_ARGUMENTS = ("past_key_values", "past_key_value", "layer_past")  # what transformers' blocks call the KV cache


@dataclass(frozen=True, eq=False)
class Call:
    """How the model calls one block, apart from the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def split_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Call]:
    """Hidden states and the rest of a block's arguments."""
    if args:
        return args[0], Call(args[1:], kwargs)
    kwargs = dict(kwargs)
    hidden = kwargs.pop("hidden_states")
    return hidden, Call((), kwargs)


def output_wrapper(output: Any, path: str) -> Callable[[Tensor], Any]:
    """How to dress hidden states as the block does its output."""
    if isinstance(output, Tensor):
        return lambda hidden: hidden
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        rest = tuple(None if isinstance(item, Tensor) else item for item in output[1:])
        return lambda hidden: (hidden, *rest)
    raise NotImplementedError(
        f"block {path} must return its hidden states, alone or first in a tuple, not {type(output)!r}"
    )


def with_cache(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], cache: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with a KV cache in its place, positional or by name."""
    names = list(inspect.signature(type(block).forward).parameters)[2:]  # after self and the hidden states
    for name in CACHE_ARGUMENTS:
        if name in names:
            position = names.index(name)
            if position < len(args):
                return (*args[:position], cache, *args[position + 1 :]), kwargs
            return args, {**kwargs, name: cache}
    raise NotImplementedError(f"{type(block).__name__} takes no KV cache, so key and value formats cannot be evaluated")


def share_tensors(calls: list[Call], earlier: list[Call]) -> list[Call]:
    """The same calls, with tensors that equal an earlier batch's replaced by those (masks are large)."""
    memo: dict[int, Any] = {}

    def one(new: Any, old: Any) -> Any:
        if id(new) in memo:
            return memo[id(new)]
        if isinstance(new, Tensor) and isinstance(old, Tensor):
            same = new.shape == old.shape and new.dtype == old.dtype and bool(torch.equal(new, old))
            memo[id(new)] = old if same else new
            return memo[id(new)]
        if isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old) and type(new) is tuple:
            return tuple(one(a, b) for a, b in zip(new, old, strict=True))
        return new

    return [
        Call(one(call.args, before.args), {k: one(v, before.kwargs.get(k)) for k, v in call.kwargs.items()})
        for call, before in zip(calls, earlier, strict=True)
    ]
