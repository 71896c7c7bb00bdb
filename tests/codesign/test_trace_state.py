"""State-space models and linear attention at growing context: states keep their size, caches grow."""

import pytest

from codesign.trace import trace
from hwmodel.capacity import cache_bits
from hwmodel.workload import ATTENTION_KINDS, LayerKind, Phase, at_context

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 64, "vocab_size": 320}


def attention_of(config, *, traced, context):
    workload = at_context(trace(config, phase=Phase.DECODE, context=traced), context)
    return {layer.name: layer for layer in workload.layers if layer.kind in ATTENTION_KINDS}


@pytest.mark.parametrize("traced", [64, 512], ids=["state above the context", "state below the context"])
def test_a_state_space_model_reads_its_whole_state_at_every_context(traced):
    # Mamba-2 (Dao and Gu, arXiv 2405.21060, section 7): each of 8 heads of 16 holds a state of 128 for each channel
    config = transformers.Mamba2Config(
        **SMALL, state_size=128, num_heads=8, head_dim=16, num_hidden_layers=1, n_groups=1, expand=2
    )
    for context in (1, 10, traced):
        (product,) = attention_of(config, traced=traced, context=context).values()
        assert product.state
        assert (product.k, product.macs) == (128, 8 * 16 * 128)


def test_what_a_sequence_keeps_of_a_state_space_model_is_its_state():
    # 8 heads of 16 channels with a state of 128 each, in both layers and 16 bits, for each of 3 sequences
    config = transformers.Mamba2Config(
        **SMALL, state_size=128, num_heads=8, head_dim=16, num_hidden_layers=2, n_groups=1, expand=2
    )
    step = trace(config, phase=Phase.DECODE, context=64, batch=3)
    products = [layer for layer in step.layers if layer.state]
    assert [(layer.m, layer.k, layer.n, layer.copies) for layer in products] == [(1, 128, 8 * 16, 3)] * 2
    assert cache_bits(step, {}) == 2 * 8 * 16 * 128 * 16


def test_linear_attention_keeps_its_state_where_attention_beside_it_grows():
    # MiniMax-01 (arXiv 2501.08313, section 2.2): lightning attention's state is head_dim x head_dim for each head
    config = transformers.MiniMaxConfig(
        **SMALL, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=128, intermediate_size=64,
        num_local_experts=4,
    )  # fmt: skip
    made = attention_of(config, traced=64, context=10)
    states = [layer for layer in made.values() if layer.state]
    assert [(layer.k, layer.n, layer.copies) for layer in states] == [(128, 128, 4)]
    caches = {layer.kind: layer for layer in made.values() if not layer.state}
    assert caches[LayerKind.ATTENTION_PV].k == caches[LayerKind.ATTENTION_QK].n == 10
