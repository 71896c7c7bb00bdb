"""Time of what stands beside a decode GEMV of up to 16 tokens: low-rank branches, outlier columns, outlier rows.

A branch is part of the dense product's launch (``kernels_gpu.gemv_branch``): its bytes, and what blocks wait for each
other's sums. Of a large rank it is launches of its own, as all else is (``kernels_gpu.low_rank``, ``outliers``,
``layer``), in a chain:

    branch     t = A x before the dense product, y += B t after it
    columns    x without them for the dense product, where their slots are left out; y += W x[columns] after it
    rows       y += outliers x after it (compressed rows)

    launch     what programmatic overlap leaves
    memory     bytes at the measured copy rate
    turns      of a thin product: inputs that a thread puts into shared memory, one after another; then token by token
               y is read, added to and written. Blocks beyond those that the SMs hold wait for them
    ring       of the dense product, whose weight is read before its inputs are there: while the kernel before it is at
               its turns, that much of them is not charged
    gathers    of rows: every outlier picks an input of every token; SMs take whole blocks

Eight constants (``gpu_turns``) are fitted to part of an H100's layers (``hwmodel.gpu_branches_fit``). Left out: more
than 16 tokens, for which there are no such kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from datatypes.catalog import FP16
from datatypes.layer_config import LayerConfig, LowRankConfig, OutlierConfig, OutlierLayout
from hwmodel.gpu import Gpu
from hwmodel.gpu_branches_cut import (
    THREADS,
    Source,
    ThinCut,
    cut_of_a,
    cut_of_b,
    cut_of_columns,
    cut_of_rows,
    factor_has_kernel,
)
from hwmodel.gpu_gemv import gemv_constants, rounded_maximum, stage_bytes
from hwmodel.gpu_gemv_cut import RESERVED_BYTES, WORD_BYTES, GemvCut
from hwmodel.gpu_gemv_encoding import TILE_ROWS, GemvEncoding
from hwmodel.gpu_turns import TurnConstants, turn_constants
from hwmodel.units import BYTE_BITS, KIB, ceil_div

_SM_THREADS = 2048  # of an SM: CUDA C++ Programming Guide, compute capabilities 8.0 and 9.0
_WIDE_BYTES = 2  # FP16
MOST_JOINED_RANK = 256  # of a branch in the dense product's launch: kernels_gpu/gemv_branch_spec.py
# What 228 KiB of shared memory, which the GEMV asks for, leave of an SM's 256 KiB: CUDA C++ Programming Guide,
# compute capability 9.0
_CACHE_BYTES = 28 * KIB
_GROUP = (
    4  # outliers of a thread in a round, whose inputs are fetched one after another: kernels_gpu/outliers_launch.py
)
_NORM = 4.0  # turns and gathers of an SM's blocks overlap


@dataclass(frozen=True)
class Beside:
    """Where kernels beside a product run.

    Args:
        gpu: data sheet: SMs, clock and shared memory are used.
        copy_bytes_per_s: measured, read plus written.
        cold: the layer's inputs lie in memory and not in L2, as in a benchmark whose weights have passed through it.
        more_s: of each launch beyond one that overlaps with its neighbours.
        constants: fitted; the recorded ones by default.
    """

    gpu: Gpu
    copy_bytes_per_s: float
    cold: bool = False
    more_s: float = 0.0
    constants: TurnConstants | None = None

    @property
    def fitted(self) -> TurnConstants:
        """The constants."""
        return turn_constants() if self.constants is None else self.constants

    @property
    def launch_s(self) -> float:
        """Of a launch."""
        return self.fitted.launch_s + self.more_s

    def turn_s(self, source: Source) -> float:
        """Of an input: one load, or its column's and its own."""
        cold_s = self.fitted.cold_s if self.cold and source is Source.INPUTS else 0.0
        return self.fitted.turn_s * source.turns + cold_s


