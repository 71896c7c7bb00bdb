"""Pipelines by hand: cuts, balance, bubbles."""

from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from hwmodel.evaluate import evaluate
from hwmodel.gpu_presets import H100
from hwmodel.link import NVLINK4, send_s
from hwmodel.operands import OperandBits
from hwmodel.parallel_pipeline import Cut, Pipeline, cuts_of, pipeline
from hwmodel.price import Price
from hwmodel.report import CostReport, LayerCost
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload


def chain(cycles):
    """Linear layers one after another that take so many cycles at 1 Hz."""
    layers = tuple(LayerSpec(f"l{i}", LayerKind.LINEAR, 2, 4, 4, shared_weight=True) for i in range(len(cycles)))
    edges = tuple((a.name, b.name) for a, b in pairwise(layers))
    costs = tuple(LayerCost(x.name, x.kind, Price(compute_cycles=c)) for x, c in zip(layers, cycles, strict=True))
    return Workload("m", Phase.DECODE, layers, edges), CostReport("m", "a", "decode", 1, 1, costs, 1.0)


FAST = replace(NVLINK4, bytes_per_s=1e30, send_start_s=0.0)


def test_equal_stages_idle_as_in_gpipe():
    workload, report = chain([3] * 8)
    for stages in (1, 2, 4, 8):
        made = pipeline(workload, report, stages, FAST)
        for micro in (1, 4, 32):
            assert made.bubble_share(micro) == pytest.approx((stages - 1) / (micro + stages - 1), abs=1e-12)
            assert made.seconds(micro) == pytest.approx((micro + stages - 1) * 24 / stages, rel=1e-12)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_slowest_stage_is_as_fast_as_it_can_be(stages):
    cycles = [5, 1, 1, 7, 2, 2, 4, 9, 1]
    best = min(
        max(sum(cycles[a:b]) for a, b in zip((0, *cuts), (*cuts, len(cycles)), strict=True))
        for cuts in combinations(range(1, len(cycles)), stages - 1)
    )
    made = pipeline(*chain(cycles), stages, FAST)
    assert max(made.stage_s) == best
    assert sum(made.stage_s) == sum(cycles)


def test_unequal_stages_by_hand():
    made = Pipeline((), (2.0, 5.0, 1.0), (0.5, 0.25))
    assert made.pace_s == 5.25
    assert made.seconds(4) == 8.75 + 3 * 5.25
    assert [made.round_s(micro) for micro in (1, 2, 4)] == [8.75, 10.5, 21.0]


def test_cuts_where_one_tensor_crosses(traced):
    workload = traced("llama3_8b", layers=2, batch=2)
    cuts = cuts_of(workload)
    names = [workload.layers[cut.position].name for cut in cuts]
    assert names == [
        "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.layers.1.input_layernorm",
        "model.layers.1.post_attention_layernorm", "model.norm", "lm_head",
    ]  # fmt: skip
    assert {cut.elements for cut in cuts} == {2 * 256 * 4096}
    assert cuts_of(chain([1, 1, 1])[0]) == (Cut(1, 8), Cut(2, 8))


def test_stages_of_a_model_hold_it_whole(traced):
    workload = traced("llama3_8b", layers=4)
    report = evaluate(workload, OperandBits(), H100)
    made = pipeline(workload, report, 4, NVLINK4)
    assert sum(stage.weights for stage in made.stages) == workload.weights
    assert [layer.name for stage in made.stages for layer in stage.layers] == [layer.name for layer in workload.layers]
    assert made.send_s == pytest.approx([send_s(256 * 4096 * 2, NVLINK4)] * 3)
    assert sum(made.stage_s) == pytest.approx(report.seconds, rel=1e-12)


def test_tied_weights_are_stored_in_both_stages():
    table = LayerSpec("table", LayerKind.EMBEDDING, 1, 32, 8)
    head = LayerSpec("head", LayerKind.LINEAR, 1, 8, 32, weight_of="table", head=True)
    workload = Workload("m", Phase.DECODE, (table, head), (("table", "head"),))
    made = pipeline(workload, evaluate(workload, OperandBits(), H100), 2, NVLINK4)
    assert [stage.weights for stage in made.stages] == [256, 256]


def test_bad_pipelines_are_named():
    workload, report = chain([1, 1, 1])
    with pytest.raises(ValueError, match="pipeline_parallel must be 1 to the 3 pieces of m, not 4"):
        pipeline(workload, report, 4, NVLINK4)
    with pytest.raises(ValueError, match="a pipeline of 2 stages must have a link"):
        pipeline(workload, report, 2)
    with pytest.raises(ValueError, match="micro_batches must be at least 1, not 0"):
        pipeline(workload, report, 1).seconds(0)
    with pytest.raises(ValueError, match="report must have the layers of workload m, not others"):
        pipeline(workload, replace(report, layers=report.layers[:1]), 1)
