"""The scheduler, pipelines, drafts and experts against closed forms of queueing theory and of their papers.

Simulated figures are means of independent runs with fixed seeds; the note of each has its standard error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hwmodel.check import Check, Standing
from hwmodel.experts import mean_distinct_experts
from hwmodel.parallel_pipeline import Pipeline
from hwmodel.serving import Engine, serve
from hwmodel.serving_report import ServingReport, mean_of
from hwmodel.serving_requests import Lengths, poisson_requests
from hwmodel.serving_step import Chunk, StepCost
from hwmodel.speculative import sampled_tokens, tokens_per_verification

_RUNS, _REQUESTS = 10, 3000
_LEVIATHAN = "Leviathan, Kalman and Matias, ICML 2023, equation (1)"


class _Linear:
    """Iterations that take so many seconds, and so many for each token."""

    def __init__(self, fixed_s: float, token_s: float) -> None:
        self.fixed_s, self.token_s = fixed_s, token_s

    def step(self, decoding: int, context_tokens: int, chunks: Sequence[Chunk]) -> StepCost:
        return StepCost(self.fixed_s + self.token_s * (decoding + sum(chunk.tokens for chunk in chunks)), 0.0)


def _one_at_a_time(load: float, lengths: Lengths, seed: int) -> ServingReport:
    """A queue with one server: prompts of 100 tokens take a second, and there is no answer."""
    requests = poisson_requests(load, _REQUESTS, lengths, Lengths(1), seed)
    return serve(requests, Engine(1, 1 << 20), _Linear(0.0, 0.01))


def queues() -> Iterator[Check]:
    """Mean waiting time of one server, and Little's law of a batching engine."""
    for name, load, lengths in (("equal", 0.8, Lengths(100)), ("unequal", 0.6, Lengths(100, 0.5))):
        waits = [
            mean_of(_one_at_a_time(load, lengths, seed).served[_REQUESTS // 10 :], "wait_s") for seed in range(_RUNS)
        ]
        service = lengths.draw(1_000_000, np.random.default_rng(0)) / 100
        truth = load * float((service**2).mean()) / (2 * (1 - load * float(service.mean())))
        error = float(np.std(waits, ddof=1) / np.sqrt(_RUNS) / truth)
        yield Check(
            "Serving", f"waiting at rate {load}/s, {name} requests of a second, s", truth, float(np.mean(waits)),
            Standing.REBUILT, "Pollaczek and Khinchine (M/D/1 where requests are equal)",
            f"{_RUNS} runs of {_REQUESTS} requests, one sequence at a time; standard error {error:.1%}",
        )  # fmt: skip
    requests = poisson_requests(12.0, 2000, Lengths(40, 0.7), Lengths(20, 0.7), seed=2)
    report = serve(requests, Engine(16, 64, 4000), _Linear(0.004, 0.0008))
    truth = len(report.served) / report.span_s * mean_of(report.served, "latency_s")
    yield Check(
        "Serving",
        "requests in a batching engine",
        truth,
        report.mean_in_system,
        Standing.LAW,
        "Little 1961, L = rate W",
    )


def pipelines() -> Iterator[Check]:
    """Idle share of equal stages."""
    stages, micro = 4, 8
    made = Pipeline((), (1.0,) * stages, (0.0,) * (stages - 1))
    idle = 1 - micro * sum(made.stage_s) / (stages * made.seconds(micro))
    yield Check(
        "Serving", f"idle share of {stages} stages, {micro} micro-batches", (stages - 1) / (micro + stages - 1), idle,
        Standing.LAW, "Huang et al., GPipe, NeurIPS 2019, section 2.3",
    )  # fmt: skip


def samples() -> Iterator[Check]:
    """Drafts and experts: closed forms against samples."""
    generator = np.random.default_rng(0)
    drawn = sampled_tokens(0.8, 5, 100_000, generator)
    yield Check(
        "Serving", "tokens for each verification, acceptance 0.8, 5 drafted", float(drawn.mean()),
        tokens_per_verification(0.8, 5), Standing.REBUILT, f"100,000 samples; {_LEVIATHAN}",
        f"standard error of the samples {drawn.std() / drawn.mean() / np.sqrt(len(drawn)):.1%}",
    )  # fmt: skip
    touched = np.zeros((1000, 256), dtype=bool)
    chosen = generator.random((1000, 32, 256)).argpartition(8, axis=2)[:, :, :8]
    np.put_along_axis(touched, chosen.reshape(1000, -1), True, axis=1)
    counts = touched.sum(axis=1)
    yield Check(
        "Serving", "distinct of 256 experts, 32 tokens of 8 each", float(counts.mean()),
        mean_distinct_experts(256, 8, 32), Standing.REBUILT, "1,000 samples without repetition",
        f"standard error of the samples {counts.std() / counts.mean() / np.sqrt(len(counts)):.1%}",
    )  # fmt: skip


def serving_checks() -> Iterator[Check]:
    """All of them."""
    yield from queues()
    yield from pipelines()
    yield from samples()
