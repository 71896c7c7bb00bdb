"""Device functions that read stored scales and zero points from global memory, as float32 and integers.

The kinds are those of ``gemv_plan.ScaleKind``; ``gemv_decode.make_scale`` loads the same from shared memory. Layout of
flat fields: ``datatypes.packing``.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint32

from datatypes.planes import plane_widths
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import ScaleKind

HALF_SCALES = frozenset({ScaleKind.FP16, ScaleKind.BF16})
BYTE_SCALES = frozenset({ScaleKind.UINT8, ScaleKind.E8M0, ScaleKind.UE4M3})


@cuda.jit(device=True)
def load_byte(address, index):
    """A byte of global memory."""
    word = ptx_tile.load_word(address, uint32(index >> uint32(2)))
    return uint32((word >> uint32((index & uint32(3)) << uint32(3))) & uint32(0xFF))


def make_scale_of_bits(kind: ScaleKind) -> Any:
    """Device function ``bits -> float32`` for a stored scale; bits above those of its kind are zero."""
    if kind is ScaleKind.FP16:
        return ptx.from_half
    if kind is ScaleKind.FP32:
        return ptx.bits_float
    if kind is ScaleKind.BF16:

        @cuda.jit(device=True)
        def scale_of_bits(bits):
            return ptx.bits_float(uint32(bits << uint32(16)))
    elif kind is ScaleKind.UINT8:

        @cuda.jit(device=True)
        def scale_of_bits(bits):
            # 2**23 plus an integer below 2**23 has it in the low bits
            return ptx.sub(ptx.bits_float(uint32(bits | uint32(0x4B000000))), float32(8388608))
    elif kind is ScaleKind.E8M0:

        @cuda.jit(device=True)
        def scale_of_bits(bits):
            stored = uint32(bits << uint32(23))
            if bits == uint32(0):
                stored = uint32(0x00400000)  # 2**-127 is subnormal in float32
            if bits == uint32(255):
                stored = uint32(0x7FC00000)  # NaN
            return ptx.bits_float(stored)
    else:

        @cuda.jit(device=True)
        def scale_of_bits(bits):
            code = uint32(bits & uint32(0x7F))
            # the bias of float32 is 120 larger, and subnormals come out right by the product
            value = ptx.mul(ptx.bits_float(uint32(code << uint32(20))), float32(2.0**120))
            return ptx.bits_float(uint32(0x7FC00000)) if code == uint32(0x7F) else value

    return scale_of_bits


def make_stored_scale(kind: ScaleKind | None) -> Any:
    """Device function ``(address, index) -> float32``; 1 where there is no scale."""
    if kind is None:

        @cuda.jit(device=True)
        def one(address, index):
            return float32(1)

        return one
    load, scale_of_bits = load_of_scale(kind), make_scale_of_bits(kind)

    @cuda.jit(device=True)
    def stored_scale(address, index):
        return scale_of_bits(load(address, index))

    return stored_scale


def load_of_scale(kind: ScaleKind) -> Any:
    """Device function ``(address, index) -> bits`` of a stored scale, uint32."""
    if kind in HALF_SCALES:
        return ptx_tile.load_half
    return load_byte if kind in BYTE_SCALES else ptx_tile.load_word


def make_flat_field(bits: int) -> Any:
    """Device function ``(address, index, low_plane, lowest_plane) -> uint32`` for a field of ``bits`` bits.

    The planes after the first begin at words ``low_plane`` and ``lowest_plane``.
    """
    widths = (*plane_widths(bits), 0, 0)[:3] if bits else (0, 0, 0)
    first, second, third = widths

    @cuda.jit(device=True)
    def plane(address, base, index, width):
        bit = uint32(index * uint32(width))
        word = ptx_tile.load_word(address, uint32(base + (bit >> uint32(5))))
        return uint32((word >> uint32(bit & uint32(31))) & uint32((1 << width) - 1))

    @cuda.jit(device=True)
    def flat_field(address, index, low_plane, lowest_plane):
        made = uint32(0)
        if first > 0:
            made = plane(address, uint32(0), index, first)
        if second > 0:
            made = uint32((made << uint32(second)) | plane(address, low_plane, index, second))
        if third > 0:
            made = uint32((made << uint32(third)) | plane(address, lowest_plane, index, third))
        return made

    return flat_field
