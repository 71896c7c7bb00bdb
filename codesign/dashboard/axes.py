"""What the accuracy-against-cost chart can show on its axes, and the words and units that go with it.

Tick labels carry SI prefixes written by plotly (``tickformat "~s"``), so no value is ever converted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codesign.study import TRIAL_COLUMNS


@dataclass(frozen=True)
class Axis:
    """One quantity of the trials table; smaller is better.

    Args:
        column: of the trials table.
        title: what a reader calls it.
        unit: appended to tick labels after the SI prefix; empty for plain numbers.
        log: whether a logarithmic axis is the better start.
        per_accelerator: whether it differs between accelerators for one recipe.
        error: column with its standard error, if any.
    """

    column: str
    title: str
    unit: str = ""
    log: bool = False
    per_accelerator: bool = True
    error: str | None = None

    def __post_init__(self) -> None:
        for column in (self.column, self.error):
            if column is not None and column not in TRIAL_COLUMNS:
                raise ValueError(f"column of an axis must be one of the trials table, not {column!r}")


X_AXES: tuple[Axis, ...] = (
    Axis("bits_per_weight", "Bits per weight", per_accelerator=False),
    Axis("model_bytes", "Model size", "B", per_accelerator=False),
    Axis("total_s", "Time for prompt and generation", "s", log=True),
    Axis("prefill_s", "Time for the prompt", "s", log=True),
    Axis("decode_s", "Time for each generated token", "s", log=True),
    Axis("total_energy_j", "Energy for prompt and generation", "J", log=True),
    Axis("decode_energy_j", "Energy for each generated token", "J", log=True),
    Axis("area_mm2", "Silicon area, mm²"),
)
Y_AXES: tuple[Axis, ...] = (
    Axis("loss", "Loss, nats per token", per_accelerator=False, error="loss_delta_se"),
    Axis("loss_delta", "Loss above the reference, nats", per_accelerator=False, error="loss_delta_se"),
    Axis("perplexity", "Perplexity", log=True, per_accelerator=False),
    Axis("kl", "KL divergence from the reference, nats", log=True, per_accelerator=False),
)
AXES: Mapping[str, Axis] = {axis.column: axis for axis in (*X_AXES, *Y_AXES)}


def axis(column: str, among: tuple[Axis, ...]) -> Axis:
    """The axis for a column.

    Raises:
        ValueError: ``column`` is not among them.
    """
    for candidate in among:
        if candidate.column == column:
            return candidate
    raise ValueError(f"axis must be one of {', '.join(a.column for a in among)}, not {column!r}")
