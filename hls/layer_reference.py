"""What an exported layer computes, bit for bit, in numpy: the golden vectors of C simulation.

The numbers are those of ``docs/hls.md`` ("The numbers of a layer"): exact sums of a group, or one rounding a product;
then float32 operations in a stated order. Codes, scales and their values come from ``datatypes``; BitMoD's bit-serial
PE from ``hwmodel.pe_functional``. Nothing here follows the C++.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from datatypes.format import FloatFormat
from datatypes.layer_config import TensorConfig
from datatypes.quantize import quantize_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor, decode_stored
from hls.exact_numbers import exact_product, float32_of, in_units, rounded_sum, times_power, widened
from hls.input_reference import StagedInput, encode_rows, stage_input
from hls.layer_options import LayerOptions
from hls.layer_parts import DensePart, decoded, dense_parts, group_size, has_exact_scale, outer_is_last, per_column
from hwmodel.pe_functional import gemm
from hwmodel.pe_functional_bound import error_bounds
from hwmodel.pe_functional_weight import serial_weight
from hwmodel.unit_cost_design import Arithmetic

PARTIAL_SUMS = 8  # of side branches: term i belongs to sum i mod 8
_FLOAT32_UNIT = 2.0**-24  # relative error of one float32 rounding


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
    calls = [
        _call(layer, x[first : first + options.tokens], bias, options) for first in range(0, len(x), options.tokens)
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


def _call(layer: QuantizedLayer, x: np.ndarray, bias: np.ndarray | None, options: LayerOptions) -> LayerOutput:
    """One call: scales that tokens share cover these ones."""
    staged = stage_input(layer, x)
    parts = dense_parts(layer)
    bitmod = options.arithmetic is Arithmetic.BITMOD and layer.config.activation is None
    total = bound = None
    for part in parts:
        if bitmod:
            made, error = _bitmod_part(part, staged)
        else:
            made, error = _part(part, staged, layer.config.activation, options)
        total = made if total is None else total + made
        bound = error if bound is None else bound + error + np.abs(made) * _FLOAT32_UNIT * len(parts)
    assert total is not None and bound is not None
    branches = []
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        branches.append(_low_rank(layer.low_rank_a, layer.low_rank_b, staged, layer.config.activation))
    if layer.outliers is not None and layer.outliers.columns.numel():
        branches.append(_outliers(layer, staged))
    for value, error in branches:
        total = total + value
        bound = bound + error + (np.abs(value) + np.abs(total)) * _FLOAT32_UNIT
    if bias is not None:
        total = total + bias.astype(np.float32)[None]
        bound = bound + (np.abs(total) + np.abs(bias[None])) * _FLOAT32_UNIT
    coded = None if layer.config.output is None else quantize_tensor(torch.from_numpy(total), layer.config.output)
    return LayerOutput(total, coded, staged.tensor, bound)


# --- a dense part ----------------------------------------------------------------------------------------------------


def _part(
    part: DensePart, staged: StagedInput, activation: TensorConfig | None, options: LayerOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of one part, float32 ``[m, n]``, and their error bound."""
    tensor, config = part.tensor, part.config
    shape, tokens = tensor.shape, staged.values.shape[0]
    values, inputs = tensor.values().to(torch.float64).numpy(), staged.values[:, part.inputs]
    zero = decoded_zero(part)
    real = zero is not None and isinstance(config.zero_point, FloatFormat)
    in_codes = zero is not None and config.zero_point_level is not None and not real
    if zero is not None and not real and not in_codes:
        values, zero = values - zero, None  # exact: integers
    float_sums = activation is None or inputs_are_floats(activation)
    unit = lowest_unit(values)
    weights = values if float_sums else in_units(values, unit)
    taken = inputs if float_sums else in_units(inputs, staged.unit_exponent)
    unit += staged.unit_exponent
    scale, last = _scale_of_columns(part)
    exact = not float_sums and has_exact_scale(part, activation)
    group = group_size(part, activation)
    total = np.zeros((tokens, shape[0]), np.float32)
    whole = widened(np.zeros(total.shape, np.int64))
    reach = np.zeros(total.shape)
    for first in range(0, part.columns, group):
        columns = slice(first, min(first + group, part.columns))
        w, a = weights[:, columns], taken[:, columns]
        size = np.abs(inputs[:, columns]) @ np.abs(values[:, columns]).T
        if exact:
            assert tensor.scale is not None
            codes = per_column(tensor.scale, config.granularity, shape)[:, first].astype(np.int64)
            whole = whole + widened(exact_product(a, w)) * widened(codes)[None]
            reach += size * codes[None]
            continue
        ones = np.ones((1, a.shape[1]), w.dtype)
        if float_sums:
            value, plain = (float_products(a, other, options.accumulator) for other in (w, ones))
        else:
            value = times_power(float32_of(exact_product(a, w)), unit)
            plain = times_power(float32_of(exact_product(a, ones)), staged.unit_exponent)
        moved = np.abs(inputs[:, columns]).sum(1)[:, None]
        if in_codes:
            assert zero is not None
            value = value - zero[:, first][None] * plain
            size = size + np.abs(zero[:, first][None]) * moved
        if scale is not None:
            value, size = value * scale[:, first][None], size * np.abs(scale[:, first])[None]
        if real:
            assert zero is not None
            value = value + zero[:, first][None] * plain
            size = size + np.abs(zero[:, first][None]) * moved
        if staged.scale is not None:
            step = staged.scale[:, part.inputs[first]][:, None]
            value, size = value * step, size * step
        total, reach = total + value, reach + size
    if exact:
        total = times_power(float32_of(whole), unit)
        if staged.scale is not None:
            total, reach = total * staged.scale[:, :1], reach * staged.scale[:, :1]
    for factor in (last, decoded(tensor.row_scale, config.row_scale)):
        if factor is not None:
            of_row = factor.numpy()[None]
            total, reach = total * of_row, reach * np.abs(of_row)
    return total, reach * _relative_error(part, group, float_sums, options)


