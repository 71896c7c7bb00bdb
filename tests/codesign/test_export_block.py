"""Blocks of models for export: which families are taken, and the one sentence for those that are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from codesign.algorithms.rtn import RoundToNearest
from codesign.block_calls import Call
from codesign.blocks import BlockModel
from codesign.cli import main
from codesign.export_block import _check_all_seen, block_of_model, golden_inputs
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantized_folder import QuantizedModel, load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import recipe

SIZES = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 64, "tie_word_embeddings": True,
}  # fmt: skip
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, 320, (1, 10)))


def quantized(model: object, folder: Path) -> QuantizedModel:
    source, chosen = resolve_model(model), recipe("int8_channel")
    jobs = {layer: LayerJob(RoundToNearest(), chosen.linear) for layer in BlockModel(source).layer_names()}
    return load_quantized(quantize_model(source, QuantizationJob("int8_channel", jobs), folder).folder)


def family(folder: Path, name: str, **more: object) -> QuantizedModel:
    """A small model of one of transformers' families, its weights of a size that makes every part of it count."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **more})
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
        else:
            nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder / "plain")
    return quantized(folder / "plain", folder / "quantized")


SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
TAKEN = {
    "llama_with_stretched_angles": ("Llama", {"rope_parameters": SCALED}),
    "llama_with_biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    # dynamic angles are the plain ones up to the trained length
    "llama_with_wide_heads": ("Llama", {"head_dim": 20, "rope_parameters": DYNAMIC}),
    "qwen2": ("Qwen2", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral_with_a_window_of_all_positions": ("Mistral", {"sliding_window": 10}),
}
REFUSED = {
    "qwen3": ("Qwen3", {"head_dim": 12}, "seven linear layers and two norms, not self_attn.q_norm"),
    "phi3": ("Phi3", {"pad_token_id": 0}, "must be of Llama's kind to be exported .* but it has no self_attn.q_proj"),
    "gemma": ("Gemma", {"head_dim": 12, "hidden_act": "gelu_pytorch_tanh"}, "must have the activation SiLU, not GELU"),
    "gemma_with_silu": ("Gemma", {"head_dim": 12, "hidden_act": "silu"}, "must compute what a Llama block does"),
    "mistral_with_a_window": (
        "Mistral",
        {"sliding_window": 9},  # of 10 positions
        "sliding_window of .* must be at least the 10 positions of block model.layers.1 .* not 9: fewer",
    ),
    "qwen2_with_a_window_in_its_second_block": (
        "Qwen2",
        {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1},
        "sliding_window of .* must be at least the 10 positions of block model.layers.1 .* not 4: fewer",
    ),
    "granite_scaling_residuals": ("Granite", {"residual_multiplier": 0.5}, "must compute what a Llama block does"),
    "llama_beyond_what_dynamic_angles_leave": (
        "Llama",
        {"rope_parameters": DYNAMIC, "max_position_embeddings": 8},
        "must turn a position by the same angles however many follow, not by others where there are 10: fewer",
    ),
    "stablelm_turning_part_of_a_head": ("StableLm", {}, "input_layernorm of block model.layers.1 must be an RMSNorm"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_relatives_of_llama_are_taken(tmp_path: Path, name: str) -> None:
    model, more = TAKEN[name]
    made, x = block_of_model(family(tmp_path, model, **more), 1, IDS, tokens=4)
    assert (made.heads, made.kv_heads, made.head_dim) == (4, 2, more.get("head_dim", 12))
    assert x.shape == (4, 48) and x.dtype == np.float32 and made.positions == 10
    # Qwen2 has biases in q, k and v (Qwen2 Technical Report, arXiv 2407.10671, section 2.2.1); Llama's are optional
    expected = {"llama_with_biases": 7, "qwen2": 3}.get(name, 0)
    assert len(made.biases) == expected and all(bias.any() for bias in made.biases.values())


@pytest.mark.parametrize("name", REFUSED)
def test_other_families_are_refused(tmp_path: Path, name: str) -> None:
    model, more, message = REFUSED[name]
    with pytest.raises(NotImplementedError, match=message):
        block_of_model(family(tmp_path, model, **more), 1, IDS, tokens=4)


def test_a_mask_of_another_kind_is_no_window() -> None:
    block = nn.ModuleDict({"self_attn": nn.Identity()})
    mask = torch.zeros(1, 1, 3, 3).masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), -torch.inf)
    for allowed in (None, mask, mask == 0, torch.ones(1, 3)):
        _check_all_seen("model", block, "a", Call((), {"attention_mask": allowed}))
    mask[..., 2, 0] = torch.finfo(torch.float32).min
    message = "block a must attend to all of its 3 positions to be exported, not to at most 2"
    with pytest.raises(NotImplementedError, match=message):
        _check_all_seen("model", block, "a", Call((), {"attention_mask": mask}))


def test_the_first_token_turns_by_nothing(tmp_path: Path, tiny_gqa_dir: Path) -> None:
    """Angles of position p and pair i are p / theta**(2 i / head_dim) (RoFormer, section 3.2.2), theta 10,000."""
    made, _ = block_of_model(quantized(tiny_gqa_dir, tmp_path / "model"), 0, IDS, tokens=1)
    angle = np.arange(10)[:, None] / 1e4 ** (2 * np.arange(8) / 16)
    # the angle is rounded to float32, at most 10 units of 2**-24 away, as are cosine and sine
    np.testing.assert_allclose(made.cosine, np.cos(angle), atol=32 * 2.0**-24)
    np.testing.assert_allclose(made.sine, np.sin(angle), atol=32 * 2.0**-24)
    assert made.scaling == 0.25 and not made.sine[0].any()


def test_what_enters_a_block_depends_on_the_seed(tmp_path: Path, tiny_gqa_dir: Path) -> None:
    model = quantized(tiny_gqa_dir, tmp_path / "model")
    drawn = [golden_inputs(model, "seeded", positions=6, tokens=2, seed=seed).ids for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert int(drawn[0].max()) < 320


# --- the command -----------------------------------------------------------------------------------------------------


def refused(model: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one sentence of a mistake; nothing is written."""
    with pytest.raises(SystemExit) as stop:
        main(["export", str(model), "--positions", "8", "--out", str(out), *more])
    said = capsys.readouterr()
    assert stop.value.code == 2 and said.out == "" and len(said.err.strip().splitlines()) == 1, said.err
    assert not out.exists()
    return said.err


def test_what_is_no_block(tmp_path: Path, tiny_gqa_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = quantized(tiny_gqa_dir, tmp_path / "model").folder
    out = tmp_path / "out"
    assert "block must be 0 to 1, not 2" in refused(model, out, capsys, "--block", "2")
    assert "layers must not be chosen beside block 0" in refused(model, out, capsys, "--block", "0", "-l", "*")
    assert "tokens of a block must be 1 to its 8 positions, not 9" in refused(
        model, out, capsys, "--block", "0", "--tokens", "9"
    )


def test_blocks_of_other_families(
    tmp_path: Path, tiny_gpt2_dir: Path, tiny_moe_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpt2 = quantized(tiny_gpt2_dir, tmp_path / "gpt2").folder
    said = refused(gpt2, tmp_path / "out", capsys, "--block", "0")
    assert "block transformer.h.0 must be of Llama's kind to be exported" in said and "input_layernorm" in said
    moe = quantized(tiny_moe_dir, tmp_path / "moe").folder
    assert "but it has no mlp.gate_proj" in refused(moe, tmp_path / "out", capsys, "--block", "0")
