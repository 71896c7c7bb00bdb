"""Published reports of operators and ports: what our figures are made of, and how far the other reports are."""

from __future__ import annotations

import pytest

from hls.estimate import error_text
from hls.hls_operators import ADDER, AXI_MASTER, MULTIPLIER, axi_lite
from hls.operator_reports import REPORTED, ReportedPart, operator_figures, report_errors, reported
from hwmodel.unit_cost import Figure, Origin


@pytest.mark.parametrize("part", ReportedPart)
def test_no_report_is_both_used_and_compared(part):
    used, others = reported(part, used=True), reported(part, used=False)
    assert used and others
    assert {one.report for one in used}.isdisjoint({one.report for one in others})
    assert {*used, *others} == {one for one in REPORTED if one.part is part}


@pytest.mark.parametrize("part", ReportedPart)
def test_figures_go_through_the_reports_that_they_are_made_of(part):
    for one in reported(part, used=True):
        luts, held, dsps = operator_figures(part, one.width_bits)
        assert luts == pytest.approx(one.luts) and held == pytest.approx(one.flip_flops) and dsps == one.dsps


def test_float_operators_are_equal_in_every_report():
    # 198 and 78 LUTs in 2022.2 for the U250 and the U280, and in 2023.2
    for part, cost, luts in ((ReportedPart.ADDER, ADDER, 198), (ReportedPart.MULTIPLIER, MULTIPLIER, 78)):
        assert report_errors(part) == (0.0, 0.0, 2)
        assert cost.luts is not None and (cost.luts.value, cost.luts.mean_error) == (luts, 0.0)
        assert "before place and route" in cost.luts.source


def test_a_slave_takes_two_luts_for_each_bit_of_its_arguments():
    # (3624 - 552) / (28 x 64 - 256) = 2, and 552 - 2 x 256 = 40; three pointers and four scalars in report C: 680
    assert axi_lite(3, 4).luts.value == 40 + 2 * (3 * 64 + 4 * 32) == 680
    assert report_errors(ReportedPart.CONTROL)[:2] == (0.0, 0.0)


def test_a_master_is_compared_at_another_width_and_in_another_version():
    # 14.379 LUTs a bit and 639: 1099 for 32 bits, of which report D says 1118 and report C 736 with block RAM
    luts, _, _ = operator_figures(ReportedPart.MASTER, 32)
    assert luts == pytest.approx(4320 - (8001 - 4320) / 256 * 224)
    mean, worst, reports = report_errors(ReportedPart.MASTER)
    assert reports == 4
    assert worst == pytest.approx(luts / 736 - 1)
    assert mean == pytest.approx((luts / 736 - 1 + 1 - luts / 1118) / 4)
    assert AXI_MASTER.luts is not None and AXI_MASTER.luts.worst_error == worst


def test_what_nothing_was_compared_with_says_so():
    rule = Figure(8.0, Origin.CLOSED_FORM, None, None, "a LUT a bit")
    said = error_text(rule)
    assert said.startswith("error not known: ") and "no netlist or report" in said
    assert error_text(None) == "error not known: no price"
    assert error_text(AXI_MASTER.luts) == "mean 12.8 %, worst 49.3 %"
