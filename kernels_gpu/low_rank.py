"""Thin products ``M z`` for few tokens: both factors of a low-rank branch, and whole columns kept as outliers.

A branch ``y += B (A x)`` (LQER, arXiv 2402.02446) is two of them: ``t = A x`` has few rows (the rank) and many columns,
which are split over blocks that leave partial sums; ``y += B t`` has many rows and few columns. Outlier columns (OWQ,
arXiv 2306.02272) are the second kind, ``y += W_o x[columns]``.

How it works. ``lanes`` lanes share a row; each reads its part of the row (8 elements a load where rows allow it)
*before* it waits for the kernel before, since factors are never written. Then the block puts its part of z into shared
memory as float32: inputs, inputs at given columns, or sums of the partial sums in a fixed order. Products are float32,
a group's scale multiplies the sum of its eight products, and lanes are added by shuffles: results are the same in every
launch. Results that are added to y are rounded to its type once.

The dense product need not know: it runs between ``A x`` and this, which reads and writes the ``2 m n`` bytes of y once
more, in L2. Left out: more than 16 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, int32, uint32

from kernels_gpu import ptx, ptx_tile
from kernels_gpu.dequantize_scales import make_stored_scale
from kernels_gpu.lanes import lane_sum
from kernels_gpu.low_rank_spec import Factor, FactorKind, Source, Target, ThinSpec
from kernels_gpu.pairs import pair_functions

ARGUMENTS = "ppppp" + "i"


def make_load(factor: Factor) -> Any:
    """Device function ``(codes, row, unit) -> words`` of a unit of a row."""
    columns = factor.columns
    row_words = -(-columns // 32) * 8  # of 8-bit codes, in blocks of 32
    if factor.kind is FactorKind.INT8:

        @cuda.jit(device=True)
        def load(codes, row, unit):
            return ptx_tile.stream_words_2(codes, uint32(row * uint32(row_words) + unit * uint32(2)))
    elif factor.vector:

        @cuda.jit(device=True)
        def load(codes, row, unit):
            return ptx_tile.stream_words_4(codes, uint32(row * uint32(columns // 2) + unit * uint32(4)))
    elif factor.kind is FactorKind.FP32:

        @cuda.jit(device=True)
        def load(codes, row, unit):
            return ptx_tile.stream_words_1(codes, uint32(row * uint32(columns) + unit))
    else:

        @cuda.jit(device=True)
        def load(codes, row, unit):
            return (ptx_tile.load_half(codes, uint32(row * uint32(columns) + unit)),)

    return load


def make_values(factor: Factor) -> Any:
    """Device function ``words -> eight float32`` of a unit of eight elements, codes not yet scaled."""
    two = pair_functions(factor.kind is FactorKind.BF16)
    first_of, second_of = two.low, two.high

    @cuda.jit(device=True)
    def byte(word, i):
        return float32(int32(ptx.signed(uint32(word << uint32(24 - 8 * i))) >> 24))

    if factor.kind is FactorKind.INT8:

        @cuda.jit(device=True)
        def values_of(words):
            u, v = words[0], words[1]
            low = (byte(u, 0), byte(u, 1), byte(u, 2), byte(u, 3))
            high = (byte(v, 0), byte(v, 1), byte(v, 2), byte(v, 3))
            return low + high
    else:

        @cuda.jit(device=True)
        def values_of(words):
            a, b, c, d = words[0], words[1], words[2], words[3]
            low = (first_of(a), second_of(a), first_of(b), second_of(b))
            high = (first_of(c), second_of(c), first_of(d), second_of(d))
            return low + high

    return values_of


def make_dot(factor: Factor) -> Any:
    """Device function ``(words, shared, at, total) -> total`` plus the products of a unit and z at word ``at``."""
    first_of, values_of = pair_functions(factor.kind is FactorKind.BF16).low, make_values(factor)

    @cuda.jit(device=True)
    def eight(values, shared, at, total):
        a, b = ptx_tile.shared_4(shared, at), ptx_tile.shared_4(shared, uint32(at + uint32(4)))
        total = ptx.fma(values[0], ptx.bits_float(a[0]), total)
        total = ptx.fma(values[1], ptx.bits_float(a[1]), total)
        total = ptx.fma(values[2], ptx.bits_float(a[2]), total)
        total = ptx.fma(values[3], ptx.bits_float(a[3]), total)
        total = ptx.fma(values[4], ptx.bits_float(b[0]), total)
        total = ptx.fma(values[5], ptx.bits_float(b[1]), total)
        total = ptx.fma(values[6], ptx.bits_float(b[2]), total)
        return ptx.fma(values[7], ptx.bits_float(b[3]), total)

    if factor.vector:

        @cuda.jit(device=True)
        def dot(words, shared, at, total):
            return eight(values_of(words), shared, at, total)
    elif factor.kind is FactorKind.FP32:

        @cuda.jit(device=True)
        def dot(words, shared, at, total):
            return ptx.fma(ptx.bits_float(words[0]), ptx.bits_float(ptx_tile.shared_1(shared, at)), total)
    else:

        @cuda.jit(device=True)
        def dot(words, shared, at, total):
            return ptx.fma(first_of(words[0]), ptx.bits_float(ptx_tile.shared_1(shared, at)), total)

    return dot


def _make_source(spec: ThinSpec) -> Any:
    """Device function ``(source, index, token, column) -> float32``: an element of z."""
    columns, given, tokens = spec.factor.columns, spec.source_columns, spec.tokens
    element, wide = pair_functions(spec.bfloat).low, spec.wide_index
    if spec.source is Source.SUMS:

        @cuda.jit(device=True)
        def z_of(source, index, token, column):
            total = float32(0)
            at = uint32(token * uint32(columns) + column)
            for s in range(given):
                found = ptx_tile.load_word(source, uint32(at + uint32(s * tokens * columns)))
                total = ptx.add(total, ptx.bits_float(found))
            return total
    elif spec.source is Source.COLUMNS:

        @cuda.jit(device=True)
        def z_of(source, index, token, column):
            chosen = ptx_tile.load_word(index, column) if wide else ptx_tile.load_half(index, column)
            return element(ptx_tile.load_half(source, uint32(token * uint32(given) + chosen)))
    else:

        @cuda.jit(device=True)
        def z_of(source, index, token, column):
            return element(ptx_tile.load_half(source, uint32(token * uint32(given) + column)))

    return z_of


def make_body(spec: ThinSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``.

    It takes the factor, its scales, z's source, the columns of outliers, results, and the rows of the factor.
    """
    factor, tokens, lanes, loads, rounds = spec.factor, spec.tokens, spec.lanes, spec.loads, spec.rounds
    columns, unit, words, chunk, pitch = factor.columns, factor.unit, factor.words, spec.chunk, spec.pitch
    group, groups, scaled = factor.group if factor.group else 1 << 30, factor.groups, factor.scale is not None
    teams, threads, splits, bfloat = spec.teams, spec.threads, spec.splits, spec.bfloat
    added = spec.target is Target.ADDED
    load, dot, z_of = make_load(factor), make_dot(factor), _make_source(spec)
    scale_value, summed = make_stored_scale(factor.scale), lane_sum(lanes)
    element = pair_functions(bfloat).low
    zero_word = (0,) * words
    items, held_words, step = tokens * pitch, loads * words, factor.step

    @cuda.jit(device=True)
    def keep(held, i, found):
        for w in range(words):
            held[i * words + w] = found[w]

    @cuda.jit(device=True)
    def kept(held, i):
        if words == 4:
            return held[4 * i], held[4 * i + 1], held[4 * i + 2], held[4 * i + 3]
        if words == 2:
            return held[2 * i], held[2 * i + 1]
        return (held[i],)

    @cuda.jit(device=True)
    def fetch(codes, scales, row, first, lane, held, steps):
        """A round's part of a row: zeros where it has ended."""
        for i in range(loads):
            column = uint32(first + (lane + uint32(i * lanes)) * uint32(unit))
            keep(held, i, zero_word)
            steps[i] = float32(1)
            if column < uint32(columns):
                keep(held, i, load(codes, row, uint32(column // uint32(unit))))
                if scaled:
                    steps[i] = scale_value(scales, uint32(row * uint32(groups) + column // uint32(group)))
                    if step != 1:
                        steps[i] = ptx.mul(steps[i], float32(step))

    @cuda.jit(device=True)
    def stage(shared, source, index, first, thread):
        for i in range((items + threads - 1) // threads):
            item = uint32(thread + uint32(i * threads))
            token = uint32(item // uint32(pitch))
            within = uint32(item - token * uint32(pitch))
            column = uint32(first + within)
            if item < uint32(items):
                value = float32(0)
                if within < uint32(chunk) and column < uint32(columns):
                    value = z_of(source, index, token, column)
                ptx_tile.put_1(shared, item, ptx.float_bits(value))

    @cuda.jit(device=True)
    def finish(out, value, token, row, rows, split):
        if added:
            at = uint32(token * rows + row)
            total = ptx.add(element(ptx_tile.load_half(out, at)), value)
            ptx_tile.store_half(out, at, ptx.to_bfloat(total) if bfloat else ptx.to_half(total))
        else:
            at = uint32((split * uint32(tokens) + token) * rows + row)
            ptx_tile.store_word(out, at, ptx.float_bits(value))

    def kernel(codes, scales, source, index, out, n):
        shared = ptx_tile.shared_words()
        thread, block, rows = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x), uint32(n)
        row_blocks = uint32(uint32(cuda.gridDim.x) // uint32(splits))
        split = uint32(block // row_blocks)
        team, lane = uint32(thread // uint32(lanes)), uint32(thread & uint32(lanes - 1))
        row = uint32((block - split * row_blocks) * uint32(teams) + team)
        safe_row = row if row < rows else uint32(rows - uint32(1))
        first = uint32(split * uint32(rounds * chunk))
        held = cuda.local.array(held_words, uint32)
        steps = cuda.local.array(loads, float32)
        totals = cuda.local.array(tokens, float32)
        ptx_tile.start()
        fetch(codes, scales, safe_row, first, lane, held, steps)
        for t in range(tokens):
            totals[t] = float32(0)
        ptx_tile.wait_for_previous()
        for r in range(rounds):
            here = uint32(first + uint32(r) * uint32(chunk))
            if r > 0:
                cuda.syncthreads()
                fetch(codes, scales, safe_row, here, lane, held, steps)
            stage(shared, source, index, here, thread)
            cuda.syncthreads()
            for t in range(tokens):
                total = totals[t]
                for i in range(loads):
                    at = uint32(uint32(t * pitch) + (lane + uint32(i * lanes)) * uint32(unit))
                    if scaled:
                        total = ptx.fma(steps[i], dot(kept(held, i), shared, at, float32(0)), total)
                    else:
                        total = dot(kept(held, i), shared, at, total)
                totals[t] = total
        for t in range(tokens):
            value = summed(totals[t])
            if lane == uint32(0) and row < rows:
                finish(out, value, uint32(t), row, rows, split)

    return kernel
