"""Time device work: CUDA graphs over rotating buffers, events around them, medians; and the copy that bounds it.

The method: inputs rotate among enough copies that each replay finds none of them in L2; launches are captured into one
CUDA graph so that gaps between launches stay small, as many as take ``REPLAY_S``; a replay is timed by events and
divided by its launches; the median of many replays is reported with its spread. Kernels must launch on torch's current
stream.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hwmodel.units import ceil_div
from kernels_gpu.launch import device_facts

REPLAYS = 30  # of a CUDA graph; the median of their times is reported
# A replay takes so long at least. Starting one, and filling the first kernel, takes 5 to 17 us: with 24 launches of
# 4 us, as records without the condition ``replay_s`` have them, a tenth of each (kernels_gpu/NOTES.md)
REPLAY_S = 2e-3
# Rotating buffers take so many times the L2 cache. With four times, loads that L2 is told to evict first were 3 to 6 %
# faster, and with eighty no faster: old lines had been kept from one round to the next (kernels_gpu/NOTES.md)
L2_TIMES = 16
WARM_S = 0.03  # of replays before them: the first ones after a pause are up to 17 % apart (kernels_gpu/NOTES.md)


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median over replays, and the quartiles around it."""

    median_s: float
    lower_quartile_s: float
    upper_quartile_s: float
    replays: int

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median."""
        return (self.upper_quartile_s - self.lower_quartile_s) / self.median_s


def rotation(bytes_touched: int) -> int:
    """How many buffer sets to rotate among so that they take at least ``L2_TIMES`` the L2 cache."""
    return max(2, ceil_div(L2_TIMES * device_facts().l2_bytes, bytes_touched))


def time_graph(calls: Sequence[Callable[[], object]], *, least_s: float = REPLAY_S) -> Timing:
    """Time one call, where ``calls`` do the same work on different buffers and can be captured in a CUDA graph.

    Args:
        calls: each enqueues its work on torch's current stream.
        least_s: that a replay takes, by rounds over ``calls``; 0 for one round.
    """
    graph, launches = replayed_graph(calls, least_s)
    return _time(graph.replay, REPLAYS, launches)


def replayed_graph(
    calls: Sequence[Callable[[], object]], least_s: float = REPLAY_S
) -> tuple[torch.cuda.CUDAGraph, int]:
    """A graph of so many rounds over ``calls`` that a replay takes ``least_s`` (0: one round), and the calls in it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls:  # compiles, and makes allocations outside the capture
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph, rounds = _captured(calls, 1), 1
    if least_s > 0:
        graph.replay()
        rounds = max(1, math.ceil(least_s / replay_seconds(graph.replay)))
    return (_captured(calls, rounds) if rounds > 1 else graph), len(calls) * rounds


def _captured(calls: Sequence[Callable[[], object]], rounds: int) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for call in calls:
                call()
    return graph


def one_after_another(launches: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Several launches as one call."""

    def call() -> None:
        for launch in launches:
            launch()

    return call


def time_eager(calls: Sequence[Callable[[], object]], replays: int = 10) -> Timing:
    """Time one call launched from Python, host overhead included, as a user of plain torch sees it."""
    return _time(one_after_another(calls), replays, len(calls))


def _time(run: Callable[[], object], replays: int, calls: int) -> Timing:
    begin = time.perf_counter()
    while time.perf_counter() < begin + WARM_S:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
    lower, median, upper = statistics.quantiles([replay_seconds(run) / calls for _ in range(replays)], n=4)
    return Timing(median_s=median, lower_quartile_s=lower, upper_quartile_s=upper, replays=replays)


def replay_seconds(run: Callable[[], object]) -> float:
    """Seconds of one run, by events around it."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


COPY_BYTES = 1 << 32  # of each of the two buffers below


def random_bits(size_bytes: int = COPY_BYTES) -> torch.Tensor:
    """Random int32 on the device."""
    return torch.randint(-(2**31), 2**31 - 1, (size_bytes // 4,), dtype=torch.int32, device="cuda")


def copy_bytes_per_s(size_bytes: int = COPY_BYTES) -> float:
    """Rate of a large device-to-device copy, bytes read plus bytes written: the best of torch's ways to do it."""
    source = random_bits(size_bytes)
    target = torch.empty_like(source)
    ways = (lambda: target.copy_(source), lambda: torch.neg(source, out=target))
    return max(2 * source.nbytes / time_eager([way]).median_s for way in ways)
