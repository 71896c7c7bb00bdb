"""Stimulus and expected outputs of the integer-like RTL modules, from the values that ``datatypes`` gives their codes.

Combinational modules and MACs of one lane meet every pair of codes (up to 16 bits together) in their first cycle;
then, and in all wider modules, random codes follow with random restarts. Values are exact integers of any size: a
code's value is a multiple of its format's smallest step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from datatypes.catalog import FLINT3, FLINT4, FLINT5, FORMATS, format_by_name
from datatypes.format import FloatFormat, Format
from datatypes.outlier_victim import OutlierVictimFormat
from hls.rtl_constructors import fixed_entries
from hls.rtl_design import Design
from hls.rtl_simulation import bits_of, lanes_of

RANDOM_CASES = 512
CYCLES = 4  # a MAC's exhaustive first cycle and three random ones
EXHAUSTIVE_BITS = 16
FLINTS = {fmt.bits: fmt for fmt in (FLINT3, FLINT4, FLINT5)}


@dataclass(frozen=True)
class Vectors:
    """Stimulus and what must come out.

    Args:
        stimulus: by port, bool ``[cycles, cases, width]``.
        expected: by output port, integers ``[cycles, cases]``.
        signed: whether outputs are two's complement.
        compared: outputs that are compared, bool ``[cycles, cases]``; ``None`` for all.
        compared_ports: the same for single ports, instead of ``compared``.
        unsigned_ports: outputs that are unsigned among signed ones.
    """

    stimulus: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    signed: bool = True
    compared: np.ndarray | None = None
    compared_ports: Mapping[str, np.ndarray] = field(default_factory=dict)
    unsigned_ports: tuple[str, ...] = ()


def steps_of(fmt: Format) -> np.ndarray:
    """Value of every code in units of the smallest positive one, Python integers ``[codes]``; 0 for inf and NaN."""
    values = [Fraction(float(v)) if np.isfinite(v) else Fraction(0) for v in fmt.code_values]
    step = min(v for v in values if v > 0)
    return np.array([int(v / step) for v in values], dtype=object)


def formats_of(design: Design) -> tuple[Format, Format]:
    """Weight and activation format by name."""
    return format_by_name(design.weight_format), format_by_name(design.activation_format)


def parameter(design: Design, name: str, default: int = 0) -> int:
    """An integer parameter."""
    return int(dict(design.parameters).get(name, default))


def random_codes(
    rng: np.random.Generator, weight_bits: int, activation_bits: int, lanes: int, *, cycles: int = CYCLES
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and activation codes ``[cycles, cases, lanes]``; every pair in cycle 0 where that is possible."""
    exhaustive = lanes == 1 and weight_bits + activation_bits <= EXHAUSTIVE_BITS
    cases = max(RANDOM_CASES, 1 << (weight_bits + activation_bits)) if exhaustive else RANDOM_CASES
    weight = rng.integers(0, 1 << weight_bits, (cycles, cases, lanes))
    activation = rng.integers(0, 1 << activation_bits, (cycles, cases, lanes))
    if exhaustive:
        pairs = np.arange(1 << (weight_bits + activation_bits))
        weight[0, : len(pairs), 0] = pairs >> activation_bits
        activation[0, : len(pairs), 0] = pairs & ((1 << activation_bits) - 1)
    return weight, activation


def random_restarts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """When sums start again: always in cycle 0."""
    restart = rng.random(shape) < 0.15
    restart[0] = True
    return restart


def flag(values: np.ndarray) -> np.ndarray:
    """A one-bit port."""
    return values.astype(bool)[..., None]


