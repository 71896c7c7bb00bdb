"""Process technology: what does not belong to one design."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Technology:
    """A silicon process as the cost model sees it.

    Args:
        name: lower case.
        node_nm: feature size in nm.
        layout_energy_factor: energy after layout over energy after synthesis.
        logic_leakage_uw_per_um2: leakage power of logic for each um2 of cell area.
        source: where the figures come from.
    """

    name: str
    node_nm: float
    layout_energy_factor: float
    logic_leakage_uw_per_um2: float
    source: str

    def __post_init__(self) -> None:
        for what in ("node_nm", "layout_energy_factor"):
            if getattr(self, what) <= 0:
                raise ValueError(f"{what} of technology {self.name} must be above 0, not {getattr(self, what)!r}")
        if self.logic_leakage_uw_per_um2 < 0:
            raise ValueError(
                f"logic_leakage_uw_per_um2 of technology {self.name} must be at least 0, "
                f"not {self.logic_leakage_uw_per_um2!r}"
            )


TSMC28 = Technology(
    name="tsmc28",
    node_nm=28,  # BitMoD, HPCA 2025, section V: TSMC 28 nm, 1 GHz
    layout_energy_factor=1.5,  # BitMoD simulator, pe_array.py: synthesis energy times 1.5 for place and route
    # ASSUMPTION: the density of a 45 nm 16x16-bit unit (69.0 uW over 2203.2 um2, synthesis table in BitFusion's
    # repository, Sharma et al., ISCA 2018) holds per um2 at 28 nm; its other units lie between 0.022 and 0.037.
    logic_leakage_uw_per_um2=69.0 / 2203.2,
    source="Chen et al., BitMoD, HPCA 2025; leakage density after Sharma et al., BitFusion, ISCA 2018 (assumption)",
)
