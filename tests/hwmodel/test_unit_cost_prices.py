"""Prices of parts: the solver, what is left out, how wrong the fits are."""

import numpy as np
import pytest
from scipy.optimize import nnls

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import design
from hwmodel.unit_cost_prices import (
    fitted,
    fitted_targets,
    known_prices,
    nonnegative_least_squares,
    part_price,
    part_prices,
    register_um2,
    samples,
    small_size,
)


@pytest.mark.parametrize("seed", range(20))
def test_least_squares_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(15, 6)) + 0.5
    target = matrix @ np.maximum(rng.normal(size=6), 0) + 0.3 * rng.normal(size=15)
    ours, (theirs, _) = nonnegative_least_squares(matrix, target), nnls(matrix, target)
    assert (ours >= 0).all()
    assert np.allclose(ours, theirs, atol=1e-8)


def test_least_squares_with_equal_and_empty_columns():
    column = np.arange(1.0, 5.0)
    found = nonnegative_least_squares(np.stack([column, column, np.zeros(4)], axis=1), 3 * column)
    assert found[0] + found[1] == pytest.approx(3)
    assert found[2] == 0


def test_no_price_is_negative():
    every = list(fitted(fitted_targets()))
    assert len(every) > 30
    assert all(price >= 0 for prices in every for price in prices.prices.values())


def test_what_is_known_is_not_fitted():
    assert known_prices("Kulisch", "lut6")["accumulator"] == 1.0  # a bit of a carry chain is a LUT
    assert part_prices("Kulisch", "lut6").prices["accumulator"] == 1.0
    integers, tender = (part_prices(group, "sky130hd").prices for group in ("integer", "Tender"))
    assert tender["adder_bits"] == integers["adder_bits"] > 0
    flint, olive = (part_prices(group, "sky130hd").prices for group in ("flint", "OliVe"))
    assert olive["product"] == flint["product"] > 0
    assert olive["adder_bits"] == flint["adder_bits"] == integers["adder_bits"]


def test_errors_of_small_designs_count_as_of_the_size_below_which_they_are_small():
    for sample in samples("minifloat multiplier", "lut6"):
        assert sample.scale == max(sample.whole, 20.0)
    # 100 gates of sky130_fd_sc_hd__nand2_1, 3.7536 um2 each
    assert small_size("sky130hd") == pytest.approx(375.36)


@pytest.mark.parametrize("target", fitted_targets())
def test_no_kind_has_more_prices_than_a_third_of_its_netlists(target):
    for prices in fitted([target]):
        chosen = samples(prices.group, target)
        fit = {name for sample in chosen for name in sample.parts} - known_prices(prices.group, target).keys()
        assert 3 * len(fit) <= max(prices.rows, 9), (prices.group, len(fit), prices.rows)


def test_a_flip_flop_costs_what_the_library_says():
    # sky130_fd_sc_hd__dfxtp_1, the smallest plain flip-flop of the library: 20.0192 um2
    assert register_um2("sky130hd") == pytest.approx(20.0192, rel=1e-3)


def test_too_few_netlists_are_one_sentence():
    with pytest.raises(ValueError, match="target osu018 must have 3 recorded designs of kind Tender or more"):
        part_prices("Tender", "osu018")


def test_a_target_without_flip_flops_has_no_register():
    with pytest.raises(ValueError, match="target must be one of"):
        register_um2("tsmc5")


def test_adders_and_gates_of_two_libraries_differ_as_their_cells_do():
    sky130, ihp = (part_prices("integer", target).prices for target in ("sky130hd", "sg13g2"))
    # between the ratios of the two libraries' NAND2 (3.7536 / 7.2576) and AND2 (6.256 / 9.072), um2
    assert 3.7536 / 7.2576 < sky130["adder_bits"] / ihp["adder_bits"] < 6.256 / 9.072
    for prices, nand in ((sky130, 3.7536), (ihp, 7.2576)):
        assert nand <= prices["gates"] <= prices["adder_bits"] / 2  # a bit of a product, and half an adder


def test_a_decoder_costs_what_was_recorded():
    decoder = design("flint_decode", BITS=4, ACCUMULATOR_BITS=0)
    assert part_price(decoder, "lut6") == best_rows("lut6")["flint_decode.flint5"].luts
    assert part_price(decoder, "sg13g2") == best_rows("sg13g2")["flint_decode.flint5"].area_um2
    with pytest.raises(ValueError, match=r"flint_decode\(.*\) must be recorded in lut6 to price what holds it"):
        part_price(design("flint_flint_dot", BITS=8, LANES=1, ACCUMULATOR_BITS=40), "lut6")


def test_nothing_of_flint_pairs_on_luts_is_fitted_to_them():
    known, prices = known_prices("flint pair", "lut6"), part_prices("flint pair", "lut6").prices
    assert prices == known
    assert prices["levels"] == part_prices("Kulisch", "lut6").prices["levels"] > 0
