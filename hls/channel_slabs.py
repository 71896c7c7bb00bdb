"""Inputs in channel groups (Tender) as an exported kernel takes them: slabs of whole steps, one for each group.

The columns of the weight are stored in the order in which channels are multiplied, those of the largest scale first.
Each group is a slab: it starts on a step of its own, lanes beyond its channels multiply codes of zero, and a group
without channels is one idle step. Before the first step of each slab but the first the sums are shifted by one
(``tender_arithmetic`` of ``shift_mac.h``), so that behind the last one they count in steps of the last group's scale.

The activation stage takes a channel's bias off, divides by the group's scale over the last group's, a power of two, and
then encodes with the last group's scale, which is the static scale of the stage: two exact divisions in place of one
by the group's own scale, and the same codes. What the biases add to the outputs becomes part of the layer's bias.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from datatypes.channel_groups import ChannelGroups
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor


def groups_of(layer: QuantizedLayer) -> ChannelGroups | None:
    """The one chunk of channel groups of a layer that a kernel can take; ``None`` for other inputs.

    Raises:
        NotImplementedError: groups that no kernel takes, or something beside them; the message names it.
        ValueError: the layer lacks its groups.
    """
    config = layer.config.activation
    if not isinstance(config, ChannelGroupsConfig):
        return None
    groups = layer.channel_groups
    if groups is None:
        raise ValueError("an activation in channel groups must have them in its layer, not None")
    if config.chunks > 1:
        raise NotImplementedError(
            f"an exported kernel holds one order of the channels, not one for each of {config.chunks} chunks of "
            f"tokens: calibrate channel groups with chunk_tokens None (recipe tender{config.format.bits}_tensor)"
        )
    if not config.halved:
        raise NotImplementedError("an exported kernel shifts between channel groups, so their scales must be halved")
    weight = layer.weight
    beside = {
        "parts": isinstance(weight, tuple),
        "a residual": isinstance(weight, QuantizedTensor) and weight.config.residual is not None,
        "a mask": isinstance(weight, QuantizedTensor) and weight.config.sparsity is not None,
        "a rotation": isinstance(weight, QuantizedTensor) and weight.config.hadamard > 1,
        "codes of several elements": isinstance(weight, QuantizedTensor) and weight.config.formats[0].dim > 1,
        "a permutation": layer.permutation is not None,
        "smoothing": layer.smoothing is not None,
        "outliers": layer.outliers is not None,
    }
    if there := [what for what, is_there in beside.items() if is_there]:
        raise NotImplementedError(f"an exported weight beside channel groups must be plain, without {', '.join(there)}")
    return groups


def last_scale(groups: ChannelGroups) -> float:
    """Scale of the last group: what sums are multiplied by."""
    return float(groups.group_scales()[0, -1])


def channel_weights(groups: ChannelGroups) -> np.ndarray:
    """What a code of each channel counts in steps of the last group: powers of two, float32 ``[k]``."""
    shifts = groups.sizes.shape[1] - 1 - groups.group_of_channel()[0]
    return np.ldexp(np.float32(1), shifts.numpy().astype(np.int32)).astype(np.float32)


def with_correction(groups: ChannelGroups | None, bias: np.ndarray | None) -> np.ndarray | None:
    """A layer's bias with what the channels' biases add, float32 ``[n]``; ``None`` for neither."""
    if groups is None or groups.correction is None:
        return bias
    correction: np.ndarray = groups.correction[0].to(torch.float32).numpy()
    return correction if bias is None else bias.astype(np.float32) + correction


def slabs(
    tensor: QuantizedTensor, groups: ChannelGroups, lanes: int
) -> tuple[QuantizedTensor, np.ndarray, tuple[int, ...]]:
    """The weight in slabs.

    Args:
        tensor: codes and scales, ``[n, k]``; code 0 has the value zero.
        groups: of the layer's input.
        lanes: columns of a step.

    Returns:
        The weight with its columns in order and idle ones of code 0 between; the input of each column, int64, any for
        idle ones; the step with which each slab starts.
    """
    order, columns, starts = groups.order[0].numpy(), [], []
    first = step = 0
    for size in groups.sizes[0].tolist():
        width = max(-(-size // lanes), 1) * lanes
        starts.append(step)
        columns += [*order[first : first + size].tolist(), *[-1] * (width - size)]
        first, step = first + size, step + width // lanes
    inputs = np.array(columns, np.int64)
    idle = torch.from_numpy(inputs < 0)
    inputs = np.maximum(inputs, 0)
    codes = tensor.codes[:, torch.from_numpy(inputs)].clone()
    codes[:, idle] = 0
    return replace(tensor, codes=codes, shape=(tensor.shape[0], len(inputs))), inputs, tuple(starts)


def slab_sum_bits(groups: ChannelGroups, weight: int, activation: int) -> int:
    """Bits of the largest sum of a row, in two's complement.

    Args:
        groups: of the layer's input.
        weight, activation: largest magnitudes of a code.
    """
    sizes = groups.sizes[0].tolist()
    reach = sum(size << (len(sizes) - 1 - place) for place, size in enumerate(sizes))
    return (reach * weight * activation).bit_length() + 1
