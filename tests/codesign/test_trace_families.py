"""Decoders of every build: weights, acyclic graphs, and multiply-accumulates as torch counts them."""

from __future__ import annotations

import networkx as nx
import pytest

from codesign.trace import trace
from codesign.trace_config import build_on_meta, config_from_dict
from codesign.trace_inputs import model_inputs
from hwmodel.workload import LayerKind, Phase

pytest.importorskip("transformers", reason="transformers is an optional dependency")


def families() -> dict[str, dict]:
    """Small configs, one for each way of building a decoder."""
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "vocab_size": 50}
    gpt2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 50}
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
    latent = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
    music = {"model_type": "musicgen_decoder", "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 2}
    music |= {"num_attention_heads": 4, "vocab_size": 50, "num_codebooks": 4, "pad_token_id": 0, "bos_token_id": 0}
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
        "several streams of tokens (MusicGen)": {"model_type": "musicgen", "architectures": ["MusicgenForCausalLM"]}
        | {"text_encoder": {"model_type": "t5"}, "audio_encoder": {"model_type": "encodec"}, "decoder": music},
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
            if p.squeeze().dim() >= 2
            and not name.endswith(("bias", "A_log"))
            and "encoder_attn" not in name  # MusicGen's text, which is not given
        }
        assert trace(config, context=16).weights == sum(matrices.values())

    @pytest.mark.parametrize("name", FAMILIES)
    @pytest.mark.parametrize("phase", list(Phase))
    def test_graph_is_acyclic_and_joined(self, name, phase):
        workload = trace(config_from_dict(FAMILIES[name]), phase=phase, batch=2, context=16)
        graph = workload.graph()
        assert nx.is_directed_acyclic_graph(graph)
        head = next(layer.name for layer in workload.layers if layer.head)
        first = workload.select([LayerKind.EMBEDDING]).layers[0].name
        if workload.layers[-1].name == head:
            assert nx.has_path(graph, first, head)

    @pytest.mark.parametrize("name", [n for n in FAMILIES if "experts" not in n and "DeepSeek" not in n])
    def test_macs_are_those_that_torch_counts(self, name, real_model, counted_macs):
        config = config_from_dict(FAMILIES[name])
        inputs = model_inputs(build_on_meta(config), 2, 16)
        assert trace(config, batch=2, context=16).macs == counted_macs(real_model(config), inputs)

    @pytest.mark.parametrize("phase", list(Phase))
    def test_key_of_all_heads_is_seen_once(self, phase):
        # Falcon repeats its one key head inside the model: structure alone shows that the copies are equal
        workload = trace(config_from_dict(FAMILIES["one KV head (Falcon)"]), phase=phase, batch=2, context=16)
        rows = 4 * (16 if phase is Phase.PREFILL else 1)
        for name in ("qk", "pv"):
            layer = workload[f"transformer.h.0.self_attention.{name}"]
            assert (layer.copies, layer.m, layer.k, layer.n) == (2, rows, 16, 16)
            assert layer.written == (16 if phase is Phase.PREFILL else 1)

    @pytest.mark.parametrize("name", ["attention by hand (BLOOM)", "fused qkv (GPT-2)"])
    def test_decoders_mask_their_future(self, name):
        layers = trace(config_from_dict(FAMILIES[name]), batch=2, context=16).layers
        kinds = (LayerKind.ATTENTION_QK, LayerKind.SOFTMAX, LayerKind.ATTENTION_PV)
        assert all(layer.causal == (layer.kind in kinds) for layer in layers)

    def test_window_cuts_the_context(self, small_llama):
        config = config_from_dict({**small_llama, "model_type": "mistral", "sliding_window": 8})
        for phase in Phase:
            workload = trace(config, phase=phase, context=32)
            assert workload["model.layers.0.self_attn.qk"].n == 8
            assert workload["model.layers.0.self_attn.pv"].k == 8
            # every token of the prompt, or the one of a step, is written, whatever it sees
            assert workload["model.layers.0.self_attn.qk"].written == (32 if phase is Phase.PREFILL else 1)
        assert trace(config, context=6)["model.layers.0.self_attn.qk"].n == 6

    def test_loop_over_tokens_is_extrapolated_exactly(self):
        # Mamba's scan is a Python loop: traced at two short contexts, read at a long one
        config = config_from_dict(FAMILIES["state space (Mamba)"])
        workload = trace(config, context=1000)
        layer = workload["backbone.layers.0.mixer.in_proj"]
        assert (layer.m, layer.k, layer.n) == (1000, 64, 2 * 2 * 64)  # x and gate of twice the hidden size

    def test_every_stream_has_a_head(self):
        workload = trace(config_from_dict(FAMILIES["several streams of tokens (MusicGen)"]), batch=2, context=16)
        heads = [layer for layer in workload.layers if layer.head]
        assert [(s.name, s.m, s.k, s.n, s.copies) for s in heads] == [
            (f"lm_heads.{stream}", 16, 64, 50, 2) for stream in range(4)
        ]

    def test_attention_without_a_cache_keeps_its_values(self):
        # the first GPT has no cache: a step is one token with the whole context's keys and values
        config = config_from_dict(
            {"model_type": "openai-gpt", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 50}
        )
        workload = trace(config, phase=Phase.DECODE, batch=2, context=16)
        scores, values = workload["transformer.h.1.attn.qk"], workload["transformer.h.1.attn.pv"]
        assert (scores.m, scores.k, scores.n, scores.copies) == (1, 16, 16, 8)
        assert (values.m, values.k, values.n, values.copies) == (1, 16, 16, 8)
