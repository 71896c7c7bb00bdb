"""The store: what is put is got, torn files are absent, and the name is only ever a whole file."""

import json
import os
import stat

import pytest

from codesign.store import Store, canonical_json, code_fingerprint, jsonable, key_of, write_atomic


def test_what_is_put_is_got(tmp_path):
    store = Store(tmp_path / "deep" / "folder")
    key = key_of({"model": "abc", "recipe": {"bits": 4}})
    assert store.get(key) is None
    store.put(key, {"loss": 2.5, "spread": float("nan"), "windows": (1, 2)})
    assert store.get(key) == {"loss": 2.5, "spread": None, "windows": [1, 2], "key": key}


def test_key_depends_on_every_part_and_not_on_their_order():
    a = key_of({"x": 1, "y": [1, 2]})
    assert a == key_of({"y": [1, 2], "x": 1})
    assert a != key_of({"x": 1, "y": [2, 1]})
    assert a != key_of({"x": 1.5, "y": [1, 2]})


@pytest.mark.parametrize("torn", ["", "{", '{"loss": 1}', "[1, 2]", '{"key": "other"}'])
def test_a_torn_or_foreign_file_counts_as_absent(tmp_path, torn):
    store = Store(tmp_path)
    key = key_of({"a": 1})
    (tmp_path / f"{key}.json").write_text(torn)
    assert store.get(key) is None


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomic(path, b"old")

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_a_file_has_the_mode_of_new_files(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "result.json", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == mode  # 0666 less the mask


def test_a_key_that_is_a_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match="key must be letters and digits, not '../x'"):
        Store(tmp_path).get("../x")


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def test_jsonable_has_no_nan_left():
    assert (
        json.dumps(jsonable({"a": [float("inf"), (1.0, float("nan"))]}), allow_nan=False)
        == '{"a": [null, [1.0, null]]}'
    )


def test_fingerprint_follows_the_sources():
    assert code_fingerprint(("datatypes",)) == code_fingerprint(("datatypes",))
    assert code_fingerprint(("datatypes",)) != code_fingerprint(("hwmodel",))