def wrap(value: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement of ``bits``."""
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half


def running_sums(sums: np.ndarray, restart: np.ndarray, bits: int, latency: int = 0) -> np.ndarray:
    """Accumulators after each cycle, wrapped; ``latency`` cycles of zero in front."""
    total = np.zeros(sums.shape[1:], dtype=object)
    rows = []
    for row, again in zip(sums, restart, strict=True):
        total = wrap(np.where(again, 0, total) + row, bits)
        rows.append(total)
    return np.stack(([np.zeros_like(total)] * latency + rows)[: len(rows)])


def dot(
    design: Design, rng: np.random.Generator, weight: np.ndarray, activation: np.ndarray, bits: tuple[int, int]
) -> Vectors:
    """A dot product of looked-up integers ``[codes]`` into an integer accumulator."""
    w, a = random_codes(rng, *bits, design.lanes)
    restart = random_restarts(rng, w.shape[:2])
    sums = (weight[w] * activation[a]).sum(axis=2)
    latency = design.pipeline_stages - 1
    return Vectors(
        {"weight": lanes_of(w, bits[0]), "activation": lanes_of(a, bits[1]), "clear": flag(restart)},
        {"accumulator": running_sums(sums, restart, design.accumulator_bits, latency)},
        compared=np.broadcast_to((np.arange(len(sums)) >= latency)[:, None], sums.shape),
    )


def format_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Integers or minifloats, as the formats' names say."""
    weight, activation = formats_of(design)
    return dot(design, rng, steps_of(weight), steps_of(activation), (weight.bits, activation.bits))


def int_pair_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """As ``format_dot``; of a single pair every four codes in the first cycle, as far as they have 16 bits together."""
    vectors = format_dot(design, rng)
    weight, activation = formats_of(design)
    bits = 2 * (weight.bits + activation.bits)
    if design.lanes != 2 or bits > EXHAUSTIVE_BITS:
        return vectors
    codes = np.arange(1 << bits)[None]
    w, a = codes & ((1 << 2 * weight.bits) - 1), codes >> (2 * weight.bits)
    total = 0
    for lane in range(2):
        low = steps_of(weight)[(w >> (lane * weight.bits)) & ((1 << weight.bits) - 1)]
        total = total + low * steps_of(activation)[(a >> (lane * activation.bits)) & ((1 << activation.bits) - 1)]
    stimulus = {
        "weight": bits_of(w, 2 * weight.bits),
        "activation": bits_of(a, 2 * activation.bits),
        "clear": flag(np.ones(codes.shape, bool)),
    }
    # every four codes once; then the random cycles, as many cases as there are
    cases, repeated = codes.shape[1], {name: _cases(rows, codes.shape[1]) for name, rows in vectors.stimulus.items()}
    return Vectors(
        {name: np.concatenate([stimulus[name], repeated[name]]) for name in stimulus},
        {"accumulator": np.concatenate([total, _cases(vectors.expected["accumulator"], cases)])},
    )


def _cases(rows: np.ndarray, cases: int) -> np.ndarray:
    """``[cycles, some, ...]`` repeated or cut to so many cases."""
    return np.take(rows, np.arange(cases) % rows.shape[1], axis=1)


def product(design: Design, rng: np.random.Generator) -> Vectors:
    """Exact product in fixed point."""
    weight, activation = formats_of(design)
    w, a = random_codes(rng, weight.bits, activation.bits, 1, cycles=1)
    products = (steps_of(weight)[w] * steps_of(activation)[a])[..., 0]
    stimulus = {"weight": lanes_of(w, weight.bits), "activation": lanes_of(a, activation.bits)}
    return Vectors(stimulus, {"product": products})


def float_parts(codes: np.ndarray, exponent_bits: int, mantissa_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Significand and shift of float codes: magnitude = significand * 2**shift steps (IEEE 754-2019, section 3.4)."""
    field = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = codes & ((1 << mantissa_bits) - 1)
    return np.where(field > 0, fraction + (1 << mantissa_bits), fraction), np.maximum(field - 1, 0)


def minifloat_multiplier(design: Design, rng: np.random.Generator) -> Vectors:
    """Sign, significand and shift, which together mean the product of the codes' values."""
    weight, activation = formats_of(design)
    assert isinstance(weight, FloatFormat) and isinstance(activation, FloatFormat)
    w, a = (codes[..., 0] for codes in random_codes(rng, weight.bits, activation.bits, 1, cycles=1))
    parts = [float_parts(c, f.exponent_bits, f.mantissa_bits) for c, f in ((w, weight), (a, activation))]
    sign = (w >> (weight.bits - 1)) ^ (a >> (activation.bits - 1))
    significand, shift = parts[0][0] * parts[1][0], parts[0][1] + parts[1][1]
    exact = steps_of(weight)[w] * steps_of(activation)[a]
    value = significand.astype(object) << shift.astype(object)
    assert (np.where(sign, -value, value) == exact).all(), "the split of a code into parts must keep its value"
    return Vectors(
        {"weight": bits_of(w, weight.bits), "activation": bits_of(a, activation.bits)},
        {"sign": sign, "significand": significand, "shift": shift},
        signed=False,
    )


def codebook_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """A fixed table, or one that is written first: entry c in cycle c, sums from the cycle after the last."""
    code_bits, entry_bits = parameter(design, "CODE_BITS"), parameter(design, "ENTRY_BITS")
    activation_bits, programmable = parameter(design, "ACTIVATION_BITS"), parameter(design, "PROGRAMMABLE")
    if programmable:
        # any values that fit will do
        entries = np.arange(1 << code_bits).astype(object) * 5 % (1 << entry_bits) - (1 << (entry_bits - 1))
    else:
        entries = np.array(fixed_entries(code_bits, entry_bits), dtype=object)
    first = 1 << code_bits if programmable else 0
    w, a = random_codes(rng, code_bits, activation_bits, design.lanes, cycles=first + 4)
    restart = random_restarts(rng, w.shape[:2])
    restart[first] = True
    signed = steps_of(FORMATS[f"int{activation_bits}"])
    sums = (entries[w] * signed[a]).sum(axis=2)
    cycles = np.broadcast_to(np.arange(len(w))[:, None], w.shape[:2])
    written = np.minimum(cycles, len(entries) - 1)
    stimulus = {
        "weight": lanes_of(w, code_bits),
        "activation": lanes_of(a, activation_bits),
        "clear": flag(restart),
        "write": flag(cycles < first),
        "write_code": bits_of(written, code_bits),
        "write_entry": bits_of(entries[written], entry_bits),
    }
    expected = running_sums(sums, restart, design.accumulator_bits)
    return Vectors(stimulus, {"accumulator": expected}, compared=cycles >= first)


def flint_decode(design: Design, rng: np.random.Generator) -> Vectors:
    """Every magnitude code of a signed flint: value << shift."""
    fmt = FLINTS[parameter(design, "BITS") + 1]
    codes = np.arange(1 << (fmt.bits - 1))[None]
    magnitudes = steps_of(fmt)[codes]
    plain = codes < 1 << (fmt.bits - 2)
    rest = codes & ((1 << (fmt.bits - 2)) - 1)
    length = np.vectorize(lambda code: int(code).bit_length())(rest)
    shift = np.where(plain, 0, fmt.bits - 2 - length + 1)
    value = magnitudes >> shift.astype(object)
    return Vectors({"code": bits_of(codes, fmt.bits - 1)}, {"value": value, "shift": shift}, signed=False)


def olive_format(design: Design) -> OutlierVictimFormat:
    """The pair format of a design."""
    fmt = FORMATS[design.weight_format]
    assert isinstance(fmt, OutlierVictimFormat)
    return fmt


def olive_decode(design: Design, rng: np.random.Generator) -> Vectors:
    """Every pair: integers and shifts, which together mean the values of the format's table."""
    fmt = olive_format(design)
    pairs = np.arange(256)[None]
    values = fmt.pair_table[pairs[0]].astype(np.int64)
    nibbles = np.stack([pairs[0] & 15, pairs[0] >> 4], axis=1)
    outlier = nibbles[:, ::-1] == 8  # the other one is the identifier
    flint_shift = np.array([0, 0, 0, 0, 3, 2, 1, 1])[nibbles & 7]
    normal_shift = flint_shift if fmt.normal_name == "flint4" else np.zeros_like(nibbles)
    shift = np.where(outlier, fmt.abfloat_bias + ((nibbles >> 1) & 3), normal_shift)
    assert ((values >> shift) << shift == values).all(), "a value must be a multiple of two to its shift"
    integers = (values >> shift) & 15  # the four bits of the port
    expected = {
        "first": integers[None, :, 0],
        "first_shift": shift[None, :, 0],
        "second": integers[None, :, 1],
        "second_shift": shift[None, :, 1],
    }
    return Vectors({"pair": bits_of(pairs, 8)}, expected, signed=False)


def olive_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Pairs on both sides; with two lanes every pair of pair codes in the first cycle."""
    fmt = olive_format(design)
    table = fmt.pair_table.astype(np.int64).astype(object)
    w, a = random_codes(rng, 8, 8, design.lanes // 2)
    restart = random_restarts(rng, w.shape[:2])
    sums = (table[w] * table[a]).sum(axis=(2, 3))
    stimulus = {"weight": lanes_of(w, 8), "activation": lanes_of(a, 8), "clear": flag(restart)}
    return Vectors(stimulus, {"accumulator": running_sums(sums, restart, design.accumulator_bits)})


def tender_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Sums that are doubled in bubble cycles (Tender, section 13's rule A <- (A << 1) + P, in two cycles)."""
    weight, activation = formats_of(design)
    w, a = random_codes(rng, weight.bits, activation.bits, design.lanes)
    restart = random_restarts(rng, w.shape[:2])
    bubble = ~restart & (rng.random(restart.shape) < 0.3)
    sums = (steps_of(weight)[w] * steps_of(activation)[a]).sum(axis=2)
    total = np.zeros(w.shape[1], dtype=object)
    rows = []
    for row, again, double in zip(sums, restart, bubble, strict=True):
        total = np.where(double, total * 2, np.where(again, 0, total) + row)
        rows.append(wrap(total, design.accumulator_bits))
    stimulus = {
        "weight": lanes_of(w, weight.bits),
        "activation": lanes_of(a, activation.bits),
        "clear": flag(restart),
        "rescale": flag(bubble),
    }
    return Vectors(stimulus, {"accumulator": np.stack(rows)})


def flint_int_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Signed flint weights, integer activations."""
    bits, activation_bits = parameter(design, "BITS"), parameter(design, "ACTIVATION_BITS")
    return dot(design, rng, steps_of(FLINTS[bits]), steps_of(FORMATS[f"int{activation_bits}"]), (bits, activation_bits))
