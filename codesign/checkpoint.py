"""Reading the weights of a model folder tensor by tensor, without loading the model.

A ``Checkpoint`` reads the safetensors files of a folder (one file, or shards with an index) a tensor at a time: it
costs its own size in memory and no more, so a model larger than memory can be walked. (Mapped files would count as
memory in use until the system takes the pages back.) Pickled checkpoints are rewritten as
safetensors once (``safe_folder``). Names are those of the files; ``codesign.weight_names`` maps a model's onto them.

Format: safetensors, https://github.com/huggingface/safetensors, section "Format": 8 bytes of header length
(little-endian), a JSON header, then the data; ``data_offsets`` count from the end of the header.
"""

from __future__ import annotations

import json
import mmap
import pickle
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codesign.cache import cache_dir, sha256_of_file, sha256_of_text, whole_folder
from codesign.steps import progress
from codesign.tensor_file import save_tensors

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX_FILE = "pytorch_model.bin.index.json"
# safetensors, section "Format": dtype
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
HEADER_LIMIT_BYTES = 100_000_000  # safetensors: "there is a limit on the header size of 100MB"


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a folder.

    Args:
        files: file of each tensor, by the tensor's name.
    """

    files: Mapping[str, Path]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The safetensors files, each once, in order of name."""
        return tuple(sorted(set(self.files.values())))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the one file, or of the shards' SHA-256s and names (as ``sha256sum`` prints them)."""
        sums = [(sha256_of_file(path), path.name) for path in self.paths]
        return sums[0][0] if len(sums) == 1 else sha256_of_text("".join(f"{s}  {name}\n" for s, name in sums))

    @cached_property
    def _headers(self) -> dict[Path, Mapping[str, Any]]:
        return {path: read_header(path) for path in self.paths}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a stored tensor, from the header alone."""
        return tuple(self._headers[self._file(name)][name]["shape"])

    def tensor(self, name: str) -> Tensor:
        """A stored tensor, on the CPU, as it is in the file.

        Raises:
            ValueError: there is no tensor of this name, or its dtype is not known.
        """
        path = self._file(name)
        info = self._headers[path][name]
        if info["dtype"] not in DTYPES:
            raise ValueError(f"dtype of {name} in {path} must be one that torch has, not {info['dtype']!r}")
        start, end = info["data_offsets"]
        if start == end:
            return torch.empty(info["shape"], dtype=DTYPES[info["dtype"]])
        # Pages of its own: they go back to the system with the tensor, where a heap full of small objects keeps them.
        content = mmap.mmap(-1, end - start)
        with path.open("rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little") + start)
            if file.readinto(content) != end - start:
                raise ValueError(f"{path} must hold all of {name}; the file is truncated")
        return torch.frombuffer(content, dtype=DTYPES[info["dtype"]]).reshape(info["shape"])

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise ValueError(f"the checkpoint in {self.paths[0].parent} must hold a tensor named {name}")
        return self.files[name]


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint of a Hugging Face folder with safetensors files; headers and file sizes are checked.

    Raises:
        ValueError: no weights, a missing shard, a truncated or foreign file, a broken index.
    """
    index = folder / INDEX_FILE
    single = folder / WEIGHTS_FILE
    if index.is_file():
        files = _indexed_files(index)
    elif single.is_file():
        files = dict.fromkeys(_tensor_names(read_header(single)), single)
    else:
        raise ValueError(f"weights must be in {single} or in shards with {INDEX_FILE}, not absent")
    if not files:
        raise ValueError(f"the checkpoint in {folder} must hold at least one tensor")
    return Checkpoint(files)


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights in a form that can be read (or refused with a reason)."""
    return any((folder / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE, PICKLE_FILE, PICKLE_INDEX_FILE))


def read_header(path: Path) -> Mapping[str, Any]:
    """The JSON header of a safetensors file, checked against the file's size.

    Raises:
        ValueError: the file is not there, is not safetensors, or is shorter than its header says.
    """
    if not path.is_file():
        raise ValueError(f"weights file {path} must exist")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= HEADER_LIMIT_BYTES:
            raise ValueError(f"{path} must be a safetensors file, not one that starts with {start!r}")
        try:
            header = json.loads(file.read(length))
            end = max((info["data_offsets"][1] for name, info in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            if size < 8 + length:
                raise ValueError(_truncated(path, 8 + length, size)) from None
            raise ValueError(f"{path} must have a safetensors header (JSON with data_offsets)") from None
    if size < 8 + length + end:
        raise ValueError(_truncated(path, 8 + length + end, size))
    return header


def check_finite(name: str, tensor: Tensor) -> Tensor:
    """``tensor`` itself, if every element is finite.

    Raises:
        ValueError: it holds NaN or infinity; the message says how many and where the first is.
    """
    if not tensor.dtype.is_floating_point or not tensor.numel():
        return tensor
    values = tensor if tensor.dtype.itemsize > 1 else tensor.to(torch.float32)  # torch has no extremes for 8-bit floats
    least, most = torch.aminmax(values)  # NaN if there is any
    if bool(torch.isfinite(least)) and bool(torch.isfinite(most)):
        return tensor
    bad = ~torch.isfinite(values)
    count = int(bad.sum())
    first = tuple(int(i) for i in bad.nonzero()[0])
    value = float(tensor[first])
    raise ValueError(f"weight {name} must be finite, not {value} at {first} ({count} of {tensor.numel()} elements)")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ValueError: missing file, broken JSON (the message has line and column), or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} must exist") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} must be valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def safe_folder(folder: Path) -> Path:
    """``folder`` itself if it has safetensors; for a pickled checkpoint a copy in the cache that has.

    Pickles are read with ``torch.load(weights_only=True)``, which builds tensors and nothing else.

    Raises:
        ValueError: the pickle holds anything but tensors, is broken, or a shard is missing.
    """
    if (folder / WEIGHTS_FILE).is_file() or (folder / INDEX_FILE).is_file():
        return folder
    if (folder / PICKLE_INDEX_FILE).is_file():
        names = set(_weight_map(folder / PICKLE_INDEX_FILE).values())
        pickles = [_present_shard(folder / name) for name in sorted(names)]
    else:
        pickles = [folder / PICKLE_FILE]
    digest = sha256_of_text("".join(map(sha256_of_file, pickles)))
    target = cache_dir("models") / f"{folder.name}-{digest[:16]}"
    if not target.is_dir():
        with progress(f"rewriting {folder.name} as safetensors"), whole_folder(target) as temporary:
            tensors: dict[str, Tensor] = {}
            for path in pickles:
                tensors.update(_unpickle(path))
            # Tied weights share memory, which safetensors refuses: every name gets a copy of its own.
            tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
            save_tensors(tensors, temporary / WEIGHTS_FILE, {"format": "pt"})
            for path in folder.iterdir():
                if path.is_file() and path.suffix in (".json", ".txt", ".model", ".jinja") and path not in pickles:
                    shutil.copy(path, temporary / path.name)
            (temporary / PICKLE_INDEX_FILE).unlink(missing_ok=True)
    return target


def _tensor_names(header: Mapping[str, Any]) -> list[str]:
    return [name for name in header if name != "__metadata__"]


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} must have a key 'weight_map' that names the file of each tensor")
    return weight_map


def _present_shard(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"shard {path} named by the index must exist")
    return path


def _indexed_files(index: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    weight_map = _weight_map(index)
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard:
            raise ValueError(f"a shard in {index} must be a file name in the same folder, not {shard!r}")
        path = _present_shard(index.parent / shard)
        held = set(_tensor_names(read_header(path)))
        wanted = {name for name, file in weight_map.items() if file == shard}
        if wanted - held:
            raise ValueError(f"shard {path} must hold {min(wanted - held)}, as {index.name} says")
        files.update(dict.fromkeys(sorted(wanted), path))
    return files


def _truncated(path: Path, expected: int, size: int) -> str:
    return f"{path} must have {expected} bytes by its header, not {size}: the file is truncated"


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} must be a pickle of tensors alone (it is never run as code); save it as safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} must be a whole PyTorch checkpoint: {reason}") from None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors, not {type(content).__name__}")
    return content
