"""Compiled inner loops for matrices whose groups run along rows: largest magnitude, squared error, encode, decode.

Plain loops over float32 that LLVM turns into vector code (numba widens int32 arithmetic to int64, so bits of numbers
are kept in int32 buffers between short loops). No fast-math where numbers are rounded: every element takes the same
single roundings as the torch code, and squares are summed in the order of ``datatypes.scale.sum_tiles`` (padded to a
power of two, upper half added to the lower half). Kernels take a range of rows and release the interpreter;
``datatypes.row_threads`` runs the ranges on a thread pool. What the arguments mean for a config is
``datatypes.quantize_cpu``'s. All stay in one file: numba's cache of a kernel does not see a change in another file.

Common arguments: ``x`` float32 ``[n, k]``, ``group`` elements in a group (the last of a row may be shorter), ``scale``
float32 ``[S, n, g]`` for ``S`` trials, ``error`` float32 ``[S, n, g]`` out, ``start`` and ``stop`` rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MAX_THRESHOLDS = 15  # tables of up to 16 levels are compared level by level
ROUNDER = np.float32(1.5 * 2**23)  # added and taken away, it rounds magnitudes up to 2**22 to even integers

jit = njit(nogil=True, cache=True, error_model="numpy")
# as a call, LLVM no longer sees that buffers do not overlap: minifloat errors took 1.4 times as long
jit_inline = njit(nogil=True, error_model="numpy", inline="always")
# extremes of finite numbers are exact in any order; without NaN and signed zeros the loops become vector maxima
jit_extremes = njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz"})


@jit
def row_not_finite(x, found, start, stop):  # type: ignore[no-untyped-def]
    """Whether each row holds NaN or infinity, uint8 ``[n]``."""
    limit = np.float32(np.finfo(np.float32).max)
    for row in range(start, stop):
        part = x[row]
        bad = np.uint8(0)
        for i in range(len(part)):
            bad |= np.uint8(not abs(part[i]) <= limit)
        found[row] = bad


@jit_extremes
def row_absmax(x, group, absmax, start, stop):  # type: ignore[no-untyped-def]
    """Largest magnitude of each group, float32 ``[n, g]``."""
    k = x.shape[1]
    for row in range(start, stop):
        for g in range(absmax.shape[1]):
            part = x[row, g * group : min((g + 1) * group, k)]
            best = np.float32(0)
            for i in range(len(part)):
                value = abs(part[i])
                best = value if value > best else best
            absmax[row, g] = best


@jit_extremes
def row_range(x, group, low, high, start, stop):  # type: ignore[no-untyped-def]
    """Smallest and largest value of each group, float32 ``[n, g]``."""
    k = x.shape[1]
    for row in range(start, stop):
        for g in range(low.shape[1]):
            part = x[row, g * group : min((g + 1) * group, k)]
            smallest, largest = part[0], part[0]
            for i in range(len(part)):
                smallest = part[i] if part[i] < smallest else smallest
                largest = part[i] if part[i] > largest else largest
            low[row, g] = smallest
            high[row, g] = largest


@jit
def _halved_sum(terms, width):  # type: ignore[no-untyped-def]
    """Sum of ``terms[:width]``, width a power of two, in the order of ``sum_tiles``; the terms are used up."""
    while width > 16:
        width //= 2
        for i in range(width):
            terms[i] += terms[i + width]
    if width == 16:  # fixed counts, so that these become single vector additions
        for i in range(8):
            terms[i] += terms[i + 8]
        for i in range(4):
            terms[i] += terms[i + 4]
        return (terms[0] + terms[2]) + (terms[1] + terms[3])
    while width > 1:
        width //= 2
        for i in range(width):
            terms[i] += terms[i + width]
    return terms[0]


@jit
def _power_at_least(size):  # type: ignore[no-untyped-def]
    width = 1
    while width < size:
        width *= 2
    return width


@jit
def table_error(x, group, scale, table, thresholds, levels, error, start, stop):  # type: ignore[no-untyped-def]
    """Squared error with formats of up to 16 levels; trial ``s`` uses row ``table[s]`` of thresholds and levels."""
    k = x.shape[1]
    width = _power_at_least(group)
    terms = np.zeros(width, np.float32)
    for row in range(start, stop):
        for g in range(scale.shape[2]):
            part = x[row, g * group : min((g + 1) * group, k)]
            for s in range(scale.shape[0]):
                step = scale[s, row, g]
                t, v = thresholds[table[s]], levels[table[s]]
                t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
                t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
                v0, v1, v2, v3, v4, v5, v6, v7 = v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]
                v8, v9, v10, v11, v12, v13, v14, v15 = v[8], v[9], v[10], v[11], v[12], v[13], v[14], v[15]
                for i in range(len(part)):
                    y = part[i] / step
                    q = v1 if y >= t0 else v0
                    q = v2 if y >= t1 else q
                    q = v3 if y >= t2 else q
                    q = v4 if y >= t3 else q
                    q = v5 if y >= t4 else q
                    q = v6 if y >= t5 else q
                    q = v7 if y >= t6 else q
                    q = v8 if y >= t7 else q
                    q = v9 if y >= t8 else q
                    q = v10 if y >= t9 else q
                    q = v11 if y >= t10 else q
                    q = v12 if y >= t11 else q
                    q = v13 if y >= t12 else q
                    q = v14 if y >= t13 else q
                    q = v15 if y >= t14 else q
                    d = q * step - part[i]
                    terms[i] = d * d
                terms[len(part) :] = 0.0
                error[s, row, g] = _halved_sum(terms, width)


@jit
def special_error(x, group, scale, bounds, levels, sign_step, low, high, special, error, start, stop):  # type: ignore[no-untyped-def]
    """Squared error with formats that share a symmetric grid and have one special value each (BitMoD).

    Trial ``s`` has two candidates, ``2 s`` and ``2 s + 1``; the grid is looked up once for both.

    Args:
        bounds: float32 ``[7]``: a positive number belongs to ``levels[i + 1]`` or above from ``bounds[i]`` on; of a
            negative one the magnitude, its bits raised by ``sign_step``, is compared (that is what ties ask).
        levels: float32 ``[8]`` magnitudes, ascending.
        low, high, special: float32 ``[2 S]``: numbers from ``low`` to below ``high`` (NaN: no limit) go to ``special``.
        error: float32 ``[2 S, n, g]`` out.
    """
    k = x.shape[1]
    width = _power_at_least(group)
    first_terms, second_terms = np.zeros(width, np.float32), np.zeros(width, np.float32)
    ratios, magnitudes = np.empty(width, np.float32), np.empty(width, np.float32)
    ratio_bits, raised = ratios.view(np.int32), magnitudes.view(np.int32)  # written as bits, read as numbers
    b0, b1, b2, b3, b4, b5, b6 = bounds[0], bounds[1], bounds[2], bounds[3], bounds[4], bounds[5], bounds[6]
    v0, v1, v2, v3, v4, v5, v6, v7 = (
        levels[0], levels[1], levels[2], levels[3], levels[4], levels[5], levels[6], levels[7],
    )  # fmt: skip
    for row in range(start, stop):
        for g in range(scale.shape[2]):
            part = x[row, g * group : min((g + 1) * group, k)]
            for s in range(scale.shape[0]):
                step = scale[s, row, g]
                for i in range(len(part)):
                    ratios[i] = part[i] / step
                for i in range(len(part)):
                    bits = ratio_bits[i]
                    raised[i] = (bits & np.int32(0x7FFFFFFF)) + (sign_step & (bits >> np.int32(31)))
                low0, high0, special0 = low[2 * s], high[2 * s], special[2 * s] * step
                low1, high1, special1 = low[2 * s + 1], high[2 * s + 1], special[2 * s + 1] * step
                for i in range(len(part)):
                    a = magnitudes[i]
                    q = v1 if a >= b0 else v0
                    q = v2 if a >= b1 else q
                    q = v3 if a >= b2 else q
                    q = v4 if a >= b3 else q
                    q = v5 if a >= b4 else q
                    q = v6 if a >= b5 else q
                    q = v7 if a >= b6 else q
                    d = q * step - abs(part[i])
                    y = ratios[i]
                    d0, d1 = special0 - part[i], special1 - part[i]
                    d0 = d0 if (y >= low0) & (not y >= high0) else d  # "not", for the bound that no number reaches
                    d1 = d1 if (y >= low1) & (not y >= high1) else d
                    first_terms[i] = d0 * d0
                    second_terms[i] = d1 * d1
                first_terms[len(part) :] = 0.0
                second_terms[len(part) :] = 0.0
                error[2 * s, row, g] = _halved_sum(first_terms, width)
                error[2 * s + 1, row, g] = _halved_sum(second_terms, width)


@jit
def table_encode(x, group, scale, choice, thresholds, codes, negative_zero, out, start, stop):  # type: ignore[no-untyped-def]
    """Codes uint8 ``[n, k]`` with formats of up to 16 levels, row ``choice[row, g]`` of the tables for each group.

    ``negative_zero`` int32 for each table: the zero of negative numbers, or -1.
    """
    k = x.shape[1]
    for row in range(start, stop):
        for g in range(scale.shape[1]):
            first, last = g * group, min((g + 1) * group, k)
            part, to = x[row, first:last], out[row, first:last]
            step = scale[row, g]
            which = choice[row, g]
            t, c = thresholds[which], codes[which]
            t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
            t8, t9, t10, t11, t12, t13, t14 = t[8], t[9], t[10], t[11], t[12], t[13], t[14]
            c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
            c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
            for i in range(len(part)):
                y = part[i] / step
                q = c1 if y >= t0 else c0
                q = c2 if y >= t1 else q
                q = c3 if y >= t2 else q
                q = c4 if y >= t3 else q
                q = c5 if y >= t4 else q
                q = c6 if y >= t5 else q
                q = c7 if y >= t6 else q
                q = c8 if y >= t7 else q
                q = c9 if y >= t8 else q
                q = c10 if y >= t9 else q
                q = c11 if y >= t10 else q
                q = c12 if y >= t11 else q
                q = c13 if y >= t12 else q
                q = c14 if y >= t13 else q
                q = c15 if y >= t14 else q
                to[i] = q
            if negative_zero[which] >= 0:
                minus = part.view(np.int32)
                for i in range(len(part)):
                    if to[i] == 0 and minus[i] < 0:
                        to[i] = negative_zero[which]


@jit_inline
def _to_integer(y, low, high):  # type: ignore[no-untyped-def]
    """``y`` between ``low`` and ``high``, rounded to even."""
    y = low if y < low else y
    y = high if y > high else y
    return (y + ROUNDER) - ROUNDER


@jit
def integer_error(x, group, scale, zero, offset, lowest, highest, unit, per_unit, error, start, stop):  # type: ignore[no-untyped-def]
    """Squared error with integers ``lowest`` to ``highest`` of ``unit`` each; ``per_unit`` is 1 / unit, a power of two.

    ``zero`` (integer zero points) and ``offset`` (real ones) float32 ``[S, n, g]``, zeros where there are none.
    """
    k = x.shape[1]
    width = _power_at_least(group)
    terms = np.zeros(width, np.float32)
    for row in range(start, stop):
        for g in range(scale.shape[2]):
            part = x[row, g * group : min((g + 1) * group, k)]
            for s in range(scale.shape[0]):
                step, add = scale[s, row, g], offset[s, row, g]
                low, high = lowest - zero[s, row, g], highest - zero[s, row, g]
                for i in range(len(part)):
                    q = _to_integer((part[i] - add) / step * per_unit, low, high)
                    d = (q * unit * step + add) - part[i]
                    terms[i] = d * d
                terms[len(part) :] = 0.0
                error[s, row, g] = _halved_sum(terms, width)


@jit
def integer_encode(x, group, scale, zero, offset, lowest, highest, per_unit, mask, out, start, stop):  # type: ignore[no-untyped-def]
    """Codes uint8 ``[n, k]``: two's complement in the bits of ``mask``; ``scale``, ``zero``, ``offset`` ``[n, g]``."""
    k = x.shape[1]
    for row in range(start, stop):
        for g in range(scale.shape[1]):
            first, last = g * group, min((g + 1) * group, k)
            part, to = x[row, first:last], out[row, first:last]
            step, add, shift = scale[row, g], offset[row, g], zero[row, g]
            low, high = lowest - shift, highest - shift
            for i in range(len(part)):
                q = _to_integer((part[i] - add) / step * per_unit, low, high)
                to[i] = np.int32(q + shift) & mask


