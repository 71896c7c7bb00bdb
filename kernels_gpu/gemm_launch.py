"""Launcher of products with many tokens: the tile kernel, or dequantize and hand over to the library.

``gemm`` is the entry and chooses; ``prepare_gemm`` binds the tile kernel (``kernels_gpu.gemm``) for callers that
capture launches in a CUDA graph.

The rule, measured on an H100 (NOTES.md):

    up to 16 tokens                              ``gemv_launch.gemv``, bound by the weight's bytes; but the tile kernel
                                                 from ``least_tile_tokens(plan)`` on, and where the inputs of all tokens
                                                 do not fit into one launch, which would then read the weight again
    up to ``most_tile_tokens(plan)``, float16    the tile kernel, where the encoding has one
    else                                         ``dequantize`` and the library's product
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from hwmodel.gpu_gemv_encoding import encoding_of
from hwmodel.gpu_narrow import COPY_SHARE
from hwmodel.gpu_presets import H100
from hwmodel.gpu_tiles_cut import TILE_CUTS, choose_tile_cut
from hwmodel.units import BYTE_BITS, ceil_div
from kernels_gpu.dequantize_launch import dequantize, zero_planes
from kernels_gpu.gemm import ARGUMENTS, make_body
from kernels_gpu.gemm_decode import tile_kernel_obstacle
from kernels_gpu.gemm_halves import half_table
from kernels_gpu.gemm_signed import magnitudes
from kernels_gpu.gemm_spec import GemmSpec
from kernels_gpu.gemv_launch import E4M3_CAPABILITY, MAX_TOKENS, PackedMatrix, allocate_result, gemv, tokens_at_once
from kernels_gpu.gemv_plan import TILE_ROWS, Plan
from kernels_gpu.launch import require_cuda
from kernels_gpu.layer import check_inputs
from kernels_gpu.native import MAX_SHARED_BYTES, BoundLaunch, NativeKernel, load, shared_limit
from kernels_gpu.ptx import SIMULATED

# Of 17, 32, 64, 128, 256 and 512 tokens measured at three shapes (NOTES.md): at 128 INT4, INT8, E4M3, BitMoD on tiles
# take 0.68 to 1.07 times the library's time, at 256 1.14 to 1.59 times. Two digits and groups of 16 and 32 decoded by
# bytes took 0.50 to 1.00 times at 64 and 0.86 to 1.39 times at 128; by halves (NF4, NVFP4, MXFP4) 0.66 to 0.94 at 128.
MOST_TILE_TOKENS, MOST_TILE_TOKENS_OF_SLOW_DECODING = 128, 64
_LEAST_GROUP = 64  # inputs; the measured ones below, 16 and 32, are slow
# token tiles, row warps, warps that share rows, stages
CUTS = tuple((cut.token_tiles, cut.row_warps, cut.k_warps, cut.depth) for cut in TILE_CUTS)


# Where GEMV and tiles take the same time on an H100, by straight lines between the GEMV's 4, 8 and 16 tokens and tiles
# of 17, at 4096 x 4096, 11008 x 4096 and 28672 x 8192 (NOTES.md): NVFP4 5.5, 5.9, 5.0; MXFP4 5.9, 6.3, 5.9; NF4 7.3,
# 9.2, 8.1. MXFP6 and MXFP8 have groups as MXFP4, but their tiles decode by bytes, and were never timed
_LEAST_OF_HALVES = {16: 6, 32: 7, 64: 9}
_LEAST_OF_GROUP = {16: 8, 32: 12}


def _decoded_by_halves(plan: Plan) -> bool:
    """Whether tiles look bytes of halves up: floats of four bits and two-digit tables of sixteen."""
    return half_table(plan) is not None or magnitudes(plan) is not None


def least_tile_tokens(plan: Plan) -> int:
    """Tokens from which on the tile kernel is faster than the GEMV."""
    slow = plan.digits == 2 or 0 < plan.group < _LEAST_GROUP
    if slow and _decoded_by_halves(plan):
        return _LEAST_OF_HALVES.get(plan.group, MAX_TOKENS + 1)
    return _LEAST_OF_GROUP.get(plan.group, MAX_TOKENS + 1)


def most_tile_tokens(plan: Plan) -> int:
    """Tokens up to which the tile kernel is the faster way, for an encoding that it takes."""
    slow = plan.digits == 2 or 0 < plan.group < _LEAST_GROUP
    return MOST_TILE_TOKENS_OF_SLOW_DECODING if slow and not _decoded_by_halves(plan) else MOST_TILE_TOKENS


def rule(plan: Plan, tokens: int, dtype: torch.dtype, shape: tuple[int, int], limit: int = MAX_SHARED_BYTES) -> str:
    """Which of "gemv", "tiles" and "library" ``gemm`` takes for a weight of ``shape``.

    >>> from kernels_gpu.gemv_plan import plan_of
    >>> from kernels_gpu.gemv_recipes import RECIPES
    >>> [rule(plan_of(RECIPES["int4_g128"]), m, torch.float16, (4096, 4096)) for m in (16, 17, 128, 129)]
    ['gemv', 'tiles', 'tiles', 'library']
    """
    tiles = tokens <= most_tile_tokens(plan) and dtype == torch.float16 and tile_kernel_obstacle(plan) is None
    if tokens > MAX_TOKENS:
        return "tiles" if tiles else "library"
    better = tokens >= least_tile_tokens(plan) or _read_twice(plan, tokens, shape, limit)
    return "tiles" if tiles and better else "gemv"


def _read_twice(plan: Plan, tokens: int, shape: tuple[int, int], limit: int) -> bool:
    """Whether a GEMV takes several launches, and tiles take less: not so for mixtures, 1.0 times at 16 tokens."""
    return tokens > 1 and plan.selector_bits == 0 and tokens_at_once(plan, tokens, shape, limit) < tokens


def spec_of(plan: Plan, shape: tuple[int, int], cut: tuple[int, int, int, int]) -> GemmSpec:
    """The kernel of a launch; ``cut``: token tiles, row warps, warps that share rows, stages."""
    token_tiles, row_warps, k_warps, depth = cut
    # of a whole block: rows of its last warps may all lie beyond the weight's
    whole_rows = shape[0] % (TILE_ROWS * row_warps) == 0
    return GemmSpec(plan, shape[1], token_tiles, row_warps, k_warps, depth, whole_rows)


@lru_cache(maxsize=1024)
def choose_cut(
    config: TensorConfig, tokens: int, shape: tuple[int, int], limit: int = MAX_SHARED_BYTES
) -> tuple[int, int, int, int]:
    """The cut with the least time on an H100, by the cost model, of those that fit into ``limit`` bytes of shared
    memory.

    ``hwmodel.gpu_tiles`` is fitted to measured cuts of four encodings, and 4 % off in the mean on the rest.

    Raises:
        NotImplementedError: none fits, or an encoding without a tile kernel.
    """
    chosen = choose_tile_cut(
        encoding_of(config), (tokens, *shape), weight_bytes=config.storage_bits(shape).total / BYTE_BITS,
        shared_limit=limit, gpu=H100, copy_bytes_per_s=H100.dram.bytes_per_s * COPY_SHARE,
    )  # fmt: skip
    if chosen is None:
        raise NotImplementedError(f"shared memory of a block must hold a stage of the tile kernel, not {limit!r} bytes")
    cut, _ = chosen
    return cut.token_tiles, cut.row_warps, cut.k_warps, cut.depth


@lru_cache(maxsize=256)
def _kernel(spec: GemmSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def padded_inputs(x: Tensor) -> Tensor:
    """Inputs in rows of whole 16 bytes: ``x`` itself where it is so, else a copy with zeros at the end of rows."""
    if x.shape[1] % 8 == 0 and (SIMULATED or x.data_ptr() % 16 == 0):
        return x
    return torch.nn.functional.pad(x, (0, -x.shape[1] % 8)).clone()


def prepare_gemm(
    weight: PackedMatrix,
    x: Tensor,
    out: Tensor,
    *,
    cut: tuple[int, int, int, int] | None = None,
    overlapped: bool = True,
) -> BoundLaunch:
    """Bind the tile kernel.

    Args:
        weight: the matrix.
        x: ``[m, padded k]`` float16, as ``padded_inputs`` gives it.
        out: ``[m, n]`` float16 (``allocate_result``).
        cut: token tiles, row warps, warps that share rows, stages; ``None`` chooses.
        overlapped: may start while the kernel before it in the stream still runs. It waits for that kernel before
            it reads ``x`` or writes ``out``, but not before it reads the weight.

    Raises:
        NotImplementedError: an encoding without a tile kernel, or a cut that does not fit.
    """
    n, _ = weight.shape
    plan, tokens, limit = weight.plan, x.shape[0], shared_limit(x.device)
    obstacle = tile_kernel_obstacle(plan)
    if obstacle is not None:
        raise NotImplementedError(f"weights of the tile kernel must have scales that are halves, not {obstacle}")
    if plan.one_nan and x.is_cuda and torch.cuda.get_device_capability(x.device) < E4M3_CAPABILITY:
        raise NotImplementedError(f"compute capability must be at least {E4M3_CAPABILITY} for E4M3 weights")
    spec = spec_of(plan, weight.shape, choose_cut(weight.config, tokens, weight.shape, limit) if cut is None else cut)
    if spec.shared_bytes > limit:
        raise NotImplementedError(f"a stage must fit into {limit} bytes of shared memory, not {spec.shared_bytes}")
    none = weight.arrays["codes"]
    arrays = {name: weight.arrays.get(name, none) for name in ("scale", "zero_point", "selector", "outer_scale")}
    token_blocks = ceil_div(tokens, spec.tokens)
    return BoundLaunch(
        _kernel(spec, x.device),
        ceil_div(n, spec.rows) * token_blocks,
        spec.threads,
        (
            weight.arrays["codes"],
            arrays["scale"],
            arrays["zero_point"],
            arrays["selector"],
            arrays["outer_scale"],
            x,
            out,
            tokens,
            n,
            token_blocks,
            arrays["scale"].nbytes // 4,
            arrays["zero_point"].nbytes // 4,
            *zero_planes(weight),
            arrays["selector"].nbytes // 4,
        ),
        shared_bytes=spec.shared_bytes,
        overlapped=overlapped,
    )


def dequantized_product(weight: PackedMatrix, x: Tensor) -> Tensor:
    """``x @ weight.T`` through a half-precision copy of the weight and the library.

    Raises:
        RuntimeError: the copy does not fit into the device's memory.
    """
    n, k = weight.shape
    try:
        return torch.mm(x, dequantize(weight, x.dtype).T)
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"memory of the device must hold {2 * n * k} bytes for a dequantized weight {n} x {k}: too few are free"
        ) from error


def gemm(weight: PackedMatrix, x: Tensor) -> Tensor:
    """``x @ weight.T`` for any number of tokens (``rule`` says by which kernel).

    Args:
        weight: packed ``[n, k]``.
        x: ``[m, k]`` float16 or bfloat16.

    Returns:
        ``[m, n]`` of the type of ``x``; beyond its range infinity. From 17 tokens on, weights are rounded to the type
        of ``x``. A NaN scale makes its row NaN, a NaN input its token; so may a zero point times its scale that is
        beyond the range of float16.

    Raises:
        TypeError: another dtype.
        ValueError: not a contiguous ``[m, k]`` matrix, or not on the weight's device.
        RuntimeError: no usable CUDA device, or too little memory.
    """
    n, k = weight.shape
    check_inputs(x, k, weight.arrays["codes"].device)
    chosen = rule(weight.plan, x.shape[0], x.dtype, weight.shape, shared_limit(x.device))
    if chosen == "gemv":
        return gemv(weight, x)
    if not SIMULATED:
        require_cuda()
    if chosen == "library" or n == 0:
        return dequantized_product(weight, x)
    out = allocate_result(x.shape[0], n, x)
    prepare_gemm(weight, padded_inputs(x), out)()
    return out
