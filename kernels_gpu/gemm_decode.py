"""Device functions of the GEMM: a block of 32 codes to sixteen words of two halves, in order, scaled.

Bytes come from the decoders of the GEMV (``gemv_decode``, ``gemv_planes``): one signed or unsigned byte a weight, two
where tables have sixteen entries (t and u) or values have two digits. A byte becomes a half by two instructions for two
weights: a permutation that spreads them, and ``(bytes & 0x00FF00FF) ^ 0x6480`` that makes ``1024 + 128 + byte`` (0x6400
and 1024 for unsigned ones), whose last place is one. One ``fma`` takes the constant and the zero point off and
multiplies by the value of a unit, a power of two:

    one byte          v = magic * step - (bias + zero) * step                                exact
    t and u           v = magic(t) * step + (magic(u) * step - 2 * bias * step)               exact
    two digits        v = high * 254 * 2**-15 + low * 2**-15                                 rounded once

and a product with the group's scale (FP16, or 8 bits, which halves hold exactly) rounds. So weights with FP16 scales
and one digit are ``QuantizedTensor.dequantize`` rounded to half precision once, bit for bit. Second-level scales
multiply sums at the end, in float32. Scales of E8M0 reach beyond halves: they are two factors of about half the
exponent each. E2M1 and NF4 are decoded otherwise: ``gemm_signed``, ``gemm_halves``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda, float32, uint32

from kernels_gpu import ptx
from kernels_gpu.gemm_ptx import and_xor, both_halves, fma_halves, multiply_halves, pair_of
from kernels_gpu.gemv_decode import make_registers
from kernels_gpu.gemv_halves import make_pairs
from kernels_gpu.gemv_plan import DIGIT_BASE, Plan, ScaleKind

TWO_DIGIT_UNITS = 2.0**15  # digits' values are divided by it, so that they are halves below one
MAGIC_SIGNED, MAGIC_UNSIGNED = 0x64806480, 0x64006400  # halves of 1024, the sign bit of a byte turned over
LOW_BYTES = 0x00FF00FF
LARGEST_POWER = 2.0**15  # of a half
EXACT_SCALES = (
    ScaleKind.FP16,
    ScaleKind.UINT8,
    ScaleKind.E8M0,
    ScaleKind.UE4M3,
)  # in half precision, in one factor or two


def tile_kernel_obstacle(plan: Plan) -> str | None:
    """Why an encoding has no tile kernel; ``None`` where it has one."""
    if plan.learned:
        return "learned codebooks"
    if plan.scale not in EXACT_SCALES:
        return f"scales of {'none' if plan.scale is None else plan.scale.name}"
    return None


def result_factor(plan: Plan) -> float:
    """What multiplies every result in the end, beside second-level scales."""
    return plan.step * TWO_DIGIT_UNITS if plan.digits == 2 else 1.0


def make_in_order(plan: Plan) -> Any:
    """Device function ``(registers) -> sixteen words``: halves of 1024 plus bytes, codes 0 and 1, 2 and 3 and so on."""
    even_odd, magic = plan.even_odd, MAGIC_SIGNED if plan.signed else MAGIC_UNSIGNED

    @cuda.jit(device=True)
    def spread(a, b, selector):
        return and_xor(ptx.pick_bytes(a, b, uint32(selector)), uint32(LOW_BYTES), uint32(magic))

    if even_odd:

        @cuda.jit(device=True)
        def eight(a, b):
            return spread(a, b, 0x4400), spread(a, b, 0x5511), spread(a, b, 0x6622), spread(a, b, 0x7733)
    else:

        @cuda.jit(device=True)
        def eight(a, b):
            return spread(a, a, 0x1100), spread(a, a, 0x3322), spread(b, b, 0x1100), spread(b, b, 0x3322)

    @cuda.jit(device=True)
    def in_order(r):
        return eight(r[0], r[1]) + eight(r[2], r[3]) + eight(r[4], r[5]) + eight(r[6], r[7])

    return in_order


def _each(function: Callable[..., Any], arguments: int) -> Any:
    """Device function that applies one of ``arguments`` words and one more to each of sixteen words."""
    if arguments == 1:

        @cuda.jit(device=True)
        def each(a, c):
            return (
                function(a[0], c), function(a[1], c), function(a[2], c), function(a[3], c),
                function(a[4], c), function(a[5], c), function(a[6], c), function(a[7], c),
                function(a[8], c), function(a[9], c), function(a[10], c), function(a[11], c),
                function(a[12], c), function(a[13], c), function(a[14], c), function(a[15], c),
            )  # fmt: skip

        return each

    @cuda.jit(device=True)
    def each_pair(a, b, c):
        return (
            function(a[0], b[0], c), function(a[1], b[1], c), function(a[2], b[2], c), function(a[3], b[3], c),
            function(a[4], b[4], c), function(a[5], b[5], c), function(a[6], b[6], c), function(a[7], b[7], c),
            function(a[8], b[8], c), function(a[9], b[9], c), function(a[10], b[10], c), function(a[11], b[11], c),
            function(a[12], b[12], c), function(a[13], b[13], c), function(a[14], b[14], c), function(a[15], b[15], c),
        )  # fmt: skip

    return each_pair


def make_values(plan: Plan) -> Any:
    """Device function ``(words, tables, zero) -> sixteen words`` of a block's values, without their scale.

    ``zero`` is a float32, in units of codes.
    """
    if plan.halves:
        return _make_float_values(plan)
    bias = 1152.0 if plan.signed else 1024.0
    step = plan.step if plan.digits == 1 else 1 / TWO_DIGIT_UNITS
    registers = [make_registers(plan, index, shifts=True) for index in range(plan.sets)]  # timed so: NOTES.md
    first, second = registers[0], registers[min(1, plan.sets - 1)]
    third, fourth = registers[min(2, plan.sets - 1)], registers[min(3, plan.sets - 1)]
    in_order = make_in_order(plan)
    step_pair, zero_step = pair_of(step), float(plan.zero_step)
    one, minus_bias, minus_bias_step = pair_of(1.0), pair_of(-bias), pair_of(-bias * step)
    minus_two, minus_two_step = pair_of(-2 * bias), pair_of(-2 * bias * step)
    high_step, has_zero = pair_of(DIGIT_BASE / TWO_DIGIT_UNITS) if plan.digits == 2 else 0, plan.zero_bits > 0

    @cuda.jit(device=True)
    def less_constant(a, constant):
        return fma_halves(a, uint32(step_pair), constant)

    @cuda.jit(device=True)
    def both(t, u, unused):
        return fma_halves(t, uint32(step_pair), fma_halves(u, uint32(step_pair), uint32(minus_two_step)))

    @cuda.jit(device=True)
    def joined(high, low, unused):
        return fma_halves(fma_halves(high, uint32(one), uint32(minus_bias)), uint32(high_step), low)

    @cuda.jit(device=True)
    def joined_sides(high, low, unused):
        return fma_halves(high, uint32(high_step), low)

    @cuda.jit(device=True)
    def whole_both(t, u, unused):
        return fma_halves(t, uint32(one), fma_halves(u, uint32(one), uint32(minus_two)))

    each, each_pair = _each(less_constant, 1), _each(both, 2)
    each_joined, each_joined_sides = _each(joined, 2), _each(joined_sides, 2)
    each_whole = _each(whole_both, 2)
    if plan.sets == 1:

        @cuda.jit(device=True)
        def values(words, tables, zero):
            constant = uint32(minus_bias_step)
            if has_zero:
                off = ptx.fma(zero, float32(zero_step), float32(bias))
                constant = both_halves(ptx.mul(off, float32(-step)))
            return each(in_order(first(words, tables)), constant)
    elif plan.digits == 1:

        @cuda.jit(device=True)
        def values(words, tables, zero):
            return each_pair(in_order(first(words, tables)), in_order(second(words, tables)), uint32(0))
    elif plan.sets == 2:

        @cuda.jit(device=True)
        def values(words, tables, zero):
            low = each(in_order(second(words, tables)), uint32(minus_bias_step))
            return each_joined(in_order(first(words, tables)), low, uint32(0))
    else:

        @cuda.jit(device=True)
        def values(words, tables, zero):
            high = each_whole(in_order(first(words, tables)), in_order(second(words, tables)), uint32(0))
            low = each_pair(in_order(third(words, tables)), in_order(fourth(words, tables)), uint32(0))
            return each_joined_sides(high, low, uint32(0))

    return values


def _make_float_values(plan: Plan) -> Any:
    """The same for floats of 5 to 8 bits: halves of the GEMV's decoder, put in order."""
    pairs, even_odd, step, scaled = make_pairs(plan), plan.even_odd, pair_of(plan.step), plan.step != 1.0

    @cuda.jit(device=True)
    def ordered(a, b, c, d):
        """Codes 0 and 2, 4 and 6, 1 and 3, 5 and 7."""
        lower, upper = uint32(0x5410), uint32(0x7632)
        return (
            ptx.pick_bytes(a, c, lower), ptx.pick_bytes(a, c, upper),
            ptx.pick_bytes(b, d, lower), ptx.pick_bytes(b, d, upper),
        )  # fmt: skip

    @cuda.jit(device=True)
    def value(a, unused):
        return multiply_halves(a, uint32(step))

    each = _each(value, 1)

    @cuda.jit(device=True)
    def values(words, tables, zero):
        p = pairs(words)
        if even_odd:
            q = (
                ordered(p[0], p[1], p[2], p[3]) + ordered(p[4], p[5], p[6], p[7])
                + ordered(p[8], p[9], p[10], p[11]) + ordered(p[12], p[13], p[14], p[15])
            )  # fmt: skip
        else:
            q = p
        return each(q, uint32(0)) if scaled else q

    return values


