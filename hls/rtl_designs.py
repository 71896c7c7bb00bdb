"""Which PEs are synthesised: ``SWEEPS`` names the sets that the recorded tables hold.

Every integer pair of 2 to 8 bits, minifloats of 3 to 8 bits and their pairs, floats, MX and NVFP4 blocks, BitMoD's
parts, codebooks, mixtures, shift-MACs and serial PEs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from datatypes.catalog import MINIFLOATS
from datatypes.format import FloatFormat, FloatVariant
from hls.rtl_constructors import (
    bit_bit_dot,
    bit_serial_dot,
    bitmod_part,
    codebook_dot,
    codebook_float_mac,
    decoder,
    fixed_product_bits,
    flint_flint_dot,
    flint_int_dot,
    float_int_mac,
    float_mac,
    int_dot,
    int_multiplier,
    int_pair_dot,
    minifloat_dot,
    minifloat_unit,
    mx_block_dot,
    nvfp4_block_dot,
    olive_dot,
    tender_dot,
    term_serial_dot,
)
from hls.rtl_constructors_books import mixture_dot, mixture_float_mac, vector_codebook_dot, vector_dot
from hls.rtl_design import Design

INT_BITS = range(2, 9)  # the study's range of integers
FIXED_PRODUCT_LIMIT = 80  # bits: E5M2 x E5M2 has 67; wider products are left out


def finite_minifloats() -> tuple[FloatFormat, ...]:
    """ExMy of 3 to 8 bits, all codes finite, by width and exponent."""
    found = [fmt for fmt in MINIFLOATS.values() if fmt.variant is FloatVariant.FINITE]
    return tuple(sorted(found, key=lambda fmt: (fmt.bits, fmt.exponent_bits)))


def _int_units() -> Iterator[Design]:
    """Signed pairs once (the roles are interchangeable), unsigned activations in every pair."""
    signed = [(w, a) for w in INT_BITS for a in INT_BITS if w <= a]
    every = list(itertools.product(INT_BITS, INT_BITS))
    yield from (int_dot(w, a) for w, a in signed)
    yield from (int_multiplier(w, a) for w, a in signed)
    yield from (int_dot(w, a, unsigned=True) for w, a in every)
    yield from (int_multiplier(w, a, unsigned=True) for w, a in every)


def _int_lanes() -> Iterator[Design]:
    for lanes in (4, 16):
        yield from (int_dot(w, a, lanes=lanes) for w in INT_BITS for a in INT_BITS if w <= a)


def _minifloat_units() -> Iterator[Design]:
    narrow = [fmt for fmt in finite_minifloats() if fixed_product_bits(fmt, fmt) <= FIXED_PRODUCT_LIMIT]
    yield from (minifloat_dot(fmt, fmt) for fmt in narrow)
    for module in ("minifloat_multiplier", "minifloat_product"):
        yield from (minifloat_unit(module, fmt, fmt) for fmt in narrow)


def _minifloat_pairs() -> Iterator[Design]:
    for weight, activation in itertools.combinations(finite_minifloats(), 2):
        if fixed_product_bits(weight, activation) <= FIXED_PRODUCT_LIMIT:
            yield minifloat_dot(weight, activation)


MX_ELEMENTS = ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2", "mx_int8")
STUDY_MINIFLOATS = ("e2m1", "e3m0", "e1m2", "e2m3", "e3m2", "e3m4", "e4m3", "e5m2")


def _minifloat_lanes() -> Iterator[Design]:
    for lanes in (4, 16):
        yield from (minifloat_dot(MINIFLOATS[name], MINIFLOATS[name], lanes=lanes) for name in STUDY_MINIFLOATS)


def _minifloat_pair_units() -> Iterator[Design]:
    """Multipliers and fixed-point products of the pairs, without an accumulator."""
    for weight, activation in itertools.combinations(finite_minifloats(), 2):
        if fixed_product_bits(weight, activation) <= FIXED_PRODUCT_LIMIT:
            for module in ("minifloat_multiplier", "minifloat_product"):
                yield minifloat_unit(module, weight, activation)


def wide_float(exponent_bits: int, mantissa_bits: int, name: str) -> FloatFormat:
    """FP16 or BF16 as a MAC operand that holds finite values."""
    bits = 1 + exponent_bits + mantissa_bits
    return FloatFormat(name, bits, "IEEE 754-2019", exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)


FP16_OPERAND, BF16_OPERAND = wide_float(5, 10, "fp16"), wide_float(8, 7, "bf16")


def _floats() -> Iterator[Design]:
    yield float_mac(FP16_OPERAND, FP16_OPERAND)
    yield float_mac(FP16_OPERAND, FP16_OPERAND, exponent_bits=5, mantissa_bits=10)
    yield float_mac(BF16_OPERAND, BF16_OPERAND)
    yield from (float_int_mac(bits) for bits in INT_BITS)
    for name in ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2"):
        fmt = MINIFLOATS[name]
        yield float_mac(fmt, fmt)
        yield float_mac(fmt, fmt, exponent_bits=8, mantissa_bits=13)
        yield float_mac(fmt, FP16_OPERAND)


def _blocks() -> Iterator[Design]:
    for lanes in (4, 16):
        yield from (mx_block_dot(element, lanes=lanes) for element in MX_ELEMENTS)
        yield nvfp4_block_dot(lanes=lanes)


def _bitmod() -> Iterator[Design]:
    for module in ("bitmod_term_encoder", "bitmod_dequantizer"):
        yield bitmod_part(module)
    for module in ("bitmod_group_accumulator", "bitmod_int_accumulator", "bitmod_pe"):
        yield from (bitmod_part(module, lanes=lanes) for lanes in (1, 2, 4, 8))


def _codebooks() -> Iterator[Design]:
    for lanes in (1, 4, 16):
        yield codebook_dot(programmable=False, lanes=lanes)
        yield codebook_dot(programmable=True, lanes=lanes)
        yield codebook_dot(programmable=True, code_bits=3, lanes=lanes)
    yield codebook_dot(programmable=False, entry_bits=6)
    yield codebook_dot(programmable=False, entry_bits=8, activation_bits=4)
    yield from (codebook_float_mac(programmable=programmable) for programmable in (False, True))


def _shifts() -> Iterator[Design]:
    yield from (decoder("flint_decode", (("BITS", b - 1),), f"flint{b}", f"flint{b}") for b in (3, 4, 5))
    yield from (decoder("olive_decode", (("FLINT", f),), n, n) for f, n in ((0, "olive4_int"), (1, "olive4_flint")))
    yield from (flint_int_dot(4, a, lanes=lanes) for a in (4, 8) for lanes in (1, 4, 16))
    yield flint_int_dot(5, 8)
    yield from (flint_flint_dot(b, lanes=lanes) for b in (4, 5) for lanes in (1, 4, 16))
    yield from (olive_dot(flint=flint, lanes=lanes) for flint in (False, True) for lanes in (2, 16))
    yield from (tender_dot(b, b, lanes=lanes) for b in (4, 8) for lanes in (1, 4, 16))
    yield from (tender_dot(b, b, unsigned=True) for b in (4, 8))


def _serial() -> Iterator[Design]:
    for lanes in (1, 4, 16):
        yield bit_serial_dot(8, 8, lanes=lanes)
        yield bit_serial_dot(8, 8, lanes=lanes, accumulate=False)
        yield term_serial_dot(8, lanes=lanes)
    yield from (bit_serial_dot(bits, 8, lanes=16) for bits in range(2, 8))
    yield from (bit_serial_dot(8, bits, lanes=16) for bits in range(2, 8))
    yield bit_serial_dot(16 // 2, 8, lanes=64)
    yield from (term_serial_dot(bits, lanes=4) for bits in (4, 6))
    yield from (bit_bit_dot(lanes=lanes) for lanes in (16, 64, 256))


def _int_wide() -> Iterator[Design]:
    """Widths beyond the study's: what closed forms and fits of 2 to 8 bits say is tried on these."""
    for unit in (int_multiplier, int_dot):
        yield from (unit(w, 16) for w in (*INT_BITS, 16))


