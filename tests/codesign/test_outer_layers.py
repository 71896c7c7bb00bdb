"""Quantized layers outside the blocks: in place for as long as a context lasts, and nothing is left behind."""

import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.outer_layers import OuterLayers
from codesign.quantize_blocks import CalibrationPlan, LayerJob, quantize_blocks
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerChannel
from datatypes.layer_config import LayerConfig, TensorConfig

INT3 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[3],), PerChannel()))


def quantized(model, *names):
    return dict(quantize_blocks(model, {name: LayerJob(RoundToNearest(), INT3) for name in names}, CalibrationPlan()))


@pytest.fixture
def model(tiny_gqa_dir):
    return BlockModel(resolve_model(tiny_gqa_dir))


def test_a_tied_head_changes_and_the_embedding_does_not(model):
    layers = quantized(model, "lm_head")
    embedding = model.model.model.embed_tokens.weight
    head = model.model.lm_head.weight
    assert head is embedding
    outer = OuterLayers(model, layers)
    assert model.model.lm_head.weight is head, "only when asked"
    with outer.in_place():
        assert torch.equal(model.model.lm_head.weight, layers["lm_head"].dequantize_weight())
        assert model.model.model.embed_tokens.weight is embedding
    assert model.model.lm_head.weight is head


def test_an_error_inside_leaves_the_original(model):
    head = model.model.lm_head.weight
    with pytest.raises(KeyError), OuterLayers(model, quantized(model, "lm_head")).in_place():
        raise KeyError
    assert model.model.lm_head.weight is head


def test_a_layer_that_does_not_fit_leaves_the_original(model):
    layers = quantized(model, "lm_head")
    wrong = {"lm_head": quantized(model, "model.layers.0.mlp.up_proj")["model.layers.0.mlp.up_proj"]}
    head = model.model.lm_head.weight
    with pytest.raises(ValueError, match=r"quantized layer lm_head must have shape \(320, 64\), not \(160, 64\)"):
        OuterLayers(model, wrong)
    assert model.model.lm_head.weight is head
    with OuterLayers(model, layers).in_place():
        assert model.model.lm_head.weight is not head


def test_layers_inside_the_blocks_are_ignored(model):
    outer = OuterLayers(model, quantized(model, "model.layers.0.mlp.up_proj"))
    before = {name: id(p) for name, p in model.model.named_parameters()}
    with outer.in_place():
        assert {name: id(p) for name, p in model.model.named_parameters()} == before
