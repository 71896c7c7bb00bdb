"""``codesign.trace``: real architectures against published shapes, torch's own counts and sums by hand."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hwmodel
from codesign.trace import trace, workload_from_config
from codesign.trace_config import build_on_meta, config_from_dict
from codesign.trace_experts import expected_experts
from hwmodel.workload import LayerKind, Phase, Workload

pytest.importorskip("transformers", reason="transformers is an optional dependency")

# bitmod.md, section 3.4: layers, hidden, heads, KV heads of the published checkpoints; vocabulary and intermediate
# size are in bitmod_model_shapes.csv
LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
PUBLISHED = {
    "OPT-1.3B": {
        **{"model_type": "opt", "hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24},
        **{"num_attention_heads": 32, "vocab_size": 50272, "word_embed_proj_dim": 2048},
    },
    "Phi-2B": {
        **{"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "vocab_size": 51200, "partial_rotary_factor": 0.4},
    },
    "Yi-6B": {
        **LLAMA,
        **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"num_key_value_heads": 4, "vocab_size": 64000},
    },
    "Llama-2-7B": {
        **LLAMA,
        **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"num_key_value_heads": 32, "vocab_size": 32000},
    },
    "Llama-2-13B": {
        **LLAMA,
        **{"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
        **{"num_key_value_heads": 40, "vocab_size": 32000},
    },
    "Llama-3-8B": {
        **LLAMA,
        **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"num_key_value_heads": 8, "vocab_size": 128256},
    },
}
# bitmod.md, section 3.4: parameters of all nn.Linear, the head included; reproduces the authors' FP16 footprints
LINEAR_PARAMETERS = {
    "OPT-1.3B": 1_310_916_608,
    "Phi-2B": 2_647_654_400,
    "Yi-6B": 5_798_625_280,
    "Llama-2-7B": 6_607_077_376,
    "Llama-2-13B": 12_851_609_600,
    "Llama-3-8B": 7_504_658_432,
}
SMALL_LLAMA = {
    **LLAMA,
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 50},
}


def of_kind(workload: Workload, kind: LayerKind) -> list:
    return [layer for layer in workload.layers if layer.kind is kind]


def published_shapes() -> dict[str, Counter]:
    file = Path(hwmodel.__file__).parent / "data" / "bitmod_model_shapes.csv"
    shapes: dict[str, Counter] = {}
    with file.open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            key = (row["linear"], int(row["out_features"]), int(row["in_features"]))
            shapes.setdefault(row["model"], Counter())[key] += int(row["count"])
    return shapes


@pytest.fixture(scope="module", params=list(PUBLISHED))
def published(request):
    return request.param, config_from_dict(PUBLISHED[request.param])


class TestPublishedModels:
    def test_linears_are_those_published(self, published):
        name, config = published
        traced = Counter(
            (layer.name.rpartition(".")[2], layer.n, layer.k) for layer in of_kind(trace(config), LayerKind.LINEAR)
        )
        assert traced == published_shapes()[name]

    def test_linear_parameters_are_those_published(self, published):
        name, config = published
        linears = of_kind(trace(config), LayerKind.LINEAR)
        assert sum(layer.n * layer.k for layer in linears) == LINEAR_PARAMETERS[name]

    @pytest.mark.parametrize("phase", list(Phase))
    def test_attention_follows_the_simulator(self, published, phase):
        # bitmod.md, section 3.2: b = batch x kv_heads, M = g x context (prefill) or g (decode)
        _, config = published
        batch, context = 2, 128
        workload = trace(config, phase=phase, batch=batch, context=context)
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = config.hidden_size // heads
        rows = heads // kv_heads * (context if phase is Phase.PREFILL else 1)
        scores, values = of_kind(workload, LayerKind.ATTENTION_QK), of_kind(workload, LayerKind.ATTENTION_PV)
        assert len(scores) == len(values) == config.num_hidden_layers
        assert {(s.copies, s.m, s.k, s.n) for s in scores} == {(batch * kv_heads, rows, head_dim, context)}
        assert {(s.copies, s.m, s.k, s.n) for s in values} == {(batch * kv_heads, rows, context, head_dim)}
        assert {s.causal for s in scores + values} == {phase is Phase.PREFILL}


class TestConvention:
    def test_prefill_keeps_tokens_apart_from_batch(self):
        workload = trace(config_from_dict(SMALL_LLAMA), batch=3, context=10)
        layer = workload["model.layers.1.mlp.down_proj"]
        assert (layer.m, layer.k, layer.n, layer.copies, layer.shared_weight) == (10, 96, 64, 3, True)
        assert layer.weights == 96 * 64

    def test_decode_has_one_token_for_each_sequence(self):
        workload = trace(config_from_dict(SMALL_LLAMA), phase=Phase.DECODE, batch=3, context=10)
        layer = workload["model.layers.1.mlp.down_proj"]
        assert (layer.m, layer.copies) == (3, 1)
        assert workload["model.layers.0.self_attn.qk"].n == 10

    def test_decode_with_an_empty_cache(self):
        workload = trace(config_from_dict(SMALL_LLAMA), phase=Phase.DECODE, context=1)
        assert workload["model.layers.0.self_attn.qk"].n == 1

    def test_head_is_marked(self):
        assert [s.name for s in trace(config_from_dict(SMALL_LLAMA)).layers if s.head] == ["lm_head"]

    def test_tied_head_stores_nothing(self):
        tied = trace(config_from_dict({**SMALL_LLAMA, "tie_word_embeddings": True}))
        assert tied["lm_head"].weight_of == "model.embed_tokens"
        assert tied["lm_head"].weights == 0
        assert trace(config_from_dict(SMALL_LLAMA)).weights - tied.weights == 50 * 64

    def test_vector_operations_one_for_each_module(self):
        workload = trace(config_from_dict(SMALL_LLAMA), context=10)
        assert [s.name for s in of_kind(workload, LayerKind.NORM)] == [
            "model.layers.0.input_layernorm",
            "model.layers.0.post_attention_layernorm",
            "model.layers.1.input_layernorm",
            "model.layers.1.post_attention_layernorm",
            "model.norm",
        ]
        norm, active = workload["model.norm"], workload["model.layers.0.mlp.act_fn"]
        assert (norm.m, norm.n) == (10, 64)
        assert (active.m, active.n) == (10, 96)
        softmax = workload["model.layers.0.self_attn.softmax"]
        assert softmax.m * softmax.n * softmax.copies == 4 * 10 * 10  # heads x tokens x context

    def test_residual_stream_joins_the_layers(self):
        graph = trace(config_from_dict(SMALL_LLAMA)).graph()
        assert nx.is_directed_acyclic_graph(graph)
        assert nx.has_path(graph, "model.embed_tokens", "lm_head")
        assert set(graph.predecessors("model.layers.0.mlp.gate_proj")) == {"model.layers.0.post_attention_layernorm"}
        assert set(graph.predecessors("model.layers.0.self_attn.pv")) == {
            "model.layers.0.self_attn.softmax",
            "model.layers.0.self_attn.v_proj",
        }
        assert set(graph.predecessors("model.layers.0.self_attn.o_proj")) == {"model.layers.0.self_attn.pv"}
        # the residual of a block goes around it
        assert nx.has_path(graph, "model.embed_tokens", "model.layers.0.elementwise")
        assert ("model.embed_tokens", "model.layers.0.elementwise") in graph.edges


def families() -> dict[str, dict]:
    """Small configs, one for each way of building a decoder."""
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "vocab_size": 50}
    gpt2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 50}
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
    latent = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
    return {
        "fused qkv (GPT-2)": {"model_type": "gpt2", **gpt2},
        "fused qkv (Phi-3)": {"model_type": "phi3", **small, "pad_token_id": 0},
        "attention by hand (BLOOM)": {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4}
        | {"vocab_size": 50},
        "one KV head (Falcon)": {"model_type": "falcon", **small, "multi_query": True},
        "tied, scaled embeddings (Gemma)": {"model_type": "gemma", **small, "head_dim": 16},
        "experts (Mixtral)": {"model_type": "mixtral", **small, "num_local_experts": 8, "num_experts_per_tok": 2},
        "experts (Qwen3)": {"model_type": "qwen3_moe", **small, **experts, "num_experts": 8},
        "experts (gpt-oss)": {"model_type": "gpt_oss", **small, "num_local_experts": 8, "head_dim": 16},
        "latent attention (DeepSeek-V3)": {"model_type": "deepseek_v3", **small, **experts, **latent}
        | {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1},
        "state space (Mamba)": {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 50}
        | {"state_size": 8},
        "recurrent (RWKV)": {"model_type": "rwkv", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 50}
        | {"attention_hidden_size": 64},
    }


FAMILIES = families()


class TestFamilies:
    @pytest.mark.parametrize("name", FAMILIES)
    def test_weights_are_the_models_matrices(self, name):
        config = config_from_dict(FAMILIES[name])
        model = build_on_meta(config)
        # what has two dimensions and is no matrix: stacked biases, RWKV's [1, 1, hidden] mixes, Mamba's decay table
        matrices = {
            name: p.numel()
            for name, p in model.named_parameters()
            if p.squeeze().dim() >= 2 and not name.endswith(("bias", "A_log"))
        }
        assert trace(config, context=16).weights == sum(matrices.values())

    @pytest.mark.parametrize("name", FAMILIES)
    @pytest.mark.parametrize("phase", list(Phase))
    def test_graph_is_acyclic_and_joined(self, name, phase):
        workload = trace(config_from_dict(FAMILIES[name]), phase=phase, batch=2, context=16)
        graph = workload.graph()
        assert nx.is_directed_acyclic_graph(graph)
        head = next(layer.name for layer in workload.layers if layer.head)
        first = of_kind(workload, LayerKind.EMBEDDING)[0].name
        if workload.layers[-1].name == head:
            assert nx.has_path(graph, first, head)

    @pytest.mark.parametrize("name", [n for n in FAMILIES if "experts" not in n and "DeepSeek" not in n])
    def test_macs_are_those_that_torch_counts(self, name):
        """Runs the real model on the CPU under torch's own counter."""
        config = config_from_dict(FAMILIES[name])
        batch, context = 2, 16
        workload = trace(config, batch=batch, context=context)
        import transformers

        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(batch, context, dtype=torch.long), use_cache=False)
        tables = sum(_table_macs(model, counter))
        assert workload.macs == counter.get_total_flops() // 2 - tables

    @pytest.mark.parametrize("phase", list(Phase))
    def test_key_of_all_heads_is_seen_once(self, phase):
        # Falcon repeats its one key head inside the model: structure alone shows that the copies are equal
        workload = trace(config_from_dict(FAMILIES["one KV head (Falcon)"]), phase=phase, batch=2, context=16)
        rows = 4 * (16 if phase is Phase.PREFILL else 1)
        for name in ("qk", "pv"):
            layer = workload[f"transformer.h.0.self_attention.{name}"]
            assert (layer.copies, layer.m, layer.k, layer.n) == (2, rows, 16, 16)

    @pytest.mark.parametrize("name", ["attention by hand (BLOOM)", "fused qkv (GPT-2)"])
    def test_decoders_mask_their_future(self, name):
        layers = trace(config_from_dict(FAMILIES[name]), batch=2, context=16).layers
        kinds = (LayerKind.ATTENTION_QK, LayerKind.SOFTMAX, LayerKind.ATTENTION_PV)
        assert all(layer.causal == (layer.kind in kinds) for layer in layers)

    def test_window_cuts_the_context(self):
        config = config_from_dict({**SMALL_LLAMA, "model_type": "mistral", "sliding_window": 8})
        for phase in Phase:
            workload = trace(config, phase=phase, context=32)
            assert workload["model.layers.0.self_attn.qk"].n == 8
            assert workload["model.layers.0.self_attn.pv"].k == 8
        assert trace(config, context=6)["model.layers.0.self_attn.qk"].n == 6

    def test_loop_over_tokens_is_extrapolated_exactly(self):
        # Mamba's scan is a Python loop: traced at two short contexts, read at a long one
        config = config_from_dict(FAMILIES["state space (Mamba)"])
        workload = trace(config, context=1000)
        layer = workload["backbone.layers.0.mixer.in_proj"]
        assert (layer.m, layer.k, layer.n) == (1000, 64, 2 * 2 * 64)  # x and gate of twice the hidden size


