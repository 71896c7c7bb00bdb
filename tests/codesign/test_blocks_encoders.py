"""Encoders of text, images and sound: walked block by block, quantized, and what they are refused for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from codesign.accuracy import perplexity, reference
from codesign.blocks import BlockModel
from codesign.calibrate_model import batches_of, gather_inputs
from codesign.calibration import Statistic
from codesign.layer_error import layer_sqnr_db
from codesign.models import resolve_model
from codesign.pricing import price_generation, trace_generation
from codesign.quantize_blocks import CalibrationPlan, quantize_blocks
from codesign.quantize_recipe import layer_jobs, recipe_job
from codesign.quantized_folder import load_quantized
from codesign.quantized_model import quantize_model
from codesign.recipes import recipe
from hwmodel.presets import ACCELERATORS

transformers = pytest.importorskip("transformers", reason="transformers is an optional dependency")

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT, IMAGE = {**SIZES, "vocab_size": 320}, {**SIZES, "image_size": 32, "patch_size": 8}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
AUDIO = {**SIZES, "vocab_size": 32, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2]}
AUDIO |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
# class: config class, sizes
ENCODERS = {
    "BertForMaskedLM": ("BertConfig", TEXT),
    "BertForSequenceClassification": ("BertConfig", TEXT),
    "RobertaModel": ("RobertaConfig", TEXT),
    "ModernBertForMaskedLM": ("ModernBertConfig", {**TEXT, **SPECIAL}),
    "ViTForImageClassification": ("ViTConfig", IMAGE),
    "DeiTModel": ("DeiTConfig", IMAGE),
    "CLIPVisionModel": ("CLIPVisionConfig", IMAGE),
    "Wav2Vec2ForCTC": ("Wav2Vec2Config", AUDIO),
}
CONVOLUTIONS = {
    "ResNetForImageClassification": ("ResNetConfig", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "ConvNextForImageClassification": ("ConvNextConfig", {**STAGES, "num_stages": 2, "image_size": 32}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function: the folder of a model with random weights, by its class."""
    made = {}

    def save(name: str):
        if name not in made:
            config, sizes = (ENCODERS | CONVOLUTIONS)[name]
            torch.manual_seed(2)
            model = getattr(transformers, name)(getattr(transformers, config)(**sizes)).eval()
            made[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name])
        return made[name]

    return save


def inputs_of(name: str, rows: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if "vocab_size" in ENCODERS[name][1] and name != "Wav2Vec2ForCTC":
        return torch.randint(0, 320, (rows, 20), generator=generator)
    return torch.randn((rows, 400) if name == "Wav2Vec2ForCTC" else (rows, 3, 32, 32), generator=generator)


@pytest.mark.parametrize("name", ENCODERS)
def test_walk_gives_what_the_whole_model_gives(name, folder):
    source, x = resolve_model(folder(name)), inputs_of(name)
    with torch.no_grad():
        output = source.load()(x)
    expected = output.logits if hasattr(output, "logits") else output[0]
    model = BlockModel(source)
    assert len(model) == 2
    stream = model.embed([x])
    for index in range(len(model)):
        with model.block(index) as block:
            model.advance(stream, index, block)
    with torch.no_grad():
        assert torch.equal(model.logits(stream.hidden[0]), expected)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "ViTForImageClassification", "Wav2Vec2ForCTC"])
def test_calibrated_rounding_loses_less_in_the_outputs_of_layers(name, folder, tmp_path):
    model, x = BlockModel(resolve_model(folder(name))), inputs_of(name, rows=12)
    calibration = gather_inputs(model, x, frozenset({Statistic.INPUTS}), tmp_path)
    mean_db = {}
    for label in ("int3_g32_fp16", "gptq_int3_g32_fp16"):
        jobs = layer_jobs(model, recipe(label))
        layers = dict(quantize_blocks(model, jobs, CalibrationPlan(windows=x)))
        # six linears in each of two blocks
        assert len(layers) == 12
        found = {key: db for block in layer_sqnr_db(model, layers, calibration) for key, db in block.items()}
        assert set(found) == set(layers)
        mean_db[label] = sum(found.values()) / len(found)
    assert mean_db["gptq_int3_g32_fp16"] > mean_db["int3_g32_fp16"]


def test_images_go_a_few_at_a_time():
    assert [len(batch) for batch in batches_of(torch.zeros(19, 3, 4, 4))] == [8, 8, 3]


@pytest.mark.parametrize("name", ["BertForMaskedLM", "ViTForImageClassification"])
def test_a_quantized_encoder_is_a_folder_that_loads_and_prices(name, folder, tmp_path):
    source, x = resolve_model(folder(name)), inputs_of(name)
    walked = BlockModel(source)
    job = recipe_job(walked, recipe("int8_channel"), CalibrationPlan(), {})
    quantize_model(source, job, tmp_path / "out")
    quantized = load_quantized(tmp_path / "out")
    assert set(quantized.layers) == set(walked.layer_names())
    configs = {key: quantized.layers[key].config for key in quantized.layers}
    generation = trace_generation(quantized, prompt=8)
    few = price_generation(generation, configs, ACCELERATORS["fp16_baseline"])
    many = price_generation(generation, {}, ACCELERATORS["fp16_baseline"])
    assert few.whole.dram_bits < many.whole.dram_bits
    assert torch.isfinite(BlockModel(quantized).embed([x]).hidden[0]).all()


def test_an_encoder_has_no_next_token(folder):
    model = BlockModel(resolve_model(folder("BertForMaskedLM")))
    windows = inputs_of("BertForMaskedLM")
    for measure in (lambda: perplexity(model, windows, {}), lambda: reference(model, windows)):
        with pytest.raises(
            NotImplementedError,
            match="must predict the next token to be measured by its loss, which a BertForMaskedLM does not",
        ):
            measure()


def test_convolutions_are_not_quantized(folder):
    model = BlockModel(resolve_model(folder("ResNetForImageClassification")))
    with pytest.raises(
        NotImplementedError,
        match=r"must have its weights in linear layers to be quantized, not \d+% of them in convolu",
    ):
        layer_jobs(model, recipe("int8_channel"))


def test_blocks_that_change_the_shape_are_not_run(folder):
    model = BlockModel(resolve_model(folder("ConvNextForImageClassification")))
    assert len(layer_jobs(model, recipe("int8_channel"))) == 4  # two linears in each of two blocks
    with pytest.raises(NotImplementedError, match=r"must all take and return hidden states \[b, t, d\] of one shape"):
        model.embed([torch.zeros(1, 3, 32, 32)])


def test_a_model_of_images_has_no_tokenizer(folder):
    source = resolve_model(folder("ViTForImageClassification"))
    with pytest.raises(ValueError, match="must read text to be calibrated or measured on one, not pixel_values"):
        source.tokenizer()
