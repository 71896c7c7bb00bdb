"""A serial PE in exact fractions, for the functional one to be compared with.

It works on values (``Fraction``) and lowest bits, the model on mantissas and exponents; terms are taken apart from the
bits' text, scales by ``as_integer_ratio``. They share no code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from datatypes.catalog import BF16, E8M0, FP16, FP32, UE4M3, UINT8
from datatypes.format import Format
from hwmodel.pe_functional import Alignment, SerialDatapath
from hwmodel.pe_functional_weight import SerialWeight


def reference_terms(fmt: Format, code: int) -> list[tuple[Fraction, int]]:
    """(signed power of two without significance, significance) of each cycle."""
    value = Fraction(float(fmt.code_values[code]))
    if fmt.name.startswith(("e2m", "bitmod")):
        sign = -1 if value < 0 else 1
        text = format(int(abs(value) * 2), "05b")  # I3 I2 I1 I0 F0
        ones = [i for i, bit in enumerate(text) if bit == "1"]
        high = next((i for i in ones if i < 4), None)
        low = next((i for i in ones if i != high and i > 0), None)
        units = [Fraction(sign * 2 ** (4 - low), 2) if low is not None else Fraction(0),
                 Fraction(sign * 2 ** (3 - high), 2) if high is not None else Fraction(0)]  # fmt: skip
        return [(units[0], 0), (units[1], 1)]
    unit = Fraction(1, 64) if fmt.name == "mx_int8" else Fraction(1)
    width = fmt.bits + (fmt.name.startswith("uint"))
    count = max(1, math.ceil(width / 2))
    integer = int(value / unit)
    text = format(integer % (1 << (2 * count)), f"0{2 * count}b") + "0"
    digit = {"000": 0, "001": 1, "010": 1, "011": 2, "100": -2, "101": -1, "110": -1, "111": 0}
    triplets = [text[2 * i : 2 * i + 3] for i in range(count)][::-1]
    return [(digit[triplet] * unit, 2 * i) for i, triplet in enumerate(triplets)]


def unit_of(fmt: Format) -> Fraction:
    if fmt.name == "mx_int8":
        return Fraction(1, 64)
    return Fraction(1, 2) if fmt.name.startswith(("e2m", "bitmod")) else Fraction(1)


def biased_exponent(x: float) -> int:
    return max(math.frexp(x)[1] - 1 + 15, 1) if x else 1


@dataclass
class ReferencePe:
    """One PE in fractions."""

    path: SerialDatapath

    def lowest(self, exponent: int, unit: Fraction) -> Fraction:
        return unit * Fraction(2) ** (exponent - 15 - 10 - self.path.guard_bits)

    def shifted(self, value: Fraction, old: Fraction, new: Fraction, width: int) -> Fraction:
        """``value``, a multiple of ``old``, on the coarser grid ``new``."""
        if new >= old * 2 ** (width - 1):
            return Fraction(0)
        half = Fraction(1, 2) if self.path.rounded else 0
        return math.floor(value / new + half) * new if new > old else value

    def group(self, xs: list[float], fmt: Format, codes: list[int]) -> tuple[Fraction, Fraction, int]:
        """(accumulator, its lowest bit, cycles)."""
        unit, lanes = unit_of(fmt), self.path.pe.lanes
        sum_width = 11 + self.path.guard_bits + 1 + math.ceil(math.log2(lanes)) + 6
        held, exponent, cycles = Fraction(0), 0, 0
        for first in range(0, len(xs), lanes):
            step = list(zip(xs[first : first + lanes], codes[first : first + lanes], strict=True))
            for t in range(len(reference_terms(fmt, 0))):
                cycles += 1
                products, powers, significance = [], [], 0
                for x, code in step:
                    term, significance = reference_terms(fmt, code)[t]
                    powers.append(biased_exponent(x) + (int(math.log2(abs(term) / unit)) if term else 0))
                    products.append(Fraction(x) * term)
                top = max(powers + ([exponent] if self.path.alignment is Alignment.ACCUMULATOR else []))
                grid = self.lowest(top, unit)
                total = sum(math.trunc(p / grid) * grid for p in products) * 2**significance
                if exponent > top:
                    total = held + self.shifted(total, grid, self.lowest(exponent, unit), sum_width)
                    top = exponent
                else:
                    total += self.shifted(held, self.lowest(exponent, unit), grid, self.path.accumulator_bits)
                while abs(total) >= self.lowest(top, unit) * 2 ** (self.path.accumulator_bits - 1):
                    top += 1
                grid = self.lowest(top, unit)
                held, exponent = math.floor(total / grid) * grid, top
        return held, self.lowest(exponent, unit), cycles

    def run(self, xs: list[float], weight: SerialWeight, row: int) -> tuple[float, int]:
        """Value and cycles of one output."""
        total, cycles = np.float32(0), 0
        wait = {None: 0, UINT8: 8, FP16: 11, BF16: 8, FP32: 24, E8M0: 1, UE4M3: 4}[weight.scale_format]
        for g in range(weight.groups):
            a, b = g * weight.group_size, min((g + 1) * weight.group_size, len(xs))
            choice = 0 if weight.choice is None else int(weight.choice[row, g])
            codes = [int(code) for code in weight.codes[row, a:b]]
            held, lowest, spent = self.group(xs[a:b], weight.formats[choice], codes)
            significand, power = self.scale(weight, row, g)
            dropped = 2 ** max(0, self.path.accumulator_bits + wait - self.path.group_bits)
            product = math.floor(held / lowest * significand / dropped) * dropped * lowest * power
            total = np.float32(total + np.float32(float(product)))
            cycles += max(spent, wait)
        if weight.outer is not None:
            total = np.float32(total * weight.outer[row])
        return float(total), cycles

    def scale(self, weight: SerialWeight, row: int, g: int) -> tuple[int, Fraction]:
        """A scale as an integer of its significant bits and a power of two."""
        fmt = weight.scale_format
        if fmt is None or weight.scales is None:
            return 1, Fraction(1)
        stored = weight.scales[row, g]
        if fmt is UINT8:
            return int(stored), Fraction(1)
        if fmt is E8M0:
            return 1, Fraction(2) ** (int(stored) - 127)
        value = Fraction(float(stored) if weight.scales.dtype.kind == "f" else float(fmt.code_values[stored]))
        bits = {FP16: 11, BF16: 8, FP32: 24, UE4M3: 4}[fmt]
        smallest = {FP16: -24, BF16: -133, FP32: -149, UE4M3: -9}[fmt]
        power = Fraction(2) ** smallest
        while value / power >= 2**bits:
            power *= 2
        return int(value / power), power
