"""Time of a weight dequantized to FP16 in memory, and of a library's product with it: prefill's second way.

The dequantizer (``kernels_gpu.dequantize``) is bound by its bytes, codes and scales read, two bytes a weight written,
or by its instructions, of which codes in several planes with selectors (BitMoD-3) have most. The product after it is
the library's (``gpu_gemm``); its weight comes from L2 where all of it fits there, since the dequantizer has just
written it. Two constants are fitted to four rows of ``kernels_gpu/measurements/gemm_h100.json``: INT4 and INT8 at
4096 x 4096 and 28672 x 8192 (a test fits them again). Instructions and the product have none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from datatypes.planes import plane_widths
from hwmodel.gpu import Gpu
from hwmodel.gpu_gemm import gemm_seconds, wide_work
from hwmodel.gpu_gemv import rounded_maximum
from hwmodel.gpu_gemv_encoding import WARP, GemvEncoding
from hwmodel.gpu_launch import alone_s
from hwmodel.gpu_tiles import CLOCK_OVER_SHEET, MAXIMUM_NORM, SCHEDULERS

_WIDE_BYTES = 2  # FP16
# Instructions of a weight, those of the half-wide pipe twice: with one plane of codes, for each further one, a
# selector, a zero point, scales that are powers of two (disassembly of 22 encodings, sm_90; a test holds them to it)
_ONE_PLANE, _PLANE, _SELECTOR, _ZERO_POINT, _POWER_SCALE = 15.0, 7.0, 8.0, 3.0, 2.5


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
DEQUANTIZER = Dequantizer(start_s=1.516e-6, copy_share=0.9132)


def dequantize_slots(encoding: GemvEncoding) -> float:
    """Issue slots of a lane for a weight.

    >>> from datatypes.catalog import FP16, INTS_SYMMETRIC
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.layer_config import ScaleConfig, TensorConfig
    >>> from hwmodel.gpu_gemv_encoding import encoding_of
    >>> [dequantize_slots(encoding_of(TensorConfig((INTS_SYMMETRIC[bits],), PerGroup(128), ScaleConfig(FP16))))
    ...  for bits in (3, 4, 7, 8)]  # two planes, one, three, one
    [22.0, 15.0, 29.0, 15.0]
    """
    slots = _ONE_PLANE + _PLANE * (len(plane_widths(encoding.bits)) - 1)
    slots += _SELECTOR if encoding.selector_bits else 0.0
    slots += _ZERO_POINT if encoding.zero_bits else 0.0
    return slots + (_POWER_SCALE if encoding.power_scales else 0.0)


def dequantize_s(
    encoding: GemvEncoding,
    weight_bytes: float,
    shape: tuple[int, int],
    gpu: Gpu,
    copy_bytes_per_s: float,
    constants: Dequantizer = DEQUANTIZER,
) -> float:
    """Seconds to dequantize a weight ``[n, k]`` stored in ``weight_bytes``."""
    n, k = shape
    memory_s = (weight_bytes + _WIDE_BYTES * n * k) / copy_bytes_per_s / constants.copy_share
    lanes_per_s = SCHEDULERS * WARP * gpu.multiprocessors * gpu.frequency_hz * CLOCK_OVER_SHEET
    slots_s = n * k * dequantize_slots(encoding) / lanes_per_s
    return constants.start_s + rounded_maximum(memory_s, slots_s, MAXIMUM_NORM) + alone_s(gpu)


def library_s(
    encoding: GemvEncoding, weight_bytes: float, shape: tuple[int, int, int], gpu: Gpu, copy_bytes_per_s: float
) -> float:
    """Seconds of ``x[m, k] @ weight[n, k].T`` by the dequantizer and the library, the shape being m, n, k."""
    m, n, k = shape
    work, wide_bytes = wide_work(m, n, k), _WIDE_BYTES * n * k
    if wide_bytes <= gpu.l2_bytes:
        work = replace(work, traffic_bytes=work.traffic_bytes - wide_bytes)
    dequantized_s = dequantize_s(encoding, weight_bytes, (n, k), gpu, copy_bytes_per_s)
    return dequantized_s + float(gemm_seconds(work, gpu)[0]) + alone_s(gpu)
