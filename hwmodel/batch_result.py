"""What ``batch_evaluate`` hands back: arrays with one entry for each design, and the designs behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hwmodel.batch_axes import DesignPoint, DesignSpace
from hwmodel.batch_columns import ENERGIES, INTEGERS
from hwmodel.batch_machines import MachineTables
from hwmodel.gpu import Gpu, Machine

if TYPE_CHECKING:
    import pandas as pd

ARRAY_COLUMNS = ("prefill_array", "decode_array", "weight_buffer_bytes", "activation_buffer_bytes")


def array_columns(machine: Machine) -> dict[str, object]:
    """Columns of arrays and buffers; of a GPU nothing."""
    if isinstance(machine, Gpu):
        return dict.fromkeys(ARRAY_COLUMNS)
    arrays, buffers = (
        (machine.prefill_array, machine.decode_array), (machine.weight_buffer, machine.activation_buffer)
    )  # fmt: skip
    sizes = [f"{array.rows}x{array.columns}" for array in arrays]
    values = (*sizes, *(buffer.capacity_bytes for buffer in buffers))
    return dict(zip(ARRAY_COLUMNS, values, strict=True))


@dataclass(frozen=True, eq=False)
class PhaseCosts:
    """One figure of each kind for each design.

    Args:
        columns: by name: ``cycles``, ``dram_bits``, ``energy_pj``, and with details all fields of a ``Price``.
        frequency_hz: clock of each design.
    """

    columns: Mapping[str, np.ndarray]
    frequency_hz: np.ndarray

    @property
    def cycles(self) -> np.ndarray:
        """From start to end; 0 where the design cannot run."""
        return self.columns["cycles"]

    @property
    def dram_bits(self) -> np.ndarray:
        """Over the DRAM bus."""
        return self.columns["dram_bits"]

    @property
    def energy_pj(self) -> np.ndarray:
        """All energy; NaN where the design cannot run."""
        return self.columns["energy_pj"]

    @property
    def seconds(self) -> np.ndarray:
        """Latency; NaN where the design cannot run."""
        return np.where(np.isnan(self.energy_pj), np.nan, self.cycles / self.frequency_hz)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise KeyError(f"column must be one of {known}, not {name!r}; the others come with detail=True")
        return self.columns[name]


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Figures of the designs ``start`` to ``start + len(result)`` of a space, or of those at ``chosen``.

    Args:
        space: the designs.
        start: index of the first one.
        integers, energies: [columns, phases, designs].
        runnable: [designs].
        reasons: why a config does not run on an accelerator, by their names.
        tables: of the axes.
        chosen: indices of scattered designs, [designs]; ``None`` for those from ``start`` on.
    """

    space: DesignSpace
    start: int
    integers: np.ndarray
    energies: np.ndarray
    runnable: np.ndarray
    reasons: Mapping[tuple[str, str], str] = field(repr=False)
    tables: MachineTables = field(repr=False)
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.runnable)

    @property
    def indices(self) -> np.ndarray:
        """Indices of the designs in the space."""
        return np.arange(self.start, self.start + len(self)) if self.chosen is None else self.chosen

    @cached_property
    def places(self) -> Mapping[str, np.ndarray]:
        """Where each design lies on each axis."""
        return self.space.places(self.indices)

    @cached_property
    def frequency_hz(self) -> np.ndarray:
        """Clock of each design."""
        return self.tables.clocks[self.places["accelerator"], self.places["frequency"]]

    @cached_property
    def area_mm2(self) -> np.ndarray:
        """As ``sum(report.area_mm2.values())``."""
        logic, weight, activation = self.tables.areas
        at = self.places
        machine = at["accelerator"], at["array"]
        return logic[machine] + (weight[*machine, at["weight_buffer"]] + activation[*machine, at["activation_buffer"]])

    def _phase(self, phase: int) -> PhaseCosts:
        columns = dict(zip(INTEGERS, self.integers[:, phase], strict=False))
        columns |= dict(zip(ENERGIES, self.energies[:, phase], strict=False))
        return PhaseCosts(columns, self.frequency_hz)

    @cached_property
    def prefill(self) -> PhaseCosts:
        """The prompt."""
        return self._phase(0)

    @cached_property
    def decode(self) -> PhaseCosts:
        """All decode steps together."""
        return self._phase(1)

    @cached_property
    def total(self) -> PhaseCosts:
        """The prompt and all decode steps."""
        first, second = self.prefill.columns, self.decode.columns
        return PhaseCosts({name: first[name] + second[name] for name in first}, self.frequency_hz)

    def design(self, position: int) -> DesignPoint:
        """The design at a position of this result."""
        return self.space.design(int(self.indices[position]))

    def reason(self, position: int) -> str | None:
        """Why the design at a position cannot run; ``None`` if it can."""
        if self.runnable[position]:
            return None
        point = self.design(position)
        name = point.accelerator.name
        if isinstance(point.accelerator, Gpu):
            return f"GPU {name} is what its data sheet says: it stands at the first place of the other axes alone"
        tight = f"accelerator {name} has no room for the tables of {point.config_name}"
        return self.reasons.get((point.config_name, name), tight)

    def to_frame(self, positions: Sequence[int] | np.ndarray | None = None) -> pd.DataFrame:
        """One row for each design, or for those at ``positions``: what it is, and its figures.

        Those of ``decode`` are of all its steps together; studies and ``codesign explore`` give them for each token.
        """
        import pandas as pd

        chosen = np.arange(len(self)) if positions is None else np.asarray(positions, dtype=np.int64)
        rows = []
        for position in chosen:
            point = self.design(int(position))
            machine = point.accelerator
            rows.append(
                {
                    "index": point.index,
                    "scenario": point.scenario.name,
                    "config": point.config_name,
                    "accelerator": machine.name,
                    **array_columns(machine),
                    "dram": machine.dram.name,
                    "dram_bytes_per_s": machine.dram.bytes_per_s,
                    "frequency_hz": machine.frequency_hz,
                    "runnable": bool(self.runnable[position]),
                    "prefill_s": self.prefill.seconds[position],
                    "decode_s": self.decode.seconds[position],
                    "total_s": self.total.seconds[position],
                    "prefill_energy_pj": self.prefill.energy_pj[position],
                    "decode_energy_pj": self.decode.energy_pj[position],
                    "total_energy_pj": self.total.energy_pj[position],
                    "dram_bits": self.total.dram_bits[position],
                    "area_mm2": self.area_mm2[position],
                }
            )
        return pd.DataFrame(rows)
