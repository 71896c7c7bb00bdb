"""Designs of weights that are looked up: mixtures of formats behind a selector, vector and residual codebooks."""

from __future__ import annotations

import numpy as np

from datatypes.catalog import INTS, MIXTURES
from hls.c_types import integer_entries, unit_exponent
from hls.rtl_constructors import GUARD_BITS, table_constant
from hls.rtl_design import Design

GRID_SEED = 20241126  # of the points of constant vector tables
GRID_SPREAD = 3.0  # standard deviations that the largest entry stands for


def mixture_entries(name: str) -> tuple[tuple[int, ...], int, int]:
    """Values of all candidates of a mixture, one after another, as integers of one unit.

    Returns:
        entries ``[candidates * codes]``, their width, and the unit's power of two.
    """
    formats = MIXTURES[name]
    unit = min(unit_exponent(fmt) for fmt in formats)
    values = np.concatenate([np.nan_to_num(fmt.code_values, nan=0.0, posinf=0.0, neginf=0.0) for fmt in formats])
    entries, bits = integer_entries(values, unit, name)
    return entries, bits, unit


def _mixture_parameters(name: str) -> tuple[dict[str, int], str, int]:
    """Widths and table of a mixture, padded by zeros to whole selectors; and its unit."""
    entries, bits, unit = mixture_entries(name)
    code_bits, candidates = MIXTURES[name][0].bits, len(MIXTURES[name])
    selector_bits = (candidates - 1).bit_length()
    padded = entries + (0,) * ((1 << (selector_bits + code_bits)) - len(entries))
    widths = {"CODE_BITS": code_bits, "SELECTOR_BITS": selector_bits, "ENTRY_BITS": bits}
    return widths, table_constant(padded, bits), unit


def mixture_dot(name: str, activation_bits: int, *, lanes: int = 1) -> Design:
    """Weights of a mixture (``datatypes.catalog.MIXTURES``) whose selector all lanes share, integer activations."""
    widths, table, _ = _mixture_parameters(name)
    parameters: tuple[tuple[str, int | str], ...] = (
        *widths.items(), ("ACTIVATION_BITS", activation_bits), ("LANES", lanes), ("TABLE", table),
    )  # fmt: skip
    return Design(
        "mixture_dot", parameters, f"{name}.a{activation_bits}.x{lanes}", name, INTS[activation_bits].name, "integer",
        widths["ENTRY_BITS"] + activation_bits + GUARD_BITS, lanes, pipeline_stages=1,
    )  # fmt: skip


def mixture_float_mac(name: str) -> Design:
    """The same with an FP16 activation, FP32 accumulator."""
    widths, table, unit = _mixture_parameters(name)
    parameters: tuple[tuple[str, int | str], ...] = (*widths.items(), ("TABLE", table), ("UNIT_EXPONENT", unit))
    return Design(
        "mixture_float_mac", parameters, f"{name}.fp16", name, "fp16", "float", 32, pipeline_stages=1
    )  # fmt: skip


def grid_entries(points: int, dimension: int, bits: int) -> tuple[int, ...]:
    """A constant table of points drawn from a normal distribution, as integers of ``bits`` bits, saturated.

    HIGGS (Malinovskii et al., arXiv 2411.17525) takes the grids that are best for it; where their points lie changes
    the table by a few LUTs.
    """
    largest = (1 << (bits - 1)) - 1
    drawn = np.random.default_rng(GRID_SEED).standard_normal(points * dimension) * largest / GRID_SPREAD
    return tuple(int(entry) for entry in np.clip(np.rint(drawn), -largest, largest))


def vector_dot(
    dimension: int,
    codes: int,
    *,
    layers: int = 1,
    entry_bits: int = 8,
    activation_bits: int = 8,
    along_outputs: bool = False,
) -> Design:
    """Products of looked-up vectors; the books are memories elsewhere (VPTQ's and AQLM's of 256 points and more)."""
    accumulator_bits = entry_bits + activation_bits + GUARD_BITS
    outputs, lanes = (dimension, codes) if along_outputs else (1, codes * dimension)
    parameters = (
        ("DIMENSION", dimension), ("CODES", codes), ("LAYERS", layers), ("ENTRY_BITS", entry_bits),
        ("ACTIVATION_BITS", activation_bits), ("ALONG_OUTPUTS", int(along_outputs)),
    )  # fmt: skip
    label = f"d{dimension}c{codes}{'r' * (layers - 1)}{'o' * along_outputs}_e{entry_bits}.a{activation_bits}"
    return Design(
        "vector_dot", parameters, label, f"vectors{dimension}", INTS[activation_bits].name, "integer",
        accumulator_bits, lanes * outputs, pipeline_stages=1,
    )  # fmt: skip


def vector_codebook_dot(
    code_bits: int,
    dimension: int,
    codes: int,
    *,
    residual_bits: int = 0,
    programmable: bool = False,
    along_outputs: bool = False,
    entry_bits: int = 8,
    activation_bits: int = 8,
) -> Design:
    """Vectors from a constant table (HIGGS) or from registers that are written; a second book adds its elements."""
    accumulator_bits = entry_bits + activation_bits + GUARD_BITS
    outputs, lanes = (dimension, codes) if along_outputs else (1, codes * dimension)
    parameters: tuple[tuple[str, int | str], ...] = (
        ("CODE_BITS", code_bits), ("RESIDUAL_BITS", residual_bits), ("DIMENSION", dimension), ("CODES", codes),
        ("ENTRY_BITS", entry_bits), ("ACTIVATION_BITS", activation_bits), ("ALONG_OUTPUTS", int(along_outputs)),
        ("PROGRAMMABLE", int(programmable)),
    )  # fmt: skip
    if not programmable:
        points = (1 << code_bits) + ((1 << residual_bits) if residual_bits else 0)
        table = table_constant(grid_entries(points, dimension, entry_bits), entry_bits)
        parameters += (("ACCUMULATOR_BITS", accumulator_bits), ("TABLE", table))
    bits = f"{code_bits}r{residual_bits}" if residual_bits else str(code_bits)
    kind = "table" if programmable else "grid"
    label = f"{kind}{bits}d{dimension}c{codes}{'o' * along_outputs}_e{entry_bits}.a{activation_bits}"
    return Design(
        "vector_codebook_dot", parameters, label, f"{kind}{bits}d{dimension}", INTS[activation_bits].name, "integer",
        accumulator_bits, lanes * outputs, pipeline_stages=1,
    )  # fmt: skip