def _lane_counts() -> Iterator[Design]:
    """Lanes between and beyond those of the other sweeps, a few formats of every family."""
    for lanes in (2, 8, 32):
        yield from (int_dot(w, a, lanes=lanes) for w, a in ((2, 8), (4, 4), (4, 8), (8, 8)))
        yield from (minifloat_dot(MINIFLOATS[name], MINIFLOATS[name], lanes=lanes) for name in ("e2m1", "e2m3", "e4m3"))
        yield from (tender_dot(b, b, lanes=lanes) for b in (4, 8))
        yield flint_int_dot(4, 8, lanes=lanes)
        yield flint_flint_dot(4, lanes=lanes)
        yield from (codebook_dot(programmable=programmable, lanes=lanes) for programmable in (False, True))
        yield bit_serial_dot(8, 8, lanes=lanes)
        yield bit_serial_dot(4, 8, lanes=lanes)
        yield from (mx_block_dot(element, lanes=lanes) for element in ("e2m1", "e4m3"))
    yield from (olive_dot(flint=flint, lanes=lanes) for flint in (False, True) for lanes in (4, 8))
    yield from (nvfp4_block_dot(lanes=lanes) for lanes in (2, 8))
    yield from (term_serial_dot(8, lanes=lanes) for lanes in (2, 8, 32))
    yield from (bit_bit_dot(lanes=lanes) for lanes in (8, 32, 128))
    for module in ("bitmod_group_accumulator", "bitmod_int_accumulator", "bitmod_pe"):
        yield from (bitmod_part(module, lanes=lanes) for lanes in (3, 6, 16))


