"""The layers of a trace in the making: names, merging of equal calls, weights and vector operations.

``Ledger`` decides what becomes a layer of its own. Equal products of one module are calls of one layer, slices of a
fused weight come together again, and vector operations of a module add up as long as the graph stays acyclic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from torch import Tensor, nn

from hwmodel.workload import LayerKind


@dataclass(eq=False)
class Record:
    """A layer in the making; ``index`` is the order of first appearance."""

    index: int
    name: str
    path: str
    kind: LayerKind | None  # None: a product of two activations whose role is not known yet
    m: int
    k: int
    n: int
    copies: int = 1  # independent products within one call
    calls: int = 1  # times the same product ran: one after another, with the same weight
    weight: int | None = None  # storage of the parameter
    weight_elements: int = 0
    weight_copies: int | None = None
    causal: bool = False
    by_hand: bool = False  # attention written out in the model's code: heads repeated, mask unknown
    elements: int = 0  # of a vector operation
    call: int = -1  # the module call that a vector operation of a leaf module belongs to
    sources: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Call:
    """A module whose forward is running."""

    number: int
    path: str
    module: nn.Module
    leaf: bool
    operations: int = 0


def storage_of(tensor: Tensor) -> int:
    """A key that all views of one storage share while it lives."""
    return int(tensor.untyped_storage()._cdata)


class Ledger:
    """Layers by name, in order of first appearance.

    Args:
        model: whose parameters name the layers.
        calls: the modules whose forward is running, outermost first; kept up to date by the caller.
    """

    def __init__(self, model: nn.Module, calls: list[Call]) -> None:
        self.records: list[Record] = []
        self.parameters: dict[int, list[str]] = {}
        self._elements: dict[int, int] = {}
        self._calls = calls
        self._names: dict[str, Record] = {}
        self._open: dict[tuple[object, ...], Record] = {}  # products and vector operations that may be added to
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.parameters.setdefault(storage_of(parameter), []).append(name)
            self._elements[storage_of(parameter)] = parameter.numel()

    @property
    def path(self) -> str:
        """Path of the innermost running module."""
        return self._calls[-1].path if self._calls else ""

    def clear(self) -> None:
        """Forgets every layer."""
        self.records, self._names, self._open = [], {}, {}

    # -- products --------------------------------------------------------------------------------------------------

    def product(
        self,
        suffix: str,
        kind: LayerKind | None,
        shape: tuple[int, int, int, int],
        sources: frozenset[int],
        *,
        causal: bool = False,
    ) -> Record:
        """A product of two activations: ``shape`` is copies, m, k, n; equal ones of a module are calls of one layer."""
        key = (self.path, kind, shape, causal)
        if key in self._open:
            record = self._open[key]
            record.calls += 1
            record.sources |= sources
            return record
        copies, m, k, n = shape
        record = self._new(f"{self.path}.{suffix}".lstrip("."), kind, (m, k, n), sources)
        record.copies, record.causal = copies, causal
        self._open[key] = record
        return record

    def name_query_key(self, record: Record) -> None:
        """A softmax follows this product of activations, so it was the query-key product."""
        if record.kind is None:
            record.kind = LayerKind.ATTENTION_QK
            self._names.pop(record.name)
            record.name = self._free_name(f"{record.path}.qk".lstrip("."))
            self._names[record.name] = record

    def linear(
        self, weight: int, shape: tuple[int, int, int, int], sources: frozenset[int], *, whole: bool = False
    ) -> Record:
        """A product with a parameter: ``shape`` is copies, m, k, n. Slices of one weight come together again.

        ``whole`` says that ``n x k`` is a whole weight even if the parameter (a stack of them) is larger.
        """
        copies, m, k, n = shape
        name = self._weight_name(weight)
        known = self._names.get(name)
        if known is not None and known.kind is LayerKind.LINEAR and known.weight == weight:
            slices = not whole and (known.copies, known.m, known.k) == (copies, m, k)
            if slices and (known.n + n) * k * copies <= self._elements[weight]:
                known.n += n  # another slice of a fused weight
                known.sources |= sources
                return known
            for record in self.records:
                if record.weight == weight and (record.copies, record.m, record.k, record.n) == (copies, m, k, n):
                    record.calls += 1
                    record.sources |= sources
                    return record
        elif known is not None and known.kind is LayerKind.EMBEDDING:
            name = f"{name}.projection"  # the table used as the output projection without a module of its own
        record = self._new(name, LayerKind.LINEAR, (m, k, n), sources)
        record.copies = copies
        self._use_weight(record, weight)
        return record

    def convolution(self, weight: int, shape: tuple[int, int, int, int], sources: frozenset[int]) -> Record:
        """A convolution as a product: ``shape`` is groups, m, k, n of each group."""
        groups, m, k, n = shape
        name = self._weight_name(weight)
        known = self._names.get(name)
        if known is not None and (known.m, known.k, known.n, known.copies) == (m, k, n, groups):
            known.calls += 1
            known.sources |= sources
            return known
        record = self._new(name, LayerKind.CONV, (m, k, n), sources)
        record.copies = groups
        self._use_weight(record, weight)
        return record

    def embedding(self, weight: int, table: Tensor, rows: int) -> Record:
        """A look-up of ``rows`` rows in ``table`` ``[entries, width]``."""
        name = self._weight_name(weight)
        known = self._names.get(name)
        if known is not None and known.kind is LayerKind.EMBEDDING:
            known.m += rows
            return known
        shape = (max(rows, 1), table.shape[0], prod(table.shape[1:]))
        record = self._new(name, LayerKind.EMBEDDING, shape, frozenset())
        self._use_weight(record, weight)
        return record

    def elements(self, weight: int) -> int:
        """Elements of a parameter."""
        return self._elements[weight]

    def is_weight(self, name: str) -> bool:
        """Whether a layer with a weight has this name."""
        record = self._names.get(name)
        return record is not None and record.weight is not None

    def _use_weight(self, record: Record, weight: int) -> None:
        record.weight, record.weight_elements = weight, self._elements.get(weight, 0)

    def _weight_name(self, weight: int) -> str:
        """The parameter's module path (and name, if that is not ``weight``), as the running modules know it."""
        running = {call.path for call in self._calls}
        names = self.parameters.get(weight, [])
        if not names:
            return self.path
        best = next((name for name in names if name.rpartition(".")[0] in running), names[0])
        owner, _, parameter = best.rpartition(".")
        return owner if parameter == "weight" and owner else best

    # -- vector operations -----------------------------------------------------------------------------------------

    def vector(self, name: str, kind: LayerKind, out: Tensor, frontier: frozenset[int], *, call: int = -1) -> Record:
        """Adds ``out``'s elements to the module's open vector record, or opens the next, to keep the graph acyclic."""
        width = out.shape[-1] if out.dim() else 1
        key = ("vector", name, kind)
        record = self._open.get(key)
        if record is not None and all(index <= record.index for index in frontier):
            if call == -1 or call != record.call:
                record.elements += out.numel()
            else:
                record.elements = max(record.elements, out.numel())
            record.sources |= frontier - {record.index}
        else:
            record = self._new(name, kind, (1, 1, width), frontier)
            record.elements = out.numel()
            self._open[key] = record
        record.call = call
        record.m = -(-record.elements // record.n)
        return record

    def own_vector(self, suffix: str, kind: LayerKind, shape: tuple[int, int], sources: frozenset[int]) -> Record:
        """A vector operation over ``shape`` elements, as a record of its own (or one more call of an equal one)."""
        m, n = shape
        key = ("own vector", self.path, suffix, m, n)
        if key in self._open:
            record = self._open[key]
            record.elements += m * n
            record.m = -(-record.elements // n)
            record.sources |= sources
            return record
        record = self._new(f"{self.path}.{suffix}".lstrip("."), kind, (m, 1, n), sources)
        record.elements = m * n
        self._open[key] = record
        return record

    # -- records ---------------------------------------------------------------------------------------------------

    def _new(self, name: str, kind: LayerKind | None, shape: tuple[int, int, int], sources: frozenset[int]) -> Record:
        m, k, n = shape
        taken = self._names.get(name)
        if taken is not None and taken.weight is None and kind in (LayerKind.LINEAR, LayerKind.CONV):
            self._names.pop(name)  # the weight keeps the module's name
            taken.name = self._free_name(f"{name}.elementwise")
            self._names[taken.name] = taken
        record = Record(len(self.records), self._free_name(name), self.path, kind, m, k, n, sources=set(sources))
        self.records.append(record)
        self._names[record.name] = record
        return record

    def _free_name(self, name: str) -> str:
        if name not in self._names:
            return name
        number = 2
        while f"{name}_{number}" in self._names:
            number += 1
        return f"{name}_{number}"


def finished_kind(record: Record) -> LayerKind:
    """The record's kind; a product of activations that no softmax joined multiplies by a state, as PV does."""
    return LayerKind.ATTENTION_PV if record.kind is None else record.kind
