"""What is fixed when a decode-attention kernel is compiled: the cache's encoding, heads, and where things lie.

A cache holds ``[sequences, key heads, capacity, head_dim]`` codes in the layout of ``datatypes.packing`` (a row for
each token of a head) and one FP16 scale for each row: ``TensorConfig`` of a signed integer of 4 or 8 bits with
``PerChannel`` scales over the matrix of all rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from datatypes.catalog import FP16
from datatypes.format import IntFormat
from datatypes.granularity import PerChannel
from datatypes.layer_config import TensorConfig
from datatypes.planes import row_words

STEP_TOKENS = 32  # that a warp takes at a time
TILE_QUERIES = 4  # queries of a tile of eight columns: two digits each
HEAD_DIMS = (64, 128)
CACHE_BITS = (4, 8)
MAX_GROUP = 8


@dataclass(frozen=True)
class AttentionSpec:
    """One compiled kernel.

    Args:
        head_dim: elements of a key or value, 64 or 128.
        heads: key heads.
        group: query heads that share a key head, 1 to 8.
        key_bits, value_bits: 4 or 8.
        key_step, value_step: value of one unit of the codes, before the scale.
        scale: of the scores before the softmax; usually ``head_dim ** -0.5``.
        warps: of a block.
        split: several blocks share a sequence and a head; their results are merged by another kernel.
        bfloat: queries and results are bfloat16 rather than float16.
    """

    head_dim: int
    heads: int
    group: int
    key_bits: int
    value_bits: int
    key_step: float
    value_step: float
    scale: float
    warps: int
    split: bool
    bfloat: bool = False

    def __post_init__(self) -> None:
        if self.head_dim not in HEAD_DIMS:
            raise NotImplementedError(f"head_dim of the attention kernel must be 64 or 128, not {self.head_dim!r}")
        if not 1 <= self.group <= MAX_GROUP:
            raise NotImplementedError(f"query heads of a key head must be 1 to {MAX_GROUP}, not {self.group!r}")

    @property
    def tiles(self) -> int:
        """Tiles of columns."""
        return -(-self.group // TILE_QUERIES)

    def words(self, bits: int) -> int:
        """32-bit words of a row of the cache."""
        return row_words(self.head_dim, bits)

    @property
    def registers(self) -> int:
        """Registers of a key's bytes in a lane: a quarter of the row."""
        return self.head_dim // 16

    @property
    def query_words(self) -> int:
        """Words of the queries' digits in shared memory, padded to whole tiles."""
        return self.tiles * TILE_QUERIES * 2 * 4 * self.registers

    @property
    def steps_at(self) -> int:
        """Word of the queries' steps."""
        return self.query_words

    @property
    def results_at(self) -> int:
        """Word of the warps' results: for each warp and query ``head_dim`` sums, the maximum and the sum of weights."""
        return self.steps_at + self.tiles * TILE_QUERIES

    @property
    def result_words(self) -> int:
        """Words of one result."""
        return self.head_dim + 2

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return 4 * (self.results_at + self.warps * self.group * self.result_words)


def cache_format(config: TensorConfig) -> IntFormat:
    """The format of a cache that has a kernel.

    Raises:
        NotImplementedError: another encoding.
    """
    fmt = config.formats[0]
    rest = TensorConfig((fmt,), PerChannel(), config.scale, dynamic=config.dynamic)
    if (
        not (isinstance(fmt, IntFormat) and fmt.signed_codes and fmt.bits in CACHE_BITS)
        or config != rest
        or config.scale is None
        or config.scale.format.name != FP16.name
        or config.scale.outer is not None
    ):
        raise NotImplementedError(
            f"a KV cache of the attention kernel must be of signed integers of 4 or 8 bits with an fp16 scale for each "
            f"token and head, not {', '.join(f.name for f in config.formats)} for {config.granularity!r}"
        )
    return fmt
