"""Where a model keeps the weights that can be quantized: one slot for each matrix, by structure.

A slot's name is the path of its module (``model.layers.0.self_attn.q_proj``), the join key of the project. Three
structures are known: ``nn.Linear``; transformers' ``Conv1D`` (GPT-2), which keeps its weight transposed; and fused
experts, one parameter ``[experts, n, k]`` (or ``[experts, k, n]`` where the module says ``is_transposed``), whose slot
is the tall matrix of all experts' rows ``[experts * n, k]`` under the parameter's own path.

Routers, norms, convolutions and position embeddings are no slots. The input embedding is one only where it is asked
for (``embedding_slot``): its rows are looked up, not multiplied.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class WeightSlot:
    """One quantizable matrix inside a module.

    Args:
        name: the layer name.
        module: the module that owns the parameter.
        parameter: name of the parameter in the module.
        transposed: the parameter is kept as ``[..., k, n]``.
        experts: matrices fused in the parameter; 0 for an ordinary one.
    """

    name: str
    module: nn.Module
    parameter: str = "weight"
    transposed: bool = False
    experts: int = 0

    @property
    def stored(self) -> Tensor:
        """The parameter as the module has it."""
        return getattr(self.module, self.parameter)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k): out_features (of all experts) and in_features."""
        *_, n, k = self.stored.shape
        if self.transposed:
            n, k = k, n
        return max(self.experts, 1) * n, k

    @property
    def bias(self) -> Tensor | None:
        """The bias of an ordinary slot, ``[n]``."""
        return None if self.experts else getattr(self.module, "bias", None)

    def matrix_of(self, stored: Tensor) -> Tensor:
        """A tensor laid out as the parameter, as ``[n, k]``."""
        return (stored.transpose(-1, -2) if self.transposed else stored).reshape(self.shape)

    def matrix(self) -> Tensor:
        """The weight ``[n, k]`` (a view where the layout allows it)."""
        return self.matrix_of(self.stored.detach())

    @property
    def parameter_name(self) -> str:
        """The parameter's name in the model's state dict."""
        return self.name if self.experts else f"{self.name}.{self.parameter}"

    def set_matrix(self, weight: Tensor) -> None:
        """Put ``weight`` ``[n, k]`` in the parameter's place."""
        *_, rows, columns = self.stored.shape
        if self.transposed:
            rows, columns = columns, rows
        value = weight.reshape(-1, rows, columns) if self.experts else weight
        value = value.transpose(-1, -2).contiguous() if self.transposed else value
        setattr(self.module, self.parameter, nn.Parameter(value, requires_grad=False))


def weight_slots(module: nn.Module, prefix: str = "") -> Iterator[WeightSlot]:
    """Every slot inside ``module``, in order of the module tree; names start with ``prefix``."""
    for path, inner in module.named_modules(prefix=prefix):
        if isinstance(inner, nn.Linear):
            yield WeightSlot(path, inner)
        elif _is_conv1d(inner):
            yield WeightSlot(path, inner, transposed=True)
        else:
            for name, parameter in inner.named_parameters(recurse=False):
                if _is_fused_experts(inner, name, parameter):
                    transposed = bool(getattr(inner, "is_transposed", False))
                    yield WeightSlot(f"{path}.{name}".lstrip("."), inner, name, transposed, parameter.shape[0])


def embedding_slot(model: nn.Module) -> WeightSlot | None:
    """The input embedding ``[vocabulary, width]`` of a transformers model; ``None`` where there is none."""
    ask = getattr(model, "get_input_embeddings", None)
    try:
        embedding = ask() if ask is not None else None
    except NotImplementedError:  # transformers' way of saying that a model of images or sound has none
        return None
    if not isinstance(embedding, nn.Embedding):
        return None
    return next(WeightSlot(path, m) for path, m in model.named_modules() if m is embedding)


def all_slots(model: nn.Module) -> list[WeightSlot]:
    """Every slot of a whole model, the input embedding's first."""
    first = embedding_slot(model)
    return [*([] if first is None else [first]), *weight_slots(model)]


def slot_by_name(module: nn.Module, name: str, prefix: str = "") -> WeightSlot:
    """The slot called ``name``.

    Raises:
        ValueError: there is none.
    """
    for slot in weight_slots(module, prefix):
        if slot.name == name:
            return slot
    raise ValueError(f"layer must be a linear layer of the model, not {name!r}")


def _is_conv1d(module: nn.Module) -> bool:
    """Transformers' ``Conv1D``; where transformers is not loaded there is none."""
    loaded = sys.modules.get("transformers.pytorch_utils")
    return loaded is not None and isinstance(module, loaded.Conv1D)


def _is_fused_experts(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """A floating 3-D parameter of a module that calls itself a set of experts by having ``num_experts``."""
    return (
        parameter.dim() == 3
        and parameter.is_floating_point()
        and getattr(module, "num_experts", None) == parameter.shape[0]
        and not name.endswith("bias")
    )
