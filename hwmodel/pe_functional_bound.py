"""How far the bit-serial PE may lie from the exact product: a bound from its widths, before anything is computed."""

from __future__ import annotations

import numpy as np

from datatypes.catalog import FP32
from datatypes.format import Format
from hwmodel import pe_functional_kernels as kernels
from hwmodel.pe_functional import (
    BITMOD_DATAPATH,
    Alignment,
    SerialDatapath,
    decode_fp16,
    kernel_tables,
    lowest_bit_exponent,
)
from hwmodel.pe_functional_weight import SerialWeight


def error_bounds(
    activations: np.ndarray, weight: SerialWeight, *, datapath: SerialDatapath = BITMOD_DATAPATH,
    output: Format = FP32,
) -> np.ndarray:  # fmt: skip
    """How far ``gemm`` may lie from the exact product, at most: float64 ``[m, n]``.

    With ``u`` the value of a lane's lowest bit at the cycle's largest lane exponent, ``U`` an upper bound of the
    accumulator's, ``L`` lanes, ``s`` the significance and ``S`` the sum of the magnitudes of all terms so far, each
    cycle adds at most

        (L - 1) 2**s u   lanes truncated below the guard bits (the largest is not); L 2**s max(u, U) where lanes are
                         aligned to the accumulator
        max(u, U)        one of sum and accumulator shifted to the other's exponent
        U'               the sum shifted into the mantissa, U' = max(u, U, (S + error) / 2**(accumulator_bits - 2)):
                         after a shift the mantissa is at least that large, and exponents never fall

    Dequantization drops less than ``2**dropped_bits`` of the accumulator's lowest bits; FP32 sums and the outer scale
    add ``2**-24`` of every partial result, FP16 output ``2**-11`` of it or half of ``2**-24``. Holds while nothing
    overflows. Arguments as for ``gemm``.
    """
    significands, exponents = decode_fp16(activations)
    tables = kernel_tables(weight, datapath.pe, significands.shape)
    shape = (significands.shape[0], *weight.selector.shape)
    errors, units, sizes = (np.zeros(shape) for _ in range(3))
    widths = (datapath.pe.lanes, datapath.guard_bits, datapath.accumulator_bits, datapath.shifted_bits)
    kernels.fp16_bounds(
        significands, exponents, weight.codes, weight.selector, *tables, weight.group_size, widths,
        datapath.alignment is Alignment.ACCUMULATOR, errors, units, sizes, 0, weight.shape[0],
    )  # fmt: skip
    lowest = np.ldexp(1.0, weight.scale_exponents + lowest_bit_exponent(weight, datapath))
    scale = np.abs(weight.scale_significands) * lowest
    dropped = 2.0 ** datapath.dropped_bits(weight.scale_bits) if datapath.dropped_bits(weight.scale_bits) else 0.0
    group_errors = errors * scale + units * dropped * lowest
    reach = (sizes * scale + group_errors).sum(axis=2)
    ulp = 2.0**-24  # half a unit in the last place of FP32, relative
    bound = group_errors.sum(axis=2) + reach * (shape[2] * ulp) * (1 + ulp) ** shape[2]
    if weight.outer is not None:
        outer = np.abs(weight.outer.astype(np.float64))[None, :]
        bound = (bound + (reach + bound) * ulp) * outer
        reach = reach * outer
    return bound if output is FP32 else bound + (reach + bound) * 2.0**-11 + 2.0**-25
