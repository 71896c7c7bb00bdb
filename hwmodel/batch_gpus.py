"""GPUs in a design space: the designs that stand on one, priced by ``hwmodel.gpu_price`` layer by layer.

Each distinct layer of a scenario is priced once for a GPU and what of a config it depends on; layers that do not follow
the context are multiplied by the decode steps. The figures are those of ``hwmodel.evaluate``.

A GPU stands at the first place of every axis of the machine; what would lie at the others is marked as not runnable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from datatypes.layer_config import LayerConfig
from hwmodel.batch_axes import AXES, DesignSpace
from hwmodel.batch_columns import ENERGIES, INTEGERS
from hwmodel.batch_result import BatchResult
from hwmodel.batch_tables import FormTable
from hwmodel.gpu import Gpu
from hwmodel.gpu_price import gpu_price
from hwmodel.operands import FP16_LAYER, Config, OperandBits
from hwmodel.options import ModelOptions
from hwmodel.price import Price
from hwmodel.workload import ATTENTION_KINDS, VECTOR_KINDS, LayerSpec, Phase

PHASES = (Phase.PREFILL, Phase.DECODE)


@dataclass(frozen=True, eq=False)
class GpuPricer:
    """Prices the designs of a space that stand on a GPU; remembers layers.

    Args:
        space: the designs.
        options: which effects count.
        forms: of the space, which knows its distinct layers.
    """

    space: DesignSpace
    options: ModelOptions
    forms: FormTable
    _known: dict[tuple[object, ...], Price] = field(default_factory=dict, repr=False)
    _layers: dict[tuple[int, int, Phase], list[tuple[int, LayerSpec, Config, int]]] = field(
        default_factory=dict, repr=False
    )

    def fill(self, result: BatchResult) -> None:
        """Write the figures of designs on GPUs over those that the kernels left."""
        on_gpu = np.array([isinstance(machine, Gpu) for machine in self.space.axes.accelerators])
        if not on_gpu.any():
            return
        at = result.places
        chosen = on_gpu[at["accelerator"]]
        for axis in AXES[3:]:
            chosen &= at[axis] == 0
        columns = INTEGERS[: len(result.integers)], ENERGIES[: len(result.energies)]
        for position in np.flatnonzero(chosen):
            scenario, config, which = (int(at[axis][position]) for axis in AXES[:3])
            for phase, name in enumerate(PHASES):
                price = self._price(scenario, config, which, name)
                for figures, names in zip((result.integers, result.energies), columns, strict=True):
                    figures[:, phase, position] = [getattr(price, column) for column in names]
            result.runnable[position] = True

    def _price(self, scenario: int, config: int, which: int, phase: Phase) -> Price:
        """All layers of a phase, every step of decode, on a GPU."""
        gpu = self.space.axes.accelerators[which]
        assert isinstance(gpu, Gpu)
        total = Price(total_cycles=0)
        for times, spec, encoded, number in self._specs(scenario, config, phase):
            key = (which, spec.shape_key, number)
            price = self._known.get(key)
            if price is None:
                price = self._known[key] = gpu_price(spec, encoded, gpu, self.options)
            total += price.times(times)
        return total

    def _specs(self, scenario: int, config: int, phase: Phase) -> list[tuple[int, LayerSpec, Config, int]]:
        """Layers that differ: how often, shape, what of the config counts, and its number."""
        key = (scenario, config, phase)
        if key not in self._layers:
            made = []
            run = self.space.scenarios[scenario]
            for layer, given, _, count in self.forms.groups(run, phase, self.space.config_names[config]):
                encoded = _relevant(layer, given)
                number = self.forms.config_id(encoded)
                made += [
                    (count * times, spec, encoded, number) for spec, times in self.forms.specs(run, phase, layer)
                ]  # fmt: skip
            self._layers[key] = made
        return self._layers[key]


def _relevant(layer: LayerSpec, config: Config) -> Config:
    """What of a config a layer's price on a GPU depends on."""
    if layer.kind in VECTOR_KINDS:
        return FP16_LAYER
    if isinstance(config, OperandBits) or layer.kind not in ATTENTION_KINDS:
        return config
    return LayerConfig(key=config.key, value=config.value)
