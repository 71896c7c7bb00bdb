"""Physical parts of every kind: hand counts and laws."""

import math

import pytest

from datatypes.catalog import INTS, MINIFLOATS
from hwmodel.unit_cost_design import Arithmetic, design, pe_design
from hwmodel.unit_cost_parts import GROUPS, group_of, parts_of


@pytest.mark.parametrize("lut", [True, False], ids=["luts", "cells"])
def test_more_mantissa_or_lanes_never_has_less_of_a_part(lut):
    def parts(exponent_bits, mantissa_bits, lanes):
        fmt = MINIFLOATS[f"e{exponent_bits}m{mantissa_bits}"]
        return parts_of(pe_design(fmt, fmt, lanes=lanes), lut=lut, price=lambda _: 1.0)

    for exponent_bits in (1, 2, 3, 4):
        for mantissa_bits in range(1, 6 - exponent_bits):
            narrow, wide = (parts(exponent_bits, mantissa_bits + more, 4) for more in (0, 1))
            total = {name for name in narrow if name not in ("array", "gates")}
            assert all(wide[name] >= narrow[name] for name in total)
        one, four = parts(exponent_bits, 2, 4), parts(exponent_bits, 2, 16)
        assert all(four[name] >= one[name] for name in one)


def test_every_group_has_parts_for_its_families():
    for group, families in GROUPS.items():
        assert all(group_of(family) == group for family in families)


def test_a_decoder_has_no_parts():
    with pytest.raises(ValueError, match="family must be one of int_multiplier, .* not 'flint_decode'"):
        group_of("flint_decode")


def test_products_in_fixed_point_on_luts_by_hand():
    def parts(weight, activation):
        one = pe_design(MINIFLOATS[weight], MINIFLOATS[activation], arithmetic=Arithmetic.FIXED_PRODUCT)
        return parts_of(one, lut=True, price=lambda _: 1.0)

    # six signals: a function for each of the bits of two exponents that shift by up to two places each, and a sign
    assert parts("e2m0", "e2m0") == {"plain": 3 + 2 + 2}
    # powers of two shift by up to 12 places, and the sum of two exponents of three bits is made; an exponent of one bit
    # shifts nothing, so nothing is added: five mantissa bits for five exponent bits
    assert parts("e3m0", "e3m0") == {"power_range": 12, "power_shift": 0, "power_exponent_sum": 6}
    assert parts("e1m5", "e5m0") == {"power_range": 30, "power_shift": 25, "power_exponent_sum": 0}
    # an adder for each pair of mantissa bits; seven bits with the sign shift by up to 6 + 2 places, in four stages that
    # reach one, three, seven and eight places; mantissa bits have 8 + 1 places and one more
    assert parts("e3m1", "e2m3") == {
        "adders": 1 * 3,
        "exponent_sum": 5,
        "range": 8,
        "shift_muxes": 8 + 10 + 14 + 15,
        "mantissa_levels": pytest.approx(4 * math.log2(10)),
    }


def test_parts_of_a_float_product_in_cells_by_hand():
    def parts(weight, activation):
        one = pe_design(MINIFLOATS[weight], MINIFLOATS[activation], lanes=4)
        return parts_of(one, lut=False, price=lambda _: 1.0)

    # E2M1 by E4M3: 1 x 3 adders; a decoded hidden bit meets three mantissa bits and one; exponents of 2 + 4 bits
    mixed = parts("e2m1", "e4m3")
    assert (mixed["product_adders"], mixed["hidden_rows"], mixed["exponent_sum"]) == (4 * 3, 4 * (3 + 1), 4 * 6)
    # seven bits with the sign, shifted by up to 2 + 14: a product of 23 bits, and ten more in the accumulator
    assert mixed["levels"] == pytest.approx(4 * 7 * math.log2(17))
    assert (mixed["width"], mixed["long_width"], mixed["accumulator_bits"]) == (4 * 23, 4 * 23, 33)
    assert mixed["sum_bits"] == 3 * 23 + 10 * 2
    # one-bit exponents decode nothing and shift nothing
    plain = parts("e1m2", "e1m2")
    assert plain["hidden_rows"] == plain["exponent_sum"] == plain["levels"] == plain["long_width"] == 0


