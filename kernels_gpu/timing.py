"""Time device work: CUDA graphs over rotating buffers, events around them, medians; and the copy that bounds it.

The method: inputs rotate among enough copies that each replay finds none of them in L2; launches are captured into one
CUDA graph so that gaps between launches stay small; a replay is timed by events and divided by its launches; the median
of many replays is reported with its spread. Kernels must launch on torch's current stream.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kernels_gpu.launch import device_facts

REPLAYS = 30  # of a CUDA graph; the median of their times is reported
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
    """How many buffer sets to rotate among so that they take at least four times the L2 cache."""
    return max(2, -(-4 * device_facts().l2_bytes // bytes_touched))


def time_graph(calls: Sequence[Callable[[], object]], *, most_calls: int = 24) -> Timing:
    """Time one call, where ``calls`` do the same work on different buffers and can be captured in a CUDA graph.

    Args:
        calls: each enqueues its work on torch's current stream.
        most_calls: captured in the graph by rounds over ``calls``; one round where there are more of them.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in calls:  # compiles, and makes allocations outside the capture
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    repeats = max(1, most_calls // len(calls))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            for call in calls:
                call()
    return _time(graph.replay, REPLAYS, len(calls) * repeats)


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
    seconds = []
    for _ in range(replays):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        stop.record()
        stop.synchronize()
        seconds.append(start.elapsed_time(stop) / 1e3 / calls)
    lower, median, upper = statistics.quantiles(seconds, n=4)
    return Timing(median_s=median, lower_quartile_s=lower, upper_quartile_s=upper, replays=replays)


COPY_BYTES = 1 << 32  # of each of the two buffers below


def copy_bytes_per_s(size_bytes: int = COPY_BYTES) -> float:
    """Rate of a large device-to-device copy, bytes read plus bytes written: the best of torch's ways to do it."""
    source = torch.randint(-(2**31), 2**31 - 1, (size_bytes // 4,), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    ways = (lambda: target.copy_(source), lambda: torch.neg(source, out=target))
    return max(2 * source.nbytes / time_eager([way]).median_s for way in ways)
