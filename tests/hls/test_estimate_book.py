"""PEs of codebooks: which recorded netlist a type stands for, and how wrong tables in front of a MAC are."""

from __future__ import annotations

import pytest

from hls.cpp_types import parse_type
from hls.estimate_book import book_of
from hls.estimate_pe import pe_cost, pe_of
from hls.estimate_tables import composition_errors, table_figure, table_luts
from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost import Origin
from hwmodel.unit_cost_design import design_of_row
from hwmodel.unit_cost_errors import held_out_errors

FP16, INT8 = "codesign::minifloat_number<5, 10, 15>", "codesign::int_number<8, false, 0>"
ROWS = {name: row for name, row in best_rows("lut6").items() if row.family.startswith("vector_")}


def arithmetic(book: str, products: str, *, along: bool = False, lanes: int = 4) -> str:
    return f"codesign::codebook_arithmetic<{book}, {products}, {'true' if along else 'false'}, {lanes}>"


def fixed(bits: int, dimension: int, element: str = INT8) -> str:
    return f"codesign::fixed_book<{bits}, {element}, codesign::fixed_table<0, 1>, {dimension}>"


def loaded(bits: int, dimension: int, element: str = INT8) -> str:
    return f"codesign::loaded_book<{bits}, {element}, {dimension}>"


def exact(element: str = INT8, activation: str = INT8, bits: int = 26) -> str:
    return f"codesign::exact_products<{element}, {activation}, {bits}>"


def rounded(element: str = FP16) -> str:
    return f"codesign::rounded_products<{element}, {FP16}, 8, 23>"


def type_of(row) -> str:
    """The arithmetic that a recorded netlist is the twin of."""
    one = design_of_row(row)
    get = one.get
    element = f"codesign::int_number<{get('ENTRY_BITS')}, false, 0>"
    book = loaded if get("PROGRAMMABLE") or row.family == "vector_dot" else fixed
    layers = [get("CODE_BITS"), get("RESIDUAL_BITS")]
    if row.family == "vector_dot":  # behind a memory: any book that is too large for registers
        layers = [8] * get("LAYERS")
    text = book(layers[0], get("DIMENSION"), element)
    if len(layers) > 1 and layers[1]:
        text = f"codesign::residual_book<{text}, {book(layers[1], get('DIMENSION'), element)}>"
    along = bool(get("ALONG_OUTPUTS"))
    products = exact(element, f"codesign::int_number<{get('ACTIVATION_BITS')}, false, 0>", row.accumulator_bits)
    return arithmetic(text, products, along=along, lanes=get("CODES") * (1 if along else get("DIMENSION")))


@pytest.mark.parametrize("name", ROWS)
def test_every_recorded_book_is_what_its_type_is_priced_as(name):
    row = ROWS[name]
    pe = pe_of(type_of(row))
    assert pe.design == design_of_row(row)
    cost = pe_cost(pe)
    assert cost.luts is not None and cost.luts.value == row.luts and cost.luts.origin is Origin.RECORDED
    # registers that are written are arrays of the layer; what is left is an accumulator for each output
    assert cost.flip_flops is not None and cost.flip_flops.value == row.accumulator_bits * pe.outputs


def test_codes_along_the_outputs_share_a_module():
    pe = pe_of(arithmetic(fixed(4, 2), exact(), along=True))
    assert (pe.outputs, pe.count, pe.design.get("CODES"), pe.design.get("DIMENSION")) == (2, 1, 4, 2)


def test_an_unsigned_activation_has_a_bit_more():
    pe = pe_of(arithmetic(fixed(4, 2), exact(activation="codesign::int_number<8, true, 0>")))
    assert pe.design.get("ACTIVATION_BITS") == 9


