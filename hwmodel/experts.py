"""Experts that a batch touches: which weights of a mixture-of-experts layer are read.

A token that chooses ``top_k`` of ``experts`` without repetition misses a given one with probability
C(E - 1, k) / C(E, k) = 1 - k / E, so ``t`` independent tokens with even routing touch ``E (1 - (1 - k / E)^t)`` of them
on average. With uneven routing, expert ``e`` that a token chooses with probability ``p_e`` (their sum is ``k``) is
touched with probability ``1 - (1 - p_e)^t``; that mean is never larger, because the sum is concave in the ``p_e``.
Tokens of one text choose alike, which lowers it further and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwmodel.units import ceil_div
from hwmodel.workload import LayerKind, LayerSpec, Workload


def mean_distinct_experts(experts: int, top_k: int, tokens: int) -> float:
    """Mean number of distinct experts that ``tokens`` tokens touch under even routing.

    >>> mean_distinct_experts(8, 2, 1), mean_distinct_experts(8, 2, 4)
    (2.0, 5.46875)

    Raises:
        ValueError: ``top_k`` outside 1 to ``experts``, or negative ``tokens``.
    """
    if not 1 <= top_k <= experts:
        raise ValueError(f"top_k must be 1 to the {experts} experts, not {top_k!r}")
    if tokens < 0:
        raise ValueError(f"tokens must be at least 0, not {tokens!r}")
    return experts * (1 - (1 - top_k / experts) ** tokens)


def mean_distinct_experts_of(chosen: Sequence[float], tokens: int) -> float:
    """Mean number of distinct experts that ``tokens`` tokens touch under a given routing.

    Args:
        chosen: for each expert, the probability that a token chooses it (a router's counts over its tokens).
        tokens: independent tokens.

    Raises:
        ValueError: a probability outside 0 to 1, or negative ``tokens``.
    """
    if tokens < 0:
        raise ValueError(f"tokens must be at least 0, not {tokens!r}")
    for share in chosen:
        if not 0 <= share <= 1:
            raise ValueError(f"chosen must be probabilities from 0 to 1, not {share!r}")
    return sum(1 - (1 - share) ** tokens for share in chosen)


def expected_experts(experts: int, top_k: int, tokens: int) -> int:
    """``mean_distinct_experts`` as a number of products: rounded, at least 1; ``top_k`` is cut to ``experts``.

    >>> expected_experts(8, 2, 1), expected_experts(8, 2, 4), expected_experts(8, 2, 256)
    (2, 5, 8)
    """
    return max(1, round(mean_distinct_experts(experts, min(top_k, experts), tokens)))


def is_routed(spec: LayerSpec) -> bool:
    """Whether a layer stands for routed experts: more weights stored than a pass needs to touch."""
    return spec.kind is LayerKind.LINEAR and spec.weight_copies is not None


def top_k_of(spec: LayerSpec, tokens: int) -> int:
    """Experts chosen for each token, told from a layer that was traced with ``tokens`` tokens.

    The trace sets ``copies = expected_experts(E, k, tokens)`` and ``m = ceil(tokens * k / copies)``; the smallest ``k``
    that gives both is returned.

    Raises:
        ValueError: not a routed layer, or no ``k`` gives its shape.
    """
    if not is_routed(spec) or spec.weight_copies is None:
        raise ValueError(f"layer {spec.name} must be one of routed experts to have a top_k")
    for top_k in range(1, spec.weight_copies + 1):
        copies = expected_experts(spec.weight_copies, top_k, tokens)
        if copies == spec.copies and ceil_div(tokens * top_k, copies) == spec.m:
            return top_k
    raise ValueError(
        f"layer {spec.name} must have the shape of {tokens} routed tokens, not m {spec.m} and copies {spec.copies}"
    )


def route(spec: LayerSpec, top_k: int, tokens: int, chosen: Sequence[float] | None = None) -> LayerSpec:
    """A routed layer for another number of tokens.

    Args:
        spec: the layer, as traced.
        top_k: experts chosen for each token.
        tokens: tokens of the batch.
        chosen: as in ``mean_distinct_experts_of``; ``None`` for even routing.

    Raises:
        ValueError: ``chosen`` has not one probability for each expert.
    """
    experts = spec.weight_copies or spec.copies
    if chosen is None:
        copies = expected_experts(experts, top_k, tokens)
    else:
        if len(chosen) != experts:
            raise ValueError(f"chosen must have one probability for each of {experts} experts, not {len(chosen)}")
        copies = max(1, round(mean_distinct_experts_of(chosen, tokens)))
    return replace(spec, m=ceil_div(tokens * top_k, copies), copies=copies)


def route_batch(workload: Workload, traced: int, tokens: int, chosen: Sequence[float] | None = None) -> Workload:
    """``workload`` with its routed layers set for another number of tokens; every other layer stays.

    Args:
        workload: as traced.
        traced: tokens it was traced with (batch times context of a prompt, batch of a decode step).
        tokens: tokens of the batch.
        chosen: as in ``route``, the same for every layer.
    """
    layers = tuple(
        route(layer, top_k_of(layer, traced), tokens, chosen) if is_routed(layer) else layer
        for layer in workload.layers
    )
    return replace(workload, layers=layers)
