"""Device functions of the GEMV that put codes together from their planes: words of a block of 32 codes to bytes.

The layout of planes is that of ``datatypes.packing``. Unless said otherwise, eight codes make two registers, the first
of codes 0, 2, 4, 6 and the second of codes 1, 3, 5, 7.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, uint32

from kernels_gpu import ptx, ptx_tile

# bits 0, 2, 4, 6 (or 1, 3, 5, 7) of a byte, times these, stand at bits 3, 11, 19, 27 of the product; other terms fall
# beside them, and their carries end before them
SPREAD_EVEN, SPREAD_ODD = 1 << 3 | 1 << 9 | 1 << 15 | 1 << 21, 1 << 2 | 1 << 8 | 1 << 14 | 1 << 20
LOW_TWO = 0x0C080400  # two low bits of a code of six, where they stand in its byte
LOW_THREE = (0x0C080400, 0x0E0A0602)  # three of seven, by the index of ``looked_up_3``: high two bits, then the low one


def make_load_words(bits: int) -> Any:
    """Device function ``(shared, at) -> words`` of a block."""
    if bits == 2:

        @cuda.jit(device=True)
        def load_words(shared, at):
            return ptx_tile.shared_2(shared, at)
    elif bits == 4:

        @cuda.jit(device=True)
        def load_words(shared, at):
            return ptx_tile.shared_4(shared, at)
    elif bits == 8:

        @cuda.jit(device=True)
        def load_words(shared, at):
            return ptx_tile.shared_4(shared, at) + ptx_tile.shared_4(shared, uint32(at + uint32(4)))
    elif bits == 6:

        @cuda.jit(device=True)
        def load_words(shared, at):
            return (
                ptx_tile.shared_2(shared, at)
                + ptx_tile.shared_2(shared, uint32(at + uint32(2)))
                + ptx_tile.shared_2(shared, uint32(at + uint32(4)))
            )
    else:

        @cuda.jit(device=True)
        def three(shared, at):
            return (
                ptx_tile.shared_1(shared, at),
                ptx_tile.shared_1(shared, uint32(at + uint32(1))),
                ptx_tile.shared_1(shared, uint32(at + uint32(2))),
            )

        if bits == 3:
            return three

        @cuda.jit(device=True)
        def load_words(shared, at):
            first = three(shared, at)
            second = (
                ptx_tile.shared_1(shared, uint32(at + uint32(3))),
                ptx_tile.shared_1(shared, uint32(at + uint32(4))),
            )
            if bits == 5:
                return first + second
            third = (
                ptx_tile.shared_1(shared, uint32(at + uint32(5))),
                ptx_tile.shared_1(shared, uint32(at + uint32(6))),
            )
            return first + second + third

    return load_words


def make_load_inputs(as_halves: bool) -> Any:
    """Device function ``(shared, at) -> words`` of a block of 32 inputs: bytes of one digit, or halves."""

    @cuda.jit(device=True)
    def load_inputs(shared, at):
        words = ptx_tile.shared_4(shared, at) + ptx_tile.shared_4(shared, uint32(at + uint32(4)))
        if as_halves:
            more = ptx_tile.shared_4(shared, uint32(at + uint32(8)))
            return words + more + ptx_tile.shared_4(shared, uint32(at + uint32(12)))
        return words

    return load_inputs


@cuda.jit(device=True)
def load_swapped(shared, at, row):
    """Words of a block of 8 bits; odd rows have the halves of each eight words swapped."""
    odd = uint32((row & uint32(1)) << uint32(2))
    return ptx_tile.shared_4(shared, uint32(at + odd)) + ptx_tile.shared_4(shared, uint32(at + uint32(4) - odd))


def make_load_four(bits: int) -> Any:
    """Device function ``(shared, at) -> words`` of four blocks next to one another, but for 4 bits."""

    @cuda.jit(device=True)
    def load_two(shared, at):
        return ptx_tile.shared_4(shared, at) + ptx_tile.shared_4(shared, uint32(at + uint32(4)))

    @cuda.jit(device=True)
    def load_three(shared, at):
        return load_two(shared, at) + ptx_tile.shared_4(shared, uint32(at + uint32(8)))

    if bits < 4:
        return load_two if bits == 2 else load_three

    @cuda.jit(device=True)
    def load_more(shared, at):
        rest = uint32(at + uint32(12))
        if bits == 5:
            return load_three(shared, at) + load_two(shared, rest)
        if bits == 6:
            return load_three(shared, at) + load_three(shared, rest)
        return load_three(shared, at) + load_two(shared, rest) + load_two(shared, uint32(at + uint32(20)))

    return load_more


@cuda.jit(device=True)
def even_nibbles(word):
    return uint32((word << uint32(4)) & uint32(0xF0F0F0F0))


@cuda.jit(device=True)
def odd_nibbles(word):
    return uint32(word & uint32(0xF0F0F0F0))


@cuda.jit(device=True)
def nibbles_of_word(word):
    """Registers of eight 4-bit codes, in the upper halves of bytes."""
    return even_nibbles(word), odd_nibbles(word)


@cuda.jit(device=True)
def nibbles(words, tables):
    a, b, c, d = words
    return (
        even_nibbles(a), odd_nibbles(a), even_nibbles(b), odd_nibbles(b),
        even_nibbles(c), odd_nibbles(c), even_nibbles(d), odd_nibbles(d),
    )  # fmt: skip


@cuda.jit(device=True)
def bytes_in_turn(even, odd):
    """Bytes of two words in turn, as two words: the lower half of each, then the upper half."""
    return ptx.pick_bytes(even, odd, uint32(0x5140)), ptx.pick_bytes(even, odd, uint32(0x7362))


@cuda.jit(device=True)
def _picked(t0, t1, even, odd):
    """Registers of sixteen codes, from indices of four bits of the even ones and the odd ones."""
    return (
        ptx.pick_bytes(t0, t1, even),
        ptx.pick_bytes(t0, t1, odd),
        ptx.pick_bytes(t0, t1, ptx.upper_half(even)),
        ptx.pick_bytes(t0, t1, ptx.upper_half(odd)),
    )


@cuda.jit(device=True)
def looked_up_2(word, t):
    """Registers of sixteen 2-bit codes."""
    return _picked(t, t, uint32(word & uint32(0x33333333)), uint32((word >> uint32(2)) & uint32(0x33333333)))


@cuda.jit(device=True)
def _looked_up_3(high, low, t0, t1):
    """Registers of sixteen 3-bit codes: high bits in pairs, low bits in the lower halves of bytes.

    Bits 0 and 2 of a byte times 4 + 16 stand at bits 2 and 6, bits 1 and 3 times 2 + 8 too; what else there is of the
    products falls on bits 4 and 5, which are taken from ``high``.
    """
    even = uint32(uint32(low & uint32(0x05050505)) * uint32(4 + 16))
    odd = uint32(uint32(low & uint32(0x0A0A0A0A)) * uint32(2 + 8))
    even = ptx.select_bits(high, even, uint32(0x33333333))
    return _picked(t0, t1, even, ptx.select_bits(uint32(high >> uint32(2)), odd, uint32(0x33333333)))


@cuda.jit(device=True)
def looked_up_3(first_high, second_high, low, t0, t1):
    """Registers of 32 3-bit codes: two words of high bits in pairs, one of low bits."""
    first, second = bytes_in_turn(low, uint32(low >> uint32(4)))
    return _looked_up_3(first_high, first, t0, t1) + _looked_up_3(second_high, second, t0, t1)


def make_looked_up_4(*, turned: bool, by_shift: bool = False, reverse: bool = False, by_product: bool = False) -> Any:
    """Device function ``(words, t0, t1) -> registers`` of 32 4-bit codes in one of the two tables.

    On which pipe is a matter of what else the kernel does (kernels_gpu/NOTES.md).

    Args:
        turned: bit 3 of every code is turned over.
        by_shift: a word's upper half comes by a shift rather than a dot product.
        reverse: all bits are turned over where ``turned``, for a table in reverse.
        by_product: that is a multiplication rather than a logical instruction.
    """

    mask = 0xFFFFFFFF if reverse else 0x88888888

    @cuda.jit(device=True)
    def above(word):
        return uint32(word >> uint32(16)) if by_shift else ptx.upper_half(word)

    @cuda.jit(device=True)
    def indices(word):
        """Of the four codes in the lower half of a word, and of those in its upper half."""
        if not turned:
            return word, above(word)
        if reverse and by_product:
            return ptx.turned_half(word), ptx.turned_half(above(word))
        other = uint32(word ^ uint32(mask))
        return other, above(other)

    @cuda.jit(device=True)
    def looked_up_4(words, t0, t1):
        (a, b), (c, d) = indices(words[0]), indices(words[1])
        (e, f), (g, h) = indices(words[2]), indices(words[3])
        return (
            ptx.pick_bytes(t0, t1, a), ptx.pick_bytes(t0, t1, b), ptx.pick_bytes(t0, t1, c), ptx.pick_bytes(t0, t1, d),
            ptx.pick_bytes(t0, t1, e), ptx.pick_bytes(t0, t1, f), ptx.pick_bytes(t0, t1, g), ptx.pick_bytes(t0, t1, h),
        )  # fmt: skip

    return looked_up_4


@cuda.jit(device=True)
def _spread_4(word, byte):
    """Registers of eight 1-bit codes of a byte, at bit 3 of each byte."""
    bits = uint32(word >> uint32(8 * byte))
    even = uint32(uint32(bits & uint32(0x55)) * uint32(SPREAD_EVEN))
    odd = uint32(uint32(bits & uint32(0xAA)) * uint32(SPREAD_ODD))
    return uint32(even & uint32(0x08080808)), uint32(odd & uint32(0x08080808))


@cuda.jit(device=True)
def _joined_words(words, low):
    """Nibbles of four words, joined with the eight registers of what stands below them."""
    a, b, c, d = words[0], words[1], words[2], words[3]
    mask = uint32(0xF0F0F0F0)
    return (
        ptx.and_or(uint32(a << uint32(4)), mask, low[0]), ptx.and_or(a, mask, low[1]),
        ptx.and_or(uint32(b << uint32(4)), mask, low[2]), ptx.and_or(b, mask, low[3]),
        ptx.and_or(uint32(c << uint32(4)), mask, low[4]), ptx.and_or(c, mask, low[5]),
        ptx.and_or(uint32(d << uint32(4)), mask, low[6]), ptx.and_or(d, mask, low[7]),
    )  # fmt: skip


def make_joined(bits: int) -> Any:
    """Device function ``(words, tables) -> eight registers`` of codes of 5 to 7 bits in the upper bits of bytes."""
    if bits == 5:

        @cuda.jit(device=True)
        def joined(words, tables):
            low = _spread_4(words[4], 0) + _spread_4(words[4], 1) + _spread_4(words[4], 2) + _spread_4(words[4], 3)
            return _joined_words(words, low)
    elif bits == 6:

        @cuda.jit(device=True)
        def joined(words, tables):
            table = uint32(LOW_TWO)
            return _joined_words(words, looked_up_2(words[4], table) + looked_up_2(words[5], table))
    else:

        @cuda.jit(device=True)
        def joined(words, tables):
            t0, t1 = uint32(LOW_THREE[0]), uint32(LOW_THREE[1])
            return _joined_words(words, looked_up_3(words[4], words[5], words[6], t0, t1))

    return joined
