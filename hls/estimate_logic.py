"""Logic of an exported layer: PEs by their netlists and fits, float operators by reports, what else has a rule or none.

PEs are those of ``hls.estimate_pe``. Each part says what its figures are; what nothing prices is named in ``missing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hls.bitmod_arithmetic import BITMOD_LANES, RUNTIME_FORMATS
from hls.cpp_types import parse_type, value_bits
from hls.estimate_buffers import whole_bits
from hls.estimate_pe import pe_cost, pe_of
from hls.hls_operators import ADDER, AXI_MASTER, DIVIDER, MULTIPLIER, OperatorCost, axi_lite, to_float
from hls.layer_loops import FIELD_ORDER
from hls.layer_options import IntMapping
from hls.layer_plan import LayerPlan, PartPlan, StagePlan
from hls.loop import BEAT_BITS, WORD_BITS, line_entries, plane_widths
from hls.part_shape import PartShape, is_rounded, line_blocks, part_shape
from hls.stage_loops import PARTIAL_SUMS
from hls.structure_prices import Structure, picker_luts, structure_figure, window_luts
from hwmodel.fpga_accelerator import FpgaPart
from hwmodel.unit_cost import Figure, Origin, price_pe
from hwmodel.unit_cost_design import design

MASTERS, CONTROL = "AXI masters of 512 bits", "AXI-Lite control"  # parts that a kernel has once
_ELSEWHERE = ("mask", "column_scale", "gather")  # fields beside those of a row's own entries


def _figure(value: float, source: str, origin: Origin = Origin.CLOSED_FORM) -> Figure:
    return Figure(value, origin, None, None, source)


def operator_part(name: str, count: int, cost: OperatorCost) -> FpgaPart:
    """Operators of a kind, priced by their report."""
    return FpgaPart(name, count, cost.luts, cost.flip_flops, cost.dsps)


def port_parts(pointers: int, scalars: int) -> list[FpgaPart]:
    """What a kernel has once: a master for each array in memory, and the slave for its arguments."""
    return [
        operator_part(MASTERS, pointers, AXI_MASTER),
        operator_part(CONTROL, 1, axi_lite(pointers, scalars)),
    ]


def _pe_parts(part: PartPlan, index: int, rows: int, lanes: int) -> Iterator[FpgaPart]:
    """PEs of all rows, and what feeds them."""
    pe = pe_of(part.arithmetic.type)
    cost = pe_cost(pe)
    count = rows // pe.outputs * pe.count
    if part.zero in ("in_codes", "real"):
        # the sum of the activations: the same PE with a weight of 1; for each row where rows pick inputs of their own
        count += pe.count * (rows if "mask" in part.fields else 1)
    yield FpgaPart(f"PE of part {index}: {pe.design.name}", count, cost.luts, cost.flip_flops, cost.dsps)
    if part.arithmetic.type.startswith("codesign::bitmod_"):
        encoder = price_pe(design("bitmod_term_encoder", ACCUMULATOR_BITS=0))
        yield FpgaPart("term encoder", rows * BITMOD_LANES, encoder.luts, encoder.flip_flops, encoder.dsps)
    if part.zero == "before_product":
        bits = part.arithmetic.weight_bits
        yield FpgaPart(
            "zero point taken off", rows * lanes, _figure(float(bits), "a carry chain of the code's bits"),
            _figure(0.0, "combinational"), _figure(0.0, "carry chain"),
        )  # fmt: skip
    if "mask" in part.fields:
        bits = part.arithmetic.activation_bits
        yield FpgaPart(
            f"inputs of part {index} picked by its mask", rows * lanes,
            _picked(bits, part.block, "one a bit over the inputs of a block"),
            _figure(0.0, "combinational"), _figure(0.0, "LUT logic"),
        )  # fmt: skip


def _scale_parts(part: PartPlan, plan: LayerPlan, index: int) -> Iterator[FpgaPart]:
    """Float operators of ``scale_groups``: those of a row for each row that is scaled at a time.

    An iteration starts every ``scale_interval`` cycles, in which as many rows can share an operator.
    """
    shape = part_shape(part, plan.options, plan.blocks)
    each = _scaling_operators(part, plan, added=index > 0)
    for name, cost in (("adders", ADDER), ("multipliers", MULTIPLIER)):
        if each[name]:
            count = -(-shape.scalers * each[name] // shape.scale_interval)
            yield operator_part(f"float {name} of part {index}", count, cost)
    if each["sums to float"]:
        count = -(-shape.scalers * each["sums to float"] // shape.scale_interval)
        yield operator_part(f"sums to float of part {index}", count, to_float(whole_bits(part)))


def _scaling_operators(part: PartPlan, plan: LayerPlan, *, added: bool) -> dict[str, int]:
    """Operators between a group's sum and the total of its row, of one row."""
    fields, scaled = part.fields, plan.input.scale is not None
    adders, multipliers, converted = int(added), 0, 0
    multipliers += int(part.outer_last) + int("row_scale" in fields)
    if part.arithmetic.type.startswith("codesign::bitmod_arithmetic"):
        return {"adders": adders + 1, "multipliers": multipliers, "sums to float": 0}
    converted += 0 if is_rounded(part) else 1
    multipliers += int(scaled)
    if part.exact_scale:
        return {"adders": adders, "multipliers": multipliers, "sums to float": converted}
    adders += 1  # the total
    multipliers += int("scale" in fields)
    if not part.outer_last:
        multipliers += int("outer_scale" in fields)
        adders += int("outer_offset" in fields)
    if part.zero in ("in_codes", "real"):  # the activations' sum times the zero point
        converted += 0 if is_rounded(part) else 1
        multipliers += 1 + int("zero_point_scale" in fields) + int(part.one_exponent != 0)
        adders += 1 + int("zero_point_offset" in fields)
    return {"adders": adders, "multipliers": multipliers, "sums to float": converted}


