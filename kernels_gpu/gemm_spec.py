"""What is fixed when a GEMM kernel is compiled: the encoding, the cut of the work, and where things lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hwmodel.units import ceil_div
from kernels_gpu.gemv_plan import BLOCK, RUN, TILE_ROWS, Plan
from kernels_gpu.gemv_spec import SECTOR, WARP, GemvSpec

RUNS = 2  # of 128 inputs, in a warp's part of a stage
TILE_TOKENS = 8  # columns of mma.m16n8k16
BLOCK_WORDS = BLOCK // 2  # of 32 inputs
RESULT_PITCH = TILE_ROWS + 4  # words between tokens of a warp's results, for the same reason


@dataclass(frozen=True)
class GemmSpec:
    """One compiled kernel.

    Args:
        plan: the encoding.
        k: inputs.
        token_tiles: of eight tokens, of a block.
        row_warps: warps side by side, each with 16 rows.
        k_warps: warps that share rows, each with its runs of every stage.
        depth: stages under way, 2 or more.
        whole_rows: the number of rows is a multiple of those of a block.
    """

    plan: Plan
    k: int
    token_tiles: int
    row_warps: int
    k_warps: int
    depth: int
    whole_rows: bool

    def __post_init__(self) -> None:
        if self.depth < 2 or not 1 <= self.warps <= 32 or self.token_tiles < 1:
            raise ValueError(
                f"depth must be at least 2, warps 1 to 32 and token_tiles at least 1, not {self.depth!r}, "
                f"{self.warps!r} and {self.token_tiles!r}"
            )

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.row_warps * self.k_warps

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.warps * WARP

    @property
    def tokens(self) -> int:
        """Of a block."""
        return self.token_tiles * TILE_TOKENS

    @property
    def rows(self) -> int:
        """Of a block."""
        return self.row_warps * TILE_ROWS

    @property
    def stage_inputs(self) -> int:
        """Inputs of a stage, all warps together."""
        return self.k_warps * RUNS * RUN

    @property
    def stages(self) -> int:
        """Stages of a row."""
        return ceil_div(self.k, self.stage_inputs)

    @property
    def padded_k(self) -> int:
        """Columns of x: a multiple of eight."""
        return ceil_div(self.k, 8) * 8

    @cached_property
    def side(self) -> GemvSpec:
        """A warp's tile of weights, as the GEMV has it: copies, fields and their places in a stage."""
        return GemvSpec(self.plan, self.k, 1, self.k_warps, RUNS, self.depth, self.whole_rows)

    @property
    def token_words(self) -> int:
        """Words of a token's inputs in a stage; granules of 16 bytes change places in a block, for the banks."""
        return self.stage_inputs // BLOCK * BLOCK_WORDS

    @property
    def input_words(self) -> int:
        """Words of the inputs of a stage."""
        return self.tokens * self.token_words

    @property
    def stage_words(self) -> int:
        """Words of a stage: inputs, then every warp's weights."""
        return self.input_words + self.warps * self.side.stage_words

    @property
    def tables_at(self) -> int:
        """Word of the lookup tables."""
        return 0

    @property
    def ring_at(self) -> int:
        """Word of the stages."""
        return ceil_div(sum(map(len, self.plan.tables)), SECTOR) * SECTOR

    @property
    def result_words(self) -> int:
        """Words of one warp's results, which take the place of the stages in the end."""
        return self.tokens * RESULT_PITCH

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return 4 * (self.ring_at + max(self.depth * self.stage_words, self.warps * self.result_words))
