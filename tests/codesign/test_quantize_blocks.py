"""The stream of quantized layers: order, where statistics come from, what is run."""

from dataclasses import dataclass, field

import pytest
import torch

from codesign.algorithms.rtn import RoundToNearest
from codesign.blocks import BlockModel
from codesign.calibrate_model import gather_inputs
from codesign.calibration import Statistic
from codesign.models import resolve_model
from codesign.quantize_blocks import CalibrationPlan, LayerJob, quantize_blocks
from codesign.stream_file import StreamFile
from datatypes.catalog import INTS_SYMMETRIC
from datatypes.granularity import PerGroup
from datatypes.layer_config import LayerConfig, TensorConfig

INT2 = LayerConfig(weight=TensorConfig((INTS_SYMMETRIC[2],), PerGroup(32)))


@dataclass(frozen=True)
class Recording:
    """Rounds to nearest and keeps the calibration it was given."""

    name: str = "recording"
    source: str = "this test"
    needs: frozenset = frozenset({Statistic.INPUTS})
    seen: dict = field(default_factory=dict, compare=False)

    def quantize(self, weight, calibration, config):
        self.seen[calibration.layer] = calibration
        return RoundToNearest().quantize(weight, calibration, config)


def windows():
    return torch.randint(0, 320, (3, 16), generator=torch.Generator().manual_seed(0))


def block_model(folder):
    return BlockModel(resolve_model(folder))


def test_layers_come_in_the_models_order_and_the_outer_ones_last(tiny_gqa_dir):
    model = block_model(tiny_gqa_dir)
    names = ["lm_head", "model.layers.1.mlp.up_proj", "model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"]
    jobs = {name: LayerJob(RoundToNearest(), INT2) for name in names}
    made = [name for name, _ in quantize_blocks(model, jobs, CalibrationPlan())]
    assert made == [
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.up_proj",
        "lm_head",
    ]


def test_sequential_inputs_come_from_the_quantized_blocks_before(tiny_gqa_dir):
    transformers = pytest.importorskip("transformers")
    model = block_model(tiny_gqa_dir)
    algorithm = Recording()
    jobs = {name: LayerJob(algorithm, INT2) for name in model.layer_names()}
    layers = dict(quantize_blocks(model, jobs, CalibrationPlan(windows=windows(), keep_inputs=1000)))
    # independently: block 0 of the whole model with the decoded weights, block 1 as it was
    whole = transformers.AutoModelForCausalLM.from_pretrained(tiny_gqa_dir, dtype=torch.float32).eval()
    for name, layer in layers.items():
        if ".layers.0." in name:
            whole.get_submodule(name).weight = torch.nn.Parameter(layer.dequantize_weight())
    seen = {}
    for name in layers:
        whole.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: seen.__setitem__(name, args[0].detach().flatten(0, 1))
        )
    with torch.no_grad():
        whole(windows(), use_cache=False)
    for name in layers:
        if ".layers.1." in name:
            torch.testing.assert_close(algorithm.seen[name][Statistic.INPUTS], seen[name], rtol=1e-4, atol=1e-5)


def test_parallel_inputs_come_from_the_original_model(tiny_gqa_dir, tmp_path):
    model = block_model(tiny_gqa_dir)
    gathered = gather_inputs(model, windows(), frozenset({Statistic.INPUTS}), tmp_path)
    algorithm = Recording()
    jobs = {name: LayerJob(algorithm, INT2) for name in model.layer_names()}
    dict(quantize_blocks(model, jobs, CalibrationPlan(gathered=gathered)))
    for name in jobs:
        assert torch.equal(algorithm.seen[name][Statistic.INPUTS], gathered[name][Statistic.INPUTS])


def test_no_token_runs_where_no_algorithm_needs_one(tiny_gqa_dir, monkeypatch):
    model = block_model(tiny_gqa_dir)
    monkeypatch.setattr(model, "embed", lambda tokens: pytest.fail("tokens must not run"))
    jobs = {name: LayerJob(RoundToNearest(), INT2) for name in model.layer_names()}
    assert len(dict(quantize_blocks(model, jobs, CalibrationPlan(windows=windows())))) == 14


