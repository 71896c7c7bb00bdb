"""The scheduler: small cases by hand, queues with a closed form, and Little's law."""

from dataclasses import dataclass

import numpy as np
import pytest

from hwmodel.serving import Engine, serve
from hwmodel.serving_report import mean_of
from hwmodel.serving_requests import Lengths, Request, poisson_requests
from hwmodel.serving_step import Chunk, StepCost


@dataclass
class Linear:
    """Iterations of ``fixed + tokens * each`` seconds; writes down what it was asked."""

    fixed: float = 0.0
    each: float = 0.0
    seen: list | None = None

    def step(self, decoding, context_tokens, chunks):
        if self.seen is not None:
            self.seen.append((decoding, context_tokens, list(chunks)))
        return StepCost(self.fixed + self.each * (decoding + sum(c.tokens for c in chunks)), 2.0)


def test_one_request_by_hand():
    seen = []
    report = serve([Request(1.0, 10, 4)], Engine(4, 6), Linear(fixed=1.0, each=0.1, seen=seen))
    # 10 tokens of prompt under a budget of 6: two chunks, the second gives the first token; then three decode steps
    assert seen == [
        (0, 0, [Chunk(6, 0, False)]), (0, 0, [Chunk(4, 6, True)]), (1, 11, []), (1, 12, []), (1, 13, []),
    ]  # fmt: skip
    (one,) = report.served
    assert one.wait_s == 0
    assert one.first_token_s == pytest.approx(1.6 + 1.4)
    assert one.token_s == pytest.approx(1.1)
    assert one.latency_s == pytest.approx(1.6 + 1.4 + 3 * 1.1)
    assert (report.iterations, report.energy_j, report.generated) == (5, 10.0, 4)
    assert report.busy_s == pytest.approx(one.latency_s)
    assert report.batch_s == pytest.approx(3 * 1.1)


def test_a_prompt_rides_beside_decoding():
    seen = []
    served = serve([Request(0.0, 2, 4), Request(0.5, 3, 2)], Engine(2, 4), Linear(fixed=1.0, seen=seen)).served
    assert seen == [
        (0, 0, [Chunk(2, 0, True)]),  # 0 to 1 s; the second request comes meanwhile
        (1, 3, [Chunk(3, 0, True)]),  # 1 to 2 s, both
        (2, 4 + 4, []),  # 2 to 3 s: caches of 4 and of 4; the second is through
        (1, 5, []),
    ]
    assert [one.end_s for one in served] == [4.0, 3.0]
    assert served[1].wait_s == 0.5


def test_the_cache_admits_what_fits_with_its_answer():
    requests = [Request(0.0, 4, 4), Request(0.0, 4, 4), Request(0.0, 1, 1)]
    served = serve(requests, Engine(8, 64, cache_tokens=15), Linear(fixed=1.0)).served
    assert [one.start_s for one in served] == [0.0, 4.0, 4.0], "first come, first served: a small one does not overtake"
    assert [one.start_s for one in serve(requests, Engine(8, 64, 18), Linear(fixed=1.0)).served] == [0.0] * 3


def test_no_more_sequences_than_allowed():
    seen = []
    serve([Request(0.0, 1, 5)] * 7, Engine(3, 64), Linear(fixed=1.0, seen=seen))
    assert max(decoding + len(chunks) for decoding, _, chunks in seen) == 3


def test_an_idle_engine_waits_for_the_next_arrival():
    report = serve([Request(0.0, 1, 1), Request(10.0, 1, 1)], Engine(1, 1), Linear(fixed=1.0))
    assert [one.end_s for one in report.served] == [1.0, 11.0]
    assert report.busy_s == 2.0
    assert report.mean_in_system == pytest.approx(2 / 11)


def _one_at_a_time(rate, count, lengths, seed):
    """Prompts without an answer, one after another: a queue with one server; service takes a second for 100 tokens."""
    requests = poisson_requests(rate, count, lengths, Lengths(1), seed)
    return serve(requests, Engine(1, 1 << 20), Linear(each=0.01))


