"""What is fixed when a GEMV kernel is compiled: the encoding, the shape of its work, and where things lie.

One spec serves every number of rows; inputs, tokens and the cut of the work are its own, so that addresses are
constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from datatypes.planes import plane_widths, row_words
from hwmodel.gpu_gemv_cut import SECTOR_WORDS as SECTOR
from hwmodel.units import ceil_div
from kernels_gpu.gemv_ahead_spec import ahead_obstacle
from kernels_gpu.gemv_branch_spec import BranchSpec
from kernels_gpu.gemv_plan import BLOCK, RUN, TILE_ROWS, Plan

WARP = 32
WORD = 32
BLOCKS = 4  # of 32 codes that a lane takes next to one another, where it does


@dataclass(frozen=True)
class Field:
    """A field that goes with each group: its bits, and words of a row's window in a stage."""

    bits: int
    words: int
    at: int  # word in the stage


@dataclass(frozen=True)
class GemvSpec:
    """One compiled kernel.

    Args:
        plan: the encoding.
        k: inputs.
        tokens: m, 1 to 16.
        warps: of a block; those of a team share a tile of rows.
        runs: of 128 inputs in a stage, even.
        depth: stages of a warp under way, 1 or more.
        whole_rows: the number of rows is a multiple of 16.
        aligned_inputs: x begins at a multiple of 16 bytes.
        bfloat: x is bfloat16 rather than float16, and so is the result.
        registers: the most of a thread, so that more warps fit; 0 for as many as the assembler likes.
        branch: what is added to the dense product in the same launch; ``None`` without.
        ahead: blocks of 32 codes of a warp's first stage that a lane decodes before it waits for the inputs.
        teams: of warps, each with tiles of its own; 1 for a block that shares every tile.
    """

    plan: Plan
    k: int
    tokens: int
    warps: int
    runs: int
    depth: int
    whole_rows: bool
    aligned_inputs: bool = True
    bfloat: bool = False
    registers: int = 0
    branch: BranchSpec | None = None
    ahead: int = 0
    teams: int = 1

    def __post_init__(self) -> None:
        if self.teams < 1 or self.warps % self.teams or (self.teams > 1 and self.branch is not None):
            raise ValueError(f"teams must divide {self.warps} warps, and be one beside a branch, not {self.teams!r}")
        if self.runs < 2 or self.runs % 2 or self.depth < 1 or not 1 <= self.warps <= 32:
            raise ValueError(
                f"runs must be even, depth at least 1 and warps 1 to 32, not "
                f"{self.runs!r}, {self.depth!r} and {self.warps!r}"
            )
        if not 0 <= self.ahead <= (BLOCKS if self.runs == BLOCKS else 0):
            raise ValueError(f"ahead must be 0, or up to {BLOCKS} with {BLOCKS} runs, not {self.ahead} of {self.runs}")
        obstacle = ahead_obstacle(self.plan, self.tokens, branched=self.branch is not None) if self.ahead else None
        if obstacle is not None:
            raise NotImplementedError(obstacle)

    @property
    def vector(self) -> bool:
        """Whether eight inputs are one load."""
        return self.aligned_inputs and self.k % 8 == 0

    @property
    def row_words(self) -> int:
        """Words of codes of a row."""
        return row_words(self.k, self.plan.bits)

    @property
    def aligned(self) -> bool:
        """Whether rows of codes begin at multiples of 16 bytes."""
        return self.row_words % 4 == 0

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return 1 if self.plan.group == 0 else ceil_div(self.k, self.plan.group)

    @property
    def stages(self) -> int:
        """Stages of a row."""
        return ceil_div(self.k, self.runs * RUN)

    @property
    def team_warps(self) -> int:
        """Warps that share a tile."""
        return self.warps // self.teams

    @property
    def slots(self) -> int:
        """Stages of one warp in a tile."""
        return ceil_div(self.stages, self.team_warps)

    @property
    def whole_stages(self) -> bool:
        """Whether every stage is full."""
        return self.k % (self.runs * RUN) == 0

    @property
    def all_runs(self) -> int:
        """Runs of all slots of a team, and so many more that all threads of the block stage as many inputs."""
        return ceil_div(self.slots * self.team_warps * self.runs, 2 * self.warps) * 2 * self.warps

    @property
    def column_tiles(self) -> int:
        """Products of eight columns for each tile of weights."""
        return ceil_div(self.tokens, 4 // self.plan.parts)

    @property
    def stage_row_words(self) -> int:
        """Words of codes of one row in a stage."""
        return self.runs * 4 * self.plan.bits

    @property
    def gathered(self) -> bool:
        """Whether a lane takes four blocks of 32 codes next to one another rather than every fourth.

        Each of the four lanes of a row then has groups of its own, and with one token there are columns enough to
        keep these apart. Where every block is a group or two, candidates would differ from block to block.
        """
        apart = self.plan.parts <= 2 or self.plan.candidates == 1
        return self.tokens == 1 and self.runs == BLOCKS and apart and self.plan.bits < 8

    @property
    def merged(self) -> bool:
        """Whether products of the tables t and u (``gemv_plan``) have one sum: fewer additions, and longer chains.

        As measured (NOTES.md): sums of many products, or of many tiles of columns, had better be apart.
        """
        if self.gathered:
            return self.plan.parts > 2
        most = 4 if self.plan.group == BLOCK // 2 else self.plan.digits
        return self.column_tiles <= most

    @property
    def turned(self) -> bool:
        """Whether lanes 2 and 3 of a row take the second of two blocks first, so that lanes meet different banks."""
        return self.gathered and self.plan.bits == 4

    @property
    def swapped(self) -> bool:
        """Whether odd rows have the halves of each sector of codes swapped: two rows of a load then meet all banks."""
        return self.plan.bits == 8 and self.aligned

    @property
    def pitch(self) -> int:
        """Words between rows of a stage: whole sectors, with few bank conflicts (two lanes at most)."""
        if self.swapped:
            allowed: tuple[int, ...] = (0,)
        elif self.gathered:
            allowed = {2: (0,), 4: (8, 24), 6: (0,)}.get(self.plan.bits, (16,))
        else:
            allowed = {4: (16,)}.get(self.plan.bits, (8, 24))
        return next(p for p in range(self.stage_row_words, self.stage_row_words + 64, 4) if p % 32 in allowed)

    def _window(self, bits: int) -> int:
        """Words that hold the fields of a row in a stage, wherever the first one lies in its word."""
        if bits == 0:
            return 0
        width, group = self.runs * RUN, self.plan.group
        if group == 0 or group % width == 0:
            fields, alignment = 1, bits
        elif width % group == 0:
            fields = width // group
            alignment = math.gcd(self.groups * bits, fields * bits, WORD)
        else:
            fields, alignment = ceil_div(width, group) + 1, bits
        return ceil_div(WORD - alignment + fields * bits, WORD)

    @property
    def fields(self) -> tuple[Field, Field, Field, Field, Field]:
        """Scale, zero point (its planes, from high bits to low ones) and selector."""
        planes = plane_widths(self.plan.zero_bits) if self.plan.zero_bits else ()
        scale_bits = 0 if self.plan.scale is None else self.plan.scale.bits
        at, made = TILE_ROWS * self.pitch, []
        for bits in (scale_bits, *(*planes, 0, 0, 0)[:3], self.plan.selector_bits):
            made.append(Field(bits, self._window(bits), at))
            at += TILE_ROWS * made[-1].words
        return made[0], made[1], made[2], made[3], made[4]

    @property
    def stage_words(self) -> int:
        """Words of a stage of one warp."""
        last = self.fields[-1]
        return ceil_div(last.at + TILE_ROWS * last.words, SECTOR) * SECTOR

    @property
    def sums_per_run(self) -> int:
        """Stored sums of inputs for each run of 128, where zero points need them."""
        if self.plan.zero_bits == 0:
            return 0
        return 8 if self.plan.group == 16 else self.plan.parts

    @property
    def zeros(self) -> int:
        """Words of zeros that idle lanes read: a block's inputs."""
        return BLOCK // 2 if self.plan.halves else BLOCK // 4

    @property
    def tables_at(self) -> int:
        """Word of the lookup tables in shared memory."""
        return self.zeros

    @property
    def learned_pitch(self) -> int:
        """Words of a row's learned tables and its step, a multiple of four."""
        return self.plan.learned_words + 4

    @property
    def learned_at(self) -> int:
        """Word of two buffers of learned tables for each team, by row of a tile."""
        return self.tables_at + ceil_div(sum(map(len, self.plan.tables)), 4) * 4

    @property
    def inputs_at(self) -> int:
        """Word of the inputs: a plane for each digit of each token, or one of halves for each token."""
        return self.learned_at + (self.teams * 2 * TILE_ROWS * self.learned_pitch if self.plan.learned else 0)

    @property
    def block_words(self) -> int:
        """Words of the inputs of a block of 32; halves have four more, so that blocks lie in different banks."""
        return BLOCK // 2 + 4 if self.plan.halves else BLOCK // 4

    @property
    def plane(self) -> int:
        """Words of a plane; four more than its inputs take, so that both digits lie in different banks."""
        return self.all_runs * RUN // BLOCK * self.block_words + 4

    @property
    def input_scales_at(self) -> int:
        """Word of the inputs' scales, by token and run."""
        return self.inputs_at + (1 if self.plan.halves else 2) * self.tokens * self.plane

    @property
    def input_sums_at(self) -> int:
        """Word of the inputs' sums."""
        return self.input_scales_at + self.tokens * self.all_runs

    @property
    def ring_at(self) -> int:
        """Word of the stages, by warp."""
        return ceil_div(self.input_sums_at + self.tokens * self.sums_per_run * self.all_runs, SECTOR) * SECTOR

    @property
    def reduction_at(self) -> int:
        """Word of the warps' results, two buffers."""
        return self.ring_at + self.warps * self.depth * self.stage_words

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        branch = 0 if self.branch is None else self.branch.shared_words(self.tokens)
        return 4 * (self.branch_at + branch)

    @property
    def branch_at(self) -> int:
        """Word of what a branch needs; what warps keep of A lies where their results will, before there are any."""
        kept = 0
        if self.branch is not None:
            kept = self.branch.item_warps(self.tokens, self.warps) * self.branch.kept_words(self.tokens)
        return self.reduction_at + max(kept, 2 * self.warps * TILE_ROWS * self.tokens)
