"""Products of an encoded weight by more than a few tokens on this project's kernels: tiles, or dequantized before.

``Gpu.kernels`` chooses, as for few tokens (``gpu_narrow``). The lesser of two measured ways is charged: the tile kernel
(``gpu_tiles``), cut as its launcher cuts it, and the dequantizer with the library's product (``gpu_dequantize``). Both
are fitted to an H100; other GPUs are priced with its constants.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwmodel.gpu import Gpu
from hwmodel.gpu_dequantize import library_s
from hwmodel.gpu_gemv_cut import RESERVED_BYTES
from hwmodel.gpu_narrow import COPY_SHARE, project_encoding
from hwmodel.gpu_operands import Operands
from hwmodel.gpu_tiles_cut import choose_tile_cut
from hwmodel.pe import WIDE_BITS
from hwmodel.units import BYTE_BITS
from hwmodel.workload import LayerSpec


@dataclass(frozen=True)
class Prefill:
    """The faster way: seconds of all copies, and bits of a 16-bit weight written to memory and read from there."""

    seconds: float
    wide_bits: int = 0


def project_prefill(spec: LayerSpec, operands: Operands, gpu: Gpu) -> Prefill | None:
    """A product on the project's kernels for any number of tokens, launches included.

    Args:
        spec: the product; ``copies`` of them, one after another.
        operands: of all copies.
        gpu: what it runs on.

    Returns:
        ``None`` where these kernels are not chosen, or do not take the product.
    """
    encoding = project_encoding(spec, operands, gpu)
    if encoding is None:
        return None
    shape, weight_bytes = (spec.m, spec.n, spec.k), operands.weight_bits / spec.copies / BYTE_BITS
    copy_bytes_per_s = gpu.dram.bytes_per_s * COPY_SHARE
    by_library_s = library_s(encoding, weight_bytes, shape, gpu, copy_bytes_per_s)
    chosen = None
    if encoding.tiled:
        chosen = choose_tile_cut(
            encoding, shape, weight_bytes=weight_bytes, shared_limit=gpu.shared_bytes - RESERVED_BYTES, gpu=gpu,
            copy_bytes_per_s=copy_bytes_per_s,
        )  # fmt: skip
    if chosen is None or by_library_s < chosen[1]:
        wide_bits = spec.n * spec.k * WIDE_BITS
        passes = 1 if wide_bits <= gpu.l2_bytes * BYTE_BITS else 2  # the library reads it from L2, or from memory
        return Prefill(spec.copies * by_library_s, spec.copies * passes * wide_bits)
    # the tile kernel's model knows of the weight's bytes alone
    moved_s = (operands.weight_bits + operands.input_bits + operands.output_bits) / BYTE_BITS / copy_bytes_per_s
    return Prefill(max(spec.copies * chosen[1], moved_s))
