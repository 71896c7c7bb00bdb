"""Designs, their sources and their sweeps."""

from __future__ import annotations

import re

import pytest

from datatypes.catalog import INTS, MINIFLOATS, NF3, NF4
from hls.rtl_constructors import (
    codebook_dot,
    codebook_entries,
    fixed_product_bits,
    int_dot,
    minifloat_dot,
    table_constant,
)
from hls.rtl_constructors_books import mixture_dot, mixture_entries
from hls.rtl_design import RTL, source_files, source_hash
from hls.rtl_designs import SWEEPS, designs
from hls.rtl_reference import REFERENCES


def test_an_instance_states_module_and_parameters():
    design = int_dot(4, 8, lanes=2)
    assert design.name == "int_dot.w4a8.x2"
    assert design.instance.startswith("int_dot #(.WEIGHT_BITS(4), .ACTIVATION_BITS(8), ")
    assert design.accumulator_bits == 4 + 8 + 10  # ten guard bits


def test_an_accumulator_of_another_width_has_a_name_of_its_own():
    assert int_dot(4, 8, accumulator_bits=22) == int_dot(4, 8)
    wide = int_dot(4, 8, lanes=4, accumulator_bits=32)
    assert wide.name == "int_dot.w4a8.x4.acc32"
    assert wide.accumulator_bits == 32
    assert ".ACCUMULATOR_BITS(32)" in wide.instance


def test_fixed_tables_of_three_bits_are_nf3():
    design = codebook_dot(programmable=False, code_bits=3)
    assert (design.name, design.weight_format) == ("codebook_dot.nf3_e8.a8.x1", "nf3")
    # ends and zero of NF3 in eight bits: -127, 0, 127
    entries = codebook_entries(NF3.code_values, 8)
    assert (entries[0], min(map(abs, entries)), entries[-1]) == (-127, 0, 127)
    assert design.parameter_text.endswith(f"TABLE={table_constant(entries, 8)}")


def test_a_mixture_has_its_candidates_in_one_unit():
    # BitMoD's FP4: 0 to 6 in halves, and 5, -5, 8 or -8 for the code of -0: up to 16 halves, six bits
    entries, bits, unit = mixture_entries("bitmod_fp4")
    assert (len(entries), bits, unit) == (4 * 16, 6, -1)
    assert entries[:8] == (0, 1, 2, 3, 4, 6, 8, 12)
    assert [entries[16 * candidate + 8] for candidate in range(4)] == [10, -10, 16, -16]


def test_a_mixture_of_three_is_padded_to_whole_selectors():
    design = mixture_dot("ant4", 8)
    widths = dict(design.parameters)
    assert widths["SELECTOR_BITS"] == 2
    assert str(widths["TABLE"]).startswith(f"{4 * 16 * int(widths['ENTRY_BITS'])}'h")


def test_names_are_unique_over_all_sweeps():
    every = designs("all")
    assert len({design.name for design in every}) == len(every) > 700


def test_every_design_has_a_module_its_parameters_and_a_reference():
    for design in designs("all"):
        file = next(f for f in source_files(design.module) if f"module {design.module} " in (RTL / f).read_text())
        text = (RTL / file).read_text()
        start = text.index(f"module {design.module} ")
        header = text[start : text.index(");", start)]
        for name, _ in design.parameters:
            assert re.search(rf"parameter [^,;]*\b{name}\b", header), f"{name} of {design.module}"
        assert design.module in REFERENCES


def test_sources_are_those_that_are_instantiated():
    assert source_files("int_dot") == ("common.sv", "integer.sv")
    assert source_files("mx_block_dot") == (
        "block_dot.sv", "common.sv", "float_accumulate.sv", "integer.sv", "minifloat.sv",
    )  # fmt: skip
    assert source_hash("int_dot") != source_hash("minifloat_dot")


@pytest.mark.parametrize(
    ("weight", "activation", "bits"),
    # 2**E_w + M_w + 2**E_a + M_a - 1 bits, sign included (accumulator rule of arXiv 2311.12359 for n = 1)
    [("e2m1", "e2m1", 9), ("e3m2", "e3m2", 19), ("e4m3", "e4m3", 37), ("e5m2", "e5m2", 67), ("e2m1", "e4m3", 23)],
)
def test_a_fixed_point_product_has_the_published_width(weight, activation, bits):
    left, right = MINIFLOATS[weight], MINIFLOATS[activation]
    assert fixed_product_bits(left, right) == bits
    step = left.levels[left.levels > 0][0] * right.levels[right.levels > 0][0]
    largest = left.maximum * right.maximum / step
    assert 2 ** (bits - 2) <= largest < 2 ** (bits - 1)  # the width is needed and enough
    assert minifloat_dot(left, right).accumulator_bits == bits + 10


def test_a_codebook_becomes_one_constant():
    entries = codebook_entries(NF4.code_values, 8)
    assert (entries[0], entries[7], entries[15]) == (-127, 0, 127)
    assert table_constant((1, -1), 4) == "8'hf1"


def test_integer_sweeps_cover_the_study_range():
    names = {design.name for design in designs("int")}
    assert {f"int_dot.w{w}a{a}.x1" for w in INTS for a in INTS if w <= a} <= names
    assert {f"int_dot.w{w}u{a}.x1" for w in INTS for a in INTS} <= names


def test_an_unknown_sweep_is_refused():
    with pytest.raises(ValueError, match=f"sweep must be all or one of {', '.join(SWEEPS)}, not 'everything'"):
        designs("everything")
