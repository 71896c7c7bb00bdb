"""The benchmark measures what it says; a peer that is not there is one sentence."""

import sys

import pytest

from hwmodel.batch_axes import DesignAxes, DesignSpace, paper_scenarios
from hwmodel.batch_bench import MODEL, configs, scalar_price, space, time_batch, time_points, time_scalar
from hwmodel.batch_evaluate import batch_evaluate
from hwmodel.batch_peer import PeerRun, run_zigzag
from hwmodel.presets import BITMOD


def _small() -> DesignSpace:
    return DesignSpace(paper_scenarios(MODEL, prompts=(32,), tokens=(2,)), configs(), DesignAxes((BITMOD,)))


def test_the_space_is_as_large_as_it_says() -> None:
    assert len(space(1)) == 2 * 2 * 24 * 24 * 8 * 6 * 8 * 3 == 2_654_208


def test_both_paths_price_the_same() -> None:
    designs = _small()
    result = batch_evaluate(designs)
    for index in (0, 7, 23):
        price = scalar_price(designs.design(index))
        assert result.total.cycles[index] == price.cycles
        assert result.total.energy_pj[index] == pytest.approx(price.energy_pj, rel=1e-12)


def test_rates() -> None:
    batch, scalar = time_batch("x", _small(), 1), time_scalar("y", _small(), 0.01)
    assert batch.evaluations == 24 and scalar.evaluations >= 1
    assert batch.per_cpu_s == pytest.approx(24 / batch.cpu_s) and batch.per_s == pytest.approx(24 / batch.wall_s)
    scattered = time_points("z", _small(), 50, 1)
    assert scattered.evaluations == 50 and scattered.cpu_s > 0
    assert PeerRun(1, 4, 7, 2.0, 1.0).layers_per_cpu_s == 3.5


def test_a_peer_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="the peer's Python must have zigzag-dse and six, not .*No module named"):
        run_zigzag(sys.executable, (("q", 8, 8),), tokens=1)
    with pytest.raises(ValueError, match="the peer's Python must run within 900 s, not '/nowhere/python'"):
        run_zigzag("/nowhere/python", (("q", 8, 8),), tokens=1)
