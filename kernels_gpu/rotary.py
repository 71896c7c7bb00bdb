"""Rotary embedding of a step's queries and keys, and its keys and values appended to the quantized KV cache.

Versions
    one_warp_a_head   this file: a warp takes one head of one token: query, key or value

The pairs are elements i and i + d / 2 (GPT-NeoX's order, which Llama's published weights in Hugging Face's files have).
In float32, each product and sum rounded by itself:

    turned[i] = x[i] cos - x[i + d/2] sin        turned[i + d/2] = x[i + d/2] cos + x[i] sin

Queries are rounded to the type. Keys (turned) and values (as they are) become rows of the cache as
``datatypes.quantize.quantize_tensor`` would make them of the same float32 numbers: the largest magnitude over the
format's, stored as FP16, and codes by division through the stored scale. NaN or infinity makes the row's scale NaN,
so that its head's results are NaN.

Source: Su et al., RoFormer, arXiv 2104.09864, section 3.4.2; the cache is that of ``kernels_gpu.attention_launch``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numba import cuda, float32, uint32
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.attention_launch import CacheSide
from kernels_gpu.attention_spec import HEAD_DIMS, cache_format
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.pairs import WARP, check_types, pair_functions
from kernels_gpu.ptx import SIMULATED

ARGUMENTS = "pppppppp" + "ii"
WARPS = 1 if SIMULATED else 4
MAX_HALVES = 1 << 32  # places of codes are counted in 32 bits
ROUNDER = 1.5 * 2.0**23  # added to a float32 of at most 2**22 it leaves the nearest integer, ties to even, below
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 65504.0  # positive FP16: IEEE 754-2019, table 3.5


@dataclass(frozen=True)
class RotarySpec:
    """One compiled kernel.

    Args:
        head_dim: elements of a head, 64 or 128.
        heads, key_heads: query heads and key heads of a token.
        key_bits, value_bits: 4 or 8.
        warps: of a block.
        bfloat: numbers are bfloat16 rather than float16.
    """

    head_dim: int
    heads: int
    key_heads: int
    key_bits: int
    value_bits: int
    warps: int = WARPS
    bfloat: bool = False

    def __post_init__(self) -> None:
        if self.head_dim not in HEAD_DIMS:
            raise NotImplementedError(f"head_dim of the rotary kernel must be 64 or 128, not {self.head_dim!r}")

    @property
    def rows(self) -> int:
        """Heads of a token: queries, keys, values."""
        return self.heads + 2 * self.key_heads


def turns(positions: int, head_dim: int, theta: float) -> Tensor:
    """Cosine and sine for each position and pair, float32 ``[positions, head_dim / 2, 2]``, computed in float64.

    >>> turns(2, 4, 100.0)[1].tolist() == [[float(np.float32(np.cos(a))), float(np.float32(np.sin(a)))]
    ...                                    for a in (1.0, 0.1)]
    True
    """
    speed = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    angle = np.arange(positions)[:, None] * speed
    return torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=2).astype(np.float32))


def turned(heads: Tensor, turn: Tensor) -> Tensor:
    """Reference: ``[m, heads, d]`` in float32, bit for bit what the kernel computes, for turns ``[m, d / 2, 2]``."""
    first, second = heads.float().chunk(2, dim=2)
    cos, sin = turn[:, None, :, 0], turn[:, None, :, 1]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=2)


def make_body(spec: RotarySpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``: a warp for each head of each token."""
    head_dim, heads, key_heads, rows, warps = spec.head_dim, spec.heads, spec.key_heads, spec.rows, spec.warps
    key_bits, value_bits = spec.key_bits, spec.value_bits
    pairs = pair_functions(spec.bfloat)
    low, high, pair = pairs.low, pairs.high, pairs.pair
    words = head_dim // 64  # of a lane: two elements each
    row_words = head_dim // 2
    halves_of_row = {bits: head_dim * bits // 16 for bits in (4, 8)}
    key_halves, value_halves = halves_of_row[key_bits], halves_of_row[value_bits]

    @cuda.jit(device=True)
    def largest_of(value):
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 16))
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 8))
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 4))
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 2))
        return ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 1))

    @cuda.jit(device=True)
    def scale_bits(largest, maximum):
        """FP16 bits of a row's scale; NaN where the row holds infinity or NaN."""
        scale = ptx.div(largest, maximum)
        if not scale > float32(0):
            scale = float32(1)
        scale = ptx.minimum(ptx.maximum(scale, float32(SMALLEST_SCALE)), float32(LARGEST_SCALE))
        return ptx.to_half(ptx.add(scale, ptx.sub(largest, largest)))

    @cuda.jit(device=True)
    def code(value, scale, maximum, mask):
        steps = ptx.minimum(ptx.maximum(ptx.div(value, scale), -maximum), maximum)
        return uint32(ptx.float_bits(ptx.add(steps, float32(ROUNDER))) & mask)

    @cuda.jit(device=True)
    def turned_element(value, partner, cos, sin, sign):
        return ptx.add(ptx.mul(value, cos), ptx.mul(ptx.mul(partner, sign), sin))

    @cuda.jit(device=True)
    def put_codes(codes, first, lane, made, second, next_lane, bits):
        """Store a lane's codes, sixteen bits at a time."""
        if words > 1:
            if bits == uint32(8):
                place = uint32(first + lane * uint32(2))
                ptx_tile.store_half(codes, place, made)
                ptx_tile.store_half(codes, uint32(place + uint32(1)), second)
            else:
                ptx_tile.store_half(codes, uint32(first + lane), uint32(made | uint32(second << uint32(8))))
        elif bits == uint32(8):
            ptx_tile.store_half(codes, uint32(first + lane), made)
        elif (lane & uint32(1)) == uint32(0):
            place = uint32(first + (lane >> uint32(1)))
            ptx_tile.store_half(codes, place, uint32(made | uint32(next_lane << uint32(8))))

    def kernel(qkv, turn, lengths, queries, keys, key_scales, values, value_scales, items, capacity):
        thread = uint32(cuda.threadIdx.x)
        lane = uint32(thread & uint32(31))
        item = uint32(cuda.blockIdx.x * uint32(warps) + (thread >> uint32(5)))
        ptx_tile.start()
        there = item < uint32(items)
        item = item if there else uint32(items - 1)
        token = uint32(item // uint32(rows))
        head = uint32(item - token * uint32(rows))
        at = uint32(item * uint32(row_words) + lane * uint32(words))
        # lanes 0 to 15 hold the first half of the head: the partner's words are sixteen lanes on
        across = uint32(item * uint32(row_words) + (lane ^ uint32(16)) * uint32(words))
        angle = uint32(token * uint32(head_dim) + (lane & uint32(15)) * uint32(4 * words))
        is_value = head >= uint32(heads + key_heads)
        is_query = head < uint32(heads)
        ptx_tile.wait_for_previous()
        length = ptx_tile.load_word(lengths, token)
        c0, s0, c1, s1 = ptx_tile.load_words_4(turn, angle)
        own0, other0 = ptx_tile.load_word(qkv, at), ptx_tile.load_word(qkv, across)
        own1, other1, c2, s2, c3, s3 = own0, other0, c0, s0, c1, s1
        if words > 1:
            own1, other1 = (
                ptx_tile.load_word(qkv, uint32(at + uint32(1))),
                ptx_tile.load_word(qkv, uint32(across + uint32(1))),
            )
            c2, s2, c3, s3 = ptx_tile.load_words_4(turn, uint32(angle + uint32(4)))
        x0, x1, x2, x3 = low(own0), high(own0), low(own1), high(own1)
        if not is_value:
            sign = float32(-1) if lane < uint32(16) else float32(1)
            x0 = turned_element(x0, low(other0), ptx.bits_float(c0), ptx.bits_float(s0), sign)
            x1 = turned_element(x1, high(other0), ptx.bits_float(c1), ptx.bits_float(s1), sign)
            x2 = turned_element(x2, low(other1), ptx.bits_float(c2), ptx.bits_float(s2), sign)
            x3 = turned_element(x3, high(other1), ptx.bits_float(c3), ptx.bits_float(s3), sign)
        largest = ptx.maximum_or_nan(ptx.absolute(x0), ptx.absolute(x1))
        if words > 1:
            largest = ptx.maximum_or_nan(largest, ptx.maximum_or_nan(ptx.absolute(x2), ptx.absolute(x3)))
        largest = largest_of(largest)
        bits = uint32(value_bits) if is_value else uint32(key_bits)
        maximum = float32(127) if bits == uint32(8) else float32(7)
        mask = uint32(0xFF) if bits == uint32(8) else uint32(0xF)
        stored = scale_bits(largest, maximum)
        scale = ptx.from_half(stored)
        k0, k1 = code(x0, scale, maximum, mask), code(x1, scale, maximum, mask)
        made, second = uint32(k0 | uint32(k1 << bits)), uint32(0)
        if words > 1:
            k2, k3 = code(x2, scale, maximum, mask), code(x3, scale, maximum, mask)
            second = uint32(k2 | uint32(k3 << bits))
        # sixteen bits or more of each lane: of four bits and 64 elements two lanes share them
        next_lane = uint32(0)
        if words == 1:
            next_lane = ptx.unsigned(ptx.shuffle_xor(ptx.signed(made), 1))
        if is_query:
            if there:
                place = uint32((token * uint32(heads) + head) * uint32(row_words) + lane * uint32(words))
                ptx_tile.store_word(queries, place, pair(x0, x1))
                if words > 1:
                    ptx_tile.store_word(queries, uint32(place + uint32(1)), pair(x2, x3))
        elif there and length > uint32(0):
            own_head = uint32(head - uint32(heads + key_heads)) if is_value else uint32(head - uint32(heads))
            row = uint32((token * uint32(key_heads) + own_head) * uint32(capacity) + length - uint32(1))
            if is_value:
                if lane == uint32(0):
                    ptx_tile.store_half(value_scales, row, stored)
                put_codes(values, uint32(row * uint32(value_halves)), lane, made, second, next_lane, bits)
            else:
                if lane == uint32(0):
                    ptx_tile.store_half(key_scales, row, stored)
                put_codes(keys, uint32(row * uint32(key_halves)), lane, made, second, next_lane, bits)

    return kernel


@lru_cache(maxsize=64)
def _kernel(spec: RotarySpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def prepare(
    qkv: Tensor,
    turn: Tensor,
    lengths: Tensor,
    queries: Tensor,
    key: CacheSide,
    value: CacheSide,
    *,
    overlapped: bool = True,
) -> BoundLaunch:
    """Bind a launch.

    Args:
        qkv: ``[m, (heads + 2 * key_heads) * head_dim]`` float16 or bfloat16: queries, keys, values of one token of each
            sequence.
        turn: float32 ``[m, head_dim / 2, 2]``: cosine and sine at each token's position.
        lengths: int32 ``[m]``: tokens of each sequence, this one included; nothing is appended to a sequence of 0. At
            most the capacity: the kernel does not check.
        queries: ``[m, heads, head_dim]`` of the type of ``qkv``; turned queries.
        key, value: the cache, of which rows ``lengths - 1`` are written.
        overlapped: may start while the kernel before it in the stream still runs; it then waits before it reads.

    Raises:
        TypeError: types that differ.
        ValueError: shapes that do not belong together.
        NotImplementedError: a cache or a head without a kernel.
    """
    bfloat = check_types(qkv, queries, what="qkv and queries")
    if turn.dtype != torch.float32 or lengths.dtype != torch.int32:
        raise TypeError(f"turns and lengths must be float32 and int32, not {turn.dtype} and {lengths.dtype}")
    m, heads, d = queries.shape
    _, key_heads, capacity, _ = key.shape
    fits = key.shape == value.shape == (m, key_heads, capacity, d) and lengths.shape == (m,)
    if not fits or qkv.shape != (m, (heads + 2 * key_heads) * d) or turn.shape != (m, d // 2, 2):
        raise ValueError(
            f"qkv, turns, lengths and cache must fit queries {list(queries.shape)!r}, not be {list(qkv.shape)!r}, "
            f"{list(turn.shape)!r}, {list(lengths.shape)!r} and {key.shape!r}"
        )
    largest = max(key.codes.nbytes, value.codes.nbytes) // 2
    if largest >= MAX_HALVES:
        raise NotImplementedError(f"16-bit words of a cache must be fewer than {MAX_HALVES}, not {largest!r}")
    bits = cache_format(key.config).bits, cache_format(value.config).bits
    spec = RotarySpec(d, heads, key_heads, *bits, bfloat=bfloat)
    return BoundLaunch(
        _kernel(spec, qkv.device),
        ceil_div(m * spec.rows, WARPS),
        WARPS * WARP,
        (qkv, turn, lengths, queries, key.codes, key.scale, value.codes, value.scale, m * spec.rows, capacity),
        shared_bytes=0,
        overlapped=overlapped,
    )
