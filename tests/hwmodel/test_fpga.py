"""Devices, budgets and planning clocks."""

import pytest

from hwmodel.fpga import (
    DEVICES,
    FINN_LIMITS,
    FpgaResources,
    Limits,
    Use,
    budget,
    device_by_name,
    planning_clock_hz,
    relative_clock,
)
from hwmodel.synthesis_table import best_rows


def test_every_device_names_its_source():
    assert all(device.source and device.luts > 0 and device.flip_flops > 0 for device in DEVICES.values())
    assert {device.lut_inputs for device in DEVICES.values()} == {4, 6}


# Arithmetic of an independent note: lanes of 42.8 (W4A8) and 83.8 LUTs (W8A8) at 70 % of the LUTs
@pytest.mark.parametrize(
    ("board", "lane_luts", "lanes"),
    [("kv260", 42.8, 1915), ("kv260", 83.8, 978), ("zcu104", 42.8, 3768), ("zcu104", 83.8, 1924),
     ("u250", 42.8, 28261), ("u250", 83.8, 14434)],
)  # fmt: skip
def test_lanes_that_fit_at_the_limit(board, lane_luts, lanes):
    assert budget(FpgaResources(luts=lane_luts), DEVICES[board]).copies == pytest.approx(lanes, abs=1)


def test_a_design_at_the_limit_fits_and_one_above_does_not():
    device = device_by_name("kv260")
    at_limit = FpgaResources(luts=0.7 * device.luts, bram36=0.8 * device.bram36)
    assert budget(at_limit, device).fits
    over = budget(at_limit + FpgaResources(luts=1), device)
    assert not over.fits
    assert over.tightest.resource == "luts"


def test_a_device_without_ultraram_has_no_room_for_any():
    result = budget(FpgaResources(uram288=1), device_by_name("pynq_z1"))
    assert not result.fits
    assert result.tightest.share == float("inf")
    assert result.copies == 0


def test_nothing_fits_everywhere_and_any_number_of_times():
    result = budget(FpgaResources(), device_by_name("u250"))
    assert result.fits
    assert result.copies is None


def test_resources_add_and_scale():
    one = FpgaResources(luts=2, dsps=1)
    assert one.scaled(3) + FpgaResources(bram36=0.5) == FpgaResources(luts=6, dsps=3, bram36=0.5)


def test_limits_are_finns():
    assert (FINN_LIMITS.luts, FINN_LIMITS.flip_flops, FINN_LIMITS.bram36) == (0.7, 0.5, 0.8)


def test_clock_of_a_family_without_a_published_one_is_not_made_up():
    assert planning_clock_hz(device_by_name("vck190")) is None
    assert planning_clock_hz(device_by_name("zcu104")) == 300e6  # BISMO, TRETS 2019, on UltraScale+


def test_relative_clock_is_a_ratio_to_the_int8_mac():
    rows = best_rows("ecp5")
    base = rows["int_dot.w8a8.x1rr"].max_frequency_hz
    assert relative_clock("int_dot.w8a8.x1rr") == 1.0
    slower = "minifloat_dot.e4m3.e4m3.x1rr"
    if slower in rows:
        assert relative_clock(slower) == pytest.approx(rows[slower].max_frequency_hz / base)
        assert planning_clock_hz(device_by_name("u250"), slower) <= 300e6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: device_by_name("u25"), "device must be one of u250"),
        (lambda: FpgaResources(luts=-1), "luts of a design must be at least 0, not -1"),
        (lambda: Limits(dsps=0), "limit of dsps must be above 0 and at most 1, not 0"),
        (lambda: relative_clock("int_dot.w2a2.x1"), "design must be one of the placed ones"),
    ],
)
def test_mistakes_are_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_share_of_nothing_is_zero():
    assert Use("dsps", 0, 0, 0.8).fits
