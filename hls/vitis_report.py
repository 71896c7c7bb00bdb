"""Reports of Vitis HLS and Vivado as ``ResourceReport``: csynth.xml, ``report_utilization``, ``report_timing_summary``,
and the co-simulation report, which alone knows the cycles of loops whose bounds are arguments.

Formats: AMD UG1399 (csynth.xml: UserAssignments, PerformanceEstimates, AreaEstimates; ``<top>_cosim.rpt``: a row a
language) and UG906 (text tables with a ``Site Type`` column; the Design Timing Summary). A report is somebody else's
file: its size is limited, XML with a document type is refused (so no entity is ever expanded), and every figure must be
a plain number. What a report does not state stays ``None``.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwmodel.report import ResourceReport
from hwmodel.units import ns_to_s

MAX_BYTES = 64 << 20  # of a report; Vivado's own are far below
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")
_DEPTH, _ELEMENTS = 64, 1_000_000  # of a csynth.xml: far above those of any kernel
_MOST_SITES = 10**9  # no device has more


@dataclass(frozen=True)
class ParsedReport:
    """A report and what it is.

    Args:
        kind: ``csynth``, ``cosim``, ``utilization`` or ``timing``.
        report: what it states.
        slack_s: worst negative slack of a timing summary; ``None`` else.
        period_s: clock period that it was asked for; ``None`` if it does not say.
    """

    kind: str
    report: ResourceReport
    slack_s: float | None = None
    period_s: float | None = None


def read_report(path: Path | str, *, clock_hz: float | None = None) -> ParsedReport:
    """Whatever of the four kinds of report ``path`` is.

    Args:
        path: a file.
        clock_hz: that a timing summary was made for, where it does not say.

    Raises:
        ValueError: no such file, too large, not a report, or one with figures that are none; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"a report must be a file, not {str(path)!r}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"report {path} must be at most {MAX_BYTES >> 20} MiB, not {size} bytes")
    data = path.read_bytes()
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return parse_csynth(data, str(path))
    text = data.decode("utf-8", errors="replace")
    if "Design Timing Summary" in text:
        return parse_timing(text, str(path), clock_hz=clock_hz)
    if "Site Type" in text:
        return parse_utilization(text, str(path))
    if "Latency(Clock Cycles)" in text:
        return parse_cosim(text, path)
    raise ValueError(
        f"{path} must be a csynth.xml, a utilization report, a timing summary or a co-simulation report, "
        "and is none of them"
    )


# --- csynth.xml ------------------------------------------------------------------------------------------------------


def _root(data: bytes, name: str) -> ElementTree.Element:
    """The tree of a document without a document type, of bounded depth and size.

    Entities can only be defined in a document type, so that without one none is ever expanded.
    """
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", data, re.IGNORECASE) or b"\x00" in data:
        raise ValueError(f"report {name} must be plain XML in UTF-8 without a document type")
    root: ElementTree.Element | None = None
    depth = count = 0
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(data), ("start", "end")):
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            count += 1
            if depth > _DEPTH or count > 2 * _ELEMENTS:
                raise ValueError(f"more than {_DEPTH} elements in one another, or {_ELEMENTS} in all")
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"report {name} must be XML as Vitis HLS writes it ({error})") from None
    assert root is not None  # a document without elements does not parse
    return root


def _number(text: str, what: str, name: str) -> float:
    """A plain decimal number."""
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        raise ValueError(f"{what} in report {name} must be a number, not {stripped[:40]!r}")
    return float(stripped)


def _whole(text: str, what: str, name: str) -> int:
    value = _number(text, what, name)
    if value != int(value) or not 0 <= value <= _MOST_SITES:
        raise ValueError(f"{what} in report {name} must be a whole number of at least 0, not {text.strip()[:40]!r}")
    return int(value)


def _text(root: ElementTree.Element, path: str) -> str | None:
    """Text of the first element at ``path``; ``None`` for none, and for what Vitis writes where it knows nothing."""
    element = root.find(path)
    value = None if element is None or element.text is None else element.text.strip()
    return None if value in (None, "", "undef", "?", "N/A", "-") else value


