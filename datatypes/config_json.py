"""Layer configs as plain dictionaries, for JSON model folders and YAML studies.

Fields at their default are left out. A format of the catalogue is written as its name, a mixture as its name, any other
format in full (``kind`` and its fields); a granularity without parameters as its kind, any other with ``kind``.
Reading is strict: an unknown key or name is refused, with the place and the nearest known one.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from datatypes.catalog import FORMATS, MIXTURES, format_by_name, formats_by_name
from datatypes.format import (
    CodebookFormat,
    ExponentFormat,
    FloatFormat,
    Format,
    IntFormat,
    LearnedFormat,
    VectorFormat,
)
from datatypes.granularity import Granularity, PerBlock, PerChannel, PerGroup, PerInputChannel, PerTensor
from datatypes.layer_config import LayerConfig
from datatypes.nearest import nearest
from datatypes.outlier_victim import OutlierVictimFormat

_FORMAT_KINDS: Mapping[str, type[Format]] = {
    "int": IntFormat,
    "float": FloatFormat,
    "exponent": ExponentFormat,
    "codebook": CodebookFormat,
    "vector": VectorFormat,
    "learned": LearnedFormat,
    "outlier_victim": OutlierVictimFormat,
}
_GRANULARITY_KINDS: Mapping[str, type[Granularity]] = {
    "per_tensor": PerTensor,
    "per_channel": PerChannel,
    "per_input_channel": PerInputChannel,
    "per_group": PerGroup,
    "per_block": PerBlock,
}


def config_to_dict(config: LayerConfig) -> dict[str, Any]:
    """``config`` as a dictionary of strings, numbers, booleans, lists and dictionaries.

    >>> from datatypes.block_formats import BITMOD4_G128
    >>> config_to_dict(LayerConfig(weight=BITMOD4_G128))["weight"]["formats"]
    'bitmod_fp4'
    """
    written = _write(config)
    assert isinstance(written, dict)
    return written


def config_from_dict(data: Mapping[str, Any]) -> LayerConfig:
    """The inverse of ``config_to_dict``.

    Raises:
        ValueError: an unknown key or name, a missing key, or a value that the config refuses; with its place.
        TypeError: a value of the wrong kind; with its place.

    >>> config_from_dict({"weight": {"formats": "int4", "granularty": "per_channel"}})
    Traceback (most recent call last):
        ...
    ValueError: key weight.granularty must be one of TensorConfig; nearest: granularity
    """
    config = _read(data, LayerConfig, "")
    assert isinstance(config, LayerConfig)
    return config


def _write(value: Any) -> Any:
    if isinstance(value, Format):
        return _write_format(value)
    if isinstance(value, Granularity):
        kind = _kind_of(value, _GRANULARITY_KINDS)
        rest = _write_fields(value)
        return {"kind": kind, **rest} if rest else kind
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        if value and all(isinstance(item, Format) for item in value):
            return _write_formats(value)
        return [_write(item) for item in value]
    if is_dataclass(value):
        return _write_fields(value)
    return value


def _write_fields(value: Any) -> dict[str, Any]:
    written = {}
    for f in fields(value):
        item = getattr(value, f.name)
        if f.default is MISSING or item != f.default:
            written[f.name] = _write(item)
    return written


def _write_format(fmt: Format) -> Any:
    if FORMATS.get(fmt.name) == fmt:
        return fmt.name
    return {"kind": _kind_of(fmt, _FORMAT_KINDS), **_write_fields(fmt)}


def _write_formats(formats: tuple[Format, ...]) -> Any:
    for name, mixture in MIXTURES.items():
        if mixture == formats:
            return name
    written = [_write_format(fmt) for fmt in formats]
    return written[0] if len(written) == 1 and isinstance(written[0], str) else written


def _kind_of(value: object, kinds: Mapping[str, type]) -> str:
    for kind, cls in kinds.items():
        if type(value) is cls:
            return kind
    raise NotImplementedError(f"{type(value).__name__} has no written form: add it to datatypes.config_json")


def _read(data: Any, hint: Any, place: str) -> Any:
    """``data`` as a value of type ``hint``; ``place`` is the dotted key for messages."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _read_union(data, get_args(hint), place)
    if origin is tuple:
        return _read_tuple(data, get_args(hint)[0], place)
    if isinstance(hint, type) and issubclass(hint, Format):
        return _read_format(data, place)
    if isinstance(hint, type) and issubclass(hint, Granularity):
        return _read_kind(data, _GRANULARITY_KINDS, place)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _read_enum(data, hint, place)
    if is_dataclass(hint):
        return _read_dataclass(data, hint, place)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise TypeError(f"{place} must be of type {hint.__name__}, not {data!r}")
    return data


