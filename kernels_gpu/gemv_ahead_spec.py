"""Which encodings the decode GEMV can decode ahead (``gemv_ahead``), and their tables of seven bits."""

from __future__ import annotations

from dataclasses import replace

from kernels_gpu.gemv_plan import Decoding, Plan, top, word_of

HELD_BITS = 4  # of the codes
SEVEN_BITS = range(-64, 64)
MOST_AHEAD = 4  # blocks, 64 registers: a kernel of 8 warps and the next one have 128 for each thread


def _values_of(words: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Values of codes 0 to 7 and of codes 8 to 15, from the words of tables t and u (``gemv_plan.signed_tables``)."""
    entries = [(word >> 8 * byte & 0xFF ^ 0x80) - 0x80 for word in words for byte in range(4)]
    pairs = list(zip(entries[:8], entries[8:], strict=True))
    return [t - top(u) for t, u in pairs], [top(t) - u for t, u in pairs]


def seven_bit_plan(plan: Plan) -> Plan | None:
    """The plan with tables of its values' low seven bits; ``None`` where values take more or tables are not constants.

    Bit 7 of every entry is zero, so that what ``prmt`` yields for codes of a table's other half is zero, and the two
    lookups joined are the value's low seven bits.
    """
    made = []
    for words in plan.tables:
        low, high = _values_of(words)
        if any(value not in SEVEN_BITS for value in (*low, *high)):
            return None
        entries = [value & 0x7F for value in (*low, *high)]
        made.append(tuple(word_of(entries[i : i + 4]) for i in range(0, 16, 4)))
    found = replace(plan, tables=tuple(made))
    return None if found.patched_bytes is None else found


def ahead_obstacle(plan: Plan, tokens: int, *, branched: bool) -> str | None:
    """What must hold for codes to be decoded ahead and does not, as a sentence; ``None`` where it does."""
    if tokens != 1 or branched:
        return f"tokens of a GEMV that decodes ahead must be 1, without a branch, not {tokens!r}"
    nibbles = plan.decoding is Decoding.NIBBLES
    table = plan.looked_up and plan.bits == HELD_BITS and plan.digits == 1
    if not (nibbles or (table and seven_bit_plan(plan) is not None)):
        return f"codes decoded ahead must be of 4 bits with values of one digit up to 63, not {plan.decoding.value}"
    return None
