"""C++ flints, OliVe pairs and Tender sums equal the values of their formats, as PEs and as arithmetics of layers."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from datatypes.catalog import FLINT3, FLINT4, FLINT4_UNSIGNED, FLINT5, FP16, INTS, MINIFLOATS, OLIVE4_FLINT, OLIVE4_INT
from hls import rtl_constructors as make
from hls.rtl_designs import designs
from hls.rtl_vectors import random_codes, random_restarts, steps_of
from hls.rtl_vectors_float import accumulated, finite, lowest_place, smallest_step

QUICK = (
    make.decoder("flint_decode", (("BITS", 4),), "flint5", "flint5"),
    make.decoder("olive_decode", (("FLINT", 1),), "olive4_flint", "olive4_flint"),
    make.flint_flint_dot(5),
    make.tender_dot(4, 4, lanes=4),
)
NUMBERS = {
    FLINT3: "codesign::flint_number<3>",
    FLINT4: "codesign::flint_number<4>",
    FLINT5: "codesign::flint_number<5>",
    FLINT4_UNSIGNED: "codesign::flint_number<4, true>",
    INTS[4]: "codesign::int_number<4>",
    INTS[8]: "codesign::int_number<8>",
    MINIFLOATS["e4m3"]: "codesign::minifloat_number<4, 3>",
    FP16: "codesign::minifloat_number<5, 10>",
}


def flint(bench, weight, activation, lanes):
    """An exact dot product of flints with any numbers."""
    rng = np.random.default_rng(11)
    w, a = random_codes(rng, weight.bits, activation.bits, lanes)
    a = finite(a, activation)
    clear = random_restarts(rng, w.shape[:2])
    unit = bench.unit(f"codesign::flint_arithmetic<{weight.bits}, {NUMBERS[activation]}, {lanes}>")
    stimulus = bench.stimulus(w, a, clear, weight_bits=weight.bits, activation_bits=activation.bits)
    exponent = smallest_step(weight) + smallest_step(activation)
    sums = bench.running((steps_of(weight)[w] * steps_of(activation)[a]).sum(axis=2), clear)
    return unit, bench.vectors(stimulus, sums, exponent)


def pair_values(fmt, codes):
    """Elements of pair codes ``[..., pairs]``: integers ``[..., 2 * pairs]``."""
    return fmt.pair_table.astype(np.int64)[codes].reshape(*codes.shape[:-1], -1).astype(object)


def olive_number(fmt):
    return f"codesign::olive_number<{int(fmt is OLIVE4_FLINT)}>"


def olive(bench, fmt, activation, pairs):
    """Exact dot products of pairs with pairs of the same format, or with numbers of one code each."""
    rng = np.random.default_rng(13)
    both = activation is fmt
    w, a = random_codes(rng, 8, 8 if both else activation.bits, pairs)
    if not both:
        a = rng.integers(0, 1 << activation.bits, (*w.shape[:2], 2 * pairs))
    clear = random_restarts(rng, w.shape[:2])
    number = olive_number(fmt) if both else NUMBERS[activation]
    products = f"codesign::exact_products<{olive_number(fmt)}, {number}>"
    unit = bench.unit(f"codesign::olive_arithmetic<{int(fmt is OLIVE4_FLINT)}, {products}, {2 * pairs}>")
    stimulus = bench.stimulus(w, a, clear, weight_bits=8, activation_bits=8 if both else activation.bits)
    values = pair_values(fmt, a) if both else steps_of(activation)[a]
    sums = bench.running((pair_values(fmt, w) * values).sum(axis=2), clear)
    return unit, bench.vectors(stimulus, sums, 0 if both else smallest_step(activation))


def olive_rounded(bench, fmt, pairs):
    """Pairs and FP16 activations, one rounding a product into FP32."""
    rng = np.random.default_rng(17)
    w = rng.integers(0, 256, (4, 512, pairs))
    a = finite(rng.integers(0, 1 << 16, (4, 512, 2 * pairs)), FP16)
    clear = random_restarts(rng, w.shape[:2])
    products = f"codesign::rounded_products<{olive_number(fmt)}, {NUMBERS[FP16]}>"
    unit = bench.unit(f"codesign::olive_arithmetic<{int(fmt is OLIVE4_FLINT)}, {products}, {2 * pairs}>")
    addends = np.moveaxis(pair_values(fmt, w) * steps_of(FP16)[a], 2, 1).reshape(-1, 512)  # a lane after the other
    again = np.repeat(clear, 2 * pairs, axis=0)
    again[np.arange(len(again)) % (2 * pairs) > 0] = False
    place = smallest_step(FP16) - lowest_place((8, 23))
    codes = accumulated(addends, np.full(addends.shape, place), again, (8, 23))[2 * pairs - 1 :: 2 * pairs]
    return unit, bench.value_vectors(bench.stimulus(w, a, clear, weight_bits=8, activation_bits=16), codes)


def tender(bench, bits, lanes):
    """Slabs of random lengths: the sum doubles between two."""
    fmt = INTS[bits]
    rng = np.random.default_rng(19)
    w, a = random_codes(rng, bits, bits, lanes, cycles=8)
    clear = random_restarts(rng, w.shape[:2])
    rescale = ~clear & (rng.random(clear.shape) < 0.3)
    total, rows = np.zeros(w.shape[1], dtype=object), []
    for row, again, double in zip((steps_of(fmt)[w] * steps_of(fmt)[a]).sum(axis=2), clear, rescale, strict=True):
        total = np.where(double, 2 * total, np.where(again, 0, total) + row)
        rows.append(total)
    unit = bench.unit(f"codesign::tender_arithmetic<{bits}, {bits}, false, {lanes}>")
    stimulus = bench.stimulus(w, a, clear, weight_bits=bits, activation_bits=bits, rescale=rescale)
    return unit, bench.vectors(stimulus, np.stack(rows), 0)


def quick(bench):
    """Units of the session's common program."""
    return [
        *bench.twins(QUICK),
        flint(bench, FLINT4, INTS[8], 1),
        olive(bench, OLIVE4_FLINT, OLIVE4_FLINT, 2),
        tender(bench, 4, 3),
    ]


def test_quick_twins_and_arithmetics_equal_the_values_of_their_formats(quick_check):
    assert quick_check(sys.modules[__name__]) > 25_000


@pytest.mark.slow
def test_every_twin_of_the_sweep_equals_the_values_of_its_formats(arithmetic_bench):
    assert arithmetic_bench.check(arithmetic_bench.twins(designs("shift"))) > 1_000_000


@pytest.mark.slow
def test_every_arithmetic_equals_the_values_of_its_formats(arithmetic_bench):
    bench = arithmetic_bench
    pairs = [flint(bench, weight, activation, 1) for weight in (FLINT3, FLINT4, FLINT5) for activation in NUMBERS
             if activation is not FP16]  # fmt: skip
    pairs += [flint(bench, FLINT4, activation, 5) for activation in (FLINT4, FLINT4_UNSIGNED, FP16)]
    for fmt in (OLIVE4_INT, OLIVE4_FLINT):
        pairs += [
            olive(bench, fmt, activation, count)
            for activation in (fmt, INTS[8], MINIFLOATS["e4m3"])
            for count in (1, 3)
        ]
        pairs += [olive_rounded(bench, fmt, 2)]
    pairs += [tender(bench, bits, lanes) for bits in (4, 8) for lanes in (1, 5)]
    assert bench.check(pairs) > 1_000_000
