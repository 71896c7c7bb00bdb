"""Perplexity, divergence, agreement and output error, against transformers' loss and plain formulas."""

import math

import numpy as np
import pytest
import torch

from codesign.accuracy import AccuracyResult, loss_difference, perplexity, reference
from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.models import resolve_model
from codesign.quantize_blocks import CalibrationPlan, LayerJob, quantize_blocks
from datatypes.catalog import FP32, INTS_SYMMETRIC
from datatypes.granularity import PerChannel, PerGroup
from datatypes.layer_config import LayerConfig, ScaleConfig, TensorConfig

INT3 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[3],), PerGroup(32)))
FIXTURES = ["tiny_llama_dir", "tiny_gqa_dir", "tiny_gpt2_dir", "tiny_moe_dir"]


def windows(rows=5, length=24):
    return torch.randint(0, 320, (rows, length), generator=torch.Generator().manual_seed(0))


def rounded_layers(model, config=INT3, names=None):
    names = model.layer_names() if names is None else names
    jobs = {name: LayerJob(RoundToNearest(), config) for name in names}
    return dict(quantize_blocks(model, jobs, CalibrationPlan()))


def whole(folder, layers=()):
    """The transformers model with decoded weights in place."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name in layers:
        owner = model.get_submodule(name) if "experts" not in name else model.get_submodule(name.rpartition(".")[0])
        attribute = "weight" if "experts" not in name else name.rpartition(".")[2]
        parameter = getattr(owner, attribute)
        weight = layers[name].dequantize_weight()
        if type(owner).__name__ == "Conv1D":
            weight = weight.T
        setattr(owner, attribute, torch.nn.Parameter(weight.reshape(parameter.shape)))
    return model


@pytest.mark.parametrize("fixture", FIXTURES)
def test_loss_is_that_of_transformers(fixture, request):
    folder = request.getfixturevalue(fixture)
    ids = windows()
    model = BlockModel(resolve_model(folder))
    layers = rounded_layers(model)
    for chosen in ({}, layers):
        made = perplexity(model, ids, chosen)
        with torch.no_grad():
            other = whole(folder, chosen)
            expected = [float(other(w[None], labels=w[None], use_cache=False).loss) for w in ids]
        np.testing.assert_allclose(made.losses.mean(axis=1), expected, rtol=2e-6)
        assert made.perplexity == pytest.approx(math.exp(np.mean(expected)), rel=4e-6)
        assert (made.tokens, made.context) == (5 * 23, 24)


def test_divergence_and_agreement_by_definition(tiny_gqa_dir):
    ids = windows()
    model = BlockModel(resolve_model(tiny_gqa_dir))
    layers = rounded_layers(model)
    made = perplexity(model, ids, layers, base=reference(model, ids))
    with torch.no_grad():
        p = whole(tiny_gqa_dir)(ids, use_cache=False).logits[:, :-1].to(torch.float64).log_softmax(-1)
        q = whole(tiny_gqa_dir, layers)(ids, use_cache=False).logits[:, :-1].to(torch.float64).log_softmax(-1)
    expected = (p.exp() * (p - q)).sum(-1)
    assert made.kl_nats == pytest.approx(float(expected.mean()), rel=1e-3)
    assert made.top1_agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()), abs=1.01 / 115)


def test_an_unchanged_model_diverges_by_nothing(tiny_gqa_dir):
    ids = windows()
    model = BlockModel(resolve_model(tiny_gqa_dir))
    base = reference(model, ids)
    made = perplexity(model, ids, {}, base=base)
    assert (made.losses == base.result.losses).all()
    assert made.kl_nats == 0 and made.top1_agreement == 1


def test_the_same_run_twice_gives_the_same_bits(tiny_moe_dir):
    ids = windows()
    runs = []
    for _ in range(2):
        model = BlockModel(resolve_model(tiny_moe_dir))
        runs.append(perplexity(model, ids, rounded_layers(model), base=reference(model, ids)))
    assert (runs[0].losses == runs[1].losses).all() and runs[0].kl_nats == runs[1].kl_nats


def test_a_quantized_head_leaves_the_tied_embedding_alone(tiny_gqa_dir):
    ids = windows()
    model = BlockModel(resolve_model(tiny_gqa_dir))
    layers = rounded_layers(model, names=["lm_head"])
    made = perplexity(model, ids, layers, base=reference(model, ids))
    other = whole(tiny_gqa_dir)
    other.lm_head.weight = torch.nn.Parameter(layers["lm_head"].dequantize_weight())  # unties
    with torch.no_grad():
        expected = [float(other(w[None], labels=w[None], use_cache=False).loss) for w in ids]
    np.testing.assert_allclose(made.losses.mean(axis=1), expected, rtol=2e-6)
    again = perplexity(model, ids, {})
    assert (again.losses == reference(model, ids).result.losses).all()  # nothing of it is left behind


def test_results_derive_what_they_promise():
    losses = np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 6.0]], dtype=np.float32)
    result = AccuracyResult(losses, 3, text_bytes=10)
    assert result.loss_nats == 3.0 and result.perplexity == pytest.approx(math.e**3)
    assert result.bits_per_byte == pytest.approx(18 / math.log(2) / 10)
    # window means 1.5, 3.5, 4: deviations -1.5, 0.5, 1; variance 3.5 / 2; error sqrt(1.75 / 3)
    assert result.loss_standard_error == pytest.approx(math.sqrt(1.75 / 3))
    # differences of window means 0.5, -0.5, 0: mean 0, error sqrt(0.25 / 3)
    other = AccuracyResult(losses + np.array([[0.5], [-0.5], [0.0]], dtype=np.float32), 3)
    assert loss_difference(other, result) == (0.0, pytest.approx(math.sqrt(0.25 / 3)))
    assert AccuracyResult(losses[:1], 3).loss_standard_error is None
    assert AccuracyResult(np.full((1, 1), 800.0, dtype=np.float32), 2).perplexity == math.inf


def test_other_windows_than_the_reference_are_refused(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    base = reference(model, windows())
    with pytest.raises(ValueError, match="windows must be those of the reference"):
        perplexity(model, windows() + 1, {}, base=base)


def test_windows_need_two_tokens(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    with pytest.raises(ValueError, match=r"windows must be at least one of at least two tokens, not \[3, 1\]"):
        perplexity(model, windows()[:3, :1], {})


def test_unknown_layers_are_refused(tiny_gqa_dir):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    layers = rounded_layers(model, names=["lm_head"])
    with pytest.raises(ValueError, match="must be linear layers of .*, not model.norm"):
        perplexity(model, windows(), {"model.norm": layers["lm_head"]})


def test_results_of_other_windows_are_not_compared():
    one, two = (AccuracyResult(np.zeros((n, 3), dtype=np.float32), 4) for n in (1, 2))
    with pytest.raises(ValueError, match="results must be of the same windows"):
        loss_difference(one, two)


@pytest.mark.gpu
@pytest.mark.parametrize("fixture", FIXTURES)
def test_a_gpu_gives_the_same_losses_to_rounding(fixture, request):
    if not torch.cuda.is_available():
        pytest.skip("a CUDA device must be there")
    source = resolve_model(request.getfixturevalue(fixture))
    cpu, gpu = BlockModel(source), BlockModel(source, device="cuda")
    token8 = TensorConfig((INTS_SYMMETRIC[8],), PerChannel(), ScaleConfig(FP32), dynamic=True)
    config = LayerConfig(weight=INT3.weight, activation=None if "moe" in fixture else token8)
    layers = rounded_layers(cpu, config)
    on_gpu = rounded_layers(gpu, config)
    for name, layer in layers.items():
        assert torch.equal(layer.dequantize_weight(), on_gpu[name].dequantize_weight().cpu())
    expected = perplexity(cpu, windows(), layers, base=reference(cpu, windows()))
    made = perplexity(gpu, windows(), on_gpu, base=reference(gpu, windows()))
    assert made.loss_nats == pytest.approx(expected.loss_nats, abs=1e-3)
    assert made.kl_nats == pytest.approx(expected.kl_nats, rel=0.05)


@pytest.mark.slow
def test_perplexity_of_the_off_grid_model_is_the_published_one():
    """Its README: BoolQ validation passages, start, 8,192 tokens, context 2,048: 18.602 (bfloat16 build)."""
    from codesign.text import load_text
    from codesign.tokens import tokenize
    from codesign.tokens import windows as windows_of

    source = resolve_model("smollm2-135m-offgrid")
    ids = tokenize(load_text("boolq-validation"), source.tokenizer(), 8192)
    made = perplexity(BlockModel(source), windows_of(ids, 2048), {})
    assert made.perplexity == pytest.approx(18.602, abs=0.0006)
