"""Adders of compressors, counted by hand; ``tests/hls/test_synthesis_compressor.py`` compares them with netlists."""

from hwmodel.unit_cost_compressor import (
    compressor,
    product_adders,
    product_columns,
    stacked,
    word_adders,
    word_columns,
)


def heights(columns):
    return [len(column) for column in columns]


def test_three_rows_become_two():
    # three words of two bits: a full adder in each column; the second one's sum and the first one's carry are left
    found = compressor([[1, 2, 3], [4, 5, 6]])
    assert (found.rows, found.full, found.half, found.pairs, found.last) == (1, 2, 0, 2, 1)
    assert found.adders == 2


def test_two_rows_are_left_to_the_last_adder():
    found = compressor([[1, 2], [3, 4], [5]])
    assert (found.rows, found.adders, found.last) == (0, 0, 2)


def test_equal_adders_are_built_once():
    # the same three signals in every column
    assert compressor([[1, 2, 3]] * 9).full == 1
    # two of them, and one that differs: nine adders, whose first half is one
    shared = compressor([[1, 2, 10 + place] for place in range(9)])
    assert (shared.full, shared.pairs, shared.adders) == (9, 1, 9 / 2 + 1 / 2)


def test_half_adders_stand_at_the_edge():
    # the lowest column has two bits only: half an adder's half
    found = compressor([[1, 2], [3, 4, 5]])
    assert (found.full, found.half) == (1, 1)
    assert found.adders == 1 + 1 / 4


def test_bits_that_fit_enter_as_carries():
    # five rows have four carries of the lowest column: two bits of the next column take two each
    rows, carries = stacked([[1], [2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13]])
    assert len(rows) == 5
    assert sorted(carries) == [7, 7, 8, 8]
    # one bit more does not fit: a row more
    assert len(stacked([[1], [*range(2, 10)], [*range(10, 15)]])[0]) == 6


def test_rows_of_two_products_by_hand():
    # 2 x 3 signed: rows of three bits from columns 0 and 1 on, then copies of their signs; the last one of each is
    # inverted, with a bit more in its lowest column; the accumulator in every column
    columns = product_columns(2, 3, 2, 15)
    assert heights(columns) == [2 + 1, 4 + 2 + 1, *[4 + 1] * 13]
    assert set(columns[14]) - set(columns[13]) == {columns[14][-1]}  # the accumulator alone differs
    assert len(set(columns[3]) & set(columns[4])) == 4


def test_one_product_ends_where_it_ends():
    # two rows of two bits and a bit more in the second column; above them the last adder adds sign and accumulator
    assert heights(product_columns(2, 2, 1, 14)) == [1 + 1, 3 + 1, 2 + 1, 2 + 1]
    assert product_adders(2, 2, 1, 32) - product_adders(2, 2, 1, 14) == 32 - 14
    # an accumulator that is narrower than the product cuts it
    assert len(product_columns(4, 4, 1, 6)) == 6


def test_unsigned_activations_have_no_signs():
    # the wider one: the last row alone, whose weight bit is negative, goes on after three bits, with a bit more below
    assert heights(product_columns(2, 3, 1, 0, unsigned=True)) == [1, 3, 2, 1, 1]
    # the narrower one selects rows of the weight, which is signed; nothing is inverted
    assert heights(product_columns(3, 2, 1, 0, unsigned=True)) == [1, 2, 2, 2, 2]


def test_without_an_accumulator_the_last_adder_is_as_wide_as_what_is_left():
    # 3 by an unsigned 2: two rows, the last adder alone
    assert product_adders(3, 2, 1, 0, unsigned=True) == 4
    # 2 x 2: columns of 1, 3, 2, 2 bits: a full adder, one half adder for the two columns that are equal, and the last
    # adder in these, where sums meet carries
    assert product_adders(2, 2, 1, 0) == 1 + 1 / 4 + 2
    assert word_adders(8, 1, 0) == 0  # one product alone is no sum
    # two words of eight bits: nine bits of a sum
    assert word_adders(8, 2, 0) == 9


def test_words_and_the_accumulator_by_hand():
    # 8 bits and 10 above, four products and the accumulator: two rows of full adders of the products in eight columns,
    # where the upper one of both shifts once; each column above them is one adder more, half of which is shared
    last, first = (word_columns(8, 4, 18, accumulator_first=where) for where in (False, True))
    assert heights(last) == heights(first) == [5] * 18
    assert compressor(last).rows == compressor(first).rows == 3
    assert compressor(first).full > compressor(last).full
    # far above: added last it meets two signals that all columns share; first, it passes three rows
    assert word_adders(8, 4, 40) - word_adders(8, 4, 39) == 1 + 1 / 2
    more = (word_adders(8, 4, bits, accumulator_first=True) for bits in (39, 40))
    assert -(next(more) - next(more)) == 1 + 1 / 2 + 2
