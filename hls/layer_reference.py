"""What an exported layer computes, bit for bit, in numpy: the golden vectors of C simulation.

The numbers are those of ``docs/hls.md`` ("The numbers of a layer"): exact sums of a group, or one rounding a product;
then float32 operations in a stated order (``hls.part_reference``); side branches in float32. Codes, scales and their
values come from ``datatypes``. Nothing here follows the C++.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from datatypes.layer_config import TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.channel_slabs import groups_of, with_correction
from hls.input_reference import StagedInput, encode_rows, stage_input
from hls.layer_options import LayerOptions
from hls.layer_outliers import codes_are_cleared, outlier_values
from hls.layer_parts import DensePart, dense_parts
from hls.part_reference import FLOAT32_UNIT, bitmod_sums, part_sums
from hwmodel.channel_groups import plain_activation
from hwmodel.unit_cost_design import Arithmetic

PARTIAL_SUMS = 8  # of side branches: term i belongs to sum i mod 8
_EPSILON = np.float32(1e-5)  # of torch.nn.functional.layer_norm


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """What a layer gives for some tokens.

    Args:
        values: float32 ``[m, n]`` before the output format.
        coded: the output in its format; ``None`` for float32.
        activation: the input as it was encoded; ``None`` for FP16.
        bound: float64 ``[m, n]``: how far ``values`` may lie from exact arithmetic on the same codes.
    """

    values: np.ndarray
    coded: QuantizedTensor | None
    activation: QuantizedTensor | None
    bound: np.ndarray


def layer_reference(
    layer: QuantizedLayer, x: np.ndarray, bias: np.ndarray | None = None, options: LayerOptions | None = None
) -> LayerOutput:
    """The layer's outputs for tokens ``x``, taken ``options.tokens`` at a time.

    Args:
        layer: what is computed.
        x: float16 ``[m, k]``, finite.
        bias: float32 ``[n]``.
        options: accumulator and arithmetic; defaults as ``LayerOptions``.

    Raises:
        TypeError: ``x`` is not float16.
        ValueError: shapes do not fit, or a value is not finite.
        NotImplementedError: the layer has something that no kernel computes.
    """
    options = LayerOptions() if options is None else options
    if x.dtype != np.float16:
        raise TypeError(f"x must be float16, not {x.dtype}")
    if x.ndim != 2 or x.shape[1] != layer.shape[1]:
        raise ValueError(f"x must have the shape [m, {layer.shape[1]}], not {list(x.shape)}")
    if bias is not None and bias.shape != (layer.shape[0],):
        raise ValueError(f"bias must have the shape [{layer.shape[0]}], not {list(bias.shape)}")
    parts = dense_parts(layer)
    bias = with_correction(groups_of(layer), bias)
    calls = [
        _call(layer, parts, x[first : first + options.tokens], bias, options)
        for first in range(0, len(x), options.tokens)
    ]
    if len(calls) == 1:
        return calls[0]
    return LayerOutput(
        np.concatenate([call.values for call in calls]),
        _joined([call.coded for call in calls]),
        _joined([call.activation for call in calls]),
        np.concatenate([call.bound for call in calls]),
    )


def _joined(parts: list[QuantizedTensor | None]) -> QuantizedTensor | None:
    """Encodings of the calls' tokens as one, where tokens stand alone or share their scales within a call only."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    scales = [part.effective_scale() for part in found]
    spread = [None if s is None else s.expand(p.shape[0], -1) for s, p in zip(scales, found, strict=True)]
    scale = None if spread[0] is None else torch.cat([s for s in spread if s is not None])
    shape = (sum(part.shape[0] for part in found), found[0].shape[1])
    return QuantizedTensor(found[0].config, shape, torch.cat([part.codes for part in found]), scale)


def _call(
    layer: QuantizedLayer,
    parts: tuple[DensePart, ...],
    x: np.ndarray,
    bias: np.ndarray | None,
    options: LayerOptions,
) -> LayerOutput:
    """One call: scales that tokens share cover these ones."""
    staged = stage_input(layer, x)
    bitmod = options.arithmetic is Arithmetic.BITMOD and layer.config.activation is None
    total = bound = None
    for part in parts:
        if bitmod:
            made, error = bitmod_sums(part, staged)
        else:
            made, error = part_sums(part, staged, plain_activation(layer.config.activation), options)
        total = made if total is None else total + made
        bound = error if bound is None else bound + error + np.abs(made) * FLOAT32_UNIT * len(parts)
    assert total is not None and bound is not None
    branches = []
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        branches.append(
            _low_rank(layer.low_rank_a, layer.low_rank_b, staged, plain_activation(layer.config.activation))
        )
    if layer.outliers is not None and layer.outliers.columns.numel():
        branches.append(_outliers(layer, staged))
        if not codes_are_cleared(layer):
            bound = 2 * bound  # the dense weight that outliers differ from is rounded as the parts' products are
    for value, error in branches:
        total = total + value
        bound = bound + error + (np.abs(value) + np.abs(total)) * FLOAT32_UNIT
    if layer.config.output_norm:
        total, bound = _normalised(total, bound)
    if bias is not None:
        total = total + bias.astype(np.float32)[None]
        bound = bound + (np.abs(total) + np.abs(bias[None])) * FLOAT32_UNIT
    coded = None if layer.config.output is None else quantize_tensor(torch.from_numpy(total), layer.config.output)
    return LayerOutput(total, coded, staged.tensor, bound)


