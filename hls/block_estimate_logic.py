"""Logic of an exported decoder block around its layers: float operators of each process, ports, and what has no price.

A pipelined loop has an operator for each operation of an iteration, as it starts one every cycle; what runs behind a
loop shares those of its process. Reports and rules are those of ``hls.hls_operators``.
"""

from __future__ import annotations

from collections.abc import Iterator

from hls.block_loops import BLOCK_CODES, Record, records
from hls.block_plan import BlockPlan
from hls.estimate_logic import operator_part, port_parts
from hls.hls_operators import ADDER, DIVIDER, MULTIPLIER, to_float
from hls.layer_plan import StagePlan
from hls.stage_loops import PARTIAL_SUMS
from hls.structure_prices import Structure, picker_luts, structure_figure
from hwmodel.fpga_accelerator import FpgaPart
from hwmodel.unit_cost import Figure, Origin

_EXP_MULTIPLIERS = 11  # elementwise.h: by 1 / ln 2, twice by ln 2, seven of Horner's scheme, by a power of two
_EXP_ADDERS = 10  # the rest of a rounding, two differences, seven of Horner's scheme
_EXP_CONVERTERS = 3  # of a rounding


def _operators(where: str, adders: int, multipliers: int, dividers: int = 0) -> Iterator[FpgaPart]:
    for what, count, cost in (
        ("adders", adders, ADDER), ("multipliers", multipliers, MULTIPLIER), ("dividers", dividers, DIVIDER)
    ):  # fmt: skip
        if count:
            yield operator_part(f"float {what} of {where}", count, cost)


def _logic(name: str, count: int, luts: float, source: str) -> FpgaPart:
    def figure(value: float) -> Figure:
        return Figure(value, Origin.CLOSED_FORM, None, None, source)

    return FpgaPart(name, count, figure(luts), figure(0.0), figure(0.0))


def _multiplexers(name: str, count: int, luts: float, source: str) -> FpgaPart:
    none = Figure(0.0, Origin.CLOSED_FORM, None, None, source)
    return FpgaPart(name, count, structure_figure(Structure.PICKER, luts, source), none, none)


def _record_parts(record: Record, stage: StagePlan, name: str) -> Iterator[FpgaPart]:
    """What encodes the newest record, and what makes numbers of codes for all heads at once."""
    if stage.scale is not None:
        dividers = 2 + int(record.asymmetric)  # of scales, of values, of zero points
        yield from _operators(f"encoded {name}", int(record.asymmetric), 0, dividers)
    bits = stage.code_format.bits
    if record.asymmetric:
        source = "a carry chain of the code's bits, for each code of a block"
        yield _logic(f"zero points taken off {name}", BLOCK_CODES, float(bits), source)
    codes = min(BLOCK_CODES, stage.columns)
    source = "multiplexers over the banks of a head"
    yield _multiplexers(f"codes of {name} picked", record.heads, bits * picker_luts(codes), source)
    if record.converted:
        yield operator_part(f"codes of {name} to float", record.heads, to_float(bits))


def block_parts(plan: BlockPlan, *, on_chip: bool) -> tuple[list[FpgaPart], list[str]]:
    """Parts around the layers beside memories, and what is not counted.

    Args:
        plan: the block.
        on_chip: whether weights come from a table, not through AXI.
    """
    block = plan.block
    heads = block.heads
    key, value = records(plan)
    parts: list[FpgaPart] = []
    for name in ("attention norm", "MLP norm"):
        parts += _operators(f"the {name}", 2, 3, 1)  # of squares, of their total; square, by the root, by the weight
    parts += _operators("the rotation", 2, 4)
    for record, stage, name in ((key, plan.key, "keys"), (value, plan.value, "values")):
        parts += _record_parts(record, stage, name)
    parts += _operators("scores", heads, heads)  # an element a cycle, all heads
    # of totals, a head a cycle: partial sums, tiles; scale of the tile and of all scores
    parts += _operators("totals of scores", PARTIAL_SUMS, 1 + int(plan.key.scale is not None))
    order = "the partial sums of one head, and which comes first"
    ordered = 32 * PARTIAL_SUMS * (picker_luts(heads) + picker_luts(PARTIAL_SUMS))
    parts.append(_multiplexers("partial sums in order", 1, ordered, order))
    # less the largest, and its sum
    parts += _operators("softmax", _EXP_ADDERS + 2, _EXP_MULTIPLIERS)
    parts.append(operator_part("roundings of softmax", _EXP_CONVERTERS, to_float(32)))
    parts += _operators("weighted values", heads, heads * (1 + int(plan.value.scale is not None)))
    parts += _operators("results", 0, 0, 1)
    parts += _operators("residuals", 2, 0)
    # 1 + power; x * power, times up
    parts += _operators("SiLU", _EXP_ADDERS + 1, _EXP_MULTIPLIERS + 2, 1)
    parts.append(operator_part("roundings of SiLU", _EXP_CONVERTERS, to_float(32)))
    parts += port_parts(3 if on_chip else 4, 2)  # position and tokens
    missing = [
        "loop counters, state machines and pipeline registers around the layers, and the start and end of 19 processes",
        "multiplexers of operators that a tool shares",
        "the square roots of both norms",
        "encoders of FP16 rows, decoders of FP16 and of stored scales, comparisons of floats",
        "waiting of one port for another at the memory that weights, cache, input and output share",
    ]
    for record, name in ((key, "keys"), (value, "values")):
        if not record.known:
            missing.append(f"tables that make numbers of the codes of {name}")
    return parts, missing
