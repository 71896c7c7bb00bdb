"""Instructions with which the tile kernel decodes (``kernels_gpu.gemm_decode``): counted, and as issue slots.

Counts are those of the kernel's text and agree with the disassembly of sixteen encodings within 16 % (a test). Copies
and products are in ``gpu_tiles``. ``Lookup`` says how floats and NF4 are.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from hwmodel.gpu_gemv_encoding import RUN, TILE_ROWS, WARP, GemvEncoding
from hwmodel.units import BYTE_BITS

# Instructions of a weight, by digits and tables, after its bytes are there: a permutation and a logical one for two
# weights and set of bytes, then fused products of two weights: kernels_gpu/gemm_decode.py, ``make_values``
_FUSED: Mapping[tuple[int, int], float] = {(1, 1): 1 / 2, (1, 2): 2 / 2, (2, 1): 3 / 2, (2, 2): 4 / 2}
_ORDERED_FLOAT, _SCALED = 1 / 2, 1 / 2  # a permutation, and a product, for two weights
_BYTES_TO_HALVES = 1.0
_SHIFTED_LEFT = 2 / 8  # of floats of 5 to 7 bits, by multiplications: kernels_gpu/gemv_halves.py
# Of a run beside those, in the disassembly of 8 x 8 x 1 x 2 less 12 for each tile of tokens: loads of codes and one
# scale for each of two rows; selectors; E8M0 scales as two factors; a second scale for the other half of a block
_RUN_LOADS, _SELECTORS, _TWO_FACTORS, _TWO_GROUPS = 38, 26, 36, 67
_HALF_WIDE_SELECTORS = 20  # of those: 204 of BitMoD-4's loop are on the half-wide pipe (NOTES.md), 184 of its decoding
# Of bytes of halves (``kernels_gpu/gemm_signed.py``, ``gemm_halves.py``), of a weight: thirteen instructions for eight,
# twelve of them on the half-wide pipe; for NF4 27 and 19, the product with the scale among them. Of a run beside, in
# the disassembly of 8 x 8 x 1 x 2 and 3 x 4 x 2 x 2: for each of two rows E8M0 as one factor with its size of
# magnitudes, or two E4M3 scales
_SIGNED, _SIGNED_HALF_WIDE, _SIDED, _SIDED_HALF_WIDE = 13 / 8, 12 / 8, 27 / 8, 19 / 8
_ONE_FACTOR, _TWO_SCALES = 22, 18
_HALF_WIDE_FACTOR, _HALF_WIDE_SCALES = 21, 18


class Lookup(Enum):
    """How the tile kernel decodes floats of four bits, and codebooks of two digits."""

    BYTES = "bytes"  # differences of two tables of bytes in shared memory: kernels up to version 2 (NOTES.md)
    HALVES = "halves"  # bytes of halves from registers, and signs


LOOKED_UP = Lookup.HALVES  # what ``kernels_gpu`` launches today


def in_halves(encoding: GemvEncoding, lookup: Lookup) -> bool:
    """Whether the kernel looks bytes of halves up."""
    return (encoding.signed or encoding.sided) and lookup is Lookup.HALVES


def decode_instructions(encoding: GemvEncoding, lookup: Lookup = LOOKED_UP) -> float:
    """Instructions of a run of 16 x 128 weights, a lane's, to make them scaled halves.

    >>> from datatypes.catalog import FP16, INTS_SYMMETRIC
    >>> from datatypes.granularity import PerGroup
    >>> from datatypes.layer_config import ScaleConfig, TensorConfig
    >>> from hwmodel.gpu_gemv_encoding import encoding_of
    >>> decode_instructions(encoding_of(TensorConfig((INTS_SYMMETRIC[4],), PerGroup(128), ScaleConfig(FP16))))
    190.0
    """
    if in_halves(encoding, lookup):
        beside = _RUN_LOADS + (_ONE_FACTOR if encoding.power_scales else 0)
        beside += _TWO_SCALES if encoding.group == TILE_ROWS else 0
        return TILE_ROWS * RUN / WARP * (_SIGNED + _SCALED if encoding.signed else _SIDED) + beside
    own = encoding.decode + _SCALED
    if encoding.floats:
        # halves that carry a power of two are multiplied by it; shifts to the left are not among those of decoding
        own += 0.0 if encoding.bits == BYTE_BITS else _ORDERED_FLOAT + _SCALED + _SHIFTED_LEFT
    else:
        own += encoding.digits * encoding.tables * _BYTES_TO_HALVES + _FUSED[encoding.digits, encoding.tables]
    own += _SCALED if encoding.power_scales else 0.0
    beside = _RUN_LOADS + (_SELECTORS if encoding.selector_bits else 0) + (_TWO_FACTORS if encoding.power_scales else 0)
    return TILE_ROWS * RUN / WARP * own + beside + (_TWO_GROUPS if encoding.group == TILE_ROWS else 0)


def decode_slots(encoding: GemvEncoding, lookup: Lookup = LOOKED_UP) -> float:
    """The same instructions with those of the half-wide pipe counted twice: logical ones, shifts, permutations."""
    if in_halves(encoding, lookup):
        each = _SIGNED_HALF_WIDE if encoding.signed else _SIDED_HALF_WIDE
        half = TILE_ROWS * RUN / WARP * each + (_HALF_WIDE_FACTOR if encoding.power_scales else 0)
        half += _HALF_WIDE_SCALES if encoding.group == TILE_ROWS else 0
        return decode_instructions(encoding, lookup) + half
    permuted = 0.0 if encoding.floats and encoding.bits == BYTE_BITS else _BYTES_TO_HALVES
    permuted = _ORDERED_FLOAT if encoding.floats and permuted else permuted * encoding.digits * encoding.tables
    half = TILE_ROWS * RUN / WARP * (encoding.decode + permuted)
    return decode_instructions(encoding, lookup) + half + (_HALF_WIDE_SELECTORS if encoding.selector_bits else 0)
