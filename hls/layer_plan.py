"""The facts that a layer's generated C++ states, and the image of its weights: what ``hls.layer_planning`` decides.

``docs/hls.md`` ("The config of a layer") says what each means; ``hls.layer_config_text`` writes them down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datatypes.format import Format, IntFormat
from datatypes.granularity import Granularity
from datatypes.layer_config import SparsityConfig
from datatypes.planes import row_words
from hls.c_types import CArithmetic
from hls.layer_options import LayerOptions
from hls.weights import BEAT_BYTES, row_beats


@dataclass(frozen=True)
class PlacedArray:
    """An array of the weight image.

    Args:
        name: as ``datatypes.layer_packing`` has it, or ``bias`` or ``<part>.gather``.
        beat: where it starts.
        words: its 32-bit words, padding to a beat not counted.
    """

    name: str
    beat: int
    words: int


@dataclass(frozen=True)
class FieldPlan:
    """A field: ``count`` entries of C++ type ``value``, ``per_tile`` for each tile, from ``beat`` on."""

    value: str
    tile_rows: int
    tile_columns: int
    count: int
    beat: int
    per_tile: int = 1


@dataclass(frozen=True)
class PartPlan:
    """One dense part: what its struct says.

    Args:
        fields: those that are there, by member name.
        outputs: rows of the weight that one code spans.
        kept, block: of every ``block`` columns of a row so many are stored; 1 and 1 for all.
        idle_weight, idle_activation: codes of lanes past the columns, one of them of value zero.
        slabs: the step with which each group of channels starts, where sums are shifted between them.
        runtime_bits: of this layer's codes, where their format is chosen at run time and ``code_bits`` is the most
            that they may have; 0 where it is fixed.
    """

    columns: int
    code_bits: int
    code_dim: int
    codes_beat: int
    group: int
    arithmetic: CArithmetic
    fields: Mapping[str, FieldPlan]
    exact_scale: bool
    outer_last: bool
    zero: str
    one_code: int
    one_exponent: int
    outputs: int = 1
    kept: int = 1
    block: int = 1
    idle_weight: int = 0
    idle_activation: int = 0
    slabs: tuple[int, ...] = ()
    runtime_bits: int = 0

    @property
    def stored_bits(self) -> int:
        """Bits of a code in the image."""
        return self.runtime_bits or self.code_bits

    @property
    def stored_columns(self) -> int:
        """Elements of a row that have codes."""
        return SparsityConfig(self.kept, self.block).kept_columns(self.columns)

    @property
    def row_codes(self) -> int:
        """Codes of a row."""
        return -(-self.stored_columns // self.code_dim)

    @property
    def wide_codes(self) -> FieldPlan:
        """Codes of 16 bits or more, which are not packed; the template's count of entries is 1."""
        return FieldPlan(f"codesign::raw_value<{self.code_bits}>", 1, 1, 1, self.codes_beat)


