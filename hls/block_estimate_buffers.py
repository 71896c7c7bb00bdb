"""Memories of an exported decoder block around its layers, and its streams, as blocks of a device.

By the rules of ``hls.estimate_buffers``. What lies between the steps of a DATAFLOW loop exists twice. A stream is a
shift register up to 64 values, as in layers, and a memory beyond that.
"""

from __future__ import annotations

from collections.abc import Iterator

from hls.block_loops import BEAT_WORDS, BLOCK_CODES, Record, records
from hls.block_plan import BlockPlan
from hls.decoder_block import LAYERS
from hls.estimate_buffers import LUTRAM_WORDS, Buffer, Fifo
from hls.loop import BEAT_BITS, WORD_BITS
from hls.stage_loops import PARTIAL_SUMS
from hls.weights import row_beats

STREAM_DEPTH = 2  # of a stream without a pragma: AMD UG1399
_ROM_WIDTH = 64  # of a table on the chip (rom_image in streams.h)


def _record(record: Record, name: str) -> Iterator[Buffer]:
    """The newest record, and those in the pipeline of positions: words in a bank for each bit of a code, then codes."""
    stage, words = record.stage, record.beats * BEAT_WORDS
    code_bits = stage.code_format.bits
    yield Buffer(f"{name}: floats of the newest", 1, 32, record.heads * stage.columns)
    yield Buffer(f"{name}: codes of the newest", record.heads, code_bits, stage.columns)
    yield Buffer(f"{name}: scales of the newest", record.heads, 32, stage.tiles)
    if stage.scale is not None:
        for what in ("high", "low", "zero"):
            yield Buffer(f"{name}: {what}", 1, 32, record.tiles)
    if record.asymmetric:
        yield Buffer(f"{name}: zero points of the newest", 1, record.bits, record.tiles)
        yield Buffer(f"{name}: zero points", record.tiles, record.bits, 1)
    yield Buffer(f"{name}: row that is packed", record.head_words, WORD_BITS, 1)
    yield Buffer(f"{name}: newest record", record.bits, WORD_BITS, -(-words // record.bits))
    yield Buffer(f"{name}: records", record.bits, WORD_BITS, -(-words // record.bits), copies=2)
    banks = record.heads * min(BLOCK_CODES, stage.columns)
    yield Buffer(f"{name}: codes", banks, code_bits, -(-stage.columns // BLOCK_CODES), copies=2)
    yield Buffer(f"{name}: scales", record.heads, 32, stage.tiles, copies=2)


def block_buffers(plan: BlockPlan, *, on_chip: bool) -> list[Buffer]:
    """Every array around the layers.

    Args:
        plan: the block.
        on_chip: whether the weight image is a table of the kernel.
    """
    block = plan.block
    heads, columns, half = block.heads, block.head_dim, block.head_dim // 2
    made = []
    for name in ("attention norm", "MLP norm"):
        made += [Buffer(f"{name}: {what}", 1, 32, block.hidden) for what in ("row", "weights")]
        made.append(Buffer(f"{name}: partial sums", PARTIAL_SUMS, 32, 1))
    made += [Buffer(f"rotation: {what}", 1, 32, half) for what in ("stored", "cosines", "sines")]
    made.append(Buffer("rotation: head", 2, 32, half))
    made.append(Buffer("queries", heads, 32, columns))
    for name, record in zip(("keys", "values"), records(plan), strict=True):
        made += _record(record, name)
    made += [
        Buffer("scores", heads, 32, block.positions),
        # while they are added to, in their stream, and while they are added up
        Buffer("partial sums of scores", heads * PARTIAL_SUMS, 32, 1, copies=2 + STREAM_DEPTH),
        Buffer("partial sums of powers", PARTIAL_SUMS, 32, 1),
        Buffer("totals, largest scores, weights", 3 * heads, 32, 1),
        Buffer("sums of powers", 1, 32, heads),
        Buffer("results", heads, 32, columns),
        Buffer("activated", 1, 32, block.layers["gate"].shape[0]),
    ]
    if on_chip:
        made.append(Buffer("weight image", 1, _ROM_WIDTH, plan.beats * BEAT_BITS // _ROM_WIDTH, constant=True))
    return made


def block_streams(plan: BlockPlan) -> list[Fifo]:
    """Every stream of ``block_token``."""
    hidden = plan.block.hidden
    row = row_beats(hidden, 16)
    beats = {"norm": 16, "mlp_norm": 16, "angles": 16}
    beats |= {f"{name}.to_input": STREAM_DEPTH for name in LAYERS} | {f"{name}.to_multiply": 64 for name in LAYERS}
    beats |= dict.fromkeys(("q_in", "k_in", "v_in", "gate_in", "up_in"), row)
    beats |= dict.fromkeys(("normed", "o_in", "mlp_normed", "down_in"), STREAM_DEPTH)
    floats = {"residual": hidden, "mlp_residual": hidden}
    floats |= dict.fromkeys(("x", "h", "y", "turned_q", "turned_k"), STREAM_DEPTH)
    floats |= {f"{name}_out": STREAM_DEPTH for name in LAYERS}
    return [
        *(Fifo(name, BEAT_BITS, depth) for name, depth in beats.items()),
        *(Fifo(name, 32, depth) for name, depth in floats.items()),
    ]


def stream_memories(streams: list[Fifo]) -> tuple[list[Fifo], list[Buffer]]:
    """Streams that are shift registers, and those that are memories."""
    deep = [one for one in streams if one.depth > LUTRAM_WORDS]
    memories = [Buffer(f"stream {one.name}", 1, one.width_bits, one.depth) for one in deep]
    return [one for one in streams if one.depth <= LUTRAM_WORDS], memories
