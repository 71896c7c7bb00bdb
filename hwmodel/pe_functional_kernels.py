"""Compiled loops of the bit-serial PE: FP16 activations, INT8 activations, and the bound of the former's error.

The meaning of every step is ``hwmodel.pe_functional``'s. Common arguments: ``codes`` uint8 ``[n, k]``, ``selector``
uint8 ``[n, groups]`` (the format of each group), ``signs`` int64 and ``term_exponents`` int64 ``[F, C, cycles]``,
``significances`` int64 ``[F, cycles]``, ``group`` columns of a group (the last may be shorter), ``start`` and ``stop``
rows.
"""

from __future__ import annotations

import numpy as np
from numba import njit

jit = njit(nogil=True, cache=True, error_model="numpy")


@jit
def shifted_right(value, amount, width, rounded):  # type: ignore[no-untyped-def]
    """``value >> amount``, and 0 once all of its ``width - 1`` magnitude bits are out.

    Rounds down, or, with ``rounded``, half up: the last bit that falls out is carried into the adder behind.
    """
    if amount > width - 2:
        return 0
    carry = (value >> (amount - 1)) & 1 if rounded and amount > 0 else 0
    return (value >> amount) + carry


@jit
def fp16_group(magnitudes, activation_signs, exponents, term_signs, term_exponents, significances, widths, switches):  # type: ignore[no-untyped-def]
    """Runs one group through the PE.

    Args:
        magnitudes: significands of the activations with guard bits below, int64 ``[columns]``.
        activation_signs, exponents: -1, 0 or 1, and the biased exponents, int64 ``[columns]``.
        term_signs, term_exponents: int64 ``[columns, cycles]``.
        widths: (lanes, guard_bits, accumulator_bits, shifted_bits).
        switches: whether lanes are aligned to the accumulator too; whether step 3 rounds.

    Returns:
        (accumulator mantissa, its exponent, cycles).
    """
    lanes, _, accumulator_bits, shifted_bits = widths
    together, rounded = switches
    columns, cycles = term_signs.shape
    mantissa = exponent = spent = 0
    for first in range(0, columns, lanes):
        last = min(first + lanes, columns)
        for t in range(cycles):
            top = exponent if together else 0  # lanes without a column have exponent 0
            for i in range(first, last):
                top = max(top, exponents[i] + term_exponents[i, t])
            dot = 0
            for i in range(first, last):
                aligned = magnitudes[i] >> (top - exponents[i] - term_exponents[i, t])
                dot += aligned * (activation_signs[i] * term_signs[i, t])
            dot <<= significances[t]
            if exponent > top:
                total = mantissa + shifted_right(dot, exponent - top, shifted_bits, rounded)
                top = exponent
            else:
                total = shifted_right(mantissa, top - exponent, accumulator_bits, rounded) + dot
            rest = abs(total) >> (accumulator_bits - 1)
            shift = 0
            while rest:
                rest >>= 1
                shift += 1
            mantissa = total >> shift
            exponent = top + shift
            spent += 1
    return mantissa, exponent, spent


@jit
def fp16_rows(  # type: ignore[no-untyped-def]
    significands, exponents, codes, selector, signs, term_exponents, significances, group, widths, switches,
    mantissas, group_exponents, spent, start, stop,
):  # fmt: skip
    """Every group of every output.

    Args:
        significands, exponents: of the activations, signed and biased, int64 ``[m, k]``.
        mantissas, group_exponents, spent: int64 ``[m, n, groups]`` out.
    """
    tokens, k = significands.shape
    cycles = significances.shape[1]
    row_signs, row_exponents = np.empty((k, cycles), np.int64), np.empty((k, cycles), np.int64)
    magnitudes, activation_signs = np.abs(significands) << widths[1], np.sign(significands)
    for row in range(start, stop):
        for g in range(selector.shape[1]):
            fmt = selector[row, g]
            for column in range(g * group, min((g + 1) * group, k)):
                for t in range(cycles):
                    row_signs[column, t] = signs[fmt, codes[row, column], t]
                    row_exponents[column, t] = term_exponents[fmt, codes[row, column], t]
        for token in range(tokens):
            for g in range(selector.shape[1]):
                a, b = g * group, min((g + 1) * group, k)
                found = fp16_group(
                    magnitudes[token, a:b], activation_signs[token, a:b], exponents[token, a:b], row_signs[a:b],
                    row_exponents[a:b], significances[selector[row, g]], widths, switches,
                )  # fmt: skip
                mantissas[token, row, g], group_exponents[token, row, g], spent[token, row, g] = found


@jit
def integer_rows(  # type: ignore[no-untyped-def]
    activations, codes, selector, signs, term_exponents, significances, group, lanes, sums, spent, start, stop
):
    """Every group of every output with integer activations int64 ``[m, k]``: ``sums``, ``spent`` ``[m, n, groups]``."""
    tokens, k = activations.shape
    cycles = significances.shape[1]
    for row in range(start, stop):
        for g in range(selector.shape[1]):
            fmt = selector[row, g]
            for token in range(tokens):
                total = clock = 0
                for first in range(g * group, min((g + 1) * group, k), lanes):
                    for t in range(cycles):
                        dot = 0
                        for i in range(first, min(first + lanes, (g + 1) * group, k)):
                            code = codes[row, i]
                            dot += signs[fmt, code, t] * (activations[token, i] << term_exponents[fmt, code, t])
                        total += dot << significances[fmt, t]
                        clock += 1
                sums[token, row, g] = total
                spent[token, row, g] = clock


@jit
def fp16_bounds(  # type: ignore[no-untyped-def]
    significands, exponents, codes, selector, signs, term_exponents, significances, group, widths, together,
    errors, units, sizes, start, stop,
):  # fmt: skip
    """Bounds of what ``fp16_rows`` loses, in units of a lane's lowest bit at exponent 0.

    Args:
        errors: float64 ``[m, n, groups]`` out: of the accumulator.
        units: float64 ``[m, n, groups]`` out: of the accumulator's lowest bit.
        sizes: float64 ``[m, n, groups]`` out: sum of the magnitudes of all terms.
    """
    lanes, guard, accumulator_bits, _ = widths
    tokens, k = significands.shape
    for row in range(start, stop):
        for g in range(selector.shape[1]):
            fmt = selector[row, g]
            for token in range(tokens):
                error = unit = size = 0.0
                for first in range(g * group, min((g + 1) * group, k), lanes):
                    last = min(first + lanes, (g + 1) * group, k)
                    for t in range(significances.shape[1]):
                        top = 0
                        for i in range(first, last):
                            power = exponents[token, i] + term_exponents[fmt, codes[row, i], t]
                            top = max(top, power)
                            if signs[fmt, codes[row, i], t]:
                                magnitude = float(abs(significands[token, i]) << guard)
                                size += magnitude * 2.0 ** (power + significances[fmt, t])
                        lowest = 2.0**top
                        common = max(unit, lowest)
                        weight = 2.0 ** significances[fmt, t]
                        error += lanes * weight * common if together else (lanes - 1) * weight * lowest
                        error += common
                        unit = max(common, (size + error) / 2.0 ** (accumulator_bits - 2))
                        error += unit
                errors[token, row, g] = error
                units[token, row, g] = unit
                sizes[token, row, g] = size
