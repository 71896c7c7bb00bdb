"""Benchmark of the decode GEMV: ``python -m kernels_gpu.bench_gemv --output record.json``.

Every kernel is compared with a float64 product of the decoded weight before it is timed, on poisoned results. Timed
is a CUDA graph over weights that rotate beyond L2, as in decoding; ``alone`` forbids a kernel to start before the one
before it has ended. Next to it, in the same run: half-precision cuBLAS, torch's int4 kernel (tinygemm) and, where it
is installed, bitsandbytes' NF4. The bound is the bytes of the packed weight at the measured copy rate.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from hwmodel.gpu_gemv_cut import LAUNCHED, GemvCut
from hwmodel.report import Measurement
from kernels_gpu import bench_record, compile_ahead
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
from kernels_gpu.gemv_decode import VERSION
from kernels_gpu.gemv_launch import (
    MAX_TOKENS,
    PackedMatrix,
    allocate_result,
    choose_shape,
    from_quantized,
    kernel_ahead,
    prepare,
    prepare_all,
    spec_of,
    tokens_at_once,
)
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_reference import tolerance
from kernels_gpu.launch import device_facts
from kernels_gpu.native import BoundLaunch, peak_memory_bytes_per_s, shared_limit
from kernels_gpu.timing import copy_bytes_per_s, one_after_another, rotation, time_graph

COMMAND = "python -m kernels_gpu.bench_gemv"
versions = bench_record.versions  # what records of one run agree on
FILL = "stage after stage"  # of the ring before the inputs come; records without it: all at once (NOTES.md, version 8)
# q projection of Llama-2-7B, its gate projection, and Llama-2-70B's (Touvron et al. 2023, arXiv 2307.09288)
SHAPES = ((4096, 4096), (11008, 4096), (28672, 8192))
# warps, runs, depth, blocks on a multiprocessor (0: as many as fit)
CUTS = tuple(
    GemvCut(*cut)
    for cut in (
        (8, 2, 1, 0), (8, 2, 2, 0), (8, 2, 3, 0), (8, 2, 2, 1), (16, 2, 1, 0), (16, 2, 2, 0), (16, 2, 2, 1),
        (8, 4, 1, 0), (8, 4, 2, 0), (8, 4, 3, 0), (16, 4, 1, 0), (4, 2, 2, 0), (4, 4, 2, 0),
    )
)  # fmt: skip


def packed(recipe: str, shape: tuple[int, int]) -> tuple[PackedMatrix, Tensor]:
    """A packed weight of random numbers on the device, and what it decodes to."""
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    weight = torch.randn(shape, generator=generator, device="cuda") * 0.02
    quantized = quantize_randomly(weight, RECIPES[recipe])
    return from_quantized(quantized, "cuda"), quantized.dequantize()


def inputs(tokens: int, k: int) -> Tensor:
    """Random inputs, half precision."""
    generator = torch.Generator("cuda").manual_seed(tokens)
    return torch.randn((tokens, k), generator=generator, device="cuda").half()


def bind(
    weight: PackedMatrix, x: Tensor, out: Tensor, cut: GemvCut | None, *, overlapped: bool = True
) -> list[BoundLaunch]:
    """Launches with the work cut as asked for, or as the launcher chooses."""
    if cut is None:
        return prepare_all(weight, x, out, overlapped=overlapped)
    return [prepare(weight, x, out, shape=cut, overlapped=overlapped)]


def check(weight: PackedMatrix, dense: Tensor, x: Tensor, cut: GemvCut | None) -> float:
    """Largest error over its tolerance, of two launches on poisoned results.

    Raises:
        AssertionError: an error above its tolerance, or results that differ between the launches.
    """
    expected = x.double() @ dense.double().T
    allowed = tolerance(x, dense, weight.plan, expected)
    outs = []
    for _ in range(2):
        out = allocate_result(x.shape[0], weight.shape[0], x).fill_(float("nan"))
        for launch in bind(weight, x, out, cut):
            launch()
        outs.append(out.clone())
    torch.cuda.synchronize()
    return checked(outs, expected, allowed)


def rotating(
    weight: PackedMatrix, x: Tensor, cut: GemvCut | None, *, overlapped: bool = True
) -> list[list[BoundLaunch]]:
    """The launches of a product over copies of its weight beyond L2."""
    copies = [weight, *(weight.clone() for _ in range(rotation(weight.nbytes) - 1))]
    return [bind(w, x, allocate_result(len(x), w.shape[0], x), cut, overlapped=overlapped) for w in copies]


def time_kernel(
    recipe: str, weight: PackedMatrix, x: Tensor, copy_rate: float, cut: GemvCut | None, *, overlapped: bool = True
) -> Row:
    """Time one kernel over rotating weights; not checked here."""
    n, k = weight.shape
    launches = rotating(weight, x, cut, overlapped=overlapped)
    timing = time_graph([one_after_another(bound) for bound in launches])
    limit, peak = shared_limit(x.device), peak_memory_bytes_per_s(x.device)
    at_once = tokens_at_once(weight.plan, len(x), (n, k), limit) if cut is None else len(x)
    found = choose_shape(weight.plan, at_once, n, k, limit, None, peak) if cut is None else cut
    name = str(found)
    name += f" {len(launches[0])} launches" if len(launches[0]) > 1 else ""
    name += "" if overlapped else " alone"
    return Row(
        recipe, len(x), n, k, name, weight.nbytes, weight.nbytes / copy_rate * 1e6, timing.median_s * 1e6,
        timing.spread, 0.0, launches[0][0].kernel.registers,
    )  # fmt: skip


Key = tuple[str, int, int, int]  # kernel, m, n and k of a row


def public_kernels(shape: tuple[int, int], x: Tensor, copy_rate: float, done: Collection[Key] = ()) -> Iterator[Row]:
    """Kernels that others wrote, on the same shape: cuBLAS, tinygemm, bitsandbytes; what is there and not ``done``."""
    n, k = shape
    for name, build in (("fp16 cuBLAS", _cublas), ("tinygemm int4 g128", _tinygemm), ("bitsandbytes nf4 g64", _nf4)):
        if (name, len(x), n, k) in done:
            continue
        try:
            nbytes, first, clone = build(n, k, x)
            calls = [first, *(clone() for _ in range(rotation(nbytes) - 1))]
            timing = time_graph(calls)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else repr(error)
            print(f"{name} {n}x{k} m={len(x)}: {text}", file=sys.stderr, flush=True)
            continue
        del calls, first, clone
        torch.cuda.empty_cache()
        yield Row(name, len(x), n, k, "", nbytes, nbytes / copy_rate * 1e6, timing.median_s * 1e6, timing.spread, 0.0)


Built = tuple[int, Callable[[], object], Callable[[], Callable[[], object]]]


def _cublas(n: int, k: int, x: Tensor) -> Built:
    out = torch.empty((len(x), n), dtype=x.dtype, device="cuda")

    def make() -> Callable[[], object]:
        weight = torch.randn((n, k), device="cuda").half()
        return lambda: torch.mm(x, weight.T, out=out)

    return n * k * 2, make(), make


def _tinygemm(n: int, k: int, x: Tensor) -> Built:
    half = x.bfloat16()

    def make() -> Callable[[], object]:
        codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
        weight = torch.ops.aten._convert_weight_to_int4pack(codes, 8)
        scales = torch.randn((k // 128, n, 2), device="cuda").bfloat16()
        return lambda: torch.ops.aten._weight_int4pack_mm(half, weight, 128, scales)

    return n * k // 2 + n * k // 128 * 4, make(), make


def _nf4(n: int, k: int, x: Tensor) -> Built:
    import bitsandbytes

    def make() -> Callable[[], object]:
        weight = torch.randn((n, k), device="cuda").half()
        packed_codes, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
        return lambda: bitsandbytes.matmul_4bit(x, packed_codes.t(), quant_state=state)

    return n * k // 2 + n * k // 64 * 4, make(), make


def measurement(row: Row, common: dict[str, str], device: str) -> Measurement:
    """A row as the cost model's record."""
    own = {
        "worst_error_over_tolerance": f"{row.worst_error:.3f}", "cut": row.cut, "ring": LAUNCHED.value, "fill": FILL,
        "version": f"{VERSION}",
    }  # fmt: skip
    shape = (row.m, row.k, row.n)
    return bench_record.measurement(row, shape, own, common=common, device=device, source=COMMAND)


