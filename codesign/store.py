"""What has been evaluated already: one JSON file for each key, written to a temporary name and renamed.

A key is a hash of everything that a result depends on, the project's own sources among them (``code_fingerprint``), so
that a result is never reused after the code that made it changed. A torn or foreign file counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from codesign.cache import whole_file

ROOT = Path(__file__).resolve().parents[1]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Raises:
        ValueError: NaN or infinity inside.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(parts: Mapping[str, Any]) -> str:
    """Hash of everything that a result depends on: 32 hexadecimal digits."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:32]


@lru_cache(maxsize=8)
def code_fingerprint(packages: tuple[str, ...] = ("datatypes", "codesign/algorithms")) -> str:
    """Hash of the project's own sources under ``packages``, in order of their names."""
    digest = hashlib.sha256()
    for package in packages:
        place = ROOT / package
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary name beside ``path`` and rename; nothing half-written ever bears the name."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def jsonable(value: Any) -> Any:
    """The same with NaN and infinity as ``None`` (JSON has neither), tuples as lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


class Store:
    """Results by key in one folder.

    Args:
        folder: made when the first result is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """The result, or ``None`` where there is none that can be read."""
        path = self._path(key)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) and data.get("key") == key else None

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result under its key."""
        text = json.dumps(jsonable({**result, "key": key}), sort_keys=True, indent=1, allow_nan=False)
        write_atomic(self._path(key), text.encode())

    def _path(self, key: str) -> Path:
        if not key.isalnum():
            raise ValueError(f"key must be letters and digits, not {key!r}")
        return self.folder / f"{key}.json"
