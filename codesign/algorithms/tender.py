"""Tender: channels of an input in groups whose scales are powers of two apart, so that integer sums meet by a shift.

Source: Lee et al., Tender: Accelerating Large Language Models via Tensor Decomposition and Runtime Requantization,
ISCA 2024, arXiv 2406.12930, and its code (github.com/snu-comparch/Tender). For each chunk of 256 positions, with the
smallest and largest value of every channel c over the calibration inputs:

    b_c = (max + min) / 2,   CMax_c = max |x - b_c|,   TMax = max over c of CMax_c,
    group g of 1 .. G:  TMax / 2**g < CMax_c <= TMax / 2**(g - 1)   (the last group takes all below),
    s_g = TMax / 2**(g - 1) / (2**(bits - 1) - 1).

The weight is rounded to the nearest with one scale for each output. An output is the sum of the products of codes plus
``b @ weight.T``. Attention products stay as they are, as in the authors' default.

Where this differs: biases, and what they add to the outputs, are stored in ``ChannelGroupsConfig.bias``. The latter is
formed with the weight as it was rounded: then a bias moves codes, and no output. The authors' code takes the weight as
it was before, so that every token's output is off by ``b @ (weight - rounded).T``; that ruins models with massive
activations (Sun et al., arXiv 2402.17762), whose first token makes a channel's bias a thousand times what all others
have there (``docs/families.md`` has figures). It is the switch ``unrounded_bias``, off by default. The authors
try scales above the channels' maxima ("round up") and one step finer, which clips ("round down"), and keep what gives
the lower perplexity on one sample; here that is the switch ``finer``, off by default. Inputs that are never negative
are signed here too; the authors have unsigned codes behind a ReLU. Without ``halved`` each group takes the scale of
its largest channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from codesign.algorithms.base import checked_weight, tensor_config
from codesign.calibration import CHUNK_TOKENS, LayerCalibration, Statistic
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.channel_groups import ChannelGroups
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.format import Format
from datatypes.layer_config import LayerConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.scale import store_one_level, stored_value
from datatypes.tensor import TORCH_FLOATS, decode_stored

# authors' code, for Llama-2-7B (8 and 4 for OPT-6.7B, 20 and 16 for Llama-2-70B); other widths take the next one's
_GROUPS_INT4, _GROUPS_INT8 = 14, 8
_CALIBRATED_CHUNKS = 8  # authors' code: samples of 2048 tokens


def tender_activation(bits: int, *, chunk_tokens: int | None = CHUNK_TOKENS) -> ChannelGroupsConfig:
    """Tender's encoding of an input, as many groups as its authors take for Llama-2-7B.

    Args:
        bits: of a code, 2 to 8.
        chunk_tokens: positions that share scales; ``None`` for all.

    Raises:
        ValueError: other widths.
    """
    if bits not in INTS_SYMMETRIC:
        raise ValueError(f"bits of an input in channel groups must be 2 to 8, not {bits!r}")
    groups = _GROUPS_INT4 if bits <= 4 else _GROUPS_INT8
    chunks = 1 if chunk_tokens is None else _CALIBRATED_CHUNKS
    return ChannelGroupsConfig(INTS_SYMMETRIC[bits], groups, chunk_tokens, chunks)


@dataclass(frozen=True)
class Tender:
    """Channel groups for the input, round-to-nearest for the weight.

    Args:
        finer: scales are half as large, and the largest values of each group are clipped.
        unrounded_bias: what biases add to the outputs is formed with the weight before it was rounded.
    """

    finer: bool = False
    unrounded_bias: bool = False

    @property
    def name(self) -> str:
        return "tender"

    @property
    def source(self) -> str:
        return "Lee et al., Tender, ISCA 2024, arXiv 2406.12930"

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Statistic.CHUNK_RANGE})

    def quantize(self, weight: Tensor, calibration: LayerCalibration, config: LayerConfig) -> QuantizedLayer:
        """Encode ``weight`` float ``[n, k]``; see ``Algorithm.quantize``.

        The result's config says how many chunks there are: those that the calibration inputs were long enough for.

        Raises:
            ValueError: also where the input is not in channel groups, the weight has scales that change along a row
                or a zero point, or chunks are not whole multiples of those that were calibrated.
        """
        encoding = tensor_config(config, self.name)
        activation = _channel_groups_of(config, encoding, weight)
        x = checked_weight(weight, calibration.layer)
        ranges = _merged(calibration.checked(Statistic.CHUNK_RANGE, (-1, 2, x.shape[1])), activation.chunk_tokens)
        activation = replace(activation, chunks=len(ranges))
        rounded = quantize_tensor(x, encoding)
        through = x if self.unrounded_bias else rounded.dequantize()
        made = channel_groups(ranges.to(x.device), activation, through, finer=self.finer)
        return QuantizedLayer(
            config=replace(config, activation=activation),
            weight=rounded,
            shape=(x.shape[0], x.shape[1]),
            channel_groups=made,
        )


def channel_groups(
    ranges: Tensor, config: ChannelGroupsConfig, weight: Tensor, *, finer: bool = False
) -> ChannelGroups:
    """Groups, scales and biases from the ranges of the channels.

    Args:
        ranges: float32 ``[chunks, 2, k]``: smallest and largest values.
        config: how they are stored.
        weight: float32 ``[n, k]`` that the biases pass on their way to the outputs.
        finer: scales half as large.

    Raises:
        ValueError: a bias, or what the biases add, is not a number in the format that stores it.
    """
    low, high = ranges[:, 0], ranges[:, 1]
    bias = correction = None
    if config.bias is not None:
        bias = _stored_bias((low + high) / 2, config.bias)
        correction = _stored_bias(bias @ weight.T, config.bias)
        low, high = low - bias, high - bias
    largest = torch.maximum(low.abs(), high.abs())  # CMax
    most = largest.amax(1, keepdim=True)  # TMax
    halvings = torch.tensor([2.0**-g for g in range(1, config.groups)], device=most.device)
    thresholds = most * halvings  # TMax / 2**g
    group = (largest[:, :, None] <= thresholds[:, None, :]).sum(2)
    group[largest == 0] = config.groups - 1  # also where every channel is constant
    order = group.sort(dim=1, stable=True).indices
    sizes = torch.stack([(group == g).sum(1) for g in range(config.groups)], dim=1)
    steps = config.format.maximum * (2 if finer else 1)
    if config.halved:
        scale = most[:, 0] / steps
    else:
        covered = torch.zeros_like(largest[:, :1]).repeat(1, config.groups)
        scale = covered.scatter_reduce_(1, group, largest, "amax") / steps
    scale = stored_value(torch.where(scale > 0, scale, torch.ones_like(scale)), config.scale)
    return ChannelGroups(order, sizes, scale, bias, correction)


def _stored_bias(values: Tensor, fmt: Format) -> Tensor:
    """Biases as they are after storage, float32."""
    most = float(values.abs().max())
    if most > (torch.finfo(TORCH_FLOATS[fmt.name]).max if fmt.name in TORCH_FLOATS else fmt.maximum):
        raise ValueError(
            f"bias of channel groups must hold every bias and what it adds to an output, up to {most:.3g}, "
            f"not be {fmt.name}"
        )
    return decode_stored(store_one_level(values, fmt), fmt)


def _channel_groups_of(config: LayerConfig, encoding: TensorConfig, weight: Tensor) -> ChannelGroupsConfig:
    """The input's encoding, after refusing what no shift between groups can add up."""
    if not isinstance(config.activation, ChannelGroupsConfig):
        raise ValueError(f"config must hold an activation in channel groups for tender, not {config.activation!r}")
    if encoding.zero_point is not None or (
        weight.dim() == 2
        and any(t.tile((weight.shape[0], weight.shape[1]))[1] < weight.shape[1] for t in encoding.tilings)
    ):
        raise ValueError(
            "weight of tender must have one scale along a row and no zero point (int4_channel), so that groups of "
            "channels add up, not groups or a zero point"
        )
    return config.activation


def _merged(ranges: Tensor, chunk_tokens: int | None) -> Tensor:
    """Ranges of longer chunks: the smallest and largest value of those that they are made of."""
    if chunk_tokens is not None and chunk_tokens % CHUNK_TOKENS:
        raise ValueError(f"chunk_tokens of tender must be a multiple of {CHUNK_TOKENS} or None, not {chunk_tokens!r}")
    parts = (ranges,) if chunk_tokens is None else ranges.split(chunk_tokens // CHUNK_TOKENS)
    return torch.stack([torch.stack((part[:, 0].amin(0), part[:, 1].amax(0))) for part in parts])
