"""C++ bit-serial and term-serial PEs equal integer dot products, in as many cycles as the machines they come from."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from datatypes.catalog import INTS, UINTS
from datatypes.recoding import Recoding
from hls import rtl_constructors as make
from hls.rtl_designs import designs
from hls.rtl_vectors import random_codes, random_restarts, steps_of
from hwmodel.pe_functional_serial import loom_dot, pragmatic_dot, stripes_dot

QUICK = (make.bit_serial_dot(8, 3, lanes=4), make.bit_bit_dot(lanes=16), make.term_serial_dot(4, lanes=4))


def integers(bench, cpp, weight_bits, activation_bits, lanes, cycles, *, unsigned=False):
    """Vectors of an arithmetic of integers: every pair of codes for one lane, random ones else; and the cycles of an
    accumulate."""
    rng = np.random.default_rng(23)
    w, a = random_codes(rng, weight_bits, activation_bits, lanes)
    clear = random_restarts(rng, w.shape[:2])
    activation = (UINTS if unsigned else INTS)[activation_bits]
    products = (steps_of(INTS[weight_bits])[w] * steps_of(activation)[a]).sum(axis=2)
    sums = bench.running(products, clear)
    stimulus = bench.stimulus(w, a, clear, weight_bits=weight_bits, activation_bits=activation_bits)
    vectors = bench.vectors(stimulus, sums, 0)
    expected = {**vectors.expected, "cycles": np.full(clear.shape, cycles)}
    return bench.unit(f"codesign::{cpp}"), replace(vectors, expected=expected)


def bit_serial(bench, weight_bits, activation_bits, lanes, *, serial_weight, unsigned=False):
    flags = f"{str(unsigned).lower()}, {str(serial_weight).lower()}"
    cpp = f"bit_serial_arithmetic<{weight_bits}, {activation_bits}, {flags}, {lanes}, 32>"
    bits = weight_bits if serial_weight else activation_bits
    cycles = stripes_dot([0] * lanes, [0] * lanes, activation_bits=bits, lanes=lanes).cycles
    return integers(bench, cpp, weight_bits, activation_bits, lanes, cycles, unsigned=unsigned)


def bit_bit(bench, weight_bits, activation_bits, lanes, *, unsigned=False):
    cpp = f"bit_bit_arithmetic<{weight_bits}, {activation_bits}, {str(unsigned).lower()}, {lanes}, 32>"
    zeros = [0] * lanes
    cycles = loom_dot(zeros, zeros, activation_bits=activation_bits, weight_bits=weight_bits, lanes=lanes).cycles
    return integers(bench, cpp, weight_bits, activation_bits, lanes, cycles, unsigned=unsigned)


def term_serial(bench, weight_bits, activation_bits, lanes, *, unsigned=False):
    cpp = f"term_serial_arithmetic<{weight_bits}, {activation_bits}, {str(unsigned).lower()}, {lanes}, 32>"
    # No term is skipped: Pragmatic's slowest case, a weight all of whose Booth digits are 1 (0101...).
    ones = sum(1 << bit for bit in range(0, weight_bits - 1, 2))
    slowest = [ones - (1 << (weight_bits - 1)) * (weight_bits % 2)] * lanes
    cycles = pragmatic_dot([0] * lanes, slowest, weight_bits=weight_bits, recoding=Recoding.BOOTH, lanes=lanes).cycles
    return integers(bench, cpp, weight_bits, activation_bits, lanes, cycles, unsigned=unsigned)


def quick(bench):
    """Units of the session's common program."""
    return [
        *bench.twins(QUICK),
        bit_serial(bench, 4, 5, 3, serial_weight=True, unsigned=True),
        bit_serial(bench, 4, 5, 1, serial_weight=False),
        bit_bit(bench, 3, 4, 1),
        term_serial(bench, 5, 4, 1, unsigned=True),
    ]


def test_quick_twins_and_arithmetics_equal_integer_dot_products_in_the_stated_cycles(quick_check):
    assert quick_check(sys.modules[__name__]) > 20_000


@pytest.mark.slow
def test_every_twin_of_the_sweep_equals_integer_dot_products(arithmetic_bench):
    assert arithmetic_bench.check(arithmetic_bench.twins(designs("serial"))) > 35_000


@pytest.mark.slow
def test_every_arithmetic_equals_integer_dot_products(arithmetic_bench):
    bench = arithmetic_bench
    widths = [(2, 8), (3, 3), (4, 8), (5, 6), (8, 2), (8, 8)]
    pairs = []
    for w, a in widths:
        for unsigned in (False, True):
            pairs += [bit_serial(bench, w, a, 1, serial_weight=serial, unsigned=unsigned) for serial in (False, True)]
            pairs += [bit_bit(bench, w, a, 1, unsigned=unsigned), term_serial(bench, w, a, 1, unsigned=unsigned)]
    pairs += [bit_serial(bench, 4, 8, 16, serial_weight=True), bit_bit(bench, 4, 4, 5), term_serial(bench, 7, 8, 4)]
    assert bench.check(pairs) > 500_000
