"""Stimulus and expected outputs of the serial RTL modules: bit-serial, term-serial, and BitMoD's parts.

BitMoD's parts are compared with ``hwmodel.pe_functional``, the functional model of the same PE.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FORMATS, FP16
from hls.rtl_design import Design
from hls.rtl_simulation import bits_of, lanes_of
from hls.rtl_vectors import RANDOM_CASES, Vectors, flag, parameter, random_restarts, running_sums, steps_of, wrap
from hls.rtl_vectors_float import finite
from hwmodel.pe_functional import BITMOD_DATAPATH, decode_fp16
from hwmodel.pe_functional_kernels import fp16_group
from hwmodel.pe_functional_terms import TermTable, term_table
from hwmodel.presets import BITMOD_PE

SERIAL_CASES = 256
GROUP_SETS = 8  # sets of lanes of a BitMoD group in these tests
SCALE_BITS = 8


def bit_serial_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Dot products of serial weights, three one after the other, the accumulator restarted at random."""
    parallel_bits, serial_bits = parameter(design, "PARALLEL_BITS"), parameter(design, "SERIAL_BITS")
    accumulate = parameter(design, "ACCUMULATE", 1)
    rounds, lanes = 3, design.lanes
    w = rng.integers(0, 1 << serial_bits, (rounds, SERIAL_CASES, lanes))
    a = rng.integers(0, 1 << parallel_bits, (rounds, SERIAL_CASES, lanes))
    planes = bits_of(w, serial_bits)[..., ::-1]  # most significant first
    serial = np.moveaxis(planes, -1, 1).reshape(rounds * serial_bits, SERIAL_CASES, lanes)
    held = np.repeat(lanes_of(a, parallel_bits), serial_bits, axis=0)
    sums = (steps_of(FORMATS[f"int{serial_bits}"])[w] * steps_of(FORMATS[f"int{parallel_bits}"])[a]).sum(axis=2)
    restart = random_restarts(rng, (rounds, SERIAL_CASES)) if accumulate else np.ones((rounds, SERIAL_CASES), bool)
    cycle = np.broadcast_to(np.arange(rounds * serial_bits)[:, None], serial.shape[:2])
    last = cycle % serial_bits == serial_bits - 1
    stimulus = {
        "serial": serial,
        "parallel_": held,
        "first": flag(cycle % serial_bits == 0),
        "last": flag(last),
        "clear": flag(np.repeat(restart, serial_bits, axis=0)),
    }
    expected = np.repeat(running_sums(sums, restart, design.accumulator_bits), serial_bits, axis=0)
    return Vectors(stimulus, {"accumulator": expected}, compared=last)


