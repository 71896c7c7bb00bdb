"""What a PE computes, in the parameters that its cost depends on; the same record describes a recorded netlist.

``PeDesign`` names a module of ``hls/rtl`` (or one that would be built alike) with its parameters. ``pe_design`` makes
it from formats; ``design_of_row`` from a recorded row. Integer operands beside minifloats are described as a minifloat
without an exponent: sign and a significand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from datatypes.format import CodebookFormat, FloatFormat, Format, IntFormat, LearnedFormat
from hwmodel.pe import two_term
from hwmodel.synthesis_table import SynthesisRow

GUARD_BITS = 10  # of a fixed-point accumulator above one product: 1,024 products without overflow
ENTRY_BITS = 8  # of a code-book entry before it meets integers


class Arithmetic(Enum):
    """How weight and activation meet."""

    MULTIPLIER = "multiplier"  # product alone: of floats sign, significand and exponent sum, not normalised
    FIXED_PRODUCT = "fixed_product"  # product of floats as a two's complement number
    PARALLEL = "parallel"  # MAC or dot product in one cycle
    BLOCK = "block"  # dot product of two block-scaled vectors (OCP MX)
    WEIGHT_SERIAL = "weight_serial"  # bits of the weight, one a cycle
    ACTIVATION_SERIAL = "activation_serial"  # bits of the activation, one a cycle (Stripes)
    BOTH_SERIAL = "both_serial"  # a bit of each a cycle (Loom, BISMO)
    TERM_SERIAL = "term_serial"  # signed powers of two of the weight (Pragmatic, Bitlet)
    BITMOD = "bitmod"  # terms of the weight, FP16 activations, group dequantization (BitMoD)


@dataclass(frozen=True)
class FloatAccumulator:
    """One rounding for each addition. FP32 by default."""

    exponent_bits: int = 8
    mantissa_bits: int = 23

    def __post_init__(self) -> None:
        if self.exponent_bits < 2 or self.mantissa_bits < 1:
            raise ValueError(f"a float accumulator must have 2 exponent bits and 1 mantissa bit or more, not {self!r}")

    @property
    def bits(self) -> int:
        """Width with the sign."""
        return 1 + self.exponent_bits + self.mantissa_bits


@dataclass(frozen=True)
class FixedAccumulator:
    """Integer, or exact fixed point (Kulisch).

    Args:
        bits: sign included; ``None`` for an exact product and ``GUARD_BITS``.
    """

    bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits < 2:
            raise ValueError(f"bits of an accumulator must be at least 2, not {self.bits!r}")


Accumulator = FixedAccumulator | FloatAccumulator


@dataclass(frozen=True)
class PeDesign:
    """A module with its parameters.

    Args:
        family: module of ``hls/rtl``.
        parameters: by name, sorted; ``ACCUMULATOR_BITS`` always among them.
    """

    family: str
    parameters: tuple[tuple[str, int], ...]

    def get(self, name: str, default: int = 0) -> int:
        """A parameter, or ``default``."""
        return dict(self.parameters).get(name, default)

    @property
    def lanes(self) -> int:
        """Weights taken at once."""
        return self.get("LANES", 1)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.family}({', '.join(f'{k.lower()}={v}' for k, v in self.parameters)})"

    def replaced(self, **changes: int) -> PeDesign:
        """With other parameters."""
        return design(self.family, **{**dict(self.parameters), **changes})


def design(family: str, **parameters: int) -> PeDesign:
    """A design by its parameters; optional registers that are absent are dropped, as are default scales."""
    kept = {name: value for name, value in parameters.items() if value or name not in _ZERO_BY_DEFAULT}
    return PeDesign(family, tuple(sorted(kept.items())))


_ZERO_BY_DEFAULT = (
    "INPUT_REGISTER",
    "PRODUCT_REGISTER",
    "ACTIVATION_UNSIGNED",
    "WEIGHT_UNSIGNED",
    "PROGRAMMABLE",
    "FLINT",
)


def design_of_row(row: SynthesisRow) -> PeDesign:
    """The design of a recorded netlist; the contents of constant tables are left out."""
    fields = dict(part.split("=", 1) for part in row.parameters.split()) if row.parameters else {}
    values = {name: int(value) for name, value in fields.items() if name != "TABLE"}
    if row.family == "codebook_float_mac":
        values.setdefault("CODE_BITS", 4)  # the module's default
    return design(row.family, **{**values, "ACCUMULATOR_BITS": row.accumulator_bits})


def float_range(exponent_bits: int) -> int:
    """Largest left shift of a significand: ``2**E - 2``; 0 without an exponent."""
    return max((1 << exponent_bits) - 2, 0)


def fixed_product_bits(we: int, wm: int, ae: int, am: int) -> int:
    """Width of an exact product in two's complement fixed point, from exponent and mantissa bits of both sides.

    Source: ``2**Ew + Mw + 2**Ea + Ma - 1`` with the sign (Aggarwal et al., arXiv 2311.12359, less the sum's bits).

    >>> fixed_product_bits(4, 3, 4, 3), fixed_product_bits(2, 1, 2, 1)
    (37, 9)
    """
    return float_range(we) + float_range(ae) + wm + am + 3


def pe_design(
    weight: Format,
    activation: Format,
    *,
    arithmetic: Arithmetic = Arithmetic.PARALLEL,
    accumulator: Accumulator | None = None,
    lanes: int = 1,
) -> PeDesign:
    """The PE that multiplies ``weight`` and ``activation``.

    Args:
        weight, activation: element formats.
        arithmetic: how they meet.
        accumulator: ``FixedAccumulator()`` by default; FP32 for block-scaled vectors.
        lanes: products at once; of a product alone 1.

    Raises:
        ValueError: fewer than one lane, or lanes of a product alone.
        NotImplementedError: a pair or an accumulator that no PE here takes.
    """
    if lanes < 1:
        raise ValueError(f"lanes of a PE must be at least 1, not {lanes!r}")
    if arithmetic in (Arithmetic.MULTIPLIER, Arithmetic.FIXED_PRODUCT):
        if lanes != 1 or accumulator is not None:
            raise ValueError("a product alone must have one lane and no accumulator")
        return _product(weight, activation, arithmetic)
    if arithmetic is Arithmetic.BLOCK:
        return _block(weight, activation, accumulator, lanes)
    if arithmetic is Arithmetic.BITMOD:
        if not (two_term(weight) or isinstance(weight, IntFormat)) or not _is_fp16(activation):
            raise NotImplementedError(
                f"BitMoD's PE takes its own formats and FP16, not {weight.name} and {activation.name}"
            )
        return design("bitmod_pe", LANES=lanes, ACCUMULATOR_BITS=27)
    if arithmetic is Arithmetic.ACTIVATION_SERIAL:  # the same module, sides exchanged
        return _serial(activation, weight, Arithmetic.WEIGHT_SERIAL, accumulator, lanes)
    if arithmetic is not Arithmetic.PARALLEL:
        return _serial(weight, activation, arithmetic, accumulator, lanes)
    if isinstance(weight, CodebookFormat | LearnedFormat):
        return _codebook(weight, activation, accumulator, lanes)
    if isinstance(accumulator, FloatAccumulator):
        return _float(weight, activation, accumulator, lanes)
    bits = None if accumulator is None else accumulator.bits
    if isinstance(weight, IntFormat) and isinstance(activation, IntFormat):
        w, a, unsigned = _integers(weight, activation)
        return design(
            "int_dot", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=unsigned, LANES=lanes,
            ACCUMULATOR_BITS=w + a + GUARD_BITS if bits is None else bits,
        )  # fmt: skip
    fields = _pair(weight, activation)
    exact = fixed_product_bits(*fields.values()) + GUARD_BITS
    return design("minifloat_dot", **fields, LANES=lanes, ACCUMULATOR_BITS=exact if bits is None else bits)


# --- kinds -----------------------------------------------------------------------------------------------------------


def _integers(weight: IntFormat, activation: IntFormat) -> tuple[int, int, int]:
    """Widths and whether the activation is unsigned; of two signed operands the narrower comes first, as recorded."""
    w = weight.bits if weight.signed_codes else weight.bits + 1
    if not activation.signed_codes:
        return w, activation.bits, 1
    return min(w, activation.bits), max(w, activation.bits), 0


def operand(fmt: Format) -> tuple[int, int]:
    """Exponent and mantissa bits; an integer is sign and significand: no exponent, one mantissa bit less than bits.

    Raises:
        NotImplementedError: neither.
    """
    if isinstance(fmt, FloatFormat):
        return fmt.exponent_bits, fmt.mantissa_bits
    if isinstance(fmt, IntFormat):
        return 0, max(fmt.bits - (2 if fmt.signed_codes else 1), 0)
    raise NotImplementedError(f"a PE multiplies integers, floats and code books, not {fmt.name}")


def _pair(weight: Format, activation: Format) -> dict[str, int]:
    """Fields of both sides; equal roles are recorded once, the format that sorts first as the weight."""
    w, a = operand(weight), operand(activation)
    if _rank(*a) < _rank(*w):
        w, a = a, w
    return {
        "WEIGHT_EXPONENT_BITS": w[0], "WEIGHT_MANTISSA_BITS": w[1],
        "ACTIVATION_EXPONENT_BITS": a[0], "ACTIVATION_MANTISSA_BITS": a[1],
    }  # fmt: skip


def _rank(exponent_bits: int, mantissa_bits: int) -> tuple[int, int]:
    return exponent_bits + mantissa_bits, exponent_bits


def _product(weight: Format, activation: Format, arithmetic: Arithmetic) -> PeDesign:
    if isinstance(weight, IntFormat) and isinstance(activation, IntFormat):
        w, a, unsigned = _integers(weight, activation)
        return design(
            "int_multiplier", WEIGHT_BITS=w, ACTIVATION_BITS=a, ACTIVATION_UNSIGNED=unsigned, ACCUMULATOR_BITS=0
        )
    family = "minifloat_multiplier" if arithmetic is Arithmetic.MULTIPLIER else "minifloat_product"
    return design(family, **_pair(weight, activation), ACCUMULATOR_BITS=0)


def _is_fp16(fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat) and (fmt.exponent_bits, fmt.mantissa_bits) == (5, 10)


def _float(weight: Format, activation: Format, accumulator: FloatAccumulator, lanes: int) -> PeDesign:
    if isinstance(weight, IntFormat) and _is_fp16(activation) and lanes == 1 and accumulator == FloatAccumulator():
        return design("float_int_mac", WEIGHT_BITS=weight.bits, ACCUMULATOR_BITS=32)
    fields = _pair(weight, activation)
    return design(
        "float_mac", **fields, ACCUMULATOR_EXPONENT_BITS=accumulator.exponent_bits,
        ACCUMULATOR_MANTISSA_BITS=accumulator.mantissa_bits, ACCUMULATOR_BITS=accumulator.bits,
        **({} if lanes == 1 else {"LANES": lanes}),
    )  # fmt: skip


def _block(weight: Format, activation: Format, accumulator: Accumulator | None, lanes: int) -> PeDesign:
    if operand(weight) != operand(activation):
        raise NotImplementedError(f"block dot products take one format, not {weight.name} and {activation.name}")
    if accumulator not in (None, FloatAccumulator()):
        raise NotImplementedError(f"block dot products accumulate in FP32, not in {accumulator!r}")
    exponent_bits, mantissa_bits = (0, weight.bits - 1) if isinstance(weight, IntFormat) else operand(weight)
    return design(
        "mx_block_dot", EXPONENT_BITS=exponent_bits, MANTISSA_BITS=mantissa_bits, LANES=lanes, BLOCK=32,
        ACCUMULATOR_BITS=32,
    )  # fmt: skip


def _serial(
    weight: Format, activation: Format, arithmetic: Arithmetic, accumulator: Accumulator | None, lanes: int
) -> PeDesign:
    if not isinstance(activation, IntFormat) or isinstance(accumulator, FloatAccumulator):
        raise NotImplementedError(
            f"serial PEs take integer activations and a fixed accumulator, not {activation.name} and {accumulator!r}"
        )
    bits = None if accumulator is None else accumulator.bits
    if arithmetic is Arithmetic.BOTH_SERIAL:
        return design("bit_bit_dot", LANES=lanes, ACCUMULATOR_BITS=32 if bits is None else bits)
    if arithmetic is Arithmetic.TERM_SERIAL:
        shift_bits = max(math.ceil(math.log2(weight.bits)), 1)
        width = activation.bits + (1 << shift_bits) + GUARD_BITS if bits is None else bits
        return design(
            "term_serial_dot", ACTIVATION_BITS=activation.bits, SHIFT_BITS=shift_bits, LANES=lanes,
            ACCUMULATOR_BITS=width,
        )  # fmt: skip
    if not isinstance(weight, IntFormat):
        raise NotImplementedError(f"bit-serial weights must be integers, not {weight.name}")
    width = activation.bits + weight.bits + GUARD_BITS if bits is None else bits
    return design(
        "bit_serial_dot", PARALLEL_BITS=activation.bits, SERIAL_BITS=weight.bits, LANES=lanes, ACCUMULATE=1,
        ACCUMULATOR_BITS=width,
    )  # fmt: skip


def _codebook(
    weight: CodebookFormat | LearnedFormat, activation: Format, accumulator: Accumulator | None, lanes: int
) -> PeDesign:
    """A table before the multiplier: constant, or written at run time where values are learned; ANT's flint decodes."""
    learned = int(isinstance(weight, LearnedFormat))
    if _is_fp16(activation) or isinstance(accumulator, FloatAccumulator):
        if not _is_fp16(activation) or lanes != 1 or accumulator not in (None, FloatAccumulator()):
            raise NotImplementedError("a code book of floats meets FP16 in one lane with an FP32 accumulator")
        return design("codebook_float_mac", PROGRAMMABLE=learned, CODE_BITS=weight.bits, ACCUMULATOR_BITS=32)
    bits = None if accumulator is None else accumulator.bits
    if weight.name in ("flint3", "flint4", "flint5"):
        if isinstance(activation, IntFormat):
            return design(
                "flint_int_dot", BITS=weight.bits, ACTIVATION_BITS=activation.bits, LANES=lanes,
                ACCUMULATOR_BITS=2 * weight.bits + activation.bits + 7 if bits is None else bits,
            )  # fmt: skip
        if activation == weight:
            return design(
                "flint_flint_dot", BITS=weight.bits, LANES=lanes,
                ACCUMULATOR_BITS=4 * weight.bits + 8 if bits is None else bits,
            )  # fmt: skip
    if not isinstance(activation, IntFormat):
        raise NotImplementedError(f"a code book meets integers or FP16, not {activation.name}")
    return design(
        "codebook_dot", CODE_BITS=weight.bits, ENTRY_BITS=ENTRY_BITS, ACTIVATION_BITS=activation.bits, LANES=lanes,
        PROGRAMMABLE=learned, ACCUMULATOR_BITS=ENTRY_BITS + activation.bits + GUARD_BITS if bits is None else bits,
    )  # fmt: skip