def _relative_error(part: DensePart, group: int, float_sums: bool, options: LayerOptions) -> float:
    """Roundings met by one product on its way, times their unit (Higham, Accuracy and Stability, lemma 3.1)."""
    groups = -(-part.columns // group)
    roundings = groups + 10  # a conversion, zero points, scales of two levels, activation and row scales
    error = roundings * _FLOAT32_UNIT
    if float_sums:
        error += min(group, part.columns) * 2.0 ** -(options.accumulator[1] + 1)
    return error / (1 - error)


def inputs_are_floats(activation: TensorConfig) -> bool:
    """Whether activations are FP16 or BF16 numbers without a scale: products are rounded one by one."""
    return activation.scale is None and activation.formats[0].bits >= 16


def lowest_unit(values: np.ndarray) -> int:
    """The largest power of two (as exponent) of which all values are multiples; 0 for zeros."""
    magnitude = np.abs(values[values != 0])
    if not magnitude.size:
        return 0
    mantissa, exponent = np.frexp(magnitude)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((exponent - 53 + trailing).min())


def decoded_zero(part: DensePart) -> np.ndarray | None:
    """Zero point of each element, float32 ``[n, columns]``; ``None`` for none."""
    zero = part.tensor.effective_zero_point()
    return None if zero is None else per_column(zero, part.config.granularity, part.tensor.shape)


def _scale_of_columns(part: DensePart) -> tuple[np.ndarray | None, torch.Tensor | None]:
    """Scale of each element, float32 ``[n, columns]``, and the second level that multiplies whole rows ``[n]``."""
    tensor, config = part.tensor, part.config
    if config.scale is None or tensor.scale is None:
        return None, None
    if not outer_is_last(part):
        effective = tensor.effective_scale()
        assert effective is not None
        return per_column(effective, config.granularity, tensor.shape), None
    level = config.scale.second_level
    assert level is not None and tensor.outer_scale is not None
    inner = per_column(decode_stored(tensor.scale, config.scale.format), config.granularity, tensor.shape)
    outer = per_column(decode_stored(tensor.outer_scale, level.scale), level.granularity, tensor.shape)
    return inner, torch.from_numpy(np.ascontiguousarray(outer[:, 0]))


def float_products(a: np.ndarray, w: np.ndarray, widths: tuple[int, int]) -> np.ndarray:
    """``a @ w.T`` with one rounding a product, columns in order: float32 ``[m, n]``.

    Args:
        a, w: float64 ``[m, k]`` and ``[n, k]`` whose products are exact in float64.
    """
    total = np.zeros((len(a), len(w)))
    for column in range(a.shape[1]):
        total = rounded_sum(total, a[:, column, None] * w[None, :, column], widths)
    return total.astype(np.float32)


def _bitmod_part(part: DensePart, staged: StagedInput) -> tuple[np.ndarray, np.ndarray]:
    """One part on BitMoD's PEs; the bound is that of its own functional model."""
    assert staged.plain is not None
    weight = serial_weight(part.tensor)
    inputs = np.ascontiguousarray(staged.plain[:, part.inputs])
    return gemm(inputs, weight).values, error_bounds(inputs, weight)


# --- side branches ---------------------------------------------------------------------------------------------------


def interleaved_products(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``a @ w.T`` in float32: term i is added to partial sum i mod 8, and these are added in order."""
    partial = np.zeros((PARTIAL_SUMS, len(a), len(w)), np.float32)
    for column in range(a.shape[1]):
        partial[column % PARTIAL_SUMS] += a[:, column, None] * w[None, :, column]
    total = partial[0]
    for one in partial[1:]:
        total = total + one
    return total


def _branch_error(terms: int) -> float:
    error = (terms / PARTIAL_SUMS + PARTIAL_SUMS + 4) * _FLOAT32_UNIT
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
    columns, values = outliers.columns.numpy(), outliers.values.to(torch.float32).numpy()
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
