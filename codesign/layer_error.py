"""How wrong each layer is by itself: signal to noise of its output on calibration inputs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from codesign.apply import QuantizedLinear, effective_weight, is_weight_only
from codesign.blocks import BlockModel
from codesign.calibration import LayerCalibration, Statistic
from datatypes.quantized_layer import QuantizedLayer


def output_sqnr_db(weight: Tensor, layer: QuantizedLayer, inputs: Tensor) -> float:
    """Signal to quantization noise of a layer's output, decibels: 10 log10(sum y**2 / sum (y - yq)**2).

    Args:
        weight: the original ``[n, k]``.
        layer: its quantized form, run as ``codesign.apply`` runs it.
        inputs: rows ``[m, k]`` from calibration (``Statistic.INPUTS``).

    Returns:
        Infinity where the outputs are equal.
    """
    inputs = inputs.to(torch.float32)
    exact = F.linear(inputs, weight.to(torch.float32))
    if is_weight_only(layer.config):
        made = F.linear(inputs, effective_weight(layer))
    else:
        made = QuantizedLinear(layer, None)(inputs)
    noise = float((exact - made).to(torch.float64).square().sum())
    signal = float(exact.to(torch.float64).square().sum())
    return math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def layer_sqnr_db(
    model: BlockModel,
    layers: Mapping[str, QuantizedLayer],
    calibration: Mapping[str, LayerCalibration],
    known: Collection[str] = (),
) -> Iterator[dict[str, float]]:
    """``output_sqnr_db`` of every layer inside the blocks whose inputs were gathered, one block's weights at a time.

    Args:
        model: the original model, walked.
        layers: its quantized layers.
        calibration: with ``Statistic.INPUTS``; layers that it does not know (fused experts) are left out.
        known: names of layers that need not be measured again; a block with no others is not loaded.

    Yields:
        The layers of one block at a time; blocks without any are passed over.
    """
    for index in range(len(model)):
        slots = [slot for slot in model.slots(index) if slot.name in layers and slot.name not in known]
        slots = [slot for slot in slots if slot.name in calibration]
        if not slots:
            continue
        with model.block(index):
            found = {}
            for slot in slots:
                inputs = calibration[slot.name][Statistic.INPUTS].to(model.device)
                found[slot.name] = output_sqnr_db(slot.matrix(), layers[slot.name].to(model.device), inputs)
        yield found
