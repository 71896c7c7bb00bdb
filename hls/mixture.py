"""The C++ arithmetic of weights whose format a selector picks, group by group (``mixture.h``)."""

from __future__ import annotations

import numpy as np

from datatypes.catalog import OLIVE4_FLINT, OLIVE4_INT
from datatypes.format import Format
from hls.c_types import (
    MAX_SUM_BITS,
    CArithmetic,
    integer_entries,
    is_float_input,
    largest_integer,
    number_type,
    table_type,
    unit_exponent,
)
from hls.layer_options import LayerOptions
from hwmodel.unit_cost_design import Arithmetic


def mixture_of(weight: tuple[Format, ...], activation: Format, options: LayerOptions, group: int) -> CArithmetic:
    """All candidates' tables in one unit, whatever they are.

    Args:
        weight: candidates of equal width, one element for each code.
        activation: any format that a header reads.
        options: lanes and accumulator.
        group: products of a sum.

    Raises:
        NotImplementedError: candidates without tables, an arithmetic that is not parallel, sums too wide.
    """
    names = ", ".join(fmt.name for fmt in weight)
    if options.arithmetic is not Arithmetic.PARALLEL:
        raise NotImplementedError(f"a mixture of {names} is multiplied in parallel, not as {options.arithmetic.value}")
    if weight == (OLIVE4_INT, OLIVE4_FLINT):
        return _olive(activation, options, group)
    if any(fmt.dim > 1 or fmt.bits > 8 for fmt in weight):
        raise NotImplementedError(f"a mixture of {names} has an arithmetic for single numbers of up to 8 bits alone")
    unit = min(unit_exponent(fmt) for fmt in weight)
    # codes without a finite value are never stored; their entries are zero
    values = np.concatenate([np.nan_to_num(fmt.code_values, nan=0.0, posinf=0.0, neginf=0.0) for fmt in weight])
    entries, bits = integer_entries(values, unit, names)
    number = f"codesign::mixture_number<{weight[0].bits}, {bits}, {unit}, {table_type(entries)}>"
    products, total = _products(number, max(abs(entry) for entry in entries), activation, options, group)
    selector_bits = (len(weight) - 1).bit_length()
    return CArithmetic(
        type=f"codesign::mixture_arithmetic<{products}, {selector_bits}, {options.lanes}>",
        headers=("codebook.h", "mixture.h", "shift_mac.h"),  # fixed_table; numbers of any activation
        weight_bits=weight[0].bits,
        activation_bits=activation.bits,
        unit_exponent=0 if is_float_input(activation) else unit + unit_exponent(activation),
        sum_bits=total,
    )


def _olive(activation: Format, options: LayerOptions, group: int) -> CArithmetic:
    """OliVe's two normal types, which its algorithm chooses between for each row."""
    if options.lanes % 2:
        raise ValueError(f"lanes for {OLIVE4_INT.name} must be whole pairs, not {options.lanes}")
    largest = max(largest_integer(fmt) for fmt in (OLIVE4_INT, OLIVE4_FLINT))
    products, total = _products("codesign::olive_number<true>", largest, activation, options, group)
    return CArithmetic(
        type=f"codesign::olive_mixture_arithmetic<{products}, {options.lanes}>",
        headers=("codebook.h", "mixture.h", "shift_mac.h"),
        weight_bits=8,
        activation_bits=activation.bits,
        unit_exponent=0 if is_float_input(activation) else unit_exponent(activation),
        sum_bits=total,
    )


def _products(number: str, largest: int, activation: Format, options: LayerOptions, group: int) -> tuple[str, int]:
    """C++ type that adds products of a weight's ``number``, and the bits of an exact sum (0 for a float)."""
    if is_float_input(activation):
        widths = f"{options.accumulator[0]}, {options.accumulator[1]}"
        return f"codesign::rounded_products<{number}, {number_type(activation)}, {widths}>", 0
    total = (group * largest * largest_integer(activation)).bit_length() + 1
    if total > MAX_SUM_BITS:
        raise NotImplementedError(
            f"exact sums of {group} products with {activation.name} take {total} bits, more than {MAX_SUM_BITS}"
        )
    return f"codesign::exact_products<{number}, {number_type(activation)}, {total}>", total
