"""Latent attention: what is cached, what is multiplied, and what stays the same."""

import pytest

from hwmodel.evaluate import evaluate
from hwmodel.gpu_operands import resident_bits
from hwmodel.gpu_presets import H100
from hwmodel.latent_attention import absorb_latent, latent_attentions
from hwmodel.operands import OperandBits
from hwmodel.presets import BITMOD
from hwmodel.workload import LayerKind, LayerSpec, Phase

ATTENTION = "model.layers.0.self_attn"


@pytest.fixture
def step(traced):
    return traced("deepseek_v3", Phase.DECODE, batch=4, context=512)


def test_sizes_of_deepseek_v3(step):
    # config.json of DeepSeek-V3: kv_lora_rank 512, qk_rope_head_dim 64, v_head_dim 128, 128 heads
    (found,) = latent_attentions(step)
    assert (found.latent, found.rope, found.value, found.heads) == (512, 64, 128, 128)
    assert found.up == f"{ATTENTION}.kv_b_proj"


@pytest.mark.parametrize("name", ["llama2_7b", "llama3_8b", "falcon_7b", "mixtral_8x7b"])
def test_ordinary_attention_is_left_alone(traced, name):
    workload = traced(name, Phase.DECODE, batch=2, context=64)
    assert not list(latent_attentions(workload))
    assert absorb_latent(workload) is workload


def test_shapes_absorbed(step):
    made = absorb_latent(step)
    scores, values = made[f"{ATTENTION}.qk"], made[f"{ATTENTION}.pv"]
    assert (scores.m, scores.k, scores.n, scores.copies) == (128, 576, 512, 4)
    assert (values.m, values.k, values.n, values.copies) == (128, 512, 512, 4)
    up = made[f"{ATTENTION}.kv_b_proj"]
    # queries times [128, 512] and outputs times [512, 128], for each of 128 heads and 4 tokens
    assert up.macs == 4 * 128 * (128 * 512 + 512 * 128)
    assert made.weights == step.weights
    assert absorb_latent(made).layers == made.layers


@pytest.mark.parametrize("machine", [H100, BITMOD], ids=lambda machine: machine.name)
def test_the_cache_is_read_once_for_all_heads(step, machine):
    report = evaluate(absorb_latent(step), OperandBits(weight=8, kv=8), machine)
    read = report.total_of([LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV]).weight_bits
    assert read == 4 * 512 * 576 * 8
    expanded = evaluate(step, OperandBits(weight=8, kv=8), machine)
    read = expanded.total_of([LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV]).weight_bits
    assert read == 4 * 512 * 128 * (192 + 128) * 8, "as the model's own code does: 71 times as much"
    assert report.seconds < expanded.seconds


@pytest.mark.parametrize("machine", [H100, BITMOD], ids=lambda machine: machine.name)
def test_queries_and_outputs_of_the_latents_width_move(step, machine):
    """DeepSeek-V3, 4 tokens of 128 heads: each number that goes from one product to the next is written and read."""
    report = evaluate(absorb_latent(step), OperandBits(weight=8, kv=8), machine)
    moved = {cost.layer: (cost.price.input_bits, cost.price.output_bits) for cost in report.layers}
    rows = 4 * 128 * 16  # bits of one number of each head and token
    up, scores, values = (moved[f"{ATTENTION}.{name}"] for name in ("kv_b_proj", "qk", "pv"))
    # queries of 128 and latent outputs of 512 in; latent queries of 512 and values of 128 out
    assert up == (rows * (128 + 512), rows * (512 + 128))
    assert scores[0] == rows * (512 + 64) and values[1] == rows * 512  # with the rotary part; probabilities stay


def test_only_a_linear_layer_absorbs():
    with pytest.raises(
        ValueError, match="absorbed of layer x must be fewer outputs than the 4 of a linear layer, not 4"
    ):
        LayerSpec("x", LayerKind.LINEAR, 1, 8, 4, absorbed=4)
    with pytest.raises(ValueError, match="not 2 of attention_qk"):
        LayerSpec("x", LayerKind.ATTENTION_QK, 1, 8, 4, absorbed=2)


def test_the_cache_is_stored_once(step):
    attention = absorb_latent(step).select([LayerKind.ATTENTION_QK, LayerKind.ATTENTION_PV])
    assert resident_bits(attention, {}) == 4 * 512 * 576 * 16


def test_prompts_are_not_absorbed(traced):
    with pytest.raises(ValueError, match="must be a decode workload, not prefill"):
        absorb_latent(traced("deepseek_v3"))
