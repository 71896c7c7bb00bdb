"""Operators that Vitis HLS builds a kernel of: cycles from input to output, and what one takes on the fabric.

Recorded ones come from published reports of Vitis HLS for an Alveo U250 (``hls.operator_reports``): the tool's own
estimates before place and route; errors are those against other published reports. Conversions and dividers, of which
reports count no LUTs, are netlists of our own RTL (``hls.structure_netlists``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from hls.operator_reports import ReportedPart, operator_figures, report_errors
from hls.structure_prices import Structure, divider_figure, structure_figure, to_float_luts
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


def _registers(bits: float, source: str) -> tuple[Figure, Figure]:
    """Flip-flops by a rule of their own, and no DSPs."""
    held, none = (Figure(value, Origin.CLOSED_FORM, None, None, source) for value in (bits, 0.0))
    return held, none


ADDER = _reported(ReportedPart.ADDER)
MULTIPLIER = _reported(ReportedPart.MULTIPLIER)
AXI_MASTER = _reported(ReportedPart.MASTER, 512)  # 64-bit addresses
# Our own RTL's rows of 26 bits; each is registered with what goes on: 26 quotient bits (24, guard and round)
DIVIDER = OperatorCost(divider_figure(), *_registers(26 * 50, "a register of 50 bits a row"))


def axi_lite(pointers: int, scalars: int) -> OperatorCost:
    """The slave that holds a kernel's arguments: 64 bits a pointer, 32 a scalar.

    >>> axi_lite(3, 2).luts.value
    552.0
    """
    return _reported(ReportedPart.CONTROL, 64 * pointers + 32 * scalars)


def to_float(bits: int) -> OperatorCost:
    """A two's complement integer of ``bits`` to float32: our own RTL's LUTs; reports count none for conversions."""
    held = stages(Operator.TO_FLOAT) * max(bits, 32)
    luts = structure_figure(Structure.TO_FLOAT, to_float_luts(bits), f"{bits} bits to float32")
    return OperatorCost(luts, *_registers(float(held), "a register of the wider side a stage"))
