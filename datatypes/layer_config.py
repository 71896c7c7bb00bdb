"""How a layer is encoded: the one noun that algorithms promise and cost models price.

``TensorConfig`` says how one matrix is stored; ``LayerConfig`` adds what a layer may have beside it (activation,
KV cache, low-rank branch, outliers). ``storage_bits`` counts every bit of it, each kind in its own field, and equals
the bytes that ``codesign`` writes (``tests/codesign/test_quantized_model.py``).

``docs/families.md`` says how the published families fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from datatypes.catalog import FP16, INT16, INT32
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.format import FloatFormat, Format, LearnedFormat
from datatypes.granularity import Granularity, PerChannel, PerTensor
from datatypes.planes import WORD_BITS, row_words
from datatypes.storage_bits import StorageBits, field_bits


class ScaleRule(Enum):
    """How a scale follows from the values it covers."""

    ABSMAX = "absmax"  # max|x| / absmax(format): symmetric types
    RANGE = "range"  # (max - min) / (levels - 1), with a zero point: asymmetric integers
    POW2_FLOOR = "pow2_floor"  # 2**(floor(log2 max|x|) - emax): OCP MX v1.0, section 6.3
    POW2_CEIL = "pow2_ceil"  # the smallest power of two that does not saturate
    LQER_CEIL = "lqer_ceil"  # 2**ceil(log2 max|x|) / 2**(bits - 1): LQER's MXINT (sign and magnitude, saturating)
    NORM = "norm"  # root mean square: HIGGS and other grids made for unit variance
    MEAN_ABS = "mean_abs"  # mean |x|: binary (XNOR-Net, eq. 6) and ternary (BitNet b1.58, arXiv 2402.17764, eq. 3)


@dataclass(frozen=True)
class SecondLevel:
    """What stored codes of scales or zero points mean: ``value(code) * scale``, or ``value(code) * scale + offset``.

    Args:
        scale: storage of one second-level scale.
        granularity: tiles **of the matrix of elements** that share a second-level scale.
        offset: storage of one second-level offset; ``None`` for none.
        offset_granularity: tiles that share an offset; ``None`` for those of ``granularity``.
        rule: ABSMAX: the offset is the mean of its tile, the scale covers the largest magnitude of what is left
            (Dettmers et al., QLoRA, arXiv 2305.14314, section 3). RANGE: from the smallest to the largest value of the
            tile (Dettmers et al., SpQR, arXiv 2306.03078, bilevel quantization); the offset is the real number that
            SpQR writes as ``-scale * zero``.
    """

    scale: Format = FP16
    granularity: Granularity = field(default=PerChannel())
    offset: Format | None = None
    offset_granularity: Granularity | None = None
    rule: ScaleRule = ScaleRule.ABSMAX

    def __post_init__(self) -> None:
        if self.rule not in (ScaleRule.ABSMAX, ScaleRule.RANGE):
            raise NotImplementedError(f"rule of a second level must be absmax or range, not {self.rule.value!r}")
        if self.offset is None and (self.rule is ScaleRule.RANGE or self.offset_granularity is not None):
            raise ValueError("offset of a second level must be given for rule range or offset tiles, not None")
        if self.offset is not None and not (isinstance(self.offset, FloatFormat) and self.offset.sign_bits):
            raise ValueError(f"offset of a second level must be a float with a sign, not {self.offset.name}")
        if self.rule is ScaleRule.RANGE and self.offset_tiles != self.granularity:
            raise ValueError("offsets of rule range must have the tiles of their scales, not tiles of their own")

    @property
    def offset_tiles(self) -> Granularity:
        """Tiles that share an offset."""
        return self.granularity if self.offset_granularity is None else self.offset_granularity

    @property
    def tilings(self) -> tuple[Granularity, ...]:
        """The tiles of everything stored here."""
        return (self.granularity,) if self.offset is None else (self.granularity, self.offset_tiles)

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of the second level for a ``[n, k]`` matrix; the codes below it are their owner's."""
        bits = StorageBits(outer_scales=field_bits(self.granularity.count(shape), self.scale.bits))
        if self.offset is not None:
            bits += StorageBits(outer_offsets=field_bits(self.offset_tiles.count(shape), self.offset.bits))
        return bits

    def field_bits(self, shape: tuple[int, int]) -> int:
        """As ``storage_bits``, without padding to words."""
        offsets = 0 if self.offset is None else self.offset_tiles.count(shape) * self.offset.bits
        return self.granularity.count(shape) * self.scale.bits + offsets