def make_scaled(plan: Plan) -> Any:
    """Device function ``(values, first, second) -> sixteen words`` times the scales of both halves of a block."""
    two_factors, halves_differ = plan.scale is ScaleKind.E8M0, plan.group == 16

    @cuda.jit(device=True)
    def times(a, f, s):
        return (
            multiply_halves(a[0], f), multiply_halves(a[1], f), multiply_halves(a[2], f), multiply_halves(a[3], f),
            multiply_halves(a[4], f), multiply_halves(a[5], f), multiply_halves(a[6], f), multiply_halves(a[7], f),
            multiply_halves(a[8], s), multiply_halves(a[9], s), multiply_halves(a[10], s), multiply_halves(a[11], s),
            multiply_halves(a[12], s), multiply_halves(a[13], s), multiply_halves(a[14], s), multiply_halves(a[15], s),
        )  # fmt: skip

    @cuda.jit(device=True)
    def limited(exponent, scale):
        """2**exponent of a biased exponent, no larger than a half can be; NaN where the scale is."""
        power = ptx.minimum(ptx.bits_float(uint32(exponent << uint32(23))), float32(LARGEST_POWER))
        return both_halves(ptx.add(power, ptx.sub(scale, scale)))

    @cuda.jit(device=True)
    def factors(scale):
        """Two powers of two whose product is the scale, each with about half its exponent."""
        exponent = uint32(ptx.float_bits(scale) >> uint32(23))
        one = uint32((exponent + uint32(127)) >> uint32(1))
        return limited(one, scale), limited(uint32(exponent + uint32(127) - one), scale)

    @cuda.jit(device=True)
    def scaled(a, first, second):
        if two_factors:
            f0, f1 = factors(first)
            s0, s1 = f0, f1
            if halves_differ:
                s0, s1 = factors(second)
            return times(times(a, f0, s0), f1, s1)
        f = both_halves(first)
        s = f
        if halves_differ:
            s = both_halves(second)
        return times(a, f, s)

    return scaled
