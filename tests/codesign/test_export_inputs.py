"""Golden inputs from a text: what a quantized model feeds its layers, and what is refused."""

import numpy as np
import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.export_inputs import text_inputs
from codesign.models import resolve_model
from codesign.quantize_blocks import LayerJob
from codesign.quantized_folder import load_quantized
from codesign.quantized_model import QuantizationJob, quantize_model
from codesign.recipes import recipe

FIRST, Q = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"
WINDOWS = torch.arange(48).reshape(2, 24)


@pytest.fixture(scope="module")
def model(tiny_gqa_dir, tmp_path_factory):
    source, made = resolve_model(tiny_gqa_dir), recipe("int4_g32_fp16_a8")
    jobs = {name: LayerJob(RoundToNearest(), made.linear) for name in BlockModel(source).layer_names()}
    job = QuantizationJob("int4_g32_fp16_a8", jobs)
    return load_quantized(quantize_model(source, job, tmp_path_factory.mktemp("int4") / "model").folder)


def test_rows_of_the_first_block_are_normalised_embeddings(model):
    rows = text_inputs(model, [FIRST], WINDOWS, 5)[FIRST]
    assert rows.shape == (5, 64) and rows.dtype == np.float16
    table = model.tensor("model.embed_tokens.weight").double()[WINDOWS.reshape(-1)]
    # RMS norm with a weight of ones: x / sqrt(mean(x**2) + eps), eps 1e-6 in LlamaConfig
    normalised = (table / torch.sqrt((table**2).mean(1, keepdim=True) + 1e-6)).numpy()
    distance = np.abs(rows.astype(np.float64)[:, None] - normalised[None]).max(2)  # of each row to each token's
    # half a step of FP16 below 8, and float32's error in the norm
    assert np.abs(normalised).max() < 8 and (distance.min(1) <= 2.0**-9 + 1e-5).all()
    assert len(set(distance.argmin(1))) == 5  # a sample without repeats


def test_the_sample_is_always_the_same_and_of_the_layers_asked_for(model):
    seen = []
    found = text_inputs(model, [Q, FIRST], WINDOWS, 4, steps=lambda *step: seen.append(step))
    assert set(found) == {Q, FIRST} and seen == [("inputs", 1, 2), ("inputs", 2, 2)]
    again = text_inputs(model, [Q], WINDOWS, 4)
    assert list(again) == [Q]
    np.testing.assert_array_equal(again[Q], found[Q])


def test_only_blocks_up_to_the_last_layer_are_run(model):
    seen = []
    text_inputs(model, [FIRST], WINDOWS, 4, steps=lambda *step: seen.append(step))
    assert seen == [("inputs", 1, 1)]


def test_inputs_of_a_text_need_enough_tokens_and_a_block(model):
    with pytest.raises(ValueError, match="must give at least 9 tokens, not 8"):
        text_inputs(model, [Q], torch.zeros((1, 8), dtype=torch.int64), 9)
    with pytest.raises(ValueError, match="inputs of layer lm_head, which is in no block, must be seeded"):
        text_inputs(model, ["lm_head"], torch.zeros((1, 8), dtype=torch.int64), 2)


def test_inputs_beyond_fp16_are_refused(model, monkeypatch):
    tensor = type(model).tensor

    def enlarged(self, name):
        made = tensor(self, name)
        return made * 1e5 if name == "model.layers.0.input_layernorm.weight" else made

    monkeypatch.setattr(type(model), "tensor", enlarged)
    with pytest.raises(ValueError, match=f"inputs of layer {FIRST} must lie within FP16, not reach"):
        text_inputs(model, [FIRST], WINDOWS, 4)
