"""BitMoD's bit-serial PE, bit for bit: what comes out of it, and after how many cycles.

The golden reference of the twins in C++ and RTL. One PE computes one output: groups of a weight row one after another,
``lanes`` columns at a time, one term of each weight a cycle (``hwmodel.pe_functional_terms``). FP16 activations go
through five steps; each is exact but for the shifts to the right that it names:

    1  exponent match      of each lane, activation exponent (biased, 1 for subnormals) + term exponent; their maximum
    2  multiply            11-bit significand if there is a term, ``guard_bits`` zeros appended, shifted right to the
                           maximum (bits that fall out are lost: towards zero), signed, summed: 17 bits
    3  group accumulate    that sum shifted left by the significance, added to a 15-bit mantissa; whichever of the two
                           has the lower exponent is shifted right first (down, towards minus infinity); a sum that does
                           not fit the mantissa is shifted right until it does (down), never left
    4  dequantization      the mantissa times the group's scale, a bit of it each cycle: the upper 21 bits (down)
    5  column accumulator  groups of a row summed in FP32 in their order; then the outer scale, one FP32 product

Source: Chen et al., BitMoD, HPCA 2025, section IV-B and figure 5, with the widths 11, 3, 17, 15, 21 of the authors'
draft RTL (github.com/yc2367/BitMoD, hardware/pe, July 2024): its lanes without a term take part in the maximum,
alignment truncates, the accumulator shifts arithmetically, gives zero past 13 and never normalises to the left.

ASSUMPTIONS, where neither says, or not the same:
    * figure 5 has the accumulator's exponent take part in the maximum of step 1; the later draft compares it in step 3
      (and there forgets to shift the lanes' sum). ``Alignment`` offers both. Aligning lanes to a large accumulator
      before the shift to the left loses low bits of terms of high significance: ``docs/pe_functional.md``.
    * step 3 adds in 24 bits: the published 23 overflow where four lanes and the accumulator are full
      (``tests/hwmodel/test_pe_functional.py`` has the case).
    * 15 + 8 bits do not fit the 21 of step 4: the lowest are dropped. The product is the same whether the scale comes
      lowest or highest bit first. Other scale formats bring their significant bits (``hwmodel.pe.scale_cycles``).
    * the format of step 5 is not published.
    * step 4 hands over when it is free: a group takes as many cycles as the slower of dot product and dequantization.

INT8 activations (``integer_gemm``) need no alignment and are exact; the paper runs them in software only.
Zero points are not the PE's (``hwmodel.operands``: group sums on the vector unit).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial

import numpy as np

from datatypes.catalog import FP16, FP32
from datatypes.format import Format
from hwmodel import pe_functional_kernels as kernels
from hwmodel.pe import PE
from hwmodel.pe_functional_terms import MAX_SIGNIFICANCE, TermTable, term_table
from hwmodel.pe_functional_weight import SerialWeight
from hwmodel.presets import BITMOD_PE

FP16_BIAS, FP16_MANTISSA_BITS, FP16_TOP_EXPONENT = 15, 10, 31  # IEEE 754-2019, binary16
INTEGER_ACTIVATION_BITS = 8  # HPCA 2025, table XII: INT8 activations


class Alignment(Enum):
    """What the lanes of a cycle are aligned to."""

    LANES = "lanes"  # the largest of the lanes (draft RTL)
    ACCUMULATOR = "accumulator"  # the largest of the lanes and the accumulator (HPCA 2025, figure 5)


@dataclass(frozen=True)
class SerialDatapath:
    """Widths of a bit-serial PE. The defaults are BitMoD's; see the module docstring for their sources.

    Args:
        pe: lanes, and which formats its encoder takes.
        guard_bits: kept below the significand when lanes are aligned.
        accumulator_bits: of the group accumulator's mantissa, sign included.
        group_bits: of the dequantized group sum's mantissa, sign included.
        alignment: what lanes are aligned to.
        rounded: whether the last bit that step 3 shifts out is carried into its adder. Not published: an option.
    """

    pe: PE = BITMOD_PE
    guard_bits: int = 3
    accumulator_bits: int = 15
    group_bits: int = 21
    alignment: Alignment = Alignment.LANES
    rounded: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.guard_bits <= 20 and 4 <= self.accumulator_bits <= 40 and 4 <= self.group_bits <= 53):
            raise ValueError(
                "guard_bits, accumulator_bits and group_bits must be 0 to 20, 4 to 40 and 4 to 53, "
                f"not {self.guard_bits!r}, {self.accumulator_bits!r} and {self.group_bits!r}"
            )

    @property
    def dot_bits(self) -> int:
        """Of the sum of all lanes, sign included.

        >>> SerialDatapath().dot_bits, SerialDatapath().shifted_bits
        (17, 23)
        """
        return FP16_MANTISSA_BITS + 1 + self.guard_bits + 1 + (self.pe.lanes - 1).bit_length()

    @property
    def shifted_bits(self) -> int:
        """Of that sum at the highest significance."""
        return self.dot_bits + MAX_SIGNIFICANCE

    def dropped_bits(self, scale_bits: int) -> int:
        """Low bits that dequantization by a scale of ``scale_bits`` drops.

        >>> SerialDatapath().dropped_bits(8)
        2
        """
        return max(0, self.accumulator_bits + scale_bits - self.group_bits)


BITMOD_DATAPATH = SerialDatapath()


@dataclass(frozen=True, eq=False)
class SerialResult:
    """What a bit-serial array puts out.

    Args:
        values: ``[m, n]``: FP32 or FP16; exact int64 from ``integer_gemm``.
        cycles: of one PE for one output, waits for dequantization included (all outputs take the same).
        unit_exponent: power of two that integer values count in; 0 for floats.
    """

    values: np.ndarray
    cycles: int
    unit_exponent: int = 0


@dataclass(frozen=True, eq=False)
class GroupSums:
    """What the group accumulators hold: ``mantissas * 2**exponents``, int64 ``[m, n, groups]``; ``cycles`` of a PE."""

    mantissas: np.ndarray
    exponents: np.ndarray
    cycles: int


def gemm(
    activations: np.ndarray, weight: SerialWeight, *, datapath: SerialDatapath = BITMOD_DATAPATH,
    output: Format = FP32, threads: int = 1,
) -> SerialResult:  # fmt: skip
    """``activations @ weight.T`` as the PEs compute it.

    Args:
        activations: float16 ``[m, k]``, finite.
        weight: ``[n, k]``.
        output: FP32, or FP16 (rounded to nearest even; what is too large becomes infinite).
        threads: rows of the weight are split over as many.

    Raises:
        NotImplementedError: the encoder cannot take a format.
        ValueError: shapes do not fit, or an activation is NaN or infinite.
        TypeError: activations are not float16.
    """
    if output not in (FP32, FP16):
        raise ValueError(f"output must be fp32 or fp16, not {output.name!r}")
    sums = group_sums(activations, weight, datapath=datapath, threads=threads)
    total = np.zeros(sums.mantissas.shape[:2], np.float32)
    dequantized = _dequantized(sums, weight, datapath)
    for g in range(dequantized.shape[2]):
        total += dequantized[:, :, g]
    if weight.outer is not None:
        total = total * weight.outer[None, :]
    with np.errstate(over="ignore"):
        values = total.astype(np.float16) if output is FP16 else total
    return SerialResult(values, sums.cycles)


def gemv(
    activations: np.ndarray, weight: SerialWeight, *, datapath: SerialDatapath = BITMOD_DATAPATH,
    output: Format = FP32,
) -> SerialResult:  # fmt: skip
    """``gemm`` of one token: activations ``[k]``, values ``[n]``."""
    result = gemm(activations[None], weight, datapath=datapath, output=output)
    return SerialResult(result.values[0], result.cycles)


def dot(
    activations: np.ndarray, weight: SerialWeight, *, datapath: SerialDatapath = BITMOD_DATAPATH
) -> tuple[float, int]:
    """Value and cycles of one PE: activations float16 ``[k]``, a weight ``[1, k]``.

    >>> from datatypes.catalog import INTS
    >>> from hwmodel.pe_functional_weight import SerialWeight
    >>> codes = np.array([[1, 2, 3, 4, 5, 6]], dtype=np.uint8)
    >>> dot(np.ones(6, np.float16), SerialWeight((INTS[8],), codes, group_size=6))
    (21.0, 8)
    """
    if weight.shape[0] != 1:
        raise ValueError(f"weight of one PE must have one row, not {weight.shape[0]}")
    result = gemv(activations, weight, datapath=datapath)
    return float(result.values[0]), result.cycles


def group_sums(
    activations: np.ndarray, weight: SerialWeight, *, datapath: SerialDatapath = BITMOD_DATAPATH, threads: int = 1
) -> GroupSums:
    """Steps 1 to 3: what the group accumulators hold at the end of each group.

    Arguments and errors as for ``gemm``.
    """
    significands, exponents = decode_fp16(activations)
    tables = kernel_tables(weight, datapath.pe, significands.shape)
    shape = (significands.shape[0], *weight.selector.shape)
    mantissas, group_exponents, spent = (np.zeros(shape, np.int64) for _ in range(3))
    widths = (datapath.pe.lanes, datapath.guard_bits, datapath.accumulator_bits, datapath.shifted_bits)
    run = partial(
        kernels.fp16_rows, significands, exponents, weight.codes, weight.selector, *tables, weight.group_size, widths,
        (datapath.alignment is Alignment.ACCUMULATOR, datapath.rounded), mantissas, group_exponents, spent,
    )  # fmt: skip
    _over_rows(run, weight.shape[0], threads)
    lowest = lowest_bit_exponent(weight, datapath)
    return GroupSums(mantissas, group_exponents + lowest, _clock(spent, weight))


def integer_gemm(
    activations: np.ndarray, weight: SerialWeight, *, pe: PE = BITMOD_PE, threads: int = 1
) -> SerialResult:
    """``activations @ weight.T`` with integer activations and integer scales, exactly.

    Args:
        activations: integers of 8 bits, ``[m, k]``.
        weight: with scales that are integers, or none; the outer scale is left out.

    Returns:
        int64 values in units of ``2**unit_exponent``: sum of activation * element * group scale.

    Raises:
        NotImplementedError: scales are no integers.
        ValueError: activations are wider than 8 bits, or shapes do not fit.
    """
    if not np.issubdtype(activations.dtype, np.integer):
        raise TypeError(f"activations must be integers, not {activations.dtype}")
    limit = 1 << (INTEGER_ACTIVATION_BITS - 1)
    if activations.size and not (-limit <= activations.min() and activations.max() < limit):
        raise ValueError(
            f"activations must fit {INTEGER_ACTIVATION_BITS} bits, not span {activations.min()} to {activations.max()}"
        )
    if (weight.scale_exponents != 0).any():
        raise NotImplementedError(f"integer activations need integer scales, not {weight.scale_name}")
    tables = kernel_tables(weight, pe, activations.shape)
    shape = (activations.shape[0], *weight.selector.shape)
    sums, spent = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    run = partial(
        kernels.integer_rows, activations.astype(np.int64), weight.codes, weight.selector, *tables, weight.group_size,
        pe.lanes, sums, spent,
    )  # fmt: skip
    _over_rows(run, weight.shape[0], threads)
    total = (sums * weight.scale_significands).sum(axis=2)
    return SerialResult(total, _clock(spent, weight), unit_exponent(weight, pe))


def decode_fp16(activations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed 11-bit significands and biased exponents, int64, of float16 ``[m, k]``; 1 for subnormals and zero.

    Raises:
        TypeError: it is not float16.
        ValueError: a value is NaN or infinite.
    """
    if activations.dtype != np.float16:
        raise TypeError(f"activations must be float16, not {activations.dtype}")
    bits = np.ascontiguousarray(activations).view(np.uint16).astype(np.int64)
    exponents = (bits >> FP16_MANTISSA_BITS) & FP16_TOP_EXPONENT
    if (exponents == FP16_TOP_EXPONENT).any():
        bad = int((exponents == FP16_TOP_EXPONENT).sum())
        raise ValueError(f"activations must be finite, not hold {bad} NaN or infinite values")
    significands = (bits & ((1 << FP16_MANTISSA_BITS) - 1)) | ((exponents > 0).astype(np.int64) << FP16_MANTISSA_BITS)
    return np.where(bits >> 15, -significands, significands), np.maximum(exponents, 1)


