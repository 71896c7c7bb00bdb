"""Design spaces: what is run (scenarios), how it is encoded (configs), and what varies in the machine (axes).

A design is one point of the grid scenarios x configs x accelerators x arrays x weight buffers x activation buffers x
memories x clocks; the last axis runs fastest. Nothing here holds one object for each design: ``DesignSpace.design``
makes the point of an index when it is asked for, with a real ``Accelerator`` that ``hwmodel.evaluate`` takes.

ASSUMPTION: where an array axis changes the number of PEs, the encoders at its edge grow in proportion (BitMoD has one
for each 8 x 8 tile of PEs). Clock and voltage are not tied: another clock costs the same energy in each cycle.

A GPU is what its data sheet says and has nothing to vary: it stands once, at the first place of every axis of the
machine, and no design lies at the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from hwmodel.accelerator import Accelerator, Array
from hwmodel.evaluate import Configs
from hwmodel.gpu import Gpu, Machine
from hwmodel.memory import Dram
from hwmodel.options import ModelOptions
from hwmodel.paper import paper_workload
from hwmodel.presets_bitmod import FP16_BASELINE
from hwmodel.workload import Phase, Workload, at_context

Arrays = tuple[Array, Array]  # of prefill and decode
Memory = Dram | float


@dataclass(frozen=True)
class Scenario:
    """A prompt and the tokens generated after it.

    Args:
        name: unique among the scenarios of a space.
        prefill: workload of the prompt.
        last_step: decode workload at the largest context; ``None`` where no tokens are generated.
        prompt: tokens of the prompt.
        tokens: decode steps.
    """

    name: str
    prefill: Workload
    last_step: Workload | None
    prompt: int
    tokens: int

    def __post_init__(self) -> None:
        if self.prompt < 1 or self.tokens < 0 or (self.tokens > 0) != (self.last_step is not None):
            raise ValueError(
                f"scenario {self.name} must have a prompt of at least 1 and tokens exactly where it has a last step, "
                f"not {self.prompt!r} and {self.tokens!r}"
            )
        if self.prefill.phase is not Phase.PREFILL:
            raise ValueError(f"prefill of scenario {self.name} must be a prefill workload, not {self.prefill.phase}")

    def contexts(self, options: ModelOptions) -> list[tuple[int, int]]:
        """Contexts of the decode steps, and how many steps see each (``hwmodel.evaluate.generate_cost``)."""
        if options.growing_context:
            return [(self.prompt + i + 1, 1) for i in range(self.tokens)]
        return [(self.prompt, self.tokens)] if self.tokens else []

    def step(self, context: int) -> Workload:
        """The decode step at a context."""
        if self.last_step is None:
            raise ValueError(f"scenario {self.name} must have tokens for a decode step")
        return at_context(self.last_step, context)


def scenario(
    workload_at: Callable[[Phase, int], Workload], *, name: str, prompt: int = 256, tokens: int = 256
) -> Scenario:
    """A scenario of a model's workloads.

    Args:
        workload_at: as in ``hwmodel.evaluate.generate_cost``.
        name: of the scenario.
        prompt, tokens: of the prompt and generated.
    """
    last = workload_at(Phase.DECODE, prompt + tokens) if tokens else None
    return Scenario(name, workload_at(Phase.PREFILL, prompt), last, prompt, tokens)


def paper_scenarios(
    model: str,
    *,
    batches: Sequence[int] = (1,),
    prompts: Sequence[int] = (256,),
    tokens: Sequence[int] = (256,),
    other_layers: bool = True,
) -> tuple[Scenario, ...]:
    """Scenarios of one of the published models (``hwmodel.paper``), one for each batch, prompt and number of tokens."""
    made = []
    for batch in batches:

        def at(phase: Phase, context: int, batch: int = batch) -> Workload:
            return paper_workload(model, phase, batch=batch, context=context, other_layers=other_layers)

        for prompt in prompts:
            made += [
                scenario(at, name=f"{model} batch {batch} prompt {prompt} tokens {count}", prompt=prompt, tokens=count)
                for count in tokens
            ]
    return tuple(made)


@dataclass(frozen=True)
class DesignAxes:
    """What varies in the machine; ``None`` in an axis stands for the accelerator's own.

    Args:
        accelerators: what designs start from, GPUs among them.
        arrays: (rows and columns in prefill, in decode), as many PEs in both.
        weight_buffer_bytes, activation_buffer_bytes: capacities.
        drams: memories, or bandwidths in bytes a second of the accelerator's own memory.
        frequencies_hz: clocks.
    """

    accelerators: tuple[Machine, ...]
    arrays: tuple[Arrays | None, ...] = (None,)
    weight_buffer_bytes: tuple[int | None, ...] = (None,)
    activation_buffer_bytes: tuple[int | None, ...] = (None,)
    drams: tuple[Memory | None, ...] = (None,)
    frequencies_hz: tuple[float | None, ...] = (None,)

    def __post_init__(self) -> None:
        for axis in fields(self):
            values = getattr(self, axis.name)
            if not isinstance(values, tuple) or not values:
                raise ValueError(f"{axis.name} of design axes must be a tuple of at least one value, not {values!r}")
            for value in values:
                if isinstance(value, int | float) and not 0 < value < math.inf:
                    raise ValueError(f"{axis.name} of design axes must be above 0 and finite, not {value!r}")
        for accelerator in self.accelerators:
            if not isinstance(accelerator, Accelerator | Gpu):
                raise TypeError(f"accelerators of design axes must be Accelerators or GPUs, not {accelerator!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(getattr(self, axis.name)) for axis in fields(self))

    @cached_property
    def pe_arrays(self) -> tuple[Accelerator, ...]:
        """The accelerators, with the FP16 baseline in place of a GPU: for tables that must have a row for each."""
        return tuple(FP16_BASELINE if isinstance(base, Gpu) else base for base in self.accelerators)

    def accelerator(self, place: Sequence[int]) -> Machine:
        """The accelerator at a place on each axis."""
        which, array, weight, activation, dram, clock = place
        base = self.accelerators[which]
        if isinstance(base, Gpu):
            return base
        made = self.with_array(which, array)
        changes: dict[str, object] = {}
        for name, capacity in (
            ("weight_buffer", self.weight_buffer_bytes[weight]),
            ("activation_buffer", self.activation_buffer_bytes[activation]),
        ):
            if capacity is not None:
                buffer = getattr(made, name)
                source = buffer.source if capacity == buffer.capacity_bytes else "design space"
                changes[name] = replace(buffer, capacity_bytes=capacity, source=source)
        if self.drams[dram] is not None:
            changes["dram"] = self.memory(which, dram)
        if (frequency := self.frequencies_hz[clock]) is not None:
            changes["frequency_hz"] = frequency
        return replace(made, **changes) if changes else made  # type: ignore[arg-type]

    def with_array(self, which: int, array: int) -> Accelerator:
        """One of ``pe_arrays`` with another array; made once."""
        known = self._with_arrays.get((which, array))
        if known is None:
            known = self._with_arrays[which, array] = self._with_array(which, array)
        return known

    @cached_property
    def _with_arrays(self) -> dict[tuple[int, int], Accelerator]:
        return {}

    def _with_array(self, which: int, array: int) -> Accelerator:
        base, arrays = self.pe_arrays[which], self.arrays[array]
        if arrays is None:
            return base
        made = replace(base, prefill_array=arrays[0], decode_array=arrays[1])
        if base.encoder is None or made.pe_count == base.pe_count:
            return made
        share = made.pe_count / base.pe_count
        encoder = replace(
            base.encoder,
            energy_pj_per_cycle=base.encoder.energy_pj_per_cycle * share,
            area_um2=base.encoder.area_um2 * share,
        )
        return replace(made, encoder=encoder)

    def memory(self, which: int, dram: int) -> Dram:
        """The memory of an accelerator at a place on the axis."""
        base, chosen = self.accelerators[which], self.drams[dram]
        own = base.dram
        if chosen is None or isinstance(base, Gpu):
            return own
        if isinstance(chosen, Dram):
            return chosen
        return replace(own, bytes_per_s=float(chosen), source=f"{own.source}; bandwidth: design space")


@dataclass(frozen=True)
class DesignPoint:
    """One design.

    Args:
        index: its place in the space.
        scenario: what runs.
        config_name, configs: how it is encoded.
        accelerator: on what.
    """

    index: int
    scenario: Scenario
    config_name: str
    configs: Configs
    accelerator: Machine


AXES = (
    "scenario", "config", "accelerator", "array", "weight_buffer", "activation_buffer", "dram", "frequency",
)  # fmt: skip


@dataclass(frozen=True)
class DesignSpace:
    """A grid of designs.

    Args:
        scenarios: what runs; names unique.
        configs: one config for all GEMM layers, or one for each layer name, by the name of the whole.
        axes: what varies in the machine.
    """

    scenarios: tuple[Scenario, ...]
    configs: Mapping[str, Configs]
    axes: DesignAxes

    def __post_init__(self) -> None:
        names = [scenario.name for scenario in self.scenarios]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"scenarios of a design space must be at least one, names unique, not {names!r}")
        if not self.configs:
            raise ValueError("configs of a design space must be at least one, by name")

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Length of each of ``AXES``."""
        return (len(self.scenarios), len(self.configs), *self.axes.shape)

    def __len__(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def config_names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(self.configs)

    def places(self, indices: np.ndarray | Sequence[int]) -> dict[str, np.ndarray]:
        """Where designs lie on each of ``AXES``, int64 arrays as long as ``indices``."""
        return dict(zip(AXES, np.unravel_index(np.asarray(indices), self.shape), strict=True))

    def design(self, index: int) -> DesignPoint:
        """The design at an index.

        Raises:
            IndexError: no such design.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index of a design must be 0 to {len(self) - 1}, not {index!r}")
        place = [int(i) for i in np.unravel_index(index, self.shape)]
        name = self.config_names[place[1]]
        accelerator = self.axes.accelerator(place[2:])
        return DesignPoint(int(index), self.scenarios[place[0]], name, self.configs[name], accelerator)
