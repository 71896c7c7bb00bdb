"""From a dense part of a layer to its plan: where its arrays lie, which arithmetic multiplies, in which groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from datatypes.catalog import FP16
from datatypes.channel_groups import ChannelGroups
from datatypes.format import FloatFormat, Format, IntFormat, LearnedFormat
from datatypes.layer_config import SecondLevel, SparsityConfig, TensorConfig
from datatypes.packing import pack_flat, pack_tensor
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import value_table
from hls.bitmod_arithmetic import RUNTIME_CODE_BITS, RUNTIME_SELECTOR_BITS, bitmod_of, runtime_bitmod_of
from hls.c_arithmetics import Pair, arithmetic_of, mapped, tender_of
from hls.c_types import CArithmetic, largest_integer, value_type
from hls.channel_slabs import groups_of, slab_sum_bits, slabs
from hls.layer_options import LayerOptions
from hls.layer_parts import DensePart, group_size, has_exact_scale, outer_is_last, tile_columns
from hls.layer_plan import FieldPlan, PartPlan, StagePlan, WeightImage, tiled_field
from hls.mixture import mixture_of
from hwmodel.channel_groups import plain_activation
from hwmodel.unit_cost_design import Arithmetic


def plan_part(
    part: DensePart, layer: QuantizedLayer, stage: StagePlan, options: LayerOptions, image: WeightImage
) -> PartPlan:
    """One part of a layer; its arrays are put into ``image``.

    Raises:
        NotImplementedError: something in the part that no header holds; the message names it.
        ValueError: lanes or rows that do not fit.
    """
    groups = groups_of(layer)
    starts: tuple[int, ...] = ()
    if groups is not None:
        ordered, inputs, starts = slabs(part.tensor, groups, options.lanes)
        part = DensePart(part.name, ordered, inputs)
    tensor, config, shape = part.tensor, part.config, part.tensor.shape
    sparsity = SparsityConfig(1, 1) if config.sparsity is None else config.sparsity
    _check_cut(part, sparsity, options)
    group = group_size(part, plain_activation(layer.config.activation))
    arrays = pack_tensor(replace(tensor, residual=None, config=replace(config, residual=None)))
    if options.runtime_formats:
        del arrays["codes"]  # placed_last
    beats = {key: image.add(f"{part.name}.{key}", array) for key, array in arrays.items() if array.numel()}
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
    elif options.runtime_formats:  # integers have none: of no meaning, but of the same image
        tiles = torch.zeros(config.granularity.scale_shape(shape), dtype=torch.uint8)
        beats["selector"] = image.add(f"{part.name}.selector", pack_flat(tiles, RUNTIME_SELECTOR_BITS))
        value = f"codesign::integer_value<{RUNTIME_SELECTOR_BITS}, false>"
        fields["selector"] = tiled_field(value, config.granularity, shape, beats["selector"])
    if config.codebook is not None:
        if config.codebook.format != FP16 or tile_columns(config.codebook.granularity, shape) < part.columns:
            raise NotImplementedError("learned codebooks must hold fp16 and cover whole rows")
        per_tile = config.formats[0].dim << config.formats[0].bits
        fields["codebook"] = tiled_field(
            "codesign::raw_value<16>", config.codebook.granularity, shape, beats["codebook"], per_tile
        )
    if sparsity.block > 1:  # blocks of one column have no places to choose from
        places, bits = shape[0] * sparsity.kept_columns(part.columns), (sparsity.block - 1).bit_length()
        fields["mask"] = FieldPlan(f"codesign::raw_value<{bits}>", 1, 1, places, beats["mask"])
    if config.column_scale is not None:
        fields["column_scale"] = FieldPlan(value_type(config.column_scale), 1, 1, part.columns, beats["column_scale"])
    if config.row_scale is not None:
        fields["row_scale"] = FieldPlan(value_type(config.row_scale), 1, part.columns, shape[0], beats["row_scale"])
    if part.gathered:
        beat = image.add(f"{part.name}.gather", torch.from_numpy(part.inputs.astype(np.int32)))
        fields["gather"] = FieldPlan("codesign::integer_value<32, false>", 1, 1, part.columns, beat)
    idle_weight, idle_activation = _idle_codes(config, stage, _has_idle_lanes(part.columns, group, sparsity, options))
    return PartPlan(
        columns=part.columns,
        code_bits=RUNTIME_CODE_BITS if options.runtime_formats else config.formats[0].bits,
        code_dim=part.code_columns,
        codes_beat=beats.get("codes", 0),
        group=group,
        arithmetic=mapped(
            _arithmetic(config, stage, options, sparsity.kept_columns(group))
            if groups is None
            else _slab_arithmetic(config, stage, options, groups),
            options.mapping,
        ),
        fields=fields,
        exact_scale=has_exact_scale(part, plain_activation(layer.config.activation)),
        outer_last=outer_is_last(part),
        zero=zero,
        one_code=one_code,
        one_exponent=one_exponent,
        outputs=part.code_rows,
        kept=sparsity.kept,
        block=sparsity.block,
        idle_weight=idle_weight,
        idle_activation=idle_activation,
        slabs=starts,
        runtime_bits=config.formats[0].bits if options.runtime_formats else 0,
    )


def placed_last(plan: PartPlan, part: DensePart, image: WeightImage) -> PartPlan:
    """A part whose format is chosen at run time, its codes behind all else: no place depends on their width."""
    codes = pack_tensor(replace(part.tensor, residual=None, config=replace(part.config, residual=None)))["codes"]
    return replace(plan, codes_beat=image.add(f"{part.name}.codes", codes))


def _check_cut(part: DensePart, sparsity: SparsityConfig, options: LayerOptions) -> None:
    """Lanes and rows of a tile hold whole codes and blocks."""
    if options.tile_rows % part.code_rows:
        raise ValueError(
            f"tile_rows must hold whole vectors of {part.code_rows} outputs, which codes of "
            f"{part.config.formats[0].name} span, not {options.tile_rows}"
        )
    if options.lanes % sparsity.kept:
        raise ValueError(
            f"lanes must hold whole blocks of {sparsity.kept} kept columns of a sparse weight, not {options.lanes}"
        )


def _has_idle_lanes(columns: int, group: int, sparsity: SparsityConfig, options: LayerOptions) -> bool:
    """Whether a step of some group has lanes beyond it."""
    lengths = (min(group, columns), columns % group)
    return any(sparsity.kept_columns(length) % options.lanes for length in lengths)


def _idle_codes(config: TensorConfig, stage: StagePlan, needed: bool) -> tuple[int, int]:
    """Codes of weight and activation in lanes beyond a group: one of them is zero, so that nothing is added."""
    weight, activation = _zero_of_all(config), _zero_of(stage.code_format)
    if activation is None and weight is None and needed:
        raise NotImplementedError(
            f"lanes beyond a group need a code of value zero, which neither {config.formats[0].name} nor "
            f"{stage.code_format.name} has: use lanes that divide every group"
        )
    return weight or 0, activation or 0


def _zero_of(fmt: Format) -> int | None:
    """The lowest code that stands for zeros alone; ``None`` where there is none."""
    if isinstance(fmt, IntFormat | FloatFormat):
        return 0  # no exponent, no mantissa
    if isinstance(fmt, LearnedFormat):
        return None
    zeros = (value_table(fmt).reshape(1 << fmt.bits, -1) == 0).all(1).nonzero()
    return int(zeros[0]) if len(zeros) else None


def _zero_of_all(config: TensorConfig) -> int | None:
    """A code of value zero whichever format a selector picks."""
    codes = {_zero_of(fmt) for fmt in config.formats}
    return next(iter(codes)) if len(codes) == 1 else None


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
        if config.scale is None or config.zero_point is not None or config.sparsity is not None:
            raise NotImplementedError("BitMoD's PE takes dense weights with a scale and without zero points")
        if group % options.lanes and options.lanes > 4:
            raise ValueError(f"lanes of BitMoD's PE must divide groups of {group} or be 4, not {options.lanes}")
        made = runtime_bitmod_of if options.runtime_formats else bitmod_of
        return made(config.formats, activation, scale=config.scale.format, lanes=options.lanes, group=group)
    if len(config.formats) > 1:
        return mixture_of(config.formats, activation, options, group)
    pair = Pair(config.formats[0], activation, options.lanes, group, options.accumulator, config.vectors_along_output)
    return arithmetic_of(pair, options.arithmetic)


def _slab_arithmetic(
    config: TensorConfig, stage: StagePlan, options: LayerOptions, groups: ChannelGroups
) -> CArithmetic:
    """The arithmetic of an input in channel groups."""
    if options.arithmetic not in (Arithmetic.PARALLEL, Arithmetic.BLOCK) or config.zero_point is not None:
        raise NotImplementedError("channel groups go with parallel integers without zero points")
    weight, activation = config.formats[0], stage.code_format
    bits = slab_sum_bits(groups, largest_integer(weight), largest_integer(activation))
    return tender_of(Pair(weight, activation, options.lanes, options.lanes), bits)
