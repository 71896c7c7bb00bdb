"""Conversions between units; the only place where a power of ten or 1024 is written down.

Decimal prefixes are decimal; ``KIB`` and ``MIB`` are binary. Energy is counted in pJ, area in um2, time in cycles, and
turned into other units at the edge.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
BYTE_BITS = 8
WORD_BITS = 64  # one word of the on-chip memories' write model (BitMoD simulator)


def pj_to_uj(energy_pj: float) -> float:
    """Picojoules to microjoules."""
    return energy_pj * 1e-6


def pj_to_mj(energy_pj: float) -> float:
    """Picojoules to millijoules."""
    return energy_pj * 1e-9


def pj_to_j(energy_pj: float) -> float:
    """Picojoules to joules."""
    return energy_pj * 1e-12


def um2_to_mm2(area_um2: float) -> float:
    """Square micrometres to square millimetres."""
    return area_um2 * 1e-6


def uw_to_mw(power_uw: float) -> float:
    """Microwatts to milliwatts."""
    return power_uw * 1e-3


def cycles_to_s(cycles: float, frequency_hz: float) -> float:
    """Clock cycles to seconds."""
    return cycles / frequency_hz


def mhz_to_hz(frequency_mhz: float) -> float:
    """Megahertz to hertz."""
    return frequency_mhz * 1e6


def ns_to_s(time_ns: float) -> float:
    """Nanoseconds to seconds."""
    return time_ns * 1e-9


def leakage_pj(power_mw: float, cycles: float, frequency_hz: float) -> float:
    """Energy of a constant power over some cycles.

    >>> leakage_pj(2.0, 5, 1e9)  # 2 mW is 2 pJ in each nanosecond
    10.0
    """
    return power_mw * 1e9 * cycles / frequency_hz


def ceil_div(value: int, divisor: int) -> int:
    """Integer quotient rounded up."""
    return -(-value // divisor)
