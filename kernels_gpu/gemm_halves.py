"""Device functions of the GEMM: blocks of 32 codes of four bits to scaled halves, by a table of sixteen halves.

For values that are no small multiples of a step (NF4), one sign below code 8 and the other from there on. A table has
two bytes for each half, so eight registers. A lookup by permutation gives a byte, or copies of a byte's top bit where
the code's bit 3 is set (``gemv_plan``). Magnitudes t of codes below 8 and, bit 3 turned over, u of the others are
looked up apart; a half is (t - u) times the scale:

    high bytes    top bits are zeros, and so is what the other half of the codes finds
    low bytes     where a top bit is one the other code j or j + 8 finds 255 units of 2**-24; its entry makes up for it
    halves        both bytes, by a permutation for two weights; a product and a fused one

27 instructions for eight weights, 19 of them on the half-wide pipe. Values are rounded once, products once more.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import cuda, uint32

from kernels_gpu import ptx
from kernels_gpu.gemm_ptx import fma_halves, multiply_halves
from kernels_gpu.gemv_plan import DIGIT_BASE, Decoding, Plan, ScaleKind, values_of_words, word_of
from kernels_gpu.gemv_planes import bytes_in_turn

TURNED = 0x88888888
HALF_SIGNS = 0x80008000  # of two halves
ONES = 255 * 2.0**-24  # a half whose low byte is ones


@dataclass(frozen=True)
class HalfTable:
    """Words of the low and of the high bytes: of codes 0 to 7, then of 8 to 15; and what results are multiplied by."""

    low: tuple[int, int, int, int]
    high: tuple[int, int, int, int]
    factor: float


def table_values(plan: Plan) -> list[int]:
    """The sixteen integers behind the tables of one digit, or of two, t then u of each (``gemv_plan``)."""
    digits = [
        values_of_words(plan.tables[0][at : at + 4], reverse=plan.digits == 2)
        for at in range(0, len(plan.tables[0]), 4)
    ]
    if len(digits) == 1:
        return digits[0]
    return [DIGIT_BASE * high + low for high, low in zip(*digits, strict=True)]


@lru_cache(maxsize=64)
def half_table(plan: Plan) -> HalfTable | None:
    """The table of an encoding of two digits; ``None`` where it has none."""
    if plan.decoding is not Decoding.TABLE or plan.bits != 4 or plan.digits != 2 or len(plan.tables) != 1:
        return None
    if plan.zero_bits or plan.learned or plan.scale not in (ScaleKind.FP16, ScaleKind.UINT8):
        return None
    units = np.array(table_values(plan), np.float64)
    turned = -1.0 if units[8:].max() > 0 else 1.0  # codes from 8 on are to be negative
    if (units[:8] * turned).min() < 0 or (units[8:] * turned).max() > 0:
        return None
    largest = float(np.abs(units).max())
    pairs = [_entries(*pair) for pair in np.abs(units / largest).reshape(2, 8).T.tolist()]
    if None in pairs:
        return None
    bits = np.array(pairs).T.ravel()
    return HalfTable(_words(bits & 0xFF), _words(bits >> 8), turned * plan.step * largest)


def _entries(first: float, second: float) -> tuple[int, int] | None:
    """Bits of halves of t and u for codes j and j + 8; ``None`` where a zero would become ones."""
    for ones_first, ones_second in itertools.product((0, 1), repeat=2):  # top bits of low bytes
        t, u = np.array([first + ones_second * ONES, second + ones_first * ONES]).astype(np.float16).view(np.uint16)
        wrong_zero = (first == 0 and ones_second) or (second == 0 and ones_first)
        if (int(t) >> 7 & 1, int(u) >> 7 & 1) == (ones_first, ones_second) and not wrong_zero:
            return int(t), int(u)
    return None


def _words(entries: npt.NDArray[np.int_]) -> tuple[int, int, int, int]:
    first, second, third, fourth = (word_of(entries[i : i + 4].tolist()) for i in (0, 4, 8, 12))
    return first, second, third, fourth


@cuda.jit(device=True)
def _four(code, turned, factor, minus, tables):
    """Two words of the four codes in the lower half of a word."""
    t_low, t_high = ptx.pick_bytes(tables[0], tables[1], code), ptx.pick_bytes(tables[4], tables[5], code)
    u_low, u_high = ptx.pick_bytes(tables[2], tables[3], turned), ptx.pick_bytes(tables[6], tables[7], turned)
    t0, t1 = bytes_in_turn(t_low, t_high)
    u0, u1 = bytes_in_turn(u_low, u_high)
    return (
        fma_halves(u0, minus, multiply_halves(t0, factor)),
        fma_halves(u1, minus, multiply_halves(t1, factor)),
    )


@cuda.jit(device=True)
def _eight(code, factor, tables):
    turned, minus = uint32(code ^ uint32(TURNED)), uint32(factor ^ uint32(HALF_SIGNS))
    above = uint32(code >> uint32(16)), uint32(turned >> uint32(16))
    return _four(code, turned, factor, minus, tables) + _four(above[0], above[1], factor, minus, tables)


@cuda.jit(device=True)
def half_block(codes, factor, more, tables):
    """Sixteen words of 32 codes, times a factor for each half; ``tables``: low bytes, then high bytes."""
    return (
        _eight(codes[0], factor, tables) + _eight(codes[1], factor, tables) + _eight(codes[2], more, tables)
        + _eight(codes[3], more, tables)
    )  # fmt: skip
