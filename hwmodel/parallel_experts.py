"""Routed experts spread over chips (expert parallelism): the busiest chip's share, and the all-to-all around it.

Each of ``N`` chips holds ``E / N`` whole experts and runs everything else for tokens of its own (data parallelism;
Lepikhin et al., GShard, arXiv 2006.16668; DeepSeek-AI, DeepSeek-V3, arXiv 2412.19437, section 3.4). With even,
independent routing of all ``T`` tokens to ``k`` experts each,

    load    of a chip, in (token, expert) pairs: mean T k / N; a token's choices on it are hypergeometric, of variance
            k (1/N) (1 - 1/N) (E - k) / (E - 1). The chip with most sets the time: loads are taken for normal with a
            fixed sum, so that its mean is T k / N + sd sqrt(N / (N - 1)) e(N), e(N) the expected maximum of N standard
            normal variables
    experts that the busiest chip reads: as many tokens as its load stands for touch them (``hwmodel.experts``)
    chips   that a token goes to: N (1 - C(E - E/N, k) / C(E, k)); a token is sent once to each of them, and one sum
            comes back from each

Sends are ``hwmodel.link.all_to_all_s``, of the busiest chip's tokens. Left out: experts held twice, routing limited to
groups of chips, uneven routers (``hwmodel.experts.route`` has them for one chip), exchanges hidden behind work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from hwmodel.experts import is_routed, mean_distinct_experts, top_k_of
from hwmodel.link import Link, all_to_all_s
from hwmodel.pe import WIDE_BITS
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload


@dataclass(frozen=True)
class Exchange:
    """Tokens of a chip sent to the chips of their experts, or sums sent back.

    Args:
        layer: routed layer before or after it.
        elements: that the busiest chip receives (or sends back), its own tokens' included.
        bits: of an element.
    """

    layer: str
    elements: float
    bits: float = WIDE_BITS

    def seconds(self, chips: int, link: Link) -> float:
        """Time over ``link``."""
        return all_to_all_s(self.elements * self.bits / BYTE_BITS, chips, link)


@dataclass(frozen=True)
class ExpertParallel:
    """The busiest chip's share of a workload.

    Args:
        workload: its layers, under the names of the whole model's.
        chips: how many there are.
        exchanges: in order, two around each set of experts.
    """

    workload: Workload
    chips: int
    exchanges: tuple[Exchange, ...]

    def link_s(self, link: Link) -> float:
        """Seconds of all exchanges, none of them hidden behind work."""
        return sum(exchange.seconds(self.chips, link) for exchange in self.exchanges)


def expert_parallel(workload: Workload, chips: int, *, dispatch_bits: float = WIDE_BITS) -> ExpertParallel:
    """Spread the experts of a workload over ``chips``, each of which has as many tokens as the workload.

    Args:
        workload: one chip's tokens, one phase, with edges.
        chips: how many; 1 leaves the workload as it is.
        dispatch_bits: of a number sent to an expert; sums come back in 16 bits.

    Raises:
        ValueError: fewer than one chip, no routed experts, or experts that ``chips`` does not divide.
    """
    if not isinstance(chips, int) or chips < 1:
        raise ValueError(f"expert_parallel must be an integer of at least 1, not {chips!r}")
    if chips == 1:
        return ExpertParallel(workload, 1, ())
    own = workload.batch * (workload.context if workload.phase is Phase.PREFILL else 1)
    layers, exchanges = [], []
    ends = ends_of_experts(workload)
    for layer in workload.layers:
        if not is_routed(layer):
            layers.append(layer)
            continue
        top_k = top_k_of(layer, own)
        layers.append(spread(layer, top_k, own, chips))
        exchanges += ends.exchanges(layer, top_k, own, chips, dispatch_bits)
    return ExpertParallel(replace(workload, layers=tuple(layers)), chips, tuple(exchanges))


@dataclass(frozen=True)
class ExpertEnds:
    """Where sets of experts begin and end.

    Args:
        first: routed layers that one begins with (one of those that read the same).
        last: that one ends with.
    """

    first: frozenset[str]
    last: frozenset[str]

    def exchanges(
        self, layer: LayerSpec, top_k: int, own: int, chips: int, dispatch_bits: float = WIDE_BITS
    ) -> list[Exchange]:
        """What is exchanged before and after a routed layer; arguments as in ``spread`` and ``expert_parallel``."""
        experts = layer.weight_copies or layer.copies
        arriving = own * chips_of_token(experts, top_k, chips) * imbalance(experts, top_k, own * chips, chips)
        made = [Exchange(layer.name, arriving * layer.k, dispatch_bits)] if layer.name in self.first else []
        return [*made, Exchange(layer.name, arriving * layer.n)] if layer.name in self.last else made


def ends_of_experts(workload: Workload) -> ExpertEnds:
    """Where the sets of experts of a workload begin and end.

    Raises:
        ValueError: no routed experts.
    """
    routed = {layer.name for layer in workload.layers if is_routed(layer)}
    if not routed:
        raise ValueError(f"workload {workload.model} must have routed experts to spread over chips, not none")
    sources: dict[str, list[str]] = {}
    users: dict[str, list[str]] = {}
    for producer, consumer in workload.edges:
        sources.setdefault(consumer, []).append(producer)
        users.setdefault(producer, []).append(consumer)
    vector = {layer.name for layer in workload.layers if layer.kind is LayerKind.ACTIVATION}

    def reaches(name: str, along: dict[str, list[str]]) -> bool:
        """Whether a routed layer comes next, but for vector operations."""
        return any(n in routed or (n in vector and reaches(n, along)) for n in along.get(name, ()))

    first: dict[tuple[str, ...], str] = {}
    for layer in workload.layers:
        if layer.name in routed and not reaches(layer.name, sources):
            first.setdefault(tuple(sorted(sources.get(layer.name, [layer.name]))), layer.name)
    last = frozenset(name for name in routed if not reaches(name, users))
    return ExpertEnds(frozenset(first.values()), last)


def spread(spec: LayerSpec, top_k: int, own: int, chips: int) -> LayerSpec:
    """The busiest chip's share of a routed layer.

    Args:
        spec: the layer.
        top_k: experts chosen for each token.
        own: tokens of each chip.
        chips: how many.

    Raises:
        ValueError: experts that ``chips`` does not divide.
    """
    experts = spec.weight_copies or spec.copies
    if experts % chips:
        raise ValueError(f"expert_parallel must divide the {experts} experts of layer {spec.name}, not {chips}")
    load = busiest_load(experts, top_k, own * chips, chips)
    # the tokens that would give each chip this load on average
    tokens = max(1, round(load * chips / top_k))
    copies = max(1, round(mean_distinct_experts(experts, top_k, tokens) / chips))
    return replace(spec, m=ceil_div(math.ceil(load), copies), copies=copies, weight_copies=experts // chips)


def busiest_load(experts: int, top_k: int, tokens: int, chips: int) -> float:
    """Expected (token, expert) pairs of the chip with most of them; at most one of each token and expert of a chip.

    >>> busiest_load(8, 2, 4, 1), round(busiest_load(256, 8, 1024, 8), 1)
    (8.0, 1068.9)
    """
    mean = tokens * top_k / chips
    if chips == 1 or experts == top_k:
        return mean
    variance = tokens * top_k / chips * (1 - 1 / chips) * (experts - top_k) / (experts - 1)
    most = tokens * min(top_k, experts // chips)
    return min(mean + math.sqrt(variance * chips / (chips - 1)) * expected_maximum(chips), most)


def imbalance(experts: int, top_k: int, tokens: int, chips: int) -> float:
    """Load of the busiest chip over the mean."""
    return busiest_load(experts, top_k, tokens, chips) * chips / (tokens * top_k)


def chips_of_token(experts: int, top_k: int, chips: int) -> float:
    """Mean number of chips that hold the experts of a token.

    >>> chips_of_token(8, 1, 4), chips_of_token(8, 8, 4)
    (1.0, 4.0)
    """
    elsewhere = math.comb(experts - experts // chips, top_k) / math.comb(experts, top_k)
    return chips * (1 - elsewhere)


@cache
def expected_maximum(count: int) -> float:
    """Expected maximum of so many independent standard normal variables, to 1e-6: the integral of [x > 0] - F(x)**n.

    >>> round(expected_maximum(2), 5)  # 1 / sqrt(pi)
    0.56419
    """
    x = np.linspace(-9.0, 9.0, 18001)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()]) ** count
    return float(x[-1] - np.trapezoid(below, x))
