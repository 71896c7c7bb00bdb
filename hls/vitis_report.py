"""Reports of Vitis HLS as ``ResourceReport``: csynth.xml, and the co-simulation report, which alone knows the cycles of
loops whose bounds are arguments; ``read_report`` reads them and those of ``hls.vivado_report``.

Formats: AMD UG1399 (csynth.xml: UserAssignments, PerformanceEstimates, AreaEstimates; ``<top>_cosim.rpt``: a row a
language). A report is somebody else's file: its size is limited, XML with a document type is refused (so no entity is
ever expanded), and every figure must be a plain number. What a report does not state stays ``None``.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from hls.report_figures import MOST_CYCLES, ParsedReport, frequency_hz, named_by_file, number, whole
from hls.vivado_report import parse_implementation, parse_timing, parse_utilization
from hwmodel.report import ResourceReport
from hwmodel.units import ns_to_s

MAX_BYTES = 64 << 20  # of a report; Vivado's own are far below
_DEPTH, _ELEMENTS = 64, 1_000_000  # of a csynth.xml: far above those of any kernel


def read_report(path: Path | str, *, clock_hz: float | None = None) -> ParsedReport:
    """Whatever of the five kinds of report ``path`` is.

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
    if "Resource usage ===" in text:
        return parse_implementation(text, path)
    raise ValueError(
        f"{path} must be a csynth.xml, a utilization report, a timing summary, a co-simulation report or an "
        "export report, and is none of them"
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
        return None if found is None else whole(found, tag, name)

    def cycles(tag: str) -> int | None:
        found = _text(root, f"PerformanceEstimates/SummaryOfOverallLatency/{tag}")
        return None if found is None else whole(found, tag, name, MOST_CYCLES)

    period = _text(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod")
    asked = _text(root, "UserAssignments/TargetClockPeriod")
    frequency = None if period is None else frequency_hz(ns_to_s(number(period, "EstimatedClockPeriod", name)), name)
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
    seconds = None if asked is None else ns_to_s(number(asked, "TargetClockPeriod", name))
    return ParsedReport("csynth", report, period_s=seconds)


# --- co-simulation ---------------------------------------------------------------------------------------------------

_COSIM = "_cosim.rpt"  # behind the top function's name, which the report itself does not state
_LATENCY, _INTERVAL = 4, 7  # columns of the largest, behind language, status, and smallest and mean


def parse_cosim(text: str, path: Path) -> ParsedReport:
    """A ``<top>_cosim.rpt``: cycles of the longest call of the testbench, and between two calls.

    Raises:
        ValueError: another file name, no language that passed, or figures that are none.
    """
    design = named_by_file(path.name, _COSIM, "a co-simulation report")
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    passed = [row for row in rows if len(row) > _INTERVAL and row[0] in ("Verilog", "VHDL") and row[1] == "Pass"]
    if not passed:
        raise ValueError(f"report {path} must have a row of Verilog or VHDL that passed")
    row = passed[0]
    interval = row[_INTERVAL]  # of a single call there is none

    def cycles(cell: str, what: str) -> int:
        return whole(cell, what, str(path), MOST_CYCLES)

    report = ResourceReport(
        design=design,
        target="",
        tool="Vitis HLS, co-simulation",
        latency_cycles=cycles(row[_LATENCY], "the largest latency"),
        interval_cycles=None if interval in ("NA", "") else cycles(interval, "the largest interval"),
    )
    return ParsedReport("cosim", report)
