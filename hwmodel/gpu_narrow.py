"""Products of up to 16 tokens by an encoded weight on a GPU: this project's kernels, or those that others wrote.

``Gpu.kernels`` chooses. The project's (``kernels_gpu.gemv``) take encodings that ``gpu_gemv_encoding`` knows, one
weight and 16-bit inputs, and are priced by ``gpu_gemv``, fitted to them; as in a decode step that is one CUDA graph,
a kernel starts while the one before it ends, where the GPU can do so. Several products of the same shape (experts) are
as many launches, or one of others' kernels where that is faster; and many of the 16 tokens take the product in tiles
that more tokens take (``gpu_price``), where that is faster. Everything else, and all of it under
``GpuKernels.PUBLIC``, runs on a kernel like torch's tinygemm or bitsandbytes' at one token: each weight is decoded once
and streamed, DRAM or instructions, whichever is slower.
"""

from __future__ import annotations

from hwmodel.gpu import Gpu, GpuKernels
from hwmodel.gpu_gemv import gemv_time
from hwmodel.gpu_gemv_cut import MOST_TOKENS, cut_on
from hwmodel.gpu_gemv_encoding import GemvEncoding
from hwmodel.gpu_operands import Operands
from hwmodel.units import BYTE_BITS
from hwmodel.workload import LayerSpec

# Kernels that decode and multiply take as long for 16 tokens as for one: a tensor-core instruction has 16 rows
NARROW_TOKENS = MOST_TOKENS
_NARROW_START_S = 2.7e-6  # launch and end: what a line through torch's tinygemm times leaves at no weights
# Copy over the sheet's bandwidth: 2.992 of 3.35 TB/s on the H100, 4.286 of 4.8 on the H200 (kernels_gpu/measurements).
# ASSUMPTION: other GPUs copy at the same share of theirs
COPY_SHARE = 0.893
LEAST_CAPABILITY = (8, 0)  # of cp.async and mma.m16n8k32: PTX ISA 8.1, sections 9.7.8.22 and 9.7.14
_E4M3_CAPABILITY = (8, 9)  # of cvt.rn.f16x2.e4m3x2: PTX ISA 8.1, section 9.7.9.21


def project_seconds(spec: LayerSpec, operands: Operands, gpu: Gpu) -> float | None:
    """Seconds of a product of at most ``NARROW_TOKENS`` tokens on the project's kernels, launches included.

    Args:
        spec: the product; ``copies`` of them.
        operands: of all copies.
        gpu: what it runs on.

    Returns:
        ``None`` where these kernels are not chosen, or do not take the product.
    """
    encoding = project_encoding(spec, operands, gpu)
    if encoding is None:
        return None
    shape = spec.m, spec.n, spec.k
    chosen = cut_on(gpu, encoding, shape)
    if chosen is None:
        return None
    time = gemv_time(
        encoding, shape, chosen[0], weight_bytes=operands.weight_bits / spec.copies / BYTE_BITS, gpu=gpu,
        copy_bytes_per_s=gpu.dram.bytes_per_s * COPY_SHARE,
    )  # fmt: skip
    own_s = spec.copies * time.seconds
    return own_s if spec.copies == 1 else min(own_s, public_seconds(spec, operands, gpu))


def project_encoding(spec: LayerSpec, operands: Operands, gpu: Gpu) -> GemvEncoding | None:
    """The weight's encoding, where the project's kernels are chosen and take the product."""
    encoding = operands.encoding
    if gpu.kernels is not GpuKernels.PROJECT or encoding is None or spec.absorbed or not runs_on(encoding, gpu):
        return None
    return encoding


def runs_on(encoding: GemvEncoding, gpu: Gpu) -> bool:
    """Whether a GPU has the instructions of the project's kernels."""
    least = _E4M3_CAPABILITY if encoding.converted else LEAST_CAPABILITY
    return gpu.compute_capability >= least


def public_seconds(spec: LayerSpec, operands: Operands, gpu: Gpu) -> float:
    """Seconds of the same on a kernel that others wrote, all copies in one launch."""
    moved = operands.weight_bits + operands.input_bits + operands.output_bits
    memory_s = moved / BYTE_BITS / gpu.streamed_bytes_per_s
    operations = operands.decode_per_weight * spec.n * spec.k + operands.scale_per_output * spec.m * spec.n
    decoding_s = operations * spec.copies / gpu.lane_operations_per_s
    tensor_s = spec.copies * NARROW_TOKENS * spec.n * spec.k / gpu.macs_per_cycle(operands.rate_kind) / gpu.frequency_hz
    return max(memory_s, decoding_s, tensor_s) + _NARROW_START_S