@dataclass(frozen=True)
class ScaleConfig:
    """A scale, and the scale of that scale where there are two levels.

    Args:
        format: storage of one scale.
        rule: how it is computed from the values it covers.
        outer: storage of the second-level scale; ``None`` for one level.
        outer_granularity: tiles **of the matrix of elements** that share a second-level scale.
        outer_offset, outer_offset_granularity, outer_rule: as in ``SecondLevel``.
    """

    format: Format = FP16
    rule: ScaleRule = ScaleRule.ABSMAX
    outer: Format | None = None
    outer_granularity: Granularity = field(default=PerChannel())
    outer_offset: Format | None = None
    outer_offset_granularity: Granularity | None = None
    outer_rule: ScaleRule = ScaleRule.ABSMAX

    def __post_init__(self) -> None:
        alone = (self.outer_offset, self.outer_offset_granularity) == (None, None)
        if self.outer is None and not (alone and self.outer_rule is ScaleRule.ABSMAX):
            raise ValueError("outer must be given where there is an outer_offset or an outer_rule, not None")
        if self.outer is not None:
            _ = self.second_level  # checks itself

    @cached_property
    def second_level(self) -> SecondLevel | None:
        """The outer fields as one; ``None`` for one level."""
        if self.outer is None:
            return None
        return SecondLevel(
            self.outer, self.outer_granularity, self.outer_offset, self.outer_offset_granularity, self.outer_rule
        )


@dataclass(frozen=True)
class CodebookConfig:
    """Storage of learned codebooks (``LearnedFormat``): one for each tile of ``granularity``."""

    format: Format = FP16
    granularity: Granularity = field(default=PerChannel())


@dataclass(frozen=True)
class SparsityConfig:
    """``kept`` of every ``block`` consecutive inputs are stored (2:4); the others are zero.

    Each kept element carries an index of ceil(log2(block)) bits.
    """

    kept: int = 2
    block: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.block:
            raise ValueError(f"kept must be 1 to block ({self.block}), not {self.kept!r}")

    def kept_columns(self, k: int) -> int:
        """Stored elements of a row of ``k``; a ragged last block keeps as many as it has, up to ``kept``.

        >>> SparsityConfig(2, 4).kept_columns(9)
        5
        """
        return k // self.block * self.kept + min(self.kept, k % self.block)


