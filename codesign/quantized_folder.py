"""A quantized model on disk, read: the layout of its folder, its layers one by one, and the model as a source.

::

    codesign.json                the manifest, written last: a folder with it is complete
    config.json, tokenizer files as the original model has them
    layers/00007.safetensors     one layer's arrays (datatypes.layer_packing), files numbered in the model's order
    rest-00000.safetensors       everything that is not quantized: embeddings, norms, biases, in their stored types
    job.json, layers/00007.json  only while the folder is being written: what is being done, and each finished layer

The manifest names every file with its size and SHA-256. Sizes are checked when the folder is opened, hashes when a file
is first read. Layer names are data in the manifest, never part of a path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from codesign.apply import KVFormats, effective_weight
from codesign.checkpoint import read_json
from codesign.models import ModelSource
from codesign.unfinished_folder import JOB as JOB
from codesign.unfinished_folder import LAYERS as LAYERS
from codesign.unfinished_folder import MANIFEST as MANIFEST
from codesign.unfinished_folder import check_finished
from codesign.weight_names import tied_names
from codesign.weight_slots import all_slots
from datatypes.config_json import config_from_dict
from datatypes.layer_packing import unpack_layer
from datatypes.quantized_layer import QuantizedLayer

KIND = "codesign quantized model"
VERSION = 1
_FILE = re.compile(r"layers/\d{5,}\.safetensors|rest-\d{5,}\.safetensors")
_KEYS: Mapping[str, type] = {
    "kind": str, "version": int, "name": str, "recipe": str, "model": dict, "layers": list, "rest": list, "kv": dict,
    "versions": dict, "bits": dict, "job": dict,
}  # fmt: skip
_FILE_KEYS: Mapping[str, type] = {"file": str, "bytes": int, "sha256": str}
_REST_KEYS: Mapping[str, type] = {**_FILE_KEYS, "tensors": list}
_LAYER_KEYS: Mapping[str, type] = {
    **_FILE_KEYS,
    "name": str,
    "shape": list,
    "bits": dict,
    "config": dict,
    "notes": dict,
}
_KIND_NAMES = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}  # as JSON has them


@dataclass(frozen=True, eq=False)
class LayerFiles(Mapping[str, QuantizedLayer]):
    """Quantized layers read from their files when asked for, none kept.

    Args:
        folder: of the quantized model.
        entries: the manifest's entry of each layer, by name.
    """

    folder: Path
    entries: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, name: str) -> QuantizedLayer:
        entry = self.entries[name]
        path = checked_file(self.folder, entry)
        n, k = entry["shape"]
        try:
            return unpack_layer(load_file(path), config_from_dict(entry["config"]), (n, k), notes=entry["notes"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"layer {name} of {self.folder / MANIFEST}: {error}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A complete quantized model folder: a model source whose quantized layers come as ``layers``.

    Args:
        folder: the folder.
        manifest: its ``codesign.json``.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the model and the recipe."""
        return str(self.manifest["name"])

    @cached_property
    def layers(self) -> LayerFiles:
        """The quantized layers."""
        return LayerFiles(self.folder, {entry["name"]: entry for entry in self.manifest["layers"]})

    @cached_property
    def kv(self) -> KVFormats:
        """Formats of the KV cache that belong to the recipe."""
        try:
            config = config_from_dict(self.manifest["kv"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"kv in {self.folder / MANIFEST}: {error}") from None
        return KVFormats(config.key, config.value)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the manifest, which holds those of all files."""
        return digest(self.folder / MANIFEST)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of the quantized layers over their weights, everything counted."""
        return float(self.manifest["bits"]["total"] / self.manifest["bits"]["weights"])

    @cached_property
    def _source(self) -> ModelSource:
        return ModelSource(self.name, self.folder)

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self._source.config

    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._source.tokenizer()

    def skeleton(self) -> nn.Module:
        """The module tree without weights."""
        return self._source.skeleton()

    @cached_property
    def _shape(self) -> nn.Module:
        return self.skeleton()

    @cached_property
    def _rest(self) -> dict[str, Mapping[str, Any]]:
        return {name: entry for entry in self.manifest["rest"] for name in entry["tensors"]}

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        return tied_names(self._shape)

    def tensor(self, name: str) -> Tensor:
        """A parameter or persistent buffer by its name in the module tree; a quantized weight is decoded (float32).

        Raises:
            ValueError: there is none, or its file is not what the manifest says.
        """
        for alias in self._aliases.get(name, (name,)):
            if alias in self._rest:
                path = checked_file(self.folder, self._rest[alias])
                with safe_open(path, framework="pt") as file:
                    return file.get_tensor(alias)
        for slot in all_slots(self._shape):
            if name == slot.parameter_name and slot.name in self.layers:
                weight = effective_weight(self.layers[slot.name])
                slot.set_matrix(weight)
                value = slot.stored.detach()
                slot.module._parameters[slot.parameter] = nn.Parameter(value.to("meta"), requires_grad=False)
                return value
        raise ValueError(f"quantized model {self.folder} must hold weight {name}")


def load_quantized(folder: Path | str) -> QuantizedModel:
    """Open a finished quantized model folder.

    Raises:
        ValueError: no such folder, an unfinished one, an unknown version, a broken manifest, or a file that is missing
            or not of the size the manifest says.
    """
    folder = Path(folder)
    check_finished(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} must be a quantized model folder with {MANIFEST}")
    path = folder / MANIFEST
    manifest = read_json(path)
    if manifest.get("kind") != KIND:
        raise ValueError(f"kind in {path} must be {KIND!r}, not {manifest.get('kind')!r}")
    if manifest.get("version") != VERSION:
        raise ValueError(f"version in {path} must be {VERSION}, not {manifest.get('version')!r}")
    _check_keys(manifest, _KEYS, str(path))
    _check_keys(manifest["bits"], {"total": int, "weights": int}, f"bits in {path}")
    for part, keys in (("layers", _LAYER_KEYS), ("rest", _REST_KEYS)):
        for entry in manifest[part]:
            _check_keys(entry, keys, f"every entry of {part} in {path}")
            check_size(folder, entry)
    for entry in manifest["layers"]:
        shape = entry["shape"]
        if len(shape) != 2 or not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"shape of layer {entry['name']} in {path} must be two sizes [n, k], not {shape!r}")
    for entry in manifest["rest"]:
        if not all(isinstance(name, str) for name in entry["tensors"]):
            raise ValueError(f"tensors of {entry['file']} in {path} must be a list of names, not {entry['tensors']!r}")
    return QuantizedModel(folder, manifest)


