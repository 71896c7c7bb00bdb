"""Any PE: recorded, adjusted, closed form, fitted, scaled."""

import pytest

from datatypes.catalog import FP16, INT16, INTS, MINIFLOATS
from hwmodel.synthesis_table import best_rows, synthesis_rows
from hwmodel.unit_cost import Origin, price_pe, recorded
from hwmodel.unit_cost_design import Arithmetic, FixedAccumulator, design, design_of_row, pe_design
from hwmodel.unit_cost_errors import held_out
from hwmodel.unit_cost_libraries import library_ratio

E2M1, E4M3, E5M2 = (MINIFLOATS[name] for name in ("e2m1", "e4m3", "e5m2"))


@pytest.mark.parametrize("target", ["lut6", "sky130hd", "sg13g2"])
def test_a_recorded_netlist_is_priced_as_it_is(target):
    rows = best_rows(target)
    for row in rows.values():
        cost = price_pe(design_of_row(row), target)
        figure = cost.luts if target == "lut6" else cost.area_um2
        assert figure.origin is Origin.RECORDED
        assert figure.value == (row.luts if target == "lut6" else row.area_um2)
        assert figure.worst_error == 0
        assert row.design in figure.source


def test_an_accumulator_of_another_width_is_adjusted_bit_by_bit():
    known, wide = price_pe(pe_design(E4M3, E4M3)), price_pe(pe_design(E4M3, E4M3, accumulator=FixedAccumulator(51)))
    assert wide.luts.origin is Origin.ADJUSTED
    # the recorded accumulator has 37 + 10 bits; a LUT and a flip-flop for each of four more
    assert wide.luts.value == known.luts.value + 4
    assert wide.flip_flops.value == known.flip_flops.value + 4


def test_cells_of_a_wider_accumulator_hold_its_flip_flops():
    known, wide = (price_pe(pe_design(E2M1, E2M1, accumulator=a), "sky130hd") for a in (None, FixedAccumulator(29)))
    assert wide.area_um2.value >= known.area_um2.value + 10 * 20.0  # ten of sky130_fd_sc_hd__dfxtp_1 at least


def test_integers_beyond_the_table_follow_the_closed_form():
    one = pe_design(INT16, INTS[8])
    cost = price_pe(one, table=False)
    # 4 pairs of rows of 17 bits, 3 sums of 18, 34 bits of accumulator
    assert cost.luts.value == 4 * 17 + 3 * 18 + 34
    assert cost.luts.origin is Origin.CLOSED_FORM
    assert cost.flip_flops.value == 34
    assert recorded(one, "lut6").luts == cost.luts.value  # a netlist that closed forms need none of


def test_without_the_table_a_recorded_netlist_is_fitted_with_its_error():
    cost = price_pe(pe_design(E4M3, E4M3), table=False)
    errors = held_out("Kulisch", "lut6", small=False)
    assert cost.luts.origin is Origin.FIT
    assert cost.luts.worst_error == pytest.approx(errors.worst)
    truth = recorded(pe_design(E4M3, E4M3), "lut6").luts
    assert abs(cost.luts.value / truth - 1) <= cost.luts.worst_error
    assert not cost.outside


@pytest.mark.parametrize("target", ["lut6", "sky130hd"])
def test_integers_beside_minifloats_cost_more_than_either_multiplier_and_are_fitted(target):
    cost = price_pe(pe_design(INTS[4], E4M3), target)
    figure = cost.luts or cost.area_um2
    assert figure.origin is Origin.FIT
    narrow = price_pe(pe_design(INTS[3], E4M3), target)
    assert figure.value > (narrow.luts or narrow.area_um2).value


def test_an_extrapolation_says_so_and_stays_above_what_it_holds():
    cost = price_pe(pe_design(FP16, FP16), table=False)  # exact: 80 shifts, 22 bits of product
    assert cost.outside
    assert cost.luts.value > 80 + cost.flip_flops.value


def test_registered_operands_are_flip_flops_and_no_luts():
    bare = pe_design(MINIFLOATS["e3m3"], MINIFLOATS["e3m3"])
    held = bare.replaced(INPUT_REGISTER=1)
    a, b = (price_pe(one, table=False) for one in (bare, held))
    assert a.luts.value == b.luts.value
    assert b.flip_flops.value == a.flip_flops.value + 2 * 7 + 1  # operands and clear


def test_dsps_take_integer_macs():
    cost = price_pe(pe_design(INTS[8], INTS[8], lanes=4), dsp=True)
    assert (cost.luts.value, cost.flip_flops.value, cost.dsps.value) == (0, 0, 4)
    with pytest.raises(NotImplementedError, match="a DSP48E2 multiplies integers of up to 27 x 18 bits into 48"):
        price_pe(pe_design(E4M3, E4M3), dsp=True)
    with pytest.raises(NotImplementedError, match="a DSP48E2 multiplies"):
        price_pe(pe_design(INTS[8], INTS[8], accumulator=FixedAccumulator(49)), dsp=True)
    with pytest.raises(NotImplementedError, match="DSPs are on FPGAs, not in sky130hd"):
        price_pe(pe_design(INTS[8], INTS[8]), "sky130hd", dsp=True)


def test_a_library_without_a_table_is_scaled_with_the_error_of_that():
    cost = price_pe(pe_design(E5M2, E5M2), "nangate45")
    assert cost.area_um2.origin is Origin.SCALED
    assert cost.area_um2.worst_error == pytest.approx(library_ratio("nangate45").worst_error)
    # Nangate45 by other RTL: 1214 um2
    assert cost.area_um2.value == pytest.approx(1214, rel=library_ratio("nangate45").worst_error + 0.01)


def test_products_alone_have_no_registers():
    cost = price_pe(pe_design(E2M1, E2M1, arithmetic=Arithmetic.MULTIPLIER))
    assert cost.flip_flops.value == 0
    assert cost.luts.value == best_rows("lut6")["minifloat_multiplier.e2m1.e2m1"].luts


def test_unknown_targets_and_families_are_one_sentence():
    with pytest.raises(ValueError, match="target must be one of .*lut6.*, not 'lut5'"):
        price_pe(pe_design(INTS[4], INTS[4]), "lut5")
    with pytest.raises(ValueError, match="to be priced outside the table, not 'flint_decode'"):
        price_pe(design("flint_decode", BITS=9, ACCUMULATOR_BITS=0))


def test_bit_serial_on_luts_is_a_closed_form():
    cost = price_pe(pe_design(INTS[8], INTS[8], arithmetic=Arithmetic.WEIGHT_SERIAL, lanes=16), table=False)
    # tree of 16 terms of 8 bits: 146, a gate for each of the 8 adders of its first level; 12 bits of the sum negated;
    # running sum of 12 + 8 bits; 26 bits of accumulator
    assert cost.luts.value == 146 + 8 + 12 + 20 + 26
    assert cost.luts.origin is Origin.CLOSED_FORM


def test_one_dsp_for_each_product_is_what_synthesis_infers():
    rows = [row for row in synthesis_rows("lut6") if row.dsps and row.family == "int_dot"]
    assert rows and all(row.checked for row in rows)
    for row in rows:
        assert price_pe(design_of_row(row), dsp=True).dsps.value == row.dsps
