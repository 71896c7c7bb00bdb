"""Prices of layers on a GPU, in the same ``Price`` as every accelerator's.

    * Products with a weight: ``gpu_gemm``, with the stored bits of weight, input and output. A weight and an input both
      encoded in a kind that the tensor cores take run at that rate, narrower codes unpacked to it and sums of groups
      scaled by the threads outside the tensor cores; otherwise few tokens run on kernels of their own (``gpu_narrow``),
      and more on this project's (``gpu_prefill``). On others' those threads decode weights to FP16, once for each row
      of tiles, or all at once before a 16-bit product.
    * Attention, fused: ``gpu_attention``. Unfused: products of ``gpu_gemm`` and a softmax kernel of its own.
    * Norms, activations and softmax move their operands through DRAM at a share of its bandwidth; embeddings likewise.
    * Each kernel pays its launch on the GPU; what the host takes to launch it is left out (CUDA graphs).
    * Energy: DRAM by its bits; the rest of the board by the data sheet's power limit, see ``gpu_energy``.

Outliers are one gather and one more launch; low-rank branches are two more products. Cycles are of the boost clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from datatypes.layer_config import LayerConfig
from hwmodel.gpu import Gpu
from hwmodel.gpu_attention import fused_attention
from hwmodel.gpu_energy import timed
from hwmodel.gpu_gemm import GemmWork, gemm_seconds
from hwmodel.gpu_narrow import NARROW_TOKENS, project_seconds, public_seconds
from hwmodel.gpu_operands import Operands, operands_of
from hwmodel.gpu_prefill import Prefill, project_prefill
from hwmodel.operands import Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price
from hwmodel.traffic import vector_elements
from hwmodel.units import BYTE_BITS, ceil_div
from hwmodel.workload import ATTENTION_KINDS, GEMM_KINDS, LayerKind, LayerSpec

_DECODED_ROWS = 128  # tokens of the tile that a product of many tokens takes (``CUBLAS12_TILES``)


@dataclass(frozen=True)
class VectorKernel:
    """A kernel that moves its operands once.

    Args:
        operands: tensors of 16 bits read and written.
        dram_share: bandwidth over peak, for large ones.
        fixed_s, column_s: from launch to end of a few rows, and for each of their columns; overlaps with the DRAM like
            the cube root of cubes.
    """

    operands: int
    dram_share: float
    fixed_s: float
    column_s: float


# Least mean absolute log error over Vidur's A100 and H100 rows (layer norm, SiLU with gate) and over our H100 rows
# (softmax); ``python -m hwmodel.gpu_validate`` prints the errors.
VECTOR_KERNELS: Mapping[LayerKind, VectorKernel] = {
    LayerKind.NORM: VectorKernel(2, 0.368, 2.0e-6, 0.488e-9),
    LayerKind.ACTIVATION: VectorKernel(3, 0.486, 1.7e-6, 0.470e-9),
    LayerKind.SOFTMAX: VectorKernel(2, 0.357, 4.41e-6, 0.0),
}


def gpu_price(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Price:
    """The price of one layer.

    Args:
        spec: the layer (``head`` already cut to the tokens wanted).
        config: its encoding; activations, KV cache and weights alike.
        gpu: what it runs on.
        options: ``fused_attention``, ``causal_mask``, ``vector_unit`` and ``embedding`` count here; the others belong
            to accelerators.
    """
    if spec.kind in ATTENTION_KINDS and options.fused_attention:
        return fused_attention(spec, config, gpu, options)
    if spec.kind in GEMM_KINDS:
        return _products(spec, config, gpu, options)
    if spec.kind is LayerKind.EMBEDDING:
        return _embedding(spec, config, gpu) if options.embedding else Price()
    if not options.vector_unit or (spec.kind is LayerKind.SOFTMAX and options.fused_attention):
        return Price()
    return _vector(spec, gpu, options)


def _products(spec: LayerSpec, config: Config, gpu: Gpu, options: ModelOptions) -> Price:
    if spec.shared_weight:
        spec = replace(spec, m=spec.m * spec.copies, copies=1, shared_weight=False)
    parts = [_product(spec, operands_of(spec, config, gpu, options), gpu)]
    if isinstance(config, LayerConfig) and spec.kind not in ATTENTION_KINDS:
        if config.low_rank is not None:
            rank = min(config.low_rank.rank, spec.n, spec.k)
            down, up = replace(spec, n=rank, absorbed=0), replace(spec, k=rank, absorbed=0)
            first = operands_of(down, LayerConfig(weight=config.low_rank.a), gpu, options)
            second = operands_of(up, LayerConfig(weight=config.low_rank.b), gpu, options)
            if config.low_rank.fused:
                first, second = replace(first, input_bits=0), replace(second, output_bits=0)
            else:  # the sum so far is read and written again
                second = replace(second, output_bits=2 * second.output_bits)
            parts += [_product(down, first, gpu), _product(up, second, gpu)]
        if config.outliers is not None:
            parts.append(_outliers(spec, config, gpu))
    return _sequence(parts)


def _sequence(parts: list[Price]) -> Price:
    """Kernels one after another, as one layer."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """One kernel, or one and the sum over the parts of k."""
    if not operands.decode_per_weight:
        return _tiled_product(spec, operands, gpu)
    prefill = project_prefill(spec, operands, gpu)
    if prefill is None:
        if spec.m > NARROW_TOKENS:
            return _tiled_product(spec, operands, gpu)
        return timed(spec.macs, operands, public_seconds(spec, operands, gpu), gpu)
    priced = [_prefill_price(spec, operands, gpu, prefill)]
    if spec.m <= NARROW_TOKENS:
        own_s = project_seconds(spec, operands, gpu)
        priced += [] if own_s is None else [timed(spec.macs, operands, own_s, gpu)]
    elif spec.copies > 1:  # experts in one launch of others' kernels
        priced.append(_tiled_product(spec, operands, gpu))
    return min(priced, key=lambda price: price.cycles)


def _prefill_price(spec: LayerSpec, operands: Operands, gpu: Gpu, prefill: Prefill) -> Price:
    """A product on the project's kernels; a weight dequantized before moves in 16 bits too."""
    moved = replace(operands, weight_bits=operands.weight_bits + prefill.wide_bits)
    made = timed(spec.macs, moved, prefill.seconds, gpu)
    return replace(made, compulsory_bits=operands.weight_bits + operands.input_bits + operands.output_bits)


