"""Stimulus and expected outputs of mixtures and vector codebooks, from the values of formats and tables."""

from __future__ import annotations

import numpy as np

from datatypes.catalog import FORMATS, FP16, MIXTURES
from hls.rtl_constructors_books import grid_entries, mixture_entries
from hls.rtl_design import Design
from hls.rtl_simulation import bits_of, lanes_of
from hls.rtl_vectors import (
    CYCLES,
    RANDOM_CASES,
    Vectors,
    flag,
    parameter,
    random_codes,
    random_restarts,
    running_sums,
    steps_of,
)
from hls.rtl_vectors_float import accumulated, accumulator_widths, finite, lowest_place, smallest_step


def _selected(design: Design, rng: np.random.Generator, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random candidates ``[cycles, cases]``, and the values of codes ``[cycles, cases, lanes]``, in one unit."""
    formats = MIXTURES[design.weight_format]
    entries = np.array(mixture_entries(design.weight_format)[0], dtype=object).reshape(len(formats), -1)
    selector = rng.integers(0, len(formats), w.shape[:2])
    return selector, entries[selector[..., None], w]


def mixture_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """A candidate for each cycle, which all lanes share, and integer activations."""
    code_bits, activation_bits = parameter(design, "CODE_BITS"), parameter(design, "ACTIVATION_BITS")
    w, a = random_codes(rng, code_bits, activation_bits, design.lanes)
    selector, values = _selected(design, rng, w)
    restart = random_restarts(rng, w.shape[:2])
    sums = (values * steps_of(FORMATS[design.activation_format])[a]).sum(axis=2)
    stimulus = {
        "clear": flag(restart),
        "selector": bits_of(selector, parameter(design, "SELECTOR_BITS")),
        "weight": lanes_of(w, code_bits),
        "activation": lanes_of(a, activation_bits),
    }
    return Vectors(stimulus, {"accumulator": running_sums(sums, restart, design.accumulator_bits)})


def mixture_float_mac(design: Design, rng: np.random.Generator) -> Vectors:
    """FP16 activations, one rounding a product."""
    code_bits = parameter(design, "CODE_BITS")
    w, a = random_codes(rng, code_bits, FP16.bits, 1, cycles=6)
    a = finite(a, FP16)
    selector, values = _selected(design, rng, w)
    restart = random_restarts(rng, w.shape[:2])
    widths = accumulator_widths(design)
    addends = (values * steps_of(FP16)[a])[..., 0]
    unit = parameter(design, "UNIT_EXPONENT") + smallest_step(FP16) - lowest_place(widths)
    stimulus = {
        "clear": flag(restart),
        "selector": bits_of(selector, parameter(design, "SELECTOR_BITS")),
        "weight": lanes_of(w, code_bits),
        "activation": lanes_of(a, FP16.bits),
    }
    expected = accumulated(addends, np.full(restart.shape, unit), restart, widths)
    return Vectors(stimulus, {"accumulator": expected}, signed=False)


# --- vectors ---------------------------------------------------------------------------------------------------------


def _vector_sums(design: Design, elements: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Sums of each cycle, ``[cycles, cases, outputs]``.

    Args:
        elements: integers ``[cycles, cases, codes, layers, dimension]``.
        activation: integers ``[cycles, cases, inputs]``.
    """
    added = elements.sum(axis=3)  # of a place: products of its layers have one activation
    if parameter(design, "ALONG_OUTPUTS"):
        return (added * activation[..., None]).sum(axis=2)
    return (added.reshape(*activation.shape) * activation).sum(axis=2, keepdims=True)


def _side_by_side(sums: np.ndarray, restart: np.ndarray, bits: int) -> np.ndarray:
    """Accumulators of all outputs as one unsigned number ``[cycles, cases]``, output 0 lowest."""
    total = np.zeros(restart.shape, dtype=object)
    for output in range(sums.shape[2]):
        total = total + ((running_sums(sums[..., output], restart, bits) % (1 << bits)) << (bits * output))
    return total


def vector_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Elements come in."""
    entry_bits, activation_bits = parameter(design, "ENTRY_BITS"), parameter(design, "ACTIVATION_BITS")
    codes, layers, dimension = (parameter(design, name) for name in ("CODES", "LAYERS", "DIMENSION"))
    shape = (CYCLES, RANDOM_CASES)
    inputs = codes * (1 if parameter(design, "ALONG_OUTPUTS") else dimension)
    elements = rng.integers(0, 1 << entry_bits, (*shape, codes, layers, dimension))
    a = rng.integers(0, 1 << activation_bits, (*shape, inputs))
    restart = random_restarts(rng, shape)
    signed = steps_of(FORMATS[f"int{entry_bits}"])[elements]
    sums = _vector_sums(design, signed, steps_of(FORMATS[design.activation_format])[a])
    stimulus = {
        "clear": flag(restart),
        "elements": lanes_of(elements.reshape(*shape, -1), entry_bits),
        "activation": lanes_of(a, activation_bits),
    }
    return Vectors(
        stimulus, {"accumulator": _side_by_side(sums, restart, entry_bits + activation_bits + 10)}, signed=False
    )


def vector_codebook_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Constant tables, or ones that are written first: one element a cycle, the first book's before the second's."""
    entry_bits, activation_bits = parameter(design, "ENTRY_BITS"), parameter(design, "ACTIVATION_BITS")
    code_bits, residual_bits = parameter(design, "CODE_BITS"), parameter(design, "RESIDUAL_BITS")
    codes, dimension = parameter(design, "CODES"), parameter(design, "DIMENSION")
    points = [1 << code_bits, *([1 << residual_bits] if residual_bits else [])]
    programmable = parameter(design, "PROGRAMMABLE")
    if programmable:
        entries = rng.integers(-(1 << (entry_bits - 1)), 1 << (entry_bits - 1), sum(points) * dimension).astype(object)
    else:
        entries = np.array(grid_entries(sum(points), dimension, entry_bits), dtype=object)
    first = len(entries) if programmable else 0
    shape = (first + CYCLES, RANDOM_CASES)
    w = rng.integers(0, 1 << (code_bits + residual_bits), (*shape, codes))
    rows = entries.reshape(-1, dimension)
    layers = [rows[w & (points[0] - 1)], *([rows[points[0] + (w >> code_bits)]] if residual_bits else [])]
    inputs = codes * (1 if parameter(design, "ALONG_OUTPUTS") else dimension)
    a = rng.integers(0, 1 << activation_bits, (*shape, inputs))
    restart = random_restarts(rng, shape)
    restart[first] = True
    sums = _vector_sums(design, np.stack(layers, axis=3), steps_of(FORMATS[design.activation_format])[a])
    cycles = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    written = np.minimum(cycles, len(entries) - 1)
    stimulus = {
        "clear": flag(restart),
        "write": flag(cycles < first),
        "write_place": bits_of(written, (len(entries) - 1).bit_length()),
        "write_entry": bits_of(entries[written], entry_bits),
        "weight": lanes_of(w, code_bits + residual_bits),
        "activation": lanes_of(a, activation_bits),
    }
    expected = _side_by_side(sums, restart, entry_bits + activation_bits + 10)
    return Vectors(stimulus, {"accumulator": expected}, signed=False, compared=cycles >= first)
