"""Reading CSV from users: strict, with file, line and column in every message.

A header that lacks a column or names one twice, a row of another length, an empty cell and a value of the wrong kind
are each one sentence. Further columns are left alone, and can be asked for.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from datatypes.nearest import nearest

Value = TypeVar("Value")
MOST = 2**53  # the largest count of which a float holds every one below


@dataclass(frozen=True)
class CsvRow:
    """One row of a table.

    Args:
        where: file and line, for messages.
        cells: text by column.
    """

    where: str
    cells: Mapping[str, str]

    def has(self, column: str) -> bool:
        """Whether the table has the column."""
        return column in self.cells

    def text(self, column: str) -> str:
        """What stands in ``column``.

        Raises:
            ValueError: nothing.
        """
        found = self.cells[column].strip()
        if not found:
            raise ValueError(f"{self.where}: {column} must not be empty")
        return found

    def choice(self, column: str, choices: Mapping[str, Value]) -> Value:
        """The one of ``choices`` that ``column`` names.

        Raises:
            ValueError: it names none of them.
        """
        found = self.text(column)
        if found not in choices:
            near = nearest(found, choices)
            raise ValueError(f"{self.where}: {column} must be one of {', '.join(choices)}, not {found!r}{near}")
        return choices[found]

    def number(self, column: str, *, zero: bool = False) -> float:
        """A finite number above 0; with ``zero``, or 0.

        Raises:
            ValueError: it is none.
        """
        found = self.text(column)
        value = _float_of(found)
        if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
            least = "at least 0" if zero else "above 0"
            raise ValueError(f"{self.where}: {column} must be a finite number {least}, not {found!r}")
        return value

    def count(self, column: str, *, least: int = 1, most: int = MOST) -> int:
        """A whole number from ``least`` to ``most``.

        Raises:
            ValueError: it is none.
        """
        found = self.text(column)
        value = _float_of(found)
        if not (least <= value <= most and value.is_integer()):
            raise ValueError(f"{self.where}: {column} must be a whole number from {least} to {most}, not {found!r}")
        return int(value)


def _float_of(text: str) -> float:
    """NaN where it is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_csv(path: Path, columns: Sequence[str]) -> tuple[CsvRow, ...]:
    """The rows of a table that has ``columns``; empty lines are left out.

    Raises:
        ValueError: the file cannot be read, its header lacks a column or names one twice, a row is not as long as the
            header, or there is no row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path} must be a readable CSV table in UTF-8 ({reason})") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(missing)}, not only its others")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"the header of {path} must name each column once, not repeat {', '.join(map(repr, twice))}")
    if len(lines) == 1:
        raise ValueError(f"{path} must have at least one row below its header, not none")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise ValueError(f"{path} line {number} must have {len(header)} cells as its header, not {len(cells)}")
        rows.append(CsvRow(f"{path} line {number}", dict(zip(header, cells, strict=True))))
    return tuple(rows)
