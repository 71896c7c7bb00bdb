"""GPUs in a design space: every design equals ``evaluate``, beside arrays of PEs and alone, on every axis."""

from dataclasses import replace

import numpy as np
import pytest

from datatypes.catalog import FP16, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, ScaleConfig, TensorConfig
from hwmodel.accelerator import Array
from hwmodel.batch_axes import DesignAxes, DesignPoint, DesignSpace, Scenario, paper_scenarios, scenario
from hwmodel.batch_columns import ENERGIES, INTEGERS
from hwmodel.batch_evaluate import BatchPricer, batch_evaluate
from hwmodel.batch_points import price_points
from hwmodel.batch_result import BatchResult
from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import Pricer, generate_cost
from hwmodel.gpu_presets import GPUS
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST, PAPER, ModelOptions
from hwmodel.paper import paper_workload
from hwmodel.presets import BITMOD
from hwmodel.presets_memory import DRAMS
from hwmodel.price import sum_prices
from hwmodel.units import KIB
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

H100, A100 = GPUS["h100"], GPUS["a100"]
KV8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16), dynamic=True)
INT4 = TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))
INT8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP16))
CONFIGS = {
    "fp16": LayerConfig(),
    "bits": OperandBits(4.0625, 16, 8),
    "int4 kv8": LayerConfig(INT4, key=KV8, value=KV8),
    "int8 a8": LayerConfig(INT8, activation=KV8),
    "sides": LayerConfig(INT4, low_rank=LowRankConfig(16, INT8, INT8), outliers=OutlierConfig(fraction=0.01)),
    "half": {"linear": LayerConfig(INT4), "attention_qk": LayerConfig(key=KV8)},
    "bitmod4": bitmod4_config(),
}
AXES = DesignAxes(
    (BITMOD, A100, H100),
    arrays=(None, (Array(24, 24), Array(96, 6))),
    weight_buffer_bytes=(64 * KIB, None),
    activation_buffer_bytes=(None,),
    drams=(None, 1.1e12, DRAMS["hbm2e"]),
    frequencies_hz=(None, 0.9e9),
)


