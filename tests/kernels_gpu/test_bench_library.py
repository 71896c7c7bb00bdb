"""Calls that are timed: each takes the next of its buffers, and computes what its row of the table says."""

from pathlib import Path

import pytest
import torch

from kernels_gpu.bench_library import COLUMNS, _attention, _in_turn, _sums, main, write_table


def test_buffers_take_turns() -> None:
    inputs = [torch.tensor([float(i)]) for i in (1, 10, 100)]
    twice = _in_turn(inputs, lambda x: 2 * x)
    assert [float(twice(i)) for i in range(4)] == [2.0, 20.0, 200.0, 2.0]  # type: ignore[arg-type]
    assert [float(_sums(inputs)(i)) for i in range(3)] == [11.0, 110.0, 101.0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("heads", "queries"), [(2, 3), (4, 3), (4, 1)], ids=["prefill", "grouped", "decode"])
def test_attention_is_softmax_of_scores(heads: int, queries: int) -> None:
    """By its definition (Vaswani et al. 2017, section 3.2.1), head by head in float64."""
    kv_heads, context = 2, 3
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, heads, queries, 8, generator=generator, dtype=torch.float64)
    caches = [torch.randn(2, 1, kv_heads, context, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    for i in range(3):
        made = _attention(q, caches)(i)
        assert isinstance(made, torch.Tensor)
        key, value = caches[i % 2]
        for head in range(heads):
            shared = head * kv_heads // heads
            scores = q[0, head] @ key[0, shared].T / 8**0.5
            if queries > 1:  # a prompt's token sees none after it
                scores = scores.masked_fill(torch.ones(queries, context).triu(1).bool(), -torch.inf)
            assert torch.allclose(made[0, head], scores.softmax(-1) @ value[0, shared], atol=1e-12)


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "library_h100.csv"
    write_table(path, [{"kind": "gemm", "m": 1, "us": 2.5, "kernels": "a, b"}])
    first = f"{','.join(COLUMNS)}\n" + 'gemm,1,,,,,2.5,,,"a, b"\n'  # RFC 4180: a comma asks for quotes
    assert path.read_bytes() == first.encode()
    with pytest.raises(ValueError, match="kin"):  # of a name that is no column
        write_table(path, [{"kind": "add"}, {"kin": "gemm"}])
    assert path.read_bytes() == first.encode()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_a_sentence_and_code_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench_library", "--output", str(tmp_path / "rows")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and not list(tmp_path.iterdir())
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("a CUDA device and its driver must be there to time its library; torch ")
