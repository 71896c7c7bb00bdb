"""What the decode GEMV kernel (``kernels_gpu.gemv``) does for an encoding: how it decodes, multiplies and scales.

``encoding_of`` knows an encoding exactly where there is a kernel for it (``kernels_gpu.gemv_plan``; a test compares
them); ``instructions`` counts the warp instructions of a run of 16 x 128 weights from the operation counts that
``kernels_gpu/gemv_decode.py``, ``gemv_halves.py`` and ``gemv.py`` state, checked against the disassembly in NOTES.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from datatypes.catalog import BF16, E8M0, FP16, FP32, UE4M3, UINT8
from datatypes.format import FloatFormat, FloatVariant, Format, IntFormat, LearnedFormat
from datatypes.granularity import PerChannel, PerTensor
from datatypes.layer_config import TensorConfig
from hwmodel.units import BYTE_BITS, ceil_div

TILE_ROWS, RUN, WARP = 16, 128, 32  # rows of mma.m16n8k32; four lanes of 32 inputs; lanes: kernels_gpu/gemv_plan.py
BLOCK = 32  # codes of a lane and row in a run
_LANE_WEIGHTS = TILE_ROWS * RUN // WARP  # of a run
_LARGEST_BYTE = 126  # of a table of signed bytes: kernels_gpu/gemv_plan.py
# Logical, shift and permute instructions to decode a weight, by bits: kernels_gpu/gemv_decode.py, first lines
_TABLE_DECODE: Mapping[int, float] = {2: 11 / 16, 3: 29 / 32, 4: 7 / 8}
_SECOND_DIGIT: Mapping[int, float] = {2: 4 / 16, 3: 4 / 16, 4: 4 / 8}  # one more permute for 4 weights and table
_INTEGER_DECODE: Mapping[int, float] = {4: 3 / 8, 5: 15 / 16, 6: 15 / 16, 7: 37 / 32, 8: 0.0}  # the same
# Of a float of 5 to 8 bits that becomes one of a pair of halves, beyond its bits put together from planes:
# kernels_gpu/gemv_halves.py. Four take a shift, a mask, a merge and two permutations, and a mask more where bits fall
# below the upper byte; E5M2 the permutations alone; E4M3 of OFP8 a conversion a pair, and a shift for every other pair
_HALF_DECODE, _BELOW_DECODE, _E5M2_DECODE, _E4M3_DECODE = 5 / 4, 1 / 4, 1 / 2, 1 / 2 + 1 / 4
# Of sixteen of 6 bits, planes included: two masks, three shifts, eight merges, four lookups, eight permutations; and
# four lookups more where bits fall below the upper byte
_SIX_DECODE, _SIX_BELOW_DECODE = 25 / 16, 4 / 16
_CODE_LOADS: Mapping[int, int] = {2: 1, 3: 3, 4: 1, 5: 5, 6: 3, 7: 7, 8: 2}  # of 32: gemv_planes.make_load_words
_TABLE_LOADS: Mapping[int, int] = {3: 1, 4: 2}  # of a learned codebook's two digits: gemv_decode
# Of a run's scales in words (kernels_gpu/gemv_short_groups.py), by groups of a block: counted in the disassembly
_SCALES_IN_WORDS: Mapping[int, int] = {1: 5, 2: 6}
_MERGED_TILES = 4  # of columns, up to which groups of 16 have one sum for both tables: kernels_gpu/gemv_spec.py
_TWICE_TILES = 2  # of columns, from which on both halves of a block are runs of their own: kernels_gpu/gemv.py
# Roughly those in the records of kernels_gpu/measurements: 47 to 72 for integers with one tile of columns, 67 to 80
# with tables of sixteen, 96 to 105 with two digits; MXFP4 and NVFP4 98 to 113, 132 and 141 to 170 with 4, 8 and 16
# tiles, NF4 132 and 175 with two and four
_REGISTERS, _SIXTEEN_REGISTERS, _SECOND_DIGIT_REGISTERS, _FLOAT_REGISTERS, _TILE_REGISTERS = 64, 12, 24, 8, 8
_AHEAD_REGISTERS = 6  # for each block of codes decoded ahead: 96 for 70 to 74 with four
_MOST_REGISTERS = 255  # of a thread: CUDA C++ Programming Guide, compute capabilities 5.0 to 12.0
_HALF_EXPONENT_BITS = 5  # binary16 of IEEE 754-2019
_SCALES = {fmt.name for fmt in (FP16, BF16, FP32, UINT8, E8M0, UE4M3)}  # kernels_gpu/gemv_plan.py
_HALF_SCALES = {fmt.name for fmt in (FP16, UINT8, E8M0, UE4M3)}  # kernels_gpu/gemm_decode.py
_OUTER_SCALES = {FP16.name, FP32.name}  # the same
_SEVEN_BITS = 64  # magnitudes: kernels_gpu/gemv_ahead_spec.py
_LONG = 1 << 20  # inputs of a row that no group covers


@dataclass(frozen=True)
class GemvEncoding:
    """What the kernel does for an encoding.

    Args:
        bits: of a code.
        decode: logical, shift and permute instructions for a weight.
        digits: signed bytes of a value; two where values are no small multiples of a step (NF4).
        tables: lookups behind a value: two for tables of sixteen entries, which take a sum of two.
        group: inputs that share a scale; 0 for a row.
        scale_bits, zero_bits, selector_bits: of a group's scale, zero point and selector; 0 without.
        candidates: tables to select from, 1 or more.
        looked_up: codes go through a table.
        floats: products are those of half-precision numbers: no digits, twice the products, and inputs twice as wide.
        converted: floats become halves by a conversion (E4M3), not by their bits.
        learned: a table for each row, made at the end of the tile before.
        power_scales: scales are powers of two beyond the range of halves (E8M0).
        tiled: has a kernel for many tokens too (``gpu_tiles``): a fixed format with scales that halves hold.
        signed: a sign above three bits of a magnitude, all bytes of halves (E2M1), which that kernel decodes as such.
        sided: two digits of four bits (NF4), one sign below code 8, the other above, halves for scales: that
            kernel has a table of halves.
        seven_bits: looked up, four bits, values of seven bits: codes may be decoded before the inputs are there.
    """

    bits: int
    decode: float
    digits: int
    tables: int
    group: int
    scale_bits: int = 0
    zero_bits: int = 0
    selector_bits: int = 0
    candidates: int = 1
    looked_up: bool = False
    floats: bool = False
    converted: bool = False
    learned: bool = False
    power_scales: bool = False
    tiled: bool = False
    signed: bool = False
    sided: bool = False
    seven_bits: bool = False

    @property
    def decoded_since(self) -> int:
        """The version of the kernel that was the last one to change how many instructions decoding takes."""
        if self.floats and self.bits < BYTE_BITS:
            return 10
        return 9 if self.bits == 7 or (self.looked_up and self.bits == 3) else 0

    @property
    def parts(self) -> int:
        """Parts of a run with sums of their own, so that groups of 64 and below have scales of their own."""
        return 1 if self.group % RUN == 0 else 2 if self.group % (RUN // 2) == 0 else 4

    @property
    def halves(self) -> int:
        """Sums of a block of 32 inputs."""
        return 2 if self.group == TILE_ROWS else 1

    def column_tiles(self, tokens: int) -> int:
        """Products of eight columns for a tile of weights."""
        return ceil_div(tokens, 4 // self.parts)


def encoding_of(config: TensorConfig) -> GemvEncoding:
    """What the kernel does for a weight of ``config``.

    Raises:
        NotImplementedError: an encoding without a kernel.
    """
    reason = reason_without_kernel(config)
    if reason is not None:
        raise NotImplementedError(f"an encoding of the GEMV model must have a kernel, not {reason}")
    scale, made = None if config.scale is None else config.scale.format.name, _known_encoding(config)
    tiled = not made.learned and scale in _HALF_SCALES
    return replace(
        made, power_scales=scale == E8M0.name, tiled=tiled, signed=tiled and _has_magnitudes(config, made),
        sided=tiled and _has_sides(config, made),
    )  # fmt: skip


def _has_magnitudes(config: TensorConfig, encoding: GemvEncoding) -> bool:
    """Whether codes of four bits, looked up, are signs and magnitudes of at most three significant bits."""
    if not encoding.looked_up or (encoding.bits, encoding.digits, encoding.candidates) != (4, 1, 1):
        return False
    values = np.asarray(config.formats[0].code_values)
    in_half = (np.frexp(values)[0] * 8 % 1 == 0).all()
    return bool(in_half and config.zero_point is None and (values[:8] >= 0).all() and (values[8:] == -values[:8]).all())


def _has_sides(config: TensorConfig, encoding: GemvEncoding) -> bool:
    """Whether values of two digits have one sign up to code 7 and the other from code 8 on."""
    if not encoding.looked_up or (encoding.bits, encoding.digits, encoding.candidates) != (4, 2, 1):
        return False
    values = np.asarray(config.formats[0].code_values)
    values = values if values[8:].min() >= 0 else -values
    halves = config.scale is not None and config.scale.format.name in (FP16.name, UINT8.name)
    return bool(halves and config.zero_point is None and values[:8].max() <= 0 <= values[8:].min())


def _known_encoding(config: TensorConfig) -> GemvEncoding:
    """What the kernel does for a weight that has one, but for its scales' kind."""
    fmt, bits = config.formats[0], config.formats[0].bits
    group = config.granularity.tile((_LONG, _LONG))[1]
    group = 0 if config.scale is None or group == _LONG else group
    fields = (
        0 if config.scale is None else config.scale.format.bits,
        0 if config.zero_point is None else config.zero_point.bits,
        (len(config.formats) - 1).bit_length(),
    )
    if isinstance(fmt, IntFormat) and bits >= 4:
        return GemvEncoding(bits, _INTEGER_DECODE[bits], 1, 1, group, *fields)
    if isinstance(fmt, FloatFormat) and bits > 4:
        return GemvEncoding(
            bits, _float_decode(fmt), 1, 1, group, *fields, floats=True, converted=fmt.variant is FloatVariant.FN
        )
    learned = isinstance(fmt, LearnedFormat)
    one_digit = not learned and all(_one_digit(np.asarray(f.code_values)) for f in config.formats)
    digits, tables = 1 if one_digit else 2, 2 if bits == 4 else 1
    decode = _TABLE_DECODE[bits] + (digits - 1) * _SECOND_DIGIT[bits]
    small = bits == 4 and one_digit and _seven_bits(np.stack([np.asarray(f.code_values) for f in config.formats]))
    made = GemvEncoding(
        bits, decode, digits, tables, group, *fields, len(config.formats), looked_up=True, learned=learned
    )
    return replace(made, seven_bits=small and (made.parts <= 2 or made.candidates == 1))


