"""What became of requests: waiting, time to the first token, time of each later one, and the totals of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwmodel.serving_requests import Request


@dataclass(frozen=True)
class Served:
    """What became of one request.

    Args:
        request: it.
        start_s: when its first chunk began.
        first_s: when its first token was there.
        end_s: when its last token was there.
    """

    request: Request
    start_s: float
    first_s: float
    end_s: float

    @property
    def wait_s(self) -> float:
        """From arrival until work began."""
        return self.start_s - self.request.arrival_s

    @property
    def first_token_s(self) -> float:
        """From arrival to the first token (TTFT)."""
        return self.first_s - self.request.arrival_s

    @property
    def token_s(self) -> float | None:
        """Mean time of each later token (TPOT); ``None`` where there is only one."""
        later = self.request.generate - 1
        return (self.end_s - self.first_s) / later if later else None

    @property
    def latency_s(self) -> float:
        """From arrival to the last token."""
        return self.end_s - self.request.arrival_s


@dataclass(frozen=True)
class ServingReport:
    """What a run came to.

    Args:
        served: in order of arrival.
        iterations: of the engine.
        busy_s: in which it ran.
        energy_j: of all iterations.
        batch_s: integral of decoding sequences over busy time.
    """

    served: tuple[Served, ...]
    iterations: int
    busy_s: float
    energy_j: float
    batch_s: float

    @property
    def span_s(self) -> float:
        """From time 0 to the last token."""
        return max(one.end_s for one in self.served)

    @property
    def mean_in_system(self) -> float:
        """Requests waiting or running, over time: Little's ``L``, by a sweep over arrivals and ends."""
        times = np.array([one.request.arrival_s for one in self.served] + [one.end_s for one in self.served])
        changes = np.repeat([1, -1], len(self.served))
        order = np.argsort(times, kind="stable")
        inside = np.cumsum(changes[order])[:-1]
        return float((inside * np.diff(times[order])).sum() / self.span_s)

    @property
    def generated(self) -> int:
        """Tokens of all answers."""
        return sum(one.request.generate for one in self.served)

    def steady(self, skip: float = 0.1) -> tuple[Served, ...]:
        """Requests without the first and last ``skip`` of them: the queue fills and drains there."""
        cut = int(len(self.served) * skip)
        return self.served[cut : len(self.served) - cut]

    def steady_tokens_per_s(self, skip: float = 0.1) -> float:
        """Tokens a second in the middle of the run: of requests that end between the ends of those cut off."""
        ends = np.array([one.end_s for one in self.served])
        tokens = np.array([one.request.generate for one in self.served])
        order = np.argsort(ends, kind="stable")
        cut = int(len(ends) * skip)
        inside = order[cut : len(ends) - cut]
        begin = ends[order[cut - 1]] if cut else 0.0
        return float(tokens[inside].sum() / (ends[inside[-1]] - begin))

    @property
    def offered_per_s(self) -> float:
        """Requests a second that arrive; NaN where all come at once."""
        last_s = self.served[-1].request.arrival_s
        return len(self.served) / last_s if last_s else float("nan")

    @property
    def served_per_s(self) -> float:
        """Requests a second that end."""
        return len(self.served) / self.span_s

    @property
    def keeps_up(self) -> bool:
        """Whether waits have stopped growing: those of the last quarter are under twice those of the second.

        Where they have not, percentiles say more about the number of requests than about the engine.
        """
        quarter = len(self.served) // 4
        if quarter == 0 or not self.served_per_s < 0.9 * self.offered_per_s:
            return True
        return mean_of(self.served[-quarter:], "wait_s") < 2 * mean_of(self.served[quarter : 2 * quarter], "wait_s")

    def summary(self) -> dict[str, float | int]:
        """Totals, and percentiles of the requests in the middle of the run."""
        middle = self.steady()
        later = [one.token_s for one in middle if one.token_s is not None]
        numbers: dict[str, float | int] = {
            "requests": len(self.served),
            "offered_per_s": self.offered_per_s,
            "served_per_s": self.served_per_s,
            "iterations": self.iterations,
            "span_s": self.span_s,
            "busy_share": self.busy_s / self.span_s,
            "tokens_per_s": self.steady_tokens_per_s(),
            "mean_decoding": self.batch_s / self.busy_s,
            "mean_in_system": self.mean_in_system,
            "energy_per_token_j": self.energy_j / self.generated,
        }
        for what, values in (
            ("first_token", [one.first_token_s for one in middle]),
            ("token", later),
            ("latency", [one.latency_s for one in middle]),
        ):
            for percent in (50, 90, 99):
                numbers[f"{what}_p{percent}_s"] = float(np.percentile(values, percent)) if values else float("nan")
        return numbers


def mean_of(served: Sequence[Served], what: str) -> float:
    """Mean of a property of ``served`` (``wait_s``, ``latency_s``, ...); requests without it left out."""
    values = [value for one in served if (value := getattr(one, what)) is not None]
    return sum(values) / len(values)
