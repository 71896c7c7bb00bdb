"""``codesign bits``: terms of weights against Python's own count of ones."""

import json

import numpy as np
import pytest
import torch

from codesign import cli_bits
from codesign.bits import read_bits
from codesign.models import resolve_model

LAYER = "model.layers.1.mlp.up_proj"


@pytest.fixture(scope="module")
def integers(tiny_llama_dir):
    """INT4 weights of one layer in groups of 32: the largest magnitude of a group becomes 7, scales are FP16."""
    weight = resolve_model(str(tiny_llama_dir)).tensor(f"{LAYER}.weight").to(torch.float32).numpy()
    groups = weight.reshape(-1, 32)
    scales = (np.abs(groups).max(axis=1, keepdims=True) / np.float32(7)).astype(np.float16).astype(np.float32)
    return [int(v) for v in np.clip(np.rint(groups / scales), -7, 7).flat]


def test_ones_are_those_that_python_counts(run, tiny_llama_dir, integers):
    status, out, _ = run("bits", tiny_llama_dir, "-r", "int4_g32", "--layers", "--json")
    rows = {row["layer"]: row for row in json.loads(out)}
    assert status == 0 and len(rows) == 14 and rows[LAYER]["weights"] == len(integers) == 160 * 64
    assert rows[LAYER]["twos_complement"] == pytest.approx(np.mean([(v & 0xF).bit_count() for v in integers]))
    assert rows[LAYER]["sign_magnitude"] == pytest.approx(np.mean([abs(v).bit_count() for v in integers]))
    # the non-adjacent form of v has as many terms as ones in v xor 3v (Reitwiesner 1960)
    naf = [(abs(v) ^ (3 * abs(v))).bit_count() for v in integers]
    assert rows[LAYER]["naf"] == pytest.approx(np.mean(naf))


def test_alike_layers_are_one_row_unless_asked_for(run, tiny_llama_dir):
    together = json.loads(run("bits", tiny_llama_dir, "-r", "int4_g32", "--json")[1])
    assert [row["layer"] for row in together][-1] == "all" and len(together) == 8
    assert "model.layers.*.mlp.up_proj" in {row["layer"] for row in together}


def test_people_see_a_table_and_where_the_counts_are(run, tiny_llama_dir, tmp_path):
    file = tmp_path / "bits.json"
    status, out, err = run("bits", tiny_llama_dir, "-r", "int4_g32", "-o", file)
    assert status == 0 and "Terms of a weight (int4_sym)" in " ".join(out.split()) and "naf/16" in out
    assert "counts of 14 layers" in err and len(read_bits(file)) == 14
    assert [path.name for path in tmp_path.iterdir()] == ["bits.json"]


def test_an_output_that_is_a_folder_is_said_first(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_bits, "layer_bits", lambda *_, **__: pytest.fail("counted before the output was checked"))
    assert refused("bits", "anything", "-o", tmp_path) == f"the output {tmp_path} must be a file, not a folder"


def test_a_model_without_encoded_layers(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(cli_bits, "layer_bits", lambda *_, **__: iter(()))
    out = tmp_path / "bits.json"
    assert "must have encoded layers for their bits to be counted, which m has not" in refused("bits", "m", "-o", out)
    assert not out.exists()