def _float_decode(fmt: FloatFormat) -> float:
    if fmt.bits == BYTE_BITS and fmt.variant is FloatVariant.FN:
        return _E4M3_DECODE
    below = _HALF_EXPONENT_BITS - fmt.exponent_bits > BYTE_BITS - fmt.bits
    if fmt.bits == 6:
        return _SIX_DECODE + below * _SIX_BELOW_DECODE
    if fmt.bits == BYTE_BITS and fmt.exponent_bits == _HALF_EXPONENT_BITS:
        return _E5M2_DECODE
    return _INTEGER_DECODE[fmt.bits] + _HALF_DECODE + below * _BELOW_DECODE


def _one_digit(values: np.ndarray) -> bool:
    """Whether all values are multiples, up to 126, of one power of two."""
    return bool(np.abs(values).max() / _step(values) <= _LARGEST_BYTE)


def _step(values: np.ndarray) -> float:
    """The largest power of two of which all values are multiples."""
    mantissas, exponents = np.frexp(np.abs(values[values != 0]))
    # a mantissa that is a fraction of 2**b becomes an integer after b doublings; those with more bits have no step
    places = [next((b for b in range(1, 12) if m * 2**b % 1 == 0), 99) for m in mantissas.tolist()]
    return 2.0 ** int((exponents - places).min())


