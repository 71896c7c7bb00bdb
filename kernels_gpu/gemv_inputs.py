"""Device function of the GEMV: inputs to two signed bytes each, with a scale for each run of 128, in shared memory.

Where products are those of halves, one half each instead, with a power of two for each run (``gemv_halves``).

``x = scale * (256 * high + low)``: the sum of x / scale and 1.5 * 2**23 + 128 has the balanced digits in its low bytes.
Loads are issued in batches before anything is computed, since each waits some hundred cycles for L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.gemv_plan import RUN
from kernels_gpu.gemv_spec import WARP, GemvSpec

INPUT_LEVELS = 32512  # 127 * 256: the largest magnitude whose digits are -128 to 127
MAGIC = 12582912.0 + 128.0  # 1.5 * 2**23 leaves integers in the low bits of a float32; 128 makes the digits balanced
EIGHT_MAGIC_BITS = 8 * 0x4B400080 & 0xFFFFFFFF  # what eight of them leave in the sum of the bits
TINY = 1e-30  # magnitudes below count as zero
HALF_SCALE_EXPONENT = 12  # a run's largest magnitude becomes 2**12 to 2**13 as a half: far from 65504 and from 2**-14


@dataclass(frozen=True)
class InputFunctions:
    """Device functions: all at once, or begun by loads that other work follows."""

    stage: Any  # (shared, x, thread)
    fetch_first: Any  # (x, thread) -> a thread's first inputs
    stage_fetched: Any  # (shared, x, thread, first)


def make_stage_inputs(spec: GemvSpec) -> InputFunctions:
    """The functions of one kernel."""
    k, vector, bfloat, even_odd = spec.k, spec.vector, spec.bfloat, spec.plan.even_odd
    inputs_at, plane, all_runs = spec.inputs_at, spec.plane, spec.all_runs
    scales_at, sums_at, sums_per_run = spec.input_scales_at, spec.input_sums_at, spec.sums_per_run
    threads = spec.warps * WARP
    units = all_runs * RUN // 8  # of eight inputs, for one token
    rounds = spec.tokens * units // threads
    batch = next(size for size in (4, 3, 2, 1) if rounds % size == 0)
    batches = rounds // batch
    lanes_of_sum = 16 // sums_per_run if sums_per_run else 16
    whole = k == all_runs * RUN
    halves, block_words = spec.plan.halves, spec.block_words

    @cuda.jit(device=True)
    def element(word, odd):
        if bfloat:
            return ptx.bits_float(uint32(word & uint32(0xFFFF0000)) if odd else uint32(word << uint32(16)))
        return ptx.from_half(uint32(word >> uint32(16)) if odd else word)

    @cuda.jit(device=True)
    def half_at(x, at, left, i):
        return ptx_tile.load_half(x, uint32(at + uint32(i))) if left > uint32(i) else uint32(0)

    @cuda.jit(device=True)
    def fetch(x, index):
        """Words of eight inputs, zeros beyond the last one."""
        token = uint32(index // uint32(units))
        input0 = uint32((index - token * uint32(units)) * uint32(8))
        zero = uint32(0)
        words = (zero, zero, zero, zero)
        if whole or input0 < uint32(k):
            at = uint32(token * uint32(k) + input0)
            if vector:
                words = ptx_tile.load_words_4(x, uint32(at >> uint32(1)))
            else:
                left = uint32(uint32(k) - input0)
                words = (
                    uint32(half_at(x, at, left, 0) | uint32(half_at(x, at, left, 1) << uint32(16))),
                    uint32(half_at(x, at, left, 2) | uint32(half_at(x, at, left, 3) << uint32(16))),
                    uint32(half_at(x, at, left, 4) | uint32(half_at(x, at, left, 5) << uint32(16))),
                    uint32(half_at(x, at, left, 6) | uint32(half_at(x, at, left, 7) << uint32(16))),
                )
        return words

    @cuda.jit(device=True)
    def largest_of(words):
        """Largest magnitude of eight inputs; NaN where one is."""
        if bfloat:
            mask = uint32(0x7FFF7FFF)
            pair = ptx.maximum_or_nan_bfloats(uint32(words[0] & mask), uint32(words[1] & mask))
            other = ptx.maximum_or_nan_bfloats(uint32(words[2] & mask), uint32(words[3] & mask))
            pair = ptx.maximum_or_nan_bfloats(pair, other)
        else:
            mask = uint32(0x7FFF7FFF)
            pair = ptx.maximum_or_nan_halves(uint32(words[0] & mask), uint32(words[1] & mask))
            other = ptx.maximum_or_nan_halves(uint32(words[2] & mask), uint32(words[3] & mask))
            pair = ptx.maximum_or_nan_halves(pair, other)
        return ptx.maximum_or_nan(element(pair, False), element(pair, True))

    @cuda.jit(device=True)
    def spread(value):
        """Sum over the neighbouring lanes that share a stored sum."""
        value = int32(value + ptx.shuffle_xor(value, 1))
        if lanes_of_sum >= 4:
            value = int32(value + ptx.shuffle_xor(value, 2))
        if lanes_of_sum >= 8:
            value = int32(value + ptx.shuffle_xor(value, 4))
        if lanes_of_sum >= 16:
            value = int32(value + ptx.shuffle_xor(value, 8))
        return value

    @cuda.jit(device=True)
    def store(shared, words, index):
        token = uint32(index // uint32(units))
        within = uint32(index - token * uint32(units))
        largest = largest_of(words)
        largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 1))
        largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 2))
        largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 4))
        largest = ptx.maximum_or_nan(largest, ptx.shuffle_xor(largest, 8))
        if halves:
            store_halves(shared, words, token, within, largest)
        else:
            store_digits(shared, words, token, within, largest)

    @cuda.jit(device=True)
    def two_halves(first, second, factor):
        low, high = ptx.to_half(ptx.mul(first, factor)), ptx.to_half(ptx.mul(second, factor))
        return uint32(low | uint32(high << uint32(16)))

    @cuda.jit(device=True)
    def store_halves(shared, words, token, within, largest):
        exponent = uint32(ptx.float_bits(largest) & uint32(0x7F800000))
        up = uint32(HALF_SCALE_EXPONENT << 23)
        factor, unit_step = float32(0), float32(0)
        if largest > float32(TINY):
            factor = ptx.bits_float(uint32(uint32(0x7F000000) + up - exponent))  # 2**127 over 2**exponent, and so on
            unit_step = ptx.bits_float(uint32(exponent - up))
        x0, x1 = element(words[0], False), element(words[0], True)
        x2, x3 = element(words[1], False), element(words[1], True)
        x4, x5 = element(words[2], False), element(words[2], True)
        x6, x7 = element(words[3], False), element(words[3], True)
        if even_odd:
            x1, x2, x3, x4, x5, x6 = x2, x4, x6, x1, x3, x5
        target = uint32(uint32(inputs_at) + token * uint32(plane) + (within >> uint32(2)) * uint32(block_words))
        target = uint32(target + (within & uint32(3)) * uint32(4))
        ptx_tile.put_4(
            shared, target, two_halves(x0, x1, factor), two_halves(x2, x3, factor), two_halves(x4, x5, factor),
            two_halves(x6, x7, factor),
        )  # fmt: skip
        if (within & uint32(15)) == uint32(0):
            place = uint32(uint32(scales_at) + token * uint32(all_runs) + (within >> uint32(4)))
            # infinity less infinity is NaN, as below
            ptx_tile.put_1(shared, place, ptx.float_bits(ptx.add(unit_step, ptx.sub(largest, largest))))

    @cuda.jit(device=True)
    def store_digits(shared, words, token, within, largest):
        to_digits = float32(0)
        if largest > float32(TINY):
            to_digits = ptx.mul(float32(INPUT_LEVELS), ptx.reciprocal(largest))
        magic = float32(MAGIC)
        d0 = ptx.float_bits(ptx.fma(element(words[0], False), to_digits, magic))
        d1 = ptx.float_bits(ptx.fma(element(words[0], True), to_digits, magic))
        d2 = ptx.float_bits(ptx.fma(element(words[1], False), to_digits, magic))
        d3 = ptx.float_bits(ptx.fma(element(words[1], True), to_digits, magic))
        d4 = ptx.float_bits(ptx.fma(element(words[2], False), to_digits, magic))
        d5 = ptx.float_bits(ptx.fma(element(words[2], True), to_digits, magic))
        d6 = ptx.float_bits(ptx.fma(element(words[3], False), to_digits, magic))
        d7 = ptx.float_bits(ptx.fma(element(words[3], True), to_digits, magic))
        if sums_per_run > 0:
            bits = uint32(uint32(d0 + d1 + d2 + d3) + uint32(d4 + d5 + d6 + d7) - uint32(EIGHT_MAGIC_BITS))
            total = spread(ptx.signed(bits))
            if (within & uint32(lanes_of_sum - 1)) == uint32(0):
                place = uint32(
                    uint32(sums_at) + token * uint32(all_runs * sums_per_run) + within // uint32(lanes_of_sum)
                )
                ptx_tile.put_1(shared, place, ptx.unsigned(total))
        if even_odd:
            d1, d2, d3, d4, d5, d6 = d2, d4, d6, d1, d3, d5
        # bytes 0 of two words, then their bytes 1; then those of four words
        p0, p1 = ptx.pick_bytes(d0, d1, uint32(0x5140)), ptx.pick_bytes(d2, d3, uint32(0x5140))
        p2, p3 = ptx.pick_bytes(d4, d5, uint32(0x5140)), ptx.pick_bytes(d6, d7, uint32(0x5140))
        target = uint32(uint32(inputs_at) + token * uint32(2 * plane) + within * uint32(2))
        high0, high1 = ptx.pick_bytes(p0, p1, uint32(0x7632)), ptx.pick_bytes(p2, p3, uint32(0x7632))
        low0, low1 = ptx.pick_bytes(p0, p1, uint32(0x5410)), ptx.pick_bytes(p2, p3, uint32(0x5410))
        ptx_tile.put_2(shared, target, high0, high1)
        turned = uint32(0x80808080)
        ptx_tile.put_2(shared, uint32(target + uint32(plane)), uint32(low0 ^ turned), uint32(low1 ^ turned))
        if (within & uint32(15)) == uint32(0):
            # infinity less infinity is NaN: a run that holds either makes its token's results NaN
            unit_step = ptx.mul(ptx.add(largest, ptx.sub(largest, largest)), float32(1.0 / INPUT_LEVELS))
            place = uint32(uint32(scales_at) + token * uint32(all_runs) + (within >> uint32(4)))
            ptx_tile.put_1(shared, place, ptx.float_bits(unit_step))

    @cuda.jit(device=True)
    def fetch_batch(x, thread, b):
        i0 = uint32(thread + uint32(b) * uint32(batch * threads))
        i1, i2 = uint32(i0 + uint32(threads)), uint32(i0 + uint32(2 * threads))
        i3 = uint32(i0 + uint32(3 * threads))
        w0 = fetch(x, i0)
        w1 = fetch(x, i1) if batch > 1 else w0
        w2 = fetch(x, i2) if batch > 2 else w0
        w3 = fetch(x, i3) if batch > 3 else w0
        return w0, w1, w2, w3

    @cuda.jit(device=True)
    def store_batch(shared, thread, b, words):
        i0 = uint32(thread + uint32(b) * uint32(batch * threads))
        i1, i2 = uint32(i0 + uint32(threads)), uint32(i0 + uint32(2 * threads))
        i3 = uint32(i0 + uint32(3 * threads))
        store(shared, words[0], i0)
        if batch > 1:
            store(shared, words[1], i1)
        if batch > 2:
            store(shared, words[2], i2)
        if batch > 3:
            store(shared, words[3], i3)

    @cuda.jit(device=True)
    def fetch_first(x, thread):
        return fetch_batch(x, thread, 0)

    @cuda.jit(device=True)
    def stage_fetched(shared, x, thread, first):
        store_batch(shared, thread, 0, first)
        for b in range(1, batches):
            store_batch(shared, thread, b, fetch_batch(x, thread, b))

    @cuda.jit(device=True)
    def stage_inputs(shared, x, thread):
        for b in range(batches):
            store_batch(shared, thread, b, fetch_batch(x, thread, b))

    return InputFunctions(stage_inputs, fetch_first, stage_fetched)
