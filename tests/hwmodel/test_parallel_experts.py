"""Experts over chips: loads by simulation and enumeration, shares, exchanges by hand and as published."""

from itertools import combinations

import numpy as np
import pytest

from hwmodel.experts import is_routed
from hwmodel.link import NVLINK4, all_to_all_s
from hwmodel.parallel_experts import (
    busiest_load,
    chips_of_token,
    expected_maximum,
    expert_parallel,
    imbalance,
    spread,
)
from hwmodel.workload import LayerKind, LayerSpec, Phase


@pytest.mark.parametrize(
    ("experts", "top_k", "own", "chips", "tolerance"),
    [(8, 2, 16, 4, 0.02), (8, 2, 1, 8, 0.12), (256, 8, 4, 8, 0.02), (256, 8, 16, 32, 0.03), (64, 6, 8, 16, 0.04)],
)
def test_the_busiest_chips_load_by_simulation(experts, top_k, own, chips, tolerance):
    generator = np.random.default_rng(5)
    trials, tokens = 400, own * chips
    most, touched = [], []
    for _ in range(trials):
        chosen = generator.random((tokens, experts)).argpartition(top_k, axis=1)[:, :top_k]
        counts = np.bincount(chosen.ravel(), minlength=experts).reshape(chips, -1)
        most.append(counts.sum(axis=1).max())
        touched.append((counts[counts.sum(axis=1).argmax()] > 0).sum())
    assert busiest_load(experts, top_k, tokens, chips) == pytest.approx(np.mean(most), rel=tolerance)
    layer = LayerSpec("x", LayerKind.LINEAR, 1, 64, 64, experts, weight_copies=experts)
    share = spread(layer, top_k, own, chips)
    assert share.copies == pytest.approx(np.mean(touched), rel=tolerance, abs=0.6)  # whole experts
    assert share.m * share.copies >= np.mean(most) * (1 - tolerance)


@pytest.mark.parametrize(("experts", "top_k", "chips"), [(8, 2, 4), (8, 3, 2), (12, 4, 3)])
def test_chips_of_a_token_by_enumeration(experts, top_k, chips):
    counts = [len({expert * chips // experts for expert in choice}) for choice in combinations(range(experts), top_k)]
    assert chips_of_token(experts, top_k, chips) == pytest.approx(np.mean(counts), rel=1e-12)


def test_expected_maxima():
    # closed forms: 1 / sqrt(pi) and 3 / (2 sqrt(pi)); David and Nagaraja, Order Statistics, section 3.2
    assert [expected_maximum(n) for n in (1, 2, 3)] == pytest.approx([0, np.pi**-0.5, 1.5 * np.pi**-0.5], abs=1e-6)


def test_more_tokens_are_more_even():
    even = [imbalance(256, 8, tokens, 8) for tokens in (8, 64, 1024, 65536)]
    assert even == sorted(even, reverse=True) and 1 < even[-1] < 1.02 < 1.3 < even[0]


@pytest.mark.parametrize(("name", "routed"), [("mixtral_8x7b", 2), ("deepseek_v3", 2)])
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.value)
def test_a_share_of_a_model(traced, name, routed, phase):
    whole = traced(name, phase, batch=4, context=64)
    found = expert_parallel(whole, 8)
    moved = [(ours, theirs) for ours, theirs in zip(found.workload.layers, whole.layers, strict=True) if ours != theirs]
    assert all(is_routed(theirs) for _, theirs in moved) and len(moved) >= routed
    for ours, theirs in moved:
        assert ours.weights * 8 == theirs.weights  # whole experts, an eighth of them
        chosen = {"mixtral_8x7b": 2, "deepseek_v3": 8}[name] * (4 if phase is Phase.DECODE else 4 * 64)
        # eight times the tokens, an eighth of the experts, and the busiest chip
        assert chosen < ours.m * ours.copies < 2.5 * chosen + ours.copies
        assert ours.copies <= theirs.weight_copies // 8
    assert len(found.exchanges) == 2  # one block: to the experts and back
    assert found.link_s(NVLINK4) > 0


def test_exchanges_by_hand(traced):
    whole = traced("mixtral_8x7b", Phase.DECODE, batch=16)
    there, back = expert_parallel(whole, 8, dispatch_bits=8).exchanges
    # one expert a chip: a token goes to two chips; the busiest has so many more than 16 x 2 pairs
    arriving = 16 * 2 * imbalance(8, 2, 128, 8)
    assert (there.elements, there.bits, back.elements, back.bits) == pytest.approx(
        (arriving * 4096, 8, arriving * 4096, 16)
    )
    assert back.seconds(8, NVLINK4) == all_to_all_s(arriving * 4096 * 2, 8, NVLINK4)


def test_the_rate_of_a_large_exchange_is_the_published_one():
    # deepseek-ai/DeepEP, docs/legacy.md: 8 H800, 153 GB/s to the experts and 158 GB/s back. The H800's NVLink has 400
    # GB/s in both directions (NVIDIA H800 data sheet), 8/18 of the H100's; one direction is half of that
    size, rate = 4096 * 7168 * 2.0, 450e9 * 8 / 18
    seconds = all_to_all_s(size, 8, NVLINK4) - all_to_all_s(0, 8, NVLINK4)
    ours = size * 7 / 8 / seconds * rate / NVLINK4.bytes_per_s
    assert ours == pytest.approx(153e9, rel=0.06) and ours == pytest.approx(158e9, rel=0.06)


def test_what_cannot_be_spread_is_refused(traced):
    whole = traced("mixtral_8x7b")
    assert expert_parallel(whole, 1).workload is whole
    with pytest.raises(ValueError, match="expert_parallel must divide the 8 experts of layer .*, not 3"):
        expert_parallel(whole, 3)
    with pytest.raises(ValueError, match="expert_parallel must be an integer of at least 1, not 0"):
        expert_parallel(whole, 0)
    with pytest.raises(ValueError, match="must have routed experts to spread over chips, not none"):
        expert_parallel(traced("llama2_7b"), 2)