def _picked(bits: float, ways: int, what: str) -> Figure:
    """Multiplexers of so many bits."""
    return structure_figure(Structure.PICKER, bits * picker_luts(ways), f"{ways}-way multiplexers, {what}")


def _windows(bits: float, places: int, what: str) -> Figure:
    """So many neighbouring bits of two words, from any of ``places`` on."""
    return structure_figure(Structure.WINDOW, bits * window_luts(places), f"windows of {places} places, {what}")


def _unpacker_parts(part: PartPlan, index: int, rows: int, shape: PartShape, lanes: int) -> Iterator[FpgaPart]:
    """Codes of a step out of a line: its blocks, then each lane's code; windows of activations between two words."""
    none = _figure(0.0, "LUT logic")
    if part.code_bits < 16:
        codes = lanes // part.code_dim
        held = line_blocks(part.code_bits, part.row_codes)
        width = shape.blocks_read * part.code_bits * WORD_BITS
        yield FpgaPart(
            f"blocks of part {index} out of their lines", rows // part.outputs,
            _picked(width, held, "one a bit over a line"), _figure(float(width), "a register a bit"), none,
        )  # fmt: skip
        # whole steps start at a multiple of their codes, so that a lane has few places to look at
        aligned = shape.blocks_read == 1 and 32 % codes == 0
        ways, pick = (32 // codes, _picked) if aligned else (32, _windows)
        name, count = f"unpackers of part {index}", rows // part.outputs * codes
        held_codes = _figure(float(part.code_bits), "a register a code")
        if part.runtime_bits:
            widths = {formats[0].bits for formats in RUNTIME_FORMATS.values()}
            luts = pick(sum(widths), ways, "one a code's bit for each width, and one over the widths")
            yield FpgaPart(
                f"{name} for {', '.join(str(width) for width in sorted(widths))} bits", count,
                replace(luts, value=luts.value + part.code_bits * picker_luts(len(widths))), held_codes, none,
            )  # fmt: skip
            return
        yield FpgaPart(name, count, pick(part.code_bits, ways, "one a code's bit"), held_codes, none)
    if not shape.aligned:
        bits = part.arithmetic.activation_bits
        yield FpgaPart(
            f"windows of part {index} between two words", shape.window,
            _windows(bits, shape.window, "over the lanes"), _figure(float(bits), "a register a bit"), none,
        )  # fmt: skip


def _line_parts(part: PartPlan, index: int) -> Iterator[FpgaPart]:
    """Lines cut out of two beats (``beat_window`` in ``streams.h``): a shift by whole entries, one for each plane."""
    luts = 0.0
    if part.code_bits < 16:
        held = line_blocks(part.code_bits, part.row_codes) * part.code_bits * WORD_BITS
        luts += held * window_luts(BEAT_BITS // WORD_BITS)
    for name, field in part.fields.items():
        if name not in ("gather", "column_scale"):
            columns = part.stored_columns if name == "mask" else part.columns
            for width in plane_widths(value_bits(field.value)):
                luts += line_entries(field, columns) * width * window_luts(BEAT_BITS // width)
    yield FpgaPart(
        f"beats of part {index} into lines", 1,
        structure_figure(Structure.WINDOW, luts, "windows over two beats, one for each plane"),
        _figure(2.0 * BEAT_BITS, "two beats"), _figure(0.0, "LUT logic"),
    )  # fmt: skip


def _norm_parts() -> Iterator[FpgaPart]:
    """``normalise`` in ``layer_output.h``: sums, differences and squares a cycle; totals one after another."""
    yield operator_part("float adders of the norm", 4, ADDER)  # sum, difference, squares; totals and epsilon
    yield operator_part("float multipliers of the norm", 2, MULTIPLIER)  # square; by the inverse root
    yield operator_part("float divider of the norm", 1, DIVIDER)


def _stage_parts(stage: StagePlan, name: str) -> Iterator[FpgaPart]:
    """A stage takes a value a cycle."""
    if stage.scale is None:
        return
    yield operator_part(f"float dividers of the {name} stage", 2, DIVIDER)  # the scale's and the values' own


def logic_parts(plan: LayerPlan, *, on_chip: bool) -> tuple[list[FpgaPart], list[str]]:
    """Parts of a layer beside its memories, and what is not counted.

    Args:
        plan: the layer.
        on_chip: whether weights come from a table, not through AXI.
    """
    rows = plan.options.tile_rows
    parts: list[FpgaPart] = []
    missing = [
        "loop counters, state machines and pipeline registers of the generated control",
        "multiplexers of operators that a tool shares",
        "decoders of stored scales and encoders of codes in the activation stage",
        "what place and route make of ports and float operators, whose figures are those of Vitis HLS reports",
    ]
    for index, part in enumerate(plan.parts):
        strange = set(part.fields) - {*FIELD_ORDER, *_ELSEWHERE}
        missing += [f"loops and logic of {name} of part {index}" for name in sorted(strange)]
        integers = parse_type(part.arithmetic.type).name in ("int_arithmetic", "tender_arithmetic")
        if integers and plan.options.mapping is IntMapping.AUTO:
            count = rows * plan.options.lanes
            missing.append(f"what changes if the tool puts any of the {count} products of part {index} into DSPs")
        try:
            parts += _pe_parts(part, index, rows, plan.options.lanes)
        except (NotImplementedError, ValueError) as error:
            missing.append(f"PEs of part {index}: {error}")
        parts += _scale_parts(part, plan, index)
        if part.exact_scale:
            missing.append(f"integer products of sums and scales of part {index}, and what adds them")
        if "column_scale" in part.fields:  # a column a cycle, before the tiles
            parts.append(operator_part(f"float multipliers of the column scales of part {index}", 1, MULTIPLIER))
            missing.append(f"FP16 decoders and encoders around the column scales of part {index}")
        shape = part_shape(part, plan.options, plan.blocks)
        parts += _unpacker_parts(part, index, rows, shape, plan.options.lanes)
        parts += _line_parts(part, index)
    parts += _stage_parts(plan.input, "input")
    if plan.smoothing is not None:
        parts.append(operator_part("float divider of the smoothing", 1, DIVIDER))
    if plan.offset is not None:
        parts.append(operator_part("float adder of the offsets", 1, ADDER))
    if plan.hadamard > 1:
        parts += [operator_part("float adders of the rotation", 2, ADDER), operator_part("float divider", 1, DIVIDER)]
    if plan.low_rank is not None:
        parts += [
            operator_part("float multipliers of the low-rank branch", 4, MULTIPLIER),
            operator_part("float adders of the low-rank branch", 4, ADDER),
        ]
        for stage in (plan.middle, plan.result):
            if stage is not None:
                parts += _stage_parts(stage, "low-rank")
    if plan.outliers is not None:
        parts += [
            operator_part("float multipliers of outliers", 2, MULTIPLIER),
            # one for the products, those that add up eight sums, one that joins the outputs
            operator_part("float adders of outliers", PARTIAL_SUMS + 2, ADDER),
        ]
    if plan.normalised:
        parts += _norm_parts()
        missing.append("the square root of the norm")
    if plan.bias is not None:
        parts.append(operator_part("float adder of the bias", 1, ADDER))
    if plan.output is not None:
        parts += _stage_parts(plan.output, "output")
    ports = 2 if on_chip else 3
    scalars = 1 + int(any(part.runtime_bits for part in plan.parts))  # tokens; the format
    parts += port_parts(ports, scalars)
    return parts, missing
