"""Interpolated SRAM energies against CACTI's own: each tabulated point left out and made from its neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hwmodel.check import Check, Standing
from hwmodel.memory import interpolate_port, sram_table
from hwmodel.units import KIB

_CACTI = "CACTI 7 at 28 nm, hwmodel/data/sram_28nm.csv"
_PORTS = (128, 256, 512, 1024, 2048)  # widths that every tabulated capacity has, ends left out
_ENERGIES = ("read_pj", "write_pj")


def port_errors(capacity_bytes: int) -> list[float]:
    """Relative errors of both energies of every port but the ends, from its two neighbours."""
    ports = sram_table()[capacity_bytes]
    errors = []
    for port in list(ports)[1:-1]:
        guess = interpolate_port({p: v for p, v in ports.items() if p != port}, port)
        errors += [abs(getattr(guess, what) / getattr(ports[port], what) - 1) for what in _ENERGIES]
    return errors


def capacity_errors() -> list[float]:
    """Relative errors of both energies of every capacity but the ends, from its two neighbours."""
    table = sram_table()
    sizes, errors = list(table), []
    for below, size, above in zip(sizes, sizes[1:], sizes[2:], strict=False):
        share = math.log(size / below) / math.log(above / below)
        for port in _PORTS:
            for what in _ENERGIES:
                low, high = getattr(table[below][port], what), getattr(table[above][port], what)
                errors.append(abs((low + share * (high - low)) / getattr(table[size][port], what) - 1))
    return errors


def sram_checks() -> Iterator[Check]:
    """Mean errors of points left out, the worst ones in the notes; as a ratio, since signs differ."""
    usual = 512 * KIB
    others = [error for capacity in sram_table() if capacity != usual for error in port_errors(capacity)]
    for what, errors in (
        ("ports of 512 KiB", port_errors(usual)),
        ("ports of other capacities", others),
        ("capacities", capacity_errors()),
    ):
        yield Check(
            "CACTI", f"energy of an SRAM access, {len(errors)} points, {what} left out", 1.0,
            1 + sum(errors) / len(errors), Standing.REBUILT, _CACTI,
            f"mean of absolute errors; worst {max(errors):.1%}",
        )  # fmt: skip
