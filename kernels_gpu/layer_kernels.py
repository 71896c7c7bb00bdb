"""The kernels of a layer's chain of launches, known before it lies on a device: to compile them in parallel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from kernels_gpu import layer_inputs, low_rank, outliers
from kernels_gpu.compile_ahead import Ahead
from kernels_gpu.gemv_branch_spec import MOST_RANK, BranchSpec
from kernels_gpu.gemv_launch import choose_shape, kernel_ahead, tokens_at_once
from kernels_gpu.gemv_launch import spec_of as gemv_spec_of
from kernels_gpu.layer import DeviceLayer
from kernels_gpu.layer_inputs import InputsSpec
from kernels_gpu.low_rank_launch import spec_of_a, spec_of_b, spec_of_columns
from kernels_gpu.native import MAX_SHARED_BYTES
from kernels_gpu.outliers_launch import spec_of as outliers_spec_of

ALIGNED_BYTES = 16  # where the inputs of a launch begin, for its widest loads


def kernels_of(
    layer: DeviceLayer,
    n: int,
    tokens: int,
    limit: int = MAX_SHARED_BYTES,
    *,
    memory_bytes_per_s: float | None = None,
    fused: bool = True,
) -> Iterator[Ahead]:
    """The kernels that ``layer.prepare_layer`` launches for float16 inputs.

    Args:
        layer: one of the same kind, on any device; its rows may be fewer.
        n: outputs of the layer that will run.
        tokens: m, 1 to 16.
        limit: bytes of shared memory of a block.
        memory_bytes_per_s: as in ``gemv_launch.choose_shape``.
        fused: as in ``prepare_layer``.
    """
    k = layer.shape[1]
    branch = None
    if layer.index is not None:
        taken = InputsSpec(k, len(layer.index), True, layer.smoothing is not None)
        yield Ahead(layer_inputs.make_body, layer_inputs.ARGUMENTS, taken)
    branches = layer.low_rank is not None or layer.columns is not None or layer.rows is not None
    if layer.smoothing is not None and (layer.index is None or branches):
        yield Ahead(layer_inputs.make_body, layer_inputs.ARGUMENTS, InputsSpec(k, k, False, True))
    if layer.low_rank is not None:
        a, b = (part.factor for part in layer.low_rank)
        if fused and layer.low_rank[0].rows <= MOST_RANK:
            branch = BranchSpec(a, b)
        else:
            first = spec_of_a(a, tokens, k)
            yield Ahead(low_rank.make_body, low_rank.ARGUMENTS, first)
            yield Ahead(low_rank.make_body, low_rank.ARGUMENTS, spec_of_b(b, tokens, first.splits))
    plan, size = layer.dense.plan, (n, layer.dense.shape[1])
    most = tokens_at_once(plan, tokens, size, limit, branch)
    for start in range(0, tokens, most):
        chunk = min(most, tokens - start)
        aligned = 2 * start * size[1] % ALIGNED_BYTES == 0
        if branch is not None:
            branch = replace(branch, aligned_inputs=2 * start * k % ALIGNED_BYTES == 0)
        cut = choose_shape(plan, chunk, *size, limit, branch, memory_bytes_per_s)
        spec = gemv_spec_of(plan, chunk, size, cut, aligned=aligned, branch=branch)
        yield kernel_ahead(spec)
    if layer.columns is not None:
        values, columns = layer.columns
        spec_of_outliers = spec_of_columns(values.factor, tokens, k, wide_index=columns.dtype == torch.int32)
        yield Ahead(low_rank.make_body, low_rank.ARGUMENTS, spec_of_outliers)
    if layer.rows is not None:
        wide_value, wide_index = layer.rows.values.dtype == torch.float32, layer.rows.columns.dtype == torch.int32
        rows = outliers_spec_of(k, tokens, wide_value=wide_value, wide_index=wide_index)
        yield Ahead(outliers.make_body, outliers.ARGUMENTS, rows)
