"""GWQ: its mask against a double-precision gradient, zeros under outliers, switches, bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codesign.algorithms.gptq import Gptq
from codesign.algorithms.gwq import Gwq, Rounding, Score, gwq_config, model_threshold, top_mask
from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.calibrate_model import gather_gradients
from codesign.calibration import NO_CALIBRATION, LayerCalibration, Statistic
from codesign.models import resolve_model
from datatypes.block_formats import bilevel
from datatypes.catalog import FP16, FP32, INT16
from datatypes.layer_config import LayerConfig, OutlierConfig, OutlierLayout

CONFIG = gwq_config(3, 16)


def kept(made) -> torch.Tensor:
    """Mask of the outliers of a quantized layer."""
    mask = torch.zeros(made.shape, dtype=torch.bool)
    rows = torch.repeat_interleave(torch.arange(made.shape[0]), made.outliers.row_pointers.diff())
    mask[rows, made.outliers.columns] = True
    return mask


def test_mask_agrees_with_a_double_precision_gradient(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Every linear layer of a small Llama: gradients gathered in float32 against autograd of the whole in float64.

    The two masks may differ only where scores lie within float32's noise (1e-3 relative) of the cut.
    """
    transformers = pytest.importorskip("transformers", reason="transformers must be installed: the extra 'models'")
    source = resolve_model(str(tiny_llama_dir))
    tokens = torch.randint(0, 320, (1, 48), generator=torch.Generator().manual_seed(0))
    model = BlockModel(source)
    found = gather_gradients(model, tokens, frozenset({Statistic.GRADIENT_ABS}), tmp_path)
    exact = transformers.AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float64)
    exact(tokens, labels=tokens).loss.backward()
    checked = 0
    for name in model.layer_names():
        linear = exact.get_submodule(name)
        made = Gwq().quantize(linear.weight.detach().float(), found[name], gwq_config(4, 32, fraction=0.02))
        score = linear.weight.grad.abs()
        count = round(0.02 * score.numel())
        cut = float(score.flatten().sort(descending=True).values[count - 1])
        different = kept(made) != top_mask(score, count)
        assert int(kept(made).sum()) == count
        assert (score[different] - cut).abs().le(1e-3 * cut).all()
        assert different.double().mean() <= 1e-3
        checked += 1
    assert checked == 14  # two blocks of q, k, v, o, gate, up, down


