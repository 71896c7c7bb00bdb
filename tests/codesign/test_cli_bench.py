"""The command that times kernels: what it writes, and every way it refuses; the timing itself is stood in for."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from codesign import cli_bench
from codesign.cli import main
from codesign.gpu_records import read_measurements
from codesign.gpu_truth import comparison
from hwmodel.report import Measurement


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, arguments)])
    return ended.value.code


@dataclass(frozen=True)
class Row:
    """A timed kernel as the benchmark returns it."""

    kernel: str
    m: int
    n: int
    k: int
    median_us: float = 4.0
    bound_us: float = 2.0
    spread: float = 0.01
    worst_error: float = 0.5

    @property
    def of_bound(self):
        return self.bound_us / self.median_us


def benchmark(rows):
    """Stands for ``kernels_gpu.bench_gemv`` where there is no GPU."""

    def record(row, conditions, device):
        return Measurement(row.kernel, (row.m, row.k, row.n), device, row.median_us / 1e6, 30, conditions, "test")

    return SimpleNamespace(
        SHAPES=((64, 256),), run=lambda asked, cuts, rate: rows(asked), copy_bytes_per_s=lambda: 3e12,
        device_facts=lambda: SimpleNamespace(name="NVIDIA H100 80GB HBM3", l2_bytes=50 << 20, driver="580"),
        measurement=record, conditions=lambda rate: {"copy_bytes_per_s": str(rate), "driver": "580"},
    )  # fmt: skip


def timed(asked):
    return [Row(name, m, n, k) for name in asked.recipes for n, k in asked.shapes for m in asked.tokens]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(cli_bench, "load_benchmark", lambda: benchmark(timed))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80e9, 80e9))


def test_records_say_what_they_depend_on(gpu, tmp_path, capsys):
    out = tmp_path / "h100.json"
    code = run(
        "--out", out, "-r", "int4_g128", "-r", "int8", "--shape", "64x256", "--tokens", 1, "--tokens", 4, "--json"
    )
    assert code == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    found = read_measurements(out)
    assert [(r.name, r.shape) for r in found] == [
        ("int4_g128", (1, 256, 64)), ("int4_g128", (4, 256, 64)), ("int8", (1, 256, 64)), ("int8", (4, 256, 64)),
    ]  # fmt: skip
    assert found[0].conditions == {"copy_bytes_per_s": "3000000000000.0", "driver": "580"}
    assert [p.name for p in tmp_path.iterdir()] == ["h100.json"]


def test_a_mistake_is_one_sentence_and_writes_nothing(gpu, tmp_path, capsys, monkeypatch):
    out = tmp_path / "x.json"
    for arguments, sentence in {
        ("-r", "int4"): "recipe of a GPU kernel must be one of int4_g128",
        ("--shape", "4096"): "shape must be NxK, as 4096x4096, not '4096'",
        ("--shape", "0x8"): "shape must be NxK",
        ("--tokens", "17"): "--tokens",
    }.items():
        assert run("--out", out, *arguments) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
    assert run("--out", tmp_path) == 2
    assert "must be a file, not a folder" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (4e9, 80e9))
    assert run("--out", out) == 2
    assert "must be at least 8.6 GB for these shapes, not 4.0" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (80e9, 80e9))
    monkeypatch.setattr(cli_bench, "load_benchmark", lambda: benchmark(lambda asked: []))
    assert run("--out", out) == 2
    assert "at least one kernel must run and be right" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_without_what_it_needs_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("--out", tmp_path / "x.json") == 2
    assert "codesign bench must find a CUDA GPU and its driver" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def missing(module):
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr("codesign.extras.importlib.import_module", missing)
    with pytest.raises(
        ValueError, match=r"cuda.bindings must be installed for this: run pip install 'codesign\[gpu\]'"
    ):
        cli_bench.load_benchmark()


def test_too_old_a_driver_is_the_launchers_sentence(monkeypatch):
    def refuse():
        raise RuntimeError("numba must be able to compile and run a kernel")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cli_bench, "require", lambda module, extra: None)
    monkeypatch.setattr(cli_bench.importlib, "import_module", lambda name: SimpleNamespace(require_cuda=refuse))
    with pytest.raises(ValueError, match="numba must be able to compile and run a kernel"):
        cli_bench.load_benchmark()


def test_memory_of_the_largest_shape_counts():
    assert cli_bench.memory_needed([(64, 64)], 50 << 20) == 2 << 32  # the copy of 4 GiB
    assert cli_bench.memory_needed([(28672, 8192), (1, 1)], 0) == 2 << 32
    assert cli_bench.memory_needed([(28672 * 4, 8192)], 1) == 32 * 28672 * 4 * 8192 + 5


@pytest.mark.gpu
def test_a_kernel_is_timed_on_the_device_and_compared(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("a CUDA device is needed")
    out = tmp_path / "own.json"
    assert run("--out", out, "-r", "int4_g128", "--shape", "4096x4096", "--no-others") == 0
    found = comparison((out,)).rows.iloc[-1]
    assert (found["format"], found["use"]) == ("int4_g128", "not fitted")
    assert found["roofline_us"] < found["measured_us"]