def _table_macs(model: nn.Module, counter: FlopCounterMode) -> list[int]:
    """Products with rotary tables, which multiply positions by frequencies: one output for each angle."""
    return [
        flops // 2
        for path, operations in counter.get_flop_counts().items()
        if path.rpartition(".")[2] in ("rotary_emb", "rotary_embedding")
        for flops in operations.values()
    ]


class TestExperts:
    @pytest.mark.parametrize("name", ["experts (Mixtral)", "experts (Qwen3)", "experts (gpt-oss)"])
    @pytest.mark.parametrize("tokens", [1, 5, 64])
    def test_macs_follow_the_tokens_routed(self, name, tokens):
        config = config_from_dict(FAMILIES[name])
        top_k = config.num_experts_per_tok
        inner = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
        workload = trace(config, context=tokens)
        gate = workload["model.layers.0.mlp.experts.gate_up_proj"]
        down = workload["model.layers.0.mlp.experts.down_proj"]
        assert (gate.k, gate.n) == (64, 2 * inner)
        assert (down.k, down.n) == (inner, 64)
        for layer in (gate, down):
            assert layer.weight_copies == 8
            assert layer.weights == 8 * layer.n * layer.k
            # m is rounded up, so at most one row too many for each expert
            assert tokens * top_k <= layer.m * layer.copies < tokens * top_k + layer.copies

    def test_expected_experts_by_enumeration(self):
        # 4 experts, 2 of them for each of 2 tokens: all 6 x 6 choices, counted
        from itertools import combinations, product

        choices = list(combinations(range(4), 2))
        mean = sum(len({*a, *b}) for a, b in product(choices, choices)) / len(choices) ** 2
        assert expected_experts(4, 2, 2) == round(mean)
        assert mean == 4 * (1 - (1 - 2 / 4) ** 2)

    def test_experts_computed_for_every_token_count_as_routed(self):
        config = config_from_dict(
            {**SMALL_LLAMA, "model_type": "llama4_text", "head_dim": 16, "num_local_experts": 8}
            | {"num_experts_per_tok": 1, "intermediate_size_mlp": 96, "interleave_moe_layer_step": 1}
        )
        down = trace(config, phase=Phase.DECODE, batch=2, context=4)["model.layers.0.feed_forward.experts.down_proj"]
        assert (down.m, down.k, down.n, down.copies, down.weight_copies) == (1, 96, 64, 2, 8)

    def test_stacked_weights_without_a_router_are_no_experts(self):
        # the block-diagonal gates of RecurrentGemma are a stack too, and take token positions beside activations
        config = config_from_dict(
            {**SMALL_LLAMA, "model_type": "recurrent_gemma", "head_dim": 16, "lru_width": 64, "num_hidden_layers": 3}
        )
        gate = trace(config, context=6)["model.layers.0.temporal_block.rg_lru.input_gate_weight"]
        assert (gate.m, gate.k, gate.n, gate.copies, gate.weight_copies) == (6, 16, 16, 4, None)

    def test_routers_are_layers_of_their_own(self):
        workload = trace(config_from_dict(FAMILIES["experts (Mixtral)"]), context=5)
        router = workload["model.layers.0.mlp.gate"]
        assert (router.m, router.k, router.n) == (5, 64, 8)


