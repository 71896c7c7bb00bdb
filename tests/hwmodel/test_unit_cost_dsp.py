"""LUTs beside DSP slices: fields of a packed pair, the closed form against recorded netlists."""

import itertools

import pytest

from hwmodel.synthesis_table import synthesis_rows
from hwmodel.unit_cost import Origin, price_pe
from hwmodel.unit_cost_design import design, design_of_row
from hwmodel.unit_cost_dsp import dsp_count, dsp_errors, dsp_summary, fits_dsp, luts_beside, packing_luts, pair_ports


def pair(w, a, *, lanes=2, unsigned=0):
    return design(
        "int_pair_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, LANES=lanes, ACTIVATION_UNSIGNED=unsigned,
        ACCUMULATOR_BITS=w + a + 10,
    )  # fmt: skip


@pytest.mark.parametrize(("w", "a"), [(2, 2), (3, 3), (2, 5)])
def test_fields_of_a_pair_hold_every_sum_and_ports_every_operand(w, a):
    wide, narrow = pair_ports(pair(w, a))
    field = w + a + 1
    weights, activations = range(-(1 << (w - 1)), 1 << (w - 1)), range(-(1 << (a - 1)), 1 << (a - 1))
    largest = max(x * y + u * v for x, u in itertools.product(weights, repeat=2)
                  for y, v in itertools.product(activations, repeat=2))  # fmt: skip
    assert largest < 1 << (field - 1)
    for codes, bits in ((weights, w), (activations, a)):
        packed = [low + (high << field) for low, high in itertools.product(codes, repeat=2)]
        port = bits + field + 1
        assert port in (wide, narrow)
        assert -(1 << (port - 1)) <= min(packed) and max(packed) < 1 << (port - 1)


@pytest.mark.parametrize(("w", "a", "fits"), [(4, 8, True), (4, 4, True), (8, 8, False), (5, 8, False)])
def test_pairs_of_up_to_four_by_eight_bits_fit(w, a, fits):
    # 4 x 8: fields of 13 bits, ports of 4 + 14 and 8 + 14; 5 x 8: 5 + 15 is more than 18
    assert fits_dsp(pair(w, a)) is fits


def test_a_pair_takes_a_carry_bit_for_each_bit_that_is_packed_or_added():
    # two lanes of W4A8: 5 and 9 bits of the upper factors, 13 of the middle field, 22 of accumulator
    assert luts_beside(pair(4, 8)) == 5 + 9 + 13 + 22
    assert packing_luts(pair(4, 8, unsigned=1)) == 5 + 13  # unsigned factors lie side by side
    assert dsp_count(pair(4, 8, lanes=5)) == 3


def test_pairs_are_priced_with_what_netlists_say_of_the_form():
    cost = price_pe(pair(4, 8, lanes=16), dsp=True)
    assert cost.dsps.value == 8
    assert cost.luts.origin is Origin.CLOSED_FORM
    known = dsp_errors().query("family == 'int_pair_dot'")["error"].abs()
    assert cost.luts.worst_error == pytest.approx(known.max())
    assert cost.flip_flops.value == 22
    with pytest.raises(NotImplementedError, match="a DSP48E2 multiplies integers of up to 27 x 18 bits"):
        price_pe(pair(5, 8), dsp=True)


def test_every_recorded_netlist_with_dsps_was_simulated_and_has_the_dsps_of_the_form():
    errors = dsp_errors()
    assert len(errors) >= 34
    assert (errors["dsps"] == errors["dsps_ours"]).all()
    for row in synthesis_rows("lut6"):
        if row.dsps:
            assert row.checked, row.design


def test_the_form_meets_every_netlist_with_dsps():
    """The goal of 5 % and 15 %, with sums on carry chains; MACs and dot products of whole DSPs are met exactly."""
    table = dsp_summary().set_index(["family", "lanes"])
    assert len(table) >= 6
    assert (table["mean"] <= 0.04).all()
    assert (table["worst"] <= 0.08).all()
    assert table["worst"]["int_dot"].max() == 0.0


def test_a_design_of_several_flows_counts_once_with_its_smallest():
    errors = dsp_errors().set_index("design")
    assert errors.index.is_unique
    flows = {row.flow: row.luts for row in synthesis_rows("lut6") if row.design == "int_dot.w8a8.x4" and row.dsps}
    assert set(flows) == {"dsp", "dsp_chains"}
    assert errors["truth"]["int_dot.w8a8.x4"] == min(flows.values())


def test_every_recorded_pair_is_one_that_fits():
    rows = [row for row in synthesis_rows("lut6") if row.family == "int_pair_dot"]
    assert len(rows) >= 30
    assert all(fits_dsp(design_of_row(row)) and row.flow in ("dsp", "dsp_chains") for row in rows)
