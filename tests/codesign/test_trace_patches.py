"""``codesign.trace_patches``: a byte model's patches by expectation, against real models with known patches."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from codesign.trace import trace
from codesign.trace_config import build_on_meta, config_from_dict
from codesign.trace_inputs import model_inputs
from codesign.trace_patches import expected_patches
from hwmodel.workload import LayerKind, Phase

pytest.importorskip("transformers", reason="transformers is an optional dependency")

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
BLT = {
    **{"model_type": "blt", "vocab_size": 260, "encoder_hash_byte_group_vocab": 50, "patcher_config": SIZES},
    **{"encoder_config": {**SIZES, "num_hidden_layers": 1, "hidden_size_global": 64}},
    **{"decoder_config": {**SIZES, "hidden_size_global": 64}, "global_config": {**SIZES, "hidden_size": 64}},
}


# Entropies of random logits lie between 0 and ln 260: below the threshold all of them, or none.
@pytest.mark.parametrize(("patch_size", "threshold"), [(1, -1.0), (1000, 100.0)], ids=["every byte", "two patches"])
def test_macs_are_those_of_a_model_whose_threshold_gives_that_mean(patch_size, threshold, real_model, counted_macs):
    config = config_from_dict({**BLT, "patch_size": patch_size, "patching_threshold": threshold})
    inputs = model_inputs(build_on_meta(config), 2, 12)
    assert trace(config, batch=2, context=12).macs == counted_macs(real_model(config), inputs)


def test_macs_are_those_of_a_model_that_is_told_its_patches(real_model, counted_macs):
    config = config_from_dict({**BLT, "patch_size": 4})
    real, inputs = real_model(config), model_inputs(build_on_meta(config), 2, 12)
    patches = expected_patches(12, 4)
    assert patches == 2 + 3  # 11 chances, one in four taken: 2.75
    lengths = torch.empty(2, patches, dtype=torch.long, device="meta")
    told = counted_macs(real, {**inputs, "patch_lengths": lengths})  # which leaves the patcher out
    patcher = counted_macs(real.model.patcher, {"input_ids": inputs["input_ids"]})
    assert trace(config, batch=2, context=12).macs == told + patcher


def test_weights_are_the_models_matrices():
    config = config_from_dict(BLT)
    matrices = [p for p in build_on_meta(config).parameters() if p.dim() >= 2]
    assert trace(config, context=12).weights == sum(p.numel() for p in matrices)


def test_a_step_is_one_byte_and_at_most_one_patch():
    workload = trace(config_from_dict(BLT), phase=Phase.DECODE, batch=3, context=13)
    assert nx.is_directed_acyclic_graph(workload.graph())
    rows = {s.name: (s.m, s.copies) for s in workload.select([LayerKind.LINEAR]).layers}
    assert rows["model.global_transformer.layers.0.mlp.up_proj"] == (3, 1)
    assert rows["model.local_decoder.layers.0.mlp.up_proj"] == (3, 1)
    assert rows["model.patcher.layers.0.mlp.up_proj"] == (3, 1)
    assert workload["model.local_decoder.layers.0.self_attn.qk"].n == 13  # bytes
    assert workload["model.global_transformer.layers.0.self_attn.qk"].n == expected_patches(13, 4)


def test_long_patches_are_cut():
    short = {**BLT, "patch_size": 6, "max_patch_length": 3}
    workload = trace(config_from_dict(short), context=12)
    assert workload["model.global_transformer.layers.0.mlp.up_proj"].m == expected_patches(12, 3)
