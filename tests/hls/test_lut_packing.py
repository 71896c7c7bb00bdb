"""The packing rule on netlists small enough to count by hand."""

from __future__ import annotations

import pytest

from hls.lut_packing import count_luts


def lut(output: int, *inputs: int) -> dict:
    pins = {f"I{i}": [bit] for i, bit in enumerate(inputs)} | {"O": [output]}
    directions = dict.fromkeys(pins, "input") | {"O": "output"}
    return {"type": f"LUT{len(inputs)}", "connections": pins, "port_directions": directions}


def carry(select: list, data: list, sums: list, carries: list) -> dict:
    pins = {"S": select, "DI": data, "CI": ["0"], "CYINIT": ["0"], "O": sums, "CO": carries}
    directions = dict.fromkeys(pins, "input") | {"O": "output", "CO": "output"}
    return {"type": "CARRY4", "connections": pins, "port_directions": directions}


def module(outputs: list, **cells: dict) -> dict:
    return {"ports": {"y": {"direction": "output", "bits": outputs}}, "cells": cells}


def test_two_small_luts_that_read_five_signals_share_a_site():
    together = module([90, 91], a=lut(90, 1, 2, 3), b=lut(91, 3, 4, 5))
    assert (count_luts(together).luts, count_luts(together).pairs) == (1, 1)


def test_two_small_luts_that_read_six_signals_do_not():
    apart = module([90, 91], a=lut(90, 1, 2, 3), b=lut(91, 4, 5, 6))
    assert (count_luts(apart).luts, count_luts(apart).pairs) == (2, 0)


def test_a_lut_of_six_inputs_takes_a_site_alone():
    wide = module([90, 91], a=lut(90, 1, 2, 3, 4, 5, 6), b=lut(91, 1, 2))
    assert count_luts(wide).luts == 2


def test_pairs_prefer_the_partner_that_shares_most():
    # a (1 2 3) fits with b (1 2 4) and with c (3 4): b shares two signals, c one; c then stays alone.
    three = module([90, 91, 92], a=lut(90, 1, 2, 3), b=lut(91, 1, 2, 4), c=lut(92, 3, 4))
    assert (count_luts(three).luts, count_luts(three).pairs) == (2, 1)


def test_unrelated_small_luts_pair_when_they_fit():
    assert count_luts(module([90, 91], a=lut(90, 1, 2, 3), b=lut(91, 4, 5))).luts == 1


def test_a_carry_bit_holds_its_sum_lut_and_counts_to_the_last_one_in_use():
    # Two of four bits are read (sums 50 and 51): two sites; the sum LUT of bit 0 is inside, bit 1 has none.
    cells = {"s": lut(10, 1, 2), "c": carry([10, 3, 4, 5], [1, 6, 7, 8], [50, 51, 52, 53], [60, 61, 62, 63])}
    counted = count_luts(module([50, 51], **cells))
    assert (counted.luts, counted.carry_sites, counted.lut_cells, counted.carry_cells) == (2, 2, 1, 1)


def test_a_carry_bit_with_a_constant_sum_input_takes_no_site():
    counted = count_luts(
        module([60], c=carry(["1", 3, "0", "0"], [1, 6, "0", "0"], [70, 71, 72, 73], [74, 60, 75, 76]))
    )
    assert counted.luts == 1


@pytest.mark.parametrize(
    ("sum_inputs", "data_inputs", "sites"),
    [
        pytest.param((1, 2, 3), (3, 4, 5), 1, id="five signals together"),
        pytest.param((1, 2, 3), (4, 5, 6), 2, id="six signals together"),
    ],
)
def test_the_lut_at_the_data_input_is_inside_if_both_read_five_signals(sum_inputs, data_inputs, sites):
    cells = {"s": lut(10, *sum_inputs), "d": lut(11, *data_inputs)}
    cells["c"] = carry([10, "0", "0", "0"], [11, "0", "0", "0"], [50, 51, 52, 53], [60, 61, 62, 63])
    assert count_luts(module([50], **cells)).luts == sites


def test_a_data_term_that_only_the_sum_lut_reads_too_is_copied_into_it():
    # d = f(1, 2) feeds DI and the sum LUT s = g(d, 3): the site reads 1, 2, 3.
    cells = {"d": lut(11, 1, 2), "s": lut(10, 11, 3)}
    cells["c"] = carry([10, "0", "0", "0"], [11, "0", "0", "0"], [50, 51, 52, 53], [60, 61, 62, 63])
    assert count_luts(module([50], **cells)).luts == 1
    assert count_luts(module([50, 11], **cells)).luts == 2  # read elsewhere as well: a site of its own


def test_inverters_take_no_site():
    inverter = {"type": "INV", "connections": {"I": [1], "O": [9]}, "port_directions": {"I": "input", "O": "output"}}
    counted = count_luts(module([9], i=inverter))
    assert (counted.luts, counted.lut_cells) == (0, 1)


def test_flip_flops_muxes_and_dsps_are_counted():
    pins = {"connections": {"O": [9]}, "port_directions": {"O": "output"}}
    cells = {"f": {"type": "FDRE", **pins}, "m": {"type": "MUXF7", **pins}, "d": {"type": "DSP48E2", **pins}}
    counted = count_luts(module([9], **cells))
    assert (counted.flip_flops, counted.muxes, counted.dsps, counted.luts) == (1, 1, 1, 0)


def test_unmapped_cells_are_refused():
    with pytest.raises(NotImplementedError, match=r"cells must be mapped to the fabric, not of type \$mem"):
        count_luts(module([9], m={"type": "$mem", "connections": {"A": [1]}}))
