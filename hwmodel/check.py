"""One comparison with a ground truth: what somebody else published or measured, what we say, and how far apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import pandas as pd


class Standing(Enum):
    """What agreement would mean."""

    LAW = "law"  # both sides state the same law: equal up to printed digits
    REBUILT = "rebuilt"  # ours follows from other sources than theirs: the error says how good the model is
    BOUND = "bound"  # ours is a bound that theirs must keep
    OPEN = "not rebuilt"  # ours does not explain theirs; the note says why
    INPUT = "input"  # ours was made from this very figure, or from its published parts: nothing is predicted


@dataclass(frozen=True)
class Check:
    """One row of a validation table.

    Args:
        subject: machine or method.
        quantity: what is compared, with its unit.
        truth: published or measured.
        ours: ours.
        standing: what agreement would mean.
        source: where ``truth`` comes from.
        note: how ours was made, and why it differs.
        cases: figures behind it. Several are 1.0 in ``truth`` and 1 and their mean absolute error in ``ours``.
        worst: largest absolute error of several; ``None`` for one figure.
    """

    subject: str
    quantity: str
    truth: float
    ours: float
    standing: Standing
    source: str
    note: str = ""
    cases: int = 1
    worst: float | None = None

    def __post_init__(self) -> None:
        if (self.cases > 1) != (self.worst is not None):
            raise ValueError(f"a check of several cases must have a worst error, not {self.cases!r} and {self.worst!r}")

    @property
    def error(self) -> float | None:
        """Relative; ``None`` for an input, which cannot be wrong in this way."""
        return None if self.standing is Standing.INPUT else self.ours / self.truth - 1


def checks_frame(checks: Iterable[Check]) -> pd.DataFrame:
    """One row for each check: subject, quantity, cases, truth, ours, error (NaN for inputs), worst (NaN for one case),
    standing, note, source."""
    return pd.DataFrame(
        [
            {
                "subject": check.subject,
                "quantity": check.quantity,
                "cases": check.cases,
                "truth": check.truth,
                "ours": check.ours,
                "error": float("nan") if check.error is None else check.error,
                "worst": float("nan") if check.worst is None else check.worst,
                "standing": check.standing.value,
                "note": check.note,
                "source": check.source,
            }
            for check in checks
        ]
    )
