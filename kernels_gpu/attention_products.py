"""Device functions of the decode attention: a lane's words of keys and values, and their products with digits.

Which tokens and words a lane holds is said in ``kernels_gpu.attention``.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.attention_spec import AttentionSpec
from kernels_gpu.gemv_planes import nibbles_of_word


def make_load(words: int) -> Any:
    """Device function ``(address, word) -> words``."""
    return {1: ptx_tile.stream_words_1, 2: ptx_tile.stream_words_2, 4: ptx_tile.stream_words_4}[words]


def make_scores(spec: AttentionSpec) -> Any:
    """Device functions ``(load_keys, products)``: a quarter of a row; a tile's products with 16 tokens."""
    bits, registers = spec.key_bits, spec.registers
    own = spec.words(bits) // 4
    load, chunk = make_load(min(own, 4)), min(own, 4)

    @cuda.jit(device=True)
    def load_keys(keys, row, c):
        first = uint32(row * uint32(4 * own) + c * uint32(chunk))
        if own == 8:  # in two halves of the row, so that lanes side by side read what lies side by side
            return load(keys, first) + load(keys, uint32(first + uint32(16)))
        return load(keys, first)

    @cuda.jit(device=True)
    def as_bytes(words):
        if bits == 8:
            return words
        if own == 2:
            return nibbles_of_word(words[0]) + nibbles_of_word(words[1])
        return (
            nibbles_of_word(words[0])
            + nibbles_of_word(words[1])
            + nibbles_of_word(words[2])
            + nibbles_of_word(words[3])
        )

    @cuda.jit(device=True)
    def products(shared, upper_words, lower_words, query):
        """Joined digits for tokens g and g + 8; ``query``: word of this lane's digits."""
        a, b, zero = as_bytes(upper_words), as_bytes(lower_words), int32(0)
        q = ptx_tile.shared_4(shared, query)
        total = (zero, zero, zero, zero)
        total = ptx_tile.product_s8(a[0], b[0], a[1], b[1], q[0], q[1], total)
        total = ptx_tile.product_s8(a[2], b[2], a[3], b[3], q[2], q[3], total)
        if registers == 8:
            q = ptx_tile.shared_4(shared, uint32(query + uint32(4)))
            total = ptx_tile.product_s8(a[4], b[4], a[5], b[5], q[0], q[1], total)
            total = ptx_tile.product_s8(a[6], b[6], a[7], b[7], q[2], q[3], total)
        return int32(int32(total[0] << 8) + total[1]), int32(int32(total[2] << 8) + total[3])

    return load_keys, products


@cuda.jit(device=True)
def transposed(a, b, c, d):
    """Bytes i of four words as word i: four tokens of one element."""
    low0, low1 = ptx.pick_bytes(a, b, uint32(0x5140)), ptx.pick_bytes(c, d, uint32(0x5140))
    high0, high1 = ptx.pick_bytes(a, b, uint32(0x7362)), ptx.pick_bytes(c, d, uint32(0x7362))
    return (
        ptx.pick_bytes(low0, low1, uint32(0x5410)),
        ptx.pick_bytes(low0, low1, uint32(0x7632)),
        ptx.pick_bytes(high0, high1, uint32(0x5410)),
        ptx.pick_bytes(high0, high1, uint32(0x7632)),
    )


@cuda.jit(device=True)
def _add_four(x, y, b0, b1, unit, at, result):
    """Four elements: ``x``, ``y`` hold four tokens each of every element."""
    zero = int32(0)
    none = (zero, zero, zero, zero)
    t = ptx_tile.product_s8(x[0], x[1], y[0], y[1], b0, b1, none)
    u = ptx_tile.product_s8(x[2], x[3], y[2], y[3], b0, b1, none)
    result[at] = ptx.fma(unit, float32(int32(int32(t[0] << 8) + t[1])), result[at])
    result[at + 1] = ptx.fma(unit, float32(int32(int32(t[2] << 8) + t[3])), result[at + 1])
    result[at + 2] = ptx.fma(unit, float32(int32(int32(u[0] << 8) + u[1])), result[at + 2])
    result[at + 3] = ptx.fma(unit, float32(int32(int32(u[2] << 8) + u[3])), result[at + 3])


def make_add_word(bits: int, w: int) -> Any:
    """Device function that adds the products of word ``w`` of eight tokens' values to ``result[base:]``."""

    @cuda.jit(device=True)
    def add_word(v0, v1, v2, v3, v4, v5, v6, v7, b0, b1, unit, base, result):
        if bits == 8:
            x, y = transposed(v0[w], v1[w], v2[w], v3[w]), transposed(v4[w], v5[w], v6[w], v7[w])
            _add_four(x, y, b0, b1, unit, base + 4 * w, result)
        else:
            n0, n1, n2, n3 = (
                nibbles_of_word(v0[w]),
                nibbles_of_word(v1[w]),
                nibbles_of_word(v2[w]),
                nibbles_of_word(v3[w]),
            )
            n4, n5, n6, n7 = (
                nibbles_of_word(v4[w]),
                nibbles_of_word(v5[w]),
                nibbles_of_word(v6[w]),
                nibbles_of_word(v7[w]),
            )
            x, y = transposed(n0[0], n1[0], n2[0], n3[0]), transposed(n4[0], n5[0], n6[0], n7[0])
            _add_four(x, y, b0, b1, unit, base + 8 * w, result)
            x, y = transposed(n0[1], n1[1], n2[1], n3[1]), transposed(n4[1], n5[1], n6[1], n7[1])
            _add_four(x, y, b0, b1, unit, base + 8 * w + 4, result)

    return add_word
