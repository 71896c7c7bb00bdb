"""Logic of an exported layer: PEs by their netlists and fits, float operators by reports, what else has a rule or none.

PEs are those of ``hls.estimate_pe``. Each part says what its figures are; what nothing prices is named in ``missing``.
"""

from __future__ import annotations

from collections.abc import Iterator

from hls.c_arithmetics import BITMOD_LANES
from hls.cpp_types import parse_type, value_bits
from hls.estimate_pe import pe_of
from hls.hls_operators import ADDER, AXI_LITE, AXI_MASTER, DIVIDER, MULTIPLIER, OperatorCost, to_float
from hls.layer_loops import FIELD_ORDER, is_rounded, steps_interval
from hls.layer_plan import LayerPlan, PartPlan, StagePlan
from hls.loop import BEAT_BITS, WORD_BITS
from hwmodel.fpga_accelerator import FpgaPart
from hwmodel.unit_cost import Figure, Origin, price_pe
from hwmodel.unit_cost_design import design

_MULTIPLEXED = 4  # inputs that a LUT6 picks from: AMD UG574
_ELSEWHERE = ("mask", "column_scale", "gather")  # fields beside those of a row's own entries


def _figure(value: float, source: str, origin: Origin = Origin.CLOSED_FORM) -> Figure:
    return Figure(value, origin, None, None, source)


def _operator(name: str, count: int, cost: OperatorCost) -> FpgaPart:
    return FpgaPart(name, count, cost.luts, cost.flip_flops, cost.dsps)


