"""Interpolated SRAM energies against CACTI's own: each tabulated point left out and made from its neighbours."""

from __future__ import annotations

from collections.abc import Iterator

from hwmodel.check import Check, Standing
from hwmodel.memory import SramPoint, interpolate_capacity, interpolate_port, sram_table
from hwmodel.units import KIB

_CACTI = "CACTI 7 at 28 nm, hwmodel/data/sram_28nm.csv"
_PORTS = (128, 256, 512, 1024, 2048)  # widths that every tabulated capacity has, ends left out


def port_errors(capacity_bytes: int) -> list[float]:
    """Relative errors of both energies of every port but the ends, from its two neighbours."""
    ports = sram_table()[capacity_bytes]
    errors = []
    for port in list(ports)[1:-1]:
        guess = interpolate_port({p: v for p, v in ports.items() if p != port}, port)
        errors += _energy_errors(guess, ports[port])
    return errors


def capacity_errors() -> list[float]:
    """Relative errors of both energies of every capacity but the ends, from its two neighbours."""
    table = sram_table()
    errors = []
    for size in list(table)[1:-1]:
        others = {capacity: ports for capacity, ports in table.items() if capacity != size}
        for port in _PORTS:
            guess = interpolate_capacity(others, size, port)
            errors += _energy_errors(guess, table[size][port])
    return errors


def _energy_errors(guess: SramPoint, truth: SramPoint) -> list[float]:
    """Relative, of reading and of writing."""
    return [abs(guess.read_pj / truth.read_pj - 1), abs(guess.write_pj / truth.write_pj - 1)]


def sram_checks() -> Iterator[Check]:
    """Mean and worst errors of points left out; as a ratio, since signs differ."""
    usual = 512 * KIB
    others = [error for capacity in sram_table() if capacity != usual for error in port_errors(capacity)]
    for what, errors in (
        ("ports of 512 KiB", port_errors(usual)),
        ("ports of other capacities", others),
        ("capacities", capacity_errors()),
    ):
        yield Check(
            "CACTI", f"energy of an SRAM access, {what} left out", 1.0,
            1 + sum(errors) / len(errors), Standing.REBUILT, _CACTI,
            "mean of absolute errors", len(errors), max(errors),
        )  # fmt: skip
