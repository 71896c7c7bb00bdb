"""The folder of an export: written whole or not at all, described by a manifest, never put over anything else.

``manifest.json`` names every other file with its size and SHA-256, in order of their paths; nothing in it depends on
when or where it was made. ``build/`` is the only thing that may be in the folder besides: simulation writes there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: what a killed run left stays there
    fcntl = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
BUILD = "build"
KIND = "codesign hls export"
VERSION = 1
PART_SUFFIX = ".part"  # of a folder that is not finished; a killed run leaves it behind, and a later one removes it
_KEYS = ("kind", "version", "layers", "files")
_FILE_KEYS = ("file", "bytes", "sha256")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def file_entries(folder: Path) -> list[dict[str, Any]]:
    """An entry for each file below ``folder`` but the manifest and ``build/``, by path."""
    entries = []
    for name in _files(folder):
        path = folder / name
        entries.append({"file": name, "bytes": path.stat().st_size, "sha256": digest(path)})
    return entries


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[str]:
    """Paths of the files of an export below ``folder``, with slashes, in order; links count as files."""
    found = []
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        if below == Path():
            folders[:] = [name for name in folders if name != BUILD]
            files = [name for name in files if name != MANIFEST]
        found += [(below / name).as_posix() for name in files]
        found += [(below / name).as_posix() for name in folders if (folder / below / name).is_symlink()]
    return sorted(found)


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the manifest, last: ``about``, and an entry for each file."""
    content = {"kind": KIND, "version": VERSION, **about, "files": file_entries(folder)}
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        ValueError: no such folder, no manifest, or one that is broken, of another kind or of another version, or
            without layers.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} must be a folder that codesign export wrote, with {MANIFEST}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be JSON ({error})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ValueError(f"kind in {path} must be {KIND!r}")
    if content.get("version") != VERSION:
        raise ValueError(f"version in {path} must be {VERSION}, not {content.get('version')!r}")
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise ValueError(f"{path} must have the keys {', '.join(missing)}")
    entries = content["files"]
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and all(key in entry for key in _FILE_KEYS) for entry in entries
    ):
        raise ValueError(f"every entry of files in {path} must have the keys {', '.join(_FILE_KEYS)}")
    for entry in entries:
        checked_path(entry["file"], path)
    _check_layers(content["layers"], path)
    return content


def _check_layers(layers: Any, manifest: Path) -> None:
    """Make sure that there is a layer, and that each has a name of its own and an identifier."""
    if not isinstance(layers, list) or not layers:
        raise ValueError(f"layers in {manifest} must be a list of at least one layer")
    seen: set[str] = set()
    for layer in layers:
        name, identifier = (layer.get(key) if isinstance(layer, dict) else None for key in ("name", "identifier"))
        if not isinstance(name, str) or not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier):
            raise ValueError(f"every layer in {manifest} must have a name and an identifier, a C identifier")
        if name in seen:
            raise ValueError(f"layers in {manifest} must have names of their own, not {name!r} twice")
        seen.add(name)


def checked_path(name: Any, manifest: Path) -> str:
    """``name`` if it stays inside its folder."""
    pure = PurePosixPath(name) if isinstance(name, str) else None
    if pure is None or pure.is_absolute() or ".." in pure.parts or "\\" in name or pure.as_posix() != name:
        raise ValueError(f"a file named in {manifest} must lie inside its folder, not {name!r}")
    return name


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files that are not as the manifest says: missing, changed, or not named in it."""
    named = {entry["file"]: entry for entry in manifest["files"]}
    there = _files(folder)
    changed = [name for name in there if name not in named]
    for name, entry in named.items():
        path = folder / name
        same = path.is_file() and path.stat().st_size == entry["bytes"] and digest(path) == entry["sha256"]
        changed += [] if same else [name]
    return sorted(changed)


def check_replaceable(folder: Path) -> None:
    """Make sure that an export may be written to ``folder``: nothing is there, an empty folder, or an unchanged export.

    Raises:
        ValueError: something else is there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"the output {folder} must be a folder, not a file or a link")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        manifest = read_manifest(folder)
    except ValueError as error:
        raise ValueError(f"the output folder {folder} must be empty or an earlier export: {error}") from None
    changed = changed_files(folder, manifest)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"the earlier export {folder} must be as it was written to be replaced, "
            f"but {changed[0]}{more} was changed or added: choose another folder, or delete this one"
        )


@contextmanager
def whole_export(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder``; on success it takes its place, on failure it is removed.

    An export that is there and equal, file by file, stays as it is, with its ``build/``; any other one is replaced.
    Success also removes what killed runs left beside ``folder``; other runs at work hold theirs by a lock.

    Raises:
        ValueError: what is there may not be replaced (``check_replaceable``).
    """
    check_replaceable(folder)
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - "." and ".." get a name, links stay links
    made = sorted(_missing_parents(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, held = _new_part(folder)
    done = False
    try:
        yield temporary
        _take_place(temporary, folder)
        done = True
        _remove_abandoned(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _release(held)
        if not done:
            for parent in reversed(made):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def _new_part(folder: Path) -> tuple[Path, int | None]:
    """A new temporary folder beside ``folder``, and what holds it."""
    while True:
        part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
        part.mkdir()
        try:
            return part, _hold(part)
        except (BlockingIOError, FileNotFoundError):  # another run took it for an abandoned one before it was held
            continue


def _hold(folder: Path) -> int | None:
    """A descriptor that holds ``folder`` until it is closed, at the latest when the process ends; ``None`` where the
    system has no such locks.

    Raises:
        BlockingIOError: another run holds it.
        FileNotFoundError: another run has removed it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()  # removed between opening and locking?
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


def _remove_abandoned(folder: Path) -> None:
    """Delete the temporary folders of ``folder`` that no run holds: those of killed runs."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}{re.escape(PART_SUFFIX)}")
    with suppress(OSError):  # a parent that cannot be listed
        for path in list(folder.parent.iterdir()):
            if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # held, gone, or somebody else's
                    held = _hold(path)
                    if held is not None:
                        shutil.rmtree(path, ignore_errors=True)
                        _release(held)


def _missing_parents(folder: Path) -> list[Path]:
    return [parent for parent in folder.parents if not parent.exists()]


def _take_place(temporary: Path, folder: Path) -> None:
    """Rename ``temporary`` to ``folder``; what was there is put back if that fails."""
    check_replaceable(folder)  # again: writing takes a while
    if not folder.is_dir():
        temporary.rename(folder)
        return
    new, old = temporary / MANIFEST, folder / MANIFEST
    if old.is_file() and old.read_bytes() == new.read_bytes():
        return
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
    held = None
    with suppress(BlockingIOError):  # so that no other run takes it for abandoned; whoever holds it does that too
        held = _hold(folder)
    try:
        folder.rename(aside)
        try:
            temporary.rename(folder)
        except BaseException:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        _release(held)
