"""BitMoD's bit-serial PE as an arithmetic of the headers: the word that tells its encoders what they decode.

Source: Chen et al., BitMoD, HPCA 2025, section IV, figure 5 and table IV. ``bitmod_of`` picks the C++ type for weights,
inputs and scales (``bitmod_array.h``); ``RUNTIME_FORMATS`` are those among which an exported layer's format register
chooses when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4, FP16, INTS
from datatypes.format import ExponentFormat, Format, IntFormat, LearnedFormat, VectorFormat
from datatypes.outlier_victim import OutlierVictimFormat
from hls.c_types import CArithmetic, largest_integer, unit_exponent

BITMOD_LANES = 4  # of one PE (Chen et al., HPCA 2025, figure 5)
_FLOATING = {3: (0.0, 1.0, 2.0, 4.0), 4: (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)}  # Table IV: magnitudes by code
_MOST_SPECIALS = 4


def bitmod_of(
    weight: tuple[Format, ...], activation: Format, *, scale: Format | None, lanes: int, group: int
) -> CArithmetic:
    """BitMoD's bit-serial arithmetic: FP16 activations with the scale in the PE, or INT8 with exact sums.

    Args:
        weight: BitMoD's formats among which a selector picks (four at most), FP3, FP4, or an integer of up to 8 bits.
        activation: FP16 or INT8.
        scale: how a group's scale is stored; ``None`` for none. Not used beside INT8.
        lanes: a multiple of the PE's four.
        group: weights in a group.

    Raises:
        ValueError: lanes that are no multiple of four.
        NotImplementedError: formats that the PE does not take.
    """
    if lanes < 1 or lanes % BITMOD_LANES:
        raise ValueError(f"lanes of BitMoD's PE must be a multiple of {BITMOD_LANES}, not {lanes!r}")
    word = bitmod_register(weight)
    if activation == FP16:
        text = f"codesign::bitmod_arithmetic<{_bitmod_scale(scale)}, {lanes}>"
        return CArithmetic(text, ("bitmod_array.h",), 8, 16, registers=(word,))
    if not (isinstance(activation, IntFormat) and activation.bits == 8 and activation.signed_codes):
        raise NotImplementedError(f"BitMoD's PE takes activations of FP16 or INT8, not {activation.name}")
    total = _int_sum_bits(weight, activation, group)
    text = f"codesign::bitmod_int_arithmetic<{lanes}, {total}>"
    return CArithmetic(text, ("bitmod_array.h",), 8, 8, -1, total, (word,))


def _int_sum_bits(weight: tuple[Format, ...], activation: Format, group: int) -> int:
    """Bits of an exact sum of a group, in halves."""
    largest = max(largest_integer(fmt) << unit_exponent(fmt) + 1 for fmt in weight)
    return (group * largest * largest_integer(activation)).bit_length() + 1


RUNTIME_FORMATS: Mapping[str, tuple[Format, ...]] = {  # Chen et al., section IV: what one PE array runs
    "bitmod_fp3": BITMOD_FP3,
    "bitmod_fp4": BITMOD_FP4,
    "int4": (INTS[4],),
    "int6": (INTS[6],),
    "int8": (INTS[8],),
}
RUNTIME_CODE_BITS = 8  # of the widest; codes of 3, 4, 6 and 8 bits are taken apart (``runtime_code_tile``)
RUNTIME_SELECTOR_BITS = 2  # of the mixtures; present for integers too, and not read


def runtime_name(weight: tuple[Format, ...]) -> str:
    """Which of ``RUNTIME_FORMATS`` a weight has.

    Raises:
        NotImplementedError: none.
    """
    word = bitmod_register(weight)  # symmetric integers are integers
    for name, formats in RUNTIME_FORMATS.items():
        if bitmod_register(formats) == word:
            return name
    raise NotImplementedError(
        f"formats chosen at run time are {', '.join(RUNTIME_FORMATS)}, not {'/'.join(fmt.name for fmt in weight)}"
    )


def runtime_bitmod_of(
    weight: tuple[Format, ...], activation: Format, *, scale: Format | None, lanes: int, group: int
) -> CArithmetic:
    """As ``bitmod_of``, with sums that hold any of ``RUNTIME_FORMATS``: one type for all of them.

    Raises:
        ValueError, NotImplementedError: as ``bitmod_of``, or another format.
    """
    runtime_name(weight)
    made = bitmod_of(weight, activation, scale=scale, lanes=lanes, group=group)
    if not made.sum_bits:
        return made
    total = max(_int_sum_bits(formats, activation, group) for formats in RUNTIME_FORMATS.values())
    return replace(made, type=f"codesign::bitmod_int_arithmetic<{lanes}, {total}>", sum_bits=total)


def bitmod_register(weight: tuple[Format, ...]) -> int:
    """The word that tells BitMoD's encoders what they decode: special values, width, whether it is a float.

    >>> from datatypes.catalog import BITMOD_FP3, INTS
    >>> hex(bitmod_register(BITMOD_FP3))  # +3, -3, +6, -6 in halves, sign on top: 06, 26, 0c, 2c
    '0xab0c986'
    >>> hex(bitmod_register((INTS[6],)))
    '0x5000000'

    Raises:
        NotImplementedError: formats that the encoders do not take.
    """
    refused = NotImplementedError(
        "BitMoD's PE takes its own formats, FP3, FP4 and integers of up to 8 bits, not "
        + ", ".join(fmt.name for fmt in weight)
    )
    bits = weight[0].bits
    if len(weight) == 1 and isinstance(weight[0], IntFormat):
        if bits > 8 or not weight[0].signed_codes or weight[0].step != 1.0:
            raise refused
        return bits - 1 << 24
    if len(weight) > _MOST_SPECIALS or bits not in _FLOATING:
        raise refused
    specials = 0
    for place, fmt in enumerate(weight):
        plain = _FLOATING[bits]
        if isinstance(fmt, OutlierVictimFormat | VectorFormat | LearnedFormat) or fmt.bits != bits:
            raise refused
        values = fmt.code_values
        special = float(values[len(plain)])
        halves = abs(2 * special)
        ordinary = (*plain, special, *(-value for value in plain[1:]))
        if not np.array_equal(values, ordinary) or halves != int(halves) or halves > 31:
            raise refused
        specials |= (int(special < 0) << 5 | int(halves)) << 6 * place
    return specials | bits - 1 << 24 | 1 << 27


def _bitmod_scale(scale: Format | None) -> str:
    if scale is None:
        return "codesign::bitmod_exponent_scale<1, 0>"
    if isinstance(scale, IntFormat) and not scale.signed_codes and scale.step == 1.0:
        return f"codesign::bitmod_integer_scale<{scale.bits}>"
    if isinstance(scale, ExponentFormat):
        return f"codesign::bitmod_exponent_scale<{scale.bits}, {scale.bias}>"
    if scale == FP16:
        return "codesign::bitmod_float_scale<5, 10>"
    raise NotImplementedError(f"BitMoD's dequantizer takes scales of integers, FP16 or powers of two, not {scale.name}")
