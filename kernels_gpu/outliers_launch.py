"""Launcher of element-wise outliers: compressed rows on a device, added to what a GEMV wrote.

``device_outliers`` places them; ``prepare_outliers`` binds a launch. The kernel is in ``kernels_gpu.outliers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hwmodel.units import ceil_div
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.launch import to_device
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.outliers import ARGUMENTS, CsrSpec, make_body, row_blocks
from kernels_gpu.ptx import SIMULATED

THREADS = WARP if SIMULATED else 256  # of a block
ELEMENTS = 2 * THREADS if SIMULATED else 4 * THREADS  # of a round: eight words that a thread holds while it waits
ROWS = 8 if SIMULATED else 64  # of a block, at most
BLOCKS = 4 * 132  # that large matrices are cut into: four for each multiprocessor of an H100, all at work at once
MOST_ROUNDS = 4  # of a block that is not one row
LANES = 8  # of a row: 1 % of 4096 inputs are 41 elements, six for each


@dataclass(frozen=True, eq=False)
class DeviceOutliers:
    """Compressed rows of an ``[n, k]`` weight on a device.

    Args:
        shape: (n, k).
        values: float16 or float32, padded to whole words.
        columns: int16 read as unsigned, or int32, padded to whole words.
        pointers: int32 ``[n + 1]``.
        starts: int32, first row of each block (``outliers.row_blocks``); not part of the stored layer.
    """

    shape: tuple[int, int]
    values: Tensor
    columns: Tensor
    pointers: Tensor
    starts: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(t.nbytes for t in (self.values, self.columns, self.pointers, self.starts))

    def clone(self) -> DeviceOutliers:
        """The same in other memory."""
        arrays = (self.values, self.columns, self.pointers, self.starts)
        return DeviceOutliers(self.shape, *(t.clone() for t in arrays))


def device_outliers(
    values: Tensor,
    columns: Tensor,
    pointers: Tensor,
    shape: tuple[int, int],
    device: torch.device | str,
    *,
    block_elements: int | None = None,
) -> DeviceOutliers:
    """Place compressed rows on ``device``; columns in 16 bits where ``k`` allows it.

    Args:
        values: float16 or float32 ``[count]``, row by row.
        columns: integers ``[count]``, 0 to k - 1.
        pointers: integers ``[n + 1]``, ascending from 0 to count.
        shape: (n, k).
        device: where to.
        block_elements: of a block, at most; ``None`` chooses.

    Raises:
        TypeError: values of another type.
        ValueError: arrays that do not belong together.
    """
    n, k = shape
    if values.dtype not in (torch.float16, torch.float32):
        raise TypeError(f"values of outliers must be float16 or float32, not {values.dtype}")
    steps = pointers.diff()
    agree = len(pointers) == n + 1 and len(values) == len(columns) == int(pointers[-1]) and int(pointers[0]) == 0
    if not agree or (n and int(steps.min()) < 0):
        raise ValueError(
            f"row_pointers of outliers must be {n + 1}, ascending from 0 to {len(values)}, not {len(pointers)} of them "
            f"up to {int(pointers[-1])!r}"
        )
    if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < k:
        raise ValueError(f"columns of outliers must be 0 to {k - 1}, not {int(columns.min())} to {int(columns.max())}")
    narrow = k <= 1 << 16
    index = columns.to(torch.int32)
    if narrow:
        index = (index - ((index >> 15) << 16)).to(torch.int16)  # the same sixteen bits
    most = choose_elements(len(values)) if block_elements is None else block_elements
    starts = row_blocks(pointers.cpu().numpy().astype(np.int64), most, ROWS)
    return DeviceOutliers(
        shape,
        to_device(_padded(values), device),
        to_device(_padded(index), device),
        to_device(pointers.to(torch.int32), device),
        to_device(torch.from_numpy(starts), device),
    )


def choose_elements(count: int) -> int:
    """Outliers of a block: a round, or up to four where there are so many that every multiprocessor has its blocks.

    Beginning and end of a block cost more instructions than a round (NOTES.md).
    """
    return min(MOST_ROUNDS, max(1, ceil_div(count, BLOCKS * ELEMENTS))) * ELEMENTS


def _padded(values: Tensor) -> Tensor:
    """At least one word, and whole ones."""
    odd = -len(values) % (4 // values.element_size())
    return torch.nn.functional.pad(values, (0, odd if len(values) else 4 // values.element_size())).contiguous()


@lru_cache(maxsize=256)
def _kernel(spec: CsrSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def spec_of(
    k: int, tokens: int, *, wide_value: bool = False, wide_index: bool = False, bfloat: bool = False
) -> CsrSpec:
    """The kernel of a launch."""
    return CsrSpec(k, tokens, ELEMENTS, ROWS, LANES, THREADS, wide_value, wide_index, bfloat)


def prepare_outliers(outliers: DeviceOutliers, x: Tensor, y: Tensor, *, overlapped: bool = True) -> BoundLaunch:
    """Bind ``y += outliers x``.

    Args:
        outliers: compressed rows.
        x: ``[m, k]`` float16 or bfloat16, contiguous, m of 1 to 16.
        y: ``[m, n]`` of the same type.
        overlapped: may start while the kernel before it in the stream still runs, and waits before it reads x or y.
    """
    spec = spec_of(
        outliers.shape[1],
        len(x),
        wide_value=outliers.values.dtype == torch.float32,
        wide_index=outliers.columns.dtype == torch.int32,
        bfloat=x.dtype == torch.bfloat16,
    )
    o = outliers
    return BoundLaunch(
        _kernel(spec, x.device),
        len(o.starts) - 1,
        spec.threads,
        (o.starts, o.pointers, o.columns, o.values, x, y, o.shape[0]),
        shared_bytes=spec.shared_bytes,
        overlapped=overlapped,
    )
