"""Hidden states kept on disk after each finished block, so that a killed walk goes on where it was.

One file for each walk, replaced block by block: 4 bytes for each token and each element of the width (SmolLM2-135M,
2,048 tokens: 4.7 MB; a width of 8,192 and WikiText-2's 340,000 tokens: 11 GB), as much as one copy of the hidden
states in memory. It holds float32 exactly, so a walk that goes on ends with the same bits. The bytes are safetensors;
the suffix keeps them apart from files of statistics beside them. A model that is walked whole has nothing between two
blocks to keep.

The key of a file names everything that the states depend on (``walk_key``): weights, tokens, formats, these sources and
the versions that compute. A file of another key, or one that cannot be read, counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from codesign.blocks import Stream
from codesign.cache import PART_SUFFIX, sha256_of_text
from codesign.store import code_fingerprint, key_of
from codesign.tensor_file import save_tensors

SUFFIX = ".stream"
SOURCES = (  # of the project: what a model computes in a walk, and what algorithms are given and give
    "datatypes",
    "codesign/algorithms",
    "codesign/accuracy.py",
    "codesign/activation.py",
    "codesign/apply.py",
    "codesign/block_calls.py",
    "codesign/blocks.py",
    "codesign/calibrate_model.py",
    "codesign/calibration.py",
    "codesign/outer_layers.py",
    "codesign/quantize_blocks.py",
    "codesign/stream_file.py",
    "codesign/weight_slots.py",
)


def walk_key(parts: Mapping[str, Any], sources: tuple[str, ...] = SOURCES) -> str:
    """Hash of ``parts``, of the project's ``sources``, and of the versions of torch and transformers.

    Args:
        parts: JSON-able; what the result depends on beside the code: hash of the weights, tokens, device, formats.
    """
    try:
        transformers = version("transformers")
    except PackageNotFoundError:
        transformers = None
    versions = {"torch": torch.__version__, "transformers": transformers}
    return key_of({**parts, "code": code_fingerprint(sources), "versions": versions})


def tokens_hash(tokens: Tensor) -> str:
    """SHA-256 of token ids and their shape, for a key."""
    return sha256_of_text(f"{list(tokens.shape)}{tokens.flatten().tolist()}")


@dataclass(frozen=True)
class StreamFile:
    """Where one walk keeps its hidden states.

    Args:
        path: of the file, which ends in ``SUFFIX``.
        key: of everything that the states depend on (``walk_key``).
    """

    path: Path
    key: str

    def __post_init__(self) -> None:
        if self.path.suffix != SUFFIX:
            raise ValueError(f"a file of hidden states must end in {SUFFIX}, not {self.path.name!r}")

    def load(self, stream: Stream) -> int | None:
        """Put the kept states into ``stream``.

        Returns:
            How many blocks they have passed; ``None`` where nothing is kept, and ``stream`` is as it was.
        """
        kept = self._read(self.path)
        if kept is None:
            return None
        tensors, passed = kept
        if len(tensors) != len(stream.hidden):
            return None
        stream.hidden[:] = [tensors[str(i)].to(h.device) for i, h in enumerate(stream.hidden)]
        return passed

    def save(self, stream: Stream, passed: int) -> None:
        """Keep the states of ``stream``, which have passed ``passed`` blocks, in place of earlier ones.

        Raises:
            ValueError: the disk refuses the file.
        """
        tensors = {str(i): hidden.detach().cpu().contiguous() for i, hidden in enumerate(stream.hidden)}
        self._write(self.path, tensors, passed)

    def load_losses(self) -> Tensor | None:
        """What ``save_losses`` kept; ``None`` where nothing is."""
        kept = self._read(self._losses)
        return None if kept is None else kept[0]["losses"]

    def save_losses(self, losses: Tensor) -> None:
        """Keep the losses that the last block's states gave.

        Raises:
            ValueError: the disk refuses the file.
        """
        self._write(self._losses, {"losses": losses}, 0)

    def remove(self) -> None:
        """Delete what is kept, and what a killed run left half-written."""
        for path in (self.path, self._losses):
            path.unlink(missing_ok=True)
            for part in path.parent.glob(f".{path.name}.*{PART_SUFFIX}"):
                part.unlink(missing_ok=True)

    @property
    def _losses(self) -> Path:
        return self.path.with_name(f"{self.path.stem}-losses{SUFFIX}")

    def _read(self, path: Path) -> tuple[dict[str, Tensor], int] | None:
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self.key:
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}, int(about["passed"])  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def _write(self, path: Path, tensors: Mapping[str, Tensor], passed: int) -> None:
        save_tensors(tensors, path, {"key": self.key, "passed": str(passed)})
