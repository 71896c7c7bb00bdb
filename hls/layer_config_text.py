"""The C++ config of a planned layer: the structs that ``hls/include/codesign/layer.h`` is templated on.

Only numbers, names that ``hls.names`` made, and C++ types of this project go into the text.
"""

from __future__ import annotations

import math

import numpy as np

from datatypes.catalog import FP16
from datatypes.format import CodebookFormat, FloatFormat, Format, IntFormat
from hls.bitmod_arithmetic import RUNTIME_FORMATS, bitmod_register
from hls.c_types import flag, value_type
from hls.layer_plan import FactorPlan, FieldPlan, LayerPlan, OutlierPlan, PartPlan, StagePlan

_PART_FIELDS = (
    "scale", "outer_scale", "outer_offset", "zero_point", "zero_point_scale", "zero_point_offset", "selector",
    "codebook", "mask", "row_scale", "column_scale", "gather",
)  # fmt: skip


def config_text(plan: LayerPlan, name: str) -> str:
    """The config header of a layer.

    Args:
        plan: the layer.
        name: an identifier; every struct's name starts with it.
    """
    guard = f"{name.upper()}_CONFIG_H"
    headers = "".join(f'#include "codesign/{header}"\n' for header in plan.headers)
    structs = [_part_text(part, f"{name}_part_{index}") for index, part in enumerate(plan.parts)]
    structs.append(_input_text(plan, f"{name}_input"))
    for what, stage in (("middle", plan.middle), ("result", plan.result), ("output", plan.output)):
        if stage is not None:
            structs.append(stage_text(stage, f"{name}_{what}"))
    structs.append(_layer_text(plan, name))
    body = "\n".join(structs)
    return f'#ifndef {guard}\n#define {guard}\n\n#include "codesign/layer.h"\n{headers}\n{body}\n#endif\n'


def _layer_text(plan: LayerPlan, name: str) -> str:
    parts = ", ".join(f"{name}_part_{index}" for index in range(len(plan.parts)))
    output = "codesign::fp16_output" if plan.fp16_output else "codesign::fp32_output"
    if plan.output is not None:
        output = f"codesign::stage_output<{name}_output>"
    factors = (None, None) if plan.low_rank is None else plan.low_rank
    members = {
        "input": f"{name}_input",
        "parts": f"codesign::parts<{parts}>",
        "low_rank_a": _factor(factors[0]),
        "low_rank_b": _factor(factors[1]),
        "low_rank_middle": "codesign::no_stage" if plan.middle is None else f"{name}_middle",
        "low_rank_result": "codesign::no_stage" if plan.result is None else f"{name}_result",
        "outliers": _outliers(plan.outliers),
        "bias": _field(plan.bias),
        "output": output,
    }
    sizes = {
        "n": plan.shape[0],
        "k": plan.shape[1],
        "tokens": plan.options.tokens,
        "lanes": plan.options.lanes,
        "tile_rows": plan.rows_on_chip,
        "parallel_rows": plan.options.tile_rows,
        "beats": plan.most_beats,
    }
    norm = _flag("normalised", plan.normalised)
    return _struct(
        f"{name}_config", [_integers(sizes), norm, *(f"using {key} = {text};" for key, text in members.items())]
    )


def _struct(name: str, lines: list[str]) -> str:
    return f"struct {name} {{\n" + "".join(f"  {line}\n" for line in lines) + "};\n"


def _integers(values: dict[str, int]) -> str:
    return "static constexpr int " + ", ".join(f"{key} = {value}" for key, value in values.items()) + ";"


def _flag(name: str, value: bool) -> str:
    return f"static constexpr bool {name} = {flag(value)};"


def _real(name: str, value: float) -> str:
    return f"static constexpr float {name} = {_float(value)};"


def _float(value: float) -> str:
    """A float32 literal, exact."""
    assert math.isfinite(value) and float(np.float32(value)) == value
    return f"{value.hex()}F"


def _field(plan: FieldPlan | None) -> str:
    if plan is None:
        return "codesign::no_field"
    per_tile = f", {plan.per_tile}" if plan.per_tile > 1 else ""
    return f"codesign::field<{plan.value}, {plan.tile_rows}, {plan.tile_columns}, {plan.count}, {plan.beat}{per_tile}>"


def _factor(plan: FactorPlan | None) -> str:
    if plan is None:
        return "codesign::no_factor"
    levels = f"{_field(plan.scale)}, {_field(plan.outer_scale)}"
    return f"codesign::factor<{plan.value}, {plan.rows}, {plan.columns}, {plan.beat}, {levels}>"


def _outliers(plan: OutlierPlan | None) -> str:
    if plan is None:
        return "codesign::no_outliers"
    if plan.pointers is None:
        return f"codesign::outlier_columns<{_field(plan.values)}, {_field(plan.index)}, {plan.most}>"
    fields = ", ".join(_field(part) for part in (plan.values, plan.index, plan.pointers))
    return f"codesign::outlier_rows<{fields}, {plan.most}>"


