"""Prices add up, reports show them, and the records that come in check themselves."""

import pytest

from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import evaluate
from hwmodel.paper import paper_workload
from hwmodel.presets import BITMOD
from hwmodel.price import Bound, Price, overlap, sum_prices
from hwmodel.report import Measurement, ResourceReport
from hwmodel.workload import Phase

SHORT = Price(macs=1, compute_cycles=5, dram_cycles=2, vector_cycles=1, weight_bits=8, pe_pj=1.0)
LONG = Price(macs=2, compute_cycles=1, dram_cycles=7, vector_cycles=3, input_bits=16, dram_pj=2.5)


def test_layers_run_one_after_another() -> None:
    both = SHORT + LONG
    assert both.cycles == 5 + 7 and both.compute_cycles == 6 and both.dram_bits == 24
    assert both.energy_pj == 3.5 and both.onchip_pj == 1.0
    assert sum_prices([SHORT, LONG, SHORT]).cycles == 17


def test_parts_of_a_layer_run_together() -> None:
    both = overlap([SHORT, LONG])
    assert both.cycles == 9 and both.bound is Bound.DRAM  # 6 of compute, 9 of DRAM, 4 of the vector unit


def test_times_is_repeated_addition() -> None:
    assert SHORT.times(3) == SHORT + SHORT + SHORT
    assert sum_prices([]) == Price(total_cycles=0)


@pytest.mark.parametrize(
    ("cycles", "bound"),
    [((5, 5, 5), Bound.COMPUTE), ((1, 5, 5), Bound.DRAM), ((1, 2, 5), Bound.VECTOR)],
    ids=["compute on a tie", "DRAM before vector", "vector"],
)
def test_what_bounds(cycles: tuple[int, int, int], bound: Bound) -> None:
    assert Price(compute_cycles=cycles[0], dram_cycles=cycles[1], vector_cycles=cycles[2]).bound is bound


def test_report_in_numbers() -> None:
    workload = paper_workload("Llama-2-7B", Phase.DECODE, context=256)
    report = evaluate(workload, bitmod4_config(), BITMOD)
    summary = report.summary()
    assert summary["seconds"] == report.cycles / 1e9
    assert summary["layers"] == 289 == sum(report.bound_counts.values())
    # BitMoD-4 in groups of 128: 4 + 8/128 + 2/128 bits and 16 bits for each output channel
    outputs = sum(layer.n for layer in workload.layers if layer.weights)
    assert summary["bits_per_weight"] == pytest.approx(4.078125 + 16 * outputs / workload.weights, rel=1e-12)
    frame = report.to_frame()
    assert frame["layer"].tolist() == [layer.name for layer in workload.layers]
    parts = [c for c in frame.columns if c.endswith("_uj") and c != "energy_uj"]
    assert len(parts) == 8 and frame[parts].sum(axis=1).tolist() == pytest.approx(frame["energy_uj"].tolist())


def test_measurement_takes_time() -> None:
    with pytest.raises(ValueError, match=r"seconds of measurement gemm must be above 0, not 0\.0"):
        Measurement("gemm", (1, 2, 3), "gpu", 0.0, 10, {}, "here")


def test_resource_report_knows_what_was_not_said() -> None:
    report = ResourceReport("pe", "ecp5", "yosys", luts=10)
    assert report.luts == 10 and report.dsps is None


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "many", True, [3]])
@pytest.mark.parametrize("figure", ["luts", "brams", "latency_cycles", "max_frequency_hz"])
def test_a_resource_report_has_figures_that_can_be(figure: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{figure} of pe must be a number of at least 0, not "):
        ResourceReport("pe", "part", "tool", **{figure: value})  # type: ignore[arg-type]


def test_a_resource_report_may_say_nothing_and_nought() -> None:
    made = ResourceReport("pe", "part", "tool", luts=0, brams=0.5)
    assert (made.luts, made.brams, made.dsps) == (0, 0.5, None)
