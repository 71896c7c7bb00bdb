"""What a launch takes more where it cannot start while the kernel before it ends.

Launches of this project's kernels follow one another in a CUDA graph. From compute capability 9.0 on the next one
starts early, and the fitted launches (``gpu_gemv``, ``gpu_tiles``, ``gpu_dequantize``, ``gpu_branches``) are of such
GPUs; below, each takes ``alone_s`` more.
"""

from __future__ import annotations

from hwmodel.gpu import Gpu

# Without overlap INT4 takes 2.1, 3.0 and 3.0 us longer on an H100: kernels_gpu/NOTES.md, decode GEMV, ``alone``
ALONE_S = 2.7e-6
_OVERLAP_CAPABILITY = (9, 0)  # of programmatic dependent launch: CUDA C++ Programming Guide


def alone_s(gpu: Gpu) -> float:
    """Seconds by which a launch is longer where it cannot start before the one before it has ended."""
    return 0.0 if gpu.compute_capability >= _OVERLAP_CAPABILITY else ALONE_S
