"""What stands around PEs: recorded netlists of today's RTL, prices that follow from some, errors on the others."""

from __future__ import annotations

import numpy as np
import pytest

from hls.hls_operators import to_float
from hls.structure_netlists import COMPARED, DESIGNS, USED, code_picker, main, measured, structure_rows, sum_to_float
from hls.structure_prices import (
    Structure,
    picker_luts,
    structure_errors,
    structure_figure,
    to_float_luts,
    window_luts,
)
from hwmodel.unit_cost import Origin


@pytest.mark.parametrize("design", DESIGNS, ids=lambda one: one.name)
def test_every_netlist_is_of_todays_rtl_and_was_checked(design):
    row = structure_rows()[design.name]
    assert row.rtl == design.rtl, "python -m hls.structure_netlists makes it again"
    assert row.checked >= 1000 and row.luts > 0


def test_no_netlist_is_both_a_price_and_a_comparison():
    assert not {one.name for one in USED} & {one.name for one in COMPARED}
    assert {one.name for one in (*USED, *COMPARED)} == set(structure_rows())


def test_four_inputs_of_a_multiplexer_are_a_lut():
    # six signals: four bits and two of their number; five signals of two inputs share a site with their neighbour
    assert picker_luts(4) == 1.0 and picker_luts(2) == 0.5 and picker_luts(1) == 0.0
    assert picker_luts(3) == picker_luts(4) and picker_luts(64) == 2 * picker_luts(32)


def test_more_ways_places_and_bits_never_cost_less():
    for luts, sizes in ((picker_luts, range(1, 80)), (window_luts, range(1, 300)), (to_float_luts, range(2, 100))):
        values = [luts(size) for size in sizes]
        assert values == sorted(values)


@pytest.mark.parametrize("kind", Structure)
def test_prices_are_near_netlists_that_they_are_not_made_of(kind):
    mean, worst, netlists = structure_errors(kind)
    assert netlists >= 3
    assert mean <= 0.25 and worst <= 0.5


def test_conversions_carry_the_error_of_their_netlists():
    mean, worst, _ = structure_errors(Structure.TO_FLOAT)
    luts = to_float(20).luts
    assert luts is not None and luts.origin is Origin.FIT
    assert (luts.mean_error, luts.worst_error) == (mean, worst)
    row = structure_rows()[sum_to_float(20).name]  # left out of the price
    assert abs(luts.value - row.luts) <= worst * row.luts
    assert structure_figure(Structure.PICKER, 3.0, "three").value == 3.0


@pytest.mark.synth
def test_a_netlist_comes_out_as_recorded():
    pytest.importorskip("pyosys")
    for design in (code_picker(4, 4), sum_to_float(12)):
        assert measured(design) == structure_rows()[design.name]


def test_the_command_makes_nothing_that_is_there(capsys, monkeypatch):
    monkeypatch.setattr("hls.structure_netlists.require_yosys", lambda: "0.70")
    monkeypatch.setattr("hls.structure_netlists.measured", lambda design: pytest.fail(design.name))
    assert main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(DESIGNS) == np.unique(said).size
