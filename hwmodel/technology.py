"""Process technology: what does not belong to one design, and how figures scale from one node to another.

``node_scaling`` is Stillmaker and Baas, Scaling equations for the accurate prediction of CMOS device performance from
180 nm to 7 nm, Integration 58, 2017: the areas of their table 1 (from ITRS minimum features) and their polynomials for
the energy of a switching inverter (fits to HSPICE with PTM and ITRS models, coefficients of determination above 0.95),
high-performance cells, at the nominal voltage of each node. Nodes that are not tabulated (28 nm) are interpolated
linearly in the logarithms. Against an independent pair, the energy of an FP16 multiply-add at 45 nm (1.1 + 0.4 pJ,
Horowitz, ISSCC 2014) and of the one synthesised at 28 nm for BitMoD (0.77 pJ), the law errs by -18 %; areas of whole
designs shrink less than minimum features, so take areas as accurate to a third (``hwmodel.validate_machines``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Technology:
    """A silicon process as the cost model sees it.

    Args:
        name: lower case.
        node_nm: feature size in nm.
        layout_energy_factor: energy after layout over energy after synthesis.
        logic_leakage_uw_per_um2: leakage power of logic for each um2 of cell area.
        source: where the figures come from.
        clock_idle_share: energy of a PE that waits over that of a busy one: the part of its clock that is not gated.
        static_power_mw: of the whole logic, in place of leakage by area (FPGAs); ``None`` for leakage by area.
    """

    name: str
    node_nm: float
    layout_energy_factor: float
    logic_leakage_uw_per_um2: float
    source: str
    clock_idle_share: float = 0.0
    static_power_mw: float | None = None

    def __post_init__(self) -> None:
        for what in ("node_nm", "layout_energy_factor"):
            if getattr(self, what) <= 0:
                raise ValueError(f"{what} of technology {self.name} must be above 0, not {getattr(self, what)!r}")
        if self.logic_leakage_uw_per_um2 < 0:
            raise ValueError(
                f"logic_leakage_uw_per_um2 of technology {self.name} must be at least 0, "
                f"not {self.logic_leakage_uw_per_um2!r}"
            )
        if not 0 <= self.clock_idle_share <= 1:
            raise ValueError(
                f"clock_idle_share of technology {self.name} must be 0 to 1, not {self.clock_idle_share!r}"
            )
        if self.static_power_mw is not None and self.static_power_mw < 0:
            raise ValueError(
                f"static_power_mw of technology {self.name} must be at least 0, not {self.static_power_mw!r}"
            )


# ASSUMPTION: clock distribution takes 30 % of the power of a large chip (a lower end: "can be over 30 %", Wikipedia,
# Clock signal), and gating a PE that waits stops two thirds of it. No figure of any of these designs is published.
CLOCK_IDLE_SHARE = 0.1

TSMC28 = Technology(
    name="tsmc28",
    node_nm=28,  # BitMoD, HPCA 2025, section V: TSMC 28 nm, 1 GHz
    layout_energy_factor=1.5,  # BitMoD simulator, pe_array.py: synthesis energy times 1.5 for place and route
    # ASSUMPTION: the density of a 45 nm 16x16-bit unit (69.0 uW over 2203.2 um2, synthesis table in BitFusion's
    # repository, Sharma et al., ISCA 2018) holds per um2 at 28 nm; its other units lie between 0.022 and 0.037.
    logic_leakage_uw_per_um2=69.0 / 2203.2,
    source="Chen et al., BitMoD, HPCA 2025; leakage density after Sharma et al., BitFusion, ISCA 2018 (assumption)",
    clock_idle_share=CLOCK_IDLE_SHARE,
)
BITFUSION45 = Technology(
    name="bitfusion45",
    node_nm=45,  # BitFusion, ISCA 2018: 45 nm
    layout_energy_factor=1.5,  # ASSUMPTION: as TSMC28's; the table is of synthesis
    logic_leakage_uw_per_um2=64.3 / 1733.1,  # synthesis table in BitFusion's repository: its 8/2 fused unit
    source="Sharma et al., BitFusion, ISCA 2018, synthesis table in its repository",
    clock_idle_share=CLOCK_IDLE_SHARE,
)


@dataclass(frozen=True)
class NodeScaling:
    """Factors from one node to another."""

    area: float
    energy: float


@dataclass(frozen=True)
class _Node:
    """One tabulated node: area relative to 45 nm, nominal voltage, energy polynomial in the voltage."""

    area: float
    volts: float
    energy: tuple[float, float, float]

    def energy_factor(self) -> float:
        a, b, c = self.energy
        return a * self.volts**2 + b * self.volts + c


# Stillmaker and Baas 2017: table 1 (row 45 nm) and table 5 (HP; 65 to 130 nm bulk). Nominal voltages: of
# the Predictive Technology Model's high-performance cards (ptm.asu.edu), bulk to 32 nm, multi-gate from 20 nm.
_NODES: Mapping[float, _Node] = {
    130: _Node(6.4, 1.3, (7.171, -6.709, 2.904)),  # the same tables
    90: _Node(2.8, 1.2, (4.762, -4.781, 2.092)),  # the same tables
    65: _Node(1.5, 1.1, (3.755, -4.398, 1.975)),  # the same tables
    45: _Node(1.0, 1.0, (1.018, -0.3107, 0.1539)),  # the same tables
    32: _Node(0.46, 0.9, (0.8367, -0.4341, 0.1701)),  # the same tables
    20: _Node(0.21, 0.9, (0.373, -0.1582, 0.04104)),  # the same tables
    16: _Node(0.19, 0.85, (0.2958, -0.1241, 0.03024)),  # the same tables
    14: _Node(0.17, 0.8, (0.2363, -0.09675, 0.02239)),  # the same tables
    10: _Node(0.1, 0.75, (0.2068, -0.09311, 0.02375)),  # the same tables
    7: _Node(0.059, 0.7, (0.1776, -0.09097, 0.02447)),  # the same tables
}


def energy_factor(node_nm: float, volts: float) -> float:
    """Energy of the modelled gate in a tabulated node at any voltage, in the paper's unit.

    >>> round(energy_factor(32, 0.9), 4)  # the authors' erratum to section 4.2.1: 0.4571 at 32 nm
    0.4571
    """
    a, b, c = _NODES[node_nm].energy
    return a * volts**2 + b * volts + c


@cache
def node_scaling(from_nm: float, to_nm: float) -> NodeScaling:
    """Factors on area and energy of logic and SRAM from one node to another, each at its nominal voltage.

    Raises:
        ValueError: a node outside 7 to 130 nm.
    """
    (area_from, energy_from), (area_to, energy_to) = _at(from_nm), _at(to_nm)
    return NodeScaling(area_to / area_from, energy_to / energy_from)


def _at(node_nm: float) -> tuple[float, float]:
    """Area and energy of a node in the table's units."""
    nodes = sorted(_NODES)
    if not nodes[0] <= node_nm <= nodes[-1]:
        raise ValueError(f"node_nm must be {nodes[0]} to {nodes[-1]} to be scaled, not {node_nm!r}")
    high = next(node for node in nodes if node >= node_nm)
    if high == node_nm:
        return _NODES[high].area, _NODES[high].energy_factor()
    low = nodes[nodes.index(high) - 1]
    share = math.log(node_nm / low) / math.log(high / low)
    mix = [
        math.exp((1 - share) * math.log(a) + share * math.log(b))
        for a, b in (
            (_NODES[low].area, _NODES[high].area),
            (_NODES[low].energy_factor(), _NODES[high].energy_factor()),
        )
    ]
    return mix[0], mix[1]
