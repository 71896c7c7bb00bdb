"""From a quantized layer to its plan: where arrays lie, which arithmetic multiplies, how inputs are encoded.

What the headers cannot hold is refused here, in words of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from datatypes.catalog import E8M0, FP16, FP32, INT32
from datatypes.channel_groups_config import ChannelGroupsConfig
from datatypes.layer_packing import pack_layer
from datatypes.packing import pack_field, pack_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.c_types import value_type
from hls.channel_slabs import channel_weights, groups_of, with_correction
from hls.layer_options import LayerOptions
from hls.layer_outliers import codes_are_cleared, is_csr, outlier_values
from hls.layer_parts import dense_parts
from hls.layer_plan import FactorPlan, FieldPlan, LayerPlan, OutlierPlan, WeightImage, tiled_field
from hls.part_planning import placed_last, plan_part
from hls.part_shape import tile_blocks
from hls.stage_planning import input_stage, plan_stage
from hwmodel.channel_groups import plain_activation


def plan_layer(
    layer: QuantizedLayer,
    *,
    bias: np.ndarray | None = None,
    options: LayerOptions | None = None,
) -> LayerPlan:
    """Everything about a layer that is generated.

    Args:
        layer: the quantized layer.
        bias: float32 ``[n]``.
        options: defaults as ``LayerOptions``.

    Raises:
        NotImplementedError: something in the layer that no header holds; the message names it.
        ValueError: options that do not fit the layer.
    """
    options = LayerOptions() if options is None else options
    n, k = layer.shape
    if n < 1 or k < 1:
        raise ValueError(f"an exported layer must have outputs and inputs, not the shape {layer.shape!r}")
    parts = dense_parts(layer)
    rotations = {part.config.hadamard for part in parts if "residual" not in part.name}
    if len(rotations) > 1 or (rotations != {0} and (k % next(iter(rotations)))):
        raise NotImplementedError(
            f"a layer's rotation must be one that divides its {k} inputs, not {sorted(rotations)!r}"
        )
    if options.runtime_formats and len(parts) > 1:
        raise NotImplementedError("formats chosen at run time go with one weight matrix, not with parts or a residual")
    image = WeightImage()
    stored = pack_layer(layer)
    stage = input_stage(layer, options)
    planned = tuple(plan_part(part, layer, stage, options, image) for part in parts)
    smoothing, offset = _plan_channels(layer, image)
    if layer.config.smoothing is not None:
        beat = image.add("smoothing", stored["smoothing"])
        smoothing = FieldPlan(value_type(layer.config.smoothing), 1, 1, k, beat)
    low_rank, middle, result = None, None, None
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        low_rank = (
            _plan_factor(layer.low_rank_a, "low_rank_a", image),
            _plan_factor(layer.low_rank_b, "low_rank_b", image),
        )
        activation = plain_activation(layer.config.activation)
        if activation is not None:
            middle = plan_stage(activation, low_rank[0].rows, options.tokens)
            result = plan_stage(activation, n, options.tokens)
    blocks = tile_blocks(planned, n, options)
    outliers = _plan_outliers(layer, stored, blocks * options.tile_rows, image)
    bias_field = None
    if bias is not None and bias.shape != (n,):
        raise ValueError(f"bias must have the shape [{n}], not {list(bias.shape)}")
    bias = with_correction(groups_of(layer), bias)
    if bias is not None:
        bias_field = FieldPlan(value_type(FP32), 1, 1, n, image.add("bias", torch.from_numpy(bias.astype(np.float32))))
    output = layer.config.output
    fp16 = output is not None and output.scale is None and output.formats == (FP16,)
    output_stage = None if output is None or fp16 else plan_stage(output, n, options.tokens)
    if output_stage is not None and output_stage.rule == "range":
        raise NotImplementedError("codes of an output have no zero point: use a symmetric output format")
    if options.runtime_formats:
        planned = (placed_last(planned[0], parts[0], image),)
    return LayerPlan(
        shape=(n, k),
        options=options,
        parts=planned,
        input=stage,
        hadamard=next(iter(rotations)),
        smoothing=smoothing,
        bias=bias_field,
        low_rank=low_rank,
        middle=middle,
        result=result,
        outliers=outliers,
        output=output_stage,
        fp16_output=fp16,
        arrays=tuple(image.arrays),
        image=image.words(),
        normalised=layer.config.output_norm,
        blocks=blocks,
        offset=offset,
    )


def _plan_channels(layer: QuantizedLayer, image: WeightImage) -> tuple[FieldPlan | None, FieldPlan | None]:
    """Where the stage finds what divides each input in channel groups, and its bias."""
    groups, config, k = groups_of(layer), layer.config.activation, layer.shape[1]
    if groups is None or not isinstance(config, ChannelGroupsConfig):
        return None, None
    weights = torch.from_numpy(channel_weights(groups))
    divisors = FieldPlan(value_type(E8M0), 1, 1, k, image.add("activation.divisors", pack_field(weights, E8M0)))
    if config.bias is None or groups.bias is None:
        return divisors, None
    beat = image.add("activation.bias", pack_field(groups.bias[0], config.bias))
    return divisors, FieldPlan(value_type(config.bias), 1, 1, k, beat)


# --- branches --------------------------------------------------------------------------------------------------------


def _plan_factor(tensor: QuantizedTensor, name: str, image: WeightImage) -> FactorPlan:
    config, shape = tensor.config, tensor.shape
    fmt, level = config.formats[0], None if config.scale is None else config.scale.second_level
    simple = len(config.formats) == 1 and fmt.dim == 1 and config.zero_point is None and config.residual is None
    vectors = config.row_scale is not None or config.column_scale is not None or config.sparsity is not None
    if not simple or vectors or config.codebook is not None or (level is not None and level.offset is not None):
        raise NotImplementedError(f"low-rank factors are numbers with scales of one or two levels, not {config!r}")
    beats = {key: image.add(f"{name}.{key}", array) for key, array in pack_tensor(tensor).items()}
    scale = outer = None
    if config.scale is not None:
        scale = tiled_field(value_type(config.scale.format), config.granularity, shape, beats["scale"])
    if level is not None:
        outer = tiled_field(value_type(level.scale), level.granularity, shape, beats["outer_scale"])
    return FactorPlan(value_type(fmt), shape[0], shape[1], beats["codes"], scale, outer)


def _plan_outliers(
    layer: QuantizedLayer, stored: Mapping[str, Tensor], height: int, image: WeightImage
) -> OutlierPlan | None:
    config, outliers, n = layer.config.outliers, layer.outliers, layer.shape[0]
    if config is None or outliers is None or not outliers.columns.numel():
        return None
    count = len(outliers.columns)
    if codes_are_cleared(layer):
        value, values_beat = value_type(config.format), image.add("outliers.values", stored["outliers.values"])
    else:
        value, values_beat = value_type(FP32), image.add("outliers.differences", outlier_values(layer))
    if not is_csr(layer):
        values = FieldPlan(value, 1, 1, n * count, values_beat)
        index_beat = image.add("outliers.columns", stored["outliers.columns"])
        index = FieldPlan(f"codesign::integer_value<{config.index.bits}, false>", 1, 1, count, index_beat)
        return OutlierPlan(values, index, None, count)
    assert outliers.row_pointers is not None
    index_format, pointer_format = config.index, config.row_pointer
    if "outliers.columns" in stored:
        columns, pointers = stored["outliers.columns"], stored["outliers.row_pointers"]
    else:  # a bitmap becomes indices: a row's outliers are then read without looking at its other columns
        index_format, pointer_format = INT32, INT32
        columns, pointers = pack_field(outliers.columns, INT32), pack_field(outliers.row_pointers, INT32)
    index_beat = image.add("outliers.columns", columns)
    pointer_beat = image.add("outliers.row_pointers", pointers)
    starts = outliers.row_pointers.numpy()
    bounds = np.append(np.arange(0, n, height), n)
    return OutlierPlan(
        values=FieldPlan(value, 1, 1, count, values_beat),
        index=FieldPlan(f"codesign::integer_value<{index_format.bits}, false>", 1, 1, count, index_beat),
        pointers=FieldPlan(f"codesign::integer_value<{pointer_format.bits}, false>", 1, 1, n + 1, pointer_beat),
        most=max(1, int(np.diff(starts[bounds]).max())),
    )
