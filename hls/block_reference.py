"""What an exported decoder block computes, bit for bit, in numpy: the golden vectors of its C simulation.

The numbers are those of ``docs/hls.md`` ("The numbers of a decoder block"): layers as in ``hls.layer_reference``, one
token in a call; what lies between them in float32, each operation rounded by itself, in a stated order; FP16 where a
layer takes its input. Nothing here follows the C++.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from datatypes.layer_config import TensorConfig
from datatypes.packing import pack
from datatypes.tensor import QuantizedTensor
from hls.decoder_block import LAYERS, DecoderBlock
from hls.input_reference import StagedInput, encode_rows
from hls.layer_options import LayerOptions
from hls.layer_reference import PARTIAL_SUMS, layer_reference
from hls.weights import BEAT_BYTES

# 1 / ln 2; ln 2 as a float32 of 15 bits and what is left; 1 / n! for n = 7 to 0
_PER_LN2, _LN2_HIGH, _LN2_LOW = (
    np.float32(float.fromhex(x)) for x in ("0x1.715476p0", "0x1.62e4p-1", "0x1.7f7d1cp-20")
)
_TAYLOR = tuple(np.float32(1.0 / factorial) for factorial in (5040, 720, 120, 24, 6, 2, 1, 1))
_EXP_LOWEST = np.float32(-87.0)  # exp of it is the last that is no subnormal float32
EXP_ERROR = 2.0**-22  # relative, of exp_of_negative; the largest measured is 1.02e-7
_HALF_MAX = np.float32(np.finfo(np.float16).max)
_WORD_BITS = 32


# --- functions between the layers ------------------------------------------------------------------------------------


def exp_of_negative(x: np.ndarray) -> np.ndarray:
    """exp of float32 values that are not positive; 0 from -87 on down.

    ``x = whole * ln 2 + rest`` with ln 2 in two parts (Cody and Waite, Software Manual for the Elementary Functions,
    1980, chapter 6), the Taylor polynomial of degree 7 of ``rest`` in Horner's order, times ``2**whole``.

    >>> exp_of_negative(np.array([0, -1, -100], np.float32)).tolist()
    [1.0, 0.3678794503211975, 0.0]
    """
    inside = np.maximum(x, _EXP_LOWEST)
    whole = np.rint(inside * _PER_LN2)
    rest = (inside - whole * _LN2_HIGH) - whole * _LN2_LOW
    total = np.full_like(rest, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        total = total * rest + coefficient
    made = np.ldexp(total, whole.astype(np.int32))
    return np.where(x > _EXP_LOWEST, made, np.float32(0.0)).astype(np.float32)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x) of float32: ``x / (1 + exp(-x))``, for negative x ``(x * exp(x)) / (1 + exp(x))``.

    >>> [round(float(value), 5) for value in silu(np.array([2, -2, 0], np.float32))]
    [1.76159, -0.23841, 0.0]
    """
    power = exp_of_negative(-np.abs(x))
    upper = np.where(x < 0, x * power, x)
    return upper / (np.float32(1.0) + power)


def interleaved_sum(terms: np.ndarray) -> np.ndarray:
    """Sum of float32 ``[n, ...]`` over the first axis: term i is added to partial sum i mod 8, these then in order."""
    partial = np.zeros((PARTIAL_SUMS, *terms.shape[1:]), np.float32)
    for i, term in enumerate(terms):
        partial[i % PARTIAL_SUMS] = partial[i % PARTIAL_SUMS] + term
    total = partial[0]
    for one in partial[1:]:
        total = total + one
    return total


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """RMSNorm of float32 ``[m, n]``: ``(x * (1 / sqrt(mean of squares + epsilon))) * weight``.

    Raises:
        ValueError: the squares of a row overflow, or it holds NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = interleaved_sum((x * x).T) / np.float32(x.shape[1])
    if not np.isfinite(mean).all():
        raise ValueError("squares in a norm must add up within float32, not to infinity or NaN")
    inverse = np.float32(1.0) / np.sqrt(mean + np.float32(epsilon))
    made: np.ndarray = (x * inverse[:, None]) * weight[None]
    return made


def rotate(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Heads ``[m, heads, head_dim]`` turned: pairs (i, i + half) by the angles ``[m, half]`` of each token."""
    half = x.shape[2] // 2
    low, high = x[:, :, :half], x[:, :, half:]
    c, s = cosine[:, None], sine[:, None]
    return np.concatenate([low * c - high * s, high * c + low * s], axis=2)


