"""What a GEMV kernel must know about an encoding: how codes become signed bytes, and where the fields of a row lie.

The products run on integer tensor cores, so a code is read as one signed byte, or as two where its values are no small
multiples of a step (NF4):

    value(code) = step * byte(code)        or        step * (254 * high(code) + low(code))

A lookup of four codes is one byte permutation (``prmt``). Its index has three bits; bit 3 of an index asks for copies
of the chosen byte's top bit instead, which is 0 or -1. Sixteen entries therefore take two lookups, one of the codes as
they are (``t``) and one with bit 3 turned over (``u``), and ``value = t + u`` as integers:

    code c < 8:  t[c] + top(u[c])               code 8 + j:  top(t[j]) + u[j]         top(x) = -1 if x < 0 else 0

``signed_tables`` solves these for any sixteen values. No select, no interleaving: seven instructions for eight weights.
Values of two digits turn all bits over and have u in reverse: that is a multiplication, on a pipe of its own.

Integers of 5 to 7 bits stand in the upper bits of a byte, put together from their planes: ``2**(8 - bits)`` times the
value. Minifloats of 5 to 8 bits are no small integers (E3M2 spans 448 steps): they become half-precision numbers, the
exponent's bits where those of a half are, so that ``half(code) = value * 2**(bias - 15)``, and the products run on
half-precision tensor cores. Learned codebooks (one table of FP16 for each row) become two digits on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from datatypes.catalog import BF16, E8M0, FP16, FP32, UE4M3, UINT8
from datatypes.format import FloatFormat, FloatVariant, Format, IntFormat, LearnedFormat
from datatypes.granularity import PerChannel, PerTensor
from datatypes.layer_config import TensorConfig

DIGIT_BASE = 254  # digits of two-byte values are -127 to 126, so that t and u stay in a byte
LARGEST_BYTE = 126
LARGEST_TWO_DIGITS = 126 * DIGIT_BASE + 126
RUN = 128  # inputs that four lanes take in one step, 32 each
BLOCK = 32
TILE_ROWS = 16  # rows of mma.m16n8k32
HALF_EXPONENT_BITS, HALF_BIAS = 5, 15  # binary16 of IEEE 754-2019


class Decoding(Enum):
    """How words of codes become registers of four signed (or unsigned) bytes."""

    BYTES = "bytes"  # 8-bit integers as they are
    NIBBLES = "nibbles"  # 4-bit integers in the upper half of a byte: 16 times the value
    TABLE = "table"  # 2, 3 or 4 bits by lookup
    PLANES = "planes"  # integers of 5 to 7 bits, from their planes to the upper bits of a byte
    HALVES = "halves"  # floats of 5 to 8 bits, to half precision


class ScaleKind(Enum):
    """How a stored scale becomes a float32."""

    FP16 = 16
    BF16 = 17
    FP32 = 32
    UINT8 = 8
    E8M0 = 9
    UE4M3 = 10

    @property
    def bits(self) -> int:
        """Stored bits."""
        return {16: 16, 17: 16, 32: 32}.get(self.value, 8)


_SCALE_KINDS = {
    FP16.name: ScaleKind.FP16,
    BF16.name: ScaleKind.BF16,
    FP32.name: ScaleKind.FP32,
    UINT8.name: ScaleKind.UINT8,
    E8M0.name: ScaleKind.E8M0,
    UE4M3.name: ScaleKind.UE4M3,
}
_OUTER_KINDS = {FP16.name: ScaleKind.FP16, FP32.name: ScaleKind.FP32}


def top(byte: int) -> int:
    """Copies of the top bit of a signed byte, as a number."""
    return -1 if byte < 0 else 0


def signed_tables(values: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tables t and u of sixteen signed bytes (see the module docstring).

    >>> t, u = signed_tables([0, 1, 2, 3, 4, 6, 8, 12, 10, -1, -2, -3, -4, -6, -8, -12])
    >>> t[1], u[1], t[1] + top(u[1]), top(t[1]) + u[1]
    (2, -1, 1, -1)
    """
    made_t, made_u = [], []
    for low, high in zip(values[:8], values[8:], strict=True):
        for top_t in (0, -1):
            u = high - top_t
            t = low - top(u)
            if top(t) == top_t and -128 <= t <= 127 and -128 <= u <= 127:
                break
        else:
            raise ValueError(f"values must be -127 to 126 for a table of signed bytes, not {low!r} and {high!r}")
        made_t.append(t)
        made_u.append(u)
    return tuple(made_t), tuple(made_u)


