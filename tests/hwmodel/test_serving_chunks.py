"""Prompts in chunks: one chunk is the prompt, attention multiplies as often, and what is repeated is named."""

from dataclasses import replace

import pytest

from hwmodel.attention_side import written
from hwmodel.evaluate import evaluate
from hwmodel.gpu_presets import H100
from hwmodel.operands import OperandBits
from hwmodel.options import HONEST
from hwmodel.presets import BITMOD, FP16_BASELINE
from hwmodel.serving_chunks import chunked_prefill_cost, prefill_chunk, prefill_chunks
from hwmodel.traffic import causal_share, causal_tile_steps
from hwmodel.workload import ATTENTION_KINDS, LayerKind, LayerSpec, Phase, Workload

BITS = OperandBits(weight=4, kv=8)
MACHINES = pytest.mark.parametrize("machine", [BITMOD, FP16_BASELINE, H100], ids=lambda machine: machine.name)


def attention_macs(report):
    return report.total_of(ATTENTION_KINDS).macs


@MACHINES
@pytest.mark.parametrize("name", ["llama3_8b", "falcon_7b", "mixtral_8x7b", "deepseek_v3", "mistral_7b"])
def test_one_chunk_is_the_prompt(traced, machine, name):
    prompt = traced(name)
    whole, one = evaluate(prompt, BITS, machine), chunked_prefill_cost(prompt, 256, BITS, machine)
    assert one.layers == whole.layers
    assert chunked_prefill_cost(prompt, 1000, BITS, machine).total == whole.total


@MACHINES
@pytest.mark.parametrize("name", ["llama2_7b", "llama3_8b", "falcon_7b"])
@pytest.mark.parametrize("chunk", [1, 32, 100, 255])
def test_attention_multiplies_as_often_in_chunks(traced, machine, name, chunk):
    prompt = traced(name)
    made = chunked_prefill_cost(prompt, chunk, BITS, machine)
    assert attention_macs(made) == attention_macs(evaluate(prompt, BITS, machine))


def test_attention_of_a_prompt_by_hand(traced):
    # 32 heads, 128 wide, each token sees itself and those before: 1 + 2 + ... + 256, for keys and for values
    by_hand = 32 * 128 * (256 * 257 // 2) * 2
    assert attention_macs(chunked_prefill_cost(traced("llama3_8b"), 64, BITS, H100)) == by_hand


@MACHINES
def test_all_other_products_multiply_as_often_and_weights_are_read_for_each_chunk(traced, machine):
    prompt = traced("llama3_8b")
    whole, made = evaluate(prompt, BITS, machine), chunked_prefill_cost(prompt, 64, BITS, machine)
    linears = [i for i, layer in enumerate(prompt.layers) if layer.kind is LayerKind.LINEAR and not layer.head]
    for i in linears:
        assert made.layers[i].price.macs == whole.layers[i].price.macs
        assert made.layers[i].price.weight_bits >= 4 * prompt.layers[i].n * prompt.layers[i].k * 4
    assert made.seconds > whole.seconds


def test_the_head_is_computed_once(traced):
    prompt = traced("llama3_8b")
    whole, made = evaluate(prompt, BITS, H100), chunked_prefill_cost(prompt, 64, BITS, H100)
    assert made.layers[-1].price == whole.layers[-1].price
    every = chunked_prefill_cost(prompt, 64, BITS, H100, replace(HONEST, last_token_head=False))
    assert every.layers[-1].price.macs == 256 * 4096 * 128256


def test_keys_are_written_once_in_chunks(traced):
    """Each layer's 256 keys of a prompt, in chunks of 100, 100 and 56."""
    parts = list(prefill_chunks(traced("llama3_8b"), 100))
    for name in ("model.layers.0.self_attn.qk", "model.layers.0.self_attn.pv"):
        assert [written(part[name]) for part in parts] == [100, 100, 56]


def test_shapes_of_a_later_chunk(traced):
    part = prefill_chunk(traced("llama3_8b"), 64, 32)
    attention = {layer.kind: layer for layer in part.layers if layer.kind in ATTENTION_KINDS}
    scores, values = attention[LayerKind.ATTENTION_QK], attention[LayerKind.ATTENTION_PV]
    assert (scores.m, scores.k, scores.n, scores.copies) == (4 * 32, 128, 96, 8)
    assert (values.m, values.k, values.n, values.past) == (4 * 32, 96, 128, 64)
    assert part["model.layers.0.mlp.up_proj"].m == 32
    assert part.context == 96


def test_a_window_is_cut_not_stretched(traced):
    prompt = traced("mistral_7b")  # a window of 128 tokens in a prompt of 256
    keys = [(part["model.layers.0.self_attn.qk"].n, part["model.layers.0.self_attn.qk"].causal)
            for part in prefill_chunks(prompt, 64)]  # fmt: skip
    assert keys == [(64, True), (128, True), (128, False), (128, False)]


def test_experts_follow_the_tokens_of_a_chunk(traced):
    part = prefill_chunk(traced("mixtral_8x7b"), 0, 4)["model.layers.0.mlp.experts.gate_up_proj"]
    assert (part.copies, part.m, part.weight_copies) == (5, 2, 8)  # 8 (1 - 0.75^4) = 5.47; 4 * 2 / 5 tokens each


def test_latents_of_earlier_tokens_are_expanded_again(traced):
    name = "model.layers.0.self_attn.kv_b_proj"
    assert [part[name].m for part in prefill_chunks(traced("deepseek_v3"), 64)] == [64, 128, 192, 256]


@pytest.mark.parametrize(("past", "tokens", "heads"), [(0, 8, 1), (0, 8, 3), (5, 4, 1), (5, 4, 3), (64, 1, 4)])
def test_scores_below_the_diagonal_by_counting(past, tokens, heads):
    keys, rows = past + tokens, heads * tokens
    wanted = sum(key <= past + row // heads for row in range(rows) for key in range(keys))
    assert causal_share(keys, rows, past) * keys * rows == pytest.approx(wanted, rel=1e-12)
    steps = sum(
        -(-(past + (min(start + 2, rows) - 1) // heads + 1) // 3) for start in range(0, rows, 2)
    )  # tiles of 2 rows of queries by 3 keys, one step each
    array = BITMOD.prefill_array.__class__(3, 2)
    assert causal_tile_steps(keys, rows, array, width=4, lanes=4, reduced=False, past=past) == steps


def test_bad_chunks_are_named(traced):
    prompt = traced("llama3_8b")
    with pytest.raises(ValueError, match="chunk must be at least 1 token, not 0"):
        list(prefill_chunks(prompt, 0))
    with pytest.raises(ValueError, match="must lie in the prompt of 256 tokens, not 10 tokens from 250"):
        prefill_chunk(prompt, 250, 10)
    with pytest.raises(ValueError, match="must be a prefill workload, not decode"):
        prefill_chunk(replace(prompt, phase=Phase.DECODE), 0, 1)
    state = LayerSpec("scan", LayerKind.ATTENTION_PV, 16, 8, 8, state=True)
    with pytest.raises(NotImplementedError, match="not the state of scan"):
        prefill_chunk(Workload("m", Phase.PREFILL, (state,), context=16), 0, 8)
    with pytest.raises(ValueError, match="past of layer x must be less than the keys of a causal one, not 8"):
        LayerSpec("x", LayerKind.ATTENTION_QK, 1, 4, 8, causal=True, past=8)
