"""Watches one forward pass on meta tensors and writes down what it computes, with the dataflow between the parts.

``Recorder`` is a ``TorchDispatchMode``: it sees every ATen operation after Python-level sugar is gone (``x @ w.T``,
``F.linear`` and ``einsum`` all arrive as ``mm``/``bmm``), so nothing here depends on how a model is written. A product
is a LINEAR layer when one operand is a parameter (or made of parameters alone) and the other is an activation, and an
attention product when both are activations. What feeds what follows from the tensors' storages, which views share.

Left out: backward passes, data-dependent control flow (``LoopTooLong`` and ``trace_experts`` take care of the usual
cases), and the cost of moving data.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from codesign.trace_ledger import Call, Ledger, Record, storage_of
from codesign.trace_meta import MetaMemory
from codesign.trace_operations import (
    GEMM_OPERATIONS,
    NORM_OPERATIONS,
    SOFTMAX_OPERATIONS,
    gemm_shape,
    is_arithmetic,
    scalar_without_data,
    tensors_in,
    whole_index,
)
from hwmodel.workload import LayerKind

# operations one call of one module may dispatch itself: a plain block needs well under 200, a loop over tokens more
MAX_OPERATIONS_PER_CALL = 3000


class LoopTooLong(Exception):
    """A module's forward runs a Python loop over tokens: trace few tokens and extrapolate."""


