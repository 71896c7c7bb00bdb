"""Clocks and power while a kernel repeats: ``python -m kernels_gpu.bench_power --shape 28672x8192``.

Replays of a CUDA graph follow one another for some seconds; meanwhile ``nvidia-smi`` is asked for the clock, the power
and the reasons for which the clock is not higher. A GPU that reaches its power limit lowers its clock, and what is
bound by instructions takes longer: the first replays, which come before, are told apart from the last. ``copy`` and
``read`` are torch's, of 4 GiB of random bits: what memory alone takes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch

from kernels_gpu import bench_gemv
from kernels_gpu.bench_record import add_output, exit_without_cuda, gather, shape_argument, write_json
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.launch import device_facts
from kernels_gpu.timing import one_after_another, random_bits, replay_seconds, replayed_graph

COMMAND = "python -m kernels_gpu.bench_power"
FIELDS = "clocks.sm,power.draw.instant,clocks_event_reasons.active"
EVERY_MS = 40
SETTLE_S = 0.3  # from the start of nvidia-smi to its first lines
FIRST_S, LAST_S = 0.1, 0.5  # of the replays: the clock falls after some tenths of a second
POWER_CAP = 0x4  # of clocks_event_reasons: nvmlClocksEventReasonSwPowerCap, nvml.h
MEMORY = ("copy", "read")


@dataclass(frozen=True)
class Sample:
    """What ``nvidia-smi`` said at a time."""

    at_s: float
    clock_mhz: float
    watts: float
    reasons: int


@dataclass(frozen=True)
class PowerRow:
    """One kernel, repeated.

    Args:
        kernel: recipe, ``copy`` or ``read``.
        first_us, last_us: medians of a launch at the beginning and at the end.
        least_us: of all.
        watts: median of the samples of the last half.
        clock_mhz, least_mhz: median and lowest of these.
        capped: share of these in which the power limit kept the clock down.
    """

    kernel: str
    first_us: float
    last_us: float
    least_us: float
    watts: float
    clock_mhz: float
    least_mhz: float
    capped: float


def parse_sample(line: str, at_s: float) -> Sample | None:
    """A line of ``nvidia-smi --query-gpu``; ``None`` where the device does not say.

    >>> parse_sample("1980, 388.72, 0x0000000000000004", 1.5)
    Sample(at_s=1.5, clock_mhz=1980.0, watts=388.72, reasons=4)
    """
    try:
        clock, watts, reasons = (part.strip() for part in line.split(","))
        return Sample(at_s, float(clock), float(watts), int(reasons, 16))
    except ValueError:
        return None


@contextmanager
def sampled() -> Iterator[list[Sample]]:
    """Samples, growing until the context is left.

    Raises:
        RuntimeError: no ``nvidia-smi``.
    """
    found: list[Sample] = []
    command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits", "-lms", str(EVERY_MS)]
    command += ["-i", str(torch.cuda.current_device())]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError as error:
        raise RuntimeError(f"nvidia-smi must be there to read clocks and power: {error}") from error

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            sample = parse_sample(line, time.perf_counter())
            if sample is not None:
                found.append(sample)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        time.sleep(SETTLE_S)
        yield found
    finally:
        process.terminate()
        process.wait()
        reader.join()


def summarize(kernel: str, times: Sequence[tuple[float, float]], samples: Sequence[Sample]) -> PowerRow:
    """A row of replays ``(at, seconds of a launch)`` and what was sampled meanwhile.

    Raises:
        RuntimeError: no sample fell into the second half.
    """
    begin, end = times[0][0], times[-1][0]
    late = [s for s in samples if (begin + end) / 2 <= s.at_s <= end]
    if not late:
        raise RuntimeError(f"nvidia-smi must give samples of {FIELDS} while {kernel} runs, and gave none")
    first = [t for at, t in times if at <= begin + FIRST_S]
    last = [t for at, t in times if at >= end - LAST_S]
    return PowerRow(
        kernel, statistics.median(first) * 1e6, statistics.median(last) * 1e6, min(t for _, t in times) * 1e6,
        statistics.median(s.watts for s in late), statistics.median(s.clock_mhz for s in late),
        min(s.clock_mhz for s in late), sum(s.reasons & POWER_CAP > 0 for s in late) / len(late),
    )  # fmt: skip


def calls_of(kernel: str, shape: tuple[int, int]) -> list[Callable[[], object]]:
    """Launches of one kernel over buffers beyond L2."""
    if kernel in MEMORY:
        source = random_bits()
        if kernel == "copy":
            target = torch.empty_like(source)
            return [lambda: torch.neg(source, out=target)]
        largest = torch.empty((), dtype=source.dtype, device=source.device)
        return [lambda: torch.amax(source, dim=0, out=largest)]
    weight, _ = bench_gemv.packed(kernel, shape)
    return [one_after_another(bound) for bound in bench_gemv.rotating(weight, bench_gemv.inputs(1, shape[1]), None)]


def run(kernels: Sequence[str], shape: tuple[int, int], seconds: float) -> Iterator[PowerRow]:
    """The rows, each after a pause in which the device cools down."""
    for kernel in kernels:
        calls = calls_of(kernel, shape)  # they hold what the graph reads
        graph, launches = replayed_graph(calls)
        times: list[tuple[float, float]] = []
        time.sleep(1.0)
        with sampled() as samples:
            begin = time.perf_counter()
            while time.perf_counter() < begin + seconds:
                times.append((time.perf_counter(), replay_seconds(graph.replay) / launches))
        yield summarize(kernel, times, samples)
        del graph, calls
        torch.cuda.empty_cache()


def report(row: PowerRow) -> str:
    """One line."""
    return (
        f"{row.kernel:20} {row.first_us:9.2f} {row.last_us:9.2f} {row.least_us:9.2f} {row.watts:7.0f} "
        f"{row.clock_mhz:7.0f} {row.least_mhz:7.0f} {row.capped:7.0%}"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    names = [*MEMORY, *RECIPES]
    parser.add_argument("--kernels", nargs="+", choices=names, default=[*MEMORY, "int4_g128", "fp4_g128", "nf4_g64"])
    parser.add_argument("--shape", type=shape_argument, default=(28672, 8192), metavar="NxK")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each kernel, at least 1")
    given = parser.parse_args(arguments)
    if not 1 <= given.seconds <= 60:
        parser.error(f"seconds must be 1 to 60, not {given.seconds!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write them."""
    given = parse(arguments)
    exit_without_cuda()
    print(f"{device_facts().name}, one token, {given.shape[0]}x{given.shape[1]}")
    head = (
        f"{'kernel':20} {'first us':>9} {'last us':>9} {'least us':>9} {'W':>7} {'MHz':>7} {'least':>7} {'capped':>7}"
    )
    try:
        rows, status = gather(run(given.kernels, given.shape, given.seconds), head, report)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if given.output is not None and rows:
        write_json(given.output, [asdict(row) for row in rows])
    return status


if __name__ == "__main__":
    sys.exit(main())
