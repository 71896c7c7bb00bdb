"""Designs from formats are the recorded ones."""

import csv

import pytest

from datatypes.catalog import BF16, FLINT4, FP16, INTS, MINIFLOATS, NF4, UINTS
from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost_design import (
    Arithmetic,
    FixedAccumulator,
    FloatAccumulator,
    design_of_row,
    fixed_product_bits,
    operand,
    pe_design,
)
from hwmodel.unit_cost_truth import LUTS

E2M1, E4M3 = MINIFLOATS["e2m1"], MINIFLOATS["e4m3"]
MX_INT8 = INTS[8]
SERIAL = Arithmetic.WEIGHT_SERIAL
CASES = {
    "int_dot.w4a8.x1": lambda: pe_design(INTS[4], INTS[8]),
    "int_dot.w8u3.x1": lambda: pe_design(INTS[8], UINTS[3]),
    "int_multiplier.w2a7": lambda: pe_design(INTS[7], INTS[2], arithmetic=Arithmetic.MULTIPLIER),
    "minifloat_dot.e4m3.e4m3.x1": lambda: pe_design(E4M3, E4M3),
    "minifloat_product.e2m1.e2m1": lambda: pe_design(E2M1, E2M1, arithmetic=Arithmetic.FIXED_PRODUCT),
    "float_mac.fp16.fp16.acc_e8m23": lambda: pe_design(FP16, FP16, accumulator=FloatAccumulator()),
    "float_int_mac.w4.fp16": lambda: pe_design(INTS[4], FP16, accumulator=FloatAccumulator()),
    "mx_block_dot.mx_int8.x16": lambda: pe_design(MX_INT8, MX_INT8, arithmetic=Arithmetic.BLOCK, lanes=16),
    "mx_block_dot.e2m1.x4": lambda: pe_design(E2M1, E2M1, arithmetic=Arithmetic.BLOCK, lanes=4),
    "bit_serial_dot.w4a8.x16": lambda: pe_design(INTS[4], INTS[8], arithmetic=SERIAL, lanes=16),
    "bit_bit_dot.x64": lambda: pe_design(INTS[8], INTS[8], arithmetic=Arithmetic.BOTH_SERIAL, lanes=64),
    "term_serial_dot.a8.s3.x4": lambda: pe_design(INTS[8], INTS[8], arithmetic=Arithmetic.TERM_SERIAL, lanes=4),
    "bitmod_pe.x4": lambda: pe_design(E2M1, FP16, arithmetic=Arithmetic.BITMOD, lanes=4),
    "codebook_dot.nf4_e8.a8.x4": lambda: pe_design(NF4, INTS[8], lanes=4),
    "codebook_float_mac.nf4.fp16": lambda: pe_design(NF4, FP16),
    "flint_int_dot.flint4.a8.x4": lambda: pe_design(FLINT4, INTS[8], lanes=4),
    "flint_flint_dot.flint4.x4": lambda: pe_design(FLINT4, FLINT4, lanes=4),
}


@pytest.mark.parametrize("name", CASES)
def test_formats_lead_to_the_recorded_netlist(name):
    rows = [table[name] for table in map(best_rows, ("lut6", "sky130hd", "sg13g2")) if name in table]
    if not rows:
        pytest.skip(f"{name} is not recorded yet")
    assert design_of_row(rows[0]) == CASES[name]()


def test_roles_of_equal_kinds_may_be_exchanged():
    assert pe_design(INTS[8], INTS[4]) == pe_design(INTS[4], INTS[8])
    assert pe_design(E4M3, E2M1) == pe_design(E2M1, E4M3)


def test_width_of_exact_products_agrees_with_other_rtl():
    seen = set()
    with LUTS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["module"] == "mf_mac":
                weight, activation = MINIFLOATS[row["weight"]], MINIFLOATS[row["activation"]]
                bits = fixed_product_bits(*operand(weight), *operand(activation))
                assert bits + 10 == int(row["accumulator_bits"])  # ten guard bits there as here
                seen.add(row["weight"])
    assert len(seen) == 19


def test_integers_beside_floats_are_sign_and_significand():
    # -8..7 has magnitudes of up to 4 bits, 7 of 3: sign and three bits, no exponent
    assert operand(INTS[4]) == (0, 2)
    one = pe_design(INTS[4], E4M3)
    assert one.family == "minifloat_dot"
    # E4M3 shifts 15 bits by up to 14: product 3 x 4 bits, sign, 14
    assert one.get("ACCUMULATOR_BITS") == 3 + 4 + 1 + 14 + 10


def test_accumulator_is_as_asked():
    assert pe_design(INTS[4], INTS[4], accumulator=FixedAccumulator(32)).get("ACCUMULATOR_BITS") == 32
    assert pe_design(BF16, BF16, accumulator=FloatAccumulator(5, 10)).get("ACCUMULATOR_BITS") == 16


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pe_design(INTS[4], INTS[4], lanes=0), ValueError, "lanes of a PE must be at least 1, not 0"),
        (lambda: pe_design(INTS[4], INTS[4], arithmetic=Arithmetic.MULTIPLIER, lanes=2), ValueError,
         "a product alone must have one lane and no accumulator"),
        (lambda: FixedAccumulator(1), ValueError, "bits of an accumulator must be at least 2, not 1"),
        (lambda: FloatAccumulator(1, 3), ValueError, "must have 2 exponent bits and 1 mantissa bit or more"),
        (lambda: pe_design(E2M1, E4M3, arithmetic=Arithmetic.BLOCK), NotImplementedError, "take one format"),
        (lambda: pe_design(E2M1, E2M1, arithmetic=Arithmetic.BLOCK, accumulator=FixedAccumulator()),
         NotImplementedError, "accumulate in FP32"),
        (lambda: pe_design(INTS[4], FP16, arithmetic=SERIAL), NotImplementedError, "serial PEs take integer"),
        (lambda: pe_design(E2M1, INTS[8], arithmetic=SERIAL), NotImplementedError, "weights must be integers"),
        (lambda: pe_design(NF4, E4M3), NotImplementedError, "a code book meets integers or FP16, not e4m3"),
        (lambda: pe_design(NF4, FP16, lanes=2), NotImplementedError, "meets FP16 in one lane"),
        (lambda: pe_design(E4M3, INTS[8], arithmetic=Arithmetic.BITMOD), NotImplementedError, "its own formats"),
        (lambda: pe_design(INTS[4], NF4), NotImplementedError, "multiplies integers, floats and code books, not nf4"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
