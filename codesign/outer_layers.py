"""Quantized layers outside the decoder blocks: the head, and projections around the blocks.

A tied head that is quantized leaves the embedding's look-up alone: only the product with the head's weight changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from codesign.apply import install_slots
from codesign.blocks import BlockModel
from datatypes.quantized_layer import QuantizedLayer

State = list[tuple[nn.Module, dict[str, Any], dict[str, Any]]]


class OuterLayers:
    """The slots outside the blocks of ``model`` as ``layers`` says, decoded once and put in place when asked.

    Args:
        model: the walked model.
        layers: by name; those inside the blocks are ignored.
    """

    def __init__(self, model: BlockModel, layers: Mapping[str, QuantizedLayer]) -> None:
        self._model = model.model
        slots = [slot for slot in model.outer_slots() if slot.name in layers]
        self._original: State = self._state()
        self._quantized: State = self._original
        if slots:
            try:
                install_slots(self._model, "", slots, layers, device=model.device)
                self._quantized = self._state()
            finally:
                _restore(self._original)

    def _state(self) -> State:
        return [(m, dict(m._parameters), dict(m._modules)) for m in self._model.modules()]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with these layers for as long as the context lasts."""
        if self._quantized is self._original:
            yield
            return
        try:
            _restore(self._quantized)
            yield
        finally:
            _restore(self._original)


def _restore(state: State) -> None:
    for owner, parameters, modules in state:
        owner._parameters, owner._modules = dict(parameters), dict(modules)