# --- side branches ---------------------------------------------------------------------------------------------------


def interleaved_products(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``a @ w.T`` in float32: term i is added to partial sum i mod 8, and these are added in order."""
    return _interleaved((a[:, column, None] * w[None, :, column] for column in range(a.shape[1])), (len(a), len(w)))


def _interleaved(terms: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    partial = np.zeros((PARTIAL_SUMS, *shape), np.float32)
    for place, term in enumerate(terms):
        partial[place % PARTIAL_SUMS] += term
    total: np.ndarray = partial[0]
    for one in partial[1:]:
        total = total + one
    return total


def _branch_error(terms: int) -> float:
    error = (terms / PARTIAL_SUMS + PARTIAL_SUMS + 4) * FLOAT32_UNIT
    return error / (1 - error)


def _low_rank(
    a: QuantizedTensor, b: QuantizedTensor, staged: StagedInput, activation: TensorConfig | None
) -> tuple[np.ndarray, np.ndarray]:
    """``Q(Q(x A) B)`` and the error of its sums (steps between codes of Q are not in it: none, one or more codes)."""
    down, up, numbers = a.dequantize().numpy(), b.dequantize().numpy(), staged.numbers
    middle = _requantized(interleaved_products(numbers, down), activation)
    value = _requantized(interleaved_products(middle, up), activation)
    size = np.abs(numbers).astype(np.float64) @ np.abs(down).T @ np.abs(up).T
    return value, size * (_branch_error(down.shape[1]) + _branch_error(up.shape[1]))


def _requantized(x: np.ndarray, activation: TensorConfig | None) -> np.ndarray:
    return x if activation is None else encode_rows(x, activation).numbers


def _outliers(layer: QuantizedLayer, staged: StagedInput) -> tuple[np.ndarray, np.ndarray]:
    outliers, numbers = layer.outliers, staged.numbers
    assert outliers is not None
    columns, values = outliers.columns.numpy(), outlier_values(layer).numpy()
    if outliers.row_pointers is None:
        taken = numbers[:, columns]
        size = np.abs(taken).astype(np.float64) @ np.abs(values).T
        return interleaved_products(taken, values), size * _branch_error(len(columns))
    starts = outliers.row_pointers.numpy()
    total = np.zeros((len(numbers), layer.shape[0]), np.float32)
    bound = np.zeros(total.shape)
    for row in range(layer.shape[0]):
        of_row = slice(int(starts[row]), int(starts[row + 1]))
        taken, weights = numbers[:, columns[of_row]], values[None, of_row]
        total[:, row] = interleaved_products(taken, weights)[:, 0]
        bound[:, row] = (np.abs(taken).astype(np.float64) @ np.abs(weights).T)[:, 0] * _branch_error(weights.size)
    return total, bound


# --- the norm --------------------------------------------------------------------------------------------------------


def _normalised(y: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(y - mean) / sqrt(mean of squares of that + epsilon)`` of rows of float32 ``[m, n]``, and its error bound."""
    n = np.float32(y.shape[1])
    mean = (_interleaved(y.T, (len(y),)) / n)[:, None]
    centred = y - mean
    spread = np.sqrt(_interleaved((centred * centred).T, (len(y),)) / n + _EPSILON)[:, None]
    made = centred * (np.float32(1.0) / spread)
    sums = _branch_error(y.shape[1])
    off_mean = bound.mean(1, keepdims=True) + np.abs(y).mean(1, keepdims=True) * sums
    off = bound + off_mean + np.abs(centred) * FLOAT32_UNIT
    # the root of a mean of squares is a norm: it moves by at most the norm of what its terms move by
    off_spread = np.sqrt((off**2).mean(1, keepdims=True)) + spread * sums
    least = np.maximum(spread.astype(np.float64) - off_spread, np.sqrt(float(_EPSILON)))
    error = off / least + np.abs(made) * off_spread / least + np.abs(made) * 4 * FLOAT32_UNIT
    return made, error
