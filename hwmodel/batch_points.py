"""Design points that lie on no grid, as a search makes them, priced together: ``hwmodel.batch_evaluate`` for a list.

Points that differ in array, buffers, memory and clock alone share the forms of their layers; whatever else an
accelerator differs in makes it an accelerator of its own, whose layers are formed anew (milliseconds for each).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from hwmodel.accelerator import Accelerator
from hwmodel.batch_axes import Arrays, DesignAxes, DesignPoint, DesignSpace, Scenario
from hwmodel.batch_evaluate import BatchPricer
from hwmodel.batch_result import BatchResult
from hwmodel.evaluate import Configs
from hwmodel.gpu import Machine
from hwmodel.memory import Dram
from hwmodel.options import HONEST, ModelOptions
from hwmodel.term_skipping import CountedBits

Entry = TypeVar("Entry")


def price_points(
    points: Sequence[DesignPoint],
    options: ModelOptions = HONEST,
    *,
    detail: bool = False,
    threads: int | None = None,
    bit_stats: Mapping[str, CountedBits] | None = None,
) -> BatchResult:
    """Price some designs.

    Args:
        points: the designs; their ``index`` is not looked at.
        options, detail, threads, bit_stats: as in ``batch_evaluate``.

    Returns:
        Their figures, in this order. ``result.design(i)`` is made anew: equal to ``points[i]`` but for its index, and
        names and sources of its accelerator.

    Raises:
        TypeError, ValueError, NotImplementedError: as ``BatchPricer``; also where two scenarios of one name, or two
            configs of one name, are not the same.
    """
    space, indices = space_of(points)
    return BatchPricer(space, options, bit_stats=bit_stats).points(indices, detail=detail, threads=threads)


def space_of(points: Sequence[DesignPoint]) -> tuple[DesignSpace, np.ndarray]:
    """The least space that holds some designs, and their indices in it."""
    scenarios: dict[str, Scenario] = {}
    configs: dict[str, Configs] = {}
    bases: list[Machine] = []
    known: dict[int, tuple[int, ...]] = {}
    arrays: dict[Arrays, int] = {}
    weights: dict[int, int] = {}
    activations: dict[int, int] = {}
    drams: dict[Dram, int] = {}
    clocks: dict[float, int] = {}
    names: list[tuple[str, str]] = []
    places: list[tuple[int, ...]] = []
    for point in points:
        _add_named(scenarios, point.scenario.name, point.scenario, "scenario")
        _add_named(configs, point.config_name, point.configs, "config")
        machine = point.accelerator
        if id(machine) not in known:  # ids stay those of these objects: the points hold them
            varied = (0, 0, 0, 0, 0)  # a GPU stands at the first place of these axes
            if isinstance(machine, Accelerator):
                varied = (
                    _place(arrays, (machine.prefill_array, machine.decode_array)),
                    _place(weights, machine.weight_buffer.capacity_bytes),
                    _place(activations, machine.activation_buffer.capacity_bytes),
                    _place(drams, machine.dram),
                    _place(clocks, machine.frequency_hz),
                )
            known[id(machine)] = (_base(bases, machine), *varied)
        names.append((point.scenario.name, point.config_name))
        places.append(known[id(machine)])
    varied_axes = (tuple(axis) or (None,) for axis in (arrays, weights, activations, drams, clocks))
    axes = DesignAxes(tuple(bases), *varied_axes)  # type: ignore[arg-type]
    space = DesignSpace(tuple(scenarios.values()), configs, axes)
    of_scenario, of_config = ({name: place for place, name in enumerate(named)} for named in (scenarios, configs))
    rows = [(of_scenario[s], of_config[c], *rest) for (s, c), rest in zip(names, places, strict=True)]
    return space, np.ravel_multi_index(tuple(np.array(rows, np.int64).T), space.shape)


def _add_named(known: dict[str, Entry], name: str, entry: Entry, what: str) -> None:
    """Remember an entry by its name."""
    if (before := known.setdefault(name, entry)) is not entry and before != entry:
        raise ValueError(f"{what}s of design points must be the same where their names are, and two are named {name!r}")


def _place(axis: dict[Entry, int], value: Entry) -> int:
    """Place of a value on an axis, at its end if it is new."""
    return axis.setdefault(value, len(axis))


def _base(bases: list[Machine], machine: Machine) -> int:
    """Place of the accelerator that ``machine`` is a variant of, at the end if there is none."""
    for place, base in enumerate(bases):
        if base is machine or base == machine:
            return place
        if isinstance(base, Accelerator) and isinstance(machine, Accelerator) and _variant(base, machine) == machine:
            return place
    bases.append(machine)
    return len(bases) - 1


def _variant(base: Accelerator, machine: Accelerator) -> Accelerator:
    """``base`` with array, buffers, memory and clock of ``machine``, as ``DesignAxes`` makes it; named as that."""
    axes = DesignAxes(
        (base,),
        ((machine.prefill_array, machine.decode_array),),
        (machine.weight_buffer.capacity_bytes,),
        (machine.activation_buffer.capacity_bytes,),
        (machine.dram,),
        (machine.frequency_hz,),
    )
    made = axes.accelerator((0,) * 6)
    assert isinstance(made, Accelerator)
    return replace(
        made,
        name=machine.name,
        source=machine.source,
        weight_buffer=replace(made.weight_buffer, source=machine.weight_buffer.source),
        activation_buffer=replace(made.activation_buffer, source=machine.activation_buffer.source),
    )