@dataclass(frozen=True)
class TensorConfig:
    """The encoding of one matrix ``[n, k]`` (for activations and KV: ``[tokens, features]``).

    Args:
        formats: the element format; more than one are candidates, chosen for each tile of ``selector`` and recorded
            there in ceil(log2(len(formats))) bits (BitMoD's four special values, ANT's types).
        granularity: tiles that share a scale.
        scale: how scales are stored and computed; ``None`` where values are used as they are (FP16).
        zero_point: storage of one zero point for each tile: an unsigned ``IntFormat`` for integer zero points, a
            float format for real offsets; ``None`` for symmetric types.
        zero_point_level: what the stored zero points mean where they are codes under a scale of their own (SpQR): an
            ``IntFormat`` zero point is then a real number in units of codes; ``None``: stored as they are.
        selector: tiles that share a candidate; ``None`` means the tiles of ``granularity``.
        codebook: storage of learned codebooks, for ``LearnedFormat`` only.
        residual: a second encoding of what the first leaves (VPTQ's residual codebook); summed on decode.
        sparsity: semi-structured mask.
        row_scale, column_scale: stored vectors that multiply rows and columns after decoding (OneBit, PTQ1.61,
            SmoothQuant or AWQ factors that were not folded); ``None`` where there are none.
        vectors_along_output: codes of several elements run down a column, not along a row (VPTQ), so there are
            ``[ceil(n / dim), k]`` of them.
        hadamard: block of the Hadamard rotation along the inputs undone at run time; 0 for none (HIGGS, QuaRot).
        dynamic: scales are computed when the layer runs (activations, KV), so they take no storage in the model.
    """

    formats: tuple[Format, ...]
    granularity: Granularity = field(default=PerTensor())
    scale: ScaleConfig | None = field(default=ScaleConfig())
    zero_point: Format | None = None
    selector: Granularity | None = None
    codebook: CodebookConfig | None = None
    residual: TensorConfig | None = None
    sparsity: SparsityConfig | None = None
    row_scale: Format | None = None
    column_scale: Format | None = None
    hadamard: int = 0
    dynamic: bool = False
    zero_point_level: SecondLevel | None = None
    vectors_along_output: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.formats, tuple) or not self.formats:
            raise TypeError(f"formats must be a tuple of at least one Format, not {self.formats!r}")
        if len({(f.bits, f.dim) for f in self.formats}) > 1:
            widths = sorted({f.bits_per_element for f in self.formats})
            raise ValueError(f"formats of one tensor must have equal bits and dim, not {widths} bits per element")
        if any(isinstance(f, LearnedFormat) for f in self.formats) != (self.codebook is not None):
            raise ValueError("codebook must be given exactly when the format is a LearnedFormat")
        if self.hadamard and self.hadamard & (self.hadamard - 1):
            raise ValueError(f"hadamard must be a power of two or 0, not {self.hadamard!r}")
        if self.zero_point_level is not None and self.zero_point is None:
            raise ValueError("zero_point must be given where there is a zero_point_level, not None")
        if self.vectors_along_output and (self.formats[0].dim == 1 or self.sparsity is not None):
            raise ValueError("vectors_along_output needs a format of several elements for each code and no sparsity")

    @cached_property
    def second_levels(self) -> tuple[SecondLevel, ...]:
        """The second levels there are, of scales and of zero points."""
        levels = (None if self.scale is None else self.scale.second_level, self.zero_point_level)
        return tuple(level for level in levels if level is not None)

    @property
    def tilings(self) -> tuple[Granularity, ...]:
        """The tiles of scales, zero points, selectors and second levels."""
        return (
            self.granularity,
            self.selector_granularity,
            *(t for level in self.second_levels for t in level.tilings),
        )

    def code_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the stored codes of a ``[n, k]`` matrix.

        Raises:
            ValueError: vectors run down columns and a tile of codebooks or selectors would cut one.

        >>> from datatypes.format import LearnedFormat
        >>> vptq = LearnedFormat("v6", 12, "arXiv 2409.17066", dimension=6)
        >>> book = CodebookConfig(granularity=PerTensor())
        >>> TensorConfig((vptq,), scale=None, codebook=book, vectors_along_output=True).code_shape((16, 50))
        (3, 50)
        """
        n, k = shape
        if self.vectors_along_output:
            dim = self.formats[0].dim
            shared = [] if self.codebook is None else [self.codebook.granularity]
            for tiles in (*shared, *([self.selector_granularity] if self.selector_bits else [])):
                rows = tiles.tile(shape)[0]
                if rows < n and rows % dim:
                    raise ValueError(f"tiles of {tiles!r} must hold whole vectors of {dim} outputs, for {n} of them")
            return -(-n // dim), k
        kept = k if self.sparsity is None else self.sparsity.kept_columns(k)
        return n, -(-kept // self.formats[0].dim)

    @property
    def code_bits(self) -> float:
        """Code bits per element, metadata not included."""
        return self.formats[0].bits_per_element

    @property
    def selector_bits(self) -> int:
        """Bits of one selector: ceil(log2(number of candidates))."""
        return (len(self.formats) - 1).bit_length()

    @property
    def selector_granularity(self) -> Granularity:
        """Tiles that share a candidate format."""
        return self.granularity if self.selector is None else self.selector

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of a stored ``[n, k]`` matrix.

        Rows of codes are padded to whole blocks of 32 codes (``datatypes.packing``), so a ragged row pays up to
        ``31 * bits`` of padding; fields of other kinds are padded to whole 32-bit words for each array of them.

        >>> from datatypes.catalog import BITMOD_FP4, UINT8
        >>> from datatypes.granularity import PerGroup
        >>> config = TensorConfig(BITMOD_FP4, PerGroup(128), ScaleConfig(UINT8, outer=FP16))
        >>> bits = config.storage_bits((4096, 4096))
        >>> bits.codes / 4096**2, bits.scales / 4096**2, bits.selectors / 4096**2
        (4.0, 0.0625, 0.015625)
        """
        n, k = shape
        fmt = self.formats[0]
        masks = 0
        if self.sparsity is not None:
            masks = field_bits(n * self.sparsity.kept_columns(k), (self.sparsity.block - 1).bit_length())
        code_rows, row_codes = self.code_shape(shape)
        codes = code_rows * row_codes * fmt.bits
        padded = code_rows * row_words(row_codes, fmt.bits) * WORD_BITS if fmt.bits < 16 else codes
        bits = StorageBits(codes=codes, padding=padded - codes, masks=masks)
        if self.dynamic:
            return bits
        if self.scale is not None:
            bits += StorageBits(scales=field_bits(self.granularity.count(shape), self.scale.format.bits))
        for level in self.second_levels:
            bits += level.storage_bits(shape)
        if self.zero_point is not None:
            bits += StorageBits(zero_points=field_bits(self.granularity.count(shape), self.zero_point.bits))
        if self.selector_bits:
            bits += StorageBits(selectors=field_bits(self.selector_granularity.count(shape), self.selector_bits))
        if self.codebook is not None:
            entries = self.codebook.granularity.count(shape) * (1 << fmt.bits) * fmt.dim
            bits += StorageBits(codebooks=field_bits(entries, self.codebook.format.bits))
        if self.row_scale is not None:
            bits += StorageBits(vectors=field_bits(n, self.row_scale.bits))
        if self.column_scale is not None:
            bits += StorageBits(vectors=field_bits(k, self.column_scale.bits))
        if self.residual is not None:
            bits += self.residual.storage_bits(shape)
        return bits

    def dynamic_bits(self, shape: tuple[int, int]) -> int:
        """Scale and zero-point bits that travel with ``shape`` when they are computed at run time."""
        if not self.dynamic:
            return 0
        per_tile = (self.scale.format.bits if self.scale is not None else 0) + (
            self.zero_point.bits if self.zero_point is not None else 0
        )
        return (
            self.granularity.count(shape) * per_tile
            + self.selector_granularity.count(shape) * self.selector_bits
            + sum(level.field_bits(shape) for level in self.second_levels)
        )

    def traffic_bits(self, shape: tuple[int, int]) -> int:
        """All bits that move when ``[n, k]`` is read or written once: codes and every kind of metadata."""
        return self.storage_bits(shape).total + self.dynamic_bits(shape)


