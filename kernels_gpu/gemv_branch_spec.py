"""How the decode GEMV takes a low-rank branch along (``gemv_branch``): the cut of its products, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.units import ceil_div
from kernels_gpu.gemv_plan import TILE_ROWS
from kernels_gpu.low_rank_spec import UNIT, Factor

LANES = 32
MOST_SPLITS = 16  # of a row of A, whose partial sums every block adds up
MOST_SUMS = 4096  # partial sums of all tokens that a block reads: 32 KiB
MOST_LOADS = 4  # units of a row of A that a lane keeps in shared memory until the inputs are there
MOST_CHUNKS = 8  # of eight inputs that a lane has under way at once, four registers each
BATCH = 4  # tokens that a warp multiplies with its part of A, at most
FIRST_BLOCKS = 32  # that share the parts: they start while the kernel before still runs on other multiprocessors
ALL_BLOCKS = 128  # where all start at once: an H100 has 132 multiprocessors (NOTES.md has both measured)
MOST_RANK = 256  # beyond, a lane would hold more than MOST_HELD elements of B, and t take too much shared memory
LEAST_ROW_LANES, MOST_HELD = 4, 8  # lanes that share a row of B, and elements of it that each holds
COUNT, PARTIAL = 0, 4  # word, and pair of words, of the memory that blocks share


@dataclass(frozen=True)
class BranchSpec:
    """A branch ``y += B (A x)``.

    Args:
        a: ``[rank, columns]``, of the columns of x.
        b: ``[n, rank]``.
        aligned_inputs: x begins at a multiple of 16 bytes.
        spread: all blocks start at once, beside those of the kernel before.
    """

    a: Factor
    b: Factor
    aligned_inputs: bool = True
    spread: bool = False

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.b.columns

    @property
    def vector(self) -> bool:
        """Whether eight inputs are one load."""
        return self.aligned_inputs and self.a.columns % UNIT == 0

    def loads(self, tokens: int) -> int:
        """Units of a row of A that a lane multiplies: few partial sums, but not too long a wait for them."""
        splits = max(1, min(MOST_SPLITS, MOST_SUMS // (self.rank * tokens)))
        wanted = ceil_div(self.a.columns, LANES * self.a.unit * splits)
        return min(wanted, MOST_LOADS if self.a.vector else LANES)

    def chunk(self, tokens: int) -> int:
        """Columns of A that a warp multiplies."""
        return LANES * self.a.unit * self.loads(tokens)

    def splits(self, tokens: int) -> int:
        """Parts of a row of A."""
        return ceil_div(self.a.columns, self.chunk(tokens))

    def batch(self, tokens: int) -> int:
        """Tokens that a warp multiplies with a part of A: so many that all their inputs can be under way at once."""
        return min(tokens, BATCH, max(1, MOST_CHUNKS // self.loads(tokens)))

    def items(self, tokens: int) -> int:
        """Parts of A times batches of tokens, which warps of all blocks share, the first blocks first."""
        return self.rank * self.splits(tokens) * ceil_div(tokens, self.batch(tokens))

    def item_warps(self, tokens: int, warps: int) -> int:
        """Warps of a block that take one at a time; more would only take shared memory."""
        return min(warps, ceil_div(self.items(tokens), ALL_BLOCKS if self.spread else FIRST_BLOCKS))

    def row_lanes(self, tokens: int, warps: int) -> int:
        """Lanes that share a row of B and a token: few where there are many tokens, so that few sums cross lanes."""
        of_row = warps * LANES // TILE_ROWS
        lanes = min(LANES, of_row)
        while lanes > LEAST_ROW_LANES and of_row // lanes < tokens and ceil_div(self.rank, lanes // 2) <= MOST_HELD:
            lanes //= 2
        return lanes

    def row_teams(self, tokens: int, warps: int) -> int:
        """Such teams of a row, which share its tokens."""
        return warps * LANES // TILE_ROWS // self.row_lanes(tokens, warps)

    def held(self, tokens: int, warps: int) -> int:
        """Elements of B of a lane."""
        return ceil_div(self.rank, self.row_lanes(tokens, warps))

    def adders(self, tokens: int, warps: int) -> int:
        """Lanes that share the partial sums of an element of t."""
        most = min(LANES, self.splits(tokens), warps * LANES // (tokens * self.rank))
        return 1 << max(0, most.bit_length() - 1)

    def kept_words(self, tokens: int) -> int:
        """Words of A that a warp keeps in shared memory, with a word for the scale of each unit."""
        if not self.a.vector:
            return 0
        return LANES * self.loads(tokens) * (self.a.words + (self.a.scale is not None))

    def shared_words(self, tokens: int) -> int:
        """Shared memory: the tag, t, and the sums of rows (two buffers)."""
        return 4 + ceil_div(tokens * self.rank, 4) * 4 + 2 * TILE_ROWS * tokens

    def global_words(self, tokens: int) -> int:
        """Memory that blocks share: a count, and partial sums ``[tokens, rank, splits]``, each with its tag."""
        return 2 * (PARTIAL + self.splits(tokens) * tokens * self.rank)
