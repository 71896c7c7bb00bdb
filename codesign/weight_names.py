"""Which tensors of a checkpoint make up each parameter of a model.

Most names are equal. Others differ by the prefix of the base model, by tying (two parameters, one tensor), by renames
of older files, or because transformers keeps in one parameter what files keep in many (fused experts). For the last
two the conversions that transformers itself applies are asked for, so that reading one block at a time gives what a
full load gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from codesign.checkpoint import Checkpoint
from codesign.extras import require


@dataclass(frozen=True)
class Conversion:
    """Tensors of a file that become one or more parameters together.

    Args:
        converter: transformers' ``WeightConverter``, never changed.
        target: name of the first parameter it makes.
        sources: (name in the file, pattern that it matched), in the order that the converter wants.
    """

    converter: Any
    target: str
    sources: tuple[tuple[str, str], ...]

    def convert(self, checkpoint: Checkpoint, model: nn.Module) -> dict[str, Tensor]:
        """The parameters, by name."""
        converter = deepcopy(self.converter)
        for name, pattern in self.sources:
            converter.add_tensor(self.target, name, pattern, checkpoint.tensor(name))
        made = converter.convert(self.target, model=model, config=model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True)
class WeightMap:
    """How to read each parameter and persistent buffer of a model.

    Args:
        checkpoint: where from.
        stored: name in the checkpoint, by name in the model.
        converted: for those that need more than a name.
        aliases: all names of a tied parameter (its own among them), by each of them.
    """

    checkpoint: Checkpoint
    stored: Mapping[str, str]
    converted: Mapping[str, Conversion]
    aliases: Mapping[str, tuple[str, ...]]

    def tensor(self, name: str, model: nn.Module) -> Tensor:
        """The parameter ``name`` of ``model`` as the checkpoint has it, on the CPU.

        Raises:
            ValueError: the checkpoint does not hold it.
        """
        for alias in self.aliases.get(name, (name,)):
            if alias in self.stored:
                return self.checkpoint.tensor(self.stored[alias])
            if alias in self.converted:
                return self.converted[alias].convert(self.checkpoint, model)[alias]
        raise ValueError(f"the checkpoint in {self.checkpoint.paths[0].parent} must hold weight {name} of the model")

    def missing(self, model: nn.Module) -> tuple[str, ...]:
        """Parameters and persistent buffers of ``model`` that the checkpoint does not hold."""
        held = self.stored.keys() | self.converted.keys()
        return tuple(
            name for name in model.state_dict() if not any(alias in held for alias in self.aliases.get(name, (name,)))
        )


def map_weights(model: nn.Module, checkpoint: Checkpoint) -> WeightMap:
    """Match a model (on the meta device, weights tied) with a checkpoint, and check the shapes of equal names.

    Raises:
        ValueError: a stored tensor has another shape than the config gives its parameter.
    """
    wanted = model.state_dict()
    aliases = tied_names(model)
    prefix = getattr(model, "base_model_prefix", "")
    stored = {}
    for name in wanted:
        bare = name.removeprefix(f"{prefix}.")
        for candidate in (name, bare, f"{prefix}.{name}"):
            if candidate in checkpoint.files:
                stored[name] = candidate
                break
    plain = WeightMap(checkpoint, stored, {}, aliases)
    if plain.missing(model) and hasattr(model, "config"):
        stored, converted = _transformers_names(model, checkpoint, stored)
        plain = WeightMap(checkpoint, stored, converted, aliases)
    for name, source in plain.stored.items():
        if (shape := checkpoint.shape(source)) != tuple(wanted[name].shape):
            raise ValueError(f"weight {name} must be {list(wanted[name].shape)} by the config, not {list(shape)}")
    return plain


def tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Names of parameters that are one and the same object, by each of the names; none for those that stand alone."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return {name: tuple(names) for names in groups.values() if len(names) > 1 for name in names}


def _transformers_names(
    model: nn.Module, checkpoint: Checkpoint, stored: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Conversion]]:
    """``stored`` with renamed tensors added, and the conversions that make the rest."""
    try:
        loading = require("transformers.core_model_loading", "models")
        mapping = require("transformers.conversion_mapping", "models").get_model_conversion_mapping(model)
        converters = [entry for entry in mapping if isinstance(entry, loading.WeightConverter)]
        renamings = [entry for entry in mapping if isinstance(entry, loading.WeightRenaming)]
    except (AttributeError, ImportError, ValueError):  # a transformers without these: equal names only
        return dict(stored), {}
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    wanted = model.state_dict()
    found = dict(stored)
    sources: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(set(checkpoint.files) - set(stored.values()), key=loading.dot_natural_key):
        target, pattern = loading.rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        if target not in wanted:
            continue
        if pattern is None:
            found.setdefault(target, name)
        else:
            sources.setdefault(target, []).append((name, pattern))
    converted: dict[str, Conversion] = {}
    for target, names in sources.items():
        converter = by_pattern[names[0][1]]
        conversion = Conversion(converter, target, tuple(names))
        for pattern in converter.target_patterns:
            converted[target.replace(converter.target_patterns[0], pattern)] = conversion
    return found, {name: conversion for name, conversion in converted.items() if name in wanted and name not in found}
