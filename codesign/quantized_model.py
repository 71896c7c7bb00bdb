"""Writing a quantized model, layer by layer, so that an interruption loses at most the layer in flight.

Each layer is packed, checked (its arrays take exactly ``LayerConfig.storage_bits``, and unpack to the same weight),
written under a temporary name and renamed, then noted in a file of its own. A second run with the same model, recipe
and calibration finds the notes and goes on; the manifest comes last (``codesign.quantized_folder`` has the layout).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.apply import KVFormats
from codesign.blocks import BlockModel
from codesign.cache import PART_SUFFIX, sha256_of_text, whole_file
from codesign.checkpoint import read_json
from codesign.models import ModelSource
from codesign.quantize_blocks import NO_KV, CalibrationPlan, LayerJob, quantize_blocks
from codesign.quantized_folder import (
    JOB,
    KIND,
    LAYERS,
    MANIFEST,
    VERSION,
    LayerFiles,
    QuantizedModel,
    checked_file,
    digest,
    is_quantized,
    load_quantized,
)
from codesign.steps import NO_STEPS, Steps
from codesign.stream_file import SUFFIX, StreamFile, walk_key
from codesign.tensor_file import save_tensors
from codesign.weight_names import tied_names
from codesign.weight_slots import all_slots
from datatypes.config_json import config_to_dict
from datatypes.layer_config import LayerConfig
from datatypes.layer_packing import pack_layer, unpack_layer
from datatypes.quantized_layer import QuantizedLayer
from datatypes.storage_bits import StorageBits

REST_FILE_BYTES = 1 << 29  # a file of unquantized tensors is closed once it holds this much
COPIED_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
PACKAGES = ("codesign", "torch", "transformers", "safetensors", "numpy", "numba")


@dataclass(frozen=True, eq=False)
class QuantizationJob:
    """All that decides what a quantized model becomes.

    Args:
        recipe: its name.
        layers: algorithm and config of each layer to quantize; the others stay as they are.
        plan: where calibration comes from.
        kv: formats of the KV cache, stored with the model.
        calibration: what the calibration data are (text, tokens, context, seed), for the manifest; JSON-able.
    """

    recipe: str
    layers: Mapping[str, LayerJob]
    plan: CalibrationPlan = field(default_factory=CalibrationPlan)
    kv: KVFormats = NO_KV
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def description(self, model_hash: str) -> dict[str, Any]:
        """The job as JSON; equal descriptions give equal models."""
        distinct: dict[str, dict[str, Any]] = {}
        of_layer: dict[str, str] = {}
        for name, job in self.layers.items():
            described = {"algorithm": repr(job.algorithm), "config": config_to_dict(job.config)}
            key = sha256_of_text(json.dumps(described, sort_keys=True))[:16]
            distinct[key] = described
            of_layer[name] = key
        windows = self.plan.windows
        return {
            "recipe": self.recipe,
            "model": model_hash,
            "kv": config_to_dict(LayerConfig(key=self.kv.key, value=self.kv.value)),
            "calibration": dict(self.calibration),
            "windows": None if windows is None else sha256_of_text(str(windows.tolist())),
            "keep_inputs": self.plan.keep_inputs,
            "jobs": distinct,
            "layers": of_layer,
        }


def quantize_model(
    source: ModelSource,
    job: QuantizationJob,
    folder: Path | str,
    *,
    device: torch.device | str = "cpu",
    verify: bool = True,
    steps: Steps = NO_STEPS,
) -> QuantizedModel:
    """Quantize ``source`` into ``folder``, going on where an earlier run of the same job was stopped.

    Args:
        source: the model.
        job: what to do with it.
        folder: made if it is not there; must be empty or hold this job.
        device: where blocks run and weights are quantized.
        verify: decode every layer from what is about to be written and compare; may be left out where the folder is
            read back and measured at once.

    Returns:
        The finished folder, opened.

    Raises:
        ValueError: the folder holds something else, the disk refuses a file, or what an algorithm raises.
    """
    folder = Path(folder)
    description = job.description(source.hash)
    check_quantized_output(folder, description)
    if is_quantized(folder):
        return load_quantized(folder)
    with _started(folder, description):
        return _quantize_into(folder, source, job, description, device=device, verify=verify, steps=steps)


def _quantize_into(
    folder: Path,
    source: ModelSource,
    job: QuantizationJob,
    description: Mapping[str, Any],
    *,
    device: torch.device | str,
    verify: bool,
    steps: Steps,
) -> QuantizedModel:
    """The layers that are not there yet, then everything else, and the manifest last."""
    entries = _finished(folder)
    model = BlockModel(source, device=device)
    numbers = {name: i for i, name in enumerate(name for name in _all_layers(model) if name in job.layers)}
    known = LayerFiles(folder, entries)
    kept = StreamFile(folder / f"quantize{SUFFIX}", walk_key({"job": description, "device": str(device)}))
    for name, layer in quantize_blocks(model, job.layers, job.plan, known=known, kv=job.kv, steps=steps, kept=kept):
        entry = write_layer(folder, numbers[name], name, layer, verify=verify)
        _write_json(folder / LAYERS / f"{numbers[name]:05d}.json", entry)
        entries = {**entries, name: entry}
    kept.remove()
    ordered = [entries[name] for name in sorted(entries, key=numbers.__getitem__)]
    rest = _write_rest(source, folder, set(job.layers), steps)
    _copy_small_files(source.folder, folder)
    manifest = {
        "kind": KIND,
        "version": VERSION,
        "name": f"{source.name}-{job.recipe}",
        "recipe": job.recipe,
        "model": {
            key: getattr(source, key) for key in ("name", "hash", "licence", "source", "grid") if hasattr(source, key)
        },
        "bits": _sum_bits(ordered),
        "kv": description["kv"],
        "versions": _versions(),
        "layers": ordered,
        "rest": rest,
        "job": description,
    }
    _write_json(folder / MANIFEST, manifest)
    for path in [folder / JOB, *(folder / LAYERS).glob("*.json"), *folder.rglob(f".*{PART_SUFFIX}")]:
        path.unlink(missing_ok=True)
    return load_quantized(folder)


def write_layer(folder: Path, number: int, name: str, layer: QuantizedLayer, *, verify: bool = True) -> dict[str, Any]:
    """Write one layer's file and return its manifest entry.

    Raises:
        ValueError: its arrays are not as large as its config says, do not unpack to the same weight, or cannot be
            written.
    """
    arrays = {key: value.cpu().contiguous() for key, value in pack_layer(layer).items()}
    bits = layer.config.storage_bits(layer.shape)
    written = 8 * sum(value.numel() * value.element_size() for value in arrays.values())
    if written != bits.total:
        raise ValueError(f"arrays of layer {name} must take {bits.total} bits by its config, not {written}")
    if verify:
        back = unpack_layer(arrays, layer.config, layer.shape, notes=layer.notes)
        if not torch.equal(back.dequantize_weight(), layer.to("cpu").dequantize_weight()):
            raise ValueError(f"layer {name} must unpack to the weight that was packed, which its formats do not allow")
    file = f"{LAYERS}/{number:05d}.safetensors"
    save_tensors(arrays, folder / file)
    return {
        "name": name,
        "shape": list(layer.shape),
        **_file_entry(folder, file),
        "bits": {f.name: value for f in fields(bits) if (value := getattr(bits, f.name))} | {"total": bits.total},
        "config": config_to_dict(layer.config),
        "notes": dict(layer.notes),
    }


@contextmanager
def _started(folder: Path, description: Mapping[str, Any]) -> Iterator[None]:
    """``_start``; where the job stops before anything of it is finished, the folder is as it was."""
    there = folder.is_dir()
    _start(folder, description)
    try:
        yield
    except BaseException:
        if not any(path.is_file() and path != folder / JOB for path in folder.rglob("*")):
            (folder / JOB).unlink(missing_ok=True)
            (folder / LAYERS).rmdir()
            if not there:
                folder.rmdir()
        raise


def _start(folder: Path, description: Mapping[str, Any]) -> None:
    """Make the folder, unless it holds this very job, unfinished."""
    if not (folder / JOB).is_file():
        (folder / LAYERS).mkdir(parents=True, exist_ok=True)
        _write_json(folder / JOB, description)


def check_quantized_output(folder: Path, description: Mapping[str, Any] | None = None) -> None:
    """Make sure that a quantized model may be written to ``folder``: nothing is there, or this job, finished or not.

    Args:
        folder: need not be there.
        description: of the job; ``None`` where it is not known yet, so that any job may be there.

    Raises:
        ValueError: another job, or something else, is there.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the output {folder} must be a folder, not a file")
    if is_quantized(folder):
        found = load_quantized(folder).manifest["job"]
    elif (folder / JOB).is_file():
        found = read_json(folder / JOB)
    else:
        if folder.is_dir() and any(path.is_file() for path in folder.rglob("*") if not path.name.endswith(PART_SUFFIX)):
            raise ValueError(f"the output folder {folder} must be empty or hold a quantized model, not other files")
        return
    wanted = found if description is None else json.loads(json.dumps(description))  # tuples are lists there
    if found != wanted:
        raise ValueError(_other_job(folder, found, wanted))


