"""C++ codebooks equal the values of their tables: constant, loaded, vectors along inputs and outputs, residuals."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from datatypes.catalog import FORMATS, FP16, INTS, MINIFLOATS, NF4, POT4, UINTS
from datatypes.format import CodebookFormat, Format
from hls import rtl_constructors as make
from hls import rtl_constructors_books as books
from hls.pe_program import Unit
from hls.rtl_designs import designs
from hls.rtl_simulation import bits_of, lanes_of
from hls.rtl_vectors import Vectors, flag, random_codes, random_restarts, steps_of
from hls.rtl_vectors_float import accumulated, finite, lowest_place, smallest_step

QUICK = (
    make.codebook_dot(programmable=True, code_bits=3, lanes=4),
    books.mixture_dot("bitmod_fp4", 8, lanes=2),
    books.vector_codebook_dot(3, 2, 1, residual_bits=2, programmable=True, along_outputs=True),
)
E4M3 = MINIFLOATS["e4m3"]
FP16_NUMBER = "codesign::minifloat_number<5, 10>"
NUMBERS = {
    INTS[4]: "codesign::int_number<4>",
    INTS[8]: "codesign::int_number<8>",
    UINTS[8]: "codesign::int_number<8, true>",
    E4M3: "codesign::minifloat_number<4, 3>",
    FP16: FP16_NUMBER,
}
FP32 = (8, 23)


def exact_entries(fmt: Format) -> tuple[list[int], int]:
    """Values of all codes as integers of the largest common power of two, and that power."""
    values = [Fraction(float(np.float32(v))) for v in fmt.code_values]
    exponent = 0
    while any(v.denominator > 1 for v in values):
        values, exponent = [2 * v for v in values], exponent - 1
    return [int(v) for v in values], exponent


def bits_for(entries: list[int]) -> int:
    """Width of two's complement that holds them."""
    return max((e if e >= 0 else ~e).bit_length() for e in entries) + 1


def table_number(fmt: Format) -> str:
    entries, exponent = exact_entries(fmt)
    table = f"codesign::fixed_table<{', '.join(map(str, entries))}>"
    return f"codesign::table_number<{fmt.bits}, {bits_for(entries)}, {exponent}, {table}>"


def table(bench, weight: CodebookFormat, activation: Format, lanes: int):
    """A constant table of exact values, times any number (a table too)."""
    rng = np.random.default_rng(29)
    w, a = random_codes(rng, weight.bits, activation.bits, lanes)
    clear = random_restarts(rng, w.shape[:2])
    number = NUMBERS.get(activation) or table_number(activation)
    unit = bench.unit(f"codesign::table_arithmetic<{table_number(weight)}, {number}, {lanes}>")
    (weights, power), (activations, other) = exact_entries(weight), exact_entries(activation)
    products = (np.array(weights, object)[w] * np.array(activations, object)[a]).sum(axis=2)
    stimulus = bench.stimulus(w, a, clear, weight_bits=weight.bits, activation_bits=activation.bits)
    return unit, bench.vectors(stimulus, bench.running(products, clear), power + other)


def table_alone(code_bits: int, entry_bits: int, lanes: int):
    """The register file, part of the dot products and in no sweep: a written entry is read after the clock edge."""
    rng, shape = np.random.default_rng(53), (40, 16)
    write, write_code = rng.random(shape) < 0.5, rng.integers(0, 1 << code_bits, shape)
    write_entry, code = rng.integers(0, 1 << entry_bits, shape), rng.integers(0, 1 << code_bits, (*shape, lanes))
    rows, entries = np.zeros((shape[1], 1 << code_bits), np.int64), []
    for cycle in range(shape[0]):
        cases = np.flatnonzero(write[cycle])
        rows[cases, write_code[cycle, cases]] = write_entry[cycle, cases]
        picked = np.take_along_axis(rows, code[cycle], axis=1)
        entries.append((picked << (entry_bits * np.arange(lanes))).sum(axis=1))
    inputs = ("write", "write_code", "write_entry", "code")
    cpp = f"codesign::codebook_table<{code_bits}, {entry_bits}, {lanes}, true>"
    stimulus = {
        "write": flag(write), "write_code": bits_of(write_code, code_bits),
        "write_entry": bits_of(write_entry, entry_bits), "code": lanes_of(code, code_bits),
    }  # fmt: skip
    unit = Unit("codebook_table", cpp, "codesign/codebook.h", inputs, ("entry",))
    return unit, Vectors(stimulus, {"entry": np.stack(entries)}, signed=False)


class Book:
    """One or two layers of entries ``[codes, dimension]`` of an element format, and how C++ writes it down."""

    def __init__(self, rng, element: Format, code_bits: tuple[int, ...], dimension: int, *, constant: bool = False):
        self.element, self.code_bits, self.dimension, self.constant = element, code_bits, dimension, constant
        shapes = [(1 << bits, dimension) for bits in code_bits]
        self.codes = [finite(rng.integers(0, 1 << element.bits, shape), element) for shape in shapes]

    @property
    def cpp(self) -> str:
        number = NUMBERS[self.element]
        books = []
        for bits, codes in zip(self.code_bits, self.codes, strict=True):
            if self.constant:
                entries = f"codesign::fixed_table<{', '.join(str(c) for c in codes.ravel())}>"
                books.append(f"codesign::fixed_book<{bits}, {number}, {entries}, {self.dimension}>")
            else:
                books.append(f"codesign::loaded_book<{bits}, {number}, {self.dimension}>")
        return books[0] if len(books) == 1 else f"codesign::residual_book<{', '.join(books)}>"

    @property
    def words(self) -> list[int]:
        """What is loaded, in order."""
        return [] if self.constant else [int(c) for codes in self.codes for c in codes.ravel()]

    def steps(self, w: np.ndarray) -> list[np.ndarray]:
        """Elements of codes ``[...]`` by layer, in the element's smallest steps: ``[..., dimension]``."""
        found, first = [], 0
        for bits, codes in zip(self.code_bits, self.codes, strict=True):
            found.append(steps_of(self.element)[codes][(w >> first) & ((1 << bits) - 1)])
            first += bits
        return found


