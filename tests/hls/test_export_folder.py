"""Folders of exports: whole or nothing, and never over something else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hls import export_folder
from hls.export_folder import (
    MANIFEST,
    PART_SUFFIX,
    changed_files,
    check_replaceable,
    read_manifest,
    whole_export,
    write_manifest,
)


def export(folder, content="one", name="file.txt"):
    with whole_export(folder) as made:
        (made / name).write_text(content)
        (made / "deep").mkdir(exist_ok=True)
        (made / "deep" / "b.txt").write_text("b")
        write_manifest(made, {"layers": [{"name": "a", "identifier": "layer_a_x0"}]})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_manifest_names_every_file_with_its_hash(tmp_path):
    export(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert [entry["file"] for entry in manifest["files"]] == ["deep/b.txt", "file.txt"]
    # SHA-256 of "b", as sha256sum prints it
    assert manifest["files"][0] == {
        "file": "deep/b.txt",
        "bytes": 1,
        "sha256": "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d",
    }
    assert names(tmp_path) == ["out"]


def test_an_equal_export_leaves_everything_as_it_is(tmp_path):
    out = tmp_path / "out"
    export(out)
    (out / "build").mkdir()
    (out / "build" / "program").write_text("kept")
    before = (out / MANIFEST).stat().st_mtime_ns
    export(out)
    assert (out / MANIFEST).stat().st_mtime_ns == before
    assert (out / "build" / "program").read_text() == "kept"


def test_another_export_takes_the_place_of_the_earlier_one(tmp_path):
    out = tmp_path / "out"
    export(out)
    export(out, name="other.txt")
    assert names(out) == ["deep", MANIFEST, "other.txt"]
    assert names(tmp_path) == ["out"]


def test_a_folder_may_be_given_from_inside(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    export(Path())
    assert names(tmp_path) == ["empty"] and read_manifest(tmp_path / "empty")
    monkeypatch.chdir(tmp_path)
    export(Path("empty") / ".." / "other")
    assert names(tmp_path) == ["empty", "other"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interruption_leaves_nothing_new(tmp_path, interruption):
    out = tmp_path / "a" / "b" / "out"
    with pytest.raises(interruption), whole_export(out) as made:
        (made / "half.txt").write_text("half")
        raise interruption
    assert not (tmp_path / "a").exists()
    export(out)
    with pytest.raises(interruption), whole_export(out) as made:
        raise interruption
    assert (out / "file.txt").read_text() == "one" and names(out.parent) == ["out"]


needs_locks = pytest.mark.skipif(export_folder.fcntl is None, reason="no file locks here")
AT_WORK = """
import sys, time
from pathlib import Path
from hls.export_folder import whole_export

with whole_export(Path(sys.argv[1])) as made:
    (made / "half.txt").write_text("half")
    print(made.name, flush=True)
    time.sleep(60)
