"""How many 32-bit words codes take: the arithmetic of ``datatypes.packing``, apart so that it loads nothing.

A code of ``b`` bits is split into planes whose widths are powers of two, so that no code ever crosses a word; see
``datatypes.packing`` for the picture.
"""

from __future__ import annotations

WORD_BITS = 32
BLOCK_CODES = 32  # codes of a row are packed in blocks of this many: b words each


def plane_widths(bits: int) -> tuple[int, ...]:
    """Widths of the planes of a ``bits``-bit code, from its high bits to its low ones.

    >>> [plane_widths(bits) for bits in range(1, 9)]
    [(1,), (2,), (2, 1), (4,), (4, 1), (4, 2), (4, 2, 1), (8,)]

    Raises:
        ValueError: not 1 to 32 bits.
    """
    if not 1 <= bits <= WORD_BITS:
        raise ValueError(f"bits of a packed code must be 1 to {WORD_BITS}, not {bits!r}")
    return tuple(1 << p for p in range(5, -1, -1) if bits >> p & 1)


def row_words(codes: int, bits: int) -> int:
    """32-bit words of one packed row: whole blocks of 32 codes, ``bits`` words each.

    >>> row_words(128, 3), row_words(33, 4)
    (12, 8)
    """
    return -(-codes // BLOCK_CODES) * bits


def flat_words(count: int, bits: int) -> int:
    """32-bit words of ``count`` packed fields outside the rows of codes (scales, selectors, indices).

    Each plane is padded to whole words.

    >>> flat_words(4, 2), flat_words(20, 3)
    (1, 3)
    """
    if bits == 0:
        return 0
    return sum(-(-count * width // WORD_BITS) for width in plane_widths(bits))
