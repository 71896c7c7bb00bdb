"""A whole quantized layer for few tokens: the dense GEMV and what the layer has beside it, as one chain of launches.

``device_layer`` places a ``QuantizedLayer`` on a device, ``layer_gemv`` runs it, ``prepare_layer`` binds its launches
for callers that capture them in a CUDA graph. The chain:

    inputs in stored order, divided by smoothing      where the layer has an order, dropped columns or smoothing
    y = dense x + B (A x)                             ``kernels_gpu.gemv``, with the low-rank branch where there is one
    y += outlier columns, y += outlier rows

A branch of a large rank is two launches of its own, ``t = A x`` before the product and ``y += B t`` at the end.

Each kernel may start while the one before still runs and reads its weights then; it waits before it reads x, t or y.
As every kernel waits, all earlier ones have ended where one goes on.

Outliers *replace* dense weights. Where the dense codes under them decode to zero (GWQ) or are left out (OWQ's dropped
slots), their stored values are added as they are; elsewhere the difference to the dense value is added, in float32.

Left out: weights in parts, rotations, encoded activations and outputs, more than 16 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from datatypes.layer_config import LayerConfig, OutlierLayout, TensorConfig
from datatypes.quantized_layer import QuantizedLayer
from datatypes.tensor import QuantizedTensor
from hwmodel.units import ceil_div
from kernels_gpu.gemv_branch_spec import MOST_RANK
from kernels_gpu.gemv_launch import (
    MAX_TOKENS,
    Branch,
    PackedMatrix,
    allocate_result,
    from_quantized,
    prepare_all,
)
from kernels_gpu.gemv_spec import WARP
from kernels_gpu.launch import require_cuda, to_device
from kernels_gpu.layer_inputs import ARGUMENTS, THREADS, InputsSpec, make_body
from kernels_gpu.low_rank_launch import DeviceFactor, dense_factor, device_factor, prepare_columns, prepare_low_rank
from kernels_gpu.native import BoundLaunch, NativeKernel, load
from kernels_gpu.outliers_launch import DeviceOutliers, device_outliers, prepare_outliers
from kernels_gpu.ptx import SIMULATED


@dataclass(frozen=True, eq=False)
class DeviceLayer:
    """A quantized layer on a device.

    Args:
        shape: (n, k).
        dense: the dense part, in stored column order.
        index: int32 input column of each stored one; ``None`` where they are the same.
        smoothing: float32 ``[k]`` that divides the inputs; ``None`` without.
        low_rank: both factors; ``None`` without.
        columns: outlier columns ``[n, count]`` and the input column of each; ``None`` without.
        rows: element-wise outliers; ``None`` without.
    """

    shape: tuple[int, int]
    dense: PackedMatrix
    index: Tensor | None = None
    smoothing: Tensor | None = None
    low_rank: tuple[DeviceFactor, DeviceFactor] | None = None
    columns: tuple[DeviceFactor, Tensor] | None = None
    rows: DeviceOutliers | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of everything."""
        parts: list[PackedMatrix | DeviceFactor | DeviceOutliers | Tensor] = [self.dense]
        parts += [t for t in (self.index, self.smoothing, self.rows) if t is not None]
        parts += [*(self.low_rank or ()), *(self.columns or ())]
        return sum(part.nbytes for part in parts)

    def clone(self) -> DeviceLayer:
        """The same in other memory."""
        return replace(
            self,
            dense=self.dense.clone(),
            low_rank=None if self.low_rank is None else (self.low_rank[0].clone(), self.low_rank[1].clone()),
            columns=None if self.columns is None else (self.columns[0].clone(), self.columns[1].clone()),
            rows=None if self.rows is None else self.rows.clone(),
        )


