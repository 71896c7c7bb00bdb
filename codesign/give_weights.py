"""Giving a module without weights its weights, one by one from where they are."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

import torch
from torch import Tensor, nn


class WeightSource(Protocol):
    """What the walk needs of a model: ``codesign.models.ModelSource`` and ``codesign.quantized_model`` have it."""

    @property
    def name(self) -> str: ...

    def skeleton(self) -> nn.Module:
        """The module tree without weights (parameters on the meta device)."""
        ...

    def tensor(self, name: str) -> Tensor:
        """One parameter or persistent buffer by its name in the module tree, on the CPU, in its stored type."""
        ...


def give_weights(
    source: WeightSource, module: nn.Module, prefix: str, *, skip: Container[int], device: torch.device
) -> None:
    """Give every parameter and persistent buffer of ``module`` its values in float32; shared ones stay shared.

    Args:
        source: where they come from.
        module: part of its skeleton, changed in place.
        prefix: path of ``module`` in the skeleton.
        skip: ids of tensors that stay as they are.
        device: where the values go.

    Raises:
        ValueError: a weight of another shape than the skeleton's, or integers where it has floating-point numbers.
    """
    done: dict[int, Tensor] = {}
    for path, owner in module.named_modules(prefix=prefix):
        for table in (owner._parameters, owner._buffers):
            for name, old in list(table.items()):
                if old is None or id(old) in skip:
                    continue
                if table is owner._buffers and name in owner._non_persistent_buffers_set:
                    table[name] = old.to(device)
                    continue
                if id(old) not in done:
                    done[id(old)] = _fetch(source, f"{path}.{name}".lstrip("."), old, device)
                table[name] = done[id(old)]  # type: ignore[assignment]


def _fetch(source: WeightSource, name: str, old: Tensor, device: torch.device) -> Tensor:
    value = source.tensor(name)
    if value.shape != old.shape:
        raise ValueError(f"weight {name} must have shape {tuple(old.shape)}, not {tuple(value.shape)}")
    if old.is_floating_point() and not value.dtype.is_floating_point:
        raise ValueError(f"weight {name} must be of a floating-point type, not {value.dtype}: it is encoded already")
    if value.dtype.is_floating_point:
        value = value.to(device, torch.float32)
        return nn.Parameter(value, requires_grad=False) if isinstance(old, nn.Parameter) else value
    return value.to(device)
