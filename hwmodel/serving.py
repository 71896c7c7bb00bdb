"""Continuous batching: requests arrive, an engine forms a new batch in every iteration, and users wait.

Scheduling by iterations: Yu et al., Orca, OSDI 2022; prompts in chunks beside decoding sequences under a budget of
tokens: Agrawal et al., Sarathi-Serve, OSDI 2024. Requests are admitted first come, first served, when a sequence is
free and the KV cache has room for all of prompt and answer, so that none is ever evicted. Every decoding sequence
advances by one token in each iteration; what is left of the budget goes to prompts, the oldest first. A prompt's last
chunk yields the first token. What an iteration takes is a ``StepModel``'s say (``hwmodel.serving_step``).

Left out: preemption, prefix sharing, work of the host between iterations.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hwmodel.serving_report import Served, ServingReport
from hwmodel.serving_requests import Request
from hwmodel.serving_step import Chunk, StepModel


@dataclass(frozen=True)
class Engine:
    """Limits of the scheduler.

    Args:
        max_sequences: admitted at once.
        token_budget: tokens of an iteration; decoding sequences come first and always fit.
        cache_tokens: that the KV cache holds over all sequences; ``None`` for no limit.
    """

    # ASSUMPTION: a size of batch and of budget that engines are run with; neither is a property of a machine
    max_sequences: int = 256
    token_budget: int = 2048
    cache_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_sequences < 1 or self.token_budget < self.max_sequences:
            raise ValueError(
                f"max_sequences must be at least 1 and token_budget no less, not {self.max_sequences!r} and "
                f"{self.token_budget!r}"
            )
        if self.cache_tokens is not None and self.cache_tokens < 1:
            raise ValueError(f"cache_tokens must be at least 1, not {self.cache_tokens!r}")


@dataclass
class _Running:
    """A request in the engine."""

    index: int
    request: Request
    done: int = 0  # tokens of its prompt
    start_s: float = 0.0
    first_s: float = 0.0


def serve(requests: Iterable[Request], engine: Engine, model: StepModel) -> ServingReport:
    """Run the engine until every request is answered.

    Args:
        requests: in any order.
        engine: its limits.
        model: what iterations take.

    Raises:
        ValueError: no request, or one that can never be admitted.
    """
    waiting = deque(sorted(requests, key=lambda request: request.arrival_s))
    if not waiting:
        raise ValueError("requests must be at least one, not none")
    for request in waiting:
        if engine.cache_tokens is not None and request.prompt + request.generate > engine.cache_tokens:
            raise ValueError(
                f"prompt and answer of every request must fit into the cache of {engine.cache_tokens} tokens, "
                f"not {request.prompt} and {request.generate}"
            )
    return _Run(waiting, engine, model).report()


class _Run:
    """One run; counts and sums are kept, so that an iteration takes no time for each sequence."""

    def __init__(self, waiting: deque[Request], engine: Engine, model: StepModel) -> None:
        self.waiting, self.engine, self.model = waiting, engine, model
        self.now_s = self.busy_s = self.energy_j = self.batch_s = 0.0
        self.iteration = self.admitted = 0
        self.reserved = 0  # tokens of the cache
        self.prompts: deque[_Running] = deque()
        self.ending: list[tuple[int, int, _Running]] = []  # (iteration after which it has ended, index, it)
        self.decoding = self.context_tokens = 0
        self.served: dict[int, Served] = {}

    def report(self) -> ServingReport:
        total = len(self.waiting)
        while len(self.served) < total:
            self._admit()
            if not self.prompts and not self.decoding:
                self.now_s = max(self.now_s, self.waiting[0].arrival_s)  # idle
                continue
            self._iterate()
        served = tuple(self.served[i] for i in sorted(self.served))
        return ServingReport(served, self.iteration, self.busy_s, self.energy_j, self.batch_s)

    def _admit(self) -> None:
        limit = self.engine.cache_tokens
        while self.waiting and self.waiting[0].arrival_s <= self.now_s:
            running = len(self.prompts) + self.decoding
            need = self.waiting[0].prompt + self.waiting[0].generate
            if running >= self.engine.max_sequences or (limit is not None and self.reserved + need > limit):
                return
            self.reserved += need
            self.prompts.append(_Running(self.admitted, self.waiting.popleft()))
            self.admitted += 1

    def _chunks(self) -> list[tuple[_Running, Chunk]]:
        left = self.engine.token_budget - self.decoding
        chosen = []
        for one in self.prompts:
            if left < 1:
                break
            tokens = min(left, one.request.prompt - one.done)
            chosen.append((one, Chunk(tokens, one.done, one.done + tokens == one.request.prompt)))
            left -= tokens
        return chosen

    def _iterate(self) -> None:
        chosen = self._chunks()
        self.context_tokens += self.decoding  # each decoding sequence adds its token
        cost = self.model.step(self.decoding, self.context_tokens, [chunk for _, chunk in chosen])
        start_s, self.now_s = self.now_s, self.now_s + cost.seconds
        self.iteration += 1
        self.busy_s += cost.seconds
        self.energy_j += cost.energy_j
        self.batch_s += self.decoding * cost.seconds
        while self.ending and self.ending[0][0] <= self.iteration:
            _, _, one = heapq.heappop(self.ending)
            self.decoding -= 1
            self.context_tokens -= one.request.prompt + one.request.generate - 1  # its last token is never attended to
            self._end(one)
        for one, chunk in chosen:
            if chunk.past == 0:
                one.start_s = start_s
            one.done += chunk.tokens
            if chunk.last:
                self._first_token(one)

    def _first_token(self, one: _Running) -> None:
        self.prompts.remove(one)
        one.first_s = self.now_s
        later = one.request.generate - 1
        if later == 0:
            self._end(one)
            return
        self.decoding += 1
        self.context_tokens += one.request.prompt
        heapq.heappush(self.ending, (self.iteration + later, one.index, one))

    def _end(self, one: _Running) -> None:
        self.reserved -= one.request.prompt + one.request.generate
        self.served[one.index] = Served(one.request, one.start_s, one.first_s, self.now_s)
