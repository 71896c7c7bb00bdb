"""Tables of constants that were fitted to kernels: a dataclass of floats as a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Constants = TypeVar("Constants")


def read_constants(path: Path, made: Callable[..., Constants], names: Sequence[str], model: str) -> Constants:
    """The recorded constants.

    Args:
        path: the table.
        made: their class.
        names: of the constants.
        model: whose they are, for the message.

    Raises:
        ValueError: the file is missing, or lacks one.
    """
    try:
        with path.open(newline="") as file:
            found = {row["constant"]: float(row["value"]) for row in csv.DictReader(file)}
        return made(**{name: found[name] for name in names})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"constants of the {model} model must be a CSV table with {', '.join(names)}, not {error!r}"
        ) from None


def write_constants(constants: Any, path: Path, source: str) -> None:
    """The constants, a dataclass of floats, as a table: four significant digits; replaces ``path`` by a whole file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("constant", "value", "source"))
        for name, value in asdict(constants).items():
            digits = 3 - math.floor(math.log10(abs(value))) if value else 0
            table.writerow((name, round(value, digits), source))
    temporary.replace(path)
