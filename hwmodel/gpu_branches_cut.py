"""How kernels beside a decode GEMV are cut: thin products of a low-rank branch and of outlier columns, outlier rows.

The cuts are those of ``kernels_gpu.low_rank_launch`` and ``outliers_launch``; a test compares them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from datatypes.catalog import BF16, FP16, FP32
from datatypes.format import IntFormat
from datatypes.layer_config import TensorConfig
from hwmodel.units import BYTE_BITS, ceil_div

THREADS = 256  # of a block: kernels_gpu/low_rank_launch.py, outliers_launch.py
_LANES_OF_A, _LANES_OF_B, _SPLITS = 32, 8, 8  # at most: kernels_gpu/low_rank_launch.py
_UNIT, _HELD_WORDS = 8, 16  # elements of a load; words of a factor that a lane holds: kernels_gpu/low_rank_spec.py
_ROUND, _ROWS, _BLOCKS, _MOST_ROUNDS = 4 * THREADS, 64, 4 * 132, 4  # kernels_gpu/outliers_launch.py
_FLOATS = frozenset(fmt.name for fmt in (FP16, BF16, FP32))  # kernels_gpu/low_rank_spec.py
_WORD_BITS = 32


class Source(Enum):
    """Where the inputs of a thin product come from."""

    INPUTS = "inputs"  # x itself
    SUMS = "sums"  # partial sums, all loaded at once
    COLUMNS = "columns"  # an index, then x there

    @property
    def turns(self) -> int:
        """Loads for an input, each of which waits for the one before it."""
        return 2 if self is Source.COLUMNS else 1


@dataclass(frozen=True)
class ThinCut:
    """How a thin product is cut.

    Args:
        lanes: that share a row.
        loads: of a lane in a round.
        rounds: that a block takes one after another.
        splits: blocks that share a row.
        unit: elements of one load.
    """

    lanes: int
    loads: int
    rounds: int
    splits: int
    unit: int

    @property
    def pitch_words(self) -> int:
        """Of a token's part of the inputs in shared memory."""
        return ceil_div(self.lanes * self.loads * self.unit, 4) * 4

    def blocks(self, rows: int) -> int:
        """Of a factor with so many rows."""
        return ceil_div(rows, THREADS // self.lanes) * self.splits

    def staged(self, tokens: int) -> int:
        """Inputs that a thread puts into shared memory, one after another."""
        return self.rounds * ceil_div(tokens * self.pitch_words, THREADS)


def factor_has_kernel(factor: TensorConfig) -> bool:
    """Whether a thin product takes a factor: 16- or 32-bit floats, or bytes with a scale for each group of a row."""
    beside = (factor.zero_point, factor.residual, factor.sparsity, factor.row_scale, factor.column_scale,
              factor.codebook)  # fmt: skip
    if len(factor.formats) > 1 or any(part is not None for part in beside) or factor.hadamard or factor.dynamic:
        return False
    fmt, scale = factor.formats[0], factor.scale
    if scale is None:
        return fmt.name in _FLOATS
    long = 1 << 20
    rows, group = factor.granularity.tile((long, long))
    signed_bytes = isinstance(fmt, IntFormat) and fmt.bits == BYTE_BITS and fmt.signed_codes
    return signed_bytes and scale.outer is None and rows == 1 and (group == long or group % _UNIT == 0)


def cut_of_a(factor: TensorConfig, k: int) -> ThinCut:
    """The product ``A x`` of a branch: a warp a row, rows split over blocks.

    >>> from datatypes.catalog import FP16
    >>> cut_of_a(TensorConfig((FP16,), scale=None), 4096)
    ThinCut(lanes=32, loads=2, rounds=1, splits=8, unit=8)
    """
    return _thin_cut(factor.formats[0].bits, k, _LANES_OF_A, _SPLITS)


def cut_of_b(factor: TensorConfig, rank: int) -> ThinCut:
    """The product ``y += B t`` of a branch."""
    return _thin_cut(factor.formats[0].bits, rank, _LANES_OF_B, 1)


def cut_of_columns(bits: int, count: int) -> ThinCut:
    """The product of outlier columns of so many bits a value."""
    vector = bits < _WORD_BITS and count % _UNIT == 0
    return _thin_cut(bits, count, _LANES_OF_B if vector else _LANES_OF_A, 1)


def _thin_cut(bits: int, columns: int, most_lanes: int, splits: int) -> ThinCut:
    vector = bits <= BYTE_BITS or (bits < _WORD_BITS and columns % _UNIT == 0)
    unit = _UNIT if vector else 1
    words = ceil_div(unit * bits, _WORD_BITS)
    units = ceil_div(ceil_div(columns, splits), unit)
    lanes = 1
    while lanes < most_lanes and lanes < units:
        lanes *= 2
    loads = min(ceil_div(units, lanes), _HELD_WORDS // words)
    rounds = ceil_div(units, lanes * loads)
    return ThinCut(lanes, loads, rounds, max(1, ceil_div(columns, rounds * lanes * loads * unit)), unit)


@dataclass(frozen=True)
class RowsCut:
    """How outlier rows are cut: blocks, outliers of each, and the rounds in which it takes them."""

    blocks: int
    elements: float
    rounds: int


def cut_of_rows(n: int, count: int) -> RowsCut:
    """Outlier rows of an ``[n, k]`` weight: whole rows to a block, of which half a one does not fit in the mean.

    >>> cut_of_rows(4096, 168000).blocks  # 41 in a row, 24.5 rows in a round
    168
    """
    most = min(_MOST_ROUNDS, max(1, ceil_div(count, _BLOCKS * _ROUND))) * _ROUND
    each = count / n  # outliers of a row
    rows = max(1.0, min(_ROWS, most / each - 0.5))
    return RowsCut(math.ceil(n / rows), rows * each, math.ceil(rows * each / _ROUND))
