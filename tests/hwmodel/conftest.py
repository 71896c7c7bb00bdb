"""Workloads of published shapes, traced once for all tests."""

from functools import cache

import pytest

from hwmodel.workload import Phase


@cache
def _traced(name, phase, batch, context, layers):
    transformers = pytest.importorskip("transformers")
    from codesign.trace import trace

    few = {"num_hidden_layers": layers}
    # sizes of the models' config.json; DeepSeek-V3's first three layers are dense
    configs = {
        "llama2_7b": ("LlamaConfig", {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
                                      "num_key_value_heads": 32, "vocab_size": 32000}),
        "codellama_34b": ("LlamaConfig", {"hidden_size": 8192, "intermediate_size": 22016, "num_attention_heads": 64,
                                          "num_key_value_heads": 8, "vocab_size": 32000}),
        "llama3_8b": ("LlamaConfig", {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                                      "num_key_value_heads": 8, "vocab_size": 128256}),
        "falcon_7b": ("FalconConfig", {"hidden_size": 4544, "num_attention_heads": 71, "multi_query": True,
                                       "vocab_size": 65024}),
        "deepseek_v3": ("DeepseekV3Config", {"first_k_dense_replace": 0}),
        "mixtral_8x7b": ("MixtralConfig", {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                                           "num_key_value_heads": 8, "num_local_experts": 8,
                                           "num_experts_per_tok": 2, "vocab_size": 32000}),
        "mistral_7b": ("MistralConfig", {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                                         "num_key_value_heads": 8, "sliding_window": 128, "vocab_size": 32000}),
    }  # fmt: skip
    kind, sizes = configs[name]
    config = getattr(transformers, kind)(**sizes, **few)
    return trace(config, phase=phase, batch=batch, context=context, name=name)


@pytest.fixture(scope="session")
def traced():
    """``traced(name, phase, batch=1, context=256, layers=1)``: a workload with so many blocks."""

    def get(name, phase=Phase.PREFILL, *, batch=1, context=256, layers=1):
        return _traced(name, phase, batch, context, layers)

    return get