def test_mask_is_what_a_finite_difference_says() -> None:
    """Loss sum(tanh(x w)): central differences of the loss itself in float64 rank the weights as the mask does."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((6, 10), generator=generator, dtype=torch.float64)
    x = torch.randn((30, 10), generator=generator, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ w.T).square().mean()

    step, slopes = 1e-5, torch.empty(6, 10, dtype=torch.float64)
    for i in range(6):
        for j in range(10):
            moved = torch.zeros(6, 10, dtype=torch.float64)
            moved[i, j] = step
            slopes[i, j] = (loss(weight + moved) - loss(weight - moved)) / (2 * step)
    leaf = weight.float().requires_grad_()
    torch.tanh(x.float() @ leaf.T).square().mean().backward()
    calibration = LayerCalibration("layer", 30, {Statistic.GRADIENT_ABS: leaf.grad.abs()})
    made = Gwq().quantize(weight.float(), calibration, gwq_config(4, 5, fraction=0.1))
    largest = slopes.abs().flatten().argsort(descending=True)[:6]
    assert set(kept(made).flatten().nonzero().flatten().tolist()) == set(largest.tolist())


def test_outliers_are_exact_and_their_dense_slots_zero(layer) -> None:
    made = Gwq().quantize(layer.weight, layer.calibration, CONFIG)
    mask = kept(made)
    assert int(mask.sum()) == round(0.01 * layer.weight.numel()) == made.notes["kept"]
    assert torch.equal(made.dequantize_weight()[mask], layer.weight[mask].half().float())
    assert not made.weight.dequantize()[mask].any()


def test_kept_weights_are_left_out_of_the_range(layer) -> None:
    """With its outlier gone a group is rounded as if that weight were zero; the other groups do not change."""
    made = Gwq().quantize(layer.weight, layer.calibration, CONFIG)
    plain = RoundToNearest().quantize(
        layer.weight.masked_fill(kept(made), 0.0), NO_CALIBRATION, LayerConfig(weight=CONFIG.weight)
    )
    assert torch.equal(made.weight.codes, plain.weight.codes)
    untouched = ~kept(made).reshape(24, 5, 16).any(2)
    original = RoundToNearest().quantize(layer.weight, NO_CALIBRATION, LayerConfig(weight=CONFIG.weight))
    assert torch.equal(made.weight.scale[untouched], original.weight.scale[untouched])
    assert (made.weight.scale <= original.weight.scale).all()


def test_scores_are_switches(layer) -> None:
    gradient = layer.calibration[Statistic.GRADIENT_ABS]
    masks = {score: Gwq(score=score).mask(layer.weight, layer.calibration, 0.05) for score in Score}
    count = round(0.05 * gradient.numel())
    assert torch.equal(masks[Score.GRADIENT], top_mask(gradient, count))
    assert torch.equal(masks[Score.GRADIENT_TIMES_WEIGHT], top_mask((gradient * layer.weight).abs(), count))
    assert torch.equal(masks[Score.SQUARE], top_mask(layer.calibration[Statistic.GRADIENT_SQUARE], count))
    assert Gwq(score=Score.SQUARE).needs == {Statistic.GRADIENT_SQUARE}


def test_ties_keep_the_earlier_weight() -> None:
    assert top_mask(torch.tensor([[1.0, 3.0], [3.0, 3.0]]), 2).tolist() == [[False, True], [True, False]]


def test_threshold_over_a_whole_model(make_layer) -> None:
    """The share is met over all layers together, not in each."""
    layers = [make_layer(24, 80, seed=0), make_layer(16, 48, seed=1)]
    scores = [made.calibration[Statistic.GRADIENT_ABS] for made in layers]
    threshold = model_threshold(iter(scores), 0.03)
    counts = []
    for made_layer in layers:
        made = Gwq(threshold=threshold).quantize(made_layer.weight, made_layer.calibration, CONFIG)
        counts.append(made.notes["kept"])
        assert made.config.outliers.count(made.shape) == made.notes["kept"]
    total = sum(score.numel() for score in scores)
    assert sum(counts) == round(0.03 * total)
    assert counts[0] / (24 * 80) != pytest.approx(counts[1] / (16 * 48), rel=0.05)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_threshold_needs_a_proper_share(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be above 0 and below 1, not"):
        model_threshold([torch.ones(2)], fraction)
    with pytest.raises(ValueError, match="scores must hold at least one layer, not none"):
        model_threshold([], 0.1)


def test_rounding_with_gptq(layer) -> None:
    """Better than nearest on the output; dense slots still zero; without outliers it is GPTQ itself."""
    by_gptq = Gwq(rounding=Rounding.GPTQ)
    assert by_gptq.needs == {Statistic.GRADIENT_ABS, Statistic.HESSIAN}
    made = by_gptq.quantize(layer.weight, layer.calibration, CONFIG)
    nearest = Gwq().quantize(layer.weight, layer.calibration, CONFIG)
    assert torch.equal(kept(made), kept(nearest))
    assert not made.weight.dequantize()[kept(made)].any()
    assert layer.output_error(made.dequantize_weight()) < layer.output_error(nearest.dequantize_weight())
    none = replace(CONFIG, outliers=replace(CONFIG.outliers, fraction=0.0))
    without = by_gptq.quantize(layer.weight, layer.calibration, none)
    alone = Gptq().quantize(layer.weight, layer.calibration, LayerConfig(weight=CONFIG.weight))
    assert torch.equal(without.dequantize_weight(), alone.dequantize_weight())


def test_bits() -> None:
    """Reference sheet, section 1.3: about 32 bits for each outlier (FP16 value, 16-bit column, row pointers beside).

    4096 x 4096, 3 bits in groups of 128: 3 + 19/128, + 0.01 * 32 = 0.32, + (4096 + 1) * 32 bits of pointers.
    """
    shape = (4096, 4096)
    outliers = gwq_config(3).storage_bits(shape)
    pointers = 4097 * 32 / 4096**2
    per_outlier = (outliers.outlier_values + outliers.outlier_indices) / 4096**2
    assert per_outlier == pytest.approx(0.32 + pointers, abs=1e-5)
    assert outliers.bits_per_weight(shape) == pytest.approx(3 + 19 / 128 + 0.32 + pointers, abs=1e-5)


def test_bitmap_layout_holds_the_same_weights(layer) -> None:
    bitmap = replace(CONFIG, outliers=OutlierConfig(OutlierLayout.BITMAP, 0.01))
    made = Gwq().quantize(layer.weight, layer.calibration, bitmap)
    rows = Gwq().quantize(layer.weight, layer.calibration, CONFIG)
    assert torch.equal(made.dequantize_weight(), rows.dequantize_weight())


def test_what_it_cannot_do(layer) -> None:
    with pytest.raises(ValueError, match="config must hold outliers for gwq, not None"):
        Gwq().quantize(layer.weight, layer.calibration, replace(CONFIG, outliers=None))
    columns = replace(CONFIG, outliers=OutlierConfig(OutlierLayout.COLUMNS))
    with pytest.raises(NotImplementedError, match="layout must be csr or bitmap, not columns"):
        Gwq().quantize(layer.weight, layer.calibration, columns)
    coded = replace(CONFIG, weight=bilevel(4))
    with pytest.raises(NotImplementedError, match="needs dense slots that decode to zero: no real zero_point"):
        Gwq().quantize(layer.weight, layer.calibration, coded)
    real = replace(CONFIG, weight=replace(CONFIG.weight, zero_point=FP16))
    with pytest.raises(NotImplementedError, match="needs dense slots that decode to zero: no real zero_point"):
        Gwq().quantize(layer.weight, layer.calibration, real)
    wide = torch.zeros(1, int(INT16.maximum) + 2)
    with pytest.raises(ValueError, match="outlier index int16 must reach column 32768"):
        Gwq().quantize(wide, layer.calibration, CONFIG)


def test_outliers_in_another_format(layer) -> None:
    exact = replace(CONFIG, outliers=replace(CONFIG.outliers, format=FP32))
    made = Gwq().quantize(layer.weight, layer.calibration, exact)
    assert torch.equal(made.dequantize_weight()[kept(made)], layer.weight[kept(made)])
