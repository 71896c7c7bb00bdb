"""Launcher of the decode GEMV: packed arrays (``datatypes.packing.pack_tensor``) and inputs in, results out.

``gemv`` is the entry; ``PackedMatrix`` holds a weight on its device, and ``prepare`` binds buffers, for callers that
capture launches in a CUDA graph. The kernel, and how it works, are in ``kernels_gpu.gemv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from datatypes.layer_config import TensorConfig
from datatypes.packing import pack_tensor
from datatypes.planes import flat_words, plane_widths, row_words
from datatypes.tensor import QuantizedTensor
from hwmodel.gpu_gemv_cut import LAST_CUT, RESERVED_BYTES, GemvCut, wanted_cuts
from hwmodel.units import ceil_div
from kernels_gpu.compile_ahead import Ahead
from kernels_gpu.gemv import ARGUMENTS, make_body
from kernels_gpu.gemv_ahead_spec import ahead_obstacle
from kernels_gpu.gemv_branch_spec import BranchSpec
from kernels_gpu.gemv_plan import TILE_ROWS, Plan, plan_of
from kernels_gpu.gemv_spec import WARP, GemvSpec
from kernels_gpu.launch import require_cuda, to_device
from kernels_gpu.low_rank_launch import DeviceFactor
from kernels_gpu.native import (
    MAX_SHARED_BYTES,
    BoundLaunch,
    NativeKernel,
    blocks_per_multiprocessor,
    load,
    multiprocessors,
    peak_memory_bytes_per_s,
    shared_limit,
)
from kernels_gpu.ptx import SIMULATED

MAX_TOKENS = 16
E4M3_CAPABILITY = (8, 9)  # of cvt.rn.f16x2.e4m3x2: PTX ISA 8.1, section 9.7.9.21
REGISTERS = 65536  # of a block: CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
ALL_SHARED_BYTES = MAX_SHARED_BYTES + RESERVED_BYTES  # of a multiprocessor: the same guide, compute capability 9.0
MOST_REGISTERS = 255  # of a thread: the same table


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A packed ``[n, k]`` weight on a device: the arrays of ``pack_tensor``, checked."""

    config: TensorConfig
    shape: tuple[int, int]
    arrays: Mapping[str, Tensor]
    plan: Plan

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.arrays.values())

    def clone(self) -> PackedMatrix:
        """The same in other memory."""
        return PackedMatrix(self.config, self.shape, {k: a.clone() for k, a in self.arrays.items()}, self.plan)


def packed_matrix(
    arrays: Mapping[str, Tensor], config: TensorConfig, shape: tuple[int, int], device: torch.device | str
) -> PackedMatrix:
    """Packed arrays of ``pack_tensor`` moved to ``device``.

    Raises:
        ValueError: an array is missing or of another size than the config says.
        NotImplementedError: an encoding without a kernel.
        RuntimeError: ``device`` cannot be used, or its memory is too small.
    """
    plan = plan_of(config)
    n, k = shape
    wanted = {"codes": n * row_words(k, plan.bits)}
    groups = config.granularity.count(shape)
    if plan.scale is not None:
        wanted["scale"] = flat_words(groups, plan.scale.bits)
    if plan.zero_bits:
        wanted["zero_point"] = flat_words(groups, plan.zero_bits)
    if plan.selector_bits:
        wanted["selector"] = flat_words(groups, plan.selector_bits)
    if plan.outer is not None:
        wanted["outer_scale"] = flat_words(n if plan.outer_by_row else 1, plan.outer.bits)
    if plan.learned:
        wanted["codebook"] = ceil_div(n << plan.bits, 2)
    for name, words in wanted.items():
        if name not in arrays:
            raise ValueError(f"arrays of a packed {config.formats[0].name} matrix must hold {name}, not {[*arrays]!r}")
        if arrays[name].nbytes != 4 * words:
            raise ValueError(
                f"{name} of a packed {n} x {k} matrix must take {4 * words} bytes, not {arrays[name].nbytes!r}"
            )
    return PackedMatrix(config, shape, {name: to_device(arrays[name], device) for name in wanted}, plan)


