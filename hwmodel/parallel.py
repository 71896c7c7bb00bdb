"""A model over several chips, each layer cut: tensor parallelism (Shoeybi et al., Megatron-LM, arXiv 1909.08053).

Structure decides how a layer is cut, not its name. A linear layer that reads a whole input and feeds attention or
another linear layer is cut by columns (outputs, whole heads); one that reads a cut input is cut by rows and gives
partial sums, which are added over all chips where they meet a whole tensor: twice in an ordinary block, once where
attention and feed-forward run side by side. Between the two, everything is cut. A linear layer whose output is
normalised over its whole width, or feeds nothing (a router), is done by every chip. Key-value heads fewer than chips
are held by several. The vocabulary of embedding and head is cut; routed experts are cut each
(``hwmodel.parallel_experts`` spreads whole ones over chips).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from hwmodel.experts import is_routed
from hwmodel.link import Link, all_reduce_s
from hwmodel.pe import WIDE_BITS
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Workload


class _Form(Enum):
    """How a chip holds the output of a layer."""

    WHOLE = "whole"
    CUT = "cut"
    PARTIAL = "partial"  # a summand of the whole


@dataclass(frozen=True)
class Collective:
    """A sum over all chips.

    Args:
        layer: whose inputs are summed.
        elements: of the tensor.
        gather: a gather instead: parts are put side by side, which moves half as much.
    """

    layer: str
    elements: int
    gather: bool = False

    def seconds(self, chips: int, link: Link) -> float:
        """Time over ``link``, 16 bits an element."""
        size_bytes = self.elements * WIDE_BITS / BYTE_BITS
        return all_reduce_s(size_bytes / 2 if self.gather else size_bytes, chips, link)


@dataclass(frozen=True)
class TensorParallel:
    """One chip's share of a workload.

    Args:
        workload: its layers, under the names of the whole model's.
        chips: how many there are.
        collectives: what is exchanged, in order.
    """

    workload: Workload
    chips: int
    collectives: tuple[Collective, ...]

    def link_s(self, link: Link) -> float:
        """Seconds of all exchanges, none of them hidden behind work."""
        return sum(collective.seconds(self.chips, link) for collective in self.collectives)


def tensor_parallel(workload: Workload, chips: int) -> TensorParallel:
    """Cut every layer of a workload over ``chips``.

    Args:
        workload: one phase of a model, with its edges.
        chips: how many; 1 leaves the workload as it is.

    Raises:
        ValueError: fewer than one chip, a workload without edges, or a size that ``chips`` does not divide.
    """
    if not isinstance(chips, int) or chips < 1:
        raise ValueError(f"tensor_parallel must be an integer of at least 1, not {chips!r}")
    if chips == 1:
        return TensorParallel(workload, 1, ())
    if not workload.edges:
        raise ValueError(f"workload {workload.model} must have edges to be cut over chips, not layers alone")
    return _Cutter(workload, chips).cut()


@dataclass(frozen=True)
class _Heads:
    """Heads of an attention: queries, keys and values; widths of a key and a value."""

    queries: int
    cached: int
    key: int
    value: int


class _Cutter:
    """One walk over the layers in order."""

    def __init__(self, workload: Workload, chips: int) -> None:
        self.workload, self.chips = workload, chips
        self.layers = {layer.name: layer for layer in workload.layers}
        self.sources: dict[str, list[str]] = {}
        self.users: dict[str, list[str]] = {}
        for producer, consumer in workload.edges:
            self.sources.setdefault(consumer, []).append(producer)
            self.users.setdefault(producer, []).append(consumer)
        tables = [layer.k for layer in workload.layers if layer.kind is LayerKind.EMBEDDING]
        self.vocabulary = max(tables, default=0)  # smaller tables (positions) are held by every chip
        self.forms: dict[str, _Form] = {}
        self.collectives: list[Collective] = []

    def cut(self) -> TensorParallel:
        layers = tuple(self._layer(layer) for layer in self.workload.layers)
        return TensorParallel(replace(self.workload, layers=layers), self.chips, tuple(self.collectives))

    def _layer(self, layer: LayerSpec) -> LayerSpec:
        made, form = self._cut(layer, self._form_of_input(layer))
        self.forms[layer.name] = form
        return made

    def _form_of_input(self, layer: LayerSpec) -> _Form:
        forms = [self.forms.get(name, _Form.WHOLE) for name in self.sources.get(layer.name, ())]
        if _Form.PARTIAL not in forms:
            return _Form.CUT if _Form.CUT in forms else _Form.WHOLE
        if layer.kind is LayerKind.ACTIVATION and all(form is _Form.PARTIAL for form in forms):
            return _Form.PARTIAL  # sums of partial sums: the exchange can wait
        partial = next(n for n in self.sources[layer.name] if self.forms.get(n) is _Form.PARTIAL)
        self.collectives.append(Collective(layer.name, self._tokens(self.layers[partial]) * self.layers[partial].n))
        for name in self.sources[layer.name]:
            if self.forms.get(name) is _Form.PARTIAL:
                self.forms[name] = _Form.WHOLE  # summed: later users find it whole
        return _Form.CUT if _Form.CUT in forms else _Form.WHOLE

    def _tokens(self, layer: LayerSpec) -> int:
        """Rows of a layer's output after routed parts are summed: those of the embedding or of the widest linear."""
        if not is_routed(layer):
            return layer.m * (layer.copies if layer.shared_weight or layer.kind is LayerKind.LINEAR else 1)
        rows = [x.m * x.copies for x in self.workload.layers if x.kind is LayerKind.LINEAR and x.shared_weight]
        return max(rows, default=layer.m * layer.copies)

    def _cut(self, layer: LayerSpec, given: _Form) -> tuple[LayerSpec, _Form]:
        if layer.kind in ATTENTION_KINDS or (layer.kind is LayerKind.SOFTMAX and given is _Form.CUT):
            return self._attention(layer), _Form.CUT
        if layer.kind is LayerKind.EMBEDDING and layer.k == self.vocabulary:
            self.collectives.append(Collective(layer.name, layer.m * layer.copies * layer.n))
            return replace(layer, k=ceil_div(layer.k, self.chips)), _Form.WHOLE
        if layer.kind is LayerKind.LINEAR:
            return self._linear(layer, given)
        if layer.kind is LayerKind.CONV and given is _Form.CUT:
            raise NotImplementedError(f"tensor_parallel must meet linear layers, not the convolution {layer.name}")
        if given is not _Form.CUT:
            return layer, given
        if layer.n % self.chips == 0 and self._wide(layer):
            return replace(layer, n=layer.n // self.chips), given
        return replace(layer, m=ceil_div(layer.m, self.chips)), given

    def _wide(self, layer: LayerSpec) -> bool:
        """Whether a vector operation's rows are as wide as a linear layer that it follows (not a head)."""
        return any(layer.n == self.layers[name].n for name in self.sources.get(layer.name, ())) or any(
            self.layers[name].kind is LayerKind.LINEAR and self.layers[name].k == layer.n
            for name in self.users.get(layer.name, ())
        )

    def _linear(self, layer: LayerSpec, given: _Form) -> tuple[LayerSpec, _Form]:
        if given is _Form.CUT:
            return replace(layer, k=self._share(layer.k, "in_features", layer)), _Form.PARTIAL
        if layer.head:  # vocabularies are padded; the last token of each sequence is wanted
            self.collectives.append(Collective(layer.name, self.workload.batch * layer.n, gather=True))
            return replace(layer, n=ceil_div(layer.n, self.chips)), _Form.WHOLE
        ends = self._ends(layer)
        if not ends or any(end.kind is LayerKind.NORM for end in ends):
            return layer, _Form.WHOLE
        if layer.copies > 1 and not layer.shared_weight and not is_routed(layer):  # a weight of each head
            return replace(layer, copies=self._share(layer.copies, "heads", layer)), _Form.CUT
        for end in ends:
            if end.kind in ATTENTION_KINDS and not end.state:
                return replace(layer, n=self._share_of_heads(layer, end)), _Form.CUT
        return replace(layer, n=self._share(layer.n, "out_features", layer)), _Form.CUT

    def _ends(self, layer: LayerSpec) -> list[LayerSpec]:
        """What the output of a linear layer reaches through vector operations on parts of a row."""
        ends: list[LayerSpec] = []
        seen: set[str] = set()
        waiting = list(self.users.get(layer.name, ()))
        while waiting:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            user = self.layers[name]
            per_head = user.kind is LayerKind.NORM and user.n < layer.n and user.m > layer.m * layer.copies
            if user.kind is LayerKind.ACTIVATION or per_head:
                waiting += self.users.get(name, ())
            else:
                ends.append(user)
        return ends

    def _share(self, size: int, what: str, layer: LayerSpec) -> int:
        if size % self.chips:
            raise ValueError(f"tensor_parallel must divide the {size} {what} of layer {layer.name}, not {self.chips}")
        return size // self.chips

    def _heads_of(self, product: LayerSpec) -> _Heads:
        """Heads of the attention that ``product`` belongs to."""
        scores, values = self._pair(product)
        batch = self.workload.batch
        cached = max(scores.copies // batch, 1)
        output = next((self.layers[u] for u in self.users.get(values.name, ()) if self.layers[u].kind in _GEMM), None)
        queries = output.k // values.n if output is not None and output.k % values.n == 0 else cached
        if values.weight_of is not None:  # absorbed latent: one row for each head
            queries = scores.m
        return _Heads(queries, cached, scores.k, values.n)

    def _pair(self, product: LayerSpec) -> tuple[LayerSpec, LayerSpec]:
        """The two products of an attention, from either of them, through the softmax between."""
        forward = product.kind is LayerKind.ATTENTION_QK
        neighbours, kind = (self.users, LayerKind.ATTENTION_PV) if forward else (self.sources, LayerKind.ATTENTION_QK)
        waiting, seen = list(neighbours.get(product.name, ())), set()
        while waiting:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            if self.layers[name].kind is kind:
                other = self.layers[name]
                return (product, other) if forward else (other, product)
            if self.layers[name].kind in (LayerKind.SOFTMAX, LayerKind.ACTIVATION):
                waiting += neighbours.get(name, ())
        raise NotImplementedError(f"tensor_parallel must find both products of attention {product.name}")

    def _share_of_heads(self, layer: LayerSpec, product: LayerSpec) -> int:
        """Outputs of a projection to heads that one chip keeps."""
        heads = self._heads_of(product)
        queries, cached = self._head_shares(heads, product)
        if layer.n == heads.queries * heads.key:
            return queries * heads.key
        if layer.n in (heads.cached * heads.key, heads.cached * heads.value):
            return layer.n // heads.cached * cached
        both = heads.key + heads.value
        if layer.n == heads.queries * heads.key + heads.cached * both:
            return queries * heads.key + cached * both
        if layer.n == heads.cached * both:
            return cached * both
        return self._share(layer.n, "out_features", layer)

    def _head_shares(self, heads: _Heads, product: LayerSpec) -> tuple[int, int]:
        """Query heads and key-value heads of one chip."""
        if heads.queries % self.chips:
            raise ValueError(
                f"tensor_parallel must divide the {heads.queries} heads of {product.name} in {self.workload.model}, "
                f"not {self.chips}"
            )
        if heads.cached % self.chips and self.chips % heads.cached:
            raise ValueError(
                f"tensor_parallel must divide the {heads.cached} key-value heads of {product.name} in "
                f"{self.workload.model} or be a multiple of them, not {self.chips}"
            )
        return heads.queries // self.chips, max(heads.cached // self.chips, 1)

    def _attention(self, layer: LayerSpec) -> LayerSpec:
        if layer.state:
            raise NotImplementedError(
                f"tensor_parallel must meet attention with a KV cache, not the state {layer.name}"
            )
        if layer.kind is LayerKind.SOFTMAX:
            scores = next((n for n in self.sources[layer.name] if self.layers[n].kind is LayerKind.ATTENTION_QK), None)
            if scores is None or self.layers[scores].copies != layer.copies:
                return replace(layer, m=ceil_div(layer.m, self.chips))
            heads = self._heads_of(self.layers[scores])
        else:
            heads = self._heads_of(layer)
            self._head_shares(heads, layer)
        if heads.cached % self.chips == 0:
            return replace(layer, copies=layer.copies // self.chips)
        groups = self.chips // heads.cached  # chips that hold the same key-value head share its queries
        return replace(layer, copies=layer.copies // heads.cached, m=ceil_div(layer.m, groups))


_GEMM = frozenset({LayerKind.LINEAR})
