"""Launcher of thin products: a low-rank branch, or whole columns kept as outliers, added to what a GEMV wrote.

``prepare_low_rank`` and ``prepare_columns`` bind launches; the kernel is in ``kernels_gpu.low_rank``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from datatypes.packing import pack_tensor
from datatypes.planes import flat_words, row_words
from datatypes.tensor import QuantizedTensor
from hwmodel.units import ceil_div
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.launch import to_device
from kernels_gpu.low_rank import ARGUMENTS, make_body
from kernels_gpu.low_rank_spec import Factor, FactorKind, Source, Target, ThinSpec, factor_of, thin_cut
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.ptx import SIMULATED

THREADS = WARP if SIMULATED else 256  # of a block; the simulator starts a Python thread for each
SPLITS = 2 if SIMULATED else 8  # at most of a row of A: 8 blocks a rank keep 256 warps busy at rank 32
LANES_OF_A = 8 if SIMULATED else WARP  # of a row of A
LANES_OF_B = 8  # at most of a row with few columns: 4 shuffles fewer than a whole warp's

_FLOATS = {torch.float16: FactorKind.FP16, torch.bfloat16: FactorKind.BF16, torch.float32: FactorKind.FP32}


@dataclass(frozen=True, eq=False)
class DeviceFactor:
    """A factor ``[rows, columns]`` on a device: the arrays ``codes`` and ``scale`` of ``pack_tensor``."""

    factor: Factor
    rows: int
    codes: Tensor
    scale: Tensor | None = None

    def __post_init__(self) -> None:
        f = self.factor
        words = row_words(f.columns, 8) * 4 if f.kind is FactorKind.INT8 else f.columns * self.codes.element_size()
        scales = 0 if f.scale is None else 4 * flat_words(self.rows * f.groups, f.scale.bits)
        there = 0 if self.scale is None else self.scale.nbytes
        if self.codes.nbytes < self.rows * words or there < scales:
            raise ValueError(
                f"codes and scale of a factor {self.rows} x {f.columns} must take {self.rows * words} and {scales} "
                f"bytes, not {self.codes.nbytes!r} and {there!r}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def clone(self) -> DeviceFactor:
        """The same in other memory."""
        return DeviceFactor(
            self.factor, self.rows, self.codes.clone(), None if self.scale is None else self.scale.clone()
        )


def device_factor(tensor: QuantizedTensor, device: torch.device | str) -> DeviceFactor:
    """A quantized factor packed on ``device``.

    Raises:
        NotImplementedError: an encoding without a kernel.
    """
    factor = factor_of(tensor.config, tensor.shape[1])
    arrays = pack_tensor(tensor)
    scale = to_device(arrays["scale"], device) if factor.scale is not None else None
    return DeviceFactor(factor, tensor.shape[0], to_device(arrays["codes"], device), scale)


def dense_factor(values: Tensor, device: torch.device | str) -> DeviceFactor:
    """A matrix of float16, bfloat16 or float32 as a factor."""
    n, columns = values.shape
    return DeviceFactor(Factor(_FLOATS[values.dtype], columns), n, to_device(values, device))


@lru_cache(maxsize=256)
def _kernel(spec: ThinSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def spec_of_a(factor: Factor, tokens: int, k: int, *, bfloat: bool = False) -> ThinSpec:
    """The kernel of ``A x``: a warp a row, rows split over blocks."""
    lanes, loads, rounds, splits = thin_cut(factor, most_lanes=LANES_OF_A, splits=SPLITS)
    return ThinSpec(
        factor, tokens, lanes, loads, rounds, splits, THREADS, Source.INPUTS, Target.PARTIAL, k, bfloat=bfloat
    )


def spec_of_b(factor: Factor, tokens: int, splits: int, *, bfloat: bool = False) -> ThinSpec:
    """The kernel of ``y += B t``, t in ``splits`` partial sums."""
    lanes, loads, rounds, _ = thin_cut(factor, most_lanes=LANES_OF_B)
    return ThinSpec(factor, tokens, lanes, loads, rounds, 1, THREADS, Source.SUMS, Target.ADDED, splits, bfloat=bfloat)


def spec_of_columns(factor: Factor, tokens: int, k: int, *, wide_index: bool = False, bfloat: bool = False) -> ThinSpec:
    """The kernel of ``y += W_o x[columns]``."""
    lanes, loads, rounds, _ = thin_cut(factor, most_lanes=LANES_OF_B if factor.vector else WARP)
    return ThinSpec(
        factor, tokens, lanes, loads, rounds, 1, THREADS, Source.COLUMNS, Target.ADDED, k, wide_index, bfloat
    )


def _bind(
    spec: ThinSpec, factor: DeviceFactor, source: Tensor, index: Tensor, out: Tensor, *, overlapped: bool
) -> BoundLaunch:
    scale = factor.codes if factor.scale is None else factor.scale
    return BoundLaunch(
        _kernel(spec, source.device),
        ceil_div(factor.rows, spec.teams) * spec.splits,
        spec.threads,
        (factor.codes, scale, source, index, out, factor.rows),
        shared_bytes=spec.shared_bytes,
        overlapped=overlapped,
    )


def prepare_low_rank(
    a: DeviceFactor, b: DeviceFactor, x: Tensor, y: Tensor, *, overlapped: bool = True
) -> tuple[BoundLaunch, BoundLaunch]:
    """Bind ``t = A x`` and ``y += B t``; other kernels, such as the dense GEMV, may run between them.

    Args:
        a: ``[rank, k]``.
        b: ``[n, rank]``.
        x: ``[m, k]`` float16 or bfloat16, contiguous, m of 1 to 16.
        y: ``[m, n]`` of the same type.
        overlapped: may start while the kernel before it in the stream still runs, and waits before it reads x or y.

    Raises:
        ValueError: factors that do not belong together.
    """
    m, k = x.shape
    if a.factor.columns != k or b.factor.columns != a.rows or y.shape != (m, b.rows):
        raise ValueError(
            f"factors of a branch must be [rank, {k}] and [{y.shape[1]}, rank], not {[a.rows, a.factor.columns]!r} "
            f"and {[b.rows, b.factor.columns]!r}"
        )
    bfloat = x.dtype == torch.bfloat16
    first = spec_of_a(a.factor, m, k, bfloat=bfloat)
    second = spec_of_b(b.factor, m, first.splits, bfloat=bfloat)
    partial = torch.empty(first.splits * m * a.rows, dtype=torch.float32, device=x.device)
    return (
        _bind(first, a, x, x, partial, overlapped=overlapped),
        _bind(second, b, partial, partial, y, overlapped=overlapped),
    )


def prepare_columns(
    values: DeviceFactor, columns: Tensor, x: Tensor, y: Tensor, *, overlapped: bool = True
) -> BoundLaunch:
    """Bind ``y += values @ x[:, columns].T``.

    Args:
        values: ``[n, count]``.
        columns: of x: int16 read as unsigned, or int32, ``[count]``.
        x, y, overlapped: as in ``prepare_low_rank``.
    """
    wide, bfloat = columns.dtype == torch.int32, x.dtype == torch.bfloat16
    spec = spec_of_columns(values.factor, len(x), x.shape[1], wide_index=wide, bfloat=bfloat)
    return _bind(spec, values, x, columns, y, overlapped=overlapped)
