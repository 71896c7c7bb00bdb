"""Price of a matrix product on a GPU, by the way that is chosen for it.

* Few tokens by an encoded weight: kernels of their own (``gpu_narrow``); more: this project's (``gpu_prefill``).
* Else the library's tiles (``gpu_gemm``): weights decoded there by the threads outside the tensor cores, once for
  each row of tiles, or all at once before a 16-bit product.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwmodel.gpu import Gpu
from hwmodel.gpu_energy import timed
from hwmodel.gpu_gemm import GemmWork, gemm_seconds
from hwmodel.gpu_narrow import NARROW_TOKENS, project_seconds, public_seconds
from hwmodel.gpu_operands import Operands
from hwmodel.gpu_prefill import Prefill, project_prefill
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import LayerSpec

_DECODED_ROWS = 128  # tokens of the tile that a product of many tokens takes (``CUBLAS12_TILES``)


def product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """One kernel, or one and the sum over the parts of k."""
    if not operands.decode_per_weight:
        return tiled_product(spec, operands, gpu)
    prefill = project_prefill(spec, operands, gpu)
    if prefill is None:
        if spec.m > NARROW_TOKENS:
            return tiled_product(spec, operands, gpu)
        return timed(spec.macs, operands, public_seconds(spec, operands, gpu), gpu)
    priced = [_prefill_price(spec, operands, gpu, prefill)]
    if spec.m <= NARROW_TOKENS:
        own_s = project_seconds(spec, operands, gpu)
        priced += [] if own_s is None else [timed(spec.macs, operands, own_s, gpu)]
    elif spec.copies > 1:  # experts in one launch of others' kernels
        priced.append(tiled_product(spec, operands, gpu))
    return min(priced, key=lambda price: price.cycles)


def _prefill_price(spec: LayerSpec, operands: Operands, gpu: Gpu, prefill: Prefill) -> Price:
    """A product on the project's kernels; a weight dequantized before moves in 16 bits too."""
    moved = replace(operands, weight_bits=operands.weight_bits + prefill.wide_bits)
    made = timed(spec.macs, moved, prefill.seconds, gpu)
    return replace(made, compulsory_bits=operands.weight_bits + operands.input_bits + operands.output_bits)


def tiled_product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """A product in tiles, weights decoded there or all before."""

    def column(value: float) -> np.ndarray:
        return np.array([[float(value)]])

    if _decodes_first(spec, operands, gpu):
        return decoded_product(spec, operands, gpu)
    moved = operands.weight_bits + operands.input_bits + operands.output_bits
    work = GemmWork(
        m=column(spec.m),
        n=column(spec.n),
        k=column(spec.k),
        copies=column(spec.copies),
        traffic_bytes=column(moved / BYTE_BITS),
        rate=column(gpu.macs_per_cycle(operands.rate_kind) / gpu.macs_per_cycle()),
        weight_bytes=column(min(operands.weight_bits / (spec.n * spec.k * spec.copies), WIDE_BITS) / BYTE_BITS),
        input_bytes=column(min(operands.input_bits / (spec.m * spec.k * spec.copies), WIDE_BITS) / BYTE_BITS),
        decode_operations=column(operands.decode_per_weight * spec.n * spec.k),
        scale_operations=column(operands.scale_per_output * spec.m * spec.n),
    )
    seconds = float(gemm_seconds(work, gpu)[0])
    return timed(spec.macs, operands, seconds, gpu)


def _decodes_first(spec: LayerSpec, operands: Operands, gpu: Gpu) -> bool:
    """Whether decoding again for every row of tiles takes longer than FP16 weights through DRAM and back.

    The stored bits have no say, so that fewer of them never move more. Codes for narrower tensor cores are always
    unpacked in the tile.
    """
    if operands.rate_kind != "fp16":
        return False
    again_s = operands.decode_per_weight * (ceil_div(spec.m, _DECODED_ROWS) - 1) / gpu.lane_operations_per_s
    return again_s > 2 * WIDE_BITS / BYTE_BITS / gpu.streamed_bytes_per_s


def decoded_product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """A kernel that decodes the weights to FP16 in DRAM, and the 16-bit product."""
    wide = spec.n * spec.k * spec.copies * WIDE_BITS
    multiplied = product(spec, replace(operands, weight_bits=wide, decode_per_weight=0.0), gpu)
    moving_s = (operands.weight_bits + wide) / BYTE_BITS / gpu.streamed_bytes_per_s
    decoding_s = operands.decode_per_weight * spec.n * spec.k * spec.copies / gpu.lane_operations_per_s
    decoded = Operands(operands.weight_bits + wide, 0, 0, "fp16", 0.0)
    both = timed(0, decoded, max(moving_s, decoding_s) + gpu.library.launch_s, gpu) + multiplied
    return replace(both, compulsory_bits=operands.weight_bits + operands.input_bits + operands.output_bits)
