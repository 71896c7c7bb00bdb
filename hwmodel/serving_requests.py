"""Requests to a serving engine: when they arrive, how long prompts and answers are. Drawn with a seed, or read.

A trace is a CSV file with the columns ``arrival_s``, ``prompt`` and ``generate``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Request:
    """What one user asks.

    Args:
        arrival_s: when.
        prompt: tokens of the prompt.
        generate: tokens of the answer.
    """

    arrival_s: float
    prompt: int
    generate: int

    def __post_init__(self) -> None:
        if self.prompt < 1 or self.generate < 1:
            raise ValueError(
                f"prompt and generate of a request must be at least 1, not {self.prompt!r} and {self.generate!r}"
            )
        if not 0 <= self.arrival_s < float("inf"):
            raise ValueError(f"arrival_s of a request must be at least 0 and finite, not {self.arrival_s!r}")


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts: log-normal with this mean, cut to ``least`` and ``most``, or always the mean.

    Args:
        mean: before cutting.
        variation: standard deviation over mean; 0 for always the mean.
        least, most: limits.
    """

    mean: float
    variation: float = 0.0
    least: int = 1
    most: int = 1 << 30

    def __post_init__(self) -> None:
        finite = np.isfinite([self.mean, self.variation]).all()
        if not (finite and self.mean >= 1 and self.variation >= 0 and 1 <= self.least <= self.most):
            raise ValueError(
                f"lengths must have a finite mean >= 1, a finite variation >= 0 and 1 <= least <= most, not {self!r}"
            )

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """``count`` lengths, int64."""
        spread2 = np.log1p(self.variation**2)
        drawn = np.exp(np.log(self.mean) - spread2 / 2 + np.sqrt(spread2) * generator.standard_normal(count))
        return np.clip(np.rint(drawn), self.least, self.most).astype(np.int64)


def poisson_requests(
    rate_per_s: float, count: int, prompt: Lengths, generate: Lengths, seed: int = 0
) -> tuple[Request, ...]:
    """``count`` requests with exponential times between them.

    Raises:
        ValueError: a rate not above 0, or no request.
    """
    if not 0 < rate_per_s < float("inf") or count < 1:
        raise ValueError(
            f"rate_per_s must be above 0 and finite and count at least 1, not {rate_per_s!r} and {count!r}"
        )
    generator = np.random.default_rng(seed)
    arrivals = np.cumsum(generator.exponential(1 / rate_per_s, count))
    prompts, answers = prompt.draw(count, generator), generate.draw(count, generator)
    return tuple(Request(float(a), int(p), int(g)) for a, p, g in zip(arrivals, prompts, answers, strict=True))


_COLUMNS = ("arrival_s", "prompt", "generate")


def read_requests(path: Path) -> tuple[Request, ...]:
    """Requests of a trace, in order of arrival.

    Raises:
        ValueError: a column is missing, a row is not a request, there is none, or it is no text; names the file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"trace {path} must be text in UTF-8, not bytes that are none ({error})") from None
    requests = []
    rows = csv.DictReader(lines)
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(f"trace {path} must have the columns {', '.join(_COLUMNS)}, not lack {missing[0]}")
    for row in rows:
        try:
            requests.append(Request(float(row["arrival_s"]), int(row["prompt"]), int(row["generate"])))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {rows.line_num} of trace {path} must be a request ({error})") from None
    if not requests:
        raise ValueError(f"trace {path} must have at least one request, not none")
    return tuple(sorted(requests, key=lambda request: request.arrival_s))
