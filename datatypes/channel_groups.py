"""Inputs in channel groups: what calibration fixes for a layer, codes of its inputs, and sums of their products.

``datatypes.channel_groups_config`` says what is stored and where it comes from (Lee et al., Tender, ISCA 2024).
``shift_accumulate`` adds up as the hardware does, in integers; the kernel of ``hls/include/codesign/shift_mac.h`` and
the functional checks are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.rounding import nearest_value


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The stored side of an input in channel groups.

    Args:
        order: int64 ``[chunks, k]``: channels as they are multiplied, those of the largest scale first.
        sizes: int64 ``[chunks, groups]``: channels in each group of that order; they sum to ``k``.
        scale: float32 ``[chunks]``, the first group's scale; ``[chunks, groups]`` where every group has its own.
        bias: float32 ``[chunks, k]``, by channel; ``None`` for none.
        correction: float32 ``[chunks, n]``: what the biases add to each output; ``None`` for none.
    """

    order: Tensor
    sizes: Tensor
    scale: Tensor
    bias: Tensor | None = None
    correction: Tensor | None = None

    def __post_init__(self) -> None:
        chunks, k = self.order.shape
        if len(self.sizes) != chunks or len(self.scale) != chunks:
            raise ValueError(
                f"sizes and scale of channel groups must have {chunks} chunks as their order has, "
                f"not {len(self.sizes)} and {len(self.scale)}"
            )
        if not torch.equal(self.order.sort(dim=1).values, torch.arange(k, device=self.order.device).expand(chunks, k)):
            raise ValueError(f"order of channel groups must name each of the {k} channels once in every chunk")
        if bool((self.sizes < 0).any()) or bool((self.sizes.sum(1) != k).any()):
            raise ValueError(
                f"sizes of channel groups must sum to {k} in every chunk, not {self.sizes.sum(1).tolist()!r}"
            )
        if (self.bias is None) != (self.correction is None):
            raise ValueError("correction of channel groups must be there exactly where there is a bias")

    def to(self, device: torch.device | str) -> ChannelGroups:
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        correction = None if self.correction is None else self.correction.to(device)
        return ChannelGroups(self.order.to(device), self.sizes.to(device), self.scale.to(device), bias, correction)

    def group_of_channel(self) -> Tensor:
        """Which group, from 0, each channel belongs to: int64 ``[chunks, k]``."""
        chunks, k = self.order.shape
        places = torch.arange(k, device=self.order.device).expand(chunks, k).contiguous()
        of_place = torch.searchsorted(self.sizes.cumsum(1), places, right=True)
        return torch.empty_like(self.order).scatter_(1, self.order, of_place)

    def group_scales(self) -> Tensor:
        """Scale of each group: float32 ``[chunks, groups]``."""
        if self.scale.dim() == 2:
            return self.scale
        halvings = torch.tensor([2.0**-g for g in range(self.sizes.shape[1])], device=self.scale.device)
        return self.scale[:, None] * halvings

    def channel_scales(self) -> Tensor:
        """Scale of each channel: float32 ``[chunks, k]``."""
        return self.group_scales().gather(1, self.group_of_channel())


class EncodedChannels:
    """Encodes inputs of one layer: the tables that ``ChannelGroups`` stands for, made once.

    Args:
        config: the encoding.
        groups: the stored side of it.
    """

    def __init__(self, config: ChannelGroupsConfig, groups: ChannelGroups) -> None:
        self.config = config
        self.groups = groups
        self.scales = groups.channel_scales()

    def chunk_of(self, tokens: int) -> Tensor:
        """Chunk of each of the first ``tokens`` positions of a sequence: int64 ``[tokens]``."""
        positions = torch.arange(tokens, device=self.scales.device)
        if self.config.chunk_tokens is None:
            return torch.zeros_like(positions)
        return (positions // self.config.chunk_tokens).clamp_max(len(self.scales) - 1)

    def codes(self, x: Tensor) -> Tensor:
        """Integers as float32, of the shape of ``x`` ``[..., m, k]``: positions of a sequence along ``m``."""
        return self._codes_and_scales(x)[0]

    def values(self, x: Tensor) -> Tensor:
        """What the codes of ``x`` stand for, less the biases: float32, of its shape."""
        codes, scales = self._codes_and_scales(x)
        return codes * scales

    def _codes_and_scales(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of ``x``, and the scale of each channel at each position ``[m, k]``."""
        chunk = self.chunk_of(x.shape[-2])
        scales = self.scales[chunk]
        centred = x.to(torch.float32)
        if self.groups.bias is not None:
            centred = centred - self.groups.bias[chunk]
        return nearest_value(centred / scales, self.config.format), scales

    def corrections(self, tokens: int) -> Tensor | None:
        """What is added to the outputs of each position: float32 ``[tokens, n]``; ``None`` for nothing."""
        return None if self.groups.correction is None else self.groups.correction[self.chunk_of(tokens)]


def shift_accumulate(codes: Tensor, weight: Tensor, order: Tensor, sizes: Tensor) -> Tensor:
    """Sums over channels in units of the last group's step, group after group: ``acc = (acc << 1) + partial``.

    Source: Lee et al., Tender, ISCA 2024, section IV. A group without channels shifts too.

    Args:
        codes: integers ``[m, k]`` of the inputs.
        weight: integers ``[n, k]``.
        order, sizes: of one chunk, ``[k]`` and ``[groups]``.

    Returns:
        int64 ``[m, n]``.

    >>> inputs, ones = torch.tensor([[3, 1, 2]]), torch.tensor([[1, 1, 1]])
    >>> shift_accumulate(inputs, ones, torch.tensor([1, 0, 2]), torch.tensor([1, 2]))  # (1 << 1) + 3 + 2
    tensor([[7]])
    """
    total = torch.zeros(codes.shape[0], weight.shape[0], dtype=torch.int64, device=codes.device)
    first = 0
    for size in sizes.tolist():
        channels = order[first : first + size]
        partial = codes[:, channels].to(torch.int64) @ weight[:, channels].to(torch.int64).T
        total = (total << 1) + partial
        first += size
    return total
