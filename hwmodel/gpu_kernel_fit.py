"""What fits of GPU kernels share: least squares on log errors with a soft loss, and tables of what was found.

Needs scipy (extra ``test``).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

_SOFT = 0.05  # log errors above count linearly


class Timed(Protocol):
    """A measured kernel."""

    @property
    def seconds(self) -> float: ...


Case = TypeVar("Case", bound=Timed)


def fit_logs(
    cases: Sequence[Case],
    predicted: Callable[[Case, Mapping[str, float]], float],
    bounds: Mapping[str, tuple[float, float, float]],
) -> dict[str, float]:
    """Values that suit the measured rows best.

    Args:
        cases: measured rows.
        predicted: seconds of a row with given values.
        bounds: lowest, start and highest of each value.

    Raises:
        ValueError: fewer rows than values.
    """
    from scipy.optimize import least_squares

    if len(cases) < len(bounds):
        raise ValueError(f"rows to fit must be at least {len(bounds)}, one for each constant, not {len(cases)}")
    low, start, high = np.array(list(bounds.values())).T
    measured = np.array([case.seconds for case in cases])

    def values_at(shares: npt.NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(bounds, (low + (high - low) * shares).tolist(), strict=True))

    def residuals(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = values_at(shares)
        errors: npt.NDArray[np.float64] = np.log(np.array([predicted(case, values) for case in cases]) / measured)
        return errors

    share = (start - low) / (high - low)
    found = least_squares(
        residuals, share, bounds=(0, 1), diff_step=1e-4, loss="soft_l1", f_scale=_SOFT, x_scale=0.3, max_nfev=150
    )
    return values_at(found.x)


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
