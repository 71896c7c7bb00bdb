"""A user's accelerator in a YAML file.

Every key of ``Accelerator`` may stand there; with ``base: <preset>`` missing keys are taken from that preset, section
by section and key by key. ``name`` and ``source`` are always needed. Example::

    name: my_bitmod
    base: bitmod
    source: our design review, 3 March 2026
    prefill_array: [64, 32]
    decode_array: [128, 16]
    weight_buffer: {capacity_kib: 1024}
    dram: {preset: lpddr5, channels: 8}

A machine of another kind gives the keys its kind needs (``hwmodel.pe.PE``): ``max_activation_bits`` and ``brick_bits``
for fused bricks, ``serial_bits`` for serial ones, ``skipping`` for those that skip terms, ``table_bits`` for tables,
and ``modes`` for block dot products::

    pe:
      name: my_mx
      kind: block_dot
      lanes: 16
      max_integer_bits: 0
      energy_pj_per_cycle: 1.4
      area_um2: 5000
      modes:
        - {bits: 4, family: float, lanes: 32, energy_pj_per_cycle: 0.7}
        - {bits: 8, family: float, lanes: 16, energy_pj_per_cycle: 1.4}
      source: synthesis

``dram: {preset: <name>}`` starts from one of ``hwmodel.presets_memory``; ``channels`` without ``bytes_per_s`` takes the
bandwidth along. ``node_nm: 16`` scales the base's areas and energies to another node first.

Every error is one sentence with file and key.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any

from datatypes.catalog import format_by_name
from datatypes.format import Format
from hwmodel.accelerator import Accelerator, Array, Encoder, VectorUnit, at_node
from hwmodel.memory import Dram, Sram
from hwmodel.pe import PE, Mode, PeKind, Skipping
from hwmodel.presets import accelerator_by_name
from hwmodel.presets_memory import DRAMS
from hwmodel.technology import Technology
from hwmodel.units import KIB
from hwmodel.yaml_file import read_yaml, text


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number")
    try:
        number = float(value)  # YAML 1.1 reads 1e9 as text
    except (ValueError, OverflowError):
        raise ValueError("a number") from None
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _area(value: object) -> float:
    """A number, or ``.nan`` on an FPGA."""
    return math.nan if isinstance(value, float) and math.isnan(value) else _number(value)


def _integer(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError("an integer")
    return int(number)


def _member(kind: type[Enum]) -> Callable[[object], Enum]:
    """A reader of an enumeration's values."""

    def read(value: object) -> Enum:
        try:
            return kind(value)
        except ValueError:
            raise ValueError("one of " + ", ".join(member.value for member in kind)) from None

    return read


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


_FAMILIES: Mapping[str, bool] = {"integer": True, "float": False}
_MODE_KEYS = ("bits", "family", "lanes", "energy_pj_per_cycle")


def _modes(value: object) -> tuple[Mode, ...]:
    wanted = "a list of mappings with the keys " + ", ".join(_MODE_KEYS)
    if not isinstance(value, list) or not all(isinstance(v, dict) and set(v) == set(_MODE_KEYS) for v in value):
        raise ValueError(wanted)
    modes = []
    for mode in value:
        if mode["family"] not in tuple(_FAMILIES):
            raise ValueError(f"{wanted}, family being {' or '.join(_FAMILIES)}")
        bits, lanes = _integer(mode["bits"]), _integer(mode["lanes"])
        modes.append(Mode(bits, _FAMILIES[mode["family"]], lanes, _number(mode["energy_pj_per_cycle"])))
    return tuple(modes)


