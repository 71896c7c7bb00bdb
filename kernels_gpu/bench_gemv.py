"""Benchmark of the decode GEMV: ``python -m kernels_gpu.bench_gemv --output record.json``.

Every kernel is compared with a float64 product of the decoded weight before it is timed, on poisoned results. Timed
is a CUDA graph over weights that rotate beyond L2, as in decoding; ``alone`` forbids a kernel to start before the one
before it has ended. Next to it, in the same run: half-precision cuBLAS, torch's int4 kernel (tinygemm) and, where it
is installed, bitsandbytes' NF4. The bound is the bytes of the packed weight at the measured copy rate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from hwmodel.gpu_gemv_cut import LAUNCHED, GemvCut
from hwmodel.report import Measurement
from kernels_gpu import bench_record
from kernels_gpu.bench_record import CLOCKS, Row, checked, conditions_of_run, exit_without_cuda, table, write_json
from kernels_gpu.gemv_launch import (
    PackedMatrix,
    allocate_result,
    choose_shape,
    compile_kernel,
    from_quantized,
    prepare,
    prepare_all,
    spec_of,
    tokens_at_once,
)
from kernels_gpu.gemv_plan import plan_of
from kernels_gpu.gemv_recipes import RECIPES, quantize_randomly
from kernels_gpu.gemv_reference import tolerance
from kernels_gpu.launch import device_facts
from kernels_gpu.native import BoundLaunch, shared_limit
from kernels_gpu.timing import copy_bytes_per_s, one_after_another, rotation, time_graph

COMMAND = "python -m kernels_gpu.bench_gemv"
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


def time_kernel(
    recipe: str, weight: PackedMatrix, x: Tensor, copy_rate: float, cut: GemvCut | None, *, overlapped: bool = True
) -> Row:
    """Time one kernel over rotating weights; not checked here."""
    n, k = weight.shape
    copies = [weight, *(weight.clone() for _ in range(rotation(weight.nbytes) - 1))]
    launches = [bind(w, x, allocate_result(len(x), n, x), cut, overlapped=overlapped) for w in copies]
    timing = time_graph([one_after_another(bound) for bound in launches])
    limit = shared_limit(x.device)
    at_once = tokens_at_once(weight.plan, len(x), (n, k), limit) if cut is None else len(x)
    found = choose_shape(weight.plan, at_once, n, k, limit) if cut is None else cut
    name = str(found)
    name += f" {len(launches[0])} launches" if len(launches[0]) > 1 else ""
    name += "" if overlapped else " alone"
    return Row(
        recipe, len(x), n, k, name, weight.nbytes, weight.nbytes / copy_rate * 1e6, timing.median_s * 1e6,
        timing.spread, 0.0, launches[0][0].kernel.registers,
    )  # fmt: skip


def public_kernels(shape: tuple[int, int], x: Tensor, copy_rate: float) -> list[Row]:
    """Kernels that others wrote, on the same shape: cuBLAS, tinygemm, bitsandbytes (what is there)."""
    n, k = shape
    made = []
    for name, build in (("fp16 cuBLAS", _cublas), ("tinygemm int4 g128", _tinygemm), ("bitsandbytes nf4 g64", _nf4)):
        try:
            nbytes, first, clone = build(n, k, x)
            calls = [first, *(clone() for _ in range(rotation(nbytes) - 1))]
            timing = time_graph(calls)
        except Exception as error:
            print(f"{name} {n}x{k} m={len(x)}: {str(error).splitlines()[0] if str(error) else error!r}")
            continue
        made.append(
            Row(name, len(x), n, k, "", nbytes, nbytes / copy_rate * 1e6, timing.median_s * 1e6, timing.spread, 0.0)
        )
        del calls, first, clone
        torch.cuda.empty_cache()
    return made


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
    limit = shared_limit(torch.device("cuda"))
    for recipe in recipes:
        plan = plan_of(RECIPES[recipe])
        for n, k in shapes:
            for m in tokens:
                for cut in cuts:
                    size = tokens_at_once(plan, m, (n, k), limit) if cut is None else m
                    found = choose_shape(plan, size, n, k, limit) if cut is None else cut
                    specs.add(spec_of(plan, size, (n, k), found))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.map(compile_kernel, sorted(specs, key=repr), chunksize=1)


def run(arguments: argparse.Namespace, cuts: list[GemvCut | None], rate: float) -> list[Row]:
    """All rows that the command line asks for, at a copy rate of ``rate`` bytes a second."""
    rows: list[Row] = []
    for shape in arguments.shapes:
        for recipe in arguments.recipes:
            weight, dense = packed(recipe, shape)
            for m in arguments.tokens:
                x = inputs(m, shape[1])
                for cut in cuts:
                    try:
                        worst = check(weight, dense, x, cut)
                    except (AssertionError, NotImplementedError, RuntimeError) as error:
                        print(f"{recipe} {shape} m={m} {cut}: {error}", flush=True)
                        continue
                    for overlapped in (True, False) if arguments.alone else (True,):
                        made = time_kernel(recipe, weight, x, rate, cut, overlapped=overlapped)
                        rows.append(replace(made, worst_error=worst))
                    torch.cuda.empty_cache()
            del weight, dense
            torch.cuda.empty_cache()
        if not arguments.no_public:
            for m in arguments.tokens:
                rows += public_kernels(shape, inputs(m, shape[1]), rate)
    return rows


def main() -> int:
    """Run, print the table, write the records."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file of measurements to write")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--shapes", nargs="+", type=shape_argument, default=list(SHAPES), metavar="NxK")
    parser.add_argument("--tokens", nargs="+", type=int, default=[1])
    parser.add_argument("--explore", action="store_true", help="every way of cutting the work, not only the chosen one")
    parser.add_argument("--alone", action="store_true", help="also without overlap of consecutive kernels")
    parser.add_argument("--no-public", action="store_true", help="leave out other people's kernels")
    parser.add_argument("--jobs", type=int, default=0, help="compile in so many processes first")
    arguments = parser.parse_args()
    cuts: list[GemvCut | None] = list(CUTS) if arguments.explore else [None]
    if arguments.jobs:
        compile_all(arguments.recipes, arguments.shapes, arguments.tokens, cuts, arguments.jobs)
    exit_without_cuda()
    rate = copy_bytes_per_s()
    print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
    rows = run(arguments, cuts, rate)
    found, name = conditions(rate), device_facts().name
    print(f"{name}, {CLOCKS}: {found[CLOCKS.replace(',', ', ')]}")
    print(table(rows))
    if arguments.output is not None:
        write_json(arguments.output, [asdict(measurement(row, found, name)) for row in rows])
    return 0


def shape_argument(text: str) -> tuple[int, int]:
    """A shape of the command line, n and k."""
    n, _, k = text.partition("x")
    if not (n.isdigit() and k.isdigit()):
        raise argparse.ArgumentTypeError(f"a shape must be NxK, not {text!r}")
    return int(n), int(k)


if __name__ == "__main__":
    sys.exit(main())
