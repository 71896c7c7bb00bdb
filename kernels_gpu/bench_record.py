"""What the benchmarks share: timed kernels as text and as the cost model's records, and what these depend on."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor

from hwmodel.report import Measurement
from kernels_gpu.launch import device_facts, query_smi, require_cuda, require_free_memory
from kernels_gpu.shape_text import parse_shape
from kernels_gpu.timing import COPY_BYTES, L2_TIMES, REPLAY_S, REPLAYS

CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit"  # fields of nvidia-smi


@dataclass(frozen=True)
class Row:
    """One timed kernel."""

    kernel: str
    m: int
    n: int
    k: int
    cut: str
    bytes_moved: int
    bound_us: float
    median_us: float
    spread: float
    worst_error: float  # over its tolerance; 0 where it was not compared
    registers: int = 0

    @property
    def of_bound(self) -> float:
        """Fraction of the memory bound."""
        return self.bound_us / self.median_us


def exit_without_cuda() -> None:
    """End the benchmark with a sentence and code 2 where kernels cannot run, or memory cannot hold a copy."""
    try:
        require_cuda()
        require_free_memory(2 * COPY_BYTES, "the copy that bounds the kernels")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Give a command the option ``--output``; where no file can be written is said before anything is timed."""
    parser.add_argument("--output", type=output_argument, metavar="FILE", help="JSON file of measurements to write")


def output_argument(text: str) -> Path:
    """A file that can be written.

    Raises:
        argparse.ArgumentTypeError: a folder, or in none that is there.
    """
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"it must be a file in a folder that exists, not {text!r}")
    return path


def shape_argument(text: str) -> tuple[int, int]:
    """A shape of the command line, n and k.

    Raises:
        argparse.ArgumentTypeError: not two numbers above zero.
    """
    try:
        return parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def checked(outs: Sequence[Tensor], expected: Tensor, allowed: Tensor) -> float:
    """Largest error over its tolerance, of the results of two launches; ``expected`` and ``allowed`` in float64.

    Raises:
        AssertionError: an error above its tolerance, or results that differ between the launches.
    """
    worst = ((outs[0].double() - expected).abs() / allowed).nan_to_num(nan=float("inf")).max().item()
    assert worst <= 1, f"error must be within its tolerance, not {worst:.3g} times it"
    assert torch.equal(*outs), "two launches must agree"
    return worst


HEAD = (
    f"{'kernel':26s}{'m':>5s}{'shape':>12s}{'cut':>22s}{'us':>9s}{'spread':>8s}{'bound':>8s}{'of it':>7s}"
    f"{'error':>7s}{'regs':>5s}"
)


def line(r: Any) -> str:
    """A row as text, below ``HEAD``."""
    return (
        f"{r.kernel:26s}{r.m:5d}{f'{r.n}x{r.k}':>12s}{r.cut:>22s}{r.median_us:9.2f}{r.spread:8.1%}{r.bound_us:8.2f}"
        f"{r.of_bound:7.1%}{r.worst_error:7.2f}{r.registers:5d}"
    )


def table(rows: list[Row]) -> str:
    """The rows as text."""
    return "\n".join([HEAD, *(line(r) for r in rows)])


Timed = TypeVar("Timed")
STOPPED = 130  # status of a command that was interrupted: POSIX shells, 128 and the number of SIGINT


def gather(rows: Iterable[Timed], head: str = HEAD, shown: Callable[[Timed], str] = line) -> tuple[list[Timed], int]:
    """The rows, each printed below ``head`` as it comes, and the status to end with.

    SIGINT and SIGTERM end them early: what is there by then is kept, and the status is ``STOPPED``. Without any row it
    is 1.
    """
    made: list[Timed] = []
    # SIGINT too: a shell starts commands in the background with it ignored
    kept = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(head, flush=True)
        for row in rows:
            made.append(row)
            print(shown(row), flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {len(made)} rows", file=sys.stderr, flush=True)
        return made, STOPPED
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    return made, 0 if made else 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def measurement(
    row: Row,
    shape: tuple[int, int, int],
    own: Mapping[str, str],
    *,
    common: Mapping[str, str],
    device: str,
    source: str,
) -> Measurement:
    """A row as the cost model's record.

    Args:
        row: the timed kernel.
        shape: of the record.
        own: further conditions of this row, such as its error and its cut.
        common: conditions of all rows.
        device: what it ran on.
        source: the command.
    """
    moved = {
        "bytes": str(row.bytes_moved),
        "bound_us": f"{row.bound_us:.3f}",
        "quartiles_over_median": f"{row.spread:.4f}",
    }
    return Measurement(
        name=row.kernel,
        shape=shape,
        device=device,
        seconds=row.median_us / 1e6,
        repeats=REPLAYS,
        conditions={**common, **moved, **own, "registers": str(row.registers)},
        source=source,
    )


def conditions_of_run(copy_rate: float, rotated: str, smi_fields: str, *, replay_s: float = REPLAY_S) -> dict[str, str]:
    """What every record of a run says: the copy rate in bytes a second, clocks, driver, date, versions.

    Args:
        copy_rate: measured.
        rotated: what rotates beyond L2, a plural.
        smi_fields: of nvidia-smi, apart by commas.
        replay_s: that a replay takes at least; 0 where it is one round.
    """
    return {
        "copy_bytes_per_s": f"{copy_rate:.4e}",
        "method": f"CUDA graph, {rotated} rotated beyond {L2_TIMES} times L2, median of {REPLAYS} replays",
        "replay_s": f"{replay_s:g}",
        smi_fields.replace(",", ", "): query_smi(smi_fields) or "unknown",
        "date": today(),
        **versions(),
    }


def today() -> str:
    """The date, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def versions() -> dict[str, str]:
    """Of the driver and the packages that a measurement depends on."""
    found = {"driver": device_facts().driver}
    for name in ("torch", "numba", "numba-cuda", "cuda-bindings", "numpy", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, content: object) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
