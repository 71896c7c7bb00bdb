"""Benchmark of products with many tokens: ``python -m kernels_gpu.bench_gemm --output record.json``.

For each encoding, shape and number of tokens: the tile kernel, and dequantize with the library's product after it; the
dequantizer alone; next to them the library's product of an FP16 weight. Every kernel is compared with a float64 product
(the dequantizer with ``QuantizedTensor.dequantize``, bit for bit) before it is timed, on poisoned results. Timed is a
CUDA graph over weights that rotate beyond L2. The bound is the larger of two times: all bytes (weight, inputs, results)
at the measured copy rate, and all products at the rate of the library's largest product in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from hwmodel.gpu_gemv_cut import LAUNCHED
from hwmodel.gpu_tiles_decode import LOOKED_UP
from hwmodel.report import Measurement
from kernels_gpu import bench_record, dequantize, gemm
from kernels_gpu.bench_gemv import SHAPES, inputs, packed
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
from kernels_gpu.dequantize_launch import prepare_dequantize
from kernels_gpu.dequantize_launch import spec_of as dequantize_spec
from kernels_gpu.gemm_decode import tile_kernel_obstacle
from kernels_gpu.gemm_launch import CUTS, choose_cut, padded_inputs, prepare_gemm, spec_of
from kernels_gpu.gemm_reference import tolerance
from kernels_gpu.gemv_decode import VERSION
from kernels_gpu.gemv_launch import PackedMatrix, allocate_result
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES
from kernels_gpu.launch import device_facts
from kernels_gpu.native import shared_limit
from kernels_gpu.timing import copy_bytes_per_s, rotation, time_graph

COMMAND = "python -m kernels_gpu.bench_gemm"
TOKENS = (17, 32, 64, 128, 256, 512, 2048)
QUICK_RECIPES, QUICK_TOKENS = ("int4_g128", "bitmod3_g128"), (32, 128)
MOST_TIMED_TOKENS = 512  # of the tile kernel: beyond what the rule gives it, to find where it should lie
LARGE = 8192  # tokens, inputs and outputs of the product whose rate bounds the others


@dataclass(frozen=True)
class Rates:
    """What bounds a product: bytes copied, and floating-point operations of the library, each in a second."""

    copy_bytes_per_s: float
    flop_per_s: float

    def bound_us(self, nbytes: int, m: int, n: int, k: int) -> float:
        """The larger of both times, in microseconds.

        >>> Rates(1e12, 1e15).bound_us(3_000_000, 1, 1000, 1000), Rates(1e12, 1e15).bound_us(0, 1000, 1000, 1000)
        (3.0, 2.0)
        """
        return max(nbytes / self.copy_bytes_per_s, 2 * m * n * k / self.flop_per_s) * 1e6


def measured_rates() -> Rates:
    """Rates of the current device."""
    x = torch.randn((LARGE, LARGE), device="cuda").half()
    out = torch.empty_like(x)
    seconds = time_graph([lambda: torch.mm(x, x, out=out)] * 2).median_s
    return Rates(copy_bytes_per_s(), 2 * LARGE**3 / seconds)


def cut_name(cut: tuple[int, ...]) -> str:
    """A cut in a record.

    >>> cut_name((4, 8, 1, 3))
    '4x8x1x3'
    """
    return "x".join(map(str, cut))


def bytes_of(weight_bytes: int, m: int, n: int, k: int) -> int:
    """Weight, inputs and results, 16 bits each of the latter."""
    return weight_bytes + 2 * m * (n + k)


Call = Callable[[], object]


def ways(weight: PackedMatrix, x: Tensor, out: Tensor, copy: Tensor) -> Iterator[tuple[str, Call, int]]:
    """Name, launch and registers of each way to make ``out``; ``copy`` ``[n, k]`` is free to be written."""
    if tile_kernel_obstacle(weight.plan) is None and len(x) <= MOST_TIMED_TOKENS:
        bound = prepare_gemm(weight, padded_inputs(x), out)
        yield "tiles", bound, bound.kernel.registers
    decoded = prepare_dequantize(weight, copy)

    def by_library() -> None:
        decoded()
        torch.mm(x, copy.T, out=out)

    yield "library", by_library, decoded.kernel.registers


def check(dense: Tensor, weight: PackedMatrix, x: Tensor, out: Tensor, call: Call) -> float:
    """Largest error over its tolerance, of two launches on poisoned results.

    Raises:
        AssertionError: an error above its tolerance, or results that differ between the launches.
    """
    expected = x.double() @ dense.double().T
    allowed = tolerance(x, dense, weight.plan, expected)
    made = []
    for _ in range(2):
        out.fill_(float("nan"))
        call()
        made.append(out.clone())
    return checked(made, expected, allowed)


def time_products(recipe: str, shape: tuple[int, int], tokens: Sequence[int], rates: Rates) -> Iterator[Row]:
    """Check, then time, an encoding."""
    n, k = shape
    weight, dense = packed(recipe, shape)
    copies = [weight, *(weight.clone() for _ in range(rotation(weight.nbytes) - 1))]
    half = torch.full((n, k), float("nan"), dtype=torch.float16, device="cuda")
    bound = prepare_dequantize(weight, half)
    bound()
    assert torch.equal(half, dense.half()), "the dequantizer must give what the codes stand for"
    halves = [half, *(torch.empty_like(half) for _ in range(len(copies) - 1))]
    timing = time_graph([prepare_dequantize(w, h) for w, h in zip(copies, halves, strict=True)])
    moved = weight.nbytes + half.nbytes
    yield Row(
        f"{recipe} dequantize", 0, n, k, "", moved, rates.bound_us(moved, 0, n, k), timing.median_s * 1e6,
        timing.spread, 0.0, bound.kernel.registers,
    )  # fmt: skip
    for m in tokens:
        x = inputs(m, k)
        out = allocate_result(m, n, x)
        for place, (name, call, registers) in enumerate(ways(weight, x, out, half)):
            worst = check(dense, weight, x, out, call)
            others = [list(ways(w, x, allocate_result(m, n, x), h)) for w, h in zip(copies, halves, strict=True)]
            timing = time_graph([each[place][1] for each in others])
            moved = bytes_of(weight.nbytes, m, n, k)
            cut = (
                "library"
                if name == "library"
                else cut_name(choose_cut(weight.config, m, shape, shared_limit(x.device)))
            )
            yield Row(
                f"{recipe} {name}", m, n, k, cut, moved, rates.bound_us(moved, m, n, k), timing.median_s * 1e6,
                timing.spread, worst, registers,
            )  # fmt: skip


def time_cuts(recipe: str, shape: tuple[int, int], tokens: Sequence[int], rates: Rates) -> Iterator[Row]:
    """The tile kernel in every cut that fits, checked."""
    n, k = shape
    weight, dense = packed(recipe, shape)
    copies = [weight, *(weight.clone() for _ in range(rotation(weight.nbytes) - 1))]
    for m in tokens:
        x = inputs(m, k)
        out = allocate_result(m, n, x)
        for cut in CUTS:
            try:
                bound = prepare_gemm(weight, padded_inputs(x), out, cut=cut)
                worst = check(dense, weight, x, out, bound)
            except (AssertionError, NotImplementedError, RuntimeError) as error:
                print(f"{recipe} {shape} m={m} {cut}: {str(error).splitlines()[0]}", flush=True)
                continue
            outs = [allocate_result(m, n, x) for _ in copies]
            launches = [prepare_gemm(w, padded_inputs(x), o, cut=cut) for w, o in zip(copies, outs, strict=True)]
            timing, moved = time_graph(launches), bytes_of(weight.nbytes, m, n, k)
            yield Row(
                f"{recipe} tiles", m, n, k, cut_name(cut), moved, rates.bound_us(moved, m, n, k), timing.median_s * 1e6,
                timing.spread, worst, bound.kernel.registers,
            )  # fmt: skip


def time_library(shape: tuple[int, int], tokens: Sequence[int], rates: Rates) -> Iterator[Row]:
    """The library's product of an FP16 weight."""
    n, k = shape
    nbytes = 2 * n * k
    weights = [torch.randn((n, k), device="cuda").half() for _ in range(rotation(nbytes))]
    for m in tokens:
        x = inputs(m, k)
        out = torch.empty((m, n), dtype=x.dtype, device="cuda")
        timing = time_graph([partial(torch.mm, x, w.T, out=out) for w in weights])
        moved = bytes_of(nbytes, m, n, k)
        bound = rates.bound_us(moved, m, n, k)
        yield Row("fp16 cuBLAS", m, n, k, "", moved, bound, timing.median_s * 1e6, timing.spread, 0.0)