def from_quantized(tensor: QuantizedTensor, device: torch.device | str) -> PackedMatrix:
    """A quantized matrix packed on ``device``."""
    return packed_matrix(pack_tensor(tensor), tensor.config, tensor.shape, device)


@lru_cache(maxsize=256)
def _kernel(spec: GemvSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec), spec.registers)


@lru_cache(maxsize=256)
def choose_shape(
    plan: Plan,
    tokens: int,
    n: int,
    k: int,
    limit: int = MAX_SHARED_BYTES,
    branch: BranchSpec | None = None,
    memory_bytes_per_s: float | None = None,
) -> GemvCut:
    """A cut that measured well (``hwmodel.gpu_gemv_cut``), or the first of some that fits ``limit`` bytes.

    ``memory_bytes_per_s`` is the device's (``native.peak_memory_bytes_per_s``); ``None`` for an H100's choice. How many
    tokens a launch takes does not depend on it.
    """
    ahead = ahead_obstacle(plan, tokens, branched=branch is not None) is None
    for wanted in wanted_cuts(plan, tokens, n, k, memory_bytes_per_s, ahead=ahead):
        cut = wanted if branch is None else replace(wanted, teams=1)  # its sums are of all warps of a block
        if spec_of(plan, tokens, (n, k), cut, branch=branch).shared_bytes <= limit:
            return cut
    return LAST_CUT


@lru_cache(maxsize=256)
def tokens_at_once(
    plan: Plan, tokens: int, shape: tuple[int, int], limit: int = MAX_SHARED_BYTES, branch: BranchSpec | None = None
) -> int:
    """The most of ``tokens`` that one launch takes: their inputs stay in shared memory, ``limit`` bytes of a block.

    Raises:
        NotImplementedError: not even one token fits.
    """
    for launches in range(1, tokens + 1):
        chunk = ceil_div(tokens, launches)
        cut = choose_shape(plan, chunk, *shape, limit, branch)
        if spec_of(plan, chunk, shape, cut, branch=branch).shared_bytes <= limit:
            return chunk
    raise NotImplementedError(f"k must be so small that one token's inputs fit into shared memory, not {shape[1]!r}")


def spec_of(
    plan: Plan,
    tokens: int,
    shape: tuple[int, int],
    cut: GemvCut,
    *,
    aligned: bool = True,
    bfloat: bool = False,
    branch: BranchSpec | None = None,
) -> GemvSpec:
    """The kernel of a launch; ``aligned`` says that the inputs begin at a multiple of 16 bytes."""
    n, k = shape
    if branch is not None:
        branch = replace(branch, spread=cut.blocks == 1)
    spec = GemvSpec(
        plan=plan,
        k=k,
        tokens=tokens,
        warps=cut.warps,
        runs=cut.runs,
        depth=cut.depth,
        whole_rows=n % TILE_ROWS == 0,
        aligned_inputs=aligned,
        bfloat=bfloat,
        registers=cut.registers,
        branch=branch,
        ahead=cut.ahead,
        teams=cut.teams,
    )
    # a cut's own registers were measured without a branch
    return spec if branch is None else replace(spec, registers=_registers(spec))


def _registers(spec: GemvSpec) -> int:
    """The most of a thread of a kernel with a branch: as many as its block leaves it.

    Plain integers, which take 54 to 73 without a branch, leave room for a second block where there is shared memory for
    it: one of this launch or of the next.
    """
    blocks, plan = 1, spec.plan
    if (
        not (plan.tables or plan.learned or plan.halves)
        and 2 * (spec.shared_bytes + RESERVED_BYTES) <= ALL_SHARED_BYTES
    ):
        blocks = 2
    most = REGISTERS // (blocks * spec.warps * WARP)
    return most if most < MOST_REGISTERS else 0