@dataclass(frozen=True)
class StagePlan:
    """A stage that encodes rows of floats.

    Args:
        columns: of a row.
        format: element format.
        scale: storage of scales; ``None`` without scales, which the rule ``none`` says too.
        rule: name of the C++ enumerator.
        tile_columns: of a scale.
        per_token: whether tokens have scales of their own.
        outer: second level of the scales.
        outer_per_token: whether that is a token's own.
        static_scale: the one scale; ``None`` for scales from the values.
    """

    columns: int
    format: Format
    scale: Format | None
    rule: str
    tile_columns: int
    per_token: bool = True
    outer: Format | None = None
    outer_per_token: bool = True
    static_scale: float | None = None

    @property
    def tiles(self) -> int:
        """Scales of a row."""
        return -(-self.columns // self.tile_columns)

    @property
    def code_format(self) -> Format:
        """What codes behind the stage mean: with a zero point taken off, an integer of one bit more."""
        if self.rule != "range":
            return self.format
        return IntFormat(f"int{self.format.bits + 1}", self.format.bits + 1, "code less zero point")


@dataclass(frozen=True)
class FactorPlan:
    """A low-rank factor ``[rows, columns]``."""

    value: str
    rows: int
    columns: int
    beat: int
    scale: FieldPlan | None
    outer_scale: FieldPlan | None


@dataclass(frozen=True)
class OutlierPlan:
    """Outlier columns (``pointers`` is ``None``) or single weights; ``most`` in all, or in one tile of rows."""

    values: FieldPlan
    index: FieldPlan
    pointers: FieldPlan | None
    most: int


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """A layer as it is generated.

    Args:
        shape: (n, k).
        options: tokens, lanes, rows.
        parts: dense parts in order.
        input: the activation stage.
        hadamard: block of the rotation of the input; 0 for none.
        smoothing, bias, offset: fields; ``None`` for none. The offset of each input is taken off before all else.
        low_rank: both factors; ``None`` for none.
        middle, result: stages of the low-rank branch; ``None`` where it stays float32.
        outliers: ``None`` for none.
        output: stage of the output; ``None`` for FP32 or, with ``fp16_output``, FP16.
        arrays: of the image, in order.
        image: uint32 words, whole beats.
        normalised: whether rows of outputs are normalised before the bias.
        blocks: of ``options.tile_rows`` rows in a tile.
    """

    shape: tuple[int, int]
    options: LayerOptions
    parts: tuple[PartPlan, ...]
    input: StagePlan
    hadamard: int
    smoothing: FieldPlan | None
    bias: FieldPlan | None
    low_rank: tuple[FactorPlan, FactorPlan] | None
    middle: StagePlan | None
    result: StagePlan | None
    outliers: OutlierPlan | None
    output: StagePlan | None
    fp16_output: bool
    arrays: tuple[PlacedArray, ...]
    image: np.ndarray
    normalised: bool = False
    blocks: int = 1
    offset: FieldPlan | None = None

    @property
    def rows_on_chip(self) -> int:
        """Of a tile."""
        return self.blocks * self.options.tile_rows

    @property
    def beats(self) -> int:
        """Of the image."""
        return len(self.image) * 4 // BEAT_BYTES

    @property
    def most_beats(self) -> int:
        """Of the image with the widest codes that its kernel takes."""
        (part, *_) = self.parts
        if not part.runtime_bits:
            return self.beats
        rows = -(-self.shape[0] // part.outputs)
        return part.codes_beat + -(-rows * row_words(part.row_codes, part.code_bits) * 4 // BEAT_BYTES)

    @property
    def format_register(self) -> int:
        """What the format register holds for this layer; 0 where its format is fixed."""
        (word, *_) = (*(part.arithmetic.registers[0] for part in self.parts if part.runtime_bits), 0)
        return word

    @property
    def output_beats(self) -> tuple[int, int]:
        """Beats of a token's outputs, numbers or packed codes, and of the scales behind them."""
        n = self.shape[0]
        if self.output is None:
            return row_beats(n, 16 if self.fp16_output else 32), 0
        return row_beats(row_words(n, self.output.format.bits), 32), row_beats(self.output.tiles, 32)

    @property
    def headers(self) -> tuple[str, ...]:
        """Headers of the arithmetics that are used, in order of name."""
        return tuple(sorted({header for part in self.parts for header in part.arithmetic.headers}))


# --- the image -------------------------------------------------------------------------------------------------------


@dataclass
class WeightImage:
    """The weight image while it grows."""

    arrays: list[PlacedArray] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    beat: int = 0

    def add(self, name: str, array: Tensor) -> int:
        """Put an array on the next beat; returns that beat."""
        raw = array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        start = self.beat
        self.arrays.append(PlacedArray(name, start, -(-len(raw) // 4)))
        self.chunks.append(raw + bytes(-len(raw) % BEAT_BYTES))
        self.beat += len(self.chunks[-1]) // BEAT_BYTES
        return start

    def words(self) -> np.ndarray:
        """The image as little-endian words."""
        return np.frombuffer(b"".join(self.chunks), dtype="<u4").astype(np.uint32)


def tiled_field(value: str, tiles: Granularity, shape: tuple[int, int], beat: int, per_tile: int = 1) -> FieldPlan:
    rows, columns = tiles.tile(shape)
    return FieldPlan(value, min(rows, shape[0]), min(columns, shape[1]), tiles.count(shape) * per_tile, beat, per_tile)
