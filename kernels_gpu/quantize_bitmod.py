"""Kernels that quantize ``[n, k]`` weights, BitMoD-3 and -4 and symmetric integers, straight into packed words.

Versions
    select_by_table     four candidates, every level compared: never written, 4 x 15 comparisons a weight lose on paper
    lanes_of_a_group    this file: two or four lanes share a group, its weights stay in registers: one read, one write

Outputs are exactly ``datatypes.packing``'s words of ``datatypes.quantize.quantize_tensor``'s codes, its FP16 scales
(or 8-bit scales and an FP16 scale for each row) and one selector byte a group. What the kernel does differently, and
why the codes are still the same (u = |x| / scale, all in float32):

* Nearest level by exponent arithmetic: ``m * 2**22 - (m * 2**22 - u)`` with ``m = max(u, 1 + 2**-21)`` rounds u to the
  E2M1 grid (2**23 for E2M0), since one ulp of the difference is the step of the grid at u. Where the difference falls
  into the binade below, u is within 2**-22 of a power of two, which is a level and found in the finer grid too.
  (``(u + m * 2**22) - m * 2**22`` was tried: wrong just below a power of two, where the sum has the coarser ulp.)
* A special value changes the squared error of few weights, by a formula: c between two levels 2 apart lowers it by
  ``max(0, 1 - 2|u - c|)`` (ER), a level 2 beyond the largest by ``max(0, 4 (u - largest) - 4)`` (EA). So two
  roundings serve four candidates: S -+ B with S the sign-free and B the signed part of the sum.
* Errors are sums in another order than ``datatypes.scale.sum_tiles``: two candidates whose errors agree to about 1e-6
  may be chosen otherwise. Exactly equal ones (no weight near a special value) stay exactly equal: B is zero.
* All thresholds are multiples of ``step`` (1/4 or 1/2) and ties go to the lower value, so ``ceil(x / scale / step)``
  decides the code: a table in shared memory, made from the formats' own ``encode``. The division is refined by its
  remainder: a quotient on a threshold is exact, any other is not on it (products of a threshold and a stored scale fit
  23 bits, so a float32 x differs from it by more than half an ulp). For half-precision input and one-level scales one
  ``fma`` does it: no quotient but the threshold itself lies within 2**-15 steps of one.

Left out: other group sizes than 32, 64 and 128; magnitudes whose scale would overflow FP16 (refused, like NaN).
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, uint8, uint32, uint64

from datatypes.format import CodebookFormat
from datatypes.planes import BLOCK_CODES
from kernels_gpu import ptx
from kernels_gpu.quantize_reference import (
    GRIDS,
    HALF_MAX,
    HALF_MIN,
    TABLE_ROW,
    TABLE_ZERO,
    Element,
    KernelSpec,
)

FLOAT_LANES, HALF_LANES = 4, 2  # that share a group, by the size of a weight
CHUNK = 8  # consecutive weights of one lane: one word of 4-bit codes
BLOCK_CHUNKS = BLOCK_CODES // CHUNK
WARP = 32
FLAT_THREADS = 64 if ptx.SIMULATED else 128  # the simulator starts a Python thread for each
MAX_THREADS = 1024  # of one block: CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
REGISTERS = 65536  # of one block: CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
SMALLEST_NORMAL = 2.0**-126  # IEEE 754 binary32

# --- kernels ------------------------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _low_half(pair, bfloat):
    """The first of two half-precision numbers in a word, as float32."""
    if bfloat:
        return ptx.bits_float(uint32(pair << uint32(16)))
    return ptx.from_half(pair)


@cuda.jit(device=True)
def _high_half(pair, bfloat):
    """The second of two half-precision numbers in a word, as float32."""
    if bfloat:
        return ptx.bits_float(uint32(pair & uint32(0xFFFF0000)))
    return ptx.from_half(uint32(pair >> uint32(16)))


@cuda.jit(device=True)
def element_of(word, odd, float_input, bfloat):
    """A weight of a stored word as float32."""
    if float_input:
        return ptx.bits_float(word)
    if odd == 0:
        return _low_half(word, bfloat)
    return _high_half(word, bfloat)


@cuda.jit(device=True)
def stored_half(scale):
    """FP16 bits of a one-level scale: 1 for a group of zeros, cut to the positive range of FP16."""
    if scale == float32(0):
        scale = float32(1)
    return ptx.to_half(ptx.minimum(ptx.maximum(scale, float32(HALF_MIN)), float32(HALF_MAX)))


@cuda.jit(device=True)
def _reciprocal(scale):
    """1 / scale; 0 for a scale so small that this would overflow."""
    if scale < float32(SMALLEST_NORMAL):
        return float32(0)
    return ptx.div(float32(1), scale)


@cuda.jit(device=True)
def _sum_of_lanes(value, lanes):
    value = ptx.add(value, ptx.shuffle_xor(value, 1))
    if lanes == 4:
        value = ptx.add(value, ptx.shuffle_xor(value, 2))
    return value


@cuda.jit(device=True)
def _three_bit_plane_high(word):
    """Bits 2 and 1 of eight nibbles as 16 bits."""
    word = (word >> uint32(1)) & uint32(0x33333333)
    word = (word | (word >> uint32(2))) & uint32(0x0F0F0F0F)
    word = (word | (word >> uint32(4))) & uint32(0x00FF00FF)
    return uint32((word | (word >> uint32(8))) & uint32(0xFFFF))


@cuda.jit(device=True)
def _three_bit_plane_low(word):
    """Bit 0 of eight nibbles as 8 bits."""
    word = word & uint32(0x11111111)
    word = (word | (word >> uint32(3))) & uint32(0x03030303)
    word = (word | (word >> uint32(6))) & uint32(0x000F000F)
    return uint32((word | (word >> uint32(12))) & uint32(0xFF))


@cuda.jit(device=True)
def _scale_code(scale, outer):
    """8-bit code of a scale in units of the row's, as float32: 1 to 255."""
    return ptx.minimum(ptx.maximum(ptx.round_even(ptx.div(scale, outer)), float32(1)), float32(255))


