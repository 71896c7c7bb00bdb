"""PTX on pairs of half-precision numbers in a word, for the decoding of tiles; and plain twins for the simulator.

Source of the semantics: NVIDIA PTX ISA 8.0, section 9.7.4 (half-precision floating point) and 9.7.7 (lop3).
"""

from __future__ import annotations

import numpy as np
from numba import cuda, uint32

from kernels_gpu import ptx
from kernels_gpu.ptx import SIMULATED

if SIMULATED:

    def _halves(word):
        return np.array([int(word) & 0xFFFF, int(word) >> 16], np.uint16).view(np.float16).astype(np.float64)

    def _word(values):
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = values.astype(np.float16).view(np.uint16)
        return np.uint32(int(low) | int(high) << 16)

    def multiply_halves(a, b):
        """a * b, each half to nearest even."""
        return _word(_halves(a) * _halves(b))

    def fma_halves(a, b, c):
        """a * b + c, each half rounded once; the twin's float64 sum is exact within 2**42 of each other."""
        return _word(_halves(a) * _halves(b) + _halves(c))

    def rounded_pair(value):
        """A float32 rounded to half precision, in both halves of a word."""
        return np.uint32(int(ptx.to_half(value)) * 0x00010001)

    def and_xor(a, b, c):
        """(a & b) ^ c."""
        return np.uint32((np.uint32(a) & np.uint32(b)) ^ np.uint32(c))

else:
    from numba import types

    _u, _f = types.uint32, types.float32
    multiply_halves = ptx._instruction("mul.rn.f16x2 $0, $1, $2;", _u, _u, _u)
    fma_halves = ptx._instruction("fma.rn.f16x2 $0, $1, $2, $3;", _u, _u, _u, _u)
    rounded_pair = ptx._instruction("cvt.rn.f16x2.f32 $0, $1, $1;", _u, _f)
    and_xor = ptx._instruction("lop3.b32 $0, $1, $2, $3, 0x6A;", _u, _u, _u, _u)  # (0xF0 & 0xCC) ^ 0xAA


@cuda.jit(device=True)
def both_halves(value):
    """A float32 rounded to half precision, in both halves of a word."""
    half = ptx.to_half(value)
    return uint32(half | uint32(half << uint32(16)))


def pair_of(value: float) -> int:
    """The same on the host, for constants that are halves exactly.

    Raises:
        ValueError: they are not.
    """
    half = np.float16(value)
    if float(half) != value:
        raise ValueError(f"a constant of half precision must be exact, not {value!r}")
    return int(half.view(np.uint16)) * 0x00010001