def _finished(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Entries of the layers whose note and file are both there and agree."""
    entries: dict[str, Mapping[str, Any]] = {}
    for note in sorted((folder / LAYERS).glob("*.json")):
        try:
            entry = read_json(note)
            checked_file(folder, entry)
        except (ValueError, KeyError):
            note.unlink()  # quantized again
            continue
        entries[entry["name"]] = entry
    return entries


def _all_layers(model: BlockModel) -> list[str]:
    return [*model.layer_names(), *(slot.name for slot in model.outer_slots())]


def _write_rest(source: ModelSource, folder: Path, quantized: set[str], steps: Steps) -> list[dict[str, Any]]:
    """Write every tensor that no quantized layer stands for, tied ones once; entries of the files."""
    skeleton = source.skeleton()
    slots = {slot.parameter_name: slot for slot in all_slots(skeleton)}
    aliases = tied_names(skeleton)
    written: set[str] = set()
    entries: list[dict[str, Any]] = []
    held: dict[str, Tensor] = {}
    names = list(skeleton.state_dict())
    for done, name in enumerate(names, start=1):
        own_slot = slots.get(name)
        tied = set(aliases.get(name, (name,)))
        if (own_slot is not None and own_slot.name in quantized) or tied & written:
            continue
        written.add(name)
        held[name] = source.tensor(name).contiguous()
        if sum(value.numel() * value.element_size() for value in held.values()) >= REST_FILE_BYTES:
            entries.append(_close_rest(folder, len(entries), held))
            held = {}
        steps("unquantized tensors", done, len(names))
    if held:
        entries.append(_close_rest(folder, len(entries), held))
    return entries


def _close_rest(folder: Path, number: int, held: Mapping[str, Tensor]) -> dict[str, Any]:
    file = f"rest-{number:05d}.safetensors"
    save_tensors(held, folder / file)
    return {**_file_entry(folder, file), "tensors": sorted(held)}


def _file_entry(folder: Path, file: str) -> dict[str, Any]:
    path = folder / file
    return {"file": file, "bytes": path.stat().st_size, "sha256": digest(path)}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} must be writable, with room on the disk ({error})") from None


def _copy_small_files(source: Path, folder: Path) -> None:
    """Config and tokenizer files: all small text files of the model's folder but the indices of its shards."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in COPIED_SUFFIXES and not path.name.endswith(".index.json"):
            if path.name in (MANIFEST, JOB):
                continue
            with whole_file(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _sum_bits(entries: list[Mapping[str, Any]]) -> dict[str, int]:
    kinds = [f.name for f in fields(StorageBits)]
    sums = {kind: sum(entry["bits"].get(kind, 0) for entry in entries) for kind in kinds}
    weights = sum(entry["shape"][0] * entry["shape"][1] for entry in entries)
    return {**{k: v for k, v in sums.items() if v}, "total": sum(sums.values()), "weights": weights}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _other_job(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    what = next((key for key in wanted if found.get(key) != wanted[key]), "job")
    return f"{folder} must hold the same job, but its {what} differs: choose another folder or delete this one"
