"""The walk, block by block, against transformers' own whole-model forward pass."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from codesign.blocks import BlockModel, find_blocks
from codesign.models import resolve_model

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
}
# Each differs from the others in what a block is called with, what it returns, or what follows the last one.
FAMILIES = {
    "gemma3, sliding and full layers": (
        "Gemma3TextConfig",
        {**SIZES, "head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
        | {"num_hidden_layers": 4},
    ),
    "gemma2, soft-capped logits": ("Gemma2Config", {**SIZES, "head_dim": 16, "sliding_window": 8}),
    "opt, projections around the blocks": (
        "OPTConfig",
        {"hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 128}
        | {"word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "bloom, alibi": ("BloomConfig", {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 128}),
    "granite, scaled logits": ("GraniteConfig", {**SIZES, "logits_scaling": 3.0}),
    "gpt-oss, transposed experts and sinks": (
        "GptOssConfig",
        {**SIZES, "head_dim": 16, "num_local_experts": 4, "sliding_window": 8},
    ),
    "deepseek-v3, first block dense, router bias buffers": (
        "DeepseekV3Config",
        {"hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "num_hidden_layers": 3}
        | {"num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1}
        | {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 16}
        | {"qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 8, "vocab_size": 128},
    ),
    "mamba, no attention": ("MambaConfig", {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 128}),
}


def walk(model: BlockModel, batches: list[torch.Tensor]) -> torch.Tensor:
    stream = model.embed(batches)
    for index in range(len(model)):
        with model.block(index) as block:
            model.advance(stream, index, block)
    with torch.no_grad():
        return torch.cat([model.logits(hidden) for hidden in stream.hidden])


def tokens(vocabulary: int, rows: int = 3, length: int = 20) -> torch.Tensor:
    return torch.randint(0, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fixture", ["tiny_llama_dir", "tiny_gqa_dir", "tiny_gpt2_dir", "tiny_moe_dir"])
def test_walk_gives_the_logits_of_the_whole_model(fixture, request):
    transformers = pytest.importorskip("transformers")
    folder = request.getfixturevalue(fixture)
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokens(whole.config.vocab_size)
    model = BlockModel(resolve_model(folder))
    assert len(model) == 2
    with torch.no_grad():
        expected = whole(ids, use_cache=False).logits
    assert torch.equal(walk(model, [ids]), expected)
    # in two batches matrix products may round differently: float32 epsilon times the longest sum, generously 160 terms
    torch.testing.assert_close(walk(model, [ids[:2], ids[2:]]), expected, rtol=0, atol=160 * 1.2e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_walk_gives_the_logits_of_the_whole_model_in_every_family(family, tmp_path):
    transformers = pytest.importorskip("transformers")
    name, sizes = FAMILIES[family]
    torch.manual_seed(1)
    made = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes)).eval()
    with torch.no_grad():
        for tensor in made.state_dict().values():  # parameters and buffers alike, so that none can be forgotten
            if tensor.dtype == torch.float32:
                tensor.add_(0.05 * torch.randn_like(tensor))
    made.save_pretrained(tmp_path)
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = tokens(128)
    with torch.no_grad():
        expected = whole(ids, use_cache=False).logits
    model = BlockModel(resolve_model(tmp_path))
    assert not model.whole and len(model) == sizes.get("num_hidden_layers", sizes.get("n_layer"))
    assert torch.equal(walk(model, [ids]), expected)


def test_blocks_have_no_weights_before_and_after(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    with model.block(1) as block:
        assert not any(p.is_meta for p in block.parameters())
    for block in find_blocks(model.model)[1]:
        assert all(p.is_meta for p in block.parameters())


def test_layers_can_be_left_out_of_loading(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    name = "model.layers.0.mlp.up_proj"
    with model.block(0, without={name}) as block:
        assert [p for p, value in block.named_parameters() if value.is_meta] == ["mlp.up_proj.weight"]


def test_what_is_replaced_inside_a_block_is_gone_afterwards(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    with model.block(0) as block:
        block.mlp.up_proj = nn.Identity()
        block.self_attn.q_proj.weight = nn.Parameter(torch.zeros(64, 64))
    with model.block(0) as block:
        assert isinstance(block.mlp.up_proj, nn.Linear)
        assert block.self_attn.q_proj.weight.abs().sum() > 0


def test_outer_slots_are_those_outside_the_blocks(tiny_llama_dir):
    model = BlockModel(resolve_model(tiny_llama_dir))
    assert [slot.name for slot in model.outer_slots()] == ["model.embed_tokens", "lm_head"]
    assert len(model.layer_names()) == 14


def test_the_outer_list_is_chosen_over_lists_inside_it():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    model = nn.Module()
    model.small = nn.ModuleList([nn.Linear(4, 4)])
    model.layers = nn.ModuleList([Block()])
    path, blocks = find_blocks(model)
    assert path == "layers" and blocks is model.layers


def test_a_model_without_blocks_is_walked_whole():
    class Source:
        name = "two linears"

        def __init__(self):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))

        def skeleton(self):
            return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to("meta")

        def tensor(self, name):
            return self.model.state_dict()[name]

    source = Source()
    model = BlockModel(source)
    assert model.whole and model.layer_names() == ["0", "2"]
    stream = model.embed([torch.eye(4)])
    with model.block(0) as block:
        assert not any(p.is_meta for p in block.parameters())
        torch.testing.assert_close(block(stream.hidden[0]), source.model(torch.eye(4)))


def test_an_encoder_decoder_has_slots_but_is_not_run(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, vocab_size=64)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    model = BlockModel(resolve_model(tmp_path))
    assert model.whole and "encoder.block.0.layer.0.SelfAttention.q" in model.layer_names()
    with pytest.raises(NotImplementedError, match="must be a decoder or an encoder alone to be run"):
        model.embed([tokens(64)])


def test_a_weight_of_another_shape_is_refused(tiny_gqa_dir):
    class Wrong:
        name = "wrong"

        def __init__(self, source):
            self.skeleton = source.skeleton

        def tensor(self, name):
            return torch.zeros(3)

    with pytest.raises(ValueError, match=r"weight model\.embed_tokens\.weight must have shape \(320, 64\), not \(3,\)"):
        BlockModel(Wrong(resolve_model(tiny_gqa_dir)))


MEASURE = """
import sys, torch
from pathlib import Path
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.accuracy import reference, perplexity

