"""ATen operations by what they do, and the shapes and answers that the recorder needs of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

GEMM_OPERATIONS = {"mm": 0, "addmm": 1, "bmm": 0, "baddbmm": 1, "mv": 0, "addmv": 1, "dot": 0}  # first operand's place
SOFTMAX_OPERATIONS = {"_softmax", "_safe_softmax", "_log_softmax"}
NORM_OPERATIONS = {
    *("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit", "rsqrt", "var"),
    *("_native_batch_norm_legit_no_training", "_batch_norm_with_update", "cudnn_batch_norm", "_fused_rms_norm"),
    *("var_mean", "std", "linalg_vector_norm", "norm", "sqrt", "rms_norm"),
}
REDUCTION_OPERATIONS = {
    *("sum", "mean", "cumsum", "cumprod", "amax", "amin", "max", "min", "logsumexp", "topk", "prod", "std_mean"),
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "avg_pool1d", "_adaptive_avg_pool1d", "glu"),
}
MOVE_OPERATIONS = {"clone", "_to_copy", "copy", "copy_", "fill", "fill_", "zero_", "lift_fresh", "masked_fill", "where"}


def gemm_shape(a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    """copies, m, k, n of ``a @ b``."""
    copies = a.shape[0] if a.dim() == 3 else 1
    m = a.shape[-2] if a.dim() > 1 else 1
    return copies, m, a.shape[-1], b.shape[-1] if b.dim() > 1 else 1


def is_arithmetic(func: Any, operation: str) -> bool:
    """Whether an operation computes on every element instead of moving it."""
    if operation in NORM_OPERATIONS or operation in REDUCTION_OPERATIONS:
        return True
    return torch.Tag.pointwise in func.tags and operation not in MOVE_OPERATIONS


def whole_index(index: Tensor | None) -> Tensor | None:
    """A mask on meta selects everything along its (one) dimension; other indices stay."""
    if index is None or not index.is_meta or index.dtype not in (torch.bool, torch.uint8) or index.dim() != 1:
        return index
    return torch.empty(index.shape, dtype=torch.long, device="meta")


def scalar_without_data(tensor: Tensor) -> bool | int | float:
    """What a meta tensor answers when Python asks for its value: no, nothing."""
    if tensor.dtype is torch.bool:
        return False
    return 0.0 if tensor.is_floating_point() else 0


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