def measurement(row: Row, common: dict[str, str], device: str) -> Measurement:
    """A row as the cost model's record; a dequantizer has no tokens."""
    own = {
        "worst_error_over_tolerance": f"{row.worst_error:.3f}", "way or cut": row.cut, "ring": LAUNCHED.value,
        "lookup": LOOKED_UP.value, "version": str(VERSION),
    }  # fmt: skip
    shape = (row.m, row.k, row.n)
    return bench_record.measurement(row, shape, own, common=common, device=device, source=COMMAND)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES)
    parser.add_argument("--shapes", nargs="+", type=shape_argument, metavar="NxK")
    parser.add_argument("--tokens", nargs="+", type=int)
    parser.add_argument("--explore", action="store_true", help="every cut of the tile kernel, not only the chosen one")
    parser.add_argument("--quick", action="store_true", help="two encodings, one shape, two sizes: under a minute")
    add_jobs(parser)
    given = parser.parse_args(arguments)
    given.recipes = given.recipes or list(QUICK_RECIPES if given.quick else RECIPES)
    given.shapes = given.shapes or list(SHAPES[:1] if given.quick else SHAPES)
    given.tokens = given.tokens or list(QUICK_TOKENS if given.quick else TOKENS)
    if min(given.tokens) < 1:
        parser.error(f"tokens must be at least 1, not {min(given.tokens)!r}")
    return given