@dataclass(frozen=True, eq=False)
class Branch:
    """A low-rank branch on a device, and the inputs that it takes.

    Args:
        a: ``[rank, columns]``.
        b: ``[n, rank]``.
        x: ``[m, columns]``, contiguous, of the type of the dense product's inputs.

    Raises:
        ValueError: factors that do not belong together.
    """

    a: DeviceFactor
    b: DeviceFactor
    x: Tensor

    def __post_init__(self) -> None:
        if self.a.factor.columns != self.x.shape[1] or self.b.factor.columns != self.a.rows:
            raise ValueError(
                f"factors of a branch must be [rank, {self.x.shape[1]}] and [n, rank], not "
                f"{[self.a.rows, self.a.factor.columns]!r} and {[self.b.rows, self.b.factor.columns]!r}"
            )

    @property
    def spec(self) -> BranchSpec:
        """What is fixed when its kernel is compiled."""
        return BranchSpec(self.a.factor, self.b.factor, self.x.data_ptr() % 16 == 0)

    def rows(self, first: int, last: int) -> Branch:
        """The same for some of the tokens."""
        return replace(self, x=self.x[first:last])


def prepare(
    weight: PackedMatrix,
    x: Tensor,
    out: Tensor,
    *,
    shape: GemvCut | None = None,
    overlapped: bool = True,
    branch: Branch | None = None,
) -> BoundLaunch:
    """Bind a launch.

    Args:
        weight: the matrix.
        x: ``[m, k]`` float16 or bfloat16, contiguous, m of 1 to 16.
        out: ``[m, n]`` of the same type.
        shape: how to cut the work; ``None`` chooses.
        overlapped: may start while the kernel before it in the stream still runs. It waits for that kernel before
            it reads ``x`` or writes ``out``, but not before it reads the weight.
        branch: what is added to the product.

    Raises:
        ValueError: a branch of another number of rows or tokens.
    """
    n, k = weight.shape
    added = None if branch is None else branch.spec
    if branch is not None and (branch.b.rows != n or len(branch.x) != len(x)):
        raise ValueError(
            f"a branch of {len(x)} tokens must have {n} rows, not {branch.b.rows!r} for {len(branch.x)!r} tokens"
        )
    tokens = x.shape[0]
    plan = weight.plan
    limit = shared_limit(x.device)
    peak = peak_memory_bytes_per_s(x.device)
    cut = choose_shape(plan, tokens, n, k, limit, added, peak) if shape is None else shape
    aligned = x.data_ptr() % 16 == 0
    bfloat = x.dtype == torch.bfloat16
    spec = spec_of(plan, tokens, weight.shape, cut, aligned=aligned, bfloat=bfloat, branch=added)
    if spec.shared_bytes > limit:
        raise NotImplementedError(
            f"{tokens} tokens of {k} inputs must fit into {limit} bytes of shared memory, not {spec.shared_bytes}"
        )
    if plan.one_nan and x.is_cuda and torch.cuda.get_device_capability(x.device) < E4M3_CAPABILITY:
        raise NotImplementedError(f"compute capability must be at least {E4M3_CAPABILITY} for E4M3 weights")
    kernel = _kernel(spec, x.device)
    while shape is None and kernel.registers * cut.warps * WARP > REGISTERS:  # ragged rows take more of them
        cut = replace(cut, warps=cut.warps // 2)
        spec = spec_of(plan, tokens, weight.shape, cut, aligned=aligned, bfloat=bfloat, branch=added)
        kernel = _kernel(spec, x.device)
    if kernel.registers * cut.warps * WARP > REGISTERS:
        raise NotImplementedError(
            f"warps of a kernel with {kernel.registers} registers must be at most "
            f"{REGISTERS // (kernel.registers * WARP)}, not {cut.warps!r}"
        )
    tiles = ceil_div(n, TILE_ROWS)
    fit = blocks_per_multiprocessor(kernel, cut.warps * WARP, spec.shared_bytes)
    if cut.blocks:
        fit = min(fit, cut.blocks)
    grid = min(tiles, max(1, fit) * multiprocessors(x.device))
    if branch is not None and SIMULATED:
        grid = 1  # blocks wait for each other, and the simulator runs one after another
    none = x.new_zeros(8)
    arrays = {name: weight.arrays.get(name, none) for name in ("scale", "zero_point", "selector", "outer_scale")}
    if plan.learned:
        arrays["outer_scale"] = weight.arrays["codebook"]  # the kernel has one pointer for both
    low_plane = lowest_plane = 0
    if plan.zero_bits:
        count, widths = weight.config.granularity.count(weight.shape), (*plane_widths(plan.zero_bits), 0)
        low_plane = flat_words(count, widths[0])
        lowest_plane = low_plane + flat_words(count, widths[1])
    return BoundLaunch(
        kernel,
        grid,
        cut.warps * WARP,
        (
            weight.arrays["codes"],
            arrays["scale"],
            arrays["zero_point"],
            arrays["selector"],
            arrays["outer_scale"],
            x,
            out,
            n,
            tiles,
            arrays["scale"].nbytes // 4,
            arrays["zero_point"].nbytes // 4,
            low_plane,
            lowest_plane,
            arrays["selector"].nbytes // 4,
            *_branch_arguments(branch, tokens, none),
        ),
        shared_bytes=spec.shared_bytes,
        overlapped=overlapped,
    )


def _branch_arguments(branch: Branch | None, tokens: int, none: Tensor) -> tuple[Tensor, ...]:
    """Both factors with their scales, the inputs, and memory that blocks share: zeros at first."""
    if branch is None:
        return (none,) * 6
    parts = [(f.codes, f.codes if f.scale is None else f.scale) for f in (branch.a, branch.b)]
    shared = torch.zeros(branch.spec.global_words(tokens), dtype=torch.int32, device=branch.x.device)
    return (*parts[0], *parts[1], branch.x, shared)


def allocate_result(tokens: int, n: int, like: Tensor) -> Tensor:
    """``[tokens, n]`` of the type of ``like``, in memory of whole words."""
    return like.new_empty(ceil_div(tokens * n, 2) * 2)[: tokens * n].view(tokens, n)


def kernel_ahead(spec: GemvSpec) -> Ahead:
    """The kernel of a spec, to be compiled before its launcher asks for it."""
    return Ahead(make_body, ARGUMENTS, spec, registers=spec.registers)


def prepare_all(
    weight: PackedMatrix, x: Tensor, out: Tensor, *, overlapped: bool = True, branch: Branch | None = None
) -> list[BoundLaunch]:
    """Bind as many launches as ``x`` needs: one, unless its inputs are too many for shared memory."""
    added = None if branch is None else branch.spec
    size = tokens_at_once(weight.plan, len(x), weight.shape, shared_limit(x.device), added)
    return [
        prepare(
            weight,
            x[i : i + size],
            out[i : i + size],
            overlapped=overlapped,
            branch=None if branch is None else branch.rows(i, i + size),
        )
        for i in range(0, len(x), size)
    ]


def gemv(weight: PackedMatrix, x: Tensor) -> Tensor:
    """``x @ weight.T``.

    Args:
        weight: packed ``[n, k]``.
        x: ``[m, k]`` float16 or bfloat16, m of 0 to 16. A NaN or infinity in a row makes that row of the result NaN.

    Returns:
        ``[m, n]`` of the type of ``x``; beyond its range infinity. Inputs enter as 16-bit fixed point for each 128 of
        them: an error of at most 2**-16 of their largest magnitude.

    Raises:
        TypeError: another dtype.
        ValueError: not a contiguous ``[m, k]`` matrix, or not on the weight's device.
        NotImplementedError: more tokens than a kernel takes.
        RuntimeError: no usable CUDA device.
    """
    n, k = weight.shape
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"x must be float16 or bfloat16, not {x.dtype}")
    if x.dim() != 2 or x.shape[1] != k or not x.is_contiguous():
        raise ValueError(f"x must be a contiguous matrix [m, {k}], not of shape {list(x.shape)!r}")
    if x.shape[0] > MAX_TOKENS:
        raise NotImplementedError(f"tokens of a decode GEMV must be at most {MAX_TOKENS}, not {x.shape[0]}")
    if not SIMULATED:
        require_cuda()
    if x.device != weight.arrays["codes"].device or not (SIMULATED or x.is_cuda):
        raise ValueError(f"x must be on the weight's CUDA device {weight.arrays['codes'].device}, not {x.device}")
    out = allocate_result(x.shape[0], n, x)
    if out.numel():
        for launch in prepare_all(weight, x, out):
            launch()
    return out
