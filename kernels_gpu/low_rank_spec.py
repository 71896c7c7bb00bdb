"""What is fixed when a kernel of thin products is compiled: the factor's encoding, the cut of the work, where z comes
from and where results go. See ``kernels_gpu.low_rank``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from datatypes.catalog import BF16, FP16, FP32
from datatypes.format import Format, IntFormat
from datatypes.layer_config import TensorConfig
from hwmodel.units import ceil_div
from kernels_gpu.gemv_plan import ScaleKind, scale_kind_of

UNIT = 8  # elements that a lane reads at once
HELD_WORDS = 16  # words of a factor that a lane holds while it waits for the kernel before


class FactorKind(Enum):
    """How elements of a factor are stored."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"
    INT8 = "int8"  # codes of ``datatypes.packing``, with a scale for each group


class Source(Enum):
    """Where the vector z of a thin product comes from."""

    INPUTS = "inputs"  # x itself
    COLUMNS = "columns"  # x at given columns
    SUMS = "sums"  # partial sums of another thin product, added up


class Target(Enum):
    """Where results go."""

    PARTIAL = "partial"  # float32 [splits, m, rows]
    ADDED = "added"  # to y [m, rows], in its type


@dataclass(frozen=True)
class Factor:
    """The encoding of a factor ``[rows, columns]``.

    Args:
        kind: of its elements.
        columns: of a row.
        group: inputs that share a scale; 0 for a whole row, or without scales.
        scale: how scales are stored; ``None`` without.
        step: value of one unit of a code.
    """

    kind: FactorKind
    columns: int
    group: int = 0
    scale: ScaleKind | None = None
    step: float = 1.0

    @property
    def vector(self) -> bool:
        """Whether eight elements are one load, of 16 bytes (8 of INT8)."""
        return self.kind is FactorKind.INT8 or (self.kind is not FactorKind.FP32 and self.columns % UNIT == 0)

    @property
    def unit(self) -> int:
        """Elements of one load."""
        return UNIT if self.vector else 1

    @property
    def words(self) -> int:
        """Words that a load gives."""
        if not self.vector:
            return 1
        return 2 if self.kind is FactorKind.INT8 else 4

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return 1 if self.group == 0 else ceil_div(self.columns, self.group)


_FLOATS = {FP16.name: FactorKind.FP16, BF16.name: FactorKind.BF16, FP32.name: FactorKind.FP32}


def factor_of(config: TensorConfig, columns: int) -> Factor:
    """How a kernel reads a factor of ``columns`` columns.

    Raises:
        NotImplementedError: an encoding without a kernel.
    """
    fmt, scale = config.formats[0], config.scale
    plain = (
        len(config.formats) == 1 and config.zero_point is None and config.residual is None and config.sparsity is None
        and config.row_scale is None and config.column_scale is None and not config.hadamard and not config.dynamic
        and config.codebook is None
    )  # fmt: skip
    if plain and scale is None and fmt.name in _FLOATS:
        return Factor(_FLOATS[fmt.name], columns)
    rows, group = config.granularity.tile((1 << 20, 1 << 20))
    whole_row = group == 1 << 20
    signed_bytes = isinstance(fmt, IntFormat) and fmt.bits == 8 and fmt.signed_codes
    tiled = rows == 1 and (whole_row or group % UNIT == 0)
    if not (plain and signed_bytes and tiled) or scale is None or scale.outer is not None:
        raise NotImplementedError(
            "a factor of the GPU kernels must be fp16, bf16, fp32, or signed integers of 8 bits with one scale for "
            f"each row or multiple of {UNIT} inputs, not {fmt.name} for {config.granularity!r}"
        )
    return Factor(FactorKind.INT8, columns, 0 if whole_row else group, scale_kind_of(scale.format), _step_of(fmt))


def _step_of(fmt: Format) -> float:
    assert isinstance(fmt, IntFormat)
    return fmt.step


@dataclass(frozen=True)
class ThinSpec:
    """One compiled kernel.

    Args:
        factor: the encoding.
        tokens: m, 1 to 16.
        lanes: that share a row, a power of two up to 32.
        loads: of a lane in a round.
        rounds: of ``chunk`` columns that a block takes one after another.
        splits: blocks that share a row.
        threads: of a block.
        source, target: where z comes from, where results go.
        source_columns: columns of x, or partial sums to add up.
        wide_index: columns of outliers are stored in 32 bits rather than 16.
        bfloat: x and y are bfloat16 rather than float16.
    """

    factor: Factor
    tokens: int
    lanes: int
    loads: int
    rounds: int
    splits: int
    threads: int
    source: Source
    target: Target
    source_columns: int
    wide_index: bool = False
    bfloat: bool = False

    def __post_init__(self) -> None:
        if self.splits > 1 and self.target is Target.ADDED:
            raise ValueError(f"splits must be 1 where results are added to y, not {self.splits!r}")

    @property
    def chunk(self) -> int:
        """Columns of a round."""
        return self.lanes * self.loads * self.factor.unit

    @property
    def teams(self) -> int:
        """Rows of a block."""
        return self.threads // self.lanes

    @property
    def pitch(self) -> int:
        """Words of a token's part of z in shared memory."""
        return ceil_div(self.chunk, 4) * 4

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return 4 * self.tokens * self.pitch


def thin_cut(factor: Factor, *, most_lanes: int, splits: int = 1) -> tuple[int, int, int, int]:
    """Lanes of a row, loads of a lane, rounds and splits: all columns covered, few idle lanes.

    >>> from kernels_gpu.low_rank_spec import Factor, FactorKind
    >>> thin_cut(Factor(FactorKind.FP16, 32), most_lanes=8)  # rank 32: four lanes of eight elements
    (4, 1, 1, 1)
    >>> thin_cut(Factor(FactorKind.FP16, 4096), most_lanes=32, splits=8)  # A of a 4096-wide layer
    (32, 2, 1, 8)
    """
    units = ceil_div(ceil_div(factor.columns, splits), factor.unit)
    lanes = 1
    while lanes < most_lanes and lanes < units:
        lanes *= 2
    loads = min(ceil_div(units, lanes), HELD_WORDS // factor.words)
    rounds = ceil_div(units, lanes * loads)
    used = ceil_div(factor.columns, rounds * lanes * loads * factor.unit)
    return lanes, loads, rounds, max(1, used)
