"""Bricks and the adders that join them, by hand."""

import pytest

from hwmodel.unit_cost import Origin
from hwmodel.unit_cost_fused import fused_adder_bits, fused_bricks, price_fused_bricks


def test_four_bricks_of_four_bits_by_hand():
    # 8 x 8 is four products of 8 bits, joined by three adders of twelve
    assert fused_bricks(4) == 4
    assert fused_adder_bits(4) == 3 * 12
    # signed or not: 5 x 5 bits, 26 LUTs by row pairs (2 * 6 + 2 * 7); 32 bits of accumulator
    assert price_fused_bricks(4).luts.value == 4 * 26 + 3 * 12 + 32


def test_bricks_of_eight_bits_are_not_fused():
    assert fused_adder_bits(8) == 0
    assert fused_bricks(8) == 1


@pytest.mark.parametrize("target", ["lut6", "sky130hd", "sg13g2", "nangate45"])
def test_lanes_share_an_accumulator_alone(target):
    one, two, three = (price_fused_bricks(2, lanes, target) for lanes in (1, 2, 3))
    first, second, third = ((cost.luts or cost.area_um2).value for cost in (one, two, three))
    assert third - second == pytest.approx(second - first)
    assert second < 2 * first
    assert (one.luts or one.area_um2).origin is Origin.COMPOSED
    assert (one.luts or one.area_um2).worst_error is None  # nothing like it was recorded


def test_bricks_must_divide_eight_bits():
    with pytest.raises(ValueError, match="brick_bits must divide 8, not 3"):
        price_fused_bricks(3)