@pytest.mark.parametrize("bits", [3, 6])
def test_a_book_that_was_left_out_is_priced_with_the_error_that_is_printed(bits):
    cost = pe_cost(pe_of(arithmetic(fixed(bits, 2), exact(bits=26), lanes=6)))  # three codes: not recorded
    assert cost.luts is not None and cost.luts.origin is Origin.FIT
    errors = held_out_errors("vector book", "lut6")
    large = errors[~errors["small"]]["error"].abs()
    assert cost.luts.mean_error == pytest.approx(large.mean())
    assert cost.luts.worst_error == pytest.approx(large.max())
    books = errors[errors["design"].str.startswith("vector_codebook_dot")]["error"].abs()
    assert len(books) > 10 and books.mean() <= 0.05 and books.max() <= 0.15


def test_floats_behind_registers_are_macs_and_a_table():
    pe = pe_of(arithmetic(loaded(4, 2, FP16), rounded()))
    assert pe.design.family == "float_mac" and pe.count == 4
    cost, mac = pe_cost(pe), best_rows("lut6")["float_mac.fp16.fp16.acc_e8m23"]
    assert cost.luts is not None and mac.luts is not None
    assert cost.luts.value == pytest.approx(mac.luts + table_luts(4, 16, loaded=True))
    assert (cost.luts.mean_error, cost.luts.worst_error) == composition_errors()[:2]
    assert cost.luts.origin is Origin.COMPOSED and "codebook_float_mac" in cost.luts.source


def test_a_mac_and_a_table_are_within_five_per_cent_of_netlists_that_no_price_comes_from():
    mean, worst, netlists = composition_errors()
    assert netlists >= 2 and 0 < mean <= worst <= 0.05
    rows, mac = best_rows("lut6"), best_rows("lut6")["float_mac.fp16.fp16.acc_e8m23"].luts
    # sixteen entries of 16 bits that are written: 1070 LUTs; a constant table is folded into what reads it
    for name, is_loaded in (("table4", True), ("nf4", False)):
        truth = rows[f"codebook_float_mac.{name}.fp16"].luts
        assert truth is not None and mac is not None
        assert abs(mac + table_luts(4, 16, loaded=is_loaded) - truth) <= worst * truth * 1.000001


def test_large_books_are_memories():
    pe = pe_of(arithmetic(loaded(8, 2, FP16), rounded()))
    assert pe.tables is None
    cost = pe_cost(pe)
    assert cost.luts is not None and cost.luts.origin is Origin.RECORDED
    assert pe_of(arithmetic(loaded(8, 2), exact())).design.family == "vector_dot"


def test_floats_beside_integers_are_added_exactly_behind_their_table():
    pe = pe_of(arithmetic(loaded(3, 1, FP16), exact(FP16, bits=60)))
    assert pe.design.family == "minifloat_dot" and pe.tables is not None
    assert pe.tables.value == pytest.approx(4 * table_luts(3, 16, loaded=True))


def test_a_second_book_is_read_and_multiplied_as_well():
    book = f"codesign::residual_book<{loaded(4, 2, FP16)}, {loaded(3, 2, FP16)}>"
    pe = pe_of(arithmetic(book, rounded()))
    assert pe.count == 8  # four lanes, two layers
    assert pe.tables is not None
    assert pe.tables.value == pytest.approx(4 * (table_luts(4, 16, loaded=True) + table_luts(3, 16, loaded=True)))
    assert book_of(parse_type(book)).layers == (4, 3)


def test_more_entries_and_wider_ones_never_cost_less():
    for is_loaded in (False, True):
        by_code = [table_luts(bits, 8, loaded=is_loaded) for bits in range(2, 9)]
        assert by_code == sorted(by_code) and by_code[0] > 0
        narrow, wide = (table_luts(4, bits, loaded=is_loaded) for bits in (8, 16))
        assert narrow <= wide <= 2 * narrow * 1.000001  # what picks the entry that is written has one width
    assert table_figure(3, [(4, 8)]).value == pytest.approx(3 * table_luts(4, 8, loaded=False))


def test_other_books_are_named():
    with pytest.raises(NotImplementedError, match="no PE looks codes up in phone_book"):
        book_of(parse_type("codesign::phone_book<4>"))
