"""Outputs that cannot be written are said before any work, by every command that has one."""

import os
import sys
from pathlib import Path

import pytest

from codesign.outputs import check_output_file, check_output_folder


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file must be a folder, not a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="must be where files may be written, which .*file is not"):
        check_output_folder(tmp_path / "file" / "below" / "it")
    check_output_folder(tmp_path / "new" / "folder")
    check_output_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="must be a file, not a folder"):
        check_output_file(tmp_path)
    with pytest.raises(ValueError, match="it must be where files may be written, which .*file is not"):
        check_output_file(tmp_path / "file" / "it")
    check_output_file(tmp_path / "file")
    check_output_file(tmp_path / "new" / "it")
    assert (tmp_path / "file").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_root_may_access_but_not_write_to():
    for check in (check_output_file, check_output_folder):
        with pytest.raises(ValueError, match="output /proc/x must be where files may be written, which /proc is not"):
            check(Path("/proc/x"))


def test_a_link_to_nothing_and_a_device(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    for output in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(ValueError, match="written, which the link .*link to nothing is not"):
            check_output_folder(output)
    with pytest.raises(ValueError, match=f"the output {os.devnull} must be a file, not a device or a pipe"):
        check_output_file(Path(os.devnull))


def test_relative_outputs_lie_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output_file(Path("new.csv"))
    check_output_folder(Path("new"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    for check in (check_output_file, check_output_folder):
        with pytest.raises(ValueError, match="must be where files may be written"):
            check(tmp_path / "x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "{study}", "--out", "{out}"),
        ("quantize", "no-such-model", "-r", "int4_g64", "--out", "{out}"),
        ("export", "no-such-model", "--out", "{out}"),
        ("explore", "no-such-model", "--out", "{out}.csv"),
        ("bits", "no-such-model", "--out", "{out}"),
        ("bench", "--out", "{out}"),
        ("validate", "--gpu", "--page", "{out}"),
        ("hls-report", "--export", "no-such-export", "--calibration", "{out}"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_say_it_before_they_open_anything(refused, tmp_path, arguments):
    (tmp_path / "file").write_text("mine")
    study = tmp_path / "study.yaml"
    study.write_text("name: tiny\nmodel: no-such-model\nrecipes: [fp16]\naccelerators: [bitmod]\n")
    said = refused(*(a.format(out=tmp_path / "file" / "it", study=study) for a in arguments))
    assert "must be where files may be written, which" in said and said.endswith("file is not")
