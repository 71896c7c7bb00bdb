"""Which encodings the decode GEMV can decode ahead (``gemv_ahead``), and their tables of seven bits."""

from __future__ import annotations

from dataclasses import replace

from kernels_gpu.gemv_plan import Decoding, Plan, values_of_words, word_of

HELD_BITS = 4  # of the codes
SEVEN_BITS = range(-64, 64)


def seven_bit_plan(plan: Plan) -> Plan | None:
    """The plan with tables of its values' low seven bits; ``None`` where values take more or tables are not constants.

    Bit 7 of every entry is zero, so that what ``prmt`` yields for codes of a table's other half is zero, and the two
    lookups joined are the value's low seven bits.
    """
    made = []
    for words in plan.tables:
        values = values_of_words(words)
        if any(value not in SEVEN_BITS for value in values):
            return None
        entries = [value & 0x7F for value in values]
        made.append(tuple(word_of(entries[i : i + 4]) for i in range(0, 16, 4)))
    found = replace(plan, tables=tuple(made))
    return None if found.patched_bytes is None else found


def ahead_obstacle(plan: Plan, tokens: int, *, branched: bool) -> str | None:
    """What must hold for codes to be decoded ahead and does not, as a sentence; ``None`` where it does."""
    if tokens != 1 or branched:
        return f"tokens of a GEMV that decodes ahead must be 1, without a branch, not {tokens!r}"
    if plan.parts > 2 and plan.candidates > 1:
        return f"groups of mixtures decoded ahead must be of at least 64 codes, not {plan.group!r}"
    nibbles = plan.decoding is Decoding.NIBBLES
    table = plan.looked_up and plan.bits == HELD_BITS and plan.digits == 1
    if not (nibbles or (table and seven_bit_plan(plan) is not None)):
        return f"codes decoded ahead must be of 4 bits with values of one digit up to 63, not {plan.decoding.value}"
    return None
