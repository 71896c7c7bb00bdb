"""Whole workloads simulated: bits and MACs of the closed form, times that add up, laws of the machine."""

from dataclasses import replace

import pytest

from datatypes.catalog import INTS_SYMMETRIC
from datatypes.layer_config import LayerConfig, LowRankConfig, TensorConfig
from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import evaluate, reason_not_runnable
from hwmodel.event_grid import GridRun, formats, grid, workload
from hwmodel.event_options import BANDWIDTH, DRAM_TIMING, Arbiter, Feed, Refill, SimulationOptions
from hwmodel.event_report import SimulationReport
from hwmodel.event_simulator import Known, simulate
from hwmodel.options import HONEST, PAPER
from hwmodel.paper import paper_workload
from hwmodel.presets import ACCELERATORS, BITMOD, FP16_BASELINE
from hwmodel.workload import LayerKind, LayerSpec, Phase, Workload

PARTS = (
    "compute_cycles", "fill_drain_cycles", "conflict_cycles", "weight_wait_cycles", "input_wait_cycles",
    "output_wait_cycles", "layer_wait_cycles", "tail_cycles",
)  # fmt: skip
COARSE = replace(BANDWIDTH, slice_bytes=65536, quantum_bursts=256)
CONFIG = bitmod4_config()


def _checked(
    report: SimulationReport, made: Workload, config: object, options: object = HONEST, *, overlapping: bool = False
) -> None:
    costs = evaluate(made, config, ACCELERATORS[report.accelerator], options).layers  # type: ignore[arg-type]
    assert [layer.layer for layer in report.layers] == [cost.layer for cost in costs]
    for layer, cost in zip(report.layers, costs, strict=True):
        price = cost.price
        moved = (layer.weight_bits, layer.input_bits, layer.output_bits)
        if layer.kind is LayerKind.EMBEDDING:
            assert sum(moved) == price.dram_bits
        else:
            assert moved == (price.weight_bits, price.input_bits, price.output_bits)
        assert layer.macs == price.macs
        assert layer.closed_cycles == cost.cycles
        assert sum(getattr(layer, name) for name in PARTS) == pytest.approx(layer.cycles, abs=1e-6)
        assert min(getattr(layer, name) for name in PARTS if name != "tail_cycles") >= 0
        assert layer.tail_cycles >= -1e-6 or overlapping


@pytest.mark.parametrize("machine", [m for m in ACCELERATORS.values() if hasattr(m, "pe")], ids=lambda m: m.name)
@pytest.mark.parametrize("phase", Phase)
def test_bits_and_macs_are_those_of_the_closed_form(machine, phase: Phase) -> None:
    made = workload("OPT-1.3B", phase, batch=2, context=48)
    names = [name for name, config in formats().items() if reason_not_runnable(made, config, machine) is None]
    assert names
    for name in names[:3]:
        _checked(simulate(made, formats()[name], machine, COARSE), made, formats()[name])


@pytest.mark.parametrize("model", ["Llama-3-8B", "Mixtral-8x7B"])
def test_grouped_heads_and_experts(model: str) -> None:
    for phase in Phase:
        made = workload(model, phase, batch=3, context=40)
        _checked(simulate(made, CONFIG, BITMOD, COARSE), made, CONFIG)


def test_layers_with_equal_plans_are_simulated_once() -> None:
    """Attention over the same cache under two weights: what is known is taken, and is what would be simulated."""
    made = workload("OPT-1.3B", Phase.DECODE, batch=2, context=48)
    known: Known = {}
    first = simulate(made, CONFIG, BITMOD, COARSE, known=known)
    before = len(known)
    report = simulate(made, formats()["int4_g128_kv8"], BITMOD, COARSE, known=known)
    assert report == simulate(made, formats()["int4_g128_kv8"], BITMOD, COARSE)
    assert 0 < before < len(known) < 2 * before
    assert before <= len([layer for layer in first.layers if layer.cycles])
    again = simulate(replace(made, context=49), formats()["int4_g128_kv8"], BITMOD, COARSE, known=known)
    assert again.layers == report.layers


def test_the_grid_on_a_preset_is_the_grid() -> None:
    options = replace(COARSE, least_slices=1)
    run = GridRun(("OPT-1.3B",), {Phase.PREFILL: (), Phase.DECODE: (1,)}, options, HONEST)
    rows = grid(run.models, run.batches, [BITMOD], options=options)
    assert run("bitmod") == [row.record() for row in rows]
    assert {row["accelerator"] for row in run("bitmod")} == {"bitmod"}