"""


@needs_locks
def test_the_folder_of_a_run_at_work_is_kept_and_that_of_a_killed_one_removed(tmp_path):
    out = tmp_path / "o[1]"
    strange = [f".other.{'0f' * 16}{PART_SUFFIX}", f".{out.name}.mine{PART_SUFFIX}"]
    for name in strange:
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", AT_WORK, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            part = run.stdout.readline().strip()
            export(out)
            assert names(tmp_path) == sorted([part, *strange, out.name])
        finally:
            run.kill()
    export(out)  # equal to what is there
    assert names(tmp_path) == sorted([*strange, out.name])


@needs_locks
def test_two_exports_at_once_keep_each_others_folders(tmp_path):
    out = tmp_path / "out"
    export(out)
    with whole_export(out) as slow:
        (slow / "b.txt").write_text("b")
        export(out, "two")  # another run that begins later and replaces what was there
        assert names(tmp_path) == sorted([slow.name, "out"]) and (out / "file.txt").read_text() == "two"
        write_manifest(slow, {"layers": [{"name": "b", "identifier": "layer_b_x0"}]})
    assert names(tmp_path) == ["out"] and names(out) == ["b.txt", MANIFEST]


@needs_locks
def test_a_folder_that_another_run_removes_before_it_is_held_is_made_again(tmp_path, monkeypatch):
    removed = []
    lock = export_folder.fcntl.flock

    def late(descriptor, how):
        if not removed:
            removed.extend(tmp_path.iterdir())
            shutil.rmtree(removed[0])
        lock(descriptor, how)

    monkeypatch.setattr(export_folder.fcntl, "flock", late)
    with whole_export(tmp_path / "out") as made:
        assert removed and made.is_dir() and made not in removed
        write_manifest(made, {"layers": [{"name": "a", "identifier": "layer_a_x0"}]})
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("system", ["no locks", "a file system without them"])
def test_without_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch, system):
    left = tmp_path / f".out.{'0f' * 16}{PART_SUFFIX}"
    left.mkdir()

    def refuse(descriptor, how):
        raise OSError(95, "Operation not supported")

    if system == "no locks":
        monkeypatch.setattr(export_folder, "fcntl", None)
    else:
        monkeypatch.setattr(export_folder.fcntl, "flock", refuse)
    export(tmp_path / "out")
    export(tmp_path / "out", "two")
    assert names(tmp_path) == [left.name, "out"]


def test_a_folder_of_somebody_else_is_never_touched(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="must be empty or an earlier export"):
        export(out)
    assert names(out) == ["thesis.tex"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder, not a file"):
        export(tmp_path / "file")
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(ValueError, match="not a file or a link"):
        export(tmp_path / "link")


@pytest.mark.parametrize("change", ["edited", "added", "removed", "linked"])
def test_an_export_that_was_worked_on_is_not_replaced(tmp_path, change):
    out = tmp_path / "out"
    export(out)
    if change == "edited":
        (out / "deep" / "b.txt").write_text("B")
    elif change == "added":
        (out / "notes.txt").write_text("mine")
    elif change == "removed":
        (out / "file.txt").unlink()
    else:
        (out / "elsewhere").symlink_to(tmp_path)
    name = {"edited": "deep/b.txt", "added": "notes.txt", "removed": "file.txt", "linked": "elsewhere"}[change]
    assert changed_files(out, read_manifest(out)) == [name]
    with pytest.raises(ValueError, match=f"{name} was changed or added"):
        check_replaceable(out)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "kind in"),
        ('{"kind": "other"}', "kind in"),
        ({"version": 99}, "version in .* must be 1, not 99"),
        ({"layers": None, "drop": "layers"}, "must have the keys layers"),
        ({"layers": []}, "layers in .* must be a list of at least one layer"),
        ({"layers": {"name": "a"}}, "layers in .* must be a list of at least one layer"),
        ({"layers": [{"name": "a"}]}, "must have a name and an identifier, a C identifier"),
        ({"layers": [{"name": "a", "identifier": "../a"}]}, "must have a name and an identifier, a C identifier"),
        ({"layers": [{"name": "a", "identifier": "a"}] * 2}, "must have names of their own, not 'a' twice"),
        ({"files": [{"file": "x"}]}, "every entry of files"),
        ({"files": [{"file": "../x", "bytes": 0, "sha256": ""}]}, "must lie inside its folder, not '../x'"),
        ({"files": [{"file": "/etc/passwd", "bytes": 0, "sha256": ""}]}, "must lie inside"),
        ({"files": [{"file": 3, "bytes": 0, "sha256": ""}]}, "must lie inside"),
        ({"files": [{"file": "a\\b", "bytes": 0, "sha256": ""}]}, "must lie inside"),
    ],
)
def test_a_broken_manifest_is_one_sentence(tmp_path, manifest, message):
    export(tmp_path / "out")
    path = tmp_path / "out" / MANIFEST
    if isinstance(manifest, dict):
        content = json.loads(path.read_text()) | manifest
        content.pop(content.pop("drop", ""), None)
        manifest = json.dumps(content)
    path.write_text(manifest)
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / "out")


def test_no_export_at_all(tmp_path):
    with pytest.raises(ValueError, match="must be a folder that codesign export wrote"):
        read_manifest(tmp_path)
