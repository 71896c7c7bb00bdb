"""From a quantized layer to its plan: where arrays lie, which arithmetic multiplies, how inputs are encoded.

What the headers cannot hold is refused here, in words of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from datatypes.catalog import FP16, FP32, INT32
from datatypes.format import FloatFormat, IntFormat, LearnedFormat
from datatypes.layer_config import SecondLevel, TensorConfig
from datatypes.layer_packing import pack_layer
from datatypes.packing import pack_field, pack_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hls.c_arithmetics import Pair, arithmetic_of, bitmod_of
from hls.c_types import CArithmetic, value_type
from hls.layer_options import LayerOptions
from hls.layer_parts import DensePart, dense_parts, group_size, has_exact_scale, is_csr, outer_is_last, tile_columns
from hls.layer_plan import (
    FactorPlan,
    FieldPlan,
    LayerPlan,
    OutlierPlan,
    PartPlan,
    StagePlan,
    WeightImage,
    tiled_field,
)
from hls.mixture import mixture_of
from hls.stage_planning import input_stage, plan_stage
from hwmodel.unit_cost_design import Arithmetic


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
    image = WeightImage()
    stored = pack_layer(layer)
    stage = input_stage(layer, options)
    planned = tuple(_plan_part(part, layer, stage, options, image) for part in parts)
    smoothing = None
    if layer.config.smoothing is not None:
        beat = image.add("smoothing", stored["smoothing"])
        smoothing = FieldPlan(value_type(layer.config.smoothing), 1, 1, k, beat)
    low_rank, middle, result = None, None, None
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        low_rank = (
            _plan_factor(layer.low_rank_a, "low_rank_a", image),
            _plan_factor(layer.low_rank_b, "low_rank_b", image),
        )
        if layer.config.activation is not None:
            middle = plan_stage(layer.config.activation, low_rank[0].rows, options.tokens)
            result = plan_stage(layer.config.activation, n, options.tokens)
    outliers = _plan_outliers(layer, stored, options, image)
    bias_field = None
    if bias is not None:
        if bias.shape != (n,):
            raise ValueError(f"bias must have the shape [{n}], not {list(bias.shape)}")
        bias_field = FieldPlan(value_type(FP32), 1, 1, n, image.add("bias", torch.from_numpy(bias.astype(np.float32))))
    output = layer.config.output
    fp16 = output is not None and output.scale is None and output.formats == (FP16,)
    output_stage = None if output is None or fp16 else plan_stage(output, n, options.tokens)
    if output_stage is not None and output_stage.rule == "range":
        raise NotImplementedError("codes of an output have no zero point: use a symmetric output format")
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
    )


# --- parts -----------------------------------------------------------------------------------------------------------


def _plan_part(
    part: DensePart, layer: QuantizedLayer, stage: StagePlan, options: LayerOptions, image: WeightImage
) -> PartPlan:
    tensor, config, shape = part.tensor, part.config, part.tensor.shape
    group = group_size(part, layer.config.activation, options.tokens)
    arrays = pack_tensor(replace(tensor, residual=None, config=replace(config, residual=None)))
    beats = {key: image.add(f"{part.name}.{key}", array) for key, array in arrays.items()}
    fields: dict[str, FieldPlan] = {}
    if config.scale is not None:
        fields["scale"] = tiled_field(value_type(config.scale.format), config.granularity, shape, beats["scale"])
        _level_fields(fields, config.scale.second_level, "outer_scale", "outer_offset", beats, shape)
    zero, one_code, one_exponent = _zero_kind(config)
    if config.zero_point is not None:
        fields["zero_point"] = tiled_field(
            value_type(config.zero_point), config.granularity, shape, beats["zero_point"]
        )
        _level_fields(fields, config.zero_point_level, "zero_point_scale", "zero_point_offset", beats, shape)
    if config.selector_bits:
        value = f"codesign::integer_value<{config.selector_bits}, false>"
        fields["selector"] = tiled_field(value, config.selector_granularity, shape, beats["selector"])
    if config.codebook is not None:
        if config.codebook.format != FP16 or tile_columns(config.codebook.granularity, shape) < part.columns:
            raise NotImplementedError("learned codebooks must hold fp16 and cover whole rows")
        per_tile = config.formats[0].dim << config.formats[0].bits
        fields["codebook"] = tiled_field(
            "codesign::raw_value<16>", config.codebook.granularity, shape, beats["codebook"], per_tile
        )
    if config.row_scale is not None:
        fields["row_scale"] = FieldPlan(value_type(config.row_scale), 1, part.columns, shape[0], beats["row_scale"])
    if part.gathered:
        beat = image.add(f"{part.name}.gather", torch.from_numpy(part.inputs.astype(np.int32)))
        fields["gather"] = FieldPlan("codesign::integer_value<32, false>", 1, 1, part.columns, beat)
    return PartPlan(
        columns=part.columns,
        code_bits=config.formats[0].bits,
        code_dim=config.formats[0].dim,
        codes_beat=beats["codes"],
        group=group,
        arithmetic=_arithmetic(config, stage, options, group),
        fields=fields,
        exact_scale=has_exact_scale(part, layer.config.activation),
        outer_last=outer_is_last(part),
        zero=zero,
        one_code=one_code,
        one_exponent=one_exponent,
    )


def _level_fields(
    fields: dict[str, FieldPlan],
    level: SecondLevel | None,
    scale: str,
    offset: str,
    beats: Mapping[str, int],
    shape: tuple[int, int],
) -> None:
    if level is None:
        return
    fields[scale] = tiled_field(value_type(level.scale), level.granularity, shape, beats[scale])
    if level.offset is not None:
        fields[offset] = tiled_field(value_type(level.offset), level.offset_tiles, shape, beats[offset])


def _zero_kind(config: TensorConfig) -> tuple[str, int, int]:
    """C++ enumerator of the zero point, and a weight code that is a power of two with its exponent."""
    if config.zero_point is None:
        return "none", 0, 0
    fmt = config.formats[0]
    if len(config.formats) > 1 or fmt.dim > 1 or isinstance(fmt, LearnedFormat):
        raise NotImplementedError(f"zero points go with one format of single numbers, not with {fmt.name}")
    if isinstance(config.zero_point, IntFormat) and config.zero_point_level is None:
        if not isinstance(fmt, IntFormat) or fmt.signed_codes or config.zero_point.signed_codes:
            raise NotImplementedError(f"integer zero points go with unsigned codes, not with {fmt.name}")
        if config.zero_point.bits > fmt.bits:
            raise NotImplementedError(
                f"zero points must be as wide as the codes of {fmt.name}, not {config.zero_point.name}"
            )
        return "before_product", 0, 0
    mantissas, exponents = np.frexp(fmt.code_values)
    powers = np.flatnonzero(mantissas == 0.5)
    if not len(powers):
        raise NotImplementedError(f"real zero points need a code that is a power of two, which {fmt.name} has not")
    code = int(powers[0])
    return "real" if isinstance(config.zero_point, FloatFormat) else "in_codes", code, int(exponents[code]) - 1


def _arithmetic(config: TensorConfig, stage: StagePlan, options: LayerOptions, group: int) -> CArithmetic:
    activation = stage.code_format
    if options.arithmetic is Arithmetic.BITMOD:
        if config.scale is None or config.zero_point is not None:
            raise NotImplementedError("BitMoD's PE takes weights with a scale and without zero points")
        if group % options.lanes and options.lanes > 4:
            raise ValueError(f"lanes of BitMoD's PE must divide groups of {group} or be 4, not {options.lanes}")
        return bitmod_of(config.formats, activation, scale=config.scale.format, lanes=options.lanes, group=group)
    if len(config.formats) > 1:
        return mixture_of(config.formats, activation, options, group)
    pair = Pair(config.formats[0], activation, options.lanes, group, options.accumulator)
    return arithmetic_of(pair, options.arithmetic)


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
    layer: QuantizedLayer, stored: Mapping[str, Tensor], options: LayerOptions, image: WeightImage
) -> OutlierPlan | None:
    config, outliers, n = layer.config.outliers, layer.outliers, layer.shape[0]
    if config is None or outliers is None or not outliers.columns.numel():
        return None
    count = len(outliers.columns)
    values_beat = image.add("outliers.values", stored["outliers.values"])
    value = value_type(config.format)
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
    bounds = np.append(np.arange(0, n, options.tile_rows), n)
    return OutlierPlan(
        values=FieldPlan(value, 1, 1, count, values_beat),
        index=FieldPlan(f"codesign::integer_value<{index_format.bits}, false>", 1, 1, count, index_beat),
        pointers=FieldPlan(f"codesign::integer_value<{pointer_format.bits}, false>", 1, 1, n + 1, pointer_beat),
        most=max(1, int(np.diff(starts[bounds]).max())),
    )