def test_integer_parts_grow_with_lanes():
    def dot(lanes):
        return design("int_dot", WEIGHT_BITS=4, ACTIVATION_BITS=8, LANES=lanes, ACCUMULATOR_BITS=22)

    one, four = (parts_of(dot(n), lut=False, price=lambda _: 0.0) for n in (1, 4))
    assert four["rows"] == 4 * one["rows"]
    # one product is added by the accumulator alone
    assert one["adder_bits"] == one["clear_bits"] == four["clear_bits"] == 22
    # five words: two rows of full adders over the product's twelve bits; further bits of the accumulator, added last,
    # read one sign more than these: half an adder each, whose other half they share, and the last adder
    wide = parts_of(dot(4).replaced(ACCUMULATOR_BITS=32), lut=False, price=lambda _: 0.0)
    assert wide["adder_bits"] - four["adder_bits"] == 10 * 1.5
    assert parts_of(pe_design(INTS[2], INTS[2]), lut=True, price=lambda _: 0.0) == {"closed_form": 4 + 14}


def test_float_windows_by_hand():
    fp16 = design("float_mac", WEIGHT_EXPONENT_BITS=5, WEIGHT_MANTISSA_BITS=10, ACTIVATION_EXPONENT_BITS=5,
                  ACTIVATION_MANTISSA_BITS=10, ACCUMULATOR_BITS=32)  # fmt: skip
    # product of 22 bits, twice 23 of the mantissa, seven more: MAGNITUDE + 2 above, MANTISSA + 3 below, a carry
    assert parts_of(fp16, lut=True, price=lambda _: 0.0)["window"] == 22 + 2 * 23 + 7


def test_one_lane_of_bitmod_aligns_nothing():
    one, four = (
        parts_of(design("bitmod_group_accumulator", LANES=n, ACCUMULATOR_BITS=21), lut=True, price=lambda _: 0.0)
        for n in (1, 4)
    )
    assert one["aligners"] == 0
    assert four["aligners"] == 4
    assert four["total"] == one["total"] + 2  # two bits more for a sum of four


def test_flint_pairs_on_luts_by_hand():
    def parts(bits):
        one = design("flint_flint_dot", BITS=bits, LANES=1, ACCUMULATOR_BITS=4 * bits + 8)
        return parts_of(one, lut=True, price=lambda part: 10.0 if part.family == "flint_decode" else 1.0)

    # three bits on each side: six signals, each of the seven bits of the product a LUT, and 20 of accumulator
    assert parts(3) == {"plain": 7, "tree": 0, "accumulator": 20}
    # magnitudes of three bits: four bits of their product and three of the sum of shifts read six signals
    four = parts(4)
    assert four["plain"] == 4 + 3
    assert "decoders" not in four
    # five bits with the sign, shifted by up to six places
    assert four["reach"] == 5 * 6
    # magnitudes of four bits: two decoders, a product of their values, a sum of shifts of four bits
    five = parts(5)
    assert (five["decoders"], five["product"], five["plain"]) == (20, 1, 4)


def test_a_table_written_on_luts_has_a_decoder_for_each_entry():
    def parts(entry_bits, lut):
        one = design("codebook_dot", CODE_BITS=3, ENTRY_BITS=entry_bits, ACTIVATION_BITS=8, LANES=2, PROGRAMMABLE=1,
                     ACCUMULATOR_BITS=26)  # fmt: skip
        return parts_of(one, lut=lut, price=lambda _: 0.0)

    # eight entries, whatever their width: one enable each; a mux of eight has seven two-way muxes for each bit
    assert parts(4, True)["write"] == parts(8, True)["write"] == 8
    assert parts(8, True)["muxes"] == 2 * 8 * 7
    # in cells a mux before each of the 64 bits
    assert parts(8, False)["write"] == 64


