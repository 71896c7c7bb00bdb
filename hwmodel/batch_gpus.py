"""GPUs in a design space: the designs that stand on one, priced by ``hwmodel.gpu_price`` layer by layer.

A price is worked out once for a GPU, a shape and what of a config it depends on: layers of designs that share these
share it, whatever else differs between the designs. Layers that do not follow the context are multiplied by the decode
steps. The figures are those of ``hwmodel.evaluate``, layers added in the order that they come in.

A GPU stands at the first place of every axis of the machine; what would lie at the others is marked as not runnable.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

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
_WHOLE = ("macs", "compute_cycles", "dram_cycles", "vector_cycles", "weight_bits", "input_bits", "output_bits",
          "compulsory_bits", "cycles")  # fmt: skip
_ENERGY = tuple(f.name for f in fields(Price) if f.name.endswith("_pj"))
_whole, _energy = attrgetter(*_WHOLE), attrgetter(*_ENERGY)
_LARGEST = 1 << 62  # sums of a phase must stay below, to be integers of 64 bits


@dataclass(frozen=True, eq=False)
class _Block:
    """The prices of one layer at every context that it is seen at.

    Args:
        whole: integers, [contexts, fields of ``_WHOLE``].
        energy: [contexts, fields of ``_ENERGY``].
        times: how many steps see each context, [contexts, 1].
    """

    whole: np.ndarray
    energy: np.ndarray
    times: np.ndarray


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
    _prices: dict[tuple[object, ...], Price] = field(default_factory=dict, repr=False)
    _blocks: dict[tuple[object, ...], _Block] = field(default_factory=dict, repr=False)
    _cut: dict[tuple[int, bool], Config] = field(default_factory=dict, repr=False)

    def fill(self, result: BatchResult) -> None:
        """Write the figures of designs on GPUs over those that the kernels left.

        Raises:
            ValueError: numbers that do not fit into 64 bits.
        """
        on_gpu = np.array([isinstance(machine, Gpu) for machine in self.space.axes.accelerators])
        if not on_gpu.any():
            return
        at = result.places
        chosen = on_gpu[at["accelerator"]]
        for axis in AXES[3:]:
            chosen &= at[axis] == 0
        columns = INTEGERS[: len(result.integers)], ENERGIES[: len(result.energies)]
        getters = [attrgetter(*names) if len(names) > 1 else attrgetter(names[0]) for names in columns]
        places = np.stack([at[axis] for axis in AXES[:3]], 1)
        for position in np.flatnonzero(chosen):
            scenario, config, which = places[position].tolist()
            for phase, name in enumerate(PHASES):
                price = self._price(scenario, config, which, name)
                for figures, get in zip((result.integers, result.energies), getters, strict=True):
                    figures[:, phase, position] = get(price)
            result.runnable[position] = True

    def _price(self, scenario: int, config: int, which: int, phase: Phase) -> Price:
        """All layers of a phase, every step of decode, on a GPU."""
        run = self.space.scenarios[scenario]
        blocks, times = [], []
        for layer, given, _, count in self.forms.groups(run, phase, self.space.config_names[config]):
            block = self._block(scenario, which, phase, layer, self._relevant(layer, given))
            blocks.append(block)
            times.append(block.times * count)
        if not blocks:
            return Price(total_cycles=0)
        each = np.concatenate(times)
        whole = np.concatenate([block.whole for block in blocks])
        if (whole.astype(float) * each).sum(0).max() >= _LARGEST:
            raise ValueError(
                f"a phase on a GPU must take fewer than 2**62 bits and operations, in {run.name} it does not"
            )
        sums = dict(zip(_WHOLE, (whole * each).sum(0).tolist(), strict=True))
        # one after another, as evaluate adds them: numpy's sum adds in pairs, which rounds otherwise
        energy = np.add.accumulate(np.concatenate([block.energy for block in blocks]) * each)[-1].tolist()
        cycles = sums.pop("cycles")
        return Price(**sums, **dict(zip(_ENERGY, energy, strict=True)), total_cycles=cycles)

    def _block(self, scenario: int, which: int, phase: Phase, layer: LayerSpec, config: Config) -> _Block:
        """A layer at every context of a scenario."""
        number = self.forms.config_id(config)
        key = (scenario, which, phase, layer.shape_key, number)
        block = self._blocks.get(key)
        if block is None:
            specs = self.forms.specs(self.space.scenarios[scenario], phase, layer)
            prices = [self._layer(spec, which, config, number) for spec, _ in specs]
            try:
                whole = np.array([_whole(price) for price in prices], np.int64)
            except OverflowError:
                raise ValueError(
                    f"layer {layer.name} on a GPU must take fewer than 2**63 bits and operations"
                ) from None
            energy = np.array([_energy(price) for price in prices])
            block = self._blocks[key] = _Block(whole, energy, np.array([[times] for _, times in specs], np.int64))
        return block

    def _layer(self, spec: LayerSpec, which: int, config: Config, number: int) -> Price:
        key = (which, spec.shape_key, number)
        price = self._prices.get(key)
        if price is None:
            gpu = self.space.axes.accelerators[which]
            assert isinstance(gpu, Gpu)
            price = self._prices[key] = gpu_price(spec, config, gpu, self.options)
        return price

    def _relevant(self, layer: LayerSpec, config: Config) -> Config:
        """What of a config a layer's price on a GPU depends on; one object for equal ones."""
        if layer.kind in VECTOR_KINDS:
            return FP16_LAYER
        if isinstance(config, OperandBits):
            return config
        key = (self.forms.config_id(config), layer.kind in ATTENTION_KINDS)
        if key not in self._cut:
            of_cache = LayerConfig(key=config.key, value=config.value)
            self._cut[key] = of_cache if layer.kind in ATTENTION_KINDS else replace(config, key=None, value=None)
        return self._cut[key]
