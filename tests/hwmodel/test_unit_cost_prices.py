"""Prices of parts: the solver, what is left out, how wrong the fits are."""

import numpy as np
import pytest
from scipy.optimize import nnls

from hwmodel.unit_cost_prices import (
    error_table,
    fitted_targets,
    folds,
    held_out_errors,
    known_prices,
    nonnegative_least_squares,
    part_prices,
    register_um2,
    samples,
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


@pytest.mark.parametrize("target", fitted_targets())
def test_kulisch_macs_of_formats_left_out_are_within_the_goal(target):
    """At most 5 % on average and 15 % at worst, whole formats left out."""
    if len(samples("Kulisch", target)) < 20:
        pytest.skip(f"{target} has few minifloats yet")
    errors = held_out_errors("Kulisch", target)["error"].abs()
    assert errors.mean() <= 0.05
    assert errors.quantile(0.98) <= 0.15


@pytest.mark.parametrize("target", ["sky130hd", "sg13g2"])
def test_integer_macs_of_widths_left_out_are_within_the_goal(target):
    errors = held_out_errors("integer", target)["error"].abs()
    assert errors.mean() <= 0.05
    assert errors.quantile(0.98) <= 0.15


def test_no_price_is_negative():
    table = error_table(fitted_targets())
    assert len(table) > 10
    for row in table.to_dict("records"):
        assert all(price >= 0 for price in part_prices(row["group"], row["target"]).prices.values())
        assert row["mean"] <= row["worst"]


def test_a_format_left_out_is_left_out_of_every_row_that_touches_it():
    chosen = samples("Kulisch", "sky130hd")
    left_out = folds("Kulisch", chosen)
    for name, outside in left_out.items():
        inside = [sample.row for index, sample in enumerate(chosen) if index not in outside]
        assert all(name not in (row.weight_format, row.activation_format) for row in inside)
    assert len(left_out) >= 24


def test_what_is_known_is_not_fitted():
    assert known_prices("Kulisch", "lut6")["accumulator"] == 1.0  # a bit of a carry chain is a LUT
    assert part_prices("Kulisch", "lut6").prices["accumulator"] == 1.0
    integers, kulisch = (part_prices(group, "sky130hd").prices for group in ("integer", "Kulisch"))
    assert kulisch["adder_bits"] == integers["adder_bits"] > 0


def test_a_flip_flop_costs_what_the_library_says():
    # sky130_fd_sc_hd__dfxtp_1, the smallest plain flip-flop of the library: 20.0192 um2
    assert register_um2("sky130hd") == pytest.approx(20.0192, rel=1e-3)


def test_too_few_netlists_are_one_sentence():
    with pytest.raises(ValueError, match="target osu018 must have 3 recorded designs of kind BitMoD or more"):
        part_prices("BitMoD", "osu018")


def test_a_target_without_flip_flops_has_no_register():
    with pytest.raises(ValueError, match="target must be one of"):
        register_um2("tsmc5")


@pytest.mark.parametrize("target", ["lut6", "sky130hd", "sg13g2"])
def test_float_accumulators_of_formats_left_out(target):
    if len(samples("float accumulator", target)) < 4:
        pytest.skip(f"few float accumulators are recorded in {target} yet")
    errors = held_out_errors("float accumulator", target)["error"].abs()
    assert errors.mean() <= 0.12
    known = part_prices("float accumulator", target).prices
    assert known["products"] == 1.0  # the multiplier inside costs what it costs alone