def device_layer(layer: QuantizedLayer, device: torch.device | str) -> DeviceLayer:
    """Place a quantized layer on ``device``.

    Raises:
        NotImplementedError: a layer without kernels (see the module docstring).
    """
    _refuse_unsupported(layer.config)
    assert isinstance(layer.weight, QuantizedTensor)  # as the config says
    low_rank = None
    if layer.low_rank_a is not None and layer.low_rank_b is not None:
        low_rank = device_factor(layer.low_rank_a, device), device_factor(layer.low_rank_b, device)
    columns = rows = None
    if layer.outliers is not None:
        values = _added_values(layer)
        if layer.outliers.row_pointers is None:
            wide = layer.shape[1] > 1 << 16
            chosen = layer.outliers.columns.to(torch.int32)
            chosen = chosen if wide else (chosen - ((chosen >> 15) << 16)).to(torch.int16)
            columns = (dense_factor(values, device), to_device(chosen, device)) if len(chosen) else None
        else:
            rows = device_outliers(values, layer.outliers.columns, layer.outliers.row_pointers, layer.shape, device)
    index = stored_order(layer)
    return DeviceLayer(
        layer.shape,
        from_quantized(layer.weight, device),
        None if index is None else to_device(index.to(torch.int32), device),
        None if layer.smoothing is None else to_device(layer.smoothing.to(torch.float32), device),
        low_rank,
        columns,
        rows,
    )


def _refuse_unsupported(config: LayerConfig) -> None:
    if not isinstance(config.weight, TensorConfig):
        raise NotImplementedError("weight of a layer on the GPU must be one encoding, not parts or none")
    for name in ("activation", "output"):
        if getattr(config, name) is not None:
            raise NotImplementedError(f"{name} of a layer on the GPU must be float16 or bfloat16, not encoded")
    if config.output_norm:
        raise NotImplementedError("output_norm must be left out for a layer on the GPU, not True")


def stored_order(layer: QuantizedLayer) -> Tensor | None:
    """Input column of each stored column of the dense weight, int64; ``None`` where they are the same."""
    dropped = layer.config.outliers is not None and not layer.config.outliers.keep_dense_slot
    if not dropped and layer.permutation is None:
        return None
    order = torch.arange(layer.shape[1]) if layer.permutation is None else layer.permutation.cpu()
    if dropped:
        assert layer.outliers is not None  # as the config says
        keep = torch.ones(layer.shape[1], dtype=torch.bool)
        keep[layer.outliers.columns.cpu()] = False
        order = order[keep]
    return order


def _added_values(layer: QuantizedLayer) -> Tensor:
    """What outliers add to the dense product: their values, less the dense ones where these are not zero."""
    outliers = layer.outliers
    assert outliers is not None and layer.config.outliers is not None
    values = outliers.values
    if layer.config.outliers.keep_dense_slot:
        dense = replace(layer, outliers=None).dense_weight()
        if layer.config.outliers.layout is OutlierLayout.COLUMNS:
            under = dense[:, outliers.columns]
        else:
            assert outliers.row_pointers is not None
            row = torch.repeat_interleave(torch.arange(len(dense), device=dense.device), outliers.row_pointers.diff())
            under = dense[row, outliers.columns]
        if bool((under != 0).any()):
            return values.to(torch.float32) - under
    return values if values.dtype == torch.float16 else values.to(torch.float32)


@lru_cache(maxsize=64)
def _kernel(spec: InputsSpec, device: torch.device) -> NativeKernel:
    return load(make_body(spec), ARGUMENTS, repr(spec))


def _prepare_inputs(
    x: Tensor, out: Tensor, index: Tensor | None, smoothing: Tensor | None, *, overlapped: bool
) -> BoundLaunch:
    spec = InputsSpec(x.shape[1], out.shape[1], index is not None, smoothing is not None, x.dtype == torch.bfloat16)
    threads = WARP if SIMULATED else THREADS
    items = out.numel()
    given = (x, x if index is None else index, x if smoothing is None else smoothing, out, items, threads)
    kernel = _kernel(spec, x.device)
    return BoundLaunch(kernel, ceil_div(items, threads), threads, given, shared_bytes=0, overlapped=overlapped)


