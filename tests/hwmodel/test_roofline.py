"""The roofs by hand, and every layer under them."""

import pytest

from hwmodel.bench import bitmod4_config
from hwmodel.evaluate import evaluate
from hwmodel.paper import paper_workload
from hwmodel.presets import ANT, BITMOD, FP16_BASELINE
from hwmodel.price import Bound, Price
from hwmodel.roofline import lower_bound_cycles, roofline
from hwmodel.workload import Phase


def test_roofs_of_a_bit_serial_array() -> None:
    workload = paper_workload("OPT-1.3B", Phase.PREFILL)
    figure = roofline(evaluate(workload, bitmod4_config(), BITMOD), BITMOD)
    peaks = dict(figure.peaks)
    assert peaks["4-bit weights"] == 2048e9  # HPCA 2025: 1024 PEs x 4 lanes / 2 cycles at 1 GHz
    assert peaks["8-bit weights"] == 1024e9
    assert peaks["6-bit weights"] == pytest.approx(1365.3e9, rel=1e-4)
    assert figure.bytes_per_s == 32e9
    assert len(figure.points) == len(workload.layers)
    for point in figure.points:
        assert point.macs_per_s <= min(peaks["4-bit weights"], point.macs_per_byte * figure.bytes_per_s)


@pytest.mark.parametrize("accelerator", [FP16_BASELINE, ANT], ids=lambda a: a.name)
def test_one_roof_of_a_parallel_array(accelerator: object) -> None:
    report = evaluate(paper_workload("OPT-1.3B", Phase.DECODE), {}, FP16_BASELINE)
    ((_, peak),) = roofline(report, accelerator).peaks  # type: ignore[arg-type]
    assert peak == accelerator.pe_count * 1e9  # type: ignore[attr-defined]
    assert all(point.bound is Bound.DRAM for point in roofline(report, FP16_BASELINE).points)


def test_lower_bound_by_hand() -> None:
    assert lower_bound_cycles(Price(macs=8192, compute_cycles=2, compulsory_bits=256), BITMOD) == 2  # 4096 a cycle
    assert lower_bound_cycles(Price(macs=8192, compute_cycles=2, compulsory_bits=2560), BITMOD) == 10
    assert lower_bound_cycles(Price(macs=6400, vector_cycles=100), BITMOD) == 100  # 64 vector lanes
