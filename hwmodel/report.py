"""What comes out: layer costs and reports, both additive; and the records that come in as ground truth.

``Measurement`` and ``ResourceReport`` are defined here, by their consumer, so that back ends can hand them up without
being imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

from hwmodel.price import Bound, Price, sum_prices
from hwmodel.units import cycles_to_s, pj_to_mj, pj_to_uj
from hwmodel.workload import LayerKind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LayerCost:
    """The price of one layer.

    Args:
        layer: its name.
        kind: what it computes.
        price: its cost; one object shared by all layers of equal shape and config.
        storage_bits: stored in the model for this layer; 0 for attention and tied weights.
        weights: stored weight elements.
    """

    layer: str
    kind: LayerKind
    price: Price
    storage_bits: int = 0
    weights: int = 0

    @property
    def cycles(self) -> int:
        """Cycles from start to end."""
        return self.price.cycles

    @property
    def energy_pj(self) -> float:
        """All energy."""
        return self.price.energy_pj

    @property
    def bound(self) -> Bound:
        """What the layer waits for."""
        return self.price.bound


@dataclass(frozen=True)
class CostReport:
    """The price of a workload: its layers' costs and their sum.

    Args:
        model, accelerator, phase: what was priced; ``phase`` is prefill, decode or generate.
        batch, context: as in the workload.
        layers: one cost for each layer, in order.
        frequency_hz: clock.
        area_mm2: area by part.
        tokens: tokens produced (generation), or 0.
    """

    model: str
    accelerator: str
    phase: str
    batch: int
    context: int
    layers: tuple[LayerCost, ...]
    frequency_hz: float
    area_mm2: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0

    @cached_property
    def total(self) -> Price:
        """Sum of all layers."""
        return sum_prices(layer.price for layer in self.layers)

    def total_of(self, kinds: Iterable[LayerKind]) -> Price:
        """Sum of the layers of ``kinds``."""
        wanted = frozenset(kinds)
        return sum_prices(layer.price for layer in self.layers if layer.kind in wanted)

    @property
    def cycles(self) -> int:
        """Cycles of all layers, one after another."""
        return self.total.cycles

    @property
    def seconds(self) -> float:
        """Latency."""
        return cycles_to_s(self.total.cycles, self.frequency_hz)

    @property
    def energy_pj(self) -> float:
        """All energy."""
        return self.total.energy_pj

    @property
    def storage_bits(self) -> int:
        """Stored bits of all priced weights."""
        return sum(layer.storage_bits for layer in self.layers)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over weight elements."""
        weights = sum(layer.weights for layer in self.layers)
        return self.storage_bits / weights if weights else 0.0

    @property
    def bound_counts(self) -> Mapping[Bound, int]:
        """How many layers wait for what."""
        counts = dict.fromkeys(Bound, 0)
        for layer in self.layers:
            counts[layer.bound] += 1
        return counts

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer: cycles, seconds, energies in uJ, bits, what bounds it."""
        import pandas as pd

        rows = [
            {
                "layer": layer.layer,
                "kind": layer.kind.value,
                "macs": layer.price.macs,
                "cycles": layer.cycles,
                "seconds": cycles_to_s(layer.cycles, self.frequency_hz),
                "compute_cycles": layer.price.compute_cycles,
                "dram_cycles": layer.price.dram_cycles,
                "vector_cycles": layer.price.vector_cycles,
                "bound": layer.bound.value,
                "energy_uj": pj_to_uj(layer.energy_pj),
                **{name.replace("_pj", "_uj"): pj_to_uj(getattr(layer.price, name)) for name in _ENERGIES},
                "weight_bits": layer.price.weight_bits,
                "input_bits": layer.price.input_bits,
                "output_bits": layer.price.output_bits,
                "storage_bits": layer.storage_bits,
            }
            for layer in self.layers
        ]
        return pd.DataFrame(rows)

    def summary(self) -> dict[str, float | int | str]:
        """The totals as one flat record."""
        return {
            "model": self.model,
            "accelerator": self.accelerator,
            "phase": self.phase,
            "batch": self.batch,
            "context": self.context,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_mj": pj_to_mj(self.energy_pj),
            "onchip_mj": pj_to_mj(self.total.onchip_pj),
            "dram_mj": pj_to_mj(self.total.dram_pj),
            "dram_bits": self.total.dram_bits,
            "storage_bits": self.storage_bits,
            "bits_per_weight": self.bits_per_weight,
            "area_mm2": sum(self.area_mm2.values()),
            "layers": len(self.layers),
            **{f"{bound.value}_bound_layers": count for bound, count in self.bound_counts.items()},
        }


_ENERGIES = (
    "pe_pj", "encoder_pj", "vector_pj", "sram_read_pj", "sram_write_pj", "dram_pj", "leakage_pj", "idle_pj",
)  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """A measured time of one layer or kernel.

    Args:
        name: layer or kernel.
        shape: (m, k, n).
        device: what it ran on.
        seconds: median.
        repeats: runs behind the median.
        conditions: clock, power limit, driver, library version: whatever the figure depends on.
        source: who measured it.
    """

    name: str
    shape: tuple[int, int, int]
    device: str
    seconds: float
    repeats: int
    conditions: Mapping[str, str]
    source: str

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"seconds of measurement {self.name} must be above 0, not {self.seconds!r}")


@dataclass(frozen=True)
class ResourceReport:
    """What a synthesis run said about one design; ``None`` where the tool does not say.

    Args:
        design: what was synthesised.
        target: FPGA part or cell library.
        tool: name and version.
        luts, flip_flops, dsps, brams: FPGA resources.
        area_um2, power_mw: cell area and power.
        max_frequency_hz: from timing analysis.
        urams: UltraRAMs.
        latency_cycles, interval_cycles: of a kernel: start to end, and from one call to the next.

    Raises:
        ValueError: a figure that is no number, negative, or not finite.
    """

    design: str
    target: str
    tool: str
    luts: int | None = None
    flip_flops: int | None = None
    dsps: int | None = None
    brams: float | None = None
    area_um2: float | None = None
    power_mw: float | None = None
    max_frequency_hz: float | None = None
    urams: int | None = None
    latency_cycles: int | None = None
    interval_cycles: int | None = None

    def __post_init__(self) -> None:
        for figure in fields(self)[3:]:  # behind the three texts
            value = getattr(self, figure.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise ValueError(f"{figure.name} of {self.design} must be a number of at least 0, not {value!r}")