def test_known_layers_are_run_but_not_made_again(tiny_gqa_dir):
    model = block_model(tiny_gqa_dir)
    first, second = Recording(), Recording()
    whole = dict(
        quantize_blocks(
            model,
            {name: LayerJob(first, INT2) for name in model.layer_names()},
            CalibrationPlan(windows=windows()),
        )
    )
    known = {name: layer for name, layer in whole.items() if ".layers.0." in name}
    jobs = {name: LayerJob(second, INT2) for name in model.layer_names()}
    rest = dict(quantize_blocks(model, jobs, CalibrationPlan(windows=windows()), known=known))
    assert set(rest) == set(whole) - set(known) == set(second.seen)
    for name in rest:
        assert torch.equal(first.seen[name][Statistic.INPUTS], second.seen[name][Statistic.INPUTS])


def test_experts_are_quantized_from_their_weights(tiny_moe_dir):
    model = block_model(tiny_moe_dir)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    layers = dict(quantize_blocks(model, {name: LayerJob(RoundToNearest(), INT2)}, CalibrationPlan()))
    assert layers[name].shape == (4 * 192, 64)


def test_a_missing_statistic_is_named(tiny_moe_dir):
    from codesign.algorithms.registry import ALGORITHMS

    model = block_model(tiny_moe_dir)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    jobs = {name: LayerJob(ALGORITHMS["gptq"], INT2)}
    with pytest.raises(ValueError, match=f"calibration of {name} must hold hessian"):
        dict(quantize_blocks(model, jobs, CalibrationPlan(windows=windows())))


def test_an_unknown_layer_is_refused(tiny_gqa_dir):
    jobs = {"model.norm": LayerJob(RoundToNearest(), INT2)}
    with pytest.raises(ValueError, match=r"layers to quantize must be linear layers of .*, not model\.norm"):
        dict(quantize_blocks(block_model(tiny_gqa_dir), jobs, CalibrationPlan()))


def test_a_stopped_sequential_run_goes_on_without_running_finished_blocks(tiny_deep_dir, tmp_path, monkeypatch):
    def jobs_of(model, algorithm):
        return {name: LayerJob(algorithm, INT2) for name in model.layer_names()}

    plan, kept = CalibrationPlan(windows=windows()), StreamFile(tmp_path / "a.stream", "key")
    whole = Recording()
    expected = dict(quantize_blocks(block_model(tiny_deep_dir), jobs_of(block_model(tiny_deep_dir), whole), plan))
    model = block_model(tiny_deep_dir)
    finished = {}
    for name, layer in quantize_blocks(model, jobs_of(model, Recording()), plan, kept=kept):
        if name.startswith("model.layers.2.mlp"):
            break  # three layers of block 2 are not finished
        finished[name] = layer
    model, ran = block_model(tiny_deep_dir), []
    advance = model.advance
    monkeypatch.setattr(model, "advance", lambda s, i, b, **k: (ran.append(i), advance(s, i, b, **k)))
    again = Recording()
    made = dict(quantize_blocks(model, jobs_of(model, again), plan, known=finished, kept=kept))
    assert ran == [2, 2, 3], "observed and run, then observed; blocks 0 and 1 are not run again"
    assert set(made) == set(expected) - set(finished)
    for name, layer in made.items():
        assert torch.equal(layer.dequantize_weight(), expected[name].dequantize_weight())
        assert torch.equal(again.seen[name][Statistic.INPUTS], whole.seen[name][Statistic.INPUTS])


def test_kept_states_are_of_no_use_where_a_layer_before_them_is_not_known(tiny_deep_dir, tmp_path):
    model = block_model(tiny_deep_dir)
    jobs = {name: LayerJob(Recording(), INT2) for name in model.layer_names()}
    plan, kept = CalibrationPlan(windows=windows()), StreamFile(tmp_path / "a.stream", "key")
    expected = dict(quantize_blocks(model, jobs, plan, kept=kept))
    lost = "model.layers.1.mlp.up_proj"
    known = {name: layer for name, layer in expected.items() if name != lost and "layers.3" not in name}
    again = Recording()
    jobs = {name: LayerJob(again, INT2) for name in model.layer_names()}
    made = dict(quantize_blocks(model, jobs, plan, known=known, kept=kept))
    assert set(made) == set(expected) - set(known)
    for name, layer in made.items():
        assert torch.equal(layer.dequantize_weight(), expected[name].dequantize_weight())