def _more_formats() -> Iterator[Design]:
    """Families of few formats with others: left out in turn, they say how far a family's prices carry."""
    yield from (tender_dot(w, a) for w, a in ((3, 3), (4, 8), (5, 5), (6, 6), (6, 8)))
    yield from (flint_int_dot(b, a) for b, a in ((3, 3), (3, 8), (4, 6), (5, 5)))
    yield flint_flint_dot(3)
    yield from (term_serial_dot(bits, lanes=lanes) for bits in (4, 6) for lanes in (1, 16))
    yield from (term_serial_dot(bits, lanes=4, shift_bits=2) for bits in (4, 8))
    for code_bits, entry_bits, activation_bits in ((2, 4, 8), (3, 6, 8), (4, 4, 4), (4, 6, 6), (5, 8, 8), (6, 8, 8)):
        yield codebook_dot(
            programmable=True, code_bits=code_bits, entry_bits=entry_bits, activation_bits=activation_bits
        )
    yield from (codebook_dot(programmable=False, entry_bits=e, activation_bits=a) for e, a in ((4, 4), (5, 8), (6, 6)))
    yield from (mx_block_dot(element, lanes=4) for element in ("e3m0", "e2m2", "e3m3", "e5m0"))
    yield float_mac(FP16_OPERAND, FP16_OPERAND, exponent_bits=8, mantissa_bits=13)
    yield float_mac(BF16_OPERAND, BF16_OPERAND, exponent_bits=8, mantissa_bits=7)
    yield from (float_mac(MINIFLOATS[name], BF16_OPERAND) for name in ("e2m1", "e4m3"))
    yield from (float_mac(MINIFLOATS[name], MINIFLOATS[name]) for name in ("e3m0", "e3m3", "e2m4"))


INT_PAIRS = ((2, 2), (2, 4), (2, 8), (3, 3), (3, 6), (4, 4), (4, 6), (4, 8), (5, 5), (6, 6), (6, 8), (8, 8))


