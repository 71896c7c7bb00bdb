"""How far ``layer_gemv`` may be from the product with the dequantized layer: the sum of what its kernels round."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from kernels_gpu import gemv_reference
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_reference import FLOAT_STEP, HALF_STEP, SMALLEST
from kernels_gpu.layer import stored_order
from kernels_gpu.low_rank_reference import sums_tolerance


def reference(layer: QuantizedLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Expected results of ``layer_gemv`` and the largest distance from them, ``[m, n]`` float64.

    Layer and inputs are on one device, which holds several float64 copies of the weight.

    Counted are: the dense GEMV (``gemv_reference.tolerance``); inputs divided by smoothing, rounded to their type;
    float32 sums of outliers and of both factors; every rounding of y to its type; and the float32 operations by which
    ``dequantize_weight`` puts the pieces together.
    """
    assert isinstance(layer.weight, QuantizedTensor)
    half, small = HALF_STEP[x.dtype], SMALLEST[x.dtype]
    smooth = x.double() if layer.smoothing is None else x.double() / layer.smoothing.double()
    expected = x.double() @ layer.dequantize_weight().double().T
    bare = replace(layer, outliers=None).dense_weight().double() if _slots_kept(layer) else _zeroed(layer)
    added = layer.dense_weight().double() - bare  # what outliers add, zero elsewhere
    magnitude = bare.abs() + added.abs()
    branch = expected.new_zeros(1, 1)
    absolute_branch, terms = branch, 1
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        a, b = layer.low_rank_a.dequantize().double(), layer.low_rank_b.dequantize().double()
        branch = smooth @ a.T @ b.T
        absolute_branch = smooth.abs() @ a.abs().T @ b.abs().T
        terms = a.shape[1] + a.shape[0] + 6  # additions, and a product with a scale for each factor
        magnitude = magnitude + b.abs() @ a.abs()
    order = stored_order(layer)
    dense_x = smooth if order is None else smooth[:, order.to(x.device)]
    dense_y = smooth @ bare.T
    given = dense_x.to(x.dtype)
    allowed = gemv_reference.tolerance(given, layer.weight.dequantize(), plan_of(layer.weight.config), dense_y)
    outliers = smooth @ added.T
    absolute_outliers = smooth.abs() @ added.abs().T
    most = int((added != 0).sum(1).max())  # outliers of a row
    allowed = allowed + sums_tolerance(absolute_outliers, most + 2) + sums_tolerance(absolute_branch, terms)
    # y is rounded once for each of its three parts
    allowed = allowed + (dense_y + outliers).abs() * half + small
    allowed = allowed + (dense_y + outliers + branch).abs() * half + small
    if layer.smoothing is not None:
        allowed = allowed + (smooth.abs() * half + small) @ magnitude.T
    # a sum of factors' products, the branch added, smoothing divided out: float32 in ``dequantize_weight``
    allowed = allowed + smooth.abs() @ magnitude.T * (FLOAT_STEP * (terms + 3))
    return expected, allowed * (1 + 2.0**-7)  # roundings act on results that are off by the others


def _slots_kept(layer: QuantizedLayer) -> bool:
    return layer.config.outliers is None or layer.config.outliers.keep_dense_slot


def _zeroed(layer: QuantizedLayer) -> Tensor:
    """The dense weight with zeros where slots were dropped."""
    assert layer.outliers is not None
    weight = layer.dense_weight().double()
    weight[:, layer.outliers.columns] = 0
    return weight