def bit_bit_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Bit planes of both operands (int4 x int4, all 16 plane pairs); sum over planes is the integer dot product."""
    bits, lanes = 4, design.lanes
    w, a = (rng.integers(0, 1 << bits, (SERIAL_CASES, lanes)) for _ in range(2))
    table = steps_of(FORMATS["int4"])
    exact = (table[w] * table[a]).sum(axis=1)
    pairs = [(i, j) for i in range(bits) for j in range(bits)]
    shape = (len(pairs), SERIAL_CASES)
    spread = np.array([i + j for i, j in pairs])
    negative = np.array([(i == bits - 1) != (j == bits - 1) for i, j in pairs])
    last = np.zeros(shape, bool)
    last[-1] = True
    stimulus = {
        "weight": np.stack([bits_of(w, bits)[..., i] for i, _ in pairs]),
        "activation": np.stack([bits_of(a, bits)[..., j] for _, j in pairs]),
        "shift": bits_of(np.broadcast_to(spread[:, None], shape), 4),
        "negate": flag(np.broadcast_to(negative[:, None], shape)),
        "clear": flag(np.broadcast_to((np.arange(len(pairs)) == 0)[:, None], shape)),
    }
    return Vectors(stimulus, {"accumulator": np.broadcast_to(exact, shape)}, compared=last)


def term_serial_dot(design: Design, rng: np.random.Generator) -> Vectors:
    """Random signed powers of two."""
    bits, shift_bits = parameter(design, "ACTIVATION_BITS"), parameter(design, "SHIFT_BITS")
    shape = (8, RANDOM_CASES, design.lanes)
    valid, sign = rng.random(shape) < 0.8, rng.random(shape) < 0.5
    shift, a = rng.integers(0, 1 << shift_bits, shape), rng.integers(0, 1 << bits, shape)
    terms = np.where(valid, np.where(sign, -1, 1), 0).astype(object) * (1 << shift).astype(object)
    sums = (terms * steps_of(FORMATS[f"int{bits}"])[a]).sum(axis=2)
    restart = random_restarts(rng, shape[:2])
    latency = design.pipeline_stages - 1
    stimulus = {
        "valid": valid,
        "sign": sign,
        "shift": lanes_of(shift, shift_bits),
        "activation": lanes_of(a, bits),
        "clear": flag(restart),
    }
    return Vectors(
        stimulus,
        {"accumulator": running_sums(sums, restart, design.accumulator_bits, latency)},
        compared=np.broadcast_to((np.arange(8) >= latency)[:, None], shape[:2]),
    )


# --- BitMoD ----------------------------------------------------------------------------------------------------------

SPECIALS = {3: BITMOD_FP3, 4: BITMOD_FP4}


def _special_codes(bits: int) -> list[int]:
    """Sign and I3..F0 of the four special values, in halves."""
    values = [float(fmt.code_values[fmt.special]) for fmt in SPECIALS[bits] if fmt.special is not None]
    return [(int(v < 0) << 5) | int(abs(v) * 2) for v in values]


def bitmod_term_encoder(design: Design, rng: np.random.Generator) -> Vectors:
    """Every code of INT4, INT6, INT8, FP3 and FP4 with each special value, in every step."""
    rows: list[tuple[int, ...]] = []
    for bits in (4, 6, 8):
        table = term_table(FORMATS[f"int{bits}"], BITMOD_PE)
        for code in range(1 << bits):
            extended = code | (0xFF << bits & 0xFF if code >> (bits - 1) else 0)
            rows += [(0, 0, extended, step, 0, 0, *_term(table, code, step)) for step in range(table.cycles)]
    for bits, formats in SPECIALS.items():
        packed = sum(code << (6 * i) for i, code in enumerate(_special_codes(bits)))
        for selector, fmt in enumerate(formats):
            table = term_table(fmt, BITMOD_PE)
            for code in range(1 << bits):
                rows += [
                    (1, int(bits == 3), code, step, selector, packed, *_term(table, code, step))
                    for step in range(table.cycles)
                ]
    columns = [np.array(column)[None] for column in zip(*rows, strict=True)]
    names = ("floating", "three_bits", "code", "step", "selector", "specials")
    widths = (1, 1, 8, 2, 2, 24)
    stimulus = {n: bits_of(c, w) for n, c, w in zip(names, columns, widths, strict=False)}
    valid, sign, exponent, significance = columns[6:]
    # Where there is no term the sign says nothing, so it is compared where there is one.
    expected = {"valid": valid, "exponent": exponent, "significance": significance, "sign": sign}
    return Vectors(stimulus, expected, signed=False, compared_ports={"sign": valid.astype(bool)})


def _term(table: TermTable, code: int, step: int) -> tuple[int, int, int, int]:
    """valid, sign, exponent, significance."""
    sign = int(table.signs[code, step])
    return int(sign != 0), int(sign < 0), int(table.exponents[code, step]), table.significances[step]


def _group_terms(rng: np.random.Generator, lanes: int, significances: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A group of ``GROUP_SETS`` sets of lanes: activations with exponents near one another, and any terms."""
    cycles = len(significances)
    columns = (SERIAL_CASES, GROUP_SETS, lanes)
    base = rng.integers(1, 27, (SERIAL_CASES, 1, 1))
    exponent = np.clip(base + rng.integers(-4, 5, columns), 0, 30)
    activation = (rng.integers(0, 2, columns) << 15) | (exponent << 10) | rng.integers(0, 1024, columns)
    anything = finite(rng.integers(0, 1 << 16, columns), FP16)
    activation = np.where(np.arange(SERIAL_CASES)[:, None, None] % 8 == 0, anything, activation)
    shape = (*columns, cycles)
    signs = rng.choice([-1, 0, 1], shape, p=[0.4, 0.2, 0.4])
    exponents = np.where(signs != 0, rng.integers(0, 4, shape), 0)
    return {"activation": activation, "signs": signs, "exponents": exponents}


