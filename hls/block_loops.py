"""How often every loop of an exported decoder block runs for one token: what ``decoder_block.h`` has around its layers.

``block_loops(plan, position)`` says in closed form what norms, rotation, attention over the quantized cache, SiLU,
residuals and copies run at a position; ``token_loops`` adds the loops of the seven layers (``hls.layer_loops``). A test
compiles the headers with a counter in every loop and compares. Operators and intervals are those of ``hls.loop.Loop``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from datatypes.format import FloatFormat, IntFormat
from datatypes.planes import row_words
from hls.block_plan import BlockPlan
from hls.hls_operators import Operator, stages
from hls.layer_loops import layer_loops
from hls.layer_plan import FieldPlan, StagePlan
from hls.loop import BEAT_BITS, PORTS, WORD_BITS, Loop, Process, field_loops
from hls.part_shape import ADD_CYCLES
from hls.stage_loops import PARTIAL_SUMS, quantize_loops
from hls.weights import row_beats

BLOCK_CODES = 32  # of a packed row: words.h
BEAT_WORDS = BEAT_BITS // WORD_BITS
_FP32 = "codesign::fp32_value"
_TOTAL = (Operator.FLOAT_ADD,) * (PARTIAL_SUMS - 1)  # of partial sums, in order
_ENCODE = (Operator.LOGIC,) * 4  # exponent, shift, rounding, saturation: as stages of layers
# To an integer and back, the rest against a half, one more or not, and back again (round_even in quantizers.h); an
# integer of a float takes about as long as the way back.
_ROUND = (Operator.TO_FLOAT, Operator.TO_FLOAT, Operator.FLOAT_ADD, Operator.FLOAT_COMPARE, Operator.TO_FLOAT)
# exp_of_negative in elementwise.h: whole, rest in two differences, seven steps of Horner's scheme, times a power of two
EXP = (
    Operator.FLOAT_MULTIPLY, *_ROUND, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD, Operator.FLOAT_ADD,
    *(Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD) * 7, Operator.FLOAT_MULTIPLY,
)  # fmt: skip


class Step(Enum):
    """Processes of ``block_token`` around the layers, and the steps of ``attend``, which is one of them."""

    READ_INPUT = "read_block_input"
    NORM = "rms_norm"
    COPY = "copy_row"
    ROTATE = "rotate_heads"
    TAKE_HEADS = "take_heads"
    ENCODE = "encode"
    READ_KEYS = "read keys"
    UNPACK_KEYS = "unpack keys"
    SCORE = "score_tiles"
    TOTAL = "total_scores"
    SOFTMAX = "softmax_powers"
    READ_VALUES = "read values"
    UNPACK_VALUES = "unpack values"
    WEIGH = "weigh_position"
    SEND = "results"
    WRITE_CACHE = "write cache"
    ADD = "add_residual"
    SILU = "silu_times"
    WRITE_OUTPUT = "write_block_output"


@dataclass(frozen=True)
class Record:
    """Keys or values of a position in the cache (``cache_record`` in ``kv_cache.h``).

    Args:
        stage: that encodes a head.
        heads: of keys and values.
    """

    stage: StagePlan
    heads: int

    @property
    def bits(self) -> int:
        """Of a code as it is stored."""
        return self.stage.format.bits

    @property
    def head_words(self) -> int:
        """Of one head's codes."""
        return row_words(self.stage.columns, self.bits)

    @property
    def blocks(self) -> int:
        """Of 32 codes, all heads."""
        return self.heads * self.head_words // self.bits

    @property
    def tiles(self) -> int:
        """Scales of all heads; one a head where a format has none."""
        return self.heads * self.stage.tiles

    @property
    def asymmetric(self) -> bool:
        """Whether codes have zero points."""
        return self.stage.rule == "range"

    @property
    def entry_words(self) -> int:
        """Of a scale and its zero point."""
        if self.stage.scale is None:
            return 0
        return -(-(self.stage.scale.bits + (self.bits if self.asymmetric else 0)) // WORD_BITS)

    @property
    def beats(self) -> int:
        """Of the whole record."""
        words = self.heads * self.head_words + self.tiles * self.entry_words
        return -(-words // BEAT_WORDS)

    @property
    def beat_interval(self) -> int:
        """Cycles in which a beat's words get into as many banks as a code has bits, or out of them."""
        return -(-BEAT_WORDS // (self.bits * PORTS))

    @property
    def converted(self) -> bool:
        """Whether a code is an integer that becomes a float; minifloats are wired."""
        return self.asymmetric or isinstance(self.stage.format, IntFormat)

    @property
    def known(self) -> bool:
        """Whether codes become floats by an operator that is priced, or by wires."""
        return self.converted or isinstance(self.stage.format, FloatFormat)


def records(plan: BlockPlan) -> tuple[Record, Record]:
    """Of keys and of values."""
    return Record(plan.key, plan.block.kv_heads), Record(plan.value, plan.block.kv_heads)


def _norm(plan: BlockPlan, beat: int) -> Iterator[Loop]:
    """``norm.h``: the weights, squares, and the row divided by their root, which takes about as long as a division."""
    hidden = plan.block.hidden
    yield from field_loops(FieldPlan(_FP32, 1, 1, hidden, beat), 0, hidden, Step.NORM)
    root = (*_TOTAL, Operator.FLOAT_DIVIDE, Operator.FLOAT_ADD, Operator.FLOAT_DIVIDE, Operator.FLOAT_DIVIDE)
    yield Loop(Step.NORM, "columns_in", 1, hidden, (Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD), tail=root)
    path = (Operator.RAM_READ, Operator.FLOAT_MULTIPLY, Operator.FLOAT_MULTIPLY, *_ENCODE)
    yield Loop(Step.NORM, "columns_out", 1, hidden, path)


def _rotate(plan: BlockPlan) -> Iterator[Loop]:
    block, half = plan.block, plan.block.head_dim // 2
    heads = block.heads + block.kv_heads
    for name, label in (("cosine", "cosines"), ("sine", "sines")):
        yield from field_loops(FieldPlan(_FP32, 1, 1, half, plan.fields[name]), 0, half, Step.ROTATE)
        yield Loop(Step.ROTATE, label, 1, half, (Operator.RAM_READ,))
    yield Loop(Step.ROTATE, "elements_in", heads, heads * block.head_dim, (Operator.LOGIC,))
    path = (Operator.RAM_READ, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
    yield Loop(Step.ROTATE, "pairs", heads, heads * half, path)
    yield Loop(Step.ROTATE, "elements_out", heads, heads * block.head_dim, (Operator.RAM_READ,))


def _encode(record: Record) -> Iterator[Loop]:
    """A newest record: codes and scales by the stage, then packed."""
    heads, stage = record.heads, record.stage
    yield from quantize_loops(stage, heads, Step.ENCODE)
    yield Loop(Step.ENCODE, "words_cleared", 1, record.beats * BEAT_WORDS, (Operator.LOGIC,))
    if record.asymmetric:  # the smallest value so far is compared with the next one
        path = (Operator.RAM_READ, Operator.FLOAT_COMPARE)
        place = (Operator.FLOAT_DIVIDE, Operator.FLOAT_ADD, *_ROUND)
        wait = stages(Operator.FLOAT_COMPARE)
        columns = record.tiles * stage.tile_columns
        yield Loop(Step.ENCODE, "zero_columns", record.tiles, columns, path, wait, wait, tail=place)
    packed = (Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC)
    yield Loop(Step.ENCODE, "codes_packed", heads, heads * stage.columns, packed)
    yield Loop(Step.ENCODE, "row_copied", heads, heads * record.head_words, (Operator.LOGIC,))
    if stage.scale is not None:
        yield Loop(Step.ENCODE, "entries_packed", heads, record.tiles, (Operator.RAM_READ, *_ENCODE))


def _fetch(record: Record, position: int, read: Step, unpack: Step) -> Iterator[Loop]:
    """Records of all positions up to a token's own, which is on the chip, and their codes and scales."""
    count, interval = position + 1, record.beat_interval
    if position:
        beats = position * record.beats
        yield Loop(read, "record_beats_in", position, beats, (Operator.AXI, Operator.LOGIC), interval, interval)
    yield Loop(read, "words_copied", 1, record.beats * BEAT_WORDS, (Operator.RAM_READ,))
    path = (Operator.RAM_READ, Operator.LOGIC, Operator.LOGIC)
    yield Loop(unpack, "entries_unpacked", count, count * record.tiles, path)
    yield Loop(unpack, "blocks_unpacked", count, count * record.blocks, path)


def _attend(plan: BlockPlan, position: int) -> Iterator[Loop]:
    block, count = plan.block, position + 1
    heads, columns = block.heads, block.head_dim
    key, value = records(plan)
    taken = (heads + 2 * block.kv_heads) * columns
    yield Loop(Step.TAKE_HEADS, "elements_in", 3, taken, (Operator.LOGIC,))
    yield from _encode(key)
    yield from _encode(value)
    yield from _fetch(key, position, Step.READ_KEYS, Step.UNPACK_KEYS)
    number = (Operator.RAM_READ, Operator.LOGIC, *([Operator.TO_FLOAT] if key.converted else []))
    path = (*number, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
    tiles = count * key.stage.tiles
    yield Loop(Step.SCORE, "elements_scored", tiles, count * columns, path)
    scale = () if key.stage.scale is None else (Operator.FLOAT_MULTIPLY,)
    ended = (Operator.LOGIC, *_TOTAL, *scale, Operator.FLOAT_ADD, Operator.FLOAT_MULTIPLY, Operator.FLOAT_COMPARE)
    # heads take turns: until the adder has a head's total of the tile before, or its largest score is compared
    wait = -(-(ADD_CYCLES if key.stage.tiles > 1 else stages(Operator.FLOAT_COMPARE)) // heads)
    yield Loop(Step.TOTAL, "heads_totalled", tiles, tiles * heads, ended, wait, wait)
    power = (Operator.RAM_READ, Operator.FLOAT_ADD, *EXP, Operator.FLOAT_ADD)
    yield Loop(Step.SOFTMAX, "powers_added", heads, heads * count, power, tail=_TOTAL)
    yield from _fetch(value, position, Step.READ_VALUES, Step.UNPACK_VALUES)
    # the code becomes a float while the power is multiplied by its scale
    beside = (
        (Operator.TO_FLOAT,) if value.converted else () if value.stage.scale is None else (Operator.FLOAT_MULTIPLY,)
    )
    path = (Operator.RAM_READ, Operator.LOGIC, *beside, Operator.FLOAT_MULTIPLY, Operator.FLOAT_ADD)
    yield Loop(Step.WEIGH, "elements_weighed", count, count * columns, path)
    path = (Operator.RAM_READ, Operator.FLOAT_DIVIDE, *_ENCODE)
    yield Loop(Step.SEND, "results_out", 1, heads * columns, path)
    for record in (key, value):
        path, wait = (Operator.RAM_READ, Operator.AXI), record.beat_interval
        yield Loop(Step.WRITE_CACHE, "record_beats_out", 1, record.beats, path, wait, wait)


def block_loops(plan: BlockPlan, position: int) -> list[Loop]:
    """Every loop around the layers for one token; bursts of tables count among the reader's (``READ_WEIGHTS``).

    Args:
        plan: the block.
        position: of the token; as many lie before it.

    Raises:
        ValueError: the cache has no such position.
    """
    block = plan.block
    if not 0 <= position < block.positions:
        raise ValueError(f"position of a token must be 0 to {block.positions - 1}, not {position!r}")
    hidden, mlp = block.hidden, plan.layers["gate"].shape[0]
    loops = [Loop(Step.READ_INPUT, "columns_in", 1, hidden, (Operator.AXI, Operator.LOGIC))]
    for name in ("attention_norm", "mlp_norm"):
        loops += _norm(plan, plan.fields[name])
        loops.append(Loop(Step.COPY, "beats_copied", 1, row_beats(hidden, 16), (Operator.LOGIC,)))
        loops.append(Loop(Step.ADD, "columns_added", 1, hidden, (Operator.FLOAT_ADD,)))
    loops += _rotate(plan)
    loops += _attend(plan, position)
    silu = (*EXP, Operator.FLOAT_ADD, Operator.FLOAT_DIVIDE)  # the sum takes longer than the product beside it
    loops.append(Loop(Step.SILU, "columns_activated", 1, mlp, silu))
    path = (Operator.RAM_READ, Operator.FLOAT_MULTIPLY, *_ENCODE)
    loops.append(Loop(Step.SILU, "columns_multiplied", 1, mlp, path))
    loops.append(Loop(Step.WRITE_OUTPUT, "columns_out", 1, hidden, (Operator.LOGIC, Operator.AXI)))
    return loops


_NOT_IN_A_BLOCK = (Process.READ_INPUT, Process.COLLECT_OUTPUT, Process.WRITE_OUTPUT)  # streams are in their places


def token_loops(plan: BlockPlan, position: int) -> list[Loop]:
    """Those of ``block_loops`` and of all layers, as one token at ``position`` runs them."""
    inside = [
        loop for layer in plan.layers.values() for loop in layer_loops(layer, 1) if loop.process not in _NOT_IN_A_BLOCK
    ]
    return [*block_loops(plan, position), *inside]
