"""Registers counted by architecture against those of every recorded netlist."""

import pytest

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import design_of_row
from hwmodel.unit_cost_registers import registers


@pytest.mark.parametrize("target", ["lut6", "sky130hd", "sg13g2"])
def test_registers_by_architecture_are_those_of_the_netlists(target):
    checked = 0
    for row in best_rows(target).values():
        count = registers(design_of_row(row)) if row.flip_flops is not None else None
        if count is not None:
            assert count == row.flip_flops, row.design
            checked += 1
    assert checked > 100
