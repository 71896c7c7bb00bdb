"""The table of serving checks: laws hold to rounding, samples within their standard errors."""

import re

import pytest

from hwmodel.check import checks_frame
from hwmodel.validate_serving import serving_checks


@pytest.fixture(scope="module")
def checks():
    return list(serving_checks())


def test_laws_without_chance_hold(checks):
    exact = [check for check in checks if "standard error" not in check.note]
    assert len(exact) == 2
    assert all(abs(check.error) < 1e-9 for check in exact)


def test_samples_agree_within_four_standard_errors(checks):
    sampled = [check for check in checks if "standard error" in check.note]
    assert len(sampled) == 4
    for check in sampled:
        percent = float(re.search(r"([\d.]+)%", check.note).group(1))
        assert abs(check.error) * 100 < 4 * (percent + 0.05), check.quantity  # printed with one decimal


def test_every_check_has_a_source(checks):
    table = checks_frame(checks)
    assert (table["source"].str.len() > 0).all()
    assert table["quantity"].is_unique
