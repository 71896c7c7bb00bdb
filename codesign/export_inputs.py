"""Inputs of layers for golden vectors: what a quantized model itself feeds them on a text; what a manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codesign.blocks import BlockModel
from codesign.calibrate_model import batches_of, observe
from codesign.calibration import Statistic
from codesign.quantized_folder import QuantizedModel
from codesign.steps import NO_STEPS, Steps


def text_inputs(
    model: QuantizedModel, names: Sequence[str], windows: Tensor, tokens: int, *, steps: Steps = NO_STEPS
) -> Mapping[str, np.ndarray]:
    """Rows that enter layers as the model runs on ``windows``, weights decoded: float16 ``[tokens, k]`` by name.

    Args:
        model: the quantized model.
        names: layers inside its blocks.
        windows: token ids ``[w, t]``, at least ``tokens`` in all.
        tokens: rows kept of each layer: a uniform sample of all of them, always the same.
        steps: told which block is run.

    Raises:
        ValueError: a layer that lies outside the blocks, too few tokens, or an input beyond FP16.
    """
    if windows.numel() < tokens:
        raise ValueError(f"the text must give at least {tokens} tokens, not {windows.numel()}")
    walked = BlockModel(model)
    block_of = {slot.name: index for index in range(len(walked)) for slot in walked.slots(index)}
    outside = [name for name in names if name not in block_of]
    if outside:
        raise ValueError(f"inputs of layer {outside[0]}, which is in no block, must be seeded ones, not from a text")
    observed = {block_of[name] for name in names}
    last = max(observed)
    stream = walked.embed(batches_of(windows))
    found: dict[str, np.ndarray] = {}
    for index in range(last + 1):
        with walked.block(index) as block:
            wanted = frozenset({Statistic.INPUTS}) if index in observed else frozenset()
            seen = observe(walked, stream, index, block, wanted, keep_inputs=tokens, advance=True)
        for name, statistics in seen.items():
            if name in names:
                found[name] = _half(name, statistics[Statistic.INPUTS])
        steps("inputs", index + 1, last + 1)
    return found


def origin(model: QuantizedModel, accelerator: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest of an export says of model, recipe and golden inputs."""
    return {
        "model": model.name,
        "model_hash": model.hash,
        "recipe": str(model.manifest["recipe"]),
        "accelerator": accelerator,
        "inputs": dict(inputs),
    }


def _half(name: str, rows: Tensor) -> np.ndarray:
    half = rows.to(torch.float16)
    if not torch.isfinite(half).all():
        raise ValueError(f"inputs of layer {name} must lie within FP16, not reach {float(rows.abs().max()):.3g}")
    return half.numpy()
