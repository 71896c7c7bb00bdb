"""What the commands on FPGAs give to their work: every option, and what an export is unless one says otherwise."""

from pathlib import Path

import pytest

from codesign import commands_fpga
from hls.csim import MAX_WORKERS
from hls.layer_options import ON_CHIP_BYTES, IntMapping, LayerOptions


def test_an_export_is_by_default_what_a_layer_is(given):
    found = given("cli_export.export", "export", "model", "--out", "there")
    options = LayerOptions()
    assert (found["lanes"], found["rows"], found["mapping"]) == (options.lanes, options.tile_rows, options.mapping)
    assert found["accumulator"] == "e{}m{}".format(*options.accumulator)
    assert found["runtime_formats"] is options.runtime_formats and found["on_chip"] == ON_CHIP_BYTES
    assert (found["model"], found["out"], found["layers"]) == ("model", Path("there"), ())
    unsaid = ("block", "positions", "accelerator", "clock", "calibration")
    assert {name: found[name] for name in unsaid} == dict.fromkeys(unsaid)
    assert found["device"] == commands_fpga.fpga.__defaults__[1]  # the board that codesign fpga starts from


def test_every_option_of_an_export_arrives(given):
    found = given(
        "cli_export.export", "export", "model", "-o", "there", "-l", "a", "-l", "b.*", "--block", 1, "--positions", 32,
        "-a", "bitmod", "-d", "zcu104", "--clock", 250.5, "--lanes", 4, "--rows", 2, "--accumulator", "e5m10",
        "--mapping", "dsp_pair", "--runtime-formats", "--tokens", 3, "--inputs", "lambada", "--seed", 7,
        "--on-chip", 0, "--calibration", "mine.json", "--json",
    )  # fmt: skip
    assert found == {
        "model": "model", "out": Path("there"), "layers": ["a", "b.*"], "block": 1, "positions": 32,
        "accelerator": "bitmod", "device": "zcu104", "clock": 250.5, "lanes": 4, "rows": 2, "accumulator": "e5m10",
        "mapping": IntMapping.DSP_PAIR, "runtime_formats": True, "tokens": 3, "inputs": "lambada", "seed": 7,
        "on_chip": 0, "calibration": Path("mine.json"), "as_json": True,
    }  # fmt: skip


@pytest.mark.parametrize("status", [0, 1])
def test_csim_ends_as_its_work_does(given, status):
    found = given("cli_csim.csim", "csim", "export", status=status)
    assert found == {
        "folder": Path("export"), "layers": (), "workers": MAX_WORKERS, "mismatches": 10, "ap_types": None,
        "as_json": False,
    }  # fmt: skip


def test_more_compilers_than_memory_is_for_are_refused(refused):
    assert "--workers" in refused("csim", "export", "--workers", MAX_WORKERS + 1)


def test_reports_come_as_files_or_with_their_export(given):
    found = given("cli_hls_report.hls_report", "hls-report", "a.xml", "b.rpt", "--clock", 300)
    assert found == {
        "files": [Path("a.xml"), Path("b.rpt")], "export": None, "calibration": None, "clock": 300.0, "as_json": False,
    }  # fmt: skip
    found = given("cli_hls_report.hls_report", "hls-report", "--export", "e", "--calibration", "c.json", "--json")
    assert found == {
        "files": (), "export": Path("e"), "calibration": Path("c.json"), "clock": None, "as_json": True,
    }  # fmt: skip


def test_an_accelerator_is_put_on_a_board(given):
    found = given("cli_fpga.fpga", "fpga", "-a", "bismo", "-d", "zcu104", "--dsp", "--calibration", "c.json", "--json")
    assert found == {
        "accelerator": "bismo", "device": "zcu104", "dsp": True, "calibration": Path("c.json"), "as_json": True,
    }  # fmt: skip
