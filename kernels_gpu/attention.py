"""Decode attention over a quantized KV cache: one query token for each sequence, several query heads for each key head.

Versions
    digits_and_steps   this file: integer tensor cores, steps of 32 tokens in registers, split over the context

How it works. A warp takes 32 tokens of one key head at a time, straight from global memory into registers. Scores are
``mma.m16n8k32`` of keys (16 tokens by 32 elements; signed bytes, INT4 in their upper halves) and queries, which are two
signed bytes each (16-bit fixed point with one scale for a query) in two of eight columns: four query heads cost what
one costs. The softmax runs online, base 2. Weights times the values' scales become two digits again, one scale for the
32 tokens of a query, and the result is the product of values (transposed by byte permutations: 16 elements by 32
tokens) and these digits. All sums of a step are exact integers.

Lane ``4 g + c``. Keys: it holds tokens ``g + 8 i`` (i = 0..3), the c-th quarter of their words. Scores: the same
tokens, query c of a tile. Values: tokens ``c + 8 i`` and ``c + 4 + 8 i``, the g-th eighth of their words. Results: the
g-th eighth of the elements, query c.

Warps of a block take every ``warps``-th step and are merged in shared memory; where a sequence is split over blocks,
``kernels_gpu.attention_merge`` merges these.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from numba import cuda, float32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.attention_merge import factor_of, store_result
from kernels_gpu.attention_products import make_add_word, make_load, make_scores
from kernels_gpu.attention_spec import STEP_TOKENS, TILE_QUERIES, AttentionSpec
from kernels_gpu.gemv_inputs import INPUT_LEVELS, MAGIC, TINY
from kernels_gpu.gemv_spec import WARP

ARGUMENTS = "pppppppp" + "iii"
LOG2_E = math.log2(math.e)


@cuda.jit(device=True)
def row_of(row0, token, further, last, words, place):
    """Word of a lane's values of a token; of the last token where there is none."""
    there = uint32(token + uint32(further))
    return uint32(uint32(row0 + (there if there < last else last)) * uint32(8 * words) + place)


