"""Prices of layers on a GPU, in the same ``Price`` as every accelerator's.

    * Products with a weight: ``gpu_product``, with the stored bits of weight, input and output. A weight and input both
      encoded in a kind that the tensor cores take run at that rate, narrower codes unpacked to it and sums of groups
      scaled by the threads outside the tensor cores; otherwise few tokens run on kernels of their own (``gpu_narrow``),
      and more on this project's (``gpu_prefill``). On others' those threads decode weights to FP16, once for each row
      of tiles, or all at once before a 16-bit product.
    * Attention, fused: ``gpu_attention``. Unfused: products of ``gpu_gemm`` and a softmax kernel of its own.
    * Norms, activations and softmax move their operands through DRAM at a share of its bandwidth; embeddings likewise.
    * Each kernel pays its launch on the GPU; what the host takes to launch it is left out (CUDA graphs).
    * Energy: DRAM by its bits; the rest of the board by the data sheet's power limit, see ``gpu_energy``.

What stands beside a weight (low-rank branches, outliers) is ``gpu_beside``. Cycles are of the boost clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwmodel.gpu import Gpu
from hwmodel.gpu_attention import fused_attention
from hwmodel.gpu_beside import products_price
from hwmodel.gpu_energy import timed
from hwmodel.gpu_operands import Operands
from hwmodel.operands import Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.pe import WIDE_BITS
from hwmodel.price import Price
from hwmodel.traffic import vector_elements
from hwmodel.units import BYTE_BITS
from hwmodel.workload import ATTENTION_KINDS, GEMM_KINDS, LayerKind, LayerSpec


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
        return products_price(spec, config, gpu, options)
    if spec.kind is LayerKind.EMBEDDING:
        return _embedding(spec, config, gpu) if options.embedding else Price()
    if not options.vector_unit or (spec.kind is LayerKind.SOFTMAX and options.fused_attention):
        return Price()
    return _vector(spec, gpu, options)


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
