"""Cell areas and energies at 28 nm that presets are built from where no publication gives a unit's own figures.

A few fixed numbers from this project's own syntheses, and their scaling; a PE of any formats, on LUTs or in cells, is
priced by ``hwmodel.unit_cost`` instead. Areas come from syntheses of plain arithmetic in open libraries: Nangate45 for
one INT8 multiply-add, OSU 0.18 um for ratios between units, both with Yosys 0.70 (``docs/machines.md`` says how),
scaled to 28 nm by ``node_scaling``. Energies are areas times one density. Both are estimates: good for comparing
machines to about a third, not for sign-off.
"""

from __future__ import annotations

from hwmodel.technology import node_scaling

TARGET_NM = 28.0  # node of the BitMoD study: TSMC 28 nm
NANGATE_NM = 45.0  # Nangate 45 nm Open Cell Library 1.3
# One INT8 x INT8 multiply-add with a 26-bit accumulator, Nangate45, without Booth recoding (as the OSU units below);
# Yosys 0.70, synthesised for this project; 647 um2 with Booth recoding
INT8_MAC_NANGATE_UM2 = 941.0
INT8_MAC_OSU018_UNITS = 28855.0  # the same unit in OSU 0.18 um, in that library's own area unit
W4A4_MAC_NANGATE_UM2 = 302.0  # INT4 x INT4 with an 18-bit accumulator, Nangate45, Booth; synthesised for this project
FLIP_FLOP_NANGATE_UM2 = 4.522  # DFF_X1, Nangate Open Cell Library 1.3

# FIGNA-like FP16 x INT8 multiply-add at 28 nm and 1 GHz: 0.613 pJ over 1318.6 um2, area and power sheet of the authors
# of BitMoD (github.com/yc2367/BitMoD, July 2024). ASSUMPTION: other arithmetic switches as much per um2.
ENERGY_PJ_PER_UM2 = 0.613 / 1318.6


def area_28nm(nangate_um2: float) -> float:
    """Area at 28 nm of a unit synthesised in Nangate45."""
    return nangate_um2 * node_scaling(NANGATE_NM, TARGET_NM).area


def area_28nm_of_osu018(units: float) -> float:
    """Area at 28 nm of a unit synthesised in OSU 0.18 um, by its ratio to the INT8 multiply-add in both libraries."""
    return area_28nm(units / INT8_MAC_OSU018_UNITS * INT8_MAC_NANGATE_UM2)


def energy_pj(area_um2: float) -> float:
    """Energy of a busy cycle of logic of that area at 28 nm, after synthesis."""
    return area_um2 * ENERGY_PJ_PER_UM2