def prepare_layer(
    layer: DeviceLayer, x: Tensor, y: Tensor, *, overlapped: bool = True, fused: bool = True
) -> list[BoundLaunch]:
    """Bind the chain of launches.

    Args:
        layer: on a device.
        x: ``[m, k]`` float16 or bfloat16, contiguous, m of 1 to 16.
        y: ``[m, n]`` of the same type (``allocate_result``).
        overlapped: each may start while the kernel before it in the stream still runs.
        fused: a low-rank branch of a rank up to ``MOST_RANK`` goes with the dense product (``kernels_gpu.gemv_branch``)
            rather than in launches of its own, which are slower (NOTES.md).
    """
    launches, dense_x = [], x
    if layer.index is not None:
        dense_x = allocate_result(len(x), len(layer.index), x)
        launches.append(_prepare_inputs(x, dense_x, layer.index, layer.smoothing, overlapped=overlapped))
    branches = layer.low_rank is not None or layer.columns is not None or layer.rows is not None
    if layer.smoothing is not None and (layer.index is None or branches):
        smooth = allocate_result(len(x), layer.shape[1], x)
        launches.append(_prepare_inputs(x, smooth, None, layer.smoothing, overlapped=overlapped))
        x, dense_x = smooth, dense_x if layer.index is not None else smooth
    branch, expand = None, None
    if layer.low_rank is not None and fused and layer.low_rank[0].rows <= MOST_RANK:
        branch = Branch(*layer.low_rank, x)
    elif layer.low_rank is not None:
        project, expand = prepare_low_rank(*layer.low_rank, x, y, overlapped=overlapped)
        launches.append(project)
    launches += prepare_all(layer.dense, dense_x, y, overlapped=overlapped, branch=branch)
    if layer.columns is not None:
        launches.append(prepare_columns(*layer.columns, x, y, overlapped=overlapped))
    if layer.rows is not None:
        launches.append(prepare_outliers(layer.rows, x, y, overlapped=overlapped))
    if expand is not None:
        launches.append(expand)
    return launches


def check_inputs(x: Tensor, k: int, device: torch.device) -> None:
    """Whether ``x`` is a matrix ``[m, k]`` that the kernels take, on ``device``.

    Raises:
        TypeError: another dtype.
        ValueError: not a contiguous ``[m, k]`` matrix, or on another device.
        RuntimeError: no usable CUDA device.
    """
    if x.dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"x must be float16 or bfloat16, not {x.dtype}")
    if x.dim() != 2 or x.shape[1] != k or not x.is_contiguous():
        raise ValueError(f"x must be a contiguous matrix [m, {k}], not of shape {list(x.shape)!r}")
    if not SIMULATED:
        require_cuda()
    if x.device != device or not (SIMULATED or x.is_cuda):
        raise ValueError(f"x must be on the weight's CUDA device {device}, not {x.device}")


def layer_gemv(layer: DeviceLayer, x: Tensor) -> Tensor:
    """``x @ layer.dequantize_weight().T`` for few tokens, every branch from its stored form.

    Args:
        layer: on a device.
        x: ``[m, k]`` float16 or bfloat16, m of 0 to 16.

    Returns:
        ``[m, n]`` of the type of ``x``. A NaN scale, factor or outlier makes the results NaN that depend on it; so does
        a NaN or infinite input. See ``kernels_gpu.gemv_launch.gemv`` for how inputs enter the dense product.

    Raises:
        TypeError: another dtype.
        ValueError: not a contiguous ``[m, k]`` matrix, or not on the layer's device.
        NotImplementedError: more tokens than a kernel takes.
        RuntimeError: no usable CUDA device.
    """
    n, k = layer.shape
    if x.dim() == 2 and x.shape[0] > MAX_TOKENS:
        raise NotImplementedError(f"tokens of a layer's GEMV must be at most {MAX_TOKENS}, not {x.shape[0]}")
    check_inputs(x, k, layer.dense.arrays["codes"].device)
    y = allocate_result(x.shape[0], n, x)
    if y.numel():
        for launch in prepare_layer(layer, x, y):
            launch()
    return y
