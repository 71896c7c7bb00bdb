"""What one dense part of an exported layer gives, bit for bit, in numpy: groups summed, scaled and added.

Integers, minifloats, tables and pairs add exactly, or with one rounding a product beside FP16 inputs; BitMoD's
bit-serial PE is ``hwmodel.pe_functional``'s. Every sum comes with a bound of its distance from exact arithmetic.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from datatypes.format import FloatFormat
from datatypes.layer_config import TensorConfig
from datatypes.tensor import decode_stored
from hls.exact_numbers import exact_product, float32_of, in_units, lowest_unit, rounded_sum, times_power, widened
from hls.input_reference import StagedInput, half_rounded
from hls.layer_options import LayerOptions
from hls.layer_parts import DensePart, decoded, group_size, has_exact_scale, outer_is_last, per_column
from hwmodel.pe_functional import gemm
from hwmodel.pe_functional_bound import error_bounds
from hwmodel.pe_functional_weight import serial_weight

FLOAT32_UNIT = 2.0**-24  # relative error of one float32 rounding


def part_sums(
    part: DensePart, staged: StagedInput, activation: TensorConfig | None, options: LayerOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of one part, float32 ``[m, n]``, and their error bound."""
    tensor, config = part.tensor, part.config
    shape, tokens = tensor.shape, staged.values.shape[0]
    values, (inputs, slack) = tensor.values().to(torch.float64).numpy(), _inputs(part, staged)
    zero = decoded_zero(part)
    real = zero is not None and isinstance(config.zero_point, FloatFormat)
    in_codes = zero is not None and config.zero_point_level is not None and not real
    if zero is not None and not real and not in_codes:
        values, zero = values - zero, None  # exact: integers
    stored = np.ones((1, part.columns))  # what a zero point stands beside: everything, or what a mask keeps
    if tensor.mask is not None:
        stored = tensor.mask.numpy().astype(np.float64)
        values = np.where(stored, values, 0.0)
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
        ones = stored[:, columns].astype(w.dtype)
        if float_sums:
            value, plain = (float_products(a, other, options.accumulator) for other in (w, ones))
        else:
            value = times_power(float32_of(exact_product(a, w)), unit)
            plain = times_power(float32_of(exact_product(a, ones)), staged.unit_exponent)
        moved = np.abs(inputs[:, columns]) @ stored[:, columns].T
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
    return total, reach * _relative_error(part, group, float_sums, options) + slack


def _inputs(part: DensePart, staged: StagedInput) -> tuple[np.ndarray, np.ndarray | float]:
    """What the columns multiply, float64 ``[m, columns]``, and what its rounding moves the sums by at most ``[m, n]``.

    A column scale multiplies the FP16 input in float32, and the product is rounded to FP16.
    """
    taken = staged.values[:, part.inputs]
    scale = decoded(part.tensor.column_scale, part.config.column_scale)
    if scale is None:
        return taken, 0.0
    rounded = half_rounded(taken.astype(np.float32) * scale.numpy()).astype(np.float64)
    plain = replace(part.config, column_scale=None, residual=None)
    weight = replace(part.tensor, config=plain, column_scale=None, residual=None).dequantize().numpy()
    moved = np.abs(rounded - taken * scale.numpy().astype(np.float64))
    return rounded, moved @ np.abs(weight.astype(np.float64)).T


def _relative_error(part: DensePart, group: int, float_sums: bool, options: LayerOptions) -> float:
    """Roundings met by one product on its way, times their unit (Higham, Accuracy and Stability, lemma 3.1)."""
    groups = -(-part.columns // group)
    roundings = groups + 10  # a conversion, zero points, scales of two levels, activation and row scales
    error = roundings * FLOAT32_UNIT
    if float_sums:
        error += min(group, part.columns) * 2.0 ** -(options.accumulator[1] + 1)
    return error / (1 - error)


def inputs_are_floats(activation: TensorConfig) -> bool:
    """Whether activations are FP16 or BF16 numbers without a scale: products are rounded one by one."""
    return activation.scale is None and activation.formats[0].bits >= 16


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


def bitmod_sums(part: DensePart, staged: StagedInput) -> tuple[np.ndarray, np.ndarray]:
    """One part on BitMoD's PEs; the bound is that of its own functional model."""
    taken, slack = _inputs(part, staged)
    inputs, weight = np.ascontiguousarray(taken.astype(np.float16)), serial_weight(part.tensor)
    return gemm(inputs, weight).values, error_bounds(inputs, weight) + slack