def _tiny(phase: Phase, context: int) -> Workload:
    prefill = phase is Phase.PREFILL
    m, rows = (context, 4 * context) if prefill else (3, 4)
    layers = (
        LayerSpec("embedding", LayerKind.EMBEDDING, m, 5000, 1024, 3 if prefill else 1),
        LayerSpec("norm", LayerKind.NORM, m, 1024, 1024),
        LayerSpec("linear", LayerKind.LINEAR, m, 1024, 1100, 3 if prefill else 1, shared_weight=True),
        LayerSpec("twin", LayerKind.LINEAR, m, 1024, 1100, 3 if prefill else 1, shared_weight=True),
        LayerSpec("experts", LayerKind.LINEAR, max(m // 4, 1), 1024, 704, 3),
        LayerSpec("attention_qk", LayerKind.ATTENTION_QK, rows, 128, context, 6, causal=prefill),
        LayerSpec("attention_pv", LayerKind.ATTENTION_PV, rows, context, 128, 6, causal=prefill),
        LayerSpec("softmax", LayerKind.SOFTMAX, rows, context, context, 6, causal=prefill),
        LayerSpec("activation", LayerKind.ACTIVATION, m, 704, 704),
        LayerSpec("head", LayerKind.LINEAR, m, 1024, 5000, 3 if prefill else 1, shared_weight=True, head=True),
    )
    return Workload("tiny", phase, layers, batch=3, context=context)


def _scenarios() -> tuple[Scenario, ...]:
    return (
        scenario(_tiny, name="both", prompt=40, tokens=3),
        scenario(_tiny, name="prompt", prompt=77, tokens=0),
    )


def _check(result: BatchResult, position: int, options: ModelOptions) -> None:
    point = result.design(position)
    pricer = Pricer(point.configs, point.accelerator, options)
    prefill = pricer.evaluate(point.scenario.prefill).total
    steps = [
        pricer.evaluate(point.scenario.step(context)).total.times(times)
        for context, times in point.scenario.contexts(options)
    ]
    for costs, wanted in ((result.prefill, prefill), (result.decode, sum_prices(steps))):
        assert [costs[name][position] for name in INTEGERS] == [getattr(wanted, name) for name in INTEGERS], point
        for name in ENERGIES:
            assert costs[name][position] == pytest.approx(getattr(wanted, name), rel=1e-12), (name, point)
    assert result.area_mm2[position] == pytest.approx(point.accelerator.area_mm2, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "options",
    [HONEST, PAPER, replace(HONEST, fused_attention=False, causal_mask=False)],
    ids=["honest", "paper", "unfused"],
)
def test_gpus_equal_evaluate_at_the_first_place_of_arrays_and_buffers(options: ModelOptions) -> None:
    result = batch_evaluate(DesignSpace(_scenarios(), CONFIGS, AXES), options, detail=True)
    on_gpu = result.places["accelerator"] > 0
    at = result.places
    first = (at["array"] == 0) & (at["weight_buffer"] == 0) & (at["dram"] == 0) & (at["frequency"] == 0)
    assert result.runnable[on_gpu & first].all() and not result.runnable[on_gpu & ~first].any()
    for position in np.flatnonzero(on_gpu & first):
        _check(result, position, options)
    for position in np.flatnonzero(~on_gpu & result.runnable)[::31]:
        if options is not PAPER:  # without the vector unit's area
            _check(result, position, options)
    elsewhere = int(np.flatnonzero(on_gpu & ~first)[0])
    assert "GPU a100 is what its data sheet says: it stands at the first place of" in str(result.reason(elsewhere))
    assert np.isnan(result.total.energy_pj[elsewhere]) and np.isnan(result.total.seconds[elsewhere])


def test_a_whole_model_on_a_gpu_is_generate_cost() -> None:
    def at(phase: Phase, context: int) -> Workload:
        return paper_workload("OPT-1.3B", phase, context=context, other_layers=True)

    (run,) = paper_scenarios("OPT-1.3B", prompts=(64,), tokens=(5,))
    result = batch_evaluate(DesignSpace((run,), {"x": bitmod4_config()}, DesignAxes((H100,))), detail=True)
    wanted = generate_cost(at, bitmod4_config(), H100, prompt=64, tokens=5).total
    assert result.total.cycles[0] == wanted.cycles and result.total.dram_bits[0] == wanted.dram_bits
    assert result.total.energy_pj[0] == pytest.approx(wanted.energy_pj, rel=1e-12)


def test_chunks_and_scattered_points_are_the_whole() -> None:
    pricer = BatchPricer(DesignSpace(_scenarios(), CONFIGS, AXES))
    whole = batch_evaluate(pricer.space)
    parts = list(pricer.chunks(17))
    assert np.array_equal(np.concatenate([part.total.cycles for part in parts]), whole.total.cycles)
    assert np.array_equal(np.concatenate([part.runnable for part in parts]), whole.runnable)
    chosen = np.arange(len(pricer.space))[::-7]
    some = pricer.points(chosen)
    assert np.array_equal(some.total.cycles, whole.total.cycles[chosen])
    assert np.array_equal(some.total.energy_pj, whole.total.energy_pj[chosen], equal_nan=True)


def test_a_list_of_points_holds_arrays_and_gpus() -> None:
    (run, _) = _scenarios()
    slow = replace(H100, dram=replace(H100.dram, bytes_per_s=1e12))
    machines = (H100, BITMOD, slow, replace(BITMOD, frequency_hz=2e9))
    points = [DesignPoint(0, run, "int4 kv8", CONFIGS["int4 kv8"], machine) for machine in machines]
    result = price_points(points, detail=True)
    assert len(result.space.axes.accelerators) == 3  # the fast array is a variant of the other
    assert [result.design(i).accelerator for i in range(4)] == list(machines)
    assert result.runnable.all()
    for position in range(4):
        _check(result, position, HONEST)
    alone = price_points(points[:1])
    assert alone.total.cycles[0] == result.total.cycles[0]


def test_a_gpu_keeps_its_memory_and_clock() -> None:
    assert AXES.accelerator((2, 1, 1, 0, 2, 1)) is H100
    assert AXES.memory(2, 1) is H100.dram
    result = batch_evaluate(DesignSpace(_scenarios(), {"fp16": LayerConfig()}, AXES))
    assert set(result.frequency_hz[result.places["accelerator"] == 2]) == {H100.frequency_hz}


def test_a_frame_shows_no_array_of_a_gpu() -> None:
    run = _scenarios()[:1]
    frame = batch_evaluate(DesignSpace(run, {"fp16": LayerConfig()}, DesignAxes((BITMOD, H100)))).to_frame()
    assert frame["prefill_array"].isna().tolist() == [False, True]
    assert frame["area_mm2"].iloc[1] == H100.area_mm2
