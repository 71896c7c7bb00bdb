"""Layers of equal role in different blocks, found from their names: a path component that is a number is a block.

``model.layers.0.self_attn.q_proj`` and ``model.layers.7.self_attn.q_proj`` are ``model.layers.*.self_attn.q_proj``,
shown as ``self_attn.q_proj``. This is for display alone; nothing is priced or dispatched on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerGroups:
    """Layers put into groups.

    Args:
        layers: names, each once, in order of first appearance.
        labels: short unique name of each layer.
        group: for each layer, the position of its group.
        patterns: of each group, its name with numbers as ``*``.
        titles: of each group, a short unique name.
    """

    layers: tuple[str, ...]
    labels: tuple[str, ...]
    group: tuple[int, ...]
    patterns: tuple[str, ...]
    titles: tuple[str, ...]


def pattern(layer: str) -> str:
    """The name with each path component that is a number as ``*``.

    >>> pattern("model.layers.12.mlp.experts.3.up_proj")
    'model.layers.*.mlp.experts.*.up_proj'
    """
    return ".".join("*" if part.isdecimal() else part for part in layer.split("."))


def short(layer: str, *, keep_number: bool) -> str:
    """The name from its first number on; the whole name where it has none.

    >>> short("model.layers.12.self_attn.q_proj", keep_number=True)
    '12.self_attn.q_proj'
    >>> short("model.layers.12.self_attn.q_proj", keep_number=False), short("lm_head", keep_number=False)
    ('self_attn.q_proj', 'lm_head')
    """
    parts = layer.split(".")
    for position, part in enumerate(parts):
        if part.isdecimal() or part == "*":
            rest = parts[position if keep_number else position + 1 :]
            return ".".join(rest) or layer
    return layer


def group_layers(names: Iterable[str]) -> LayerGroups:
    """Groups of the layers in ``names``; repeated names count once, an empty input gives no group.

    >>> group_layers(["h.0.q", "h.1.q", "head"]).titles
    ('q', 'head')
    """
    layers = tuple(dict.fromkeys(names))
    patterns = tuple(dict.fromkeys(pattern(layer) for layer in layers))
    position = {name: index for index, name in enumerate(patterns)}
    return LayerGroups(
        layers=layers,
        labels=_unique([short(layer, keep_number=True) for layer in layers], layers),
        group=tuple(position[pattern(layer)] for layer in layers),
        patterns=patterns,
        titles=_unique([short(name, keep_number=False) for name in patterns], patterns),
    )


def _unique(wanted: Sequence[str], otherwise: Sequence[str]) -> tuple[str, ...]:
    """Short names where nothing else wants them or is called so in full, full names elsewhere."""
    count: dict[str, int] = {}
    for name in wanted:
        count[name] = count.get(name, 0) + 1
    full = set(otherwise)
    return tuple(
        short_name if count[short_name] == 1 and (short_name == name or short_name not in full) else name
        for short_name, name in zip(wanted, otherwise, strict=True)
    )
