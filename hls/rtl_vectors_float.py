"""Stimulus and expected outputs of RTL modules that round: float MACs, MX and NVFP4 blocks.

The accumulator is followed by exact integer arithmetic, one rounding for each addition, so that every bit of every
result is known; nothing here uses floating point.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from datatypes.catalog import E8M0, FP4, FP16, MX_INT8, NF4, UE4M3, format_by_name
from datatypes.format import FloatFormat, Format
from hls.rtl_design import Design
from hls.rtl_simulation import bits_of, lanes_of
from hls.rtl_vectors import (
    Vectors,
    flag,
    float_parts,
    formats_of,
    parameter,
    random_codes,
    random_restarts,
    steps_of,
)

BLOCKS = 4  # of a block dot product, one after the other


def round_float(
    numerator: int, exponent: int, exponent_bits: int, mantissa_bits: int, *, reserved_top: bool = True
) -> int:
    """Code of the float nearest to ``numerator * 2**exponent`` smallest steps, ties to even, saturating.

    Args:
        numerator: any integer.
        exponent: power of two, counted from the float's smallest subnormal.
        reserved_top: the top exponent field is not used (IEEE 754's infinities and NaNs).

    >>> hex(round_float(3, 23, 5, 10)), hex(FP16.encode_scalar(1.5))  # 3 * 2**23 steps of 2**-24
    ('0x3e00', '0x3e00')
    """
    magnitude = abs(numerator)
    leading = magnitude.bit_length() - 1 + exponent
    last = max(0, leading - mantissa_bits)  # place of the result's last bit
    drop = last - exponent
    if drop <= 0:
        significand = magnitude << -drop
    else:
        significand, rest = magnitude >> drop, magnitude & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        significand += int(rest > half or (rest == half and significand & 1 == 1))
    if significand >> (mantissa_bits + 1):
        significand, last = significand >> 1, last + 1
    field = last + 1 if significand >> mantissa_bits else 0
    top = (1 << exponent_bits) - (2 if reserved_top else 1)
    code = (field << mantissa_bits) | (significand & ((1 << mantissa_bits) - 1))
    if field > top:
        code = ((top + 1) << mantissa_bits) - 1
    return code | (int(numerator < 0) << (exponent_bits + mantissa_bits))


def accumulated(addends: np.ndarray, exponents: np.ndarray, restart: np.ndarray, widths: tuple[int, int]) -> np.ndarray:
    """Accumulator codes after each cycle: one rounding of accumulator + addend * 2**exponent steps.

    Args:
        addends, exponents: integers ``[cycles, cases]``; exponents count from the accumulator's smallest subnormal.
        restart: bool ``[cycles, cases]``.
        widths: exponent and mantissa bits of the accumulator.
    """
    cycles, cases = addends.shape
    codes = np.zeros((cycles, cases), dtype=object)
    sign_bit = 1 << sum(widths)
    for case in range(cases):
        code = 0
        for cycle in range(cycles):
            code = 0 if restart[cycle, case] else code
            significand, shift = (int(part) for part in float_parts(np.array(code), *widths))
            held = (significand << shift) * (-1 if code & sign_bit else 1)
            place = int(exponents[cycle, case])
            lowest = min(place, 0)
            total = (held << -lowest) + (int(addends[cycle, case]) << (place - lowest))
            code = round_float(total, lowest, *widths)
            codes[cycle, case] = code
    return codes


def smallest_step(fmt: Format) -> int:
    """Power of two of the smallest positive value."""
    smallest = Fraction(float(min(v for v in fmt.code_values if v > 0)))
    power = smallest.numerator.bit_length() - smallest.denominator.bit_length()
    assert smallest == Fraction(2) ** power
    return power


def accumulator_widths(design: Design) -> tuple[int, int]:
    """Exponent and mantissa bits; FP32 unless stated."""
    return parameter(design, "ACCUMULATOR_EXPONENT_BITS", 8), parameter(design, "ACCUMULATOR_MANTISSA_BITS", 23)


def lowest_place(widths: tuple[int, int]) -> int:
    """Power of two of the accumulator's smallest subnormal: 1 - bias - mantissa_bits."""
    return 2 - (1 << (widths[0] - 1)) - widths[1]


def finite(codes: np.ndarray, fmt: Format) -> np.ndarray:
    """Codes whose infinities and NaNs are replaced: the top exponent bit cleared."""
    if not isinstance(fmt, FloatFormat) or np.isfinite(fmt.code_values).all():
        return codes
    return np.where(np.isfinite(fmt.code_values)[codes], codes, codes & ~(1 << (fmt.bits - 2)))


def float_mac(design: Design, rng: np.random.Generator) -> Vectors:
    """Products of two floats, or of an integer and a float."""
    weight, activation = formats_of(design)
    w, a = (codes[..., 0] for codes in random_codes(rng, weight.bits, activation.bits, 1))
    w, a = finite(w[:, :4096], weight), finite(a[:, :4096], activation)
    near = w.shape[1] // 2  # half of the cases repeat the pair before, half of these negated: sums that cancel
    flip = (rng.random((len(a), near)) < 0.5) * (1 << (activation.bits - 1))
    w[2::2, :near], a[2::2, :near] = w[1:-1:2, :near], (a[1:-1:2, :near] ^ flip[2::2])
    restart = random_restarts(rng, w.shape)
    widths = accumulator_widths(design)
    addends = steps_of(weight)[w] * steps_of(activation)[a]
    places = np.full(w.shape, smallest_step(weight) + smallest_step(activation) - lowest_place(widths))
    stimulus = {"weight": bits_of(w, weight.bits), "activation": bits_of(a, activation.bits), "clear": flag(restart)}
    return Vectors(stimulus, {"accumulator": accumulated(addends, places, restart, widths)}, signed=False)


def codebook_float_mac(design: Design, rng: np.random.Generator) -> Vectors:
    """FP16 entries: NF4, or a table written first."""
    programmable = parameter(design, "PROGRAMMABLE")
    entries = NF4.code_values.astype(np.float16)
    if programmable:
        entries = rng.normal(size=16).astype(np.float16)
    entry_codes = entries.view(np.uint16).astype(np.int64)
    first = 16 if programmable else 0
    w, a = (codes[..., 0] for codes in random_codes(rng, 4, 16, 1, cycles=first + 5))
    a = finite(a, FP16)
    restart = random_restarts(rng, w.shape)
    restart[first] = True
    widths = accumulator_widths(design)
    addends = steps_of(FP16)[entry_codes[w]] * steps_of(FP16)[a]
    places = np.full(w.shape, 2 * smallest_step(FP16) - lowest_place(widths))
    cycles = np.broadcast_to(np.arange(len(w))[:, None], w.shape)
    written = np.minimum(cycles, 15)
    stimulus = {
        "weight": bits_of(w, 4),
        "activation": bits_of(a, 16),
        "clear": flag(restart),
        "write": flag(cycles < first),
        "write_code": bits_of(written, 4),
        "write_entry": bits_of(entry_codes[written], 16),
    }
    expected = accumulated(addends[first:], places[first:], restart[first:], widths)
    padded = np.concatenate([np.zeros((first, w.shape[1]), dtype=object), expected])
    return Vectors(stimulus, {"accumulator": padded}, signed=False, compared=cycles >= first)


def block_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """MX and NVFP4: block sums times both scales, added once a block."""
    nvfp4 = design.module == "nvfp4_block_dot"
    element = FP4 if nvfp4 else format_by_name(design.weight_format)
    scale = UE4M3 if nvfp4 else E8M0
    lanes, block = design.lanes, 16 if nvfp4 else parameter(design, "BLOCK", 32)
    steps = block // lanes
    cycles = BLOCKS * steps
    w, a = random_codes(rng, element.bits, element.bits, lanes, cycles=cycles)
    if element is MX_INT8:  # the reserved most negative code is not sent
        w, a = (np.where(codes == 128, 129, codes) for codes in (w, a))
    cases = w.shape[1]
    used = np.flatnonzero(np.isfinite(scale.code_values))
    if not nvfp4:  # around 1.0, where sums meet, and a few extremes
        used = np.concatenate([np.arange(120, 135), used[::40]])
    scales = rng.choice(used, (2, cycles, cases))
    places = np.broadcast_to(np.arange(cycles)[:, None], (cycles, cases))
    first, last = places % steps == 0, places % steps == steps - 1
    restart = np.repeat(random_restarts(rng, (BLOCKS, cases)), steps, axis=0)
    products = (steps_of(element)[w] * steps_of(element)[a]).sum(axis=2)
    sums = products.reshape(BLOCKS, steps, cases).sum(axis=1)
    widths = accumulator_widths(design)
    in_last = scales.reshape(2, BLOCKS, steps, cases)[:, :, -1]
    unit = 2 * smallest_step(element) - lowest_place(widths)
    if nvfp4:
        significands, shifts = float_parts(in_last, 4, 3)
        addends, exponents = sums * significands.prod(axis=0), unit + shifts.sum(axis=0) + 2 * smallest_step(UE4M3)
    else:
        addends, exponents = sums, unit + in_last.sum(axis=0) - 2 * E8M0.bias
    codes = accumulated(addends, exponents, restart[::steps], widths)
    scale_bits = 7 if nvfp4 else 8
    stimulus = {
        "weight": lanes_of(w, element.bits),
        "activation": lanes_of(a, element.bits),
        "weight_scale": bits_of(scales[0], scale_bits),
        "activation_scale": bits_of(scales[1], scale_bits),
        "first": flag(first),
        "last": flag(last),
        "clear": flag(restart),
    }
    return Vectors(stimulus, {"accumulator": np.repeat(codes, steps, axis=0)}, signed=False, compared=last)