def _int_lane_counts() -> Iterator[Design]:
    """Dot products of integers with lanes between and beyond those of ``int_lanes``."""
    for lanes in (2, 8, 32):
        yield from (int_dot(w, a, lanes=lanes) for w, a in INT_PAIRS)


def _int_unsigned_lanes() -> Iterator[Design]:
    """Dot products with unsigned activations; weights may be the wider operand."""
    swapped = tuple((a, w) for w, a in INT_PAIRS if w < a)
    for lanes in (4, 16):
        yield from (int_dot(w, a, lanes=lanes, unsigned=True) for w, a in (*INT_PAIRS, *swapped))


def _int_accumulators() -> Iterator[Design]:
    """Accumulators of other widths than ten bits above the product."""
    pairs = ((2, 2), (2, 8), (3, 3), (4, 4), (4, 8), (8, 8))
    for lanes, bits in itertools.product((1, 4, 16), (20, 24, 32)):
        yield from (int_dot(w, a, lanes=lanes, accumulator_bits=bits) for w, a in pairs if bits >= w + a)


def _decoded() -> Iterator[Design]:
    """Flints, outlier-victim pairs and code books of every width and of more numbers of lanes."""
    for bits, a, lanes in itertools.product((3, 4, 5), (3, 4, 5, 6, 8), (1, 4, 16)):
        yield flint_int_dot(bits, a, lanes=lanes)
    for lanes in (1, 2, 4, 8, 16):
        yield from (flint_flint_dot(bits, lanes=lanes) for bits in (3, 4, 5))
    yield from (olive_dot(flint=flint, lanes=lanes) for flint in (False, True) for lanes in (2, 4, 8, 16, 32))
    for code, entry, a in itertools.product((3, 4), (4, 6, 8), (4, 6, 8)):
        yield from (codebook_dot(programmable=False, code_bits=code, entry_bits=entry, activation_bits=a, lanes=lanes)
                    for lanes in (1, 4))  # fmt: skip
    for code, a, lanes in itertools.product((2, 3, 4, 5, 6), (4, 6, 8), (1, 4)):
        yield codebook_dot(programmable=True, code_bits=code, activation_bits=a, lanes=lanes)
    yield from (codebook_dot(programmable=False, code_bits=3, lanes=lanes) for lanes in (2, 8, 16))
    yield from (codebook_dot(programmable=True, code_bits=code, lanes=2) for code in (3, 4))


def _term_widths() -> Iterator[Design]:
    """Term-serial PEs of every activation width."""
    for bits, shift_bits, lanes in itertools.product(INT_BITS, (2, 3), (1, 4)):
        yield term_serial_dot(bits, lanes=lanes, shift_bits=shift_bits)


PACKED_PAIRS = ((2, 2), (2, 4), (2, 8), (3, 3), (3, 4), (3, 8), (4, 4), (4, 6), (4, 8))


def _int_pairs() -> Iterator[Design]:
    """Two products in one multiplier, of widths that fit one DSP48E2: for the flow ``dsp``."""
    for lanes in (2, 4, 5):
        yield from (int_pair_dot(w, a, lanes=lanes) for w, a in PACKED_PAIRS)
    yield from (int_pair_dot(w, a, unsigned=True) for w, a in ((2, 8), (4, 4), (4, 8)))
    yield from (int_pair_dot(4, a, lanes=16) for a in (4, 8))


def _mixtures() -> Iterator[Design]:
    """Candidates that a selector picks for a group, BitMoD's and ANT's, in a parallel PE."""
    for name, lanes in itertools.product(("bitmod_fp3", "bitmod_fp4", "ant4"), (1, 2, 4, 8, 16)):
        yield from (mixture_dot(name, a, lanes=lanes) for a in ((4, 6, 8) if lanes in (1, 4) else (8,)))
    yield from (mixture_float_mac(name) for name in ("bitmod_fp3", "bitmod_fp4"))


