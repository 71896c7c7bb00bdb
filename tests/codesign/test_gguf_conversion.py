"""GGUF files: a small one written here loads to the weights it was written from; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codesign.gguf_conversion import note_first_token, open_gguf
from codesign.models import resolve_model

gguf = pytest.importorskip("gguf", reason="needs the extra codesign[models]")
HIDDEN, INNER, HEADS, VOCABULARY = 64, 96, 4, 32


@pytest.fixture(scope="module")
def weights() -> dict[str, NDArray[np.float32]]:
    """A one-layer Llama under GGUF names; no rotary permutation matters for what is compared."""
    rng = np.random.default_rng(7)
    shapes = {
        "token_embd.weight": (VOCABULARY, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        "blk.0.ffn_gate.weight": (INNER, HIDDEN),
        "blk.0.ffn_up.weight": (INNER, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, INNER),
    } | {f"blk.0.attn_{kind}.weight": (HIDDEN, HIDDEN) for kind in ("q", "k", "v", "output")}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, NDArray[np.float32]]) -> Path:
    """The weights as a GGUF file: ffn_up in Q8_0, the others in float32."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    for name, value in weights.items():
        if name == "blk.0.ffn_up.weight":
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_weights_come_out_as_they_went_in(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    source = resolve_model(path)
    down = source.tensor("model.layers.0.mlp.down_proj.weight")
    assert torch.equal(down, torch.from_numpy(weights["blk.0.ffn_down.weight"]))
    # Q8_0: 32 weights share the scale max|x| / 127, rounded to half; half a step away at most, and 2**-11 of the scale.
    up = weights["blk.0.ffn_up.weight"]
    scale = np.abs(up.reshape(INNER, -1, 32)).max(-1, keepdims=True) / 127
    error = np.abs(source.tensor("model.layers.0.mlp.up_proj.weight").numpy() - up).reshape(INNER, -1, 32)
    assert (error <= scale * (0.5 + 127 * 2.0**-11 + 1e-6)).all()
    assert source.grid == "10 F32, 1 Q8_0"


def test_config_needs_no_conversion(path: Path) -> None:
    config = resolve_model(path).config
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (HIDDEN, INNER, 1)


def test_second_time_comes_from_the_cache(path: Path) -> None:
    folder = resolve_model(path).folder
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(path).folder == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_gguf_without_a_tokenizer_says_so(path: Path) -> None:
    with pytest.raises(ValueError, match="must hold a tokenizer"):
        resolve_model(path).tokenizer()


@pytest.mark.parametrize("says", [True, False, None])
def test_what_the_file_says_of_a_first_token_is_kept(tmp_path: Path, says: bool | None) -> None:
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    if says is not None:
        writer.add_add_bos_token(says)
    writer.add_tensor("a", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reader = open_gguf(tmp_path / "small.gguf")
    note_first_token(reader, tmp_path)
    config = tmp_path / "tokenizer_config.json"
    assert not config.exists(), "a file without a tokenizer gets none"
    config.write_text('{"bos_token": "<s>"}')
    note_first_token(reader, tmp_path)
    expected = {"bos_token": "<s>"} | ({} if says is None else {"add_bos_token": says})
    assert json.loads(config.read_text()) == expected
    config.write_text('{"add_bos_token": true}')
    note_first_token(reader, tmp_path)
    assert json.loads(config.read_text()) == {"add_bos_token": True}, "what is there already stays"


@pytest.mark.parametrize("kept", [0.9, 0.05])
def test_truncated_file(path: Path, tmp_path: Path, kept: float) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match="must be a whole GGUF file") as caught:
        resolve_model(cut)
    assert "\n" not in str(caught.value)


def test_architecture_that_is_not_known(tmp_path: Path) -> None:
    strange = tmp_path / "strange.gguf"
    writer = gguf.GGUFWriter(strange, "no-such-architecture")
    writer.add_tensor("a", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="must be of an architecture that transformers can read"):
        _ = resolve_model(strange).config
    with pytest.raises(ValueError, match="must be a decoder that transformers can read"):
        _ = resolve_model(strange).folder
