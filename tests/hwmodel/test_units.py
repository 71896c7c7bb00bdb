"""Conversions by hand."""

import pytest

from hwmodel import units


def test_energy() -> None:
    assert units.pj_to_uj(2e6) == pytest.approx(2)
    assert units.pj_to_mj(2e9) == pytest.approx(2)
    assert units.pj_to_j(2e12) == pytest.approx(2)


def test_area_power_time() -> None:
    assert units.um2_to_mm2(3e6) == pytest.approx(3)
    assert units.uw_to_mw(500) == pytest.approx(0.5)
    assert units.cycles_to_s(1000, 5e8) == pytest.approx(2e-6)


def test_leakage() -> None:
    assert units.leakage_pj(1.0, 1000, 5e8) == pytest.approx(2000)  # 1 mW for 2 us is 2 nJ


def test_ceil_div() -> None:
    assert [units.ceil_div(n, 4) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
