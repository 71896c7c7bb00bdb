"""How the decode GEMV takes a low-rank branch along (``gemv_branch``): the cut of its products, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.units import ceil_div
from kernels_gpu.gemv_plan import TILE_ROWS
from kernels_gpu.low_rank_spec import Factor

LANES = 32
MOST_SPLITS = 16  # of a row of A, whose partial sums every block adds up
MOST_SUMS = 4096  # partial sums of all tokens that a block reads: 16 KiB
MOST_LOADS = 4  # units of a row of A that a lane keeps in shared memory until the inputs are there
GENERATION, COUNT, PARTIAL = 0, 1, 8  # words of the memory that blocks share


@dataclass(frozen=True)
class BranchSpec:
    """A branch ``y += B (A x)``.

    Args:
        a: ``[rank, columns]``, of the columns of x.
        b: ``[n, rank]``.
        aligned_inputs: x begins at a multiple of 16 bytes.
    """

    a: Factor
    b: Factor
    aligned_inputs: bool = True

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.b.columns

    @property
    def vector(self) -> bool:
        """Whether eight inputs are one load."""
        return self.aligned_inputs and self.a.columns % 8 == 0

    def loads(self, tokens: int) -> int:
        """Units of a row of A that a lane multiplies: few partial sums, but not too long a wait for them."""
        splits = max(1, min(MOST_SPLITS, MOST_SUMS // (self.rank * tokens)))
        wanted = ceil_div(self.a.columns, LANES * self.a.unit * splits)
        return min(wanted, MOST_LOADS if self.a.vector else LANES)

    def chunk(self, tokens: int) -> int:
        """Columns of A that a warp multiplies."""
        return LANES * self.a.unit * self.loads(tokens)

    def splits(self, tokens: int) -> int:
        """Warps that share a row of A."""
        return ceil_div(self.a.columns, self.chunk(tokens))

    def lanes_of_row(self, warps: int) -> int:
        """Lanes that share a row of B."""
        return min(LANES, warps * LANES // TILE_ROWS)

    def adders(self, tokens: int, warps: int) -> int:
        """Lanes that share the partial sums of an element of t."""
        most = min(LANES, self.splits(tokens), warps * LANES // (tokens * self.rank))
        return 1 << max(0, most.bit_length() - 1)

    def held(self, warps: int) -> int:
        """Elements of B of a lane."""
        return ceil_div(self.rank, self.lanes_of_row(warps))

    def kept_words(self, tokens: int) -> int:
        """Words of A that a warp keeps in shared memory, with a word for the scale of each unit."""
        if not self.a.vector:
            return 0
        return LANES * self.loads(tokens) * (self.a.words + (self.a.scale is not None))

    def shared_words(self, tokens: int) -> int:
        """Shared memory: the generation, t, and the sums of rows (two buffers)."""
        return 4 + ceil_div(tokens * self.rank, 4) * 4 + 2 * TILE_ROWS * tokens

    def global_words(self, tokens: int) -> int:
        """Memory that blocks share: a generation, a count, and partial sums ``[splits, tokens, rank]``."""
        return PARTIAL + self.splits(tokens) * tokens * self.rank
