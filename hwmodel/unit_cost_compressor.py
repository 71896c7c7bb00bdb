"""Adders of a compressor of cells: what is left of an exact sum of products when equal adders are built once.

Yosys makes one sum (``$macc``) of a MAC or a dot product: the rows of all products, or the products themselves where
they were recoded, and the accumulator. Rows are added three at a time (Wallace, A suggestion for a fast multiplier,
1964), two remain and meet in one adder that propagates carries. Above a product each of its rows is copies of one sign
bit: full adders of neighbouring columns read the same signals there and are one, unless they read the accumulator.
So a column far above the products costs an adder for each level of the tree that the accumulator passes, and where it
enters decides how many these are. All of this is counted, nothing fitted; the numbers of rows are those of Yosys' own
netlists (``tests/hls/test_synthesis_compressor.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, count

NOTHING = 0  # no signal: an input that is constantly zero
Columns = list[list[int]]  # signals to add, by significance; equal numbers are the same signal
Row = list[int]
# Of a full adder, what adds two of its inputs, which other adders may share, is one half, the third input and the carry
# the other one. What adds two bits at the edge of the tree counts as half of that again: a price of its own, tried and
# lost, is 0.5 of a half in SG13G2 and sky130hd and 1.0 in OSU.
HALF, EDGE = 0.5, 0.25


def stacked(columns: Columns) -> tuple[list[Row], list[int]]:
    """Rows to add, and bits that enter as carries of the lowest column instead of making further rows.

    A bit of column i takes 2**i carries; n rows have n - 1 of them (one for each row of full adders, one of the last
    adder).
    """
    rows = 1
    while sum(max(len(column) - rows, 0) << place for place, column in enumerate(columns)) > rows - 1:
        rows += 1
    carries = [bit for place, column in enumerate(columns) for bit in column[rows:] for _ in range(1 << place)]
    return [[column[k] if k < len(column) else NOTHING for column in columns] for k in range(rows)], carries


@dataclass(frozen=True)
class Compressor:
    """What adds columns of bits.

    Args:
        rows: of full adders, one for each three rows of bits that become two.
        full, half: distinct adders of three and of two bits in them.
        pairs: distinct pairs of inputs that full adders add first.
        last: columns in which two bits are left for the last adder.
    """

    rows: int
    full: int
    half: int
    pairs: int
    last: int

    @property
    def adders(self) -> float:
        """All but the last one, in full adders."""
        return HALF * (self.full + self.pairs) + EDGE * self.half


class _Adders:
    """Distinct full and half adders: the same inputs give the same outputs."""

    def __init__(self, names: Iterator[int]) -> None:
        self.names = names
        self.made: dict[tuple[int, ...], tuple[int, int]] = {}

    def add(self, *bits: int) -> tuple[int, int]:
        """Sum and carry."""
        inputs = tuple(sorted(bit for bit in bits if bit != NOTHING))
        if len(inputs) < 2:
            return (inputs[0] if inputs else NOTHING), NOTHING
        if inputs not in self.made:
            self.made[inputs] = next(self.names), next(self.names)
        return self.made[inputs]

    def counted(self, rows: int, last: int) -> Compressor:
        """A full adder adds first the two of its inputs that most others read."""
        full = [inputs for inputs in self.made if len(inputs) == 3]
        readers = Counter(pair for inputs in full for pair in combinations(inputs, 2))
        pairs = {max(combinations(inputs, 2), key=lambda pair: (readers[pair], pair)) for inputs in full}
        return Compressor(rows, len(full), len(self.made) - len(full), len(pairs), last)


def compressor(columns: Columns) -> Compressor:
    """What adds the columns.

    >>> compressor([[1, 2, 3], [4, 5, 6]])
    Compressor(rows=1, full=2, half=0, pairs=2, last=1)
    >>> compressor([[1, 2, 3], [1, 2, 4], [1, 2, 5]]).adders  # three adders, whose first halves are one
    2.0
    """
    width, names = len(columns), count(max((bit for column in columns for bit in column), default=0) + 1)
    adders, (rows, carries) = _Adders(names), stacked(columns)
    used = 0
    while len(rows) > 2:
        following: list[Row] = []
        whole = len(rows) - len(rows) % 3
        for first in range(0, whole, 3):
            sums, carried = [NOTHING] * width, [NOTHING] * (width + 1)
            for place, bits in enumerate(zip(*rows[first : first + 3], strict=True)):
                sums[place], carried[place + 1] = adders.add(*bits)
            if carries:
                carried[0] = carries.pop()
            used += 1
            following += [sums, carried[:width]]
        rows = following + rows[whole:]
    last = sum(all(bits) for bits in zip(*rows, strict=True)) if len(rows) == 2 else 0
    return adders.counted(used, last)


def _row(columns: Columns, signals: Sequence[int], place: int, sign: int) -> None:
    """Puts a row into the columns from ``place`` on, above it copies of its sign."""
    for index, column in enumerate(columns[place:]):
        bit = signals[index] if index < len(signals) else sign
        if bit != NOTHING:
            column.append(bit)


def product_columns(weight_bits: int, activation_bits: int, lanes: int, accumulator_bits: int, *,
                    unsigned: bool = False) -> Columns:  # fmt: skip
    """Rows of all products and the accumulator, which is added last.

    A row for each bit of the narrower operand, as wide as the other one; the last one of a signed operand is inverted
    and has a bit more. Rows of one product alone stop where it ends: what is above them is its sign, however many signs
    of rows the netlist has there (SG13G2's MACs of 2, 3, 4 and 8 bits take 53 to 62 um2 for each further bit).

    Args:
        weight_bits, activation_bits, lanes: widths, and products.
        accumulator_bits: what is added to; 0 for the products alone.
        unsigned: the activation has no sign.
    """
    rows, wide = sorted((weight_bits, activation_bits))
    inverted = not unsigned or activation_bits >= weight_bits  # the last bit that selects a row has a sign
    extended = not unsigned or not inverted  # rows of a wider unsigned activation have none
    product = weight_bits + activation_bits
    width = product if lanes == 1 else accumulator_bits or product + (lanes - 1).bit_length()
    if accumulator_bits:
        width = min(width, accumulator_bits)
    columns: Columns = [[] for _ in range(width)]
    names = count(1)
    for _ in range(lanes):
        for place in reversed(range(rows)):
            signals = [next(names) for _ in range(wide)]
            signed = extended or place == rows - 1
            _row(columns, signals, place, (signals[-1] if extended else next(names)) if signed else NOTHING)
        if inverted and rows <= width:
            columns[rows - 1].append(next(names))
    for column in columns if accumulator_bits else ():
        column.append(next(names))
    return columns


def word_columns(product_bits: int, lanes: int, accumulator_bits: int, *, accumulator_first: bool = False) -> Columns:
    """Products that were recoded, and the accumulator.

    Args:
        product_bits, lanes: width, and products.
        accumulator_bits: what is added to; 0 for the sum of the products alone.
        accumulator_first: whether it enters the tree first, and so passes each of its levels.
    """
    columns: Columns = [[] for _ in range(accumulator_bits or product_bits + (lanes - 1).bit_length())]
    names = count(1)
    accumulator = [next(names) for _ in range(accumulator_bits)]
    if accumulator_first:
        _row(columns, accumulator, 0, NOTHING)
    for _ in range(lanes):
        signals = [next(names) for _ in range(product_bits)]
        _row(columns, signals, 0, signals[-1])
    if not accumulator_first:
        _row(columns, accumulator, 0, NOTHING)
    return columns


@cache
def product_adders(weight_bits: int, activation_bits: int, lanes: int, accumulator_bits: int, *,
                   unsigned: bool = False) -> float:  # fmt: skip
    """Full adders of a dot product of plain rows; the last adder is as wide as the accumulator.

    >>> product_adders(2, 2, 1, 14), product_adders(2, 2, 1, 32)  # far above a product nothing but the last adder
    (16.75, 34.75)
    """
    columns = product_columns(weight_bits, activation_bits, lanes, accumulator_bits, unsigned=unsigned)
    found = compressor(columns)
    return found.adders + (accumulator_bits or found.last)


@cache
def word_adders(product_bits: int, lanes: int, accumulator_bits: int, *, accumulator_first: bool = False) -> float:
    """Full adders of the sum of products that were recoded; the last adder is as wide as the accumulator.

    >>> word_adders(8, 4, 18), word_adders(8, 4, 18, accumulator_first=True) > 50
    (47.0, True)
    """
    columns = word_columns(product_bits, lanes, accumulator_bits, accumulator_first=accumulator_first)
    found = compressor(columns)
    return found.adders + (accumulator_bits or found.last)
