"""Safetensors files are read as they are, and damaged ones are told apart in one sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codesign.checkpoint import DTYPES, check_finite, open_checkpoint, read_header, read_json, safe_folder

A = torch.arange(6, dtype=torch.float32).reshape(2, 3)
B = torch.ones(4, dtype=torch.bfloat16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards with an index."""
    save_file({"a": A}, tmp_path / "one.safetensors")
    save_file({"b": B}, tmp_path / "two.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    return tmp_path


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_read(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert torch.equal(checkpoint.tensor("a"), A)
    assert torch.equal(checkpoint.tensor("b"), B) and checkpoint.tensor("b").dtype == torch.bfloat16
    assert checkpoint.shape("a") == (2, 3)
    with pytest.raises(ValueError, match="must hold a tensor named c"):
        checkpoint.tensor("c")


@pytest.mark.parametrize("dtype", sorted(DTYPES.values(), key=str), ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4)], ids=["matrix", "scalar", "empty"])
def test_every_dtype_is_read_as_safetensors_reads_it(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"before": A, "x": torch.ones(shape).to(dtype)}, path)
    expected = load_file(path)["x"]
    got = open_checkpoint(tmp_path).tensor("x")
    assert got.dtype == dtype and got.shape == shape
    assert torch.equal(got.to(torch.float64), expected.to(torch.float64))


def test_file_cut_after_it_was_opened(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    _ = checkpoint.shape("a")
    path = folder / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must hold all of a; the file is truncated"):
        checkpoint.tensor("a")


def test_dtype_that_torch_does_not_have(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"x")
    with pytest.raises(ValueError, match="dtype of x in .* must be one that torch has, not 'F3'"):
        open_checkpoint(tmp_path).tensor("x")


def test_missing_shard(folder: Path) -> None:
    (folder / "two.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard .*two.safetensors named by the index must exist"):
        open_checkpoint(folder)


def test_shard_without_the_tensor_it_should_hold(folder: Path) -> None:
    write_index(folder, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(ValueError, match=r"one.safetensors must hold b, as"):
        open_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../one.safetensors", "/etc/passwd"])
def test_index_stays_in_its_folder(folder: Path, shard: str) -> None:
    write_index(folder, {"a": shard})
    with pytest.raises(ValueError, match="must be a file name in the same folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_index_without_a_map(folder: Path, content: str) -> None:
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match="must have a key 'weight_map'"):
        open_checkpoint(folder)


def test_no_weights_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights must be in .*model.safetensors or in shards"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("cut", [1, 24, 60])
def test_truncated_file_says_both_sizes(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": A}, path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        ValueError, match=rf"must have \d+ bytes by its header, not {size - cut}: the file is truncated"
    ):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a safetensors file"),
        (b"version https://git-lfs", "must be a safetensors file"),
        (struct.pack("<Q", 4) + b"nope", "must have a safetensors header"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "must have a safetensors header"),
    ],
    ids=["empty", "a pointer to large storage", "not JSON", "no offsets"],
)
def test_foreign_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_header(path)


def test_pickle_of_tensors_becomes_safetensors_once(tmp_path: Path) -> None:
    torch.save({"a": A, "tied": A}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    converted = safe_folder(tmp_path)
    assert torch.equal(open_checkpoint(converted).tensor("tied"), A)
    assert (converted / "config.json").is_file()
    assert safe_folder(tmp_path) == converted
    assert safe_folder(converted) == converted


class Dangerous:
    """Its unpickling would call a function."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return print, ("ran",)


def test_pickle_of_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Dangerous()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must be a pickle of tensors alone"):
        safe_folder(tmp_path)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken"], ids=["empty", "half a zip"])
def test_broken_pickle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match="must be a") as caught:
        safe_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickle_of_something_else(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must hold a dictionary of tensors, not list"):
        safe_folder(tmp_path)


def test_finite_tensor_whose_sum_is_not_passes() -> None:
    largest = torch.full((4,), torch.finfo(torch.float64).max, dtype=torch.float64)
    assert check_finite("w", largest) is largest
    assert check_finite("i", torch.tensor([1, 2])).tolist() == [1, 2]
    assert check_finite("none", torch.empty(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_one_bad_element_is_found_in_every_dtype(dtype: torch.dtype, value: str) -> None:
    tensor = torch.ones(3, 4)
    tensor[1, 2] = float(value)
    with pytest.raises(ValueError, match=rf"weight w must be finite, not {value} at \(1, 2\) \(1 of 12 elements\)"):
        check_finite("w", tensor.to(dtype))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "must be valid JSON"), (b"[1]", "must hold a JSON object, not list"), (b"\xff\xfe", "in UTF-8")],
)
def test_bad_json(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match="must exist"):
        read_json(tmp_path / "y.json")
