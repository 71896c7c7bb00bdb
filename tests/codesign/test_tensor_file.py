"""Tensors on disk: whole or not at all."""

import pytest
import torch
from safetensors import safe_open

from codesign.tensor_file import save_tensors


def test_tensors_and_their_metadata_are_read_back(tmp_path):
    path = tmp_path / "new" / "a.safetensors"
    save_tensors({"a": torch.arange(3)}, path, {"key": "value"})
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"key": "value"}
        assert file.get_tensor("a").tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode  # safetensors 0.8 leaves its own at 0600


def test_a_disk_that_refuses_is_one_sentence_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors({"a": torch.arange(3)}, path)

    def full(tensors, filename, metadata=None):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("codesign.tensor_file.save_file", full)
    with pytest.raises(ValueError, match=r"a\.safetensors must be writable, with room on the disk \(.*No space left"):
        save_tensors({"a": torch.arange(4)}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("a").tolist() == [0, 1, 2]