def _seven_bits(values: np.ndarray) -> bool:
    """Whether sixteen values of each candidate have seven bits, and candidates differ in one of every four at most."""
    units = values / _step(values)
    differing = (values != values[0]).any(0).reshape(4, 4).sum(1)
    return bool((units >= -_SEVEN_BITS).all() and (units < _SEVEN_BITS).all() and (differing <= 1).all())


def reason_without_kernel(config: TensorConfig) -> str | None:
    """What of ``config`` no kernel takes, in a few words, or ``None`` where one takes it all."""
    fmt = config.formats[0]
    beside = {
        "a residual": config.residual is not None,
        "sparsity": config.sparsity is not None,
        "row scales": config.row_scale is not None,
        "column scales": config.column_scale is not None,
        "a Hadamard rotation": config.hadamard > 0,
        "scales made at run time": config.dynamic,
        "vectors": fmt.dim != 1,
        "selectors of their own tiles": config.selector is not None and config.selector != config.granularity,
        "zero points that are no integers": not isinstance(config.zero_point, IntFormat | None),
        "second levels of zero points": config.zero_point_level is not None,
        "second-level offsets": any(level.offset is not None for level in config.second_levels),
        "a codebook in this form": config.codebook is not None and not _codebook_has_kernel(config),
        f"{len(config.formats)} integer formats": (
            len(config.formats) > 1 and isinstance(fmt, IntFormat) and fmt.bits >= 4
        ),
    }
    wrong = next((what for what, there in beside.items() if there), None)
    if wrong is not None:
        return wrong
    return _format_without_kernel(config, fmt) or _scale_without_kernel(config)