def _check_keys(entry: Any, keys: Mapping[str, type], where: str) -> None:
    """That ``entry`` is an object with ``keys`` of these types."""
    for key, kind in keys.items():
        if not isinstance(entry, dict) or key not in entry:
            raise ValueError(f"{where} must have the key {key!r}")
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            raise ValueError(f"{key!r} of {where} must be {_KIND_NAMES[kind]}, not {entry[key]!r}")


def is_quantized(folder: Path | str) -> bool:
    """Whether ``folder`` holds a finished quantized model."""
    return (Path(folder) / MANIFEST).is_file()


def check_own_recipe(quantized: QuantizedModel, named: str | None) -> None:
    """Makes sure that no other recipe than its own is named for a quantized model.

    Raises:
        ValueError: another one is.
    """
    own = quantized.manifest["recipe"]
    if named not in (None, own):
        raise ValueError(f"recipe of the quantized model {quantized.folder} must be its own, {own}, not {named}")


def check_size(folder: Path, entry: Mapping[str, Any]) -> Path:
    """The file of a manifest entry, of the size that the entry says.

    Raises:
        ValueError: it is not, or the entry names a file that no quantized model has.
    """
    name = str(entry.get("file"))
    if not _FILE.fullmatch(name):
        raise ValueError(f"a file named in {folder / MANIFEST} must be layers/N.safetensors or rest-N, not {name!r}")
    path = folder / name
    size = path.stat().st_size if path.is_file() else None
    if size != entry["bytes"]:
        found = "absent" if size is None else f"{size} bytes"
        raise ValueError(f"{path} must be {entry['bytes']} bytes, not {found}: the file is missing or truncated")
    return path


def digest(path: Path) -> str:
    """Hex SHA-256 of a file, computed once in a process for the same path, size and modification time."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked_file(folder: Path, entry: Mapping[str, Any]) -> Path:
    """The file of a manifest entry, of the size and SHA-256 that the entry says.

    Raises:
        ValueError: it is not.
    """
    path = check_size(folder, entry)
    found = digest(path)
    if found != entry["sha256"]:
        raise ValueError(f"{path} must have the SHA-256 {entry['sha256'][:16]}..., not {found[:16]}...: it was changed")
    try:
        with safe_open(path, framework="pt"):
            return path
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file ({error})") from None