def ring_s(encoding: GemvEncoding, cut: GemvCut, weight_bytes: float, where: Beside) -> float:
    """Seconds in which memory fills the rings of a dense product, a block on each SM, or brings all of its weight.

    0 where kernels do not overlap (``more_s``).
    """
    if where.more_s:
        return 0.0
    filled_bytes = min(where.gpu.multiprocessors * cut.depth * stage_bytes(encoding, cut), weight_bytes)
    return filled_bytes / where.copy_bytes_per_s / gemv_constants().read_over_copy


def _before_s(seconds: float, where: Beside, ring_s: float) -> float:
    """A kernel before the dense product whose ring fills meanwhile: its launch, and what it takes beyond that."""
    return where.launch_s + max(0.0, seconds - where.launch_s - ring_s)


def branch_s(
    branch: LowRankConfig, shape: tuple[int, int, int], where: Beside, ring_s: float = 0.0
) -> tuple[float, float]:
    """Seconds of ``A x`` and of ``y += B t``, the shape being m (1 to 16), n, k; ``ring_s`` of the product between."""
    m, n, k = shape
    rank, (down_bytes, up_bytes) = min(branch.rank, n, k), _factor_bytes(branch, n, k)
    first, second = cut_of_a(branch.a, k), cut_of_b(branch.b, rank)
    down_s = _thin_s(first, (m, rank), Source.INPUTS, down_bytes, where, added=False)
    return _before_s(down_s, where, ring_s), _thin_s(second, (m, n), Source.SUMS, up_bytes, where, added=True)


def _factor_bytes(branch: LowRankConfig, n: int, k: int) -> tuple[float, float]:
    """Bytes of A and of B of an ``[n, k]`` weight."""
    rank = min(branch.rank, n, k)
    return branch.a.storage_bits((rank, k)).total / BYTE_BITS, branch.b.storage_bits((n, rank)).total / BYTE_BITS


def joins(branch: LowRankConfig, n: int, k: int) -> bool:
    """Whether a branch of an ``[n, k]`` weight goes with the dense product."""
    return min(branch.rank, n, k) <= MOST_JOINED_RANK


def joined_s(branch: LowRankConfig, shape: tuple[int, int, int], where: Beside, launches: int) -> tuple[float, float]:
    """Seconds that both products of a branch add to the launches of a dense product of m (1 to 16), n, k."""
    (m, n, k), c = shape, where.fitted
    down_bytes, up_bytes = _factor_bytes(branch, n, k)
    tiles = ceil_div(n, TILE_ROWS) / where.gpu.multiprocessors
    handed_s = c.joined_s + ceil_div(m, launches) * (c.joined_token_s + tiles * c.joined_tile_s)
    return launches * (handed_s + down_bytes / where.copy_bytes_per_s), launches * up_bytes / where.copy_bytes_per_s


def low_rank_s(
    branch: LowRankConfig, shape: tuple[int, int, int], where: Beside, ring_s: float = 0.0, *, launches: int = 0
) -> tuple[float, float]:
    """Seconds of both products of a branch as they are launched; the arguments as in ``beside_s``."""
    if launches and joins(branch, *shape[1:]):
        return joined_s(branch, shape, where, launches)
    return branch_s(branch, shape, where, ring_s)


def columns_s(
    outliers: OutlierConfig, shape: tuple[int, int, int], where: Beside, ring_s: float = 0.0
) -> tuple[float, float]:
    """Seconds of taking the other inputs (0 where dense slots stay) and of the product of outlier columns."""
    m, n, k = shape
    count = outliers.count((n, k))
    if not count:
        return 0.0, 0.0
    taken_s = where.launch_s + where.turn_s(Source.INPUTS)
    taken_s = 0.0 if outliers.keep_dense_slot else _before_s(taken_s, where, ring_s)
    cut = cut_of_columns(outliers.format.bits, count)
    moved_bytes = outliers.storage_bits((n, k)).total / BYTE_BITS
    return taken_s, _thin_s(cut, (m, n), Source.COLUMNS, moved_bytes, where, added=True)