def anonymous_kib(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])

source = resolve_model(sys.argv[1])
source.skeleton(); source.weight_map
windows = torch.randint(0, 512, (4, 256), generator=torch.Generator().manual_seed(0))
torch.ones(64, 64) @ torch.ones(64, 64)
peak = 0
before = anonymous_kib("RssAnon")

def sample(what, done, total):
    global peak
    peak = max(peak, anonymous_kib("RssAnon"))

model = BlockModel(source)
base = reference(model, windows, steps=sample)
sample("", 0, 0)
perplexity(model, windows, {}, base=base, steps=sample)
sample("", 0, 0)
print((peak - before) * 1024, model.bound_bytes(windows.numel(), 2048))
"""


@pytest.mark.slow
def test_memory_of_a_walk_stays_within_the_stated_bound(tmp_path):
    transformers = pytest.importorskip("transformers")
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    config = transformers.LlamaConfig(
        **SIZES | {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 24, "vocab_size": 512}
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    weights_bytes = 24 * 4 * (2 * 1024 * 1024 + 2 * 1024 * 512 + 3 * 1024 * 2752)  # q, o; k, v; gate, up, down
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    grown, bound = map(int, done.stdout.split())
    assert grown < bound < weights_bytes


def test_integers_where_a_weight_should_be_are_refused(tiny_gqa_dir, tmp_path):
    folder = tmp_path / "encoded"
    shutil.copytree(tiny_gqa_dir, folder)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**weights, name: weights[name].to(torch.int8)}, folder / "model.safetensors")
    model = BlockModel(resolve_model(folder))
    with pytest.raises(ValueError, match=rf"weight {re.escape(name)} must be of a floating-point type, not torch.int8"):
        model.embed([torch.zeros(1, 4, dtype=torch.int64)])


@pytest.mark.parametrize(("tokens", "highest"), [(257, 0), (4, 320)], ids=["too long", "beyond the vocabulary"])
def test_windows_beyond_the_tables_of_a_model_are_refused(tokens, highest, tiny_gpt2_dir):
    batch = torch.full((1, tokens), highest)
    length = min(tokens, 2) if highest else tokens  # two tokens are tried first
    said = f"at most 256 tokens .* with ids below 320, not of {length} tokens with ids up to {highest}"
    with pytest.raises(ValueError, match=said):
        BlockModel(resolve_model(tiny_gpt2_dir)).embed([batch])