def _dequantized(sums: GroupSums, weight: SerialWeight, datapath: SerialDatapath) -> np.ndarray:
    """Step 4: dequantized group sums, float32 ``[m, n, groups]``: 21-bit mantissas, so without rounding."""
    dropped = datapath.dropped_bits(weight.scale_bits)
    mantissas = (sums.mantissas * weight.scale_significands) >> dropped
    return np.ldexp(mantissas.astype(np.float64), sums.exponents + weight.scale_exponents + dropped).astype(np.float32)


def _clock(spent: np.ndarray, weight: SerialWeight) -> int:
    """Cycles from one output's last hand-over to the next one's: groups wait while the dequantizer is busy."""
    if not spent.size:
        return 0
    assert (spent == spent[:1, :1]).all(), "no term is skipped, so that every output takes as long"
    clock, free = 0, weight.scale_cycles  # the dequantizer has just taken over the output before
    for cycles in spent[0, 0].tolist():
        clock = max(clock + cycles, free)
        free = clock + weight.scale_cycles
    return clock


def kernel_tables(
    weight: SerialWeight, pe: PE, activations: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs, exponents ``[F, C, cycles]`` and significances ``[F, cycles]``, int64, for kernels."""
    if len(activations) != 2 or activations[1] != weight.shape[1]:
        raise ValueError(f"activations must have the shape [m, {weight.shape[1]}], not {list(activations)!r}")
    found = [term_table(fmt, pe) for fmt in weight.formats]
    cycles = max(table.cycles for table in found)
    return (
        np.stack([_padded(table.signs, cycles) for table in found]),
        np.stack([_padded(table.exponents, cycles) for table in found]),
        np.stack([_padded(np.array([table.significances]), cycles)[0] for table in found]),
    )


def _padded(rows: np.ndarray, cycles: int) -> np.ndarray:
    """Cycles without a term behind, so that all candidate formats take as long: lanes share their control."""
    return np.pad(rows.astype(np.int64), ((0, 0), (0, cycles - rows.shape[1])))


def lowest_bit_exponent(weight: SerialWeight, datapath: SerialDatapath) -> int:
    """Power of two of a lane's lowest bit at the biased exponent 0."""
    return unit_exponent(weight, datapath.pe) - FP16_BIAS - FP16_MANTISSA_BITS - datapath.guard_bits


def unit_exponent(weight: SerialWeight, pe: PE) -> int:
    """Power of two of a term 1 of ``weight``.

    Raises:
        NotImplementedError: its candidate formats differ in it.
    """
    tables: list[TermTable] = [term_table(fmt, pe) for fmt in weight.formats]
    units = {table.unit_exponent for table in tables}
    if len(units) > 1:
        raise NotImplementedError(f"formats of one weight must share their unit, not have 2**{sorted(units)!r}")
    return units.pop()


def _over_rows(run: Callable[[int, int], None], rows: int, threads: int) -> None:
    """``run(start, stop)`` over all rows, split evenly."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads!r}")
    if threads == 1:
        run(0, rows)
        return
    bounds = np.linspace(0, rows, min(threads, max(rows, 1)) + 1).astype(int).tolist()
    with ThreadPoolExecutor(len(bounds) - 1) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
