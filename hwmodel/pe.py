"""Processing elements, and what each number format costs on them: the hardware's view of a ``Format``.

Three kinds: a bit-serial PE that takes one weight term a cycle from each of its lanes (BitMoD), a multiplier of FP16
activations by small integers (the model of ANT, OliVe and FIGNA), and an FP16 multiply-accumulate. ``array_path`` says
how a weight format goes through each, or why it cannot.

Sources: Chen et al., BitMoD, HPCA 2025, sections III-IV and table X. Functional models are ``hwmodel.pe_functional``'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np

from datatypes.catalog import BITMOD_FP3, BITMOD_FP4
from datatypes.format import CodebookFormat, FloatFormat, Format, IntFormat, LearnedFormat

WIDE_BITS = 16  # FP16: what the FP16 array and the vector unit multiply, and what activations are


class PeKind(Enum):
    """How a PE multiplies."""

    BIT_SERIAL = "bit_serial"  # terms +-2**e of a weight, one a cycle and lane
    INT_MULTIPLIER = "int_multiplier"  # FP16 activation x integer weight, one a cycle
    FP16_MAC = "fp16_mac"  # FP16 x FP16, one a cycle; weights are decoded to FP16 when they are loaded


@dataclass(frozen=True)
class PE:
    """One processing element.

    Args:
        name: lower case.
        kind: how it multiplies.
        lanes: weights taken in at once.
        energy_pj_per_cycle: of a busy PE after synthesis, before the technology's layout factor.
        area_um2: after synthesis.
        max_integer_bits: widest two's complement weight; 0 for an FP16 MAC, where it does not matter.
        decoders: formats beyond integers that the array's edge decodes to integers.
        source: where the figures come from.
    """

    name: str
    kind: PeKind
    lanes: int
    energy_pj_per_cycle: float
    area_um2: float
    max_integer_bits: int
    source: str
    decoders: tuple[Format, ...] = ()

    def __post_init__(self) -> None:
        if self.lanes < 1:
            raise ValueError(f"lanes of PE {self.name} must be at least 1, not {self.lanes!r}")
        if self.energy_pj_per_cycle < 0 or self.area_um2 <= 0:
            raise ValueError(
                f"energy_pj_per_cycle and area_um2 of PE {self.name} must be at least 0 and above 0, "
                f"not {self.energy_pj_per_cycle!r} and {self.area_um2!r}"
            )

    @property
    def bit_serial(self) -> bool:
        """Whether weights arrive term by term."""
        return self.kind is PeKind.BIT_SERIAL


@dataclass(frozen=True)
class ArrayPath:
    """How a weight format goes through an array.

    Args:
        cycles: for one step of ``lanes`` weights.
        sram_bits: of one weight in the weight buffer.
        decoded: codes and scales were turned into FP16 on the way in, so that no scaling is left to do.
    """

    cycles: int
    sram_bits: float
    decoded: bool = False


def cycles_of_bits(bits: float, pe: PE) -> int:
    """Cycles for a step of weights of ``bits``: ceil(floor(bits) / 2) bit-serially (radix-4 Booth), else 1.

    The fraction (metadata) takes no cycles.
    """
    return max(1, math.ceil(math.floor(bits) / 2)) if pe.bit_serial else 1


def integer_bits(fmt: Format) -> int | None:
    """Width of the two's complement integer that holds every value of ``fmt``; ``None`` if it holds other values.

    Unsigned codes need one bit more. A codebook of small integers (ternary) may be stored as integers of its own width.
    """
    if isinstance(fmt, IntFormat):
        return fmt.bits if fmt.signed_codes else fmt.bits + 1
    if isinstance(fmt, CodebookFormat):
        levels = fmt.levels
        half = 1 << (fmt.bits - 1)
        if np.array_equal(levels, np.rint(levels)) and levels[0] >= -half and levels[-1] < half:
            return fmt.bits
    return None


@cache
def two_term(fmt: Format) -> bool:
    """Whether BitMoD's term encoder decodes ``fmt``: FP3 or FP4 codes, and in place of -0 a special value of at most
    two terms that fits four integer bits and one fraction bit (HPCA 2025, section IV-A).

    >>> from datatypes.catalog import FP4, NF4
    >>> two_term(FP4), two_term(NF4)
    (True, False)
    """
    plain = {3: BITMOD_FP3[0], 4: BITMOD_FP4[0]}.get(fmt.bits)
    if plain is None or fmt.dim != 1 or not isinstance(fmt, CodebookFormat | FloatFormat):
        return False
    codes = [code for code in range(1 << fmt.bits) if code != plain.special]
    if not np.array_equal(fmt.code_values[codes], plain.code_values[codes]):
        return False
    special = abs(float(fmt.code_values[plain.special])) * 2  # in units of the fraction bit
    return special == int(special) and special < 32 and int(special).bit_count() <= 2


def array_path(formats: Iterable[Format], pe: PE) -> ArrayPath:
    """How weights that may be of any of ``formats`` (of equal width) go through ``pe``.

    The slowest candidate sets the pace: lanes of a column share their control.

    Raises:
        NotImplementedError: the PE cannot take a format; the message is the reason alone.
    """
    paths = [_path_of(fmt, pe) for fmt in formats]
    return ArrayPath(max(p.cycles for p in paths), max(p.sram_bits for p in paths), paths[0].decoded)


@cache
def _path_of(fmt: Format, pe: PE) -> ArrayPath:
    """``array_path`` of one format."""
    if pe.kind is PeKind.FP16_MAC:
        if fmt.bits_per_element > WIDE_BITS:
            raise NotImplementedError(f"its PEs multiply FP16, and {fmt.name} is wider")
        return ArrayPath(1, WIDE_BITS, decoded=True)
    if isinstance(fmt, LearnedFormat):
        raise NotImplementedError("its PEs hold no table for a learned codebook")
    width = integer_bits(fmt)
    if width is not None:
        if width > pe.max_integer_bits:
            raise NotImplementedError(
                f"its PEs take two's complement integers of up to {pe.max_integer_bits} bits "
                f"and {fmt.name} needs {width}"
            )
        return ArrayPath(cycles_of_bits(width, pe), fmt.bits)
    if pe.kind is PeKind.BIT_SERIAL:
        if two_term(fmt):
            return ArrayPath(2, fmt.bits)  # HPCA 2025, section IV-A: at most two terms
        raise NotImplementedError(
            f"its term encoder decodes integers of up to {pe.max_integer_bits} bits and FP3/FP4 with one special "
            f"value, and has no table for {fmt.name}"
        )
    if fmt in pe.decoders:
        return ArrayPath(1, fmt.bits_per_element)
    known = ", ".join(decoder.name for decoder in pe.decoders)
    also = f" and decodes {known}" if known else ""
    raise NotImplementedError(
        f"it multiplies integers of up to {pe.max_integer_bits} bits{also}, and {fmt.name} is none of these"
    )


def runnable(formats: Iterable[Format], pe: PE) -> tuple[Format, ...]:
    """Those of ``formats`` that the array takes, in order (for lists of what an accelerator runs).

    >>> from datatypes.catalog import FP4, FP16, INTS, NF4
    >>> from hwmodel.presets import BITMOD_PE
    >>> [fmt.name for fmt in runnable((FP4, NF4, INTS[8], FP16), BITMOD_PE)]
    ['e2m1', 'int8']
    """
    taken = []
    for fmt in formats:
        try:
            array_path((fmt,), pe)
        except NotImplementedError:
            continue
        taken.append(fmt)
    return tuple(taken)


def wide_float(formats: Iterable[Format]) -> bool:
    """Whether all of ``formats`` are 16-bit floats, which FP16 lanes of a vector unit multiply."""
    return all(isinstance(fmt, FloatFormat) and fmt.bits == WIDE_BITS for fmt in formats)


def scale_cycles(scale: Format) -> int:
    """Cycles of BitMoD's bit-serial dequantization: one for each significant bit of the scale (section IV-B).

    >>> from datatypes.catalog import E8M0, FP16, UINT8
    >>> [scale_cycles(fmt) for fmt in (UINT8, FP16, E8M0)]
    [8, 11, 1]
    """
    if isinstance(scale, IntFormat):
        return scale.bits
    return scale.mantissa_bits + 1 if isinstance(scale, FloatFormat) else 1
