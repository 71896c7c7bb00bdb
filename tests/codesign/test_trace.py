"""``codesign.trace``: published shapes, and the convention that turns products into layers."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

import hwmodel
from codesign.trace import trace
from codesign.trace_config import config_from_dict
from hwmodel.workload import LayerKind, Phase

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


def published_shapes() -> dict[str, Counter]:
    file = Path(hwmodel.__file__).parent / "data" / "bitmod_model_shapes.csv"
    shapes: dict[str, Counter] = {}
    with file.open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            key = (row["linear"], int(row["out_features"]), int(row["in_features"]))
            shapes.setdefault(row["model"], Counter())[key] += int(row["count"])
    return shapes


BATCH, CONTEXT = 2, 128


@pytest.fixture(scope="module", params=list(PUBLISHED))
def published(request):
    """Name, config and traced prompt of a published model."""
    config = config_from_dict(PUBLISHED[request.param])
    return request.param, config, trace(config, batch=BATCH, context=CONTEXT)


class TestPublishedModels:
    def test_linears_are_those_published(self, published):
        name, _, workload = published
        traced = Counter(
            (layer.name.rpartition(".")[2], layer.n, layer.k) for layer in workload.select([LayerKind.LINEAR]).layers
        )
        assert traced == published_shapes()[name]

    def test_linear_parameters_are_those_published(self, published):
        name, _, workload = published
        linears = workload.select([LayerKind.LINEAR]).layers
        assert sum(layer.n * layer.k for layer in linears) == LINEAR_PARAMETERS[name]

    @pytest.mark.parametrize("phase", list(Phase))
    def test_attention_follows_the_simulator(self, published, phase):
        # bitmod.md, section 3.2: b = batch x kv_heads, M = g x context (prefill) or g (decode)
        _, config, workload = published
        if phase is Phase.DECODE:
            workload = trace(config, phase=phase, batch=BATCH, context=CONTEXT)
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = config.hidden_size // heads
        rows = heads // kv_heads * (CONTEXT if phase is Phase.PREFILL else 1)
        scores, values = (
            workload.select([LayerKind.ATTENTION_QK]).layers,
            workload.select([LayerKind.ATTENTION_PV]).layers,
        )
        assert len(scores) == len(values) == config.num_hidden_layers
        assert {(s.copies, s.m, s.k, s.n) for s in scores} == {(BATCH * kv_heads, rows, head_dim, CONTEXT)}
        assert {(s.copies, s.m, s.k, s.n) for s in values} == {(BATCH * kv_heads, rows, CONTEXT, head_dim)}
        assert {s.causal for s in scores + values} == {phase is Phase.PREFILL}


class TestConvention:
    def test_prefill_keeps_tokens_apart_from_batch(self, small_llama):
        workload = trace(config_from_dict(small_llama), batch=3, context=10)
        layer = workload["model.layers.1.mlp.down_proj"]
        assert (layer.m, layer.k, layer.n, layer.copies, layer.shared_weight) == (10, 96, 64, 3, True)
        assert layer.weights == 96 * 64

    def test_decode_has_one_token_for_each_sequence(self, small_llama):
        workload = trace(config_from_dict(small_llama), phase=Phase.DECODE, batch=3, context=10)
        layer = workload["model.layers.1.mlp.down_proj"]
        assert (layer.m, layer.copies) == (3, 1)
        assert workload["model.layers.0.self_attn.qk"].n == 10

    def test_decode_with_an_empty_cache(self, small_llama):
        workload = trace(config_from_dict(small_llama), phase=Phase.DECODE, context=1)
        assert workload["model.layers.0.self_attn.qk"].n == 1

    def test_head_is_marked(self, small_llama):
        assert [s.name for s in trace(config_from_dict(small_llama)).layers if s.head] == ["lm_head"]

    def test_tied_head_stores_nothing(self, small_llama):
        tied = trace(config_from_dict({**small_llama, "tie_word_embeddings": True}))
        assert tied["lm_head"].weight_of == "model.embed_tokens"
        assert tied["lm_head"].weights == 0
        assert trace(config_from_dict(small_llama)).weights - tied.weights == 50 * 64

    def test_vector_operations_one_for_each_module(self, small_llama):
        workload = trace(config_from_dict(small_llama), context=10)
        assert [s.name for s in workload.select([LayerKind.NORM]).layers] == [
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

    def test_residual_stream_joins_the_layers(self, small_llama):
        graph = trace(config_from_dict(small_llama)).graph()
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

    @pytest.mark.parametrize("phase", list(Phase))
    def test_model_with_weights_traces_like_its_config(self, phase, small_llama):
        import transformers

        config = config_from_dict({**small_llama, "tie_word_embeddings": True})
        model = transformers.AutoModelForCausalLM.from_config(config)
        from_model = trace(model, phase=phase, batch=2, context=9)
        assert from_model.layers == trace(config, phase=phase, batch=2, context=9).layers
        assert not any(p.is_meta for p in model.parameters())


class TestLargeModels:
    """Counted, not timed: one core of a shared machine takes 1.3 s and 2.0 s."""

    def test_seventy_billion_parameters(self):
        config = config_from_dict(
            {
                **LLAMA,
                **{"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80},
                **{"num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256},
            }
        )
        workload = trace(config, phase=Phase.DECODE, context=4096)
        # 80 layers of q, o (8192 x 8192), k, v (1024 x 8192), three 8192 x 28672; embedding and head
        block = 2 * 8192 * 8192 + 2 * 1024 * 8192 + 3 * 8192 * 28672
        assert workload.weights == 80 * block + 2 * 128256 * 8192

    def test_experts_by_the_hundred(self):
        # DeepSeek-V3 technical report (arXiv 2412.19437), section 4.2: 61 layers, the first three dense, 128 heads,
        # latents of 512 and 1536, 256 routed experts of 2048, 8 for each token, one shared
        config = config_from_dict(
            {
                **{"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "vocab_size": 129280},
                **{"num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128},
                **{"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64},
                **{"v_head_dim": 128, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1},
                **{"num_experts_per_tok": 8, "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4},
            }
        )
        workload = trace(config, phase=Phase.DECODE, context=4096)
        attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * (512 + 64) + 512 * 128 * 256 + 128 * 128 * 7168
        expert = 3 * 7168 * 2048
        blocks = 61 * attention + 3 * 3 * 7168 * 18432 + 58 * (257 * expert + 256 * 7168)
        assert workload.weights == blocks + 2 * 129280 * 7168


class TestErrors:
    @pytest.mark.parametrize("what", ["batch", "context"])
    def test_sizes_below_one(self, what, small_llama):
        with pytest.raises(ValueError, match=f"{what} must be an integer of at least 1, not 0"):
            trace(config_from_dict(small_llama), **{what: 0})

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
