"""Every named format, one instance each with its source; ``FORMATS`` maps names to them.

To add a format, add one instance and list it in ``_ALL``: the round trip, rounding, packing and back-end tests pick it
up from there. Tuples of candidates (BitMoD's special values) are ``MIXTURES``: what a ``TensorConfig.formats`` takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from datatypes.format import CodebookFormat, ExponentFormat, FloatFormat, FloatVariant, Format, IntFormat, Tie
from datatypes.nearest import nearest
from datatypes.outlier_victim import OutlierVictimFormat

_IEEE = "IEEE 754-2019"
_OFP8 = "OCP 8-bit Floating Point Specification (OFP8) 1.0, 2023"
_OCP_MX = "OCP Microscaling Formats (MX) Specification 1.0, 2023"
_BITMOD = "Chen et al., BitMoD, HPCA 2025, Table IV"
_ANT = "Guo et al., ANT, MICRO 2022, section 4"
_OLIVE = "Guo et al., OliVe, ISCA 2023, section 3"

# --- wide formats: scales, factors, outliers, activations left alone ---------------------------------------------
FP32 = FloatFormat("fp32", 32, _IEEE, exponent_bits=8, mantissa_bits=23, variant=FloatVariant.IEEE)
FP16 = FloatFormat("fp16", 16, _IEEE, exponent_bits=5, mantissa_bits=10, variant=FloatVariant.IEEE)
BF16 = FloatFormat(
    "bf16",
    16,
    "Kalamkar et al., A Study of BFLOAT16, 2019",
    exponent_bits=8,
    mantissa_bits=7,
    variant=FloatVariant.IEEE,
)
INT16 = IntFormat("int16", 16, "two's complement")
INT32 = IntFormat("int32", 32, "two's complement")


def _int(bits: int) -> IntFormat:
    return IntFormat(f"int{bits}", bits, "two's complement; all codes used (ANT, Brevitas narrow_range=False)")


def _int_symmetric(bits: int) -> IntFormat:
    source = "two's complement without the most negative value (Nagel et al., arXiv 2106.08295, section 2.2)"
    return IntFormat(f"int{bits}_sym", bits, source, symmetric=True)


def _uint(bits: int) -> IntFormat:
    source = "unsigned codes for asymmetric quantization with a zero point (Jacob et al., CVPR 2018)"
    return IntFormat(f"uint{bits}", bits, source, signed_codes=False)


INTS: Mapping[int, IntFormat] = {bits: _int(bits) for bits in range(2, 9)}
INTS_SYMMETRIC: Mapping[int, IntFormat] = {bits: _int_symmetric(bits) for bits in range(2, 9)}
UINTS: Mapping[int, IntFormat] = {bits: _uint(bits) for bits in range(1, 9)}
UINT8 = UINTS[8]

# --- minifloats: every ExMy of 3 to 8 bits in all four variants ----------------------------------------------------
_VARIANT_SOURCE = {
    FloatVariant.FINITE: f"all codes finite, as {_OCP_MX} E2M1",
    FloatVariant.IEEE: f"top exponent infinite or NaN, as {_IEEE}",
    FloatVariant.FN: f"finite with one NaN, as E4M3 of {_OFP8}",
    FloatVariant.FNUZ: "finite, no negative zero, as Noune et al., arXiv 2206.02915",
}


def minifloat(
    exponent_bits: int,
    mantissa_bits: int,
    *,
    variant: FloatVariant = FloatVariant.FINITE,
    bias: int | None = None,
) -> FloatFormat:
    """An ExMy format with sign. Name: ``e2m1``, ``e4m3_fn``, ``e3m2_ieee``, with ``_b5`` for a bias of its own.

    >>> minifloat(2, 1).maximum
    6.0
    >>> minifloat(4, 3, variant=FloatVariant.FN).maximum
    448.0
    """
    name = f"e{exponent_bits}m{mantissa_bits}" + ("" if variant is FloatVariant.FINITE else f"_{variant.value}")
    if bias is not None:
        name += f"_b{bias}".replace("-", "n")
    return FloatFormat(
        name,
        1 + exponent_bits + mantissa_bits,
        _VARIANT_SOURCE[variant],
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        variant=variant,
        bias=bias,
    )


def _all_minifloats() -> tuple[FloatFormat, ...]:
    made = []
    for bits in range(3, 9):
        for exponent_bits in range(1, bits):
            mantissa_bits = bits - 1 - exponent_bits
            for variant in FloatVariant:
                made.append(minifloat(exponent_bits, mantissa_bits, variant=variant))
    return tuple(made)


MINIFLOATS: Mapping[str, FloatFormat] = {fmt.name: fmt for fmt in _all_minifloats()}
FP4 = MINIFLOATS["e2m1"]  # BitMoD's basic FP4, OCP E2M1
FP3 = MINIFLOATS["e2m0"]  # {0, +-1, +-2, +-4}
E2M3, E3M2 = MINIFLOATS["e2m3"], MINIFLOATS["e3m2"]
E4M3, E5M2 = MINIFLOATS["e4m3_fn"], MINIFLOATS["e5m2_ieee"]
MX_INT8 = IntFormat("mx_int8", 8, f"{_OCP_MX}, section 5.3.4; -2 is left out", symmetric=True, step=1 / 64)

# --- scales --------------------------------------------------------------------------------------------------------
E8M0 = ExponentFormat("e8m0", 8, f"{_OCP_MX}, section 5.4.1")
UE4M3 = FloatFormat(
    "ue4m3",
    8,
    "NVIDIA NVFP4 block scale: E4M3 of OFP8 with sign bit 0",
    exponent_bits=4,
    mantissa_bits=3,
    variant=FloatVariant.FN,
    sign_bits=0,
)

# --- BitMoD ----------------------------------------------------------------------------------------------------------
_FP3_CODES = (0.0, 1.0, 2.0, 4.0)  # magnitude by code; sign is the top bit
_FP4_CODES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def bitmod(bits: int, special: float) -> CodebookFormat:
    """FP3 or FP4 whose negative-zero code means ``special`` (HPCA 2025, section III-B).

    Values in true units (the published code stores the 4-bit grid times two). A tie goes to the lower value, as in
    the paper's midpoint thresholds.
    """
    magnitudes = {3: _FP3_CODES, 4: _FP4_CODES}.get(bits)
    if magnitudes is None:
        raise ValueError(f"bits of a BitMoD format must be 3 or 4, not {bits!r}")
    negative = (special, *(-v for v in magnitudes[1:]))
    letter = "p" if special > 0 else "n"
    return CodebookFormat(
        f"bitmod_fp{bits}_{letter}{abs(special):g}",
        bits,
        _BITMOD,
        tie=Tie.LOWER,
        values=magnitudes + negative,
        special=len(magnitudes),
    )


FP3_ER = (bitmod(3, 3.0), bitmod(3, -3.0))
FP3_EA = (bitmod(3, 6.0), bitmod(3, -6.0))
FP4_ER = (bitmod(4, 5.0), bitmod(4, -5.0))
FP4_EA = (bitmod(4, 8.0), bitmod(4, -8.0))
BITMOD_FP3 = FP3_ER + FP3_EA  # candidate order ER+, ER-, EA+, EA-: a tie in error keeps the earlier
BITMOD_FP4 = FP4_ER + FP4_EA

# --- code books ------------------------------------------------------------------------------------------------------
NF4 = CodebookFormat(
    "nf4",
    4,
    "Dettmers et al., QLoRA, arXiv 2305.14314, appendix E",
    tie=Tie.LOWER,
    values=(
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ),
)
AF4 = CodebookFormat(
    "af4",
    4,
    "Yoshida, NF4 Isn't Information Theoretically Optimal, arXiv 2306.06965, table for block 64",
    tie=Tie.LOWER,
    values=(
        -1.0,
        -0.69441008,
        -0.51243739,
        -0.3736951,
        -0.25607552,
        -0.14982478,
        -0.04934812,
        0.0,
        0.04273164,
        0.12934483,
        0.21961274,
        0.31675666,
        0.42563882,
        0.55496234,
        0.72424863,
        1.0,
    ),
)


def normal_float(bits: int, offset: float = 0.9677083) -> tuple[float, ...]:
    """NormalFloat quantiles of the standard normal, normalised to [-1, 1] (QLoRA, eq. 4 and its code).

    ``2**(bits-1) - 1`` negative quantiles, zero, ``2**(bits-1)`` positive ones; the outermost lie at probability
    ``offset``.
    """
    from statistics import NormalDist

    def quantiles(count: int) -> list[float]:
        steps = [offset + (0.5 - offset) * i / count for i in range(count)]
        return [NormalDist().inv_cdf(p) for p in steps]

    half = 1 << (bits - 1)
    positive, negative = quantiles(half), quantiles(half - 1)
    values = sorted([-v for v in negative] + [0.0] + positive)
    return tuple(v / values[-1] for v in values)


NF3 = CodebookFormat(
    "nf3", 3, "the construction of QLoRA's NF4 with eight levels", tie=Tie.LOWER, values=normal_float(3)
)
BNB_FP4 = CodebookFormat(
    "bnb_fp4",
    4,
    "bitsandbytes FP4 (not OCP E2M1): {0, 1/16, 2, 3, 4, 6, 8, 12} / 12 and signs",
    tie=Tie.LOWER,
    values=tuple(s * v / 12 for s in (1, -1) for v in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)),
)


def _signed(name: str, bits: int, source: str, magnitudes: tuple[float, ...], tie: Tie = Tie.LOWER) -> CodebookFormat:
    """Sign and magnitude index; the negative-zero code is a second zero."""
    values = magnitudes + tuple(-v for v in magnitudes)
    return CodebookFormat(name, bits, source, tie=tie, values=values, unused=(len(magnitudes),))


def flint_magnitudes(bits: int) -> tuple[float, ...]:
    """The unsigned flint of ``bits`` bits in code order (ANT, section 4).

    A leading zero bit says integer; after a leading one, the number of zeros that follow is the exponent and what
    lies below the next one is the mantissa.

    >>> flint_magnitudes(4)
    (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 64.0, 32.0, 16.0, 24.0, 8.0, 10.0, 12.0, 14.0)
    """
    if bits < 2:
        raise ValueError(f"bits of a flint must be at least 2, not {bits!r}")
    half = 1 << (bits - 1)
    values = [float(code) for code in range(half)]
    for rest in range(half):
        zeros = bits - 1 - rest.bit_length()
        mantissa = rest / (1 << (rest.bit_length() - 1)) if rest else 1.0
        values.append(mantissa * 2.0 ** (bits - 1 + zeros))
    return tuple(values)


FLINT3 = _signed("flint3", 3, f"{_ANT}: sign and the 2-bit flint", flint_magnitudes(2))
FLINT4 = _signed("flint4", 4, f"{_ANT}: sign and the 3-bit flint", flint_magnitudes(3))
FLINT4_UNSIGNED = CodebookFormat("uflint4", 4, _ANT, tie=Tie.LOWER, values=flint_magnitudes(4))
FLINT5 = _signed("flint5", 5, f"{_ANT}: sign and the 4-bit flint", flint_magnitudes(4))
POT3 = _signed("pot3", 3, f"{_ANT}: power of two", (0.0, 1.0, 2.0, 4.0))
POT4 = _signed("pot4", 4, f"{_ANT}: power of two", (0.0, *(2.0**i for i in range(7))))
E3M0_NO_SUBNORMAL = _signed(
    "e3m0_diloco",
    4,
    "Douillard et al., Streaming DiLoCo, arXiv 2501.18512: 0 and +-2**(e-3); rounding is ours",
    (0.0, *(2.0 ** (e - 3) for e in range(1, 8))),
)
TERNARY = CodebookFormat(
    "ternary",
    2,
    "Li et al., Ternary Weight Networks, arXiv 1605.04711; the fourth code repeats zero",
    values=(0.0, 1.0, 0.0, -1.0),
    unused=(2,),
)
BINARY = CodebookFormat(
    "binary", 1, "Rastegari et al., XNOR-Net, ECCV 2016; zero maps to +1", tie=Tie.UPPER, values=(1.0, -1.0)
)


def dynamic_values() -> tuple[float, ...]:
    """The 256 levels of bitsandbytes' signed dynamic type, ascending: codes are their ranks.

    For each power of ten from 1e-6 to 1, the interval from a tenth of it to itself is cut into 1, 2, 4, ... 64 parts
    whose middles are levels, with both signs; then 0 and 1. bitsandbytes computes them in float32, so its levels may
    lie one unit in the last place of a float32 away.

    >>> values = dynamic_values()
    >>> len(values), round(values[0], 6), round(values[-2], 6), values[-1]
    (256, -0.992969, 0.992969, 1.0)
    """
    positive = []
    for power in range(7):
        parts = 1 << power
        positive += [10.0 ** (power - 6) * (0.1 + 0.9 * (i + 0.5) / parts) for i in range(parts)]
    return tuple(sorted([-v for v in positive] + [0.0, *positive, 1.0]))


DYNAMIC8 = CodebookFormat(
    "dynamic8",
    8,
    "Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861, section 2; the levels of "
    "bitsandbytes 0.50.2, create_dynamic_map(signed=True), which hold its double-quantized scales",
    tie=Tie.LOWER,
    values=dynamic_values(),
)

# --- OliVe -----------------------------------------------------------------------------------------------------------
OLIVE4_INT = OutlierVictimFormat("olive4_int", 8, _OLIVE, normal_name="int4", abfloat_bias=2)
OLIVE4_FLINT = OutlierVictimFormat("olive4_flint", 8, _OLIVE, normal_name="flint4", abfloat_bias=3)

_ALL: tuple[Format, ...] = (
    FP32,
    FP16,
    BF16,
    INT16,
    INT32,
    *INTS.values(),
    *INTS_SYMMETRIC.values(),
    *UINTS.values(),
    *MINIFLOATS.values(),
    MX_INT8,
    E8M0,
    UE4M3,
    *BITMOD_FP3,
    *BITMOD_FP4,
    NF4,
    AF4,
    NF3,
    BNB_FP4,
    DYNAMIC8,
    FLINT3,
    FLINT4,
    FLINT4_UNSIGNED,
    FLINT5,
    POT3,
    POT4,
    E3M0_NO_SUBNORMAL,
    TERNARY,
    BINARY,
    OLIVE4_INT,
    OLIVE4_FLINT,
)
FORMATS: Mapping[str, Format] = {fmt.name: fmt for fmt in _ALL}

ANT4_WEIGHT = (INTS[4], POT4, FLINT4)  # ANT's per-tensor choice at 4 bits, signed; its int4 uses -8 (ANT, section 4)
MIXTURES: Mapping[str, tuple[Format, ...]] = {
    "bitmod_fp3": BITMOD_FP3,
    "bitmod_fp4": BITMOD_FP4,
    "fp3_er": FP3_ER,
    "fp3_ea": FP3_EA,
    "fp4_er": FP4_ER,
    "fp4_ea": FP4_EA,
    "ant4": ANT4_WEIGHT,
    "olive4": (OLIVE4_INT, OLIVE4_FLINT),
}
ALIASES: Mapping[str, str] = {
    "fp4": "e2m1",
    "fp3": "e2m0",
    "mxfp4": "e2m1",
    "fp8_e4m3": "e4m3_fn",
    "fp8_e5m2": "e5m2_ieee",
    "float16": "fp16",
    "float32": "fp32",
    "bfloat16": "bf16",
}


def format_by_name(name: str) -> Format:
    """The format called ``name`` (or one of ``ALIASES``).

    Raises:
        ValueError: no such format; the message names the nearest ones.
    """
    known = ALIASES.get(name, name)
    if known in FORMATS:
        return FORMATS[known]
    hint = nearest(name, (*FORMATS, *ALIASES))
    raise ValueError(f"format must be one of the catalogue (codesign formats), not {name!r}{hint}")


def formats_by_name(name: str) -> tuple[Format, ...]:
    """The mixture called ``name``, or the single format as a tuple of one."""
    if name in MIXTURES:
        return MIXTURES[name]
    try:
        return (format_by_name(name),)
    except ValueError:
        hint = nearest(name, (*MIXTURES, *FORMATS, *ALIASES))
        raise ValueError(f"format must be one of the catalogue (codesign formats), not {name!r}{hint}") from None