def word_of(signed_bytes: Sequence[int]) -> int:
    """Four signed bytes as a word, the first one lowest."""
    return sum((b & 0xFF) << 8 * i for i, b in enumerate(signed_bytes))


def table_words(values: Sequence[int], bits: int, *, reverse: bool = False) -> tuple[int, ...]:
    """Words of one digit's table: 1 for 2 bits, 2 for 3 bits, 4 (t, then u, or u in ``reverse``) for 4 bits.

    The index of 3-bit codes has their high two bits below their low bit, as the planes of ``datatypes.packing`` have.
    """
    if bits == 2:
        return (word_of(values),)
    if bits == 3:
        by_index = [values[(i & 3) << 1 | i >> 2] for i in range(8)]
        return word_of(by_index[:4]), word_of(by_index[4:])
    t, u = signed_tables(values)
    u = u[::-1] if reverse else u
    return word_of(t[:4]), word_of(t[4:]), word_of(u[:4]), word_of(u[4:])


def values_of_words(words: Sequence[int], *, reverse: bool = False) -> list[int]:
    """The sixteen values of one digit's table words (``table_words`` of 4 bits).

    >>> values_of_words(table_words(range(-8, 8), 4)) == list(range(-8, 8))
    True
    """
    entries = [(word >> 8 * byte & 0xFF ^ 0x80) - 0x80 for word in words for byte in range(4)]
    pairs = list(zip(entries[:8], entries[:7:-1] if reverse else entries[8:], strict=True))
    return [t + top(u) for t, u in pairs] + [top(t) + u for t, u in pairs]


def integer_step(values: np.ndarray) -> float | None:
    """The largest power of two of which all ``values`` are multiples of magnitude up to 126; ``None`` without one.

    >>> integer_step(np.array([0.0, 0.5, 6.0])), integer_step(np.array([1.0, 0.1]))
    (0.5, None)
    """
    largest = float(np.abs(values).max())
    exponent = math.frexp(largest)[1]
    for shift in range(exponent, exponent - 9, -1):
        units = values / 2.0**shift
        if (units == np.rint(units)).all():
            return 2.0**shift if np.abs(units).max() <= LARGEST_BYTE else None
    return None


