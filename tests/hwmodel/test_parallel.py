"""Tensor parallelism: shapes of measured tables, shares that add up, exchanges by hand."""

import pytest

from hwmodel.evaluate import evaluate
from hwmodel.gpu_presets import H100
from hwmodel.gpu_truth import shared_file, vidur_gemms
from hwmodel.latent_attention import absorb_latent
from hwmodel.link import NVLINK4, all_reduce_s
from hwmodel.operands import OperandBits
from hwmodel.parallel import tensor_parallel
from hwmodel.workload import ATTENTION_KINDS, LayerKind, Phase, Workload

MODELS = ["llama2_7b", "llama3_8b", "codellama_34b", "mixtral_8x7b", "mistral_7b", "deepseek_v3"]


@pytest.mark.skipif(shared_file("vidur_gemm.csv") is None, reason="vidur_gemm.csv is not beside the checkout")
@pytest.mark.parametrize(
    ("name", "theirs"), [("llama2_7b", "Llama-2-7b-hf"), ("codellama_34b", "CodeLlama-34b-Instruct-hf")]
)
@pytest.mark.parametrize("chips", [1, 2, 4, 8])
def test_shapes_of_vidurs_measured_rows(traced, name, theirs, chips):
    rows = vidur_gemms()
    rows = rows[(rows["model"].str.endswith(theirs)) & (rows["tensor_parallel"] == chips)]
    assert len(rows) > 0
    truth = {p: set(map(tuple, part[["n", "k"]].to_numpy().tolist())) for p, part in rows.groupby("projection")}
    cut = tensor_parallel(traced(name, context=64), chips).workload
    block = {layer.name.rpartition(".")[2]: layer for layer in cut.layers if ".layers.0." in layer.name}
    fused = {
        "qkv": ("q_proj", "k_proj", "v_proj"), "output": ("o_proj",), "up": ("gate_proj", "up_proj"),
        "down": ("down_proj",),
    }  # fmt: skip
    for projection, parts in fused.items():
        ours = (sum(block[part].n for part in parts), block[parts[0]].k)
        assert {ours} == truth[projection]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.value)
@pytest.mark.parametrize("chips", [2, 4, 8])
def test_shares_add_up(traced, name, phase, chips):
    whole = traced(name, phase, batch=2)
    cut = tensor_parallel(whole, chips).workload
    assert [layer.name for layer in cut.layers] == [layer.name for layer in whole.layers]
    for ours, theirs in zip(cut.layers, whole.layers, strict=True):
        if theirs.kind in ATTENTION_KINDS:
            assert ours.macs * chips == theirs.macs
        elif theirs.kind is LayerKind.LINEAR and ours != theirs:
            assert ours.weights * chips == theirs.weights
            assert ours.macs * chips == theirs.macs
    kept = {layer.name for layer in cut.layers if layer == whole[layer.name] and layer.kind is LayerKind.LINEAR}
    router_and_latents = {"mixtral_8x7b": 1, "deepseek_v3": 3}  # the router; down-projections to latents
    assert len(kept) == router_and_latents.get(name, 0)


@pytest.mark.parametrize("name", [*MODELS, "falcon_7b"])
def test_one_chip_is_the_model(traced, name):
    whole = traced(name)
    alone = tensor_parallel(whole, 1)
    assert alone.workload is whole
    assert alone.collectives == ()
    assert alone.link_s(NVLINK4) == 0


def test_more_chips_than_key_value_heads(traced):
    cut = tensor_parallel(traced("llama3_8b", batch=2), 16).workload
    attention = "model.layers.0.self_attn"
    assert (cut[f"{attention}.q_proj"].n, cut[f"{attention}.k_proj"].n, cut[f"{attention}.v_proj"].n) == (256, 128, 128)
    scores = cut[f"{attention}.qk"]
    assert (scores.m, scores.copies) == (2 * 256, 2)  # 2 of 32 query heads, one key-value head, 2 sequences


def test_absorbed_latents_are_held_by_every_chip(traced):
    cut = tensor_parallel(absorb_latent(traced("deepseek_v3", Phase.DECODE, batch=2)), 8).workload
    attention = "model.layers.0.self_attn"
    scores, up = cut[f"{attention}.qk"], cut[f"{attention}.kv_b_proj"]
    assert (scores.m, scores.k, scores.copies) == (16, 576, 2)
    assert (up.copies, up.k, up.n) == (16, 512, 256)


def test_exchanges_of_a_block_by_hand(traced):
    cut = tensor_parallel(traced("llama3_8b", batch=2, layers=2), 4)
    sums = [c for c in cut.collectives if not c.gather]
    assert [c.elements for c in sums] == [2 * 256 * 4096] * 5  # the embedding, and two for each of two blocks
    (gather,) = [c for c in cut.collectives if c.gather]
    assert (gather.layer, gather.elements) == ("lm_head", 2 * 128256)
    by_hand = 5 * all_reduce_s(2 * 256 * 4096 * 2, 4, NVLINK4) + all_reduce_s(2 * 128256, 4, NVLINK4)
    assert cut.link_s(NVLINK4) == pytest.approx(by_hand, rel=1e-12)


def test_experts_and_shared_experts_are_summed_together(traced):
    cut = tensor_parallel(traced("deepseek_v3", Phase.DECODE, batch=4), 8)
    assert [c.elements for c in cut.collectives if not c.gather] == [4 * 7168] * 3


@pytest.mark.parametrize("chips", [2, 4, 8])
def test_a_chips_share_is_faster_and_never_by_more_than_the_chips(traced, chips):
    whole = traced("codellama_34b", context=2048)
    alone = evaluate(whole, OperandBits(), H100).seconds
    share = evaluate(tensor_parallel(whole, chips).workload, OperandBits(), H100).seconds
    assert alone / chips < share < alone


def test_what_cannot_be_cut_is_said(traced):
    with pytest.raises(ValueError, match=r"must divide the 71 heads of .*query_key_value|must divide the 71 heads"):
        tensor_parallel(traced("falcon_7b"), 2)
    with pytest.raises(ValueError, match="must divide the 32 heads of model.layers.0.self_attn.qk in llama3_8b, not 3"):
        tensor_parallel(traced("llama3_8b"), 3)
    with pytest.raises(ValueError, match="tensor_parallel must be an integer of at least 1, not 0"):
        tensor_parallel(traced("llama3_8b"), 0)
    whole = traced("llama3_8b")
    with pytest.raises(ValueError, match="must have edges to be cut over chips"):
        tensor_parallel(Workload("m", whole.phase, whole.layers), 2)