@cuda.jit(device=True)
def _maximum_of_block(value):
    """Largest value of the block's threads."""
    largest_of_warps = cuda.shared.array(WARP, float32)
    thread = cuda.threadIdx.x
    value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 2))
    value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 4))
    value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 8))
    value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 16))
    if thread & 31 == 0:
        largest_of_warps[thread >> 5] = value
    cuda.syncthreads()
    value = largest_of_warps[0]
    for warp in range(1, cuda.blockDim.x >> 5):
        value = ptx.maximum_or_nan(value, largest_of_warps[warp])
    return value


def lanes_of(spec: KernelSpec) -> int:
    """Lanes that share a group: fewer spend less on what is done once a group, more need fewer registers."""
    return FLOAT_LANES if spec.element is Element.FLOAT32 else HALF_LANES


def make_kernel(spec: KernelSpec) -> Any:
    """The CUDA kernel of one spec (see the module docstring; arguments as ``quantize_packed`` passes them)."""
    fmt = spec.config.formats[0]
    bits, candidates = fmt.bits, len(spec.config.formats)
    group, by_row, vector, two_levels = spec.group, spec.by_row, spec.vector, spec.two_levels
    lanes = lanes_of(spec)
    threads, shift, per_lane = spec.threads, lanes.bit_length() - 1, group // lanes
    block_groups = threads // lanes
    pair_shift = 0 if spec.element is Element.FLOAT32 else 1  # two half-precision weights in a word
    loads, stored_words = 2 >> pair_shift, per_lane >> pair_shift
    half_words = stored_words // 2
    chunks, group_blocks = per_lane // CHUNK, group // BLOCK_CODES
    warp_blocks = WARP // lanes * group_blocks  # blocks of 32 codes that a warp makes
    store_rounds = -(-warp_blocks // WARP)
    table_entries = candidates * TABLE_ROW
    table_rounds = -(-table_entries // threads)
    staged_words = threads * chunks
    float_input, bfloat_input = spec.element is Element.FLOAT32, spec.element is Element.BFLOAT16
    mixture = isinstance(fmt, CodebookFormat)
    grid = GRIDS[bits]
    significand, largest, penalty = float32(grid.significand), float32(grid.largest), grid.penalty
    centre, edge = float32(grid.centre), float32(-grid.edge / 2)
    edge_weight = float32(4.0 if penalty else -4.0)
    absmax_first = float32(fmt.absmax)
    absmax_last = float32(spec.config.formats[-1].absmax)
    step = grid.step if mixture else 1.0
    to_grid = float32((1.5 * 2**23 + TABLE_ZERO) * step)  # adding it leaves multiples of the step, counted in byte 0
    short_encode = mixture and not float_input and not two_levels
    # between 128 and 256 an ulp is 2**-16: adding 1 less an ulp makes the integer part, which is byte 2, the ceiling
    short_offset, per_step = float32(128 + TABLE_ZERO + 1 - 2.0**-16), float32(1.0 / step)
    # bytes of the table's index: the place (byte 2 of a short place, else byte 0), then those of the candidate's row
    entry_bytes = uint32(0x7652 if short_encode else 0x7650)
    largest_input = float32(spec.largest_input)

    @cuda.jit(device=True)
    def add_errors(sums, value, reciprocal_er, reciprocal_ea):
        """Add a weight's squared errors, in units of the scales, to (S, B) of the ER and of the EA candidates."""
        sum_er, signed_er, sum_ea, signed_ea = sums
        sign = ptx.bits_float(ptx.and_or(ptx.float_bits(value), uint32(0x80000000), uint32(0x3F800000)))
        magnitude = ptx.absolute(value)
        u = ptx.mul(magnitude, reciprocal_er)
        d = ptx.distance_to_level(u, significand)
        gain = ptx.tent(u, centre)
        sum_er = ptx.sub(ptx.fma(d, d, sum_er), gain)
        signed_er = ptx.fma(gain, sign, signed_er)
        u = ptx.mul(magnitude, reciprocal_ea)
        d = ptx.distance_to_level(u, significand) if penalty else ptx.distance_to_level_up_to(u, significand, largest)
        gain = ptx.fma_saturated(u, float32(0.5), edge)
        sum_ea = ptx.fma(gain, edge_weight, ptx.fma(d, d, sum_ea))
        return sum_er, signed_er, sum_ea, ptx.fma(gain, sign, signed_ea)

    def kernel(weights, table, words, scales, selectors, outer_scales, status, k, group_count):
        shared_table = cuda.shared.array(table_entries, uint8)
        staging = cuda.shared.array(staged_words, uint32)
        x = cuda.local.array(stored_words, uint32)
        thread = cuda.threadIdx.x
        lane = thread & 31
        sub = lane & (lanes - 1)
        for i in range(table_rounds):
            entry = uint32(thread + i * threads)
            if entry < uint32(table_entries):
                shared_table[entry] = table[entry]
        if by_row:
            # group_count is that of a row
            row = cuda.blockIdx.x
            group_of_row = cuda.blockIdx.y * block_groups + (thread >> shift)
            active = group_of_row < group_count
            index = row * group_count + group_of_row
            first = row * k + group_of_row * group
            remaining = k - group_of_row * group
        else:
            index = cuda.blockIdx.x * block_groups + (thread >> shift)
            active = index < group_count
            first = (index if active else group_count - 1) * group
            remaining = group
        cuda.syncthreads()

        for j in range(chunks):
            start = (j * lanes + sub) * CHUNK
            if vector:
                if not by_row or (active and start < remaining):
                    for i in range(loads):
                        four = ptx.load4(weights, ((first + start) >> pair_shift) + 4 * i)
                        for e in range(4):
                            x[(j * loads + i) * 4 + e] = four[e]
                else:
                    for e in range(4 * loads):
                        x[j * loads * 4 + e] = uint32(0)
            else:
                for e in range(CHUNK):
                    element = uint32(0)
                    if active and start + e < remaining:
                        element = uint32(weights[first + start + e])
                    if float_input:
                        x[j * CHUNK + e] = element
                    elif e & 1 == 0:
                        x[(j * CHUNK + e) >> 1] = element
                    else:
                        x[(j * CHUNK + e) >> 1] = uint32(x[(j * CHUNK + e) >> 1] | uint32(element << uint32(16)))

        absmax = float32(0)
        if float_input:
            for e in range(per_lane):
                absmax = ptx.maximum_or_nan(absmax, ptx.absolute(ptx.bits_float(x[e])))
        else:
            pair = uint32(0)
            for e in range(stored_words):
                if bfloat_input:
                    pair = ptx.maximum_or_nan_bfloats(pair, uint32(x[e] & uint32(0x7FFF7FFF)))
                else:
                    pair = ptx.maximum_or_nan_halves(pair, uint32(x[e] & uint32(0x7FFF7FFF)))
            absmax = ptx.maximum_or_nan(_low_half(pair, bfloat_input), _high_half(pair, bfloat_input))
        absmax = ptx.maximum_or_nan(absmax, ptx.shuffle_xor(absmax, 1))
        if lanes == 4:
            absmax = ptx.maximum_or_nan(absmax, ptx.shuffle_xor(absmax, 2))
        if active and sub == 0 and not absmax <= largest_input:
            status[0] = 1

        scale = ptx.div(absmax, absmax_first)
        if not two_levels:
            half = stored_half(scale)
            scale = ptx.from_half(half)
        reciprocal = _reciprocal(scale)
        selector = uint32(0)
        if mixture:
            scale_last = ptx.div(absmax, absmax_last)
            if not two_levels:
                half_last = stored_half(scale_last)
                scale_last = ptx.from_half(half_last)
            reciprocal_last = _reciprocal(scale_last)
            sums = (float32(0), float32(0), float32(0), float32(0))
            for i in range(half_words):  # in two loops, since the compiler does not unroll one of 64 weights
                for odd in range(pair_shift + 1):
                    value = element_of(x[i], odd, float_input, bfloat_input)
                    sums = add_errors(sums, value, reciprocal, reciprocal_last)
            for i in range(half_words, stored_words):
                for odd in range(pair_shift + 1):
                    value = element_of(x[i], odd, float_input, bfloat_input)
                    sums = add_errors(sums, value, reciprocal, reciprocal_last)
            sum_er, signed_er, sum_ea, signed_ea = sums
            sum_er, signed_er = _sum_of_lanes(sum_er, lanes), _sum_of_lanes(signed_er, lanes)
            sum_ea, signed_ea = _sum_of_lanes(sum_ea, lanes), _sum_of_lanes(signed_ea, lanes)
            ratio = ptx.mul(scale_last, reciprocal)  # errors above are in units of the scale squared
            ratio = ptx.mul(ratio, ratio)
            best = ptx.sub(sum_er, signed_er)
            error = ptx.add(sum_er, signed_er)
            if error < best:
                selector, best = uint32(1), error
            error = ptx.mul(ptx.fma(float32(-4), signed_ea, sum_ea), ratio)
            if error < best:
                selector, best = uint32(2), error
            error = ptx.mul(ptx.fma(float32(4), signed_ea, sum_ea), ratio)
            if error < best:
                selector, best = uint32(3), error
            if selector >= uint32(2):
                scale, reciprocal = scale_last, reciprocal_last
                if not two_levels:
                    half = half_last
            if active and sub == 0:
                selectors[uint64(index)] = selector
        if two_levels:
            outer = stored_half(ptx.div(_maximum_of_block(scale if active else float32(0)), float32(255)))
            scale_code = _scale_code(scale, ptx.from_half(outer))
            scale = ptx.mul(scale_code, ptx.from_half(outer))
            reciprocal = ptx.div(float32(1), scale)
            if active and sub == 0:
                scales[uint64(index)] = int(scale_code)
                if thread == 0:
                    outer_scales[cuda.blockIdx.x] = outer
        elif active and sub == 0:
            scales[uint64(index)] = half

        if not float_input:
            for e in range(stored_words):
                x[e] = ptx.opaque(x[e])  # else the compiler keeps all weights unpacked, in twice the registers
        first_entry = uint32(selector * uint32(TABLE_ROW))
        per_step_of_x = ptx.mul(reciprocal, per_step)
        for j in range(chunks):
            word = uint32(0)
            for e in range(CHUNK):
                stored = x[(j * CHUNK + e) >> pair_shift]
                value = element_of(stored, e & pair_shift, float_input, bfloat_input)
                if short_encode:
                    place = ptx.fma(value, per_step_of_x, short_offset)
                else:
                    quotient = ptx.mul(value, reciprocal)
                    quotient = ptx.fma(ptx.fma(-quotient, scale, value), reciprocal, quotient)
                    place = ptx.add_up(quotient, to_grid) if mixture else ptx.add(quotient, to_grid)
                code = uint32(shared_table[ptx.pick_bytes(ptx.float_bits(place), first_entry, entry_bytes)])
                word = uint32(word + uint32(code << uint32(4 * e)))
            if bits == 3:
                word = uint32(_three_bit_plane_high(word) | (_three_bit_plane_low(word) << uint32(16)))
            staging[uint32(((thread >> shift) * chunks + j) * lanes + sub)] = word
        ptx.sync_warp()

        warp_group = (thread - lane) >> shift
        for i in range(store_rounds):
            block_of_warp = lane + i * WARP
            at = uint32((warp_group * group_blocks + block_of_warp) * BLOCK_CHUNKS)
            if by_row:
                block = (cuda.blockIdx.y * block_groups + warp_group) * group_blocks + block_of_warp
                row_blocks = (k + BLOCK_CODES - 1) >> 5
                stored = block < row_blocks
                block += row * row_blocks
            else:
                block = (cuda.blockIdx.x * block_groups + warp_group) * group_blocks + block_of_warp
                stored = block < group_count * group_blocks
            if stored and block_of_warp < warp_blocks:
                c0, c1 = staging[at], staging[uint32(at + uint32(1))]
                c2, c3 = staging[uint32(at + uint32(2))], staging[uint32(at + uint32(3))]
                if bits == 4:
                    ptx.store4(words, block * 4, c0, c1, c2, c3)
                else:
                    words[uint64(block * 3)] = (c0 & uint32(0xFFFF)) | (c1 << uint32(16))
                    words[uint64(block * 3 + 1)] = (c2 & uint32(0xFFFF)) | (c3 << uint32(16))
                    low = ((c0 >> uint32(16)) | ((c1 >> uint32(16)) << uint32(8))) | (
                        ((c2 >> uint32(16)) << uint32(16)) | ((c3 >> uint32(16)) << uint32(24))
                    )
                    words[uint64(block * 3 + 2)] = low

    if ptx.SIMULATED or threads * 128 <= REGISTERS:  # 96 registers are the most that any spec takes
        return cuda.jit(kernel)
    # registers are handed out in eights of a lane
    return cuda.jit(kernel, max_registers=REGISTERS // threads // 8 * 8)  # type: ignore[call-arg]  # not the simulator's
