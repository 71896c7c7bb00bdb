"""Running a model's layers as they were quantized.

A layer whose config leaves input and output alone (weight only) gets its decoded weight in place of its own and runs
as before: ``install`` writes ``QuantizedLayer.dequantize_weight()`` into the slot. Any other layer becomes a
``QuantizedLinear`` that follows the hardware step by step:

    1. divide the input by the smoothing vector;                             (SmoothQuant, AWQ)
    2. rotate it by the Hadamard blocks that the weight was rotated by;      (QuaRot, HIGGS)
    3. round it to the activation format: dynamic or static scales; or its channels, less their biases, to the scales
       of their groups (Tender), where positions of a sequence choose the chunk;
    4. multiply by the decoded dense weight, outliers in place, float32;
    5. add what the biases of the channels give; or the low-rank branch, ``Q(Q(x A) B)`` with Q the activation format
       (LQER, arXiv 2402.02446: its code re-quantizes both products);
    6. normalise without parameters where the config says so (OneBit), add the bias, round to the output format.

An activation that is not quantized stays float32: FP16 rounding of activations is not modelled.

KV cache formats: every key and value of a window passes through the cache format before attention reads it, the
newest token's included, after rotary embedding, as a cache would hold it. In teacher-forced evaluation each token so
attends to rounded keys and values only. (WKVQuant's variant that keeps the newest token in FP16 is not modelled.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.activation import fake_quantize, hadamard_rotate
from codesign.weight_slots import WeightSlot, weight_slots
from datatypes.channel_groups import EncodedChannels
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantized_layer import QuantizedLayer

INPUT_SCALE_NOTE = "input_scale"  # the static activation scale in QuantizedLayer.notes


def hadamard_of(config: LayerConfig) -> int:
    """Block of the rotation that ``config``'s weight is stored in; 0 for none."""
    return config.weight.hadamard if isinstance(config.weight, TensorConfig) else 0


def effective_weight(layer: QuantizedLayer) -> Tensor:
    """What a weight-only layer multiplies its input by, float32 ``[n, k]``: rotation undone, smoothing divided out."""
    block = hadamard_of(layer.config)
    if not block:
        return layer.dequantize_weight()
    weight = layer.dense_weight()
    branch = layer.low_rank_weight()
    weight = hadamard_rotate(weight if branch is None else weight + branch, block)
    return weight if layer.smoothing is None else weight / layer.smoothing


def is_weight_only(config: LayerConfig) -> bool:
    """Whether input and output stay as they are, so that only the weight matters."""
    return config.activation is None and config.output is None and not config.output_norm


class InputMemo:
    """The last input rounded in a block: q, k and v (gate and up) read the same tensor and share the work."""

    def __init__(self) -> None:
        self._input: Tensor | None = None
        self._config: TensorConfig | None = None
        self._rounded: Tensor | None = None

    def rounded(self, x: Tensor, config: TensorConfig) -> Tensor:
        """``fake_quantize(x, config)``, computed once for the same tensor object and an equal config."""
        if self._rounded is None or self._input is not x or self._config != config:
            self._input, self._config, self._rounded = x, config, fake_quantize(x, config)
        return self._rounded


