"""Clocks and power while a kernel repeats, without a GPU: lines of nvidia-smi, rows, sentences."""

import subprocess
import sys
import time

import pytest
import torch

from kernels_gpu import bench_power, ptx
from kernels_gpu.bench_power import Sample, parse, parse_sample, report, sampled, summarize


def test_lines_of_nvidia_smi_are_read_and_others_left_out():
    assert parse_sample("1410, 721.50, 0x0000000000000004\n", 2.0) == Sample(2.0, 1410, 721.5, 4)
    assert parse_sample("1980, [N/A], 0x0000000000000000", 2.0) is None and parse_sample("", 2.0) is None


def test_a_row_tells_the_first_replays_from_the_last_and_counts_capped_samples():
    # replays every 10 ms for 2 s: 30 us for 0.2 s, then 33
    times = [(5 + i / 100, 30e-6 if i < 20 else 33e-6) for i in range(200)]
    # two samples of the first half, which do not count, and four of the second, three of them at the power limit
    samples = [Sample(5.1, 1980, 300, 0), Sample(5.5, 1900, 600, 4)]
    samples += [
        Sample(6.1 + i / 10, clock, 700 + i, 4 if i else 0x1) for i, clock in enumerate((1980, 1800, 1500, 1700))
    ]
    row = summarize("fp4_g128", times, [*samples, Sample(9, 100, 1, 4)])
    assert (row.first_us, row.last_us, row.least_us) == pytest.approx((30, 33, 30))
    assert (row.watts, row.clock_mhz, row.least_mhz, row.capped) == (701.5, 1750, 1500, 0.75)
    assert report(row).split() == ["fp4_g128", "30.00", "33.00", "30.00", "702", "1750", "1500", "75%"]
    with pytest.raises(RuntimeError, match="nvidia-smi must give samples of clocks.sm,.* while fp4_g128 runs"):
        summarize("fp4_g128", times, samples[:2])


def test_samples_grow_until_the_context_is_left(monkeypatch):
    # what stands in for nvidia-smi prints a line each 10 ms until it is ended
    lines = "import time\nwhile True: print('1980, 400.0, 0x0', flush=True); time.sleep(0.01)"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", lines], **options))
    with sampled() as found:
        deadline = time.monotonic() + 20
        while len(found) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(found) > 2 and {s.watts for s in found} == {400.0}
    ended = len(found)
    time.sleep(0.1)
    assert found[-1].at_s > found[0].at_s and len(found) == ended


def test_no_nvidia_smi_is_one_sentence(monkeypatch):
    def missing(command, **options):
        raise FileNotFoundError(2, "No such file or directory", command[0])

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(subprocess, "Popen", missing)
    with pytest.raises(RuntimeError, match="nvidia-smi must be there to read clocks and power"), sampled():
        pass


def test_the_command_line(capsys):
    given = parse(["--kernels", "read", "nf4_g64", "--shape", "4096x4096"])
    assert given.kernels == ["read", "nf4_g64"] and given.shape == (4096, 4096) and given.seconds == 1.5
    with pytest.raises(SystemExit):
        parse(["--seconds", "0"])
    assert "seconds must be 1 to 60, not 0.0" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available() or ptx.SIMULATED, reason="there is a device, or the simulator")
def test_no_device_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        bench_power.main([])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1 and "CUDA" in said.err