@dataclass(frozen=True)
class Part:
    """Some input columns of a matrix and their encoding."""

    columns: int
    config: TensorConfig

    def __post_init__(self) -> None:
        if self.columns < 0:
            raise ValueError(f"columns must be at least 0, not {self.columns!r}")


@dataclass(frozen=True)
class PartitionedConfig:
    """Input columns encoded in different ways (SliM-LLM's slabs, PTQ1.61, OWQ at mixed width, ERQ's dual scales).

    Columns are taken in slabs of ``slab``; a map of ceil(log2(len(parts))) bits for each slab says which part a slab
    belongs to. Part ``i`` covers ``parts[i].columns`` columns in all.
    """

    parts: tuple[Part, ...]
    slab: int = 1

    def __post_init__(self) -> None:
        if len(self.parts) < 1 or self.slab < 1:
            raise ValueError(f"parts must not be empty and slab at least 1, not {self.parts!r} and {self.slab!r}")

    @property
    def columns(self) -> int:
        """in_features covered."""
        return sum(part.columns for part in self.parts)

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of a stored ``[n, k]`` matrix, the slab map included.

        Raises:
            ValueError: the parts do not cover ``k`` columns.
        """
        if self.columns != shape[1]:
            raise ValueError(f"columns of the parts must sum to in_features {shape[1]}, not {self.columns}")
        slab_bits = (len(self.parts) - 1).bit_length()
        bits = StorageBits(vectors=field_bits(-(-shape[1] // self.slab), slab_bits))
        for part in self.parts:
            if part.columns:
                bits += part.config.storage_bits((shape[0], part.columns))
        return bits

    def traffic_bits(self, shape: tuple[int, int]) -> int:
        """All bits that move when ``[n, k]`` is read once."""
        return self.storage_bits(shape).total

    @property
    def code_bits(self) -> float:
        """Code bits per element, averaged over the columns."""
        return sum(part.columns * part.config.code_bits for part in self.parts) / max(self.columns, 1)


WeightConfig = TensorConfig | PartitionedConfig
ActivationConfig = TensorConfig | ChannelGroupsConfig


@dataclass(frozen=True)
class LowRankConfig:
    """A side branch ``x @ a @ b`` with ``a`` ``[k, rank]`` and ``b`` ``[rank, n]`` (LQER, QERA, SVDQuant, LoRC).

    Args:
        rank: inner dimension.
        a, b: encodings of the factors, stored transposed as ``[rank, k]`` and ``[n, rank]`` (inputs last, like any
            weight).
        fused: computed inside the main GEMM's kernel; priced without a second pass over the activations.
    """

    rank: int
    a: TensorConfig
    b: TensorConfig
    fused: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank!r}")

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of both factors for a ``[n, k]`` weight; the rank is cut to ``min(n, k)``."""
        n, k = shape
        rank = min(self.rank, n, k)
        return StorageBits(low_rank=self.a.storage_bits((rank, k)).total + self.b.storage_bits((n, rank)).total)