@dataclass(frozen=True)
class Plan:
    """An encoding as the kernel sees it.

    Args:
        bits: of a code; also words of a block of 32 codes.
        decoding, signed: how codes become bytes.
        digits: bytes of a value, 1 or 2.
        tables: words for each candidate, digits one after another; empty without lookup.
        step: value of one unit of the integer result.
        group: inputs that share a scale; 0 for the whole row.
        scale, outer: kinds of the stored scales; ``outer_by_row`` is false for one outer scale in all.
        zero_bits: of an unsigned integer zero point, in units of ``zero_step`` integer units; 0 without.
        learned: codebooks of FP16, one for each row, stand in the tensor.
        exponent_bits: of a float that becomes a half; 0 for others.
        one_nan: the float's code of ones is NaN, as in E4M3 of OFP8.
    """

    bits: int
    decoding: Decoding
    signed: bool
    digits: int
    tables: tuple[tuple[int, ...], ...]
    step: float
    group: int
    scale: ScaleKind | None
    outer: ScaleKind | None
    outer_by_row: bool
    zero_bits: int
    zero_step: int
    learned: bool = False
    exponent_bits: int = 0
    one_nan: bool = False

    @property
    def selector_bits(self) -> int:
        """Bits of the index of a candidate."""
        return (len(self.tables) - 1).bit_length() if self.tables else 0

    @property
    def sets(self) -> int:
        """Accumulated products: digits, times two where a table has sixteen entries."""
        return self.digits * (2 if self.decoding is Decoding.TABLE and self.bits == 4 else 1)

    @property
    def even_odd(self) -> bool:
        """Whether registers hold codes 0, 2, 4, 6 and 1, 3, 5, 7 of each eight rather than 0 to 3 and 4 to 7."""
        if self.decoding in (Decoding.NIBBLES, Decoding.PLANES):
            return True
        return self.bits < 4 if self.decoding is Decoding.TABLE else self.decoding is Decoding.HALVES and self.bits < 8

    @property
    def halves(self) -> bool:
        """Whether products are those of half-precision numbers."""
        return self.decoding is Decoding.HALVES

    @property
    def floats(self) -> bool:
        """``halves``, and the two below: by the names that ``hwmodel.gpu_gemv_cut`` knows encodings by."""
        return self.halves

    @property
    def looked_up(self) -> bool:
        """Whether codes go through a table."""
        return self.decoding is Decoding.TABLE

    @property
    def candidates(self) -> int:
        """Tables to select from, 1 or more."""
        return max(1, len(self.tables))

    @property
    def learned_words(self) -> int:
        """Words of a row's digit tables, made on the device from its codebook; 0 for formats that are not learned."""
        return {3: 4, 4: 8}[self.bits] if self.learned else 0

    @property
    def parts(self) -> int:
        """Parts of a run of 128 inputs that may lie in different groups, so need sums of their own: 1, 2 or 4."""
        return 1 if self.group % RUN == 0 else 2 if self.group % (RUN // 2) == 0 else 4

    @property
    def patched_bytes(self) -> tuple[int | None, ...] | None:
        """For each table word the one byte in which candidates differ; ``None`` where they differ in more."""
        made: list[int | None] = []
        for words in zip(*self.tables, strict=True):
            differing = [i for i in range(4) if len({word >> 8 * i & 0xFF for word in words}) > 1]
            if len(differing) > 1 or len(words) > 4:
                return None
            made.append(differing[0] if differing else None)
        return tuple(made)


def plan_of(config: TensorConfig) -> Plan:
    """The plan of an encoding.

    Raises:
        NotImplementedError: an encoding without a kernel.
    """
    formats, bits = config.formats, config.formats[0].bits
    _refuse_unsupported(config)
    group = _group_of(config)
    scale = outer = None
    outer_by_row = True
    if config.scale is not None:
        scale = scale_kind_of(config.scale.format)
        if config.scale.outer is not None:
            outer = _kind(_OUTER_KINDS, config.scale.outer)
            outer_by_row = not isinstance(config.scale.outer_granularity, PerTensor)
            if outer_by_row and not isinstance(config.scale.outer_granularity, PerChannel):
                raise NotImplementedError(
                    f"outer scales of a GPU kernel must be for rows or for the matrix, not "
                    f"{config.scale.outer_granularity!r}"
                )
    fmt = formats[0]
    decoding, signed, digits, step = Decoding.TABLE, True, 1, 1.0
    tables: tuple[tuple[int, ...], ...] = ()
    exponent_bits = 0
    if isinstance(fmt, LearnedFormat):
        digits = 2
    elif isinstance(fmt, IntFormat) and bits >= 4:
        decoding = {4: Decoding.NIBBLES, 8: Decoding.BYTES}.get(bits, Decoding.PLANES)
        signed = fmt.signed_codes
        step = fmt.step / (1 << 8 - bits)
    elif isinstance(fmt, FloatFormat) and bits > 4:
        decoding, exponent_bits = Decoding.HALVES, fmt.exponent_bits
        # E4M3 of OFP8 is converted to its value, others keep the exponent's bits
        step = 1.0 if fmt.variant is FloatVariant.FN else 2.0 ** (HALF_BIAS - fmt.exponent_bias)
    else:
        values = np.stack([np.asarray(f.code_values) for f in formats])
        found = integer_step(values)
        if found is None:
            digits, step = 2, float(np.abs(values).max()) / LARGEST_TWO_DIGITS
        else:
            step = found
        units = np.rint(values / step).astype(int)
        tables = tuple(digit_tables(row.tolist(), bits, digits) for row in units)
    zero_bits, zero_step = 0, 0
    if config.zero_point is not None:
        zero_bits, zero_step = config.zero_point.bits, 1 if decoding is Decoding.TABLE else 1 << 8 - bits
    return Plan(
        bits, decoding, signed, digits, tables, step, group, scale, outer, outer_by_row, zero_bits, zero_step,
        isinstance(fmt, LearnedFormat), exponent_bits,
        isinstance(fmt, FloatFormat) and exponent_bits > 0 and fmt.variant is FloatVariant.FN,
    )  # fmt: skip


def digit_tables(units: Sequence[int], bits: int, digits: int) -> tuple[int, ...]:
    """Table words of integer values, the high digit first."""
    if digits == 1:
        return table_words(units, bits)
    low = [(unit + 127) % DIGIT_BASE - 127 for unit in units]
    high = [(unit - rest) // DIGIT_BASE for unit, rest in zip(units, low, strict=True)]
    return table_words(high, bits, reverse=True) + table_words(low, bits, reverse=True)


def scale_kind_of(fmt: Format) -> ScaleKind:
    """How a kernel reads scales stored in ``fmt``.

    Raises:
        NotImplementedError: a format without a kernel.
    """
    return _kind(_SCALE_KINDS, fmt)


def _kind(kinds: dict[str, ScaleKind], fmt: Format) -> ScaleKind:
    if fmt.name not in kinds:
        raise NotImplementedError(f"scales of a GPU kernel must be {', '.join(kinds)}, not {fmt.name}")
    return kinds[fmt.name]


def _group_of(config: TensorConfig) -> int:
    rows, columns = config.granularity.tile((1 << 20, 1 << 20))
    if config.scale is None:
        return 0
    if rows != 1 or (columns % BLOCK and columns != 16):
        raise NotImplementedError(
            f"scales of a GPU kernel must be for rows or for groups of 16 or a multiple of 32 inputs, "
            f"not {config.granularity!r}"
        )
    return 0 if columns == 1 << 20 else columns


def _refuse_unsupported(config: TensorConfig) -> None:
    fmt = config.formats[0]
    refused = {
        "residual": config.residual is not None,
        "sparsity": config.sparsity is not None,
        "row_scale": config.row_scale is not None,
        "column_scale": config.column_scale is not None,
        "hadamard": config.hadamard > 0,
        "dynamic": config.dynamic,
        "dim": fmt.dim != 1,
        "selector": config.selector is not None and config.selector != config.granularity,
        "zero_point": config.zero_point is not None and not isinstance(config.zero_point, IntFormat),
    }
    for name, wrong in refused.items():
        if wrong:
            raise NotImplementedError(f"{name} must be left out for the GPU kernels, not {getattr(config, name, 2)!r}")
    if config.zero_point_level is not None or any(level.offset is not None for level in config.second_levels):
        raise NotImplementedError("zero_point_level and outer_offset must be left out for the GPU kernels")
    learned = isinstance(fmt, LearnedFormat)
    wanted: tuple[int, ...] = (2, 3, 4)
    if learned:
        wanted = (3, 4)
    elif isinstance(fmt, IntFormat | FloatFormat):
        wanted = tuple(range(2, 9))
    if fmt.bits not in wanted:
        raise NotImplementedError(
            f"bits of {type(fmt).__name__} must be {', '.join(map(str, wanted))} for the GPU kernels, not {fmt.bits!r}"
        )
    if isinstance(fmt, FloatFormat) and fmt.bits > 4:
        _refuse_unsupported_float(config, fmt)
    if learned:
        _refuse_unsupported_codebook(config)
    if len(config.formats) > 1 and isinstance(fmt, IntFormat) and fmt.bits >= 4:
        raise NotImplementedError(f"formats must be one for integers on the GPU, not {len(config.formats)}")
    if not learned and config.codebook is not None:
        raise NotImplementedError("codebook must be left out for formats that are not learned")


def _refuse_unsupported_float(config: TensorConfig, fmt: FloatFormat) -> None:
    """Floats whose bits are not those of a half, moved."""
    if len(config.formats) > 1 or config.zero_point is not None:
        raise NotImplementedError("formats must be one, without zero points, for floats above 4 bits on the GPU")
    same_specials = (
        (fmt.variant is FloatVariant.FINITE and fmt.exponent_bits < HALF_EXPONENT_BITS)
        or (fmt.variant is FloatVariant.IEEE and fmt.exponent_bits == HALF_EXPONENT_BITS)
        or (fmt.variant is FloatVariant.FN and (fmt.exponent_bits, fmt.mantissa_bits) == (4, 3))
    )
    fits = fmt.bits == 1 + fmt.exponent_bits + fmt.mantissa_bits and fmt.exponent_bits <= HALF_EXPONENT_BITS
    if not (same_specials and fits and fmt.sign_bits):
        raise NotImplementedError(
            f"floats above 4 bits must be finite with at most 4 exponent bits, E5M2 of IEEE 754 or E4M3 of OFP8 for "
            f"the GPU kernels, not {fmt.name}"
        )


def _refuse_unsupported_codebook(config: TensorConfig) -> None:
    codebook = config.codebook
    assert codebook is not None  # as TensorConfig checks
    if codebook.format.name != FP16.name or not isinstance(codebook.granularity, PerChannel):
        raise NotImplementedError(
            f"codebook of a GPU kernel must be fp16, one for each row, not {codebook.format.name} for "
            f"{codebook.granularity!r}"
        )
    if config.scale is not None or config.zero_point is not None or len(config.formats) > 1:
        raise NotImplementedError("scale and zero_point must be left out for learned formats on the GPU")
