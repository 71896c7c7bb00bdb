"""Models resolve, load whole and read weight by weight alike; bad ones get one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codesign.models import resolve_model
from codesign.package_models import PACKAGE_MODELS

transformers = pytest.importorskip("transformers", reason="needs the extra codesign[models]")
FIXTURES = ("tiny_llama_dir", "tiny_gqa_dir", "tiny_moe_dir", "tiny_gpt2_dir")


@pytest.fixture
def copy(tiny_gqa_dir: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    return Path(shutil.copytree(tiny_gqa_dir, tmp_path / "copy"))


def reference(folder: Path) -> torch.nn.Module:
    """The model as transformers itself loads it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("fixture", FIXTURES)
def test_every_weight_equals_that_of_a_full_load_by_transformers(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    source = resolve_model(folder)
    expected = reference(folder).state_dict()
    assert set(source.skeleton().state_dict()) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(source.tensor(name), value, rtol=0, atol=0)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_loaded_model_computes_what_transformers_model_does(fixture: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(fixture)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        got = resolve_model(folder).load()(ids).logits
        expected = reference(folder)(ids).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_skeleton_holds_no_weights(fixture: str, request: pytest.FixtureRequest) -> None:
    skeleton = resolve_model(request.getfixturevalue(fixture)).skeleton(torch.bfloat16)
    assert all(p.is_meta and p.dtype == torch.bfloat16 for p in skeleton.parameters())
    assert not any(b.is_meta for b in skeleton.buffers())


def test_tied_embedding_is_one_tensor(tiny_gqa_dir: Path) -> None:
    model = resolve_model(tiny_gqa_dir).load()
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_blocks_are_materialized_and_released_one_at_a_time(tiny_llama_dir: Path) -> None:
    source = resolve_model(tiny_llama_dir)
    skeleton = source.skeleton()
    source.materialize(skeleton, "model.layers.1", dtype=torch.float16)
    real = {name for name, p in skeleton.named_parameters() if not p.is_meta}
    assert real and all(name.startswith("model.layers.1.") for name in real)
    assert skeleton.model.layers[1].mlp.up_proj.weight.dtype == torch.float16
    source.release(skeleton, "model.layers.1")
    assert all(p.is_meta for p in skeleton.parameters())


def test_shards_read_like_one_file(tiny_llama_dir: Path, tmp_path: Path) -> None:
    reference(tiny_llama_dir).save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    whole, sharded = resolve_model(tiny_llama_dir), resolve_model(tmp_path / "sharded")
    for name in whole.skeleton().state_dict():
        assert torch.equal(whole.tensor(name), sharded.tensor(name))
    assert whole.hash != sharded.hash


def test_base_model_names_are_found_without_their_prefix(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_gpt2_dir, tmp_path / "bare"))
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    name = "transformer.h.1.mlp.c_fc.weight"
    assert torch.equal(resolve_model(folder).tensor(name), resolve_model(tiny_gpt2_dir).tensor(name))


def test_pickled_weights_are_read_without_running_them(tiny_gqa_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_gqa_dir, tmp_path / "pickled"))
    torch.save(reference(tiny_gqa_dir).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    source = resolve_model(folder)
    for name, value in reference(tiny_gqa_dir).state_dict().items():
        assert torch.equal(source.tensor(name), value)


def test_config_alone_gives_shapes(tiny_gqa_dir: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_gqa_dir / "config.json", tmp_path)
    source = resolve_model(tmp_path / "config.json")
    assert not source.has_weights
    # 2 layers of q 64*64, k and v 32*64, o 64*64, three 160*64 and two norms; embedding 320*64 (tied); last norm.
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64 + 2 * 64
    assert sum(p.numel() for p in source.skeleton().parameters()) == 2 * layer + 320 * 64 + 64
    with pytest.raises(ValueError, match="weights must be in .*, not absent"):
        source.tensor("model.norm.weight")


def test_seventy_billion_parameters_cost_no_memory(tmp_path: Path) -> None:
    # Llama-2-70B, Touvron et al. 2023; sizes as in its config.json. 68,976,648,192 parameters.
    config = transformers.LlamaConfig(
        vocab_size=32000,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    config.save_pretrained(tmp_path)
    skeleton = resolve_model(tmp_path).skeleton()
    assert sum(p.numel() for p in skeleton.parameters()) == 68_976_648_192


def test_hash_is_the_sha256_of_the_file(tiny_gqa_dir: Path) -> None:
    import hashlib

    expected = hashlib.sha256((tiny_gqa_dir / "model.safetensors").read_bytes()).hexdigest()
    assert resolve_model(tiny_gqa_dir).hash == expected


def test_tokenizer_round_trip(tiny_gqa_dir: Path) -> None:
    tokenizer = resolve_model(tiny_gqa_dir).tokenizer()
    assert tokenizer.decode(tokenizer("the lazy dog")["input_ids"]) == "the lazy dog"


def test_missing_tokenizer_is_said(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ValueError, match="must hold a tokenizer"):
        resolve_model(copy).tokenizer()


def test_a_tokenizer_that_its_configuration_breaks_is_said(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": {}}))
    with pytest.raises(ValueError, match="must hold a tokenizer") as caught:
        resolve_model(copy).tokenizer()
    assert "\n" not in str(caught.value)


def edit_config(folder: Path, **changes: object) -> None:
    """Change keys of config.json; ``None`` removes."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "model_type"])
def test_config_without_a_needed_key(copy: Path, key: str) -> None:
    edit_config(copy, **{key: None})
    with pytest.raises(ValueError, match=f"config.json must have the key '{key}'"):
        _ = resolve_model(copy).config


def test_needed_key_is_named_as_the_model_spells_it(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_gpt2_dir, tmp_path / "copy"))
    edit_config(folder, n_embd=None)
    with pytest.raises(ValueError, match="must have the key 'n_embd'"):
        _ = resolve_model(folder).config


def test_unknown_model_type_names_the_nearest(copy: Path) -> None:
    edit_config(copy, model_type="lama")
    with pytest.raises(ValueError, match=r"not 'lama' \(nearest: llama"):
        _ = resolve_model(copy).config


def test_broken_config_names_the_line(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "llama",\n "hidden_size": }')
    with pytest.raises(ValueError, match="must be valid JSON: .* at line 2"):
        _ = resolve_model(copy).config


def test_config_that_disagrees_with_the_weights(copy: Path) -> None:
    edit_config(copy, intermediate_size=128)
    with pytest.raises(ValueError, match=r"must be \[\d+, \d+\] by the config, not \[\d+, \d+\]"):
        resolve_model(copy).tensor("model.norm.weight")


def test_sizes_that_do_not_divide_are_one_sentence(copy: Path) -> None:
    edit_config(copy, num_attention_heads=5, head_dim=None)
    with pytest.raises(ValueError, match="must be a valid llama config|must describe a model") as caught:
        resolve_model(copy).load()
    assert "\n" not in str(caught.value)


def test_weight_left_out_of_the_file(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(ValueError, match="must hold weight model.layers.1.mlp.up_proj.weight"):
        resolve_model(copy).load()


@pytest.mark.parametrize(("value", "printed"), [(float("nan"), "nan"), (float("-inf"), "-inf")])
def test_weight_that_is_not_finite(copy: Path, value: float, printed: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, copy / "model.safetensors")
    source = resolve_model(copy)
    source.tensor("model.layers.0.mlp.down_proj.weight")
    with pytest.raises(ValueError, match=rf"up_proj.weight must be finite, not {printed} at \(3, 5\) \(1 of 10240"):
        source.tensor("model.layers.0.mlp.up_proj.weight")


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="not 'smolm2-135m'; the nearest names are smollm2-135m"):
        resolve_model("smolm2-135m")
    with pytest.raises(ValueError, match="not 'xyzzy'; names are smollm2-135m-offgrid"):
        resolve_model("xyzzy")


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold config.json"):
        resolve_model(tmp_path)


def test_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="must be a GGUF file or a config.json"):
        resolve_model(tmp_path / "weights.npz")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "class_name", "parameters"),
    # parameters: counted from the packages' files when they were surveyed (millions, as printed there)
    [
        ("smollm2-135m-offgrid", "LlamaForCausalLM", 134.5),
        ("smollm2-135m", "LlamaForCausalLM", 134.5),
        ("microformer-mgm", "GPT2LMHeadModel", 8.92),
        ("all-minilm-l6-v2", "BertModel", 22.71),
        ("gemma3-270m", "Gemma3ForCausalLM", 268.1),
    ],
)
def test_packaged_model_loads(name: str, class_name: str, parameters: float) -> None:
    source = resolve_model(name)
    model = source.load(torch.bfloat16)
    assert type(model).__name__ == class_name
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)


def test_every_packaged_model_is_pinned() -> None:
    for model in PACKAGE_MODELS.values():
        assert len(model.sha256) == 64
        assert all(len(package.sha256) == 64 and package.version for package, _ in model.files)