def _tiled_product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """A product in tiles, weights decoded there or all before."""

    def column(value: float) -> np.ndarray:
        return np.array([[float(value)]])

    if _decodes_first(spec, operands, gpu):
        return _decoded_product(spec, operands, gpu)
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


def _decoded_product(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Price:
    """A kernel that decodes the weights to FP16 in DRAM, and the 16-bit product."""
    wide = spec.n * spec.k * spec.copies * WIDE_BITS
    product = _product(spec, replace(operands, weight_bits=wide, decode_per_weight=0.0), gpu)
    moving_s = (operands.weight_bits + wide) / BYTE_BITS / gpu.streamed_bytes_per_s
    decoding_s = operands.decode_per_weight * spec.n * spec.k * spec.copies / gpu.lane_operations_per_s
    decoded = Operands(operands.weight_bits + wide, 0, 0, "fp16", 0.0)
    both = timed(0, decoded, max(moving_s, decoding_s) + gpu.library.launch_s, gpu) + product
    return replace(both, compulsory_bits=operands.weight_bits + operands.input_bits + operands.output_bits)


def _outliers(spec: LayerSpec, config: LayerConfig, gpu: Gpu) -> Price:
    """Outliers as a kernel of their own: values, indices and all inputs once; the sum so far is read and written."""
    outliers = config.outliers
    assert outliers is not None
    stored = outliers.storage_bits((spec.n, spec.k)).total * spec.copies
    gathered = spec.m * spec.k * WIDE_BITS * spec.copies
    summed = 2 * spec.m * spec.n * WIDE_BITS * spec.copies
    moved = Operands(stored, gathered, summed, "fp16", 0.0)
    seconds = (stored + gathered + summed) / BYTE_BITS / gpu.streamed_bytes_per_s
    return timed(0, moved, seconds + gpu.library.launch_s, gpu)


def _vector(spec: LayerSpec, gpu: Gpu, options: ModelOptions) -> Price:
    kernel = VECTOR_KERNELS[spec.kind]
    elements = vector_elements(spec, options)
    read, written = elements * WIDE_BITS * (kernel.operands - 1), elements * WIDE_BITS
    streaming_s = (read + written) / BYTE_BITS / (gpu.dram.bytes_per_s * kernel.dram_share)
    seconds = math.cbrt(streaming_s**3 + (kernel.fixed_s + kernel.column_s * spec.n) ** 3)
    return timed(0, Operands(0, read, written, "fp16", 0.0), seconds, gpu)


def _embedding(spec: LayerSpec, config: Config, gpu: Gpu) -> Price:
    """Rows of a table ``[k, n]`` read, and written as activations."""
    if isinstance(config, OperandBits):
        table = spec.k * spec.n * config.weight
    else:
        table = config.storage_bits((spec.k, spec.n)).total
    read = math.ceil(table / spec.k) * spec.m * spec.copies
    written = spec.m * spec.copies * spec.n * WIDE_BITS
    seconds = (read + written) / BYTE_BITS / gpu.streamed_bytes_per_s
    return timed(0, Operands(read, 0, written, "fp16", 0.0), seconds + gpu.library.launch_s, gpu)


def lower_bound_cycles(price: Price, gpu: Gpu) -> float:
    """Cycles that no schedule can undercut: all tensor cores at their fastest, operands once at peak bandwidth."""
    bits_per_cycle = gpu.dram.bits_per_cycle(gpu.frequency_hz, sustained=False)
    return max(price.macs / gpu.most_macs_per_cycle, price.compulsory_bits / bits_per_cycle)