def _codebook_has_kernel(config: TensorConfig) -> bool:
    codebook = config.codebook
    assert codebook is not None
    one_a_row = codebook.format.name == FP16.name and isinstance(codebook.granularity, PerChannel)
    return one_a_row and config.scale is None and config.zero_point is None and len(config.formats) == 1


def _format_without_kernel(config: TensorConfig, fmt: Format) -> str | None:
    least, most = 2, 4
    if isinstance(fmt, LearnedFormat):
        least = 3
    elif isinstance(fmt, IntFormat | FloatFormat):
        most = BYTE_BITS
    if not least <= fmt.bits <= most:
        return f"{fmt.bits} bits of {fmt.name}"
    if not isinstance(fmt, FloatFormat) or fmt.bits <= 4:
        return None
    if len(config.formats) > 1 or config.zero_point is not None:
        return f"several formats or zero points of {fmt.name}"
    plain = fmt.variant is FloatVariant.FINITE and fmt.exponent_bits < _HALF_EXPONENT_BITS
    plain |= fmt.variant is FloatVariant.IEEE and fmt.exponent_bits == _HALF_EXPONENT_BITS
    plain |= fmt.variant is FloatVariant.FN and (fmt.exponent_bits, fmt.mantissa_bits) == (4, 3)
    whole = fmt.bits == 1 + fmt.exponent_bits + fmt.mantissa_bits and fmt.exponent_bits <= _HALF_EXPONENT_BITS
    return None if plain and whole and fmt.sign_bits else fmt.name


def _scale_without_kernel(config: TensorConfig) -> str | None:
    scale = config.scale
    if scale is None:
        return None
    rows, columns = config.granularity.tile((_LONG, _LONG))
    if rows != 1 or (columns % BLOCK and columns != TILE_ROWS):
        return f"scales for {config.granularity!r}"
    if scale.format.name not in _SCALES:
        return f"scales of {scale.format.name}"
    if scale.outer is None:
        return None
    if scale.outer.name not in _OUTER_SCALES or not isinstance(scale.outer_granularity, PerTensor | PerChannel):
        return f"second-level scales of {scale.outer.name} for {scale.outer_granularity!r}"
    return None


@dataclass(frozen=True)
class RunWork:
    """Warp instructions of a run: all, those of the half-wide pipe and tensor-core products among them; and sums."""

    instructions: float
    half_wide: float
    products: int
    sums: float