def test_flint_of_three_bits_times_an_integer_has_no_multiplier_on_luts():
    one = design("flint_int_dot", BITS=3, ACTIVATION_BITS=8, LANES=2, ACCUMULATOR_BITS=21)
    # 0 or the activation, either sign, shifted by up to two: 12 bits a lane; an adder of 13 bits
    assert parts_of(one, lut=True, price=lambda _: 9.0) == {"plain": 24, "tree": 13, "accumulator": 21}
    wider = parts_of(one.replaced(BITS=4), lut=True, price=lambda _: 9.0)
    assert wider["dot"] == wider["decoders"] == 18
    assert "negation" not in wider


def test_long_terms_are_bits_that_read_more_than_six_signals():
    def long_terms(bits):
        one = design("term_serial_dot", ACTIVATION_BITS=bits, SHIFT_BITS=3, LANES=1, ACCUMULATOR_BITS=26)
        return parts_of(one, lut=True, price=lambda _: 0.0)["long_terms"]

    # four bits, valid and sign; of eight the fifth to the eighth and the sign
    assert (long_terms(4), long_terms(5), long_terms(8)) == (0, 2, 5)


def test_half_a_row_of_an_odd_width_by_hand():
    def rows(w, a, family="int_dot"):
        one = design(family, WEIGHT_BITS=w, ACTIVATION_BITS=a, LANES=1, ACCUMULATOR_BITS=26)
        return parts_of(one, lut=False, price=lambda _: 0.0)["rows"]

    # eight bits: four rows of nine; seven: three rows and half a row without the bit for the double
    assert rows(8, 8) == 36
    assert rows(8, 7) == 3 * 9 + 4
    assert rows(8, 7, "int_multiplier") == 36


def test_where_the_accumulator_enters_decides_what_its_bits_cost():
    def far(w, a, **more):
        one = design("int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, LANES=4, **more)
        wide, narrow = (parts_of(one.replaced(ACCUMULATOR_BITS=b), lut=False, price=lambda _: 0.0) for b in (36, 35))
        return wide["adder_bits"] - narrow["adder_bits"]

    # five words: added last, half an adder in front of the last one; first, it passes three rows, two of them whole
    assert far(4, 8) == 0.5 + 1
    assert far(8, 8) == 0.5 + 2 + 1
    # inside another module a square is no exception
    assert far(8, 8, INSIDE=1) == 0.5 + 1


def test_a_bit_serial_pe_in_cells_by_hand():
    def parts(accumulate):
        one = design("bit_serial_dot", PARALLEL_BITS=8, SERIAL_BITS=4, LANES=4, ACCUMULATOR_BITS=22,
                     ACCUMULATE=accumulate)  # fmt: skip
        return parts_of(one, lut=False, price=lambda _: 0.0)

    # two adders of nine bits and one of ten; a running sum of 8 + 2 + 4 bits; 22 of the accumulator, which waits
    both = parts(1)
    assert both == {"gates": 32, "negation": 10, "enabled": 22, "adder_bits": 28 + 14 + 22, "clear_bits": 14 + 22}
    # the running sum alone is the accumulator
    assert parts(0) == {**both, "enabled": 0, "adder_bits": 28 + 22, "clear_bits": 22}


def test_products_of_looked_up_entries_in_cells_by_hand():
    def parts(family, entry, activation, **more):
        one = design(family, ENTRY_BITS=entry, ACTIVATION_BITS=activation, LANES=4, ACCUMULATOR_BITS=20, **more)
        return parts_of(one, lut=False, price=lambda _: 0.0)

    book = parts("codebook_dot", 4, 8, CODE_BITS=3, PROGRAMMABLE=0)
    assert book == {"entry_products": 4 * 32, "padded": 4 * 4, "tree_rows": 3 * 12, "adder_bits": 20, "clear_bits": 20}
    assert parts("codebook_dot", 8, 4, CODE_BITS=3, PROGRAMMABLE=0)["padded"] == 16  # either side is widened
    assert parts("codebook_dot", 6, 6, CODE_BITS=3, PROGRAMMABLE=0)["padded"] == 0
    # a mixture is a code book with a table of 2 ** (3 + 2) constants before each bit of an entry
    assert parts("mixture_dot", 4, 8, CODE_BITS=3, SELECTOR_BITS=2) == {**book, "constant": 4 * 4 * 32}