def _pe_parts(part: PartPlan, index: int, rows: int, lanes: int) -> Iterator[FpgaPart]:
    """PEs of all rows, and what feeds them."""
    pe = pe_of(part.arithmetic.type)
    cost = price_pe(pe.design)
    luts = cost.luts
    if luts is not None and (pe.table_luts or pe.note):
        mean, worst = (None, None) if pe.note else (luts.mean_error, luts.worst_error)
        source = f"{luts.source}; {pe.note}" if pe.note else f"{luts.source}; tables of constants"
        luts = Figure(luts.value + pe.table_luts / pe.count, Origin.COMPOSED, mean, worst, source)
    count = rows * pe.count
    if part.zero in ("in_codes", "real"):
        # the sum of the activations: the same PE with a weight of 1; for each row where rows pick inputs of their own
        count += pe.count * (rows if "mask" in part.fields else 1)
    yield FpgaPart(f"PE of part {index}: {pe.design.name}", count, luts, cost.flip_flops, cost.dsps)
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
            _figure(float(bits * -(-part.block // _MULTIPLEXED)), "a multiplexer a bit over the inputs of a block"),
            _figure(0.0, "combinational"), _figure(0.0, "LUT logic"),
        )  # fmt: skip


def _scale_parts(part: PartPlan, index: int, rows: int) -> Iterator[FpgaPart]:
    """Float operators of a row behind its sum: steps follow one another, so one of each kind serves a row."""
    if part.arithmetic.type.startswith("codesign::bitmod_arithmetic"):
        yield _operator(f"float adders of part {index}", rows, ADDER)
        return
    if not is_rounded(part):
        yield _operator(f"sums to float of part {index}", rows, to_float(_whole_bits(part)))
    yield _operator(f"float multipliers of part {index}", rows, MULTIPLIER)
    if not part.exact_scale:
        yield _operator(f"float adders of part {index}", rows, ADDER)


def _whole_bits(part: PartPlan) -> int:
    """Bits of the integer that becomes a float: a sum, or under exact scales the row's (``exact_width``)."""
    if not part.exact_scale:
        return part.arithmetic.sum_bits
    groups = -(-part.columns // part.group)
    return part.arithmetic.sum_bits + value_bits(part.fields["scale"].value) + 1 + (groups - 1).bit_length()


def _column_scale_parts(part: PartPlan, index: int, lanes: int) -> Iterator[FpgaPart]:
    """Inputs of a step are scaled once for all rows, one a cycle of the step for each multiplier."""
    window = lanes // part.kept * part.block
    count = -(-window // steps_interval(part, lanes))
    yield _operator(f"float multipliers of the column scales of part {index}", count, MULTIPLIER)


def _norm_parts() -> Iterator[FpgaPart]:
    """``normalise`` in ``layer_output.h``: sums, differences and squares a cycle; totals one after another."""
    yield _operator("float adders of the norm", 4, ADDER)  # sum, difference, squares; totals and epsilon
    yield _operator("float multipliers of the norm", 2, MULTIPLIER)  # square; by the inverse root
    yield _operator("float divider of the norm", 1, DIVIDER)


def _stage_parts(stage: StagePlan, name: str) -> Iterator[FpgaPart]:
    """A stage takes a value a cycle."""
    if stage.scale is None:
        return
    yield _operator(f"float dividers of the {name} stage", 2, DIVIDER)  # the scale's and the values' own


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
    ]
    for index, part in enumerate(plan.parts):
        strange = set(part.fields) - {*FIELD_ORDER, *_ELSEWHERE}
        missing += [f"loops and logic of {name} of part {index}" for name in sorted(strange)]
        if parse_type(part.arithmetic.type).name == "int_arithmetic":
            count = rows * plan.options.lanes
            missing.append(f"what changes if the tool puts any of the {count} products of part {index} into DSPs")
        try:
            parts += _pe_parts(part, index, rows, plan.options.lanes)
        except (NotImplementedError, ValueError) as error:
            missing.append(f"PEs of part {index}: {error}")
        parts += _scale_parts(part, index, rows)
        if part.exact_scale:
            missing.append(f"integer products of sums and scales of part {index}, and what adds them")
        if "column_scale" in part.fields:
            parts += _column_scale_parts(part, index, plan.options.lanes)
            missing.append(f"FP16 decoders and encoders around the column scales of part {index}")
        if part.code_bits < 16:  # of each lane: a code is picked out of its block of 32 codes
            lanes = plan.options.lanes // part.code_dim
            each = part.code_bits * -(-32 // 4) / 2
            parts.append(FpgaPart(
                f"unpackers of part {index}", rows // part.outputs * lanes,
                _figure(each, "a 32-way multiplexer a bit: eight LUT6s of four inputs and their joins, half shared"),
                _figure(float(part.code_bits), "a register a code"), _figure(0.0, "LUT logic"),
            ))  # fmt: skip
    parts += _stage_parts(plan.input, "input")
    if plan.smoothing is not None:
        parts.append(_operator("float divider of the smoothing", 1, DIVIDER))
    if plan.hadamard > 1:
        parts += [_operator("float adders of the rotation", 2, ADDER), _operator("float divider", 1, DIVIDER)]
    if plan.low_rank is not None:
        parts += [
            _operator("float multipliers of the low-rank branch", 4, MULTIPLIER),
            _operator("float adders of the low-rank branch", 4, ADDER),
        ]
        for stage in (plan.middle, plan.result):
            if stage is not None:
                parts += _stage_parts(stage, "low-rank")
    if plan.outliers is not None:
        parts += [
            _operator("float multipliers of outliers", 2, MULTIPLIER),
            _operator("float adders of outliers", 2, ADDER),
        ]
    if plan.normalised:
        parts += _norm_parts()
        missing.append("the square root of the norm")
    if plan.bias is not None:
        parts.append(_operator("float adder of the bias", 1, ADDER))
    if plan.output is not None:
        parts += _stage_parts(plan.output, "output")
    parts.append(_operator("AXI masters of 512 bits", 2 if on_chip else 3, AXI_MASTER))
    parts.append(_operator("AXI-Lite control", 1, AXI_LITE))
    parts.append(FpgaPart(
        "words of beats into rows", 1,
        _figure(float(BEAT_BITS // WORD_BITS * WORD_BITS), "a multiplexer a bit of a beat"),
        _figure(float(BEAT_BITS), "a beat"), _figure(0.0, "LUT logic"),
    ))  # fmt: skip
    return parts, missing
