"""LQER's circuit areas from published tiles, by hand."""

import pytest

from hwmodel.check import Standing
from hwmodel.validate_costs import lqer

FP16 = 16 * 387


@pytest.mark.parametrize(
    ("name", "luts"),
    [
        # MASE's lines at 16 in-features and one output
        ("OmniQuant W6A6", 344.1 - 16 * 0.1 + 160.2 + 16 * 121.0),
        ("AQAS W4A8", 415.8 - 16 * 49.6 + 130.0 + 16 * 189.4),
        # 16 x 16 multipliers of 8 x 17 + 7 x 18 LUTs for 8 x 8 ones of 4 x 9 + 3 x 10; 15 adders and an accumulator of
        # 16 bits more
        ("LQER integer W4A16, rank 32", 3509 + 16 * (262 - 66) + 15 * 16 + 16),
        ("LQER MXINT W4A8, rank 32", 2088),
        ("LQER MXINT W4A6, rank 32", 2438.7 * 2088 / 3509),
    ],
)
def test_areas_by_hand(name: str, luts: float) -> None:
    (check,) = [row for row in lqer() if row.subject == name and row.quantity == "area over FP16's"]
    assert check.ours == pytest.approx(luts / FP16)


def test_the_sheet_is_met_within_five_percent() -> None:
    """Six figures of LQER's sheet; the FP16 row is an input, because the lanes were counted by it."""
    rebuilt = [row for row in lqer() if row.standing is Standing.REBUILT]
    assert len(rebuilt) == 6
    assert all(abs(row.ours / row.truth - 1) < 0.05 for row in rebuilt)
    (area,) = [row for row in rebuilt if row.quantity == "area of AQAS over LQER's"]
    assert area.truth == pytest.approx(1.385, abs=5e-4)  # 2760 over 1993.375 LUTs, the paper prints 1.36