def halves(x: np.ndarray, what: str) -> np.ndarray:
    """float32 as FP16, saturating.

    Raises:
        ValueError: NaN or infinity.
    """
    if not np.isfinite(x).all():
        raise ValueError(f"{what} must be finite, not hold NaN or infinity")
    made: np.ndarray = np.clip(x, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    return made


# --- the block -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Attention:
    """What attention made of some tokens.

    Args:
        keys, values: the encoded heads, one after another for each token: ``[tokens * kv_heads, head_dim]``.
        scores: float32 ``[tokens, heads, tokens]``, of positions up to the token's own; zero beyond.
        result: float32 ``[tokens, heads, head_dim]``.
    """

    keys: StagedInput
    values: StagedInput
    scores: np.ndarray
    result: np.ndarray


@dataclass(frozen=True, eq=False)
class BlockOutput:
    """Everything that a block makes of tokens at positions 0, 1, ...; float16 is what a layer takes in.

    Args:
        attention_in: float16 ``[m, hidden]``.
        queries, keys: float32 ``[m, heads, head_dim]``, turned.
        values: float32 ``[m, kv_heads, head_dim]``.
        attention: of them.
        o_in: float16 ``[m, heads * head_dim]``.
        middle: float32 ``[m, hidden]``, the residual stream between the halves of the block.
        mlp_in: float16 ``[m, hidden]``.
        down_in: float16 ``[m, intermediate]``.
        output: float32 ``[m, hidden]``.
        cache: uint32 ``[m, words]``: the record of each position, keys before values, each of whole beats.
        key_words: of the keys in it.
        layer_outputs, layer_bounds: by layer, ``LayerOutput``'s values and bound.
    """

    attention_in: np.ndarray
    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    attention: Attention
    o_in: np.ndarray
    middle: np.ndarray
    mlp_in: np.ndarray
    down_in: np.ndarray
    output: np.ndarray
    cache: np.ndarray
    key_words: int
    layer_outputs: dict[str, np.ndarray]
    layer_bounds: dict[str, np.ndarray]


def block_reference(block: DecoderBlock, x: np.ndarray, options: LayerOptions | None = None) -> BlockOutput:
    """The block's outputs for tokens ``x`` at positions 0, 1, ..., each of which attends to itself and those before.

    Args:
        block: what is computed.
        x: float32 ``[m, hidden]``, finite, at most ``block.positions`` tokens.
        options: of the layers; a call is one token.

    Raises:
        TypeError: ``x`` is not float32.
        ValueError: its shape does not fit, or a value on the way is not finite.
    """
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, not {x.dtype}")
    if x.ndim != 2 or x.shape[1] != block.hidden or not 1 <= len(x) <= block.positions:
        raise ValueError(f"x must have the shape [1 to {block.positions}, {block.hidden}], not {list(x.shape)}")
    options = replace(options or LayerOptions(), tokens=1)
    given: dict[str, np.ndarray] = {}
    bounds: dict[str, np.ndarray] = {}

    def layer(name: str, taken: np.ndarray) -> np.ndarray:
        made = layer_reference(block.layers[name], taken, block.biases.get(name), options)
        given[name], bounds[name] = made.values, made.bound
        return made.values

    m = len(x)
    attention_in = halves(rms_norm(x, block.attention_norm, block.epsilon), f"normalised inputs of {block.name}")
    q, k, v = (layer(name, attention_in) for name in ("q", "k", "v"))
    angles = block.cosine[:m], block.sine[:m]
    queries = rotate(q.reshape(m, block.heads, -1), *angles)
    keys, values = rotate(k.reshape(m, block.kv_heads, -1), *angles), v.reshape(m, block.kv_heads, -1)
    attended = attention(block, queries, keys, values)
    o_in = halves(attended.result.reshape(m, -1), f"attention outputs of {block.name}")
    middle = x + layer("o", o_in)
    mlp_in = halves(rms_norm(middle, block.mlp_norm, block.epsilon), f"normalised inputs of the MLP of {block.name}")
    gate, up = layer("gate", mlp_in), layer("up", mlp_in)
    down_in = halves(silu(gate) * up, f"products in the MLP of {block.name}")
    output = middle + layer("down", down_in)
    records = [cache_records(part.tensor, block.kv_heads) for part in (attended.keys, attended.values)]
    assert set(bounds) == set(LAYERS)
    return BlockOutput(
        attention_in, queries, keys, values, attended, o_in, middle, mlp_in, down_in, output,
        np.concatenate(records, axis=1), records[0].shape[1], given, bounds,
    )  # fmt: skip


def attention(block: DecoderBlock, queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> Attention:
    """Attention over encoded keys and values.

    Args:
        queries: float32 ``[m, heads, head_dim]``.
        keys, values: float32 ``[m, kv_heads, head_dim]``, encoded here.
    """
    m, heads, head_dim = queries.shape
    group = heads // block.kv_heads
    staged = [
        encode_rows(x.reshape(-1, head_dim), block.cache_config(role)) for role, x in (("key", keys), ("value", values))
    ]
    key_codes, value_codes = (
        np.repeat(part.values.astype(np.float32).reshape(m, -1, head_dim), group, axis=1) for part in staged
    )
    key_scale, value_scale = (
        None if part.scale is None else np.repeat(part.scale.reshape(m, -1, head_dim), group, axis=1) for part in staged
    )
    tile = (
        min(block.cache_config("key").granularity.tile((2, head_dim))[1], head_dim)
        if key_scale is not None
        else head_dim
    )
    scores = np.zeros((m, heads, m), np.float32)
    result = np.zeros((m, heads, head_dim), np.float32)
    for t in range(m):
        for s in range(t + 1):
            total = np.zeros(heads, np.float32)
            for first in range(0, head_dim, tile):
                columns = slice(first, first + tile)
                part = interleaved_sum((queries[t, :, columns] * key_codes[s, :, columns]).T)
                total = total + (part if key_scale is None else part * key_scale[s, :, first])
            scores[t, :, s] = total * np.float32(block.scaling)
        seen = scores[t, :, : t + 1]
        powers = exp_of_negative(seen - seen.max(1, keepdims=True))
        held = np.zeros((heads, head_dim), np.float32)
        for s in range(t + 1):
            weight = np.broadcast_to(powers[:, s, None], held.shape)
            held = held + (weight if value_scale is None else weight * value_scale[s]) * value_codes[s]
        result[t] = held / interleaved_sum(powers.T)[:, None]
    return Attention(staged[0], staged[1], scores, result)


# --- the cache -------------------------------------------------------------------------------------------------------


def cache_records(tensor: QuantizedTensor | None, heads: int) -> np.ndarray:
    """Records of each position, uint32 ``[m, words of whole beats]``: codes of all heads, then scales and zero points.

    Args:
        tensor: encoded heads ``[m * heads, head_dim]``.
        heads: of a position.
    """
    assert tensor is not None
    config: TensorConfig = tensor.config
    bits, rows = config.formats[0].bits, tensor.shape[0]
    m = rows // heads
    codes = tensor.codes.numpy()
    if codes.dtype == np.float16:
        padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % _WORD_BITS)))
        words = np.ascontiguousarray(padded).view(np.uint16).astype("<u2").view("<u4").astype(np.uint32)
    else:
        words = pack(codes, bits)
    parts = [words.reshape(m, -1)]
    if tensor.scale is not None:
        assert config.scale is not None
        stored = _bits(tensor.scale, config.scale.format.bits)
        entries = [stored]
        if tensor.zero_point is not None:
            zero = _bits(tensor.zero_point, bits)
            apart = config.scale.format.bits + bits > _WORD_BITS
            entries = [stored, zero] if apart else [stored | zero << config.scale.format.bits]
        parts.append(np.stack(entries, axis=2).reshape(m, -1))
    joined = np.concatenate(parts, axis=1)
    return np.pad(joined, ((0, 0), (0, -joined.shape[1] % (BEAT_BYTES * 8 // _WORD_BITS)))).astype(np.uint32)


def _bits(stored: torch.Tensor, bits: int) -> np.ndarray:
    """Stored entries as unsigned integers."""
    if stored.dtype.is_floating_point:
        integers = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
        stored = stored.contiguous().view(integers[stored.dtype])
    made: np.ndarray = (stored.to(torch.int64).numpy() & ((1 << bits) - 1)).astype(np.uint32)
    return made