class TestOtherNets:
    @pytest.mark.parametrize("phase", list(Phase))
    def test_model_with_weights_traces_like_its_config(self, phase):
        import transformers

        config = config_from_dict({**SMALL_LLAMA, "tie_word_embeddings": True})
        model = transformers.AutoModelForCausalLM.from_config(config)
        from_model = trace(model, phase=phase, batch=2, context=9)
        assert from_model.layers == trace(config, phase=phase, batch=2, context=9).layers
        assert not any(p.is_meta for p in model.parameters())

    def test_encoder_attends_both_ways(self):
        config = config_from_dict(
            {
                **{"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
                **{"num_attention_heads": 4, "vocab_size": 50, "architectures": ["BertModel"]},
            }
        )
        workload = trace(config, batch=2, context=12)
        scores = workload["encoder.layer.0.attention.self.qk"]
        assert (scores.copies, scores.m, scores.k, scores.n, scores.causal) == (8, 12, 16, 12, False)
        assert workload["encoder.layer.1.output.dense"].k == 128
        assert trace(config).graph().has_node("pooler.dense")

    def test_vision_transformer_sees_patches(self):
        config = config_from_dict(
            {
                **{"model_type": "vit", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
                **{"num_attention_heads": 4, "image_size": 32, "patch_size": 8, "num_channels": 3},
            }
        )
        workload = trace(config)
        patches = (32 // 8) ** 2
        conv = of_kind(workload, LayerKind.CONV)[0]
        assert (conv.m, conv.k, conv.n, conv.copies) == (patches, 3 * 8 * 8, 64, 1)
        assert of_kind(workload, LayerKind.ATTENTION_QK)[0].n == patches + 1  # the class token

    def test_residual_network(self):
        config = config_from_dict(
            {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 8}
            | {"layer_type": "basic", "architectures": ["ResNetForImageClassification"]}
        )
        workload = trace(config, batch=2)
        convs = of_kind(workload, LayerKind.CONV)
        stem = convs[0]
        assert (stem.m, stem.k, stem.n) == (2 * 112 * 112, 3 * 7 * 7, 8)  # 224 px, stride 2
        parameters = [p for p in build_on_meta(config).parameters() if p.dim() >= 2]
        assert workload.weights == sum(p.numel() for p in parameters)
        assert nx.is_directed_acyclic_graph(workload.graph())

    def test_speech_encoder_and_decoder(self):
        config = config_from_dict(
            {
                **{"model_type": "whisper", "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 50},
                **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128},
                **{"decoder_ffn_dim": 128, "num_mel_bins": 8, "max_source_positions": 30, "num_hidden_layers": 1},
                **{"architectures": ["WhisperForConditionalGeneration"], "pad_token_id": 0},
                **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
            }
        )
        prefill = trace(config, context=5)
        convs = of_kind(prefill, LayerKind.CONV)
        assert [(c.m, c.k, c.n) for c in convs] == [(60, 8 * 3, 64), (30, 64 * 3, 64)]
        assert prefill["model.encoder.layers.0.self_attn.qk"].n == 30
        decode = trace(config, phase=Phase.DECODE, context=5)
        assert decode["model.decoder.layers.0.self_attn.qk"].n == 5
        assert decode["model.decoder.layers.0.encoder_attn.qk"].n == 30
        assert not any(layer.name.startswith("model.encoder") for layer in decode.layers)

    def test_plain_conv_net_by_hand(self):
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        )
        workload = trace(net, batch=2, example=torch.zeros(2, 3, 8, 8))
        shapes = [(s.name, s.kind, s.m, s.k, s.n, s.copies) for s in workload.layers]
        assert shapes == [
            ("0", LayerKind.CONV, 2 * 64, 27, 8, 1),
            ("1", LayerKind.NORM, 2 * 8 * 8 * 8 // 8, 1, 8, 1),
            ("2", LayerKind.ACTIVATION, 2 * 8 * 8 * 8 // 8, 1, 8, 1),
            ("3", LayerKind.CONV, 2 * 16, 2 * 9, 2, 4),
            ("5", LayerKind.LINEAR, 1, 128, 10, 2),
        ]
        assert workload.edges == (("0", "1"), ("1", "2"), ("2", "3"), ("3", "5"))
        # the module that was given keeps its weights
        assert not any(p.is_meta for p in net.parameters())

    def test_macs_of_a_conv_net_are_those_that_torch_counts(self):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Flatten(1))
        x = torch.zeros(1, 3, 9, 9)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(x)
        assert trace(net, example=x).macs == counter.get_total_flops() // 2

    def test_module_used_twice_is_one_layer(self):
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Linear(6, 6)

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(torch.relu(self.inner(x)))

        workload = trace(Twice(), example=torch.zeros(3, 6))
        layer = workload["inner"]
        assert (layer.m, layer.copies, layer.shared_weight, layer.weights) == (3, 2, True, 36)
        assert layer.macs == 2 * 3 * 36
        assert nx.is_directed_acyclic_graph(workload.graph())

    def test_slices_of_a_fused_weight_are_one_layer(self):
        net = nn.MultiheadAttention(8, 2, batch_first=True)

        class Cross(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = net

            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return self.attention(x, y, y, need_weights=False)[0]

        workload = trace(Cross(), example={"x": torch.zeros(1, 5, 8), "y": torch.zeros(1, 7, 8)})
        linears = of_kind(workload, LayerKind.LINEAR)
        assert sum(s.weights for s in linears) == 3 * 8 * 8 + 8 * 8
        assert sum(s.macs for s in linears) == 5 * 8 * 8 + 7 * 2 * 8 * 8 + 5 * 8 * 8
        assert of_kind(workload, LayerKind.ATTENTION_QK)[0].n == 7


class TestSpeed:
    def test_seventy_billion_parameters_in_seconds(self):
        config = config_from_dict(
            {
                **LLAMA,
                **{"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80},
                **{"num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256},
            }
        )
        start = time.perf_counter()
        workload = trace(config, phase=Phase.DECODE, context=4096)
        assert time.perf_counter() - start < 60
        # 80 layers of q, o (8192 x 8192), k, v (1024 x 8192), three 8192 x 28672; embedding and head
        block = 2 * 8192 * 8192 + 2 * 1024 * 8192 + 3 * 8192 * 28672
        assert workload.weights == 80 * block + 2 * 128256 * 8192


class TestErrors:
    def write(self, folder: Path, data: object) -> Path:
        file = folder / "config.json"
        file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return file

    def test_folder_and_file_are_the_same(self, tmp_path):
        folder = tmp_path / "small-llama"
        folder.mkdir()
        file = self.write(folder, SMALL_LLAMA)
        workload = workload_from_config(folder)
        assert workload.model == "small-llama"
        assert workload.layers == workload_from_config(file).layers

    def test_quantization_settings_are_dropped(self, tmp_path):
        file = self.write(tmp_path, {**SMALL_LLAMA, "quantization_config": {"quant_method": "fp8"}})
        assert workload_from_config(file).weights == trace(config_from_dict(SMALL_LLAMA)).weights

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"config must be a readable file, not .*config\.json"):
            workload_from_config(tmp_path)

    def test_not_json(self, tmp_path):
        with pytest.raises(ValueError, match=r"config .*config\.json must be JSON, not"):
            workload_from_config(self.write(tmp_path, '{"model_type": '))

    def test_not_an_object(self, tmp_path):
        with pytest.raises(ValueError, match=r"config\.json must be a JSON object, not list"):
            workload_from_config(self.write(tmp_path, [1]))

    def test_no_model_type(self, tmp_path):
        with pytest.raises(ValueError, match=r"config\.json must have the key model_type, not only hidden_size"):
            workload_from_config(self.write(tmp_path, {"hidden_size": 4}))

    def test_unknown_model_type(self, tmp_path):
        with pytest.raises(ValueError, match=r"model_type in .*config\.json must be one .*, not 'llamma'"):
            workload_from_config(self.write(tmp_path, {"model_type": "llamma"}))

    @pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"])
    def test_missing_key(self, tmp_path, key):
        data = {k: v for k, v in SMALL_LLAMA.items() if k != key}
        with pytest.raises(ValueError, match=rf"config\.json of a llama model must have the key {key}"):
            workload_from_config(self.write(tmp_path, data))

    def test_missing_key_under_its_own_name(self, tmp_path):
        data = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "vocab_size": 50}
        with pytest.raises(ValueError, match=r"of a gpt2 model must have the key n_embd"):
            workload_from_config(self.write(tmp_path, data))

    def test_value_that_does_not_fit(self, tmp_path):
        data = {**SMALL_LLAMA, "num_attention_heads": 0}
        with pytest.raises(ValueError, match=r"llama"):
            workload_from_config(self.write(tmp_path, data))

    @pytest.mark.parametrize("what", ["batch", "context"])
    def test_sizes_below_one(self, what):
        with pytest.raises(ValueError, match=f"{what} must be an integer of at least 1, not 0"):
            trace(config_from_dict(SMALL_LLAMA), **{what: 0})

    def test_neither_config_nor_module(self):
        with pytest.raises(TypeError, match="model must be a transformers config or a torch module, not 3"):
            trace(3)

    def test_module_without_example(self):
        with pytest.raises(ValueError, match="example must be given for Linear"):
            trace(nn.Linear(2, 2))

    def test_decode_without_a_cache(self):
        with pytest.raises(ValueError, match="phase must be prefill for Linear"):
            trace(nn.Linear(2, 2), phase=Phase.DECODE, example=torch.zeros(1, 2))

    def test_forward_that_cannot_run_on_shapes_names_its_module(self):
        class Picky(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.reshape(5)

        net = nn.Sequential(nn.Linear(4, 4), Picky())
        with pytest.raises(NotImplementedError, match=r"forward of 1 \(Picky\) in Sequential must run on shapes"):
            trace(net, example=torch.zeros(2, 4))


@pytest.mark.slow
def test_almost_every_causal_language_model_traces():
    from codesign.trace_coverage import cover, model_types

    results = [cover(model_type) for model_type in model_types()]
    failed = [result.model_type for result in results if result.prefill or result.decode]
    assert len(failed) <= 0.04 * len(results), failed
    # text alone does not reach vision towers and cross-attention; everything else must be there
    short = [r.model_type for r in results if not r.prefill and r.share < 0.4]
    assert not short
