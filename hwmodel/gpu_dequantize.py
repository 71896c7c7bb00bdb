"""Time of a weight dequantized to FP16 in memory, and of a library's product with it: prefill's second way.

The dequantizer (``kernels_gpu.dequantize``) is bound by its bytes: codes and scales read, two bytes a weight written.
The product after it is the library's (``gpu_gemm``); its weight comes from L2 where all of it fits there, since the
dequantizer has just written it. Two constants are fitted to four rows of ``kernels_gpu/measurements/gemm_h100.json``:
INT4 and INT8 at 4096 x 4096 and 28672 x 8192 (a test fits them again). The product has none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwmodel.gpu import Gpu
from hwmodel.gpu_gemm import gemm_seconds, wide_work

_WIDE_BYTES = 2  # FP16


@dataclass(frozen=True)
class Dequantizer:
    """Constants of the kernel.

    Args:
        start_s: of a launch that may start before the one before it has ended.
        copy_share: of the copy rate at which it reads and writes.
    """

    start_s: float
    copy_share: float


# Least squares on log errors of the four rows: tests/hwmodel/test_gpu_dequantize.py fits them again
DEQUANTIZER = Dequantizer(start_s=2.42e-6, copy_share=0.922)


def dequantize_s(
    weight_bytes: float, shape: tuple[int, int], copy_bytes_per_s: float, constants: Dequantizer = DEQUANTIZER
) -> float:
    """Seconds to dequantize a weight ``[n, k]`` stored in ``weight_bytes``."""
    n, k = shape
    return constants.start_s + (weight_bytes + _WIDE_BYTES * n * k) / copy_bytes_per_s / constants.copy_share


def library_s(weight_bytes: float, shape: tuple[int, int, int], gpu: Gpu, copy_bytes_per_s: float) -> float:
    """Seconds of ``x[m, k] @ weight[n, k].T`` by the dequantizer and the library, the shape being m, n, k."""
    m, n, k = shape
    work, wide_bytes = wide_work(m, n, k), _WIDE_BYTES * n * k
    if wide_bytes <= gpu.l2_bytes:
        work = replace(work, traffic_bytes=work.traffic_bytes - wide_bytes)
    return dequantize_s(weight_bytes, (n, k), copy_bytes_per_s) + float(gemm_seconds(work, gpu)[0])
