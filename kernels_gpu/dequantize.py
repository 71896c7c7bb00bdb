"""Packed weights to a half-precision matrix ``[n, k]``: what a library's product needs, at the bound of memory.

A thread decodes eight neighbouring weights of a row and stores 16 bytes, so that a warp writes 512 without gaps. Codes
are put together from their planes (``datatypes.packing``); values come from a table in shared memory, which sixteen
entries read without conflicts, from the codebook of the row, or are integers. The arithmetic is that of
``datatypes.tensor``, float32, so that the result is ``QuantizedTensor.dequantize()`` rounded once, bit for bit.

Left out: encodings without a plan (``gemv_plan``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, float32, int32, uint32

from datatypes.format import IntFormat, LearnedFormat
from datatypes.layer_config import TensorConfig
from datatypes.planes import plane_widths, row_words
from hwmodel.units import ceil_div
from kernels_gpu import ptx, ptx_tile
from kernels_gpu.dequantize_scales import make_flat_field, make_stored_scale
from kernels_gpu.gemv_plan import Plan, plan_of
from kernels_gpu.pairs import CHUNK, chunk_functions, pair_functions

ARGUMENTS = "pppppp" + "iiii"
UNIT = CHUNK  # weights of a thread: 16 bytes of the result
WIDEST_TABLE = 6  # bits: above, integers are converted, and tables of minifloats meet bank conflicts


@dataclass(frozen=True)
class DequantizeSpec:
    """One compiled kernel.

    Args:
        config: the encoding.
        k: inputs.
        threads: of a block.
        bfloat: the result is bfloat16 rather than float16.
    """

    config: TensorConfig
    k: int
    threads: int
    bfloat: bool = False

    @property
    def plan(self) -> Plan:
        """The encoding as the kernels see it."""
        return plan_of(self.config)

    @property
    def units(self) -> int:
        """Threads of a row."""
        return ceil_div(self.k, UNIT)

    @property
    def converted(self) -> bool:
        """Whether codes are integers that are converted rather than looked up."""
        fmt = self.config.formats[0]
        return isinstance(fmt, IntFormat) and fmt.bits > WIDEST_TABLE

    @property
    def table(self) -> tuple[int, ...]:
        """Bits of the float32 values of all codes of all candidates; empty without lookup."""
        if self.converted or isinstance(self.config.formats[0], LearnedFormat):
            return ()
        values = np.concatenate([np.asarray(f.code_values, np.float32) for f in self.config.formats])
        return tuple(int(bits) for bits in values.view(np.uint32))

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return 4 * max(1, len(self.table))


def make_load_unit(bits: int, words_of_row: int) -> Any:
    """Device function ``(codes, row, unit) -> words``: of each plane, its bits of eight codes in the low bits."""
    widths = plane_widths(bits)
    first, second, third = (*widths, 0, 0)[:3]

    @cuda.jit(device=True)
    def plane(codes, base, quarter, width):
        bit = uint32(quarter * uint32(8 * width))
        word = ptx_tile.stream_words_1(codes, uint32(base + (bit >> uint32(5))))[0]
        return uint32(word >> uint32(bit & uint32(31)))

    if bits == 8:

        @cuda.jit(device=True)
        def load_unit(codes, row, unit):
            pair = ptx_tile.stream_words_2(codes, uint32(row * uint32(words_of_row) + unit * uint32(2)))
            return pair[0], pair[1], uint32(0)
    else:

        @cuda.jit(device=True)
        def load_unit(codes, row, unit):
            base = uint32(row * uint32(words_of_row) + (unit >> uint32(2)) * uint32(bits))
            quarter = uint32(unit & uint32(3))
            b, c = uint32(0), uint32(0)
            a = plane(codes, base, quarter, first)
            if second > 0:
                b = plane(codes, uint32(base + uint32(first)), quarter, second)
            if third > 0:
                c = plane(codes, uint32(base + uint32(first + second)), quarter, third)
            return a, b, c

    return load_unit


def make_code(bits: int) -> Any:
    """Device function ``(words, i) -> code`` i of a unit; i is a constant."""
    first, second, third = (*plane_widths(bits), 0, 0)[:3]

    @cuda.jit(device=True)
    def part(word, i, width):
        return uint32((word >> uint32(i * width)) & uint32((1 << width) - 1))

    if bits == 8:

        @cuda.jit(device=True)
        def code(words, i):
            return part(words[0], i, 8) if i < 4 else part(words[1], i - 4, 8)
    else:

        @cuda.jit(device=True)
        def code(words, i):
            made = part(words[0], i, first)
            if second > 0:
                made = uint32((made << uint32(second)) | part(words[1], i, second))
            if third > 0:
                made = uint32((made << uint32(third)) | part(words[2], i, third))
            return made

    return code


def make_value(spec: DequantizeSpec) -> Any:
    """Device function ``(shared, codebooks, first, code) -> float32``; ``first``: entry of the code 0."""
    fmt = spec.config.formats[0]
    if spec.converted:
        signed = isinstance(fmt, IntFormat) and fmt.signed_codes
        shift, step = 32 - fmt.bits, float(getattr(fmt, "step", 1.0))

        @cuda.jit(device=True)
        def value(shared, codebooks, first, code):
            made = float32(int32(ptx.signed(uint32(code << uint32(shift))) >> shift)) if signed else float32(code)
            return ptx.mul(made, float32(step)) if step != 1.0 else made
    elif isinstance(fmt, LearnedFormat):

        @cuda.jit(device=True)
        def value(shared, codebooks, first, code):
            return ptx.from_half(ptx_tile.load_half(codebooks, uint32(first + code)))
    else:

        @cuda.jit(device=True)
        def value(shared, codebooks, first, code):
            return ptx.bits_float(ptx_tile.shared_1(shared, uint32(first + code)))

    return value


def make_body(spec: DequantizeSpec) -> Callable[..., None]:
    """The kernel of one spec, to be compiled with ``ARGUMENTS``.

    It takes codes, scales, zero points, selectors, outer scales or codebooks, and the result; then units in all,
    threads in all, and words where the lower planes of zero points begin.
    """
    plan, k, threads, units = spec.plan, spec.k, spec.threads, spec.units
    bits, group = plan.bits, plan.group if plan.group else 1 << 30
    groups = 1 if plan.group == 0 else ceil_div(k, plan.group)
    table, table_words = np.array(spec.table or (0,), np.uint32), len(spec.table)
    learned, scaled, outer, outer_by_row = (
        plan.learned,
        plan.scale is not None,
        plan.outer is not None,
        plan.outer_by_row,
    )
    zero_bits, selector_bits = plan.zero_bits, plan.selector_bits
    load_unit, code_of, value_of = make_load_unit(bits, row_words(k, bits)), make_code(bits), make_value(spec)
    scale_of, outer_of = make_stored_scale(plan.scale), make_stored_scale(plan.outer)
    zero_of, selector_of = make_flat_field(zero_bits), make_flat_field(selector_bits)
    pair, store = pair_functions(spec.bfloat).pair, chunk_functions(k, k % UNIT == 0).store

    @cuda.jit(device=True)
    def decode(shared, codebooks, first, code, zero, scale):
        made = value_of(shared, codebooks, first, code)
        if zero_bits > 0:
            made = ptx.sub(made, zero)
        return ptx.mul(made, scale) if scaled else made

    def kernel(codes, scales, zeros, selectors, outers, out, items, all_threads, low_base, lowest_base):
        shared = ptx_tile.shared_words()
        thread = uint32(cuda.threadIdx.x)
        ptx_tile.start()
        if table_words > 0:
            constants = cuda.const.array_like(table)
            for i in range((table_words + threads - 1) // threads):
                entry = uint32(thread + uint32(i * threads))
                if entry < uint32(table_words):
                    ptx_tile.put_1(shared, entry, constants[entry])
        cuda.syncthreads()
        ptx_tile.wait_for_previous()
        item = uint32(uint32(cuda.blockIdx.x) * uint32(threads) + thread)
        while item < uint32(items):
            row = uint32(item // uint32(units))
            unit = uint32(item - row * uint32(units))
            column = uint32(unit * uint32(UNIT))
            words = load_unit(codes, row, unit)
            tile = uint32(row * uint32(groups) + column // uint32(group))
            scale, zero, first = float32(1), float32(0), uint32(0)
            if scaled:
                scale = scale_of(scales, tile)
            if outer:
                scale = ptx.mul(scale, outer_of(outers, row if outer_by_row else uint32(0)))
            if zero_bits > 0:
                zero = float32(zero_of(zeros, tile, uint32(low_base), uint32(lowest_base)))
            if selector_bits > 0:
                first = uint32(selector_of(selectors, tile, uint32(0), uint32(0)) << uint32(bits))
            if learned:
                first = uint32(row << uint32(bits))
            w0 = decode(shared, outers, first, code_of(words, 0), zero, scale)
            w1 = decode(shared, outers, first, code_of(words, 1), zero, scale)
            w2 = decode(shared, outers, first, code_of(words, 2), zero, scale)
            w3 = decode(shared, outers, first, code_of(words, 3), zero, scale)
            w4 = decode(shared, outers, first, code_of(words, 4), zero, scale)
            w5 = decode(shared, outers, first, code_of(words, 5), zero, scale)
            w6 = decode(shared, outers, first, code_of(words, 6), zero, scale)
            w7 = decode(shared, outers, first, code_of(words, 7), zero, scale)
            store(out, row, unit, pair(w0, w1), pair(w2, w3), pair(w4, w5), pair(w6, w7))
            item = uint32(item + uint32(all_threads))

    return kernel
