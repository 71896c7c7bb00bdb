"""Benchmark of the decode attention: ``python -m kernels_gpu.bench_attention --output record.json``.

Every kernel is compared with a float64 softmax of the decoded cache before it is timed, on poisoned results. Timed is a
CUDA graph over caches that rotate beyond L2. Next to it, in the same run: torch's ``scaled_dot_product_attention`` on
an FP16 cache, each of its backends that takes the shape. The bound is the bytes of the cache at the measured copy rate.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from datatypes.catalog import FP16, INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import ScaleConfig, TensorConfig
from datatypes.quantize import quantize_tensor
from hwmodel.report import Measurement
from kernels_gpu.attention_launch import WARPS, CacheSide, cache_side, prepare
from kernels_gpu.bench_record import (
    Row,
    add_output,
    conditions_of_run,
    exit_without_cuda,
    gather,
    measurement,
    write_json,
)
from kernels_gpu.launch import device_facts
from kernels_gpu.timing import copy_bytes_per_s, one_after_another, rotation, time_graph

COMMAND = "python -m kernels_gpu.bench_attention"
MOST_WARPS = 32  # of a block: CUDA C++ Programming Guide, 1024 threads
CONFIGS = {
    bits: TensorConfig((INTS_SYMMETRIC[bits],), PerChannel(), ScaleConfig(FP16), dynamic=True) for bits in (4, 8)
}
LARGEST_ERROR = 2.0**-10  # of the results' norm: a result rounded to half precision is off by 2**-11 at most


@dataclass(frozen=True)
class Case:
    """Sequences, key heads, query heads of each, context, head_dim."""

    sequences: int
    heads: int
    group: int
    context: int
    head_dim: int = 128

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of keys."""
        return self.sequences, self.heads, self.context, self.head_dim

    def __str__(self) -> str:
        return f"{self.sequences}x{self.heads}x{self.group} at {self.context}"


# Llama-2-7B (32 key heads; Touvron et al. 2023, arXiv 2307.09288), Llama-3-8B and -70B (8 key heads, 4 and 8 query
# heads of each; Grattafiori et al. 2024, arXiv 2407.21783)
CASES = (
    Case(1, 32, 1, 256),
    Case(1, 32, 1, 1024),
    Case(1, 32, 1, 2048),
    Case(1, 32, 1, 4096),
    Case(1, 32, 1, 32768),
    Case(16, 32, 1, 256),
    Case(16, 32, 1, 4096),
    Case(1, 8, 4, 1024),
    Case(1, 8, 4, 8192),
    Case(1, 8, 4, 131072),
    Case(16, 8, 4, 8192),
    Case(64, 8, 8, 4096),
)


def query_of(case: Case) -> Tensor:
    """Random queries."""
    generator = torch.Generator("cuda").manual_seed(case.context)
    shape = (case.sequences, case.heads * case.group, case.head_dim)
    return torch.randn(shape, generator=generator, device="cuda").half()


def quantized(case: Case, bits: int, seed: int) -> tuple[CacheSide, Tensor]:
    """A packed side of random rows, and what it decodes to, half precision."""
    generator = torch.Generator("cuda").manual_seed(seed)
    shape = (case.sequences * case.heads * case.context, case.head_dim)
    tensor = quantize_tensor(torch.randn(shape, generator=generator, device="cuda"), CONFIGS[bits])
    return cache_side(tensor, case.shape, "cuda"), tensor.dequantize().view(case.shape)


