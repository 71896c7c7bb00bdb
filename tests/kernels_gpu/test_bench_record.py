"""What benchmarks write: records of timed kernels, and files of them."""

import argparse
import json
import os
import signal
import time
from dataclasses import asdict

import pytest
import torch

from kernels_gpu import bench_record
from kernels_gpu.bench_record import (
    Row,
    checked,
    exit_without_cuda,
    gather,
    measurement,
    shape_argument,
    table,
    write_json,
)
from kernels_gpu.shape_text import parse_shape

ROW = Row("int4", 2, 4096, 1024, "8x2x1x0", 2 << 20, 0.7, 1.4, 0.0125, 0.25, 64)


def test_a_record_says_what_its_time_depends_on():
    made = measurement(ROW, (2, 1024, 4096), {"cut": "whole"}, common={"driver": "580"}, device="H100", source="here")
    assert (made.name, made.shape, made.device, made.source) == ("int4", (2, 1024, 4096), "H100", "here")
    assert abs(made.seconds - 1.4e-6) < 1e-18 and made.repeats == 30
    assert made.conditions == {
        "driver": "580",
        "bytes": "2097152",  # 2 * 2**20
        "bound_us": "0.700",
        "quartiles_over_median": "0.0125",
        "cut": "whole",
        "registers": "64",
    }


def test_a_table_has_a_line_for_each_row():
    head, line = table([ROW]).splitlines()
    assert len(head) == len(line)
    assert line.split() == ["int4", "2", "4096x1024", "8x2x1x0", "1.40", "1.2%", "0.70", "50.0%", "0.25", "64"]


def test_a_shape_of_the_command_line_says_what_codesign_bench_says():
    assert shape_argument("11008x4096") == parse_shape("11008x4096") == (11008, 4096)
    for wrong in ("4096", "0x8", "-1x8", "8x"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"shape must be NxK, as 4096x4096, not '{wrong}'"):
            shape_argument(wrong)


def test_a_file_is_written_whole(tmp_path):
    write_json(tmp_path / "rows.json", [asdict(ROW)])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]
    assert json.loads((tmp_path / "rows.json").read_text()) == [asdict(ROW)]


def test_results_of_two_launches_are_checked():
    expected, allowed = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[0.5, 0.25]]).double()
    near, far = torch.tensor([[1.125, 2.125]]), torch.tensor([[1.0, 2.5]])
    assert checked([near, near], expected, allowed) == 0.5  # 0.125 of 0.25
    for outs, message in (
        ([far, far], "not 2 times"),
        ([torch.full_like(near, float("nan"))] * 2, "not inf times"),
        ([near, near.clone().fill_(1.0)], "two launches must agree"),
    ):
        with pytest.raises(AssertionError, match=message):
            checked(outs, expected, allowed)


def test_rows_are_printed_as_they_come_and_kept_when_stopped(capsys):
    def rows(stop):
        yield ROW
        if stop is not None:
            os.kill(os.getpid(), stop)
            time.sleep(10)
        yield ROW

    assert gather(rows(None)) == ([ROW, ROW], 0)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "kernel" and len(lines) == 2
    before = [signal.getsignal(stop) for stop in (signal.SIGTERM, signal.SIGINT)]
    for stop in (signal.SIGTERM, signal.SIGINT):
        assert gather(rows(stop)) == ([ROW], 130)
        told = capsys.readouterr()
        assert len(told.out.splitlines()) == 2 and told.err == "stopped after 1 rows\n"
    assert [signal.getsignal(stop) for stop in (signal.SIGTERM, signal.SIGINT)] == before
    assert gather([]) == ([], 1)  # nothing was measured
    assert gather([3], "number", str) == ([3], 0)
    assert capsys.readouterr().out.splitlines()[-2:] == ["number", "3"]


def test_too_little_memory_is_a_sentence_and_code_2(monkeypatch, capsys):
    monkeypatch.setattr(bench_record, "require_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Small")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4e9, 8e9))
    with pytest.raises(SystemExit) as stopped:
        exit_without_cuda()
    said = "free memory of NVIDIA Small must be at least 8.6 GB for the copy that bounds the kernels, not 4.0\n"
    assert stopped.value.code == 2 and capsys.readouterr().err == said  # two buffers of 2**32 bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (9e9, 9e9))
    exit_without_cuda()
