"""What an export is asked for unless the user says otherwise."""

from __future__ import annotations

SEEDED = "seeded"  # golden inputs at random, from a seed; any other name is that of a text
POSITIONS = 256  # that the KV cache of a block holds
CONTEXT = 64  # tokens of a window of the text that golden inputs come from
