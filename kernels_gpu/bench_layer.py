"""Benchmark of whole layers: ``python -m kernels_gpu.bench_layer --output record.json``.

A decode GEMV with a low-rank branch, outlier columns or outlier rows beside it, and without, as chains of launches that
overlap. Every layer is compared with a float64 product of the dequantized layer before it is timed, on poisoned
results. Timed is a CUDA graph over layers that rotate beyond L2. The bound is the bytes of everything that is stored
at the measured copy rate.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch

from hwmodel.report import Measurement
from kernels_gpu import bench_record
from kernels_gpu.bench_gemv import SHAPES, inputs
from kernels_gpu.bench_record import (
    CLOCKS,
    Row,
    add_output,
    checked,
    conditions_of_run,
    exit_without_cuda,
    gather,
    shape_argument,
    write_json,
)
from kernels_gpu.compile_ahead import Ahead, add_jobs, compile_all, kept_ptx
from kernels_gpu.gemv_launch import MAX_TOKENS, allocate_result
from kernels_gpu.launch import device_facts
from kernels_gpu.layer import device_layer, prepare_layer
from kernels_gpu.layer_kernels import kernels_of
from kernels_gpu.layer_recipes import LAYERS
from kernels_gpu.layer_reference import reference
from kernels_gpu.native import peak_memory_bytes_per_s, shared_limit
from kernels_gpu.timing import copy_bytes_per_s, one_after_another, rotation, time_graph

COMMAND = "python -m kernels_gpu.bench_layer"
QUICK = {"shapes": SHAPES[:1], "tokens": (1,)}
ROWS_TO_TELL = 64  # of a layer that is made to learn its kernels: more than any rank


def time_layer(
    name: str, shape: tuple[int, int], tokens: Sequence[int], rate: float, *, fused: bool = True
) -> Iterator[Row]:
    """Check, then time, a layer with each number of tokens; ``fused`` as in ``layer.prepare_layer``.

    Raises:
        AssertionError: an error above its tolerance, or results that differ between two launches.
    """
    n, k = shape
    quantized = LAYERS[name](shape, "cuda")
    layer_of_launches = quantized.config.low_rank is not None and not fused
    placed = device_layer(quantized, "cuda")
    copies = [placed, *(placed.clone() for _ in range(rotation(placed.nbytes) - 1))]
    most = inputs(max(tokens), k)
    expected, allowed = reference(quantized, most)  # of each token alone: the fewer are the first of the most
    for m in tokens:
        x = most[:m]
        outs = [allocate_result(m, n, x).fill_(float("nan")) for _ in range(2)]
        for out in outs:
            one_after_another(prepare_layer(placed, x, out, fused=fused))()
        worst = checked(outs, expected[:m], allowed[:m])
        bound = [prepare_layer(layer, x, allocate_result(m, n, x), fused=fused) for layer in copies]
        timing = time_graph([one_after_another(launches) for launches in bound])
        registers = max(launch.kernel.registers for launch in bound[0])
        yield Row(
            f"{name}_launches" if layer_of_launches else name, m, n, k, f"{len(bound[0])} launches", placed.nbytes,
            placed.nbytes / rate * 1e6, timing.median_s * 1e6, timing.spread, worst, registers,
        )  # fmt: skip


def measurement(row: Row, common: dict[str, str], device: str) -> Measurement:
    """A row as the cost model's record."""
    own = {"worst_error_over_tolerance": f"{row.worst_error:.3f}", "launches": row.cut}
    shape = (row.m, row.k, row.n)
    return bench_record.measurement(row, shape, own, common=common, device=device, source=COMMAND)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--shapes", nargs="+", type=shape_argument, metavar="NxK")
    parser.add_argument("--tokens", nargs="+", type=int)
    parser.add_argument("--quick", action="store_true", help="one shape and one token, under a minute")
    parser.add_argument(
        "--launches", action="store_true", help="a low-rank branch in launches of its own, not with the dense product"
    )
    add_jobs(parser)
    given = parser.parse_args(arguments)
    given.shapes = given.shapes or list(QUICK["shapes"] if given.quick else SHAPES)
    given.tokens = given.tokens or list(QUICK["tokens"] if given.quick else (1, 4, 16))
    if not all(1 <= m <= MAX_TOKENS for m in given.tokens):
        parser.error(f"tokens must be 1 to {MAX_TOKENS}, not {given.tokens!r}")
    return given


def kernels_of_run(given: argparse.Namespace) -> Iterator[Ahead]:
    """The kernels of a run; layers of few rows tell them."""
    device = torch.device("cuda")
    limit, peak = shared_limit(device), peak_memory_bytes_per_s(device)
    for name, (n, k) in itertools.product(given.layers, given.shapes):
        placed = device_layer(LAYERS[name]((min(n, ROWS_TO_TELL), k), "cpu"), "cpu")
        for m in given.tokens:
            yield from kernels_of(placed, n, m, limit, memory_bytes_per_s=peak, fused=not given.launches)


def run(given: argparse.Namespace, rate: float) -> Iterator[Row]:
    """All rows that the command line asks for; what fails is named and left out."""
    for shape in given.shapes:
        for name in given.layers:
            try:
                yield from time_layer(name, shape, given.tokens, rate, fused=not given.launches)
            except (AssertionError, NotImplementedError, RuntimeError) as error:
                print(f"{name} {shape}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write the records."""
    given = parse(arguments)
    exit_without_cuda()
    with kept_ptx():
        compile_all(kernels_of_run(given), given.jobs)
        rate = copy_bytes_per_s()
        print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
        rows, status = gather(run(given, rate))
    found, name = conditions_of_run(rate, "layers", CLOCKS), device_facts().name
    print(f"{name}, {CLOCKS}: {found[CLOCKS.replace(',', ', ')]}")
    if given.output is not None and rows:
        write_json(given.output, [asdict(measurement(row, found, name)) for row in rows])
    return status


if __name__ == "__main__":
    sys.exit(main())
