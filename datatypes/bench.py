"""Speed of BitMoD-4 quantization: ours against plain torch and against copying memory, all timed in one run.

``python -m datatypes.bench`` on the CPU, ``--device cuda`` on a GPU. The plain torch code is what a user would write
from the paper: for each of the four candidates the distance of every weight to every level, the nearest level, the mean
squared error; then a choice. A second baseline uses ``torch.bucketize`` on midpoints instead. Runs are interleaved and
medians compared, because machines are shared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datatypes.block_formats import BITMOD4_G128, BLOCK_FORMATS
from datatypes.catalog import BITMOD_FP4
from datatypes.layer_config import TensorConfig
from datatypes.quantize import quantize_tensor

GROUP = 128
SHAPES = ((1536, 576), (4096, 4096), (11008, 4096))  # SmolLM2-135M up_proj, Llama-2-7B q_proj and up_proj
CONFIGS: dict[str, TensorConfig] = {
    "bitmod4_g128_fp16": BLOCK_FORMATS["bitmod4_g128_fp16"],
    "bitmod4_g128_uint8": BITMOD4_G128,
}


@dataclass(frozen=True)
class Timing:
    """Median seconds of one piece of work on one matrix.

    Args:
        name: what ran.
        shape: [n, k] of the weight.
        seconds: median of the repetitions.
        bytes_moved: least memory traffic: what must be read and written once.
    """

    name: str
    shape: tuple[int, int]
    seconds: float
    bytes_moved: int

    @property
    def weights_per_s(self) -> float:
        """Weights for each second."""
        return self.shape[0] * self.shape[1] / self.seconds

    @property
    def bytes_per_s(self) -> float:
        """Least traffic over time."""
        return self.bytes_moved / self.seconds


def plain_torch(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """BitMoD-4 as written down from the paper: codes' levels, scales and candidates ``[n, k / 128]`` of a weight.

    A broadcast distance to all 16 levels for each candidate, ``argmin`` over them.
    """
    return _best_candidates(weight, lambda ratios, levels: (ratios[..., None] - levels).abs().argmin(-1))


def bucketized_torch(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same with ``torch.bucketize`` on midpoints in place of the distances: a careful user's version."""
    return _best_candidates(weight, lambda ratios, levels: torch.bucketize(ratios, (levels[1:] + levels[:-1]) / 2))


def _best_candidates(weight: Tensor, nearest: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The candidate of least squared error for each group; ``nearest`` gives the levels' indices of scaled weights."""
    n, k = weight.shape
    groups = weight.reshape(n, k // GROUP, GROUP)
    absmax = groups.abs().amax(2, keepdim=True)
    best_error = torch.full((n, k // GROUP), torch.inf, device=weight.device)
    best_index = torch.zeros_like(groups, dtype=torch.uint8)
    best_scale = torch.ones_like(absmax)
    best_candidate = torch.zeros((n, k // GROUP), dtype=torch.uint8, device=weight.device)
    for candidate, fmt in enumerate(BITMOD_FP4):
        levels = torch.tensor(fmt.levels, dtype=torch.float32, device=weight.device)
        scale = absmax / fmt.absmax
        index = nearest(groups / scale, levels)
        error = (levels[index] * scale - groups).square().mean(2)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_index = torch.where(better[..., None], index.to(torch.uint8), best_index)
        best_scale = torch.where(better[..., None], scale, best_scale)
        best_candidate[better] = candidate
    return best_index.reshape(n, k), best_scale[..., 0], best_candidate


def measure(shape: tuple[int, int], device: str, *, repetitions: int = 5, plain_rows: int = 256) -> list[Timing]:
    """Time everything on one random weight, the pieces of work taking turns.

    Args:
        plain_rows: rows given to the two baselines, the first of which takes 64 bytes and more for each weight; their
            times are scaled to all rows (fewer rows fit the caches better, so this flatters them if anything).
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator).to(device) * 0.02
    target = torch.empty_like(weight)
    few = weight[:plain_rows].contiguous()
    n, k = shape
    work: dict[str, tuple[Callable[[], object], float, int]] = {
        "copy": (lambda: target.copy_(weight), 1.0, 8 * n * k),
        "plain torch": (lambda: plain_torch(few), n / len(few), 5 * n * k),
        "bucketized torch": (lambda: bucketized_torch(few), n / len(few), 5 * n * k),
    }
    for name, config in CONFIGS.items():
        work[name] = (_quantizer(weight, config), 1.0, 5 * n * k)
        decoded = quantize_tensor(weight, config)
        work[f"decode {name}"] = (decoded.dequantize, 1.0, 5 * n * k)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repetitions + 1):  # the first turn compiles and warms up
        for name, (run, factor, _) in work.items():
            begin = _now(device)
            run()
            if turn:
                seconds[name].append((_now(device) - begin) * factor)
    return [Timing(name, shape, statistics.median(seconds[name]), work[name][2]) for name in work]


def _quantizer(weight: Tensor, config: TensorConfig) -> Callable[[], object]:
    return lambda: quantize_tensor(weight, config)


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def table(timings: list[Timing]) -> str:
    """The timings of one shape as text, each with its ratio to plain torch and to the copy."""
    by_name = {timing.name: timing for timing in timings}
    plain, copy = by_name["plain torch"], by_name["copy"]
    lines = [f"{plain.shape[0]} x {plain.shape[1]}: ms, Mweights/s, GB/s, times plain torch, share of copy bandwidth"]
    for timing in timings:
        lines.append(
            f"  {timing.name:26} {timing.seconds * 1e3:9.2f} {timing.weights_per_s / 1e6:9.1f} "
            f"{timing.bytes_per_s / 1e9:8.2f} {plain.seconds / timing.seconds:8.1f}x "
            f"{timing.bytes_per_s / copy.bytes_per_s:8.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table for every shape."""
    parser = argparse.ArgumentParser(description="Speed of BitMoD-4 quantization against plain torch and a copy.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device must be there, not {arguments.device!r}: torch sees no GPU")
    for shape in SHAPES:
        if shape[1] % GROUP:
            shape = (shape[0], shape[1] // GROUP * GROUP)  # the baselines know only whole groups
        print(table(measure(shape, arguments.device, repetitions=arguments.repetitions)), flush=True)


if __name__ == "__main__":
    main()