@jit_inline
def _scaled_magnitudes(part, step, maximum, lowest_field, rounder_field, ratios, rounders):  # type: ignore[no-untyped-def]
    """|part / step|, at most ``maximum``, into ``ratios``; into ``rounders`` what rounds each by being added."""
    ratio_bits, rounder_bits = ratios.view(np.int32), rounders.view(np.int32)
    for i in range(len(part)):
        y = abs(part[i] / step)
        ratios[i] = maximum if y > maximum else y
    for i in range(len(part)):
        exponent = ratio_bits[i] & np.int32(0x7F800000)
        rounder_bits[i] = max(exponent, lowest_field) + rounder_field


@jit
def float_error(x, group, scale, maximum, lowest_field, rounder_field, error, start, stop):  # type: ignore[no-untyped-def]
    """Squared error with a minifloat: magnitudes are rounded to even by adding and taking away a power of two.

    Args:
        maximum: largest value.
        lowest_field: exponent field, in place, of the float32 equal to the smallest normal value.
        rounder_field: what added to a number's exponent field gives 1.5 * 2**(exponent + 23 - mantissa_bits).
    """
    k = x.shape[1]
    width = _power_at_least(group)
    terms, ratios, rounders = np.zeros(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for row in range(start, stop):
        for g in range(scale.shape[2]):
            part = x[row, g * group : min((g + 1) * group, k)]
            for s in range(scale.shape[0]):
                step = scale[s, row, g]
                _scaled_magnitudes(part, step, maximum, lowest_field, rounder_field, ratios, rounders)
                for i in range(len(part)):
                    q = (ratios[i] + rounders[i]) - rounders[i]
                    d = q * step - abs(part[i])
                    terms[i] = d * d
                terms[len(part) :] = 0.0
                error[s, row, g] = _halved_sum(terms, width)


@jit
def float_encode(  # type: ignore[no-untyped-def]
    x, group, scale, maximum, lowest_field, rounder_field, mantissa_bits, bits, units, signed_zero, out, start, stop
):
    """Codes uint8 ``[n, k]`` of a minifloat with sign.

    ``units`` is 1 over the smallest subnormal, whose multiples are their own codes; ``signed_zero`` is false where -0
    has no code.
    """
    k = x.shape[1]
    ratios, rounders = np.empty(group, np.float32), np.empty(group, np.float32)
    ratio_bits = ratios.view(np.int32)
    drop = np.int32(23 - mantissa_bits)
    smallest_normal_code = np.int32(1 << mantissa_bits)
    rebias = (lowest_field >> drop) - smallest_normal_code
    for row in range(start, stop):
        for g in range(scale.shape[1]):
            first, last = g * group, min((g + 1) * group, k)
            part, to = x[row, first:last], out[row, first:last]
            sign_bits = part.view(np.int32)
            step = scale[row, g]
            _scaled_magnitudes(part, step, maximum, lowest_field, rounder_field, ratios, rounders)
            for i in range(len(part)):
                ratios[i] = (ratios[i] + rounders[i]) - rounders[i]
            for i in range(len(part)):
                normal = (ratio_bits[i] >> drop) - rebias
                subnormal = np.int32(ratios[i] * units)
                code = normal if ratio_bits[i] >= lowest_field else subnormal
                sign = (sign_bits[i] >> np.int32(31)) & np.int32(1)
                sign = sign if signed_zero or code > 0 else 0
                to[i] = code | (sign << (bits - 1))


@jit
def decode_rows(codes, group, scale, choice, tables, out, start, stop):  # type: ignore[no-untyped-def]
    """``tables[choice, code] * scale`` as float32 ``[n, k]``; ``choice`` and ``scale`` ``[n, g]``."""
    k = out.shape[1]
    for row in range(start, stop):
        for g in range(scale.shape[1]):
            first, last = g * group, min((g + 1) * group, k)
            part, to = codes[row, first:last], out[row, first:last]
            table, step = tables[choice[row, g]], scale[row, g]
            for i in range(len(part)):
                to[i] = table[part[i]] * step


@jit
def decode_rows_zero(codes, group, scale, zero, table, out, start, stop):  # type: ignore[no-untyped-def]
    """``(table[code] - zero) * scale`` as float32 ``[n, k]``."""
    k = out.shape[1]
    for row in range(start, stop):
        for g in range(scale.shape[1]):
            first, last = g * group, min((g + 1) * group, k)
            part, to = codes[row, first:last], out[row, first:last]
            step, shift = scale[row, g], zero[row, g]
            for i in range(len(part)):
                to[i] = (table[part[i]] - shift) * step
