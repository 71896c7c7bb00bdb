"""Parts of PEs whose weights are looked up together: mixtures of formats, vector and residual codebooks.

Widths are those of ``hls/rtl/mixture.sv`` and ``hls/rtl/vector_codebook.sv``.
"""

from __future__ import annotations

from hwmodel.unit_cost_design import PeDesign, design
from hwmodel.unit_cost_integers import Parts, Pricer, entry_products

LUT_INPUTS = 6


def outputs_of(one: PeDesign) -> int:
    """Accumulators of a PE."""
    return one.get("DIMENSION", 1) if one.get("ALONG_OUTPUTS") else 1


def table_entries(one: PeDesign) -> int:
    """Entries of a vector codebook's tables, both layers."""
    points = (1 << one.get("CODE_BITS")) + ((1 << one.get("RESIDUAL_BITS")) if one.get("RESIDUAL_BITS") else 0)
    return points * one.get("DIMENSION")


def constant_luts(inputs: int) -> float:
    """LUT6s of one bit of a constant table: two bits share one up to five inputs; above six, multiplexers join them.

    >>> constant_luts(4), constant_luts(6), constant_luts(8)
    (0.5, 1.0, 4.0)
    """
    return 0.5 if inputs < LUT_INPUTS else float(1 << (inputs - LUT_INPUTS))


def _dots(one: PeDesign, price: Pricer) -> float:
    """The integer dot product of each output, which ends in an accumulator."""
    if one.family == "mixture_dot":
        lanes = one.lanes
    else:
        codes, dimension = one.get("CODES"), one.get("DIMENSION")
        layers = one.get("LAYERS", 2 if one.get("RESIDUAL_BITS") else 1)
        lanes = codes * layers * (1 if one.get("ALONG_OUTPUTS") else dimension)
    dot = design(
        "int_dot", WEIGHT_BITS=one.get("ENTRY_BITS"), ACTIVATION_BITS=one.get("ACTIVATION_BITS"), LANES=lanes,
        ACCUMULATOR_BITS=one.get("ACCUMULATOR_BITS"), INSIDE=1,
    )  # fmt: skip
    return outputs_of(one) * price(dot)


def _constant(inputs: int, bits: int, lut: bool) -> Parts:
    """``bits`` functions of ``inputs`` signals: LUTs, or gates for the minterms of a look-up.

    A LUT that looks up six signals and more is one; of fewer the multiplier behind it absorbs part.
    """
    if not lut:
        return {"constant": float(bits << inputs)}
    return {"constant" if inputs >= LUT_INPUTS else "short_constant": bits * constant_luts(inputs)}


def book_parts(one: PeDesign, lut: bool, price: Pricer) -> Parts:
    """Tables, and the dot products behind them."""
    entry = one.get("ENTRY_BITS")
    if one.family == "mixture_dot" and not lut:  # a code book's products, and a table of constants
        bits, lanes = float(one.get("ACCUMULATOR_BITS")), one.lanes
        table = _constant(one.get("CODE_BITS") + one.get("SELECTOR_BITS"), lanes * entry, lut)
        products = entry_products(entry, one.get("ACTIVATION_BITS"), lanes)
        return {**products, **table, "adder_bits": bits, "clear_bits": bits}
    parts: Parts = {"dot": _dots(one, price)}
    if one.family == "mixture_dot":
        return parts | _constant(one.get("CODE_BITS") + one.get("SELECTOR_BITS"), one.lanes * entry, lut)
    if one.family == "vector_dot":
        return parts
    row, codes = one.get("DIMENSION") * entry, one.get("CODES")
    books = [bits for bits in (one.get("CODE_BITS"), one.get("RESIDUAL_BITS")) if bits]
    if not one.get("PROGRAMMABLE"):
        for bits in books:
            for name, amount in _constant(bits, codes * row, lut).items():
                parts[name] = parts.get(name, 0.0) + amount
        return parts
    return parts | {
        "muxes": float(sum(codes * row * ((1 << bits) - 1) for bits in books)),
        "write": float(table_entries(one) * (1 if lut else entry)),
    }
