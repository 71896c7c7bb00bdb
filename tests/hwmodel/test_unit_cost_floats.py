"""Shifts into fixed point, by hand."""

from hwmodel.unit_cost_floats import shift_luts, shift_muxes


def test_shift_by_hand():
    # 4 bits shifted by 0 to 3: one stage of four-way muxes; bits 0..6 read 1, 2, 3, 4, 3, 2, 1 sources and two selects
    assert shift_luts(4, 3) == (6 * 0.5 + 1, 0)
    assert shift_muxes(4, 3) == (4 + 1) + (4 + 3)
    # by 0 or 1: a two-way stage of 5 bits, at most two sources and a select each
    assert shift_luts(4, 1) == (0, 5 * 0.5)
    assert shift_luts(4, 0) == (0, 0)
    assert shift_muxes(4, 0) == 0