class OutlierLayout(Enum):
    """Where the full-precision weights lie."""

    CSR = "csr"  # element-wise: one index for each, row pointers
    COLUMNS = "columns"  # whole input columns: one index for each column
    BITMAP = "bitmap"  # element-wise: one bit for each weight


@dataclass(frozen=True)
class OutlierConfig:
    """Weights kept at higher precision beside the dense codes.

    Args:
        layout: element-wise (CSR or bitmap) or whole columns.
        fraction: of the weights (element-wise) or of the input columns. Counted as ``round(fraction * all)``.
        format: of the kept values.
        index: of one column index (CSR, COLUMNS).
        row_pointer: of one CSR row pointer (``n + 1`` of them).
        keep_dense_slot: the dense code under an outlier is stored too (GWQ, OWQ's files); only COLUMNS can drop it.
    """

    layout: OutlierLayout = OutlierLayout.CSR
    fraction: float = 0.01
    format: Format = FP16
    index: Format = INT16
    row_pointer: Format = INT32
    keep_dense_slot: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction must be 0 to 1, not {self.fraction!r}")
        if not self.keep_dense_slot and self.layout is not OutlierLayout.COLUMNS:
            raise NotImplementedError(
                "keep_dense_slot=False needs layout COLUMNS: element-wise slots cannot be dropped"
            )

    def count(self, shape: tuple[int, int]) -> int:
        """Number of outliers (element-wise) or of outlier columns."""
        total = shape[1] if self.layout is OutlierLayout.COLUMNS else shape[0] * shape[1]
        return round(self.fraction * total)

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of values and indices for a ``[n, k]`` weight."""
        n, k = shape
        count = self.count(shape)
        if self.layout is OutlierLayout.COLUMNS:
            values, indices = field_bits(count * n, self.format.bits), field_bits(count, self.index.bits)
        elif self.layout is OutlierLayout.CSR:
            values = field_bits(count, self.format.bits)
            indices = field_bits(count, self.index.bits) + field_bits(n + 1, self.row_pointer.bits)
        else:
            values, indices = field_bits(count, self.format.bits), field_bits(n * k, 1)
        return StorageBits(outlier_values=values, outlier_indices=indices)


@dataclass(frozen=True)
class LayerConfig:
    """The whole encoding of a layer.

    Args:
        weight: encoding of the weight ``[n, k]``; ``None`` for layers without one (attention products).
        activation: encoding of the input ``[m, k]``; ``None`` for FP16. Channel groups store their order, scales and
            biases with the layer.
        output: encoding in which the output is written; ``None`` for FP16.
        key, value: encodings of the KV cache ``[tokens, head_dim]`` for attention layers; ``None`` for FP16.
        low_rank: side branch that corrects the weight.
        outliers: weights kept beside the dense codes.
        permuted: the weight's input columns are stored in another order, with an index of 32 bits each (GPTQ
            act-order without static groups): a gather of the activations at run time.
        output_norm: a normalisation without parameters follows the product (OneBit).
        smoothing: storage of the vector ``[k]`` that divides the input (SmoothQuant, AWQ); ``None`` where there is none
            or where it is folded into the layer before, which costs nothing here.
    """

    weight: WeightConfig | None = None
    activation: ActivationConfig | None = None
    output: TensorConfig | None = None
    key: TensorConfig | None = None
    value: TensorConfig | None = None
    low_rank: LowRankConfig | None = None
    outliers: OutlierConfig | None = None
    permuted: bool = False
    output_norm: bool = False
    smoothing: Format | None = None

    def __post_init__(self) -> None:
        if self.low_rank is not None and isinstance(self.activation, ChannelGroupsConfig):
            raise ValueError(
                "activation of a layer with a low-rank branch must be a TensorConfig, in which the branch's products "
                "are encoded too, not channel groups"
            )

    def storage_bits(self, shape: tuple[int, int]) -> StorageBits:
        """Bits of everything the model stores for a ``[n, k]`` layer (biases and norms are counted by the model).

        A layer without a weight config is counted as FP16.
        """
        dense_shape = shape
        if self.outliers is not None and not self.outliers.keep_dense_slot:
            dense_shape = (shape[0], shape[1] - self.outliers.count(shape))
        weight = FP16_WEIGHT if self.weight is None else self.weight
        bits = weight.storage_bits(dense_shape)
        if self.low_rank is not None:
            bits += self.low_rank.storage_bits(shape)
        if self.outliers is not None:
            bits += self.outliers.storage_bits(shape)
        if self.permuted:
            bits += StorageBits(vectors=shape[1] * INT32.bits)
        if self.smoothing is not None:
            bits += StorageBits(vectors=field_bits(shape[1], self.smoothing.bits))
        if isinstance(self.activation, ChannelGroupsConfig):
            bits += StorageBits(activation=self.activation.storage_bits(shape))
        return bits

    def tensors(self) -> Iterator[tuple[str, TensorConfig]]:
        """Every ``TensorConfig`` inside, with its role."""
        for role in ("weight", "activation", "output", "key", "value"):
            config = getattr(self, role)
            if isinstance(config, TensorConfig):
                yield role, config
            elif isinstance(config, PartitionedConfig):
                for i, part in enumerate(config.parts):
                    yield f"{role}.{i}", part.config
        if self.low_rank is not None:
            yield "low_rank.a", self.low_rank.a
            yield "low_rank.b", self.low_rank.b


FP16_WEIGHT = TensorConfig((FP16,), scale=None)