def instructions(encoding: GemvEncoding, tokens: int, *, gathered: bool = False) -> RunWork:
    """Warp instructions of a run of 16 x 128 weights, counted in the kernel's text.

    For each lane two rows of 32 codes: decode; load codes, inputs and steps from shared memory; products; sums as two
    digits joined, converted, scaled; copies into the ring. Addresses are constants and cost nothing. Where four runs
    are ``gathered`` (``gpu_gemv_cut``), a lane's codes are next to one another: loads of 16 bytes, and what is done for
    a sum is done once for all of a group's.
    """
    column_tiles = encoding.column_tiles(tokens)
    once = encoding.parts / 4 if gathered else 1.0  # of what is done for a sum
    ends = column_tiles * encoding.halves * once
    two_sided = encoding.tables > 1 and not merged(encoding, tokens, gathered=gathered)
    in_words = gathered and encoding.parts > 2 and encoding.scale_bits == BYTE_BITS
    in_halves = in_words and encoding.halves > 1  # scaled once for all of a run's inputs
    half = _LANE_WEIGHTS * encoding.decode
    half += 8 * once if encoding.selector_bits else 0  # a special value permuted into the table, for two rows
    # digits joined and made floats; sums of two tables; sums of halves are floats
    half += 0 if encoding.floats else ends * encoding.digits * (4 + 4 * two_sided)
    # zero points taken out of shared memory, for two rows, multiplied and subtracted for each sum: 10 and 5 counted,
    # times 1.3, which fitted best when it was left free
    half += (13 * encoding.halves * once + 6.5 * ends) if encoding.zero_bits else 0
    products = 4 * encoding.digits * encoding.tables * column_tiles * (2 if encoding.floats else 1)
    loads = 2 * (encoding.bits / 4 if gathered else _CODE_LOADS[encoding.bits])  # codes of two rows
    loads += (4 if encoding.floats else 2) * column_tiles + (1 / 4 if in_words else ends)  # inputs; their scale
    if encoding.learned:
        loads += 2 * _TABLE_LOADS[encoding.bits] * once
    elif encoding.looked_up and not encoding.selector_bits:
        loads += once  # a table
    scaling = _SCALES_IN_WORDS[encoding.halves] if in_words else (4 * encoding.halves if encoding.group else 2) * once
    sums = ends * ((2 if in_halves else 4) + 2 * (encoding.digits - 1))  # steps multiplied, sums added
    copies = encoding.bits  # each with its place
    if encoding.halves > 1 and column_tiles >= _TWICE_TILES:  # inputs and codes are loaded again for the second half
        loads += 2 * column_tiles + 2 * _CODE_LOADS[encoding.bits]
    return RunWork(half + loads + products + scaling + sums + copies, half, products, ends)


def merged(encoding: GemvEncoding, tokens: int, *, gathered: bool) -> bool:
    """Whether products of both tables of sixteen entries have one sum (``kernels_gpu.gemv_spec``)."""
    if gathered:
        return encoding.parts > 2
    return encoding.column_tiles(tokens) <= (_MERGED_TILES if encoding.halves > 1 else encoding.digits)


def registers(encoding: GemvEncoding, tokens: int, *, most: int = 0, gathered: bool = True, ahead: int = 0) -> int:
    """Registers of a thread, in eights as they are given out; near enough to the compiled kernels' to count blocks.

    Args:
        encoding: of the weight.
        tokens: of a launch.
        most: no more than these, where above 0.
        gathered: one token's lanes take four blocks of codes next to one another (``GemvCut.gathers``).
        ahead: blocks of codes that a lane decodes ahead.
    """
    made = _REGISTERS + (_SIXTEEN_REGISTERS if encoding.looked_up and encoding.bits == 4 else 0)
    small = encoding.bits == 3 and not encoding.learned and tokens == 1 and not gathered  # NF3: 54 to 64
    made += 0 if small else _SECOND_DIGIT_REGISTERS * (encoding.digits - 1)
    made += (_FLOAT_REGISTERS if encoding.floats else 0) + _AHEAD_REGISTERS * ahead
    made += _TILE_REGISTERS * encoding.digits**2 * (encoding.column_tiles(tokens) - 1)
    return min(ceil_div(made, 8) * 8, most or _MOST_REGISTERS)
