"""Benchmark of the quantizers: ``python -m kernels_gpu.bench_quantize --output record.json``.

For each shape, input type and encoding: microseconds, weights per second, the fraction of the memory bound (bytes that
must move, at the measured copy rate), and on request the same work by plain torch on the same GPU and by
``datatypes.quantize.quantize_tensor`` on CUDA. Codes are compared with ``quantize_tensor`` first: nothing that differs
is timed without saying so.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch
from torch import Tensor

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS_SYMMETRIC, UINT8, UINTS
from datatypes.granularity import PerGroup
from datatypes.layer_config import ScaleConfig, ScaleRule, TensorConfig
from datatypes.packing import unpack
from datatypes.quantize import quantize_tensor
from kernels_gpu.bench_record import add_output, exit_without_cuda, gather, today, write_json
from kernels_gpu.launch import device_facts, query_smi
from kernels_gpu.quantize import PackedWeights, allocate, prepare, quantize_packed
from kernels_gpu.timing import copy_bytes_per_s, rotation, time_eager, time_graph

COMMAND = "python -m kernels_gpu.bench_quantize"
# Llama-2-7B's gate projection (Touvron et al. 2023, arXiv 2307.09288) and Llama-2-70B's
SHAPES = ((11008, 4096), (28672, 8192))
_ONE, _TWO, _RANGE = ScaleConfig(FP16), ScaleConfig(UINT8, outer=FP16), ScaleConfig(FP16, rule=ScaleRule.RANGE)
RECIPES = {
    "bitmod4_g128_fp16": TensorConfig(BITMOD_FP4, PerGroup(128), _ONE),
    "bitmod4_g128_two_level": TensorConfig(BITMOD_FP4, PerGroup(128), _TWO),
    "bitmod3_g128_fp16": TensorConfig(BITMOD_FP3, PerGroup(128), _ONE),
    "int4_g128_fp16": TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), _ONE),
    "int8_g128_fp16": TensorConfig((INTS_SYMMETRIC[8],), PerGroup(128), _ONE),
    "int2_g64_fp16": TensorConfig((INTS_SYMMETRIC[2],), PerGroup(64), _ONE),
    "uint2_g64_fp16": TensorConfig((UINTS[2],), PerGroup(64), _RANGE, zero_point=UINTS[2]),
} | {
    f"uint{bits}_g128_fp16": TensorConfig((UINTS[bits],), PerGroup(128), _RANGE, zero_point=UINTS[bits])
    for bits in range(3, 9)
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """One measured kernel; ``baseline`` microseconds are ``None`` where they were not asked for or did not fit."""

    recipe: str
    input: str
    n: int
    k: int
    bytes_moved: int
    bound_us: float
    median_us: float
    spread: float
    fraction_of_bound: float
    weights_per_s: float
    groups: int
    other_choices: int
    worst_error_ratio: float
    plain_torch_us: float | None
    quantize_tensor_us: float | None


def plain_torch_bitmod(weights: Tensor, config: TensorConfig) -> tuple[Tensor, Tensor, Tensor]:
    """What a user writes first: every candidate by bucketize over its midpoints, errors by mean, argmin, gather."""
    size = 128
    groups = weights.float().reshape(-1, size)
    absmax = groups.abs().amax(1, keepdim=True)
    results, errors, scales = [], [], []
    for fmt in config.formats:
        levels = torch.tensor(fmt.levels, dtype=torch.float32, device=weights.device)
        scale = (absmax / fmt.absmax).clamp_min(2**-24).half().float()
        middle = (levels[1:] + levels[:-1]) / 2
        index = torch.bucketize(groups / scale, middle)
        errors.append((levels[index] * scale - groups).square().mean(1))
        results.append(index.to(torch.uint8))
        scales.append(scale)
    choice = torch.stack(errors).argmin(0)
    codes = torch.stack(results).gather(0, choice[None, :, None].expand(1, -1, size))[0]
    scale = torch.stack(scales).gather(0, choice[None, :, None])[0]
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return packed, scale.half(), choice.to(torch.uint8)


def compare(weights: Tensor, made: PackedWeights) -> tuple[int, float]:
    """Groups whose candidate differs from ``quantize_tensor``'s, and the worst ratio of their errors.

    Raises:
        AssertionError: codes, scales or zero points differ in a group with the same candidate (for two levels: in any
            row without another candidate, since a row's scales depend on one another).
    """
    config, (n, k) = made.config, made.shape
    bits = config.formats[0].bits
    expected = quantize_tensor(weights, config)
    got = made.to_quantized_tensor()
    size = config.granularity.tile((n, k))[1]
    differs = torch.zeros(made.scales.shape, dtype=torch.bool, device=weights.device)
    if expected.selector is not None:
        assert made.selectors is not None
        differs = made.selectors != expected.selector
    excused = differs.any(1, keepdim=True).expand_as(differs) if made.outer_scales is not None else differs
    assert expected.scale is not None
    assert not ((made.scales != expected.scale) & ~excused).any(), "scales differ"
    if expected.zero_point is not None:
        assert got.zero_point is not None and torch.equal(got.zero_point, expected.zero_point), "zero points differ"
    wrong = (unpack(made.words, bits, k) != expected.codes).reshape(n, -1, size) & ~excused[:, :, None]
    assert not wrong.any(), "codes differ"
    if not differs.any():
        return 0, 1.0
    errors = [
        (t.dequantize() - weights.float()).double().square().reshape(n, -1, size).sum(2)[differs]
        for t in (got, expected)
    ]
    return int(differs.sum()), float((errors[0] / errors[1]).max())


def measure(recipe: str, dtype_name: str, shape: tuple[int, int], copy_rate: float, baselines: bool) -> Row:
    """Check, then time, one kernel."""
    config, dtype = RECIPES[recipe], DTYPES[dtype_name]
    generator = torch.Generator("cuda").manual_seed(sum(shape))
    first = (torch.randn(shape, generator=generator, device="cuda") * 0.02).to(dtype)
    made = quantize_packed(first, config)
    other, worst = compare(first, made)
    moved = first.nbytes + made.nbytes
    copies = [first, *(first.roll(i + 1, 0) for i in range(rotation(moved) - 1))]
    launches = [prepare(weights, allocate(shape, config, "cuda")) for weights in copies]
    timing = time_graph(launches)
    del launches
    plain = library = None
    if baselines:
        plain = time_eager([lambda: plain_torch_bitmod(first, config)], 5).median_s * 1e6
        library = time_eager([lambda: quantize_tensor(first, config)], 5).median_s * 1e6
    return Row(
        recipe=recipe,
        input=dtype_name,
        n=shape[0],
        k=shape[1],
        bytes_moved=moved,
        bound_us=moved / copy_rate * 1e6,
        median_us=timing.median_s * 1e6,
        spread=timing.spread,
        fraction_of_bound=moved / copy_rate / timing.median_s,
        weights_per_s=shape[0] * shape[1] / timing.median_s,
        groups=made.scales.numel(),
        other_choices=other,
        worst_error_ratio=worst,
        plain_torch_us=plain,
        quantize_tensor_us=library,
    )


HEAD = (
    f"{'recipe':24s}{'input':10s}{'shape':>12s}{'us':>9s}{'spread':>8s}{'bound us':>9s}{'of bound':>9s}"
    f"{'Gweights/s':>11s}{'other':>7s}{'torch us':>10s}{'library us':>11s}"
)


def line(r: Row) -> str:
    """A row as text, below ``HEAD``."""
    plain = "-" if r.plain_torch_us is None else f"{r.plain_torch_us:.0f}"
    library = "-" if r.quantize_tensor_us is None else f"{r.quantize_tensor_us:.0f}"
    return (
        f"{r.recipe:24s}{r.input:10s}{f'{r.n}x{r.k}':>12s}{r.median_us:9.1f}{r.spread:8.1%}{r.bound_us:9.1f}"
        f"{r.fraction_of_bound:9.1%}{r.weights_per_s / 1e9:11.1f}{r.other_choices:7d}{plain:>10s}{library:>11s}"
    )


def run(given: argparse.Namespace, rate: float) -> Iterator[Row]:
    """All rows that the command line asks for; what fails is named and left out."""
    for shape, recipe, dtype in itertools.product(SHAPES, given.recipes, DTYPES):
        baselines = not given.no_baselines and recipe == "bitmod4_g128_fp16" and dtype == "float32"
        try:
            yield measure(recipe, dtype, shape, rate, baselines and shape == SHAPES[0])
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            print(f"{recipe} {dtype} {shape}: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the rows, write the record."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    add_output(parser)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--no-baselines", action="store_true", help="leave out plain torch and quantize_tensor")
    given = parser.parse_args(arguments)
    exit_without_cuda()
    rate = copy_bytes_per_s()
    rows, status = gather(run(given, rate), HEAD, line)
    clocks = query_smi("clocks.sm,clocks.mem,clocks.max.sm,power.draw")
    print(f"{device_facts().name}, copy {rate / 1e12:.3f} TB/s, clocks (SM, memory, highest SM, power): {clocks}")
    if given.output is not None and rows:
        record = {
            "made_by": COMMAND,
            "date": today(),
            "device": asdict(device_facts()),
            "clocks": clocks,
            "versions": {name: version(name) for name in ("torch", "numba", "numpy")}
            | {"python": sys.version.split()[0]},
            "copy_bytes_per_s": rate,
            "rows": [asdict(row) for row in rows],
        }
        write_json(given.output, record)
    return status


if __name__ == "__main__":
    sys.exit(main())
