"""Statistics gathered block by block, against hooks and automatic differentiation on the whole model."""

import pytest
import torch
from torch.nn import functional as F

from codesign.blocks import BlockModel
from codesign.calibrate_model import (
    CalibrationFolder,
    batches_of,
    calibration_key,
    gather_gradients,
    gather_inputs,
)
from codesign.calibration import Statistic
from codesign.models import resolve_model
from codesign.weight_slots import weight_slots

WANTED = frozenset(
    {Statistic.HESSIAN, Statistic.ABS_MAX, Statistic.ABS_MEAN, Statistic.BATCH_ABS_MEAN_MAX, Statistic.INPUTS}
)


def windows(rows=3, length=16):
    return torch.randint(0, 320, (rows, length), generator=torch.Generator().manual_seed(0))


def whole_model_inputs(folder, ids):
    """Input of every ``nn.Linear`` and ``Conv1D`` inside the blocks, all tokens, from the whole model."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    seen = {}
    for slot in weight_slots(model):
        if not slot.experts:
            slot.module.register_forward_pre_hook(
                lambda module, args, name=slot.name: seen.__setitem__(name, args[0].detach())
            )
    with torch.no_grad():
        model(ids, use_cache=False)
    return seen


@pytest.mark.parametrize("fixture", ["tiny_gqa_dir", "tiny_gpt2_dir", "tiny_moe_dir"])
def test_input_statistics_are_those_of_the_whole_model(fixture, request, tmp_path):
    folder = request.getfixturevalue(fixture)
    ids = windows()
    seen = whole_model_inputs(folder, ids)
    model = BlockModel(resolve_model(folder))
    found = gather_inputs(model, ids, WANTED, tmp_path, keep_inputs=1000)
    assert set(found) == set(seen) - {"lm_head"}
    for name in found:
        x = seen[name].to(torch.float64)
        calibration = found[name]
        assert calibration.tokens == 48
        flat = x.reshape(-1, x.shape[-1])
        expected = {
            Statistic.HESSIAN: 2 / 48 * flat.T @ flat,
            Statistic.ABS_MAX: flat.abs().amax(0),
            Statistic.ABS_MEAN: flat.abs().mean(0),
            Statistic.BATCH_ABS_MEAN_MAX: x.abs().mean(1).amax(0),  # a batch is a window
            Statistic.INPUTS: flat,
        }
        for statistic, value in expected.items():
            torch.testing.assert_close(calibration[statistic].to(torch.float64), value, rtol=1e-4, atol=1e-5)


def test_layers_with_one_input_are_stored_once(tiny_gqa_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    found = gather_inputs(model, windows(), frozenset({Statistic.HESSIAN}), tmp_path)
    stored = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    # inputs of qkv, o and gate/up are 64 wide, of down 160: four Hessians a block, not seven
    assert stored < 2 * (4 * (3 * 64**2 + 160**2) + 4096)
    q, k = (found[f"model.layers.1.self_attn.{x}_proj"][Statistic.HESSIAN] for x in "qk")
    assert torch.equal(q, k)


def test_an_interrupted_run_continues_and_gives_the_same(tiny_gqa_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    gather_inputs(model, windows(), WANTED, whole)

    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather_inputs(model, windows(), WANTED, parts, steps=stop)
    (first,) = parts.glob("*.safetensors")
    stamp = first.stat().st_mtime_ns
    gather_inputs(model, windows(), WANTED, parts)
    assert first.stat().st_mtime_ns == stamp
    for path in whole.glob("*.safetensors"):
        assert path.read_bytes() == (parts / path.name).read_bytes()


def stopped(at):
    """Steps that stop a run at one of them, and what they saw."""
    seen = []

    def step(what, done, total):
        seen.append((what, done))
        if seen[-1] == at:
            raise KeyboardInterrupt

    return step, seen


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_interrupted_pass_does_not_run_finished_blocks_again(tiny_deep_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_deep_dir))
    gather_inputs(model, windows(), WANTED, tmp_path / "whole")
    step, _ = stopped(("calibrate", 3))
    with pytest.raises(KeyboardInterrupt):
        gather_inputs(model, windows(), WANTED, tmp_path / "parts", steps=step)
    step, seen = stopped(None)
    gather_inputs(model, windows(), WANTED, tmp_path / "parts", steps=step)
    assert seen == [("calibrate", 4)]
    assert bytes_in(tmp_path / "parts") == bytes_in(tmp_path / "whole")


def test_a_file_that_was_deleted_is_gathered_again(tiny_deep_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_deep_dir))
    gather_inputs(model, windows(), WANTED, tmp_path / "whole")
    step, _ = stopped(("calibrate", 3))
    with pytest.raises(KeyboardInterrupt):
        gather_inputs(model, windows(), WANTED, tmp_path / "parts", steps=step)
    (tmp_path / "parts" / "inputs-00001.safetensors").unlink()
    gather_inputs(model, windows(), WANTED, tmp_path / "parts")
    assert bytes_in(tmp_path / "parts") == bytes_in(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["gradients, forwards", "gradients, backwards"])
@pytest.mark.parametrize("done", [1, 4])
def test_interrupted_gradients_go_on_and_give_the_same(tiny_deep_dir, tmp_path, stage, done):
    model = BlockModel(resolve_model(tiny_deep_dir))
    both = frozenset({Statistic.GRADIENT_ABS, Statistic.GRADIENT_SQUARE})
    gather_gradients(model, windows(2), both, tmp_path / "whole")
    step, _ = stopped((stage, done))
    with pytest.raises(KeyboardInterrupt):
        gather_gradients(model, windows(2), both, tmp_path / "parts", steps=step)
    step, seen = stopped(None)
    gather_gradients(model, windows(2), both, tmp_path / "parts", steps=step)
    forwards = [("gradients, forwards", n) for n in range(done + 1, 5)] if stage.endswith("forwards") else []
    backwards = [
        ("gradients, backwards", n) for n in range(1 if forwards or stage.endswith("forwards") else done + 1, 5)
    ]
    assert seen == forwards + backwards
    assert bytes_in(tmp_path / "parts") == bytes_in(tmp_path / "whole")


@pytest.mark.parametrize("fixture", ["tiny_gqa_dir", "tiny_gpt2_dir", "tiny_moe_dir"])
def test_gradients_are_those_of_the_whole_model_in_double_precision(fixture, request, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = request.getfixturevalue(fixture)
    ids = windows(rows=2)
    whole = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, experts_implementation="eager"
    ).eval()
    expected_abs, expected_square = {}, {}
    for window in ids:
        whole.zero_grad()
        logits = whole(window[None], use_cache=False).logits[0]
        F.cross_entropy(logits[:-1], window[1:]).backward()
        for slot in weight_slots(whole):
            gradient = slot.matrix_of(slot.stored.grad)
            expected_abs[slot.name] = expected_abs.get(slot.name, 0) + gradient.abs() / 2
            expected_square[slot.name] = expected_square.get(slot.name, 0) + gradient.square() / 2
    model = BlockModel(resolve_model(folder))
    both = frozenset({Statistic.GRADIENT_ABS, Statistic.GRADIENT_SQUARE})
    found = gather_gradients(model, ids, both, tmp_path)
    assert set(found) == set(model.layer_names())
    for name in found:
        scale = float(expected_abs[name].max())
        made = found[name][Statistic.GRADIENT_ABS].to(torch.float64)
        torch.testing.assert_close(made, expected_abs[name], rtol=1e-3, atol=1e-5 * scale)
        made = found[name][Statistic.GRADIENT_SQUARE].to(torch.float64)
        torch.testing.assert_close(made, expected_square[name], rtol=2e-3, atol=1e-5 * scale**2)


def test_inputs_and_gradients_join_in_one_folder(tiny_gqa_dir, tmp_path):
    model = BlockModel(resolve_model(tiny_gqa_dir))
    gather_inputs(model, windows(), frozenset({Statistic.ABS_MAX}), tmp_path)
    found = gather_gradients(model, windows(), frozenset({Statistic.GRADIENT_ABS}), tmp_path)
    calibration = found["model.layers.0.mlp.down_proj"]
    assert calibration[Statistic.ABS_MAX].shape == (160,)
    assert calibration[Statistic.GRADIENT_ABS].shape == (64, 160)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "inputs-00000.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"inputs-00000\.safetensors must be a calibration file; delete it"):
        CalibrationFolder(tmp_path)


def test_the_key_depends_on_model_tokens_and_statistics():
    ids = windows()
    keys = {
        calibration_key("a", ids, frozenset({Statistic.HESSIAN})),
        calibration_key("b", ids, frozenset({Statistic.HESSIAN})),
        calibration_key("a", ids + 1, frozenset({Statistic.HESSIAN})),
        calibration_key("a", ids, frozenset({Statistic.ABS_MAX})),
        calibration_key("a", ids.reshape(1, -1), frozenset({Statistic.HESSIAN})),
        calibration_key("a", ids, frozenset({Statistic.HESSIAN}), device="cuda"),
    }
    assert len(keys) == 6


def test_batches_hold_whole_windows():
    assert [tuple(b.shape) for b in batches_of(windows(5, 16), 40)] == [(2, 16), (2, 16), (1, 16)]
    assert [tuple(b.shape) for b in batches_of(windows(2, 16), 8)] == [(1, 16), (1, 16)]
