"""A Llama-shaped decoder as the decode step takes it: its sizes, its weights in any encoding, its KV caches.

A layer has four products: queries, keys and values in one; the output of attention; gate and up in one; down. Their
encodings may differ from one matrix to the next (``kernels_gpu.decode_weights``).

Left out: biases, mixtures of experts, sliding windows, norms of queries and keys, scaled rotary frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from datatypes.catalog import FP16, INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.planes import row_words
from datatypes.quantize import quantize_tensor
from hwmodel.units import ceil_div
from kernels_gpu.attention_launch import CacheSide, cache_side
from kernels_gpu.decode_weights import Weight, weight_of

CACHES = {bits: TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True) for bits in (4, 8)}


class Matrix(Enum):
    """The products of a layer, and that of the vocabulary."""

    QKV = "qkv"
    OUT = "out"
    GATE_UP = "gate_up"
    DOWN = "down"
    HEAD = "head"


LAYER_MATRICES = (Matrix.QKV, Matrix.OUT, Matrix.GATE_UP, Matrix.DOWN)


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a Llama-shaped decoder.

    Args:
        name: of the model.
        hidden: width of the residual stream.
        heads, key_heads: query heads, and key heads that groups of them share.
        head_dim: elements of a head.
        intermediate: results of gate, and of up.
        layers, vocabulary: counts.
        theta: base of the rotary frequencies.
        epsilon: of the norms.
    """

    name: str
    hidden: int
    heads: int
    key_heads: int
    head_dim: int
    intermediate: int
    layers: int
    vocabulary: int
    theta: float = 1e4
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        sizes = (
            self.hidden,
            self.heads,
            self.key_heads,
            self.head_dim,
            self.intermediate,
            self.layers,
            self.vocabulary,
        )
        if min(sizes) < 1 or self.heads % self.key_heads:
            raise ValueError(f"sizes of a decoder must be at least 1, heads a multiple of key_heads, not {sizes!r}")

    def matrix(self, which: Matrix) -> tuple[int, int]:
        """Outputs and inputs of a product."""
        attended = self.heads * self.head_dim
        return {
            Matrix.QKV: ((self.heads + 2 * self.key_heads) * self.head_dim, self.hidden),
            Matrix.OUT: (self.hidden, attended),
            Matrix.GATE_UP: (2 * self.intermediate, self.hidden),
            Matrix.DOWN: (self.hidden, self.intermediate),
            Matrix.HEAD: (self.vocabulary, self.hidden),
        }[which]


# Touvron et al. 2023, arXiv 2307.09288, and the published configuration: vocabulary, theta, epsilon
LLAMA_2_7B = DecoderShape("Llama-2-7B", 4096, 32, 32, 128, 11008, 32, 32000)


@dataclass(frozen=True, eq=False)
class DecoderLayer:
    """Weights of a layer, and the gains of its two norms ``[hidden]``."""

    weights: dict[Matrix, Weight]
    attention_gain: Tensor
    feed_forward_gain: Tensor


@dataclass(frozen=True, eq=False)
class Decoder:
    """A decoder on its device.

    Args:
        shape: its sizes.
        layers: ``shape.layers`` of them; the same object may stand for several where memory is short.
        embedding: ``[vocabulary, hidden]`` float16 or bfloat16, whose type all activations have.
        head: of the vocabulary.
        final_gain: of the last norm.
    """

    shape: DecoderShape
    layers: tuple[DecoderLayer, ...]
    embedding: Tensor
    head: Weight
    final_gain: Tensor

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a step reads."""
        each = sum(weight.nbytes for layer in self.layers for weight in layer.weights.values())
        return each + self.head.nbytes

    @property
    def late(self) -> bool:
        """Whether some product computes as it is bound."""
        return any(weight.late for layer in self.layers for weight in layer.weights.values()) or self.head.late


WeightMaker = Callable[[int, Matrix, tuple[int, int]], Weight]


def encoded_weights(
    config_of: Callable[[int, Matrix], TensorConfig | None], dtype: torch.dtype, generator: torch.Generator
) -> WeightMaker:
    """Random weights of standard deviation 1 / sqrt(k), so that activations keep their size.

    ``config_of`` is given the layer, the vocabulary's being ``layers``, and the matrix; ``None`` asks for ``dtype``.
    """

    def make(layer: int, which: Matrix, shape: tuple[int, int]) -> Weight:
        dense = torch.randn(shape, generator=generator, device=generator.device) * shape[1] ** -0.5
        return weight_of(dense.to(dtype), config_of(layer, which))

    return make


def random_decoder(
    shape: DecoderShape, make: WeightMaker, *, dtype: torch.dtype, generator: torch.Generator, distinct: int = 0
) -> Decoder:
    """A decoder of random weights on the generator's device.

    Args:
        shape: its sizes.
        make: makes each weight.
        dtype: of activations, embedding and gains.
        generator: of embedding and gains.
        distinct: layers with weights of their own, which the others share in turn; 0 for all.
    """
    device = generator.device

    def gain() -> Tensor:
        return (1 + 0.1 * torch.randn(shape.hidden, generator=generator, device=device)).to(dtype)

    own = [
        DecoderLayer({m: make(i, m, shape.matrix(m)) for m in LAYER_MATRICES}, gain(), gain())
        for i in range(min(distinct or shape.layers, shape.layers))
    ]
    embedding = torch.randn((shape.vocabulary, shape.hidden), generator=generator, device=device).to(dtype)
    layers = tuple(own[i % len(own)] for i in range(shape.layers))
    return Decoder(shape, layers, embedding, make(shape.layers, Matrix.HEAD, shape.matrix(Matrix.HEAD)), gain())


Cache = tuple[CacheSide, CacheSide]


def empty_cache(shape: DecoderShape, batch: int, capacity: int, bits: int, device: torch.device | str) -> Cache:
    """Keys and values of one layer, zeros of scale 1."""
    rows = batch * shape.key_heads * capacity
    sizes = batch, shape.key_heads, capacity, shape.head_dim

    def side() -> CacheSide:
        codes = torch.zeros((rows, row_words(shape.head_dim, bits)), dtype=torch.int32, device=device)
        scale = torch.ones(ceil_div(rows, 2) * 2, dtype=torch.float16, device=device)  # whole words
        return CacheSide(CACHES[bits], sizes, codes, scale)

    return side(), side()


def random_cache(shape: DecoderShape, batch: int, capacity: int, bits: int, generator: torch.Generator) -> Cache:
    """Keys and values of one layer, random in every row."""
    sizes = batch, shape.key_heads, capacity, shape.head_dim

    def side() -> CacheSide:
        rows = torch.randn(
            (batch * shape.key_heads * capacity, shape.head_dim), generator=generator, device=generator.device
        )
        return cache_side(quantize_tensor(rows, CACHES[bits]), sizes, generator.device)

    return side(), side()