def _formats(value: object) -> tuple[Format, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of format names")
    try:
        return tuple(format_by_name(text(name)) for name in value)
    except ValueError as error:
        raise ValueError(f"a list of format names ({error})") from None


def _array(value: object) -> Array:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a list of rows and columns")
    rows, columns = _integer(value[0]), _integer(value[1])
    if rows < 1 or columns < 1:
        raise ValueError("rows and columns of at least 1")
    return Array(rows, columns)


def _kib(value: object) -> int:
    size = _number(value) * KIB
    if size != int(size):
        raise ValueError("KiB that come to whole bytes")
    return int(size)


def _rate(value: object) -> float:
    """A clock or a bandwidth. What is so small or large was written in another unit."""
    number = _number(value)
    if not _SLOWEST <= number <= _FASTEST:
        raise ValueError(f"{_SLOWEST:g} to {_FASTEST:g}, in Hz or bytes a second")
    return number


_SLOWEST, _FASTEST = 1e4, 1e14  # no limits of a technology: a figure in GHz, MHz, GB/s or kHz lies outside

_READERS: Mapping[type, Mapping[str, tuple[str, Callable[[object], Any]]]] = {  # key in the file -> (field, reader)
    PE: {
        "name": ("name", text), "kind": ("kind", _member(PeKind)), "lanes": ("lanes", _integer),
        "energy_pj_per_cycle": ("energy_pj_per_cycle", _number), "area_um2": ("area_um2", _area),
        "max_integer_bits": ("max_integer_bits", _integer), "decoders": ("decoders", _formats),
        "max_activation_bits": ("max_activation_bits", _integer), "brick_bits": ("brick_bits", _integer),
        "serial_bits": ("serial_bits", _integer), "one_column_bits": ("one_column_bits", _integer),
        "skipping": ("skipping", _member(Skipping)), "skip_rows": ("skip_rows", _integer),
        "channel_groups": ("channel_groups", _integer), "table_bits": ("table_bits", _integer),
        "modes": ("modes", _modes), "luts": ("luts", _number_or_none), "source": ("source", text),
    },
    Sram: {"capacity_kib": ("capacity_bytes", _kib), "node_nm": ("node_nm", _number), "source": ("source", text)},
    Dram: {
        "name": ("name", text), "bytes_per_s": ("bytes_per_s", _rate),
        "energy_pj_per_bit": ("energy_pj_per_bit", _number), "efficiency": ("efficiency", _number),
        "channels": ("channels", _integer), "source": ("source", text),
    },
    Technology: {
        "name": ("name", text), "node_nm": ("node_nm", _number),
        "layout_energy_factor": ("layout_energy_factor", _number),
        "logic_leakage_uw_per_um2": ("logic_leakage_uw_per_um2", _number),
        "clock_idle_share": ("clock_idle_share", _number), "static_power_mw": ("static_power_mw", _number_or_none),
        "source": ("source", text),
    },
    VectorUnit: {
        "lanes": ("lanes", _integer), "energy_pj_per_operation": ("energy_pj_per_operation", _number),
        "area_um2_per_lane": ("area_um2_per_lane", _area), "source": ("source", text),
    },
    Encoder: {
        "energy_pj_per_cycle": ("energy_pj_per_cycle", _number), "area_um2": ("area_um2", _area),
        "source": ("source", text),
    },
}  # fmt: skip
_SECTIONS: Mapping[str, type] = {
    "pe": PE, "weight_buffer": Sram, "activation_buffer": Sram, "dram": Dram, "technology": Technology,
    "vector": VectorUnit, "encoder": Encoder,
}  # fmt: skip
_VALUES: Mapping[str, Callable[[object], Any]] = {
    "name": text, "source": text, "prefill_array": _array, "decode_array": _array, "frequency_hz": _rate,
}  # fmt: skip
_OPTIONAL = frozenset({"encoder"})
_SAME_LOGIC = frozenset({"name", "source", "energy_pj_per_cycle", "area_um2"})  # keys that leave a PE's logic as it is


def load_accelerator(path: Path | str) -> Accelerator:
    """Read an accelerator from a YAML file.

    Raises:
        ValueError: the file cannot be read, is no YAML mapping, or a key is unknown, given twice, missing or of a
            wrong value; the message names file and key.
    """
    file = Path(path)
    content = read_yaml(file)
    try:
        return _build(content)
    except ValueError as error:
        raise ValueError(f"accelerator file {file}: {error}") from None


def _build(content: Mapping[Any, object]) -> Accelerator:
    _check_keys(content, {*_VALUES, *_SECTIONS, "base", "node_nm"}, "")
    base = None if content.get("base") is None else accelerator_by_name(_read("base", content["base"], text))
    if "node_nm" in content:
        if base is None:
            raise ValueError("key node_nm needs a base, whose figures are scaled to that node")
        base = at_node(base, _read("node_nm", content["node_nm"], _number))
    values: dict[str, Any] = {}
    for key, reader in _VALUES.items():
        if key in content:
            values[key] = _read(key, content[key], reader)
        elif base is None or key in ("name", "source"):
            raise ValueError(f"key {key} must be given")
        else:
            values[key] = getattr(base, key)
    for key, kind in _SECTIONS.items():
        inherited = None if base is None else getattr(base, key)
        if key in content:
            values[key] = _section(key, content[key], kind, inherited)
        elif inherited is not None or key in _OPTIONAL:
            values[key] = inherited
        else:
            raise ValueError(f"key {key} must be given")
    return Accelerator(**values)


def _section(key: str, content: object, kind: type, inherited: object) -> object:
    """One section: the keys given, over those of the base."""
    if content is None and key in _OPTIONAL:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"key {key} must be a mapping, not {content!r}")
    readers = _READERS[kind]
    _check_keys(content, {*readers, "preset"} if kind is Dram else set(readers), f"{key}.")
    if kind is Dram:
        inherited = _memory(key, content, inherited)
    values: dict[str, Any] = {}
    required = {f.name for f in fields(kind) if f.default is MISSING}
    for name, (target, reader) in readers.items():
        if name in content:
            values[target] = _read(f"{key}.{name}", content[name], reader)
        elif inherited is not None:
            values[target] = getattr(inherited, target)
        elif target in required:
            raise ValueError(f"key {key}.{name} must be given")
    if kind is PE and "luts" not in content and not _SAME_LOGIC.issuperset(content):
        values["luts"] = None  # what was published of the base's PE says nothing of another one
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"key {key}: {error}") from None


def _memory(key: str, content: Mapping[str, object], inherited: object) -> object:
    """The memory that a section starts from: its preset, with its channels, or what it inherits."""
    if "preset" in content:
        inherited = DRAMS.get(str(content["preset"]))
        if inherited is None:
            raise ValueError(f"key {key}.preset must be one of {', '.join(DRAMS)}, not {content['preset']!r}")
    if isinstance(inherited, Dram) and "channels" in content and "bytes_per_s" not in content:
        channels = _read(f"{key}.channels", content["channels"], _integer)
        try:
            return inherited.with_channels(channels)
        except ValueError as error:
            raise ValueError(f"key {key}: {error}") from None
    return inherited


def _read(key: str, value: object, reader: Callable[[object], Any]) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"key {key} must be {error}, not {value!r}") from None


def _check_keys(content: Mapping[Any, object], known: set[str], prefix: str) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=2)
            hint = f"; nearest: {', '.join(prefix + name for name in near)}" if near else ""
            raise ValueError(f"key {prefix}{key} must be one of {', '.join(sorted(known))}{hint}")
