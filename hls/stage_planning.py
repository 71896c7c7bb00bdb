"""Plans of the stages that encode rows of floats: inputs, outputs, intermediates of the low-rank branch."""

from __future__ import annotations

from datatypes.catalog import FP16
from datatypes.format import CodebookFormat, FloatFormat, IntFormat, Tie
from datatypes.layer_config import ScaleRule, TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from hls.channel_slabs import groups_of, last_scale
from hls.input_reference import INPUT_SCALE_NOTE
from hls.layer_options import LayerOptions
from hls.layer_parts import tile_columns
from hls.layer_plan import StagePlan
from hwmodel.channel_groups import plain_activation

_RULES = {
    ScaleRule.ABSMAX: "absmax",
    ScaleRule.RANGE: "range",
    ScaleRule.POW2_FLOOR: "pow2_floor",
    ScaleRule.POW2_CEIL: "pow2_ceil",
    ScaleRule.LQER_CEIL: "lqer_ceil",
}


def plan_stage(config: TensorConfig, columns: int, tokens: int, static_scale: float | None = None) -> StagePlan:
    """The stage that encodes rows of ``columns`` floats as ``config`` says.

    Raises:
        NotImplementedError: no stage encodes so.
        ValueError: a static config without its scale.
    """
    fmt = config.formats[0]
    plain = len(config.formats) == 1 and fmt.dim == 1 and config.residual is None and not config.hadamard
    known = isinstance(fmt, IntFormat | CodebookFormat) or (
        isinstance(fmt, FloatFormat) and fmt.bits == 1 + fmt.exponent_bits + fmt.mantissa_bits and fmt.sign_bits == 1
    )
    if not (plain and known and fmt.bits <= 16 and (fmt.bits <= 8 or fmt == FP16)) or (
        fmt.tie is not Tie.EVEN and not isinstance(fmt, CodebookFormat)
    ):
        raise NotImplementedError(f"no activation stage makes codes of {', '.join(f.name for f in config.formats)}")
    if config.scale is None:
        return StagePlan(columns, fmt, None, "none", columns)
    if fmt == FP16:
        raise NotImplementedError("activations of fp16 have no scale")
    scale = config.scale
    if scale.rule not in _RULES:
        raise NotImplementedError(f"no activation stage computes scales by the rule {scale.rule.value}")
    shape = (max(tokens, 2), columns)
    rows, width = config.granularity.tile(shape)
    if rows not in (1, shape[0]) or (rows > 1 and width < columns):
        raise NotImplementedError("activation scales belong to a token, a group of it, or to all tokens")
    level = scale.second_level
    if level is not None and (level.offset is not None or tile_columns(level.granularity, shape) < columns):
        raise NotImplementedError("second-level scales of activations belong to whole tokens and have no offset")
    if scale.rule is ScaleRule.RANGE:
        zero = config.zero_point
        fits = isinstance(zero, IntFormat) and isinstance(fmt, IntFormat) and fmt.step == 1 and level is None
        if not fits or config.zero_point_level is not None or not config.dynamic:
            raise NotImplementedError("zero points of activations are integers that follow from the values")
        assert isinstance(zero, IntFormat)
        if zero.minimum > fmt.minimum or zero.maximum < fmt.maximum:
            raise NotImplementedError(f"zero points must hold every code of {fmt.name}, not be {zero.name}")
    elif config.zero_point is not None:
        raise NotImplementedError("zero points of activations come with the rule range")
    if not config.dynamic and static_scale is None:
        raise ValueError(f"a static activation scale must be in the layer's notes as {INPUT_SCALE_NOTE}, not absent")
    return StagePlan(
        columns=columns,
        format=fmt,
        scale=scale.format,
        rule=_RULES[scale.rule],
        tile_columns=min(width, columns),
        per_token=rows == 1,
        outer=None if level is None else level.scale,
        outer_per_token=level is None or level.granularity.tile(shape)[0] == 1,
        static_scale=None if config.dynamic else static_scale,
    )


def input_stage(layer: QuantizedLayer, options: LayerOptions) -> StagePlan:
    """The stage in front of a layer; FP16 where its input is not quantized."""
    k, config = layer.shape[1], plain_activation(layer.config.activation)
    if config is None:
        return StagePlan(k, FP16, None, "none", k)
    groups = groups_of(layer)
    if groups is not None:
        return plan_stage(config, k, options.tokens, last_scale(groups))
    note = layer.notes.get(INPUT_SCALE_NOTE)
    return plan_stage(config, k, options.tokens, None if note is None else float(note))
