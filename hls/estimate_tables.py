"""LUTs of tables in front of a PE, at the prices of recorded vector codebooks, and how wrong such a sum is.

What a table costs is what ``vector_codebook_dot`` takes more than ``vector_dot``: constants, or multiplexers over
registers that were written. No netlist of floats behind a vector book is recorded; those of FP16 behind a table of
scalars are (``codebook_float_mac``), and no price comes from them: they say how wrong a MAC and a table are together.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from hwmodel.synthesis_table import best_rows
from hwmodel.unit_cost import Figure, Origin, price_pe
from hwmodel.unit_cost_design import PeDesign, design, design_of_row
from hwmodel.unit_cost_prices import part_price

TARGET = "lut6"


@cache
def table_luts(code_bits: int, entry_bits: int, *, loaded: bool) -> float:
    """LUTs that read one entry of ``entry_bits``.

    Args:
        code_bits: its address.
        entry_bits: its width.
        loaded: out of registers that are written, not of constants.
    """
    fields = {"DIMENSION": 1, "CODES": 1, "ENTRY_BITS": entry_bits, "ACTIVATION_BITS": 8, "ALONG_OUTPUTS": 0,
              "ACCUMULATOR_BITS": entry_bits + 8}  # fmt: skip
    behind = design("vector_codebook_dot", CODE_BITS=code_bits, RESIDUAL_BITS=0, PROGRAMMABLE=int(loaded), **fields)
    return part_price(behind, TARGET) - part_price(design("vector_dot", LAYERS=1, **fields), TARGET)


@cache
def composition_errors() -> tuple[float, float, int]:
    """Mean and worst relative error of a recorded MAC with a table's price, and of how many netlists."""
    errors = []
    for row in best_rows(TARGET).values():
        if row.family == "codebook_float_mac":
            one = design_of_row(row)
            mac = price_pe(_mac(), TARGET).luts
            assert mac is not None and row.luts is not None
            table = table_luts(one.get("CODE_BITS"), 16, loaded=bool(one.get("PROGRAMMABLE")))
            errors.append(abs(mac.value + table - row.luts) / row.luts)
    return sum(errors) / len(errors), max(errors), len(errors)


def _mac() -> PeDesign:
    """FP16 x FP16 into a float32."""
    return design(
        "float_mac", WEIGHT_EXPONENT_BITS=5, WEIGHT_MANTISSA_BITS=10, ACTIVATION_EXPONENT_BITS=5,
        ACTIVATION_MANTISSA_BITS=10, ACCUMULATOR_EXPONENT_BITS=8, ACCUMULATOR_MANTISSA_BITS=23,
        ACCUMULATOR_BITS=32,
    )  # fmt: skip


def table_figure(reads: int, tables: Iterable[tuple[int, int]], *, loaded: bool = False) -> Figure:
    """Tables of several widths, each read ``reads`` times at once.

    Args:
        reads: lanes.
        tables: bits of a code and of an entry, of each.
        loaded: registers instead of constants.

    Returns:
        LUTs; the errors are those of the PE and its tables together.
    """
    mean, worst, netlists = composition_errors()
    value = reads * sum(table_luts(code, entry, loaded=loaded) for code, entry in tables)
    kind = "registers" if loaded else "constants"
    source = f"tables of {kind} at the price of vector books, tried on {netlists} netlists of codebook_float_mac"
    return Figure(value, Origin.COMPOSED, mean, worst, source)