def _vector_books() -> Iterator[Design]:
    """Vector and residual codebooks: constant grids, registers, and products behind books that are memories."""
    for code_bits, dimension in ((3, 2), (4, 2), (6, 2), (8, 2), (4, 4)):  # HIGGS
        yield from (vector_codebook_dot(code_bits, dimension, codes) for codes in (1, 2))
    yield vector_codebook_dot(4, 2, 2, activation_bits=4)
    yield vector_codebook_dot(4, 2, 2, entry_bits=6)
    yield vector_codebook_dot(4, 2, 2, residual_bits=4)
    for code_bits, dimension, codes in ((3, 2, 1), (3, 2, 2), (4, 2, 1), (4, 2, 2), (3, 4, 1)):
        yield vector_codebook_dot(code_bits, dimension, codes, programmable=True)
    for codes, along_outputs in itertools.product((1, 2), (False, True)):
        yield vector_codebook_dot(4, 2, codes, residual_bits=3, programmable=True, along_outputs=along_outputs)
    for dimension, codes, layers in (
        (2, 1, 1),
        (2, 4, 1),
        (4, 1, 1),
        (4, 2, 1),
        (8, 1, 1),
        (8, 1, 2),
        (8, 2, 1),
        (4, 1, 2),
    ):
        yield from (vector_dot(dimension, codes, layers=layers, activation_bits=a) for a in (4, 8))  # AQLM
    for dimension, codes, layers in ((2, 1, 1), (4, 1, 1), (6, 1, 1), (6, 1, 2), (6, 4, 1), (8, 1, 1)):  # VPTQ
        yield vector_dot(dimension, codes, layers=layers, along_outputs=True)


def _registered() -> Iterator[Design]:
    """Operands in registers, so that delay and frequency hold the multiplier; with and without a product register."""
    for stages in (1, 2):
        yield from (int_dot(w, a, stages=stages) for w, a in ((2, 2), (4, 4), (4, 8), (6, 6), (8, 8)))
        for name in STUDY_MINIFLOATS:
            yield minifloat_dot(MINIFLOATS[name], MINIFLOATS[name], stages=stages)
    yield term_serial_dot(8, lanes=4, stages=1)
    yield from (int_dot(4, a, lanes=16, stages=1) for a in (4, 8))


SWEEPS: Mapping[str, Callable[[], Iterator[Design]]] = {
    "int": _int_units,
    "minifloat": _minifloat_units,
    "registered": _registered,
    "int_pairs": _int_pairs,
    "mixtures": _mixtures,
    "vector_books": _vector_books,
    "bitmod": _bitmod,
    "shift": _shifts,
    "serial": _serial,
    "codebook": _codebooks,
    "blocks": _blocks,
    "floats": _floats,
    "int_lanes": _int_lanes,
    "minifloat_lanes": _minifloat_lanes,
    "minifloat_pairs": _minifloat_pairs,
    "minifloat_pair_units": _minifloat_pair_units,
    "int_wide": _int_wide,
    "lane_counts": _lane_counts,
    "more_formats": _more_formats,
    "int_lane_counts": _int_lane_counts,
    "int_unsigned_lanes": _int_unsigned_lanes,
    "int_accumulators": _int_accumulators,
    "decoded": _decoded,
    "term_widths": _term_widths,
}


def designs(sweep: str) -> tuple[Design, ...]:
    """The designs of a sweep, or of all for ``all``; each name once.

    Raises:
        ValueError: no such sweep, or two designs of one name that differ.
    """
    if sweep != "all" and sweep not in SWEEPS:
        raise ValueError(f"sweep must be all or one of {', '.join(SWEEPS)}, not {sweep!r}")
    names = SWEEPS if sweep == "all" else (sweep,)
    found: dict[str, Design] = {}
    for design in itertools.chain.from_iterable(SWEEPS[name]() for name in names):
        if found.setdefault(design.name, design) != design:
            raise ValueError(f"designs of one name must be equal, not differ as {design.name} does")
    return tuple(found.values())
