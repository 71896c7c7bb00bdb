"""Which layers a recipe touches, and calibration shared between recipes."""

import pytest
import torch

from codesign.blocks import BlockModel
from codesign.calibration import Statistic
from codesign.models import resolve_model
from codesign.pricing import configs_of, trace_generation
from codesign.quantize_blocks import CalibrationPlan
from codesign.quantize_recipe import gather, kv_of, layer_jobs, recipe_job
from codesign.recipes import Recipe, recipe
from datatypes.layer_config import LayerConfig

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize(
    ("fixture", "head", "embedding"),
    [
        ("tiny_llama_dir", "lm_head", "model.embed_tokens"),
        ("tiny_gqa_dir", "lm_head", "model.embed_tokens"),
        ("tiny_gpt2_dir", "lm_head", "transformer.wte"),
    ],
)
def test_head_and_embedding_are_found_by_structure(fixture, head, embedding, request):
    model = BlockModel(resolve_model(request.getfixturevalue(fixture)))
    int8 = recipe("int8_channel").linear
    both = Recipe("both", None, LayerConfig(), head=int8, embedding=int8)
    assert set(layer_jobs(model, both)) == {head, embedding}


def test_a_recipe_covers_every_layer_inside_the_blocks(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    jobs = layer_jobs(model, recipe("gptq_int4_asym_g128"))
    assert list(jobs) == model.layer_names()
    assert {job.algorithm.name for job in jobs.values()} == {"gptq"}
    assert layer_jobs(model, recipe("fp16")) == {}


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory):
    config = transformers.T5Config(d_model=64, d_ff=96, d_kv=16, num_heads=4, num_layers=1, vocab_size=320)
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("t5")
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return resolve_model(str(folder))


def test_the_head_of_a_model_walked_whole_is_no_layer_inside(encoder_decoder):
    model, chosen = BlockModel(encoder_decoder), recipe("int4_g32_fp16")
    assert model.whole and "lm_head" in model.layer_names()
    jobs = layer_jobs(model, chosen)
    assert set(jobs) == set(model.layer_names()) - {"lm_head"}
    assert set(jobs) == set(configs_of(chosen, trace_generation(encoder_decoder, prompt=8, tokens=2)))
    int8 = recipe("int8_channel").linear
    both = layer_jobs(model, Recipe("both", chosen.algorithm, chosen.linear, head=int8))
    assert both["lm_head"].config == int8


def test_the_cache_formats_go_with_the_job(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    chosen = recipe("bitmod4_g128_kv4")
    job = recipe_job(model, chosen, CalibrationPlan(), {})
    assert job.kv == kv_of(chosen) and job.kv.key is chosen.linear.key and job.kv
    assert not kv_of(recipe("bitmod4_g128"))


def test_calibration_is_gathered_once_for_all(tiny_gqa_dir, monkeypatch):
    source = resolve_model(tiny_gqa_dir)
    model = BlockModel(source)
    ids = torch.randint(0, 320, (2, 16), generator=torch.Generator().manual_seed(5))
    wanted = frozenset({Statistic.HESSIAN, Statistic.GRADIENT_ABS})
    first = gather(model, source.hash, ids, wanted)
    monkeypatch.setattr(model, "embed", lambda tokens: pytest.fail("tokens must not run again"))
    again = gather(model, source.hash, ids, wanted)
    name = "model.layers.1.mlp.down_proj"
    for statistic in wanted:
        assert torch.equal(first[name][statistic], again[name][statistic])


@pytest.mark.parametrize(
    "name", ["smoothquant_int8_channel_a8", "tender8_tensor", "l2qer_int4_g32", "gptq_int4_g32", "awq_int4_g32"]
)
def test_experts_whose_inputs_none_sees_are_refused_before_anything_is_run(tiny_moe_dir, name):
    model = BlockModel(resolve_model(tiny_moe_dir))
    message = rf"not {name}: one that needs weights or gradients alone may do"
    with pytest.raises(ValueError, match=rf"inputs of experts, which .* has in model\.layers\.0\..*, so {message}"):
        layer_jobs(model, recipe(name))
    assert layer_jobs(model, recipe("int4_g32"))