def kernels_of(given: argparse.Namespace) -> Iterator[Ahead]:
    """The kernels of a run, as its launchers will ask for them."""
    limit = shared_limit(torch.device("cuda"))
    for recipe, shape in itertools.product(given.recipes, given.shapes):
        config = RECIPES[recipe]
        yield Ahead(dequantize.make_body, dequantize.ARGUMENTS, dequantize_spec(config, shape[1]))
        plan = plan_of(config)
        if tile_kernel_obstacle(plan) is not None:
            continue
        cuts = {choose_cut(config, m, shape, limit) for m in given.tokens if m <= MOST_TIMED_TOKENS}
        for cut in {*cuts, *(CUTS if given.explore else ())}:
            spec = spec_of(plan, shape, cut)
            if spec.shared_bytes <= limit:
                yield Ahead(gemm.make_body, gemm.ARGUMENTS, spec)


def run(given: argparse.Namespace, rates: Rates) -> Iterator[Row]:
    """All rows that the command line asks for; what fails is named and left out."""
    for shape in given.shapes:
        for recipe in given.recipes:
            for timed in (time_products, time_cuts) if given.explore else (time_products,):
                try:
                    yield from timed(recipe, shape, given.tokens, rates)
                except (AssertionError, NotImplementedError, RuntimeError) as error:
                    print(f"{recipe} {shape}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
                torch.cuda.empty_cache()
        yield from time_library(shape, given.tokens, rates)
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write the records."""
    given = parse(arguments)
    exit_without_cuda()
    with kept_ptx():
        compile_all(kernels_of(given), given.jobs)
        rates = measured_rates()
        print(f"copy {rates.copy_bytes_per_s / 1e12:.3f} TB/s, library {rates.flop_per_s / 1e12:.0f} TFLOP/s")
        rows, status = gather(run(given, rates))
    found, name = conditions_of_run(rates.copy_bytes_per_s, "weights", CLOCKS), device_facts().name
    found["library_flop_per_s"] = f"{rates.flop_per_s:.4e}"
    print(f"{name}, {CLOCKS}: {found[CLOCKS.replace(',', ', ')]}")
    if given.output is not None and rows:
        write_json(given.output, [asdict(measurement(row, found, name)) for row in rows])
    return status


if __name__ == "__main__":
    sys.exit(main())