class QuantizedLinear(nn.Module):
    """A linear layer with everything its ``QuantizedLayer`` says, branches kept apart.

    Args:
        layer: the quantized layer.
        bias: ``[n]`` or ``None``; never quantized.
        memo: shared by the layers of a block.

    Raises:
        ValueError: the activation scale is static and the layer's notes do not hold it, or channel groups are
            not there.
    """

    def __init__(self, layer: QuantizedLayer, bias: Tensor | None, memo: InputMemo | None = None) -> None:
        super().__init__()
        self.config = layer.config
        self.hadamard = hadamard_of(layer.config)
        self.weight = nn.Parameter(layer.dense_weight(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(torch.float32), requires_grad=False)
        self.smoothing = layer.smoothing
        self.a = None if layer.low_rank_a is None else layer.low_rank_a.dequantize()
        self.b = None if layer.low_rank_b is None else layer.low_rank_b.dequantize()
        self.memo = memo if memo is not None else InputMemo()
        self.in_features, self.out_features = layer.shape[1], layer.shape[0]
        self.channels: EncodedChannels | None = None
        self.input_scale: float | None = None
        activation = layer.config.activation
        if isinstance(activation, ChannelGroupsConfig):
            if layer.channel_groups is None:
                raise ValueError("an activation in channel groups must have them in its layer, not None")
            self.channels = EncodedChannels(activation, layer.channel_groups)
        elif activation is not None and activation.scale is not None and not activation.dynamic:
            if activation.zero_point is not None:
                raise NotImplementedError(
                    "a static activation scale with a zero point is not supported: use a dynamic one"
                )
            if INPUT_SCALE_NOTE not in layer.notes:
                raise ValueError(
                    f"a static activation scale must be in the layer's notes as {INPUT_SCALE_NOTE}, not absent"
                )
            self.input_scale = float(layer.notes[INPUT_SCALE_NOTE])

    def forward(self, x: Tensor) -> Tensor:
        """``[..., k] -> [..., n]``."""
        if self.smoothing is not None:
            x = x / self.smoothing
        if self.hadamard:
            x = hadamard_rotate(x, self.hadamard)
        x = self._rounded(x)
        y = F.linear(x, self.weight)
        if self.channels is not None and (correction := self.channels.corrections(x.shape[-2])) is not None:
            y = y + correction
        if self.a is not None and self.b is not None:
            y = y + self._requantized(F.linear(self._requantized(F.linear(x, self.a)), self.b))
        if self.config.output_norm:
            y = F.layer_norm(y, (self.out_features,))
        if self.bias is not None:
            y = y + self.bias
        return y if self.config.output is None else fake_quantize(y, self.config.output)

    def _rounded(self, x: Tensor) -> Tensor:
        """The input as the array multiplies it."""
        activation = self.config.activation
        if activation is None:
            return x
        if self.channels is not None:
            return self.channels.values(x)
        assert isinstance(activation, TensorConfig)
        if self.input_scale is not None:
            return fake_quantize(x, activation, scale=self.input_scale)
        return self.memo.rounded(x, activation)

    def _requantized(self, x: Tensor) -> Tensor:
        """An intermediate of the low-rank branch in the activation format; its scales are always its own."""
        activation = self.config.activation
        if activation is None:
            return x
        assert isinstance(activation, TensorConfig)  # LayerConfig allows no channel groups beside a low-rank branch
        return fake_quantize(x, activation)


def install(
    block: nn.Module, prefix: str, layers: Mapping[str, QuantizedLayer], *, device: torch.device | str = "cpu"
) -> None:
    """Make the slots of a loaded ``block`` named in ``layers`` run as quantized.

    Args:
        block: the module (inside ``BlockModel.block``); weights of the named slots need not be loaded.
        prefix: its path.
        layers: by layer name; names outside this block are ignored.
        device: where the block runs.

    Raises:
        ValueError: a layer's shape is not its slot's.
        NotImplementedError: activation formats inside fused experts.
    """
    install_slots(block, prefix, list(weight_slots(block, prefix)), layers, device=device)


def install_slots(
    root: nn.Module,
    prefix: str,
    slots: Iterable[WeightSlot],
    layers: Mapping[str, QuantizedLayer],
    *,
    device: torch.device | str = "cpu",
) -> None:
    """``install`` for given slots of ``root``."""
    memo = InputMemo()
    for slot in slots:
        if slot.name not in layers:
            continue
        layer = layers[slot.name].to(device)
        if layer.shape != slot.shape:
            raise ValueError(f"quantized layer {slot.name} must have shape {slot.shape}, not {layer.shape}")
        if is_weight_only(layer.config):
            slot.set_matrix(effective_weight(layer))
            continue
        if isinstance(slot.module, nn.Embedding):
            raise NotImplementedError(f"embedding {slot.name} can be quantized in weight only: its input is an index")
        if slot.experts:
            raise NotImplementedError(f"fused experts {slot.name} can be quantized in weight only, not in activation")
        relative = slot.name.removeprefix(prefix).lstrip(".")
        parent, _, attribute = relative.rpartition(".")
        setattr(root.get_submodule(parent), attribute, QuantizedLinear(layer, slot.bias, memo))


@dataclass(frozen=True)
class KVFormats:
    """Formats of the KV cache, ``[tokens, head_dim]`` for each head; ``None`` leaves one alone."""

    key: TensorConfig | None = None
    value: TensorConfig | None = None

    def __bool__(self) -> bool:
        return self.key is not None or self.value is not None


class RoundingCache:
    """Stands in for transformers' KV cache during one call of a block: hands back what it is given, rounded.

    Args:
        formats: of keys and values.
        name: of the block, for messages.
    """

    is_compileable = False

    def __init__(self, formats: KVFormats, name: str) -> None:
        self.formats = formats
        self.name = name
        self.updates = 0

    def update(self, key: Tensor, value: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Keys and values ``[b, heads, t, head_dim]`` as attention reads them."""
        self.updates += 1
        if self.formats.key is not None:
            key = fake_quantize(key, self.formats.key)
        if self.formats.value is not None:
            value = fake_quantize(value, self.formats.value)
        return key, value

    def get_seq_length(self, *args: object) -> int:
        """Tokens cached before this call: none."""
        return 0

    def __getattr__(self, name: str) -> object:
        raise NotImplementedError(f"block {self.name} keeps more than keys and values ({name}): no cache format for it")

    def check_used(self) -> None:
        """Make sure that the block's attention really went through here.

        Raises:
            NotImplementedError: it did not, so the formats would have had no effect.
        """
        if not self.updates:
            raise NotImplementedError(f"block {self.name} writes no KV cache, so its formats cannot be evaluated")


def kv_formats(configs: Iterable[LayerConfig]) -> KVFormats:
    """The one pair of KV formats that ``configs`` name.

    Raises:
        ValueError: they name several.
    """
    found = {(c.key, c.value) for c in configs if c.key is not None or c.value is not None}
    if len(found) > 1:
        raise ValueError(f"key and value formats must be the same in every layer of a block, not {len(found)} pairs")
    return KVFormats(*found.pop()) if found else KVFormats()
