"""Writing is whole or nothing; hashes follow the bytes."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import pytest

from codesign.cache import cache_dir, sha256_of_file, whole_file, whole_folder


def test_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "here"))
    assert cache_dir("models") == tmp_path / "here" / "models"
    assert cache_dir("models").is_dir()


def test_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="interrupted"), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_renames_a_private_file_of_its_own(tmp_path: Path) -> None:
    """As safetensors 0.8 does: whoever may read new files here may read this one."""
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "result") as temporary:
            handle, own = tempfile.mkstemp(dir=tmp_path)  # mode 0600
            os.close(handle)
            Path(own).replace(temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result").stat().st_mode) == 0o640  # 0666 less the mask


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"), whole_folder(tmp_path / "result") as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError("interrupted")
    assert list(tmp_path.iterdir()) == []


def test_first_of_two_writers_wins(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "result") as slow:
        (slow / "who").write_text("slow")
        with whole_folder(tmp_path / "result") as fast:
            (fast / "who").write_text("fast")
    assert (tmp_path / "result" / "who").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [tmp_path / "result"]


def test_remembered_hash_is_not_used_for_changed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        os.utime(path, ns=(0, int.from_bytes(content, "big")))
        for _ in range(2):
            assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()
