"""Bytes grouped into patches by their entropy: how many patches there are depends on data, so it is answered by mean.

A patcher (Pagnoni et al., Byte Latent Transformer, arXiv 2412.09871, section 2.3) is a language model of bytes whose
entropies say where patches begin. It is known by structure: its ``forward`` takes a ``patch_size`` and a ``threshold``
and returns entropies, patch lengths and logits. It is run whole; only its lengths are replaced. The first two bytes
each begin a patch, and of the others, one in ``patch_size`` bytes: the mean that the config states. Real text gives
more or fewer, as its threshold decides. A decode step is priced with the most it can need, one new patch; most bytes
begin none, so that the layers over patches are an upper estimate by a factor of up to ``patch_size``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from codesign.replaced_forwards import replaced_forwards

FIRST_PATCHES = 2  # bytes 0 and 1 always begin a patch (transformers, BltPatcher.patch_lengths_from_entropies)


def expected_patches(tokens: int, patch_size: int) -> int:
    """Patches that ``tokens`` bytes make where patches are ``patch_size`` bytes long on average.

    The entropy at a byte decides whether the next one begins a patch, that of the last byte included, so the first
    two patches are followed by ``tokens - 1`` chances.

    >>> expected_patches(1, 4), expected_patches(9, 4), expected_patches(9, 1)
    (2, 4, 10)
    """
    return FIRST_PATCHES + round((tokens - 1) / patch_size)


def even_patches(model: nn.Module, *, step: bool) -> AbstractContextManager[None]:
    """Patchers inside ``model`` answer with as many patches as their config expects, inside the block.

    Args:
        model: on the meta device.
        step: the bytes are one decode step: a single patch.
    """
    return replaced_forwards(
        {
            module: _patcher_forward(module.forward, step)
            for module in model.modules()
            if {"patch_size", "threshold", "max_patch_length"} <= set(inspect.signature(module.forward).parameters)
        }
    )


def _patcher_forward(original: Callable[..., Any], step: bool) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        patch_size, longest = kwargs.pop("patch_size", None), kwargs.pop("max_patch_length", None)
        entropies, lengths, logits = original(*args, **kwargs)  # without a patch size, each byte is a patch
        if patch_size is not None:
            count = 1 if step else expected_patches(entropies.shape[1], min(patch_size, longest or patch_size))
            lengths = torch.zeros(entropies.shape[0], count, dtype=torch.long, device=entropies.device)
        return entropies, lengths, logits

    return forward