class Recorder(TorchDispatchMode):
    """Records the layers of the forward passes run inside its ``with`` block.

    Args:
        model: on the meta device.
        inputs: floating-point inputs (pixels, audio features), which count as activations.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.model = model
        self._calls: list[Call] = []
        self.ledger = Ledger(model, self._calls)
        # storage -> nearest layers upstream; a storage that is absent holds no activation
        self._frontier: dict[int, frozenset[int]] = {storage_of(t): frozenset() for t in inputs}
        # storage -> products and softmaxes upstream with no other product between
        self._roles: dict[int, frozenset[int]] = {}
        # storage -> the parameter it was computed from, and from no activation
        self._origin: dict[int, int] = {key: key for key in self.ledger.parameters}
        # storage -> the parameter whose rows it holds, looked up by activations (the words of chosen clusters)
        self._looked_up: dict[int, int] = {}
        # storage -> elements it would have if nothing in it were repeated, where something is
        self._distinct: dict[int, int] = {}
        self._call_count = 0
        self._hooks: list[Any] = []
        self._keep: list[Any] = []
        self._compute = MetaMemory()

    # -- the module stack ------------------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        for path, module in self.model.named_modules():
            leaf = next(module.children(), None) is None
            self._hooks.append(module.register_forward_pre_hook(self._enter_hook(path, leaf)))
            self._hooks.append(module.register_forward_hook(self._leave))
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _enter_hook(self, path: str, leaf: bool) -> Any:
        def enter(module: nn.Module, _args: object) -> None:
            self._call_count += 1
            self._calls.append(Call(self._call_count, path, module, leaf))

        return enter

    def _leave(self, module: nn.Module, _args: object, _output: object) -> None:
        self._calls.pop()

    @property
    def where(self) -> str:
        """The innermost running module, for messages: path and class."""
        if not self._calls:
            return type(self.model).__name__
        call = self._calls[-1]
        return f"{call.path or 'the model'} ({type(call.module).__name__})"

    @property
    def records(self) -> list[Record]:
        """The layers so far."""
        return self.ledger.records

    def restart(self) -> None:
        """Forget the layers so far; what they computed stays known as activations (the cache of a decode step)."""
        self.ledger.clear()
        self._frontier = {key: frozenset() for key in self._frontier}
        self._roles = {}
        self._calls.clear()

    # -- operations ------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operation = func.overloadpacket.__name__
        tensors = list(tensors_in(args)) + list(tensors_in(kwargs.values()))
        if operation in ("_local_scalar_dense", "is_nonzero", "equal") and tensors and tensors[0].is_meta:
            return scalar_without_data(tensors[0])
        if (
            operation == "_to_copy"
            and tensors[0].is_meta
            and torch.device(kwargs.get("device") or "meta").type == "cpu"
        ):
            return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype, device="cpu")
        if operation == "nonzero" and tensors[0].is_meta:  # how many is not known: all of them
            return torch.empty(tensors[0].numel(), tensors[0].dim(), dtype=torch.long, device="meta")
        if operation in ("index", "index_put", "index_put_"):
            args = (args[0], [whole_index(index) for index in args[1]], *args[2:])
        out = self._compute(func, args, kwargs)
        if self._calls:
            self._calls[-1].operations += 1
            if self._calls[-1].operations > MAX_OPERATIONS_PER_CALL:
                raise LoopTooLong(self.where)
        outputs = list(tensors_in((out,)))
        if not outputs:
            return out
        self._keep.extend(t.untyped_storage() for t in outputs)  # a key must not be given to a second storage
        if operation in GEMM_OPERATIONS:
            first = GEMM_OPERATIONS[operation]
            record = self._gemm(tensors[first], tensors[first + 1])
            if record is not None:
                self._mark(outputs, record, products=frozenset({record.index}))
                return out
        elif operation in ("convolution", "_convolution"):
            self._mark(outputs, self._convolution(args, outputs[0]), products=frozenset())
            return out
        elif operation == "embedding" and storage_of(tensors[0]) in self._origin:
            self._mark(
                outputs,
                self.ledger.embedding(self._origin[storage_of(tensors[0])], tensors[0], tensors[1].numel()),
                products=frozenset(),
            )
            return out
        self._other(func, operation, tensors, outputs)
        return out

    def _other(self, func: Any, operation: str, tensors: list[Tensor], outputs: list[Tensor]) -> None:
        """Vector operations and data movement."""
        keys = [storage_of(t) for t in tensors]
        active = [key for key in keys if key in self._frontier]
        if not active:
            origin = next((self._origin[key] for key in keys if key in self._origin), None)
            for output in outputs:
                key = storage_of(output)
                if key not in self.ledger.parameters:
                    self._frontier.pop(key, None)
                    self._origin.pop(key, None)
                    if origin is not None:
                        self._origin[key] = origin
            return
        frontier = frozenset().union(*(self._frontier[key] for key in active))
        roles = frozenset().union(*(self._roles.get(key, frozenset()) for key in active))
        main = outputs[0]
        if operation in SOFTMAX_OPERATIONS:
            scores = [r for r in (self.records[i] for i in roles) if r.kind in (None, LayerKind.ATTENTION_QK)]
            for product in scores:
                self.ledger.name_query_key(product)
            kind = LayerKind.SOFTMAX if scores else LayerKind.ACTIVATION  # a router's is not attention's
            record = self.ledger.vector(f"{self.ledger.path}.softmax".lstrip("."), kind, main, frontier)
            record.by_hand = True
            self._mark(outputs, record, products=frozenset({record.index}))
            return
        if main.is_floating_point() and main.numel() and is_arithmetic(func, operation):
            self._mark(outputs, self._elementwise(operation, main, frontier), products=roles)
            return
        if operation == "index" and keys[0] in self._origin and main.dim() > 1:
            self._looked_up[storage_of(main)] = self._origin[keys[0]]
        distinct = sum(
            self._distinct_elements(t) for t, key in zip(tensors, keys, strict=True) if key in self._frontier
        )
        for output in outputs:
            key = storage_of(output)
            self._set(key, frontier, roles)
            if key not in keys and distinct < output.numel():
                self._distinct[key] = distinct

    def _distinct_elements(self, tensor: Tensor) -> int:
        """Elements of a tensor that are not repetitions of others (key and value heads repeated for their group)."""
        shown = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
        return min(shown, self._distinct.get(storage_of(tensor), shown))

    def _mark(self, outputs: list[Tensor], record: Record, *, products: frozenset[int]) -> None:
        for output in outputs:
            self._set(storage_of(output), frozenset({record.index}), products)

    def _set(self, key: int, frontier: frozenset[int], roles: frozenset[int]) -> None:
        if key in self.ledger.parameters:  # an in-place update of a parameter (a state) leaves it a parameter
            return
        self._origin.pop(key, None)
        self._frontier[key] = frontier
        self._roles[key] = roles

    def sources(self, *tensors: Tensor) -> frozenset[int]:
        """Nearest recorded layers upstream of ``tensors``."""
        return frozenset().union(*(self._frontier.get(storage_of(t), frozenset()) for t in tensors))

    def active(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` was computed from activations."""
        return storage_of(tensor) in self._frontier

    # -- products --------------------------------------------------------------------------------------------------

    def _gemm(self, a: Tensor, b: Tensor) -> Record | None:
        copies, m, k, n = gemm_shape(a, b)
        a_key, b_key = storage_of(a), storage_of(b)
        a_active, b_active = a_key in self._frontier, b_key in self._frontier
        if b_key in self._origin and not b_active:
            return self._linear(self._origin[b_key], (copies, m, k, n), self.sources(a))
        if a_key in self._origin and b_active:  # w @ x: the same layer with rows and columns exchanged
            return self._linear(self._origin[a_key], (copies, n, k, m), self.sources(b))
        if b_key in self._looked_up:
            return self._looked_up_rows(self._looked_up[b_key], (copies, m, k, n), self.sources(a, b))
        after_softmax = any(self.records[i].kind is LayerKind.SOFTMAX for i in self._roles.get(a_key, frozenset()))
        if not (a_active and b_active) or (k == 1 and not after_softmax):  # tables (rotary angles), outer products
            return None
        kept = max(1, self._distinct_elements(b) // (k * n))
        if kept < copies and copies % kept == 0:  # one key for a group of heads
            copies, m = kept, m * copies // kept
        kind = LayerKind.ATTENTION_PV if after_softmax else None
        record = self.ledger.product("pv" if after_softmax else "product", kind, (copies, m, k, n), self.sources(a, b))
        record.by_hand = True
        return record

    def _linear(self, weight: int, shape: tuple[int, int, int, int], sources: frozenset[int]) -> Record:
        copies, m, k, n = shape
        distinct = max(1, min(copies, self.ledger.elements(weight) // (k * n)))  # weights that the copies differ in
        return self.ledger.linear(weight, (distinct, m * copies // distinct, k, n), sources)

    def _looked_up_rows(self, weight: int, shape: tuple[int, int, int, int], sources: frozenset[int]) -> Record:
        """A product with rows of a table, other ones in every copy: the table is stored, the rows are read."""
        copies, m, k, n = shape
        stored = max(1, self.ledger.elements(weight) // (k * n))
        read = min(copies, stored)
        record = self.ledger.linear(weight, (read, -(-copies * m // read), k, n), sources, whole=True)
        record.weight_copies = stored
        return record

    def _convolution(self, args: Any, out: Tensor) -> Record:
        x, weight, transposed, groups = args[0], args[1], bool(args[6]), int(args[8])
        kernel = prod(weight.shape[2:])
        if transposed:  # weight [in, out/groups, *kernel]
            m, k, n = x.shape[0] * prod(x.shape[2:]), weight.shape[0] // groups, weight.shape[1] * kernel
        else:  # weight [out, in/groups, *kernel]
            m, k, n = out.shape[0] * prod(out.shape[2:]), weight.shape[1] * kernel, weight.shape[0] // groups
        key = self._origin.get(storage_of(weight), storage_of(weight))
        return self.ledger.convolution(key, (groups, m, k, n), self.sources(x))

    # -- vector operations -----------------------------------------------------------------------------------------

    def _elementwise(self, operation: str, out: Tensor, frontier: frozenset[int]) -> Record:
        call = self._calls[-1] if self._calls else None
        if call is None or not call.leaf or self.ledger.is_weight(call.path):
            return self.ledger.vector(
                f"{self.ledger.path}.elementwise".lstrip("."), LayerKind.ACTIVATION, out, frontier
            )
        record = self.ledger.vector(call.path or "activation", LayerKind.ACTIVATION, out, frontier, call=call.number)
        if operation in NORM_OPERATIONS:
            record.kind = LayerKind.NORM
        return record

    def attend(self, output: Tensor, record: Record) -> Tensor:
        """Marks ``output`` as what ``record`` computed."""
        self._mark([output], record, products=frozenset())
        return output