def _read_union(data: Any, hints: tuple[Any, ...], place: str) -> Any:
    if data is None:
        if type(None) in hints:
            return None
        raise TypeError(f"{place} must be given, not None")
    options = [hint for hint in hints if hint is not type(None)]
    if len(options) > 1 and isinstance(data, Mapping):  # TensorConfig | PartitionedConfig: the one whose keys fit
        options.sort(key=lambda hint: -len(set(_hints(hint)) & set(data)))
    return _read(data, options[0], place)


def _read_tuple(data: Any, item: Any, place: str) -> tuple[Any, ...]:
    if isinstance(item, type) and issubclass(item, Format) and isinstance(data, str):
        try:
            return formats_by_name(data)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if isinstance(item, type) and issubclass(item, Format) and isinstance(data, Mapping):
        data = [data]
    if not isinstance(data, list | tuple):
        raise TypeError(f"{place} must be a list, not {data!r}")
    return tuple(_read(value, item, f"{place}[{i}]") for i, value in enumerate(data))


def _read_format(data: Any, place: str) -> Format:
    if isinstance(data, str):
        try:
            return format_by_name(data)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    made = _read_kind(data, _FORMAT_KINDS, place)
    assert isinstance(made, Format)
    return made


def _read_kind(data: Any, kinds: Mapping[str, type], place: str) -> Any:
    """An object given by its kind alone, or by a mapping with ``kind`` and its fields."""
    if isinstance(data, str):
        data = {"kind": data}
    if not isinstance(data, Mapping) or "kind" not in data:
        raise TypeError(f"{place} must be a name or a mapping with the key kind, not {data!r}")
    kind = data["kind"]
    if kind not in kinds:
        raise ValueError(
            f"{place}.kind must be one of {', '.join(kinds)}, not {kind!r}{nearest(str(kind), kinds, most=1)}"
        )
    return _read_dataclass({key: value for key, value in data.items() if key != "kind"}, kinds[kind], place)


def _read_enum(data: Any, hint: type[Enum], place: str) -> Enum:
    values = {member.value: member for member in hint}
    if data not in values:
        raise ValueError(
            f"{place} must be one of {', '.join(values)}, not {data!r}{nearest(str(data), values, most=1)}"
        )
    return values[data]


def _read_dataclass(data: Any, hint: Any, place: str) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"{place or 'a layer config'} must be a mapping, not {data!r}")
    hints = _hints(hint)
    given: dict[str, Any] = {}
    for key, value in data.items():
        inner = f"{place}.{key}" if place else str(key)
        if key not in hints:
            raise ValueError(f"key {inner} must be one of {hint.__name__}{nearest(str(key), hints, most=1)}")
        given[key] = _read(value, hints[key], inner)
    missing = [f.name for f in fields(hint) if f.name not in given and _required(f)]
    if missing:
        raise ValueError(f"{place or 'a layer config'} must hold {', '.join(missing)}")
    try:
        return hint(**given)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise type(error)(f"{place}: {error}" if place else str(error)) from None


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields of a dataclass, annotations resolved."""
    resolved = get_type_hints(cls)
    return {f.name: resolved[f.name] for f in fields(cls)}


def _required(f: Field[Any]) -> bool:
    return f.default is MISSING and f.default_factory is MISSING
