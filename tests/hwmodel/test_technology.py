"""Scaling between nodes against the authors' worked example and table, and technologies that cannot be."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hwmodel.technology import TSMC28, energy_factor, node_scaling


def test_worked_example_of_the_authors() -> None:
    # erratum to section 4.2.1 (vcl.ece.ucdavis.edu/pubs/2017.02.VLSIintegration.TechScale)
    assert energy_factor(32, 0.9) == pytest.approx(0.4571, abs=5e-5)
    assert energy_factor(65, 1.3) == pytest.approx(2.604, abs=5e-4)
    # printed as 0.1755 from the rounded factors
    assert energy_factor(32, 0.9) / energy_factor(65, 1.3) == pytest.approx(0.1755, abs=1.01e-4)


@pytest.mark.parametrize(("low", "high", "area"), [(45, 32, 0.46), (45, 16, 0.19), (45, 7, 0.059), (65, 45, 1 / 1.5)])
def test_areas_of_the_table(low: float, high: float, area: float) -> None:
    assert node_scaling(low, high).area == pytest.approx(area)


def test_scaling_there_and_back_is_nothing() -> None:
    there, back = node_scaling(45, 28), node_scaling(28, 45)
    assert there.area * back.area == pytest.approx(1) and there.energy * back.energy == pytest.approx(1)
    assert node_scaling(28, 28) == node_scaling(45, 45)


def test_smaller_nodes_take_less() -> None:
    nodes = [130, 90, 65, 45, 32, 28, 20, 16, 14, 10, 7]
    scales = [node_scaling(45, node) for node in nodes]
    for larger, smaller in pairwise(scales):
        assert smaller.area < larger.area and smaller.energy < larger.energy


def test_nodes_beyond_the_table() -> None:
    with pytest.raises(ValueError, match="node_nm must be 7 to 130 to be scaled, not 5"):
        node_scaling(28, 5)


def test_impossible_shares() -> None:
    with pytest.raises(ValueError, match="clock_idle_share of technology tsmc28 must be 0 to 1, not 2"):
        replace(TSMC28, clock_idle_share=2)
    with pytest.raises(ValueError, match="static_power_mw of technology tsmc28 must be at least 0, not -1"):
        replace(TSMC28, static_power_mw=-1)