def _mean_wait(rate, lengths, *, runs=12, count=3000):
    """Mean waiting time and its standard error, from independent runs without their first tenth."""
    means = [
        mean_of(_one_at_a_time(rate, count, lengths, seed).served[count // 10 :], "wait_s") for seed in range(runs)
    ]
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(runs))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_of_equal_requests_is_that_of_m_d_1(load):
    mean, error = _mean_wait(load, Lengths(100))
    assert abs(mean - load / (2 * (1 - load))) < 4 * error  # D = 1 s: rho D / (2 (1 - rho))


def test_waiting_of_unequal_requests_is_pollaczek_and_khinchine_s():
    lengths = Lengths(100, 0.5)
    mean, error = _mean_wait(0.6, lengths)
    drawn = lengths.draw(1_000_000, np.random.default_rng(0)) / 100  # service times; rounding to tokens included
    closed_form = 0.6 * (drawn**2).mean() / (2 * (1 - 0.6 * drawn.mean()))
    assert abs(mean - closed_form) < 4 * error


def test_waiting_without_a_queue_is_none_at_all():
    report = serve([Request(2.0 * i, 100, 1) for i in range(50)], Engine(1, 1 << 20), Linear(each=0.01))
    assert {one.wait_s for one in report.served} == {0.0}  # D/D/1 at half load


def test_littles_law_of_a_batching_engine():
    requests = poisson_requests(12.0, 5000, Lengths(40, 0.7), Lengths(20, 0.7), seed=2)
    report = serve(requests, Engine(16, 64, 4000), Linear(fixed=0.004, each=0.0008))
    rate = len(report.served) / report.span_s
    assert report.mean_in_system == pytest.approx(rate * mean_of(report.served, "latency_s"), rel=1e-9)
    # arrivals of a Poisson process see what the time average is (Wolff 1982)
    ends = np.sort([one.end_s for one in report.served])
    inside = [i - np.searchsorted(ends, one.request.arrival_s, "right") for i, one in enumerate(report.served)]
    middle = np.array(inside[1000:], dtype=float)
    error = middle.reshape(20, -1).mean(axis=1).std(ddof=1) / np.sqrt(20)  # means of batches
    assert report.mean_in_system > 2
    assert abs(middle.mean() - report.mean_in_system) < 4 * error


def test_throughput_follows_the_rate_until_the_engine_is_full():
    def run(rate):
        requests = poisson_requests(rate, 600, Lengths(50), Lengths(20), seed=1)
        return serve(requests, Engine(8, 64), Linear(fixed=0.01, each=0.001)).steady_tokens_per_s()

    assert run(1.0) == pytest.approx(20.0, rel=0.1)
    # full: 8 sequences, each takes 50 + 19 tokens of work for 20 of answer, and iterations of 10 ms for each 8 of them
    assert run(50.0) < 20 / (69 * 0.001 + 19 / 8 * 0.01)
    assert run(50.0) == pytest.approx(run(100.0), rel=0.05)


def test_an_engine_that_does_not_keep_up_is_told():
    def run(rate):
        return serve(poisson_requests(rate, 400, Lengths(100), Lengths(1), 1), Engine(1, 1 << 20), Linear(each=0.01))

    assert run(0.5).keeps_up
    overloaded = run(3.0)
    assert not overloaded.keeps_up
    assert overloaded.served_per_s == pytest.approx(1.0, rel=0.01)  # one a second is all it can
    assert overloaded.offered_per_s == pytest.approx(3.0, rel=4 / 20)  # 400 gaps: 5 % standard error
    assert np.isnan(serve([Request(0.0, 1, 1)], Engine(1, 1), Linear(1.0)).offered_per_s)


def test_runs_repeat_to_the_last_bit():
    requests = poisson_requests(3.0, 200, Lengths(40, 0.7), Lengths(20, 0.7), seed=2)
    first, again = (serve(requests, Engine(16, 64), Linear(0.004, 0.0008)) for _ in range(2))
    assert first == again


def test_summary_of_a_run_by_hand():
    report = serve([Request(0.0, 1, 2)] * 4, Engine(4, 8), Linear(fixed=1.0))
    made = report.summary()
    assert (made["requests"], made["iterations"], made["span_s"], made["busy_share"]) == (4, 2, 2.0, 1.0)
    assert (made["first_token_p50_s"], made["token_p99_s"], made["latency_p90_s"]) == (1.0, 1.0, 2.0)
    assert made["tokens_per_s"] == 4.0
    assert made["energy_per_token_j"] == 0.5


def test_bad_runs_are_named():
    with pytest.raises(ValueError, match="requests must be at least one, not none"):
        serve([], Engine(), Linear(1.0))
    with pytest.raises(ValueError, match="must fit into the cache of 10 tokens, not 8 and 3"):
        serve([Request(0.0, 8, 3)], Engine(1, 1, 10), Linear(1.0))
    with pytest.raises(ValueError, match="max_sequences must be at least 1 and token_budget no less, not 4 and 2"):
        Engine(4, 2)
    with pytest.raises(ValueError, match="cache_tokens must be at least 1, not 0"):
        Engine(4, 4, 0)
