"""Numpy reference of the GEMV, and how far a kernel may be from an exact product.

``fixed_point`` is the kernel's own reading of its inputs, so that ``reference`` predicts its result up to float32
rounding; ``tolerance`` bounds the distance from ``x @ weight.T`` in exact arithmetic.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels_gpu.gemv_plan import LARGEST_TWO_DIGITS, RUN, Plan

LEVELS = 32512  # 127 * 256, see kernels_gpu.gemv
HALF_STEP = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}  # of a result, IEEE 754 and bfloat16: to nearest
SMALLEST = {torch.float16: 2.0**-25, torch.bfloat16: 2.0**-134}  # half the smallest subnormal
FLOAT_STEP = 2.0**-24  # of float32, to nearest
HALF_INPUT_STEP = 2.0**-37  # half the smallest subnormal of a half, of a run's largest magnitude, at least 2**12


def fixed_point(x: np.ndarray) -> np.ndarray:
    """Inputs ``[m, k]`` as the kernel reads them, float64: 16-bit fixed point, a float32 scale for each 128."""
    m, k = x.shape
    wide = np.zeros((m, -(-k // RUN) * RUN), np.float32)
    wide[:, :k] = x
    runs = wide.reshape(m, -1, RUN)
    largest = np.abs(runs).max(2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(largest > 1e-30, np.float32(LEVELS) / largest, np.float32(0))
        units = np.rint(runs.astype(np.float64) * factor)
        scale = (largest + (largest - largest)) * np.float32(1 / LEVELS)
        made = units * scale.astype(np.float64)
    return made.reshape(m, -1)[:, :k]


def reference(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``fixed_point(x) @ weight.T`` in float64, for a decoded weight ``[n, k]``."""
    return fixed_point(x) @ weight.astype(np.float64).T


def tolerance(x: Tensor, weight: Tensor, plan: Plan, expected: Tensor) -> Tensor:
    """Largest allowed distance from the exact product, ``[m, n]`` float64.

    The sum of: inputs rounded to a unit of their run (half a unit, and twice the rounding of its two float32 factors);
    codebook values rounded to two digits; float32 rounding of every run's product and of the sums over runs; the result
    rounded to its type.
    """
    m, k = x.shape
    pad = -k % RUN
    magnitude = torch.nn.functional.pad(x.double().abs(), (0, pad))
    largest = magnitude.reshape(m, -1, RUN).amax(2, keepdim=True).expand(m, -1, RUN).reshape(m, -1)[:, :k]
    weights = weight.double().abs()
    absolute = x.double().abs() @ weights.T
    from_inputs = largest @ weights.T * (0.5 / LEVELS) + absolute * (4 * FLOAT_STEP)
    if plan.halves:
        from_inputs = largest @ weights.T * HALF_INPUT_STEP
    from_codebook = torch.zeros_like(absolute)
    if plan.digits == 2:
        # half a unit of 1 / LARGEST_TWO_DIGITS of each group's largest weight, which its scale times the table's is
        group = plan.group if plan.group else k
        wide = torch.nn.functional.pad(weights, (0, -k % group))
        tops = wide.reshape(len(weights), -1, group).amax(2, keepdim=True).expand(-1, -1, group)
        from_codebook = x.double().abs() @ tops.reshape(len(weights), -1)[:, :k].T * (1.0 / LARGEST_TWO_DIGITS)
    runs = -(-k // RUN)
    # each of the runs is scaled (three roundings) and added (one for each addition that follows, to both levels)
    # and tensor cores cut each of the 17 terms of a run's eight half-precision products to float32's last place or
    # better (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330, 2021)
    from_sums = absolute * (FLOAT_STEP * (runs + 16 + (8 * 17 if plan.halves else 0)))
    rounded = expected.abs() * HALF_STEP[x.dtype] + SMALLEST[x.dtype]
    return from_inputs + from_codebook + from_sums + rounded
