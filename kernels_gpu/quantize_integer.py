"""Kernels that quantize ``[n, k]`` weights to integers of 2 to 8 bits by round-to-nearest, straight into packed words.

Versions
    block_of_a_lane     this file: a lane takes 32 consecutive weights of a row, which is one block of every plane

Symmetric integers and unsigned ones with integer zero points, in groups of 32, 64 or 128 (1, 2 or 4 lanes) with FP16
scales. Symmetric ones of 3 and 4 bits are ``kernels_gpu.quantize_bitmod``'s, which also has their two scale levels.

Outputs are exactly ``datatypes.packing``'s words of ``datatypes.quantize.quantize_tensor``'s codes, its scales and its
zero points, ties between levels included:

* Lanes of a group join the largest magnitude, or the largest of x and of -x with zero among them, by shuffles; each
  then computes scale and zero point for itself with the float32 operations of ``datatypes.scale``, in their order.
* ``x * (1 / scale)`` is refined by its remainder. The product of a threshold (a half-integer below 2**10) and a stored
  scale (11 bits) fits 21 bits: a quotient on a threshold comes out exactly, and any other x is so far from it that no
  quotient rounds onto it. Adding 1.5 * 2**23 rounds halves to even, before the zero point is added as in
  ``datatypes.quantize``, and leaves the integer in the low bits, where it is cut to the format's range.
* A code enters a word of a plane by a shift and an and-or. Words need no other lane's codes: no staging.
* Zero points are packed flat, over the ends of rows. Groups are dealt to warps in that order, and the 8 to 32 of a warp
  fill whole bytes of each plane (the 32 to 128 of a block whole words), so lanes put bytes together and nothing is
  written twice. Groups beyond the last have zero point 0, as the padding of the planes.

Floor: bytes. A weight takes 15 to 29 instructions, all of a lane's counted. 79 to 94 % of the bytes' time on an H100
from half precision; 68 to 75 % from float32, whose loads touch a line for each lane (``kernels_gpu/NOTES.md``).
Left out: two scale levels (but INT3 and INT4 above), real zero points; rows that are not whole groups load one weight
at a time.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint8, uint32, uint64

from datatypes.planes import BLOCK_CODES, plane_widths
from kernels_gpu import ptx
from kernels_gpu.quantize_bitmod import WARP, element_of, stored_half
from kernels_gpu.quantize_reference import Element, KernelSpec

THREADS = 128  # of a block: its groups, 32 or more, have whole words of zero points
TO_INTEGER = 1.5 * 2**23  # added, it leaves the nearest integer in the low bits of a float32

# --- kernels ------------------------------------------------------------------------------------------------------


def lanes_of(spec: KernelSpec) -> int:
    """Lanes that share a group."""
    return spec.group // BLOCK_CODES


def _plane_word(width: int, below: int) -> Any:
    """Device function: a word of the plane of ``width`` bits above ``below`` bits, from the codes at ``first`` on."""
    mask = (1 << width) - 1

    @cuda.jit(device=True)
    def plane_word(codes, first):
        word = uint32(0)
        for j in range(32 // width):
            code, place = codes[first + j], j * width
            code = uint32(code << uint32(place - below)) if place >= below else uint32(code >> uint32(below - place))
            word = ptx.and_or(code, uint32(uint32(mask) << uint32(place)), word)
        return word

    return plane_word


@cuda.jit(device=True)
def _plane_byte(fields, first, width, below):
    """A byte of a plane of zero points, those of the groups at ``first`` on."""
    byte = uint32(0)
    for j in range(8 // width):
        field = uint32(fields[first + j] >> uint32(below)) & uint32((1 << width) - 1)
        byte = uint32(byte | uint32(field << uint32(j * width)))
    return byte


@cuda.jit(device=True)
def _largest_of_lanes(value, lanes):
    if lanes > 1:
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 1))
    if lanes > 2:
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 2))
    return value


def make_kernel(spec: KernelSpec) -> Any:
    """The CUDA kernel of one spec (arguments as ``kernels_gpu.quantize`` passes them); ``vector``: whole groups."""
    return cuda.jit(make_body(spec))


def make_body(spec: KernelSpec) -> Any:
    """The kernel as a plain function."""
    fmt = spec.config.formats[0]
    bits, whole, asymmetric = fmt.bits, spec.vector, spec.config.zero_point is not None
    lanes = lanes_of(spec)
    shift = lanes.bit_length() - 1
    warp_groups, block_groups = WARP // lanes, THREADS // lanes
    float_input, bfloat_input = spec.element is Element.FLOAT32, spec.element is Element.BFLOAT16
    pair_shift = 0 if float_input else 1  # two half-precision weights in a word
    stored_words = BLOCK_CODES >> pair_shift
    largest_input, steps = float32(spec.largest_input), float32(fmt.absmax)
    to_integer = float32(TO_INTEGER)
    lowest, highest = float32(TO_INTEGER + fmt.minimum), float32(TO_INTEGER + fmt.maximum)
    widths = plane_widths(bits)
    planes = len(widths)
    width_0, width_1, width_2 = (*widths, 1, 1)[:3]
    below_0, below_1 = bits - widths[0], sum(widths[2:])
    codes_0, codes_1, codes_2 = BLOCK_CODES // width_0, BLOCK_CODES // width_1, BLOCK_CODES // width_2
    bytes_0, bytes_1, bytes_2 = (warp_groups * width // 8 for width in (width_0, width_1, width_2))
    word_0, word_1, word_2 = _plane_word(width_0, below_0), _plane_word(width_1, below_1), _plane_word(width_2, 0)

    def kernel(weights, words, scales, zero_points, status, k, row_groups, group_count, second_plane, third_plane, end):
        fields = cuda.shared.array(block_groups, uint32)
        x = cuda.local.array(stored_words, uint32)
        codes = cuda.local.array(BLOCK_CODES, uint32)
        thread = cuda.threadIdx.x
        sub = thread & (lanes - 1)
        index = cuda.blockIdx.x * block_groups + (thread >> shift)
        active = index < group_count
        held = index if active else group_count - 1
        if whole:
            block = held * lanes + sub
            valid = BLOCK_CODES
            for i in range(stored_words // 4):
                at = 4 * i
                x[at], x[at + 1], x[at + 2], x[at + 3] = ptx.load4(weights, block * stored_words + at)
        else:
            row = held // row_groups
            column = ((held - row * row_groups) * lanes + sub) * BLOCK_CODES
            valid = k - column  # of this lane's weights; zero or less beyond the row
            block = row * ((k + BLOCK_CODES - 1) >> 5) + (column >> 5)
            for i in range(stored_words):
                x[i] = uint32(0)
            for e in range(BLOCK_CODES):
                if e < valid:
                    stored = uint32(weights[uint64(row * k + column + e)])
                    x[e >> pair_shift] |= uint32(stored << uint32(16 * (e & pair_shift)))

        above, under = float32(0), float32(0)  # zero belongs to every range
        for e in range(BLOCK_CODES):
            value = element_of(x[e >> pair_shift], e & pair_shift, float_input, bfloat_input)
            if asymmetric:
                above, under = ptx.maximum_or_nan(above, value), ptx.maximum_or_nan(under, -value)
            else:
                above = ptx.maximum_or_nan(above, ptx.absolute(value))
        above = _largest_of_lanes(above, lanes)
        if asymmetric:
            under = _largest_of_lanes(under, lanes)
        span = ptx.add(above, under)
        if active and not span <= largest_input:
            status[0] = 1
        half = stored_half(ptx.div(span, steps))
        scale = ptx.from_half(half)
        reciprocal = ptx.div(float32(1), scale)
        zero = float32(0)
        if asymmetric:
            zero = ptx.minimum(ptx.round_even(ptx.div(under, scale)), steps)
        if active and sub == 0:
            scales[uint64(index)] = half

        if active and valid > 0:
            for e in range(BLOCK_CODES):
                value = element_of(x[e >> pair_shift], e & pair_shift, float_input, bfloat_input)
                quotient = ptx.mul(value, reciprocal)
                quotient = ptx.fma(ptx.fma(-quotient, scale, value), reciprocal, quotient)
                place = ptx.add(quotient, to_integer)
                if asymmetric:
                    place = ptx.add(place, zero)
                code = ptx.float_bits(ptx.minimum(ptx.maximum(place, lowest), highest))
                if not whole and e >= valid:
                    code = uint32(0)
                codes[e] = code
            at = block * bits
            if bits == 4 or bits == 8:
                for i in range(0, bits, 4):
                    first = i * codes_0
                    c0, c1 = word_0(codes, first), word_0(codes, first + codes_0)
                    c2, c3 = word_0(codes, first + 2 * codes_0), word_0(codes, first + 3 * codes_0)
                    ptx.store4(words, at + i, c0, c1, c2, c3)
            else:
                for i in range(width_0):
                    words[uint64(at + i)] = word_0(codes, i * codes_0)
                if planes > 1:
                    for i in range(width_1):
                        words[uint64(at + width_0 + i)] = word_1(codes, i * codes_1)
                if planes > 2:
                    for i in range(width_2):
                        words[uint64(at + width_0 + width_1 + i)] = word_2(codes, i * codes_2)

        if asymmetric:
            if sub == 0:
                fields[thread >> shift] = ptx.float_bits(ptx.add(zero, to_integer)) if active else uint32(0)
            ptx.sync_warp()
            lane, warp = thread & 31, thread >> 5
            first = warp * warp_groups
            warp += cuda.blockIdx.x * (THREADS // WARP)
            at = warp * bytes_0 + lane
            if lane < bytes_0 and at < second_plane:
                zero_points[uint64(at)] = uint8(_plane_byte(fields, first + lane * (8 // width_0), width_0, below_0))
            if planes > 1:
                at = second_plane + warp * bytes_1 + lane
                if lane < bytes_1 and at < third_plane:
                    byte = _plane_byte(fields, first + lane * (8 // width_1), width_1, below_1)
                    zero_points[uint64(at)] = uint8(byte)
            if planes > 2:
                at = third_plane + warp * bytes_2 + lane
                if lane < bytes_2 and at < end:
                    zero_points[uint64(at)] = uint8(_plane_byte(fields, first + lane * (8 // width_2), width_2, 0))

    return kernel