def _group_stimulus(terms: dict[str, np.ndarray], significances: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Ports of ``bitmod_group_accumulator``: sets one after the other, all terms of a set before the next."""
    cycles = len(significances)

    def in_order(values: np.ndarray) -> np.ndarray:  # [cases, sets, lanes, cycles] -> [sets * cycles, cases, lanes]
        return np.moveaxis(values, (1, 3), (0, 1)).reshape(GROUP_SETS * cycles, SERIAL_CASES, -1)

    signs = in_order(terms["signs"])
    length = GROUP_SETS * cycles
    clear = np.zeros((length, SERIAL_CASES), bool)
    clear[0] = True
    significance = np.broadcast_to(np.tile(significances, GROUP_SETS)[:, None], clear.shape)
    return {
        "activation": lanes_of(in_order(np.repeat(terms["activation"][..., None], cycles, axis=3)), 16),
        "valid": signs != 0,
        "sign": signs < 0,
        "term_exponent": lanes_of(in_order(terms["exponents"]), 2),
        "significance": bits_of(significance, 3),
        "clear": flag(clear),
    }


def _group_results(terms: dict[str, np.ndarray], significances: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mantissa and exponent after each set, ``[sets, cases]``, by the functional model."""
    lanes, cycles = terms["activation"].shape[2], len(significances)
    datapath = replace(BITMOD_DATAPATH, pe=replace(BITMOD_PE, lanes=lanes))
    halves = terms["activation"].astype(np.uint16).view(np.float16).reshape(SERIAL_CASES, -1)
    significands, exponents = decode_fp16(halves)
    widths = (lanes, datapath.guard_bits, datapath.accumulator_bits, datapath.shifted_bits)
    found = np.zeros((2, GROUP_SETS, SERIAL_CASES), np.int64)
    for case in range(SERIAL_CASES):
        magnitudes = np.abs(significands[case]) << datapath.guard_bits
        signs = terms["signs"][case].reshape(-1, cycles)
        places = terms["exponents"][case].reshape(-1, cycles)
        for sets in range(1, GROUP_SETS + 1):
            n = sets * lanes
            mantissa, exponent, _ = fp16_group(
                magnitudes[:n], np.sign(significands[case][:n]), exponents[case][:n], signs[:n], places[:n],
                np.array(significances), widths, (False, False),
            )  # fmt: skip
            found[:, sets - 1, case] = mantissa, exponent
    return found[0], found[1]


BOOTH_SIGNIFICANCES, FLOAT_SIGNIFICANCES = (0, 2, 4, 6), (0, 1)


def bitmod_group_accumulator(design: Design, rng: np.random.Generator) -> Vectors:
    """A group of INT8-like terms, then one of FP4-like terms; compared after every set of lanes."""
    stimuli, mantissas, exponents, ends = [], [], [], []
    for significances in (BOOTH_SIGNIFICANCES, FLOAT_SIGNIFICANCES):
        terms = _group_terms(rng, design.lanes, significances)
        stimuli.append(_group_stimulus(terms, significances))
        mantissa, exponent = _group_results(terms, significances)
        mantissas.append(np.repeat(mantissa, len(significances), axis=0))
        exponents.append(np.repeat(exponent, len(significances), axis=0))
        ends.append(np.arange(len(mantissas[-1])) % len(significances) == len(significances) - 1)
    compared = np.broadcast_to(np.concatenate(ends)[:, None], (len(np.concatenate(ends)), SERIAL_CASES))
    return Vectors(
        {port: np.concatenate([stimulus[port] for stimulus in stimuli]) for port in stimuli[0]},
        {"mantissa": np.concatenate(mantissas), "exponent": np.concatenate(exponents)},
        compared=compared,
        unsigned_ports=("exponent",),
    )


def bitmod_dequantizer(design: Design, rng: np.random.Generator) -> Vectors:
    """Mantissas times scales, lowest bit first, three one after the other: the upper 21 bits, rounded down."""
    rounds = 3
    shape = (rounds, SERIAL_CASES)
    mantissa, scale = rng.integers(-(1 << 14), 1 << 14, shape), rng.integers(0, 1 << SCALE_BITS, shape)
    mantissa[0, :4], scale[0, :4] = [-(1 << 14), (1 << 14) - 1, -(1 << 14), -1], [255, 255, 128, 1]
    exponent = rng.integers(0, 64, shape)
    length = rounds * SCALE_BITS
    step = np.broadcast_to((np.arange(length) % SCALE_BITS)[:, None], (length, SERIAL_CASES))
    spread = {name: np.repeat(v, SCALE_BITS, axis=0) for name, v in (("m", mantissa), ("s", scale), ("e", exponent))}
    product = (mantissa * scale) >> BITMOD_DATAPATH.dropped_bits(SCALE_BITS)
    noise = rng.integers(-(1 << 14), 1 << 14, step.shape)  # the mantissa port matters in the first cycle only
    stimulus = {
        "start": flag(step == 0),
        "scale_bit": flag((spread["s"] >> step) & 1),
        "mantissa": bits_of(np.where(step == 0, spread["m"], noise), 15),
        "exponent": bits_of(np.where(step == 0, spread["e"], noise & 63), 6),
    }
    return Vectors(
        stimulus,
        {"product": np.repeat(product, SCALE_BITS, axis=0), "product_exponent": spread["e"]},
        compared=step == SCALE_BITS - 1,
        unsigned_ports=("product_exponent",),
    )


def bitmod_pe(design: Design, rng: np.random.Generator) -> Vectors:
    """A group, and its dequantization while the next group runs."""
    terms = [_group_terms(rng, design.lanes, FLOAT_SIGNIFICANCES) for _ in range(2)]
    stimuli = [_group_stimulus(group, FLOAT_SIGNIFICANCES) for group in terms]
    mantissa, exponent = (part[-1] for part in _group_results(terms[0], FLOAT_SIGNIFICANCES))
    length = GROUP_SETS * len(FLOAT_SIGNIFICANCES)
    assert length >= SCALE_BITS, "the second group must be long enough for the dequantization of the first"
    scale = rng.integers(0, 1 << SCALE_BITS, SERIAL_CASES)
    cycle = np.broadcast_to(np.arange(2 * length)[:, None], (2 * length, SERIAL_CASES))
    place = np.clip(cycle - length, 0, SCALE_BITS - 1)
    stimulus = {port: np.concatenate([part[port] for part in stimuli]) for port in stimuli[0]}
    stimulus["hand_over"] = flag(cycle == length)
    stimulus["scale_bit"] = flag((scale >> place) & 1)
    product = (mantissa * scale) >> BITMOD_DATAPATH.dropped_bits(SCALE_BITS)
    return Vectors(
        stimulus,
        {"product": np.broadcast_to(product, cycle.shape), "product_exponent": np.broadcast_to(exponent, cycle.shape)},
        compared=cycle == length + SCALE_BITS - 1,
        unsigned_ports=("product_exponent",),
    )


def bitmod_int_accumulator(design: Design, rng: np.random.Generator) -> Vectors:
    """INT8 activations: exact."""
    terms = _group_terms(rng, design.lanes, BOOTH_SIGNIFICANCES)
    stimulus = _group_stimulus(terms, BOOTH_SIGNIFICANCES)
    a = rng.integers(-128, 128, terms["activation"].shape)
    cycles = len(BOOTH_SIGNIFICANCES)
    held = np.repeat(np.moveaxis(a, 1, 0), cycles, axis=0)
    stimulus["activation"] = lanes_of(held, 8)
    powers = np.array(BOOTH_SIGNIFICANCES) + terms["exponents"]
    sums = (a[..., None] * terms["signs"] * (1 << powers)).sum(axis=2)  # [cases, sets, cycles]
    running = np.cumsum(np.moveaxis(sums, 0, 2).reshape(-1, SERIAL_CASES), axis=0)
    return Vectors(stimulus, {"accumulator": wrap(running, design.accumulator_bits)})