def book(bench, held: Book, activation: Format, codes: int, *, along_outputs: bool = False, rounded: bool = False):
    """Random codes of a book; float sums are rounded once a product, an element's layers one after the other."""
    rng = np.random.default_rng(31)
    cycles, cases, dimension = 5, 64, held.dimension
    lanes = codes if along_outputs else codes * dimension
    bits = sum(held.code_bits)
    w = rng.integers(0, 1 << bits, (cycles, cases, codes))
    a = finite(rng.integers(0, 1 << activation.bits, (cycles, cases, lanes)), activation)
    clear = random_restarts(rng, (cycles, cases))
    kind = "rounded" if rounded else "exact"
    products = f"codesign::{kind}_products<{NUMBERS[held.element]}, {NUMBERS[activation]}>"
    unit = bench.unit(f"codesign::codebook_arithmetic<{held.cpp}, {products}, {int(along_outputs)}, {lanes}>")
    stimulus = bench.stimulus(
        w, a, clear, weight_bits=bits, activation_bits=activation.bits, entries=held.words,
        entry_bits=held.element.bits if held.words else 1,
    )  # fmt: skip
    outputs = dimension if along_outputs else 1
    layers = [e if along_outputs else e.reshape(cycles, cases, lanes, 1) for e in held.steps(w)]
    addends = (
        np.stack(layers, axis=3) * steps_of(activation)[a][..., None, None]
    )  # [cycles, cases, lanes, layers, outputs]
    unit_exponent = smallest_step(held.element) + smallest_step(activation)
    if not rounded:
        sums = bench.running(addends.sum(axis=(2, 3)), clear)
        return unit, bench.vectors(stimulus, sums, unit_exponent)
    ordered = np.moveaxis(addends, 1, 3).reshape(-1, cases, outputs)
    steps = len(ordered) // cycles
    again = np.zeros((len(ordered), cases), bool)
    again[::steps] = clear
    places = np.full(again.shape, unit_exponent - lowest_place(FP32))
    sums = [accumulated(ordered[..., o], places, again, FP32)[steps - 1 :: steps] for o in range(outputs)]
    return unit, bench.value_vectors(stimulus, np.stack(sums, axis=2))


def quick(bench):
    """Units of the session's common program."""
    rng = np.random.default_rng(37)
    return [
        *bench.twins(QUICK),
        table(bench, NF4, INTS[8], 1),
        book(bench, Book(rng, FP16, (4,), 1), FP16, 2, rounded=True),
        book(bench, Book(rng, INTS[8], (3, 2), 2), INTS[8], 2),
        book(bench, Book(rng, INTS[8], (3,), 3), INTS[8], 2, along_outputs=True),
    ]


def test_quick_twins_and_arithmetics_equal_the_values_of_their_tables(quick_check):
    assert quick_check(sys.modules[__name__]) > 18_000


@pytest.mark.slow
def test_every_twin_of_the_sweep_equals_the_values_of_its_table(arithmetic_bench):
    work = [*arithmetic_bench.twins(designs("codebook")), table_alone(3, 6, 2)]
    assert arithmetic_bench.check(work) > 70_000


TABLES = [fmt for fmt in FORMATS.values() if isinstance(fmt, CodebookFormat)]


@pytest.mark.slow
def test_every_codebook_of_the_catalogue_is_a_table_of_exact_entries(arithmetic_bench):
    bench = arithmetic_bench
    pairs = [table(bench, fmt, INTS[8], 1) for fmt in TABLES]
    pairs += [
        table(bench, NF4, activation, lanes) for activation in (INTS[4], UINTS[8], E4M3, POT4) for lanes in (1, 5)
    ]
    assert bench.check(pairs) > 100_000


@pytest.mark.slow
def test_every_kind_of_book_equals_the_values_of_its_entries(arithmetic_bench):
    bench, rng = arithmetic_bench, np.random.default_rng(41)
    pairs = []
    for element, activation, rounded in ((INTS[8], INTS[8], False), (FP16, INTS[8], False), (FP16, E4M3, False),
                                         (FP16, FP16, True)):  # fmt: skip
        for code_bits in ((3,), (4,), (6, 4)):
            for dimension in (1, 4):
                for along_outputs in (False, True):
                    constant = code_bits == (4,) and dimension == 4
                    held = Book(rng, element, code_bits, dimension, constant=constant)
                    pairs.append(book(bench, held, activation, 2, along_outputs=along_outputs, rounded=rounded))
    pairs.append(book(bench, Book(rng, FP16, (12,), 6), INTS[8], 3, along_outputs=True))  # VPTQ's sizes
    pairs.append(book(bench, Book(rng, INTS[8], (8,), 8), INTS[8], 2))  # of AQLM: 8 inputs a code
    assert bench.check(pairs) > 10_000
