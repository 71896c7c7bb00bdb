"""Writing a safetensors file whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from codesign.cache import whole_file


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write ``tensors`` under a temporary name and rename.

    Args:
        tensors: by name; contiguous, on the CPU, no two sharing memory.
        path: its folder is made if it is missing.
        metadata: text kept in the file's header.

    Raises:
        ValueError: the disk refuses the file.
    """
    try:
        with whole_file(path) as temporary:
            save_file(dict(tensors), temporary, metadata=None if metadata is None else dict(metadata))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must be writable, with room on the disk ({error})") from None