def test_published_options_too() -> None:
    made = paper_workload("OPT-1.3B", Phase.PREFILL, batch=2, context=64)
    small = replace(made, layers=made.layers[:8])
    _checked(simulate(small, CONFIG, BITMOD, COARSE, PAPER), small, CONFIG, PAPER)


def test_a_low_rank_branch_is_two_more_products() -> None:
    eight = TensorConfig((INTS_SYMMETRIC[8],), scale=None)
    config = LayerConfig(weight=CONFIG.weight, low_rank=LowRankConfig(16, eight, eight))
    made = Workload("one", Phase.PREFILL, (LayerSpec("linear", LayerKind.LINEAR, 40, 256, 96),))
    report = simulate(made, config, BITMOD)
    _checked(report, made, config)
    plain = simulate(made, LayerConfig(weight=CONFIG.weight), BITMOD)
    assert report.layers[0].macs == plain.layers[0].macs + 40 * 16 * (256 + 96)
    assert report.cycles > plain.cycles


def _layer(m: int, k: int, n: int, phase: Phase = Phase.PREFILL) -> Workload:
    return Workload("one", phase, (LayerSpec("linear", LayerKind.LINEAR, m, k, n),))


def test_one_small_layer_by_hand() -> None:
    """FP16 baseline: 24 tokens, 4 inputs, 32 outputs are one tile of 4 steps.

    Weights 256 bytes and inputs 192 bytes come as 4 and 3 bursts on two channels that take 64 * 8 / (32e9 * 8 / 1e9 *
    0.92 / 2) = 4.348 cycles each: two and two one after another on the first channel. Results are 1536 bytes: 12 bursts
    on each channel.
    """
    burst = 64 * 8 / (256 * 0.92 / 2)
    options = replace(BANDWIDTH, dram=replace(BANDWIDTH.dram, latency_s=10e-9), least_slices=1)
    report = simulate(_layer(24, 4, 32), LayerConfig(), FP16_BASELINE, options)
    assert report.cycles == pytest.approx(4 * burst + 10 + 4 + 12 * burst, abs=1e-3)
    assert report.layers[0].compute_cycles == 4
    assert report.layers[0].excess_bytes == 0


def test_the_systolic_law_on_a_whole_layer() -> None:
    # 4 x 3 tiles of 32 x 24, 500 steps each: 2 R + C + T - 2 cycles for each
    plain = simulate(_layer(72, 500, 128), LayerConfig(), FP16_BASELINE).layers[0]
    folds = simulate(_layer(72, 500, 128), LayerConfig(), FP16_BASELINE, SimulationOptions(feed=Feed.SYSTOLIC)).layers[
        0
    ]
    assert plain.compute_cycles == folds.compute_cycles == 12 * 500
    assert folds.compute_cycles + folds.fill_drain_cycles == 12 * (2 * 32 + 24 + 500 - 2)


@pytest.mark.parametrize("phase", Phase)
def test_no_schedule_beats_its_slowest_resource(phase: Phase) -> None:
    made = workload("OPT-1.3B", phase, batch=4, context=64)
    for options in (
        BANDWIDTH, DRAM_TIMING, replace(BANDWIDTH, arbiter=Arbiter.PRIORITY), replace(BANDWIDTH, refill=Refill.HALVES),
        replace(BANDWIDTH, arbiter=Arbiter.ROUND_ROBIN, bank_conflicts=4),
    ):  # fmt: skip
        for layer in simulate(made, CONFIG, BITMOD, options).layers:
            assert layer.cycles >= max(layer.compute_cycles, layer.vector_cycles, layer.dram_cycles) - 1e-6


def test_what_is_switched_on_costs() -> None:
    # a layer between its bounds: 256 tokens, BitMoD-4
    made = _layer(256, 2048, 2048)
    ring = simulate(made, CONFIG, BITMOD).cycles
    halves = simulate(made, CONFIG, BITMOD, SimulationOptions(refill=Refill.HALVES)).cycles
    single = simulate(made, CONFIG, BITMOD, SimulationOptions(refill=Refill.SINGLE)).cycles
    conflicts = simulate(made, CONFIG, BITMOD, SimulationOptions(bank_conflicts=8)).cycles
    assert ring <= halves < single
    assert ring < conflicts


