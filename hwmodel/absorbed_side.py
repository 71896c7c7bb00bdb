"""Scales of weights that are used the other way round (``LayerSpec.absorbed``): what a product over their rows takes.

An absorbed row of ``weight [n, k]`` takes one input and gives to all ``k`` outputs, so that scales of rows and of
groups along ``k`` change along the sum, which no PE follows. As with values of attention, inputs are multiplied by them
before:
    * one operation for each input and group of its row, and one for each run that shares a second-level scale;
    * a zero point adds one for each input and group (the sum of inputs times zero points) and one for each output;
    * a second level with an offset, and that of zero points, one for each stored scale, as for any weight;
    * groups of encoded inputs, which lie along the rows here, one for each output and group.
"""

from __future__ import annotations

from datatypes.layer_config import TensorConfig
from hwmodel.units import ceil_div
from hwmodel.workload import LayerSpec


def absorbed_operations(spec: LayerSpec, tensor: TensorConfig, encoded: TensorConfig | None, columns: int) -> int:
    """Vector operations of one copy for its absorbed rows; 0 without any.

    Args:
        spec: the layer.
        tensor: encoding of these columns.
        encoded: encoding of the inputs, where the array multiplies encoded ones.
        columns: of the weight, in this encoding.
    """
    if not spec.absorbed:
        return 0
    inputs, outputs = spec.m * spec.absorbed, spec.m * columns
    groups = ceil_div(columns, tensor.granularity.tile((spec.absorbed, columns))[1])
    stored = tensor.granularity.count((spec.absorbed, columns))
    operations = inputs * groups if tensor.scale is not None else 0
    if tensor.scale is not None and tensor.scale.outer is not None:
        shared = tensor.scale.outer_granularity.tile((spec.absorbed, columns))[1]
        operations += inputs * ceil_div(columns, shared) if tensor.scale.outer_offset is None else stored
    if tensor.zero_point_level is not None:
        operations += stored
    if tensor.zero_point is not None:
        operations += inputs * groups + outputs
    if encoded is not None:
        runs = ceil_div(spec.absorbed, encoded.granularity.tile((1, spec.absorbed))[1])
        operations += outputs * runs * ((encoded.scale is not None and runs > 1) + (encoded.zero_point is not None))
    return operations
