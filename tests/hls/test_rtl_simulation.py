"""The netlist simulator on hand-made cells."""

from __future__ import annotations

import numpy as np
import pytest

from hls.rtl_simulation import bits_of, integers_of, lanes_of, netlist_of


def netlist(inputs: dict, outputs: dict, **cells: dict):
    ports = {n: {"direction": "input", "bits": b} for n, b in inputs.items()}
    ports |= {n: {"direction": "output", "bits": b} for n, b in outputs.items()}
    return netlist_of({"ports": ports, "cells": cells})


@pytest.mark.parametrize("inputs", range(1, 7))
def test_a_lut_is_its_table(inputs):
    rng = np.random.default_rng(inputs)
    codes = np.arange(1 << inputs)
    for table in [
        0,
        (1 << (1 << inputs)) - 1,
        *(int.from_bytes(rng.bytes(8)) % (1 << (1 << inputs)) for _ in range(20)),
    ]:
        pins = {f"I{i}": [10 + i] for i in range(inputs)} | {"O": [50]}
        cell = {"type": f"LUT{inputs}", "connections": pins, "parameters": {"INIT": f"{table:b}"}}
        net = netlist({"x": list(range(10, 10 + inputs))}, {"y": [50]}, lut=cell)
        found = integers_of(net.run({"x": bits_of(codes[None], inputs)})["y"], signed=False)[0]
        assert found.tolist() == [table >> code & 1 for code in codes.tolist()]


def test_a_carry_chain_adds():
    # S = a xor b in LUTs, DI = a: the textbook adder (AMD UG574, carry logic). Every pair of 4-bit numbers.
    a, b = list(range(10, 14)), list(range(20, 24))
    cells = {
        f"x{i}": {
            "type": "LUT2",
            "connections": {"I0": [a[i]], "I1": [b[i]], "O": [30 + i]},
            "parameters": {"INIT": "0110"},
        }
        for i in range(4)
    }
    pins = {"S": [30, 31, 32, 33], "DI": a, "CI": ["0"], "CYINIT": ["0"], "O": [40, 41, 42, 43], "CO": [50, 51, 52, 53]}
    net = netlist({"a": a, "b": b}, {"sum": [40, 41, 42, 43, 53]}, c={"type": "CARRY4", "connections": pins}, **cells)
    left, right = np.divmod(np.arange(256)[None], 16)
    found = integers_of(net.run({"a": bits_of(left, 4), "b": bits_of(right, 4)})["sum"], signed=False)
    assert net.combinational
    assert (found == left + right).all()


def test_a_flip_flop_has_enable_and_synchronous_reset():
    pins = {"D": [10], "CE": [11], "R": [12], "C": [1], "Q": [50]}
    net = netlist({"clk": [1], "d": [10], "ce": [11], "r": [12]}, {"q": [50]}, f={"type": "FDRE", "connections": pins})
    rows = [(1, 1, 0), (0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 1, 0)]  # d, ce, r in each cycle
    columns = np.array(rows, dtype=bool).T[..., None, None]
    q = net.run(dict(zip(("d", "ce", "r"), columns, strict=True)))["q"][:, 0, 0]
    assert q.tolist() == [True, True, False, False, True]  # set, held, cleared by data, reset wins, set


@pytest.mark.parametrize("width", [4, 63, 64, 80])
def test_bits_and_integers_are_inverse(width):
    values = np.array([[0, 1, -1, -(1 << (width - 1)), (1 << (width - 1)) - 1]], dtype=object)
    assert (integers_of(bits_of(values, width), signed=True) == values).all()


def test_lanes_lie_side_by_side_lowest_first():
    assert integers_of(lanes_of(np.array([[[0x1, 0x2, 0xF]]]), 4), signed=False).tolist() == [[0xF21]]


def test_a_loop_is_refused():
    inverter = {"type": "INV", "connections": {"I": [50], "O": [50]}}
    with pytest.raises(ValueError, match="no combinational loop, not one through bit 50"):
        netlist({}, {"y": [50]}, i=inverter)


def test_an_unknown_cell_is_named():
    with pytest.raises(NotImplementedError, match="without cells of type DSP48E1"):
        netlist({}, {"y": [50]}, d={"type": "DSP48E1", "connections": {"P": [50]}})


def dsp(parameters: dict | None = None, **pins: list) -> dict:
    """A DSP48E2 that multiplies A by B (UG579: OPMODE 000000101 takes both halves of the product, Z and W are 0)."""
    modes = {
        "OPMODE": [*"101000000"],
        "ALUMODE": ["0"] * 4,
        "INMODE": ["0"] * 5,
        "CARRYIN": ["0"],
        "CARRYINSEL": ["0"] * 3,
    }
    connections = {**modes, "A": list(range(100, 130)), "B": list(range(200, 218)), "P": list(range(300, 348)), **pins}
    return {"type": "DSP48E2", "connections": connections, "parameters": parameters or {"PREG": "0" * 32}}


def test_a_dsp_multiplies_27_by_18_bits():
    net = netlist({"a": list(range(100, 130)), "b": list(range(200, 218))}, {"p": list(range(300, 348))}, d=dsp())
    rng = np.random.default_rng(3)
    a, b = rng.integers(-(1 << 26), 1 << 26, (1, 200)), rng.integers(-(1 << 17), 1 << 17, (1, 200))
    a[0, :2], b[0, :2] = -(1 << 26), [-(1 << 17), (1 << 17) - 1]
    found = integers_of(net.run({"a": bits_of(a, 30), "b": bits_of(b, 18)})["p"], signed=True)
    assert (found == a * b).all()


@pytest.mark.parametrize(
    "cell",
    [dsp({"PREG": "0" * 31 + "1"}), dsp(OPMODE=[*"101001000"]), dsp(CARRYIN=[7])],
    ids=["register", "mode", "wire"],
)
def test_a_dsp_that_does_more_is_refused(cell):
    with pytest.raises(NotImplementedError, match="DSP48E2s are simulated as multipliers, not with"):
        netlist({}, {}, d=cell)


def test_a_missing_input_is_named():
    net = netlist({"a": [10], "b": [11]}, {"y": [10]})
    with pytest.raises(ValueError, match=r"every input, not without \['b'\]"):
        net.run({"a": np.zeros((1, 1, 1), bool)})
