"""Figures of Vitis HLS reports that others published: float operators, AXI masters, AXI-Lite slaves; what follows.

Each report counts before place and route, by the tool's own library, so they say how far our figures are from what the
tool will report of another design, device or version, and nothing about a routed design. Operators without DSPs
(dividers, comparisons, conversions, roots) stand in them with no LUTs at all.

Sources, as files of public repositories:
    A  github.com/bavlyshehata/ADMM_BP 8f59b41, alveo/_x.hw.xilinx_u250*, krnl_bp_csynth.rpt and
       krnl_bp_Pipeline_l_main_csynth.rpt
    B  the same, alveo/_x.hw_emu.xilinx_u280*, krnl_bp.verbose.rpt: another design for another device
    C  github.com/bavlyshehata/ADMM_BP 296c4e7, alveo/_x.hw.xilinx_u280*, krnl_bp.verbose.rpt: a newer tool
    D  github.com/NTHU-CTLAB-24/ViT_HLS c6daa06, kernel_attention_csynth.rpt: somebody else's design at 20 MHz
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache


class ReportedPart(Enum):
    """What stands in a report as an instance of its own."""

    ADDER = "float32 adder"
    MULTIPLIER = "float32 multiplier"
    MASTER = "AXI master"
    CONTROL = "AXI-Lite slave"


@dataclass(frozen=True)
class Report:
    """Where a figure stands."""

    letter: str
    tool: str
    device: str
    clock_hz: float


A = Report("A", "Vitis HLS 2022.2", "U250", 300e6)
B = Report("B", "Vitis HLS 2022.2", "U280", 300e6)
C = Report("C", "Vitis HLS 2023.2", "U280", 300e6)
D = Report("D", "Vitis HLS 2022.1", "U250", 20e6)


@dataclass(frozen=True)
class Reported:
    """An instance.

    Args:
        part: what it is.
        report: where it stands.
        width_bits: of a master's data; of all arguments of a slave (64 a pointer); 32 for operators.
        luts, flip_flops, dsps, bram18: as reported.
    """

    part: ReportedPart
    report: Report
    width_bits: int
    luts: int
    flip_flops: int
    dsps: int = 0
    bram18: int = 0


REPORTED = (
    Reported(ReportedPart.ADDER, A, 32, 198, 318, 2),  # faddfsub_32ns_32ns_32_7_full_dsp_1
    Reported(ReportedPart.ADDER, B, 32, 198, 318, 2),
    Reported(ReportedPart.ADDER, C, 32, 198, 318, 2),
    Reported(ReportedPart.MULTIPLIER, A, 32, 78, 143, 3),  # fmul_32ns_32ns_32_4_max_dsp_1
    Reported(ReportedPart.MULTIPLIER, B, 32, 78, 143, 3),
    Reported(ReportedPart.MULTIPLIER, C, 32, 78, 143, 3),
    Reported(ReportedPart.MASTER, A, 512, 8001, 4567),  # gmem0_m_axi, 64-bit addresses
    Reported(ReportedPart.MASTER, A, 256, 4320, 2473),  # gmem1_m_axi; gmem2_m_axi is equal
    Reported(ReportedPart.MASTER, B, 512, 8001, 4567),
    Reported(ReportedPart.MASTER, B, 256, 4320, 2473),
    Reported(ReportedPart.MASTER, C, 32, 736, 702, bram18=2),  # buffers are block RAM in this version
    Reported(ReportedPart.MASTER, D, 32, 1118, 764),  # all three masters
    Reported(ReportedPart.CONTROL, A, 3 * 64 + 2 * 32, 552, 322),  # control_s_axi: three pointers, two scalars
    Reported(ReportedPart.CONTROL, B, 3 * 64 + 2 * 32, 552, 322),
    Reported(ReportedPart.CONTROL, C, 3 * 64 + 4 * 32, 680, 398),  # three pointers, four scalars
    Reported(ReportedPart.CONTROL, D, 28 * 64, 3624, 1990),  # 28 pointers
)
# What our figures are made of: both widths of A; for slaves the narrowest and the widest. All others are compared.
_USED = {
    ReportedPart.ADDER: (A,), ReportedPart.MULTIPLIER: (A,), ReportedPart.MASTER: (A,), ReportedPart.CONTROL: (A, D)
}  # fmt: skip


def reported(part: ReportedPart, *, used: bool) -> tuple[Reported, ...]:
    """Instances that our figures are made of, or the others."""
    return tuple(one for one in REPORTED if one.part is part and (one.report in _USED[part]) is used)


def _line(points: Iterable[tuple[int, int]], width_bits: int) -> float:
    """Through two points; a constant through one."""
    (first, low), *rest = sorted(points)
    if not rest:
        return float(low)
    last, high = rest[-1]
    return low + (high - low) / (last - first) * (width_bits - first)


@cache
def operator_figures(part: ReportedPart, width_bits: int = 32) -> tuple[float, float, int]:
    """LUTs, flip-flops and DSPs of a part: as reported, or on the line through the reports of two widths.

    >>> operator_figures(ReportedPart.MASTER, 512)
    (8001.0, 4567.0, 0)
    """
    known = reported(part, used=True)
    luts = _line([(one.width_bits, one.luts) for one in known], width_bits)
    return luts, _line([(one.width_bits, one.flip_flops) for one in known], width_bits), known[0].dsps


@cache
def report_errors(part: ReportedPart, *, flip_flops: bool = False) -> tuple[float, float, int]:
    """Mean and worst relative error against the reports that our figures are not made of, and how many.

    >>> mean, worst, reports = report_errors(ReportedPart.CONTROL)
    >>> (round(mean, 3), round(worst, 3), reports)
    (0.0, 0.0, 2)
    """
    errors = []
    for one in reported(part, used=False):
        luts, held, _ = operator_figures(part, one.width_bits)
        ours, truth = (held, one.flip_flops) if flip_flops else (luts, one.luts)
        errors.append(abs(ours - truth) / truth)
    return sum(errors) / len(errors), max(errors), len(errors)
