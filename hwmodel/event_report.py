"""What an event-driven simulation says: cycles of each layer, where they went, and what moved."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hwmodel.units import cycles_to_s
from hwmodel.workload import LayerKind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SimulatedLayer:
    """What one layer took. The array's cycles add up: ``cycles`` is the sum of ``compute_cycles`` to ``tail_cycles``.

    Args:
        layer, kind: its name and kind.
        cycles: from the end of the layer before to its own end.
        closed_cycles: what the closed form says.
        filled_cycles: what it says with filling and draining (``tile_schedule``).
        compute_cycles: the array (or the vector unit in its place) worked.
        fill_drain_cycles: a systolic array filled and drained.
        conflict_cycles: it stood because a bank was being written.
        weight_wait_cycles, input_wait_cycles, output_wait_cycles: it waited for weights, for inputs, for room for
            results (or for the vector unit); counted for what came last.
        layer_wait_cycles: it waited for layers before this one (only with ``prefetch``).
        tail_cycles: after its last piece: vector unit and write-back. With ``prefetch`` layers overlap, and what the
            next layer did or waited for by then is taken off: it may be below 0.
        vector_cycles: the vector unit worked, beside the array.
        dram_cycles: a DRAM channel moved data, mean over channels.
        weight_bits, input_bits, output_bits: moved.
        macs: multiply-accumulates done.
        events: bursts grants, pieces and tiles.
        excess_bytes: by which data that must lie in a buffer at once exceed it.
    """

    layer: str
    kind: LayerKind
    cycles: float
    closed_cycles: int
    filled_cycles: float
    compute_cycles: float
    fill_drain_cycles: float
    conflict_cycles: float
    weight_wait_cycles: float
    input_wait_cycles: float
    output_wait_cycles: float
    layer_wait_cycles: float
    tail_cycles: float
    vector_cycles: float
    dram_cycles: float
    weight_bits: int
    input_bits: int
    output_bits: int
    macs: int
    events: int
    excess_bytes: int

    def named(self, layer: str) -> SimulatedLayer:
        """The same of another layer; a tenth of the time of ``replace``."""
        made = copy(self)
        object.__setattr__(made, "layer", layer)
        return made

    @property
    def difference(self) -> float:
        """Closed form over simulation, less one; 0 where both are nothing."""
        return self.closed_cycles / self.cycles - 1 if self.cycles else 0.0

    @property
    def filled_difference(self) -> float:
        """The same of ``filled_cycles``."""
        return self.filled_cycles / self.cycles - 1 if self.cycles else 0.0

    def record(self) -> dict[str, Any]:
        """As a flat record."""
        differences = {"difference": self.difference, "filled_difference": self.filled_difference}
        return {**vars(self), "kind": self.kind.value, **differences}


@dataclass(frozen=True)
class SimulationReport:
    """A simulated workload.

    Args:
        model, accelerator, phase, batch, context: what was simulated.
        layers: in order.
        frequency_hz: clock.
    """

    model: str
    accelerator: str
    phase: str
    batch: int
    context: int
    layers: tuple[SimulatedLayer, ...]
    frequency_hz: float

    @cached_property
    def cycles(self) -> float:
        """Cycles of all layers."""
        return sum(layer.cycles for layer in self.layers)

    @cached_property
    def closed_cycles(self) -> int:
        """What the closed form says of all layers."""
        return sum(layer.closed_cycles for layer in self.layers)

    @property
    def seconds(self) -> float:
        """Latency."""
        return cycles_to_s(self.cycles, self.frequency_hz)

    @property
    def events(self) -> int:
        """Events of all layers; equal layers are simulated once and counted each time."""
        return sum(layer.events for layer in self.layers)

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer."""
        import pandas as pd

        return pd.DataFrame([layer.record() for layer in self.layers])
