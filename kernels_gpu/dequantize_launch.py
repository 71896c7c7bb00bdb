"""Launcher of the dequantizer: a packed matrix to float16 or bfloat16 on its device.

``dequantize`` is the entry; ``prepare_dequantize`` binds a launch. The kernel is in ``kernels_gpu.dequantize``.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.planes import flat_words, plane_widths
from hwmodel.units import ceil_div
from kernels_gpu.dequantize import ARGUMENTS, DequantizeSpec, make_body
from kernels_gpu.gemv_launch import PackedMatrix
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.launch import require_cuda
from kernels_gpu.native import BoundLaunch, NativeKernel, load, multiprocessors
from kernels_gpu.ptx import SIMULATED

THREADS = WARP if SIMULATED else 256  # of a block
BLOCKS = 8  # of a multiprocessor: 2048 threads, all that it holds
MOST_WEIGHTS = 1 << 31  # places are counted in 32 bits


@lru_cache(maxsize=64)
def _kernel(spec: DequantizeSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def spec_of(config: TensorConfig, k: int, *, bfloat: bool = False) -> DequantizeSpec:
    """The kernel of a launch."""
    return DequantizeSpec(config, k, THREADS, bfloat)


def zero_planes(weight: PackedMatrix) -> tuple[int, int]:
    """Words at which the second and the third plane of a matrix's zero points begin."""
    if not weight.plan.zero_bits:
        return 0, 0
    count, widths = weight.config.granularity.count(weight.shape), (*plane_widths(weight.plan.zero_bits), 0)
    second = flat_words(count, widths[0])
    return second, second + flat_words(count, widths[1])


def prepare_dequantize(weight: PackedMatrix, out: Tensor, *, overlapped: bool = True) -> BoundLaunch:
    """Bind a launch.

    Args:
        weight: the matrix.
        out: ``[n, k]`` float16 or bfloat16, contiguous, in memory of whole words at a multiple of 16 bytes.
        overlapped: may start while the kernel before it in the stream still runs; waits before it reads or writes.
    """
    n, k = weight.shape
    spec = spec_of(weight.config, k, bfloat=out.dtype == torch.bfloat16)
    items = n * spec.units
    grid = min(ceil_div(items, THREADS), BLOCKS * multiprocessors(out.device))
    none = weight.arrays["codes"]
    arrays = {name: weight.arrays.get(name, none) for name in ("scale", "zero_point", "selector", "outer_scale")}
    if weight.plan.learned:
        arrays["outer_scale"] = weight.arrays["codebook"]  # the kernel has one pointer for both
    return BoundLaunch(
        _kernel(spec, out.device),
        grid,
        THREADS,
        (none, *arrays.values(), out, items, grid * THREADS, *zero_planes(weight)),
        shared_bytes=spec.shared_bytes,
        overlapped=overlapped,
    )


def dequantize(weight: PackedMatrix, dtype: torch.dtype = torch.float16) -> Tensor:
    """The matrix ``[n, k]`` that the codes stand for, rounded to ``dtype`` once.

    Args:
        weight: packed.
        dtype: float16 or bfloat16.

    Returns:
        ``[n, k]`` on the weight's device; NaN where a scale or a code is, infinity beyond the range of ``dtype``.

    Raises:
        TypeError: another dtype.
        NotImplementedError: 2**31 weights or more.
        RuntimeError: no usable CUDA device.
    """
    n, k = weight.shape
    if dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"dtype of a dequantized matrix must be float16 or bfloat16, not {dtype}")
    if n * k >= MOST_WEIGHTS:
        raise NotImplementedError(f"weights of a dequantized matrix must be fewer than {MOST_WEIGHTS}, not {n * k!r}")
    device = weight.arrays["codes"].device
    if not SIMULATED:
        require_cuda()
    out = torch.empty(ceil_div(n * k, 2) * 2, dtype=dtype, device=device)[: n * k].view(n, k)
    if out.numel():
        prepare_dequantize(weight, out)()
    return out
