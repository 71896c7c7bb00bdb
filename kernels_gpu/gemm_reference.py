"""How far a GEMM on half-precision tensor cores may be from an exact product with the decoded weight."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_gpu.gemv_plan import LARGEST_TWO_DIGITS, Plan
from kernels_gpu.gemv_reference import FLOAT_STEP, HALF_STEP, SMALLEST

MMA_INPUTS = 16  # of mma.m16n8k16


def tolerance(x: Tensor, weight: Tensor, plan: Plan, expected: Tensor) -> Tensor:
    """Largest allowed distance from the exact product, ``[m, n]`` float64.

    The sum of: weights rounded to the type of x, twice where they have two digits, subnormal ones by half a step of
    these, in units of their row's second-level scale; codebook values rounded to two digits; sums on tensor cores; the
    result rounded to its type.

    Args:
        x: ``[m, k]`` float16 or bfloat16.
        weight: decoded, ``[n, k]``.
        plan: its encoding.
        expected: the exact product.
    """
    half, small = HALF_STEP[x.dtype], SMALLEST[x.dtype]
    inputs, weights = x.double().abs(), weight.double().abs()
    absolute = inputs @ weights.T
    k = x.shape[1]
    from_weights = absolute * (half * plan.digits)
    # a row's unit is at most its largest weight, unless all its scales are subnormal, and at least 1 without levels
    unit = weights.amax(1).clamp(min=1.0)
    from_weights = from_weights + inputs.sum(1)[:, None] * unit[None] * (2 * small)
    if plan.digits == 2:
        group = plan.group if plan.group else k
        wide = torch.nn.functional.pad(weights, (0, -k % group))
        tops = wide.reshape(len(weights), -1, group).amax(2, keepdim=True).expand(-1, -1, group)
        from_weights = from_weights + inputs @ tops.reshape(len(weights), -1)[:, :k].T * (1.0 / LARGEST_TWO_DIGITS)
    # tensor cores cut each of the 17 terms of a product to float32's last place or better (Fasi et al., Numerical
    # behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330, 2021); sums and scales after that round once each
    steps = -(-k // MMA_INPUTS)
    from_sums = absolute * (FLOAT_STEP * (2 * 17 * steps + 16))
    return from_weights + from_sums + expected.abs() * half + small