def _part_text(part: PartPlan, name: str) -> str:
    registers = part.arithmetic.registers or (0,)
    if part.runtime_bits:  # the same text for every format: one of the fewest cycles, which the scaling keeps pace with
        registers = (bitmod_register(RUNTIME_FORMATS["bitmod_fp4"]),)
    words = ", ".join(f"{word}U" for word in registers)
    return _struct(
        name,
        [
            _integers({"columns": part.columns, "code_bits": part.code_bits, "code_dim": part.code_dim}),
            _integers({"codes_beat": part.codes_beat, "group": part.group}),
            _integers({"outputs": part.outputs, "kept": part.kept, "block": part.block}),
            f"using arithmetic = {part.arithmetic.type};",
            *(f"using {member} = {_field(part.fields.get(member))};" for member in _PART_FIELDS),
            _flag("exact_scale", part.exact_scale),
            _flag("outer_last", part.outer_last),
            f"static constexpr codesign::zero_kind zero = codesign::zero_kind::{part.zero};",
            _integers({"one_code": part.one_code, "one_exponent": part.one_exponent}),
            _integers({"idle_weight": part.idle_weight, "idle_activation": part.idle_activation}),
            f"static constexpr std::uint32_t registers[{len(registers)}] = {{{words}}};",
            *_slabs(part),
            *([_flag("runtime_format", True)] if part.runtime_bits else []),
        ],
    )


def _slabs(part: PartPlan) -> list[str]:
    if not part.slabs:
        return []
    return [f"static constexpr int slabs[{len(part.slabs)}] = {{{', '.join(str(step) for step in part.slabs)}}};"]


def _input_text(plan: LayerPlan, name: str) -> str:
    root = float(np.float32(max(plan.hadamard, 1) ** 0.5))
    more = [
        f"using smoothing = {_field(plan.smoothing)};",
        *([f"using offset = {_field(plan.offset)};"] if plan.offset is not None else []),
        _integers({"hadamard": plan.hadamard}),
        _real("hadamard_root", root),
    ]
    return stage_text(plan.input, name, more)


def stage_text(stage: StagePlan, name: str, more: list[str] | None = None) -> str:
    """The struct ``name`` of a stage, with further lines in it."""
    outer = "codesign::no_value" if stage.outer is None else value_type(stage.outer)
    scale_maximum = 0.0 if stage.scale is None or stage.outer is None else stage.scale.maximum
    text = _struct(
        name,
        [
            _integers({"columns": stage.columns, "tile_columns": stage.tile_columns}),
            f"using quantizer = {quantizer_type(stage.format, name)};",
            f"using scale = {'codesign::fp32_value' if stage.scale is None else value_type(stage.scale)};",
            f"using outer_scale = {outer};",
            f"static constexpr codesign::scale_rule rule = codesign::scale_rule::{stage.rule};",
            _flag("per_token", stage.per_token),
            _flag("outer_per_token", stage.outer_per_token),
            _flag("dynamic", stage.static_scale is None),
            _real("static_scale", 0.0 if stage.static_scale is None else float(np.float32(stage.static_scale))),
            _real("scale_maximum", scale_maximum),
            *(more or []),
        ],
    )
    return table_text(stage.format, name) + text


def quantizer_type(fmt: Format, name: str) -> str:
    """C++ type that encodes floats as ``fmt``; that of a codebook reads the struct ``<name>_table``."""
    if fmt == FP16:
        return "codesign::fp16_quantizer"
    if isinstance(fmt, IntFormat):
        unit = math.frexp(fmt.step)[1] - 1
        low, high = int(fmt.minimum / fmt.step), int(fmt.maximum / fmt.step)
        return f"codesign::integer_quantizer<{fmt.bits}, {low}, {high}, {unit}>"
    if isinstance(fmt, FloatFormat):
        top = int(fmt.level_codes[-1])
        keeps_sign = fmt.negative_zero_code is not None
        fields = f"{fmt.exponent_bits}, {fmt.mantissa_bits}, {fmt.exponent_bias}, {top}, {flag(keeps_sign)}"
        return f"codesign::minifloat_quantizer<{fields}>"
    return f"codesign::table_quantizer<{name}_table>"


def table_text(fmt: Format, name: str) -> str:
    """The struct ``<name>_table``: thresholds, codes and values of a codebook format; nothing for others."""
    if not isinstance(fmt, CodebookFormat):
        return ""
    thresholds = ", ".join(_float(float(value)) for value in fmt.thresholds)
    codes = ", ".join(str(int(code)) for code in fmt.level_codes)
    values = ", ".join(_float(float(value)) for value in fmt.code_values)
    lines = [
        _integers({"bits": fmt.bits, "levels": len(fmt.levels)}),
        _real("absmax", fmt.absmax),
        _real("minimum", fmt.minimum),
        _real("maximum", fmt.maximum),
        f"static constexpr float thresholds[] = {{{thresholds}}};",
        f"static constexpr int codes[] = {{{codes}}};",
        f"static constexpr float values[] = {{{values}}};",
        "static float threshold(int i) { return thresholds[i]; }",
        "static int code(int level) { return codes[level]; }",
        "static float decode(int code) { return values[code]; }",
    ]
    return _struct(f"{name}_table", lines) + "\n"