def test_dram_timing_loses_a_few_percent_of_peak() -> None:
    """Refresh alone is 374 of 8328 cycles; turnaround and misses little for long streams, with rows opened ahead."""
    decode = _layer(1, 4096, 4096, Phase.DECODE)
    peak = replace(HONEST, dram_efficiency=False)
    ideal = simulate(decode, CONFIG, BITMOD, BANDWIDTH, peak).cycles
    timed = simulate(decode, CONFIG, BITMOD, DRAM_TIMING, peak).cycles
    assert 1 - 374 / 8328 - 0.02 < ideal / timed < 1 - 374 / 8328 + 0.005


def test_prefetching_across_layers_hides_vector_layers_behind_weights() -> None:
    made = paper_workload("OPT-1.3B", Phase.DECODE, context=256, other_layers=True)
    few = replace(made, layers=made.layers[:12])
    alone, together = (simulate(few, CONFIG, BITMOD, replace(BANDWIDTH, prefetch=p)) for p in (False, True))
    _checked(together, few, CONFIG, overlapping=True)
    vector = sum(layer.cycles for layer in alone.layers if layer.kind is LayerKind.NORM)
    assert vector > 0
    assert together.cycles < alone.cycles
    dram = sum(layer.dram_cycles for layer in together.layers)
    assert dram <= together.cycles


def test_edges_say_what_a_layer_waits_for() -> None:
    # b and c both read what a writes: c need not wait for b
    layers = tuple(LayerSpec(name, LayerKind.LINEAR, 256, 512, 512) for name in "abc")
    chain = Workload("three", Phase.PREFILL, layers)
    fork = Workload("three", Phase.PREFILL, layers, edges=(("a", "b"), ("a", "c")))
    options = SimulationOptions(prefetch=True)
    slow, fast = (simulate(one, CONFIG, BITMOD, options) for one in (chain, fork))
    assert fast.cycles < slow.cycles
    assert slow.layers[2].input_wait_cycles > fast.layers[2].input_wait_cycles


def test_report_adds_up_and_becomes_a_table() -> None:
    made = paper_workload("OPT-1.3B", Phase.DECODE, context=32)
    report = simulate(made, CONFIG, BITMOD, COARSE)
    assert report.cycles == pytest.approx(sum(layer.cycles for layer in report.layers))
    frame = report.to_frame()
    assert frame["closed_cycles"].sum() == report.closed_cycles == evaluate(made, CONFIG, BITMOD).cycles
    assert frame["difference"].iloc[0] == report.layers[0].closed_cycles / report.layers[0].cycles - 1
    assert report.seconds == pytest.approx(report.cycles / 1e9)
    assert report.events == frame["events"].sum()


def test_a_gpu_is_priced_not_simulated() -> None:
    gpu = type("Card", (), {"name": "h100"})()
    with pytest.raises(NotImplementedError, match="runs arrays of PEs with two buffers, not h100"):
        simulate(_layer(1, 1, 1), CONFIG, gpu)


def test_mistakes_are_those_of_evaluate() -> None:
    with pytest.raises(ValueError, match="configs must name layers of the workload, not 'liner'"):
        simulate(_layer(1, 1, 1), {"liner": CONFIG}, BITMOD)
    with pytest.raises(NotImplementedError, match="accelerator ant cannot run"):
        simulate(_layer(1, 64, 64), CONFIG, ACCELERATORS["ant"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slice_bytes": 0}, "slice_bytes of a simulation must be an integer of at least 1, not 0"),
        ({"bank_conflicts": 0}, "bank_conflicts of a simulation must be at least 1 or None, not 0"),
    ],
)
def test_options_are_checked(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulationOptions(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels of DRAM channels must be an integer of at least 1, not 0"),
        ({"row_bytes": 100}, "row_bytes of DRAM channels must be a multiple of burst_bytes 64, not 100"),
        ({"latency_s": -1.0}, "latency_s of DRAM channels must be at least 0, not -1.0"),
        ({"refresh_interval_s": 0.0}, "refresh_interval_s of DRAM channels must be above refresh_s"),
    ],
)
def test_dram_channels_are_checked(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BANDWIDTH.dram, **changes)