def make_body(spec: AttentionSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``."""
    head_dim, heads, group, tiles, warps = spec.head_dim, spec.heads, spec.group, spec.tiles, spec.warps
    registers, results_at, steps_at, result_words = spec.registers, spec.results_at, spec.steps_at, spec.result_words
    key_bits, value_bits, split, bfloat = spec.key_bits, spec.value_bits, spec.split, spec.bfloat
    own_values = spec.words(value_bits) // 8
    per_lane = head_dim // 8  # results of a lane and query
    all_results = tiles * per_lane
    threads, query_words = warps * WARP, spec.query_words
    slots = tiles * TILE_QUERIES
    query_rounds = -(-group // warps)
    elements = head_dim // WARP  # of a query in a lane, while queries become digits
    score_step = float32(spec.scale * LOG2_E * spec.key_step / (1 if key_bits == 8 else 16))
    value_step = float32(spec.value_step / (1 if value_bits == 8 else 16))
    key_lane_words = spec.words(key_bits) // 4
    load_keys, products = make_scores(spec)
    load_values = make_load(own_values)
    add_words = [make_add_word(value_bits, min(w, own_values - 1)) for w in range(4)]
    add_first, add_second, add_third, add_fourth = add_words
    infinity = float32(math.inf)

    @cuda.jit(device=True)
    def element_of(address, index):
        bits = ptx_tile.load_half(address, index)
        return ptx.bits_float(uint32(bits << uint32(16))) if bfloat else ptx.from_half(bits)

    @cuda.jit(device=True)
    def place_of_element(d):
        """Byte of a query's element among the digits of its query: quarter, register, byte."""
        if key_bits == 8:
            quarter = uint32((d >> uint32(4)) & uint32(3))
            register = uint32((d >> uint32(6)) * uint32(4) + ((d >> uint32(2)) & uint32(3)))
            byte = uint32(d & uint32(3))
        else:
            word = uint32(d >> uint32(3))
            quarter = uint32(word // uint32(key_lane_words))
            register = uint32((word % uint32(key_lane_words)) * uint32(2) + (d & uint32(1)))
            byte = uint32((d & uint32(7)) >> uint32(1))
        return uint32((quarter * uint32(registers) + register) * uint32(4) + byte)

    @cuda.jit(device=True)
    def largest_of_warp(value):
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 1))
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 2))
        return largest_of_tokens(value)

    @cuda.jit(device=True)
    def largest_of_tokens(value):
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 4))
        value = ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 8))
        return ptx.maximum_or_nan(value, ptx.shuffle_xor(value, 16))

    @cuda.jit(device=True)
    def step_of(largest):
        """Value of one unit; infinity less infinity makes it NaN."""
        return ptx.mul(ptx.add(largest, ptx.sub(largest, largest)), float32(1.0 / INPUT_LEVELS))

    @cuda.jit(device=True)
    def to_digits_of(largest):
        return ptx.mul(float32(INPUT_LEVELS), ptx.reciprocal(largest)) if largest > float32(TINY) else float32(0)

    @cuda.jit(device=True)
    def stage_queries(shared, queries, first_query, warp, lane):
        for i in range(query_rounds):
            query = uint32(warp + uint32(i * warps))
            query = query if query < uint32(group) else uint32(group - 1)
            at = uint32((first_query + query) * uint32(head_dim) + lane * uint32(elements))
            largest = float32(0)
            for e in range(elements):
                largest = ptx.maximum_or_nan(largest, ptx.absolute(element_of(queries, uint32(at + uint32(e)))))
            largest = largest_of_warp(largest)
            to_digits = to_digits_of(largest)
            base = uint32(query * uint32(2 * 4 * registers) * uint32(4))
            for e in range(elements):
                made = ptx.fma(element_of(queries, uint32(at + uint32(e))), to_digits, float32(MAGIC))
                digits = ptx.float_bits(made)
                byte = uint32(base + place_of_element(uint32(lane * uint32(elements) + uint32(e))))
                ptx_tile.put_byte(shared, byte, uint32(digits >> uint32(8)))
                low = uint32(digits ^ uint32(0x80))
                ptx_tile.put_byte(shared, uint32(byte + uint32(4 * registers * 4)), low)
            if lane == uint32(0):
                ptx_tile.put_1(shared, uint32(uint32(steps_at) + query), ptx.float_bits(step_of(largest)))

    @cuda.jit(device=True)
    def score(joined, unit, scales, row, token, end):
        scaled = ptx.mul(ptx.mul(float32(joined), unit), ptx.from_half(ptx_tile.load_half(scales, row)))
        return scaled if token < end else -infinity

    @cuda.jit(device=True)
    def weight(s, largest):
        return ptx.exp2(ptx.sub(s, largest))

    @cuda.jit(device=True)
    def scaled_weight(p, scales, row, token, end):
        made = ptx.mul(ptx.mul(p, value_step), ptx.from_half(ptx_tile.load_half(scales, row)))
        return made if token < end else float32(0)

    @cuda.jit(device=True)
    def digit(value, to_digits):
        return ptx.float_bits(ptx.fma(value, to_digits, float32(MAGIC)))

    def kernel(queries, keys, key_scales, values, value_scales, lengths, partial, out, capacity, chunk, splits):
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        lane, warp = uint32(thread & uint32(31)), uint32(thread >> uint32(5))
        g, c = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
        block = uint32(cuda.blockIdx.x)
        pair = uint32(block // uint32(splits))
        part = uint32(block - pair * uint32(splits))
        ptx_tile.start()
        for i in range((slots * 2 * 4 * registers + threads - 1) // threads):
            word = uint32(thread + uint32(i * threads))
            if word < uint32(query_words):
                ptx_tile.put_1(shared, word, uint32(0))
        if thread < uint32(slots):
            ptx_tile.put_1(shared, uint32(uint32(steps_at) + thread), uint32(0))
        cuda.syncthreads()
        ptx_tile.wait_for_previous()
        stage_queries(shared, queries, uint32(pair * uint32(group)), warp, lane)
        cuda.syncthreads()
        length = ptx_tile.load_word(lengths, uint32(pair // uint32(heads)))
        begin = uint32(part * uint32(chunk))
        end = uint32(begin + uint32(chunk))
        end = end if end < length else length
        row0 = uint32(pair * uint32(capacity))
        y = cuda.local.array(all_results, float32)
        largest = cuda.local.array(tiles, float32)
        total = cuda.local.array(tiles, float32)
        for i in range(all_results):
            y[i] = float32(0)
        for t in range(tiles):
            largest[t] = -infinity
            total[t] = float32(0)
        steps = uint32(0)
        if begin < end:
            steps = uint32(uint32(end - begin + uint32(STEP_TOKENS - 1)) >> uint32(5))
        rounds = uint32(uint32(steps + uint32(warps - 1)) // uint32(warps))
        for i in range(rounds):
            token0 = uint32(begin + (warp + uint32(i) * uint32(warps)) * uint32(STEP_TOKENS))
            if token0 < end or ptx.SIMULATED:
                last = uint32(end - uint32(1))
                k0, k1 = uint32(token0 + g), uint32(token0 + g + uint32(8))
                k2, k3 = uint32(token0 + g + uint32(16)), uint32(token0 + g + uint32(24))
                r0 = uint32(row0 + (k0 if k0 < end else last))
                r1 = uint32(row0 + (k1 if k1 < end else last))
                r2 = uint32(row0 + (k2 if k2 < end else last))
                r3 = uint32(row0 + (k3 if k3 < end else last))
                keys0, keys1 = load_keys(keys, r0, c), load_keys(keys, r1, c)
                keys2, keys3 = load_keys(keys, r2, c), load_keys(keys, r3, c)
                t0 = uint32(token0 + c)
                place = uint32(g * uint32(own_values))
                v0 = load_values(values, row_of(row0, t0, 0, last, own_values, place))
                v1 = load_values(values, row_of(row0, t0, 8, last, own_values, place))
                v2 = load_values(values, row_of(row0, t0, 16, last, own_values, place))
                v3 = load_values(values, row_of(row0, t0, 24, last, own_values, place))
                v4 = load_values(values, row_of(row0, t0, 4, last, own_values, place))
                v5 = load_values(values, row_of(row0, t0, 12, last, own_values, place))
                v6 = load_values(values, row_of(row0, t0, 20, last, own_values, place))
                v7 = load_values(values, row_of(row0, t0, 28, last, own_values, place))
                for t in range(tiles):
                    slot = uint32(uint32(t * TILE_QUERIES * 2) + g)  # a column: a query's digit
                    query = uint32((slot * uint32(4) + c) * uint32(registers))
                    j0, j1 = products(shared, keys0, keys1, query)
                    j2, j3 = products(shared, keys2, keys3, query)
                    query_step = ptx_tile.shared_1(shared, uint32(uint32(steps_at + t * TILE_QUERIES) + c))
                    unit = ptx.mul(ptx.bits_float(query_step), score_step)
                    s0, s1 = score(j0, unit, key_scales, r0, k0, end), score(j1, unit, key_scales, r1, k1, end)
                    s2, s3 = score(j2, unit, key_scales, r2, k2, end), score(j3, unit, key_scales, r3, k3, end)
                    top = ptx.maximum_or_nan(ptx.maximum_or_nan(s0, s1), ptx.maximum_or_nan(s2, s3))
                    top = ptx.maximum_or_nan(largest_of_tokens(top), largest[t])
                    if token0 < end:
                        kept = factor_of(largest[t], top)
                        largest[t] = top
                    else:  # only in the simulator: another warp's step
                        kept, top = float32(1), float32(0)
                    p0, p1, p2, p3 = weight(s0, top), weight(s1, top), weight(s2, top), weight(s3, top)
                    total[t] = ptx.fma(total[t], kept, ptx.add(ptx.add(p0, p1), ptx.add(p2, p3)))
                    w0 = scaled_weight(p0, value_scales, r0, k0, end)
                    w1 = scaled_weight(p1, value_scales, r1, k1, end)
                    w2 = scaled_weight(p2, value_scales, r2, k2, end)
                    w3 = scaled_weight(p3, value_scales, r3, k3, end)
                    top = ptx.maximum_or_nan(ptx.maximum_or_nan(w0, w1), ptx.maximum_or_nan(w2, w3))
                    top = largest_of_tokens(top)
                    to_digits = to_digits_of(top)
                    d0, d1, d2, d3 = (
                        digit(w0, to_digits),
                        digit(w1, to_digits),
                        digit(w2, to_digits),
                        digit(w3, to_digits),
                    )
                    pair0, pair1 = ptx.pick_bytes(d0, d1, uint32(0x5140)), ptx.pick_bytes(d2, d3, uint32(0x5140))
                    high = ptx.pick_bytes(pair0, pair1, uint32(0x7632))
                    low = uint32(ptx.pick_bytes(pair0, pair1, uint32(0x5410)) ^ uint32(0x80808080))
                    source = uint32(c * uint32(4) + (g >> uint32(1)))
                    odd = (g & uint32(1)) == uint32(1)
                    high0, low0 = ptx.shuffle(high, source), ptx.shuffle(low, source)
                    source = uint32(source + uint32(16))
                    high1, low1 = ptx.shuffle(high, source), ptx.shuffle(low, source)
                    b0, b1 = low0 if odd else high0, low1 if odd else high1
                    base = t * per_lane
                    for j in range(per_lane):
                        y[base + j] = ptx.mul(y[base + j], kept)
                    unit = step_of(top)
                    add_first(v0, v1, v2, v3, v4, v5, v6, v7, b0, b1, unit, base, y)
                    if own_values > 1:
                        add_second(v0, v1, v2, v3, v4, v5, v6, v7, b0, b1, unit, base, y)
                    if own_values > 2:
                        add_third(v0, v1, v2, v3, v4, v5, v6, v7, b0, b1, unit, base, y)
                        add_fourth(v0, v1, v2, v3, v4, v5, v6, v7, b0, b1, unit, base, y)
        for t in range(tiles):
            summed = total[t]
            summed = ptx.add(summed, ptx.shuffle_xor(summed, 4))
            summed = ptx.add(summed, ptx.shuffle_xor(summed, 8))
            summed = ptx.add(summed, ptx.shuffle_xor(summed, 16))
            query = uint32(uint32(t * TILE_QUERIES) + c)
            if query < uint32(group):
                target = uint32(uint32(results_at) + (warp * uint32(group) + query) * uint32(result_words))
                for j in range(per_lane):
                    # of four bits: eight codes of a word, even ones, then odd ones
                    d = j if value_bits == 8 else (j & ~7) + 2 * (j & 3) + (j >> 2 & 1)
                    at = uint32(target + g * uint32(per_lane) + uint32(d))
                    ptx_tile.put_1(shared, at, ptx.float_bits(y[t * per_lane + j]))
                if g == uint32(0):
                    at = uint32(target + uint32(head_dim))
                    ptx_tile.put_1(shared, at, ptx.float_bits(largest[t]))
                    ptx_tile.put_1(shared, uint32(at + uint32(1)), ptx.float_bits(summed))
        cuda.syncthreads()
        for i in range((group * head_dim + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            if item < uint32(group * head_dim):
                query = uint32(item // uint32(head_dim))
                d = uint32(item - query * uint32(head_dim))
                first = uint32(uint32(results_at) + query * uint32(result_words))
                top = -infinity
                for w in range(warps):
                    at = uint32(first + uint32(w * group * result_words))
                    found = ptx_tile.shared_1(shared, uint32(at + uint32(head_dim)))
                    top = ptx.maximum_or_nan(top, ptx.bits_float(found))
                weights, summed = float32(0), float32(0)
                for w in range(warps):
                    at = uint32(first + uint32(w * group * result_words))
                    found = ptx.bits_float(ptx_tile.shared_1(shared, uint32(at + uint32(head_dim))))
                    share = factor_of(found, top)
                    found = ptx.bits_float(ptx_tile.shared_1(shared, uint32(at + uint32(head_dim + 1))))
                    weights = ptx.fma(found, share, weights)
                    summed = ptx.fma(ptx.bits_float(ptx_tile.shared_1(shared, uint32(at + d))), share, summed)
                row = uint32(pair * uint32(group) + query)
                if split:
                    target = uint32((row * uint32(splits) + part) * uint32(result_words))
                    ptx_tile.store_word(partial, uint32(target + d), ptx.float_bits(summed))
                    if d == uint32(0):
                        target = uint32(target + uint32(head_dim))
                        ptx_tile.store_word(partial, target, ptx.float_bits(top))
                        ptx_tile.store_word(partial, uint32(target + uint32(1)), ptx.float_bits(weights))
                else:
                    store_result(out, uint32(row * uint32(head_dim) + d), summed, weights, bfloat)

    return kernel
