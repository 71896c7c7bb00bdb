"""Looking up the headers of Vitis and compiling against them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from hls import ap_types
from hls.ap_types import CompileError, ap_types_folder, compile_command, compile_program, compiler, compiler_version


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("CODESIGN_AP_TYPES", "XILINX_HLS", "CXX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_headers() -> Path:
    try:
        return ap_types_folder()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def headers(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "ap_int.h").touch()
    return folder


def test_hls4ml_is_found_but_not_imported(open_headers):
    assert (open_headers / "hls_stream.h").is_file()
    assert "hls4ml" in open_headers.parts and "hls4ml" not in sys.modules


def test_a_stated_folder_wins_then_the_environment_then_vitis(tmp_path, monkeypatch):
    stated, environment, vitis = (headers(tmp_path / name) for name in ("stated", "environment", "vitis/include"))
    monkeypatch.setenv("XILINX_HLS", str(tmp_path / "vitis"))
    assert ap_types_folder() == vitis
    monkeypatch.setenv("CODESIGN_AP_TYPES", str(environment))
    assert ap_types_folder() == environment
    assert ap_types_folder(stated) == stated


def test_a_stated_folder_without_the_header_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold ap_int\.h, not be"):
        ap_types_folder(tmp_path)


def test_without_headers_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'codesign\[hls\]'.*CODESIGN_AP_TYPES"):
        ap_types_folder()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("#!/bin/sh\necho no licence >&2\nexit 7\n", r"broken --version` with status 0, not 7: no licence"),
        ("#!/bin/sh\nexit 1\n", r"with status 0, not 1: it said nothing"),
        ("#!/no/such/shell\n", r"broken must run, which it does not: No such file"),
        ("text\n", r"broken must run, which it does not: Exec format error"),
    ],
)
def test_a_compiler_that_does_not_say_its_version(tmp_path, monkeypatch, program, message):
    broken = tmp_path / "broken"
    broken.write_text(program)
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(ValueError, match=message):
        compiler_version()


def test_without_a_compiler_the_message_names_it(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(FileNotFoundError, match=r"needs a C\+\+17 compiler.*not 'no-such-compiler'"):
        compiler()


def test_vendor_headers_are_system_headers_and_ours_are_not(open_headers, tmp_path):
    command = compile_command([tmp_path / "a.cpp"], tmp_path / "a")
    assert command[command.index("-isystem") + 1] == str(open_headers)
    assert command[command.index("-I") + 1] == str(ap_types.INCLUDE)
    assert command[-3:] == [str(tmp_path / "a.cpp"), "-o", str(tmp_path / "a")]


def test_a_program_that_does_not_compile_is_refused_with_the_first_error(open_headers, tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int main() { return nothing; }\n")
    with pytest.raises(CompileError, match=r"wrong\.cpp must compile: .*'nothing' was not declared"):
        compile_program([source], tmp_path / "wrong", flags=())
    assert not (tmp_path / "wrong").exists()
