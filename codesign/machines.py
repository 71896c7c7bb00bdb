"""Accelerators and GPUs as the command line and study files name them: presets, or YAML files."""

from __future__ import annotations

from pathlib import Path

from hwmodel.gpu import Machine
from hwmodel.gpu_file import load_machine
from hwmodel.gpu_presets import MACHINES, machine_by_name


def accelerators_by_name(names: tuple[str, ...]) -> dict[str, Machine]:
    """The presets, or accelerators in YAML files, that ``names`` name.

    Raises:
        ValueError: neither a preset nor a file; or a file with a mistake; or two of one name.
    """
    found: dict[str, Machine] = {}
    for name in names:
        is_file = name not in MACHINES and name.endswith((".yaml", ".yml"))
        machine: Machine = load_machine(Path(name)) if is_file else machine_by_name(name)
        if machine.name in found:
            raise ValueError(f"accelerators of a study must have different names, not two called {machine.name!r}")
        found[machine.name] = machine
    return found
