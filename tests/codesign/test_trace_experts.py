"""``codesign.trace_experts``: routed experts by expectation."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from codesign.trace import trace
from codesign.trace_config import config_from_dict
from hwmodel.experts import expected_experts
from hwmodel.workload import Phase

pytest.importorskip("transformers", reason="transformers is an optional dependency")

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "vocab_size": 50}
FAMILIES = {
    "Mixtral": {"model_type": "mixtral", **SMALL, "num_local_experts": 8, "num_experts_per_tok": 2},
    "Qwen3": {"model_type": "qwen3_moe", **SMALL, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    | {"num_experts": 8},
    "gpt-oss": {"model_type": "gpt_oss", **SMALL, "num_local_experts": 8, "head_dim": 16},
}


class TestExperts:
    @pytest.mark.parametrize("name", FAMILIES)
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
        choices = list(combinations(range(4), 2))
        mean = sum(len({*a, *b}) for a, b in product(choices, choices)) / len(choices) ** 2
        assert expected_experts(4, 2, 2) == round(mean)
        assert mean == 4 * (1 - (1 - 2 / 4) ** 2)

    def test_experts_computed_for_every_token_count_as_routed(self, small_llama):
        config = config_from_dict(
            {**small_llama, "model_type": "llama4_text", "head_dim": 16, "num_local_experts": 8}
            | {"num_experts_per_tok": 1, "intermediate_size_mlp": 96, "interleave_moe_layer_step": 1}
        )
        down = trace(config, phase=Phase.DECODE, batch=2, context=4)["model.layers.0.feed_forward.experts.down_proj"]
        assert (down.m, down.k, down.n, down.copies, down.weight_copies) == (1, 96, 64, 2, 8)

    def test_stacked_weights_without_a_router_are_no_experts(self, small_llama):
        # the block-diagonal gates of RecurrentGemma are a stack too, and take token positions beside activations
        config = config_from_dict(
            {**small_llama, "model_type": "recurrent_gemma", "head_dim": 16, "lru_width": 64, "num_hidden_layers": 3}
        )
        gate = trace(config, context=6)["model.layers.0.temporal_block.rg_lru.input_gate_weight"]
        assert (gate.m, gate.k, gate.n, gate.copies, gate.weight_copies) == (6, 16, 16, 4, None)

    def test_routers_are_layers_of_their_own(self):
        workload = trace(config_from_dict(FAMILIES["Mixtral"]), context=5)
        router = workload["model.layers.0.mlp.gate"]
        assert (router.m, router.k, router.n) == (5, 64, 8)