def exact(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Float64 attention, a sequence at a time."""
    made = []
    for q, k, v in zip(query, keys, values, strict=True):
        grouped = q.double().view(k.shape[0], -1, k.shape[2])
        scores = grouped @ k.double().transpose(1, 2) * k.shape[2] ** -0.5
        made.append((scores.softmax(2) @ v.double()).reshape(q.shape))
    return torch.stack(made)


def time_quantized(case: Case, bits: int, rate: float, splits: int | None, warps: int) -> Row:
    """Check, then time.

    Raises:
        AssertionError: an error above ``LARGEST_ERROR``, or results that differ between two launches.
    """
    query = query_of(case)
    (key, dense_key), (value, dense_value) = quantized(case, bits, 1), quantized(case, bits, 2)
    lengths = torch.full((case.sequences,), case.context, dtype=torch.int32, device="cuda")
    outs = [torch.full_like(query, float("nan")) for _ in range(2)]
    for out in outs:
        for launch in prepare(query, key, value, lengths, out, splits=splits, warps=warps):
            launch()
    expected = exact(query, dense_key, dense_value)
    error = ((outs[0].double() - expected).norm() / expected.norm()).nan_to_num(nan=float("inf")).item()
    assert error <= LARGEST_ERROR, f"error must be at most {LARGEST_ERROR:.2g} of the results, not {error:.3g}"
    assert torch.equal(*outs), "two launches must agree"
    del dense_key, dense_value, expected
    nbytes = key.nbytes + value.nbytes
    sides = [(key, value), *((key.clone(), value.clone()) for _ in range(rotation(nbytes) - 1))]
    bound = [prepare(query, k, v, lengths, torch.empty_like(query), splits=splits, warps=warps) for k, v in sides]
    timing = time_graph([one_after_another(launches) for launches in bound])
    first = bound[0][0]
    cut = f"{case}, {first.grid // (case.sequences * case.heads)} blocks of {warps} warps"
    off = error / LARGEST_ERROR
    return Row(
        f"attention int{bits}", case.sequences, case.heads * case.group, case.context, cut,
        nbytes, nbytes / rate * 1e6, timing.median_s * 1e6, timing.spread, off, first.kernel.registers,
    )  # fmt: skip


def time_torch(case: Case, rate: float) -> Iterator[Row]:
    """``scaled_dot_product_attention`` on an FP16 cache, by backend."""
    query = query_of(case)[:, :, None]
    nbytes = 2 * 2 * case.sequences * case.heads * case.context * case.head_dim
    sides = [tuple(torch.randn(case.shape, device="cuda").half() for _ in range(2)) for _ in range(rotation(nbytes))]
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):

        def caller(keys: Tensor, values: Tensor, backend: SDPBackend = backend) -> Callable[[], object]:
            def call() -> object:
                with sdpa_kernel(backend):
                    return torch.nn.functional.scaled_dot_product_attention(
                        query, keys, values, enable_gqa=case.group > 1
                    )

            return call

        try:
            timing = time_graph([caller(k, v) for k, v in sides])
        except RuntimeError as error:
            print(f"torch {backend.name} {case}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            continue
        yield Row(
            f"torch {backend.name.partition('_')[0].lower()} fp16", case.sequences, case.heads * case.group,
            case.context, str(case), nbytes, nbytes / rate * 1e6, timing.median_s * 1e6, timing.spread, 0.0,
        )  # fmt: skip


def run(given: argparse.Namespace, rate: float) -> Iterator[Row]:
    """All rows that the command line asks for; what fails is named and left out."""
    for case in CASES:
        for bits, splits, warps in itertools.product((8, 4), given.splits, given.warps):
            try:
                yield time_quantized(case, bits, rate, splits or None, warps)
            except (AssertionError, NotImplementedError, RuntimeError) as error:
                print(f"int{bits} {case}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            torch.cuda.empty_cache()
        if not given.no_public:
            yield from time_torch(case, rate)
        torch.cuda.empty_cache()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    parser.add_argument("--splits", nargs="+", type=int, default=[0], help="blocks for a head; 0 chooses")
    parser.add_argument("--warps", nargs="+", type=int, default=[WARPS], help="warps of a block")
    parser.add_argument("--no-public", action="store_true", help="leave out torch's kernels")
    given = parser.parse_args(arguments)
    if min(given.splits) < 0 or not all(1 <= warps <= MOST_WARPS for warps in given.warps):
        parser.error(f"splits must be at least 0 and warps 1 to {MOST_WARPS}, not {given.splits!r} and {given.warps!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write the records."""
    given = parse(arguments)
    exit_without_cuda()
    rate = copy_bytes_per_s()
    print(f"copy {rate / 1e12:.3f} TB/s", flush=True)
    rows, status = gather(run(given, rate))
    name = device_facts().name
    print(name)
    if given.output is not None and rows:
        found = conditions_of_run(rate, "caches", "clocks.sm,clocks.mem")
        write_json(given.output, [asdict(_measurement(row, found, name)) for row in rows])
    return status


def _measurement(row: Row, common: dict[str, str], device: str) -> Measurement:
    """A row as the cost model's record; its shape is (sequences, query heads, context)."""
    own = {
        "sequences x key heads x query heads of each at context, blocks": row.cut,
        "error_over_largest": f"{row.worst_error:.3f}",
    }
    return measurement(row, (row.m, row.n, row.k), own, common=common, device=device, source=COMMAND)


if __name__ == "__main__":
    sys.exit(main())