def conditions(copy_rate: float) -> dict[str, str]:
    """What every record of a run says; ``copy_rate`` in bytes a second."""
    return conditions_of_run(copy_rate, "weights", CLOCKS)


def compile_all(
    recipes: list[str], shapes: list[tuple[int, int]], tokens: list[int], cuts: list[GemvCut | None], jobs: int
) -> None:
    """Compile every kernel to come in processes of their own (useful only with ``native.PTX_FOLDER``)."""
    specs = set()
    device = torch.device("cuda")
    limit, peak = shared_limit(device), peak_memory_bytes_per_s(device)
    for recipe in recipes:
        plan = plan_of(RECIPES[recipe])
        for n, k in shapes:
            for m in tokens:
                for cut in cuts:
                    size = tokens_at_once(plan, m, (n, k), limit) if cut is None else m
                    found = choose_shape(plan, size, n, k, limit, None, peak) if cut is None else cut
                    specs.add(spec_of(plan, size, (n, k), found))
    compile_ahead.compile_all(map(kernel_ahead, specs), jobs)


def run(
    arguments: argparse.Namespace, cuts: Sequence[GemvCut | None], rate: float, done: Collection[Key] = ()
) -> Iterator[Row]:
    """The rows that the command line asks for and that are not ``done``, at a copy rate of ``rate`` bytes a second.

    What fails is named on standard error and left out.
    """
    for n, k in arguments.shapes:
        for recipe in arguments.recipes:
            left = [m for m in arguments.tokens if (recipe, m, n, k) not in done]
            if not left:
                continue
            weight, dense = packed(recipe, (n, k))
            for m, cut in itertools.product(left, cuts):
                x = inputs(m, k)
                try:
                    worst = check(weight, dense, x, cut)
                    for overlapped in (True, False) if arguments.alone else (True,):
                        made = time_kernel(recipe, weight, x, rate, cut, overlapped=overlapped)
                        yield replace(made, worst_error=worst)
                except (AssertionError, NotImplementedError, RuntimeError) as error:
                    print(f"{recipe} {n}x{k} m={m} {cut}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
                torch.cuda.empty_cache()
            del weight, dense
            torch.cuda.empty_cache()
        if not arguments.no_public:
            for m in arguments.tokens:
                yield from public_kernels((n, k), inputs(m, k), rate, done)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--shapes", nargs="+", type=shape_argument, default=list(SHAPES), metavar="NxK")
    parser.add_argument("--tokens", nargs="+", type=int, default=[1])
    parser.add_argument("--explore", action="store_true", help="every way of cutting the work, not only the chosen one")
    parser.add_argument("--alone", action="store_true", help="also without overlap of consecutive kernels")
    parser.add_argument("--no-public", action="store_true", help="leave out other people's kernels")
    parser.add_argument("--jobs", type=int, default=0, help="compile in so many processes first")
    given = parser.parse_args(arguments)
    if not all(1 <= m <= MAX_TOKENS for m in given.tokens):
        parser.error(f"tokens must be 1 to {MAX_TOKENS}, not {given.tokens!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write the records."""
    given = parse(arguments)
    cuts: list[GemvCut | None] = list(CUTS) if given.explore else [None]
    exit_without_cuda()
    if given.jobs:
        compile_all(given.recipes, given.shapes, given.tokens, cuts, given.jobs)
    rate = copy_bytes_per_s()
    print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
    rows, status = gather(run(given, cuts, rate))
    found, name = conditions(rate), device_facts().name
    print(f"{name}, {CLOCKS}: {found[CLOCKS.replace(',', ', ')]}")
    if given.output is not None and rows:
        write_json(given.output, [asdict(measurement(row, found, name)) for row in rows])
    return status


if __name__ == "__main__":
    sys.exit(main())