def _thin_s(
    cut: ThinCut, size: tuple[int, int], source: Source, moved_bytes: float, where: Beside, *, added: bool
) -> float:
    """A thin product of ``size`` tokens and rows."""
    (m, rows), gpu = size, where.gpu
    turns_s = cut.staged(m) * where.turn_s(source) + (m * where.fitted.turn_s if added else 0.0)
    shared_bytes = WORD_BYTES * m * cut.pitch_words + RESERVED_BYTES
    resident = max(1, min(_SM_THREADS // THREADS, gpu.shared_bytes // shared_bytes))
    waves = max(1.0, cut.blocks(rows) / (gpu.multiprocessors * resident))
    return where.launch_s + waves * turns_s + moved_bytes / where.copy_bytes_per_s


def rows_s(outliers: OutlierConfig, shape: tuple[int, int, int], where: Beside) -> float:
    """Seconds of ``y += outliers x`` with compressed rows; 0 without outliers."""
    (m, n, k), gpu, c = shape, where.gpu, where.fitted
    count = outliers.count((n, k))
    if not count:
        return 0.0
    cut = cut_of_rows(n, count)
    # the inputs of all tokens, each read again and again
    missed = c.missed_cycles if m * k * _WIDE_BYTES > _CACHE_BYTES else 0.0
    blocks = ceil_div(cut.blocks, gpu.multiprocessors)
    gathers_s = blocks * cut.elements * m * (c.gather_cycles + missed) / gpu.frequency_hz
    memory_s = outliers.storage_bits((n, k)).total / BYTE_BITS / where.copy_bytes_per_s
    turns_s = cut.rounds * _GROUP * c.turn_s
    return where.launch_s + rounded_maximum(max(gathers_s, memory_s), turns_s, _NORM)


def beside_s(
    config: LayerConfig, shape: tuple[int, int, int], where: Beside, ring_s: float = 0.0, *, launches: int = 0
) -> float:
    """Seconds of what is beside a layer's dense product of m (1 to 16), n, k, whose rings fill in ``ring_s``.

    ``launches``: of the dense product, with which a branch goes; 0 where a branch is launches of its own.

    Raises:
        NotImplementedError: a branch or outliers without kernels.
    """
    reason = beside_without_kernel(config)
    if reason is not None:
        raise NotImplementedError(f"kernels beside a product must take the layer, not {reason}")
    seconds = 0.0
    if config.low_rank is not None:
        seconds += sum(low_rank_s(config.low_rank, shape, where, ring_s, launches=launches))
    if config.outliers is not None:
        by_column = config.outliers.layout is OutlierLayout.COLUMNS
        seconds += (
            sum(columns_s(config.outliers, shape, where, ring_s))
            if by_column
            else rows_s(config.outliers, shape, where)
        )
    return seconds


def beside_without_kernel(config: LayerConfig) -> str | None:
    """What beside a layer's product no kernel takes, in a few words, or ``None`` where there is one for each."""
    branch, outliers = config.low_rank, config.outliers
    if branch is not None and not (factor_has_kernel(branch.a) and factor_has_kernel(branch.b)):
        return "factors of a branch in this encoding"
    if outliers is not None and outliers.layout is OutlierLayout.BITMAP:
        return "outliers in a bitmap"
    if outliers is not None and outliers.format.name != FP16.name:
        return f"outliers in {outliers.format.name}"
    return None


def dense_inputs(config: LayerConfig, shape: tuple[int, int]) -> int:
    """Columns of the dense product of an ``[n, k]`` weight: those of outliers may be left out."""
    outliers = config.outliers
    dropped = outliers is not None and not outliers.keep_dense_slot
    return shape[1] - (outliers.count(shape) if outliers is not None and dropped else 0)
