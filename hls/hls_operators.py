"""Operators that Vitis HLS builds a kernel of: cycles from input to output, and what one takes on the fabric.

Recorded ones come from published reports of Vitis HLS for an Alveo U250 (``hls.operator_reports``): the tool's own
estimates before place and route; errors are those against other published reports. Others have a closed form from
their structure, without a known error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from hls.operator_reports import ReportedPart, operator_figures, report_errors
from hwmodel.unit_cost import Figure, Origin

REFERENCE_CLOCK_HZ = 300e6  # of the recorded stages
REPORT = "Vitis HLS 2022.2 report for a U250 at 3.33 ns (github.com/bavlyshehata/ADMM_BP 8f59b41)"
BEFORE_ROUTING = "all before place and route"


class Operator(Enum):
    """A step of an iteration."""

    FLOAT_ADD = "float32 adder"
    FLOAT_MULTIPLY = "float32 multiplier"
    FLOAT_DIVIDE = "float32 divider"
    FLOAT_COMPARE = "float32 comparison"
    TO_FLOAT = "integer to float32"
    RAM_READ = "read of a memory on the chip"
    LOGIC = "a level of integer logic"
    AXI = "AXI transfer"


_STAGES: dict[Operator, int] = {
    Operator.FLOAT_ADD: 7,  # fadd_32ns_32ns_32_7_full_dsp_1 in REPORT
    Operator.FLOAT_MULTIPLY: 4,  # fmul_32ns_32ns_32_4_max_dsp_1 in REPORT
    Operator.FLOAT_COMPARE: 2,  # fcmp_32ns_32ns_1_2_no_dsp_1 in REPORT
    # ..._16_no_dsp_1, ..._6_no_dsp_1: the names that Vitis HLS gives both in public designs whose adders have 7 stages
    Operator.FLOAT_DIVIDE: 16,
    Operator.TO_FLOAT: 6,
    Operator.RAM_READ: 2,  # ASSUMPTION: address, then output register
    Operator.LOGIC: 1,  # ASSUMPTION: what stands between two registers of our PEs at a planning clock
    Operator.AXI: 1,  # a beat a cycle in a burst (AMD UG1399)
}


def stages(operator: Operator, clock_hz: float = REFERENCE_CLOCK_HZ) -> int:
    """Cycles of an operator.

    ASSUMPTION: stages shrink with the clock, in proportion.

    >>> stages(Operator.FLOAT_ADD), stages(Operator.FLOAT_ADD, 150e6)
    (7, 4)
    """
    return max(1, math.ceil(_STAGES[operator] * clock_hz / REFERENCE_CLOCK_HZ))


@dataclass(frozen=True)
class OperatorCost:
    """One of them on the fabric; ``None`` for what is not known."""

    luts: Figure | None
    flip_flops: Figure | None
    dsps: Figure | None


def _reported(part: ReportedPart, width_bits: int = 32) -> OperatorCost:
    """Figures of a report of another design; errors are those against the other published reports."""
    values = operator_figures(part, width_bits)
    made = []
    for index, value in enumerate(values):
        mean, worst, reports = report_errors(part, flip_flops=index == 1)
        if index == 2:  # DSPs: equal in all of them
            mean = worst = 0.0
        source = f"{REPORT}; errors against {reports} other reports, {BEFORE_ROUTING}"
        made.append(Figure(float(value), Origin.PUBLISHED, mean, worst, source))
    return OperatorCost(*made)


def _closed(luts: float, flip_flops: float, source: str) -> OperatorCost:
    return OperatorCost(*(Figure(value, Origin.CLOSED_FORM, None, None, source) for value in (luts, flip_flops, 0.0)))


ADDER = _reported(ReportedPart.ADDER)
MULTIPLIER = _reported(ReportedPart.MULTIPLIER)
AXI_MASTER = _reported(ReportedPart.MASTER, 512)  # 64-bit addresses
_SIGNIFICAND = 24  # float32 with its hidden bit
# A subtraction of 25 bits for each of 26 quotient bits (24, guard and round), each row registered with what goes on.
DIVIDER = _closed(26 * 25, 26 * 50, "26 subtractions of 25 bits, a row a quotient bit; never synthesised")


def axi_lite(pointers: int, scalars: int) -> OperatorCost:
    """The slave that holds a kernel's arguments: 64 bits a pointer, 32 a scalar.

    >>> axi_lite(3, 2).luts.value
    552.0
    """
    return _reported(ReportedPart.CONTROL, 64 * pointers + 32 * scalars)


def to_float(bits: int) -> OperatorCost:
    """A two's complement integer of ``bits`` to float32.

    Magnitude (a bit each), count of leading zeros (a LUT a bit), shift (four-way multiplexers: half the levels of
    log2, a LUT a bit), rounding of 24 bits with the exponent's 8.
    """
    levels = -(-max(bits - 1, 1).bit_length() // 2)
    luts = bits + bits + levels * bits + _SIGNIFICAND + 8
    held = stages(Operator.TO_FLOAT) * max(bits, 32)
    return _closed(luts, held, "magnitude, leading zeros, shift, rounding; never synthesised")
