"""What reports of synthesis have in common: how they are held, and figures that must be plain numbers.

A report is somebody else's file: what it does not state stays ``None``, and every figure that it states is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwmodel.report import ResourceReport

MOST_SITES = 10**9  # no device has more
MOST_CYCLES = 10**15  # what tools write for loops whose bounds they do not know is far below
_NUMBER = re.compile(r"-?\d{1,16}(\.\d{1,9})?")
_GRADE = re.compile(r"\d[a-z]*|[a-z]")  # of speed, or temperature, or a static screen: the end of a part number


@dataclass(frozen=True)
class ParsedReport:
    """A report and what it is.

    Args:
        kind: ``csynth``, ``cosim``, ``implementation``, ``utilization`` or ``timing``.
        report: what it states.
        slack_s: worst negative slack of a timing summary; ``None`` else.
        period_s: clock period that it was asked for; ``None`` if it does not say.
    """

    kind: str
    report: ResourceReport
    slack_s: float | None = None
    period_s: float | None = None


def number(text: str, what: str, name: str) -> float:
    """A plain decimal number.

    Raises:
        ValueError: it is none; the message says ``what`` it is and the report's ``name``.
    """
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        raise ValueError(f"{what} in report {name} must be a number, not {stripped[:40]!r}")
    return float(stripped)


def whole(text: str, what: str, name: str, most: int = MOST_SITES) -> int:
    """A whole number from 0 to ``most``.

    Raises:
        ValueError: it is none.
    """
    value = number(text, what, name)
    if value != int(value) or not 0 <= value <= most:
        raise ValueError(f"{what} in report {name} must be a whole number of 0 to {most:,}, not {text.strip()[:40]!r}")
    return int(value)


def same_part(one: str, other: str) -> bool:
    """Whether two part numbers may be of one part: reports write them in several ways, as far as they state them.

    Vivado leaves out ``xc``, hyphens and grades of speed and temperature (``7z020-clg400`` in a timing summary,
    ``xcu280fsvh2892-2L`` in a utilization report); grades that both state must be equal.

    >>> same_part("xc7z020clg400-1", "7z020-clg400"), same_part("xc7z020clg400-1", "xc7z020clg400-2")
    (True, False)
    """
    (device, grades), (other_device, others) = _parted(one), _parted(other)
    return device == other_device and all(a == b for a, b in zip(grades, others, strict=False))


def _parted(part: str) -> tuple[str, tuple[str, ...]]:
    """Device and package without hyphens, and the grades of a part number."""
    pieces = part.strip().lower().removeprefix("xc").split("-")
    first = len(pieces)
    while first > 1 and _GRADE.fullmatch(pieces[first - 1]):
        first -= 1
    return "".join(pieces[:first]), tuple(pieces[first:])


def frequency_hz(period_s: float, name: str) -> float:
    """Of a clock period.

    Raises:
        ValueError: the period is not above 0.
    """
    if not period_s > 0:
        raise ValueError(f"a clock period in report {name} must be above 0, not {period_s!r}")
    return 1.0 / period_s


def named_by_file(file_name: str, ending: str, what: str) -> str:
    """The design that a report does not name but its file does.

    Raises:
        ValueError: the file is not called ``<top function><ending>``.
    """
    if not file_name.endswith(ending) or file_name == ending:
        raise ValueError(f"{what} must keep its name, <top function>{ending}, not {file_name!r}")
    return file_name.removesuffix(ending)
