"""Reports of Vivado as ``ResourceReport``: ``report_utilization``, ``report_timing_summary``, and what Vitis HLS writes
when it has Vivado synthesise or implement a kernel by itself (``vitis-run --mode hls --impl``).

Formats: AMD UG906 (text tables with a ``Site Type`` column; the Design Timing Summary) and UG1399
(``<top>_export.rpt``: a line a site and a line a clock period; its BRAMs are of 18 kb).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hls.report_figures import MOST_SITES, ParsedReport, frequency_hz, named_by_file, number, whole
from hwmodel.report import ResourceReport
from hwmodel.units import ns_to_s

_SITES: Mapping[str, tuple[str, ...]] = {
    "luts": ("CLB LUTs", "Slice LUTs", "CLB LUTs*", "Slice LUTs*"),
    "flip_flops": ("CLB Registers", "Slice Registers", "Registers"),
    "dsps": ("DSPs", "DSP Slices", "DSP48E1 only"),
    "brams": ("Block RAM Tile",),
    "urams": ("URAM",),
}
_HEADER = re.compile(r"^\|\s*(Tool Version|Design|Device)\s*:\s*(.*?)\s*$", re.MULTILINE)


def _header(text: str) -> Mapping[str, str]:
    """Tool, design and device of a Vivado report, where it states them."""
    found: dict[str, str] = {}
    for key, value in _HEADER.findall(text):
        found.setdefault(key, value)
    return found


def _tool(header: Mapping[str, str]) -> str:
    return header.get("Tool Version", "Vivado of unknown version").split(" (")[0].strip()


def parse_utilization(text: str, name: str) -> ParsedReport:
    """A ``report_utilization``: the tables with a column ``Site Type``, synthesised or placed.

    Raises:
        ValueError: no row of LUTs, or figures that are none.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line.lstrip().startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 2:
            continue
        for field, names in _SITES.items():
            if cells[0] in names and field not in found:
                found[field] = number(cells[1], cells[0], name)
                if not 0 <= found[field] <= MOST_SITES:
                    raise ValueError(f"{cells[0]} in report {name} must be at least 0, not {cells[1]!r}")
    if "luts" not in found:
        raise ValueError(f"report {name} must have a row of CLB LUTs or Slice LUTs in a table of site types")
    header = _header(text)
    if "Design" not in header:
        raise ValueError(f"report {name} must name its design in its header")
    whole = {field: int(value) for field, value in found.items() if field != "brams"}
    report = ResourceReport(
        design=header["Design"], target=header.get("Device", ""), tool=_tool(header), brams=found.get("brams"), **whole
    )
    return ParsedReport("utilization", report)


_CLOCK_ROW = re.compile(r"^\s*\S+\s+\{[\d. ]+\}\s+(?P<period>\d+\.\d+)\s+(?P<frequency>\d+\.\d+)\s*$", re.MULTILINE)


def parse_timing(text: str, name: str, *, clock_hz: float | None = None) -> ParsedReport:
    """A ``report_timing_summary``: worst slack, and the frequency that follows from it and the clock.

    Args:
        text: the report.
        name: for messages.
        clock_hz: of the constraint, where the report has not exactly one clock.

    Raises:
        ValueError: no table, no slack in it, or no clock.
    """
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip(" |") == "Design Timing Summary"]
    heads = [
        i for start in starts for i in range(start + 1, min(start + 12, len(lines))) if "WNS(ns)" in lines[i].split()
    ]
    rows = [line.split() for line in lines[heads[0] + 1 : heads[0] + 4] if line.strip(" -\t")] if heads else []
    if not rows:
        raise ValueError(f"report {name} must have a Design Timing Summary with a row of slacks")
    if rows[0][0] in ("NA", "inf"):
        raise ValueError(f"report {name} must state a worst slack: without a constrained path there is none")
    slack = ns_to_s(number(rows[0][0], "WNS", name))
    periods = {ns_to_s(float(match["period"])) for match in _CLOCK_ROW.finditer(text)}
    if clock_hz is not None:
        period = 1.0 / clock_hz
    elif len(periods) == 1:
        (period,) = periods
    else:
        raise ValueError(f"report {name} must have one clock, not {len(periods)}: state the clock that is meant")
    header = _header(text)
    report = ResourceReport(
        design=header.get("Design", ""), target=header.get("Device", ""), tool=_tool(header),
        max_frequency_hz=frequency_hz(period - slack, name),
    )  # fmt: skip
    return ParsedReport("timing", report, slack_s=slack, period_s=period)


_EXPORT = "_export.rpt"  # behind the top function's name, which the report itself does not state
_LINE = re.compile(r"^[ \t]*(LUT|FF|DSP|BRAM|URAM|Implementation tool|Device target|CP [\w -]+):(.*)$", re.MULTILINE)
_ROUTED, _SYNTHESISED = "CP achieved post-implementation", "CP achieved post-synthesis"


def parse_implementation(text: str, path: Path) -> ParsedReport:
    """A ``<top>_export.rpt``: sites of the kernel, and the clock period that routing reached, or else synthesis.

    Raises:
        ValueError: another file name, no LUTs, or figures that are none.
    """
    name = str(path)
    design = named_by_file(path.name, _EXPORT, "a report of an implementation by Vitis HLS")
    found = {key: value.strip() for key, value in _LINE.findall(text)}
    if "LUT" not in found:
        raise ValueError(f"report {name} must have a line of LUTs under its resource usage")

    def site(key: str) -> int | None:
        return whole(found[key], key, name) if key in found else None

    period = next((found[key] for key in (_ROUTED, _SYNTHESISED) if found.get(key, "NA") != "NA"), None)
    asked, blocks = found.get("CP required"), site("BRAM")
    report = ResourceReport(
        design=design,
        target=found.get("Device target", ""),
        tool=f"{found.get('Implementation tool', 'Vivado of unknown version')}, "
        + ("after place and route" if _ROUTED in found else "after synthesis"),
        luts=site("LUT"),
        flip_flops=site("FF"),
        dsps=site("DSP"),
        brams=None if blocks is None else blocks / 2,
        urams=site("URAM"),
        max_frequency_hz=None if period is None else frequency_hz(ns_to_s(number(period, "CP achieved", name)), name),
    )
    seconds = None if asked is None else ns_to_s(number(asked, "CP required", name))
    return ParsedReport("implementation", report, period_s=seconds)
