"""A decoder block as it is exported: seven quantized layers, two norms, rotary angles, formats of the KV cache.

The block is that of Llama (Touvron et al., arXiv 2302.13971, section 2.2)::

    h = x + o(attention(rotate(q(n)), rotate(k(n)), v(n))),  n = RMSNorm(x)
    y = h + down(silu(gate(m)) * up(m)),                     m = RMSNorm(h)

with as many or fewer key and value heads than query heads. What any block of another kind has is refused where it is
read from a model (``codesign.export_block``); what no pipeline holds is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from datatypes.catalog import FP16
from datatypes.layer_config import TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from hls.layer_options import MAX_POSITIONS
from hwmodel.channel_groups import plain_activation

LAYERS = ("q", "k", "v", "o", "gate", "up", "down")
_CACHE_FP16 = TensorConfig((FP16,), scale=None, dynamic=True)


@dataclass(frozen=True, eq=False)
class DecoderBlock:
    """One block.

    Args:
        name: its path in the model.
        layers: by the names of ``LAYERS``.
        biases: float32 ``[n]`` of those layers that have one.
        attention_norm, mlp_norm: weights of the two norms, float32 ``[hidden]``.
        epsilon: of both norms.
        heads, kv_heads: of queries; of keys and values.
        cosine, sine: float32 ``[positions, head_dim / 2]``: of the angle that turns pair i at a position.
        scaling: what scores are multiplied by.
        key, value: formats of the cache, for each head ``[positions, head_dim]``; ``None`` for FP16.
    """

    name: str
    layers: Mapping[str, QuantizedLayer]
    biases: Mapping[str, np.ndarray]
    attention_norm: np.ndarray
    mlp_norm: np.ndarray
    epsilon: float
    heads: int
    kv_heads: int
    cosine: np.ndarray
    sine: np.ndarray
    scaling: float
    key: TensorConfig | None = None
    value: TensorConfig | None = None

    def __post_init__(self) -> None:
        missing = [name for name in LAYERS if name not in self.layers]
        if missing or len(self.layers) != len(LAYERS):
            raise ValueError(f"layers of a block must be {', '.join(LAYERS)}, not {', '.join(self.layers)}")
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"kv_heads must divide the {self.heads} heads, not be {self.kv_heads}")
        if self.cosine.shape != self.sine.shape or self.cosine.ndim != 2 or not self.cosine.shape[0]:
            raise ValueError("cosine and sine must have the same shape [positions, head_dim / 2]")
        if self.positions > MAX_POSITIONS:
            raise ValueError(f"positions of a block must be 1 to {MAX_POSITIONS}, not {self.positions}")
        hidden, mlp = self.hidden, self.layers["gate"].shape[0]
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = dict(zip(LAYERS, ((q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (mlp, hidden), (mlp, hidden),
                                   (hidden, mlp)), strict=True))  # fmt: skip
        for name, shape in shapes.items():
            if self.layers[name].shape != shape:
                raise ValueError(f"layer {name} must have the shape {shape}, not {self.layers[name].shape}")
        for what, norm in (("attention_norm", self.attention_norm), ("mlp_norm", self.mlp_norm)):
            if norm.shape != (hidden,) or norm.dtype != np.float32:
                raise ValueError(f"{what} must be float32 of {hidden} values, not {norm.dtype} {list(norm.shape)}")
        for name, layer in self.layers.items():
            _check_layer(name, layer)
        for role in ("key", "value"):
            _check_cache(role, self.cache_config(role))

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.layers["q"].shape[1])

    @property
    def head_dim(self) -> int:
        """Elements of a head."""
        return 2 * int(self.cosine.shape[1])

    @property
    def positions(self) -> int:
        """The most that the cache holds."""
        return int(self.cosine.shape[0])

    def cache_config(self, role: str) -> TensorConfig:
        """How ``key`` or ``value`` heads are stored: always by scales of their own values."""
        config = self.key if role == "key" else self.value
        return _CACHE_FP16 if config is None else replace(config, dynamic=True)


def _check_layer(name: str, layer: QuantizedLayer) -> None:
    if layer.config.output is not None:
        raise NotImplementedError(f"layer {name} of a block must hand on float32, not codes of an output format")
    if layer.config.output_norm:
        raise NotImplementedError(f"layer {name} of a block must hand on its product, not a norm of it")
    activation = plain_activation(layer.config.activation)
    if activation is None or activation.scale is None or not activation.dynamic:
        return
    level = activation.scale.second_level
    tiles = [activation.granularity] + ([] if level is None else list(level.tilings))
    if any(tile.tile((2, 1 << 30))[0] > 1 for tile in tiles):
        raise NotImplementedError(
            f"activation scales of layer {name} must be a token's own in a block that runs token by token"
        )


def _check_cache(role: str, config: TensorConfig) -> None:
    if config.scale is None:
        return
    if config.granularity.tile((2, 1 << 30))[0] > 1:
        raise NotImplementedError(f"{role} scales must be a token's own, as a cache is written token by token")
    if config.scale.second_level is not None:
        raise NotImplementedError(f"{role} scales in a cache must have one level, not two")
