"""Distinct experts by enumeration, by simulation and back from a traced shape."""

from itertools import combinations, product

import numpy as np
import pytest

from hwmodel.experts import (
    expected_experts,
    mean_distinct_experts,
    mean_distinct_experts_of,
    route,
    route_batch,
    top_k_of,
)
from hwmodel.workload import LayerKind, LayerSpec, Phase


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(4, 2, 1), (4, 2, 2), (5, 2, 3), (4, 1, 4), (3, 3, 2)])
def test_mean_by_enumeration(experts, top_k, tokens):
    choices = list(combinations(range(experts), top_k))
    counts = [len(set().union(*batch)) for batch in product(choices, repeat=tokens)]
    assert mean_distinct_experts(experts, top_k, tokens) == pytest.approx(sum(counts) / len(counts), rel=1e-12)


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(8, 2, 4), (256, 8, 32), (64, 6, 16)])
def test_mean_by_simulation(experts, top_k, tokens):
    generator = np.random.default_rng(7)
    trials = 2000
    order = generator.random((trials, tokens, experts)).argsort(axis=2)[:, :, :top_k]
    touched = np.zeros((trials, experts), dtype=bool)
    np.put_along_axis(touched, order.reshape(trials, -1), True, axis=1)
    counts = touched.sum(axis=1)
    standard_error = counts.std(ddof=1) / np.sqrt(trials)
    assert abs(counts.mean() - mean_distinct_experts(experts, top_k, tokens)) < 4 * standard_error


def test_uneven_routing_by_simulation():
    chosen = np.array([0.9, 0.5, 0.3, 0.2, 0.06, 0.04])  # sums to 2: systematic sampling keeps each one's share
    generator = np.random.default_rng(3)
    trials, tokens = 4000, 5
    edges = np.concatenate([[0.0], np.cumsum(chosen)])
    points = generator.random((trials, tokens, 1)) + np.arange(2)
    picked = np.searchsorted(edges, points.reshape(trials, -1), side="right") - 1
    counts = np.array([len(set(row)) for row in picked])
    standard_error = counts.std(ddof=1) / np.sqrt(trials)
    assert abs(counts.mean() - mean_distinct_experts_of(chosen, tokens)) < 4 * standard_error


def test_even_routing_touches_most():
    even = mean_distinct_experts_of([0.25] * 8, 6)
    assert even == pytest.approx(mean_distinct_experts(8, 2, 6), rel=1e-12)
    assert mean_distinct_experts_of([0.9, 0.5, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05], 6) < even


@pytest.mark.parametrize("name", ["mixtral_8x7b", "deepseek_v3"])
@pytest.mark.parametrize("batch", [1, 2, 4, 64])
def test_a_traced_shape_says_how_many_experts_a_token_takes(traced, name, batch):
    layer = traced(name, Phase.DECODE, batch=batch, context=4)["model.layers.0.mlp.experts.down_proj"]
    assert top_k_of(layer, batch) == {"mixtral_8x7b": 2, "deepseek_v3": 8}[name]


def test_a_batch_is_routed_as_it_would_be_traced(traced):
    one = traced("deepseek_v3", Phase.DECODE, batch=1, context=4)
    for batch in (2, 4, 64):
        made = route_batch(one, 1, batch)
        for kind in ("gate_up_proj", "down_proj"):
            name = f"model.layers.0.mlp.experts.{kind}"
            assert made[name] == traced("deepseek_v3", Phase.DECODE, batch=batch, context=4)[name]


def test_a_given_routing_reads_fewer_weights():
    layer = LayerSpec("experts", LayerKind.LINEAR, 1, 64, 64, copies=2, weight_copies=8)
    even, uneven = route(layer, 2, 8), route(layer, 2, 8, [0.95, 0.95] + [0.1 / 6] * 6)
    assert (even.copies, even.m) == (7, 3)  # 8 (1 - 0.75^8) = 7.2; 16 / 7
    assert (uneven.copies, uneven.m) == (3, 6)  # 2 + 6 (1 - (1 - 1/60)^8) = 2.75
    assert uneven.weights == even.weights == 8 * 64 * 64


def test_bad_routings_are_named():
    layer = LayerSpec("experts", LayerKind.LINEAR, 3, 64, 64, copies=2, weight_copies=8)
    with pytest.raises(ValueError, match="top_k must be 1 to the 8 experts, not 9"):
        mean_distinct_experts(8, 9, 1)
    with pytest.raises(ValueError, match="tokens must be at least 0, not -1"):
        mean_distinct_experts(8, 2, -1)
    with pytest.raises(ValueError, match="tokens must be at least 0, not -1"):
        mean_distinct_experts_of([0.5], -1)
    with pytest.raises(ValueError, match="chosen must be probabilities from 0 to 1, not 1.5"):
        mean_distinct_experts_of([1.5], 1)
    with pytest.raises(ValueError, match="one probability for each of 8 experts, not 2"):
        route(layer, 2, 4, [1.0, 1.0])
    with pytest.raises(ValueError, match="layer experts must have the shape of 1 routed tokens, not m 3 and copies 2"):
        top_k_of(layer, 1)
    with pytest.raises(ValueError, match="layer x must be one of routed experts"):
        top_k_of(LayerSpec("x", LayerKind.LINEAR, 1, 1, 1), 1)
    assert expected_experts(4, 9, 1) == 4
