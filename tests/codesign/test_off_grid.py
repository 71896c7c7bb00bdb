"""The off-grid model: its parts by hand, and the built file by the SHA-256 that its README states."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.models import resolve_model
from codesign.off_grid import ADAPTER_FOLDER, OUTPUT_SHA256, build_off_grid, dither, q4_1_steps, read_adapter, rope_rows


def test_adapter_is_the_one_of_the_readme() -> None:
    adapter = read_adapter(ADAPTER_FOLDER)
    # 30 layers of 7 linear weights, two factors each; two norms a layer and the last one.
    assert len(adapter) == 30 * 7 * 2 + 30 * 2 + 1
    assert adapter["model.layers.0.mlp.up_proj.lora_A"].shape == (32, 576)
    assert adapter["model.layers.0.mlp.up_proj.lora_B"].shape == (1536, 32)


def test_adapter_that_was_changed_is_refused(tmp_path: Path) -> None:
    for path in ADAPTER_FOLDER.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes() if "00002" not in path.name else b"spoiled")
    with pytest.raises(ValueError, match=r"sha256 of .*adapter-00002-of-00003.safetensors must be 0a77205b"):
        read_adapter(tmp_path)
    (tmp_path / "adapter-00001-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match="adapter-00001-of-00003.safetensors must exist"):
        read_adapter(tmp_path)


def test_steps_are_the_first_half_of_each_block() -> None:
    # Two blocks of a row: step (half), minimum (half), 16 bytes of codes.
    row = b"".join(struct.pack("<ee", step, -1.0) + bytes(16) for step in (0.5, 0.125))
    assert q4_1_steps(np.frombuffer(row, np.uint8)[None]).tolist() == [[0.5, 0.125]]


def test_dither_stays_within_half_a_step_and_is_uniform() -> None:
    step = np.array([[1.0, 4.0]] * 2000, np.float32)
    noise = dither(step, seed=1)
    assert noise.shape == (2000, 64)
    assert np.abs(noise[:, :32]).max() <= 0.5 and 1.9 < np.abs(noise[:, 32:]).max() <= 2.0
    # Variance of a uniform step is 1/12; of 64,000 draws it is within four standard errors, sqrt(1/180/64000).
    assert noise[:, :32].var() == pytest.approx(1 / 12, abs=4 * (1 / 180 / 64000) ** 0.5)
    assert not np.array_equal(noise, dither(step, seed=2))


def test_rows_of_halves_from_pairs() -> None:
    # One head of four rows: llama.cpp stores (0, 2), (1, 3) as adjacent pairs.
    assert rope_rows(np.array([[0], [2], [1], [3]]), 1)[:, 0].tolist() == [0, 1, 2, 3]


def test_other_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be bfloat16 or float32, not torch.float16"):
        build_off_grid(tmp_path / "none.gguf", torch.float16)


@pytest.mark.slow
def test_built_file_has_the_sha256_of_the_readme() -> None:
    assert resolve_model("smollm2-135m-offgrid").hash == OUTPUT_SHA256[torch.bfloat16]


@pytest.mark.slow
def test_int4_group_32_is_no_longer_lossless() -> None:
    # README of the adapter: round-to-nearest int4, asymmetric, group 32, of all 210 weights lies in 6.06e-3..7.75e-3,
    # layer 15 down_proj 6.6e-3; zero on the weights it was made from.
    for name, low, high in (("smollm2-135m-offgrid", 6.55e-3, 6.65e-3), ("smollm2-135m", 0.0, 1e-6)):
        weight = resolve_model(name).tensor("model.layers.15.mlp.down_proj.weight").to(torch.float32)
        groups = weight.reshape(weight.shape[0], -1, 32)
        least, most = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        step = ((most - least) / 15).clamp_min(torch.finfo(torch.float32).tiny)
        error = ((groups - least) / step).round() * step + least - groups
        assert low <= float(error.square().sum() / groups.square().sum()) <= high