def parse_csynth(data: bytes, name: str) -> ParsedReport:
    """A ``csynth.xml`` (or ``<top>_csynth.xml``): what Vitis HLS estimates before place and route.

    Args:
        data: the file.
        name: for messages.

    Raises:
        ValueError: not such a report, or one without resources.
    """
    root = _root(data, name)
    if root.tag != "profile" or root.find("AreaEstimates/Resources") is None:
        raise ValueError(f"report {name} must be a csynth.xml, with resources under profile/AreaEstimates")

    def site(tag: str) -> int | None:
        found = _text(root, f"AreaEstimates/Resources/{tag}")
        return None if found is None else _whole(found, tag, name)

    def cycles(tag: str) -> int | None:
        found = _text(root, f"PerformanceEstimates/SummaryOfOverallLatency/{tag}")
        return None if found is None else _whole(found, tag, name)

    period = _text(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")
    asked = _text(root, "UserAssignments/TargetClockPeriod")
    frequency = None if period is None else _frequency(ns_to_s(_number(period, "EstimatedClockPeriod", name)), name)
    brams = site("BRAM_18K")
    version = _text(root, "ReportVersion/Version")
    top = _text(root, "UserAssignments/TopModelName")
    if top is None:
        raise ValueError(f"report {name} must name its top function in UserAssignments/TopModelName")
    report = ResourceReport(
        design=top,
        target=_text(root, "UserAssignments/Part") or "",
        tool=f"Vitis HLS {version or 'of unknown version'}, before place and route",
        luts=site("LUT"),
        flip_flops=site("FF"),
        dsps=site("DSP") if root.find("AreaEstimates/Resources/DSP") is not None else site("DSP48E"),
        brams=None if brams is None else brams / 2,
        max_frequency_hz=frequency,
        urams=site("URAM"),
        latency_cycles=cycles("Worst-caseLatency"),
        interval_cycles=cycles("Interval-max"),
    )
    seconds = None if asked is None else ns_to_s(_number(asked, "TargetClockPeriod", name))
    return ParsedReport("csynth", report, period_s=seconds)


def _frequency(period_s: float, name: str) -> float:
    if not period_s > 0:
        raise ValueError(f"a clock period in report {name} must be above 0, not {period_s!r}")
    return 1.0 / period_s


# --- co-simulation ---------------------------------------------------------------------------------------------------

_COSIM = "_cosim.rpt"  # behind the top function's name, which the report itself does not state
_LATENCY, _INTERVAL = 4, 7  # columns of the largest, behind language, status, and smallest and mean


def parse_cosim(text: str, path: Path) -> ParsedReport:
    """A ``<top>_cosim.rpt``: cycles of the longest call of the testbench, and between two calls.

    Raises:
        ValueError: another file name, no language that passed, or figures that are none.
    """
    if not path.name.endswith(_COSIM) or path.name == _COSIM:
        raise ValueError(f"a co-simulation report must keep its name, <top function>{_COSIM}, not {path.name!r}")
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    passed = [row for row in rows if len(row) > _INTERVAL and row[0] in ("Verilog", "VHDL") and row[1] == "Pass"]
    if not passed:
        raise ValueError(f"report {path} must have a row of Verilog or VHDL that passed")
    row = passed[0]
    interval = row[_INTERVAL]  # of a single call there is none
    report = ResourceReport(
        design=path.name.removesuffix(_COSIM),
        target="",
        tool="Vitis HLS, co-simulation",
        latency_cycles=_whole(row[_LATENCY], "the largest latency", str(path)),
        interval_cycles=None if interval in ("NA", "") else _whole(interval, "the largest interval", str(path)),
    )
    return ParsedReport("cosim", report)


# --- Vivado ----------------------------------------------------------------------------------------------------------

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
                found[field] = _number(cells[1], cells[0], name)
                if not 0 <= found[field] <= _MOST_SITES:
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
    slack = ns_to_s(_number(rows[0][0], "WNS", name))
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
        max_frequency_hz=_frequency(period - slack, name),
    )  # fmt: skip
    return ParsedReport("timing", report, slack_s=slack, period_s=period)
